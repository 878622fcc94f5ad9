//! Matching a text with a pattern, so that it can be stopped.
//!
//! Matching takes time that is linear in the text, but up to 3 µs for each byte of it: with the library's engines a
//! megabyte takes seconds, and they do not come back before. So a text is gone through here, byte by byte, with an
//! automaton that is worked out on the way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::{Keyword, ValidationError};
use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures, pikevm::PikeVM};
use regex_syntax::ast::{self, Assertion, AssertionKind, Ast, parse::Parser};
use serde_json::Value;

use super::{MAX_KEY_PATTERN_BYTES, MAX_PATTERN_BYTES, PATTERN_CACHE_BYTES};
use crate::text::{said, said_of};
use crate::turns::interrupt::{look, too_long};

/// The longest text, in bytes, that is matched where no automaton goes to its end: with a pattern that has `\B` in it,
/// where the text has anything but ASCII. That cannot be stopped, and takes 2 ms at most. Longer ones are not matched.
const LONGEST_AS_A_WHOLE: usize = 512;
/// How many bytes there are from one look at the time to the next, and for how much work they count: it is nearly always
/// less, and up to 24 µs.
const STEP: usize = 8;
const STEP_WORK: u32 = 20;
/// For how much work a text counts that is matched as a whole.
const WHOLE_WORK: u32 = 100_000;
/// How much of a text that does not match is shown, in bytes: so that there is room for the pattern.
const MAX_SHOWN: usize = 150;

/// The patterns of one schema. However many copies the library makes of what they stand in, each is made ready once.
#[derive(Default)]
pub(super) struct Patterns(Mutex<HashMap<String, Pattern>>);

impl Patterns {
    /// The one that is written so.
    ///
    /// # Errors
    /// See [`Ready::new`].
    pub fn get(&self, written: &Value) -> Result<Pattern, ValidationError<'static>> {
        let written = written.as_str().unwrap_or_default();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = made.get(written) {
            return Ok(pattern.clone());
        }
        let pattern = Pattern(Arc::new(Ready::new(written)?));
        made.insert(written.to_owned(), pattern.clone());
        Ok(pattern)
    }
}

/// `pattern`.
#[derive(Clone)]
pub(super) struct Pattern(Arc<Ready>);

struct Ready {
    /// As the schema has it.
    written: String,
    automaton: DFA,
    /// What it has found out of itself on the way, for the next text.
    cache: Mutex<Option<Cache>>,
    /// For where it does not go to the end.
    whole: OnceLock<Option<PikeVM>>,
}

impl Ready {
    /// Makes it ready.
    ///
    /// # Errors
    /// It is no pattern, or too large.
    fn new(written: &str) -> Result<Self, ValidationError<'static>> {
        let invalid = || {
            let shown = said(written, false, 100);
            ValidationError::custom(format!("\"{shown}\" is not a \"regex\""))
        };
        let translated = jsonschema_regex::to_rust_regex(written).map_err(|()| invalid())?;
        let config = Config::new()
            .cache_capacity(PATTERN_CACHE_BYTES)
            .skip_cache_capacity_check(true)
            // For `\B`: such an automaton ends where a text has anything but ASCII in it.
            .unicode_word_boundary(true);
        let of_states = thompson::Config::new()
            .nfa_size_limit(Some(MAX_PATTERN_BYTES))
            .which_captures(WhichCaptures::None);
        let automaton = DFA::builder()
            .configure(config)
            .thompson(of_states)
            .build(&with_words(&translated))
            .map_err(|_| invalid())?;
        Ok(Ready {
            written: written.to_owned(),
            automaton,
            cache: Mutex::default(),
            whole: OnceLock::new(),
        })
    }

    /// Whether the text has a match in it.
    fn matches(&self, text: &str) -> bool {
        let kept = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let kept_cache = kept().take();
        let mut cache = kept_cache.unwrap_or_else(|| self.automaton.create_cache());
        let matches = self.walk(&mut cache, text);
        *kept() = Some(cache);
        matches.unwrap_or_else(|| self.matches_as_a_whole(text))
    }

    /// The same with the automaton alone. `None` where it does not go to the end.
    fn walk(&self, cache: &mut Cache, text: &str) -> Option<bool> {
        let dfa = &self.automaton;
        let mut state = dfa.start_state_forward(cache, &Input::new(text)).ok()?;
        for bytes in text.as_bytes().chunks(STEP) {
            look(STEP_WORK);
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

    fn matches_as_a_whole(&self, text: &str) -> bool {
        let made = self.whole.get_or_init(|| {
            let states = self.automaton.get_nfa().clone();
            PikeVM::new_from_nfa(states).ok()
        });
        match made {
            Some(whole) if text.len() <= LONGEST_AS_A_WHOLE => {
                look(WHOLE_WORK);
                whole.is_match(&mut whole.create_cache(), text)
            }
            _ => too_long(),
        }
    }
}

/// How many states a pattern for keys can be in; none where it is no pattern, or too large a one.
pub(super) fn states_of(written: &str) -> u64 {
    let translated = jsonschema_regex::to_rust_regex(written).ok();
    let config = thompson::Config::new().nfa_size_limit(Some(MAX_KEY_PATTERN_BYTES));
    let compiled = translated.and_then(|pattern| {
        let mut compiler = thompson::Compiler::new();
        compiler.configure(config).build(&pattern).ok()
    });
    compiled.map_or(0, |states| states.states().len() as u64)
}

/// The pattern with `\b` as ECMA-262 means it (section 22.2.2.9.3, `IsWordChar`): between ASCII letters, digits or `_`, and
/// anything else. An automaton knows of that in all texts.
fn with_words(pattern: &str) -> String {
    /// Where it stands.
    struct Boundaries(Vec<usize>);

    impl ast::Visitor for Boundaries {
        type Output = Vec<usize>;
        type Err = ();

        fn finish(self) -> Result<Vec<usize>, ()> {
            Ok(self.0)
        }

        fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
            if let Ast::Assertion(assertion) = ast
                && let Assertion {
                    span,
                    kind: AssertionKind::WordBoundary,
                } = &**assertion
            {
                self.0.push(span.start.offset);
            }
            Ok(())
        }
    }

    const WRITTEN: &str = r"\b";
    const MEANT: &str = r"(?-u:\b)";
    // Whoever builds it says what is wrong with it.
    let parsed = Parser::new().parse(pattern).ok();
    let found = parsed.and_then(|parsed| ast::visit(&parsed, Boundaries(Vec::new())).ok());
    let mut meant = String::new();
    let mut rest = 0;
    for at in found.unwrap_or_default() {
        meant.push_str(&pattern[rest..at]);
        meant.push_str(MEANT);
        rest = at + WRITTEN.len();
    }
    meant.push_str(&pattern[rest..]);
    meant
}

