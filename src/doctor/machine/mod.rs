//! What speed and safety rest on in the kernel and the hardware. What is missing for speed is a
//! warning; what is missing for safety does not hold.

mod judge;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_getres, clock_gettime};

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble};
use crate::execution::BoxFuture;
use crate::sandbox;

pub(super) const PROBES: &[Probe] = &[
    machine("clock", "time limits", |_| Box::pin(async { clock() })),
    machine("code_pages", "code that nothing can change", |_| {
        Box::pin(async { code_pages() })
    }),
    machine("address_space", "instances from a pool", |ground| {
        Box::pin(address_space(ground))
    }),
    machine("pagemap_scan", "clearing what was touched", |_| {
        Box::pin(async { pagemap_scan() })
    }),
    machine("openat2", "paths that stay inside", |_| {
        Box::pin(async { beneath() })
    }),
    machine("thread_clock", "counting processor time", |_| {
        Box::pin(async { thread_clock() })
    }),
    machine("processor", "fast compiled code", |_| {
        Box::pin(async { processor() })
    }),
    machine("cores", "guests at the same time", |_| {
        Box::pin(async { cores() })
    }),
    machine("memory", "what guests may hold", |_| {
        Box::pin(async { memory() })
    }),
    machine("overcommit", "reserving without using", |_| {
        Box::pin(async { overcommit() })
    }),
    machine("open_files", "directories and files", |_| {
        Box::pin(async { open_files() })
    }),
    machine("file_size", "what skills write", |_| {
        Box::pin(async { file_size() })
    }),
    machine("speculation", "secrets of the host's memory", |_| {
        Box::pin(async { speculation() })
    }),
    machine("user", "a second wall", |_| Box::pin(async { user() })),
    machine("seccomp", "a second wall", |_| {
        Box::pin(async { seccomp() })
    }),
];

const fn machine(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Machine,
        name,
        tried,
        probe,
    }
}

/// Kernel, its release, and the architecture.
pub(super) fn platform() -> String {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    [os, release.trim(), architecture]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

type Found = Result<Finding, Trouble>;

fn clock() -> Found {
    let resolution = clock_getres(ClockId::Monotonic);
    let resolution = Duration::new(
        u64::try_from(resolution.tv_sec).unwrap_or(u64::MAX),
        u32::try_from(resolution.tv_nsec).unwrap_or(u32::MAX),
    );
    let before = Instant::now();
    let advances = (0..10_000_000).any(|_| Instant::now() > before);
    Ok(judge::of_clock(advances, resolution))
}

/// Guests have run when this is looked at, so that their code is there.
fn code_pages() -> Found {
    Ok(judge::of_maps(read("/proc/self/maps").as_deref()))
}

async fn address_space(ground: &Ground) -> Found {
    let limit = getrlimit(Resource::As).current;
    let slots = ground.concurrency;
    let fit = tokio::task::spawn_blocking(move || {
        // The fewest first, as it takes long to find that many do not fit.
        sandbox::pool_fits(1).then(|| sandbox::pool_fits(slots))
    });
    let fit = fit.await.unwrap_or_default();
    Ok(judge::of_address_space(fit, slots, limit))
}

fn pagemap_scan() -> Found {
    Ok(if sandbox::pagemap_scan() {
        Finding::holds("found")
    } else {
        Finding::warning(
            "missing",
            "a slot is cleared whole rather than where the guest touched it, which takes longer",
        )
        .hint("Linux 6.7 and later have it, unless a container's filter forbids it")
    })
}

fn beneath() -> Found {
    let open = |path| {
        openat2(
            CWD,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH,
        )
    };
    Ok(judge::of_beneath(open(".").err(), open("..").err()))
}

fn thread_clock() -> Found {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        (time.tv_sec, time.tv_nsec)
    };
    let before = now();
    Ok(if (0..1_000_000).any(|_| now() > before) {
        Finding::holds("found")
    } else {
        Finding::warning("stands still", "the processor time in the usage is 0")
    })
}

/// What the compiler makes use of where it is there.
#[cfg(target_arch = "x86_64")]
fn processor() -> Found {
    let features = [
        ("sse4.2", std::is_x86_feature_detected!("sse4.2")),
        ("popcnt", std::is_x86_feature_detected!("popcnt")),
        ("lzcnt", std::is_x86_feature_detected!("lzcnt")),
        ("bmi1", std::is_x86_feature_detected!("bmi1")),
        ("bmi2", std::is_x86_feature_detected!("bmi2")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
    ];
    Ok(judge::of_features(&features))
}

/// What the compiler makes use of where it is there.
#[cfg(target_arch = "aarch64")]
fn processor() -> Found {
    let features = [("lse", std::arch::is_aarch64_feature_detected!("lse"))];
    Ok(judge::of_features(&features))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor() -> Found {
    Ok(Finding::not_applicable(
        "an architecture that is not known here",
    ))
}

fn cores() -> Found {
    Ok(match std::thread::available_parallelism() {
        Ok(cores) => Finding::holds(cores.to_string()),
        Err(error) => Finding::warning("not known", format!("one is assumed: {error}")),
    })
}

/// What is free, or what this process's control group leaves.
fn memory() -> Found {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    Ok(judge::of_memory(
        read("/proc/meminfo").as_deref(),
        judge::control_group_memory(&groups, Path::new("/sys/fs/cgroup")),
        cores,
    ))
}

fn overcommit() -> Found {
    Ok(judge::of_overcommit(
        read("/proc/sys/vm/overcommit_memory").as_deref(),
    ))
}

fn open_files() -> Found {
    Ok(judge::of_open_files(getrlimit(Resource::Nofile).current))
}

fn file_size() -> Found {
    Ok(judge::of_file_size(getrlimit(Resource::Fsize).current))
}

/// Guest and host share an address space, so what a processor reads ahead matters.
fn speculation() -> Found {
    Ok(judge::of_vulnerabilities(Path::new(
        "/sys/devices/system/cpu/vulnerabilities",
    )))
}

fn user() -> Found {
    Ok(judge::of_user(rustix::process::geteuid().is_root()))
}

fn seccomp() -> Found {
    Ok(judge::of_status(read("/proc/self/status").as_deref()))
}
