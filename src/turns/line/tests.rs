//! Who is next, and who makes room.

use proptest::prelude::*;

use super::*;

/// At once: of all; of each tenant; of each skill. Weights by tenant, 1 for others.
struct Fixed(
    u32,
    Option<u32>,
    Option<u32>,
    &'static [(&'static str, u32)],
);

impl Bounds for Fixed {
    fn all(&self) -> u32 {
        self.0
    }

    fn tenant(&self, tenant: &str) -> (Option<u32>, u32) {
        let weight = self.3.iter().find(|(name, _)| *name == tenant);
        (self.1, weight.map_or(1, |(_, weight)| *weight))
    }

    fn skill(&self, _: &str) -> Option<u32> {
        self.2
    }
}

fn all_wait(line: &mut Line<u32>, bounds: &Fixed, tenants: &[(&str, u32)]) {
    for _ in 0..bounds.0 {
        assert!(line.start("first", "s", bounds).is_some());
    }
    for (tenant, count) in tenants {
        for number in 0..*count {
            assert!(line.start(tenant, "s", bounds).is_none());
            line.wait(tenant, "s", number);
        }
    }
}

/// Ends one and starts the next, as often as it goes.
fn drain(line: &mut Line<u32>, bounds: &Fixed) -> Vec<(String, u32)> {
    let mut order = Vec::new();
    line.finish(None);
    while let Some((number, whose)) = line.next(bounds) {
        order.push((whose.tenant.to_string(), number));
        line.finish(Some(&whose));
    }
    order
}

#[test]
fn tenants_take_turns_and_each_goes_in_order() {
    let bounds = Fixed(1, None, None, &[]);
    let mut line = Line::default();
    all_wait(&mut line, &bounds, &[("a", 4), ("b", 2)]);
    let order = drain(&mut line, &bounds);
    let order: Vec<_> = order.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    assert_eq!(
        order,
        [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("a", 3)]
    );
    assert!(line.shares.is_empty() && line.skills.is_empty());
}

#[test]
fn a_weight_of_three_is_three_times_as_much() {
    let bounds = Fixed(1, None, None, &[("a", 3)]);
    let mut line = Line::default();
    all_wait(&mut line, &bounds, &[("a", 30), ("b", 30)]);
    let order = drain(&mut line, &bounds);
    let of_a = order[..20].iter().filter(|(tenant, _)| tenant == "a");
    assert_eq!(of_a.count(), 15);
}

#[test]
fn who_is_held_back_by_its_own_bound_holds_back_nobody() {
    let bounds = Fixed(4, Some(1), None, &[]);
    let mut line = Line::default();
    assert!(line.start("a", "s", &bounds).is_some());
    assert!(line.start("a", "s", &bounds).is_none());
    line.wait("a", "s", 0);
    assert!(line.next(&bounds).is_none());
    line.wait("b", "s", 1);
    let (number, whose) = line.next(&bounds).unwrap();
    assert_eq!((number, &*whose.tenant), (1, "b"));
    // The same of a skill, within one tenant.
    let bounds = Fixed(4, None, Some(1), &[]);
    let mut line = Line::default();
    assert!(line.start("a", "s", &bounds).is_some());
    line.wait("a", "s", 0);
    line.wait("a", "t", 1);
    assert_eq!(line.next(&bounds).unwrap().0, 1);
    assert!(line.next(&bounds).is_none());
}

#[test]
fn who_has_room_starts_whoever_else_waits_and_pays_for_it() {
    let bounds = Fixed(3, Some(1), Some(2), &[]);
    let mut line = Line::default();
    assert!(line.start("a", "s", &bounds).is_some());
    assert!(line.start("a", "s", &bounds).is_none());
    line.wait("a", "s", 0);
    let of_b = line.start("b", "s", &bounds).expect("there is room");
    assert!(line.start("b", "t", &bounds).is_none(), "its own bound");
    assert!(line.start("c", "s", &bounds).is_none(), "the skill's bound");
    let of_c = line.start("c", "t", &bounds).expect("there is room");
    assert!(line.start("d", "t", &bounds).is_none(), "the bound of all");
    // What they have had counts once they wait.
    assert_eq!(line.shares["b"].had, COST);
    assert_eq!(line.shares["c"].had, COST);
    line.finish(of_b.as_ref());
    line.finish(of_c.as_ref());
    line.finish(Some(&line.whose("a", "s")));
    assert_eq!(line.next(&bounds).unwrap().0, 0);
}

