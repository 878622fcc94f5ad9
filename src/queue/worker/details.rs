//! What is kept of how an attempt ended.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::ExecutionResult;
use crate::execution::SkillIdentity;
use crate::usage::ResourceUsage;

/// One JSON object.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details {
    /// What each execution has is written as it is: with a value for every field in between, that would be a good part
    /// of what a job takes.
    #[serde(flatten)]
    ran: Option<Box<Ran>>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Ran {
    skill: Option<Arc<SkillIdentity>>,
    tool: Option<String>,
    usage: ResourceUsage,
}

impl Details {
    /// What an execution cost, and what was executed.
    pub fn of(result: &ExecutionResult) -> Self {
        Details {
            ran: Some(Box::new(Ran {
                skill: result.skill.clone(),
                tool: result.tool.clone(),
                usage: result.usage.clone(),
            })),
            more: Map::new(),
        }
    }

    pub fn failure(failure: Value) -> Self {
        Details::default().and("failure", failure)
    }

    /// The same with this in it.
    pub fn and(mut self, key: &str, value: Value) -> Self {
        self.more.insert(key.to_owned(), value);
        self
    }

    /// The same with what others have.
    pub fn merged(mut self, others: Details) -> Self {
        self.ran = others.ran.or(self.ran);
        self.more.extend(others.more);
        self
    }

    /// Any of it but for what each execution has.
    #[cfg(test)]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.more.get(key)
    }

    pub fn text(&self) -> Arc<str> {
        let text = serde_json::to_string(self);
        // The record of an attempt must be written, whatever is in it.
        let text = text.unwrap_or_else(|error| {
            let message = format!("what is known of it cannot be written: {error}");
            json!({"failure": {"message": message}}).to_string()
        });
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, Control, ExecutionRequest, Failure};

    #[test]
    fn all_of_it_is_in_one_object() {
        let failure = Failure::new(Cause::NotLoaded, "there is none");
        let request = ExecutionRequest::new("some", Value::Null).tool("one");
        let result = Control::default().refuse(request, None, failure);
        let details = Details::of(&result).and("grants", json!({"scratch": true}));
        let details = details.merged(Details::failure(json!({"message": "given back"})));
        let said: Value = serde_json::from_str(&details.text()).unwrap();
        let expected = json!({
            "skill": null,
            "tool": "one",
            "usage": result.usage,
            "grants": {"scratch": true},
            "failure": {"message": "given back"},
        });
        assert_eq!(said, expected);
        assert_eq!(&*Details::default().text(), "{}");
    }
}
