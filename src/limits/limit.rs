//! The names of limits, and limits by their names.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LimitOverrides, Limits, display_duration, exact_bytes, grouped};

/// The name of a limit, as it stands in results and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub enum Limit {
    /// [`Limits::fuel`].
    Fuel,
    /// [`Limits::memory_bytes`].
    #[serde(rename = "memory_bytes")]
    Memory,
    /// [`Limits::table_elements`].
    TableElements,
    /// [`Limits::instances`].
    Instances,
    /// [`Limits::wall_time`].
    #[serde(rename = "wall_time_ms")]
    WallTime,
    /// The request's own deadline.
    Deadline,
    /// [`Limits::input_bytes`].
    #[serde(rename = "input_bytes")]
    Input,
    /// [`Limits::output_bytes`].
    #[serde(rename = "output_bytes")]
    Output,
    /// [`Limits::attachment_bytes`].
    #[serde(rename = "attachment_bytes")]
    Attachments,
    /// [`Limits::host_bytes`].
    HostBytes,
    /// [`Limits::handles`].
    Handles,
    /// [`Limits::open_files`].
    OpenFiles,
    /// [`Limits::created_files`].
    CreatedFiles,
    /// [`Limits::write_bytes`].
    WriteBytes,
    /// [`Limits::connections`].
    Connections,
    /// [`Limits::http_request_bytes`].
    HttpRequestBytes,
    /// [`Limits::http_response_bytes`].
    HttpResponseBytes,
    /// [`Limits::http_fields_bytes`].
    HttpFieldsBytes,
    /// [`Limits::socket_sent_bytes`].
    SocketSentBytes,
    /// [`Limits::socket_read_bytes`].
    SocketReadBytes,
    /// [`Limits::storage_keys`].
    StorageKeys,
    /// [`Limits::storage_bytes`].
    StorageBytes,
    /// [`Limits::storage_value_bytes`].
    StorageValueBytes,
    /// [`Limits::stdout_bytes`].
    #[serde(rename = "stdout_bytes")]
    Stdout,
    /// [`Limits::stderr_bytes`].
    #[serde(rename = "stderr_bytes")]
    Stderr,
    /// [`Limits::log_bytes`].
    #[serde(rename = "log_bytes")]
    Log,
    /// [`Limits::progress_bytes`].
    #[serde(rename = "progress_bytes")]
    Progress,
    /// [`Limits::stack_bytes`].
    #[serde(rename = "stack_bytes")]
    Stack,
}

/// So many milliseconds, for a person: in a larger unit where three digits of it are exact, as limits are compared.
fn exactly(milliseconds: u64) -> String {
    let exact = match milliseconds {
        0..1_000 => 1,
        1_000..10_000 => 10,
        10_000..100_000 => 100,
        100_000..600_000 => 1_000,
        600_000..7_200_000 => 60_000,
        7_200_000..172_800_000 => 3_600_000,
        _ => 86_400_000,
    };
    match milliseconds.is_multiple_of(exact) {
        true => display_duration(Duration::from_millis(milliseconds)),
        false => format!("{} ms", grouped(milliseconds)),
    }
}

