use super::*;

async fn interrupted<F: Future>(
    future: F,
    wall_time: Duration,
    token: &CancellationToken,
) -> Result<F::Output, Stop> {
    let deadline = tokio::time::Instant::now().into_std() + wall_time;
    let mut cpu_time = Duration::ZERO;
    let slice = || Duration::from_micros(100);
    Interruptible::new(future, deadline, Some(token), slice, &mut cpu_time).await
}

/// Yields without end, as a guest that computes does.
async fn spin() {
    loop {
        hand_back().await;
    }
}

#[test]
fn looks_are_closer_in_a_crowd() {
    let with = |micros| fuel_between_checks(Duration::from_micros(micros), 1);
    assert_eq!([1_000, 500, 250].map(with), [200_000, 100_000, 50_000]);
    let with_more = |micros| fuel_between_checks(Duration::from_micros(micros), 4);
    assert_eq!([1_000, 500, 250].map(with_more), [800_000, 100_000, 50_000]);
    assert_eq!(
        [u64::MAX, 4_000, 40, 0].map(with),
        [200_000, 200_000, 50_000, 50_000]
    );
}

#[tokio::test]
async fn what_ends_is_passed_on() {
    let token = CancellationToken::new();
    let minute = Duration::from_secs(60);
    assert_eq!(interrupted(async { 7 }, minute, &token).await, Ok(7));
    let woken_later = async {
        tokio::task::spawn(async {}).await.unwrap();
        8
    };
    assert_eq!(interrupted(woken_later, minute, &token).await, Ok(8));
}

#[tokio::test]
async fn a_spinning_guest_is_stopped() {
    let token = CancellationToken::new();
    let stopped = interrupted(spin(), Duration::from_millis(5), &token).await;
    assert_eq!(stopped, Err(Stop::TimeIsUp));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_guest_is_stopped() {
    let token = CancellationToken::new();
    let stopped = interrupted(
        std::future::pending::<()>(),
        Duration::from_secs(3600),
        &token,
    )
    .await;
    assert_eq!(stopped, Err(Stop::TimeIsUp));
}

#[tokio::test]
async fn both_are_stopped_by_the_token() {
    let minute = Duration::from_secs(60);
    let token = CancellationToken::new();
    let (spinning, waiting, ()) = tokio::join!(
        interrupted(spin(), minute, &token),
        interrupted(std::future::pending::<()>(), minute, &token),
        async { token.cancel() },
    );
    assert_eq!(
        (spinning, waiting),
        (Err(Stop::Cancelled), Err(Stop::Cancelled))
    );
}

/// The runtime looks at its timers only when it has nothing else to do, or after so many tasks:
/// here, never.
#[test]
fn a_spinning_guest_keeps_no_timer_waiting() {
    let code = preempt::tests::code();
    let known = preempt::tests::code();
    known.conducts.of(None).known.note(Instant::now());
    // One of another runtime's.
    let other = gate::others_that_run();
    for code in [code, known] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .event_interval(u32::MAX)
            .build()
            .unwrap();
        let token = CancellationToken::new();
        let stopped = runtime.block_on(async {
            let token_of = token.clone();
            let spinning = tokio::spawn(async move {
                let deadline = Instant::now() + Duration::from_secs(3);
                let mut cpu_time = Duration::ZERO;
                let slice = || Duration::from_micros(100);
                Interruptible::new(spin(), deadline, Some(&token_of), slice, &mut cpu_time)
                    .preempted(&code, code.conducts.of(None), Duration::MAX, 1)
                    .await
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
            token.cancel();
            spinning.await.unwrap()
        });
        assert_eq!(stopped, Err(Stop::Cancelled));
    }
    drop(other);
}

/// Nor on a runtime with threads, all of which have one that spins.
#[test]
fn one_that_passed_keeps_no_timer_waiting() {
    let known = Arc::new(preempt::tests::code());
    known.conducts.of(None).known.note(Instant::now());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .event_interval(u32::MAX)
        .enable_time()
        .build()
        .unwrap();
    let token = CancellationToken::new();
    let spin_of = |code: Arc<Code>| {
        let token = token.clone();
        runtime.spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(3);
            let mut cpu_time = Duration::ZERO;
            let slice = || Duration::from_micros(100);
            Interruptible::new(spin(), deadline, Some(&token), slice, &mut cpu_time)
                .preempted(&code, code.conducts.of(None), Duration::MAX, 1)
                .await
        })
    };
    let spinning = [known, Arc::new(preempt::tests::code())].map(spin_of);
    let timer = runtime.spawn({
        let token = token.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            token.cancel();
        }
    });
    for spinning in spinning {
        let stopped = runtime.block_on(spinning).unwrap();
        assert_eq!(stopped, Err(Stop::Cancelled));
    }
    runtime.block_on(timer).unwrap();
}

