//! Bytes as they read where escapes are taken for what they stand for: those of JSON, of URLs, and of HTML.
//!
//! Each writer escapes what it likes: Go writes `&` as `\u0026`, .NET `+` as `\u002B` as well, and what a URL leaves as
//! it is depends on the part of it. So a value is looked for in what they all read as.

use std::ops::Range;

use zeroize::Zeroizing;

/// The longest escape that is read, in bytes.
pub(super) const LONGEST_ESCAPE: usize = 8;

/// What stands for a character that no value has.
const OTHER: u8 = 0xff;

/// For each of the three readings, how many of the first bytes belong to an escape that began before them.
pub(super) type Begun = [usize; 3];

/// The readings of bytes that have escapes of that kind in them.
pub(super) struct Readings([Option<Reading>; 3]);

impl Readings {
    /// All of them.
    pub fn of(bytes: &[u8], begun: Begun) -> Self {
        Readings([
            Reading::of_json(bytes, begun[0]),
            Reading::of_url(bytes, begun[1]),
            Reading::of_html(bytes, begun[2]),
        ])
    }

    /// Each that there is.
    pub fn each(&self) -> impl Iterator<Item = &Reading> {
        self.0.iter().flatten()
    }

    /// How it is with what stands from this byte on. What is begun before it must be there as a whole.
    pub fn begun(&self, at: usize) -> Begun {
        let beyond = |reading: &Option<Reading>| {
            let escape = reading.as_ref().and_then(|reading| reading.escape(at));
            escape.map_or(0, |escape| match escape.start < at {
                true => escape.end - at,
                false => 0,
            })
        };
        self.0.each_ref().map(beyond)
    }

    /// Where the first begins of the escapes that this byte belongs to.
    pub fn escape(&self, at: usize) -> Option<usize> {
        let escapes = self.each().filter_map(|reading| reading.escape(at));
        escapes.map(|escape| escape.start).min()
    }
}

/// Bytes that were read.
pub(super) struct Reading {
    pub bytes: Zeroizing<Vec<u8>>,
    /// Behind which byte of the reading how many bytes more there were: one for each escape, in order.
    longer: Vec<(usize, usize)>,
    /// So many of the first bytes belong to an escape that began before them.
    begun: usize,
}

impl Reading {
    /// As JSON reads what stands in a text. `None` where it is what it is.
    fn of_json(bytes: &[u8], begun: usize) -> Option<Self> {
        Reading::new(bytes, begun, b'\\', |rest| {
            let escaped = *rest.get(1)?;
            match escaped {
                b'"' | b'\\' | b'/' => Some((escaped, 2)),
                b'u' => {
                    let digits = std::str::from_utf8(rest.get(2..6)?).ok()?;
                    // Values are ASCII.
                    let byte = u8::try_from(hexadecimal(digits)?).ok();
                    Some((byte.filter(u8::is_ascii).unwrap_or(OTHER), 6))
                }
                b'b' | b'f' | b'n' | b'r' | b't' => Some((OTHER, 2)),
                _ => None,
            }
        })
    }

    /// As a URL reads.
    fn of_url(bytes: &[u8], begun: usize) -> Option<Self> {
        Reading::new(bytes, begun, b'%', |rest| {
            let digits = std::str::from_utf8(rest.get(1..3)?).ok()?;
            let code = hexadecimal(digits)?;
            u8::try_from(code).ok().map(|byte| (byte, 3))
        })
    }

