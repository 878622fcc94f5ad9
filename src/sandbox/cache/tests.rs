//! Entries, and what becomes of them.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn cache(folder: &Path, max_bytes: u64) -> Cache {
    Cache::open(&folder.join("compiled"), max_bytes, 7).unwrap()
}

fn insert(cache: &Cache, name: &str, code: &[u8]) -> Digest {
    let digest = Digest::of_component(name.as_bytes());
    let aside = cache.aside().unwrap();
    fs::write(&aside, code).unwrap();
    cache.insert(&digest, 5, aside).unwrap();
    digest
}

#[test]
fn an_entry_is_found_until_something_about_it_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 1000);
    let digest = insert(&cache, "a", b"code");
    let code = cache.find(&digest).unwrap().code;
    assert_eq!(fs::read(&code).unwrap(), b"code");

    fs::write(&code, b"cod").unwrap();
    assert!(cache.find(&digest).is_none(), "truncated");
    fs::write(&code, b"code").unwrap();
    assert!(cache.find(&digest).is_some());
    fs::set_permissions(&code, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        cache.find(&digest).is_none(),
        "others could have written it"
    );
    fs::remove_file(&code).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &code).unwrap();
    assert!(cache.find(&digest).is_none(), "a link");
    insert(&cache, "a", b"code");
    fs::write(cache.record_path(&digest), b"{").unwrap();
    assert!(cache.find(&digest).is_none(), "a torn record");
    insert(&cache, "a", b"code");
    for path in [cache.record_path(&digest), cache.code_path(&digest)] {
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("b"), b"c").unwrap();
        assert!(cache.find(&digest).is_none(), "a folder");
        insert(&cache, "a", b"code");
        assert!(cache.find(&digest).is_some(), "the folder gave way");
    }

    let other = Cache {
        compatibility: 8,
        ..self::cache(folder.path(), 1000)
    };
    let digest = insert(&cache, "b", b"code");
    assert!(other.find(&digest).is_none(), "made by another engine");
    fs::copy(cache.code_path(&digest), other.code_path(&digest)).unwrap();
    fs::copy(cache.record_path(&digest), other.record_path(&digest)).unwrap();
    assert!(
        other.find(&digest).is_none(),
        "renamed to look like its own"
    );
}

#[test]
fn the_least_recently_used_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 10);
    let age = |digest: &Digest, seconds| {
        let file = File::options()
            .append(true)
            .open(cache.code_path(digest))
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
            .unwrap();
    };
    let old = insert(&cache, "old", b"1234");
    let used = insert(&cache, "used", b"1234");
    age(&old, 100);
    age(&used, 200);
    cache.find(&used).unwrap();
    let new = insert(&cache, "new", b"1234");
    assert!(cache.find(&old).is_none());
    assert!(cache.find(&used).is_some() && cache.find(&new).is_some());
    let huge = insert(&cache, "huge", b"12345678901234567890");
    assert!(cache.find(&huge).is_some(), "the one just made stays");
}

/// No component holds up another, and none leaves a file behind.
#[test]
fn each_entry_has_a_lock_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 1000);
    let locks = || {
        let entries = fs::read_dir(&cache.folder).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name());
        names
            .filter(|name| name.as_encoded_bytes().starts_with(b".lock-"))
            .count()
    };
    // More than there are first bytes of digests.
    let digests: Vec<Digest> = (0..300_u32)
        .map(|number| Digest::of_component(&number.to_le_bytes()))
        .collect();
    let held = digests.iter().map(|digest| cache.try_lock(digest).unwrap());
    let held: Vec<Lock> = held.map(Option::unwrap).collect();
    assert!(cache.try_lock(&digests[7]).unwrap().is_none());
    assert_eq!(locks(), 300);
    drop(held);
    assert_eq!(locks(), 0);
    assert!(cache.try_lock(&digests[7]).unwrap().is_some());
}

#[test]
fn a_lock_that_was_taken_away_is_no_lock_and_takes_away_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 1 << 20);
    let digest = Digest::of_component(b"one");
    let first = cache.try_lock(&digest).unwrap().unwrap();
    fs::remove_file(&first.path).unwrap();
    let second = cache.try_lock(&digest).unwrap().unwrap();
    drop(first);
    assert!(cache.try_lock(&digest).unwrap().is_none(), "the second's");
    assert!(second.path.exists());
}

#[test]
fn what_a_killed_process_left_behind_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 1000);
    let (old, new) = (
        cache.folder.join(".compiling-a"),
        cache.folder.join(".compiling-b"),
    );
    for path in [&old, &new] {
        fs::write(path, b"half").unwrap();
    }
    let day_ago = SystemTime::now() - Duration::from_secs(86_400);
    File::options()
        .append(true)
        .open(&old)
        .unwrap()
        .set_modified(day_ago)
        .unwrap();
    insert(&cache, "a", b"code");
    assert!(!old.exists() && new.exists());
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compiled");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = Cache::open(&path, 1, 0).unwrap_err().to_string();
    assert!(error.contains("chmod 700"), "{error}");
    fs::remove_dir(&path).unwrap();
    Cache::open(&path, 1, 0).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_description_is_kept_with_the_code() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 1000);
    let digest = insert(&cache, "a", b"code");
    let description = Description {
        name: "a".into(),
        version: "1.0.0".into(),
        description: "b".into(),
        tools: Vec::new(),
    };
    cache.describe(&digest, 5, &description).unwrap();
    let entry = cache.find(&digest).unwrap();
    assert_eq!(entry.description, Some(description));
    assert_eq!(entry.context_bytes, 5);
    let text = fs::read_to_string(cache.record_path(&digest)).unwrap();
    for (from, to) in [
        ("\\\"name\\\":\\\"a\\\"", "\\\"name\\\":\\\"c\\\""),
        ("\"context_bytes\":5", "\"context_bytes\":4"),
        ("\"description\":\"", "\"described\":\""),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(cache.record_path(&digest), text.replacen(from, to, 1)).unwrap();
        assert!(cache.find(&digest).is_none(), "{to}");
    }
}

/// What nobody could read back whole is not kept, and the code is.
#[test]
fn a_description_that_is_too_large_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 1000);
    let digest = insert(&cache, "a", b"code");
    let description = Description {
        name: "a".into(),
        version: "1.0.0".into(),
        description: "b".repeat(MAX_RECORD),
        tools: Vec::new(),
    };
    cache.describe(&digest, 5, &description).unwrap();
    assert_eq!(cache.find(&digest).unwrap().description, None);
}

#[test]
fn a_record_that_is_no_regular_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 1000);
    let digest = insert(&cache, "a", b"code");
    let record = cache.record_path(&digest);
    fs::rename(&record, folder.path().join("record")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &record, mode).unwrap();
    assert!(cache.find(&digest).is_none(), "a FIFO");
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink(folder.path().join("record"), &record).unwrap();
    assert!(cache.find(&digest).is_none(), "a link");
    insert(&cache, "a", b"code");
    assert!(cache.find(&digest).is_some());
}
