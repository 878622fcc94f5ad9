//! What is offered: the tools of the chosen skills, as the protocol describes tools.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rmcp::model::{JsonObject, MetaObject, Tool as ProtocolTool, ToolAnnotations};
use serde_json::{Value, json};

use super::builtin::{CALL, READ_OUTPUT, SEARCH};
use super::name;
use crate::Skill;
use crate::execution::SkillIdentity;
use crate::host::{InstalledSkills, Listing};
use crate::skill::{Description, LibraryError, SkillRef, Tool};
use crate::text::{printable, shortened};

/// The property of an input that attachments stand in.
pub(super) const ATTACHMENTS: &str = "_attachments";
/// The longest description that is shown, in bytes.
const MAX_DESCRIPTION: usize = 8 << 10;
/// The longest title that is shown, in bytes.
const MAX_TITLE: usize = 256;

/// A skill that was chosen to be offered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChosenSkill {
    /// An installed one: whatever version of it the reference means at the time.
    Installed(SkillRef),
    /// One that was [added](InstalledSkills::add), and where its files are, if anywhere.
    Added {
        /// The skill.
        skill: Skill,
        /// Its folder.
        folder: Option<PathBuf>,
    },
}

/// The tools that are offered at one moment.
pub(super) struct Catalog {
    /// By name.
    pub tools: Vec<Entry>,
    by_name: HashMap<String, usize>,
    /// By name and version.
    pub skills: Vec<Arc<Offered>>,
}

/// A skill that is offered.
pub(super) struct Offered {
    pub identity: SkillIdentity,
    pub description: Arc<Description>,
    /// Where its files are.
    pub folder: Option<PathBuf>,
    /// Whether it can be replaced, so that a digest may be out of date.
    pub installed: bool,
}

/// A tool that is offered.
pub(super) struct Entry {
    pub definition: ProtocolTool,
    pub skill: Arc<Offered>,
    /// Where the tool stands among the skill's.
    index: usize,
    /// Whether attachments are taken out of the input.
    pub takes_attachments: bool,
}

impl Entry {
    pub fn tool(&self) -> &Tool {
        &self.skill.description.tools[self.index]
    }
}

impl Catalog {
    /// The tool of this name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).map(|index| &self.tools[*index])
    }

    /// Whether another offers the very same skills.
    pub fn has_the_skills_of(&self, other: &Catalog) -> bool {
        self.skills.len() == other.skills.len()
            && std::iter::zip(&self.skills, &other.skills).all(|(a, b)| a.identity == b.identity)
    }

    fn new(skills: Vec<Arc<Offered>>, plain_names: bool) -> Self {
        let mut own: HashMap<&str, usize> = HashMap::new();
        for skill in &skills {
            for tool in &skill.description.tools {
                *own.entry(&tool.name).or_default() += 1;
            }
        }
        // The door's own tools go first.
        let is_free =
            |name: &str| own.get(name) == Some(&1) && ![READ_OUTPUT, SEARCH, CALL].contains(&name);
        let mut tools = Vec::new();
        let mut plain = HashSet::new();
        for skill in &skills {
            // Of several versions, the first has the plain names: it is the highest.
            let first = plain.insert(skill.identity.name.clone());
            let version = (!first).then_some(skill.identity.version.as_str());
            for (index, tool) in skill.description.tools.iter().enumerate() {
                let name = match plain_names && is_free(&tool.name) {
                    true => tool.name.clone(),
                    false => name::tool(&skill.identity.name, version, &tool.name),
                };
                tools.push(entry(skill, index, tool, name));
            }
        }
        tools.sort_by(|a, b| a.definition.name.cmp(&b.definition.name));
        // Only by plain names can there be two of one.
        tools.dedup_by(|a, b| a.definition.name == b.definition.name);
        let by_name = tools
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.definition.name.to_string(), index))
            .collect();
        Catalog {
            tools,
            by_name,
            skills,
        }
    }
}

fn entry(skill: &Arc<Offered>, index: usize, tool: &Tool, name: String) -> Entry {
    let mut input = object_schema(&tool.input_schema);
    let own = matches!(&input.get("properties"), Some(Value::Object(all)) if all.contains_key(ATTACHMENTS));
    if !own && speaks_of_attachments(skill, tool) {
        let properties = input.entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(properties) = properties {
            properties.insert(ATTACHMENTS.to_owned(), attachments_schema());
        }
    }
    let annotations = ToolAnnotations::from_raw(
        None,
        Some(tool.annotations.read_only),
        Some(tool.annotations.destructive),
        Some(tool.annotations.idempotent),
        Some(tool.annotations.open_world),
    );
    let text = match tool.description.trim() {
        "" => &skill.description.description,
        _ => &tool.description,
    };
    let text = shortened(&printable(text, true), MAX_DESCRIPTION).into_owned();
    let mut definition = ProtocolTool::new_with_raw(name, Some(Cow::Owned(text)), input)
        .with_annotations(annotations);
    if let Some(title) = &tool.title {
        definition = definition.with_title(shortened(&printable(title, false), MAX_TITLE));
    }
    if let Some(Value::Object(output)) = &tool.output_schema {
        definition = definition.with_raw_output_schema(Arc::new(output.clone()));
    }
    let mut meta = MetaObject::new();
    meta.insert(
        "skillhost/skill".to_owned(),
        json!({"name": skill.identity.name, "version": skill.identity.version, "tool": tool.name,
            "digest": skill.identity.digest}),
    );
    Entry {
        definition: definition.with_meta(meta),
        skill: Arc::clone(skill),
        index,
        takes_attachments: !own,
    }
}

