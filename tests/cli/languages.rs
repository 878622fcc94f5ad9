//! Skills in other languages, as the README has somebody write them: with their own tools, in the versions that it
//! names.

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::{Place, root};
use crate::installed::{node_modules, venv};
use crate::network::{page, serve};
use crate::readme::{Step, blocks, follow, section, steps};

/// The section, and the versions that it says it was tried with, in the order of the languages.
fn languages() -> (String, Vec<String>) {
    let section = section("Skills in Python and JavaScript");
    let tried = section.split("(tried with ").skip(1);
    let tried = tried.map(|after| after.split(')').next().unwrap_or_default().to_owned());
    let tried = tried.collect();
    (section, tried)
}

/// The steps of one language: what installing its tool makes is there, made once for all runs.
fn build_and_run(
    place: &Place,
    section: &str,
    tool: &str,
    (name, installed): (&str, &Path),
) -> String {
    let all = steps(section);
    let first = all.iter().position(|step| step.command.contains(tool));
    let first = first.expect("it is installed first");
    let mine = &all[first..first + 3];
    assert!(mine[2].command.starts_with("skillhost run skill.wasm "));
    let wit = root().join("wit").display().to_string();
    // In a folder that has nothing else in it.
    follow(
        place,
        "cd empty",
        mine,
        |Step { command, .. }| match command.contains(" install ") {
            true => format!("ln -s '{}' {name}", installed.display()),
            false => command.replace("PATH/TO/skillhost/wit", &wit),
        },
    )
}

/// How often each word is there, as Python's `\w+` finds them.
fn words(text: &str) -> BTreeMap<String, u64> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut counts = BTreeMap::new();
    for word in text.to_lowercase().split(|c| !is_word(c)) {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts.remove("");
    counts
}

#[test]
fn a_skill_in_python_goes_as_it_says() {
    let (section, tried) = languages();
    let place = Place::new();
    let [program] = &blocks(&section, "python")[..] else {
        panic!("there is one program");
    };
    place.write("empty/app.py", program);
    let venv = venv(&format!("componentize-py=={}", tried[0]));
    let said = build_and_run(&place, &section, "componentize-py", ("venv", &venv));
    // It counts the words of its own text.
    let counted = said.lines().find(|line| line.starts_with('{'));
    let counted: BTreeMap<String, u64> =
        serde_json::from_str(counted.expect(&said)).expect("it is JSON");
    let mut words = words(program);
    assert_eq!(counted.len(), 3, "{said}");
    for (word, count) in &counted {
        assert_eq!(words.remove(word), Some(*count), "{word}: {said}");
    }
    let others = words.values().max();
    assert!(counted.values().min() >= others, "{said}");
    assert!(said.contains("✓ word-count 0.1.0 · count"), "{said}");
}

#[test]
fn a_skill_in_javascript_goes_as_it_says() {
    let (section, tried) = languages();
    let place = Place::new();
    let [program] = &blocks(&section, "js")[..] else {
        panic!("there is one program");
    };
    place.write("empty/app.js", program);
    let site = format!("http://{}", serve(page("a text")));
    let section = section.replace("https://example.com", &site);
    let tool = "@bytecodealliance/componentize-js";
    let modules = node_modules(&format!("{tool}@{}", tried[1]));
    let said = build_and_run(&place, &section, tool, ("node_modules", &modules));
    assert!(said.contains(r#"{"status":200,"text":"a text"}"#), "{said}");
    assert!(said.contains("✓ fetch-text 0.1.0 · fetch"), "{said}");
}
