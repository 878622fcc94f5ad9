//! What the library's errors mean to whoever typed the command.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use skillhost::audit::AuditError;
use skillhost::grant::shell_word;
use skillhost::policy::{ApprovalError, PolicyError};
use skillhost::queue::{AnswerError, QueueError};
use skillhost::skill::{Library, LibraryError, PackageError};
use skillhost::{CompileError, HostError, LoadError, Misfit};

use super::complaint::Complaint;
use super::exit::Exit;

/// What to do where a file or folder of the command cannot be used. Another home has another policy: what bounds and
/// audits everybody here does not hold there.
pub fn mend(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!(
        "see whose it is, who may use it, and whether the disk has room: `ls -ld {path}`, `df {path}`",
        path = shell_word(&path)
    )
}

/// How a component is built from a crate.
const BUILD: &str = "cargo build --release --target wasm32-wasip2";

/// A skill that cannot be loaded. `what` is how the user called it.
pub fn load(what: &str, error: LoadError) -> Complaint {
    let (fault, usage) = (error.fault(), error.usage());
    told(what, error).spent(fault, usage)
}

/// As [`load`], of a skill that was built from its source.
pub fn load_source(what: &str, error: LoadError) -> Complaint {
    let has_no_tools = matches!(error, LoadError::Misfit(Misfit::NoTools));
    let mut complaint = load(what, error);
    if has_no_tools {
        complaint.hints = vec![
            "its `lib.rs` needs `skills_sdk::skill! { tools: [...] }`, with its functions that have \
             `#[tool]` in the list"
                .to_owned(),
        ];
    }
    complaint
}

fn told(what: &str, error: LoadError) -> Complaint {
    match error {
        LoadError::Package(error) => package(error),
        LoadError::Compile(error) => compile(what, error),
        LoadError::Misfit(error) => misfit(what, &error),
        LoadError::Describe { failure, .. } => {
            let complaint = Complaint::not_loaded(format!(
                "cannot load `{what}`: it was asked what it is, and did not answer"
            ))
            .detail(failure.message.as_str());
            match failure.hint {
                Some(hint) => complaint.hint(hint),
                None => complaint,
            }
        }
        LoadError::Name { .. } => Complaint::not_loaded(format!("cannot load `{what}`: {error}"))
            .hint("give both the same name: the package in Cargo.toml, and `name:` in SKILL.md"),
        LoadError::Host(error) => host(&error),
        error => Complaint::not_loaded(format!("cannot load `{what}`: {error}")),
    }
}

/// A host that is broken.
pub fn host(error: &HostError) -> Complaint {
    let complaint = Complaint::new(Exit::Host, error.to_string());
    match error {
        HostError::Engine(_) => {
            complaint.hint("is the address space limited? `ulimit -v unlimited` lifts it")
        }
        HostError::Certificate(_) => Complaint::usage(error.to_string())
            .hint("`--certificate` takes a file with certificates in PEM form"),
        // What is wrong with it says what to do.
        HostError::Io { source, .. } | HostError::Unavailable { source, .. }
            if source.to_string().contains("run `chmod") =>
        {
            complaint
        }
        HostError::Io { path, .. } | HostError::Unavailable { path, .. } => {
            complaint.hint(mend(path))
        }
        _ => complaint,
    }
}

/// A package that cannot be read.
pub fn package(error: PackageError) -> Complaint {
    let message = error.to_string();
    let error = LoadError::Package(error);
    let complaint = Complaint::not_loaded(message).spent(error.fault(), error.usage());
    let LoadError::Package(error) = error else {
        return complaint;
    };
    match error {
        PackageError::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
            complaint.hint("save the file as UTF-8")
        }
        // Only links lead out of it, and the library that follows them says no more.
        PackageError::Io { path, source } if source.to_string().contains("led outside") => {
            let message = format!(
                "`{}` is a link that leads out of the skill's folder, and is not read",
                path.display()
            );
            Complaint {
                message,
                ..complaint
            }
            .hint("put the file itself there: what a skill is stands in its folder")
        }
        PackageError::NoComponent {
            is_source: false, ..
        } => complaint
            .hint("a skill's folder has a `skill.wasm`, and the source of a skill a `Cargo.toml`"),
        PackageError::NoComponent {
            is_source: true, ..
        } => complaint.hint(format!("this is the source of a skill; build it: {BUILD}")),
        PackageError::Manifest { source, .. } if source.is_of_table() => complaint
            .hint("a skill.toml has the tables `grants`, `config` and `limits`, and nothing else"),
        PackageError::Document { .. } => {
            complaint.hint("a SKILL.md begins with `---`, `name: …`, `description: …`, `---`")
        }
        _ => complaint,
    }
}

