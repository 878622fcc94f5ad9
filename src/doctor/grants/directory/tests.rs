//! That what does not hold is noticed.

use super::*;
use crate::doctor::check::Verdict;
use crate::sandbox::Isolation;

fn ground() -> Ground {
    Ground::new(Isolation::InProcess, 1, None).unwrap()
}

#[track_caller]
fn check(found: Result<Finding, Trouble>, verdict: Verdict, reason: &str) {
    let found = found.unwrap();
    assert_eq!(found.verdict, verdict, "{found:?}");
    assert!(found.reason.unwrap().contains(reason));
}

/// What leads to a file inside is let through, as a way out would be if there were one.
#[tokio::test]
async fn a_way_that_is_let_through_is_noticed() {
    let ground = ground();
    for tried in [
        Act::Read,
        Act::Write,
        Act::ReadByLink,
        Act::LinkFrom,
        Act::Take,
        Act::Remove,
    ] {
        let folder = Folder::new(&ground, &format!("{tried:?}")).unwrap();
        fs::write(folder.open().join("b.txt"), "b").unwrap();
        let found = escapes(&ground, &folder, &["../secret.txt", "b.txt"], &[tried]).await;
        check(found, Verdict::Broken, "of `b.txt` was not refused");
    }
    for tried in [Act::MoveTo, Act::LinkTo] {
        let folder = Folder::new(&ground, &format!("{tried:?}")).unwrap();
        let found = escapes(&ground, &folder, &["../secret.txt", "new.txt"], &[tried]).await;
        check(found, Verdict::Broken, "of `new.txt` was not refused");
    }
}

/// Also where the guest was told that it may not.
#[tokio::test]
async fn a_change_outside_is_noticed() {
    let ground = ground();
    let changes: [fn(&Folder); 4] = [
        |folder| fs::write(folder.secret(), "another").unwrap(),
        |folder| fs::remove_file(folder.secret()).unwrap(),
        |folder| fs::hard_link(folder.secret(), folder.open().join("second")).unwrap(),
        |folder| fs::write(folder.folder.join("new.txt"), "new").unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let folder = Folder::new(&ground, &format!("changed-{number}")).unwrap();
        let tried = async || escapes(&ground, &folder, &["../secret.txt"], &[Act::Read]).await;
        assert_eq!(tried().await.unwrap().verdict, Verdict::Holds);
        change(&folder);
        check(
            tried().await,
            Verdict::Broken,
            "outside the directory was changed",
        );
    }
}

/// Where not even what is granted works, a refusal says nothing.
#[tokio::test]
async fn what_proves_nothing_is_noticed() {
    let ground = ground();
    let folder = Folder::new(&ground, "nothing").unwrap();
    fs::remove_file(folder.open().join("a.txt")).unwrap();
    let found = escapes(&ground, &folder, &["../secret.txt"], &[Act::Read]).await;
    check(found, Verdict::Unknown, "does not work: no-entry");
    let skill = ground.load(&guest()).await.unwrap();
    let found = all_refused(&ground, &skill, &folder.grants(Mode::Rw), Vec::new()).await;
    check(found, Verdict::Unknown, "nothing was tried");
}

#[tokio::test]
async fn a_mode_that_does_not_hold_is_noticed() {
    let ground = ground();
    let folder = Folder::new(&ground, "writable").unwrap();
    let skill = ground.load(&guest()).await.unwrap();
    let found = writes_are_refused(&ground, &skill, &folder, Mode::Rw).await;
    check(found, Verdict::Broken, "the file was changed");
    // What is granted although it is not declared.
    let granted = act(
        &ground,
        &skill,
        &folder.grants(Mode::Ro),
        Act::Read,
        "a.txt",
    )
    .await;
    let found = super::super::judge_undeclared(Capability::Directory, &granted.unwrap());
    assert_eq!(found.verdict, Verdict::Broken);
}

/// A scratch directory that is found again, as any other directory is.
#[tokio::test]
async fn what_a_run_left_is_noticed() {
    let ground = ground();
    let folder = Folder::new(&ground, "kept").unwrap();
    let found = found_again(&ground, &folder.grants(Mode::Rw)).await;
    check(found, Verdict::Broken, "Read of `a.txt` was not refused");
    // And one that is still on the disk.
    assert_eq!(
        scratch_is_gone(&ground).await.unwrap().verdict,
        Verdict::Holds
    );
    let mut own = fs::read_dir(ground.scratch()).unwrap();
    let own = own.next().unwrap().unwrap().path();
    fs::create_dir(own.join("left")).unwrap();
    check(
        scratch_is_gone(&ground).await,
        Verdict::Broken,
        "is still there",
    );
}

/// A handle that it was given, or that was refused in a way that is not final.
#[tokio::test]
async fn a_handle_that_is_taken_is_noticed() {
    let ground = ground();
    let folder = Folder::new(&ground, "taken").unwrap();
    let skill = ground.load(&guest()).await.unwrap();
    for path in ["a.txt", "../secret.txt"] {
        let result = act(&ground, &skill, &folder.grants(Mode::Rw), Act::Read, path).await;
        let found = judge_forged(&result.unwrap());
        assert_eq!(found.verdict, Verdict::Broken, "{found:?}");
    }
}
