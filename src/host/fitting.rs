//! Whether inputs and outputs fit the schemas that skills declare.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Host;
use super::admission::{Admitted, Seen};
use super::skill::Known;
use crate::execution::{Attachment, Cause, ExecutionRequest, Failure};
use crate::json::is_much;
use crate::limits::Limits;
use crate::sandbox::{Answer, Flight, For, ends_from_now, too_late};
use crate::secret::Scrubber;
use crate::skill::{Keys, Mismatch, Schema, Tool};
use crate::text::{closest, named};
use crate::turns::interrupt::{Until, in_time};

impl Host {
    /// Everything that can be said of a request before it waits for a slot. Where an input takes long to check,
    /// others are not kept waiting by that.
    pub(super) async fn admit_in_time<'s>(
        &self,
        flight: &mut Flight,
        request: &mut ExecutionRequest,
        skill: &'s Known,
        limits: &Limits,
        cancellation: Option<&CancellationToken>,
    ) -> Result<Admitted<'s>, Failure> {
        let seen = match is_much(&request.input) {
            false => None,
            true => {
                if let Some(failure) = too_late(request.deadline, limits) {
                    return Err(failure);
                }
                let input = std::mem::take(&mut request.input);
                let whose = For {
                    tenant: request.tenant.as_deref(),
                    skill: &skill.identity.name,
                    cancellation,
                };
                let see = move |_: &Until| Ok((Seen::of(&input), input));
                let seen = self.inner.runner.check_input(flight, &whose, see);
                let (seen, input) = Box::pin(seen).await?;
                request.input = input;
                Some(seen)
            }
        };
        let admitted = self.admit_seen(request, skill, limits, seen)?;
        if !admitted.fits {
            let schema = Arc::clone(&admitted.schemas.input);
            let value = std::mem::take(&mut request.input);
            let whose = For {
                tenant: request.tenant.as_deref(),
                skill: &skill.identity.name,
                cancellation,
            };
            let check = move |until: &Until| {
                let checked = schema.check_thoroughly(&value, until)?;
                Ok((value, checked))
            };
            let checked = self.inner.runner.check_input(flight, &whose, check);
            let (value, checked) = Box::pin(checked).await?;
            request.input = value;
            input(checked, &request.input, admitted.tool)?;
        }
        self.asks_before(request, &skill.identity)?;
        Ok(admitted)
    }

    /// Why an input that takes long to check does not fit, where it does not and that can be found out in time.
    pub(super) async fn misfits(
        &self,
        request: &ExecutionRequest,
        admitted: &Admitted<'_>,
        skill: &Known,
        limits: &Limits,
    ) -> Option<Failure> {
        let schema = Arc::clone(&admitted.schemas.input);
        let value = request.input.clone();
        let whose = For {
            tenant: request.tenant.as_deref(),
            skill: &skill.identity.name,
            cancellation: None,
        };
        let check = move |until: &Until| schema.check_thoroughly(&value, until);
        let (ends, _) = ends_from_now(limits, request.deadline);
        let checked = self.inner.runner.checked(ends, &whose, check).await?;
        input(checked, &request.input, admitted.tool).err()
    }

    /// What is left of taking over a guest's answer where that may take long: it is done beside the others, for no
    /// longer than the execution may take.
    pub(super) async fn taken_in_time(
        &self,
        flight: &mut Flight,
        whose: For<'_>,
        schema: Option<&Arc<Schema>>,
        left: Left,
    ) -> Result<Taken, Failure> {
        let held = flight.secrets.clone();
        let schema = schema.cloned();
        let check = move |until: &Until| {
            let scrubber = held.as_ref().map(|held| &held.scrubber);
            let (value, attachments) = match left {
                Left::Unchecked(taken) => taken,
                Left::Unread(answer) => match in_time(until, || read(answer, scrubber))? {
                    Ok(taken) => taken,
                    Err(failure) => return Ok(Err(failure)),
                },
            };
            let checked = match &schema {
                Some(schema) => schema.check_thoroughly(&value, until)?,
                None => Ok(()),
            };
            Ok(output(checked).map(|()| (value, attachments)))
        };
        let runner = &self.inner.runner;
        runner.check_output(flight, &whose, check).await?
    }
}