fn compile(what: &str, error: CompileError) -> Complaint {
    let message = format!("cannot load `{what}`: {error}");
    match error {
        CompileError::NotAComponent(_) => Complaint::not_loaded(message).hint(format!(
            "`skillhost new NAME` starts a skill, and `{BUILD}` builds it"
        )),
        CompileError::TooLarge { .. } => Complaint::not_loaded(message)
            .hint("build it with `--release`, and with `opt-level = \"s\"` and `lto = true`"),
        CompileError::Invalid(_) => Complaint::not_loaded(message).hint(format!(
            "is the file whole? Copy it again, or build it again: {BUILD}; threads and memories of 64 \
             bits are not for skills"
        )),
        CompileError::Stopped(_) => Complaint::not_loaded(message).hint(
            "what is smaller takes less: build it with `--release`, and with `opt-level = \"s\"` and \
             `lto = true`",
        ),
        CompileError::Child(_) => Complaint::new(Exit::Host, message).hint(
            "is the disk full, or does `ulimit -a` show little memory or few processes? `--home DIR` \
             names another folder for the cache",
        ),
        _ => Complaint::not_loaded(message),
    }
}

fn misfit(what: &str, error: &Misfit) -> Complaint {
    let complaint =
        Complaint::not_loaded(format!("cannot load `{what}`: it does not fit this host"))
            .detail(error.to_string());
    match error {
        Misfit::NoTools => complaint.hint("start a skill with `skillhost new NAME`"),
        Misfit::ToolsVersion { .. } | Misfit::ImportVersion { .. } | Misfit::Export { .. } => {
            complaint.hint("build it with this host's SDK (`skillhost new` unpacks it)")
        }
        _ => complaint.hint(format!(
            "`skillhost inspect {}` lists what it imports",
            shell_word(what)
        )),
    }
}

/// A policy that cannot be used.
pub fn policy(error: PolicyError) -> Complaint {
    let complaint = Complaint::usage(error.to_string());
    match error.hint {
        Some(hint) => complaint.hint(hint),
        None => complaint,
    }
}

/// Approvals that cannot be read or given.
pub fn approval(error: &ApprovalError) -> Complaint {
    match error {
        ApprovalError::Store(_) | ApprovalError::Audit(_) => {
            Complaint::new(Exit::Host, error.to_string())
        }
        ApprovalError::Over { .. } => Complaint::usage(error.to_string())
            .hint("run it again: where it needs an approval, one is asked for anew"),
        _ => Complaint::usage(error.to_string()),
    }
}

/// Jobs that cannot be answered for.
pub fn answer(error: AnswerError) -> Complaint {
    match error {
        AnswerError::Queue(error) => queue(error),
        AnswerError::Approval(error) => approval(&error),
        error => Complaint::new(Exit::Host, error.to_string()),
    }
}

/// An audit that cannot be kept, or read.
pub fn audit(error: &AuditError) -> Complaint {
    let complaint = Complaint::new(Exit::Host, format!("the audit: {error}"));
    match error {
        AuditError::Unsafe { path, .. } => {
            let complaint = Complaint::usage(complaint.message);
            match unsafe_hint(path) {
                Some(hint) => complaint.hint(hint),
                None => complaint,
            }
        }
        _ => complaint,
    }
}

/// What makes a folder or a file this user's alone.
fn unsafe_hint(path: &Path) -> Option<String> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let shown = shell_word(&path.to_string_lossy()).into_owned();
    if metadata.is_symlink() {
        let target = std::fs::canonicalize(path).ok()?;
        return Some(format!(
            "name the folder that it leads to, `{}`",
            target.display()
        ));
    }
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    let is_open = metadata.mode() & 0o077 != 0;
    if metadata.is_dir() && is_used(path) && matches!(skillhost::audit::is_in(path), Ok(false)) {
        return Some(
            "it is used for something else: name a folder of its own, `folder` in `[audit]`, in the policy".to_owned(),
        );
    }
    (metadata.is_dir() && is_own && is_open)
        .then(|| format!("it must be this user's alone: `chmod 700 {shown}`"))
}

