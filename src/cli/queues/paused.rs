//! Queues, tenants and skills that are paused, where jobs wait for them.

use std::fmt;

use skillhost::grant::shell_word;
use skillhost::queue::{Filter, Job, JobStatus, Queue, ScopeKind};
use skillhost::text::printable;

use crate::cli::console::{Console, HINT, styled};
use crate::cli::explain;

/// A queue, tenant or skill that is paused.
#[derive(Debug)]
pub struct Paused {
    kind: ScopeKind,
    name: String,
}

impl Paused {
    /// What is paused of a job that waits.
    ///
    /// # Errors
    /// Where the queue cannot be read.
    pub async fn of_job(queue: &Queue, job: &Job) -> anyhow::Result<Vec<Self>> {
        if !job.status.is_waiting() {
            return Ok(Vec::new());
        }
        let mut paused = all(queue).await?;
        paused.retain(|paused| {
            let own = match paused.kind {
                ScopeKind::Queue => Some(job.queue.as_str()),
                ScopeKind::Tenant => job.tenant.as_deref(),
                ScopeKind::Skill => job.skill.as_deref(),
            };
            own == Some(&paused.name)
        });
        Ok(paused)
    }

    /// What is paused, and has jobs that wait in these queues; in all where none is named.
    ///
    /// # Errors
    /// Where the queue cannot be read.
    pub async fn with_jobs(queue: &Queue, queues: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut found = Vec::new();
        for paused in all(queue).await? {
            if paused.has_jobs(queue, queues).await? {
                found.push(paused);
            }
        }
        Ok(found)
    }

    async fn has_jobs(&self, queue: &Queue, queues: &[String]) -> anyhow::Result<bool> {
        let mut filter = Filter {
            status: vec![JobStatus::Pending, JobStatus::Failed],
            limit: Some(1),
            ..Filter::default()
        };
        let name = Some(self.name.clone());
        let queues: Vec<Option<&String>> = match self.kind {
            ScopeKind::Queue if queues.is_empty() || queues.contains(&self.name) => {
                vec![Some(&self.name)]
            }
            ScopeKind::Queue => return Ok(false),
            ScopeKind::Tenant | ScopeKind::Skill if queues.is_empty() => vec![None],
            ScopeKind::Tenant | ScopeKind::Skill => queues.iter().map(Some).collect(),
        };
        match self.kind {
            ScopeKind::Queue => {}
            ScopeKind::Tenant => filter.tenant = name,
            ScopeKind::Skill => filter.skill = name,
        }
        for name in queues {
            filter.queue = name.cloned();
            let jobs = queue.ids(&filter).await.map_err(explain::queue)?;
            if !jobs.items.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What lets its jobs start again.
    pub fn resume(&self) -> String {
        let flag = match self.kind {
            ScopeKind::Queue => "",
            ScopeKind::Tenant => "--tenant ",
            ScopeKind::Skill => "--skill ",
        };
        let name = printable(&self.name, false);
        format!("`skillhost queues resume {flag}{}`", shell_word(&name))
    }

    /// Says that jobs of it wait.
    pub fn warn(&self, console: Console) {
        let (hint, resume) = (styled(HINT, "hint"), self.resume());
        console.warn(format_args!(
            "{self}: what waits for it does not start\n  {hint}: {resume} lets it start"
        ));
    }
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = printable(&self.name, false);
        write!(f, "the {} `{name}` is paused", self.kind)
    }
}

async fn all(queue: &Queue) -> anyhow::Result<Vec<Paused>> {
    let mut all = Vec::new();
    for kind in [ScopeKind::Queue, ScopeKind::Tenant, ScopeKind::Skill] {
        let scopes = queue.scopes(kind).await.map_err(explain::queue)?;
        let paused = scopes.into_iter().filter(|scope| scope.paused);
        all.extend(paused.map(|scope| Paused {
            kind,
            name: scope.name,
        }));
    }
    Ok(all)
}
