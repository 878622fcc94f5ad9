//! Compiling a component, with limits before and, in a child process, during it.
//!
//! Cranelift cannot be interrupted, and some inputs make it slow. So the size of a component, of
//! its functions and of its largest function is bounded before, and so is what its instances would
//! multiply to (see `footprint`); and where it matters, the work is done by a child process under
//! limits of processor time, wall time and memory.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tokio_util::sync::CancellationToken;
use wasmparser::{Parser, Payload};
use wasmtime::Engine;

use super::looks::{self, Unread};
use super::nesting::{self, Found, MAX_NESTING, MAX_PARTS};
use super::{artifact, engine, footprint};
use crate::limits::{MIB, exact_bytes, grouped};
use crate::text::{printable, said};

/// How components are compiled.
#[derive(Debug, Clone)]
pub struct CompileSettings {
    /// The largest component, in bytes. Default 64 MiB.
    pub max_component_bytes: u64,
    /// The most functions, over all its modules. Default 200,000.
    pub max_functions: u64,
    /// The largest function body, in bytes. Default 1 MiB: compiling takes more than linear time
    /// in it.
    pub max_function_bytes: u64,
    /// The most that the engine keeps for its instances, in bytes. Default 64 MiB, as the memory limit:
    /// one with more could not even be asked what it is, and reading back what it is compiled to takes
    /// as much.
    pub max_context_bytes: u64,
    /// The most that one host compiles at once; what comes next waits for its turn. Of those of more than 4 MiB, half
    /// as many, and one at least. Default 4; 0 counts as 1.
    pub at_once: u32,
    /// Where the work is done. Default in this process, for components whose makers are trusted.
    pub isolation: Isolation,
}

impl Default for CompileSettings {
    fn default() -> Self {
        CompileSettings {
            max_component_bytes: 64 * MIB,
            max_functions: 200_000,
            max_function_bytes: MIB,
            max_context_bytes: 64 * MIB,
            at_once: 4,
            isolation: Isolation::InProcess,
        }
    }
}

/// Where components are compiled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Isolation {
    /// In this process, on a blocking thread: for components whose makers are trusted. It cannot be interrupted, and
    /// nothing but the size of the component bounds it: one that is made to can take minutes, and more memory than there
    /// is, which ends the process. Where the future that loads is dropped, compiling goes on to its end.
    InProcess,
    /// In a child process, which is killed when it is over a limit, and when the future that loads is
    /// dropped: for all others. The program must call
    /// [`compile_child`] with the arguments that come after `arguments`.
    Child {
        /// The program; usually the running one.
        program: PathBuf,
        /// Arguments that make it call [`compile_child`].
        arguments: Vec<OsString>,
        /// Address space, in bytes.
        memory_bytes: u64,
        /// Wall time; processor time is limited to as much on each core.
        wall_time: Duration,
    },
}

impl Isolation {
    /// A child with the default limits: 4 GiB of address space and 2 minutes.
    pub fn child(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Isolation::Child {
            program,
            arguments,
            memory_bytes: 4096 * MIB,
            wall_time: Duration::from_secs(120),
        }
    }
}

/// A component that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// It is not a component at all.
    #[error("it is not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It is too large to be compiled.
    #[error("it has {what} of {found}; {allowed} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: String,
        /// How large it may be.
        allowed: String,
    },
    /// It is not valid, or uses what the host does not support.
    #[error("it cannot be compiled: {0}")]
    Invalid(String),
    /// The child process met one of its limits, or the compiler did not come to its end.
    #[error("compiling it was stopped: {0}")]
    Stopped(String),
    /// The child process could not be started, was ended by something else, or did not do its work.
    #[error("the compiling process failed: {0}")]
    Child(String),
}

/// What a component imports and exports, by name: `wasi:cli/stdout@0.2.3`. Control characters are
/// escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surface {
    /// What it imports, in its own order.
    pub imports: Vec<String>,
    /// What it exports, in its own order.
    pub exports: Vec<String>,
}

/// What is known of a component before it is compiled.
pub(crate) struct Checked {
    pub surface: Surface,
    /// The bytes of the contexts of all its instances.
    pub context_bytes: u64,
}

