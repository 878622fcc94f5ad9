//! `skillhost inspect`: what a skill is.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde::Serialize;
use skillhost::grant::{Declared, SCRATCH};
use skillhost::limits::{display_bytes, grouped};
use skillhost::policy::UNDECLARED;
use skillhost::skill::{Description, Digest, Manifest, Package, Tool};
use skillhost::text::printable;
use skillhost::{LimitOverrides, Limits, LoadError, Surface};

use super::complaint::Complaint;
use super::console::{BOLD, DIM, print, print_json, styled};
use super::exit::Exit;
use super::host::{CommandHost, Settings, block_on};
use super::locate::{SKILL_HELP, explained, locate};
use super::policy::Standing;
use super::schema::Side;
use super::table::Table;
use super::{Session, explain, schema, units};

const EXAMPLES: &str = "\
Examples:
  skillhost inspect text-stats
  skillhost inspect target/wasm32-wasip2/release/my_skill.wasm
  skillhost inspect ./my-skill --json | jq '.tools[].name'

Exit codes:
    0  it fits
    6  it cannot be found, built or loaded; what it imports is shown where that
       is known";

/// Show a skill's tools, what it wants to touch, and whether it fits this host
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath, help = SKILL_HELP)]
    skill: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// What there is to say about a skill. What it says of itself is missing where it does not fit.
#[derive(Debug, Serialize)]
struct Inspection {
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    digest: Digest,
    component_bytes: u64,
    tools: Vec<Tool>,
    manifest: Option<Manifest>,
    /// What it imports and exports, or nothing where it is no component that can be read.
    imports: Option<Vec<String>>,
    exports: Option<Vec<String>>,
    /// What the policy says of it, where it was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Standing>,
    fits: bool,
    /// Why it does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Shows what a skill is.
///
/// # Errors
/// Where it cannot be found, or is no component at all.
pub fn inspect(args: &InspectArgs, session: &Session) -> anyhow::Result<Exit> {
    let package = locate(&args.skill, session)?;
    let command_host = CommandHost::open(
        session,
        Settings {
            for_operator: true,
            ..Settings::default()
        },
    )?;
    let typed = args.skill.display().to_string();
    let (surface, misfit) = match command_host.host.surface(&package) {
        Ok(known) => known,
        Err(error) => {
            let error = explain::load(&typed, LoadError::Compile(error)).into();
            if args.json {
                let inspection = describe(package, None, Err(reason(&error)));
                print_json(session.console, &inspection)?;
            }
            return Err(error);
        }
    };
    let loaded = match misfit {
        Some(misfit) => Err(explained(&package)(&typed, LoadError::Misfit(misfit)).into()),
        None => block_on(async |mut interrupts| {
            command_host
                .load(package.clone(), &args.skill, &mut interrupts)
                .await
        }),
    };
    let inspection = match &loaded {
        Ok(skill) => {
            let policy = session.policy_file()?.read()?.unwrap_or_default();
            Inspection {
                policy: Some(Standing::new(&policy, skill, &args.skill)),
                ..describe(package, Some(surface), Ok(skill.description()))
            }
        }
        Err(error) => describe(package, Some(surface), Err(reason(error))),
    };
    if args.json {
        print_json(session.console, &inspection)?;
    } else {
        print(text(&inspection, &typed, session.console.width()))?;
    }
    loaded.map(|_| Exit::Success)
}

/// Why a skill was not loaded, in one line.
fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Complaint>() {
        Some(complaint) if !complaint.details.is_empty() => complaint.details.join("; "),
        _ => error.to_string(),
    }
}

fn describe(
    package: Package,
    surface: Option<Surface>,
    loaded: Result<&Description, String>,
) -> Inspection {
    let (description, reason) = match loaded {
        Ok(description) => (Some(description.clone()), None),
        Err(reason) => (None, Some(reason)),
    };
    let document = package.document;
    let (imports, exports) = surface
        .map(|surface| (surface.imports, surface.exports))
        .unzip();
    let said = |of: fn(&Description) -> &String| description.as_ref().map(of).cloned();
    Inspection {
        name: said(|description| &description.name)
            .or_else(|| document.as_ref().map(|document| document.name.clone())),
        version: said(|description| &description.version),
        description: said(|description| &description.description)
            .or_else(|| document.map(|document| document.description)),
        digest: package.digest,
        component_bytes: package.component.len() as u64,
        tools: description.map_or(Vec::new(), |description| description.tools),
        manifest: package.manifest,
        imports,
        exports,
        policy: None,
        fits: reason.is_none(),
        reason,
    }
}

