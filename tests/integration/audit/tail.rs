//! While many entries come: the newest stand in the tail for a while, and are there all the same.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use skillhost::audit::{Audit, AuditSettings};

use super::{Numbers, ON, folder, lines, note, open, sound, unsound, verified};

const SEGMENT: &str = "0001-000001.jsonl";

/// How many bytes of the tail count.
fn in_tail(path: &Path) -> usize {
    let head = fs::read_to_string(path.join("0001.head")).expect("there is one");
    let digits = head.trim_end().rsplit(' ').next().expect("a word");
    usize::from_str_radix(digits, 16).expect("a number")
}

/// What a process of ours leaves that writes so many entries at once and dies. The folder is below the first.
fn left(entries: usize) -> (tempfile::TempDir, PathBuf) {
    const TEST: &str = "audit::tail::a_process_that_dies_leaves_its_last_entries_in_the_tail";
    // Should it be held up for long, there is little in the tail.
    for _ in 0..50 {
        let (outer, path) = folder();
        let program = std::env::current_exe().expect("it is running");
        let child = Command::new(program)
            .args(["--exact", "--nocapture", TEST])
            .env(ON, &path)
            .env(MANY, entries.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(!child.expect("it starts").success());
        if in_tail(&path) > 5_000 {
            return (outer, path);
        }
    }
    panic!("it never left a tail");
}

const MANY: &str = "SKILLHOST_TEST_AUDIT_MANY";

#[test]
fn a_process_that_dies_leaves_its_last_entries_in_the_tail() {
    if let (Some(path), Ok(many)) = (std::env::var_os(ON), std::env::var(MANY)) {
        let audit = Audit::open(path, AuditSettings::default()).expect("it can be opened");
        for number in 0..many.parse().expect("a number") {
            note(&audit, number);
        }
        std::process::abort();
    }
    let (_outer, path) = left(100);
    let entries = |path: &Path| {
        let numbers: Vec<_> = lines(path).iter().map(|line| line["n"].as_u64()).collect();
        assert!(
            numbers.iter().eq((1..=numbers.len() as u64)
                .map(Some)
                .collect::<Vec<_>>()
                .iter())
        );
        numbers.len()
    };
    let verification = sound(&path);
    assert!(verification.findings.is_empty(), "{verification:?}");
    assert_eq!((verification.entries(), entries(&path)), (101, 101));
    let hash = verification.chains[0].hash.clone();
    // Nobody lost any when it is taken over.
    drop(open(&path));
    assert_eq!((sound(&path).entries(), entries(&path)), (102, 102));
    assert_eq!(in_tail(&path), 0);
    let text = fs::read_to_string(path.join(SEGMENT)).expect("it is there");
    assert!(
        text.lines()
            .nth(100)
            .is_some_and(|line| line.contains(&hash))
    );
}

#[test]
fn what_was_recorded_is_there_whenever_its_process_is_killed() {
    const TEST: &str = "audit::tail::what_was_recorded_is_there_whenever_its_process_is_killed";
    if let Some(path) = std::env::var_os(ON) {
        let audit = Audit::open(path, AuditSettings::default()).expect("it can be opened");
        let mut out = std::io::stdout();
        for number in 0.. {
            note(&audit, number);
            writeln!(out, "recorded {number}").expect("somebody reads");
        }
        return;
    }
    let (_outer, path) = folder();
    let (mut before, mut tails) = (0, 0);
    for round in 0..10 {
        let program = std::env::current_exe().expect("it is running");
        let mut child = Command::new(program)
            .args(["--exact", "--nocapture", TEST])
            .env(ON, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut recorded = 0;
        for line in out.lines() {
            let line = line.expect("it is text");
            let Some(number) = line.strip_prefix("recorded ") else {
                continue;
            };
            recorded = number.parse::<u64>().expect("a number") + 1;
            if recorded == 300 + 50 * round {
                child.kill().expect("it runs");
            }
        }
        child.wait().expect("it ends");
        tails += usize::from(in_tail(&path) > 0);
        let entries = sound(&path).entries();
        // One line says that it was opened; one more may be there that was not told of any more.
        let told = before + 1 + recorded;
        assert!((told..=told + 1).contains(&entries), "{told} {entries}");
        assert_eq!(lines(&path).len() as u64, entries);
        before = entries;
    }
    assert!(tails > 0);
    assert_eq!(verified(&path).chains.len(), 1);
}

#[test]
fn many_entries_are_read_and_verified_while_they_come() {
    let (_outer, path) = folder();
    let settings = AuditSettings {
        max_file_bytes: 200_000,
        ..AuditSettings::default()
    };
    let audit = Audit::open(&path, settings).expect("it can be opened");
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..3_000).for_each(|number| note(&audit, number))))
            .collect();
        let mut seen = 0;
        while writers.iter().any(|writer| !writer.is_finished()) {
            let entries = sound(&path).entries();
            assert!(entries >= seen);
            seen = entries;
            let numbers: Vec<_> = lines(&path).iter().map(|line| line["n"].as_u64()).collect();
            let all: HashSet<_> = numbers.iter().collect();
            assert_eq!(all.len(), numbers.len(), "none is read twice");
        }
    });
    let verification = sound(&path);
    let files = verification.chains[0].files;
    assert!(files > 3, "{files}");
    // With one for each file that was begun.
    assert_eq!(verification.entries(), 6_000 + u64::from(files));
    drop(audit);
    assert_eq!(sound(&path).entries(), 6_000 + u64::from(files));
    assert!(!path.join("0001.tail").exists());
}

