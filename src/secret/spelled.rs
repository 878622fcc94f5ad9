//! Bytes as they read where escapes are taken for what they stand for: those of JSON, of URLs, and of HTML.
//!
//! Each writer escapes what it likes: Go writes `&` as `\u0026`, .NET `+` as `\u002B` as well, and what a URL leaves as
//! it is depends on the part of it. So a value is looked for in what they all read as.

use zeroize::Zeroizing;

/// The longest escape that is read, in bytes.
pub(super) const LONGEST_ESCAPE: usize = 8;

/// What stands for a character that no value has.
const OTHER: u8 = 0xff;

/// Bytes that were read.
pub(super) struct Reading {
    pub bytes: Zeroizing<Vec<u8>>,
    /// Behind which byte of the reading how many bytes more there were: one for each escape, in order.
    longer: Vec<(usize, usize)>,
}

impl Reading {
    /// As JSON reads what stands in a text. `None` where it is what it is. The first byte may be one that an escape
    /// before it ends with.
    pub fn of_json(bytes: &[u8], first_is_escaped: bool) -> Option<Self> {
        Reading::new(bytes, usize::from(first_is_escaped), b'\\', |rest| {
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
    pub fn of_url(bytes: &[u8]) -> Option<Self> {
        Reading::new(bytes, 0, b'%', |rest| {
            let digits = std::str::from_utf8(rest.get(1..3)?).ok()?;
            let code = hexadecimal(digits)?;
            u8::try_from(code).ok().map(|byte| (byte, 3))
        })
    }

    /// As HTML reads: what ends with a semicolon and is no longer than `LONGEST_ESCAPE`, by its number or by its name.
    pub fn of_html(bytes: &[u8]) -> Option<Self> {
        Reading::new(bytes, 0, b'&', |rest| {
            let rest = &rest[1..rest.len().min(LONGEST_ESCAPE)];
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
        from: usize,
        escape: u8,
        read: impl Fn(&[u8]) -> Option<(u8, usize)>,
    ) -> Option<Self> {
        if !bytes.contains(&escape) {
            return None;
        }
        let mut reading = Reading {
            bytes: Zeroizing::new(Vec::with_capacity(bytes.len())),
            longer: Vec::new(),
        };
        let mut at = from.min(bytes.len());
        reading.bytes.extend_from_slice(&bytes[..at]);
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

    /// Whether a byte of those that were read belongs to an escape.
    pub fn in_escape(&self, at: usize) -> bool {
        // The first escape that ends behind it.
        let next = self
            .longer
            .partition_point(|(behind, more)| behind + more <= at);
        let before = next.checked_sub(1).map_or(0, |last| self.longer[last].1);
        self.longer
            .get(next)
            .is_some_and(|(behind, _)| behind - 1 + before <= at)
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

/// Whether an escape of JSON is begun at the end of these bytes, of which the first may be one that an escape before
/// it ends with.
pub(super) fn ends_in_escape(bytes: &[u8], first_is_escaped: bool) -> bool {
    let own = bytes
        .iter()
        .rev()
        .take_while(|byte| **byte == b'\\')
        .count();
    let own = match own == bytes.len() && first_is_escaped && own > 0 {
        true => own - 1,
        false => own,
    };
    own % 2 == 1
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
            read(Reading::of_json(br#"a\u0026\\b\/"#, false)),
            ("a&\\b/".into(), vec![0, 1, 7, 9, 10, 12])
        );
        assert_eq!(
            read(Reading::of_url(b"a%26b%2fc%")),
            ("a&b/c%".into(), vec![0, 1, 4, 5, 8, 9, 10])
        );
        assert_eq!(
            read(Reading::of_html(
                b"a&amp;&#43;&#x2b;&#00039;&lowbar;&#x0026;b"
            )),
            ("a&++'_&b".into(), vec![0, 1, 6, 11, 17, 25, 33, 41, 42])
        );
        // What is no escape, or of another kind, stands for itself.
        for odd in [r"\x", r"\u00", r"\u+041", r"\"] {
            assert_eq!(read(Reading::of_json(odd.as_bytes(), false)).0, odd);
        }
        // What is in no value is one byte as well.
        for other in [r"\n", r"\t", r"\u00e9", r"\ud83d"] {
            let reading = Reading::of_json(other.as_bytes(), false).unwrap();
            assert_eq!(*reading.bytes, [OTHER], "{other}");
        }
        assert_eq!(read(Reading::of_url(b"%+1%g1%2")).0, "%+1%g1%2");
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
            assert_eq!(read(Reading::of_html(odd.as_bytes())).0, odd);
        }
        assert!(Reading::of_json(b"a%26", false).is_none());
        // The first belongs to what came before.
        assert_eq!(read(Reading::of_json(br"\u0026", true)).0, r"\u0026");
    }

    #[test]
    fn bytes_of_escapes_are_known() {
        let marks = |reading: Option<Reading>, text: &str| -> String {
            let reading = reading.unwrap();
            (0..text.len())
                .map(|at| if reading.in_escape(at) { '^' } else { '.' })
                .collect()
        };
        for (text, marked) in [
            (r"a\u0026b\n\\c", r".^^^^^^.^^^^."),
            (r"\u0026", r"^^^^^^"),
            (r"\x", r".."),
        ] {
            assert_eq!(
                marks(Reading::of_json(text.as_bytes(), false), text),
                marked
            );
        }
        for (text, marked) in [("a%0Ab%", ".^^^.."), ("%%41", ".^^^")] {
            assert_eq!(marks(Reading::of_url(text.as_bytes()), text), marked);
        }
    }

    #[test]
    fn an_escape_that_is_begun_is_known() {
        for (bytes, first, begun) in [
            (r"a\", false, true),
            (r"a\\", false, false),
            (r"\", true, false),
            (r"\\", true, true),
            ("", true, false),
            ("a", true, false),
        ] {
            assert_eq!(ends_in_escape(bytes.as_bytes(), first), begun, "{bytes}");
        }
    }
}
