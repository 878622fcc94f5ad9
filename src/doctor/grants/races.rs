//! What is in a directory changes while a guest uses it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::directory::{Act, Folder, act, control, guest, refusal};
use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Trouble, at, ended};
use crate::grant::Mode;

/// So often at least, and until both ways were met; and so often at most.
const TRIES: std::ops::Range<u32> = 200..5_000;

/// Puts links with these targets at a place by turns, as fast as it can, until it is dropped.
struct Swapping {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swapping {
    fn new(folder: &Path, targets: [&'static str; 2]) -> Result<Self, Trouble> {
        let over = Arc::new(AtomicBool::new(false));
        let (ends, [aside, place]) = (
            Arc::clone(&over),
            ["aside", "place"].map(|name| folder.join(name)),
        );
        let swap = move || {
            for target in targets.into_iter().cycle() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                // Whatever becomes of it, the guest is what is looked at.
                let _ = symlink(target, &aside).and_then(|()| fs::rename(&aside, &place));
            }
        };
        let thread = std::thread::Builder::new()
            .spawn(swap)
            .map_err(at(folder))?;
        Ok(Swapping {
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Swapping {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A link leads by turns to a folder inside, in which the file is not, and outside, where it is. So whatever
/// is opened was outside.
pub async fn swapped_links(ground: &Ground) -> Result<Finding, Trouble> {
    let folder = Folder::new(ground, "swapped")?;
    let inside = folder.open().join("inside");
    fs::create_dir(&inside).map_err(at(&inside))?;
    by_way_of_links(ground, &folder, ["inside", ".."]).await
}

async fn by_way_of_links(
    ground: &Ground,
    folder: &Folder,
    targets: [&'static str; 2],
) -> Result<Finding, Trouble> {
    let skill = ground.load(&guest()).await?;
    let grants = folder.grants(Mode::Rw);
    if let Some(finding) = control(ground, &skill, &grants, &[Act::Read]).await? {
        return Ok(finding);
    }
    let _swapping = Swapping::new(&folder.open(), targets)?;
    let (mut met_inside, mut met_outside) = (false, false);
    for tried in 0..TRIES.end {
        let result = act(ground, &skill, &grants, Act::Read, "place/secret.txt").await?;
        match refusal(&result) {
            Some("no-entry") => met_inside = true,
            Some("not-permitted") => met_outside = true,
            Some(_) => {}
            None => {
                let how = ended(&result);
                return Ok(Finding::broken(format!("it came outside: {how}")));
            }
        }
        if met_inside && met_outside && tried >= TRIES.start {
            return Ok(Finding::holds("not-permitted"));
        }
    }
    Ok(Finding::unknown("the guest never met the link both ways"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    /// A folder inside that has the file is let through, as the one outside would be.
    #[tokio::test]
    async fn a_link_that_is_followed_is_noticed() {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let folder = Folder::new(&ground, "followed").unwrap();
        for inside in ["inside", "other"] {
            let inside = folder.open().join(inside);
            fs::create_dir(&inside).unwrap();
            fs::write(inside.join("secret.txt"), "s").unwrap();
        }
        let found = by_way_of_links(&ground, &folder, ["inside", "other"]).await;
        let found = found.unwrap();
        assert_eq!(found.verdict, Verdict::Broken, "{found:?}");
        assert!(found.reason.unwrap().contains("it came outside"));
    }

    /// Where the link never leads out, nothing is proven.
    #[tokio::test]
    async fn a_link_that_never_leads_out_proves_nothing() {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let folder = Folder::new(&ground, "inside").unwrap();
        fs::create_dir(folder.open().join("inside")).unwrap();
        let found = by_way_of_links(&ground, &folder, ["inside", "inside"]).await;
        assert_eq!(found.unwrap().verdict, Verdict::Unknown);
    }
}
