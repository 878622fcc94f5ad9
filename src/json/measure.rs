//! What a JSON text comes to, seen by its bytes alone, before any of it is read into memory: whatever it is read
//! into then, by whatever library.

use super::{MAX_VALUES, RESERVED, list, max_heap, object, reserved, string, too_heavy, too_many};

/// A text of more bytes than that is looked at and read where it holds up nobody, and what takes more bytes of
/// memory counts to what all may take together.
#[cfg(feature = "mcp")]
pub(crate) const LARGE: usize = 256 << 10;

/// The most levels that `serde_json` reads.
const MAX_LEVELS: usize = 127;

/// What the values of a text take on the heap, in bytes, at most, or why it is more of it than is read: by the same
/// bounds as of [`parse`](super::parse). Keeps nothing of it but what is open.
///
/// Of a text that is no JSON it says something about the beginning that is, which is all that anybody reads.
pub(crate) fn measure(text: &[u8]) -> Result<u64, String> {
    let mut measured = Measured {
        values: 0,
        heap: 0,
        max_heap: max_heap(text.len()),
        open: Vec::new(),
        awaits_name: false,
    };
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => {
                let (inner, end) = rest.split_at(quoted(rest));
                measured.text(inner)?;
                // Its end is no beginning of another.
                rest = end.get(1..).unwrap_or_default();
            }
            b'{' => measured.begin(Open::Object(0))?,
            b'[' => measured.begin(Open::List(0))?,
            b'}' | b']' => {
                measured.open.pop();
            }
            b',' => measured.awaits_name = true,
            b':' => measured.awaits_name = false,
            byte if byte.is_ascii_whitespace() => {}
            _ => {
                measured.value(0)?;
                let end = rest.iter().position(|byte| ends_word(*byte));
                rest = rest.get(end.unwrap_or(rest.len())..).unwrap_or_default();
            }
        }
    }
    Ok(measured.heap)
}

/// How many bytes there are before the quotation mark that ends a text.
fn quoted(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    end.unwrap_or(text.len())
}

/// Whether a number, or a word such as `true`, is over.
fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'{' | b'[' | b'}' | b']' | b',' | b':')
}

/// Whether a name begins with what is reserved, also where it is written with escapes.
fn is_reserved(name: &[u8]) -> bool {
    let mut rest = name;
    RESERVED.bytes().all(|expected| {
        let (letter, behind) = match rest {
            [b'\\', b'u', behind @ ..] => match behind.split_at_checked(4) {
                Some((code, behind)) => (coded(code), behind),
                None => return false,
            },
            [letter, behind @ ..] => (Some(*letter), behind),
            [] => return false,
        };
        rest = behind;
        letter == Some(expected)
    })
}

/// The ASCII letter of this code in hexadecimal.
fn coded(code: &[u8]) -> Option<u8> {
    let code = std::str::from_utf8(code).ok()?;
    u8::try_from(u16::from_str_radix(code, 16).ok()?).ok()
}

/// What has been seen.
struct Measured {
    values: u64,
    heap: u64,
    max_heap: u64,
    /// The lists and objects that are open, the innermost last.
    open: Vec<Open>,
    /// Whether a text would be a name, where an object is open.
    awaits_name: bool,
}

/// A list or an object, and how many items or fields it has.
enum Open {
    List(u64),
    Object(u64),
}

impl Measured {
    fn begin(&mut self, open: Open) -> Result<(), String> {
        self.value(0)?;
        if self.open.len() == MAX_LEVELS {
            return Err(format!(
                "it is nested too deep; {MAX_LEVELS} levels are allowed"
            ));
        }
        self.open.push(open);
        self.awaits_name = true;
        Ok(())
    }

    /// Takes a value, and so many bytes that hang on it.
    fn value(&mut self, heap: u64) -> Result<(), String> {
        let more = match self.open.last_mut() {
            Some(Open::List(items)) => {
                let is_full = *items == 0 || (*items >= 4 && items.is_power_of_two());
                let more = if is_full { list(*items) } else { 0 };
                *items += 1;
                more
            }
            // What its place takes was taken with its name.
            Some(Open::Object(_)) | None => 0,
        };
        self.take(heap + more)
    }

