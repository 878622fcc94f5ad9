//! What a skill looked for in vain and does not declare, as it has no manifest or its manifest lacks it.

use super::super::{
    Capability, Declared, Denial, Mode, Remedy, Sought, check_name, directory, hint,
};
use super::{Asker, MAX_SHOWN, NO_VALUE, in_a_list, named, to_declare};

/// How many variables are looked for in a text, of which one is told.
const MOST_VARIABLES: usize = 20;
/// That it found no directory at all.
const LOOKED_NOWHERE: &str = "the skill looked for a directory, and was granted none";

/// How it failed.
pub(crate) struct Ended<'a> {
    /// What it said of it.
    pub message: &'a str,
    /// Whether it said that what it was given was wrong, which neither a key nor a variable changes.
    pub of_input: bool,
    /// Whether it was given this variable.
    pub given: &'a dyn Fn(&str) -> bool,
}

impl Asker {
    /// What it looked for while it ran, and was neither told that it may not have it nor declares: what a skill without
    /// a manifest was not granted, and what no grant gives one with a manifest. The most telling first.
    pub fn found_wanting(&self, sought: &Sought, ended: &Ended<'_>) -> Vec<Denial> {
        if sought.full {
            // That is what was in the way.
            return Vec::new();
        }
        let by_itself = !ended.of_input;
        let reads = by_itself && sought.environment;
        let mut variables = reads
            .then(|| variables_in(ended.message))
            .into_iter()
            .flatten()
            .map(|one| one.name);
        // What no flag can have was not asked for in earnest.
        let keys = sought.keys.iter().filter(|_| by_itself);
        let keys = keys.filter(|key| !key.is_empty() && !key.contains('='));
        let nowhere = sought.no_directories && !sought.refused;
        match &self.declared {
            None => {
                let variable = variables.find(|name| !(ended.given)(name));
                let variable = variable.map(|name| self.lacks_name(Capability::Environment, name));
                let directory = nowhere.then(|| {
                    let (subject, reason) = ("*".to_owned(), LOOKED_NOWHERE.to_owned());
                    directory::of_any_path(&self.name, Mode::Ro, subject, reason)
                });
                let keys = keys.map(|key| self.lacks_name(Capability::Config, key));
                variable.into_iter().chain(directory).chain(keys).collect()
            }
            Some(declared) => {
                let declares = |name: &str| declared.environment.iter().any(|one| one == name);
                let variable = variables.find(|name| !declares(name));
                let variable = variable.map(|name| {
                    let how = to_declare(&in_a_list(Capability::Environment, name));
                    undeclared(Capability::Environment, name, how)
                });
                let keys = keys.filter(|key| !declared.config.contains_key(*key));
                let keys = keys.map(|key| {
                    let table = format!("[config.{}]", hint::key(&named(key, MAX_SHOWN)));
                    undeclared(Capability::Config, key, to_declare_key(&table))
                });
                let directory = (nowhere && !declares_any(declared)).then(no_directory);
                variable.into_iter().chain(keys).chain(directory).collect()
            }
        }
    }

    /// What may help where it failed, and nothing that it declares was lacking: `wanting`, which it was
    /// [found](Self::found_wanting) to lack; or to look elsewhere than it did.
    pub fn looked_in_vain(sought: &Sought, wanting: &[Denial]) -> Option<String> {
        if sought.full {
            let hint = "the disk is full, or a quota on it, where the skill wrote: make room there, or grant it a folder on another";
            return Some(hint.to_owned());
        }
        // A key may be one that it can do without; that a path is not there was the last that it heard.
        let first = wanting.first();
        let telling = first.filter(|first| first.capability != Capability::Config);
        let telling = telling.map(Denial::perhaps);
        telling
            .or_else(|| sought.elsewhere())
            .or_else(|| first.map(Denial::perhaps))
    }

    /// A name that has no value, and could have one.
    fn lacks_name(&self, capability: Capability, name: &str) -> Denial {
        let shown = named(name, MAX_SHOWN);
        let reason = not_given(capability, &shown);
        let text = format!("{name}={NO_VALUE}");
        Denial::lacking(&self.name, capability, shown, reason, Some(&text))
    }
}