impl Limit {
    /// The name, which is the key in [`Limits`], as in JSON and TOML: `memory_bytes`, `wall_time_ms`.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Fuel => "fuel",
            Limit::Memory => "memory_bytes",
            Limit::TableElements => "table_elements",
            Limit::Instances => "instances",
            Limit::WallTime => "wall_time_ms",
            Limit::Input => "input_bytes",
            Limit::Output => "output_bytes",
            Limit::Attachments => "attachment_bytes",
            Limit::Stdout => "stdout_bytes",
            Limit::Stderr => "stderr_bytes",
            Limit::Log => "log_bytes",
            Limit::Progress => "progress_bytes",
            Limit::HostBytes => "host_bytes",
            Limit::Handles => "handles",
            Limit::OpenFiles => "open_files",
            Limit::CreatedFiles => "created_files",
            Limit::WriteBytes => "write_bytes",
            Limit::Connections => "connections",
            Limit::HttpRequestBytes => "http_request_bytes",
            Limit::HttpResponseBytes => "http_response_bytes",
            Limit::HttpFieldsBytes => "http_fields_bytes",
            Limit::SocketSentBytes => "socket_sent_bytes",
            Limit::SocketReadBytes => "socket_read_bytes",
            Limit::StorageKeys => "storage_keys",
            Limit::StorageBytes => "storage_bytes",
            Limit::StorageValueBytes => "storage_value_bytes",
            Limit::Deadline => "deadline",
            Limit::Stack => "stack_bytes",
        }
    }

    /// A value of this limit as it is asked for: `memory_bytes of 64 MiB`, `handles of 1,000`.
    pub fn asked(self, value: u64) -> String {
        let shown = match self {
            Limit::Instances | Limit::Handles | Limit::OpenFiles | Limit::Connections => {
                grouped(value)
            }
            _ => self.display(value),
        };
        format!("{} of {shown}", self.as_str())
    }

    /// A value of this limit with its unit, for a person: `64 MiB`, `2 s`, `1,000,000 units`.
    pub fn display(self, value: u64) -> String {
        match self {
            Limit::Fuel => counted(value, "unit"),
            Limit::TableElements => counted(value, "element"),
            Limit::Instances => counted(value, "instance"),
            Limit::Handles => counted(value, "handle"),
            Limit::OpenFiles => counted(value, "open file"),
            Limit::CreatedFiles => counted(value, "new file"),
            Limit::Connections => counted(value, "connection"),
            Limit::StorageKeys => counted(value, "key"),
            Limit::WallTime | Limit::Deadline => exactly(value),
            Limit::Memory
            | Limit::Input
            | Limit::Output
            | Limit::Attachments
            | Limit::HostBytes
            | Limit::WriteBytes
            | Limit::HttpRequestBytes
            | Limit::HttpResponseBytes
            | Limit::HttpFieldsBytes
            | Limit::SocketSentBytes
            | Limit::SocketReadBytes
            | Limit::StorageBytes
            | Limit::StorageValueBytes
            | Limit::Stdout
            | Limit::Stderr
            | Limit::Log
            | Limit::Progress
            | Limit::Stack => exact_bytes(value),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn counted(value: u64, one: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(value))
}

impl Limit {
    /// What bounds the host's own work and memory. A skill gets [no more](LimitOverrides::of_a_skill) of it
    /// by its own wish than anybody.
    pub(crate) const OF_THE_HOST: [Limit; 12] = [
        Limit::TableElements,
        Limit::Instances,
        Limit::Output,
        Limit::Attachments,
        Limit::Stdout,
        Limit::Stderr,
        Limit::HostBytes,
        Limit::Handles,
        Limit::OpenFiles,
        Limit::CreatedFiles,
        Limit::Connections,
        Limit::HttpFieldsBytes,
    ];

    /// The limits of which every skill needs some. Of the others, 0 is a way to say no.
    pub const NEEDED: [Limit; 6] = [
        Limit::Fuel,
        Limit::Memory,
        Limit::WallTime,
        Limit::Input,
        Limit::Output,
        Limit::Instances,
    ];

    /// Each limit that can be asked for: all but the deadline and the stack.
    pub const ASKED: [Limit; 26] = [
        Limit::Fuel,
        Limit::Memory,
        Limit::TableElements,
        Limit::Instances,
        Limit::WallTime,
        Limit::Input,
        Limit::Output,
        Limit::Attachments,
        Limit::Stdout,
        Limit::Stderr,
        Limit::Log,
        Limit::Progress,
        Limit::HostBytes,
        Limit::Handles,
        Limit::OpenFiles,
        Limit::CreatedFiles,
        Limit::WriteBytes,
        Limit::Connections,
        Limit::HttpRequestBytes,
        Limit::HttpResponseBytes,
        Limit::HttpFieldsBytes,
        Limit::SocketSentBytes,
        Limit::SocketReadBytes,
        Limit::StorageKeys,
        Limit::StorageBytes,
        Limit::StorageValueBytes,
    ];
}

impl Limits {
    /// The value of one limit in its base unit: bytes, milliseconds, or a count.
    ///
    /// [`Limit::Deadline`] is not a figure of `Limits`, and gives 0.
    pub fn get(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Fuel => self.fuel,
            Limit::Memory => self.memory_bytes,
            Limit::TableElements => self.table_elements,
            Limit::Instances => self.instances,
            Limit::WallTime => u64::try_from(self.wall_time.as_millis()).unwrap_or(u64::MAX),
            Limit::Deadline => 0,
            Limit::Input => self.input_bytes,
            Limit::Output => self.output_bytes,
            Limit::Attachments => self.attachment_bytes,
            Limit::HostBytes => self.host_bytes,
            Limit::Handles => self.handles,
            Limit::OpenFiles => self.open_files,
            Limit::CreatedFiles => self.created_files,
            Limit::WriteBytes => self.write_bytes,
            Limit::Connections => self.connections,
            Limit::HttpRequestBytes => self.http_request_bytes,
            Limit::HttpResponseBytes => self.http_response_bytes,
            Limit::HttpFieldsBytes => self.http_fields_bytes,
            Limit::SocketSentBytes => self.socket_sent_bytes,
            Limit::SocketReadBytes => self.socket_read_bytes,
            Limit::StorageKeys => self.storage_keys,
            Limit::StorageBytes => self.storage_bytes,
            Limit::StorageValueBytes => self.storage_value_bytes,
            Limit::Stdout => self.stdout_bytes,
            Limit::Stderr => self.stderr_bytes,
            Limit::Log => self.log_bytes,
            Limit::Progress => self.progress_bytes,
            Limit::Stack => self.stack_bytes,
        }
    }

    /// Sets one limit, in its base unit. The deadline is not a figure of `Limits`, and is not set.
    pub fn set(&mut self, limit: Limit, value: u64) {
        match limit {
            Limit::WallTime => self.wall_time = Duration::from_millis(value),
            Limit::Fuel => self.fuel = value,
            Limit::Memory => self.memory_bytes = value,
            Limit::TableElements => self.table_elements = value,
            Limit::Instances => self.instances = value,
            Limit::Input => self.input_bytes = value,
            Limit::Output => self.output_bytes = value,
            Limit::Attachments => self.attachment_bytes = value,
            Limit::Stdout => self.stdout_bytes = value,
            Limit::Stderr => self.stderr_bytes = value,
            Limit::Log => self.log_bytes = value,
            Limit::Progress => self.progress_bytes = value,
            Limit::HostBytes => self.host_bytes = value,
            Limit::Handles => self.handles = value,
            Limit::OpenFiles => self.open_files = value,
            Limit::CreatedFiles => self.created_files = value,
            Limit::WriteBytes => self.write_bytes = value,
            Limit::Connections => self.connections = value,
            Limit::HttpRequestBytes => self.http_request_bytes = value,
            Limit::HttpResponseBytes => self.http_response_bytes = value,
            Limit::HttpFieldsBytes => self.http_fields_bytes = value,
            Limit::SocketSentBytes => self.socket_sent_bytes = value,
            Limit::SocketReadBytes => self.socket_read_bytes = value,
            Limit::StorageKeys => self.storage_keys = value,
            Limit::StorageBytes => self.storage_bytes = value,
            Limit::StorageValueBytes => self.storage_value_bytes = value,
            Limit::Stack => self.stack_bytes = value,
            Limit::Deadline => {}
        }
    }
}

