//! What a skill looked for in vain and does not declare, as it has no manifest or its manifest lacks it.

use super::super::{Capability, Declared, Denial, Mode, Remedy, Sought, directory, hint};
use super::{Asker, MAX_SHOWN, NO_VALUE, in_a_list, named, to_declare};

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
        let by_itself = !ended.of_input;
        let variable = (by_itself && sought.environment)
            .then(|| variable_in(ended.message))
            .flatten();
        // What no flag can have was not asked for in earnest.
        let keys = sought.keys.iter().filter(|_| by_itself);
        let keys = keys.filter(|key| !key.is_empty() && !key.contains('='));
        let nowhere = sought.no_directories && !sought.refused && !sought.full;
        match &self.declared {
            None => {
                let variable = variable.filter(|name| !(ended.given)(name));
                let variable = variable.map(|name| self.not_given(Capability::Environment, name));
                let directory = nowhere.then(|| {
                    let reason = "the skill looked for a directory, and was granted none";
                    directory::of_any_path(&self.name, Mode::Ro, "*".to_owned(), reason.to_owned())
                });
                let keys = keys.map(|key| self.not_given(Capability::Config, key));
                variable.into_iter().chain(directory).chain(keys).collect()
            }
            Some(declared) => {
                let variable =
                    variable.filter(|name| !declared.environment.iter().any(|one| one == name));
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
        let first = wanting.first().map(Denial::perhaps);
        first.or_else(|| sought.elsewhere())
    }

    /// A name that has no value, and could have one.
    fn not_given(&self, capability: Capability, name: &str) -> Denial {
        let shown = named(name, MAX_SHOWN);
        let reason = format!(
            "the skill {}, which it was not given",
            asked(capability, &shown)
        );
        let text = format!("{name}={NO_VALUE}");
        Denial::lacking(&self.name, capability, shown, reason, Some(&text))
    }
}

/// How it asked for a name.
fn asked(capability: Capability, shown: &str) -> String {
    match capability {
        Capability::Config => format!("asked for the configuration key `{shown}`"),
        _ => format!("read its environment, and says something of the variable `{shown}`"),
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
        reason: format!(
            "the skill {}, which its skill.toml does not declare",
            asked(capability, &shown)
        ),
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
        reason: "the skill looked for a directory, and its skill.toml declares none".to_owned(),
        remedy: Remedy::Skill,
        grant: None,
        hint: "no grant changes that, as the skill's skill.toml does not declare it; it would have to, with \
               `directories = [{ path = \"*\", mode = \"ro\" }]` or `scratch = true` under `[grants]`"
            .to_owned(),
    }
}

/// The first word that is written as variables are (`API_KEY`), in a text that says that it is about one. It gets all
/// of them at once, so that which it looked for is not to be seen.
fn variable_in(message: &str) -> Option<&str> {
    let in_word = |part: char| part.is_alphanumeric() || part == '_';
    let words = || message.split(|part| !in_word(part));
    let about = ["environment", "env", "variable", "variables"];
    if !words().any(|word| about.iter().any(|one| word.eq_ignore_ascii_case(one))) {
        return None;
    }
    words().find(|word| {
        let mut bytes = word.bytes();
        let begins = bytes.next().is_some_and(|first| first.is_ascii_uppercase());
        let written_so =
            |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        begins && word.len() > 1 && bytes.all(written_so) && !word.eq_ignore_ascii_case("env")
    })
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
            assert_eq!(wanting(&read, message, true, ""), []);
            assert_eq!(wanting(&Sought::default(), message, false, ""), []);
            assert_eq!(wanting(&read, "the skill failed: HTTP 404", false, ""), []);
            if remedy == Remedy::Grant {
                assert_eq!(wanting(&read, message, false, "API_KEY"), []);
            } else {
                assert_eq!(wanting(&read, "variable TZ: what is it?", false, ""), []);
            }
        }
    }

    #[test]
    fn variables_are_known_by_how_they_are_written() {
        for (message, name) in [
            ("missing env var API_KEY", Some("API_KEY")),
            ("set the ENV variable `TZ`", Some("TZ")),
            ("Environment: GITHUB_TOKEN2=?", Some("GITHUB_TOKEN2")),
            ("environment variable not found", None),
            ("variable A", None),
            ("variable 2A", None),
            ("variable ÄB", None),
            ("API_KEY is not set", None),
            ("", None),
        ] {
            assert_eq!(variable_in(message), name, "{message}");
        }
    }
}
