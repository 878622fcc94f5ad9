//! The child process that compiles: this test binary itself, told to run the one test that calls
//! `compile_child`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use skillhost::{CompileSettings, Isolation};

#[test]
#[ignore = "the child process of other tests"]
fn the_child() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let code = skillhost::compile_child(arguments[arguments.len() - 3..].to_vec());
    let codes = [0_u8, 1, 2];
    let number = codes.iter().find(|number| ExitCode::from(**number) == code);
    std::process::exit(number.map_or(101, |number| (*number).into()));
}

/// Compiling in a child process, under these limits.
pub fn settings(memory_bytes: u64, wall_time: Duration) -> CompileSettings {
    let arguments = ["child::the_child", "--exact", "--ignored", "--nocapture"];
    let program = std::env::current_exe().expect("this program has a path");
    CompileSettings {
        isolation: isolation(program, &arguments, memory_bytes, wall_time),
        ..CompileSettings::default()
    }
}

pub fn isolation(program: PathBuf, arguments: &[&str], memory: u64, time: Duration) -> Isolation {
    let arguments = arguments.iter().map(Into::into).collect();
    let mut isolation = Isolation::child(program, arguments);
    if let Isolation::Child {
        memory_bytes,
        wall_time,
        ..
    } = &mut isolation
    {
        (*memory_bytes, *wall_time) = (memory, time);
    }
    isolation
}
