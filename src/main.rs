//! The command `skillhost`: parse, dispatch, exit code.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Asked first: a process that compiles needs nothing of the rest, and a run waits for it.
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == cli::COMPILE_COMPONENT)
    {
        end_with_parent();
        return skillhost::compile_child(arguments);
    }
    cli::main()
}

/// Nobody waits for a component once the process that wants it is gone.
fn end_with_parent() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // Should it be refused, the limits on time still hold.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}