/// An output, and what is attached to it.
pub(super) type Taken = (Value, Vec<Attachment>);

/// What is left to do about an answer.
pub(super) enum Left {
    Unread(Answer),
    Unchecked(Taken),
}

/// An answer of so many bytes is searched for secrets and read at once: in some tenths of a millisecond, or where it is
/// all small values and is not searched, in 1 ms.
const LITTLE: u64 = 16 << 10;
/// So much faster is it read where it is not searched.
const UNSEARCHED: u64 = 4;

/// What a guest answered, read, without values of secrets, and fitting its schema; or what is left of that, where it
/// may take long.
pub(super) fn taken_at_once(
    flight: &Flight,
    schema: Option<&Arc<Schema>>,
    answer: Answer,
) -> Result<Result<Taken, Failure>, Left> {
    let scrubber = flight.secrets.as_ref().map(|held| &held.scrubber);
    let little = match scrubber {
        Some(_) => LITTLE,
        None => LITTLE * UNSEARCHED,
    };
    if answer.bytes(scrubber.is_some()) > little {
        return Err(Left::Unread(answer));
    }
    let taken = match read(answer, scrubber) {
        Ok(taken) => taken,
        Err(failure) => return Ok(Err(failure)),
    };
    match schema.map(|schema| schema.check_quickly(&taken.0)) {
        None => Ok(Ok(taken)),
        Some(Some(checked)) => Ok(output(checked).map(|()| taken)),
        Some(None) => Err(Left::Unchecked(taken)),
    }
}

/// What a guest answered, without values of secrets.
fn read(answer: Answer, scrubber: Option<&Scrubber>) -> Result<Taken, Failure> {
    let (json, mut attachments) = match answer {
        Answer::Output(json, attachments) => (json, attachments),
        Answer::Failure(failure) => return Err(failure.read(scrubber)),
    };
    let mut value = crate::json::parse(&json).map_err(|error| {
        let pointer = String::new();
        Failure::new(
            Cause::InvalidOutput { pointer },
            format!("the skill's output cannot be read: {error}"),
        )
    })?;
    if let Some(scrubber) = scrubber {
        // Here, where nothing is hidden by an escape any more, and before anything of it is quoted.
        scrubber.json(&mut value);
        attachments.iter_mut().for_each(|one| one.scrub(scrubber));
    }
    Ok((value, attachments))
}

/// Whether a value is an input at all.
pub(super) fn shape(input: &Value) -> Result<(), Failure> {
    let invalid = |message: String| {
        let pointer = String::new();
        Err(Failure::new(Cause::InvalidInput { pointer }, message))
    };
    if !input.is_object() {
        return invalid("the input is not a JSON object".into());
    }
    if crate::skill::depth(input) > crate::skill::MAX_DEPTH {
        return invalid(format!(
            "the input is nested more than {} levels deep",
            crate::skill::MAX_DEPTH
        ));
    }
    Ok(())
}

/// What comes of checking an input.
pub(super) fn input(
    checked: Result<(), Mismatch>,
    input: &Value,
    tool: &Tool,
) -> Result<(), Failure> {
    let Err(mismatch) = checked else {
        return Ok(());
    };
    let message = format!(
        "the input does not fit{}: {}",
        place(&mismatch),
        mismatch.message
    );
    let close = meant(&mismatch, input, &tool.input_schema);
    let pointer = mismatch.pointer.clone();
    let failure = Failure::new(Cause::InvalidInput { pointer }, message);
    Err(match close {
        // A key of the skill's own schema: its text, and of any length.
        Some(close) => failure.hint(format!("did you mean `{}`?", named(close, 200))),
        None => failure,
    })
}

