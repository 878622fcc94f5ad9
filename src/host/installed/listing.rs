//! What is installed, and what each skill says of itself, without loading any.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{HOLD, Inner, InstalledSkills, lock};
use crate::execution::{HostError, SkillIdentity};
use crate::skill::{Description, Installed, LibraryError, Look, SkillRef};

/// A change within this time of a look may look the same as what was before it.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What is installed at one moment.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Every skill, by name and then by version, the newest first.
    pub skills: Vec<Arc<ListedSkill>>,
}

/// One installed skill, and what it says of itself.
#[derive(Debug)]
pub struct ListedSkill {
    /// Its name, version and digest.
    pub identity: SkillIdentity,
    /// Its record in the library.
    pub installed: Installed,
    /// What it says of itself.
    pub description: Arc<Description>,
}

impl Listing {
    /// The skill that a reference means: of a bare name, the highest version.
    pub fn find(&self, reference: &SkillRef) -> Option<&Arc<ListedSkill>> {
        self.skills.iter().find(|skill| match reference {
            SkillRef::Digest(digest) => skill.identity.digest == *digest,
            SkillRef::Name { name, version } => {
                skill.identity.name == *name
                    && version
                        .as_ref()
                        .is_none_or(|version| skill.identity.version == *version)
            }
        })
    }

    /// What bare names mean: of each skill, the highest version.
    pub fn newest(&self) -> impl Iterator<Item = &Arc<ListedSkill>> {
        let mut last: Option<&str> = None;
        self.skills.iter().filter(move |skill| {
            let first = last != Some(&skill.identity.name);
            last = Some(&skill.identity.name);
            first
        })
    }

    fn is_same(&self, other: &Listing) -> bool {
        let identities = |listing: &Listing| -> Vec<SkillIdentity> {
            let skills = listing.skills.iter();
            skills.map(|skill| skill.identity.clone()).collect()
        };
        identities(self) == identities(other)
    }
}

/// The listing that holds, and who wants to hear of another.
#[derive(Default)]
pub(super) struct Listings {
    latest: ArcSwapOption<Listing>,
    seen: Mutex<Option<Seen>>,
    /// One at a time makes a new one.
    making: tokio::sync::Mutex<()>,
    subscribers: Mutex<Option<watch::Sender<Arc<Listing>>>>,
}

/// When the library was last looked at, and what it looked like.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    look: Option<Look>,
    /// Whether a change after the look would look otherwise.
    settled: bool,
}

impl Listings {
    /// The last one that was made.
    pub fn latest(&self) -> Option<Arc<Listing>> {
        self.latest.load_full()
    }

    fn send(&self, listing: &Arc<Listing>) {
        if let Some(sender) = &*lock(&self.subscribers) {
            sender.send_replace(Arc::clone(listing));
        }
    }
}

impl InstalledSkills {
    /// What is installed, as of at most a second ago. No component is read, compiled or run, but
    /// those of skills whose description was not kept when they were installed.
    ///
    /// # Errors
    /// Where the library cannot be read. A skill that cannot be described is passed over, with a
    /// warning.
    pub async fn list(&self) -> Result<Arc<Listing>, LibraryError> {
        match self.known_listing() {
            Some(listing) => Ok(listing),
            None => self.refresh().await,
        }
    }

    /// The last listing, where that holds still.
    pub(super) fn known_listing(&self) -> Option<Arc<Listing>> {
        let listings = &self.inner.listings;
        let seen = *lock(&listings.seen);
        if seen.is_some_and(|seen| seen.at.elapsed() < HOLD) {
            return listings.latest();
        }
        None
    }

