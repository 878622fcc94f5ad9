//! The audit: what is written, and that whatever is done to it afterwards shows.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use skillhost::audit::{
    Audit, AuditError, AuditSettings, AuditSink, Change, Entry, Filter, FindingKind, Kind,
    Verification, What, Who, read, verify,
};
use skillhost::skill::Digest;

mod executions;
mod tail;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().expect("a folder");
    let path = outer.path().join("audit");
    (outer, path)
}

fn open(path: &Path) -> Audit {
    Audit::open(path, AuditSettings::default()).expect("it can be opened")
}

/// An entry that is told by its number.
fn note(audit: &dyn AuditSink, number: usize) {
    let of = format!("host-{number}.example");
    let what = What::Breaker {
        of: &of,
        from: "closed",
        to: "open",
    };
    let who = Who {
        tenant: Some("acme"),
        ..Who::default()
    };
    audit.record(&Entry { who, what }).expect("it is written");
}

fn verified(path: &Path) -> Verification {
    verify(path).expect("it can be read")
}

fn sound(path: &Path) -> Verification {
    let verification = verified(path);
    assert!(verification.is_sound(), "{:#?}", verification.findings);
    verification
}

fn lines(path: &Path) -> Vec<Value> {
    let records = read(
        path,
        &Filter {
            limit: Some(100_000),
            ..Filter::default()
        },
    );
    records
        .expect("it can be read")
        .into_iter()
        .map(|record| record.entry)
        .collect()
}

#[test]
fn what_is_written_is_read_back_and_verified() {
    let (_outer, path) = folder();
    let audit = open(&path);
    for number in 0..10 {
        note(&audit, number);
    }
    // While it is written, too.
    let verification = sound(&path);
    assert!(verification.chains[0].live);
    assert_eq!(verification.entries(), 11);
    drop(audit);
    let verification = sound(&path);
    assert!(!verification.chains[0].live);
    let lines = lines(&path);
    assert_eq!(lines[0]["kind"], "opened");
    assert_eq!(lines[3]["of"], "host-2.example");
    assert_eq!(lines[3]["n"], 4);
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&path), 0o700);
    for file in ["0001-000001.jsonl", "0001.head", "chains"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_chain_that_nobody_writes_is_taken_over_and_one_in_use_is_not() {
    let (_outer, path) = folder();
    let first = open(&path);
    note(&first, 0);
    let second = open(&path);
    note(&second, 1);
    drop(first);
    let third = open(&path);
    note(&third, 2);
    let verification = sound(&path);
    assert_eq!(verification.chains.len(), 2);
    assert_eq!(verification.entries(), 6);
    drop((second, third));
    sound(&path);
}

#[test]
fn files_follow_one_another_and_the_old_ones_go() {
    let (_outer, path) = folder();
    let settings = AuditSettings {
        max_file_bytes: 2_000,
        ..AuditSettings::default()
    };
    let audit = Audit::open(&path, settings).expect("it can be opened");
    for number in 0..60 {
        note(&audit, number);
    }
    let verification = sound(&path);
    let files = verification.chains[0].files;
    assert!(files > 3, "{files}");
    drop(audit);
    // All but the last are old.
    let old = filetime(&path, &["0001-000001.jsonl", "0001-000002.jsonl"]);
    assert_eq!(old, 2);
    let audit = Audit::open(&path, settings).expect("it can be opened");
    assert!(!path.join("0001-000001.jsonl").exists());
    assert!(!path.join("0001-000002.jsonl").exists());
    let verification = sound(&path);
    assert_eq!(verification.chains[0].files, files - 2);
    assert!(verification.entries() < verification.chains[0].entries);
    note(&audit, 61);
    drop(audit);
    sound(&path);
    // What is kept is still found where it was changed, and so is one more that goes.
    damage(&path.join("0001-000003.jsonl"), 40);
    assert!(!verified(&path).is_sound());
}

/// Something was done to a file.
fn unsound(path: &Path, file: &str) {
    let verification = verified(path);
    let findings = &verification.findings;
    let named = findings.iter().any(|finding| finding.file == file);
    assert!(named && !verification.is_sound(), "{file}: {findings:#?}");
}

/// Makes files a year old.
fn filetime(path: &Path, names: &[&str]) -> usize {
    let year = std::time::SystemTime::now() - Duration::from_secs(366 * 86_400);
    let set = names.iter().filter(|name| {
        let file = OpenOptions::new().append(true).open(path.join(name));
        file.and_then(|file| file.set_modified(year)).is_ok()
    });
    set.count()
}

fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("it can be read");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

/// What is done to an audit is found, and named.
#[test]
fn what_was_done_by_hand_is_named() {
    let name = "0001-000001.jsonl";
    type Change = fn(&mut Vec<String>);
    let cases: [(Change, FindingKind, u64); 6] = [
        (
            |lines| lines[4] = lines[4].replace("host-3", "host-9"),
            FindingKind::Changed,
            5,
        ),
        (|lines| drop(lines.remove(4)), FindingKind::Missing, 5),
        (|lines| lines.swap(4, 7), FindingKind::Reordered, 5),
        (
            |lines| lines.insert(5, lines[4].clone()),
            FindingKind::Duplicated,
            6,
        ),
        (|lines| lines.truncate(8), FindingKind::Cut, 8),
        (
            |lines| lines.push("{}".to_owned()),
            FindingKind::Changed,
            12,
        ),
    ];
    for (change, kind, line) in cases {
        let (_outer, path) = folder();
        let audit = open(&path);
        for number in 0..10 {
            note(&audit, number);
        }
        drop(audit);
        let text = fs::read_to_string(path.join(name)).expect("it can be read");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(path.join(name), lines.join("\n") + "\n").expect("it can be written");
        let verification = verified(&path);
        let found = verification.findings.iter().any(|finding| {
            finding.kind == kind && finding.file == name && finding.line == Some(line)
        });
        assert!(found, "{kind:?}: {:#?}", verification.findings);
        assert!(!verification.is_sound());
        // Nobody writes over what was damaged at its end.
        let audit = open(&path);
        note(&audit, 11);
        drop(audit);
        assert!(!verified(&path).is_sound());
    }
}

#[test]
fn a_file_that_is_gone_is_named() {
    for name in [
        "0001-000001.jsonl",
        "0001-000002.jsonl",
        "0001.head",
        "chains",
    ] {
        let (_outer, path) = folder();
        many(&path);
        fs::remove_file(path.join(name)).expect("it is there");
        unsound(&path, name);
    }
    let (_outer, path) = folder();
    many(&path);
    let two = open(&path);
    let chain = [open(&path), two];
    drop(chain);
    for name in fs::read_dir(&path).expect("it is there") {
        let path = name.expect("it is there").path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("0002"))
        {
            fs::remove_file(path).expect("it is there");
        }
    }
    let verification = verified(&path);
    let gone = |finding: &skillhost::audit::Finding| finding.kind == FindingKind::Removed;
    assert!(
        verification.findings.iter().any(gone),
        "{:#?}",
        verification.findings
    );
}