/// Looks at a component before it is compiled: whether it is one, and within the bounds.
pub(crate) fn check(component: &[u8], settings: &CompileSettings) -> Result<Checked, CompileError> {
    if component.len() as u64 > settings.max_component_bytes {
        return Err(CompileError::TooLarge {
            what: "a size",
            found: exact_bytes(component.len() as u64),
            allowed: exact_bytes(settings.max_component_bytes),
        });
    }
    if Parser::is_core_wasm(component) {
        return Err(CompileError::NotAComponent(
            "it is a core module; build it for the target wasm32-wasip2".into(),
        ));
    }
    if !Parser::is_component(component) {
        let what = match component {
            [] => "it is empty",
            [b'(', ..] => "it looks like WebAssembly text; turn it into binary first",
            [0, b'a', b's', b'm', ..] => "its header is of an unknown kind or version",
            _ => "it does not begin with the bytes \\0asm",
        };
        return Err(CompileError::NotAComponent(what.into()));
    }
    let mut functions = 0;
    let mut parts = MAX_PARTS;
    let mut depth = 0_usize;
    let mut surface = Surface::default();
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| invalid(&error))? {
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                let bytes = body.range().len() as u64;
                if bytes > settings.max_function_bytes {
                    return Err(CompileError::TooLarge {
                        what: "a function",
                        found: exact_bytes(bytes),
                        allowed: exact_bytes(settings.max_function_bytes),
                    });
                }
                if functions > settings.max_functions {
                    return Err(CompileError::TooLarge {
                        what: "a number of functions",
                        found: format!("more than {}", grouped(settings.max_functions)),
                        allowed: grouped(settings.max_functions),
                    });
                }
            }
            Payload::ComponentTypeSection(types) => {
                let (from, to) = (types.original_position(), types.range().end);
                let bytes = component.get(from..to).unwrap_or_default();
                let found = nesting::look(bytes, from, types.count(), &mut parts);
                match found.map_err(|error| invalid(&error))? {
                    Found::Fits => {}
                    Found::TooDeep => {
                        return Err(CompileError::TooLarge {
                            what: "a nesting of types",
                            found: format!("more than {MAX_NESTING}"),
                            allowed: MAX_NESTING.to_string(),
                        });
                    }
                    Found::TooMany => {
                        return Err(CompileError::TooLarge {
                            what: "a number of declarations, fields, cases and parameters, in all its types,",
                            found: format!("more than {}", grouped(MAX_PARTS)),
                            allowed: grouped(MAX_PARTS),
                        });
                    }
                }
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.map_err(|error| invalid(&error))?;
                    surface
                        .imports
                        .push(printable(import.name.name, false).into_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let export = export.map_err(|error| invalid(&error))?;
                    surface
                        .exports
                        .push(printable(export.name.name, false).into_owned());
                }
            }
            _ => {}
        }
    }
    Ok(Checked {
        surface,
        context_bytes: footprint::context_bytes(component, settings)?,
    })
}

/// Compiles a component that was looked at, and writes the code to a file. Takes its time: call it
/// on a thread that may block. A child is killed when `unwanted` is cancelled.
pub(super) fn compile(
    engine: &Engine,
    component: &[u8],
    isolation: &Isolation,
    output: &Path,
    unwanted: &CancellationToken,
) -> Result<(), CompileError> {
    match isolation {
        Isolation::InProcess => {
            let code = in_process(engine, component)?;
            std::fs::write(output, code)
                .map_err(|error| CompileError::Child(format!("cannot write its result: {error}")))
        }
        Isolation::Child {
            program,
            arguments,
            memory_bytes,
            wall_time,
        } => {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .arg(output)
                .arg(memory_bytes.to_string());
            command.arg(wall_time.as_secs().max(1).to_string());
            in_child(command, component, *wall_time, unwanted)
        }
    }
}

/// Compiles a component in this process.
pub(super) fn in_process(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    // Neither what validates nor Cranelift is supposed to panic; should it, only this component is affected.
    let compiled =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| looked(engine, component)));
    compiled.unwrap_or_else(|_| Err(CompileError::Invalid("the compiler panicked".into())))
}

