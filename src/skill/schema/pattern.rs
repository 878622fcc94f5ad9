//! Matching a text with a pattern, so that it can be stopped.
//!
//! Matching takes time that is linear in the text, but up to 3 µs for each byte of it: with the library's engines a
//! megabyte takes seconds, and they do not come back before. A long text is gone through here, byte by byte, with the
//! same automaton.

use std::sync::{Mutex, OnceLock, PoisonError};

use jsonschema::{Keyword, ValidationError};
use regex::{Regex, RegexBuilder};
use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson;
use serde_json::Value;

use super::interrupt::{look, too_long};
use super::{MAX_PATTERN_BYTES, PATTERN_CACHE_BYTES};
use crate::text::{said, said_of};

/// The longest text, in bytes, that is matched as a whole: for 1 ms at most.
const SHORT: usize = 256;
/// The same where no automaton goes to the text's end: at a word boundary, where the text has anything but ASCII in
/// it. Longer ones are not matched.
const LONGEST_AS_A_WHOLE: usize = 4 * 1024;
/// How many bytes there are from one look at the time to the next.
const STEP: usize = 8;
/// How much of a text that does not match is shown, in bytes: so that there is room for the pattern.
const MAX_SHOWN: usize = 150;

/// `pattern`.
pub(super) struct Pattern {
    /// As the schema has it.
    written: String,
    regex: Regex,
    /// Made for the first long text, where it can be.
    automaton: OnceLock<Option<Automaton>>,
}

struct Automaton {
    dfa: DFA,
    /// What it has found out of itself on the way, for the next text.
    cache: Mutex<Option<Cache>>,
}

impl Pattern {
    /// Makes it ready.
    ///
    /// # Errors
    /// It is no pattern, or too large.
    pub fn new(written: &Value) -> Result<Self, ValidationError<'static>> {
        let written = written.as_str().unwrap_or_default();
        let invalid = || {
            let shown = said(written, false, 100);
            ValidationError::custom(format!("\"{shown}\" is not a \"regex\""))
        };
        let translated = jsonschema_regex::to_rust_regex(written).map_err(|()| invalid())?;
        let regex = RegexBuilder::new(&translated)
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(PATTERN_CACHE_BYTES)
            .build()
            .map_err(|_| invalid())?;
        Ok(Pattern {
            written: written.to_owned(),
            regex,
            automaton: OnceLock::new(),
        })
    }

    fn matches(&self, text: &str) -> bool {
        if text.len() <= SHORT {
            // Of many short ones, as often as of a long one: below `contains` nobody else looks.
            for _ in (0..text.len()).step_by(STEP) {
                look();
            }
            return self.regex.is_match(text);
        }
        let automaton = self
            .automaton
            .get_or_init(|| Automaton::new(self.regex.as_str()));
        let found = automaton
            .as_ref()
            .and_then(|automaton| automaton.matches(text));
        match found {
            Some(matches) => matches,
            None if text.len() <= LONGEST_AS_A_WHOLE => self.regex.is_match(text),
            None => too_long(),
        }
    }
}

impl Automaton {
    /// `None` where there is none.
    fn new(pattern: &str) -> Option<Self> {
        let config = Config::new()
            .cache_capacity(PATTERN_CACHE_BYTES)
            .skip_cache_capacity_check(true)
            // Where a text has anything but ASCII in it, it is left to the library, which knows all words.
            .unicode_word_boundary(true);
        let size = thompson::Config::new().nfa_size_limit(Some(MAX_PATTERN_BYTES));
        let dfa = DFA::builder()
            .configure(config)
            .thompson(size)
            .build(pattern);
        Some(Automaton {
            dfa: dfa.ok()?,
            cache: Mutex::default(),
        })
    }

    /// Whether the text has a match in it. `None` where that cannot be said.
    fn matches(&self, text: &str) -> Option<bool> {
        let kept = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = kept().take().unwrap_or_else(|| self.dfa.create_cache());
        let matches = self.walk(&mut cache, text);
        *kept() = Some(cache);
        matches
    }

    fn walk(&self, cache: &mut Cache, text: &str) -> Option<bool> {
        let dfa = &self.dfa;
        let mut state = dfa.start_state_forward(cache, &Input::new(text)).ok()?;
        for bytes in text.as_bytes().chunks(STEP) {
            look();
            for &byte in bytes {
                state = dfa.next_state(cache, state, byte).ok()?;
                if state.is_tagged() {
                    if state.is_match() {
                        return Some(true);
                    }
                    if state.is_dead() {
                        return Some(false);
                    }
                    if state.is_quit() {
                        return None;
                    }
                }
            }
        }
        // That it matched is known a byte later.
        let end = dfa.next_eoi_state(cache, state).ok()?;
        Some(end.is_match())
    }
}

impl<'i> Keyword<'i> for Pattern {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match Keyword::is_valid(self, value) {
            true => Ok(()),
            false => {
                let shown = said_of(value, MAX_SHOWN);
                Err(ValidationError::custom(format!(
                    "{shown} does not match \"{}\"",
                    self.written
                )))
            }
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        match value {
            Value::String(text) => self.matches(text),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_text_matches_what_a_short_one_does() {
        for (pattern, text, matches) in [
            ("^a+$", "aaa", true),
            ("^a+$", "aab", false),
            ("b", "aab", true),
            ("^b", "ba", true),
            ("^b", "ab", false),
            ("b$", "ab", true),
            ("b$", "ba", false),
            ("^$", "a", false),
            ("", "a", true),
            ("é{2}", "éé", true),
            ("^[^é]*$", "é", false),
            (r"^\S+$", "a", true),
            (r"\d", "٣", false),
            (r"\bword\b", "a word", true),
            (r"\bword\b", "swords", false),
            ("[é-ü]b", "öb", true),
        ] {
            let keyword = Pattern::new(&json!(pattern)).unwrap();
            assert_eq!(keyword.matches(text), matches, "{pattern} {text}");
            // Of which both ways can say it: with the text at either end, and much of something else around it.
            for around in ["x", "é", "a"] {
                let many = around.repeat(SHORT);
                for long in [
                    format!("{text} {many}"),
                    format!("{many} {text}"),
                    format!("{many}{text}{many}"),
                ] {
                    let as_a_whole = keyword.regex.is_match(&long);
                    assert_eq!(keyword.matches(&long), as_a_whole, "{pattern} {long}");
                }
            }
        }
        let word = Pattern::new(&json!(r"\bword\b")).unwrap();
        for (end, matches) in [("word", true), ("sword", false)] {
            let text = format!("{}{end}", "a text ".repeat(LONGEST_AS_A_WHOLE));
            assert_eq!(word.matches(&text), matches, "{end}");
        }
        assert!(Pattern::new(&json!("(")).is_err());
        assert!(Pattern::new(&json!("a{1000}{1000}")).is_err());
        let keyword = Pattern::new(&json!("a")).unwrap();
        assert!(Keyword::is_valid(&keyword, &json!(7)), "it is about texts");
    }
}