    /// As HTML reads: what ends with a semicolon and is no longer than `LONGEST_ESCAPE`, by its number or by its name.
    fn of_html(bytes: &[u8], begun: usize) -> Option<Self> {
        Reading::new(bytes, begun, b'&', |rest| {
            let rest = &rest[1..rest.len().min(LONGEST_ESCAPE)];
            // Nothing else begins one: it is not looked for its end behind each of many `&`.
            if !rest
                .first()
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'#')
            {
                return None;
            }
            let end = rest.iter().position(|byte| *byte == b';')?;
            let escape = std::str::from_utf8(&rest[..end]).ok()?;
            let byte = match escape.strip_prefix('#') {
                None => {
                    let named = HTML_NAMES.iter().find(|(name, _)| *name == escape);
                    named.map(|(_, byte)| *byte)
                }
                Some(number) => match number.strip_prefix(['x', 'X']) {
                    Some(digits) => hexadecimal(digits).and_then(|code| u8::try_from(code).ok()),
                    None if number.starts_with('+') => None,
                    None => number.parse().ok(),
                },
            };
            byte.filter(u8::is_ascii).map(|byte| (byte, end + 2))
        })
    }

    fn new(
        bytes: &[u8],
        begun: usize,
        escape: u8,
        read: impl Fn(&[u8]) -> Option<(u8, usize)>,
    ) -> Option<Self> {
        if begun == 0 && !bytes.contains(&escape) {
            return None;
        }
        let begun = begun.min(bytes.len());
        let mut reading = Reading {
            bytes: Zeroizing::new(Vec::with_capacity(bytes.len())),
            longer: Vec::new(),
            begun,
        };
        let mut at = begun;
        reading.bytes.resize(begun, OTHER);
        let mut more = 0;
        while at < bytes.len() {
            let read = match bytes[at] == escape {
                true => read(&bytes[at..]),
                false => None,
            };
            let (byte, length) = match read {
                Some(read) => read,
                // What is no escape of this kind stands for itself.
                None => (bytes[at], 1),
            };
            reading.bytes.push(byte);
            at += length;
            if length > 1 {
                more += length - 1;
                reading.longer.push((reading.bytes.len(), more));
            }
        }
        Some(reading)
    }

    /// The escape that a byte of those that were read belongs to, if it belongs to one. Of one that began before all
    /// of them, what is there.
    fn escape(&self, at: usize) -> Option<Range<usize>> {
        if at < self.begun {
            return Some(0..self.begun);
        }
        // The first one that ends behind it.
        let next = self
            .longer
            .partition_point(|(behind, more)| behind + more <= at);
        let before = next.checked_sub(1).map_or(0, |last| self.longer[last].1);
        let (behind, more) = self.longer.get(next)?;
        let escape = behind - 1 + before..behind + more;
        escape.contains(&at).then_some(escape)
    }

    /// Where among the bytes that were read this place of the reading is: what begins there, or ends before it.
    pub fn place(&self, at: usize) -> usize {
        let before = self.longer.partition_point(|(behind, _)| *behind <= at);
        at + match before.checked_sub(1) {
            Some(last) => self.longer[last].1,
            None => 0,
        }
    }
}

/// The names of single visible ASCII characters that are no longer than an escape may be, from the table of named character
/// references in the HTML standard, section 13.5.
const HTML_NAMES: [(&str, u8); 40] = [
    ("excl", b'!'),
    ("quot", b'"'),
    ("QUOT", b'"'),
    ("num", b'#'),
    ("dollar", b'$'),
    ("percnt", b'%'),
    ("amp", b'&'),
    ("AMP", b'&'),
    ("apos", b'\''),
    ("lpar", b'('),
    ("rpar", b')'),
    ("ast", b'*'),
    ("midast", b'*'),
    ("plus", b'+'),
    ("comma", b','),
    ("period", b'.'),
    ("sol", b'/'),
    ("colon", b':'),
    ("semi", b';'),
    ("lt", b'<'),
    ("LT", b'<'),
    ("equals", b'='),
    ("gt", b'>'),
    ("GT", b'>'),
    ("quest", b'?'),
    ("commat", b'@'),
    ("lsqb", b'['),
    ("lbrack", b'['),
    ("bsol", b'\\'),
    ("rsqb", b']'),
    ("rbrack", b']'),
    ("Hat", b'^'),
    ("lowbar", b'_'),
    ("grave", b'`'),
    ("lcub", b'{'),
    ("lbrace", b'{'),
    ("verbar", b'|'),
    ("vert", b'|'),
    ("rcub", b'}'),
    ("rbrace", b'}'),
];