/// A schema of an input, which is an object, also where the skill's own does not say so.
fn object_schema(schema: &Value) -> JsonObject {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        _ => JsonObject::new(),
    };
    schema.insert("type".to_owned(), json!("object"));
    schema
}

/// A skill that wants attachments has to tell whoever calls it, and does so in these texts.
fn speaks_of_attachments(skill: &Offered, tool: &Tool) -> bool {
    let speaks = |text: &str| text.to_ascii_lowercase().contains("attach");
    speaks(&tool.description)
        || speaks(&tool.input_schema.to_string())
        || (skill.description.tools.len() == 1 && speaks(&skill.description.description))
}

fn attachments_schema() -> Value {
    json!({
        "type": "array",
        "description": "Files to attach: each with its bytes as base64 in `data`, or with the `uri` \
            of a kept output.",
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "mediaType": {"type": "string"},
                "data": {"type": "string", "contentEncoding": "base64"},
                "uri": {"type": "string"}
            },
            "required": ["name"]
        }
    })
}

/// Makes catalogs, and keeps the last.
#[derive(Default)]
pub(super) struct Catalogs {
    last: ArcSwapOption<(Option<Arc<Listing>>, Arc<Catalog>)>,
}

impl Catalogs {
    /// What was offered when somebody last asked.
    pub fn latest(&self) -> Option<Arc<Catalog>> {
        let last = self.last.load();
        last.as_ref().map(|last| Arc::clone(&last.1))
    }

    /// What is offered now. `chosen`: all that is installed, where it is `None`.
    pub async fn current(
        &self,
        skills: &InstalledSkills,
        chosen: Option<&[ChosenSkill]>,
        plain_names: bool,
    ) -> Result<Arc<Catalog>, LibraryError> {
        let needed = chosen.is_none_or(|chosen| {
            let installed = |skill: &ChosenSkill| matches!(skill, ChosenSkill::Installed(_));
            chosen.iter().any(installed)
        });
        let listing = match needed {
            true => Some(skills.list().await?),
            false => None,
        };
        if let Some(last) = &*self.last.load() {
            let same = match (&last.0, &listing) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                _ => false,
            };
            if same {
                return Ok(Arc::clone(&last.1));
            }
        }
        let catalog = Arc::new(Catalog::new(
            offered(skills, chosen, listing.as_deref()),
            plain_names,
        ));
        let made = Arc::new((listing, Arc::clone(&catalog)));
        self.last.store(Some(made));
        Ok(catalog)
    }
}

/// The chosen skills that are there, by name and then by version, the newest first.
fn offered(
    skills: &InstalledSkills,
    chosen: Option<&[ChosenSkill]>,
    listing: Option<&Listing>,
) -> Vec<Arc<Offered>> {
    let installed = |listed: &crate::host::ListedSkill| {
        Arc::new(Offered {
            identity: listed.identity.clone(),
            description: Arc::clone(&listed.description),
            folder: Some(skills.library().place(&listed.installed)),
            installed: true,
        })
    };
    let mut offered: Vec<Arc<Offered>> = match (chosen, listing) {
        (None, Some(listing)) => listing.newest().map(|skill| installed(skill)).collect(),
        (None, None) => Vec::new(),
        (Some(chosen), listing) => chosen
            .iter()
            .filter_map(|skill| match skill {
                ChosenSkill::Installed(reference) => {
                    listing?.find(reference).map(|skill| installed(skill))
                }
                ChosenSkill::Added { skill, folder } => Some(Arc::new(Offered {
                    identity: skill.identity().clone(),
                    description: Arc::new(skill.description().clone()),
                    folder: folder.clone(),
                    installed: false,
                })),
            })
            .collect(),
    };
    let version = |skill: &Offered| semver::Version::parse(&skill.identity.version).ok();
    offered.sort_by(|a, b| {
        let by_name = a.identity.name.cmp(&b.identity.name);
        by_name.then_with(|| version(b).cmp(&version(a)))
    });
    let mut seen = HashSet::new();
    offered
        .retain(|skill| seen.insert((skill.identity.name.clone(), skill.identity.version.clone())));
    offered
}
