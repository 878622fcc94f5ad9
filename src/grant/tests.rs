use super::*;

fn declared() -> Declared {
    toml::from_str(
        r#"
        environment = ["TZ"]
        directories = [{ path = "/data", mode = "ro" }, { path = "/out", mode = "rw" }]
        [config.max_rows]
        type = "integer"
        default = 10
        "#,
    )
    .unwrap()
}

#[test]
fn nothing_granted_is_nothing_but_defaults() {
    let grants = effective("a", Some(&declared()), &Grants::default()).unwrap();
    assert_eq!(grants, Grants::default().config("max_rows", "10"));
    assert_eq!(
        effective("a", None, &Grants::default()),
        Ok(Grants::default())
    );
}

#[test]
fn the_narrower_mode_wins() {
    let granted = Grants::default()
        .directory("/a", "/data", Mode::Rw)
        .directory("/b", "/out", Mode::Ro);
    let grants = effective("a", Some(&declared()), &granted).unwrap();
    assert_eq!(grants.directories[0].mode, Mode::Ro);
    assert_eq!(grants.directories[1].mode, Mode::Ro);
}

#[test]
fn what_is_not_declared_is_named() {
    let granted = Grants::default()
        .directory("/a", "/dat", Mode::Ro)
        .environment("HOME", "/root")
        .config("max_row", "1");
    let denials = effective("a", Some(&declared()), &granted).unwrap_err();
    let subjects: Vec<&str> = denials
        .iter()
        .map(|denial| denial.subject.as_str())
        .collect();
    assert_eq!(subjects, ["/dat", "HOME", "max_row"]);
    assert_eq!(denials[2].hint, "did you mean `max_rows`?");
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    let denials = effective(
        "a",
        Some(&declared()),
        &Grants::default().config("max_rows", "many"),
    )
    .unwrap_err();
    assert!(
        denials[0].reason.contains("integer"),
        "{}",
        denials[0].reason
    );
}

#[test]
fn what_is_missing_comes_with_the_flag_to_add() {
    let missing = missing(
        "a",
        Some(&declared()),
        &Grants::default().environment("TZ", "UTC"),
    );
    let hints: Vec<&str> = missing.iter().map(|denial| denial.hint.as_str()).collect();
    assert_eq!(hints.len(), 2);
    assert!(hints[0].contains("`--dir '<HOST>:/data:ro'`"), "{hints:?}");
    assert!(
        hints[1].contains("`directories = [\"<HOST>:/out:rw\"]`"),
        "{hints:?}"
    );
}

#[test]
fn a_key_that_is_required_must_have_a_value() {
    let declared: Declared =
        toml::from_str("[config.token]\ntype = \"string\"\nrequired = true").unwrap();
    let denials = effective("a", Some(&declared), &Grants::default()).unwrap_err();
    assert_eq!(denials.len(), 1);
    assert!(denials[0].reason.contains("required"), "{denials:?}");
    assert!(
        denials[0].hint.contains("`--config 'token=<VALUE>'`"),
        "{denials:?}"
    );
    let granted = Grants::default().config("token", "x");
    assert_eq!(effective("a", Some(&declared), &granted), Ok(granted));
}

#[test]
fn of_two_grants_for_one_place_the_later_holds() {
    let below = Grants::default()
        .directory("/a", "/data", Mode::Rw)
        .directory("/b", "/out", Mode::Rw)
        .environment("TZ", "UTC")
        .config("a", "1");
    let over = Grants::default()
        .directory("/c", "/data/", Mode::Ro)
        .environment("TZ", "CET");
    let both = below.clone().with(&over);
    assert_eq!(both.directories.len(), 2);
    assert_eq!(both.directories[0], over.directories[0]);
    assert_eq!(both.environment["TZ"], "CET");
    assert_eq!(both.config["a"], "1");
    assert_eq!(below.except(&both), Grants::default());
}

/// Also where it says what everybody has who says nothing.
#[test]
fn of_two_clocks_the_later_holds() {
    let still: Clock = "2026-01-02T03:04:05Z".parse().unwrap();
    let below = Grants::default().clock(still).random(Random::Seed(42));
    let over = Grants::default()
        .clock(Clock::System)
        .random(Random::System);
    let both = below.clone().with(&over);
    assert_eq!(both, over);
    assert_eq!(below.clone().except(&over), Grants::default());
    assert_eq!(below.clone().with(&Grants::default()), below);
    assert!(over.is_empty() && !below.is_empty());
    assert!(!over.clone().scratch().is_empty());
    let json = serde_json::to_value(&over).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"clock": "system", "random": "system"})
    );
    assert_eq!(serde_json::from_value::<Grants>(json).unwrap(), over);
    let nothing = serde_json::json!({"clock": null});
    assert!(serde_json::from_value::<Grants>(nothing).is_err());
}
