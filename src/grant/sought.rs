//! What a skill looked for while it ran, and whether it lacked something there.

use std::sync::{Arc, Mutex, PoisonError};

use super::{DirectoryGrant, HttpTarget, Missing, SCRATCH};
use crate::text::named;

/// The keys, and the requests, that are kept. A skill may ask for others without end.
const MOST: usize = 20;
/// The directories that a hint names.
const MOST_NAMED: usize = 5;
/// The longest name of one there, in bytes.
const MAX_SHOWN: usize = 200;

/// What a skill looked for and, as far as can be seen, may not have found. What is refused in so many
/// words, such as a request or a socket, is a [`Denial`] of its own and stands here only where more than
/// one grant is needed for it.
#[derive(Debug, Default)]
pub(crate) struct Sought {
    /// Whether it asked which directories there are: it does so before it opens a first path.
    pub directories: bool,
    /// Whether there were none.
    pub no_directories: bool,
    /// The guest paths of the first that there were, and one more where a hint does not name all.
    granted: Vec<String>,
    /// Whether it looked for a path in one of them.
    pub entered: bool,
    /// Whether the last thing that it asked of one of them, or of an address that it may connect to, was refused, so
    /// that it was not for want of another.
    pub refused: bool,
    /// What it looks for at the moment, in which directory.
    looking: Option<(Arc<DirectoryGrant>, String)>,
    /// The same of what it looked for last, where nothing was there and that was the last that was refused.
    missed: Option<(Arc<DirectoryGrant>, String)>,
    /// Whether what it wanted to write or make last failed as a disk had no room, which is what was in the way.
    pub full: bool,
    /// Whether it read its environment, which it gets as a whole.
    pub environment: bool,
    /// Whether it asked for all configuration keys.
    every_key: bool,
    /// The configuration keys that it asked for, and that have no value.
    pub(super) keys: Vec<String>,
    /// The requests that servers wanted to know more for, where it sent any.
    unauthorized: Option<Unauthorized>,
}

/// The requests that servers answered with 401 or 403.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unauthorized(Arc<Mutex<Vec<HttpTarget>>>);

impl Unauthorized {
    /// A request was answered, with that status.
    pub fn heard(&self, target: &HttpTarget, status: u16) {
        if !matches!(status, 401 | 403) {
            return;
        }
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < MOST && !requests.contains(target) {
            requests.push(target.clone());
        }
    }

    fn any(&self, which: impl Fn(&HttpTarget) -> bool) -> bool {
        let requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().any(which)
    }
}

impl Sought {
    /// It asked for a configuration key that has no value.
    pub fn key(&mut self, key: &str) {
        let is_new = !self.keys.iter().any(|known| known == key);
        if is_new && self.keys.len() < MOST && key.len() <= super::MAX_NAME_BYTES {
            self.keys.push(key.to_owned());
        }
    }

    /// It asked for all of them.
    pub fn every_key(&mut self) {
        self.every_key = true;
    }

    /// It asked which directories there are, and was told these.
    pub fn told<'g>(&mut self, guests: impl Iterator<Item = &'g str>) {
        // What is its own is empty at first, so that nothing is to be found there.
        let guests = guests.filter(|guest| *guest != SCRATCH);
        self.granted = guests.take(MOST_NAMED + 1).map(str::to_owned).collect();
    }

    /// It does something with a path in a directory.
    pub fn enters(&mut self) {
        (self.entered, self.refused) = (true, false);
        (self.looking, self.missed) = (None, None);
    }

    /// It looks for this path in one.
    pub fn looks_for(&mut self, grant: &Arc<DirectoryGrant>, path: &str) {
        self.looking = Some((Arc::clone(grant), named(path, MAX_SHOWN)));
    }

    /// And has found it.
    pub fn found(&mut self) {
        self.looking = None;
    }

    /// It was refused something: as nothing was there, or for another reason.
    pub fn is_refused(&mut self, nothing_there: bool) {
        self.refused = true;
        self.missed = self.looking.take().filter(|_| nothing_there);
    }

    /// What may help where it asked which directories there are, and opened nothing in one: whether a path begins like
    /// one of them is found without the host; or where nothing was at the path that it looked for last, which can be
    /// another than it was given.
    pub fn elsewhere(&self) -> Option<String> {
        if let Some((grant, path)) = &self.missed {
            return Some(format!(
                "the last path that the skill looked for is not there: `{path}` in `{}`; if that is why, give it another",
                named(&grant.guest, MAX_SHOWN)
            ));
        }
        if self.entered || self.refused || self.granted.is_empty() {
            return None;
        }
        let shown = self.granted.iter().take(MOST_NAMED);
        let shown: Vec<String> = shown
            .map(|guest| format!("`{}`", named(guest, MAX_SHOWN)))
            .collect();
        let more = match self.granted.len() > MOST_NAMED {
            true => " and others",
            false => "",
        };
        Some(format!(
            "the skill opened nothing below what it is granted: {}{more}; if it was to find a file, give it a path that \
             begins so",
            shown.join(", ")
        ))
    }

    /// It sends a request. What is given is to hear of the answer.
    pub fn request(&mut self) -> Unauthorized {
        self.unauthorized.get_or_insert_default().clone()
    }

    /// Whether it looked for what it declares and was not granted.
    ///
    /// Of the network and of storage it was told so where it asked: what it lacks of them stands among the
    /// denials. A secret is lacked by requests that it is for, and that their server refused. `panicked` is
    /// the message of one that ended with a trap: to panic is to read the environment, so there the variable
    /// must be named.
    pub fn lacks(&self, missing: Missing<'_>, panicked: Option<&str>) -> bool {
        match missing {
            Missing::Directory => self.directories && !self.refused && !self.full,
            Missing::Environment(name) => {
                self.environment && panicked.is_none_or(|message| names(message, name))
            }
            Missing::Config(key) => self.every_key || self.keys.iter().any(|known| known == key),
            Missing::Secret(wanted) => {
                let unauthorized = self.unauthorized.as_ref();
                unauthorized.is_some_and(|requests| {
                    requests.any(|request| wanted.requests().allows(request))
                })
            }
            Missing::Told => false,
        }
    }
}

