//! A real PostgreSQL, started by whoever needs one, in a folder of its own.
//!
//! The server listens on a socket in that folder alone, so nobody else's is met and no port is
//! needed. It ends with the process that started it, however that ends: a shell waits for the end of
//! a pipe that only this process holds, then stops the server and empties the folder.
//!
//! A benchmark or a program has it too, by `#[path = "../tests/queue/postgres/mod.rs"]`.

mod binaries;
mod fetch;
mod folder;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use folder::Folder;
use tokio_postgres::{Client, NoTls};

/// What the server does for a commit to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// All that it does when it is installed: every commit is on the disk when it is acknowledged.
    Full,
    /// Nothing. A commit still survives whatever happens to the server's own processes.
    None,
}

impl Durability {
    /// The command that starts such a server.
    fn start(self) -> &'static str {
        match self {
            Durability::Full => "start on",
            Durability::None => "start off",
        }
    }
}

/// How the server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Connections are ended, and everything is written: what `pg_ctl stop -m fast` does.
    Fast,
    /// Everything is dropped, and the next start recovers: what `pg_ctl stop -m immediate` does.
    Immediate,
    /// The server's first process is killed with SIGKILL. The others notice, and end.
    Kill,
}

/// What the shell does with the lines it gets; each is answered with a line. The server is its child,
/// so that it sees the end of it, and writes `ready` into a file when it takes connections.
const SUPERVISOR: &str = r#"
server=
start() {
    "$BIN/postgres" -D data "$@" >>log 2>&1 </dev/null &
    server=$!
    until [ "$(head -n 1 data/postmaster.pid 2>/dev/null)" = "$server" ] \
        && grep -q ready data/postmaster.pid; do
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.02
    done
}
stop() {
    kill "-$1" "$server"
    wait "$server"
    server=
}
while read -r command argument; do
    case $command in
    init) "$BIN/initdb" -D data --username=postgres --auth=trust --no-sync \
        --encoding=UTF8 --locale=C >>log 2>&1 </dev/null ;;
    start) start -c listen_addresses= -c unix_socket_directories=.. -c port=5432 \
        -c max_connections=200 -c "fsync=$argument" -c "full_page_writes=$argument" ;;
    stop) stop "$argument"; true ;;
    esac
    echo "$?"
done
[ -z "$server" ] || stop QUIT
rm -rf data
"#;

/// A running server. It ends when this is dropped, or with the process.
pub struct Postgres {
    folder: Folder,
    supervisor: Mutex<Supervisor>,
    durability: Durability,
    databases: AtomicU64,
}

struct Supervisor {
    child: Child,
    // Taken when it is to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// The server of this process, without durability, started when it is first asked for. For tests
    /// that neither stop it nor look at what it costs.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::start(Durability::None))
    }

    /// A server of one's own.
    ///
    /// # Panics
    /// Where there is no PostgreSQL and none can be had, or it does not start. The message says what
    /// to do.
    pub fn start(durability: Durability) -> Postgres {
        Postgres::try_start(durability).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A server of one's own.
    ///
    /// # Errors
    /// As a text for people, where there is no PostgreSQL and none can be had, or it does not start.
    pub fn try_start(durability: Durability) -> Result<Postgres, String> {
        let folder = Folder::new()?;
        let bin = binaries::find()?;
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR])
            .env("BIN", &bin)
            .env("LC_ALL", "C")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What a terminal sends to this process is not for the server.
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some(user) = folder.user() {
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command
            .spawn()
            .map_err(|error| format!("no shell can be started: {error}"))?;
        let commands = child.stdin.take();
        let answers = child.stdout.take().ok_or("a pipe is missing")?;
        let server = Postgres {
            folder,
            supervisor: Mutex::new(Supervisor {
                child,
                commands,
                answers: BufReader::new(answers),
            }),
            durability,
            databases: AtomicU64::new(0),
        };
        server.tell("init")?;
        server.tell(server.durability.start())?;
        Ok(server)
    }

    /// Stops it, in this way, and waits until it has stopped.
    pub fn stop(&self, how: Stop) {
        let command = match how {
            Stop::Fast => "stop INT",
            Stop::Immediate => "stop QUIT",
            Stop::Kill => "stop KILL",
        };
        self.tell(command).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts it again after [`stop`](Self::stop), and waits until it takes connections.
    pub fn start_again(&self) {
        // After a kill it does not start before the last of its processes has noticed.
        let start = || self.tell(self.durability.start());
        if (0..200).all(|_| start().is_err()) {
            start().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Stops it in this way, and starts it again.
    pub fn restart(&self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// An empty database, which is dropped with what is returned.
    pub async fn database(&self) -> Database<'_> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        let client = self.connect("postgres").await;
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap_or_else(|error| panic!("no database can be made: {error:?}"));
        Database { server: self, name }
    }

    /// The URL of a database of this name.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.path().to_string_lossy().replace('%', "%25");
        format!(
            "postgres://postgres@{}/{database}",
            host.replace('/', "%2F")
        )
    }

    /// A connection to a database of this name. It is served by the runtime of the caller.
    pub async fn connect(&self, database: &str) -> Client {
        connect(&self.url(database)).await
    }

    /// Ends all connections to a database, as seen by the server, and says how many there were.
    pub async fn cut(&self, database: &str) -> usize {
        let client = self.connect("postgres").await;
        let ended = client
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                &[&database],
            )
            .await;
        ended.expect("the server answers").len()
    }

    /// Where the server has its files: `data`, and what it logs as `log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Has a command carried out; where it fails, the error has the end of the log.
    fn tell(&self, command: &str) -> Result<(), String> {
        let mut supervisor = self
            .supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut answer = String::new();
        let told = match &mut supervisor.commands {
            Some(pipe) => writeln!(pipe, "{command}").and_then(|()| pipe.flush()),
            None => Ok(()),
        };
        told.and_then(|()| supervisor.answers.read_line(&mut answer))
            .map_err(|error| format!("PostgreSQL's shell is gone: {error}"))?;
        if answer.trim() == "0" {
            return Ok(());
        }
        let path = self.folder.path().join("log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(format!("PostgreSQL: `{command}` failed:\n{last}"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let supervisor = self
            .supervisor
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        drop(supervisor.commands.take());
        // The folder goes when the server has gone.
        let _ = supervisor.child.wait();
    }
}

/// A database of a test's own. It is dropped with this, and whoever is connected is cut off.
pub struct Database<'s> {
    server: &'s Postgres,
    name: String,
}

impl Database<'_> {
    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// A connection to it.
    pub async fn connect(&self) -> Client {
        self.server.connect(&self.name).await
    }

    /// Ends all connections to it, and says how many there were.
    pub async fn cut(&self) -> usize {
        self.server.cut(&self.name).await
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let url = self.server.url("postgres");
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // Of its own, for this may be dropped inside another runtime. A server that was stopped has
        // nothing to drop.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                    let serving = tokio::spawn(connection);
                    let _ = client.batch_execute(&drop).await;
                    serving.abort();
                }
            });
        });
        let _ = dropping.join();
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("no connection to {url}: {error:?}"));
    tokio::spawn(connection);
    client
}

/// The path of a program below a folder, if it is there.
fn program(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    path.is_file().then_some(path)
}
