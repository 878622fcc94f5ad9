//! What the tests share: the program, homes with skills in them, and the official client.

#[allow(
    dead_code,
    reason = "shared with the integration tests, and each uses its part"
)]
#[path = "../integration/guest.rs"]
mod guest;

#[path = "installed.rs"]
mod installed;

pub use installed::{node_modules, run, scratch};

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use installed::{alone, must, python};

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_skillhost")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds a component by cargo, and gives the folder of such components.
fn build(folder: &str, target: &Path, arguments: &[&str]) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--target", "wasm32-wasip2"])
        .args(arguments)
        .current_dir(root().join(folder))
        .env("CARGO_TARGET_DIR", target)
        // As what the other tests build there is.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    must(
        &mut cargo,
        "the guests cannot be built (is there the target? `rustup target add wasm32-wasip2`)",
    );
    target.join("wasm32-wasip2/release")
}

/// The skill with what the conformance suite calls.
pub fn conformance_component() -> PathBuf {
    build("tests/guests", &scratch().join("guests"), &[]).join("conformance.wasm")
}

/// Folders with skills, made once.
pub struct Skills {
    /// Does what it is told, for minutes if it must.
    pub behaviours: PathBuf,
    /// Has a `SKILL.md`, files beside it, and a link that leads out.
    pub text_stats: PathBuf,
    /// Wants the network.
    pub fetch_page: PathBuf,
}

/// The skills that are installed and offered.
pub fn skills() -> &'static Skills {
    static SKILLS: OnceLock<Skills> = OnceLock::new();
    SKILLS.get_or_init(|| {
        let _alone = alone("mcp-skills");
        let folder = scratch().join("mcp-skills");
        let _ = fs::remove_dir_all(&folder);
        let made = |name: &str, component: &Path, texts: &[(&str, String)]| {
            let skill = folder.join(name);
            fs::create_dir_all(skill.join("references")).expect("a folder can be made");
            fs::copy(component, skill.join("skill.wasm")).expect("it was built");
            for (file, text) in texts {
                fs::write(skill.join(file), text).expect("a file can be written");
            }
            skill
        };
        let guests = build("tests/guests", &scratch().join("guests"), &[]);
        let limits = "[limits]\nwall_time_ms = \"10m\"\nfuel = 1000000000000\n";
        let behaviours = made(
            "behaviours",
            &guests.join("behaviours.wasm"),
            &[("skill.toml", limits.to_owned())],
        );
        let packages = guest::EXAMPLE_SKILLS.map(|skill| ["--package", skill]);
        let target = scratch().join("guests");
        let examples = build("example-skills", &target, packages.as_flattened());
        let text = |path: &str| {
            fs::read_to_string(root().join("example-skills").join(path)).expect("it is there")
        };
        let text_stats = made(
            "text-stats",
            &examples.join("text_stats.wasm"),
            &[
                ("SKILL.md", text("text-stats/SKILL.md")),
                ("references/more about.md", "more\n".to_owned()),
                ("secret.md", "secret\n".to_owned()),
            ],
        );
        symlink("../secret.md", text_stats.join("references/link.md")).expect("a link can be made");
        let fetch_page = made(
            "fetch-page",
            &examples.join("fetch_page.wasm"),
            &[
                ("SKILL.md", text("fetch-page/SKILL.md")),
                ("skill.toml", text("fetch-page/skill.toml")),
            ],
        );
        Skills {
            behaviours,
            text_stats,
            fetch_page,
        }
    })
}

/// A home of its own for one test.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// One with these skills installed.
    pub fn with(installed: &[&Path]) -> Self {
        let home = Home {
            folder: tempfile::tempdir().expect("a folder can be made"),
        };
        // What was compiled for one test need not be for the next.
        let shared = scratch().join("mcp-compiled");
        let made = fs::DirBuilder::new().mode(0o700).create(&shared);
        assert!(made.is_ok() || shared.is_dir(), "{made:?}");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o700)).expect("it is ours");
        symlink(&shared, home.path().join("compiled")).expect("a link can be made");
        for skill in installed {
            home.skillhost(&["install", "--replace", skill.to_str().expect("it is UTF-8")]);
        }
        home
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a policy there.
    pub fn policy(&self, text: &str) {
        let path = self.path().join("policy.toml");
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    }

    /// Runs the command there.
    pub fn skillhost(&self, arguments: &[&str]) {
        let mut command = Command::new(program());
        command.args(arguments).arg("--home").arg(self.path());
        must(&mut command, &arguments.join(" "));
    }

    /// Serves it over HTTP.
    pub fn serve(&self) -> Serving {
        let mut child = Command::new(program())
            .args(["serve", "--listen", "127.0.0.1:0", "--home"])
            .arg(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("it says where it listens");
        let base = line.trim().strip_prefix("listening on ").expect("it does");
        let url = format!("{base}/mcp");
        Serving { child, url }
    }

    /// Has the official client act out a scenario.
    pub fn scenario(&self, name: &str) {
        scenario(name, program().as_ref(), self.path());
    }
}

/// `skillhost serve`, until it is dropped.
pub struct Serving {
    child: Child,
    /// Where its door for agents is.
    pub url: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the official client act out a scenario against this program or address.
pub fn scenario(name: &str, against: &OsStr, home: &Path) {
    let mut command = Command::new(python());
    command
        .arg(root().join("tests/mcp/client.py"))
        .arg(name)
        .arg(against)
        .arg(home)
        .env("TEXT_STATS", &skills().text_stats)
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONWARNINGS", "ignore");
    must(&mut command, &format!("the scenario `{name}`"));
}
