//! Asks the linker for compact relocations, so that each start of the command reads fewer pages; where
//! this machine's C library knows them (glibc from 2.36), as an older one would refuse the program.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let target = variable("TARGET");
    // The linker that Rust brings for this target knows the flag.
    if target == "x86_64-unknown-linux-gnu" && variable("HOST") == target && is_known() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn is_known() -> bool {
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else {
        return false;
    };
    // `glibc 2.36`
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut parts = text.trim().trim_start_matches("glibc ").split('.');
    let mut part = || parts.next()?.parse::<u32>().ok();
    matches!((part(), part()), (Some(2), Some(36..)) | (Some(3..), _))
}