    fn text(&mut self, text: &[u8]) -> Result<(), String> {
        let heap = string(text.len());
        match self.open.last_mut() {
            Some(Open::Object(fields)) if self.awaits_name => {
                if is_reserved(text) {
                    return Err(reserved());
                }
                let more = object(*fields + 1) - object(*fields);
                *fields += 1;
                self.take(heap + more)
            }
            _ => self.value(heap),
        }
    }

    fn take(&mut self, heap: u64) -> Result<(), String> {
        self.values += 1;
        self.heap += heap;
        if self.values > MAX_VALUES {
            return Err(too_many(MAX_VALUES));
        }
        if self.heap > self.max_heap {
            return Err(too_heavy(self.max_heap));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ParseError, parse};
    use super::*;

    fn refusal(text: &str) -> Option<String> {
        match parse(text) {
            Err(ParseError::Refused(why)) => Some(why),
            Ok(_) | Err(ParseError::Syntax(_)) => None,
        }
    }

    #[test]
    fn what_would_be_refused_when_it_is_read_is_refused_before() {
        for (small, many) in [
            ("0", 900_000),
            ("0", 1_200_000),
            ("[0]", 300_000),
            ("[0]", 400_000),
            (r#"{"":0}"#, 80_000),
            (r#"{"":0}"#, 300_000),
            (r#"{"a":{}}"#, 300_000),
            ("[[[]]]", 300_000),
            (r#""a""#, 900_000),
            (r#"{"a":"x","b":"y"}"#, 58_000),
            (r#"{"a":"x","b":"y"}"#, 250_000),
            (r#"{"$serde_json::private::RawValue":"[0]"}"#, 1),
            (r#"{"\u0024serde_json::private::Number":"0"}"#, 1),
            (r#"["$serde_json::private::RawValue"]"#, 1),
        ] {
            let text = format!("[{}0]", format!("{small}, ").repeat(many));
            let measured = measure(text.as_bytes()).err();
            assert_eq!(measured, refusal(&text), "{many} times {small}");
        }
        let fields: String = (0..100_000).map(|n| format!(r#""{n}":[{n}],"#)).collect();
        let text = format!(r#"{{{fields}"":0}}"#);
        assert_eq!(measure(text.as_bytes()).err(), refusal(&text));
    }

    #[test]
    fn nesting_is_measured_as_it_is_read() {
        for levels in [1, 127, 128, 200_000] {
            let text = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            let is_read = parse(&text).is_ok();
            assert_eq!(measure(text.as_bytes()).is_ok(), is_read, "{levels}");
            let aside = format!(r#"{{"a":{text},"b":[[]]}}"#);
            assert_eq!(measure(aside.as_bytes()).is_ok(), levels < 127, "{levels}");
        }
    }

    #[test]
    fn what_stands_in_a_text_is_no_value() {
        let inner = r#"[[[\"{,:\\"#.repeat(200_000);
        let text = format!(r#"{{"a":"{inner}","b":["{inner}"]}}"#);
        let heap = measure(text.as_bytes()).unwrap();
        assert!(parse(&text).is_ok());
        let texts = 2 * inner.len() as u64;
        assert!((texts..texts + 2_000).contains(&heap), "{heap}");
    }

    #[test]
    fn what_is_no_json_is_measured_as_well() {
        for text in [
            "", "}}}]", "\"", "\"\\", "{\"a", "[1 2", "\u{e9}", ",:,", "\"\"\"\"",
        ] {
            assert!(measure(text.as_bytes()).is_ok(), "{text}");
        }
        let names = format!("{{{}", "\"\",".repeat(1_200_000));
        assert!(measure(names.as_bytes()).is_err());
        assert!(measure(&[0xff; 1_000]).is_ok());
    }
}
