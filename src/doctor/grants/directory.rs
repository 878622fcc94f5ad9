//! Directories.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode as Bits, mknodat};
use serde_json::json;

use super::with_manifest;
use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Trouble, at, ended};
use crate::doctor::guests::{self, FILE_ERRORS, NUMBER, answering, number};
use crate::doctor::handmade::Handmade;
use crate::execution::{Cause, ExecutionRequest, ExecutionResult};
use crate::grant::{Capability, Grants, Mode};
use crate::host::Skill;

#[cfg(test)]
mod tests;

/// What the guest does with a path. The number tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Opens and reads it.
    Read = 1,
    /// Opens it, makes it where it is not there, and writes.
    Write = 2,
    Remove = 3,
    /// Opens it below a handle that the guest was not given.
    ReadByForgedHandle = 4,
    /// Makes a symlink to it, and reads that.
    ReadByLink = 5,
    /// Moves the file `a.txt` there.
    MoveTo = 6,
    /// Moves what is there to the top.
    Take = 7,
    /// Gives the file `a.txt` that name beside its own.
    LinkTo = 8,
    /// Gives what is there a second name at the top.
    LinkFrom = 9,
}

/// Takes the path from its input, `{"p":"…"}`, and answers with 0, with 1 and up for an error, or
/// with [`NO_DIRECTORY`].
pub(super) fn guest() -> Handmade {
    let is = |act: Act| format!("(i32.eq {NUMBER} (i32.const {}))", act as u32);
    let forged = is(Act::ReadByForgedHandle);
    let (remove, link) = (is(Act::Remove), is(Act::ReadByLink));
    let (move_to, write) = (is(Act::MoveTo), is(Act::Write));
    let (take, link_to, link_from) = (is(Act::Take), is(Act::LinkTo), is(Act::LinkFrom));
    let path = "(local.get $a) (local.get $b)";
    let made = "(i32.const 128) (i32.const 4)";
    let file = "(i32.const 136) (i32.const 5)";
    let directory = "(local.get $directory)";
    let done = "(if (i32.load8_u (i32.const 64))
            (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const 65))))))
        (br $done (i32.const 0))";
    let code = format!(
        r#"(local $directory i32)
        (local.set $a (i32.add (local.get 2) (i32.const 6)))
        (local.set $b (i32.sub (local.get 3) (i32.const 8)))
        (block $done (result i32)
            (if {forged}
                (then (local.set $directory (i32.const 1)))
                (else
                    (call $directories (i32.const 64))
                    (if (i32.eqz (i32.load (i32.const 68)))
                        (then (br $done (i32.const {NO_DIRECTORY}))))
                    (local.set $directory (i32.load (i32.load (i32.const 64))))))
            (if {remove} (then (call $unlink {directory} {path} (i32.const 64)) {done}))
            (if {move_to} (then (call $rename {directory} {file} {directory} {path} (i32.const 64)) {done}))
            (if {take} (then (call $rename {directory} {path} {directory} {made} (i32.const 64)) {done}))
            (if {link_to} (then
                (call $link {directory} (i32.const 0) {file} {directory} {path} (i32.const 64)) {done}))
            (if {link_from} (then
                (call $link {directory} (i32.const 0) {path} {directory} {made} (i32.const 64)) {done}))
            (if {link} (then
                (call $symlink (local.get $directory) (local.get $a) (local.get $b)
                    (i32.const 128) (i32.const 4) (i32.const 64))
                (if (i32.load8_u (i32.const 64))
                    (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const 65))))))
                (local.set $a (i32.const 128))
                (local.set $b (i32.const 4))))
            (call $open (local.get $directory) (i32.const 1) (local.get $a) (local.get $b)
                {write} (i32.add (i32.const 1) {write}) (i32.const 64))
            (if (i32.load8_u (i32.const 64))
                (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const 68))))))
            (if {write}
                (then
                    (call $put (i32.load (i32.const 68)) (i32.const 136) (i32.const 5)
                        (i64.const 0) (i32.const 96))
                    (if (i32.load8_u (i32.const 96))
                        (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const 104)))))))
                (else
                    (call $read (i32.load (i32.const 68)) (i64.const 64) (i64.const 0)
                        (i32.const 96))
                    (if (i32.load8_u (i32.const 96))
                        (then (br $done (i32.add (i32.const 1) (i32.load8_u (i32.const 100))))))))
            (i32.const 0))"#
    );
    let files = guests::files();
    answering(
        Handmade {
            fields: r#"(data (i32.const 128) "made") (data (i32.const 136) "a.txt")"#.into(),
            ..files
        },
        &code,
    )
}

