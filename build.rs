//! How the command is linked, so that each start of it reads few pages: with compact relocations, where
//! this machine's C library knows them (glibc from 2.36; an older one would refuse the program), and with
//! the functions that `skillhost run` goes through beside each other (`src/layout.ld`).

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/layout.ld");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let target = variable("TARGET");
    if target != "x86_64-unknown-linux-gnu" || variable("HOST") != target {
        return;
    }
    // The linker that Rust brings for this target knows both; of another that somebody chose, nobody
    // knows. With the variable SKILLHOST_PLAIN_LINK set, neither is asked for.
    println!("cargo::rerun-if-env-changed=SKILLHOST_PLAIN_LINK");
    let chosen = !variable("RUSTC_LINKER").is_empty()
        || variable("CARGO_ENCODED_RUSTFLAGS").contains("link")
        || !variable("MOLD_PATH").is_empty()
        || !variable("SKILLHOST_PLAIN_LINK").is_empty();
    if chosen {
        return;
    }
    // A copy beside what is built: two clones may share that folder, and one of them be removed.
    let layout = format!("{}/layout.ld", variable("OUT_DIR"));
    // Written anew, as a copy that nobody may write, such as of a checkout like that, could not be replaced.
    let copied = std::fs::read("src/layout.ld").and_then(|text| std::fs::write(&layout, text));
    if let Err(error) = copied {
        println!("cargo::error=src/layout.ld cannot be copied to {layout}: {error}");
        return;
    }
    // Each by itself, as a path may have a comma in it.
    for argument in ["-Xlinker", "-T", "-Xlinker", &layout] {
        println!("cargo::rustc-link-arg-bin=skillhost={argument}");
    }
    if knows_compact_relocations() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn knows_compact_relocations() -> bool {
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else {
        return false;
    };
    // `glibc 2.36`
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut parts = text.trim().trim_start_matches("glibc ").split('.');
    let mut part = || parts.next()?.parse::<u32>().ok();
    matches!((part(), part()), (Some(2), Some(36..)) | (Some(3..), _))
}
