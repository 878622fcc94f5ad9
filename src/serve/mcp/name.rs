//! Names of tools, as clients allow them: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_` and `-`.

use sha2::{Digest as _, Sha256};

/// The longest name.
const MAX: usize = 64;
/// Of a name that must be shortened, so much of the skill's and of the tool's stays.
const KEPT: usize = 24;

/// The name of a skill's tool: `SKILL__TOOL`, which no other has, as no skill has a `_` in its name.
///
/// Where that is too long, or another version of the skill has it (`version` says which this one
/// is), it is shortened and gets a part of a digest. Such a name has no `_`, and so is nobody else's.
pub(super) fn tool(skill: &str, version: Option<&str>, tool: &str) -> String {
    if version.is_none() && skill.len() + 2 + tool.len() <= MAX {
        return format!("{skill}__{tool}");
    }
    let whole = format!("{skill}@{}/{tool}", version.unwrap_or_default());
    let digest = hex::encode(&Sha256::digest(whole.as_bytes())[..6]);
    format!("{}-{}-{digest}", start(skill), start(tool))
}

/// The beginning of a name, without `_`.
fn start(name: &str) -> String {
    name.chars()
        .take(KEPT)
        .map(|c| if c == '_' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tools_have_one_name() {
        let long = "a".repeat(64);
        let names = [
            tool("csv-query", None, "query"),
            tool("csv", None, "query__query"),
            tool("csv-query", Some("1.0.0"), "query"),
            tool("csv-query", Some("1.0.1"), "query"),
            tool(&long, None, &long),
            tool(&long, None, "b"),
            tool(&long[1..], None, &long),
            tool("a", None, &format!("{}_", &long[..63])),
            tool("a", None, &format!("{}-", &long[..63])),
        ];
        assert_eq!(names[0], "csv-query__query");
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for (at, name) in names.iter().enumerate() {
            assert!(name.len() <= MAX && name.chars().all(allowed), "{name}");
            assert!(!names[..at].contains(name), "{name}");
        }
    }
}
