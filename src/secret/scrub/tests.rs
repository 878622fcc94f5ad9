use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

fn scrubber(values: &[&str]) -> Scrubber {
    Scrubber::new(values.iter().map(|value| ("s", value.as_bytes())))
}

fn clean(values: &[&str], text: &str) -> String {
    let mut text = text.to_owned();
    scrubber(values).text(&mut text);
    text
}

const VALUE: &str = "hunter2/\"+Hunter2 x";

#[test]
fn every_form_of_a_value_is_taken_out() {
    let encoded =
        |before: &str, engine: &dyn Fn(&str) -> String| engine(&format!("{before}{VALUE}and more"));
    let standard = |text: &str| STANDARD.encode(text);
    let url_safe = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for text in [
        VALUE.to_owned(),
        format!("Bearer {VALUE}."),
        serde_json::to_string(VALUE).unwrap(),
        r#"hunter2\/\"+Hunter2 x"#.into(),
        "hunter2%2F%22%2BHunter2%20x".into(),
        "hunter2%2f%22%2bHunter2%20x".into(),
        "hunter2%2F%22%2BHunter2+x".into(),
        // As others escape.
        r#"hunter2/\u0022\u002BHunter2 x"#.into(),
        r#"hunter2\/\u0022+Hunter2\u0020x"#.into(),
        "hunter2/%22+Hunter2%20x".into(),
        "%68unter2/%22%2bHunter2+x".into(),
        "hunter2/&quot;+Hunter2 x".into(),
        "hunter2/&#34;&#43;Hunter2 x".into(),
        "hunter2&sol;&QUOT;&plus;Hunter2&#x0020;x".into(),
        "&#x68;unter2/&#x22;&#x2B;Hunter2&#032;x".into(),
        hex::encode(VALUE),
        hex::encode_upper(VALUE),
        encoded("", &standard),
        encoded("", &standard)
            .replace('/', r"\/")
            .replace('=', r"\u003d"),
        encoded("u", &standard),
        encoded("us", &standard),
        encoded("user:", &url_safe),
        encoded("user", &url_safe),
    ] {
        let cleaned = clean(&[VALUE], &text);
        assert!(cleaned.contains(MARKER), "{text}: {cleaned}");
        assert!(cleaned.len() <= text.len(), "{text}: {cleaned}");
        assert!(!cleaned.to_lowercase().contains("hunter2"), "{cleaned}");
    }
    assert_eq!(
        clean(&[VALUE], "hunter2 is not all of it"),
        "hunter2 is not all of it"
    );
}

/// As a hint has what a guest asked for: between backticks, and in a command of a shell.
#[test]
fn a_value_in_a_text_of_the_hosts_is_taken_out() {
    let value = "it's `quoted` twice";
    let named = crate::text::named(value, 100);
    let word = format!("'{}'", named.replace('\'', r"'\''"));
    assert!(named != value && word != named, "{named} {word}");
    for text in [
        &named,
        &word,
        &format!("`{named}` {word}"),
        &value.to_owned(),
    ] {
        let clean = clean(&[value], text);
        assert!(clean.contains("[secret]"), "{clean}");
        assert!(
            !clean.contains("quoted") && !clean.contains("twice"),
            "{clean}"
        );
    }
}

/// A character of base64 has bits of two bytes.
#[test]
fn no_bits_of_a_value_stay_in_base64() {
    for value in ["hunter2-hunter2", "hunter2-hunter22", "hunter2-hunter222"] {
        for before in ["", "u", "us", "use", "user"] {
            for behind in ["", "a", "an", "and"] {
                let text = STANDARD.encode(format!("{before}{value}{behind}"));
                let scrubber = scrubber(&[value]);
                // Those that have six bits of what stands beside it, and what fills up the end.
                let first = before.len() * 8 / 6;
                let last = (before.len() + value.len()) * 8;
                let last = last.div_ceil(6).min(text.len());
                let left = format!("{}{MARKER}{}", &text[..first], &text[last..]);
                assert_eq!(clean(&[value], &text), left, "{text}");
                assert_eq!(singly(&scrubber, &text), left, "{text}");
            }
        }
    }
    // What is no character of base64 is nothing of the value. An escape whose end may be one goes as a whole.
    let text = STANDARD.encode("uhunter2-hunter22");
    let scrubber = scrubber(&["hunter2-hunter22"]);
    for (before, stays) in [
        ("é", "é"),
        ("W.", "W."),
        (r"\n", ""),
        (r"\r\n", r"\r"),
        (r"a\u000a", "a"),
        (r"\u00e9", ""),
        ("%0A", ""),
        ("%%41", "%"),
        ("&#10;", "&#10;"),
    ] {
        let text = format!("{before}{}é", &text[2..22]);
        let left = format!("{stays}[secret]é");
        assert_eq!(singly(&scrubber, &text), left);
        assert_eq!(scrubber.bytes(text.as_bytes()).unwrap(), left.as_bytes());
        // Where a large text is cut.
        for fill in PIECE - scrubber.window - 9..PIECE - scrubber.window + 9 {
            let fill = ".".repeat(fill);
            let mut text = format!("{fill}{text}{}", ".".repeat(PIECE));
            scrubber.text(&mut text);
            let place = &text[fill.len()..fill.len() + left.len()];
            assert_eq!(place, left, "{}", fill.len());
        }
    }
    for escaped in [r"\u0057", "%57", "&#87;"] {
        let text = format!("d{escaped}{}", &text[2..22]);
        assert_eq!(singly(&scrubber, &text), "d[secret]");
    }
}

