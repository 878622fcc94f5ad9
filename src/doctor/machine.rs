//! What speed and safety rest on in the kernel and the hardware. What is missing for speed is a
//! warning; what is missing for safety does not hold.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_getres, clock_gettime};

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble};
use crate::execution::BoxFuture;
use crate::limits::{Limits, MIB, display_bytes, grouped};
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

/// The value of a line such as `Seccomp:  2`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
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
    Ok(if !advances {
        Finding::broken("the monotonic clock stands still, so no time limit would ever be met")
    } else if resolution > Duration::from_millis(1) {
        Finding::broken(format!(
            "the monotonic clock goes in steps of {resolution:?}, so guests are stopped late"
        ))
    } else {
        Finding::holds(format!("steps of {resolution:?}"))
    })
}

/// Guests have run when this is looked at, so that their code is there.
fn code_pages() -> Found {
    let Some(maps) = read("/proc/self/maps") else {
        return Ok(Finding::not_applicable("/proc/self/maps cannot be read"));
    };
    let both = maps
        .lines()
        .filter(|line| {
            let mode = line.split_ascii_whitespace().nth(1).unwrap_or_default();
            mode.contains('w') && mode.contains('x')
        })
        .count();
    Ok(match both {
        0 => Finding::holds("none is writable"),
        _ => Finding::broken(format!(
            "{both} regions of this process's memory are writable and executable at once"
        )),
    })
}

async fn address_space(ground: &Ground) -> Found {
    let limit = getrlimit(Resource::As).current;
    let slots = ground.concurrency;
    let fits = tokio::task::spawn_blocking(move || sandbox::pool_fits(slots))
        .await
        .unwrap_or(false);
    let allowed = limit.map_or("no limit".into(), display_bytes);
    Ok(if fits {
        Finding::holds(allowed)
    } else {
        Finding::warning(
            "no pool",
            format!(
                "{} slots of 4 GiB do not fit ({allowed}), so each instance is made on demand, \
                 which takes about four times as long",
                grouped(slots.into())
            ),
        )
        .hint("lift the limit with `ulimit -v unlimited`")
    })
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
    Ok(match (open("."), open("..")) {
        (Ok(_), Err(Errno::XDEV)) => Finding::holds("found"),
        (_, Ok(_)) => Finding::broken("it lets `..` lead out of a directory"),
        _ => Finding::warning(
            "missing",
            "each part of a path is opened by itself, which takes longer",
        )
        .hint("Linux 5.6 and later have it, unless a container's filter forbids it"),
    })
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
    Ok(of_features(&features))
}

/// What the compiler makes use of where it is there.
#[cfg(target_arch = "aarch64")]
fn processor() -> Found {
    let features = [("lse", std::arch::is_aarch64_feature_detected!("lse"))];
    Ok(of_features(&features))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor() -> Found {
    Ok(Finding::not_applicable(
        "an architecture that is not known here",
    ))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn of_features(features: &[(&str, bool)]) -> Finding {
    let missing: Vec<&str> = features
        .iter()
        .filter(|(_, found)| !found)
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        let names: Vec<&str> = features.iter().map(|(name, _)| *name).collect();
        return Finding::holds("all that is used").reason(names.join(", "));
    }
    Finding::warning(
        format!("no {}", missing.join(" ")),
        "compiled code takes more instructions for some operations",
    )
}

fn cores() -> Found {
    Ok(match std::thread::available_parallelism() {
        Ok(cores) => Finding::holds(cores.to_string()),
        Err(error) => Finding::warning("not known", format!("one is assumed: {error}")),
    })
}

/// What is free, or what this process's control group leaves.
fn memory() -> Found {
    let available = read("/proc/meminfo")
        .as_deref()
        .and_then(|text| field(text, "MemAvailable"))
        .and_then(|value| value.strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kibibytes| kibibytes.saturating_mul(1024));
    let allowed = control_group_memory();
    let Some(least) = available.into_iter().chain(allowed).min() else {
        return Ok(Finding::not_applicable("/proc/meminfo cannot be read"));
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let default = Limits::default().memory_bytes;
    let needed = default * cores + 128 * MIB;
    Ok(if least >= needed {
        Finding::holds(display_bytes(least))
    } else {
        Finding::warning(
            display_bytes(least),
            format!(
                "with a guest of {} on each of {cores} cores, the kernel may end the host",
                display_bytes(default)
            ),
        )
        .hint("lower the ceiling of `memory_bytes`, or the concurrency")
    })
}

/// The least that this process's control group and those around it allow, where they do.
fn control_group_memory() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let files = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match controllers {
            "" => Some((Path::new("/sys/fs/cgroup").join(path), "memory.max")),
            _ if controllers.split(',').any(|name| name == "memory") => Some((
                Path::new("/sys/fs/cgroup/memory").join(path),
                "memory.limit_in_bytes",
            )),
            _ => None,
        }
    });
    files
        .flat_map(|(group, file)| {
            group
                .ancestors()
                .take_while(|group| group.starts_with("/sys/fs/cgroup"))
                .filter_map(|group| read(group.join(file))?.trim().parse().ok())
                .collect::<Vec<u64>>()
        })
        .min()
}