    /// What is installed now. Where the library's folder looks as it did, it is not read again.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn refresh(&self) -> Result<Arc<Listing>, LibraryError> {
        let listings = &self.inner.listings;
        let _alone = listings.making.lock().await;
        let look = self.inner.library.look();
        let before = listings.latest();
        let seen = *lock(&listings.seen);
        if let (Some(before), Some(seen)) = (&before, seen)
            && seen.settled
            && seen.look == look
        {
            let now = Seen {
                at: Instant::now(),
                ..seen
            };
            *lock(&listings.seen) = Some(now);
            return Ok(Arc::clone(before));
        }
        let settled = look.is_none_or(|look| {
            SystemTime::now()
                .duration_since(look.changed)
                .is_ok_and(|age| age > UNSETTLED)
        });
        let made = self.make(before.as_deref()).await?;
        let seen = Seen {
            at: Instant::now(),
            look,
            // No folder looks like any other that is not there.
            settled: settled && look.is_some(),
        };
        *lock(&listings.seen) = Some(seen);
        if let Some(before) = before {
            if before.is_same(&made) {
                return Ok(before);
            }
            self.forget_what_is_gone(&before, &made);
        }
        let made = Arc::new(made);
        listings.latest.store(Some(Arc::clone(&made)));
        listings.send(&made);
        Ok(made)
    }

    /// Reads the library.
    async fn make(&self, before: Option<&Listing>) -> Result<Listing, LibraryError> {
        let inner = Arc::clone(&self.inner);
        let known: Vec<Arc<ListedSkill>> = before
            .map(|before| before.skills.clone())
            .unwrap_or_default();
        let read = tokio::task::spawn_blocking(move || inner.read(&known)).await;
        let read = read.map_err(|error| LibraryError::Io {
            what: "cannot read",
            path: "the library".into(),
            source: std::io::Error::other(error),
        })??;
        let mut skills = Vec::with_capacity(read.len());
        for one in read {
            match one {
                Read::Known(skill) => skills.push(skill),
                Read::Undescribed(installed) => match self.described(installed).await {
                    Ok(skill) => skills.push(skill),
                    Err((name, why)) => {
                        tracing::warn!("the installed skill `{name}` is passed over: {why}");
                    }
                },
            }
        }
        Ok(Listing { skills })
    }

    /// Asks an installed skill what it is.
    async fn described(&self, installed: Installed) -> Result<Arc<ListedSkill>, (String, String)> {
        let name = format!("{}@{}", installed.name, installed.version);
        let reference = installed.digest.into();
        let inner = Arc::clone(&self.inner);
        let package = tokio::task::spawn_blocking(move || {
            let most = inner.host.inner.loader.settings.max_component_bytes;
            let package = inner.library.read(&reference, most)?;
            // It is loaded by this, and so not read again before it runs.
            inner.keep(&package);
            Ok::<_, LibraryError>(package)
        });
        let why = |error: &dyn std::fmt::Display| (name.clone(), error.to_string());
        let package = package
            .await
            .map_err(|error| why(&HostError::Internal(error.to_string())))?
            .map_err(|error| why(&error))?;
        let skill = self.inner.host.load_package(package).await;
        let skill = skill.map_err(|error| why(&error))?;
        Ok(ListedSkill::new(
            installed,
            Arc::clone(&skill.inner.known.description),
        ))
    }

    /// Unloads what is no longer installed. Executions in flight go on, and what is kept for jobs can
    /// be loaded again.
    fn forget_what_is_gone(&self, before: &Listing, now: &Listing) {
        for skill in &before.skills {
            let digest = skill.identity.digest;
            let stays = lock(&self.inner.added).contains(&digest);
            if !stays && now.find(&digest.into()).is_none() {
                self.inner.host.unload(&digest);
            }
        }
    }

    /// Tells of each change of what is installed, beginning with what is installed now. A change by
    /// another process is told within a second or two.
    ///
    /// The library's folder is looked at each second for as long as somebody listens, by a task of
    /// this runtime.
    ///
    /// # Errors
    /// Where the library cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn subscribe(&self) -> Result<watch::Receiver<Arc<Listing>>, LibraryError> {
        let listing = self.list().await?;
        let mut subscribers = lock(&self.inner.listings.subscribers);
        if let Some(sender) = &*subscribers {
            return Ok(sender.subscribe());
        }
        let (sender, receiver) = watch::channel(listing);
        *subscribers = Some(sender);
        tokio::spawn(follow(Arc::downgrade(&self.inner)));
        Ok(receiver)
    }
}

/// Looks at the library each second, until nobody listens any more.
async fn follow(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(HOLD).await;
        let Some(inner) = inner.upgrade() else { return };
        {
            let mut subscribers = lock(&inner.listings.subscribers);
            if subscribers
                .as_ref()
                .is_none_or(|sender| sender.receiver_count() == 0)
            {
                // The next to listen starts another task.
                *subscribers = None;
                return;
            }
        }
        let skills = InstalledSkills { inner };
        if let Err(error) = skills.refresh().await {
            tracing::warn!("{error}");
        }
    }
}

/// One skill, as read from the library.
enum Read {
    Known(Arc<ListedSkill>),
    /// What it says of itself was not kept.
    Undescribed(Installed),
}

impl ListedSkill {
    fn new(installed: Installed, description: Arc<Description>) -> Arc<Self> {
        Arc::new(ListedSkill {
            identity: SkillIdentity {
                name: installed.name.clone(),
                version: installed.version.clone(),
                digest: installed.digest,
            },
            installed,
            description,
        })
    }
}

impl Inner {
    /// Every installed skill, but what is known already is not read again.
    fn read(&self, known: &[Arc<ListedSkill>]) -> Result<Vec<Read>, LibraryError> {
        let one = |installed: Installed| {
            let before = known.iter().find(|skill| skill.installed == installed);
            if let Some(before) = before {
                return Read::Known(Arc::clone(before));
            }
            match self.library.description(&installed) {
                Ok(Some(description)) => {
                    Read::Known(ListedSkill::new(installed, Arc::new(description)))
                }
                Ok(None) => Read::Undescribed(installed),
                Err(error) => {
                    tracing::warn!("{error}");
                    Read::Undescribed(installed)
                }
            }
        };
        Ok(self.library.list()?.into_iter().map(one).collect())
    }
}
