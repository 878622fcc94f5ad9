//! Asking the person at the terminal whether to go on.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

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
    // The signal no longer ends the process where somebody has waited for it before, and reading a line
    // goes on after one. So each has a thread, and what comes first counts. The process does not wait for
    // the other.
    let (says, heard) = mpsc::channel();
    let interrupted = says.clone();
    let (listens, listening) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let waited = interrupt(&listens);
        if waited.is_ok() {
            let _ = interrupted.send(None);
        }
    })?;
    // Whoever sees the question may interrupt it.
    let _ = listening.recv();
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    drop(stderr);
    thread::Builder::new().spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        let _ = says.send(Some(read.map(|_| answer)));
    })?;
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

/// Waits for Ctrl-C, and says so once it does.
fn interrupt(listens: &mpsc::Sender<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signal = signal(SignalKind::interrupt())?;
        let _ = listens.send(());
        signal.recv().await;
        Ok(())
    })
}
