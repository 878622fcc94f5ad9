//! Figures as people write and read them.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use super::{KIB, MIB};

/// Reads a count of bytes: digits, or digits with a unit (`64MiB`, `1.5 GB`, `512k`, `49,920 KiB`).
///
/// # Errors
/// A text that says what was expected.
///
/// ```
/// assert_eq!(skillhost::parse_bytes("64MiB"), Ok(67_108_864));
/// assert!(skillhost::parse_bytes("64 apples").is_err());
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let plain = ungrouped(text.trim());
    match bytesize::ByteSize::from_str(&plain).map(|size| size.as_u64()) {
        // What does not fit becomes the most.
        Ok(u64::MAX) if plain.parse() != Ok(u64::MAX) => Err(too_large(text)),
        Ok(size) => Ok(size),
        Err(_) if is_digits(&plain) => Err(too_large(text)),
        Err(_) => Err(format!(
            "`{text}` is not a size; write bytes or a unit, such as `64MiB`"
        )),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn too_large(text: &str) -> String {
    format!("`{text}` is too large; the most is {}", u64::MAX)
}

/// The text without the commas that group the digits of its number in threes, as [`grouped`] does; as it is where any
/// comma does something else.
fn ungrouped(text: &str) -> Cow<'_, str> {
    let end = text.find(|c: char| c != ',' && !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let mut groups = number.split(',');
    let first = groups.next().unwrap_or_default();
    let are_threes = groups.all(|group| group.len() == 3);
    if number.contains(',') && (1..=3).contains(&first.len()) && are_threes {
        Cow::Owned(number.replace(',', "") + unit)
    } else {
        Cow::Borrowed(text)
    }
}

/// Reads a count: digits, possibly grouped with `_` or `,` and multiplied with `k`, `M`, `G` or `T`.
///
/// # Errors
/// A text that says what was expected.
///
/// ```
/// assert_eq!(skillhost::limits::parse_count("5M"), Ok(5_000_000));
/// assert!(skillhost::limits::parse_count("5 apples").is_err());
/// ```
pub fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        Some(b'T') => (&text[..text.len() - 1], 1_000_000_000_000),
        _ => (text, 1),
    };
    let digits = ungrouped(digits).replace('_', "");
    let count = digits.parse::<u64>().ok();
    count
        .and_then(|count| count.checked_mul(factor))
        .ok_or_else(|| {
            if is_digits(&digits) {
                return too_large(text);
            }
            format!(
                "`{text}` is not a count; write digits, or such as `5M`, with `k`, `M`, `G` or `T`"
            )
        })
}

/// Reads a duration with its unit: `500ms`, `2s`, `1m 30s`.
///
/// # Errors
/// A text that says what was expected.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(skillhost::parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
/// assert!(skillhost::parse_duration("90").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|_| {
        format!("`{text}` is not a duration; write a number and a unit, such as `500ms` or `2s`")
    })
}

/// The units of bytes, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", KIB)];

/// Bytes for a person, rounded where no unit divides them: `64 MiB`, `1.5 KiB`, `17 B`.
///
/// Two that differ may be shown alike; see [`exact_bytes`].
pub fn display_bytes(bytes: u64) -> String {
    for (unit, size) in UNITS {
        // What would be rounded to 1024.0 of the smaller unit is shown in this one.
        if bytes >= size - size / 20_480 {
            return if bytes.is_multiple_of(size) {
                format!("{} {unit}", bytes / size)
            } else {
                // Two significant decimals are plenty; the exact figure is in the JSON.
                format!("{:.1} {unit}", bytes as f64 / size as f64)
            };
        }
    }
    format!("{bytes} B")
}

/// Bytes for a person, not rounded, for who compares them: in a unit where half units of it make it up, else in the
/// next smaller one; what is large and round in the units of ten in those. `64 MiB`, `1.5 KiB`, `1,025 KiB`,
/// `1,048,575 B`, `10 TB`.
pub fn exact_bytes(bytes: u64) -> String {
    const GB: u64 = 1_000_000_000;
    if bytes >= GB && bytes.is_multiple_of(GB) && !bytes.is_multiple_of(512 * MIB) {
        let gigabytes = bytes / GB;
        return match gigabytes.is_multiple_of(1_000) {
            true => format!("{} TB", grouped(gigabytes / 1_000)),
            false => format!("{} GB", grouped(gigabytes)),
        };
    }
    for (unit, size) in UNITS {
        if bytes >= size && bytes.is_multiple_of(size / 2) {
            let half = match bytes.is_multiple_of(size) {
                true => "",
                false => ".5",
            };
            return format!("{}{half} {unit}", grouped(bytes / size));
        }
    }
    format!("{} B", grouped(bytes))
}