fn overcommit() -> Found {
    let mode = read("/proc/sys/vm/overcommit_memory");
    Ok(match mode.as_deref().map(str::trim) {
        Some("2") => Finding::warning(
            "strict",
            "memory that is only reserved counts, so that guests may be refused what is free",
        )
        .hint("`sysctl vm.overcommit_memory=0`, or a larger vm.overcommit_ratio"),
        Some(_) => Finding::holds("allowed"),
        None => Finding::not_applicable("/proc/sys/vm/overcommit_memory cannot be read"),
    })
}

fn open_files() -> Found {
    const FEW: u64 = 1024;
    Ok(match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FEW => Finding::warning(
            grouped(limit),
            "with many guests that have files open, the host runs out of them",
        )
        .hint("raise it with `ulimit -n 65536`"),
        Some(limit) => Finding::holds(grouped(limit)),
        None => Finding::holds("no limit"),
    })
}

/// Guest and host share an address space, so what a processor reads ahead matters.
fn speculation() -> Found {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return Ok(Finding::not_applicable("the kernel does not say"));
    };
    let mut vulnerable: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            let state = read(entry.path()).unwrap_or_default();
            // `KVM: Vulnerable` and the like are about what this host's own guests would be.
            state.starts_with("Vulnerable")
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    vulnerable.sort();
    Ok(if vulnerable.is_empty() {
        Finding::holds("mitigated")
    } else {
        Finding::warning(
            "not all mitigated",
            format!(
                "by the kernel's account this processor is open to {}",
                vulnerable.join(", ")
            ),
        )
        .hint("is there a newer kernel or microcode? Is it started with `mitigations=off`?")
    })
}

fn user() -> Found {
    Ok(if rustix::process::geteuid().is_root() {
        Finding::warning(
            "root",
            "should a guest ever get out of the sandbox, it would be root",
        )
        .hint("run skillhost as a user of its own")
    } else {
        Finding::holds("not root")
    })
}

fn seccomp() -> Found {
    let status = read("/proc/self/status");
    let mode = status.as_deref().and_then(|text| field(text, "Seccomp"));
    Ok(match mode {
        Some("0") => Finding {
            stopped_by: Some("none".into()),
            ..Finding::not_applicable("no filter of system calls is around this process")
        },
        Some(_) => Finding::holds("a filter"),
        None => Finding::not_applicable("the kernel does not say"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Seccomp_filters:\t3\nSeccomp:\t2\n";
        assert_eq!(field(text, "Seccomp"), Some("2"));
        assert_eq!(field(text, "MemAvailable"), None);
    }
}