/// Compiles a component with looks in its code.
fn looked(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let compile = |component: &[u8]| {
        let compiled = engine.precompile_component(component);
        let code = compiled.map_err(|error| invalid(&format!("{error:#}")))?;
        artifact::check(&code, component.len())?;
        Ok(code)
    };
    match looks::put_into(component) {
        Ok(with_looks) => compile(&with_looks),
        // The compiler says better what is wrong. Nothing is run that was not looked through.
        Err(Unread::Invalid(error)) => {
            compile(component)?;
            Err(invalid(&error))
        }
        Err(error) => Err(invalid(&error)),
    }
}

pub(super) fn invalid(error: &impl ToString) -> CompileError {
    CompileError::Invalid(said(&error.to_string(), false, 500))
}

fn in_child(
    mut command: Command,
    component: &[u8],
    wall_time: Duration,
    unwanted: &CancellationToken,
) -> Result<(), CompileError> {
    let failed =
        |what: &str, error: std::io::Error| CompileError::Child(format!("{what}: {error}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env_clear()
        .spawn()
        .map_err(|error| failed("cannot start it", error))?;
    let ends = Instant::now() + wall_time;
    let outcome = std::thread::scope(|scope| {
        // A thread apart, as the child may stop reading. It ends when the child does.
        let stdin = child.stdin.take();
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(component)));
        let mut pause = Duration::from_millis(1);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < ends && !unwanted.is_cancelled() => {}
                outcome => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break Err(outcome.err());
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(16));
        }
    });
    let status = match outcome {
        Ok(status) => status,
        Err(Some(error)) => return Err(failed("cannot wait for it", error)),
        Err(None) if unwanted.is_cancelled() => {
            return Err(CompileError::Stopped("nobody waits for it".into()));
        }
        Err(None) => {
            let limit = humantime::format_duration(wall_time);
            return Err(CompileError::Stopped(format!(
                "it took longer than {limit}"
            )));
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut last_words = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut bytes = Vec::new();
        let _ = stderr.take(8 * 1024).read_to_end(&mut bytes);
        last_words = said(String::from_utf8_lossy(&bytes).trim(), false, 500);
    }
    match status.code() {
        Some(INVALID) => Err(CompileError::Invalid(last_words)),
        Some(code) => Err(CompileError::Child(format!(
            "it exited with status {code}: {last_words}"
        ))),
        None => Err(ended_by(status, &last_words)),
    }
}

/// What it means that a signal ended the child: by its own doing, which is the component's, or by another's.
fn ended_by(status: ExitStatus, last_words: &str) -> CompileError {
    let signal = status.signal().and_then(Signal::from_named_raw);
    let stopped = |why: &str| CompileError::Stopped(format!("{why} ({status})"));
    match signal {
        Some(Signal::XCPU) => stopped("it ran out of its processor time"),
        Some(Signal::ABORT) if last_words.contains("memory allocation of") => {
            stopped("it ran out of its memory")
        }
        // Also where its stack had no room to grow.
        Some(Signal::ABORT | Signal::SEGV | Signal::BUS | Signal::ILL | Signal::FPE) => {
            stopped("the compiler did not come to its end")
        }
        _ => CompileError::Child(format!(
            "something else ended it ({status}), as the system does where memory is scarce"
        )),
    }
}

/// The exit code of the child for a component that cannot be compiled.
const INVALID: i32 = 2;