/// How it asked for a name.
fn not_given(capability: Capability, shown: &str) -> String {
    match capability {
        Capability::Config => {
            format!("the skill asked for the configuration key `{shown}`, which it was not given")
        }
        _ => format!(
            "the skill read its environment, and says something of the variable `{shown}`, which it was not given"
        ),
    }
}

/// A name that its manifest lacks.
fn undeclared(
    capability: Capability,
    name: &str,
    (remedy, grant, hint): (Remedy, Option<String>, String),
) -> Denial {
    let shown = named(name, MAX_SHOWN);
    Denial {
        capability,
        reason: not_given(capability, &shown),
        subject: shown,
        remedy,
        grant,
        hint,
    }
}

/// What to do about a key that is not declared.
fn to_declare_key(table: &str) -> (Remedy, Option<String>, String) {
    let hint = format!(
        "no grant changes that, as the skill's skill.toml does not declare it; it would have to, with a table \
         `{table}` that has a `type`"
    );
    (Remedy::Skill, None, hint)
}

fn declares_any(declared: &Declared) -> bool {
    declared.scratch || !declared.directories.is_empty()
}

/// A directory where its manifest has none.
fn no_directory() -> Denial {
    Denial {
        capability: Capability::Directory,
        subject: "*".to_owned(),
        reason: LOOKED_NOWHERE.to_owned(),
        remedy: Remedy::Skill,
        grant: None,
        hint: "no grant changes that, as the skill's skill.toml declares none; it would have to, with \
               `directories = [{ path = \"*\", mode = \"ro\" }]` or `scratch = true` under `[grants]`"
            .to_owned(),
    }
}

/// Whether a text says plainly that it is about this variable: it calls it one, or says that it is not set.
pub(crate) fn says_plainly(message: &str, name: &str) -> bool {
    let mut named = variables_in(message).into_iter();
    named.any(|one| one.name == name && one.plainly)
}

/// What a text names as a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variable<'a> {
    name: &'a str,
    /// Whether it calls it a variable, or says that it is not there. Otherwise it may be anything that is wanted.
    plainly: bool,
}

/// What stands before what is wanted. Some of it also stands before a value that is.
const WANTED_BEFORE: [&str; 16] = [
    "set", "unset", "missing", "export", "define", "provide", "need", "needs", "require",
    "requires", "expected", "without", "neither", "nor", "either", "no",
];
/// What is said of what is not there (`TZ is missing`).
const ABSENT: [&str; 5] = ["missing", "unset", "required", "undefined", "empty"];
/// What is said of what is there, behind a `not`.
const PRESENT: [&str; 9] = [
    "set",
    "given",
    "present",
    "defined",
    "found",
    "provided",
    "specified",
    "configured",
    "available",
];