/// To build what looks for it takes no time with the square of its length.
#[test]
fn a_long_value_that_repeats_itself_is_found() {
    for part in ["&", "ab"] {
        let value = part.repeat(8192 / part.len());
        assert_eq!(clean(&[&value], &format!("1{value}2")), "1[secret]2");
        let encoded = STANDARD.encode(format!("user:{value}"));
        let cleaned = clean(&[&value], &encoded);
        assert_eq!(cleaned, format!("{}{MARKER}==", &encoded[..6]), "{part}");
    }
}

#[test]
fn what_overlaps_leaves_nothing_behind() {
    assert_eq!(
        clean(&["abcdefgh", "efghijkl"], "1abcdefghijkl2"),
        "1[secret]2"
    );
    assert_eq!(clean(&["abcdefgh", "abcdefghijkl"], "abcdefghijkl"), MARKER);
    assert_eq!(
        clean(&["abcdefgh", "abcdefghijkl"], "abcdefghijk"),
        "[secret]ijk"
    );
    assert_eq!(clean(&["aaaaaaaa"], &"a".repeat(20)), MARKER);
}

#[test]
fn json_is_cleaned_in_keys_numbers_and_escapes() {
    let mut value: Value = serde_json::from_str(
        r#"{"k12345678": ["\u0031234567812", 1234567812345678, null], "x": {"y": "12345678"}}"#,
    )
    .unwrap();
    scrubber(&["12345678"]).json(&mut value);
    assert_eq!(
        value,
        serde_json::json!({"k[secret]": ["[secret]12", "[secret]", null], "x": {"y": "[secret]"}})
    );
}

#[test]
fn text_that_was_cut_loses_as_many_bytes_whatever_they_are() {
    let scrubber = scrubber(&["12345678"]);
    let fill = "z".repeat(160);
    for end in ["1234567", "12", "x", "12 4", "", "é1234567", "[secret]1234"] {
        let text = format!("{fill}{end}");
        let mut cut = text.clone();
        assert_eq!(scrubber.cut(&mut cut), 128, "{end}");
        assert_eq!(cut, text[..text.len() - 128]);
    }
    let mut short = "1234567".to_owned();
    assert_eq!(scrubber.cut(&mut short), 7);
    // Never within a character.
    let mut wide = "é".repeat(80) + "z";
    assert_eq!((scrubber.cut(&mut wide), wide.len()), (129, 32));
    let mut any = "1234567".to_owned();
    assert_eq!(Scrubber::new(std::iter::empty()).cut(&mut any), 0);
}

/// Wherever in a large text a value is, and in whichever form.
#[test]
fn a_large_text_is_looked_through_in_pieces() {
    let scrubber = scrubber(&[VALUE]);
    let escaped: String = VALUE.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    for form in [VALUE, &escaped] {
        for before in (PIECE - 2 * form.len()..PIECE + 2).step_by(7) {
            let mut text = "\\".repeat(before & !1) + form + &"%2".repeat(PIECE);
            assert!(scrubber.find(text.as_bytes()).is_some(), "{before}");
            let length = text.len();
            scrubber.text(&mut text);
            assert_eq!(text.len(), length - form.len() + MARKER.len(), "{before}");
        }
    }
}

