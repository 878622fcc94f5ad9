//! Figures for a person.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use skillhost::limits::{display_duration, exact_bytes, grouped};

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
                exact_bytes(value)
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
    display_duration(duration)
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
        // What would be rounded to 1000 of the smaller unit is shown in this one.
        if count >= size - size / 2_000 {
            return format!(
                "{} {unit}",
                skillhost::limits::three_digits(count as f64 / size as f64)
            );
        }
    }
    count.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(counted(1, "job"), "1 job");
        assert_eq!(counted(2_000, "job"), "2,000 jobs");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234), "1.23 k");
        assert_eq!(count(1_200_000), "1.2 M");
        assert_eq!(count(123_456_789), "123 M");
        assert_eq!(count(10_000_000_000), "10 G");
        for (figure, shown) in [
            (1_000, "1 k"),
            (999_499, "999 k"),
            (999_500, "1 M"),
            (999_499_999, "999 M"),
            (999_500_000, "1 G"),
            (1_000_000_000, "1 G"),
            (999_499_999_999, "999 G"),
            (999_500_000_000, "1 T"),
        ] {
            assert_eq!(count(figure), shown);
        }
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
