//! What one execution may use at most, and how the figure that applies is found.
//!
//! [`Limits`] is always concrete: there is no way to spell "unlimited". Requests, manifests and
//! operators speak in [`LimitOverrides`], where a missing value means "no opinion", and
//! [`Limits::resolve`] makes the one from the other.

mod limit;
mod text;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

pub use limit::Limit;
pub(crate) use limit::Named;
pub use text::{
    display_bytes, display_duration, exact_bytes, grouped, parse_bytes, parse_count,
    parse_duration, three_digits,
};

/// One kibibyte, in bytes.
pub const KIB: u64 = 1024;
/// What is wrong with a limit of 0 of what every skill needs.
pub(crate) const NOTHING_OF_IT: &str = "with nothing of it no skill can run";

/// One mebibyte, in bytes.
pub const MIB: u64 = 1024 * KIB;

/// What one execution may use at most. Every field is enforced, in `describe`, in instantiation
/// and in `execute` alike.
///
/// ```
/// use skillhost::{LimitOverrides, Limits};
///
/// let limits = Limits::default();
/// assert_eq!(limits.memory_bytes, 64 * 1024 * 1024);
///
/// // A request asks for more memory than the operator's ceiling allows: it gets the ceiling.
/// let ceiling = Limits { memory_bytes: 32 << 20, ..Limits::ceiling() };
/// let request = LimitOverrides { memory_bytes: Some(1 << 30), ..Default::default() };
/// assert_eq!(Limits::resolve(&ceiling, &[&request], &limits).memory_bytes, 32 << 20);
/// ```
///
/// Read back from JSON, a limit that is not there is the default, and one that is not known is left
/// out: results outlive the version that wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Fuel: roughly one unit for each WebAssembly instruction, twelve for one that reads memory or calls through a table,
    /// six for one that writes memory, eight for any other call, thirty for a reference to a function, and ten for a bulk
    /// instruction, with one more for each byte that it moves, or twenty for each element of a table. It is looked at where
    /// a function or a turn of a loop begins, and after 2,000 instructions without either. Default 10,000,000,000.
    pub fuel: u64,
    /// Linear memory in bytes, summed over all memories of the instance, and what the engine keeps for its core
    /// instances. Default 64 MiB.
    pub memory_bytes: u64,
    /// Table elements, summed over all tables of the instance. Default 100,000.
    pub table_elements: u64,
    /// Core instances that the component may consist of. Default 100.
    pub instances: u64,
    /// Wall time from the start of instantiation, in milliseconds, whether the guest computes or
    /// waits. Default 10 s.
    #[serde(rename = "wall_time_ms", with = "crate::usage::whole_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = u64))]
    pub wall_time: Duration,
    /// Input in bytes: the JSON text, and the attachments' names, media types and bytes. Default
    /// 16 MiB.
    pub input_bytes: u64,
    /// Output in bytes: the JSON text of the answer or the texts of the failure. Default 1 MiB.
    pub output_bytes: u64,
    /// Attachments of the answer in bytes: their names, media types and bytes. Default 16 MiB.
    pub attachment_bytes: u64,
    /// Bytes of standard output that are kept. What comes after is dropped and counted. Default
    /// 64 KiB.
    pub stdout_bytes: u64,
    /// Bytes of standard error that are kept. What comes after is dropped and counted. Default
    /// 64 KiB.
    pub stderr_bytes: u64,
    /// Bytes of log records that are passed on, 16 bytes being added for each record. What comes
    /// after is dropped and counted. Default 256 KiB.
    pub log_bytes: u64,
    /// Bytes of progress reports that are passed on, 16 bytes being added for each report. What
    /// comes after is dropped and counted. Default 64 KiB.
    pub progress_bytes: u64,
    /// Bytes that one call from the guest into the host may carry; a list of more than 10,000 items is more than any
    /// call may. Default 4 MiB.
    pub host_bytes: u64,
    /// Handles (open files, streams, pollables, the guest's own resources) that may be open at
    /// once. Default 1,000.
    pub handles: u64,
    /// Files and directories of granted directories that may be open at once. Default 64.
    pub open_files: u64,
    /// Files, directories and links that may be made in granted directories. Default 1,000.
    pub created_files: u64,
    /// Bytes that may be written to granted directories; growing a file counts as writing. Default
    /// 64 MiB.
    pub write_bytes: u64,
    /// Outgoing connections that may be open at once. Default 8.
    pub connections: u64,
    /// Bytes of all outgoing HTTP requests together, headers included, for each name that is looked up twice its
    /// length and 18, and 1 KiB for each greeting inside TLS and for each attempt that comes to no connection.
    /// Default 1 MiB.
    pub http_request_bytes: u64,
    /// Bytes of all answers to them together, headers included. Default 16 MiB.
    pub http_response_bytes: u64,
    /// Bytes of the header fields that a guest puts together for one head or trailer, some 40 being
    /// added for each name and each value. Default 16 KiB.
    pub http_fields_bytes: u64,
    /// Bytes sent on all sockets below HTTP together, 8 being added for each datagram. Default 1 MiB.
    pub socket_sent_bytes: u64,
    /// Bytes received on them, counted alike. Default 16 MiB.
    pub socket_read_bytes: u64,
    /// Keys that a skill may keep for one tenant, in all its buckets together. Default 10,000.
    pub storage_keys: u64,
    /// Bytes of these keys and their values. Default 16 MiB.
    pub storage_bytes: u64,
    /// Bytes of one such value. Default 1 MiB.
    pub storage_value_bytes: u64,
    /// Stack of the guest in bytes. Set for the whole host and reported here; a request cannot
    /// change it. Default 512 KiB.
    pub stack_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            fuel: 10_000_000_000,
            memory_bytes: 64 * MIB,
            table_elements: 100_000,
            instances: 100,
            wall_time: Duration::from_secs(10),
            input_bytes: 16 * MIB,
            output_bytes: MIB,
            attachment_bytes: 16 * MIB,
            stdout_bytes: 64 * KIB,
            stderr_bytes: 64 * KIB,
            log_bytes: 256 * KIB,
            progress_bytes: 64 * KIB,
            host_bytes: 4 * MIB,
            handles: 1_000,
            open_files: 64,
            created_files: 1_000,
            write_bytes: 64 * MIB,
            connections: 8,
            http_request_bytes: MIB,
            http_response_bytes: 16 * MIB,
            http_fields_bytes: 16 * KIB,
            socket_sent_bytes: MIB,
            socket_read_bytes: 16 * MIB,
            storage_keys: 10_000,
            storage_bytes: 16 * MIB,
            storage_value_bytes: MIB,
            stack_bytes: 512 * KIB,
        }
    }
}

