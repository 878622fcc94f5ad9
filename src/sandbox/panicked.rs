//! What a skill in Rust says when it panics: it writes that to standard error, and then traps.

use crate::execution::{Cause, Failure, Phase};
use crate::text::{named, printable, shortened};

/// The bytes that are kept of what it said, and of where that stands in its source.
const MAX_MESSAGE: usize = 1_000;
const MAX_PLACE: usize = 200;
/// The bytes at the end of standard error that are looked at: the guest may have written megabytes, and
/// its time is over.
const LOOKED_AT: usize = 64 * 1024;

/// The words in which the standard library puts it, on a line that ends with the place.
const PANICKED: &str = " panicked at ";

/// A failure that says what the panic said, where it was one. All of that is the skill's own word.
pub(super) fn explained(mut failure: Failure, stderr: &str, phase: Phase) -> Failure {
    // How Rust ends a panic that nobody catches.
    let is_abort =
        matches!(&failure.cause, Cause::Trap { trap, .. } if trap == "unreachable_code_reached");
    if !is_abort {
        return failure;
    }
    let Some(said) = last(stderr) else {
        return failure;
    };
    let during = match phase {
        Phase::Instantiation => " during instantiation",
        _ => "",
    };
    // Shortened first, as escapes are longer than what they stand for.
    let place = named(said.place, MAX_PLACE);
    let message = printable(&shortened(&said.message, MAX_MESSAGE), true).into_owned();
    failure.message = format!("the skill panicked{during} at `{place}`: {message}");
    failure.hint = None;
    failure
}

struct Said<'s> {
    place: &'s str,
    message: String,
}

/// The last panic in a text, which nothing but what belongs to it stands behind.
fn last(stderr: &str) -> Option<Said<'_>> {
    let stderr = end_of(stderr);
    let mut behind = stderr.len();
    for line in stderr.rsplit('\n') {
        let rest = &stderr[behind..];
        behind = (behind - line.len()).saturating_sub(1);
        let Some((_, place)) = line
            .strip_prefix("thread ")
            .and_then(|line| line.split_once(PANICKED))
        else {
            continue;
        };
        let place = place.trim_end().strip_suffix(':')?;
        let told = |line: &&str| !line.starts_with("note: ") && *line != "stack backtrace:";
        let lines: Vec<&str> = rest
            .trim_start_matches('\n')
            .lines()
            .take_while(told)
            .collect();
        let message = lines.join("\n").trim().to_owned();
        return (!message.is_empty()).then_some(Said { place, message });
    }
    None
}

/// The end of a text, from where a line begins.
fn end_of(text: &str) -> &str {
    let from = text.len().saturating_sub(LOOKED_AT);
    if from == 0 {
        return text;
    }
    let from = text.ceil_char_boundary(from);
    match text[from..].split_once('\n') {
        Some((_, end)) => end,
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(trap: &str, stderr: &str) -> String {
        let cause = Cause::Trap {
            trap: trap.into(),
            backtrace: Vec::new(),
        };
        let failure = Failure::new(cause, "the skill trapped").hint("what to do");
        let explained = explained(failure.clone(), stderr, Phase::Run);
        assert_eq!(
            explained.hint.is_none(),
            explained.message != failure.message
        );
        explained.message
    }

    #[test]
    fn the_last_panic_is_what_it_says() {
        let abort = |stderr: &str| message("unreachable_code_reached", stderr);
        assert_eq!(
            abort(
                "a line\nthread 'main' (1) panicked at src/a.rs:1:2:\nfirst\n\
                 thread '<unnamed>' (1) panicked at src/lib.rs:34:5:\nassertion failed\n  left: 1\n\
                 note: run with `RUST_BACKTRACE=1`\n"
            ),
            "the skill panicked at `src/lib.rs:34:5`: assertion failed\n  left: 1"
        );
        assert_eq!(
            abort("thread 'a' panicked at b.rs:1:1:\n\x1b[2Jgone"),
            "the skill panicked at `b.rs:1:1`: \\u{1b}[2Jgone"
        );
        assert_eq!(
            abort("thread 'a' panicked at b.rs:1:1:\nit panicked at home"),
            "the skill panicked at `b.rs:1:1`: it panicked at home"
        );
        for other in [
            "",
            "it panicked at home",
            "thread 'a' panicked at b.rs:1:1",
            "thread 'a' panicked at b.rs:1:1:\n",
            "no thread panicked at b.rs:1:1:\nx",
        ] {
            assert_eq!(abort(other), "the skill trapped", "{other}");
        }
    }

    #[test]
    fn only_of_what_ends_as_a_panic_does() {
        let stderr = "thread 'a' panicked at b.rs:1:1:\nx";
        assert_eq!(
            message("integer_division_by_zero", stderr),
            "the skill trapped"
        );
    }

    #[test]
    fn what_it_says_is_bounded() {
        let stderr = format!(
            "thread 'a' panicked at {}:\n{}",
            "b".repeat(10_000),
            "\u{1b}".repeat(LOOKED_AT / 2)
        );
        let message = message("unreachable_code_reached", &stderr);
        assert!(
            message.starts_with("the skill panicked at `bbb"),
            "{message}"
        );
        assert!(message.len() < 10_000);
    }

    /// A guest's time is over by then, and it may have written megabytes.
    #[test]
    fn what_is_looked_at_is_bounded() {
        let panic = "thread 'a' panicked at b.rs:1:1:\nx\n";
        let after = |lines: usize| format!("{panic}{}", "a line\n".repeat(lines));
        assert!(last(&after(LOOKED_AT / 10)).is_some());
        assert!(last(&after(LOOKED_AT)).is_none());
        for other in [PANICKED, "\n", "thread  panicked at \n", "é"] {
            let stderr = other.repeat((4 << 20) / other.len());
            assert_eq!(end_of(&stderr).len() / LOOKED_AT, 0, "{other:?}");
            assert!(last(&stderr).is_none(), "{other:?}");
            let said = last(&format!("{stderr}\n{panic}")).map(|said| said.message);
            assert_eq!(said.as_deref(), Some("x"), "{other:?}");
        }
    }
}
