//! What is told: events, statistics, progress; what comes by itself: callbacks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use skillhost::queue::callback::{CallbackSettings, Callbacks, Secret, sign};
use skillhost::queue::{
    Callback, CallbackSender, Filter, JobEventKind, JobStatus, Keep, Kind, NewJob, Priority,
    QueueError,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::cases;
use crate::place::{Gate, Place, Working, at_once, events, good, job};

cases![
    events_have_no_gap_and_no_repeat,
    a_subscription_goes_from_what_was_to_what_comes,
    a_cursor_that_fell_off_is_told_so_also_after_a_clock_was_set_back,
    counts_are_those_of_a_recount,
    times_are_within_the_stated_error,
    progress_is_kept_and_told,
    what_is_old_is_removed,
    what_a_callback_is_to_tell_of_is_kept_until_it_has,
    who_waits_longest_is_who_could_start,
    progress_is_written_down_also_while_a_worker_stops,
    a_callback_is_sent_signed_and_again_until_it_is_taken,
    a_callback_that_is_refused_is_dead,
    a_callback_tells_nobody_of_anothers_job,
    a_callback_that_takes_long_is_given_back_by_who_has_to_stop,
];

async fn events_have_no_gap_and_no_repeat(place: Place) {
    let id = place
        .submit(job(json!({"retry": "no", "until": 2})).retry(at_once(3)))
        .await;
    place.work(place.worker()).await;
    let all = place.events().await;
    let ids: Vec<i64> = all.iter().map(|event| event.id).collect();
    let count = i64::try_from(ids.len()).unwrap();
    assert_eq!(ids, (1..=count).collect::<Vec<i64>>());
    assert_eq!(place.queue.last_event().await.unwrap(), count);
    let kinds: Vec<&str> = all.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["submitted", "started", "failed", "started", "completed"]
    );
    assert!(all.iter().all(|event| event.job == id));
    // In whatever pieces they are read.
    let mut pieces = Vec::new();
    let mut cursor = 0;
    loop {
        let batch = place.queue.events(cursor, 2).await.unwrap();
        assert!(batch.events.len() <= 2);
        cursor = batch.cursor;
        pieces.extend(batch.events);
        if !batch.has_more {
            break;
        }
    }
    assert_eq!(pieces, all);
}

async fn a_subscription_goes_from_what_was_to_what_comes(place: Place) {
    const JOBS: usize = 400;
    let many = || (0..JOBS / 4).map(|_| good()).collect::<Vec<NewJob>>();
    place.queue.submit_all(many()).await.unwrap();
    let other = place.another().await;
    let working = Working::start(place.worker().concurrency(16));
    let watching = [place.queue.clone(), other.clone()].map(|queue| {
        tokio::spawn(async move {
            let mut subscription = queue.subscribe(0);
            let (mut seen, mut completed) = (0, 0);
            while completed < JOBS {
                for event in subscription.next().await.unwrap().events {
                    assert_eq!(event.id, seen + 1);
                    seen = event.id;
                    completed += usize::from(event.kind == JobEventKind::Completed);
                }
            }
            seen
        })
    });
    for queue in [&place.queue, &other, &other] {
        queue.submit_all(many()).await.unwrap();
    }
    for watching in watching {
        assert_eq!(watching.await.unwrap(), 3 * 400);
    }
    working.stop().await.unwrap();
}

async fn a_cursor_that_fell_off_is_told_so_also_after_a_clock_was_set_back(place: Place) {
    place.submit(good()).await;
    place.clock.set_back(Duration::from_secs(100));
    place.submit(good()).await;
    place.clock.advance(Duration::from_secs(140));
    place.submit(good()).await;
    let keep = |seconds| Keep {
        completed: None,
        dead: None,
        events: Some(Duration::from_secs(seconds)),
    };
    // The second is older than that, and the first is not.
    place.queue.prune(keep(60)).await.unwrap();
    let ids: Vec<i64> = events(&place.queue)
        .await
        .iter()
        .map(|event| event.id)
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    place.queue.prune(keep(30)).await.unwrap();
    let error = place.queue.events(1, 10).await.unwrap_err();
    assert!(
        matches!(
            error,
            QueueError::CursorTooOld {
                cursor: 1,
                oldest: 3
            }
        ),
        "{error}"
    );
    assert_eq!(place.queue.events(2, 10).await.unwrap().events.len(), 1);
    place.clock.advance(Duration::from_secs(60));
    place.queue.prune(keep(30)).await.unwrap();
    assert!(matches!(
        place.queue.events(0, 10).await,
        Err(QueueError::CursorTooOld {
            cursor: 0,
            oldest: 4
        })
    ));
    assert_eq!(place.queue.events(3, 10).await.unwrap().events, []);
}