/// Digits alone, without a sign.
fn hexadecimal(digits: &str) -> Option<u32> {
    let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reading: Option<Reading>) -> (String, Vec<usize>) {
        let reading = reading.expect("there are escapes");
        let places = (0..=reading.bytes.len())
            .map(|at| reading.place(at))
            .collect();
        (String::from_utf8(reading.bytes.to_vec()).unwrap(), places)
    }

    #[test]
    fn escapes_are_what_they_stand_for_and_places_are_kept() {
        assert_eq!(
            read(Reading::of_json(br#"a\u0026\\b\/"#, 0)),
            ("a&\\b/".into(), vec![0, 1, 7, 9, 10, 12])
        );
        assert_eq!(
            read(Reading::of_url(b"a%26b%2fc%", 0)),
            ("a&b/c%".into(), vec![0, 1, 4, 5, 8, 9, 10])
        );
        assert_eq!(
            read(Reading::of_html(
                b"a&amp;&#43;&#x2b;&#00039;&lowbar;&#x0026;b",
                0
            )),
            ("a&++'_&b".into(), vec![0, 1, 6, 11, 17, 25, 33, 41, 42])
        );
        // What is no escape, or of another kind, stands for itself.
        for odd in [r"\x", r"\u00", r"\u+041", r"\"] {
            assert_eq!(read(Reading::of_json(odd.as_bytes(), 0)).0, odd);
        }
        // What is in no value is one byte as well.
        for other in [r"\n", r"\t", r"\u00e9", r"\ud83d"] {
            let reading = Reading::of_json(other.as_bytes(), 0).unwrap();
            assert_eq!(*reading.bytes, [OTHER], "{other}");
        }
        assert_eq!(read(Reading::of_url(b"%+1%g1%2", 0)).0, "%+1%g1%2");
        for odd in [
            "&;",
            "&#;",
            "&#x;",
            "&#+1;",
            "&#x+1;",
            "&#999;",
            "&#233;",
            "&#0000038;",
            "&nbsp;",
            "&am",
            "&",
        ] {
            assert_eq!(read(Reading::of_html(odd.as_bytes(), 0)).0, odd);
        }
        assert!(Reading::of_json(b"a%26", 0).is_none());
        // The first ones belong to what came before.
        let rest = Reading::of_url(b"6%27", 1).unwrap();
        assert_eq!((&**rest.bytes, rest.place(2)), (&[OTHER, b'\''][..], 4));
    }

    #[test]
    fn bytes_of_escapes_are_known() {
        for (text, begun, marked) in [
            (r"a\u0026b\n\\c", 0, r".^^^^^^.^^^^."),
            (r"\u0026", 0, r"^^^^^^"),
            (r"\u0026", 1, r"^....."),
            (r"u0026\\\/", 5, r"^^^^^^^^^"),
            (r"\x", 0, r".."),
        ] {
            let reading = Reading::of_json(text.as_bytes(), begun).unwrap();
            assert_eq!(marks(&reading, text), marked);
        }
        for (text, begun, marked) in [
            ("a%0Ab%", 0, ".^^^.."),
            ("%%41", 0, ".^^^"),
            ("41b", 2, "^^."),
        ] {
            let reading = Reading::of_url(text.as_bytes(), begun).unwrap();
            assert_eq!(marks(&reading, text), marked);
        }
    }

    fn marks(reading: &Reading, text: &str) -> String {
        let mark = |at| {
            if reading.escape(at).is_some() {
                '^'
            } else {
                '.'
            }
        };
        (0..text.len()).map(mark).collect()
    }

    /// Wherever bytes are cut, what stands behind is read as it was.
    #[test]
    fn an_escape_that_is_begun_is_known() {
        for text in [r"a\u0026\\b\/\", "%2%26%%27%2", "&amp;&&#38;&#x0026;&am"] {
            let whole = Readings::of(text.as_bytes(), [0; 3]);
            for cut in 0..text.len() {
                let rest = Readings::of(&text.as_bytes()[cut..], whole.begun(cut));
                for (whole, rest) in whole.0.iter().zip(&rest.0) {
                    let Some(whole) = whole else {
                        assert!(rest.is_none());
                        continue;
                    };
                    let behind = marks(whole, text).split_off(cut);
                    match rest {
                        Some(rest) => assert_eq!(marks(rest, &text[cut..]), behind, "{cut}"),
                        None => assert!(!behind.contains('^'), "{text}: {cut}"),
                    }
                }
            }
        }
    }
}