/// What a text that says that it is about the environment names as variables are (`API_KEY`): words in capitals that
/// stand beside a word for one; or that have a `_` in them, are no error's code (`ERR_…`), and stand where it is said
/// what is wanted (`set API_KEY`, `API_KEY is not set`). It gets all variables at once, so that which it looked for is
/// not to be seen. Each once, and the first [`MOST_VARIABLES`].
fn variables_in(message: &str) -> Vec<Variable<'_>> {
    let written: Vec<&str> = message.split_whitespace().collect();
    let words: Vec<&str> = written.iter().map(|word| bare(word)).collect();
    let is_one_of = |at: Option<usize>, all: &[&str]| {
        let word = at.and_then(|at| words.get(at));
        word.is_some_and(|word| all.iter().any(|one| word.eq_ignore_ascii_case(one)))
    };
    let one = ["variable", "var", "envvar"];
    let several = ["variables", "vars", "envvars"];
    let about = ["environment", "env", "envvar", "envvars"];
    let is_called = |at: Option<usize>| is_one_of(at, &one) || is_one_of(at, &several);
    if !(0..words.len()).any(|at| is_one_of(Some(at), &about)) {
        return Vec::new();
    }
    // Where all is in capitals, what stands beside `VARIABLE` need be no name.
    let in_small = |at: usize| words.get(at).is_some_and(|word| !written_so(word));
    // `is not set`, `isn't set`, `was missing`, `must be set`, and the same without `is`.
    let is_absent_behind = |at: usize| {
        if is_one_of(Some(at), &["must", "should"]) {
            return is_one_of(Some(at + 1), &["be"]) && is_one_of(Some(at + 2), &PRESENT);
        }
        if is_one_of(Some(at), &["isn't", "aren't", "wasn't", "weren't"]) {
            return is_one_of(Some(at + 1), &PRESENT);
        }
        let at = at + usize::from(is_one_of(Some(at), &["is", "are", "was", "were"]));
        is_one_of(Some(at), &ABSENT)
            || (is_one_of(Some(at), &["not"]) && is_one_of(Some(at + 1), &PRESENT))
    };
    let must_be_behind =
        |at: usize| is_one_of(Some(at), &["must"]) && is_one_of(Some(at + 1), &["be"]);
    // Whether a word begins the text, or what stands behind a `:`.
    let begins = |at: Option<usize>| at.is_some_and(|at| at == 0 || written[at - 1].ends_with(':'));
    let mut named: Vec<Variable<'_>> = Vec::new();
    // Where the last one stands, whether it is plain, and whether it is in a list of what is called variables.
    let mut last: Option<(usize, bool, bool)> = None;
    for at in 0..words.len() {
        let (word, before) = (words[at], at.checked_sub(1));
        let is_word = is_one_of(Some(at), &about) || is_called(Some(at));
        if !written_so(word) || is_word || check_name(word).is_err() {
            continue;
        }
        let introduced = before.is_some_and(|before| written[before].ends_with([':', '=']));
        let beside = is_called(before) && (introduced || before.is_some_and(in_small));
        // `TZ environment variable`, and not the first of `AWS environment variable AWS_REGION`.
        let behind = is_one_of(Some(at + 1), &about)
            && in_small(at + 1)
            && is_one_of(Some(at + 2), &one)
            && words.get(at + 3).is_none_or(|next| !written_so(next));
        let before_it = last.filter(|(last, ..)| {
            (last + 1 == at && written[*last].ends_with(','))
                || (last + 2 == at && is_one_of(before, &["and", "or", "nor"]))
        });
        let joined = word.contains('_') && !word.starts_with("ERR_") && !word.starts_with("E_");
        let has_sign = written[at]
            .trim_start_matches(['"', '\'', '`', '('])
            .starts_with('$');
        let plainly = beside
            || behind
            || (joined && (has_sign || is_absent_behind(at + 1)))
            || before_it.is_some_and(|(_, plainly, of_several)| plainly && (of_several || joined));
        let perhaps = || {
            joined
                && (before_it.is_some()
                    || is_one_of(before, &WANTED_BEFORE)
                    || must_be_behind(at + 1)
                    || (introduced && is_one_of(before, &about) && begins(before)))
        };
        if !plainly && !perhaps() {
            continue;
        }
        let of_several = (beside && is_one_of(before, &several))
            || before_it.is_some_and(|(.., of_several)| of_several);
        last = Some((at, plainly, of_several));
        let known = named.iter().position(|one| one.name == word);
        match known {
            Some(at) => named[at].plainly |= plainly,
            None if named.len() < MOST_VARIABLES => named.push(Variable {
                name: word,
                plainly,
            }),
            None => break,
        }
    }
    named
}

/// A word without what stands around it, or behind a `=`.
fn bare(word: &str) -> &str {
    let word = word.trim_start_matches(|first: char| "\"'`([{<$".contains(first));
    let word = word.split('=').next().unwrap_or_default();
    word.trim_end_matches(|last: char| "\"'`)]}>:;,.!?".contains(last))
}

