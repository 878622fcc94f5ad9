//! `skillhost run --dry-run`: what would happen.

use std::fmt::Write;

use skillhost::Admission;
use skillhost::grant::{Clock, Random, SCRATCH};
use skillhost::text::printable;

use crate::cli::console::{BOLD, Console, ERROR, GOOD, HINT, print, print_json, styled};
use crate::cli::exit::Exit;
use crate::cli::table::Table;
use crate::cli::units;

/// Shows whether a request would be admitted, and gives the exit code that goes with it.
///
/// # Errors
/// Where the output cannot be written.
pub fn show(console: Console, json: bool, admission: &Admission) -> anyhow::Result<Exit> {
    if json {
        print_json(console, admission)?;
    } else {
        print(text(admission))?;
    }
    Ok(match &admission.refusal {
        Some(failure) => Exit::of(failure.status(), Some(failure)),
        None => Exit::Success,
    })
}

fn text(admission: &Admission) -> String {
    let mut out = String::new();
    let mut name = match &admission.skill {
        Some(skill) => format!("{} {}", skill.name, skill.version),
        None => "the skill".to_owned(),
    };
    if let Some(tool) = &admission.tool {
        let _ = write!(name, " · {tool}");
    }
    let name = printable(&name, false);
    let _ = match &admission.refusal {
        None => writeln!(out, "{} {name} would run", styled(GOOD, "✓")),
        Some(_) => writeln!(out, "{} {name} would not run", styled(ERROR, "✗")),
    };
    if let Some(failure) = &admission.refusal {
        let _ = writeln!(out, "  {}", printable(&failure.message, false));
        if let Some(hint) = &failure.hint {
            let _ = writeln!(
                out,
                "  {}: {}",
                styled(HINT, "hint"),
                printable(hint, false)
            );
        }
    }
    let _ = writeln!(out, "\n{}", styled(BOLD, "Limits"));
    let mut limits = Table::new(2);
    for (name, value) in units::limits(&admission.limits) {
        limits.row([name, value]);
    }
    out.push_str(&limits.to_string());
    let _ = writeln!(out, "\n{}", styled(BOLD, "Grants"));
    let grants = &admission.grants;
    let mut granted = Table::new(2);
    for directory in &grants.directories {
        granted.row([
            "directory".to_owned(),
            printable(&directory.guest, false).into_owned(),
            directory.mode.as_str().to_owned(),
            format!("from {}", directory.host.display()),
        ]);
    }
    if grants.scratch {
        granted.row(["scratch", SCRATCH, "rw", "empty, and gone afterwards"].map(str::to_owned));
    }
    for (kind, value, system) in [
        (
            "clock",
            grants.clock.to_string(),
            Clock::default() == grants.clock,
        ),
        (
            "random",
            grants.random.to_string(),
            Random::default() == grants.random,
        ),
    ] {
        if !system {
            granted.row([kind.to_owned(), value]);
        }
    }
    for (kind, entries) in [
        ("environment", &grants.environment),
        ("config", &grants.config),
    ] {
        for (key, value) in entries {
            granted.row([
                kind.to_owned(),
                printable(key, false).into_owned(),
                format!("= {}", printable(value, false)),
            ]);
        }
    }
    if granted.is_empty() {
        out.push_str("  none\n");
    }
    out.push_str(&granted.to_string());
    if !admission.missing.is_empty() {
        let _ = writeln!(
            out,
            "\n{}",
            styled(BOLD, "Declared by the skill, and not granted")
        );
        let mut missing = Table::new(2);
        for denial in &admission.missing {
            missing.row([
                denial.capability.as_str().to_owned(),
                printable(&denial.subject, false).into_owned(),
                printable(&denial.hint, false).into_owned(),
            ]);
        }
        out.push_str(&missing.to_string());
    }
    out
}