/// Whether there is anything in a folder.
fn is_used(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// A library of installed skills that cannot do what it was asked.
pub fn library(error: LibraryError) -> Complaint {
    let message = error.to_string();
    match error {
        LibraryError::Package(error) => package(error),
        LibraryError::Io { path, .. } => Complaint::new(Exit::Host, message).hint(mend(&path)),
        LibraryError::Record { skill, .. } => Complaint::not_loaded(message).hint(anew(&skill)),
        LibraryError::NotInstalled { reference, similar } => {
            let complaint = Complaint::not_loaded(format!("no skill `{reference}` is installed"));
            similar_or(complaint, &similar, LIST)
        }
        LibraryError::Occupied {
            name,
            version,
            installed,
            new,
        } => Complaint::usage(format!("another skill is installed as `{name}@{version}`"))
            .detail(format!("installed: {installed}"))
            .detail(format!("this one:  {new}"))
            .hint("give this one another version, or put it in the other's place with `--replace`"),
        LibraryError::Ambiguous { name, versions } => {
            let complaint = Complaint::usage(format!("several versions of `{name}` are installed"));
            match versions.first() {
                Some(version) => complaint
                    .detail(versions.join(", "))
                    .hint(format!("name one: `{name}@{version}`")),
                None => complaint,
            }
        }
        LibraryError::AmbiguousDigest { digits, found } => {
            let message =
                format!("several installed skills have a digest that begins with `{digits}`");
            let complaint = Complaint::usage(message).hint("write more of its digits");
            found.into_iter().fold(complaint, Complaint::detail)
        }
        LibraryError::NameOrDigest {
            digits,
            named,
            found,
        } => {
            let message = format!(
                "`{digits}` is the name of an installed skill, and the digest of another begins with it"
            );
            let complaint = Complaint::usage(message).detail(named.clone());
            found
                .into_iter()
                .fold(complaint, Complaint::detail)
                .hint(format!(
                    "write `{named}` for the one, `sha256:{digits}` for the other"
                ))
        }
        LibraryError::Changed {
            skill,
            path,
            expected,
            found,
        } => Complaint::not_loaded(format!(
            "`{}` was changed since it was installed",
            path.display()
        ))
        .detail(format!("installed: {expected}"))
        .detail(format!("now:       {found}"))
        .hint(anew(&skill)),
        _ => Complaint::not_loaded(message),
    }
}

/// What to do about an installed skill, `name@version`, that no longer is what was installed.
pub fn anew(skill: &str) -> String {
    format!(
        "install it anew, which puts it right, or remove it with `skillhost remove {}`",
        shell_word(skill)
    )
}

/// A queue that cannot do what it was asked.
pub fn queue(error: QueueError) -> Complaint {
    let message = error.to_string();
    match error {
        QueueError::NotFound(_) => {
            Complaint::usage(message).hint("`skillhost jobs list` shows which there are")
        }
        QueueError::Invalid(_)
        | QueueError::Retry(_)
        | QueueError::Unknown { .. }
        | QueueError::TooMany { .. }
        | QueueError::Conflict { .. } => Complaint::usage(message),
        QueueError::NoDatabase(_) => Complaint::new(Exit::Host, message).hint(
            "`--database` names the file in which jobs are kept; it is made where there is none",
        ),
        _ => Complaint::new(Exit::Host, message),
    }
}

/// So many digits are too few of a digest to stand for a skill, and too many to be there by chance.
const TOO_FEW_DIGITS: std::ops::Range<usize> = 4..8;
/// How many of them `skillhost list` shows.
const SHOWN_DIGITS: usize = 12;

/// Which installed skills have a digest that begins like what was typed, where that is too little of one to stand for
/// a skill.
pub fn too_few_digits(typed: &str, library: &Library) -> Option<String> {
    let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || !TOO_FEW_DIGITS.contains(&digits.len()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    let installed = library.list().ok()?;
    let longer: Vec<String> = installed
        .iter()
        .filter_map(|skill| {
            let hex = skill.digest.hex();
            let shown = hex.get(..SHOWN_DIGITS)?;
            let (name, version) = (&skill.name, &skill.version);
            shown
                .starts_with(&digits)
                .then(|| format!("`{shown}` is {name}@{version}"))
        })
        .collect();
    (!longer.is_empty()).then(|| {
        format!(
            "of a digest, the first {} digits will do, and no fewer: {}",
            TOO_FEW_DIGITS.end,
            longer.join(", ")
        )
    })
}

/// How to see what there is.
pub const LIST: &str = "`skillhost list` shows what is installed";

/// Adds what comes close to what was not found, or else another hint.
pub fn similar_or(complaint: Complaint, similar: &[String], or_else: &str) -> Complaint {
    match similar {
        [] => complaint.hint(or_else),
        similar => complaint.hint(format!("did you mean `{}`?", similar.join("` or `"))),
    }
}
