//! Writing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::chain::digest;
use super::folder::{AuditError, Folder};
use super::head::Lost;
use super::line::{self, Line};
use super::writing::Chain;
use super::{AuditSink, Entry};

/// How soon a line is in its file for good, while many come.
const SOON: Duration = Duration::from_millis(100);

/// How an audit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditSettings {
    /// A file that has so many bytes is followed by the next. 64 MiB unless set.
    pub max_file_bytes: u64,
    /// Files whose last entry is older are removed, the one that is written aside. 90 days unless
    /// set.
    pub keep: Duration,
}

impl Default for AuditSettings {
    fn default() -> Self {
        AuditSettings {
            max_file_bytes: 64 << 20,
            keep: Duration::from_secs(90 * 86_400),
        }
    }
}

/// An audit in a folder. Many processes may keep one in the same folder: each writes a chain of its
/// own, and takes over one that nobody writes.
///
/// An entry is written before [`record`](AuditSink::record) returns, and not synced: it survives the
/// death of the process, and not that of the machine. While many come, the newest stand in a file of their
/// own, the *tail*, for up to 100 ms; [`read`](super::read()) and [`verify`](super::verify()) know of it.
///
/// ```no_run
/// use skillhost::audit::{Audit, AuditSettings, AuditSink, Entry, Secret, What, Who};
///
/// let audit = Audit::open("audit", AuditSettings::default())?;
/// let what = What::Secret(Secret { name: "api-key", host: "api.example.com", skill: None });
/// audit.record(&Entry { who: Who::default(), what })?;
/// let verification = skillhost::audit::verify("audit")?;
/// assert!(verification.is_sound());
/// # Ok::<(), skillhost::audit::AuditError>(())
/// ```
pub struct Audit {
    shared: Arc<Shared>,
    /// Who empties the tail, once there has been one.
    emptier: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    folder: Folder,
    settings: AuditSettings,
    process: u32,
    chain: Mutex<Chain>,
    /// Whether the last entry could not be written.
    failing: AtomicBool,
    closing: AtomicBool,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("folder", &self.shared.folder.path())
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl Audit {
    /// Whether an audit could be kept in this folder, as far as that shows without keeping one: it is this user's alone,
    /// or could be made.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(folder: impl AsRef<Path>) -> Result<(), AuditError> {
        Folder::check(folder.as_ref())
    }

    /// Opens an audit in a folder, and makes that where it is not there.
    ///
    /// # Errors
    /// Where the folder is not this user's alone (mode 0700), or cannot be written.
    pub fn open(folder: impl AsRef<Path>, settings: AuditSettings) -> Result<Audit, AuditError> {
        crate::file_size::have_writes_fail();
        let folder = Folder::make(folder.as_ref())?;
        let process = std::process::id();
        let mut chain = Chain::take(&folder, process)?;
        chain.forget(&folder, settings.keep);
        let shared = Shared {
            folder,
            settings,
            process,
            chain: Mutex::new(chain),
            failing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        };
        Ok(Audit {
            shared: Arc::new(shared),
            emptier: Mutex::default(),
        })
    }

    /// Has the audit tell of entries that could not be written, such as before it could be opened: the next one says so.
    pub fn lost(&self, entries: u64, since: DateTime<Utc>) {
        let lost = Lost {
            entries,
            since: since.timestamp_micros(),
        };
        self.shared.lock().lose(&self.shared.folder, lost);
    }

    /// The same, for an audit that cannot be opened now. False where there is none that could tell of it, such as one
    /// that was never written.
    pub fn lost_in(folder: impl AsRef<Path>, entries: u64, since: DateTime<Utc>) -> bool {
        let lost = Lost {
            entries,
            since: since.timestamp_micros(),
        };
        Folder::at(folder.as_ref()).is_ok_and(|folder| Chain::lose_aside(&folder, lost))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.shared.folder.path()
    }

    fn write(&self, body: &[u8], digest: &[u8; 32], now: i64) -> Result<(), AuditError> {
        let (written, rouse) = self.shared.write(body, digest, now);
        if rouse {
            self.rouse();
        }
        written
    }

