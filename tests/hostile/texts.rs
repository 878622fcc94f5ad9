//! Guests that hand over bytes that are no text, wherever there must be one: in what they say that they are, in
//! answers, failures and attachments, and in what they tell the host meanwhile. Paths and requests that are none
//! are in `directories` and `network`.

use std::sync::Arc;

use crate::attack::{Attack, End};
use crate::chatter::that_talks;
use crate::handmade::{Answer, Handmade};
use crate::load::Load;
use crate::measure::alone;
use crate::volume::heard;

const VIOLATION: End<'static> = End::Trap("contract_violation");

/// What begins no character, what ends within one, half of a pair, and more than there is.
const NO_TEXTS: [&[u8]; 4] = [b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"];

/// Where they stand in memory, below all else.
const AT: u32 = 16;

/// A text of a record: the record, where the text is in it, and whether it may be none.
type Place = (&'static str, u32, bool);

const DESCRIPTION: &str = "(i32.const $description)";
const TOOL: &str = "(i32.load offset=24 (i32.const $description))";
const ANSWER: &str = "(i32.const $answer)";
const ATTACHMENT: &str = "(i32.const 64)";

/// Bytes as the text format has them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// A skill that has these bytes at [`AT`].
fn having(bytes: &[u8]) -> Handmade {
    Handmade {
        fields: format!(r#"(data (i32.const {AT}) "{}")"#, escaped(bytes)),
        ..Handmade::default()
    }
}

/// Code that makes these bytes the text at a place.
fn put((record, offset, is_optional): Place, bytes: &[u8]) -> String {
    let (there_is, offset) = match is_optional {
        true => (
            format!("(i32.store8 offset={offset} {record} (i32.const 1))"),
            offset + 4,
        ),
        false => (String::new(), offset),
    };
    format!(
        "{there_is} (i32.store offset={offset} {record} (i32.const {AT}))
        (i32.store offset={} {record} (i32.const {}))",
        offset + 4,
        bytes.len()
    )
}

/// Each place with bytes that are no text, and each of those at some place.
fn everywhere<const N: usize>(places: [Place; N]) -> impl Iterator<Item = (Place, &'static [u8])> {
    let no_texts = NO_TEXTS.into_iter().cycle();
    let count = N.max(NO_TEXTS.len());
    places.into_iter().cycle().zip(no_texts).take(count)
}

#[test]
fn in_what_a_skill_says_that_it_is() {
    let _alone = alone();
    for (place, bytes) in everywhere([
        // Its name, version and description.
        (DESCRIPTION, 0, false),
        (DESCRIPTION, 8, false),
        (DESCRIPTION, 16, false),
        // Of a tool: name, title, description and both schemas.
        (TOOL, 0, false),
        (TOOL, 8, true),
        (TOOL, 20, false),
        (TOOL, 28, false),
        (TOOL, 36, true),
    ]) {
        let skill = Handmade {
            describe: format!("{} i32.const $description", put(place, bytes)),
            ..having(bytes)
        };
        let failure = Load::by(&skill).describing_ends_with(VIOLATION);
        assert!(failure.message.contains("utf-8"), "{place:?}: {failure}");
    }
}

#[test]
fn in_a_failure() {
    let _alone = alone();
    for (case, places) in [
        // An input that is refused: where, and why.
        (1, &[(ANSWER, 16, false), (ANSWER, 24, false)][..]),
        // To be tried again: why.
        (2, &[(ANSWER, 16, false)]),
        // Any other: message, code and details.
        (
            3,
            &[(ANSWER, 16, false), (ANSWER, 24, true), (ANSWER, 36, true)],
        ),
    ] {
        for (place, bytes) in places.iter().zip(NO_TEXTS) {
            let skill = Handmade {
                execute: format!(
                    "(i32.store8 offset=8 {ANSWER} (i32.const {case})) {} i32.const $answer",
                    put(*place, bytes)
                ),
                answer: Answer {
                    case: 1,
                    ..Handmade::default().answer
                },
                ..having(bytes)
            };
            let result = Attack::by(skill).ends_with(VIOLATION);
            let failure = result.failure.expect("it failed");
            assert!(failure.message.contains("utf-8"), "{place:?}: {failure}");
            assert_eq!(result.usage.output_bytes, 0);
        }
    }
}

/// The output that comes before them is there.
#[test]
fn in_an_attachment() {
    let _alone = alone();
    // Its name and its media type.
    for (place, bytes) in everywhere([(ATTACHMENT, 0, false), (ATTACHMENT, 8, false)]) {
        let skill = Handmade {
            execute: format!("{} i32.const $answer", put(place, bytes)),
            answer: Answer {
                attachments: (64, 1),
                ..Handmade::default().answer
            },
            ..having(bytes)
        };
        let result = Attack::by(skill).ends_with(VIOLATION);
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains("utf-8"), "{place:?}: {failure}");
        assert_eq!(result.usage.output_bytes, 2);
    }
}

/// Half of a pair, where texts are UTF-16.
#[test]
fn in_another_encoding() {
    let _alone = alone();
    for (encoding, mark) in [("utf16", 0), ("latin1+utf16", 1 << 31)] {
        let skill = Handmade {
            encoding,
            answer: Answer {
                json: b"\"\0\0\xd8\"\0".to_vec(),
                json_length: Some(3 | mark),
                ..Handmade::default().answer
            },
            ..Handmade::default()
        };
        let result = Attack::by(skill).ends_with(VIOLATION);
        let failure = result.failure.expect("it failed");
        assert!(failure.message.contains("surrogate"), "{failure}");
        assert_eq!(result.usage.output_bytes, 0);
    }
}

/// A record, a step and its details: nobody hears of them.
#[test]
fn in_what_the_host_is_told() {
    let _alone = alone();
    for bytes in NO_TEXTS {
        let length = bytes.len();
        for call in [
            format!("(call $log (i32.const 2) (i32.const 0) (i32.const {length}))"),
            format!(
                "(call $report (i32.const 0) (f64.const 0) (i32.const 0) (i32.const {length})
                (i32.const 0) (i32.const 0) (i32.const 0))"
            ),
            format!(
                "(call $report (i32.const 0) (f64.const 0) (i32.const 0) (i32.const 0)
                (i32.const 1) (i32.const 0) (i32.const {length}))"
            ),
        ] {
            let skill = Handmade {
                execute: format!("{call} i32.const $answer"),
                ..that_talks(&escaped(bytes))
            };
            let (sum, hear) = heard();
            let result = Attack::by(skill)
                .watched_by(Arc::new(hear))
                .ends_with(VIOLATION);
            let failure = result.failure.expect("it failed");
            assert!(failure.message.contains("utf-8"), "{call}: {failure}");
            assert_eq!(result.usage.dropped, Default::default());
            assert_eq!(*sum.lock().expect("nobody panics here"), 0);
        }
    }
}
