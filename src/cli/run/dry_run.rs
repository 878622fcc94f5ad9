//! `skillhost run --dry-run`: what would happen.

use std::fmt::Write;

use skillhost::Admission;
use skillhost::grant::Capability;
use skillhost::text::printable;

use super::report::clamping;

use crate::cli::console::{BOLD, Console, ERROR, GOOD, HINT, print, print_json, styled};
use crate::cli::exit::Exit;
use crate::cli::grants;
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
        if let Some(text) = &failure.hint {
            let _ = writeln!(
                out,
                "  {}: {}",
                styled(HINT, "hint"),
                printable(text, false)
            );
        }
    }
    let _ = writeln!(out, "\n{}", styled(BOLD, "Limits"));
    let mut limits = Table::new(2);
    for (name, value) in units::limits(&admission.limits) {
        limits.row([name, value]);
    }
    out.push_str(&limits.to_string());
    for clamped in &admission.clamped {
        let _ = writeln!(out, "  {}", clamping(clamped));
    }
    let _ = writeln!(out, "\n{}", styled(BOLD, "Grants"));
    let granted = grants::table(&admission.grants, &admission.from_policy);
    let refused = admission
        .refusal
        .iter()
        .flat_map(|failure| &failure.denials);
    let is_unconfirmed = { refused }.any(|denial| denial.capability == Capability::Consent);
    match granted.is_empty() {
        // Those of the policy are none of this digest's.
        true if is_unconfirmed => {
            out.push_str("  none until what the policy grants is confirmed\n")
        }
        true => out.push_str("  none\n"),
        false => {}
    }
    out.push_str(&granted.to_string());
    if !admission.missing.is_empty() {
        let _ = writeln!(
            out,
            "\n{}",
            styled(BOLD, "Declared by the skill, and not granted")
        );
        if is_unconfirmed {
            // The hint above says how.
            out.push_str("  First confirm what is granted already: until then, no grant helps\n");
        }
        for denial in &admission.missing {
            let _ = writeln!(
                out,
                "  {}\n    {}",
                grants::missing(denial),
                printable(&denial.hint, false)
            );
        }
    }
    out
}
