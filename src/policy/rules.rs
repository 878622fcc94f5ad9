//! What the policy says of limits, concurrency, rates and circuits: in general, of a tenant, of a
//! skill.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sound::LONGEST;
#[cfg(feature = "schema")]
use super::sound::MOST;
use crate::breaker::BreakerSettings;
use crate::limits::{LimitOverrides, milliseconds, milliseconds_out};

/// What holds for everything, or for one tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Rules {
    /// What becomes of a request that asks for more than the ceilings here. Where nothing is said,
    /// what is said in general; else it is clamped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_ceiling: Option<OverCeiling>,
    /// What no request gets past. The ceilings of the host hold besides.
    #[serde(skip_serializing_if = "LimitOverrides::is_empty")]
    pub ceilings: LimitOverrides,
    /// The limits where neither the request nor the skill names one.
    #[serde(skip_serializing_if = "LimitOverrides::is_empty")]
    pub defaults: LimitOverrides,
    /// How many run at once, and how many wait how long for that.
    #[serde(skip_serializing_if = "Concurrency::is_empty")]
    pub concurrency: Concurrency,
    /// How many may start in a time.
    #[serde(skip_serializing_if = "Rates::is_empty")]
    pub rates: Rates,
}

/// What holds for each skill that has no entry of its own that says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SkillRules {
    /// See [`Rules::over_ceiling`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_ceiling: Option<OverCeiling>,
    /// See [`Rules::ceilings`].
    #[serde(skip_serializing_if = "LimitOverrides::is_empty")]
    pub ceilings: LimitOverrides,
    /// The limits where the request names none. They go before what the skill itself wishes.
    #[serde(skip_serializing_if = "LimitOverrides::is_empty")]
    pub defaults: LimitOverrides,
    /// See [`Rules::concurrency`].
    #[serde(skip_serializing_if = "Concurrency::is_empty")]
    pub concurrency: Concurrency,
    /// See [`Rules::rates`].
    #[serde(skip_serializing_if = "Rates::is_empty")]
    pub rates: Rates,
    /// When a skill that fails is left alone. Without this table it is not; an empty one takes the
    /// defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerRules>,
}

/// What holds for each host that skills send requests to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HostRules {
    /// When a host that fails is left alone. Without this table it is not; an empty one takes the
    /// defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerRules>,
}

/// What becomes of a request that asks for more than a ceiling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OverCeiling {
    /// It runs with what the ceiling allows, and the result says so.
    #[default]
    Clamp,
    /// It is rejected.
    Reject,
}

impl OverCeiling {
    /// `clamp` or `reject`.
    pub fn as_str(self) -> &'static str {
        match self {
            OverCeiling::Clamp => "clamp",
            OverCeiling::Reject => "reject",
        }
    }
}

/// How many run at once. What is left out is not bounded here, but in general, and by the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Concurrency {
    /// How many may run at once. At least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<NonZeroU32>,
    /// How many may wait for that. In general 1,000 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// How long one may wait. In general 30 s unless set; the shortest that applies holds.
    #[serde(
        rename = "wait_ms",
        skip_serializing_if = "Option::is_none",
        serialize_with = "milliseconds_out",
        deserialize_with = "milliseconds"
    )]
    #[cfg_attr(feature = "schema", schemars(schema_with = "time_schema"))]
    pub wait: Option<Duration>,
    /// Of a tenant: its part in proportion to others', where there is not enough for all. 1 to
    /// 1,000; 1 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<NonZeroU32>,
}

impl Concurrency {
    /// How many may wait, where nothing is said.
    pub const WAITING: u32 = 1_000;
    /// How long one may wait, where nothing is said.
    pub const WAIT: Duration = Duration::from_secs(30);

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Concurrency::default()
    }

    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, others: &Concurrency) -> Concurrency {
        Concurrency {
            at_once: self.at_once.or(others.at_once),
            waiting: self.waiting.or(others.waiting),
            wait: self.wait.or(others.wait),
            weight: self.weight.or(others.weight),
        }
    }
}

/// How many may start in a time. Each that is set holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// In a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<Rate>,
    /// In a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<Rate>,
    /// In an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<Rate>,
}