/// How many keys of a tool's schema are looked at for one that was meant.
const MOST_KNOWN: usize = 256;
/// How many keys that it does not know.
const MOST_UNKNOWN: usize = 16;

/// The key that was meant, where one is not known or is missing.
fn meant<'k>(mismatch: &'k Mismatch, input: &Value, schema: &'k Value) -> Option<&'k str> {
    let known = |place: &str| schema.pointer(place)?.get("properties")?.as_object();
    match &mismatch.keys {
        Keys::Fine => None,
        Keys::Unexpected { keys, schema } => {
            let known = known(schema)?;
            let known = || known.keys().take(MOST_KNOWN).map(String::as_str);
            keys.iter().find_map(|key| closest(key, known()))
        }
        Keys::Missing { key, schema } => {
            let known = known(schema)?;
            let given = input.pointer(&mismatch.pointer)?.as_object()?;
            let unknown = given.keys().filter(|given| !known.contains_key(*given));
            let mut unknown = unknown.take(MOST_UNKNOWN);
            let is_close = |given: &String| closest(given, [key.as_str()].into_iter()).is_some();
            unknown.any(is_close).then_some(key)
        }
    }
}

/// The longest place in a value that is shown, in bytes.
const MAX_PLACE: usize = 1_000;

/// Where a value does not fit, to stand in a sentence; nothing for the whole of it.
fn place(mismatch: &Mismatch) -> String {
    match mismatch.pointer.as_str() {
        "" => String::new(),
        pointer => format!(" at `{}`", named(pointer, MAX_PLACE)),
    }
}

/// What comes of checking an output.
fn output(checked: Result<(), Mismatch>) -> Result<(), Failure> {
    checked.map_err(|mismatch| {
        let message = format!(
            "the skill's output does not fit the schema that it declares{}: {}",
            place(&mismatch),
            mismatch.message
        );
        let pointer = mismatch.pointer;
        Failure::new(Cause::InvalidOutput { pointer }, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_was_meant_is_found_where_it_is_wrong() {
        let schema = json!({
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "texts": {"type": "array"},
                "order": {"type": "array", "items": {"$ref": "#/$defs/Order"}},
            },
            "required": ["text"],
            "additionalProperties": false,
            "$defs": {"Order": {
                "type": "object",
                "properties": {"column": {"type": "string"}, "descending": {"type": "boolean"}},
                "required": ["column"],
                "additionalProperties": false,
            }},
        });
        let check = |schema: &Value, input: Value| -> Option<String> {
            let mismatch = Schema::new(schema).unwrap().check(&input).unwrap_err();
            meant(&mismatch, &input, schema).map(str::to_owned)
        };
        let meant = |input| check(&schema, input);
        assert_eq!(
            meant(json!({"text": "", "ordre": []})).as_deref(),
            Some("order")
        );
        assert_eq!(meant(json!({"text": "", "zzz": []})), None);
        let nested =
            json!({"text": "", "order": [{"column": "a"}, {"column": "a", "desending": true}]});
        assert_eq!(meant(nested).as_deref(), Some("descending"));
        let nested = json!({"text": "", "order": [{"colum": "a"}]});
        assert_eq!(meant(nested).as_deref(), Some("column"));
        // It is known, and not a slip for what is missing.
        assert_eq!(meant(json!({"texts": []})), None);
        assert_eq!(meant(json!({"text": 1})), None);
        // Where more is allowed, one that is missing may have been meant.
        let open = json!({"type": "object", "properties": {"text": {}}, "required": ["text"]});
        assert_eq!(check(&open, json!({"txt": ""})).as_deref(), Some("text"));
        let typed = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        assert_eq!(check(&typed, json!({"text": 1, "txet": ""})), None);
    }
}