#[test]
fn who_leaves_is_not_called() {
    let bounds = Fixed(1, None, None, &[]);
    let mut line = Line::default();
    all_wait(&mut line, &bounds, &[("a", 2)]);
    let ticket = line.wait("a", "s", 7);
    assert_eq!(line.leave(&ticket), Some(7));
    assert_eq!(line.leave(&ticket), None);
    assert_eq!(drain(&mut line, &bounds).len(), 2);
}

#[test]
fn the_longest_makes_room_for_others_and_not_for_itself() {
    let bounds = Fixed(1, None, None, &[]);
    let mut line = Line::default();
    all_wait(&mut line, &bounds, &[("a", 5), ("b", 1)]);
    assert_eq!(line.push_out("a", &bounds), None);
    assert_eq!(line.push_out("c", &bounds), Some(4), "the last of a's");
    assert_eq!(line.push_out("b", &bounds), Some(3));
    line.wait("b", "s", 1);
    line.wait("b", "s", 2);
    assert_eq!(line.push_out("b", &bounds), None, "as long as the longest");
    assert_eq!(line.waiting(), 6);
}

/// One floods, nine send one each time the last is answered; however many may run at once.
#[test]
fn a_flood_takes_no_more_than_its_share() {
    for at_once in [1, 2, 4] {
        let bounds = Fixed(at_once, None, None, &[]);
        let mut line = Line::default();
        let names: Vec<String> = (0..9).map(|number| format!("t{number}")).collect();
        let mut served: HashMap<String, u32> = HashMap::new();
        let mut running: VecDeque<Option<Whose>> = VecDeque::new();
        for number in 0..1_000 {
            match line.start("flood", "s", &bounds) {
                Some(whose) => running.push_back(whose),
                None => drop(line.wait("flood", "s", number)),
            }
        }
        for name in &names {
            line.wait(name, "s", 0);
        }
        for _ in 0..1_000 {
            let ended = running.pop_front().unwrap();
            line.finish(ended.as_ref());
            if let Some(whose) = ended.filter(|whose| &*whose.tenant != "flood") {
                line.wait(&whose.tenant, "s", 0);
            }
            let (_, whose) = line.next(&bounds).unwrap();
            *served.entry(whose.tenant.to_string()).or_default() += 1;
            running.push_back(Some(whose));
        }
        for name in &names {
            let had = served[name];
            assert!((90..=105).contains(&had), "{at_once}: {name} had {had}");
        }
    }
}

#[test]
fn what_is_remembered_of_tenants_is_bounded() {
    let bounds = Fixed(1, None, None, &[]);
    let mut line = Line::default();
    assert!(line.start("a", "s", &bounds).is_some());
    line.wait("a", "s", 0);
    line.wait("a", "s", 0);
    line.finish(None);
    let mut last = line.next(&bounds).unwrap().1;
    for number in 0..5 * MAX_REMEMBERED {
        line.wait(&number.to_string(), "s", 0);
        line.finish(Some(&last));
        last = line.next(&bounds).unwrap().1;
    }
    assert!(line.shares.len() <= 2 * MAX_REMEMBERED);
}