fn text(inspection: &Inspection, typed: &str, width: usize) -> String {
    let mut out = String::new();
    let title = printable(inspection.name.as_deref().unwrap_or(typed), false);
    let _ = match &inspection.version {
        Some(version) => writeln!(out, "{} {}", styled(BOLD, title), printable(version, false)),
        None => writeln!(out, "{}", styled(BOLD, title)),
    };
    if let Some(description) = &inspection.description {
        out.push_str(&schema::wrapped(description, 2, width));
    }
    out.push('\n');
    let mut facts = Table::new(2);
    facts.row(["digest".into(), inspection.digest.to_string()]);
    facts.row([
        "component".into(),
        display_bytes(inspection.component_bytes),
    ]);
    facts.row([
        "fits".into(),
        match &inspection.reason {
            None => "yes".into(),
            Some(reason) => format!("no: {}", printable(reason, false)),
        },
    ]);
    out.push_str(&facts.to_string());
    for tool in &inspection.tools {
        out.push_str(&tool_text(tool, width));
    }
    match &inspection.manifest {
        Some(manifest) => {
            out.push_str(&wants(&manifest.grants));
            out.push_str(&default_limits(&manifest.limits));
        }
        None if inspection.fits => {
            let _ = writeln!(out, "\n{}\n  {UNDECLARED}", styled(BOLD, "Wants"));
        }
        None => {}
    }
    if let Some(standing) = &inspection.policy {
        let _ = write!(
            out,
            "\n{}\n{standing}",
            styled(BOLD, "Granted by the policy")
        );
    }
    let heading = styled(BOLD, "Imports");
    let _ = writeln!(out, "\n{heading}");
    out.push_str(&interfaces(
        inspection.imports.as_deref().unwrap_or_default(),
        width,
    ));
    if !inspection.fits {
        let heading = styled(BOLD, "Exports");
        let _ = writeln!(out, "\n{heading}");
        out.push_str(&interfaces(
            inspection.exports.as_deref().unwrap_or_default(),
            width,
        ));
    }
    out
}

/// What it does to the world, as its author states it.
fn effects(tool: &Tool) -> String {
    let stated = tool.annotations;
    let mut marks = vec![if stated.read_only {
        "read-only"
    } else if !stated.destructive {
        "not destructive"
    } else if tool.marked_destructive || stated.idempotent {
        "destructive"
    } else {
        "destructive (not stated)"
    }];
    if stated.idempotent && !stated.read_only {
        marks.push("idempotent");
    }
    if stated.open_world {
        marks.push("open-world");
    }
    marks.join(", ")
}

fn tool_text(tool: &Tool, width: usize) -> String {
    let mut out = String::new();
    let heading = styled(BOLD, format_args!("Tool {}", printable(&tool.name, false)));
    let marks = styled(DIM, effects(tool));
    let _ = writeln!(out, "\n{heading}  {marks}");
    out.push_str(&schema::wrapped(&tool.description, 2, width));
    let _ = writeln!(out, "  {}", styled(DIM, "input"));
    out.push_str(&schema::fields(&tool.input_schema, Side::Input, 4, width));
    if let Some(output) = &tool.output_schema {
        let _ = writeln!(out, "  {}", styled(DIM, "output"));
        out.push_str(&schema::fields(output, Side::Output, 4, width));
    }
    out
}

/// Each of them once, in their order: what is written in several ways may be the same.
fn each<T: ToString>(all: &[T]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for text in all.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

fn wants(declared: &Declared) -> String {
    // All of them, so that none is forgotten.
    let Declared {
        directories,
        scratch,
        storage,
        http,
        sockets,
        environment,
        config,
        secrets,
    } = declared;
    let mut wants = Table::new(2);
    for directory in directories {
        let path = match directory.path.as_str() {
            "*" => "any path".into(),
            path => printable(path, false).into_owned(),
        };
        wants.row([
            "directory".into(),
            path,
            directory.mode.as_str().into(),
            printable(directory.description.as_deref().unwrap_or(""), false).into_owned(),
        ]);
    }
    if *scratch {
        wants.row(["scratch".into(), SCRATCH.into()]);
    }
    if *storage {
        wants.row(["storage".into(), "keys and values that are kept".into()]);
    }
    for (kind, texts) in [
        ("http", each(http)),
        ("socket", each(sockets)),
        ("secret", each(secrets)),
    ] {
        for text in texts {
            wants.row([kind.to_owned(), text]);
        }
    }
    for variable in environment {
        wants.row([
            "environment".into(),
            printable(variable, false).into_owned(),
        ]);
    }
    for (key, declaration) in config {
        let default = match &declaration.default {
            Some(default) => format!("{}, default {default}", declaration.kind.as_str()),
            None if declaration.required => format!("{}, required", declaration.kind.as_str()),
            None => declaration.kind.as_str().to_owned(),
        };
        wants.row([
            "config".into(),
            printable(key, false).into_owned(),
            printable(&default, false).into_owned(),
            printable(declaration.description.as_deref().unwrap_or(""), false).into_owned(),
        ]);
    }
    let heading = styled(BOLD, "Wants");
    if wants.is_empty() {
        format!("\n{heading}\n  nothing\n")
    } else {
        format!("\n{heading}\n{wants}")
    }
}

fn default_limits(limits: &LimitOverrides) -> String {
    let mut own = Table::new(2);
    // As a host resolves them that nobody has set otherwise.
    let counts = limits.of_a_skill(&Limits::default());
    let gets = Limits::resolve(&Limits::ceiling(), &[&counts], &Limits::default());
    let gets: HashMap<_, _> = units::limits(&gets).into_iter().collect();
    for (name, value) in units::limits(limits) {
        let value = match gets.get(&name) {
            Some(given) if *given != value => format!("{value} (clamped to {given})"),
            _ => value,
        };
        own.row([name, value]);
    }
    if own.is_empty() {
        return String::new();
    }
    format!("\n{}\n{own}", styled(BOLD, "Limits of its own"))
}

/// How many interfaces are shown. A component may have a million, of names of any length.
const MOST_INTERFACES: usize = 200;

/// The interfaces of each package on a line: `wasi:cli@0.2.3  environment, exit, stdin`.
fn interfaces(names: &[String], width: usize) -> String {
    let mut packages: Vec<(String, Vec<&str>)> = Vec::new();
    let mut places = HashMap::new();
    for name in names.iter().take(MOST_INTERFACES) {
        let (path, version) = match name.split_once('@') {
            Some((path, version)) => (path, format!("@{version}")),
            None => (name.as_str(), String::new()),
        };
        let (package, interface) = path.split_once('/').unwrap_or((path, ""));
        let package = format!("{package}{version}");
        let place = *places.entry(package.clone()).or_insert(packages.len());
        match packages.get_mut(place) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => packages.push((package, vec![interface])),
        }
    }
    if packages.is_empty() {
        return "  nothing\n".into();
    }
    let longest = packages.iter().map(|(package, _)| package.len()).max();
    let indent = longest.unwrap_or(0) + 4;
    let mut out = String::new();
    for (package, interfaces) in packages {
        let list = schema::wrapped(&interfaces.join(", "), indent, width);
        let _ = write!(
            out,
            "  {}{}",
            printable(&package, false),
            // The first line's indentation makes room for the package.
            list.get(package.len() + 2..).unwrap_or("\n")
        );
    }
    if let Some(more) = names
        .len()
        .checked_sub(MOST_INTERFACES)
        .filter(|more| *more > 0)
    {
        let _ = writeln!(out, "  and {} more", grouped(more as u64));
    }
    out
}

