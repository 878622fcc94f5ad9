//! The compiled cache. Loading compiled code is running it, so what is not this user's own host's
//! must not be loaded: this is tried in a cache of the probe's own, and the folder of the host that
//! is examined is looked at.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble, at, cannot_run_code, ended};
use super::handmade::{Handmade, TOOL};
use crate::execution::{BoxFuture, ExecutionRequest, HostError};
use crate::host::Host;
use crate::private::can_be_made;
use crate::sandbox::CompileEvent;

pub(super) const PROBES: &[Probe] = &[
    cache("truncated", "loading half of an entry", |ground| {
        Box::pin(damaged(ground, "truncated", truncate))
    }),
    cache("foreign", "loading code of other makers", |ground| {
        Box::pin(damaged(ground, "foreign", replace))
    }),
    cache("tampered", "code of another component", |ground| {
        Box::pin(damaged(ground, "tampered", exchange))
    }),
    cache("writable", "an entry others may write", |ground| {
        Box::pin(damaged(ground, "writable", open_to_all))
    }),
    cache("link", "an entry that is a symlink", |ground| {
        Box::pin(damaged(ground, "link", link))
    }),
    cache("mode", "a folder others may enter", |ground| {
        Box::pin(open_folder(ground))
    }),
    cache("folder", "whose, and who may enter", |ground| {
        Box::pin(async { of_folder(ground, folder, to_be_made) })
    }),
    cache("path", "who may replace the folder", |ground| {
        Box::pin(async { of_folder(ground, path, nothing_there) })
    }),
    cache("entries", "who may write them", |ground| {
        Box::pin(async { of_folder(ground, entries, nothing_there) })
    }),
    cache("mount", "whether code may run there", |ground| {
        Box::pin(async { of_folder(ground, mount, nothing_there) })
    }),
];

const fn cache(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Cache,
        name,
        tried,
        probe,
    }
}

/// An entry in the cache of a probe, and another one.
struct Entries {
    code: PathBuf,
    record: PathBuf,
    other_code: PathBuf,
    other_record: PathBuf,
}

fn truncate(entries: &Entries) -> io::Result<()> {
    let code = fs::read(&entries.code)?;
    fs::write(&entries.code, &code[..code.len() / 2])
}

/// As long as the code that belongs there, so that its length does not tell.
fn replace(entries: &Entries) -> io::Result<()> {
    let mut code = fs::read(&entries.code)?;
    let foreign = b"\x7fELF, but of no engine of ours. ".iter().cycle();
    code.iter_mut()
        .zip(foreign)
        .for_each(|(byte, foreign)| *byte = *foreign);
    fs::write(&entries.code, code)
}

/// Both its parts, so that they fit each other.
fn exchange(entries: &Entries) -> io::Result<()> {
    fs::rename(&entries.other_code, &entries.code)?;
    fs::rename(&entries.other_record, &entries.record)
}

fn open_to_all(entries: &Entries) -> io::Result<()> {
    fs::set_permissions(&entries.code, Permissions::from_mode(0o666))
}

fn link(entries: &Entries) -> io::Result<()> {
    let elsewhere = entries.code.with_extension("elsewhere");
    fs::rename(&entries.code, &elsewhere)?;
    symlink(&elsewhere, &entries.code)
}

/// A host with this cache, and how often it has compiled.
fn counting(cache: &Path) -> Result<(Host, Arc<AtomicUsize>), HostError> {
    let compiled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&compiled);
    let host = Host::builder()
        .concurrency(1)
        .cache(cache)
        .on_compile(move |event| {
            if matches!(event, CompileEvent::Started { .. }) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()?;
    Ok((host, compiled))
}

/// Damages an entry, and expects that the next host compiles it anew.
async fn damaged(
    ground: &Ground,
    name: &str,
    damage: fn(&Entries) -> io::Result<()>,
) -> Result<Finding, Trouble> {
    let folder = ground.folder(&format!("cache-{name}"))?.join("compiled");
    let guest = Handmade::default().component().map_err(Trouble::Text)?;
    let other = Handmade {
        fields: "(global i32 (i32.const 7))".into(),
        ..Handmade::default()
    };
    let (first, _) = counting(&folder)?;
    first.load_bytes(guest.clone()).await?;
    let [code, record] = pair(&folder, None)?;
    let other = other.component().map_err(Trouble::Text)?;
    first.load_bytes(other).await?;
    let [other_code, other_record] = pair(&folder, Some(&code))?;

    let (second, compiled) = counting(&folder)?;
    second.load_bytes(guest.clone()).await?;
    if compiled.load(Ordering::SeqCst) != 0 {
        return Ok(Finding::unknown("an entry as it should be is not loaded"));
    }
    let entries = Entries {
        code,
        record,
        other_code,
        other_record,
    };
    damage(&entries).map_err(at(&folder))?;
    let (third, compiled) = counting(&folder)?;
    let skill = third.load_bytes(guest).await?;
    if compiled.load(Ordering::SeqCst) == 0 {
        return Ok(Finding::broken("it was loaded"));
    }
    let request = ExecutionRequest::new(skill.digest(), serde_json::json!({})).tool(TOOL);
    let result = third.execute(request).await?;
    Ok(match result.failure {
        None => Finding::holds("compiled anew"),
        Some(_) => Finding::broken(format!("compiled anew, {}", ended(&result))),
    })
}

/// Code and record of the entry that is not `known`.
fn pair(folder: &Path, known: Option<&Path>) -> Result<[PathBuf; 2], Trouble> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if is_code(&path) && Some(path.as_path()) != known {
            let record = path.with_extension("json");
            return Ok([path, record]);
        }
    }
    Err(at(folder)(io::Error::other("no entry was made")))
}