/// The guest was handed no directory at all.
const NO_DIRECTORY: u64 = 99;

/// A directory to grant, `open`, beside what must stay out of reach.
pub(super) struct Folder {
    folder: PathBuf,
}

const SECRET: &str = "secret";

impl Folder {
    pub fn new(ground: &Ground, name: &str) -> Result<Self, Trouble> {
        let folder = Folder {
            folder: ground.folder(name)?,
        };
        let open = folder.open();
        fs::create_dir(&open).map_err(at(&open))?;
        for (path, text) in [(open.join("a.txt"), "a"), (folder.secret(), SECRET)] {
            fs::write(&path, text).map_err(at(&path))?;
        }
        let links: [(&str, &Path); 4] = [
            ("relative", Path::new("../secret.txt")),
            ("absolute", &folder.secret()),
            ("up", Path::new("..")),
            ("root", Path::new("/")),
        ];
        for (name, target) in links {
            let path = open.join(name);
            symlink(target, &path).map_err(at(&path))?;
        }
        Ok(folder)
    }

    pub fn open(&self) -> PathBuf {
        self.folder.join("open")
    }

    fn secret(&self) -> PathBuf {
        self.folder.join("secret.txt")
    }

    pub fn grants(&self, mode: Mode) -> Grants {
        Grants::default().directory(self.open(), "/data", mode)
    }

    /// Whether nothing outside the directory was changed.
    fn is_whole(&self) -> bool {
        let names = fs::read_dir(&self.folder).map_or(0, |entries| entries.count());
        let has_one_name = fs::metadata(self.secret()).is_ok_and(|secret| secret.nlink() == 1);
        let is_the_same = fs::read_to_string(self.secret()).is_ok_and(|text| text == SECRET);
        names == 2 && has_one_name && is_the_same
    }
}

pub(super) async fn act(
    ground: &Ground,
    skill: &Skill,
    grants: &Grants,
    act: Act,
    path: &str,
) -> Result<ExecutionResult, Trouble> {
    let request = ExecutionRequest {
        attempt: act as u32,
        ..ExecutionRequest::new(skill.digest(), json!({ "p": path }))
    };
    Ok(ground.request(request.grants(grants.clone())).await?.result)
}

/// What was refused, in the words of `wasi:filesystem`; nothing where it was not.
pub(super) fn refusal(result: &ExecutionResult) -> Option<&'static str> {
    match number(result)? {
        0 => None,
        NO_DIRECTORY => Some("no directory"),
        error => FILE_ERRORS.get(usize::try_from(error - 1).ok()?).copied(),
    }
}

/// Checks that the guest and the directory work at all.
pub(super) async fn control(
    ground: &Ground,
    skill: &Skill,
    grants: &Grants,
    acts: &[Act],
) -> Result<Option<Finding>, Trouble> {
    for tried in acts {
        let result = act(ground, skill, grants, *tried, "a.txt").await?;
        if number(&result) != Some(0) {
            let why = match refusal(&result) {
                Some(error) => error.to_owned(),
                None => ended(&result),
            };
            let reason = format!("{tried:?} of what is granted does not work: {why}");
            return Ok(Some(Finding::unknown(reason)));
        }
    }
    Ok(None)
}