#[cfg(test)]
mod tests {
    use skillhost::skill::Annotations;

    use super::*;

    #[test]
    fn interfaces_of_a_package_stand_on_a_line() {
        let names = ["a:b/one@1.0.0", "a:c/x", "a:b/two@1.0.0", "f"].map(str::to_owned);
        assert_eq!(
            interfaces(&names, 80),
            "  a:b@1.0.0  one, two\n  a:c        x\n  f\n"
        );
        let many: Vec<String> = (0..200_000).map(|number| format!("f{number}")).collect();
        let shown = interfaces(&many, 80);
        assert_eq!(shown.lines().count(), MOST_INTERFACES + 1);
        assert!(shown.ends_with("  and 199,800 more\n"), "{shown}");
    }

    #[test]
    fn what_a_tool_does_not_state_is_not_said_to_be_stated() {
        let effects = |read_only, destructive, idempotent| {
            effects(&Tool {
                name: "t".into(),
                title: None,
                description: String::new(),
                input_schema: serde_json::json!({}),
                output_schema: None,
                annotations: Annotations::resolve(read_only, destructive, idempotent, Some(false)),
                marked_destructive: destructive == Some(true) && idempotent != Some(true),
            })
        };
        assert_eq!(effects(None, None, None), "destructive (not stated)");
        assert_eq!(effects(None, Some(true), None), "destructive");
        assert_eq!(
            effects(None, Some(true), Some(true)),
            "destructive, idempotent"
        );
        assert_eq!(effects(None, Some(false), None), "not destructive");
        assert_eq!(effects(Some(true), None, None), "read-only");
    }

    #[test]
    fn everything_that_is_wanted_is_shown() {
        let declared: Declared = serde_json::from_value(serde_json::json!({
            "directories": [{"path": "*", "mode": "rw", "description": "where it works"}],
            "scratch": true,
            "storage": true,
            "http": ["GET https://example.com/a", "GET HTTPS://EXAMPLE.com/a"],
            "sockets": ["tcp://192.0.2.1:7"],
            "secrets": ["key=authorization:Bearer@https://example.com"],
            "environment": ["LANG"],
            "config": {"limit": {"type": "integer", "default": 3}},
        }))
        .unwrap();
        let text = wants(&declared);
        assert_eq!(text.matches("example.com/a").count(), 1, "{text}");
        for (kind, what) in [
            ("directory", "any path"),
            ("scratch", SCRATCH),
            ("storage", "keys and values"),
            ("http", "https://example.com/a"),
            ("socket", "192.0.2.1:7"),
            ("secret", "key=authorization:Bearer"),
            ("environment", "LANG"),
            ("config", "limit"),
        ] {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(kind));
            assert!(
                line.is_some_and(|line| line.contains(what)),
                "{kind}: {text}"
            );
        }
        assert!(wants(&Declared::default()).contains("nothing"));
    }
}