/// Whether a text has a name in it, as a word.
pub(crate) fn names(text: &str, name: &str) -> bool {
    let in_word = |part: char| part.is_alphanumeric() || part == '_';
    let mut found = text.match_indices(name);
    found.any(|(at, _)| {
        !text[..at].ends_with(in_word) && !text[at + name.len()..].starts_with(in_word)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Asker, Capability, Declared, Ended, Grants, missing_if};
    use super::*;

    fn lacked(sought: &Sought, panicked: Option<&str>) -> Vec<String> {
        let declared: Declared = toml::from_str(
            r#"
            scratch = true
            storage = true
            http = ["https://*"]
            sockets = ["tcp://*:5432"]
            environment = ["TZ"]
            secrets = [
                "key=authorization:Bearer@https://api.example",
                "key=authorization:Bearer@http://api.example",
                "long=authorization:Bearer@https://long.example/v1",
                "long=authorization:Bearer@https://long.example/v1/more",
            ]
            directories = [{ path = "/data", mode = "ro" }]
            config = { name = { type = "string" }, other = { type = "string" } }
            "#,
        )
        .unwrap();
        let lacked = |missing: Missing<'_>| sought.lacks(missing, panicked);
        missing_if("a", Some(&declared), &Grants::default(), &lacked)
            .into_iter()
            .map(|denial| denial.subject)
            .collect()
    }

    #[test]
    fn only_what_was_looked_for_is_lacked() {
        assert_eq!(lacked(&Sought::default(), None), [""; 0]);
        let mut sought = Sought {
            directories: true,
            ..Sought::default()
        };
        assert_eq!(lacked(&sought, None), ["/data", "/scratch"]);
        sought.directories = false;
        sought.key("name");
        assert_eq!(lacked(&sought, None), ["name"]);
        sought.every_key();
        assert_eq!(lacked(&sought, None), ["name", "other"]);
        let mut sought = Sought::default();
        let request = |url| HttpTarget::new("GET", url).unwrap();
        let answers = sought.request();
        answers.heard(&request("https://other.example/"), 401);
        answers.heard(&request("https://api.example/v1"), 404);
        assert_eq!(lacked(&sought, None), [""; 0]);
        answers.heard(&request("https://api.example/v1"), 401);
        assert_eq!(lacked(&sought, None), ["key"]);
        // One text begins with the other.
        let mut sought = Sought::default();
        sought
            .request()
            .heard(&request("https://long.example/v1"), 401);
        assert_eq!(lacked(&sought, None), ["long"]);
    }

    /// What it was refused in a directory that it has is not for want of another.
    #[test]
    fn what_was_refused_in_a_directory_is_not_for_want_of_another() {
        let mut sought = Sought {
            directories: true,
            entered: true,
            ..Sought::default()
        };
        assert_eq!(lacked(&sought, None), ["/data", SCRATCH]);
        sought.refused = true;
        assert_eq!(lacked(&sought, None), [""; 0]);
        // Nor for want of a path below it.
        sought.entered = false;
        sought.told(["/data"].into_iter());
        assert_eq!(sought.elsewhere(), None);
        let asker = Asker::new("a", None, true);
        let ended = Ended {
            message: "no",
            of_input: false,
            given: &|_| false,
        };
        sought.no_directories = true;
        assert_eq!(asker.found_wanting(&sought, &ended), []);
        assert_eq!(Asker::looked_in_vain(&sought, &[]), None);
        sought.refused = false;
        let wanting = asker.found_wanting(&sought, &ended);
        assert_eq!(wanting[0].capability, Capability::Directory);
        assert_eq!(wanting[0].grant.as_deref(), Some("<HOST>:<GUEST>:ro"));
        let help = Asker::looked_in_vain(&sought, &wanting);
        assert_eq!(help, Some(wanting[0].perhaps()));
    }

    /// Nor is what a full disk had no room for.
    #[test]
    fn a_full_disk_is_not_want_of_a_directory() {
        let sought = Sought {
            directories: true,
            entered: true,
            full: true,
            ..Sought::default()
        };
        assert_eq!(lacked(&sought, None), [""; 0]);
        let asker = Asker::new("a", None, true);
        let ended = Ended {
            message: "no",
            of_input: false,
            given: &|_| false,
        };
        let nowhere = Sought {
            no_directories: true,
            full: true,
            ..Sought::default()
        };
        assert_eq!(asker.found_wanting(&nowhere, &ended), []);
        let help = Asker::looked_in_vain(&sought, &[]);
        assert!(help.is_some_and(|help| help.starts_with("the disk is full")));
    }

    /// What it looked for last, as long as that is what was refused last.
    #[test]
    fn a_path_where_nothing_is_is_named() {
        let grant: DirectoryGrant = "/srv:/data".parse().unwrap();
        let grant = Arc::new(grant);
        let mut sought = Sought::default();
        let mut looks = |path: &str, refused: Option<bool>| {
            sought.enters();
            sought.looks_for(&grant, path);
            match refused {
                Some(nothing_there) => sought.is_refused(nothing_there),
                None => sought.found(),
            }
            sought.elsewhere()
        };
        let hint = looks("a\u{1b}", Some(true)).unwrap();
        assert!(
            hint.contains("is not there: `a\\u{1b}` in `/data`;"),
            "{hint}"
        );
        let hint = looks(&"x".repeat(4_000), Some(true)).unwrap();
        assert!(hint.len() < 400, "{hint}");
        assert_eq!(looks("a", Some(false)), None);
        assert_eq!(looks("a", None), None);
        // What else it does is not looking for that.
        looks("a", Some(true)).unwrap();
        sought.is_refused(true);
        assert_eq!(sought.elsewhere(), None);
    }

    #[test]
    fn a_panic_reads_the_environment_itself() {
        let sought = Sought {
            environment: true,
            ..Sought::default()
        };
        assert_eq!(lacked(&sought, None), ["TZ"]);
        assert_eq!(lacked(&sought, Some("index out of bounds")), [""; 0]);
        assert_eq!(lacked(&sought, Some("TZ must be set")), ["TZ"]);
        assert_eq!(lacked(&sought, Some("`TZ` is not set")), ["TZ"]);
        assert_eq!(lacked(&sought, Some("MY_TZ must be set")), [""; 0]);
        assert!(names("no `app.mode-x`", "app.mode-x") && !names("app.mode-x2", "app.mode-x"));
    }

    #[test]
    fn what_is_granted_is_named_where_it_looked_elsewhere() {
        let told = |guests: &[&str]| {
            let mut sought = Sought::default();
            sought.told(guests.iter().copied());
            sought
        };
        assert_eq!(Sought::default().elsewhere(), None);
        assert_eq!(told(&[]).elsewhere(), None);
        assert_eq!(told(&[SCRATCH]).elsewhere(), None);
        let mut sought = told(&["/data", SCRATCH, "/a`b"]);
        assert_eq!(
            sought.elsewhere().unwrap(),
            "the skill opened nothing below what it is granted: `/data`, `/a\\u{60}b`; if it was to find a file, give it \
             a path that begins so"
        );
        sought.entered = true;
        assert_eq!(sought.elsewhere(), None);
        let many = told(&["/a", "/b", "/c", "/d", "/e", "/f", "/g"]);
        assert_eq!(many.granted.len(), MOST_NAMED + 1);
        let said = many.elsewhere().unwrap();
        assert!(said.contains("`/d`, `/e` and others; if"), "{said}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut sought = Sought::default();
        for number in 0..1_000 {
            sought.key(&number.to_string());
            let target = HttpTarget::new("GET", &format!("https://a.example/{number}"));
            sought.request().heard(&target.unwrap(), 403);
        }
        sought.key(&"x".repeat(1 << 20));
        let requests = sought.request().0.lock().unwrap().len();
        assert_eq!((sought.keys.len(), requests), (MOST, MOST));
    }
}
