//! What can be set for the door.

use std::time::Duration;

/// Bounds and choices of the door for agents.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct McpSettings {
    /// How many tool calls of one session, or over HTTP of one tenant, may run at once; more are
    /// told to wait. Default 16.
    pub concurrent_calls: usize,
    /// How many tools, resources or skills stand on one page of a list. Default 100.
    pub page: usize,
    /// From which size on an output is cut, in tokens as estimated: a quarter of its bytes. The whole
    /// is kept, to be read on. Default 10,000.
    pub output_tokens: usize,
    /// Up to which size an attachment of an answer goes along with it, in bytes; a larger one is kept,
    /// to be read. Default 1 MiB.
    pub inline_bytes: usize,
    /// What is kept of large outputs.
    pub kept: KeptBounds,
    /// What answers take over HTTP that their clients have not read.
    pub untaken: UntakenBounds,
    /// The largest message that is read, in bytes. Default 16 MiB.
    pub message_bytes: usize,
    /// A tool that may run for longer than this by its limits runs as a task, where the client knows
    /// tasks and there is a queue. Default a minute.
    pub task_after: Duration,
    /// How long a person may take to approve a call. Default 5 minutes.
    pub approval_wait: Duration,
    /// Offer a tool to search for tools, and one to call them, rather than each tool by itself.
    /// Default off.
    pub search: bool,
    /// Call tools by their own names, without the skill's before it, wherever no other tool has the
    /// name. A skill that is installed later can then change what a name stands for, so this is for
    /// servers of chosen skills. Default off.
    pub plain_names: bool,
}

/// What is kept of large outputs, so that they can be read on. What was kept first goes first.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct KeptBounds {
    /// How many of one session, or over HTTP of one tenant. Default 64.
    pub count: usize,
    /// How many bytes of one. Default 64 MiB. What is larger by itself is not kept.
    pub bytes: usize,
    /// How many bytes of all together. Default 256 MiB.
    pub total_bytes: usize,
    /// For how long. Default an hour.
    pub time: Duration,
}

/// What answers take together that are made and that their clients have not read, over HTTP. Where that is more, the next
/// one says so in its place; but whoever has read all that it was answered gets the next one, however large it is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct UntakenBounds {
    /// How many bytes in memory of one tenant. Default 64 MiB.
    pub bytes: u64,
    /// How many bytes of all together. Default 256 MiB.
    pub total_bytes: u64,
}

impl Default for McpSettings {
    fn default() -> Self {
        McpSettings {
            concurrent_calls: 16,
            page: 100,
            output_tokens: 10_000,
            inline_bytes: 1 << 20,
            kept: KeptBounds::default(),
            untaken: UntakenBounds::default(),
            message_bytes: 16 << 20,
            task_after: Duration::from_secs(60),
            approval_wait: Duration::from_secs(300),
            search: false,
            plain_names: false,
        }
    }
}

impl Default for UntakenBounds {
    fn default() -> Self {
        UntakenBounds {
            bytes: 64 << 20,
            total_bytes: 256 << 20,
        }
    }
}

impl Default for KeptBounds {
    fn default() -> Self {
        KeptBounds {
            count: 64,
            bytes: 64 << 20,
            total_bytes: 256 << 20,
            time: Duration::from_secs(3_600),
        }
    }
}
