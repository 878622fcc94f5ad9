//! The host that a command runs skills with.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::{pipe, unregister};
use signal_hook::{SigId, flag};
use skillhost::grant::Mode;
use skillhost::host::InstalledSkillsBuilder;
use skillhost::secret::{SecretSource, Secrets};
use skillhost::skill::Package;
use skillhost::{CompileEvent, CompileSettings, Host, InstalledSkills, Isolation, Roots, Skill};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::complaint::Complaint;
use super::console::{Console, say};
use super::database::Database;
use super::exit::Exit;
use super::locate::explained;
use super::termination::{self, Terminations};
use super::{Session, explain};

/// The first argument of the child process that compiles. Not a command for people.
pub const COMPILE_COMPONENT: &str = "compile-component";

/// Executions in flight at once, where nothing is said.
const CONCURRENCY: u32 = 2;

/// Allows this process as many open files as it may have. The lower limit that it starts with is
/// for programs that cannot count past 1,024.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    // Should it be refused, there are fewer.
    let _ = setrlimit(Resource::Nofile, files);
}

/// Closes the command's own folder of scratch directories to others, where one of this user's was made under another
/// umask; not one with a sticky bit, which whoever shares it has set. Where that fails, the host does not use it, and says why.
fn close_scratch(folder: &Path) {
    use rustix::fs::{Mode, OFlags, fchmod, fstat, open};
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(opened) = open(folder, flags, Mode::empty()) else {
        return;
    };
    let Ok(stat) = fstat(&opened) else {
        return;
    };
    let mode = Mode::from_raw_mode(stat.st_mode);
    let closed = mode & !(Mode::WGRP | Mode::WOTH);
    if mode == closed
        || mode.contains(Mode::SVTX)
        || stat.st_uid != rustix::process::geteuid().as_raw()
    {
        return;
    }
    if fchmod(&opened, closed).is_ok() {
        let folder = folder.display();
        tracing::warn!(%folder, "others could write in the folder of scratch directories: they cannot any more");
    }
}

/// How long a compilation that is cancelled may take to remove what it has written.
const TIDYING: Duration = Duration::from_millis(200);
/// Within this time, Ctrl-C reaches all processes that it is meant for.
const JUST_NOW: Duration = Duration::from_millis(10);

/// Within this time, a second SIGTERM is the first one: `timeout` sends it to the process that it has started, and then
/// to all of the group that both are in. So does a terminal that is closed with SIGHUP, and the shell that was in it.
const SAME_TERMINATION: Duration = Duration::from_millis(250);

/// How the command compiles: in a child process.
///
/// # Errors
/// Where this program does not know where it is.
pub fn isolation() -> anyhow::Result<Isolation> {
    // What runs now, also where another file has its name meanwhile.
    let running = PathBuf::from("/proc/self/exe");
    let program = match running.exists() {
        true => running,
        false => program()?,
    };
    Ok(Isolation::child(program, vec![COMPILE_COMPONENT.into()]))
}

/// Where this program is.
fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program cannot find itself")
}

/// What is set for the whole host.
#[derive(Debug, Default)]
pub struct Settings {
    /// Executions in flight at once; 2 unless set. A command has one; `describe` of a new skill is
    /// another.
    pub concurrency: Option<u32>,
    /// The stack of every guest, in bytes.
    pub stack_bytes: Option<u64>,
    /// Whose certificates are trusted inside TLS.
    pub roots: Roots,
    /// Further ones, in PEM form.
    pub certificates: Vec<Vec<u8>>,
    /// Where the values of secrets are found.
    pub secrets: Secrets,
    /// Whether whoever typed the command reads the failures, and nobody else.
    pub for_operator: bool,
    /// Where the queue is, whose file no grant reaches.
    pub database: Option<Database>,
    /// Where the secret is that callbacks are signed with.
    pub callback_secret: Option<PathBuf>,
}

/// A host that keeps compiled components, and compiles in a child process.
pub struct CommandHost {
    /// The host.
    pub host: Host,
    console: Console,
    /// Turns while a component is compiled and a person watches.
    spinner: Arc<Spinner>,
}

