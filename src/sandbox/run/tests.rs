use chrono::{TimeDelta, Utc};

use super::*;

fn flight(deadline: Option<TimeDelta>) -> Flight {
    let deadline = deadline.map(|later| Utc::now() + later);
    Flight::new(Uuid::nil(), [None, None], Limits::default(), deadline)
}

/// What becomes of something that is never ready.
async fn never(flight: &mut Flight, cancellation: Option<&CancellationToken>) -> Cause {
    let never = std::future::pending::<Result<(), NotGranted>>();
    let ended = within_time(flight, cancellation, never).await.unwrap();
    ended.expect_err("it is never ready").cause
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_is_granted_past_a_limit() {
    let began = Instant::now();
    // Without a deadline, as long as it may run.
    for (deadline, by) in [
        (Some(TimeDelta::seconds(5)), Limit::Deadline),
        (None, Limit::WallTime),
    ] {
        let cause = never(&mut flight(deadline), None).await;
        let Cause::Timeout { limit, phase, .. } = cause else {
            panic!("{cause:?}");
        };
        assert_eq!((limit, phase), (by, Phase::Waiting));
    }
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let cause = never(&mut flight(None), Some(&cancelled)).await;
    assert!(matches!(cause, Cause::Cancelled { .. }), "{cause:?}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "time stands still"
    );
}

/// What is there is had, however late it is.
#[tokio::test(start_paused = true)]
async fn what_is_ready_is_had() {
    let mut late = flight(Some(TimeDelta::seconds(-1)));
    let ready = within_time(&mut late, None, std::future::ready(Ok(7))).await;
    assert_eq!(ready.unwrap().ok(), Some(7));
}
