//! What the README has an embedder write, run as it stands there: but for where its files are, and for whom it tells
//! what it prints.

use std::path::PathBuf;
use std::sync::Mutex;

use crate::harness::{Place, root};
use crate::readme::{blocks, section};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What a program printed, and where its files are.
struct Program {
    place: Place,
    printed: Mutex<Vec<String>>,
}

impl Program {
    fn new() -> Self {
        let place = Place::new();
        let skills = place.path("skills");
        std::fs::create_dir(&skills).expect("a folder can be made");
        place.add_example("csv-query");
        std::fs::rename(place.path("csv-query"), skills.join("csv-query"))
            .expect("it can be moved");
        let data = root().join("example-skills/data/cities.csv");
        std::fs::create_dir(place.path("reports")).expect("a folder can be made");
        std::fs::copy(data, place.path("reports/cities.csv")).expect("a file can be copied");
        Program {
            place,
            printed: Mutex::default(),
        }
    }

    fn here(&self, path: &str) -> PathBuf {
        self.place.path(path.trim_start_matches('/'))
    }

    fn say(&self, line: String) {
        self.printed.lock().expect("nobody panics here").push(line);
    }

    fn printed(&self) -> Vec<String> {
        self.printed.lock().expect("nobody panics here").clone()
    }
}

macro_rules! say {
    ($program:ident, $($words:tt)*) => { $program.say(format!($($words)*)) };
}

#[rustfmt::skip]
async fn executing(program: &Program) -> Outcome {
    use skillhost::{ExecutionRequest, Host, LimitOverrides, Limits, grant::{Grants, Mode}};

    let host = Host::builder()
        .ceiling(Limits { memory_bytes: 128 << 20, ..Limits::ceiling() })
        .cache(program.here("/var/cache/my-agent/compiled"))
        .build()?;
    let skill = host.load(program.here("skills/csv-query")).await?;
    let request = ExecutionRequest::new(skill.digest(), serde_json::json!({"path": "/data/cities.csv"}))
        .tool("columns")
        .grants(Grants::default().directory(program.here("reports"), "/data", Mode::Ro))
        .limits(LimitOverrides { fuel: Some(100_000_000), ..Default::default() });
    say!(program, "admitted: {}", host.can_execute(&request).is_admitted());
    let result = host.execute(request).await?;
    say!(program, "{}: {:?}, {} fuel", result.status, result.output, result.usage.fuel);
    Ok(())
}

#[rustfmt::skip]
async fn queueing(program: &Program, host: skillhost::Host, request: skillhost::ExecutionRequest) -> Outcome {
    use std::sync::Arc;
    use skillhost::queue::{HandlerFailure, NewJob, Priority, Queue, Task, Worker};

    let queue = Queue::open(program.here("queue.db"))?;
    let submitted = queue.submit(NewJob::execution(request).priority(Priority::High).key("report-7")).await?;

    let tidy = |_: Task| async { Ok::<_, HandlerFailure>(serde_json::json!({"tidied": 3})) };
    let worker = Worker::builder(queue.clone()).execute(Arc::new(host)).handler("tidy", tidy).build();
    tokio::spawn(worker.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }));

    let job = queue.wait(submitted.id).await?;
    say!(program, "{}: {:?}", job.status, queue.result(job.id).await?);
    Ok(())
}

/// A program's lines, without how far they are indented, and without what only the README's or only ours has.
fn lines(program: &str) -> Vec<String> {
    let ours = regex::Regex::new(r#"program\.here\(("[^"]*")\)"#).expect("it is one");
    program
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#') && *line != "Ok(())")
        .map(|line| {
            ours.replace_all(line, "$1")
                .replace("say!(program, ", "println!(")
        })
        .collect()
}

#[test]
fn they_are_the_programs_of_the_readme() {
    let source = include_str!("embedding.rs");
    let programs = blocks(&section("Five minutes as an embedder"), "rust,no_run");
    assert_eq!(programs.len(), 2);
    for (written, name) in programs.iter().zip(["executing", "queueing"]) {
        let (_, run) = source
            .split_once(&format!("\nasync fn {name}("))
            .expect("it is here");
        let (run, _) = run.split_once("\n}\n").expect("it ends");
        let (_, run) = run.split_once(" {\n").expect("it begins");
        assert_eq!(lines(run), lines(written), "{name}");
    }
}

#[tokio::test]
async fn five_minutes_as_an_embedder_go_as_they_say() {
    let program = Program::new();
    executing(&program)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let printed = program.printed();
    let [admitted, ran] = &printed[..] else {
        panic!("{printed:?}");
    };
    assert_eq!(admitted, "admitted: true");
    assert!(ran.starts_with("success: Some("), "{ran}");
    for column in ["city", "population", "capital"] {
        assert!(ran.contains(&format!("String(\"{column}\")")), "{ran}");
    }
    assert!(
        program.here("var/cache/my-agent/compiled").is_dir(),
        "what was compiled is kept"
    );
}

/// In a runtime of its own, as the worker goes on for as long as there is one.
#[tokio::test]
async fn an_embedder_s_queue_goes_as_it_says() {
    let program = Program::new();
    let host = skillhost::Host::builder()
        .cache(program.here("compiled"))
        .build()
        .expect("it can be set up");
    let skill = host.load(program.here("skills/csv-query")).await;
    let digest = skill.expect("it loads").digest();
    let input = serde_json::json!({"path": "/data/cities.csv"});
    let request = skillhost::ExecutionRequest::new(digest, input)
        .tool("columns")
        .grants(skillhost::grant::Grants::default().directory(
            program.here("reports"),
            "/data",
            skillhost::grant::Mode::Ro,
        ));
    queueing(&program, host, request)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let printed = program.printed();
    assert_eq!(printed.len(), 1, "{printed:?}");
    assert!(printed[0].starts_with("completed: "), "{printed:?}");
    assert!(printed[0].contains("String(\"city\")"), "{printed:?}");
}
