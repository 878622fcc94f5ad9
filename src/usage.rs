//! What an execution cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an execution cost, up to its end, however it ended.
///
/// Times serialise as milliseconds with a fraction, under names that end in `_ms`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct ResourceUsage {
    /// Fuel consumed, in units; see [`Limits::fuel`](crate::Limits::fuel). Never more than the limit: what a
    /// guest consumed past it until it was stopped is not reported.
    pub fuel: u64,
    /// Processor time that threads of the host spent in the guest and in the host calls it made,
    /// read from the threads' own clocks, to 20 µs; with checking an input or an output against its schema where that
    /// takes more than a moment. Blocking file system calls run on threads apart
    /// and do not count; nor does moving the bytes of connections, and TLS.
    #[serde(rename = "cpu_time_ms", with = "fractional_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = f64))]
    pub cpu_time: Duration,
    /// Wall time from the start of instantiation to the end.
    #[serde(rename = "wall_time_ms", with = "fractional_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = f64))]
    pub wall_time: Duration,
    /// Of the wall time, what instantiation took.
    #[serde(rename = "instantiation_time_ms", with = "fractional_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = f64))]
    pub instantiation_time: Duration,
    /// Of the wall time, what the call took, and checking the output where that takes more than a moment.
    #[serde(rename = "run_time_ms", with = "fractional_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = f64))]
    pub run_time: Duration,
    /// Time spent before the wall clock started: checking the input where that takes more than a moment, waiting for its
    /// turn by the policy and for a free instance, and opening what is granted.
    #[serde(rename = "waiting_time_ms", with = "fractional_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = f64))]
    pub waiting_time: Duration,
    /// Time spent before the wall clock started, compiling the component or loading it from the
    /// compiled cache. The first result after a skill was loaded reports it, also where it was refused, and
    /// no other.
    #[serde(rename = "compile_time_ms", with = "fractional_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = f64))]
    pub compile_time: Duration,
    /// Time spent in a queue before that, where the request came from one.
    #[serde(rename = "queue_wait_ms", with = "fractional_ms")]
    #[cfg_attr(feature = "serve", schema(value_type = f64))]
    pub queue_wait: Duration,
    /// The largest sum of the instance's linear memories and of what the engine keeps for its core instances, in bytes.
    pub peak_memory_bytes: u64,
    /// Calls from the guest to functions of the host.
    pub host_calls: u64,
    /// Bytes handed to the guest: the input's JSON text, and the attachments' names, media types
    /// and bytes.
    pub input_bytes: u64,
    /// Bytes that the guest answered: the output's JSON text, and the attachments' names, media
    /// types and bytes, or the texts of its failure.
    pub output_bytes: u64,
    /// Files, directories and links that were made in granted directories.
    #[serde(default)]
    pub created_files: u64,
    /// Bytes that were written to granted directories, growth of a file counting as writing.
    #[serde(default)]
    pub write_bytes: u64,
    /// Outgoing connections that were made, also where TLS came to nothing inside, and raw sockets.
    #[serde(default)]
    pub connections: u64,
    /// Bytes of outgoing HTTP requests: request lines, headers, framing and bodies, inside TLS
    /// where there is TLS; for each name that is looked up twice its length and 18; and 1 KiB for each greeting
    /// inside TLS and for each attempt that came to no connection.
    #[serde(default)]
    pub http_request_bytes: u64,
    /// Bytes of the answers to them, counted alike.
    #[serde(default)]
    pub http_response_bytes: u64,
    /// Bytes sent on sockets below HTTP, 8 being added for each datagram.
    #[serde(default)]
    pub socket_sent_bytes: u64,
    /// Bytes received on them, counted alike.
    #[serde(default)]
    pub socket_read_bytes: u64,
    /// Chatter past its limit, in bytes.
    pub dropped: DroppedBytes,
    /// Language-model tokens that the guest reported.
    pub tokens: Tokens,
}

/// Chatter that was dropped because it was past its limit, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct DroppedBytes {
    /// Of standard output.
    pub stdout_bytes: u64,
    /// Of standard error.
    pub stderr_bytes: u64,
    /// Of log records, 16 bytes being added for each.
    pub log_bytes: u64,
    /// Of progress reports, 16 bytes being added for each.
    pub progress_bytes: u64,
}

/// Language-model tokens, as the guest reported them; the host cannot check them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Tokens {
    /// Tokens sent to a model.
    pub input: u64,
    /// Tokens that a model produced.
    pub output: u64,
}

/// What loading a skill took, until a result has said so.
#[derive(Debug, Default)]
pub(crate) struct Unreported(AtomicU64);

impl Unreported {
    /// That it took so long.
    pub fn new(took: Duration) -> Self {
        Unreported(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).into())
    }

    /// How long, where nobody has taken it yet.
    pub fn take(&self) -> Duration {
        // Read first: after the first result nobody needs to write it any more.
        match self.0.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            _ => Duration::from_nanos(self.0.swap(0, Ordering::Relaxed)),
        }
    }
}

/// A duration as milliseconds with a fraction (to the microsecond).
pub(crate) mod fractional_ms {
    use super::*;

    pub fn serialize<S: serde::Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_micros() as f64 / 1000.0)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let milliseconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(milliseconds / 1000.0).map_err(serde::de::Error::custom)
    }
}

/// A duration as whole milliseconds.
pub(crate) mod whole_ms {
    use super::*;

    pub fn serialize<S: serde::Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
