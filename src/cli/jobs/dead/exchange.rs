//! `skillhost jobs dead export` and `import`: as JSON lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;
use skillhost::queue::{DeadLetter, Filter, JobStatus, QueueError};

use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::{GOOD, print_data, print_json, styled};
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::jobs::filter::FilterArgs;
use crate::cli::jobs::lines::{at, not_json};
use crate::cli::unread::unread;

/// Write dead jobs as JSON lines, one a line, with their requests and attempts
///
/// They stay where they are. What is written has everything in it that the requests had: inputs,
/// attachments, environment variables.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Write to this file, which must not be there, rather than to standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

/// Put dead jobs back that were exported, here or elsewhere
///
/// Those that are there already are left alone. All of them are accepted, or none.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file; standard input with -
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Print how many were imported as JSON
    #[arg(long)]
    json: bool,
}

/// How many are read at a time.
const PAGE: usize = 100;

/// Exports dead jobs.
///
/// # Errors
/// Where the queue cannot be read, or the file cannot be written.
pub fn export(
    args: &ExportArgs,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    let mut file = args.output.as_deref().map(create).transpose()?;
    database.with(session, async |queue, _| {
        let mut filter = Filter {
            limit: Some(PAGE),
            ..args.filter.filter(&[JobStatus::Dead])
        };
        let mut count = 0_usize;
        loop {
            let page = queue.list(&filter).await.map_err(explain::queue)?;
            for job in page.items {
                let attempts = match queue.attempts(job.id).await {
                    Ok(attempts) => attempts,
                    // Somebody removed it meanwhile.
                    Err(QueueError::NotFound(_)) => continue,
                    Err(error) => return Err(explain::queue(error).into()),
                };
                let letter = DeadLetter { job, attempts };
                let line = serde_json::to_string(&letter)?;
                match &mut file {
                    Some(file) => writeln!(file, "{line}").map_err(not_written)?,
                    None => print_data(session.console, &line)?,
                }
                count += 1;
            }
            filter.cursor = page.next;
            if page.next.is_none() {
                break;
            }
        }
        if let Some(mut file) = file {
            file.flush().map_err(not_written)?;
            file.get_ref().sync_all().map_err(not_written)?;
        }
        session
            .console
            .note(format_args!("{} {count} exported", styled(GOOD, "✓")));
        Ok(Exit::Success)
    })
}

fn not_written(error: io::Error) -> Complaint {
    Complaint::new(Exit::Host, format!("cannot write the export: {error}"))
}

/// Requests can have secrets in them, so the file is for this user alone.
fn create(path: &Path) -> Result<BufWriter<File>, Complaint> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(BufWriter::new)
        .map_err(|error| {
            Complaint::usage(format!(
                "cannot make the file `{}`: {error}",
                path.display()
            ))
        })
}

/// Imports dead jobs.
///
/// # Errors
/// The first line that is wrong, by its number. Then nothing is imported.
pub fn import(
    args: &ImportArgs,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    let stdin = args.file.as_os_str() == "-";
    let path = (!stdin).then_some(args.file.as_path());
    let failed = |error: io::Error| unread(path, "FILE", &error);
    let reader: Box<dyn BufRead> = match stdin {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(&args.file).map_err(failed)?)),
    };
    let mut letters = Vec::new();
    for (number, line) in (1..).zip(reader.lines()) {
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        let letter: DeadLetter = serde_json::from_str(&line)
            .map_err(|error| at(number, not_json("not a dead letter", &error)))?;
        letters.push(letter);
    }
    let count = letters.len();
    database.with(session, async |queue, _| {
        let imported = queue.import_dead(letters).await.map_err(explain::queue)?;
        if args.json {
            let told = json!({"imported": imported, "existing": count - imported});
            print_json(session.console, &told)?;
            return Ok(Exit::Success);
        }
        session.console.note(format_args!(
            "{} {imported} imported, {} already there",
            styled(GOOD, "✓"),
            count - imported
        ));
        Ok(Exit::Success)
    })
}
