//! `skillhost new`: a skill to start from.

mod sdk;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::Session;
use super::complaint::Complaint;
use super::console::{BOLD, GOOD, say, styled};
use super::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  Start a skill in a folder of its name:
    skillhost new word-count
  Start one elsewhere, with an SDK of one's own:
    skillhost new word-count --path skills/words --sdk ~/skillhost/skills-sdk";

/// The files of a new skill. In each, `{{name}}`, `{{crate}}` and `{{sdk}}` are filled in.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("skill.toml", include_str!("template/skill.toml.in")),
    ("SKILL.md", include_str!("template/SKILL.md.in")),
    (".gitignore", "/target\n"),
];

/// What to do where a skill cannot be in the folder that is named.
const ANOTHER_FOLDER: &str = "name another folder with --path DIR";

/// Start a skill: a crate that builds, passes its tests, and runs
///
/// The SDK that the crate depends on comes with this program, and is unpacked when it is first
/// needed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct NewArgs {
    /// The skill's name: 1 to 64 of a-z, 0-9 and -, with a letter first
    #[arg(value_name = "NAME")]
    name: String,
    /// The folder to make, rather than one of the skill's name
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    path: Option<PathBuf>,
    /// Depend on the `skills-sdk` crate in this folder, rather than on the one that is unpacked
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    sdk: Option<PathBuf>,
}

/// Writes a new skill.
///
/// # Errors
/// Where the name is none for a skill, or the folder is not empty.
pub fn new(args: &NewArgs, session: &Session) -> anyhow::Result<Exit> {
    check_name(&args.name)?;
    let folder = args
        .path
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    check_folder(&folder)?;
    let sdk = match &args.sdk {
        Some(path) => own_sdk(path)?,
        None => sdk::unpacked(&session.places()?.sdk()).map_err(|error| not_unpacked(&error))?,
    };
    let sdk = sdk.to_str().ok_or_else(|| no_text(&sdk))?;
    for (file, template) in FILES {
        let path = folder.join(file);
        write(&path, &filled(template, &args.name, sdk))
            .map_err(|error| not_written(&path, &error))?;
    }
    if !session.console.quiet {
        say(format_args!(
            "{} the skill `{}` is in `{}`; now:",
            styled(GOOD, "✓"),
            args.name,
            folder.display()
        ));
        for command in [
            format!("cd {}", quoted(&folder)),
            "cargo test".to_owned(),
            "skillhost run . --arg name=World".to_owned(),
        ] {
            say(format_args!("  {}", styled(BOLD, command)));
        }
    }
    Ok(Exit::Success)
}

/// A file that cannot be written.
fn not_written(path: &Path, error: &io::Error) -> Complaint {
    use io::ErrorKind::{
        AlreadyExists, InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let message = format!("cannot write `{}`: {error}", path.display());
    match error.kind() {
        // It is the folder that was named.
        AlreadyExists | InvalidFilename | IsADirectory | NotADirectory | NotFound
        | PermissionDenied | ReadOnlyFilesystem => Complaint::usage(message).hint(ANOTHER_FOLDER),
        StorageFull | QuotaExceeded => Complaint::new(Exit::Host, message)
            .hint(format!("make room on that disk, or {ANOTHER_FOLDER}")),
        _ => Complaint::new(Exit::Host, message).hint(ANOTHER_FOLDER),
    }
}

/// An SDK that cannot be written to where it is kept.
fn not_unpacked(error: &anyhow::Error) -> Complaint {
    Complaint::new(Exit::Host, format!("{error:#}")).hint(
        "name another folder for it and the skills with `--home DIR`, or an SDK that is there with `--sdk PATH`",
    )
}

/// Names that a skill may have, but a crate not, or not well.
const RESERVED: [&str; 40] = [
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue",
    "core", "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "if",
    "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "return", "self", "static",
    "std", "struct", "super", "test", "trait", "type",
];

/// The crates that a skill depends on, or soon will: one of the same name meets its own dependency.
const DEPENDENCIES: [&str; 5] = [
    "schemars",
    "serde",
    "serde-json",
    "skills-sdk",
    "skills-sdk-macros",
];

fn check_name(name: &str) -> Result<(), Complaint> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--");
    if !fits {
        let complaint = Complaint::usage(format!("`{name}` is no name for a skill"))
            .detail(
                "a name has 1 to 64 of a-z, 0-9 and -, a letter first, and no hyphen last or after another",
            );
        let close = near(name);
        return Err(if close.is_empty() {
            complaint
        } else {
            complaint.hint(format!("`{close}` would be one"))
        });
    }
    let why = if RESERVED.contains(&name) {
        "Rust uses it itself"
    } else if DEPENDENCIES.contains(&name) {
        "a skill depends on a crate of that name"
    } else {
        return Ok(());
    };
    Err(
        Complaint::usage(format!("`{name}` is no name for a skill's crate"))
            .detail(why)
            .hint(format!("`{name}-skill` would be one")),
    )
}

