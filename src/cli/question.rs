//! Asking the person at the terminal whether to go on.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc;
use std::thread;

use super::complaint::Complaint;
use super::exit::Exit;

/// Whether the person says yes. `otherwise` says what to do where there is nobody.
///
/// # Errors
/// Where there is nobody to ask, and on Ctrl-C.
pub fn agreed(question: &str, otherwise: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let complaint = Complaint::usage("there is nobody to ask: standard input is no terminal");
        return Err(complaint.hint(otherwise).into());
    }
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    drop(stderr);
    // The signal no longer ends the process where somebody has waited for it before, and reading a line
    // goes on after one. So each has a thread, and what comes first counts. The process does not wait for
    // the other.
    let (says, heard) = mpsc::channel();
    let interrupted = says.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let signal = {
        let _within = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
    };
    thread::spawn(move || {
        let mut signal = signal;
        if runtime.block_on(signal.recv()).is_some() {
            let _ = interrupted.send(None);
        }
    });
    thread::spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        let _ = says.send(Some(read.map(|_| answer)));
    });
    match heard.recv() {
        Ok(Some(answer)) => {
            let answer = answer?;
            Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
        }
        Ok(None) | Err(_) => {
            let mut stderr = io::stderr().lock();
            let _ = writeln!(stderr);
            Err(Complaint::new(Exit::Cancelled, "interrupted; nothing was changed").into())
        }
    }
}
