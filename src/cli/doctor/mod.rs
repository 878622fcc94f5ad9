//! `skillhost doctor`: hostile guests, run on this machine, that show that the sandbox holds.

mod rows;

use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use skillhost::doctor::{Check, Examination, Finding, Kind, Report, Verdict, probes};
use skillhost::{Host, HostError, Policy};

use super::complaint::{Complaint, show_error, show_hint};
use super::console::{Console, GOOD, print, print_json, styled};
use super::exit::Exit;
use super::host::{block_on, isolation};
use super::policy::{PolicyFile, first_finding, with_grants};
use super::{Session, audit, explain, units};

const EXAMPLES: &str = "\
Examples:
  skillhost doctor
  See what does not hold, and why:
    skillhost doctor --json | jq '.checks[] | select(.verdict != \"holds\")'
  See that nothing gets further past a limit than it may, and how far it got:
    skillhost doctor --json | jq '.checks[].figures | select(. != null)'";

/// Show that the sandbox holds on this machine, with hostile guests
///
/// For each limit and each grant a guest tries to get past it, and beside it the same guest runs
/// within it and must succeed. The compiled cache, the kernel and the hardware are looked at as
/// well. Nothing that is installed is run or changed. Takes a few seconds.
///
/// Ends with exit code 7 where anything does not hold or could not be tried; warnings do not count.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Examines this machine.
///
/// # Errors
/// Where no host can be set up.
pub fn doctor(args: &DoctorArgs, session: &Session) -> anyhow::Result<Exit> {
    let console = session.console;
    let examination = Examination::new()
        .isolation(isolation()?)
        .cache(session.places()?.compiled());
    let (kind, name) = SCRATCH;
    let scratch = session.places()?.scratch();
    let examination = examination.and(kind, name, "who may write where it is", move || {
        scratch_folder(&scratch)
    });
    let (file, of_policy) = (session.policy_file()?, session.clone());
    let (kind, name) = POLICY;
    let examination = examination.and(kind, name, "its file can be used", move || {
        policy_file(&file, &of_policy)
    });
    let progress = Progress::begin(console);
    let columns = console.stdout_terminal.then(|| console.width());
    let mut printed = Ok(());
    let report = block_on(async |mut interrupts| {
        interrupts.count_termination()?;
        let mut last = None;
        let examined = examination.run(|check| {
            progress.next();
            if !args.json && printed.is_ok() {
                let rows = rows::of(check, last, columns);
                last = Some(check.kind);
                printed = progress.beside(|| print(rows));
            }
        });
        tokio::select! {
            report = examined => report.map_err(|error| not_examined(&error).into()),
            () = interrupts.next() => {
                Err(Complaint::new(Exit::Cancelled, "cancelled before everything was tried").into())
            }
        }
    });
    progress.end();
    let report = report?;
    printed?;
    if args.json {
        print_json(console, &report)?;
    } else {
        explain_verdicts(console, &report);
    }
    Ok(if report.holds {
        Exit::Success
    } else {
        Exit::Unsound
    })
}

/// Whether scratch directories can be made, and nobody else can take them away.
fn scratch_folder(folder: &Path) -> Finding {
    match Host::check_scratch(folder) {
        Ok(()) if folder.exists() => Finding::holds("this user alone"),
        Ok(()) => Finding::not_applicable(format!("there is no `{}` yet", folder.display())),
        Err(error) => broken(explain::host(&error).into()),
    }
}

/// Whether the policy file can be read, is closed to others, and fits what is installed.
fn policy_file(file: &PolicyFile, session: &Session) -> Finding {
    let path = file.path().display();
    match file.read() {
        // What holds without one may be in the way all the same.
        Ok(None) => match first_finding(&Policy::default(), session) {
            Ok(Some(first)) => misfit(first),
            _ => Finding::not_applicable(format!("there is no `{path}`")),
        },
        Ok(Some(policy)) => match audit::can_be_kept(&policy, session) {
            // Nothing runs under it.
            Err(error) if policy.audit.required => broken(error),
            _ => policy_grants(&policy, session),
        },
        Err(error) => broken(error),
    }
}

fn broken(error: anyhow::Error) -> Finding {
    match error.downcast::<Complaint>() {
        Ok(complaint) => {
            let finding = Finding::broken(complaint.message);
            match complaint.hints.into_iter().next() {
                Some(hint) => finding.hint(hint),
                None => finding,
            }
        }
        Err(error) => Finding::broken(error.to_string()),
    }
}