    /// Has the tail emptied soon.
    fn rouse(&self) {
        let mut emptier = self.emptier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(emptier) = &*emptier {
            emptier.thread().unpark();
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        match thread.spawn(move || empty(&shared)) {
            Ok(thread) => *emptier = Some(thread),
            // Then everybody writes to the file.
            Err(_) => self.shared.lock().do_without_tail(&self.shared.folder),
        }
    }
}

/// Empties the tail every so often, and rests while there is none.
fn empty(shared: &Weak<Shared>) {
    let mut rests = false;
    loop {
        match rests {
            true => std::thread::park(),
            false => std::thread::park_timeout(SOON),
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        rests = shared.empty();
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        let emptier = self
            .emptier
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(emptier) = emptier.take() {
            emptier.thread().unpark();
            let _ = emptier.join();
        }
        let shared = &self.shared;
        shared.lock().close(&shared.folder, shared.process);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line, behind what is to be said of those that could not be written; and whether somebody is to empty the
    /// tail.
    fn write(&self, body: &[u8], digest: &[u8; 32], now: i64) -> (Result<(), AuditError>, bool) {
        let mut chain = self.lock();
        let mut lost = Lost::default();
        let resumed = match chain.head.lost.entries {
            0 => Ok(()),
            _ => chain
                .resumed(&self.folder, self.process)
                .map(|told| lost = told),
        };
        let written =
            resumed.and_then(|()| chain.add(&self.folder, self.process, body, digest, now));
        if written.is_err() {
            chain.lose(&self.folder, Lost::one(now));
        }
        if written.is_ok() && chain.bytes() >= self.settings.max_file_bytes {
            // What was written stays written: the next entry tries again.
            if let Err(error) = chain.rotate(&self.folder, self.process, None) {
                tracing::warn!(%error, "the next file of the audit cannot be begun yet");
            } else {
                chain.forget(&self.folder, self.settings.keep);
            }
        }
        let rouse = chain.rouses();
        drop(chain);
        self.tell(written.as_ref().err());
        self.tell_lost(&lost);
        (written, rouse)
    }

    /// Says that entries can be written again, where one could not be.
    fn resume(&self) -> Result<(), AuditError> {
        let resumed = self.lock().resumed(&self.folder, self.process);
        self.tell(resumed.as_ref().err());
        self.tell_lost(&resumed?);
        Ok(())
    }

    fn tell_lost(&self, lost: &Lost) {
        if lost.entries > 0 {
            let (entries, since) = (lost.entries, lost.since());
            tracing::warn!(
                entries,
                since,
                "entries of the audit could not be written, and are lost"
            );
        }
    }

    /// Puts what stands in the tail into its file; whether nothing did.
    fn empty(&self) -> bool {
        let mut chain = self.lock();
        if chain.rests() {
            return true;
        }
        if let Err(error) = chain.empty(&self.folder) {
            // It stays where it is. The next entry tries again, and is not written where that fails.
            drop(chain);
            self.tell(Some(&error));
        }
        false
    }

    fn tell(&self, error: Option<&AuditError>) {
        let failing = error.is_some();
        // Looked at first, as it seldom changes.
        if self.failing.load(Ordering::Relaxed) != failing
            && self.failing.swap(failing, Ordering::Relaxed) != failing
        {
            match error {
                Some(error) => tracing::error!(%error, "the audit cannot be written"),
                None => tracing::info!("the audit can be written again"),
            }
        }
    }
}

impl AuditSink for Audit {
    fn record(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        line::with(|line| {
            let now = self.begin(line);
            entry.write(line);
            self.write(line.bytes(), &digest(line.bytes()), now)
        })
    }

    fn ready(&self) -> Result<(), AuditError> {
        if !self.shared.failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        // An entry of its own shows whether it works again, and when it did.
        self.shared.resume()
    }
}

impl Audit {
    /// Begins a line, and says when, in microseconds.
    fn begin(&self, line: &mut Line) -> i64 {
        let now = Utc::now();
        line.begin(now);
        line.count("process", u64::from(self.shared.process));
        now.timestamp_micros()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, SealFlags};

    use super::super::folder::read_head;
    use super::super::head::Head;
    use super::super::writing::{MAX_BODY, segment};
    use super::super::{FindingKind, What, Who, verify};
    use super::*;

    #[test]
    fn a_file_whose_first_line_could_not_be_written_gets_it_later() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("audit");
        let audit = Audit::open(&path, AuditSettings::default()).unwrap();
        {
            // As a rotation leaves it that came as far as the new file.
            let mut chain = audit.shared.lock();
            let next = Head {
                segment: 2,
                bytes: 0,
                ..chain.head
            };
            chain.file = segment(&audit.shared.folder, 1, &next).unwrap();
            chain.head = next;
            chain.write_head(&audit.shared.folder).unwrap();
            chain.opening = Some(None);
        }
        assert!(verify(&path).unwrap().is_sound());
        let what = What::Breaker {
            of: "x",
            from: "closed",
            to: "open",
        };
        let who = Who::default();
        audit.record(&Entry { who, what }).unwrap();
        let verification = verify(&path).unwrap();
        assert!(verification.is_sound(), "{:?}", verification.findings);
        assert_eq!(verification.entries(), 3);
    }

    #[test]
    fn a_line_that_would_not_be_read_back_is_not_written() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("audit");
        let audit = Audit::open(&path, AuditSettings::default()).unwrap();
        let body = vec![b'x'; MAX_BODY + 1];
        let error = audit.write(&body, &digest(&body), 0).unwrap_err();
        assert!(matches!(error, AuditError::TooLong { .. }), "{error}");
        assert_eq!(verify(&path).unwrap().entries(), 1);
    }

    /// Also where another process is the next to write it.
    #[test]
    fn what_could_not_be_written_is_told_of() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("audit");
        let settings = AuditSettings::default();
        let audit = Audit::open(&path, settings).unwrap();
        let breaker = |audit: &Audit| {
            let (of, from, to) = ("x", "closed", "open");
            let what = What::Breaker { of, from, to };
            let who = Who::default();
            audit.record(&Entry { who, what })
        };
        let told = || {
            let verification = verify(&path).unwrap();
            assert!(verification.is_sound(), "{:?}", verification.findings);
            let told: Vec<_> = verification.findings.into_iter().collect();
            assert!(told.iter().all(|finding| finding.kind == FindingKind::Lost));
            let told = told.into_iter().map(|finding| finding.to_string());
            (verification.chains[0].kept, told.collect::<Vec<_>>())
        };
        breaker(&audit).unwrap();
        assert_eq!(told(), (2, Vec::new()));
        let fail = |audit: &Audit| {
            let file = std::fs::File::open(path.join("0001-000001.jsonl")).unwrap();
            std::mem::replace(&mut audit.shared.lock().file, file)
        };
        let file = fail(&audit);
        for _ in 0..3 {
            breaker(&audit).unwrap_err();
        }
        // Nobody has written it yet.
        let (kept, findings) = told();
        assert_eq!((kept, findings.len()), (2, 1));
        assert!(findings[0].starts_with("0001.head: 3 entries could not be written, from 20"));
        audit.shared.lock().file = file;
        breaker(&audit).unwrap();
        let (kept, findings) = told();
        assert_eq!((kept, findings.len()), (4, 1));
        assert!(
            findings[0].starts_with("0001-000001.jsonl, line 3: 3 entries"),
            "{findings:?}"
        );
        // A process that ends before it can write again leaves it to the next.
        fail(&audit);
        breaker(&audit).unwrap_err();
        drop(audit);
        assert_eq!(told().1.len(), 2);
        drop(Audit::open(&path, settings).unwrap());
        let (kept, findings) = told();
        assert_eq!((kept, findings.len()), (5, 1));
        assert!(
            findings[0].contains("line 3: 4 entries could not be written, at 2 places"),
            "{findings:?}"
        );
        // One that could not be opened has it told by the next.
        assert!(Audit::lost_in(&path, 5, Utc::now()));
        assert!(!Audit::lost_in(outer.path(), 5, Utc::now()));
        assert_eq!(told().1.len(), 2);
        let audit = Audit::open(&path, settings).unwrap();
        audit.lost(1, Utc::now());
        drop(audit);
        let (kept, findings) = told();
        assert_eq!((kept, findings.len()), (7, 1));
        assert!(
            findings[0].contains("10 entries could not be written, at 4 places"),
            "{findings:?}"
        );
    }

