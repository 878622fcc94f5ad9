//! What is the host's own is nobody's, by whatever name it is reached.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::harness::Place;
use crate::mounts::{may_mount, run_where};

const LIST: [&str; 6] = [
    "run",
    "behaviours.wasm",
    "list",
    "--arg",
    "path=/in",
    "--dir",
];

/// Runs the skill with a folder.
fn list(place: &Place, granted: &str) -> String {
    let [run, skill, tool, arg, path, dir] = LIST;
    place.run([run, skill, tool, arg, path, dir, granted])
}

/// A home whose parts were moved elsewhere and linked, as the host then uses them.
#[test]
fn what_the_homes_links_lead_to_is_never_granted() {
    let place = Place::with_behaviours();
    for part in ["skills", "sdk", "packages", "scratch", "out/skill"] {
        fs::create_dir_all(place.path("out").join(part)).expect("a folder can be made");
    }
    place.write("out/keys/secrets", "[secrets]\n");
    for part in ["skills", "sdk", "packages", "scratch"] {
        let link = place.path("home").join(part);
        symlink(place.path("out").join(part), link).expect("a link can be made");
    }
    symlink("../out/keys/secrets", place.path("home/secrets")).expect("a link can be made");
    symlink(
        place.path("out/out/skill"),
        place.path("out/skills/probe@0.1.0"),
    )
    .expect("a link can be made");
    fs::create_dir(place.path("out/beside")).expect("a folder can be made");
    for part in ["skills", "sdk", "packages", "scratch", "keys", "out/skill"] {
        for mode in ["ro", "rw"] {
            let said = list(&place, &format!("out/{part}:/in:{mode}"));
            assert!(said.starts_with("exit: 3\n"), "{part}: {said}");
            assert!(said.contains("which is the host's own\n"), "{part}: {said}");
        }
    }
    let said = list(&place, "out/beside:/in:rw");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    // Nor for good.
    place.add_example("csv-query");
    let said = place.run(["policy", "grant", "csv-query", "--dir", "out/keys:/data"]);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    assert!(
        said.contains("contains `[PLACE]/home/secrets`, which is the host's own"),
        "{said}"
    );
}

#[test]
fn what_is_mounted_a_second_time_is_the_hosts_own() {
    let place = Place::with_behaviours();
    place.write("home/audit/x", "");
    place.write("home/skills/probe@0.1.0/x", "");
    for folder in ["par/in", "bm", "beside/in", "other"] {
        fs::create_dir_all(place.path(folder)).expect("a folder can be made");
    }
    if !may_mount(&place, "beside/in") {
        return;
    }
    let mounted = |mounts: &str, granted: &str| {
        let [run, skill, tool, arg, path, dir] = LIST;
        run_where(&place, mounts, [run, skill, tool, arg, path, dir, granted])
    };
    // What is mounted and is none of it, though it is of the same file system; and the home, where it is again mounted where
    // it is, as a service manager does.
    for mounts in ["mount --bind other beside/in", "mount --bind home home"] {
        let said = mounted(mounts, "beside:/in");
        assert!(said.starts_with("exit: 0\n"), "{mounts}: {said}");
    }
    for (mounts, granted) in [
        // The home, whole, below what is granted.
        ("mount --bind home par/in", "par:/in"),
        // Parts of it, under another name.
        ("mount --bind home/audit bm", "bm:/in"),
        ("mount --bind home/skills bm", "bm:/in:rw"),
        ("mount --bind home/skills/probe@0.1.0 bm", "bm:/in:rw"),
        ("mount --bind . par/in", "par:/in"),
    ] {
        let said = mounted(mounts, granted);
        assert!(said.starts_with("exit: 3\n"), "{mounts}: {said}");
        assert!(
            said.contains("which is the host's own\n"),
            "{mounts}: {said}"
        );
    }
}

/// A folder that no run opens is neither granted nor taken for sound.
#[test]
fn a_folder_behind_a_link_where_skills_write_is_not_granted() {
    let place = Place::new();
    place.add_example("csv-query");
    place.add_example("text-stats");
    let manifest = place
        .read("csv-query/skill.toml")
        .replace("mode = \"ro\"", "mode = \"rw\"");
    place.write("csv-query/skill.toml", manifest.clone());
    place.write("text-stats/skill.toml", manifest);
    fs::create_dir_all(place.path("open")).expect("a folder can be made");
    fs::create_dir_all(place.path("real")).expect("a folder can be made");
    symlink("../real", place.path("open/link")).expect("a link can be made");
    let grant = |skill: &str, folder: &str| place.run(["policy", "grant", skill, "--dir", folder]);
    let said = grant("csv-query", "open:/data:rw");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = grant("text-stats", "open/link:/in");
    assert!(said.starts_with("exit: 3\n"), "{said}");
    assert!(
        said.contains("is led to by the link `link`, which stands where skills may write"),
        "{said}"
    );
    // The other way round, it is said of whose run would end so.
    fs::remove_file(place.path("home/policy.toml")).expect("it is there");
    let said = grant("text-stats", "open/link:/in");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = grant("csv-query", "open:/data:rw");
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(
        said.contains("warning: with this, what is granted to text-stats cannot be opened"),
        "{said}"
    );
    let said = place.run(["policy", "check"]);
    assert!(said.starts_with("exit: 3\n"), "{said}");
    assert!(
        said.contains("found: text-stats: directory `/in`: "),
        "{said}"
    );
    assert!(said.contains("is led to by the link `link`"), "{said}");
}

/// As all other folders of the home.
#[test]
fn the_scratch_folder_is_this_users_alone() {
    let place = Place::with_behaviours();
    let run = || {
        place.run([
            "run",
            "behaviours.wasm",
            "list",
            "--arg",
            "path=/scratch",
            "--scratch",
        ])
    };
    assert!(run().starts_with("exit: 0\n"), "{}", run());
    let scratch = place.path("home/scratch");
    let mode = || {
        fs::metadata(&scratch)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(), 0o700);
    fs::set_permissions(&scratch, Permissions::from_mode(0o777)).expect("a mode can be set");
    let said = place.run(["doctor"]);
    assert!(said.starts_with("exit: 7\n"), "{said}");
    assert!(
        said.contains("`scratch` (who may write where it is) does not hold: "),
        "{said}"
    );
    assert!(said.contains("run `chmod 700` on it"), "{said}");
    // Whoever runs something next, closes it to them.
    let said = run();
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert_eq!(mode(), 0o755);
    // But for one that is shared on purpose, where nobody can take away what is another's.
    fs::set_permissions(&scratch, Permissions::from_mode(0o1777)).expect("a mode can be set");
    let said = run();
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert_eq!(mode(), 0o1777);
}