impl Limits {
    /// The operator's ceiling where none was set: what no request gets past.
    ///
    /// A thousand times the default fuel, 1 GiB of memory, one hour of wall time, and 64 times
    /// the default for bytes.
    pub fn ceiling() -> Self {
        let default = Limits::default();
        Limits {
            fuel: 10_000_000_000_000,
            memory_bytes: 1024 * MIB,
            table_elements: 10_000_000,
            instances: 10_000,
            wall_time: Duration::from_secs(3600),
            input_bytes: 256 * MIB,
            output_bytes: 64 * MIB,
            attachment_bytes: 256 * MIB,
            stdout_bytes: 64 * default.stdout_bytes,
            stderr_bytes: 64 * default.stderr_bytes,
            log_bytes: 64 * default.log_bytes,
            progress_bytes: 64 * default.progress_bytes,
            host_bytes: 64 * MIB,
            handles: 100_000,
            open_files: 4_096,
            created_files: 1_000_000,
            write_bytes: 16 * 1024 * MIB,
            connections: 256,
            http_request_bytes: 256 * MIB,
            http_response_bytes: 1024 * MIB,
            // As many as handles may stand in the host's memory at once.
            http_fields_bytes: 64 * KIB,
            socket_sent_bytes: 256 * MIB,
            socket_read_bytes: 1024 * MIB,
            storage_keys: 1_000_000,
            storage_bytes: 1024 * MIB,
            storage_value_bytes: 64 * MIB,
            stack_bytes: default.stack_bytes,
        }
    }

