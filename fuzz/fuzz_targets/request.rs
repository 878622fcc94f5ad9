//! Requests, as the doors get them: bodies over HTTP, messages of MCP, jobs, and the lines of JSON that dead jobs are
//! imported from. None of it panics, none comes to more than its sender may ask for, what is said of it can be shown,
//! and what was read reads the same again.

#![no_main]

mod seeds;

use std::sync::OnceLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use skillhost::fuzzing::{call_in, jobs_in};
use skillhost::queue::callback::{CallbackSettings, Callbacks};
use skillhost::queue::{DeadLetter, NewJob, Work};
use skillhost::serve::{Caller, Tenancy};

/// What inputs are made from.
const SEEDS: [&[u8]; 7] = [
    include_bytes!("../corpus/request/batch.json"),
    include_bytes!("../corpus/request/call.json"),
    include_bytes!("../corpus/request/dead.json"),
    include_bytes!("../corpus/request/execution.json"),
    include_bytes!("../corpus/request/found.json"),
    include_bytes!("../corpus/request/job.json"),
    include_bytes!("../corpus/request/submission.json"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    seeds::mutated(&SEEDS, data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    over_http(bytes);
    if let Some(Err(why)) = call_in(bytes) {
        shown(&why);
    }
    if let Ok(job) = serde_json::from_slice::<NewJob>(bytes) {
        let text = serde_json::to_string(&job).expect("a job can be written");
        let again: NewJob = serde_json::from_str(&text).expect("and be read again");
        assert_eq!(
            (job.id, &job.queue, &job.tenant),
            (again.id, &again.queue, &again.tenant)
        );
        assert_eq!(
            (&job.tags, &job.labels, &job.key),
            (&again.tags, &again.labels, &again.key)
        );
        assert_eq!(
            (job.due, job.mode, job.attempts),
            (again.due, again.mode, again.attempts)
        );
        if let Err(error) = job.check_untrusted() {
            shown(&error.to_string());
        }
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(letter) = serde_json::from_slice::<DeadLetter>(line) {
            let text = serde_json::to_string(&letter).expect("a dead letter can be written");
            let again: DeadLetter = serde_json::from_str(&text).expect("and be read again");
            assert_eq!(
                (letter.job.id, letter.attempts.len()),
                (again.job.id, again.attempts.len())
            );
        }
    }
});

fn over_http(body: &[u8]) {
    static CALLBACKS: OnceLock<Callbacks> = OnceLock::new();
    let callbacks = CALLBACKS.get_or_init(|| {
        let callbacks = Callbacks::new(CallbackSettings::default());
        callbacks.expect("callbacks can be set up")
    });
    let caller = Caller {
        tenancy: Tenancy::Tenant("acme".into()),
        ..Caller::operator()
    };
    for job in jobs_in(body, callbacks, &caller) {
        let mut job = match job {
            Ok(job) => job,
            Err(problem) => {
                let said = serde_json::to_string(&problem).expect("a problem can be written");
                assert!(!said.chars().any(char::is_control), "{said}");
                continue;
            }
        };
        // On nobody else's behalf, with nothing granted, and nothing but a skill.
        assert_eq!(job.tenant.as_deref(), Some("acme"));
        // The door says who submitted it, and nobody else does. Of what a schedule submits it is said later.
        let by = job.caller.take();
        assert!(by.is_none_or(|by| by == caller.name()));
        job.check_untrusted().expect("it is a stranger's");
        let Work::Execution { request } = &job.work else {
            panic!("a stranger can only execute skills");
        };
        assert!(request.grants.is_empty() && request.tenant.is_none());
    }
}

/// What its sender is told.
fn shown(text: &str) {
    let shown = skillhost::text::printable(text, false);
    assert!(!shown.chars().any(char::is_control));
}