/// Several files, one of which ends with a line that was not finished.
fn many(path: &Path) {
    let settings = AuditSettings {
        max_file_bytes: 3_000,
        ..AuditSettings::default()
    };
    let audit = Audit::open(path, settings).expect("it can be opened");
    for number in 0..25 {
        note(&audit, number);
    }
    drop(audit);
    let last = (1..).take_while(|number| path.join(format!("0001-{number:06}.jsonl")).exists());
    let last = path.join(format!(
        "0001-{:06}.jsonl",
        last.last().expect("there is one")
    ));
    let mut file = OpenOptions::new()
        .append(true)
        .open(&last)
        .expect("it is there");
    file.write_all(b"{\"at\":\"2026-01-01T0")
        .expect("it can be written");
    let torn = sound(path);
    assert!(
        torn.findings
            .iter()
            .any(|finding| finding.kind == FindingKind::Torn)
    );
    let audit = Audit::open(path, settings).expect("it can be opened");
    for number in 0..10 {
        note(&audit, number);
    }
    drop(audit);
    sound(path);
}

/// Numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits") % most
    }
}

#[test]
fn a_thousand_random_damages_are_all_found() {
    let (_outer, path) = folder();
    many(&path);
    let mut originals: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&path)
        .expect("it is there")
        .map(|entry| {
            let path = entry.expect("it is there").path();
            let bytes = fs::read(&path).expect("it can be read");
            (path, bytes)
        })
        .collect();
    originals.sort();
    let entries: Vec<usize> = (0..originals.len())
        .filter(|index| {
            originals[*index]
                .0
                .extension()
                .is_some_and(|end| end == "jsonl")
        })
        .collect();
    assert!(entries.len() >= 3);
    let mut numbers = Numbers(0x5EED);
    let mut kinds = HashSet::new();
    for round in 0..1_000 {
        let kind = numbers.below(8);
        let any = numbers.below(originals.len());
        let of_lines = entries[numbers.below(entries.len())];
        let (index, bytes) = match kind {
            // A bit.
            0..=2 => {
                let mut bytes = originals[any].1.clone();
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
                (any, bytes)
            }
            // A tail.
            3 => {
                let mut bytes = originals[any].1.clone();
                let left = numbers.below(bytes.len());
                bytes.truncate(left);
                (any, bytes)
            }
            // Lines: one that goes, one that comes twice, two that change places, one that is new.
            _ => {
                let text = &originals[of_lines].1;
                let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
                let whole = lines.iter().filter(|line| line.ends_with(b"\n")).count();
                let (one, other) = (numbers.below(whole), numbers.below(whole));
                match kind {
                    4 => drop(lines.remove(one)),
                    5 => lines.insert(other, lines[one]),
                    6 if one != other => lines.swap(one, other),
                    6 => lines.insert(one, b"\n"),
                    _ => lines.insert(other, b"{\"at\":\"2026-01-01T00:00:00Z\"}\n"),
                }
                (of_lines, lines.concat())
            }
        };
        let (name, original) = &originals[index];
        assert_ne!(&bytes, original, "round {round} of kind {kind} did nothing");
        fs::write(name, bytes).expect("it can be written");
        let verification = verified(&path);
        assert!(
            !verification.is_sound(),
            "round {round} of kind {kind} in {} was not found",
            name.display()
        );
        kinds.extend(verification.findings.iter().map(|finding| finding.kind));
        fs::write(name, original).expect("it can be written");
    }
    sound(&path);
    // Told apart, and not all called the same.
    assert!(kinds.len() >= 6, "{kinds:?}");
}