    /// The limits that apply: for each one the first value that a layer names, else the one of
    /// `default`, and never more than `ceiling`.
    ///
    /// `layers` stand in order of precedence: the request's before the skill's. Of what a skill wishes
    /// for itself, hand in [what counts](LimitOverrides::of_a_skill).
    pub fn resolve(ceiling: &Limits, layers: &[&LimitOverrides], default: &Limits) -> Limits {
        macro_rules! pick {
            ($field:ident) => {
                layers
                    .iter()
                    .find_map(|layer| layer.$field)
                    .unwrap_or(default.$field)
                    .min(ceiling.$field)
            };
        }
        Limits {
            fuel: pick!(fuel),
            memory_bytes: pick!(memory_bytes),
            table_elements: pick!(table_elements),
            instances: pick!(instances),
            wall_time: pick!(wall_time),
            input_bytes: pick!(input_bytes),
            output_bytes: pick!(output_bytes),
            attachment_bytes: pick!(attachment_bytes),
            stdout_bytes: pick!(stdout_bytes),
            stderr_bytes: pick!(stderr_bytes),
            log_bytes: pick!(log_bytes),
            progress_bytes: pick!(progress_bytes),
            host_bytes: pick!(host_bytes),
            handles: pick!(handles),
            open_files: pick!(open_files),
            created_files: pick!(created_files),
            write_bytes: pick!(write_bytes),
            connections: pick!(connections),
            http_request_bytes: pick!(http_request_bytes),
            http_response_bytes: pick!(http_response_bytes),
            http_fields_bytes: pick!(http_fields_bytes),
            socket_sent_bytes: pick!(socket_sent_bytes),
            socket_read_bytes: pick!(socket_read_bytes),
            storage_keys: pick!(storage_keys),
            storage_bytes: pick!(storage_bytes),
            storage_value_bytes: pick!(storage_value_bytes),
            stack_bytes: default.stack_bytes,
        }
    }
}

/// Limits that somebody asks for: `None` means "no opinion", never "unlimited".
///
/// In JSON and TOML the keys are those of [`Limits`]; a byte count may also be a text such as
/// `"64MiB"`, `wall_time_ms` one such as `"2s"`, and any other count one such as `"5M"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOverrides {
    /// See [`Limits::fuel`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub fuel: Option<u64>,
    /// See [`Limits::memory_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub memory_bytes: Option<u64>,
    /// See [`Limits::table_elements`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub table_elements: Option<u64>,
    /// See [`Limits::instances`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub instances: Option<u64>,
    /// See [`Limits::wall_time`].
    #[serde(
        rename = "wall_time_ms",
        skip_serializing_if = "Option::is_none",
        serialize_with = "milliseconds_out",
        deserialize_with = "milliseconds"
    )]
    pub wall_time: Option<Duration>,
    /// See [`Limits::input_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub input_bytes: Option<u64>,
    /// See [`Limits::output_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub output_bytes: Option<u64>,
    /// See [`Limits::attachment_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub attachment_bytes: Option<u64>,
    /// See [`Limits::stdout_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub stdout_bytes: Option<u64>,
    /// See [`Limits::stderr_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub stderr_bytes: Option<u64>,
    /// See [`Limits::log_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub log_bytes: Option<u64>,
    /// See [`Limits::progress_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub progress_bytes: Option<u64>,
    /// See [`Limits::host_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub host_bytes: Option<u64>,
    /// See [`Limits::handles`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub handles: Option<u64>,
    /// See [`Limits::open_files`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub open_files: Option<u64>,
    /// See [`Limits::created_files`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub created_files: Option<u64>,
    /// See [`Limits::write_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub write_bytes: Option<u64>,
    /// See [`Limits::connections`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub connections: Option<u64>,
    /// See [`Limits::http_request_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub http_request_bytes: Option<u64>,
    /// See [`Limits::http_response_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub http_response_bytes: Option<u64>,
    /// See [`Limits::http_fields_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub http_fields_bytes: Option<u64>,
    /// See [`Limits::socket_sent_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub socket_sent_bytes: Option<u64>,
    /// See [`Limits::socket_read_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub socket_read_bytes: Option<u64>,
    /// See [`Limits::storage_keys`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub storage_keys: Option<u64>,
    /// See [`Limits::storage_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub storage_bytes: Option<u64>,
    /// See [`Limits::storage_value_bytes`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bytes")]
    pub storage_value_bytes: Option<u64>,
}