/// Whether it is written as variables are.
fn written_so(word: &str) -> bool {
    let begins = word.starts_with(|first: char| first.is_ascii_uppercase());
    let goes_on = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    begins && word.len() > 1 && word.bytes().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One without a manifest, and one whose manifest declares a variable.
    fn askers() -> [(Asker, Remedy); 2] {
        let declared: Declared = toml::from_str(r#"environment = ["TZ"]"#).unwrap();
        [
            (Asker::new("a", None, true), Remedy::Grant),
            (Asker::new("a", Some(&declared), true), Remedy::Skill),
        ]
    }

    fn told(wanting: &[Denial]) -> Vec<(Capability, &str, Remedy)> {
        let told = wanting.iter();
        told.map(|one| (one.capability, one.subject.as_str(), one.remedy))
            .collect()
    }

    /// What was given is at fault, and no configuration changes that; nor was asked for in earnest what no flag can have.
    #[test]
    fn a_key_is_wanting_only_where_it_may_help() {
        let mut sought = Sought::default();
        for key in ["", "a=b", "name", "`x`"] {
            sought.key(key);
        }
        for (asker, remedy) in askers() {
            let ended = |of_input| Ended {
                message: "no",
                of_input,
                given: &|_| false,
            };
            assert_eq!(asker.found_wanting(&sought, &ended(true)), []);
            let wanting = asker.found_wanting(&sought, &ended(false));
            let escaped = named("`x`", MAX_SHOWN);
            let expected = ["name", &escaped].map(|key| (Capability::Config, key, remedy));
            assert_eq!(told(&wanting), expected);
            assert!(!escaped.contains('`'), "{escaped}");
        }
    }

    /// It says so itself, and did read its environment.
    #[test]
    fn a_variable_is_wanting_where_it_is_named() {
        let mut read = Sought::default();
        read.environment = true;
        let message = "the skill failed: the environment variable API_KEY is not set";
        for (asker, remedy) in askers() {
            let wanting = |sought: &Sought, message: &str, of_input: bool, given: &str| {
                let ended = Ended {
                    message,
                    of_input,
                    given: &|name| name == given,
                };
                asker.found_wanting(sought, &ended)
            };
            let found = wanting(&read, message, false, "");
            assert_eq!(told(&found), [(Capability::Environment, "API_KEY", remedy)]);
            match remedy {
                Remedy::Grant => assert_eq!(found[0].grant.as_deref(), Some("API_KEY=<VALUE>")),
                _ => assert!(
                    found[0]
                        .hint
                        .contains(r#"`environment = ["API_KEY"]` under"#)
                ),
            }
            let second = "environment: neither TZ_1 nor TZ_2";
            if remedy == Remedy::Grant {
                let found = wanting(&read, second, false, "TZ_1");
                assert_eq!(told(&found), [(Capability::Environment, "TZ_2", remedy)]);
            }
            assert_eq!(wanting(&read, message, true, ""), []);
            assert_eq!(wanting(&Sought::default(), message, false, ""), []);
            assert_eq!(wanting(&read, "the skill failed: HTTP 404", false, ""), []);
            if remedy == Remedy::Grant {
                assert_eq!(wanting(&read, message, false, "API_KEY"), []);
            } else {
                assert_eq!(
                    wanting(&read, "environment variable TZ: what is it?", false, ""),
                    []
                );
            }
        }
    }

    /// However many it names, and however often.
    #[test]
    fn no_more_variables_are_looked_for_than_may_be() {
        let names: Vec<String> = (0..100).map(|at| format!("env var A_{at}")).collect();
        let message = names.join(" ").repeat(3);
        assert_eq!(variables_in(&message).len(), MOST_VARIABLES);
    }

    #[test]
    fn what_is_no_more_than_wanted_is_not_said_plainly() {
        for (message, plainly) in [
            ("the environment variable API_KEY is not set", true),
            ("set $API_KEY in the environment", true),
            ("API_KEY was not found in the environment", true),
            ("the environment lacks it: API_KEY must be set", true),
            ("environment variables TZ and API_KEY", true),
            ("set API_KEY in the environment, as API_KEY is empty", true),
            ("set API_KEY in the environment", false),
            ("no API_KEY in the test environment", false),
            ("API_KEY must be at most 100 in this environment", false),
            ("expected TZ_1 or API_KEY from the prod environment", false),
            ("API_KEY", false),
        ] {
            assert_eq!(says_plainly(message, "API_KEY"), plainly, "{message}");
        }
    }

    /// An optional key is asked for first, and the file that is not there last.
    #[test]
    fn a_path_that_is_not_there_is_told_before_a_key() {
        let mut sought = Sought::default();
        sought.told(["/data"].into_iter());
        sought.key("max_rows");
        for (asker, _) in askers() {
            let ended = Ended {
                message: "no such file",
                of_input: false,
                given: &|_| false,
            };
            let wanting = asker.found_wanting(&sought, &ended);
            let told = Asker::looked_in_vain(&sought, &wanting).unwrap();
            assert!(told.contains("opened nothing below"), "{told}");
            assert_eq!(wanting.len(), 1);
            sought.entered = true;
            let told = Asker::looked_in_vain(&sought, &wanting).unwrap();
            assert!(told.contains("max_rows"), "{told}");
            sought.entered = false;
        }
    }

    #[test]
    fn variables_are_known_by_how_they_are_written() {
        let long = format!("environment variable A_{}", "B".repeat(300));
        for (message, names) in [
            ("missing env var API_KEY", &["API_KEY"][..]),
            ("set the ENV variable `TZ`", &["TZ"]),
            ("TZ environment variable is not set", &["TZ"]),
            ("environment: GITHUB_TOKEN2=?", &["GITHUB_TOKEN2"]),
            ("set $API_KEY in the environment.", &["API_KEY"]),
            ("MISSING ENVIRONMENT VARIABLE: TZ", &["TZ"]),
            (
                "environment variables API_KEY and OTHER_KEY are not set",
                &["API_KEY", "OTHER_KEY"],
            ),
            (
                "HTTP error 401: the environment variable API_KEY is not set",
                &["API_KEY"],
            ),
            ("`API_KEY` is not set in the environment", &["API_KEY"]),
            (
                "set API_KEY, OTHER_KEY or A_THIRD in the environment",
                &["API_KEY", "OTHER_KEY", "A_THIRD"],
            ),
            ("env var TZ, env var TZ, env var LANG", &["TZ", "LANG"]),
            (
                "environment variables TZ, LANG and HOME were not set: HTTP",
                &["TZ", "LANG", "HOME"],
            ),
            ("environment variable TZ, HTTP 404", &["TZ"]),
            (
                "the AWS environment variable AWS_REGION is missing",
                &["AWS_REGION"],
            ),
            ("API_KEY wasn't set in the environment", &["API_KEY"]),
            ("A_KEY was not found: see the environment", &["A_KEY"]),
            ("src/env.rs:3: bad JSON, BAD_LINE", &[]),
            ("the AWS environment variables are not set", &[]),
            ("STATUS_CODE is 503 in this environment", &[]),
            (
                "env: BASE_URL must be absolute, A_B not set",
                &["BASE_URL", "A_B"],
            ),
            ("NOT_FOUND is not what it says in the environment", &[]),
            ("API_KEY not found in the environment", &["API_KEY"]),
            ("API_KEY is empty: set it in the environment", &["API_KEY"]),
            ("ERROR: ENVIRONMENT VARIABLE NOT SET", &[]),
            ("PERMISSION_DENIED for the environment prod", &[]),
            (
                "the request failed in this environment: INVALID_ARGUMENT",
                &[],
            ),
            ("ERR_CONNECTION_REFUSED in this environment", &[]),
            ("it does not run in the AWS environment", &[]),
            ("ENVIRONMENT: HTTP error", &[]),
            ("cannot access local variable BASE_URL", &[]),
            ("environment variable not found", &[]),
            ("environment variable A", &[]),
            ("environment variable 2A", &[]),
            ("environment variable ÄB", &[]),
            (&long, &[]),
            ("API_KEY is not set", &[]),
            ("", &[]),
        ] {
            let found: Vec<&str> = variables_in(message).iter().map(|one| one.name).collect();
            assert_eq!(found, names, "{message}");
        }
    }
}
