//! What is said of a limit that was met.

use crate::execution::{Cause, Failure, Frame, Phase, RAISE_IT};
use crate::limits::{Limit, display_bytes};

/// The failure for a limit that was met.
pub(super) fn limit_failure(
    limit: Limit,
    allowed: u64,
    requested: Option<u64>,
    backtrace: Vec<Frame>,
    phase: Phase,
) -> Failure {
    let value = limit.display(allowed);
    let asked = requested.map(|requested| beside(limit, requested, &value));
    let mut message = match (limit, asked) {
        (Limit::Fuel, _) => format!("the skill used up its fuel of {value}"),
        (Limit::Memory, Some(asked)) => {
            format!("the skill needed {asked} of memory; its limit is {value}")
        }
        (Limit::TableElements, Some(asked)) => {
            format!("the skill needed tables of {asked}; its limit is {value}")
        }
        (Limit::Stack, _) => format!("the skill used up its stack of {value}"),
        (Limit::Instances, _) => {
            format!("the skill consists of more than {value}, which is its limit")
        }
        (Limit::Handles, _) => {
            format!("the skill held more than {value} at once, which is its limit")
        }
        (Limit::HostBytes, _) => {
            format!(
                "the skill handed the host more than {value}, or a list of more than 10,000 items, in one call, which \
                 is its limit"
            )
        }
        (Limit::Input, Some(asked)) => format!("the input has {asked}; the limit is {value}"),
        (Limit::Output, Some(asked)) => {
            format!("the skill answered with {asked}; its limit is {value}")
        }
        (Limit::Attachments, Some(asked)) => {
            format!("the skill attached {asked}; its limit is {value}")
        }
        (Limit::Output | Limit::Attachments, None) => {
            let part = match limit {
                Limit::Output => "an output",
                _ => "attachments",
            };
            format!("the skill answered with {part} of more than {value}, which is its limit")
        }
        (Limit::HttpFieldsBytes, _) => {
            format!("the skill put more than {value} of header fields together, which is its limit")
        }
        (Limit::StorageKeys | Limit::StorageBytes, _) => {
            format!("the skill wanted to keep more than {value}, which is its limit")
        }
        (Limit::StorageValueBytes, _) => {
            format!("the skill wanted to keep a value of more than {value}, which is its limit")
        }
        // It is the host that opens directories, before there is anything of the skill.
        (Limit::OpenFiles, _) if phase == Phase::Waiting => {
            format!(
                "what the skill is granted takes the host more than {value}, which is the skill's limit"
            )
        }
        (Limit::OpenFiles | Limit::Connections, _) => {
            format!("the skill wanted more than {value} at once, which is its limit")
        }
        (Limit::CreatedFiles, _) => {
            format!("the skill wanted to make more than {value}, which is its limit")
        }
        (Limit::WriteBytes, _) => {
            format!("the skill wanted to write more than {value} to files, which is its limit")
        }
        (Limit::HttpRequestBytes, _) => {
            format!("the skill's requests over HTTP came to more than {value}, which is its limit")
        }
        (Limit::HttpResponseBytes, _) => {
            format!(
                "the answers that the skill got over HTTP came to more than {value}, which is its limit"
            )
        }
        (Limit::SocketSentBytes, _) => {
            format!("the skill wanted to send more than {value} on sockets, which is its limit")
        }
        (Limit::SocketReadBytes, _) => {
            format!("the skill received more than {value} on sockets, which is its limit")
        }
        // What they are met with says how much was needed, or they stop nothing in this way.
        (Limit::Memory | Limit::TableElements | Limit::Input, None)
        | (Limit::WallTime | Limit::Deadline, _)
        | (Limit::Stdout | Limit::Stderr | Limit::Log | Limit::Progress, _) => {
            format!("the skill met its {limit} limit of {value}")
        }
    };
    if phase == Phase::Instantiation {
        // Beside what was needed then: the limit is what it always is.
        let limit = [";", ", which is"]
            .iter()
            .find_map(|begins| message.find(begins));
        message.insert_str(
            limit.unwrap_or(message.len()),
            " while it was being instantiated",
        );
    }
    let hint = match limit {
        Limit::Stack => "the stack is set for the whole host, not for a request",
        Limit::Input => "raise the input limit, or hand in less",
        _ => RAISE_IT,
    };
    Failure::new(
        Cause::ResourceExhausted {
            limit,
            allowed,
            requested,
            backtrace,
        },
        message,
    )
    .hint(hint)
}

/// What was needed, and where it has another unit than the limit, which it is compared with, also about how much that is
/// in the other.
fn beside(limit: Limit, requested: u64, allowed: &str) -> String {
    let exact = limit.display(requested);
    let unit = |shown: &str| shown.rsplit(' ').next().map(str::to_owned);
    let bytes = display_bytes(requested);
    let is_apart = unit(&exact) != unit(allowed) && unit(&bytes) == unit(allowed);
    match is_apart && bytes != exact {
        true => format!("{exact} ({bytes})"),
        false => exact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_limit_says_reads_well() {
        let failure = limit_failure(
            Limit::Memory,
            1 << 20,
            Some(2 << 20),
            Vec::new(),
            Phase::Instantiation,
        );
        assert_eq!(
            failure.message,
            "the skill needed 2 MiB of memory while it was being instantiated; its limit is 1 MiB"
        );
        let said = |limit: Limit, allowed: u64, requested: u64, phase: Phase| {
            limit_failure(limit, allowed, Some(requested), Vec::new(), phase).message
        };
        for (allowed, requested, needed) in [
            (16 << 20, 98_752 << 10, "98,752 KiB (96.4 MiB) of memory"),
            (100 << 10, 98_752 << 10, "98,752 KiB of memory"),
            (1 << 20, 3 << 19, "1.5 MiB of memory"),
        ] {
            let said = said(Limit::Memory, allowed, requested, Phase::Run);
            assert!(
                said.starts_with(&format!("the skill needed {needed};")),
                "{said}"
            );
        }
        assert_eq!(
            said(Limit::TableElements, 1, 37, Phase::Run),
            "the skill needed tables of 37 elements; its limit is 1 element"
        );
        assert_eq!(
            said(Limit::Instances, 3, 4, Phase::Instantiation),
            "the skill consists of more than 3 instances while it was being instantiated, which is its limit"
        );
        assert_eq!(
            said(Limit::OpenFiles, 0, 1, Phase::Waiting),
            "what the skill is granted takes the host more than 0 open files, which is the skill's limit"
        );
    }
}