/// A name that follows the rule and is close to one that does not.
fn near(name: &str) -> String {
    let mut near = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            near.push(c.to_ascii_lowercase());
        } else if !near.ends_with('-') {
            near.push('-');
        }
    }
    near.truncate(64);
    near.trim_start_matches(|first: char| !first.is_ascii_lowercase())
        .trim_end_matches('-')
        .to_owned()
}

fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let taken = |what: &str| {
        Complaint::usage(format!("`{}` {what}", folder.display())).hint(ANOTHER_FOLDER)
    };
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(taken("is not empty").into()),
            None => Ok(()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(taken("is there, and is no folder").into())
        }
        Err(error) => Err(taken(&format!("cannot be read: {error}")).into()),
    }
}

/// The path of an SDK that somebody names, made absolute, as the crate may be moved.
fn own_sdk(path: &Path) -> Result<PathBuf, Complaint> {
    let missing = |why: String| {
        Complaint::usage(format!("`{}` is not the SDK: {why}", path.display()))
            .hint("name the folder `skills-sdk`, with its Cargo.toml")
    };
    let path = path
        .canonicalize()
        .map_err(|error| missing(error.to_string()))?;
    let manifest = fs::read_to_string(path.join("Cargo.toml"))
        .map_err(|error| missing(format!("its Cargo.toml cannot be read: {error}")))?;
    let name = manifest
        .parse::<toml::Table>()
        .ok()
        .and_then(|manifest| Some(manifest.get("package")?.get("name")?.as_str()?.to_owned()));
    if name.as_deref() != Some("skills-sdk") {
        return Err(missing("its Cargo.toml names another crate".into()));
    }
    Ok(path)
}

fn filled(template: &str, name: &str, sdk: &str) -> String {
    template
        .replace("{{name}}", name)
        .replace("{{crate}}", &name.replace('-', "_"))
        // With the quotation marks and escapes that TOML wants.
        .replace("{{sdk}}", &toml::Value::from(sdk).to_string())
}

/// The SDK's path cannot stand in a Cargo.toml.
fn no_text(sdk: &Path) -> Complaint {
    let message = format!(
        "the path `{}` is not UTF-8, as a Cargo.toml is",
        sdk.display()
    );
    Complaint::usage(message)
        .hint("name another folder to keep the SDK in with `--home DIR`, or another SDK with `--sdk PATH`")
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

/// A path as it can be typed in a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for name in ["a", "word-count", "a1-b2"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for (name, hint) in [
            ("Word Count", Some("`word-count` would be one")),
            ("1st", Some("`st` would be one")),
            ("a_b", Some("`a-b` would be one")),
            ("a-", Some("`a` would be one")),
            ("a--b", Some("`a-b` would be one")),
            ("a - b", Some("`a-b` would be one")),
            ("é--", None),
            ("../x", Some("`x` would be one")),
            ("test", Some("`test-skill` would be one")),
            ("serde", Some("`serde-skill` would be one")),
            ("", None),
            ("-", None),
        ] {
            let complaint = check_name(name).unwrap_err();
            assert_eq!(complaint.hints.first().map(String::as_str), hint, "{name}");
        }
        assert!(check_name(&"a".repeat(65)).is_err());
    }

    #[test]
    fn no_skill_has_the_name_of_a_dependency() {
        for manifest in [
            include_str!("template/Cargo.toml.in").replace("{{sdk}}", "''"),
            include_str!("../../../skills-sdk/Cargo.toml").to_owned(),
        ] {
            let manifest: toml::Table = manifest.parse().unwrap();
            for (name, dependency) in manifest["dependencies"].as_table().unwrap() {
                // One of the SDK's own that is taken from a registry meets nothing of the skill's.
                let meets =
                    name == "serde" || name == "schemars" || dependency.get("path").is_some();
                assert!(!meets || check_name(name).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn a_path_survives_toml_and_the_shell() {
        let filled = filled("path = {{sdk}}", "a", r#"/a "b"\c"#);
        let table: toml::Table = filled.parse().unwrap();
        assert_eq!(table["path"].as_str(), Some(r#"/a "b"\c"#));
        assert_eq!(quoted(Path::new("a/b-c")), "a/b-c");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
    }
}