/// What a process of ours writes to.
const ON: &str = "SKILLHOST_TEST_AUDIT";

#[test]
fn a_process_that_is_killed_leaves_a_chain_that_verifies() {
    const TEST: &str = "audit::a_process_that_is_killed_leaves_a_chain_that_verifies";
    if let Some(path) = std::env::var_os(ON) {
        let settings = AuditSettings {
            max_file_bytes: 100_000,
            ..AuditSettings::default()
        };
        let audit = Audit::open(path, settings).expect("it can be opened");
        println!("writing");
        let audit = Arc::new(audit);
        for _ in 0..2 {
            let audit = Arc::clone(&audit);
            std::thread::spawn(move || {
                for number in 0.. {
                    note(&*audit, number);
                    // Not faster than it is read meanwhile.
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
        }
        std::thread::park();
        return;
    }
    use std::io::{BufRead as _, BufReader};
    let (_outer, path) = folder();
    let mut before = 0;
    for _ in 0..15 {
        let program = std::env::current_exe().expect("it is running");
        let mut child = Command::new(program)
            .args(["--exact", "--nocapture", TEST])
            .env(ON, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        while lines.next().expect("it goes on").expect("it is text") != "writing" {}
        // Once it has come somewhere; while it writes, it verifies.
        loop {
            let verification = verified(&path);
            assert!(verification.is_sound(), "{:#?}", verification.findings);
            if verification.entries() > before + 200 {
                break;
            }
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let verification = sound(&path);
        assert!(verification.entries() > before + 200);
        before = verification.entries();
        assert_eq!(verification.chains.len(), 1, "it is taken over");
    }
}

#[test]
fn whoever_dies_while_a_chain_is_begun_leaves_one_that_goes_on() {
    let register = |path: &Path| path.join("chains");
    let head = |path: &Path| path.join("0001.head");
    let segment = |path: &Path| path.join("0001-000001.jsonl");
    // What stands there after each step, from the last to the first.
    let steps: [&dyn Fn(&Path); 5] = [
        &|path| fs::write(segment(path), "").expect("it can be written"),
        &|path| fs::remove_file(segment(path)).expect("it is there"),
        &|path| fs::write(register(path), "").expect("it can be written"),
        &|path| fs::write(head(path), "").expect("it can be written"),
        &|path| fs::remove_file(head(path)).expect("it is there"),
    ];
    for died in 1..=steps.len() {
        let (_outer, path) = folder();
        let fresh = Audit::open(&path, AuditSettings::default()).expect("it can be opened");
        drop(fresh);
        // The head before the first line.
        let text = fs::read_to_string(head(&path)).expect("it is there");
        let words: Vec<_> = text.trim_end().split(' ').collect();
        let (start, zero) = (words[4], "0".repeat(20));
        let none = [&words[..6], &[&zero, &zero, start]].concat().join(" ") + "\n";
        fs::write(head(&path), none).expect("it can be written");
        for step in &steps[..died] {
            step(&path);
        }
        sound(&path);
        let audit = open(&path);
        note(&audit, 1);
        let verification = sound(&path);
        assert_eq!(
            (verification.chains.len(), verification.entries()),
            (1, 2),
            "{died}"
        );
    }
    // An older release counted a chain only once it had its first line.
    let (_outer, path) = folder();
    drop(open(&path));
    fs::write(register(&path), "").expect("it can be written");
    sound(&path);
    drop(open(&path));
    assert_eq!(sound(&path).chains.len(), 1);
}

#[test]
fn a_folder_that_others_can_use_is_refused_and_links_are_not_followed() {
    let (outer, path) = folder();
    fs::create_dir(&path).expect("it is not there");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let error = Audit::open(&path, AuditSettings::default()).expect_err("it is open to others");
    assert!(matches!(error, AuditError::Unsafe { .. }), "{error}");
    assert!(matches!(verify(&path), Err(AuditError::Unsafe { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it is ours");
    drop(open(&path));
    // A link in the place of a file leads nowhere.
    let target = outer.path().join("elsewhere");
    fs::write(&target, "").expect("it can be written");
    let segment = path.join("0001-000001.jsonl");
    fs::remove_file(&segment).expect("it is there");
    symlink(&target, &segment).expect("it can be made");
    let audit = open(&path);
    note(&audit, 1);
    assert_eq!(fs::read(&target).expect("it is there"), b"");
    assert!(!verified(&path).is_sound());
    symlink(&path, outer.path().join("link")).expect("it can be made");
    let link = Audit::open(outer.path().join("link"), AuditSettings::default());
    assert!(matches!(link, Err(AuditError::Unsafe { .. })), "{link:?}");
}

#[test]
fn entries_are_found_by_what_they_say() {
    let (_outer, path) = folder();
    let audit = open(&path);
    for number in 0..5 {
        note(&audit, number);
    }
    let count = |filter: Filter| read(&path, &filter).expect("it can be read").len();
    let kinds = |kinds: &[Kind]| Filter {
        kinds: kinds.to_vec(),
        ..Filter::default()
    };
    assert_eq!(count(Filter::default()), 6);
    assert_eq!(count(kinds(&[Kind::Breaker])), 5);
    assert_eq!(count(kinds(&[Kind::Grant])), 0);
    assert_eq!(
        count(Filter {
            tenant: Some("acme".to_owned()),
            ..Filter::default()
        }),
        5
    );
    assert_eq!(
        count(Filter {
            tenant: Some("other".to_owned()),
            ..Filter::default()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            limit: Some(2),
            ..Filter::default()
        }),
        2
    );
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(60);
    assert_eq!(
        count(Filter {
            since: Some(soon),
            ..Filter::default()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            until: Some(soon),
            ..Filter::default()
        }),
        6
    );
    // A skill is named in another way by each kind.
    let digest = Digest::of_component(b"a component");
    let (text, of) = (digest.to_string(), format!("skill {digest}"));
    let breaker = What::Breaker {
        of: &of,
        from: "closed",
        to: "open",
    };
    let grant = What::Grant(Change {
        action: "confirm",
        skill: "notes",
        version: Some("0.1.0"),
        digest: Some(digest),
        grants: &[],
        by: None,
    });
    for what in [breaker, grant] {
        let who = Who::default();
        audit.record(&Entry { who, what }).expect("it is written");
    }
    for (skill, found) in [
        (text.as_str(), 2),
        ("notes", 1),
        ("notes@0.1.0", 1),
        ("notes@0.1.1", 0),
        ("other", 0),
    ] {
        let skill = Some(skill.to_owned());
        let filter = Filter {
            skill,
            ..Filter::default()
        };
        assert_eq!(count(filter), found);
    }
}

/// Whoever appends what is no entry makes nobody wait, and no end of findings.
#[test]
fn any_number_of_lines_that_are_no_entry_are_counted_and_some_are_told() {
    const MANY: usize = 300_000;
    let (_outer, path) = folder();
    let audit = open(&path);
    note(&audit, 0);
    drop(audit);
    let file = path.join("0001-000001.jsonl");
    let text = fs::read_to_string(&file).expect("it can be read");
    let (ahead, behind) = text.split_at(text.find('\n').expect("two lines") + 1);
    let garbage = "\n".repeat(MANY);
    for (text, kind, line) in [
        (format!("{text}{garbage}"), FindingKind::Changed, 3),
        (format!("{ahead}{garbage}{behind}"), FindingKind::Added, 2),
    ] {
        fs::write(&file, text).expect("it can be written");
        let verification = verified(&path);
        assert!(!verification.is_sound());
        assert!(verification.damages() >= MANY as u64);
        assert_eq!(verification.findings.len(), 1_000);
        assert_eq!(
            verification.more_findings,
            verification.damages() - verification.findings.len() as u64
        );
        let first = &verification.findings[0];
        assert_eq!((first.kind, first.line), (kind, Some(line)));
    }
}
