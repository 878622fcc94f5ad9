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
        return skillhost::compile_child(arguments);
    }
    cli::main()
}
