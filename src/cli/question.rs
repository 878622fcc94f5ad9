//! Asking the person at the terminal whether to go on.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc;
use std::thread;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

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
    let prompt = format!("{question} [y/N] ");
    let answer = unless_interrupted(move || {
        let mut stderr = anstream::stderr().lock();
        stderr.write_all(prompt.as_bytes())?;
        stderr.flush()?;
        drop(stderr);
        let mut answer = String::new();
        if io::stdin().read_line(&mut answer)? == 0 {
            // Ctrl-D leaves the cursor behind the question.
            let _ = writeln!(io::stderr());
        }
        Ok(answer)
    })?;
    match answer {
        Some(answer) => Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")),
        None => Err(interrupted()),
    }
}

/// What the person types where it is not shown.
///
/// # Errors
/// Where it cannot be read, and on Ctrl-C, after which the terminal shows again what is typed.
pub fn unseen(prompt: String) -> anyhow::Result<Zeroizing<String>> {
    // Whoever is interrupted cannot set it back.
    let terminal = File::open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let typed = unless_interrupted(move || rpassword::prompt_password(prompt).map(Zeroizing::new))?;
    match typed {
        Some(typed) => Ok(typed),
        None => {
            tcsetattr(&terminal, OptionalActions::Now, &before)?;
            Err(interrupted())
        }
    }
}

/// What is asked of the person; nothing where Ctrl-C comes first.
///
/// The signal no longer ends the process where somebody has waited for it before, and reading a line
/// goes on after one. So each has a thread, and what comes first counts. The process does not wait for
/// the other.
fn unless_interrupted<T: Send + 'static>(
    asks: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> anyhow::Result<Option<T>> {
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
    thread::Builder::new().spawn(move || says.send(Some(asks())))?;
    match heard.recv() {
        // Whoever reads may hear of it first.
        Ok(Some(Err(error))) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Ok(Some(answer)) => Ok(Some(answer?)),
        Ok(None) | Err(_) => Ok(None),
    }
}

fn interrupted() -> anyhow::Error {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr);
    Complaint::new(Exit::Cancelled, "interrupted; nothing was changed").into()
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