/// Counts by status, queue and tenant as the jobs themselves tell.
pub async fn recounted(place: &Place) -> [BTreeMap<(String, JobStatus), u64>; 3] {
    let filter = Filter {
        limit: Some(10_000),
        ..Filter::default()
    };
    let mut counts: [BTreeMap<(String, JobStatus), u64>; 3] = Default::default();
    for job in place.queue.list(&filter).await.unwrap().items {
        let names = [String::new(), job.queue, job.tenant.unwrap_or_default()];
        for (counts, name) in counts.iter_mut().zip(names) {
            *counts.entry((name, job.status)).or_default() += 1;
        }
    }
    counts
}

async fn counts_are_those_of_a_recount(place: Place) {
    let mut ids = Vec::new();
    for number in 0..60 {
        let payload = match number % 6 {
            0 => json!({"fail": "no"}),
            1 => json!({"retry": "later"}),
            _ => json!({}),
        };
        let mut one = job(payload).queue(["x", "y"][number % 2]);
        if number % 3 > 0 {
            one = one.tenant(["a", "b"][number % 2]);
        }
        if number % 5 == 0 {
            one = one.delay(Duration::from_secs(3_600));
        }
        ids.push(place.submit(one).await);
    }
    place.queue.cancel(&ids[..5]).await.unwrap();
    place.queue.pause(&ids[5..12]).await.unwrap();
    place.work(place.worker()).await;
    let statistics = place.queue.statistics(1).await.unwrap();
    let [by_status, by_queue, by_tenant] = recounted(&place).await;
    assert_eq!(statistics.total, 60);
    for (&status, &count) in &statistics.by_status {
        let expected = by_status.get(&(String::new(), status)).copied();
        assert_eq!(count, expected.unwrap_or(0), "{status}");
    }
    for (kept, counted) in [
        (&statistics.by_queue, by_queue),
        (&statistics.by_tenant, by_tenant),
    ] {
        let flat: BTreeMap<(String, JobStatus), u64> = kept
            .iter()
            .flat_map(|(name, counts)| {
                counts
                    .iter()
                    .map(move |(status, count)| ((name.clone(), *status), *count))
            })
            .collect();
        assert_eq!(flat, counted);
    }
    let dead = statistics.by_status[&JobStatus::Dead];
    assert_eq!(statistics.dead_by_cause["skill_error"], dead);
    let ended = (statistics.by_status[&JobStatus::Completed] + dead) as f64;
    let rate = statistics.by_status[&JobStatus::Completed] as f64 / ended;
    assert!((statistics.success_rate.unwrap() - rate).abs() < 1e-9);
}

async fn times_are_within_the_stated_error(place: Place) {
    // The clock stands still while jobs run, so that what they waited is what the test says.
    for number in 1..=100_u64 {
        place.submit(good()).await;
        place.clock.advance(Duration::from_millis(number * 37));
        place.work(place.worker()).await;
    }
    let wait = place.queue.statistics(24).await.unwrap().wait;
    assert_eq!(wait.count, 100);
    assert!((wait.average_ms.unwrap() - 50.5 * 37.0).abs() < 1e-6);
    for (told, exact) in [(wait.p50_ms, 50.0 * 37.0), (wait.p99_ms, 99.0 * 37.0)] {
        let error = (told.unwrap() - exact).abs() / exact;
        assert!(error <= 0.032, "{told:?} for {exact}");
    }
}

async fn progress_is_kept_and_told(place: Place) {
    let mut gate = Gate::new();
    let working = Working::start(place.worker().handler("gate", gate.handler()));
    let id = place.submit(NewJob::custom("gate", Value::Null)).await;
    let (task, pass) = gate.next().await;
    task.progress(140.0, "half of it");
    place.until(id, JobEventKind::Progress).await;
    let told = json!({"percent": 100.0, "step": "half of it"});
    assert_eq!(place.queue.progress(id).await.unwrap(), Some(told));
    pass.send(Ok(Value::Null)).unwrap();
    place.queue.wait(id).await.unwrap();
    working.stop().await.unwrap();
}

async fn what_is_old_is_removed(place: Place) {
    let done = place.submit(good()).await;
    let dead = place.submit(job(json!({"fail": "no"}))).await;
    let waiting = place
        .submit(good().delay(Duration::from_secs(1_000_000)))
        .await;
    place.work(place.worker()).await;
    place.clock.advance(Duration::from_secs(100));
    let task = skillhost::queue::Maintenance::Prune {
        completed_after_s: Some(99),
        dead_after_s: Some(101),
    };
    let task = place.submit(NewJob::maintenance(task)).await;
    place
        .submit(NewJob::maintenance(skillhost::queue::Maintenance::Vacuum))
        .await;
    place.work(place.worker()).await;
    let result = place.queue.result(task).await.unwrap();
    assert_eq!(result, Some(json!({"output": {"jobs": 1}})));
    assert!(matches!(
        place.queue.job(done).await,
        Err(QueueError::NotFound(_))
    ));
    assert_eq!(place.status(dead).await, JobStatus::Dead);
    assert_eq!(place.status(waiting).await, JobStatus::Pending);
}