/// The work of the child process of [`Isolation::Child`]: sets its own limits, reads a component
/// from standard input, and writes its code to the file that the arguments name. The arguments are
/// those that the parent put after [`Isolation::Child::arguments`](Isolation::Child). The process is to do
/// nothing else: its panics no longer say where they were.
///
/// ```no_run
/// use skillhost::{CompileSettings, Host, Isolation};
///
/// fn main() -> std::process::ExitCode {
///     let mut arguments = std::env::args_os().skip(1);
///     if arguments.next().is_some_and(|first| first == "compile-a-skill") {
///         return skillhost::compile_child(arguments);
///     }
///     // … what the program does otherwise …
///     std::process::ExitCode::SUCCESS
/// }
///
/// fn host() -> Result<Host, Box<dyn std::error::Error>> {
///     let isolation = Isolation::child(std::env::current_exe()?, vec!["compile-a-skill".into()]);
///     let settings = CompileSettings { isolation, ..CompileSettings::default() };
///     Ok(Host::builder().compile(settings).build()?)
/// }
/// ```
pub fn compile_child(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match child(arguments.into_iter()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let invalid = matches!(
                error,
                CompileError::Invalid(_) | CompileError::TooLarge { .. }
            );
            let text = match error {
                CompileError::Invalid(text) => text,
                other => other.to_string(),
            };
            eprintln!("{text}");
            ExitCode::from(if invalid { INVALID as u8 } else { 1 })
        }
    }
}

fn child(mut arguments: impl Iterator<Item = OsString>) -> Result<(), CompileError> {
    // What it says goes to whoever sent the component. Where in whose source a panic was is not for them.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!(
            "it panicked: {}",
            panic.payload_as_str().unwrap_or_default()
        );
    }));
    let wrong = || CompileError::Child("expects a file, bytes and seconds".into());
    let output = PathBuf::from(arguments.next().ok_or_else(wrong)?);
    let mut number = || -> Option<u64> { arguments.next()?.to_str()?.parse().ok() };
    let (memory_bytes, seconds) = number().zip(number()).ok_or_else(wrong)?;
    let limit = |resource, value: u64, maximum: u64| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(value),
                maximum: Some(maximum),
            },
        )
        .map_err(|error| CompileError::Child(format!("cannot limit itself: {error}")))
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let processor = seconds.saturating_mul(cores);
    limit(Resource::As, memory_bytes, memory_bytes)?;
    // At the first it ends by a signal of its own, at the second as if somebody had killed it.
    limit(Resource::Cpu, processor, processor.saturating_add(5))?;
    limit(Resource::Core, 0, 0)?;
    let mut component = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut component)
        .map_err(|error| CompileError::Child(format!("cannot read the component: {error}")))?;
    let engine = engine::compiler().map_err(|error| CompileError::Child(error.to_string()))?;
    let code = in_process(&engine, &component)?;
    std::fs::write(&output, code)
        .map_err(|error| CompileError::Child(format!("cannot write its result: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        check(bytes, &CompileSettings::default())
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn what_is_no_component_is_said_to_be_none() {
        assert!(error(b"").contains("it is empty"));
        assert!(error(b"(module)").contains("WebAssembly text"));
        assert!(error(b"\0asm\x01\0\0\0").contains("core module"));
        assert!(error(b"\0asm\xff\0\0\0").contains("unknown kind or version"));
        assert!(error(b"#!/bin/sh").contains("does not begin with"));
    }

    #[test]
    fn what_ended_the_compiler_is_told_apart() {
        let ended = |signal: Signal, words| {
            let error = ended_by(ExitStatus::from_raw(signal.as_raw()), words);
            (matches!(error, CompileError::Stopped(_)), error.to_string())
        };
        let words = "memory allocation of 65536 bytes failed";
        for (signal, words, is_its_own, said) in [
            (Signal::XCPU, "", true, "out of its processor time"),
            (Signal::ABORT, words, true, "out of its memory"),
            (Signal::ABORT, "", true, "did not come to its end"),
            (Signal::SEGV, "", true, "did not come to its end"),
            (Signal::KILL, "", false, "something else ended it"),
            (Signal::TERM, words, false, "something else ended it"),
        ] {
            let (its_own, error) = ended(signal, words);
            assert_eq!(its_own, is_its_own, "{error}");
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_truncated_component_is_refused() {
        assert!(check(b"\0asm\x0d\0\x01\0", &CompileSettings::default()).is_ok());
        assert!(error(b"\0asm\x0d\0\x01\0\x01\x7f").contains("cannot be compiled"));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        let settings = CompileSettings {
            max_component_bytes: 4,
            ..Default::default()
        };
        let error = check(b"\0asm\x0d\0\x01\0", &settings).err().unwrap();
        assert_eq!(error.to_string(), "it has a size of 8 B; 4 B are allowed");
    }
}
