//! Asking the person at the terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use skillhost::execution::{Ask, BoxFuture, Decision, Question};
use skillhost::grant::Grants;
use skillhost::limits::display_bytes;
use skillhost::parse_duration;
use skillhost::text::printable;

use crate::cli::approvals::for_time;
use crate::cli::console::{BOLD, styled};
use crate::cli::grants;
use crate::cli::table::Table;

/// The most characters of an input that are shown; `skillhost approvals show` shows all.
const SHOWN: usize = 2_000;

/// The person at the terminal.
pub struct Prompt;

impl Prompt {
    /// Where there is one: both ends must be a terminal.
    pub fn new() -> Option<Self> {
        (io::stdin().is_terminal() && io::stderr().is_terminal()).then_some(Prompt)
    }
}

impl Ask for Prompt {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Option<Decision>> {
        let text = text(&question);
        Box::pin(async move {
            // On a thread that may block; the process does not wait for it.
            let mut open = Open(true);
            let answered = tokio::task::spawn_blocking(move || answer(&text)).await;
            open.0 = false;
            answered.ok().flatten()
        })
    }

    fn who(&self) -> &str {
        "the person at the terminal"
    }
}

/// Whether a question is open: where nobody waits for the answer any more, as after Ctrl-C, its line is ended.
struct Open(bool);

impl Drop for Open {
    fn drop(&mut self) {
        if self.0 {
            let _ = writeln!(io::stderr());
        }
    }
}

fn text(question: &Question<'_>) -> String {
    let request = question.request;
    let mut facts = Table::new(2);
    let mut fact = |name: &str, value: &str| {
        facts.row([name.to_owned(), printable(value, false).into_owned()]);
    };
    fact("digest", &question.skill.digest.to_string());
    if let Some(tenant) = &request.tenant {
        fact("tenant", tenant);
    }
    for attachment in &request.attachments {
        let size = display_bytes(attachment.data.len() as u64);
        let media_type = &attachment.media_type;
        fact(
            "attachment",
            &format!("{} ({media_type}, {size})", attachment.name),
        );
    }
    let input = request.input.to_string();
    let mut shown: String = input.chars().take(SHOWN).collect();
    if shown.len() < input.len() {
        let left = input.len() - shown.len();
        let _ = write!(shown, "… ({left} bytes more)");
    }
    fact("input", &shown);
    let what = format!(
        "{} of {}@{}",
        question.tool.name, question.skill.name, question.skill.version
    );
    let mut text = format!(
        "{}: {}\n{facts}",
        styled(BOLD, printable(&what, false)),
        printable(question.rule, false)
    );
    if request.grants != Grants::default() {
        let _ = write!(
            text,
            "{}",
            grants::table(&request.grants, &Grants::default())
        );
    }
    text.push_str("May it run? [y]es, once; a time such as 10m, for that; [N]o, for an hour: ");
    text
}

/// Asks until the answer is one.
fn answer(text: &str) -> Option<Decision> {
    let mut stderr = anstream::stderr();
    write!(stderr, "{text}")
        .and_then(|()| stderr.flush())
        .ok()?;
    loop {
        let mut line = String::new();
        if io::stdin().read_line(&mut line).ok()? == 0 {
            // Ctrl-D leaves the cursor behind the question.
            let _ = writeln!(stderr);
            return None;
        }
        match line.trim().to_lowercase().as_str() {
            "y" | "yes" => return Some(Decision::Once),
            "" | "n" | "no" => return Some(Decision::Refuse),
            time => match for_time(time) {
                Ok(decision) => return Some(decision),
                Err(why) => {
                    // Of what is no time at all, there is no more to say.
                    let why = match parse_duration(time) {
                        Ok(_) => format!("{why}; "),
                        Err(_) => String::new(),
                    };
                    write!(stderr, "{why}`y`, a time such as 10m, or `n`: ")
                        .and_then(|()| stderr.flush())
                        .ok()?;
                }
            },
        }
    }
}