fn is_code(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "cwasm")
}

async fn open_folder(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = ground.folder("cache-open")?;
    let mode =
        |mode| fs::set_permissions(&folder, Permissions::from_mode(mode)).map_err(at(&folder));
    mode(0o700)?;
    counting(&folder)?;
    mode(0o750)?;
    Ok(match counting(&folder) {
        Err(HostError::Io { .. }) => Finding::holds("refused"),
        Err(error) => Finding::unknown(error.to_string()),
        Ok(_) => Finding::broken("it was used"),
    })
}

/// Looks at the folder of the host that is examined, or says what there is to say of one that is not there.
fn of_folder(
    ground: &Ground,
    look: fn(&Path) -> Result<Finding, Trouble>,
    absent: fn(&Path) -> Finding,
) -> Result<Finding, Trouble> {
    let Some(folder) = &ground.cache else {
        return Ok(Finding::not_applicable("this host keeps no compiled code"));
    };
    match fs::canonicalize(folder) {
        Ok(folder) => look(&folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(absent(folder)),
        Err(error) => Err(at(folder)(error)),
    }
}

fn nothing_there(_: &Path) -> Finding {
    Finding::not_applicable("nothing is there yet; it will be made for this user alone")
}

/// Without it, no host can be set up.
fn to_be_made(folder: &Path) -> Finding {
    match can_be_made(folder) {
        Ok(()) => nothing_there(folder),
        Err(error) => {
            let place = folder.display();
            Finding::broken(format!("`{place}` cannot be made: {error}"))
                .hint("name another folder for it")
        }
    }
}

fn own(metadata: &fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}

fn folder(folder: &Path) -> Result<Finding, Trouble> {
    let metadata = fs::metadata(folder).map_err(at(folder))?;
    let place = folder.display();
    let mode = metadata.mode() & 0o777;
    Ok(if !own(&metadata) {
        Finding::broken(format!("`{place}` belongs to another user"))
            .hint("name another folder for it")
    } else if mode & 0o077 != 0 {
        Finding::broken(format!(
            "`{place}` has mode {mode:04o}: others may enter it"
        ))
        .hint(format!("chmod 700 '{place}'"))
    } else {
        Finding::holds(format!("mode {mode:04o}"))
    })
}

/// Each folder on the way must be root's or this user's, and closed to the writing of others unless
/// only owners may rename in it.
fn path(folder: &Path) -> Result<Finding, Trouble> {
    const STICKY: u32 = 0o1000;
    for above in folder.ancestors().skip(1) {
        let metadata = fs::metadata(above).map_err(at(above))?;
        let place = above.display();
        if !own(&metadata) && metadata.uid() != 0 {
            return Ok(Finding::broken(format!(
                "`{place}`, which it is in, belongs to another user"
            ))
            .hint("name another folder for it"));
        }
        let mode = metadata.mode();
        if mode & 0o022 != 0 && mode & STICKY == 0 {
            return Ok(Finding::broken(format!(
                "others may write in `{place}`, which it is in (mode {:04o})",
                mode & 0o7777
            ))
            .hint(format!("chmod go-w '{place}', or name another folder")));
        }
    }
    Ok(Finding::holds("nobody else"))
}

fn entries(folder: &Path) -> Result<Finding, Trouble> {
    let (mut all, mut foreign) = (0, 0);
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if !is_code(&entry.path()) {
            continue;
        }
        // Another process may have made room of it meanwhile.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        all += 1;
        if !metadata.is_file() || !own(&metadata) || metadata.mode() & 0o022 != 0 {
            foreign += 1;
        }
    }
    Ok(match foreign {
        0 => Finding::holds(format!("all {all} are its own")),
        _ => Finding::warning(
            format!("{foreign} of {all} are not"),
            "they are not loaded, but somebody put them there",
        )
        .hint(format!("remove the folder `{}`", folder.display())),
    })
}

fn mount(folder: &Path) -> Result<Finding, Trouble> {
    Ok(if cannot_run_code(folder)? {
        Finding::broken("it is mounted `noexec`: no skill can be run from there")
            .hint("name a folder elsewhere")
    } else {
        Finding::holds("yes")
    })
}

#[cfg(test)]
mod tests {
    use super::super::handmade::Handmade;
    use crate::host::Host;
    use crate::skill::Digest;

    /// A record can be whole and still hold what this host does not take, if another one wrote it.
    #[tokio::test]
    async fn a_kept_description_that_is_not_acceptable_is_asked_for_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cached = || {
            let builder = Host::builder().concurrency(1);
            builder
                .cache(folder.path().join("compiled"))
                .build()
                .unwrap()
        };
        let component = Handmade::default().build();
        let digest = Digest::of_component(&component);
        let host = cached();
        let skill = host.load_bytes(component.clone()).await.unwrap();
        let mut other = skill.description().clone();
        other.tools[0].input_schema = serde_json::json!({"type": 7});
        host.keep(&skill, &digest, &other);
        assert_eq!(host.kept(&digest), Some(other));

        let host = cached();
        let loaded = host.load_bytes(component).await.unwrap();
        assert_eq!(loaded.description(), skill.description());
        assert_eq!(
            host.kept(&digest).as_ref(),
            Some(skill.description()),
            "the record is mended"
        );
    }
}