impl LimitOverrides {
    /// The value of one limit in its base unit, where there is one.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::WallTime => self
                .wall_time
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            Limit::Fuel => self.fuel,
            Limit::Memory => self.memory_bytes,
            Limit::TableElements => self.table_elements,
            Limit::Instances => self.instances,
            Limit::Input => self.input_bytes,
            Limit::Output => self.output_bytes,
            Limit::Attachments => self.attachment_bytes,
            Limit::Stdout => self.stdout_bytes,
            Limit::Stderr => self.stderr_bytes,
            Limit::Log => self.log_bytes,
            Limit::Progress => self.progress_bytes,
            Limit::HostBytes => self.host_bytes,
            Limit::Handles => self.handles,
            Limit::OpenFiles => self.open_files,
            Limit::CreatedFiles => self.created_files,
            Limit::WriteBytes => self.write_bytes,
            Limit::Connections => self.connections,
            Limit::HttpRequestBytes => self.http_request_bytes,
            Limit::HttpResponseBytes => self.http_response_bytes,
            Limit::HttpFieldsBytes => self.http_fields_bytes,
            Limit::SocketSentBytes => self.socket_sent_bytes,
            Limit::SocketReadBytes => self.socket_read_bytes,
            Limit::StorageKeys => self.storage_keys,
            Limit::StorageBytes => self.storage_bytes,
            Limit::StorageValueBytes => self.storage_value_bytes,
            Limit::Deadline | Limit::Stack => None,
        }
    }

    /// Sets one limit, in its base unit. Deadline and stack cannot be asked for, and are not set.
    pub fn set(&mut self, limit: Limit, value: u64) {
        match limit {
            Limit::WallTime => self.wall_time = Some(Duration::from_millis(value)),
            Limit::Fuel => self.fuel = Some(value),
            Limit::Memory => self.memory_bytes = Some(value),
            Limit::TableElements => self.table_elements = Some(value),
            Limit::Instances => self.instances = Some(value),
            Limit::Input => self.input_bytes = Some(value),
            Limit::Output => self.output_bytes = Some(value),
            Limit::Attachments => self.attachment_bytes = Some(value),
            Limit::Stdout => self.stdout_bytes = Some(value),
            Limit::Stderr => self.stderr_bytes = Some(value),
            Limit::Log => self.log_bytes = Some(value),
            Limit::Progress => self.progress_bytes = Some(value),
            Limit::HostBytes => self.host_bytes = Some(value),
            Limit::Handles => self.handles = Some(value),
            Limit::OpenFiles => self.open_files = Some(value),
            Limit::CreatedFiles => self.created_files = Some(value),
            Limit::WriteBytes => self.write_bytes = Some(value),
            Limit::Connections => self.connections = Some(value),
            Limit::HttpRequestBytes => self.http_request_bytes = Some(value),
            Limit::HttpResponseBytes => self.http_response_bytes = Some(value),
            Limit::HttpFieldsBytes => self.http_fields_bytes = Some(value),
            Limit::SocketSentBytes => self.socket_sent_bytes = Some(value),
            Limit::SocketReadBytes => self.socket_read_bytes = Some(value),
            Limit::StorageKeys => self.storage_keys = Some(value),
            Limit::StorageBytes => self.storage_bytes = Some(value),
            Limit::StorageValueBytes => self.storage_value_bytes = Some(value),
            Limit::Deadline | Limit::Stack => {}
        }
    }

    /// Which limits are named: a bit for each.
    pub(crate) fn named(&self) -> Named {
        let bit = |limit: Limit, named: bool| u32::from(named) << limit as u32;
        let bits = [
            bit(Limit::WallTime, self.wall_time.is_some()),
            bit(Limit::Fuel, self.fuel.is_some()),
            bit(Limit::Memory, self.memory_bytes.is_some()),
            bit(Limit::TableElements, self.table_elements.is_some()),
            bit(Limit::Instances, self.instances.is_some()),
            bit(Limit::Input, self.input_bytes.is_some()),
            bit(Limit::Output, self.output_bytes.is_some()),
            bit(Limit::Attachments, self.attachment_bytes.is_some()),
            bit(Limit::Stdout, self.stdout_bytes.is_some()),
            bit(Limit::Stderr, self.stderr_bytes.is_some()),
            bit(Limit::Log, self.log_bytes.is_some()),
            bit(Limit::Progress, self.progress_bytes.is_some()),
            bit(Limit::HostBytes, self.host_bytes.is_some()),
            bit(Limit::Handles, self.handles.is_some()),
            bit(Limit::OpenFiles, self.open_files.is_some()),
            bit(Limit::CreatedFiles, self.created_files.is_some()),
            bit(Limit::WriteBytes, self.write_bytes.is_some()),
            bit(Limit::Connections, self.connections.is_some()),
            bit(Limit::HttpRequestBytes, self.http_request_bytes.is_some()),
            bit(Limit::HttpResponseBytes, self.http_response_bytes.is_some()),
            bit(Limit::HttpFieldsBytes, self.http_fields_bytes.is_some()),
            bit(Limit::SocketSentBytes, self.socket_sent_bytes.is_some()),
            bit(Limit::SocketReadBytes, self.socket_read_bytes.is_some()),
            bit(Limit::StorageKeys, self.storage_keys.is_some()),
            bit(Limit::StorageBytes, self.storage_bytes.is_some()),
            bit(Limit::StorageValueBytes, self.storage_value_bytes.is_some()),
        ];
        Named(bits.iter().fold(0, |all, bit| all | bit))
    }

    /// Whether it has no opinion about anything.
    pub fn is_empty(&self) -> bool {
        self.named().is_empty()
    }
}

