//! Loaded skills, and the register of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Host;
use crate::execution::{Cause, Failure, SkillIdentity};
use crate::grant::Asker;
use crate::limits::LimitOverrides;
use crate::policy::Wants;
use crate::sandbox::{Component, Surface};
use crate::skill::{Description, Digest, Manifest, SkillRef, Tool, ToolSchemas};
use crate::text::closest;
use crate::usage::Unreported;

/// A loaded skill. Cheap to clone.
#[derive(Clone)]
pub struct Skill {
    pub(super) inner: Arc<Loaded>,
}

pub(super) struct Loaded {
    pub known: Known,
    pub component: Arc<Component>,
    pub component_bytes: u64,
    /// What loading took.
    pub unreported: Arc<Unreported>,
}

/// What requests are admitted by. It is known of a skill that is not loaded, too, where its description was
/// kept.
pub(super) struct Known {
    pub identity: Arc<SkillIdentity>,
    pub description: Arc<Description>,
    pub schemas: Vec<ToolSchemas>,
    pub manifest: Option<Manifest>,
    /// What its refusals are made with.
    pub asker: Arc<Asker>,
    /// The limits that its manifest wishes for, where it does.
    pub wished: Option<Arc<LimitOverrides>>,
    /// [What counts](LimitOverrides::of_a_skill) of that.
    pub counts: Option<Box<LimitOverrides>>,
}

impl Skill {
    /// Its name, version and digest.
    pub fn identity(&self) -> &SkillIdentity {
        &self.inner.known.identity
    }

    /// Its digest, which stands for exactly this component and manifest.
    pub fn digest(&self) -> Digest {
        self.inner.known.identity.digest
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.inner.known.description
    }

    /// What its `skill.toml` declares, where it has one.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.inner.known.manifest.as_ref()
    }

    /// What it wants, as far as consent to it goes.
    pub fn wants(&self) -> Wants {
        Wants::new(self.manifest(), self.description())
    }

    /// What it imports and exports.
    pub fn surface(&self) -> &Surface {
        &self.inner.component.surface
    }

    /// The size of its component in bytes.
    pub fn component_bytes(&self) -> u64 {
        self.inner.component_bytes
    }

    /// What loading took, where no [result](crate::ResourceUsage::compile_time) has said so. After this it
    /// counts as said.
    pub fn unreported_compile_time(&self) -> Duration {
        self.inner.unreported.take()
    }
}

impl Known {
    /// Puts it together. The schemas are the description's.
    pub fn new(
        host: &Host,
        digest: Digest,
        description: Description,
        schemas: Vec<ToolSchemas>,
        manifest: Option<Manifest>,
    ) -> Self {
        let wished = manifest
            .as_ref()
            .map(|manifest| manifest.limits)
            .filter(|wished| !wished.is_empty());
        let declared = manifest.as_ref().map(|manifest| &manifest.grants);
        let for_operator = host.inner.runner.for_operator();
        Known {
            asker: Arc::new(Asker::new(&description.name, declared, for_operator)),
            identity: Arc::new(SkillIdentity {
                name: description.name.clone(),
                version: description.version.clone(),
                digest,
            }),
            description: Arc::new(description),
            schemas,
            counts: wished.map(|all| Box::new(all.of_a_skill(&host.inner.default_limits))),
            wished: wished.map(Arc::new),
            manifest,
        }
    }

    /// The tool of this name; of no name, the only one.
    ///
    /// # Errors
    /// A failure with the names that there are, and the one that was probably meant.
    pub(super) fn tool(&self, name: Option<&str>) -> Result<(&Tool, &ToolSchemas), Failure> {
        let index = self.tool_index(name)?;
        Ok((&self.description.tools[index], &self.schemas[index]))
    }

    /// Where that tool stands among the skill's.
    pub(super) fn tool_index(&self, name: Option<&str>) -> Result<usize, Failure> {
        let tools = &self.description.tools;
        let found = match (name, tools.as_slice()) {
            (None, [_]) => Some(0),
            (Some(name), _) => tools.iter().position(|tool| tool.name == name),
            (None, _) => None,
        };
        if let Some(index) = found {
            return Ok(index);
        }
        let available: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
        let skill = &self.identity.name;
        let list = available.join("`, `");
        let (message, hint) = match name {
            None => (
                format!("`{skill}` has several tools, and none was named"),
                None,
            ),
            Some(name) => (
                format!("`{skill}` has no tool `{}`", crate::text::named(name, 100)),
                closest(name, tools.iter().map(|tool| tool.name.as_str())),
            ),
        };
        let hint = match hint {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("its tools are: `{list}`"),
        };
        Err(Failure::new(Cause::UnknownTool { available }, message).hint(hint))
    }
}

impl fmt::Debug for Skill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SkillIdentity {
            name,
            version,
            digest,
        } = self.identity();
        write!(f, "Skill({name}@{version}, {digest})")
    }
}

/// The skills that are loaded.
#[derive(Clone, Default)]
pub(super) struct Skills {
    pub by_digest: HashMap<Digest, Skill>,
    /// The versions of each name, the newest first.
    pub by_name: HashMap<String, Vec<Skill>>,
}

impl Skills {
    pub fn find(&self, reference: &SkillRef) -> Option<&Skill> {
        match reference {
            SkillRef::Digest(digest) => self.by_digest.get(digest),
            SkillRef::Name { name, version } => self.by_name.get(name)?.iter().find(|skill| {
                version
                    .as_ref()
                    .is_none_or(|version| **version == *skill.identity().version)
            }),
        }
    }

    /// Of two with the same name and version, the one that was loaded last is meant.
    pub fn insert(&mut self, skill: &Skill) {
        self.by_digest.insert(skill.digest(), skill.clone());
        let versions = self
            .by_name
            .entry(skill.identity().name.to_string())
            .or_default();
        let version = |skill: &Skill| semver::Version::parse(&skill.identity().version).ok();
        let place = versions.partition_point(|other| version(other) > version(skill));
        versions.insert(place, skill.clone());
    }

    pub fn remove(&mut self, digest: &Digest) -> Option<Skill> {
        let skill = self.by_digest.remove(digest)?;
        if let Some(versions) = self.by_name.get_mut(&*skill.identity().name) {
            versions.retain(|other| other.digest() != *digest);
        }
        Some(skill)
    }
}
