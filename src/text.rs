//! Text from strangers, made fit for a person's eyes.

use std::fmt;

/// The candidate that a misspelt word most likely meant, if any is close.
///
/// Jaro-Winkler similarity above 0.8; the threshold that clap uses for its own suggestions. It is
/// too strict with short words, so one slip (a letter more, less or other, or two swapped) counts
/// as close as well. Words of more than 64 bytes are close to none: comparing takes the product of their
/// lengths. Of several that are equally close it is the first: whoever lists them says by that which to rather take.
pub fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let similarity = |candidate| {
        let similarity = strsim::jaro_winkler(word, candidate);
        let slip = word.len() >= 3 && strsim::osa_distance(word, candidate) == 1;
        if slip {
            similarity.max(0.9)
        } else {
            similarity
        }
    };
    candidates
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (similarity(candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

/// The one limit that no request, skill or policy sets.
const OF_THE_HOST: &str = "unknown field `stack_bytes`";

/// How something is written in TOML that is of another type than it must be, by what the library says of it; or where
/// it is set that is not set here.
pub(crate) fn form(message: &str) -> Option<&'static str> {
    if message.starts_with(OF_THE_HOST) {
        return Some(
            "the stack is the host's own and the same for all that it runs, so it is set where the host is started",
        );
    }
    let (given, expected) = message
        .strip_prefix("invalid type: ")?
        .rsplit_once(", expected ")?;
    match expected {
        "a sequence" if given == "map" => {
            Some("write a list, [\"…\"], or of tables, whose headers have two brackets, [[…]]")
        }
        "a sequence" => Some("write a list, also of one: [\"…\"]"),
        "a text NAME=VALUE" => Some(
            "write all of them into one table, { NAME = \"VALUE\" }, or each as a text, [\"NAME=VALUE\"]",
        ),
        "a boolean" => Some("write true or false, without quotes"),
        "a map" => Some("write a table: { NAME = VALUE }"),
        "a string" if given.starts_with("integer") => {
            Some("write it in quotes; a time has its unit: \"90d\", \"5s\"")
        }
        "u64" | "u32" | "usize" => Some("write a whole number, without quotes and without a unit"),
        _ if expected.starts_with("struct ") => Some("write a table: { NAME = VALUE }"),
        _ => None,
    }
}

/// What a library says of a value of another type than it must be, without the name that the type has in here.
pub(crate) fn of_table(message: &str) -> std::borrow::Cow<'_, str> {
    match message.rsplit_once(", expected struct ") {
        Some((given, _)) if given.starts_with("invalid type: ") => {
            format!("{given}, expected a table").into()
        }
        _ => message.into(),
    }
}

/// What names of fields end with that have a unit.
const UNITS: [&str; 2] = ["_ms", "_bytes"];

/// What an unknown field or variant probably meant. The message is that of serde, with the words
/// between backticks: first the unknown one, then those that there are.
pub(crate) fn meant(message: &str) -> Option<String> {
    let known = ["unknown field `", "unknown variant `"]
        .iter()
        .any(|start| message.starts_with(start));
    if !known || message.starts_with(OF_THE_HOST) {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    // Whoever wrote the unknown one may have put backticks into it, and words of theirs between them.
    let is_a_key = |word: &&str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        word.bytes().all(fits)
    };
    let known: Vec<&str> = words.filter(is_a_key).collect();
    // A name without its unit, as in `wait` for `wait_ms`.
    let unit = known.iter().find(|word| {
        word.strip_prefix(unknown)
            .is_some_and(|rest| UNITS.contains(&rest))
    });
    let meant = unit.copied().filter(|_| !unknown.is_empty());
    meant
        .or_else(|| closest(unknown, known.iter().copied()))
        .map(str::to_owned)
}