impl<'i> Keyword<'i> for Pattern {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match Keyword::is_valid(self, value) {
            true => Ok(()),
            false => {
                let shown = said_of(value, MAX_SHOWN);
                Err(ValidationError::custom(format!(
                    "{shown} does not match \"{}\"",
                    self.0.written
                )))
            }
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        match value {
            Value::String(text) => self.0.matches(text),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_matches_as_the_standard_says() {
        for (pattern, text, matches) in [
            ("^a+$", "aaa", true),
            ("^a+$", "aab", false),
            ("b", "aab", true),
            ("^b", "ba", true),
            ("^b", "ab", false),
            ("b$", "ab", true),
            ("b$", "ba", false),
            ("^$", "", true),
            ("^$", "a", false),
            ("", "a", true),
            ("é{2}", "éé", true),
            ("^[^é]*$", "é", false),
            (r"^\S+$", "a", true),
            (r"\d", "٣", false),
            (r"\bword\b", "a word", true),
            (r"\bword\b", "swords", false),
            // Of letters, those of ASCII alone are part of a word.
            (r"\bword\b", "éword", true),
            (r"^(?:\bé\b|\\b)$", "é", false),
            (r"^(?:\bé\b|\\b)$", r"\b", true),
            (r"(?i)\bWORD\b", "a word", true),
            (r"\Bord", "word", true),
            (r"\Bord", "an ord", false),
            (r"\Bord", "é word", true),
            ("[é-ü]b", "öb", true),
        ] {
            let ready = Ready::new(pattern).unwrap();
            assert_eq!(ready.matches(text), matches, "{pattern} {text}");
        }
        for wrong in ["(", "a{1000}{1000}", r"\b{", "(?=a)"] {
            assert!(Ready::new(wrong).is_err(), "{wrong}");
        }
        let keyword = Patterns::default().get(&json!("a")).unwrap();
        assert!(Keyword::is_valid(&keyword, &json!(7)), "it is about texts");
    }

    /// What the library says, wherever that is what the standard says.
    #[test]
    fn a_text_matches_as_it_does_elsewhere() {
        for pattern in [
            "^a+$", "b", "^b", "b$", "é{2}", "^[^é]*$", r"\d+x", "[é-ü]b", r"\Ba", "a|b$",
        ] {
            let ready = Ready::new(pattern).unwrap();
            let library = json!({ "pattern": pattern });
            let library = jsonschema::options().build(&library).unwrap();
            for part in ["", "a", "b", "ab", "éé", "éb", "1x", "aab", "ba "] {
                for around in ["", "x", "é", "a", " "] {
                    let many = around.repeat(100);
                    for text in [
                        format!("{part}{many}"),
                        format!("{many}{part}"),
                        format!("{many}{part}{many}"),
                    ] {
                        let elsewhere = library.is_valid(&json!(text));
                        assert_eq!(ready.matches(&text), elsewhere, "{pattern} {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_word_is_found_in_a_long_text() {
        let word = Ready::new(r"\bword\b").unwrap();
        for letter in ["a", "é"] {
            for (end, matches) in [("word", true), ("sword", false)] {
                let text = format!("{}{end}", format!("{letter} text ").repeat(10_000));
                assert_eq!(word.matches(&text), matches, "{letter} {end}");
            }
        }
    }

    #[test]
    fn the_same_pattern_is_made_ready_once() {
        let patterns = Patterns::default();
        let [one, same, other] =
            ["a+", "a+", "b+"].map(|written| patterns.get(&json!(written)).unwrap());
        assert!(Arc::ptr_eq(&one.0, &same.0));
        assert!(!Arc::ptr_eq(&one.0, &other.0));
        assert!(patterns.get(&json!("(")).is_err());
    }
}