impl CommandHost {
    /// Sets it up.
    ///
    /// # Errors
    /// Where the cache or the engine cannot be used.
    pub fn open(session: &Session, settings: Settings) -> anyhow::Result<Self> {
        let console = session.console;
        let spinner = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&spinner);
        let places = session.places()?;
        allow_open_files();
        close_scratch(&places.scratch());
        let mut builder = Host::builder()
            .cache(places.compiled())
            .scratch(places.scratch())
            .storage(places.storage())
            .concurrency(settings.concurrency.unwrap_or(CONCURRENCY))
            .for_operator(settings.for_operator)
            .compile(CompileSettings {
                isolation: isolation()?,
                ..CompileSettings::default()
            })
            .on_compile(move |event| show_compilation(event, console, &shared));
        for folder in places.all() {
            builder = builder.never_grant(folder, Mode::Ro);
        }
        // It may stand beside what a skill works on, and may be read.
        builder = builder.never_grant(session.policy_file()?.path(), Mode::Rw);
        // Also where this request leaves it out, what it names is not a skill's.
        if let Ok(Some(policy)) = session.policy_file()?.read() {
            if let Some(folder) = policy.audit.folder {
                builder = builder.never_grant(folder, Mode::Ro);
            }
            for source in policy.secrets.into_values() {
                if let SecretSource::File(file) = source {
                    builder = builder.never_grant(file, Mode::Ro);
                }
            }
        }
        if let Some(file) = &settings.callback_secret {
            builder = builder.never_grant(file, Mode::Ro);
        }
        // Whoever can write where it is can put another program in its place.
        builder = builder.never_grant(program()?, Mode::Rw);
        if let Some(Database::File(file)) = &settings.database {
            builder = builder.never_grant(file, Mode::Ro);
        }
        if let Some(bytes) = settings.stack_bytes {
            builder = builder.stack_bytes(bytes);
        }
        builder = builder.roots(settings.roots).secrets(settings.secrets);
        for pem in settings.certificates {
            builder = builder.certificate(pem);
        }
        Ok(CommandHost {
            host: builder.build().map_err(|error| explain::host(&error))?,
            console,
            spinner,
        })
    }

    /// Loads a skill. Ctrl-C ends that.
    ///
    /// # Errors
    /// What is wrong with the skill; `typed` is how the user called it.
    pub async fn load(
        &self,
        package: Package,
        typed: &Path,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Skill> {
        let began = std::time::Instant::now();
        let explained = explained(&package);
        let mut load = std::pin::pin!(self.host.load_package(package));
        let ended = tokio::select! {
            loaded = &mut load => Some(loaded),
            () = interrupts.next() => {
                // Ctrl-C in a terminal ends the compiling process as well, and what it was writing
                // is then removed.
                let _ = tokio::time::timeout(TIDYING, load).await;
                None
            }
        };
        let ended = match ended {
            Some(Ok(skill)) => Ok(skill),
            // For the same reason the compilation may fail before Ctrl-C is noticed here.
            Some(Err(error)) if !interrupts.pending().await => {
                Err(explained(&typed.display().to_string(), error))
            }
            _ => Err(Complaint::new(
                Exit::Cancelled,
                format!(
                    "cancelled while the skill was being loaded, after {:.1} s",
                    began.elapsed().as_secs_f64()
                ),
            )),
        };
        // A compilation that failed does not say that it ended.
        stop(&self.spinner);
        let skill = ended?;
        if self.console.verbose > 0 {
            let identity = skill.identity();
            say(format_args!(
                "loaded {}@{} ({})",
                identity.name, identity.version, identity.digest
            ));
        }
        Ok(skill)
    }
}

type Spinner = Mutex<Option<ProgressBar>>;

fn show_compilation(event: &CompileEvent, console: Console, spinner: &Spinner) {
    match event {
        CompileEvent::Started {
            component_bytes, ..
        } => {
            let size = skillhost::limits::display_bytes(*component_bytes);
            let line = format!("compiling a component of {size}, once");
            if console.stderr_terminal && !console.quiet {
                start(spinner, line);
            } else if console.verbose > 0 {
                say(line);
            }
        }
        CompileEvent::Waiting { .. } => {
            let line = "waiting for another compilation".to_owned();
            if console.stderr_terminal && !console.quiet {
                start(spinner, line);
            } else if console.verbose > 0 {
                say(line);
            }
        }
        CompileEvent::Waited { .. } => stop(spinner),
        CompileEvent::Finished { took, .. } => {
            stop(spinner);
            if console.verbose > 0 {
                say(format_args!("compiled in {:.1} s", took.as_secs_f64()));
            }
        }
        _ => {}
    }
}

fn start(spinner: &Spinner, line: String) {
    let bar = ProgressBar::new_spinner().with_message(line);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} · {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    *spinner.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
}