/// Text from a guest for a terminal or a log: control characters are shown as escapes, so that it
/// cannot move the cursor, change colours, or forge a second line.
///
/// Newlines and tabs stay where `lines` is set. Bidirectional overrides (U+202A to U+202E, U+2066
/// to U+2069) and other invisible format characters count as control characters: they make text
/// read as what it is not. A variation selector behind an emoji or a symbol (U+FE0E, U+FE0F) is part of it.
///
/// ```
/// assert_eq!(skillhost::text::printable("a\x1b[2Jb\n", false), "a\\u{1b}[2Jb\\n");
/// ```
pub fn printable(text: &str, lines: bool) -> std::borrow::Cow<'_, str> {
    let keep = |before: char, c: char| match c {
        '\n' | '\t' => lines,
        '\u{fe0e}' | '\u{fe0f}' => {
            !before.is_control()
                && !before.is_alphabetic()
                && !before.is_whitespace()
                && !is_invisible(before)
        }
        c => !c.is_control() && !is_invisible(c),
    };
    let pairs = || std::iter::once('\0').chain(text.chars()).zip(text.chars());
    if pairs().all(|(before, c)| keep(before, c)) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (before, c) in pairs() {
        if keep(before, c) {
            out.push(c);
        } else {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c => out.extend(c.escape_unicode()),
            }
        }
    }
    out.into()
}

/// A stranger's name for something, as it stands between backticks in a text of ours: [`printable`], in one
/// line, of at most `max` bytes of it, and with no backtick of its own that would end it, nor anything that looks
/// like one.
///
/// ```
/// assert_eq!(skillhost::text::named("a`\n", 100), "a\\u{60}\\n");
/// ```
pub fn named(text: &str, max: usize) -> String {
    let text = shortened(text, max);
    let mut named = String::with_capacity(text.len());
    for part in printable(&text, false).split_inclusive(is_backtick) {
        let plain = part.trim_end_matches(is_backtick);
        named.push_str(plain);
        named.extend(part[plain.len()..].chars().flat_map(char::escape_unicode));
    }
    named
}

/// Whether a character is a backtick, or is one of those that are the most like it: the Greek varia, which is
/// made one where text is normalised, the modifier, the middle and the fullwidth grave accent, and the reversed
/// prime. There are others with some likeness, such as quotation marks, that names have in good faith.
pub(crate) fn is_backtick(c: char) -> bool {
    matches!(
        c,
        '`' | '\u{1fef}' | '\u{2cb}' | '\u{2f4}' | '\u{ff40}' | '\u{2035}'
    )
}

/// What a library says of a stranger's text: [`printable`], of at most `max` bytes, and with an apostrophe for each
/// backtick, as the stranger's words in it would end those that it puts them between.
pub(crate) fn said(text: &str, lines: bool, max: usize) -> String {
    shortened(&printable(text.trim_end(), lines), max).replace(is_backtick, "'")
}

/// [`said`] of what writes itself, in one line. Of what is longer than [`MOST_WRITTEN`] the rest is not even written: an
/// error may show the value that it is about, which may have many megabytes.
pub(crate) fn said_of(says: &impl fmt::Display, max: usize) -> String {
    struct Beginning(String);

    impl fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let fits = cut(text, MOST_WRITTEN - self.0.len());
            self.0.push_str(fits);
            if fits.len() < text.len() {
                return Err(fmt::Error);
            }
            Ok(())
        }
    }

    let mut written = Beginning(String::new());
    match fmt::write(&mut written, format_args!("{says}")) {
        Ok(()) => said(&written.0, false, max),
        Err(fmt::Error) => {
            let begins = said(cut(&written.0, max), false, MOST_WRITTEN);
            format!("{}… (many more bytes)", cut(&begins, max))
        }
    }
}

/// How much of a long error is written, in bytes.
const MOST_WRITTEN: usize = 64 * 1024;

/// Whether a character shows nothing itself, or changes how others are shown: general category
/// "format" (Cf) and the line and paragraph separators of Unicode 17.0, what is ignored by default
/// (`Default_Ignorable_Code_Point`: fillers, variation selectors, tags), and the blank of Braille.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// At most `max` bytes of a text, cut at a character, with a mark where something is missing.
pub(crate) fn shortened(text: &str, max: usize) -> std::borrow::Cow<'_, str> {
    let begins = cut(text, max);
    match text.len() - begins.len() {
        0 => text.into(),
        more => format!("{begins}… ({more} bytes more)").into(),
    }
}

