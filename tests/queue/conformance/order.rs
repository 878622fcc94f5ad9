//! Whose job is next.

use std::time::Duration;

use serde_json::json;
use skillhost::queue::{Bounds, NewJob, Priority, ScopeKind};

use super::cases;
use crate::place::{Place, Seen};

cases![
    the_more_urgent_goes_first_and_who_waits_rises,
    nothing_starts_before_its_time,
    tenants_take_turns,
    weights_are_proportions,
    who_could_not_start_does_not_catch_up_all_at_once,
    queues_take_turns,
    a_change_of_priority_changes_the_order,
    however_many_skills_a_tenant_has_waiting_the_first_is_next,
    however_many_queues_there_are_they_take_turns,
    what_is_due_and_may_not_start_hides_nothing,
];

fn named(name: &str) -> NewJob {
    NewJob::custom("see", json!(name))
}

/// Works with one job at a time, and tells in which order they came.
async fn order(place: &Place) -> String {
    let seen = Seen::default();
    let worker = place.worker().concurrency(1).handler("see", seen.handler());
    place.work(worker).await;
    seen.names()
}

async fn the_more_urgent_goes_first_and_who_waits_rises(place: Place) {
    use Priority::{Critical, High, Low, Normal};
    for (name, priority) in [("l", Low), ("n", Normal), ("h", High), ("c", Critical)] {
        place.submit(named(name).priority(priority)).await;
    }
    assert_eq!(order(&place).await, "c h n l");
    // A low one that waited for 90 minutes goes before a critical one that comes then.
    place.submit(named("low").priority(Low)).await;
    place.clock.advance(Duration::from_secs(29 * 60));
    place.submit(named("before").priority(Normal)).await;
    place.clock.advance(Duration::from_secs(62 * 60));
    place.submit(named("critical").priority(Critical)).await;
    assert_eq!(order(&place).await, "before low critical");
}

async fn nothing_starts_before_its_time(place: Place) {
    let soon = named("soon").delay(Duration::from_secs(10));
    place.submit(soon.priority(Priority::Critical)).await;
    let at = place.queue.now() + chrono::Duration::seconds(20);
    place.submit(named("then").at(at)).await;
    place.submit(named("now")).await;
    assert_eq!(order(&place).await, "now");
    place.clock.advance(Duration::from_secs(9));
    assert_eq!(order(&place).await, "");
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(order(&place).await, "soon");
    place.clock.advance(Duration::from_secs(10));
    assert_eq!(order(&place).await, "then");
}

async fn tenants_take_turns(place: Place) {
    let mut jobs: Vec<NewJob> = (0..6).map(|_| named("a").tenant("a")).collect();
    jobs.extend((0..2).map(|_| named("b").tenant("b").priority(Priority::Low)));
    jobs.extend((0..2).map(|_| named("-")));
    place.queue.submit_all(jobs).await.unwrap();
    let order = order(&place).await.replace(' ', "");
    assert_eq!(order.len(), 10);
    for third in [&order[..3], &order[3..6]] {
        for tenant in ['a', 'b', '-'] {
            assert!(third.contains(tenant), "{order}");
        }
    }
    assert_eq!(&order[6..], "aaaa");
}

async fn weights_are_proportions(place: Place) {
    let bounds = Bounds {
        weight: Some(3),
        ..Bounds::default()
    };
    place
        .queue
        .set_bounds(ScopeKind::Tenant, "a", bounds)
        .await
        .unwrap();
    let jobs = (0..12).flat_map(|_| [named("a").tenant("a"), named("b").tenant("b")]);
    place.queue.submit_all(jobs.collect()).await.unwrap();
    let order = order(&place).await.replace(' ', "");
    let first = &order[..16];
    let count = first.matches('a').count();
    assert!((11..=13).contains(&count), "{order}");
}

