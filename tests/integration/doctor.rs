//! The self-test, on the machine that runs the tests.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use skillhost::Limits;
use skillhost::doctor::{Check, Examination, Finding, Kind, Report, Verdict, probes};

/// A machine that runs tests is busy, and may be short of what only speed rests on.
#[tokio::test]
async fn everything_holds_here() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("compiled");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
    let mut told = Vec::new();
    let report = Examination::new()
        .cache(&cache)
        .run(|check| told.push(check.clone()))
        .await
        .unwrap();
    assert_eq!(told, report.checks, "each is told of when it ends");
    let failed: Vec<&Check> = report
        .checks
        .iter()
        .filter(|check| check.verdict.is_failure())
        .collect();
    assert!(report.holds && failed.is_empty(), "{failed:#?}");
    for check in &report.checks {
        if [Kind::Limit, Kind::Grant, Kind::Isolation].contains(&check.kind) {
            assert_eq!(check.verdict, Verdict::Holds, "{check:?}");
            assert!(check.stopped_by.is_some(), "{check:?}");
        }
        if check.kind == Kind::Limit {
            let figures = check.figures.expect("each limit has figures");
            assert!(figures.past <= figures.allowance, "{check:?}");
            assert_eq!(figures.past, figures.reached.saturating_sub(figures.limit));
        }
        if check.verdict != Verdict::Holds {
            assert!(check.reason.is_some(), "{check:?}");
        }
    }
    let json = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(back.checks.len(), report.checks.len());
}

fn names(kind: Kind) -> HashSet<&'static str> {
    probes()
        .filter(|probe| probe.0 == kind)
        .map(|(_, name)| name)
        .collect()
}

/// A limit that is added without a hostile guest fails here.
#[test]
fn every_limit_has_a_hostile_guest() {
    let Value::Object(limits) = serde_json::to_value(Limits::default()).unwrap() else {
        panic!("limits are an object")
    };
    let probes = names(Kind::Limit);
    for name in limits.keys() {
        assert!(
            probes.contains(name.as_str()),
            "`skillhost doctor` does not try `{name}`: add a probe to src/doctor/limits"
        );
    }
}

/// A capability that is added without a hostile guest fails here. Its variants are read from the
/// source, as an enum cannot say which it has.
#[test]
fn every_capability_has_a_hostile_guest() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/grant/denial.rs");
    let source = fs::read_to_string(source).unwrap();
    let (_, after) = source.split_once("pub enum Capability {").unwrap();
    let (variants, _) = after.split_once('}').unwrap();
    let variants: Vec<&str> = variants
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with('#'))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert!(variants.len() >= 3, "{variants:?}");
    let probes = names(Kind::Grant);
    for variant in variants {
        let capability: skillhost::grant::Capability =
            serde_json::from_value(Value::String(snake_case(variant))).unwrap();
        assert!(
            probes.contains(capability.as_str()),
            "`skillhost doctor` does not try `{capability}`: add a probe to src/doctor/grants"
        );
    }
}

fn snake_case(variant: &str) -> String {
    let mut name = String::new();
    for (index, c) in variant.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// What the examination says of one name of a kind.
fn find<'r>(report: &'r Report, kind: Kind, name: &str) -> &'r Check {
    report
        .checks
        .iter()
        .find(|check| check.kind == kind && check.name == name)
        .unwrap_or_else(|| panic!("there is no {name}"))
}

/// A cache that others may enter, and a check of the caller's own.
#[tokio::test]
async fn what_does_not_hold_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("open/compiled");
    fs::create_dir_all(&cache).unwrap();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&folder.path().join("open"), 0o777);
    mode(&cache, 0o755);
    fs::write(cache.join("forged.cwasm"), "code").unwrap();
    mode(&cache.join("forged.cwasm"), 0o666);
    let report = Examination::new()
        .cache(&cache)
        .and(Kind::Policy, "file", "who may write it", || {
            Finding::broken("everybody").hint("chmod 600")
        })
        .run(|_| {})
        .await
        .unwrap();
    assert!(!report.holds);
    let check = report.checks.last().unwrap();
    assert_eq!((check.kind, check.name.as_str()), (Kind::Policy, "file"));
    let broken: Vec<&str> = report
        .with(Verdict::Broken)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(broken, ["folder", "path", "file"]);
    let check = find(&report, Kind::Cache, "folder");
    assert_eq!(check.verdict, Verdict::Broken);
    assert!(
        check.hint.as_ref().unwrap().contains("chmod 700"),
        "{check:?}"
    );
    let check = find(&report, Kind::Cache, "path");
    assert_eq!(check.verdict, Verdict::Broken);
    assert!(
        check.hint.as_ref().unwrap().contains("chmod go-w"),
        "{check:?}"
    );
    let check = find(&report, Kind::Cache, "entries");
    assert_eq!(check.verdict, Verdict::Warning);
    assert_eq!(check.stopped_by.as_deref(), Some("1 of 1 are not"));
}