/// Tries all of this, and expects each to be refused. What the first was refused with is told.
async fn all_refused(
    ground: &Ground,
    skill: &Skill,
    grants: &Grants,
    attempts: Vec<(Act, &str)>,
) -> Result<Finding, Trouble> {
    let mut stopped_by = None;
    for (tried, path) in attempts {
        let result = act(ground, skill, grants, tried, path).await?;
        match refusal(&result) {
            Some(error) => stopped_by = stopped_by.or(Some(error)),
            None => {
                let how = ended(&result);
                return Ok(Finding::broken(format!(
                    "{tried:?} of `{path}` was not refused: {how}"
                )));
            }
        }
    }
    Ok(match stopped_by {
        Some(error) => Finding::holds(error),
        None => Finding::unknown("nothing was tried"),
    })
}

pub async fn nothing_granted(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    let folder = Folder::new(ground, "nothing")?;
    let granted = folder.grants(Mode::Rw);
    if let Some(finding) = control(ground, &skill, &granted, &[Act::Read]).await? {
        return Ok(finding);
    }
    let file = folder.open().join("a.txt").display().to_string();
    let paths = [".", "/", "a.txt", "/etc/passwd", &file];
    let attempts = all(&[Act::Read], &paths);
    all_refused(ground, &skill, &Grants::default(), attempts).await
}

/// A handle is a number, so any number may be tried.
pub async fn forged_handle(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    let folder = Folder::new(ground, "forged")?;
    let grants = folder.grants(Mode::Rw);
    if let Some(finding) = control(ground, &skill, &grants, &[Act::Read]).await? {
        return Ok(finding);
    }
    let result = act(ground, &skill, &grants, Act::ReadByForgedHandle, "a.txt").await?;
    Ok(judge_forged(&result))
}

fn judge_forged(result: &ExecutionResult) -> Finding {
    match result.failure.as_ref().map(|failure| &failure.cause) {
        Some(Cause::Trap { trap, .. }) => Finding::holds(trap.replace('_', " ")),
        _ => Finding::broken(format!("the handle was taken: {}", ended(result))),
    }
}

/// Each of these acts on each of these paths.
fn all<'p>(acts: &[Act], paths: &[&'p str]) -> Vec<(Act, &'p str)> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(acts.iter().map(|act| (*act, *path)));
    }
    all
}

pub async fn read_only(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    let folder = Folder::new(ground, "read-only")?;
    writes_are_refused(ground, &skill, &folder, Mode::Ro).await
}

/// The narrower of the declared and the granted mode holds.
pub async fn declared_read_only(ground: &Ground) -> Result<Finding, Trouble> {
    let manifest = "[[grants.directories]]\npath = \"/data\"\nmode = \"ro\"\n";
    let skill = with_manifest(ground, &guest(), manifest).await?;
    let folder = Folder::new(ground, "declared")?;
    writes_are_refused(ground, &skill, &folder, Mode::Rw).await
}

async fn writes_are_refused(
    ground: &Ground,
    skill: &Skill,
    folder: &Folder,
    mode: Mode,
) -> Result<Finding, Trouble> {
    let grants = folder.grants(mode);
    if let Some(finding) = control(ground, skill, &grants, &[Act::Read]).await? {
        return Ok(finding);
    }
    let writes = vec![
        (Act::Write, "a.txt"),
        (Act::Write, "new.txt"),
        (Act::Remove, "a.txt"),
        (Act::MoveTo, "b.txt"),
    ];
    let finding = all_refused(ground, skill, &grants, writes).await?;
    let file = folder.open().join("a.txt");
    Ok(match fs::read_to_string(&file) {
        Ok(text) if text == "a" => finding,
        _ => Finding::broken("the file was changed"),
    })
}

pub async fn paths(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "paths")?;
    let secret = folder.secret().display().to_string();
    let paths = [
        "../secret.txt",
        "../open/../secret.txt",
        "a.txt/../../secret.txt",
        ".//../secret.txt",
        &secret,
    ];
    escapes(
        ground,
        &folder,
        &paths,
        &[Act::Read, Act::Write, Act::Remove],
    )
    .await
}