async fn who_could_not_start_does_not_catch_up_all_at_once(place: Place) {
    let four = |name: &str| (0..4).map(|_| named(name).tenant(name)).collect::<Vec<_>>();
    place.queue.submit_all(four("a")).await.unwrap();
    let pause = async |paused| {
        let paused = place.queue.pause_all(ScopeKind::Tenant, "a", paused);
        paused.await.unwrap();
    };
    pause(true).await;
    place.queue.submit_all(four("b")).await.unwrap();
    assert_eq!(order(&place).await, "b b b b");
    place.queue.submit_all(four("b")).await.unwrap();
    pause(false).await;
    let order = order(&place).await.replace(' ', "");
    assert_eq!(order.len(), 8);
    assert!(order[..4].contains('b'), "{order}");
    assert!(order[4..].contains('a'), "{order}");
}

async fn queues_take_turns(place: Place) {
    let jobs = (0..4).flat_map(|_| [named("x").queue("x"), named("y").queue("y")]);
    place.queue.submit_all(jobs.collect()).await.unwrap();
    let order = order(&place).await.replace(' ', "");
    assert_eq!(order[..4].matches('x').count(), 2, "{order}");
    place.submit(named("x").queue("x")).await;
    let seen = Seen::default();
    let worker = place.worker().queues(["y"]).handler("see", seen.handler());
    place.work(worker).await;
    assert_eq!(seen.names(), "", "it serves another queue");
}

async fn a_change_of_priority_changes_the_order(place: Place) {
    let first = place.submit(named("first")).await;
    let second = place.submit(named("second")).await;
    let third = place.submit(named("third")).await;
    let changed = place
        .queue
        .set_priority(&[third], Priority::Critical)
        .await
        .unwrap();
    assert!(changed[0].is_ok());
    place
        .queue
        .set_priority(&[first], Priority::Low)
        .await
        .unwrap();
    assert_eq!(order(&place).await, "third second first");
    assert_eq!(place.job(second).await.priority, Priority::Normal);
    let late = place.queue.set_priority(&[first], Priority::High).await;
    assert!(late.unwrap()[0].is_err());
}

async fn however_many_skills_a_tenant_has_waiting_the_first_is_next(place: Place) {
    let of_skill = |number: usize, name: String| NewJob {
        skill: Some(format!("skill-{number}")),
        ..named(&name)
    };
    let jobs = (0..100).map(|number| of_skill(number, format!("{number}")));
    place.queue.submit_all(jobs.collect()).await.unwrap();
    // Those that came first are the first; so are more urgent ones, wherever they stand.
    place.clock.advance(Duration::from_secs(1));
    let urgent = |number| of_skill(number, "urgent".to_owned()).priority(Priority::Critical);
    place.submit(urgent(99)).await;
    place.submit(urgent(50)).await;
    place.clock.advance(Duration::from_secs(1));
    place.submit(of_skill(0, "last".to_owned())).await;
    let order = order(&place).await;
    let mut names = order.split(' ');
    assert_eq!(names.next(), Some("urgent"));
    assert_eq!(names.next(), Some("urgent"));
    assert_eq!(names.next_back(), Some("last"));
    let rest: std::collections::BTreeSet<&str> = names.collect();
    assert_eq!(rest.len(), 100);
}

async fn however_many_queues_there_are_they_take_turns(place: Place) {
    let of = |number: usize| named(&format!("{number}")).queue(format!("queue-{number}"));
    let jobs = (0..2).flat_map(|_| (0..100).map(of));
    place.queue.submit_all(jobs.collect()).await.unwrap();
    let order = order(&place).await;
    let names: Vec<&str> = order.split(' ').collect();
    assert_eq!(names.len(), 200);
    for half in [&names[..100], &names[100..]] {
        let different: std::collections::BTreeSet<&&str> = half.iter().collect();
        assert_eq!(different.len(), 100, "{order}");
    }
}

/// More jobs become due at once than are put in line at a time, and none of them may start.
async fn what_is_due_and_may_not_start_hides_nothing(place: Place) {
    let paused = place.queue.pause_all(ScopeKind::Queue, "closed", true);
    paused.await.unwrap();
    let soon = Duration::from_secs(1);
    let closed = (0..1_100).map(|_| named("closed").queue("closed").delay(soon));
    place.queue.submit_all(closed.collect()).await.unwrap();
    place.submit(named("open").delay(2 * soon)).await;
    place.clock.advance(3 * soon);
    assert_eq!(order(&place).await, "open");
}