#[test]
fn whatever_is_done_to_a_tail_is_found() {
    let (_outer, path) = left(60);
    let file = |name: &str| path.join(name);
    let (tail, head) = (file("0001.tail"), file("0001.head"));
    let bytes = fs::read(&tail).expect("it is there");
    let heading = fs::read(&head).expect("it is there");
    let counted = in_tail(&path);
    let lines: Vec<&[u8]> = bytes[..counted]
        .split_inclusive(|byte| *byte == b'\n')
        .collect();
    assert!(lines.len() > 10);
    let mut numbers = Numbers(0x7A11);
    let with = |lines: &[&[u8]]| {
        let mut all = lines.concat();
        all.resize(bytes.len().max(all.len()), 0);
        all
    };
    for round in 0..400 {
        let (one, other) = (numbers.below(lines.len()), numbers.below(lines.len()));
        let mut changed = lines.clone();
        let (place, damaged) = match round % 7 {
            0 | 1 => {
                let mut bytes = bytes.clone();
                bytes[numbers.below(counted)] ^= 1 << numbers.below(8);
                (&tail, bytes)
            }
            2 => (&tail, bytes[..numbers.below(counted)].to_vec()),
            3 => {
                let mut heading = heading.clone();
                let at = numbers.below(heading.len());
                heading[at] ^= 1 << numbers.below(8);
                (&head, heading)
            }
            4 => {
                changed.remove(one);
                (&tail, with(&changed))
            }
            5 => {
                changed.insert(other, lines[one]);
                (&tail, with(&changed))
            }
            _ if one == other => continue,
            _ => {
                changed.swap(one, other);
                (&tail, with(&changed))
            }
        };
        let before = fs::read(place).expect("it is there");
        assert_ne!(damaged, before);
        fs::write(place, damaged).expect("it can be written");
        let verification = verified(&path);
        assert!(!verification.is_sound(), "round {round} was not found");
        fs::write(place, before).expect("it can be written");
    }
    // The head is made to say that so many bytes of the tail count.
    let counts = |bytes: usize| {
        let mut heading = heading.clone();
        let at = heading.len() - 9;
        heading[at..].copy_from_slice(format!("{bytes:08x}\n").as_bytes());
        fs::write(&head, heading).expect("it can be written");
    };
    let damages: [(&str, &dyn Fn()); 6] = [
        ("0001.tail", &|| counts(0)),
        ("0001.tail", &|| counts(lines[..3].concat().len())),
        ("0001.tail", &|| counts(counted - 1)),
        ("0001.tail", &|| {
            fs::remove_file(&tail).expect("it is there")
        }),
        (SEGMENT, &|| {
            fs::remove_file(file(SEGMENT)).expect("it is there")
        }),
        // What does not stand in the tail was never put behind what the head knows.
        (SEGMENT, &|| {
            let mut segment = OpenOptions::new()
                .append(true)
                .open(file(SEGMENT))
                .expect("it is there");
            segment.write_all(lines[1]).expect("it can be written");
        }),
    ];
    let segment = fs::read(file(SEGMENT)).expect("it is there");
    for (name, damage) in damages {
        damage();
        unsound(&path, name);
        // Nobody goes on with it.
        drop(open(&path));
        assert_eq!(verified(&path).chains.len(), 2);
        for name in ["0002.head", "0002-000001.jsonl", "chains"] {
            fs::remove_file(file(name)).expect("it is there");
        }
        fs::write(file("chains"), "skillhost-audit-chains-1 0001\n").expect("it can be written");
        fs::write(&head, &heading).expect("it can be written");
        fs::write(&tail, &bytes).expect("it can be written");
        fs::write(file(SEGMENT), &segment).expect("it can be written");
        sound(&path);
    }
}