/// Some of the limits that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named(u32);

impl Named {
    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    pub fn or(self, other: Named) -> Named {
        Named(self.0 | other.0)
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = Limit> {
        let is_named = move |limit: &Limit| self.0 >> *limit as u32 & 1 == 1;
        Limit::ASKED.into_iter().filter(is_named)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for LimitOverrides {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LimitOverrides".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let fields = Limit::ASKED.iter().map(|limit| {
            // A text has a unit, or such as `M`.
            let least = u64::from(Limit::NEEDED.contains(limit));
            let values = serde_json::json!({"type": ["integer", "string"], "minimum": least});
            (limit.as_str().to_owned(), values)
        });
        let fields: serde_json::Map<_, _> = fields.collect();
        schemars::json_schema!({
            "type": "object",
            "properties": fields,
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_read_and_written_by_its_own_key() {
        let all = serde_json::to_value(Limits::default()).unwrap();
        let all = all.as_object().unwrap();
        assert_eq!(all.len(), Limit::ASKED.len() + 1, "and the stack");
        for (number, limit) in (1..).zip(Limit::ASKED) {
            assert!(all.contains_key(limit.as_str()), "{limit}");
            let mut asked = LimitOverrides::default();
            asked.set(limit, number);
            assert_eq!(asked.get(limit), Some(number));
            assert!(asked.named().each().eq([limit]));
            let json = serde_json::to_value(asked).unwrap();
            assert_eq!(json, serde_json::json!({limit.as_str(): number}));
            let mut limits = Limits::default();
            limits.set(limit, number);
            let json = serde_json::to_value(limits).unwrap();
            assert_eq!(json[limit.as_str()], number);
            assert_eq!(limits.get(limit), number);
        }
    }

    #[test]
    fn times_that_are_not_the_same_are_not_shown_alike() {
        for (milliseconds, shown) in [
            (0, "0 s"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_230, "1.23 s"),
            (1_234, "1,234 ms"),
            (60_000, "1 min"),
            (600_000, "10 min"),
            (601_000, "601,000 ms"),
            (3_600_000, "1 h"),
            (9_000_000, "9,000,000 ms"),
        ] {
            assert_eq!(Limit::WallTime.display(milliseconds), shown);
        }
    }
}
