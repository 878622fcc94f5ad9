//! What follows from what the machine says, without looking at the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::read;
use crate::doctor::check::Finding;
use crate::limits::{Limits, MIB, display_bytes, exact_bytes, grouped};

/// The value of a line such as `Seccomp:  2`.
pub(super) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

pub(super) fn of_clock(advances: bool, resolution: Duration) -> Finding {
    if !advances {
        Finding::broken("the monotonic clock stands still, so no time limit would ever be met")
    } else if resolution > Duration::from_millis(1) {
        Finding::broken(format!(
            "the monotonic clock goes in steps of {resolution:?}, so guests are stopped late"
        ))
    } else {
        Finding::holds(format!("steps of {resolution:?}"))
    }
}

pub(super) fn of_maps(maps: Option<&str>) -> Finding {
    let Some(maps) = maps else {
        return Finding::not_applicable("/proc/self/maps cannot be read");
    };
    let both = maps
        .lines()
        .filter(|line| {
            let mode = line.split_ascii_whitespace().nth(1).unwrap_or_default();
            mode.contains('w') && mode.contains('x')
        })
        .count();
    match both {
        0 => Finding::holds("none is writable"),
        _ => Finding::broken(format!(
            "{both} regions of this process's memory are writable and executable at once"
        )),
    }
}

/// `fit`: whether so many slots fit, where one does.
pub(super) fn of_address_space(fit: Option<bool>, slots: u32, limit: Option<u64>) -> Finding {
    let allowed = limit.map_or("no limit".into(), display_bytes);
    match fit {
        Some(true) => Finding::holds(allowed),
        Some(false) => Finding::warning(
            "no pool",
            format!(
                "{} slots of 4 GiB do not fit ({allowed}), so each instance is made on demand, \
                 which takes about four times as long",
                grouped(slots.into())
            ),
        )
        .hint("lift the limit with `ulimit -v unlimited`"),
        None => Finding::broken(format!(
            "not one memory of 4 GiB fits ({allowed}), so nothing can be run"
        ))
        .hint("lift the limit with `ulimit -v unlimited`"),
    }
}