#[test]
fn whoever_dies_while_a_tail_is_put_into_its_file_leaves_one_that_is_put_there() {
    let (_outer, path) = left(60);
    let tail = fs::read(path.join("0001.tail")).expect("it is there");
    let counted = in_tail(&path);
    let names = ["0001.tail", "0001.head", SEGMENT];
    let before = names.map(|name| fs::read(path.join(name)).expect("it is there"));
    for put in [1, 100, counted / 2, counted - 1, counted] {
        for (name, bytes) in names.iter().zip(&before) {
            fs::write(path.join(name), bytes).expect("it can be written");
        }
        let segment = OpenOptions::new().append(true).open(path.join(SEGMENT));
        let mut segment = segment.expect("it is there");
        segment.write_all(&tail[..put]).expect("it can be written");
        let verification = sound(&path);
        assert!(verification.findings.is_empty(), "{verification:?}");
        assert_eq!((verification.entries(), lines(&path).len()), (61, 61));
        let audit = Arc::new(open(&path));
        note(&*audit, 1);
        assert_eq!((sound(&path).entries(), lines(&path).len()), (63, 63));
    }
}

/// Which is not to say that anything of it is as it was written, and so it is not said.
#[test]
fn without_its_head_a_chain_is_counted_with_its_tail() {
    let (_outer, path) = left(60);
    let whole = sound(&path);
    assert!(whole.chains[0].verified, "{whole:?}");
    let tail = fs::read(path.join("0001.tail")).expect("it is there");
    let first = tail.split_inclusive(|byte| *byte == b'\n').next();
    fs::remove_file(path.join("0001.head")).expect("it is there");
    // Also where its process died while it put the tail into the file.
    for put in [&[][..], first.expect("a line")] {
        let segment = OpenOptions::new().append(true).open(path.join(SEGMENT));
        let mut segment = segment.expect("it is there");
        segment.write_all(put).expect("it can be written");
        let counted = verified(&path);
        let chain = &counted.chains[0];
        assert!(!chain.verified, "{counted:?}");
        assert_eq!((chain.kept, chain.entries), (61, 61), "{counted:?}");
        assert_eq!(chain.hash, whole.chains[0].hash);
        assert!(counted.findings[0].message.contains("the 61 lines"));
    }
}

/// What stands in it is known, and the next entries stand in another.
#[test]
fn a_tail_that_is_removed_is_made_anew() {
    let (_outer, path) = folder();
    let audit = open(&path);
    let tail = path.join("0001.tail");
    let mut recorded = 0;
    for _ in 0..2 {
        for _ in 0..100_000 {
            if tail.exists() && in_tail(&path) > 0 {
                break;
            }
            note(&audit, recorded);
            recorded += 1;
        }
        assert!(in_tail(&path) > 0);
        fs::remove_file(&tail).expect("it is there");
    }
    drop(audit);
    // With the line that says that it was opened.
    assert_eq!(sound(&path).entries(), recorded as u64 + 1);
    assert_eq!(lines(&path).len(), recorded + 1);
}
