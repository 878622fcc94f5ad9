//! What a skill wants, as far as consent to it goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grant::Declared;
use crate::limits::LimitOverrides;
use crate::skill::{Annotations, Description, Manifest};

/// What a skill declares and offers: what an operator has looked at when confirming it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Wants {
    /// What its `skill.toml` declares; nothing where it has none, and may so be granted anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<Declared>,
    /// Its default limits.
    #[serde(skip_serializing_if = "is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, u64>"))]
    pub limits: LimitOverrides,
    /// Its tools, and what they say of their effects.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, Annotations>,
}

fn is_none(limits: &LimitOverrides) -> bool {
    *limits == LimitOverrides::default()
}

impl Wants {
    /// What a skill wants. Descriptions, which grant nothing, are left out.
    pub fn new(manifest: Option<&Manifest>, description: &Description) -> Self {
        let declared = manifest.map(|manifest| {
            let mut declared = manifest.grants.clone();
            declared.forget_descriptions();
            declared
        });
        Wants {
            declared,
            limits: manifest.map_or_else(LimitOverrides::default, |manifest| manifest.limits),
            tools: description
                .tools
                .iter()
                .map(|tool| (tool.name.clone(), tool.annotations))
                .collect(),
        }
    }
}