/// Answers one request after the other, and tells what came.
async fn receiver(answers: &'static [u16]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done", listener.local_addr().unwrap());
    let receiving = tokio::spawn(async move {
        let mut came = Vec::new();
        for code in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            let mut buffer = [0; 4_096];
            // The body is JSON, and the last brace its end.
            while !(request.ends_with('}')
                && serde_json::from_str::<Value>(
                    request.split_once("\r\n\r\n").map_or("", |(_, body)| body),
                )
                .is_ok())
            {
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "{request}");
                request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            let answer =
                format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            came.push(request);
        }
        came
    });
    (url, receiving)
}

fn sender(secret: &Secret) -> CallbackSender {
    let mut settings = CallbackSettings::default();
    settings.addresses = vec!["127.0.0.1".parse().unwrap()];
    CallbackSender::new(Callbacks::new(settings).unwrap(), vec![secret.clone()])
}

fn header<'r>(request: &'r str, name: &str) -> &'r str {
    let lines = request.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(header, _)| header.eq_ignore_ascii_case(name));
    found.next().expect("it is there").1
}

/// The job that sends the callback.
async fn sending(place: &Place) -> uuid::Uuid {
    let filter = Filter {
        kind: Some(Kind::Callback),
        ..Filter::default()
    };
    let jobs = place.queue.list(&filter).await.unwrap().items;
    assert_eq!(jobs.len(), 1);
    jobs[0].id
}

async fn a_callback_is_sent_signed_and_again_until_it_is_taken(place: Place) {
    let secret = Secret::from_bytes([7; 24]).unwrap();
    let (url, receiving) = receiver(&[503, 200]).await;
    let callback = Callback { url, secret: None };
    let id = place.submit(job(json!({"a": 1})).callback(callback)).await;
    place.work(place.worker()).await;
    let sends = sending(&place).await;
    // A worker that sends none leaves it to others.
    let job = place.job(sends).await;
    assert_eq!((job.status, job.skill), (JobStatus::Pending, None));
    assert_eq!(place.attempts(sends).await, []);
    for status in [JobStatus::Failed, JobStatus::Completed] {
        place.clock.advance(Duration::from_secs(60));
        place.work(place.worker().callbacks(sender(&secret))).await;
        assert_eq!(place.status(sends).await, status);
    }
    let came = receiving.await.unwrap();
    for request in &came {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let read: Value = serde_json::from_str(body).unwrap();
        assert_eq!(read["type"], json!("job.completed"));
        assert_eq!(read["data"]["id"], json!(id));
        assert_eq!(read["data"]["result"], json!({"output": {"a": 1}}));
        assert_eq!(header(request, "webhook-id"), id.to_string());
        let signed = sign(
            &secret,
            header(request, "webhook-id"),
            header(request, "webhook-timestamp").parse().unwrap(),
            body.as_bytes(),
        );
        assert!(header(request, "webhook-signature").contains(&signed));
    }
    let attempts = place.attempts(sends).await;
    let counted = attempts.iter().filter(|attempt| attempt.counted).count();
    assert_eq!(counted, 2);
    assert_eq!(
        attempts.last().unwrap().details["delivery"]["status"],
        json!(200)
    );
}

async fn a_callback_that_is_refused_is_dead(place: Place) {
    let secret = Secret::from_bytes([7; 24]).unwrap();
    let (url, receiving) = receiver(&[410]).await;
    let callback = Callback { url, secret: None };
    place
        .submit(job(json!({"fail": "no"})).callback(callback))
        .await;
    place.work(place.worker().callbacks(sender(&secret))).await;
    let job = place.job(sending(&place).await).await;
    assert_eq!(job.status, JobStatus::Dead);
    let came = receiving.await.unwrap();
    let body: Value = serde_json::from_str(came[0].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["type"], json!("job.dead"));
    assert_eq!(body["data"]["failure"]["message"], json!("no"));
}

