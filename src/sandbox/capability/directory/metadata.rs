//! What is known of a file, as `wasi:filesystem` says it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_fs_ext::SystemTimeSpec;
use cap_std::fs::Metadata;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types;

use types::ErrorCode;

use super::descriptor::{identity, kind};
use super::shared::Fault;

/// Where the clocks stand still, every file is of that time: what it was made at would tell how late it is.
pub(super) fn stat(metadata: &Metadata, still: Option<SystemTime>) -> types::DescriptorStat {
    use cap_fs_ext::MetadataExt;
    let time = |time: io::Result<cap_std::time::SystemTime>| {
        let time = still.or_else(|| Some(time.ok()?.into_std()))?;
        // Before 1970 there is no time in WASI.
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        Some(Datetime {
            seconds: since.as_secs(),
            nanoseconds: since.subsec_nanos(),
        })
    };
    types::DescriptorStat {
        type_: kind(metadata),
        link_count: metadata.nlink(),
        size: metadata.len(),
        data_access_timestamp: time(metadata.accessed()),
        data_modification_timestamp: time(metadata.modified()),
        status_change_timestamp: None,
    }
}

/// By which a file is known again.
pub(super) fn hash(metadata: &Metadata) -> types::MetadataHashValue {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, identity(metadata)).hash(&mut hasher);
        hasher.finish()
    };
    types::MetadataHashValue {
        lower: half(0),
        upper: half(1),
    }
}

/// To which time a file's is to be set.
pub(super) fn time(
    time: types::NewTimestamp,
    still: Option<SystemTime>,
) -> Result<Option<SystemTimeSpec>, Fault> {
    Ok(match time {
        types::NewTimestamp::NoChange => None,
        types::NewTimestamp::Now => Some(match still {
            None => SystemTimeSpec::SymbolicNow,
            Some(time) => SystemTimeSpec::Absolute(cap_std::time::SystemTime::from_std(time)),
        }),
        types::NewTimestamp::Timestamp(Datetime {
            seconds,
            nanoseconds,
        }) => {
            let since = Duration::from_secs(seconds)
                .checked_add(Duration::from_nanos(nanoseconds.into()))
                .ok_or(ErrorCode::Overflow)?;
            let time = UNIX_EPOCH.checked_add(since).ok_or(ErrorCode::Overflow)?;
            let time = cap_std::time::SystemTime::from_std(time);
            Some(SystemTimeSpec::Absolute(time))
        }
    })
}