fn stop(spinner: &Spinner) {
    let bar = spinner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// The installed skills behind a host, whose policy is followed unless it is to be left out.
///
/// # Errors
/// Where the policy cannot be used now.
pub fn installed(
    session: &Session,
    host: Host,
    with_policy: bool,
) -> anyhow::Result<InstalledSkillsBuilder> {
    let builder = InstalledSkills::builder(host.clone(), session.places()?.library());
    if !with_policy {
        leave_out(session)?;
        return Ok(builder);
    }
    let file = session.policy_file()?;
    // What is wrong with it now should be said now.
    host.set_policy(file.read()?);
    Ok(match file.is_named() {
        true => builder.policy_that_must_be(file.path()),
        false => builder.policy(file.path()),
    })
}

/// Says what is left out with the policy, by a command that executes for others.
///
/// # Errors
/// Where the policy asks for what nobody should come past by a flag, or cannot be read.
fn leave_out(session: &Session) -> anyhow::Result<()> {
    let file = session.policy_file()?;
    let Some(policy) = file.read()? else {
        return Ok(());
    };
    let what = match &policy {
        policy if !policy.approval.allows_all() => "rules of approval",
        policy if policy.audit.required => "an audit that is required",
        _ => {
            session.console.warn(
                "the policy is left out: its ceilings, turns, rates and circuits do not hold",
            );
            return Ok(());
        }
    };
    let message = format!(
        "the policy `{}` has {what}, which `--no-policy` would leave out",
        file.path().display()
    );
    Err(Complaint::usage(message)
        .hint("take that out of the policy, or name another with `--policy FILE`")
        .into())
}

/// Ctrl-C, caught.
pub struct Interrupts {
    signal: Signal,
    /// SIGTERM and SIGHUP, where they [count](Interrupts::count_termination).
    termination: Option<Terminations>,
    /// Whether the next signal ends the process.
    again: Arc<AtomicBool>,
    /// Whether there was one [before](Interrupts::early).
    early: bool,
}

/// See [`Interrupts::ending`].
pub struct Ending(Arc<AtomicBool>);

impl Ending {
    /// From now on, the first signal ends the process.
    pub fn at_once(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What [`Interrupts::early`] has set up.
static EARLY: Mutex<Option<Early>> = Mutex::new(None);

struct Early {
    pressed: Arc<AtomicBool>,
    registered: [SigId; 2],
}

impl Interrupts {
    /// From now on, the first Ctrl-C does not end the process. The second does, at once and
    /// whatever is going on: it is acted upon where it arrives, as the thread that runs the guest
    /// may be kept by it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn catch() -> anyhow::Result<Self> {
        let signal = signal(SignalKind::interrupt())?;
        let (again, _) = second_ends()?;
        let early = EARLY.lock().unwrap_or_else(PoisonError::into_inner).take();
        let early = early.is_some_and(|early| {
            for registered in early.registered {
                unregister(registered);
            }
            early.pressed.load(Ordering::Relaxed)
        });
        if early {
            again.store(true, Ordering::Relaxed);
        }
        Ok(Interrupts {
            signal,
            termination: None,
            again,
            early,
        })
    }

    /// From now on, SIGTERM is as Ctrl-C is, and so is SIGHUP: for whoever sees to it that something comes of the first.
    /// The second one of any ends the process at once.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn count_termination(&mut self) -> anyhow::Result<()> {
        self.termination = Some(Terminations::listen()?);
        let again = Arc::clone(&self.again);
        let (mut first, handler) = UnixStream::pair()?;
        for &signal in termination::signals() {
            let code = Exit::Terminated as i32;
            flag::register_conditional_shutdown(signal, code, Arc::clone(&again))?;
            pipe::register(signal, handler.try_clone()?)?;
        }
        thread::Builder::new().spawn(move || {
            if matches!(first.read(&mut [0]), Ok(1)) {
                thread::sleep(SAME_TERMINATION);
                again.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(())
    }

    /// What ends the process at the next signal, once nothing is left that could be cancelled.
    pub fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.again))
    }

    /// Nothing is left that could be cancelled: the next signal ends the process. Whether there was one already that
    /// nobody has heard of.
    pub async fn end(&mut self) -> bool {
        self.ending().at_once();
        tokio::select! {
            biased;
            () = self.next() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// From now on, the first Ctrl-C does not end the process, and is kept for whoever
    /// [catches](Interrupts::catch) it later. Whether there was one is what is given.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn early() -> anyhow::Result<Arc<AtomicBool>> {
        let mut early = EARLY.lock().unwrap_or_else(PoisonError::into_inner);
        let early = match &mut *early {
            Some(early) => early,
            none => {
                let (pressed, registered) = second_ends()?;
                none.insert(Early {
                    pressed,
                    registered,
                })
            }
        };
        Ok(Arc::clone(&early.pressed))
    }

    /// Whether there was one, or is one just now.
    async fn pending(&mut self) -> bool {
        tokio::time::timeout(JUST_NOW, self.next()).await.is_ok()
    }

    /// The next one.
    pub async fn next(&mut self) {
        if std::mem::take(&mut self.early) {
            return;
        }
        let termination = async {
            match &mut self.termination {
                Some(termination) => termination.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = self.signal.recv() => {}
            () = termination => {}
        }
    }
}

/// Has the first Ctrl-C noted in what is given, and the second end the process.
fn second_ends() -> anyhow::Result<(Arc<AtomicBool>, [SigId; 2])> {
    let again = Arc::new(AtomicBool::new(false));
    let code = Exit::Cancelled as i32;
    // In this order: the first one finds that there was none before, and sets it.
    let ends = flag::register_conditional_shutdown(SIGINT, code, Arc::clone(&again))?;
    let notes = flag::register(SIGINT, Arc::clone(&again))?;
    Ok((again, [ends, notes]))
}

/// Runs a future on this thread alone.
///
/// # Errors
/// Those of the future, or where the system gives no runtime.
pub fn block_on<T>(work: impl AsyncFnOnce(Interrupts) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async { work(Interrupts::catch()?).await });
    // What still goes on in the background, such as waiting for the compiler, ends with the
    // process.
    runtime.shutdown_background();
    ended
}