async fn a_callback_tells_nobody_of_anothers_job(place: Place) {
    let secret = Secret::from_bytes([7; 24]).unwrap();
    let (url, receiving) = receiver(&[410]).await;
    let callback = Callback { url, secret: None };
    let job = job(json!({"fail": "no"})).tenant("acme").callback(callback);
    place.submit(job).await;
    let worker = || place.worker().callbacks(sender(&secret));
    place.work(worker()).await;
    let sends = sending(&place).await;
    let came = receiving.await.unwrap();
    assert_eq!(came.len(), 1);
    // Somebody puts it back as another tenant's.
    let mut letter = place.queue.dead_letter(sends).await.unwrap();
    place.queue.discard(&[sends]).await.unwrap()[0]
        .as_ref()
        .unwrap();
    letter.job.submitted.tenant = Some("other".to_owned());
    letter.job.tenant = Some("other".to_owned());
    place.queue.import_dead(vec![letter]).await.unwrap();
    let replay = skillhost::queue::Replay::default();
    let again = place.queue.replay(sends, &replay).await.unwrap().id;
    place.work(worker()).await;
    let job = place.job(again).await;
    assert_eq!(job.status, JobStatus::Dead);
    let attempts = place.attempts(again).await;
    let message = attempts[0].details["failure"]["message"].as_str().unwrap();
    assert!(message.contains("there is no job"), "{message}");
}

async fn a_callback_that_takes_long_is_given_back_by_who_has_to_stop(place: Place) {
    let secret = Secret::from_bytes([7; 24]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done", listener.local_addr().unwrap());
    let callback = Callback { url, secret: None };
    place.submit(good().callback(callback)).await;
    place.work(place.worker()).await;
    place.clock.advance(Duration::from_secs(60));
    let worker = place.worker().grace(Duration::ZERO);
    let working = Working::start(worker.callbacks(sender(&secret)));
    // Takes the connection, and never answers.
    let _connection = listener.accept().await.unwrap();
    working.stop().await.unwrap();
    let job = place.job(sending(&place).await).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Pending, 0));
    assert_eq!(job.cause.as_deref(), Some("shutdown"));
}

async fn what_a_callback_is_to_tell_of_is_kept_until_it_has(place: Place) {
    let secret = Secret::from_bytes([7; 24]).unwrap();
    let (url, receiving) = receiver(&[503, 200]).await;
    let callback = Callback { url, secret: None };
    let id = place.submit(good().callback(callback)).await;
    place.work(place.worker()).await;
    let keep = Keep {
        completed: Some(Duration::from_secs(1)),
        dead: Some(Duration::from_secs(1)),
        events: None,
    };
    place.work(place.worker().callbacks(sender(&secret))).await;
    place.clock.advance(Duration::from_secs(60));
    assert_eq!(place.queue.prune(keep).await.unwrap().jobs, 0);
    place.work(place.worker().callbacks(sender(&secret))).await;
    let came = receiving.await.unwrap();
    assert!(came[1].contains("job.completed"));
    place.clock.advance(Duration::from_secs(60));
    assert_eq!(place.queue.prune(keep).await.unwrap().jobs, 2);
    let gone = place.queue.job(id).await;
    assert!(matches!(gone, Err(QueueError::NotFound(_))));
}

async fn who_waits_longest_is_who_could_start(place: Place) {
    let oldest = async || place.queue.statistics(1).await.unwrap().oldest_waiting_s;
    place.submit(good().delay(Duration::from_secs(3_600))).await;
    place.clock.advance(Duration::from_secs(60));
    assert_eq!(oldest().await, None, "it is not due");
    place.submit(good().tenant("a")).await;
    place.clock.advance(Duration::from_secs(5));
    place.submit(good().tenant("b")).await;
    place.clock.advance(Duration::from_secs(2));
    assert_eq!(oldest().await, Some(7.0));
    place.work(place.worker()).await;
    assert_eq!(oldest().await, None);
    place.clock.advance(Duration::from_secs(3_600));
    assert_eq!(
        oldest().await,
        Some(67.0),
        "it is due, and nobody has looked"
    );
    place.work(place.worker()).await;
    // One that is more urgent stands before it, and has not waited for so long.
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        place.submit(good().priority(priority)).await;
        place.clock.advance(Duration::from_secs(1));
        place.submit(good().priority(Priority::Critical)).await;
        assert_eq!(oldest().await, Some(1.0), "{priority}");
        place.work(place.worker()).await;
        assert_eq!(oldest().await, None);
    }
}

async fn progress_is_written_down_also_while_a_worker_stops(place: Place) {
    let mut gate = Gate::new();
    let worker = place.worker().handler("gate", gate.deaf());
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let stopping = std::sync::Mutex::new(Some(stopping));
    let worker = worker.on_stopping(move |_| {
        if let Some(stopping) = stopping.lock().unwrap().take() {
            let _ = stopping.send(());
        }
    });
    let working = Working::start(worker);
    let id = place.submit(NewJob::custom("gate", Value::Null)).await;
    let (task, pass) = gate.next().await;
    let stop = tokio::spawn(working.stop());
    stopped.await.unwrap();
    task.progress(50.0, "half of it");
    place.until(id, JobEventKind::Progress).await;
    pass.send(Ok(Value::Null)).unwrap();
    stop.await.unwrap().unwrap();
    assert_eq!(place.status(id).await, JobStatus::Completed);
}