/// A duration for a person, to three digits: `12.3 ms`, `2 s`, `1 min`, `24 h`, `30 days`.
pub fn display_duration(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    let whole = |unit: u64| duration.subsec_nanos() == 0 && duration.as_secs().is_multiple_of(unit);
    if duration.is_zero() {
        "0 s".to_owned()
    } else if milliseconds < 1.0 {
        format!("{} µs", duration.as_micros())
    } else if milliseconds < 999.5 {
        // Here and below, what would be rounded to the next unit is shown in that.
        format!("{} ms", three_digits(milliseconds))
    } else if milliseconds < 599_500.0 && !whole(60) {
        format!("{} s", three_digits(milliseconds / 1000.0))
    } else if milliseconds < 7_170_000.0 && !whole(3_600) {
        format!("{} min", three_digits(milliseconds / 60_000.0))
    } else if milliseconds < 172_620_000.0 {
        format!("{} h", three_digits(milliseconds / 3_600_000.0))
    } else {
        match milliseconds / 86_400_000.0 {
            days if days < 999.5 => format!("{} days", three_digits(days)),
            days => format!("{} days", grouped(days.round() as u64)),
        }
    }
}

/// A figure to three digits: `1.23`, `12.3`, `123`.
pub fn three_digits(value: f64) -> String {
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A count with thousands separated by commas.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(display_bytes(64 * MIB), "64 MiB");
        assert_eq!(display_bytes(1536), "1.5 KiB");
        assert_eq!(display_bytes(17), "17 B");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
        for (shown, duration) in [
            ("0 s", Duration::ZERO),
            ("345 µs", Duration::from_micros(345)),
            ("12.3 ms", Duration::from_micros(12_345)),
            ("1.5 s", Duration::from_millis(1_500)),
            ("2 s", Duration::from_secs(2)),
            ("1 min", Duration::from_secs(60)),
            ("90 s", Duration::from_secs(90)),
            ("1 h", Duration::from_secs(3_600)),
            ("75 min", Duration::from_secs(75 * 60)),
            ("24 h", Duration::from_secs(86_400)),
            ("30 days", Duration::from_secs(30 * 86_400)),
            ("11,574,074 days", Duration::from_secs(1_000_000_000_000)),
        ] {
            assert_eq!(display_duration(duration), shown);
        }
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for bytes in [0, 1, 1_023, 1_025, 1_536, 51_118_080, 1_048_575, 1 << 40] {
            let shown = exact_bytes(bytes);
            assert_eq!(parse_bytes(&shown), Ok(bytes), "{shown}");
            assert_eq!(parse_count(&grouped(bytes)), Ok(bytes));
        }
        assert_eq!(parse_count("1,500k"), Ok(1_500_000));
        // A comma that stands for a point, or for nothing.
        for text in [
            "1,5 MB",
            "1,50",
            ",500",
            "1234,567",
            "1,234,",
            "1,2345",
            "1.500,250",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_unit_is_chosen_after_rounding() {
        for (bytes, shown) in [
            (1_023, "1023 B"),
            (KIB, "1 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (MIB - 1, "1.0 MiB"),
            (MIB, "1 MiB"),
            (1_073_689_395, "1023.9 MiB"),
            (1_073_689_396, "1.0 GiB"),
            (1024 * MIB, "1 GiB"),
        ] {
            assert_eq!(display_bytes(bytes), shown, "{bytes}");
        }
        for (microseconds, shown) in [
            (999, "999 µs"),
            (1_000, "1 ms"),
            (999_499, "999 ms"),
            (999_500, "1 s"),
            (1_000_000, "1 s"),
            (599_499_000, "599 s"),
            (599_500_000, "9.99 min"),
            (599_999_000, "10 min"),
            (7_169_999_000, "119 min"),
            (7_170_000_000, "1.99 h"),
            (7_199_999_000, "2 h"),
            (172_619_999_000, "47.9 h"),
            (172_620_000_000, "2 days"),
            (172_800_000_000, "2 days"),
        ] {
            let duration = Duration::from_micros(microseconds);
            assert_eq!(display_duration(duration), shown, "{microseconds} µs");
        }
    }

    #[test]
    fn sizes_that_are_not_the_same_are_not_shown_alike() {
        for (bytes, shown) in [
            (0, "0 B"),
            (17, "17 B"),
            (KIB, "1 KiB"),
            (1_536, "1.5 KiB"),
            (10_239, "10,239 B"),
            (10_240, "10 KiB"),
            (1_048_574, "1,048,574 B"),
            (1_048_575, "1,048,575 B"),
            (MIB, "1 MiB"),
            (MIB + KIB, "1,025 KiB"),
            (64 * MIB + 64 * KIB, "65,600 KiB"),
            (5 * 512 * MIB, "2.5 GiB"),
            (1_000_000_000, "1 GB"),
            (10_000_000_000_000, "10 TB"),
            (1_500_000_000, "1,500,000,000 B"),
            (u64::MAX, "18,446,744,073,709,551,615 B"),
        ] {
            assert_eq!(exact_bytes(bytes), shown);
        }
    }

    #[test]
    fn counts_have_no_overflow() {
        assert_eq!(parse_count("2G"), Ok(2_000_000_000));
        assert!(parse_count("99999999999999G").is_err());
        assert!(parse_count("M").is_err());
        assert!(parse_count("").is_err());
    }

    #[test]
    fn sizes_have_no_overflow() {
        for text in [
            "99999999EiB",
            "16EiB",
            "18446744073709551616",
            "99999999.5 EB",
        ] {
            let said = parse_bytes(text).unwrap_err();
            assert_eq!(
                said,
                format!("`{text}` is too large; the most is {}", u64::MAX)
            );
        }
        assert_eq!(parse_bytes("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_bytes("15EiB"), Ok(15 << 60));
    }
}