pub async fn symlinks(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "links")?;
    let secret = folder.secret().display().to_string();
    let by_root = format!("root{secret}");
    let paths = [
        "relative",
        "absolute",
        "up/secret.txt",
        "up/open/../secret.txt",
        &by_root,
    ];
    let finding = escapes(ground, &folder, &paths, &[Act::Read, Act::Write]).await?;
    if finding.verdict.is_failure() {
        return Ok(finding);
    }
    // Those that the guest makes itself.
    for path in ["../secret.txt", "up/secret.txt", &secret] {
        let made = escapes(ground, &folder, &[path], &[Act::ReadByLink]).await?;
        if made.verdict.is_failure() {
            return Ok(made);
        }
        // It may have been made: that alone is no harm.
        let _ = fs::remove_file(folder.open().join("made"));
    }
    Ok(finding)
}

pub async fn renames(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "renames")?;
    let secret = folder.secret().display().to_string();
    let paths = ["../stolen.txt", "../secret.txt", "up/stolen.txt", &secret];
    escapes(ground, &folder, &paths, &[Act::MoveTo]).await
}

/// By a second name, what is outside could be read and written inside, and the other way round.
pub async fn hard_links(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "hard-links")?;
    let skill = ground.load(&guest()).await?;
    let grants = folder.grants(Mode::Rw);
    if let Some(finding) = control(ground, &skill, &grants, &[Act::LinkFrom]).await? {
        return Ok(finding);
    }
    let made = folder.open().join("made");
    fs::remove_file(&made).map_err(at(&made))?;
    let secret = folder.secret().display().to_string();
    let paths = ["../secret.txt", "up/secret.txt", &secret];
    let from = escapes(ground, &folder, &paths, &[Act::LinkFrom]).await?;
    if from.verdict.is_failure() {
        return Ok(from);
    }
    let paths = ["../second.txt", "up/second.txt"];
    escapes(ground, &folder, &paths, &[Act::LinkTo]).await
}

/// A link to a file beside it that is found below leads out from the top, for whoever follows it there.
pub async fn carried_links(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "carried-links")?;
    let below = folder.open().join("below");
    fs::create_dir(&below).map_err(at(&below))?;
    let link = below.join("link");
    symlink("../a.txt", &link).map_err(at(&link))?;
    let skill = ground.load(&guest()).await?;
    let grants = folder.grants(Mode::Rw);
    let followed = act(ground, &skill, &grants, Act::Read, "below/link").await?;
    if number(&followed) != Some(0) {
        let how = ended(&followed);
        return Ok(Finding::unknown(format!(
            "the link cannot be followed where it is: {how}"
        )));
    }
    let acts = [Act::Take, Act::LinkFrom];
    let finding = escapes(ground, &folder, &["below/link"], &acts).await?;
    Ok(if fs::symlink_metadata(&link).is_ok() {
        finding
    } else {
        Finding::broken("the link was moved")
    })
}

/// None of this leads out of a directory in which the guest may do anything. Should one lead out all
/// the same, it must meet no file but the probe's own.
async fn escapes(
    ground: &Ground,
    folder: &Folder,
    paths: &[&str],
    acts: &[Act],
) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    let grants = folder.grants(Mode::Rw);
    let works = [Act::Read, Act::Write];
    if let Some(finding) = control(ground, &skill, &grants, &works).await? {
        return Ok(finding);
    }
    let finding = all_refused(ground, &skill, &grants, all(acts, paths)).await?;
    Ok(if folder.is_whole() {
        finding
    } else {
        Finding::broken("a file outside the directory was changed")
    })
}

/// Opening a FIFO would wait for whoever writes to it.
pub async fn special_files(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "special")?;
    for (name, kind) in [("fifo", FileType::Fifo), ("socket", FileType::Socket)] {
        let path = folder.open().join(name);
        let made = mknodat(CWD, &path, kind, Bits::RUSR | Bits::WUSR, 0);
        made.map_err(|error| at(&path)(error.into()))?;
    }
    let acts = [Act::Read, Act::Write];
    escapes(ground, &folder, &["fifo", "socket"], &acts).await
}

