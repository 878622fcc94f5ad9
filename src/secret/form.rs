//! In which forms the value of a secret is looked for.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::text::named;

/// One of them.
pub(super) struct Form {
    /// What bytes read as where it stands.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether the character before it, and the one behind it, has some bits of the value as well. They are not
    /// looked for, as the rest of them is of what stands beside the value.
    before: bool,
    behind: bool,
}

impl Form {
    /// Takes in what is known of the same bytes as another form.
    pub fn join(&mut self, other: &Form) {
        self.before |= other.before;
        self.behind |= other.behind;
    }

    /// Whether the character before it has something of the value, and whether the one behind it has, where its form was
    /// found there.
    pub fn beside(&self, bytes: &[u8], found: Range<usize>) -> (bool, bool) {
        let of_base64 = |at: usize| {
            let byte = bytes.get(at);
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
        };
        let before = found.start.checked_sub(1).is_some_and(of_base64);
        (self.before && before, self.behind && of_base64(found.end))
    }
}

/// Every form of a value: as it is, in small letters, as the host's own texts write it, in hexadecimal and in base64.
pub(super) fn forms(value: &[u8]) -> Vec<Form> {
    let whole = |bytes| Form {
        bytes: Zeroizing::new(bytes),
        before: false,
        behind: false,
    };
    // In a form that is sent, a space is a plus.
    let plus = value.iter().map(|byte| match byte {
        b' ' => b'+',
        byte => *byte,
    });
    let mut forms = vec![
        whole(value.to_vec()),
        whole(plus.collect()),
        whole(hex::encode(value).into_bytes()),
        whole(hex::encode_upper(value).into_bytes()),
        // The host writes names of hosts so, and looks them up.
        whole(value.to_ascii_lowercase()),
    ];
    // In a hint a backtick is escaped, and in a command of it an apostrophe. No form is more than twice as long as the
    // value: so much waits at the end of a stream.
    if let Ok(text) = std::str::from_utf8(value)
        && text.contains(['`', '\''])
    {
        let written = Zeroizing::new(named(text, usize::MAX));
        let in_a_word = Zeroizing::new(written.replace('\'', r"'\''"));
        for text in [&*written, &*in_a_word] {
            if text.len() <= 2 * value.len() {
                forms.push(whole(text.as_bytes().to_vec()));
            }
        }
    }
    // In base64 it depends on how many bytes stand before it, modulo three.
    for before in 0..3 {
        let mut padded = Zeroizing::new(vec![0; before]);
        padded.extend_from_slice(value);
        let bits = padded.len() * 8;
        let (start, end) = ((before * 8).div_ceil(6), bits / 6);
        for encoded in [
            STANDARD_NO_PAD.encode(&*padded),
            URL_SAFE_NO_PAD.encode(&*padded),
        ] {
            let encoded = Zeroizing::new(encoded);
            forms.push(Form {
                bytes: Zeroizing::new(encoded.as_bytes()[start..end].to_vec()),
                before: before > 0,
                behind: bits % 6 > 0,
            });
        }
    }
    forms
}