#[test]
fn whoever_takes_many_slices_gives_up_as_many_turns() {
    let millis = Duration::from_millis;
    let slice = Duration::from_micros(200);
    assert_eq!(owed(slice, slice), 0);
    assert_eq!(owed(slice * 2 - Duration::from_nanos(1), slice), 0);
    assert_eq!(
        [millis(1), millis(7), millis(1_000)].map(|taken| owed(taken, slice)),
        [4, 34, 250]
    );
    assert_eq!(owed(millis(1), Duration::ZERO), 250);
}

/// How many turns others have while one has four that are 50 slices long, by its processor time, and after each
/// does what it is given.
async fn others_beside<F: Future<Output = ()>>(after: impl Fn() -> F) -> u32 {
    let token = CancellationToken::new();
    let slice = Duration::from_micros(100);
    let mut others = 0;
    let slow = async {
        for _ in 0..4 {
            let after = after();
            let began = measure::thread_cpu_time();
            while measure::thread_cpu_time() - began < 51 * slice {}
            after.await;
        }
    };
    let slow = interrupted(slow, Duration::from_secs(60), &token);
    let mut slow = std::pin::pin!(slow);
    let ended = std::future::poll_fn(|context| {
        others += 1;
        slow.as_mut().poll(context)
    });
    assert_eq!(ended.await, Ok(()));
    others
}

#[tokio::test]
async fn whoever_keeps_a_thread_lets_others_go_first() {
    let others = others_beside(hand_back).await;
    assert!(others >= 4 * 49, "{others}");
}

/// Also where it goes from its own turn to waiting for what is there soon.
#[tokio::test]
async fn whoever_waits_after_long_lets_others_go_first() {
    let soon = || {
        let soon = tokio::spawn(async {});
        async { soon.await.unwrap() }
    };
    let others = others_beside(soon).await;
    assert!(others >= 4 * 49, "{others}");
}

/// Nor does it help to end, and to come again.
#[tokio::test]
async fn whoever_comes_after_one_that_kept_a_thread_lets_others_go_first() {
    let code = preempt::tests::code();
    let (token, slice) = (CancellationToken::new(), Duration::from_micros(100));
    let mut polls = Vec::new();
    for busy in [51 * slice, Duration::ZERO, Duration::ZERO] {
        let short = async {
            let began = measure::thread_cpu_time();
            while measure::thread_cpu_time() - began < busy {}
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut cpu_time = Duration::ZERO;
        let short = Interruptible::new(short, deadline, Some(&token), || slice, &mut cpu_time);
        let mut short =
            std::pin::pin!(short.preempted(&code, code.conducts.of(None), Duration::MAX, 1));
        let mut polled = 0;
        let ended = std::future::poll_fn(|context| {
            polled += 1;
            short.as_mut().poll(context)
        });
        assert_eq!(ended.await, Ok(()));
        polls.push(polled);
    }
    // By the longest slice, that of no crowd: 5.1 ms are 25 of those.
    assert!(polls[0] == 1 && polls[1] >= 25, "{polls:?}");
    assert!(polls[2] < 25, "{polls:?}");
}

#[tokio::test]
async fn a_panic_stays_inside() {
    let token = CancellationToken::new();
    let stopped = interrupted(
        async { panic!("expected by the test") },
        Duration::from_secs(60),
        &token,
    );
    assert_eq!(stopped.await, Err::<(), _>(Stop::Panicked));
}
