//! A skill's backtrace, without what its author did not write.

use skillhost::execution::Frame;
use skillhost::text::printable;

/// The most lines that are shown.
const MAX_LINES: usize = 16;
/// The most frames that wasmtime gives.
const MAX_FRAMES: usize = 20;

/// The lines of a backtrace, innermost first. Unless all of it is wanted, the way of a panic to its
/// trap and the glue around the skill are left out.
pub fn lines(frames: &[Frame], all: bool) -> Vec<String> {
    let frames: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
    let shown = if all { &frames[..] } else { own(&frames) };
    let mut folded: Vec<(&str, usize)> = Vec::new();
    for frame in shown {
        match folded.last_mut() {
            Some((last, count)) if last == frame => *count += 1,
            _ => folded.push((frame, 1)),
        }
    }
    let most = if all { folded.len() } else { MAX_LINES };
    // A whole one ends where the host called the skill.
    let is_cut = frames.len() >= MAX_FRAMES && !frames.iter().any(|frame| is_glue(frame));
    let outermost = folded.len().saturating_sub(1);
    let mut lines: Vec<String> = folded
        .iter()
        .take(most)
        .enumerate()
        .map(|(index, (frame, count))| {
            let frame = printable(frame, false);
            match count {
                1 => frame.into_owned(),
                count if is_cut && index == outermost => format!("{frame} ({count} times or more)"),
                count => format!("{frame} ({count} times)"),
            }
        })
        .collect();
    if folded.len() > most {
        lines.push(format!("and {} more (-v)", folded.len() - most));
    } else if is_cut && folded.last().is_some_and(|(_, count)| *count == 1) {
        lines.push("… and what called that".to_owned());
    }
    lines
}

/// The frames between the panic, if it was one, and the glue. All of them where nothing is left.
fn own<'f>(frames: &'f [&'f str]) -> &'f [&'f str] {
    let panic = frames.iter().rposition(|frame| {
        frame.starts_with("core::panicking::") || frame.contains("rust_begin_unwind")
    });
    let start = match panic {
        Some(last) => last + 1,
        // An exit, or memory that was not there: the way through the standard library to it.
        None => frames.iter().take_while(|frame| is_library(frame)).count(),
    };
    let glue = frames.iter().position(|frame| is_glue(frame));
    let end = glue.unwrap_or(frames.len());
    match frames.get(start..end) {
        Some(own) if !own.is_empty() => own,
        _ => frames,
    }
}

/// Whether a frame is of the way from the host into the skill.
fn is_glue(frame: &str) -> bool {
    frame.contains("::_export_") || frame.contains("#execute") || frame.contains("#describe")
}

/// Whether a frame is of Rust's standard library, its allocator, or the C library below it.
fn is_library(frame: &str) -> bool {
    const CRATES: [&str; 6] = [
        "std::",
        "core::",
        "alloc::",
        "dlmalloc::",
        "wasip1::",
        "wasip2::",
    ];
    const C: [&str; 17] = [
        "_Exit",
        "_exit",
        "abort",
        "calloc",
        "dlcalloc",
        "dlfree",
        "dlmalloc",
        "dlmemalign",
        "dlposix_memalign",
        "dlrealloc",
        "exit",
        "exit_exit",
        "free",
        "malloc",
        "posix_memalign",
        "realloc",
        "sbrk",
    ];
    // `<alloc::vec::Vec<T> as core::clone::Clone>::clone` is of it as well; a type of the author's
    // begins otherwise.
    let name = frame.trim_start_matches('<');
    CRATES.iter().any(|start| name.starts_with(start))
        || ["__rust", "__rdl_", "__rg_", "__wasi"]
            .iter()
            .any(|start| name.starts_with(start))
        || C.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<Frame> {
        names
            .iter()
            .map(|name| Frame {
                function: (*name).to_owned(),
                module: None,
                offset: None,
            })
            .collect()
    }

    #[test]
    fn a_panic_begins_where_the_author_wrote_it() {
        let all = frames(&[
            "abort",
            "__rustc::rust_begin_unwind",
            "core::panicking::panic_fmt",
            "core::panicking::panic_bounds_check",
            "skill::worst",
            "skill::bad",
            "skill::_::_export_execute_cabi",
            "skillhost:skill/tools@1.0.0#execute",
        ]);
        assert_eq!(lines(&all, false), ["skill::worst", "skill::bad"]);
        assert_eq!(lines(&all, true).len(), 8);
    }

    #[test]
    fn a_function_that_sounds_like_the_c_library_is_the_authors() {
        let all = frames(&[
            "sbrk",
            "dlmalloc",
            "dl_links",
            "skill::_::_export_execute_cabi",
        ]);
        assert_eq!(lines(&all, false), ["dl_links"]);
    }

    #[test]
    fn an_exit_and_memory_begin_there_as_well() {
        let glue = ["skill::_::_export_execute_cabi", "a#execute"];
        for way in [
            &["exit_exit", "_Exit", "exit", "std::sys::exit::exit"][..],
            &[
                "sbrk",
                "dlmalloc",
                "__rdl_alloc",
                "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            ],
        ] {
            let all = frames(
                &[
                    way,
                    &["skill::bad", "std::iter::each", "skill::worst"],
                    &glue,
                ]
                .concat(),
            );
            let expected = ["skill::bad", "std::iter::each", "skill::worst"];
            assert_eq!(lines(&all, false), expected);
            assert_eq!(lines(&all, true).len(), all.len());
        }
    }

    #[test]
    fn repetition_is_folded_and_length_bounded() {
        let deep = frames(&["a", "a", "a", "b"]);
        assert_eq!(lines(&deep, false), ["a (3 times)", "b"]);
        let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let long = lines(&frames(&names), false);
        assert_eq!(long.len(), 17);
        assert_eq!(long[16], "and 4 more (-v)");
    }

    /// How deep a recursion went on is not known where its frames are all that there is room for.
    #[test]
    fn where_it_is_cut_is_said() {
        let deep = frames(&["f"; 20]);
        assert_eq!(lines(&deep, false), ["f (20 times or more)"]);
        assert_eq!(lines(&frames(&["f"; 19]), false), ["f (19 times)"]);
        let both = [&["f"; 18][..], &["g", "h"]].concat();
        assert_eq!(
            lines(&frames(&both), false),
            ["f (18 times)", "g", "h", "… and what called that"]
        );
        let whole = [&["f"; 19][..], &["a#execute"]].concat();
        assert_eq!(lines(&frames(&whole), false), ["f (19 times)"]);
        assert_eq!(lines(&frames(&whole), true), ["f (19 times)", "a#execute"]);
    }

    #[test]
    fn what_is_only_glue_is_shown_after_all() {
        assert_eq!(lines(&frames(&["abort"]), false), ["abort"]);
        assert_eq!(lines(&[], false), Vec::<String>::new());
    }
}