impl LimitOverrides {
    /// The first limit that is 0 and of which [every skill needs some](Limit::NEEDED).
    pub(crate) fn nothing_of(&self) -> Option<Limit> {
        let mut needed = Limit::NEEDED.into_iter();
        needed.find(|limit| self.get(*limit) == Some(0))
    }

    /// What counts of what a skill wishes for itself: all of it, but where it is more than the default of
    /// what bounds the host's own work and memory (`output_bytes`, `attachment_bytes`, `stdout_bytes`,
    /// `stderr_bytes`, `host_bytes`, `handles`, `open_files`, `created_files`, `connections`,
    /// `http_fields_bytes`, `table_elements`, `instances`). There it is as if it had wished for nothing, and a default applies.
    /// [`Limits::resolve`] holds the rest to the ceiling.
    ///
    /// With more of the other limits it is the guest that has more to do. What it answers and writes is in the
    /// host's memory, several times as large once it is read. What one call carries into the
    /// host is read by the host, in one go, and a deadline waits for that; and behind each handle the host
    /// holds memory that is not the guest's, and takes its time to give that back. A large table is made, and grows, in one
    /// go as well, and so are many instances. What it made in a scratch
    /// directory is removed by the host, when the execution has ended.
    ///
    /// ```
    /// use skillhost::{LimitOverrides, Limits};
    ///
    /// let wishes = LimitOverrides {
    ///     fuel: Some(20_000_000_000),
    ///     host_bytes: Some(64 << 20),
    ///     ..Default::default()
    /// };
    /// let counts = wishes.of_a_skill(&Limits::default());
    /// assert_eq!(counts.fuel, wishes.fuel);
    /// assert_eq!(counts.host_bytes, None);
    /// ```
    #[must_use]
    pub fn of_a_skill(self, default: &Limits) -> LimitOverrides {
        let mut counts = LimitOverrides::default();
        for limit in self.named().each() {
            let is_the_hosts = Limit::OF_THE_HOST.contains(&limit);
            if let Some(wished) = self.get(limit)
                && !(is_the_hosts && wished > default.get(limit))
            {
                counts.set(limit, wished);
            }
        }
        counts
    }

    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, others: &LimitOverrides) -> LimitOverrides {
        LimitOverrides {
            fuel: self.fuel.or(others.fuel),
            memory_bytes: self.memory_bytes.or(others.memory_bytes),
            table_elements: self.table_elements.or(others.table_elements),
            instances: self.instances.or(others.instances),
            wall_time: self.wall_time.or(others.wall_time),
            input_bytes: self.input_bytes.or(others.input_bytes),
            output_bytes: self.output_bytes.or(others.output_bytes),
            attachment_bytes: self.attachment_bytes.or(others.attachment_bytes),
            stdout_bytes: self.stdout_bytes.or(others.stdout_bytes),
            stderr_bytes: self.stderr_bytes.or(others.stderr_bytes),
            log_bytes: self.log_bytes.or(others.log_bytes),
            progress_bytes: self.progress_bytes.or(others.progress_bytes),
            host_bytes: self.host_bytes.or(others.host_bytes),
            handles: self.handles.or(others.handles),
            open_files: self.open_files.or(others.open_files),
            created_files: self.created_files.or(others.created_files),
            write_bytes: self.write_bytes.or(others.write_bytes),
            connections: self.connections.or(others.connections),
            http_request_bytes: self.http_request_bytes.or(others.http_request_bytes),
            http_response_bytes: self.http_response_bytes.or(others.http_response_bytes),
            http_fields_bytes: self.http_fields_bytes.or(others.http_fields_bytes),
            socket_sent_bytes: self.socket_sent_bytes.or(others.socket_sent_bytes),
            socket_read_bytes: self.socket_read_bytes.or(others.socket_read_bytes),
            storage_keys: self.storage_keys.or(others.storage_keys),
            storage_bytes: self.storage_bytes.or(others.storage_bytes),
            storage_value_bytes: self.storage_value_bytes.or(others.storage_value_bytes),
        }
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "it is neither a whole number from 0 on nor a text; write digits, or a text such as \"64MiB\", \"5M\" or \"2s\""
)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    number_or(deserializer, parse_bytes)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    number_or(deserializer, parse_count)
}

