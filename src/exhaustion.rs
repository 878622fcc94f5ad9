//! What a machine can run out of.

use std::io;

use rustix::io::Errno;

/// Whether the process or the machine has run out of files, of memory or of room: nobody's fault but that of others,
/// and over once they give back what they hold. See `Rejection::Exhausted`.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    const OUT_OF: [Errno; 5] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOSPC,
        Errno::DQUOT,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| OUT_OF.contains(&Errno::from_raw_os_error(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_is_told_from_what_is_broken() {
        for (error, expected) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::NOSPC, true),
            (Errno::DQUOT, true),
            (Errno::NOENT, false),
            (Errno::ACCESS, false),
            (Errno::IO, false),
        ] {
            assert_eq!(is_exhausted(&error.into()), expected, "{error}");
        }
        assert!(!is_exhausted(&io::Error::other("no code")));
    }
}
