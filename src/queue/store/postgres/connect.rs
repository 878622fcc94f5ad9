//! The way to a server: what a URL says, TLS, and what each connection begins with.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Connect;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::Result;
use super::failure::describe;
use crate::egress::{DatabaseTrust, database_tls};
use crate::queue::error::QueueError;

/// The schema that the tables stand in, unless the URL says otherwise.
const SCHEMA: &str = "skillhost";
/// How long to wait for a connection, unless the URL says otherwise.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a silent connection is trusted, and how long what was sent may go unacknowledged.
const SILENT: Duration = Duration::from_secs(30);

/// What a URL says.
#[derive(Clone)]
pub(super) struct Target {
    pub config: Config,
    /// The schema: a plain name.
    pub schema: String,
    verify: bool,
    roots: Option<PathBuf>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.name()).finish()
    }
}

impl Target {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`. Beside the driver's own parameters:
    /// `schema`, `sslmode` (`disable`, `prefer`, `require`, `verify-full`) and `sslrootcert`, a file
    /// that `verify-full` trusts.
    ///
    /// # Errors
    /// `Unavailable`, in a sentence without the URL: it may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let (start, query) = url.split_once('?').unwrap_or((url, ""));
        let mut passed = Vec::new();
        let (mut schema, mut roots, mut mode) = (None, None, SslMode::Prefer);
        let mut verify = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A `+` is a plus here, as PostgreSQL's own URLs have it.
            let value = || {
                let plus = value.replace('+', "%2B");
                url::form_urlencoded::parse(format!("v={plus}").as_bytes())
                    .next()
                    .map(|(_, value)| value.into_owned())
                    .unwrap_or_default()
            };
            match name {
                "schema" => schema = Some(value()),
                "sslrootcert" => roots = Some(PathBuf::from(value())),
                "sslmode" => {
                    (mode, verify) = match value().as_str() {
                        "disable" => (SslMode::Disable, false),
                        "prefer" => (SslMode::Prefer, false),
                        "require" => (SslMode::Require, false),
                        "verify-full" => (SslMode::Require, true),
                        other => {
                            return Err(wrong(&format!(
                                "`sslmode` is `{}`; it can be disable, prefer, require or verify-full",
                                crate::text::shortened(&crate::text::printable(other, false), 40)
                            )));
                        }
                    }
                }
                "options" => {
                    schema = schema.or_else(|| search_path(&value()));
                    passed.push(pair);
                }
                _ => passed.push(pair),
            }
        }
        if roots.is_some() && !verify {
            return Err(wrong(
                "`sslrootcert` is of use with `sslmode=verify-full` only",
            ));
        }
        let mut config = Config::from_str(&format!("{start}?{}", passed.join("&")))
            .map_err(|error| wrong(&describe(&error)))?;
        config.ssl_mode(mode);
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        if config.get_application_name().is_none() {
            config.application_name("skillhost");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENT);
        }
        config.keepalives_idle(SILENT.min(config.get_keepalives_idle()));
        let schema = schema.unwrap_or_else(|| SCHEMA.to_owned());
        let plain = (1..=60).contains(&schema.len())
            && schema
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !schema.starts_with("pg_");
        if !plain {
            return Err(wrong("the schema is not 1 to 60 of a-z, A-Z, 0-9 and _"));
        }
        Ok(Target {
            config,
            schema,
            verify,
            roots,
        })
    }

    /// What is said of it: never the password.
    pub fn name(&self) -> String {
        use tokio_postgres::config::Host;
        // One port for each, or one for all, or none.
        let ports = self.config.get_ports();
        let port = |at: usize| match ports.get(at).or(ports.first()) {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let hosts = self.config.get_hosts().iter().enumerate();
        let hosts: Vec<String> = hosts
            .map(|(at, host)| match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]{}", port(at)),
                Host::Tcp(name) => format!("{name}{}", port(at)),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}{}", path.display(), port(at)),
            })
            .collect();
        let name = format!(
            "postgres://{}/{} (schema {})",
            hosts.join(","),
            self.config.get_dbname().unwrap_or_default(),
            self.schema
        );
        crate::text::printable(&name, false).into_owned()
    }

    /// The number of a lock in the database that is this schema's.
    pub fn lock(&self, what: &str) -> i64 {
        let mut hash = Sha256::new();
        for part in ["skillhost queue", &self.schema, what] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let hash: [u8; 32] = hash.finalize().into();
        i64::from_be_bytes([
            hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
        ])
    }
}

/// Where `options` set the schemas that names are looked up in: the first of them.
fn search_path(options: &str) -> Option<String> {
    let (_, path) = options.split_once("search_path=")?;
    let first = path.split([',', ' ']).next()?;
    Some(first.trim_matches('"').to_owned())
}

fn wrong(what: &str) -> QueueError {
    QueueError::Unavailable(format!("the URL of the database cannot be used: {what}"))
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
    Listen,
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    pub target: Arc<Target>,
    tls: MakeRustlsConnect,
}

/// A connection, and what has to be polled for it to go on.
type Opened = (
    Client,
    Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>,
);

impl Connector {
    /// Reads the certificates that are trusted.
    pub async fn new(target: Target) -> Result<Self> {
        let target = Arc::new(target);
        let asked = target.clone();
        let tls = tokio::task::spawn_blocking(move || {
            database_tls(if asked.verify {
                DatabaseTrust::Verified(asked.roots.as_deref())
            } else {
                DatabaseTrust::Anybody
            })
        })
        .await
        .map_err(|error| QueueError::Internal(format!("reading certificates failed: {error}")))?
        .map_err(QueueError::Unavailable)?;
        Ok(Connector { target, tls })
    }

    /// Connects. Nothing happens on it unless both are polled.
    pub async fn open(&self) -> std::result::Result<Opened, Error> {
        self.target.config.connect(self.tls.clone()).await
    }

    /// Connects, and makes the connection ready.
    pub async fn connect(
        &self,
        purpose: Purpose,
    ) -> std::result::Result<(Client, JoinHandle<()>), Error> {
        let (client, connection) = self.open().await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = describe(&error), "a connection to the queue ended");
            }
        });
        client.batch_execute(&self.greeting(purpose)).await?;
        Ok((client, task))
    }

    /// What each connection begins with.
    pub fn greeting(&self, purpose: Purpose) -> String {
        let mut greeting = format!(
            "SET search_path TO \"{}\"; SET timezone TO 'UTC'; SET jit TO off;",
            self.target.schema
        );
        match purpose {
            // Every statement finds rows by keys that it is given. Plans that read whole tables are
            // ruled out: the statistics of tables that fill and empty within seconds say nothing.
            // What was acknowledged is on the disk. A process that stopped in the middle does not
            // hold up the others.
            Purpose::Write => greeting.push_str(
                "SET default_transaction_isolation TO 'read committed';
                 SET enable_seqscan TO off; SET enable_bitmapscan TO off;
                 SET enable_hashjoin TO off; SET enable_mergejoin TO off;
                 SET plan_cache_mode TO force_generic_plan;
                 SET statement_timeout TO '60s';
                 SET idle_in_transaction_session_timeout TO '15s';
                 SELECT set_config('synchronous_commit', 'on', false)
                     WHERE current_setting('synchronous_commit') IN ('off', 'local');",
            ),
            Purpose::Read => greeting.push_str("SET statement_timeout TO '60s';"),
            Purpose::Listen => greeting.push_str("SET synchronous_commit TO off;"),
        }
        greeting
    }
}

/// For the pool of those who read.
impl Connect for Connector {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<
        Box<dyn Future<Output = std::result::Result<(Client, JoinHandle<()>), Error>> + Send + '_>,
    > {
        Box::pin(Connector::connect(self, Purpose::Read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how() {
        let target = Target::parse(
            "postgres://me:s3cret@db.example:5433/jobs?sslmode=verify-full&schema=mine&connect_timeout=3",
        )
        .unwrap();
        assert_eq!(target.schema, "mine");
        assert!(target.verify);
        assert_eq!(target.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(target.config.get_ports(), [5433]);
        assert_eq!(
            target.config.get_connect_timeout(),
            Some(&Duration::from_secs(3))
        );
        assert_eq!(
            target.name(),
            "postgres://db.example:5433/jobs (schema mine)"
        );
        let several = Target::parse("postgres://me@[::1]:5433,db.example:5434/jobs").unwrap();
        assert_eq!(
            several.name(),
            "postgres://[::1]:5433,db.example:5434/jobs (schema skillhost)"
        );
        assert!(!format!("{target:?}").contains("s3cret"));
        let plain = Target::parse("postgresql:///jobs").unwrap();
        assert_eq!(plain.schema, SCHEMA);
        assert_eq!(plain.config.get_ssl_mode(), SslMode::Prefer);
        assert_ne!(plain.lock("serial"), target.lock("serial"));
        assert_ne!(plain.lock("serial"), plain.lock("migrate"));
    }

    #[test]
    fn the_schema_may_stand_in_the_options() {
        let target =
            Target::parse("postgres://db/jobs?options=-csearch_path%3Dother%20-cjit%3Doff")
                .unwrap();
        assert_eq!(target.schema, "other");
        assert_eq!(
            target.config.get_options(),
            Some("-csearch_path=other -cjit=off")
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_the_password() {
        for (url, says) in [
            (
                "postgres://me:s3cret@db/jobs?sslmode=verify-ca",
                "verify-full",
            ),
            ("postgres://me:s3cret@db/jobs?sslrootcert=/x", "verify-full"),
            ("postgres://me:s3cret@db/jobs?schema=a%22b", "schema"),
            ("postgres://me:s3cret@db/jobs?schema=pg_x", "schema"),
            ("postgres://me:s3cret@db:x/jobs", "port"),
            ("postgres://me:s3cret@db/jobs?what=1", "what"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