/// What there is to say of a sound policy: whether what it grants fits the skills that are installed, as
/// `skillhost policy check` does.
fn policy_grants(policy: &Policy, session: &Session) -> Finding {
    let found = match with_grants(policy) {
        1 => "it is sound, for 1 skill".to_owned(),
        count => format!("it is sound, for {count} skills"),
    };
    match first_finding(policy, session) {
        Ok(None) => Finding::holds(found),
        Ok(Some(first)) => misfit(first),
        Err(error) => Finding::warning(found, error.to_string()),
    }
}

/// Of so many findings, the first with what to do about it.
fn misfit((count, message, hint): (usize, String, String)) -> Finding {
    let more = match count {
        1 => String::new(),
        count => format!("; `skillhost policy check` shows {} more", count - 1),
    };
    Finding::warning("what does not fit", format!("{message}{more}")).hint(hint)
}

fn not_examined(error: &HostError) -> Complaint {
    match error {
        HostError::Io { .. } | HostError::Unavailable { .. } => {
            Complaint::new(Exit::Host, error.to_string())
                .hint("name another folder for temporary files in the variable TMPDIR")
        }
        _ => explain::host(error),
    }
}

/// Says why what does not hold does not, what the warnings are about, and the sum of it.
fn explain_verdicts(console: Console, report: &Report) {
    let title = |check: &Check| {
        let Check {
            kind, name, tried, ..
        } = check;
        format!("{} `{name}` ({tried})", kind.as_str())
    };
    let reason = |check: &Check| check.reason.clone().unwrap_or_default();
    if console.verbose > 0 {
        for check in report.with(Verdict::NotApplicable) {
            console.note(format_args!("{}: {}", title(check), reason(check)));
        }
    }
    for check in report.with(Verdict::Warning) {
        console.warn(format_args!("{}: {}", title(check), reason(check)));
        if let Some(hint) = &check.hint
            && !console.quiet
        {
            show_hint(hint);
        }
    }
    for check in &report.checks {
        let what = match check.verdict {
            Verdict::Broken => "does not hold",
            Verdict::Unknown => "could not be tried",
            _ => continue,
        };
        show_error(&format!("{} {what}: {}", title(check), reason(check)));
        if let Some(hint) = &check.hint {
            show_hint(hint);
        }
    }
    let count = |verdict| report.with(verdict).count();
    let mut sum = vec![format!("{} hold", count(Verdict::Holds))];
    for (verdict, one, several) in [
        (Verdict::Broken, "does not (✗)", "do not (✗)"),
        (
            Verdict::Unknown,
            "could not be tried (?)",
            "could not be tried (?)",
        ),
        (Verdict::Warning, "warns (!)", "warn (!)"),
        (
            Verdict::NotApplicable,
            "does not apply (–)",
            "do not apply (–)",
        ),
    ] {
        match count(verdict) {
            0 => {}
            1 => sum.push(format!("1 {one}")),
            count => sum.push(format!("{count} {several}")),
        }
    }
    let mark = if report.holds {
        styled(GOOD, "✓")
    } else {
        styled(super::console::ERROR, "✗")
    };
    console.note(format_args!(
        "{mark} skillhost {} on {} · {} · {}",
        report.version,
        report.platform,
        sum.join(", "),
        units::duration(report.took)
    ));
}

/// What this command adds to what is tried.
const SCRATCH: (Kind, &str) = (Kind::Machine, "scratch");
const POLICY: (Kind, &str) = (Kind::Policy, "policy");

/// All that is tried, in its order.
fn names() -> impl Iterator<Item = (Kind, &'static str)> {
    probes().chain([SCRATCH, POLICY])
}

/// What is being tried, for a person who watches.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn begin(console: Console) -> Self {
        if !console.stderr_terminal || console.quiet {
            return Progress(None);
        }
        let bar = ProgressBar::new(names().count() as u64);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} of {len} · {msg}") {
            bar.set_style(style);
        }
        let progress = Progress(Some(bar));
        progress.show();
        if let Some(bar) = &progress.0 {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        progress
    }

    /// One more has ended.
    fn next(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
            self.show();
        }
    }

    fn show(&self) {
        if let Some(bar) = &self.0 {
            let at = usize::try_from(bar.position()).unwrap_or(usize::MAX);
            match names().nth(at) {
                Some((kind, name)) => bar.set_message(format!("{} {name}", kind.as_str())),
                None => bar.set_message(""),
            }
        }
    }

    /// Prints something without the bar in its way.
    fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