/// Also where each of its bytes is escaped.
#[test]
fn no_form_is_longer_than_what_waits() {
    for value in [
        "&&&&&&&&&&&",
        "\"\"\"\"\"\"\"\"",
        "////////",
        "aaaaaaaaa",
        "````````",
        "it's-`a`-value12",
        VALUE,
    ] {
        let scrubber = scrubber(&[value]);
        let longest = scrubber.patterns.iter().map(|(form, _)| form.bytes.len());
        assert!(longest.max().unwrap() <= scrubber.window, "{value}");
        let digits = hex::encode(value);
        let encoded = STANDARD.encode(format!("u{value}u"));
        // Of base64, the character before that has nothing of it, and those behind.
        let behind = encoded.len() - (8 * (1 + value.len())).div_ceil(6);
        for (form, beside) in [
            (value, 0),
            (digits.as_str(), 0),
            (encoded.as_str(), 1 + behind),
        ] {
            let json: String = form.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
            let html: String = form.bytes().map(|byte| format!("&#x{byte:04x};")).collect();
            for (escaped, each) in [(json, 6), (html, 8)] {
                let left = singly(&scrubber, &escaped);
                assert!(left.contains(MARKER), "{escaped}");
                // What repeats itself is there in more than one way, and what is beside one is in another.
                assert!(left.len() <= MARKER.len() + beside * each, "{left}");
            }
        }
    }
    assert_eq!(window(40), 1024);
}

/// What comes of a text that is cut there, for each piece and at the end.
fn pieces(scrubber: &Scrubber, text: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (mut passage, mut pieces, mut at) = (Passage::default(), Vec::new(), 0);
    for cut in cuts.iter().copied().chain([text.len()]) {
        let cut = cut.clamp(at, text.len());
        pieces.push(passage.push(scrubber, &text[at..cut]));
        at = cut;
    }
    pieces.push(passage.finish(scrubber));
    assert!(passage.is_empty());
    pieces
}

/// What comes of a text that comes byte by byte, with so much behind it that each of them is the last one
/// that goes on at some time.
fn singly(scrubber: &Scrubber, text: &str) -> String {
    let behind = ".".repeat(scrubber.window + 1);
    let all = format!("{text}{behind}");
    let cuts: Vec<usize> = (0..all.len()).collect();
    let clean = String::from_utf8(in_pieces(scrubber, all.as_bytes(), &cuts)).unwrap();
    clean.strip_suffix(&behind).unwrap().to_owned()
}

