//! Figures for a person.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use skillhost::limits::{display_bytes, grouped};

/// Limits by their names in JSON, the values with units. Of overrides, those that are set.
pub fn limits(limits: &impl Serialize) -> Vec<(String, String)> {
    let Ok(Value::Object(limits)) = serde_json::to_value(limits) else {
        return Vec::new();
    };
    limits
        .into_iter()
        .map(|(name, value)| {
            let value = value.as_u64().unwrap_or_default();
            let value = if name.ends_with("_bytes") {
                display_bytes(value)
            } else if name.ends_with("_ms") {
                duration(Duration::from_millis(value))
            } else {
                grouped(value)
            };
            (name, value)
        })
        .collect()
}

/// A duration, to three digits: `12.3 ms`, `2 s`, `24 h`.
pub fn duration(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    if duration.is_zero() {
        "0 s".to_owned()
    } else if milliseconds < 1.0 {
        format!("{} µs", duration.as_micros())
    } else if milliseconds < 1000.0 {
        format!("{} ms", three_digits(milliseconds))
    } else if milliseconds < 600_000.0 {
        format!("{} s", three_digits(milliseconds / 1000.0))
    } else if milliseconds < 7_200_000.0 {
        format!("{} min", three_digits(milliseconds / 60_000.0))
    } else if milliseconds < 172_800_000.0 {
        format!("{} h", three_digits(milliseconds / 3_600_000.0))
    } else {
        format!("{} days", three_digits(milliseconds / 86_400_000.0))
    }
}

/// So many of something: `1 job`, `2,000 jobs`.
pub fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}

/// A count, to three digits: `1.23 M`.
pub fn count(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("T", 1_000_000_000_000),
        ("G", 1_000_000_000),
        ("M", 1_000_000),
        ("k", 1_000),
    ];
    for (unit, size) in UNITS {
        if count >= size {
            return format!("{} {unit}", three_digits(count as f64 / size as f64));
        }
    }
    count.to_string()
}

fn three_digits(value: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(duration(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(duration(Duration::from_micros(345)), "345 µs");
        assert_eq!(duration(Duration::from_secs(2)), "2 s");
        assert_eq!(duration(Duration::from_millis(1_500)), "1.5 s");
        assert_eq!(duration(Duration::from_secs(3600)), "60 min");
        assert_eq!(duration(Duration::from_secs(86_400)), "24 h");
        assert_eq!(duration(Duration::from_secs(30 * 86_400)), "30 days");
        assert_eq!(duration(Duration::ZERO), "0 s");
        assert_eq!(counted(1, "job"), "1 job");
        assert_eq!(counted(2_000, "job"), "2,000 jobs");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234), "1.23 k");
        assert_eq!(count(1_200_000), "1.2 M");
        assert_eq!(count(123_456_789), "123 M");
        assert_eq!(count(10_000_000_000), "10 G");
    }

    #[test]
    fn limits_have_units() {
        let all = limits(&skillhost::Limits::default());
        let of = |name: &str| all.iter().find(|limit| limit.0 == name).unwrap().1.clone();
        assert_eq!(of("memory_bytes"), "64 MiB");
        assert_eq!(of("wall_time_ms"), "10 s");
        assert_eq!(of("fuel"), "10,000,000,000");
        let some = skillhost::LimitOverrides {
            handles: Some(1_000),
            ..Default::default()
        };
        assert_eq!(limits(&some), [("handles".to_owned(), "1,000".to_owned())]);
    }
}
