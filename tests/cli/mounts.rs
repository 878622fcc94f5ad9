//! A command that runs where something is mounted that nobody else sees.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use crate::harness::Place;

/// What has a shell do something in a mount namespace of its own, in a place.
fn unshare(place: &Place, script: &str) -> Command {
    // As root by itself; others as root of a user namespace of their own.
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let unshare: &[&str] = match is_root {
        true => &["--mount"],
        false => &["--user", "--map-root-user", "--mount"],
    };
    let mut shell = Command::new("unshare");
    let script = ["sh", "-c", script];
    shell.args(unshare).args(script).current_dir(place.path(""));
    shell
}

/// Whether something may be mounted on a folder of a place.
///
/// # Panics
/// Where it may not, and the environment has `CI`: what is tested there must not be left out unseen.
pub fn may_mount(place: &Place, folder: &str) -> bool {
    let tried = unshare(place, &format!("mount -t tmpfs none {folder}")).output();
    let may = tried.as_ref().is_ok_and(|output| output.status.success());
    if !may {
        let said = "not tested: nothing may be mounted here, which takes util-linux and leave to `unshare --mount`";
        assert!(std::env::var_os("CI").is_none(), "{said}: {tried:?}");
        eprintln!("{said}");
    }
    may
}

/// Runs the command where a shell has mounted something before, and gives what it says.
pub fn run_where<const N: usize>(place: &Place, mounts: &str, args: [&str; N]) -> String {
    let command = place.command([]);
    let program = command.get_program().to_str().expect("it is UTF-8");
    let mut shell = unshare(place, &format!("{mounts} && exec {program} \"$@\""));
    // The first is the shell's own name.
    shell.arg("sh").args(args).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    place.said(&shell.output().expect("it starts"))
}