impl Rates {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Rates::default()
    }

    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, others: &Rates) -> Rates {
        Rates {
            per_second: self.per_second.or(others.per_second),
            per_minute: self.per_minute.or(others.per_minute),
            per_hour: self.per_hour.or(others.per_hour),
        }
    }
}

/// How many may start in a time on average, and how many at once after a quiet time.
///
/// In TOML and JSON a number, or a table with `at_most` and `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many on average.
    pub at_most: NonZeroU32,
    /// How many at once. As many as on average unless set.
    pub burst: NonZeroU32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateTable {
    at_most: NonZeroU32,
    burst: Option<NonZeroU32>,
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Rate;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number from 1 on, or a table with `at_most` and `burst`")
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Rate, E> {
                let number = u32::try_from(value).ok().and_then(NonZeroU32::new);
                let number = number.ok_or_else(|| {
                    E::invalid_value(serde::de::Unexpected::Unsigned(value), &self)
                })?;
                Ok(Rate {
                    at_most: number,
                    burst: number,
                })
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Rate, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(
                        serde::de::Unexpected::Signed(value),
                        &self,
                    )),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Rate, A::Error> {
                let table = serde::de::value::MapAccessDeserializer::new(map);
                let RateTable { at_most, burst } = RateTable::deserialize(table)?;
                Ok(Rate {
                    at_most,
                    burst: burst.unwrap_or(at_most),
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.at_most == self.burst {
            return self.at_most.serialize(serializer);
        }
        let table = RateTable {
            at_most: self.at_most,
            burst: Some(self.burst),
        };
        table.serialize(serializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let count = serde_json::json!({"type": "integer", "minimum": 1, "maximum": MOST});
        schemars::json_schema!({
            "description": "How many may start in a time on average, and how many at once.",
            "anyOf": [count, {
                "type": "object",
                "properties": {"at_most": count, "burst": count},
                "required": ["at_most"],
                "additionalProperties": false,
            }],
        })
    }
}

/// When a circuit opens, and how it closes again. What is left out is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BreakerRules {
    /// How far back outcomes count. 1 min unless set.
    #[serde(
        rename = "window_ms",
        skip_serializing_if = "Option::is_none",
        serialize_with = "milliseconds_out",
        deserialize_with = "milliseconds"
    )]
    #[cfg_attr(feature = "schema", schemars(schema_with = "time_schema"))]
    pub window: Option<Duration>,
    /// How many outcomes there must be within it. 10 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<NonZeroU32>,
    /// The part of them that are failures from which on the circuit opens: above 0, at most 1. 0.5
    /// unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<f64>,
    /// How long it is open at first, half as much being added at random. 30 s unless set.
    #[serde(
        rename = "pause_ms",
        skip_serializing_if = "Option::is_none",
        serialize_with = "milliseconds_out",
        deserialize_with = "milliseconds"
    )]
    #[cfg_attr(feature = "schema", schemars(schema_with = "time_schema"))]
    pub pause: Option<Duration>,
    /// How many good probes close it. 3 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<NonZeroU32>,
}

impl BreakerRules {
    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, others: &BreakerRules) -> BreakerRules {
        BreakerRules {
            window: self.window.or(others.window),
            minimum: self.minimum.or(others.minimum),
            failure_rate: self.failure_rate.or(others.failure_rate),
            pause: self.pause.or(others.pause),
            probes: self.probes.or(others.probes),
        }
    }

    /// With the defaults where nothing is said.
    pub fn settings(&self) -> BreakerSettings {
        let default = BreakerSettings::default();
        BreakerSettings {
            window: self.window.unwrap_or(default.window).min(LONGEST),
            minimum: self.minimum.map_or(default.minimum, NonZeroU32::get),
            failure_rate: self.failure_rate.unwrap_or(default.failure_rate),
            pause: self.pause.unwrap_or(default.pause).min(LONGEST),
            probes: self.probes.map_or(default.probes, NonZeroU32::get),
        }
    }
}

#[cfg(feature = "schema")]
fn time_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": ["integer", "string"], "minimum": 0})
}