/// At most `max` bytes of a text, cut at a character.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The first line of what something shows of itself, and of that at most `max` bytes. It is not let go
/// on past that: what a stranger has a hand in may show more than fits anywhere.
pub(crate) fn first_line(shown: &dyn std::fmt::Display, max: usize) -> String {
    struct Line {
        text: String,
        room: usize,
    }
    impl std::fmt::Write for Line {
        fn write_str(&mut self, more: &str) -> std::fmt::Result {
            let line = more.split('\n').next().unwrap_or_default();
            let end = line.floor_char_boundary(line.len().min(self.room));
            self.text.push_str(&line[..end]);
            self.room -= end;
            match end == more.len() {
                true => Ok(()),
                false => Err(std::fmt::Error),
            }
        }
    }
    let mut line = Line {
        text: String::new(),
        room: max,
    };
    // An error is that there was more.
    let _ = std::fmt::write(&mut line, format_args!("{shown:#}"));
    line.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_more_is_stopped() {
        struct Endless(&'static str);
        impl std::fmt::Display for Endless {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                loop {
                    f.write_str(self.0)?;
                }
            }
        }
        assert_eq!(first_line(&Endless("ab\ncd"), 100), "ab");
        assert_eq!(first_line(&Endless("ab"), 5), "ababa");
        assert_eq!(first_line(&Endless("é"), 5), "éé");
        assert_eq!(first_line(&"abc", 3), "abc");
        assert_eq!(first_line(&"", 3), "");
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        for c in [
            '\u{ad}',
            '\u{61c}',
            '\u{206a}',
            '\u{e0041}',
            '\u{3164}',
            '\u{202e}',
        ] {
            assert_eq!(
                printable(&c.to_string(), true),
                c.escape_unicode().to_string()
            );
        }
        assert_eq!(printable("é 漢 🙂\u{fe0f}", false), "é 漢 🙂\u{fe0f}");
        assert_eq!(printable("1\u{fe0f}", false), "1\u{fe0f}");
        for hidden in [
            "a\u{fe0f}",
            " \u{fe0e}",
            "\u{fe0f}",
            "🙂\u{fe0f}\u{fe0f}",
            "🙂\u{fe00}",
            "a\u{34f}",
            "\u{17b4}",
            "\u{180b}",
            "\u{2800}",
            "\u{fff0}",
            "\u{e0100}",
        ] {
            assert!(printable(hidden, false).contains("\\u{"), "{hidden:?}");
        }
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(printable("plain é", false), "plain é");
        assert_eq!(printable("a\r\nb", true), "a\\r\nb");
        assert_eq!(printable("\u{202e}evil", true), "\\u{202e}evil");
        assert_eq!(printable("\u{9b}31m", true), "\\u{9b}31m");
    }

    #[test]
    fn shortening_keeps_characters_whole() {
        assert_eq!(shortened("ééé", 3), "é… (4 bytes more)");
        assert_eq!(shortened("abc", 3), "abc");
    }

    #[test]
    fn of_a_long_error_the_beginning_is_said() {
        assert_eq!(said_of(&"`a`\n", 9), "'a'");
        assert_eq!(said_of(&"abcd", 3), "abc… (1 bytes more)");
        let long = serde_json::json!(vec!["é"; MOST_WRITTEN]);
        assert_eq!(said_of(&long, 6), "[\"é\",… (many more bytes)");
        assert_eq!(said_of(&long, 3), "[\"… (many more bytes)");
    }

    #[test]
    fn close_words_are_found_and_far_ones_not() {
        assert_eq!(
            closest("thumnail", ["thumbnail", "metadata"].into_iter()),
            Some("thumbnail")
        );
        assert_eq!(closest("tpo", ["text", "top"].into_iter()), Some("top"));
        assert_eq!(
            closest("r", ["ro", "rw"].into_iter()),
            Some("ro"),
            "of equals the first"
        );
        assert_eq!(
            closest("zebra", ["thumbnail", "metadata"].into_iter()),
            None
        );
    }
}