/// By the errors of opening a directory inside, and one outside.
pub(super) fn of_beneath(inside: Option<Errno>, outside: Option<Errno>) -> Finding {
    match (inside, outside) {
        (None, Some(Errno::XDEV)) => Finding::holds("found"),
        (_, None) => Finding::broken("it lets `..` lead out of a directory"),
        _ => Finding::warning(
            "missing",
            "each part of a path is opened by itself, which takes longer",
        )
        .hint("Linux 5.6 and later have it, unless a container's filter forbids it"),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn of_features(features: &[(&str, bool)]) -> Finding {
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

pub(super) fn of_memory(meminfo: Option<&str>, allowed: Option<u64>, cores: u64) -> Finding {
    let available = meminfo
        .and_then(|text| field(text, "MemAvailable"))
        .and_then(|value| value.strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kibibytes| kibibytes.saturating_mul(1024));
    let Some(least) = available.into_iter().chain(allowed).min() else {
        return Finding::not_applicable("/proc/meminfo cannot be read");
    };
    let default = Limits::default().memory_bytes;
    let needed = default * cores + 128 * MIB;
    if least >= needed {
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
    }
}

/// The least that this process's control groups and those around them allow, where they do:
/// `groups` as in `/proc/self/cgroup`, `root` where their files are mounted.
pub(super) fn control_group_memory(groups: &str, root: &Path) -> Option<u64> {
    let files = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match controllers {
            "" => Some((root.join(path), "memory.max")),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some((root.join("memory").join(path), "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    files
        .flat_map(|(group, file)| {
            group
                .ancestors()
                .take_while(|group| group.starts_with(root))
                .filter_map(|group| read(group.join(file))?.trim().parse().ok())
                .collect::<Vec<u64>>()
        })
        .min()
}

pub(super) fn of_overcommit(mode: Option<&str>) -> Finding {
    match mode.map(str::trim) {
        Some("2") => Finding::warning(
            "strict",
            "memory that is only reserved counts, so that guests may be refused what is free",
        )
        .hint("`sysctl vm.overcommit_memory=0`, or a larger vm.overcommit_ratio"),
        Some(_) => Finding::holds("allowed"),
        None => Finding::not_applicable("/proc/sys/vm/overcommit_memory cannot be read"),
    }
}

pub(super) fn of_open_files(limit: Option<u64>) -> Finding {
    const FEW: u64 = 1024;
    match limit {
        Some(limit) if limit < FEW => Finding::warning(
            grouped(limit),
            "with many guests that have files open, the host runs out of them",
        )
        .hint("raise it with `ulimit -n 65536`"),
        Some(limit) => Finding::holds(grouped(limit)),
        None => Finding::holds("no limit"),
    }
}

pub(super) fn of_file_size(limit: Option<u64>) -> Finding {
    let needed = Limits::default().write_bytes;
    match limit {
        Some(limit) if limit < needed => Finding::warning(
            exact_bytes(limit),
            format!(
                "no file can be made larger: skills may write {}, the queue, the audit and what skills keep are files, too",
                exact_bytes(needed)
            ),
        )
        .hint("lift the limit with `ulimit -f unlimited`"),
        Some(limit) => Finding::holds(exact_bytes(limit)),
        None => Finding::holds("no limit"),
    }
}

/// By the kernel's folder of one file for each way that a processor may be open.
pub(super) fn of_vulnerabilities(folder: &Path) -> Finding {
    let Ok(entries) = fs::read_dir(folder) else {
        return Finding::not_applicable("the kernel does not say");
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
    if vulnerable.is_empty() {
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
    }
}

pub(super) fn of_user(is_root: bool) -> Finding {
    if is_root {
        Finding::warning(
            "root",
            "should a guest ever get out of the sandbox, it would be root",
        )
        .hint("run skillhost as a user of its own")
    } else {
        Finding::holds("not root")
    }
}

pub(super) fn of_status(status: Option<&str>) -> Finding {
    match status.and_then(|text| field(text, "Seccomp")) {
        Some("0") => Finding {
            stopped_by: Some("none".into()),
            ..Finding::not_applicable("no filter of system calls is around this process")
        },
        Some(_) => Finding::holds("a filter"),
        None => Finding::not_applicable("the kernel does not say"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Seccomp_filters:\t3\nSeccomp:\t2\n";
        assert_eq!(field(text, "Seccomp"), Some("2"));
        assert_eq!(field(text, "MemAvailable"), None);
    }

    /// What makes the row fail, what only warns, and what is as it should be.
    fn verdicts(found: impl IntoIterator<Item = Finding>) -> Vec<Verdict> {
        found.into_iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_in_long_steps_is_broken() {
        let [fine, limit, coarse] = [1, 1_000_000, 1_000_001].map(Duration::from_nanos);
        assert_eq!(
            verdicts([
                of_clock(true, fine),
                of_clock(true, limit),
                of_clock(true, coarse),
                of_clock(false, fine),
            ]),
            [
                Verdict::Holds,
                Verdict::Holds,
                Verdict::Broken,
                Verdict::Broken
            ]
        );
    }

    #[test]
    fn memory_that_is_writable_and_executable_at_once_is_broken() {
        let code = "7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n";
        let data = "7f0000001000-7f0000002000 rw-p 00000000 00:00 0 [wx]\n";
        let both = "7f0000002000-7f0000003000 rwxp 00000000 00:00 0 \n";
        assert_eq!(
            verdicts([
                of_maps(Some(&[code, data].concat())),
                of_maps(Some(&[code, both, data].concat())),
                of_maps(None),
            ]),
            [Verdict::Holds, Verdict::Broken, Verdict::NotApplicable]
        );
        let reason = of_maps(Some(&both.repeat(2))).reason.expect("a reason");
        assert!(reason.starts_with("2 regions"), "{reason}");
    }

    #[test]
    fn a_pool_that_does_not_fit_tells_how_much_is_allowed() {
        let nothing = of_address_space(None, 1_000, Some(1 << 30));
        assert_eq!(nothing.verdict, Verdict::Broken);
        let tight = of_address_space(Some(false), 1_000, Some(8 << 30));
        assert_eq!(tight.verdict, Verdict::Warning);
        let reason = tight.reason.expect("a reason");
        assert!(reason.contains("1,000 slots of 4 GiB do not fit (8 GiB)"));
        let roomy = of_address_space(Some(true), 1_000, None);
        assert_eq!(roomy.verdict, Verdict::Holds);
        assert_eq!(roomy.stopped_by.as_deref(), Some("no limit"));
    }

    #[test]
    fn a_kernel_that_lets_paths_out_is_broken_and_one_without_the_call_is_slow() {
        assert_eq!(
            verdicts([
                of_beneath(None, Some(Errno::XDEV)),
                of_beneath(None, None),
                of_beneath(Some(Errno::NOSYS), Some(Errno::NOSYS)),
                of_beneath(Some(Errno::PERM), Some(Errno::PERM)),
                of_beneath(Some(Errno::PERM), None),
            ]),
            [
                Verdict::Holds,
                Verdict::Broken,
                Verdict::Warning,
                Verdict::Warning,
                Verdict::Broken
            ]
        );
    }

    #[test]
    fn memory_is_what_is_free_or_what_the_control_group_leaves() {
        let default = Limits::default().memory_bytes;
        let needed = 2 * default + 128 * MIB;
        let free = |bytes: u64| format!("MemTotal: 9 kB\nMemAvailable:  {} kB\n", bytes / 1024);
        let (enough, little) = (free(needed), free(needed - 1024));
        assert_eq!(
            verdicts([
                of_memory(Some(&enough), None, 2),
                of_memory(Some(&little), None, 2),
                of_memory(Some(&enough), None, 3),
                of_memory(Some(&enough), Some(needed), 2),
                of_memory(Some(&enough), Some(needed - 1), 2),
                of_memory(None, Some(needed), 2),
                of_memory(None, None, 2),
            ]),
            [
                Verdict::Holds,
                Verdict::Warning,
                Verdict::Warning,
                Verdict::Holds,
                Verdict::Warning,
                Verdict::Holds,
                Verdict::NotApplicable
            ]
        );
    }

    #[test]
    fn the_tightest_control_group_counts_in_both_versions() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().expect("a parent")).expect("folders");
            fs::write(file, text).expect("written");
        };
        let of = |groups: &str| control_group_memory(groups, root.path());
        assert_eq!(of("0::/a/b\n"), None, "nothing says anything");
        write("a/b/memory.max", "max\n");
        assert_eq!(of("0::/a/b\n"), None, "no bound");
        write("a/memory.max", "5000\n");
        assert_eq!(of("0::/a/b\n"), Some(5000), "of the group around it");
        write("a/b/memory.max", "4000\n");
        assert_eq!(of("0::/a/b\n"), Some(4000));
        write("memory/old/memory.limit_in_bytes", "3000\n");
        let first = "4:cpu:/old\n3:pids,memory:/old\n";
        assert_eq!(of(first), Some(3000), "the first version");
        assert_eq!(of("4:cpu:/old\n"), None, "another controller's");
        assert_eq!(of(&["0::/a/b\n", first].concat()), Some(3000));
    }

    #[test]
    fn the_kernel_s_settings_are_judged_by_their_values() {
        assert_eq!(
            verdicts(["0\n", "1\n", "2\n"].map(|mode| of_overcommit(Some(mode)))),
            [Verdict::Holds, Verdict::Holds, Verdict::Warning]
        );
        assert_eq!(of_overcommit(None).verdict, Verdict::NotApplicable);
        assert_eq!(
            verdicts([Some(1023), Some(1024), None].map(of_open_files)),
            [Verdict::Warning, Verdict::Holds, Verdict::Holds]
        );
        let needed = Limits::default().write_bytes;
        assert_eq!(
            verdicts([Some(needed - 1), Some(needed), None].map(of_file_size)),
            [Verdict::Warning, Verdict::Holds, Verdict::Holds]
        );
        assert_eq!(
            verdicts([true, false].map(of_user)),
            [Verdict::Warning, Verdict::Holds]
        );
        let status = |mode: &str| of_status(Some(&format!("Name:\tx\nSeccomp:\t{mode}\n")));
        assert_eq!(
            verdicts(["0", "1", "2"].map(status)),
            [Verdict::NotApplicable, Verdict::Holds, Verdict::Holds]
        );
        assert_eq!(status("0").stopped_by.as_deref(), Some("none"));
        assert_eq!(of_status(None).verdict, Verdict::NotApplicable);
    }

    #[test]
    fn what_the_processor_is_open_to_is_named_and_its_own_guests_are_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("written");
        };
        write("meltdown", "Not affected\n");
        write("spectre_v1", "Mitigation: usercopy barriers\n");
        write("itlb_multihit", "KVM: Vulnerable\n");
        assert_eq!(of_vulnerabilities(folder.path()).verdict, Verdict::Holds);
        write("spectre_v2", "Vulnerable; IBPB: disabled\n");
        write("mds", "Vulnerable: Clear CPU buffers attempted\n");
        let open = of_vulnerabilities(folder.path());
        assert_eq!(open.verdict, Verdict::Warning);
        let reason = open.reason.expect("a reason");
        assert!(reason.ends_with("open to mds, spectre_v2"), "{reason}");
        let nothing = of_vulnerabilities(&folder.path().join("none"));
        assert_eq!(nothing.verdict, Verdict::NotApplicable);
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn a_processor_without_something_is_named_as_slower() {
        assert_eq!(of_features(&[("a", true)]).verdict, Verdict::Holds);
        let without = of_features(&[("a", true), ("b", false), ("c", false)]);
        assert_eq!(without.verdict, Verdict::Warning);
        assert_eq!(without.stopped_by.as_deref(), Some("no b c"));
    }
}