    /// Also where there is room for what stands in the tail, and none for the line that tells of it.
    #[test]
    fn who_takes_it_over_forgets_nothing_of_what_is_lost() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("audit");
        let audit = Audit::open(&path, AuditSettings::default()).unwrap();
        audit.lost(3, Utc::now());
        let mut chain = audit.shared.lock();
        chain.resting = false;
        chain.waiting = vec![b'x'; 100];
        let file = rustix::fs::memfd_create("audit", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&file, 100).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        chain.file = file.into();
        let (folder, process) = (&audit.shared.folder, audit.shared.process);
        chain.opened(folder, process, None).unwrap_err();
        assert!(chain.waiting.is_empty());
        let kept = read_head(&chain.head_file, &path).unwrap().unwrap();
        assert_eq!((chain.head.lost.entries, kept.lost.entries), (3, 3));
        drop(chain);
    }

    #[test]
    fn what_cannot_be_put_into_its_file_stays_in_the_tail_until_it_can() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("audit");
        let audit = Audit::open(&path, AuditSettings::default()).unwrap();
        let breaker = |of| {
            let (from, to) = ("closed", "open");
            let what = What::Breaker { of, from, to };
            let who = Who::default();
            audit.record(&Entry { who, what })
        };
        let read_only = |chain: &mut Chain| {
            let file = std::fs::File::open(path.join("0001-000001.jsonl")).unwrap();
            std::mem::replace(&mut chain.file, file)
        };
        // By hand, so that nobody empties the tail.
        audit.shared.lock().resting = false;
        for _ in 0..200 {
            breaker("x").unwrap();
        }
        let file = read_only(&mut audit.shared.lock());
        assert!(!audit.shared.lock().waiting.is_empty());
        assert!(!audit.shared.empty());
        assert!(verify(&path).unwrap().is_sound());
        // It is known before anything runs, and what comes is not taken.
        assert!(audit.ready().is_err());
        assert!(breaker("y").is_err());
        assert_eq!(verify(&path).unwrap().entries(), 201);
        audit.shared.lock().file = file;
        audit.ready().unwrap();
        let lost = verify(&path).unwrap().findings;
        assert!(
            lost[0].message.contains("1 entry could not be written"),
            "{lost:?}"
        );
        breaker("z").unwrap();
        drop(audit);
        let verification = verify(&path).unwrap();
        assert!(verification.is_sound(), "{:?}", verification.findings);
        assert_eq!(verification.entries(), 203);
    }
}
