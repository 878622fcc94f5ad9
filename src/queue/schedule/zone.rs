//! Names of time zones.

use chrono_tz::{TZ_VARIANTS, Tz};

use super::{ScheduleError, shown};

/// The time zone of this name.
pub(super) fn find(text: &str) -> Result<Tz, ScheduleError> {
    text.trim().parse().map_err(|_| ScheduleError::Zone {
        text: shown(text),
        meant: meant(text.trim()),
    })
}

/// The zone that is meant: by another case, by its city alone, or by a slip.
fn meant(text: &str) -> Option<String> {
    // No name is half as long, and each is compared with each.
    if text.len() > 64 {
        return None;
    }
    let names = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let plain = text.replace(' ', "_");
    let city = |name: &str| {
        name.rsplit_once('/')
            .is_some_and(|(_, city)| city.eq_ignore_ascii_case(&plain))
    };
    names()
        .find(|name| name.eq_ignore_ascii_case(&plain))
        .or_else(|| names().find(|name| city(name)))
        .or_else(|| crate::text::closest(&plain, names()))
        .map(str::to_owned)
}