/// A device does what it does when it is opened.
pub async fn devices(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "devices")?;
    let skill = ground.load(&guest()).await?;
    let granted = folder.grants(Mode::Rw);
    if let Some(finding) = control(ground, &skill, &granted, &[Act::Read]).await? {
        return Ok(finding);
    }
    let mut finding = Finding::unknown("there is no device here");
    for path in ["zero", "null"] {
        if !Path::new("/dev").join(path).exists() {
            continue;
        }
        let grants = Grants::default().directory("/dev", "/data", Mode::Ro);
        finding = all_refused(ground, &skill, &grants, vec![(Act::Read, path)]).await?;
        if finding.verdict.is_failure() {
            break;
        }
    }
    Ok(finding)
}

/// What the kernel makes up is this process's own state, and that of others. It cannot be granted.
pub async fn of_the_kernel(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "kernel")?;
    let skill = ground.load(&guest()).await?;
    let granted = folder.grants(Mode::Rw);
    if let Some(finding) = control(ground, &skill, &granted, &[Act::Read]).await? {
        return Ok(finding);
    }
    let mut finding = Finding::unknown("there is neither /proc nor /sys here");
    for (folder, path) in [("/proc/self", "environ"), ("/sys/kernel", "osrelease")] {
        if !Path::new(folder).exists() {
            continue;
        }
        let grants = Grants::default().directory(folder, "/data", Mode::Ro);
        let result = act(ground, &skill, &grants, Act::Read, path).await?;
        finding = super::judge_undeclared(Capability::Directory, &result);
        if finding.verdict.is_failure() {
            break;
        }
    }
    Ok(finding)
}

/// What the host keeps is granted to nobody, by the name of no folder that it lies in.
pub async fn own_folders(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    let folder = Folder::new(ground, "own")?;
    let beside = folder.grants(Mode::Rw);
    if let Some(finding) = control(ground, &skill, &beside, &[Act::Read]).await? {
        return Ok(finding);
    }
    for own in ground.own_folders() {
        for mode in [Mode::Ro, Mode::Rw] {
            let grants = Grants::default().directory(&own, "/data", mode);
            let result = act(ground, &skill, &grants, Act::Read, "a.txt").await?;
            let finding = super::judge_undeclared(Capability::Directory, &result);
            if finding.verdict.is_failure() {
                return Ok(finding);
            }
        }
    }
    Ok(Finding::holds("rejected"))
}

pub async fn undeclared(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "undeclared")?;
    super::undeclared(ground, Capability::Directory, folder.grants(Mode::Ro)).await
}

/// Nothing of it is on the disk any more.
pub async fn scratch_is_gone(ground: &Ground) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    let grants = Grants::default().scratch();
    if let Some(finding) = control(ground, &skill, &grants, &[Act::Write]).await? {
        return Ok(finding);
    }
    // Its removal is not waited for by its answer.
    ground.host.cleared().await;
    // In it is a folder of the host's own, and in that a file that is locked beside the directories.
    let mut own = 0;
    for folder in fs::read_dir(ground.scratch()).map_err(at(&ground.scratch()))? {
        let folder = folder.map_err(at(&ground.scratch()))?.path();
        own += 1;
        for left in fs::read_dir(&folder).map_err(at(&folder))? {
            let left = left.map_err(at(&folder))?;
            if left.file_type().is_ok_and(|kind| !kind.is_file()) {
                return Ok(Finding::broken("what a guest wrote is still there"));
            }
        }
    }
    Ok(match own {
        0 => Finding::unknown("none was made in the host's folder for them"),
        _ => Finding::holds("it is gone"),
    })
}

/// A scratch directory works, and is empty again for the next run.
pub async fn scratch(ground: &Ground) -> Result<Finding, Trouble> {
    found_again(ground, &Grants::default().scratch()).await
}

async fn found_again(ground: &Ground, grants: &Grants) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    if let Some(finding) = control(ground, &skill, grants, &[Act::Write]).await? {
        return Ok(finding);
    }
    all_refused(ground, &skill, grants, vec![(Act::Read, "a.txt")]).await
}
