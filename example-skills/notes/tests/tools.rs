use notes::{add, change, find, remove};
use skills_sdk::testing::TestContext;

fn texts(words: &str, tag: Option<&str>, most: usize, ctx: &TestContext) -> Vec<String> {
    let found = find(words.to_owned(), tag.map(str::to_owned), most, ctx).unwrap();
    found.into_iter().map(|note| note.text).collect()
}

#[test]
fn notes_are_kept_found_changed_and_removed() {
    let ctx = TestContext::new();
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    for (text, of) in [
        ("Anna prefers mornings", tags(&["Anna", " anna ", ""])),
        ("The build takes ten minutes", tags(&["build"])),
        ("Anna owns the build", tags(&["anna", "build"])),
    ] {
        add(text.to_owned(), of, &ctx).unwrap();
    }
    assert_eq!(
        texts("", Some("ANNA"), 20, &ctx),
        ["Anna owns the build", "Anna prefers mornings"]
    );
    assert_eq!(texts("BUILD anna", None, 20, &ctx), ["Anna owns the build"]);
    assert_eq!(texts("", None, 1, &ctx), ["Anna owns the build"]);
    let changed = change(2, Some("The build takes a minute".into()), None, &ctx).unwrap();
    assert_eq!(changed.tags, ["build"]);
    assert_eq!(
        texts("minute", None, 20, &ctx),
        ["The build takes a minute"]
    );
    assert_eq!(remove(1, &ctx).unwrap().text, "Anna prefers mornings");
    assert!(remove(1, &ctx).is_err());
    assert_eq!(add("again".into(), Vec::new(), &ctx).unwrap().number, 4);
}

#[test]
fn many_notes_are_read_in_parts() {
    let ctx = TestContext::new();
    for number in 0..100 {
        add(format!("note {number}"), Vec::new(), &ctx).unwrap();
    }
    assert_eq!(texts("note", None, 1_000, &ctx).len(), 100);
    assert_eq!(texts("", None, 2, &ctx), ["note 99", "note 98"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let ctx = TestContext::new();
    assert!(add("  ".into(), Vec::new(), &ctx).is_err());
    assert!(add("x".repeat(65 * 1024), Vec::new(), &ctx).is_err());
    assert!(change(1, None, None, &ctx).is_err());
    let ctx = TestContext::new().without_storage();
    let failure = add("x".into(), Vec::new(), &ctx).unwrap_err();
    assert!(
        format!("{failure:?}").contains("grants no storage"),
        "{failure:?}"
    );
}