fn number_or<'de, D: Deserializer<'de>>(
    deserializer: D,
    parse: fn(&str) -> Result<u64, String>,
) -> Result<Option<u64>, D::Error> {
    Ok(match Option::<NumberOrText>::deserialize(deserializer)? {
        None => None,
        Some(NumberOrText::Number(number)) => Some(number),
        Some(NumberOrText::Text(text)) => Some(parse(&text).map_err(serde::de::Error::custom)?),
    })
}

pub(crate) fn milliseconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    Ok(match Option::<NumberOrText>::deserialize(deserializer)? {
        None => None,
        Some(NumberOrText::Number(number)) => Some(Duration::from_millis(number)),
        Some(NumberOrText::Text(text)) => {
            Some(parse_duration(&text).map_err(serde::de::Error::custom)?)
        }
    })
}

pub(crate) fn milliseconds_out<S: serde::Serializer>(
    value: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        None => serializer.serialize_none(),
        Some(duration) => crate::usage::whole_ms::serialize(duration, serializer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_goes_before_the_skill_and_the_ceiling_over_both() {
        let default = Limits::default();
        let ceiling = Limits {
            fuel: 50,
            ..Limits::ceiling()
        };
        let request = LimitOverrides {
            fuel: Some(10),
            ..Default::default()
        };
        let skill = LimitOverrides {
            fuel: Some(20),
            handles: Some(7),
            ..Default::default()
        };
        let resolved = Limits::resolve(&ceiling, &[&request, &skill], &default);
        assert_eq!((resolved.fuel, resolved.handles), (10, 7));
        let resolved = Limits::resolve(&ceiling, &[&LimitOverrides::default(), &skill], &default);
        assert_eq!(resolved.fuel, 20);
        let resolved = Limits::resolve(&ceiling, &[], &default);
        assert_eq!(resolved.fuel, 50, "ours is clamped as well");
    }

    #[test]
    fn values_have_their_unit() {
        assert_eq!(Limit::WallTime.display(1500), "1.5 s");
        assert_eq!(Limit::Memory.display(64 * MIB), "64 MiB");
        assert_eq!(Limit::Instances.display(1), "1 instance");
        assert_eq!(Limit::Connections.display(8), "8 connections");
    }

    #[test]
    fn an_empty_override_changes_nothing() {
        let default = Limits::default();
        let empty: LimitOverrides = serde_json::from_str("{}").unwrap();
        assert_eq!(
            Limits::resolve(&Limits::ceiling(), &[&empty], &default),
            default
        );
    }

    #[test]
    fn the_default_memory_is_at_most_64_mib() {
        assert!(Limits::default().memory_bytes <= 64 * MIB);
    }

    #[test]
    fn sizes_and_durations_are_read_with_units() {
        let overrides: LimitOverrides =
            serde_json::from_str(r#"{"memory_bytes":"2MiB","wall_time_ms":"1s","output_bytes":7}"#)
                .unwrap();
        assert_eq!(overrides.memory_bytes, Some(2 * MIB));
        assert_eq!(overrides.wall_time, Some(Duration::from_secs(1)));
        assert_eq!(overrides.output_bytes, Some(7));
        for limit in Limit::ASKED {
            let (text, value) = match limit.as_str() {
                "wall_time_ms" => ("2s", 2_000),
                name if name.ends_with("_bytes") => ("2KiB", 2_048),
                _ => ("2k", 2_000),
            };
            let text = format!(r#"{{"{limit}":"{text}"}}"#);
            let overrides: LimitOverrides = serde_json::from_str(&text).unwrap();
            assert_eq!(overrides.get(limit), Some(value), "{text}");
        }
        let error = serde_json::from_str::<LimitOverrides>(r#"{"fuel":"lots"}"#).unwrap_err();
        assert!(
            error.to_string().contains("`lots` is not a count"),
            "{error}"
        );
        let error =
            serde_json::from_str::<LimitOverrides>(r#"{"memory_bytes":"lots"}"#).unwrap_err();
        assert!(
            error.to_string().contains("`lots` is not a size"),
            "{error}"
        );
        let error = serde_json::from_str::<LimitOverrides>(r#"{"memory":1}"#).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `memory`"),
            "{error}"
        );
    }
}
