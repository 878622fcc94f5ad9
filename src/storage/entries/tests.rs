//! Keys and values, on a file of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Quota;
use super::*;

const WHOLE: RangeInclusive<i128> = i64::MIN as i128..=i64::MAX as i128;

fn owner(skill: &str, tenant: Option<&str>) -> Owner {
    Owner {
        skill: skill.into(),
        tenant: tenant.map(Into::into),
        quota: Quota {
            keys: 10,
            bytes: 100,
            value_bytes: 40,
            read_bytes: 60,
        },
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

fn place(key: &str) -> Place {
    Place {
        bucket: Arc::from("default"),
        key: key.into(),
    }
}

fn storage() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::new(folder.path().join("new/storage.db"));
    (folder, storage)
}

fn set(storage: &Storage, owner: &Owner, key: &str, value: &[u8]) -> Result<()> {
    storage.set(owner, &[(place(key), value.to_vec())])
}

fn get(storage: &Storage, owner: &Owner, key: &str) -> Option<Vec<u8>> {
    storage.get(owner, &[place(key)]).unwrap().remove(0)
}

#[test]
fn what_is_kept_is_its_owners_alone() {
    let (_folder, storage) = storage();
    let owners = [
        owner("a", None),
        owner("a", Some("")),
        owner("a", Some("t")),
        owner("b", None),
    ];
    for (number, owner) in owners.iter().enumerate() {
        assert_eq!(get(&storage, owner, "k"), None);
        set(&storage, owner, "k", &[number as u8]).unwrap();
    }
    for (number, owner) in owners.iter().enumerate() {
        assert_eq!(get(&storage, owner, "k"), Some(vec![number as u8]));
    }
    storage
        .delete(&owners[0], &[place("k"), place("none")])
        .unwrap();
    assert_eq!(get(&storage, &owners[0], "k"), None);
    assert_eq!(get(&storage, &owners[1], "k"), Some(vec![1]));
}

#[test]
fn quotas_hold_and_what_is_over_leaves_nothing_behind() {
    let (_folder, storage) = storage();
    let owner = owner("a", None);
    let over = |result: Result<()>| match result {
        Err(StorageError::Quota { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        over(set(&storage, &owner, "k", &[0; 41])),
        Limit::StorageValueBytes
    );
    let eleven: Vec<_> = (0..11)
        .map(|n| (place(&n.to_string()), Vec::new()))
        .collect();
    assert_eq!(over(storage.set(&owner, &eleven)), Limit::StorageKeys);
    assert_eq!(
        storage.page(&owner, "default", "").unwrap(),
        Page::default()
    );
    set(&storage, &owner, "a", &[0; 40]).unwrap();
    set(&storage, &owner, "b", &[0; 40]).unwrap();
    assert_eq!(
        over(set(&storage, &owner, "c", &[0; 18])),
        Limit::StorageBytes
    );
    set(&storage, &owner, "c", &[0; 17]).unwrap();
    set(&storage, &owner, "a", &[0; 39]).unwrap();
    storage.delete(&owner, &[place("b")]).unwrap();
    set(&storage, &owner, "d", &[0; 40]).unwrap();
    let read = storage.get(&owner, &[place("a"), place("d")]);
    assert!(matches!(
        read,
        Err(StorageError::Quota {
            limit: Limit::HostBytes,
            asked: 79,
            ..
        })
    ));
    for key in ["", &"k".repeat(1_025)] {
        assert_eq!(set(&storage, &owner, key, b""), Err(StorageError::Key));
    }
}

#[test]
fn keys_come_in_pages() {
    let (_folder, storage) = storage();
    let owner = Owner {
        quota: Quota {
            keys: 10_000,
            bytes: 1 << 20,
            value_bytes: 1,
            read_bytes: 1,
        },
        ..owner("a", None)
    };
    let long = "x".repeat(200);
    for (count, name) in [(2_500, ""), (400, &*long)] {
        let bucket: Arc<str> = format!("bucket{count}").into();
        let values: Vec<_> = (0..count)
            .map(|number| {
                let key = format!("{name}{number:04}");
                let bucket = Arc::clone(&bucket);
                (Place { bucket, key }, Vec::new())
            })
            .collect();
        for values in values.chunks(MAX_BATCH_KEYS) {
            storage.set(&owner, values).unwrap();
        }
        let (mut keys, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = storage.page(&owner, &bucket, &after).unwrap();
            assert!(page.keys.len() <= 1_000);
            keys.extend(page.keys);
            pages += 1;
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert!(pages >= 2, "{pages}");
        assert!(keys.is_sorted());
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}

/// Also the one that the page ended with is taken away, and one is made anew.
#[test]
fn keys_that_change_between_pages_move_no_others() {
    let (_folder, storage) = storage();
    let owner = Owner {
        quota: Quota {
            keys: 10_000,
            bytes: 1 << 20,
            ..owner("a", None).quota
        },
        ..owner("a", None)
    };
    let number = |number: usize| format!("{number:04}");
    for from in [0, 1_000] {
        let values: Vec<_> = (from..from + 1_000)
            .map(|at| (place(&number(at)), Vec::new()))
            .collect();
        storage.set(&owner, &values).unwrap();
    }
    let page = storage.page(&owner, "default", "").unwrap();
    let next = page.next.unwrap();
    assert_eq!((page.keys.len(), &*next), (1_000, "0999"));
    // Another owner's keys tell nothing.
    set(
        &storage,
        &Owner {
            skill: "b".into(),
            ..owner.clone()
        },
        "k",
        b"",
    )
    .unwrap();
    let gone: Vec<_> = [3, 999, 1_500].map(|at| place(&number(at))).into();
    storage.delete(&owner, &gone).unwrap();
    for key in [number(3), "0999-new".into(), "000-before".into()] {
        set(&storage, &owner, &key, b"").unwrap();
    }
    let page = storage.page(&owner, "default", &next).unwrap();
    let there = (1_000..2_000).filter(|at| *at != 1_500).map(number);
    let expected: Vec<_> = std::iter::once("0999-new".to_owned())
        .chain(there)
        .collect();
    assert_eq!((page.keys, page.next), (expected, None));
}

#[test]
fn numbers_are_added_to_and_held_to_their_range() {
    let (_folder, storage) = storage();
    let owner = owner("a", None);
    let add = |key: &str, delta| storage.add(&owner, &place(key), delta, WHOLE);
    assert_eq!(add("n", 5), Ok(5));
    assert_eq!(add("n", -7), Ok(-2));
    assert_eq!(get(&storage, &owner, "n"), Some(b"-2".to_vec()));
    assert_eq!(add("m", i64::MAX.into()), Ok(i64::MAX.into()));
    assert_eq!(add("m", 1), Err(StorageError::Overflow));
    set(&storage, &owner, "t", b"text").unwrap();
    assert_eq!(add("t", 1), Err(StorageError::NotANumber));
    set(&storage, &owner, "t", &[b'1'; 40]).unwrap();
    assert_eq!(add("t", 1), Err(StorageError::NotANumber));
}

#[test]
fn a_swap_fails_where_something_changed_even_back() {
    let (_folder, storage) = storage();
    let owner = owner("a", None);
    let key = place("k");
    let none = storage.version(&owner, &key).unwrap();
    assert_eq!(none, None);
    assert_eq!(storage.swap(&owner, &key, None, b"1"), Ok(Ok(())));
    let first = storage.version(&owner, &key).unwrap();
    assert_eq!(storage.swap(&owner, &key, None, b"2"), Ok(Err(first)));
    set(&storage, &owner, "k", b"2").unwrap();
    set(&storage, &owner, "k", b"1").unwrap();
    let now = storage.version(&owner, &key).unwrap();
    assert_eq!(storage.swap(&owner, &key, first, b"3"), Ok(Err(now)));
    storage.delete(&owner, std::slice::from_ref(&key)).unwrap();
    set(&storage, &owner, "k", b"1").unwrap();
    assert!(matches!(
        storage.swap(&owner, &key, now, b"3"),
        Ok(Err(Some(_)))
    ));
    let now = storage.version(&owner, &key).unwrap();
    assert_eq!(storage.swap(&owner, &key, now, b"3"), Ok(Ok(())));
}

#[test]
fn nothing_is_begun_when_the_time_is_up() {
    let (_folder, storage) = storage();
    let late = Owner {
        deadline: Instant::now(),
        ..owner("a", None)
    };
    assert_eq!(set(&storage, &late, "k", b"1"), Err(StorageError::TimeIsUp));
    assert_eq!(get(&storage, &owner("a", None), "k"), None);
}

/// Very many tiny keys in one call are not looked at; as many as there may be are stopped by the time,
/// leave nothing behind, and others go on.
#[test]
fn a_call_of_many_keys_is_bounded_in_number_and_time() {
    let (_folder, storage) = storage();
    let roomy = Owner {
        quota: Quota {
            keys: 1 << 20,
            bytes: 1 << 30,
            value_bytes: 1,
            read_bytes: 1,
        },
        ..owner("a", None)
    };
    let places = |count: usize| (0..count).map(|number| place(&format!("k{number}")));
    let pairs = |count| -> Vec<_> { places(count).map(|place| (place, Vec::new())).collect() };
    let many: Vec<_> = places(100_000).collect();
    let too_many = StorageError::TooManyKeys(100_000);
    assert_eq!(storage.set(&roomy, &pairs(100_000)), Err(too_many.clone()));
    assert_eq!(storage.delete(&roomy, &many), Err(too_many.clone()));
    assert_eq!(storage.get(&roomy, &many), Err(too_many));
    let values = storage.get(&roomy, &many[..MAX_BATCH_KEYS]).unwrap();
    assert!(values.iter().all(Option::is_none));
    // A thousand take longer than this on any machine.
    let hurried = || Owner {
        deadline: Instant::now() + Duration::from_micros(300),
        ..roomy.clone()
    };
    let (all, keys) = (pairs(MAX_BATCH_KEYS), &many[..MAX_BATCH_KEYS]);
    let late = Err(StorageError::TimeIsUp);
    assert_eq!(storage.set(&hurried(), &all), late);
    assert_eq!(storage.page(&roomy, "default", ""), Ok(Page::default()));
    assert_eq!(set(&storage, &owner("b", None), "k", b"1"), Ok(()));
    assert_eq!(storage.set(&roomy, &all), Ok(()));
    assert_eq!(storage.delete(&hurried(), keys), late);
    let kept = storage.page(&roomy, "default", "").unwrap().keys.len();
    assert_eq!(kept, MAX_BATCH_KEYS);
    assert_eq!(storage.delete(&roomy, keys), Ok(()));
}

/// Another process holds the file for a while: whoever waits gets its turn, and whoever has no
/// time for that ends with its time.
#[test]
fn a_busy_file_is_waited_for() {
    let (_folder, storage) = storage();
    let owner = owner("a", None);
    set(&storage, &owner, "k", b"1").unwrap();
    let other = rusqlite::Connection::open(_folder.path().join("new/storage.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hurried = Owner {
        deadline: Instant::now() + Duration::from_millis(30),
        ..owner.clone()
    };
    assert_eq!(
        set(&storage, &hurried, "k", b"2"),
        Err(StorageError::TimeIsUp)
    );
    assert_eq!(
        get(&storage, &owner, "k"),
        Some(b"1".to_vec()),
        "readers go on"
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| set(&storage, &owner, "k", b"3"));
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
    assert_eq!(get(&storage, &owner, "k"), Some(b"3".to_vec()));
}

/// What is no database is told to the operator, and is one again once it was put right.
#[test]
fn a_file_that_is_none_of_ours_is_not_used() {
    let (folder, storage) = storage();
    let owner = owner("a", None);
    let file = folder.path().join("new/storage.db");
    std::fs::create_dir_all(&file).unwrap();
    let why = |done: Result<()>| match done {
        Err(StorageError::Unusable(why)) => why,
        other => panic!("{other:?}"),
    };
    let said = why(set(&storage, &owner, "k", b"1"));
    assert!(said.contains("directory"), "{said}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, "garbage ".repeat(100)).unwrap();
    let said = why(set(&storage, &owner, "k", b"1"));
    assert!(said.contains("not a database"), "{said}");
    let said = storage.get(&owner, &[place("k")]).map(drop);
    assert!(why(said).contains("not a database"));
    std::fs::remove_file(&file).unwrap();
    set(&storage, &owner, "k", b"1").unwrap();
    assert_eq!(get(&storage, &owner, "k"), Some(b"1".to_vec()));
}

/// Whatever is done to it meanwhile.
#[test]
fn a_file_that_is_gone_is_made_again() {
    let (_folder, storage) = storage();
    let owner = owner("a", None);
    let set = |value: &[u8]| set(&storage, &owner, "k", value);
    let gone = || std::fs::rename(storage.path(), storage.path().with_extension("old")).unwrap();
    set(b"1").unwrap();
    storage.close();
    gone();
    assert_eq!(get(&storage, &owner, "k"), None);
    set(b"2").unwrap();
    assert_eq!(get(&storage, &owner, "k"), Some(b"2".to_vec()));
    // The first to read finds that out, also where nobody closed it; whoever writes then writes to the same.
    storage.close();
    set(b"3").unwrap();
    gone();
    assert_eq!(get(&storage, &owner, "k"), None);
    set(b"4").unwrap();
    assert_eq!(get(&storage, &owner, "k"), Some(b"4".to_vec()));
}

#[test]
fn a_panic_leaves_no_connection_that_is_not_closed() {
    let (_folder, storage) = storage();
    let owner = owner("a", None);
    set(&storage, &owner, "k", b"1").unwrap();
    let panic = std::panic::AssertUnwindSafe(|| {
        let _ = storage.write(&owner, |_| -> Result<()> { panic!("as some do") });
    });
    assert!(std::panic::catch_unwind(panic).is_err());
    let beside = storage.path().with_extension("db-wal");
    assert!(beside.exists());
    storage.close();
    assert!(!beside.exists());
    assert_eq!(get(&storage, &owner, "k"), Some(b"1".to_vec()));
}