proptest! {
    /// Whatever comes and goes: no bound is passed, nobody who could start is left waiting, and of
    /// two tenants that always wait neither is ever more than one start ahead of its share.
    #[test]
    fn bounds_hold_and_shares_are_fair(
        steps in prop::collection::vec((0_usize..4, 0_usize..3, 0_u8..3), 1..300),
        all in 1_u32..5,
        of_tenant in prop::option::of(1_u32..4),
        of_skill in prop::option::of(1_u32..4),
    ) {
        const TENANTS: [&str; 4] = ["a", "b", "c", "d"];
        const SKILLS: [&str; 3] = ["s", "t", "u"];
        let bounds = Fixed(all, of_tenant, of_skill, &[("a", 2)]);
        let mut line = Line::default();
        let mut running: Vec<(usize, usize, Option<Whose>)> = Vec::new();
        let mut waiting: Vec<Ticket> = Vec::new();
        let place = |names: &[&str], name: &str| {
            names.iter().position(|other| *other == name).unwrap()
        };
        for (tenant, skill, what) in steps {
            match what {
                0 | 1 => match line.start(TENANTS[tenant], SKILLS[skill], &bounds) {
                    Some(whose) => running.push((tenant, skill, whose)),
                    None => waiting.push(line.wait(TENANTS[tenant], SKILLS[skill], 0)),
                },
                _ if tenant == 0 && !waiting.is_empty() => {
                    let ticket = waiting.remove(skill % waiting.len());
                    prop_assert!(line.leave(&ticket).is_some());
                }
                _ if !running.is_empty() => {
                    let (_, _, whose) = running.remove(skill % running.len());
                    line.finish(whose.as_ref());
                }
                _ => {}
            }
            while let Some((_, whose)) = line.next(&bounds) {
                let tenant = place(&TENANTS, &whose.tenant);
                let skill = place(&SKILLS, &whose.skill);
                let at = waiting.iter().position(|ticket| ticket.whose == whose).unwrap();
                waiting.remove(at);
                running.push((tenant, skill, Some(whose)));
            }
            prop_assert!(running.len() <= all as usize);
            let of = |tenant: usize| running.iter().filter(|one| one.0 == tenant).count();
            let on = |skill: usize| running.iter().filter(|one| one.1 == skill).count();
            for tenant in 0..4 {
                prop_assert!(of_tenant.is_none_or(|most| of(tenant) <= most as usize));
            }
            for skill in 0..3 {
                prop_assert!(of_skill.is_none_or(|most| on(skill) <= most as usize));
            }
            prop_assert_eq!(line.waiting() as usize, waiting.len());
            prop_assert_eq!(line.running() as usize, running.len());
            for Ticket { whose, .. } in &waiting {
                let free = running.len() < all as usize
                    && of_tenant.is_none_or(|most| of(place(&TENANTS, &whose.tenant)) < most as usize)
                    && of_skill.is_none_or(|most| on(place(&SKILLS, &whose.skill)) < most as usize);
                prop_assert!(!free, "{whose:?} could run");
            }
        }
    }

    /// Of tenants that always have something waiting, each gets its weight's part to within one
    /// start for each other tenant.
    #[test]
    fn shares_follow_weights(rounds in 10_u32..400, all in 1_u32..4) {
        let bounds = Fixed(all, None, None, &[("a", 4), ("b", 2)]);
        let mut line = Line::default();
        for _ in 0..all {
            line.start("x", "s", &bounds);
        }
        for name in ["a", "b", "c"] {
            for _ in 0..rounds {
                line.wait(name, "s", 0);
            }
        }
        let mut had: HashMap<String, f64> = HashMap::new();
        let mut last = None;
        for _ in 0..rounds {
            line.finish(last.as_ref());
            let whose = line.next(&bounds).unwrap().1;
            *had.entry(whose.tenant.to_string()).or_default() += 1.0;
            last = Some(whose);
        }
        for (name, weight) in [("a", 4.0), ("b", 2.0), ("c", 1.0)] {
            let share = f64::from(rounds) * weight / 7.0;
            let had = had.get(name).copied().unwrap_or_default();
            prop_assert!((had - share).abs() <= 3.0, "{name} had {had} of {share}");
        }
    }
}