/// The end of an escape is nothing by itself, wherever a text is cut.
#[test]
fn what_is_no_value_as_a_whole_is_none_in_pieces() {
    for (value, text) in [
        ("20abcdefgh/ij", "a=%20abcdefgh%2Fij&b=the rest"),
        ("nabcdefg\"hij", r#"{"a":"\nabcdefg\"hij","b":1}"#),
        ("h+u/n&t<2", "%268%32b752f6e26743c32 tail"),
    ] {
        let scrubber = scrubber(&[value]);
        assert_eq!(clean(&[value], text), text);
        assert_eq!(singly(&scrubber, text), text);
    }
}

fn in_pieces(scrubber: &Scrubber, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    pieces(scrubber, text, cuts).concat()
}

#[test]
fn a_value_cut_anywhere_is_found() {
    let scrubber = scrubber(&[VALUE, "other-secret"]);
    let text = format!(
        "before {VALUE} between other-secret {} after",
        hex::encode(VALUE)
    );
    let whole = scrubber.bytes(text.as_bytes()).unwrap();
    assert_eq!(singly(&scrubber, &text).as_bytes(), whole);
    let behind = vec![b'.'; scrubber.window];
    let all = [text.as_bytes(), &behind].concat();
    let whole = [whole, behind].concat();
    // As many wait as stand behind, so that the text is cut there.
    for first in scrubber.window..all.len() {
        for second in [first, first + 1, first + 5] {
            let pieces = in_pieces(&scrubber, &all, &[first, second]);
            assert_eq!(pieces, whole, "cut at {first} and {second}");
        }
    }
}

proptest! {
    /// Two values of the same length, and a text that is full of their beginnings and has neither of
    /// them in it: it goes through, in the same pieces, and is cut at the same place.
    #[test]
    fn nothing_tells_how_far_a_text_is_like_a_value(
        (first, second) in (8..40_usize).prop_flat_map(|length| {
            let value = || proptest::string::string_regex(&format!("[!-~]{{{length}}}")).unwrap();
            (value(), value())
        }),
        parts in proptest::collection::vec((0..40_usize, 0..100_usize, "[ -~]{0,20}"), 0..12),
        cuts in proptest::collection::vec(0..600_usize, 0..20),
    ) {
        let forms: Vec<_> = [&first, &second]
            .iter()
            .flat_map(|value| forms(value.as_bytes()))
            .map(|form| form.bytes)
            .collect();
        let mut text = Vec::new();
        for (form, length, other) in &parts {
            let form = &forms[form % forms.len()];
            text.extend_from_slice(&form[..(*length).min(form.len() - 1)]);
            text.extend_from_slice(other.as_bytes());
        }
        let scrubbers = [&first, &second].map(|value| scrubber(&[value]));
        prop_assume!(scrubbers.iter().all(|one| one.find(&text).is_none()));
        let mut cuts = cuts;
        cuts.sort_unstable();
        let [one, other] = scrubbers.map(|scrubber| {
            let mut cut = String::from_utf8(text.clone()).unwrap();
            (pieces(&scrubber, &text, &cuts), scrubber.cut(&mut cut), cut)
        });
        prop_assert_eq!(one.0.concat(), text);
        prop_assert_eq!(one, other);
    }

    /// Values in every form and every way to escape them, beside what may be a part of an escape.
    #[test]
    fn pieces_come_to_the_same_in_every_form(
        parts in proptest::collection::vec(
            (r"(\\n|\\u000a|\\u00e9|%0A|%2|&#10;|&|\\| |[a-z0-9]{0,3})", 0..4_usize, 0..4_usize, "[a-z]{0,3}"),
            1..6,
        ),
        mask in proptest::collection::vec(any::<bool>(), 1..20),
        cuts in proptest::collection::vec(0..2_000_usize, 0..12),
    ) {
        const VALUE: &str = "h+u/n&t<2";
        let scrubber = scrubber(&[VALUE]);
        let mut text = String::new();
        let mut escape = mask.iter().cycle();
        for (before, form, way, beside) in &parts {
            text.push_str(before);
            let beside = format!("{beside}{VALUE}{beside}");
            let form = match form {
                0 => beside,
                1 => STANDARD.encode(beside),
                2 => URL_SAFE_NO_PAD.encode(beside),
                _ => hex::encode(beside),
            };
            for one in form.chars() {
                let code = one as u32;
                match (escape.next().unwrap(), way) {
                    (true, 1) => text += &format!("\\u{code:04x}"),
                    (true, 2) => text += &format!("%{code:02X}"),
                    (true, 3) => text += &format!("&#x{code:04x};"),
                    _ => text.push(one),
                }
            }
        }
        text += &".".repeat(scrubber.window);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = text.clone();
        let whole = scrubber.bytes(whole.as_bytes()).unwrap_or_else(|| whole.into_bytes());
        let pieces = in_pieces(&scrubber, text.as_bytes(), &cuts);
        prop_assert_eq!(String::from_utf8(pieces).unwrap(), std::str::from_utf8(&whole).unwrap());
        let behind = scrubber.window;
        let left = singly(&scrubber, &text[..text.len() - behind]) + &text[text.len() - behind..];
        prop_assert_eq!(&left, std::str::from_utf8(&whole).unwrap());
    }

    /// Of text over two letters, in which values overlap in every way, some of them escaped.
    #[test]
    fn pieces_come_to_the_same_as_the_whole(
        text in r"([ab]|\\u0061|\\\\|%62|&#9[78];|&#x6[12];){0,80}",
        first in "[ab]{8,10}",
        second in "[ab]{8,12}",
        cuts in proptest::collection::vec(0..120_usize, 0..8),
    ) {
        let scrubber = scrubber(&[&first, &second]);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = scrubber.bytes(text.as_bytes()).unwrap_or_else(|| text.clone().into_bytes());
        prop_assert_eq!(in_pieces(&scrubber, text.as_bytes(), &cuts), whole.clone());
        prop_assert!(whole.len() <= text.len());
        let whole = String::from_utf8(whole).unwrap();
        prop_assert!(!whole.contains(&first) && !whole.contains(&second));
    }
}

/// As the host writes the name of a host that a guest made of it.
#[test]
fn a_value_is_found_in_small_letters() {
    let value = "TrickyPasswordAbC0123456789";
    let scrubber = scrubber(&[value]);
    let mut text = format!("GET http://{}.example.com/", value.to_ascii_lowercase());
    scrubber.text(&mut text);
    assert_eq!(text, "GET http://[secret].example.com/");
}
