use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    hold: Hold,
    now: Instant,
}

impl World {
    /// A service with `n` instances, `i0` at `h:0` and so on.
    fn new(n: usize, rules: Protection) -> Self {
        let mut world = World {
            hold: Hold::new(rules),
            now: Instant::now(),
        };
        for n in 0..n {
            world.apply([Change::Added(web(n))]);
        }
        world
    }

    /// Applies changes that belong together, and returns what is shown, in short.
    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> String {
        for change in changes {
            self.hold.apply(change, false, self.now);
        }
        self.hold.decide(self.now);
        self.steps()
    }

    fn steps(&mut self) -> String {
        let steps = self.hold.take_steps().into_iter().filter_map(|step| {
            let id = step.instance().id.clone();
            Some(match step {
                ShownStep::Added(_) => format!("+{id}"),
                ShownStep::Updated { instance, .. } => format!("~{id} {}", instance.status),
                ShownStep::Removed { cause, .. } => format!("-{id} {cause:?}"),
                ShownStep::Demoted(_) | ShownStep::Promoted(_) => return None,
            })
        });
        steps.collect::<Vec<_>>().join(", ")
    }

    fn after(&mut self, time: Duration) -> String {
        self.now += time;
        self.hold.decide(self.now);
        self.steps()
    }

    fn probed(&mut self, n: usize, verdict: Verdict) -> String {
        let addr: Arc<str> = web(n).addr.as_str().into();
        self.hold.probed(&addr, verdict, self.now);
        self.steps()
    }
}

fn web(n: usize) -> Arc<Instance> {
    Arc::new(Instance::new("web", format!("h:{n}")).id(format!("i{n}")))
}

fn gone(n: usize, cause: Cause) -> Change {
    let instance = web(n);
    Change::Removed { instance, cause }
}

fn expired(ns: std::ops::Range<usize>) -> impl Iterator<Item = Change> {
    ns.map(|n| gone(n, Cause::Expired))
}

#[test]
fn one_expiry_is_shown_after_the_flap_window() {
    let mut world = World::new(10, Protection::default());
    assert_eq!(world.apply(expired(0..1)), "");
    assert!(world.hold.is_holding());
    assert_eq!(world.after(SECOND * 2), "");
    assert_eq!(world.after(SECOND), "-i0 Expired");
    assert!(!world.hold.is_holding() && world.hold.due().is_none());
}

#[test]
fn an_instance_that_is_back_in_the_flap_window_was_never_gone() {
    let mut world = World::new(3, Protection::default());
    world.apply(expired(0..1));
    assert_eq!(world.apply([Change::Added(web(0))]), "");
    assert_eq!(world.after(SECOND * 60), "");
    // A restart is one update, because the incarnation differs.
    world.apply(expired(0..1));
    let mut restarted = (*web(0)).clone();
    restarted.incarnation = 7;
    assert_eq!(world.apply([Change::Added(Arc::new(restarted))]), "~i0 up");
    assert_eq!(world.after(SECOND * 60), "");
}

#[test]
fn what_left_or_was_replaced_is_shown_at_once() {
    let mut world = World::new(10, Protection::default());
    let left = (0..9).map(|n| gone(n, if n < 5 { Cause::Left } else { Cause::Replaced }));
    let shown = world.apply(left);
    assert_eq!(shown.matches("Left").count(), 5, "{shown}");
    assert_eq!(shown.matches("Replaced").count(), 4, "{shown}");
    let draining = Arc::new((*web(9)).clone().status(Status::Draining));
    let change = Change::Removed {
        instance: draining,
        cause: Cause::Resync,
    };
    assert_eq!(world.apply([change]), "-i9 Resync");
}

#[test]
fn a_mass_expiry_is_held_to_the_limit_and_leaving_is_not() {
    let mut world = World::new(50, Protection::default());
    let mut shown = String::new();
    // One after the other: the first ones are held for the flap window until there are too many.
    for n in 0..30 {
        world.now += SECOND / 10;
        shown += &world.apply(expired(n..n + 1));
        shown += ";";
        shown += &world.apply(
            [gone(49 - n % 10, Cause::Left)]
                .into_iter()
                .take(usize::from(n < 10)),
        );
    }
    assert_eq!(shown.matches("suspect").count(), 30, "{shown}");
    assert_eq!(shown.matches("Left").count(), 10, "{shown}");
    assert!(!shown.contains("Expired"), "{shown}");
    let counted = world.hold.take_mass_expiry();
    assert!(counted.is_some_and(|n| n > 5), "{counted:?}");
    assert_eq!(world.hold.take_mass_expiry(), None, "it is reported once");
    // The first ones expired 3 s ago.
    assert_eq!(world.after(SECOND * 56), "");
    assert_eq!(world.after(SECOND * 5).matches("Expired").count(), 30);
}

#[test]
fn the_limit_is_three_times_the_time_to_live_if_that_is_longer() {
    let mut world = World::new(10, Protection::default());
    world.hold.ttl(SECOND * 10);
    world.apply(expired(0..8));
    // It becomes known later.
    world.hold.ttl(SECOND * 40);
    assert_eq!(world.after(SECOND * 61), "");
    assert_eq!(world.after(SECOND * 58), "");
    assert_eq!(world.after(SECOND * 2).matches("Expired").count(), 8);
    let mut world = World::new(10, Protection::default());
    world.apply(expired(0..8));
    assert_eq!(world.hold.due(), Some(world.now + SECOND * 60));
    assert_eq!(world.after(SECOND * 60).matches("Expired").count(), 8);
}

#[test]
fn few_instances_or_a_small_share_or_a_long_time_are_no_mass_expiry() {
    let no_mass = |mut world: World, some: usize, pause: Duration| {
        let mut shown = String::new();
        for n in 0..some {
            shown += &world.apply(expired(n..n + 1));
            shown += &world.after(pause);
        }
        assert!(!shown.contains("suspect"), "{shown}");
        shown += &world.after(SECOND * 4);
        assert_eq!(shown.matches("Expired").count(), some, "{shown}");
    };
    no_mass(World::new(4, Protection::default()), 4, Duration::ZERO);
    no_mass(World::new(10, Protection::default()), 3, Duration::ZERO);
    no_mass(World::new(20, Protection::default()), 9, SECOND * 6);
    no_mass(World::new(100, Protection::off()), 100, Duration::ZERO);
    let mut world = World::new(5, Protection::default());
    let shown = world.apply(expired(0..2));
    assert_eq!(shown.matches("suspect").count(), 2, "40 % of 5: {shown}");
}

#[test]
fn expiries_within_exactly_the_time_count_together() {
    for (pause, suspects) in [(14, 4), (15, 4), (16, 0)] {
        // Of 11, three are no mass expiry and four are.
        let mut world = World::new(11, Protection::default().flap_window(SECOND * 20));
        assert_eq!(world.apply(expired(0..1)), "");
        world.after(SECOND * pause);
        let shown = world.apply(expired(1..4));
        assert_eq!(shown.matches("suspect").count(), suspects, "{pause}");
    }
}

#[test]
fn an_instance_that_expires_again_counts_by_its_last_expiry() {
    let mut world = World::new(11, Protection::default());
    world.apply(expired(0..1));
    world.after(SECOND);
    world.apply([Change::Added(web(0))]);
    world.after(SECOND * 10);
    world.apply(expired(0..1));
    // The first expiry is longer ago than the time, and the second is not.
    world.after(SECOND * 6);
    let shown = world.apply(expired(1..4));
    assert_eq!(shown.matches("suspect").count(), 3, "{shown}");
}

#[test]
fn a_key_that_is_replaced_by_another_of_the_same_instance_is_no_change() {
    let mut world = World::new(1, Protection::default());
    world.hold.unexplained(web(0));
    let (instance, before) = (web(0), web(0));
    let same = Change::Updated { instance, before };
    world.hold.apply(same, false, world.now);
    let steps = [ShownStep::Demoted(web(0)), ShownStep::Promoted(web(0))];
    assert_eq!(world.hold.take_steps(), steps);
    let heavier = Arc::new((*web(0)).clone().weight(7));
    let (instance, before) = (heavier, web(0));
    assert_eq!(
        world.apply([Change::Updated { instance, before }]),
        "~i0 up"
    );
}

#[test]
fn a_bounded_number_of_instances_is_held() {
    let mut world = World::new(0, Protection::default());
    for change in expired(0..MAX_HELD + 2) {
        world.hold.apply(change, false, world.now);
    }
    assert_eq!(world.hold.held.len(), MAX_HELD);
    assert_eq!(world.steps(), "-i65536 Expired, -i65537 Expired");
}

#[test]
fn only_what_is_held_is_probed_and_nothing_without_probes() {
    let mut world = World::new(10, Protection::default());
    // It expired and is back before the decision.
    world.apply(expired(0..8).chain([Change::Added(web(3))]));
    let probes = world.hold.take_probes(world.now);
    assert!(probes.len() == 7 && !probes.contains(&"h:3".into()));
    let mut world = World::new(10, Protection::default().probe(false));
    world.apply(expired(0..8));
    assert_eq!(world.hold.take_probes(world.now), []);
}

proptest! {
    /// The counts and the times agree with the instances that are held, whatever happens.
    #[test]
    fn the_counts_are_those_of_the_instances(
        steps in prop::collection::vec((0u8..7, 0usize..12, 0u64..40), 1..80),
    ) {
        let mut world = World::new(12, Protection::default());
        let mut registered = [true; 12];
        for (action, n, seconds) in steps {
            match action {
                0..=2 if registered[n] => {
                    registered[n] = false;
                    let cause = if action == 2 { Cause::Left } else { Cause::Expired };
                    world.apply([gone(n, cause)]);
                }
                0..=2 => {
                    registered[n] = true;
                    world.apply([Change::Added(web(n))]);
                }
                3 => drop(world.probed(n, Verdict::Dead)),
                _ => drop(world.after(SECOND * u32::try_from(seconds).unwrap())),
            }
            let hold = &world.hold;
            let present = registered.iter().filter(|registered| **registered);
            prop_assert_eq!(hold.present, present.count());
            let lately = hold.held.keys().filter(|name| hold.expired.contains_key(*name));
            prop_assert_eq!(hold.held_lately, lately.count());
            let held = hold.held.iter();
            let due: BTreeSet<_> = held.map(|(name, one)| (one.until, name.clone())).collect();
            prop_assert_eq!(&hold.due, &due);
        }
    }
}

#[test]
fn without_protection_an_expiry_is_shown_at_once() {
    let mut world = World::new(10, Protection::off());
    assert_eq!(world.apply(expired(0..2)), "-i0 Expired, -i1 Expired");
    // The mass expiry alone, without the flap window.
    let mut world = World::new(10, Protection::default().flap_window(Duration::ZERO));
    assert_eq!(world.apply(expired(0..3)).matches("Expired").count(), 3);
    assert_eq!(world.apply(expired(3..4)), "~i3 suspect");
}

#[test]
fn a_dead_instance_goes_at_once_and_a_live_one_is_probed_again() {
    let mut world = World::new(10, Protection::default());
    world.apply(expired(0..8));
    let probes = world.hold.take_probes(world.now);
    assert_eq!(probes.len(), 8);
    assert_eq!(world.probed(0, Verdict::Dead), "-i0 Expired");
    assert_eq!(world.probed(1, Verdict::Alive), "");
    assert_eq!(world.probed(2, Verdict::Unknown), "");
    assert_eq!(world.hold.take_probes(world.now), []);
    let later = world.now + SECOND * 5;
    assert_eq!(world.hold.due(), Some(later));
    assert_eq!(world.hold.take_probes(later).len(), 2);
    assert_eq!(world.probed(1, Verdict::Dead), "-i1 Expired");
    // Back: its probes end.
    assert_eq!(world.apply([Change::Added(web(2))]), "~i2 up");
    world.probed(2, Verdict::Alive);
    assert_eq!(world.hold.take_probes(later + SECOND * 60), []);
}

#[test]
fn one_probe_serves_all_instances_of_an_address() {
    let mut world = World::new(0, Protection::default());
    let at_one = |n: usize| Arc::new(Instance::new("web", "h:1").id(format!("i{n}")));
    world.apply((0..10).map(|n| Change::Added(at_one(n))));
    world.apply((0..10).map(|n| Change::Removed {
        instance: at_one(n),
        cause: Cause::Expired,
    }));
    assert_eq!(world.hold.take_probes(world.now).len(), 1);
    assert_eq!(
        world.probed(1, Verdict::Dead).matches("Expired").count(),
        10
    );
}

#[test]
fn an_address_with_another_process_ends_the_hold() {
    let mut world = World::new(10, Protection::default());
    world.apply(expired(0..2));
    let other = Arc::new(Instance::new("web", "h:0").id("other"));
    assert_eq!(world.apply([Change::Added(other)]), "-i0 Expired, +other");
    let moved = Arc::new(Instance::new("web", "elsewhere:1").id("i1"));
    assert_eq!(world.apply([Change::Added(moved)]), "-i1 Replaced, +i1");
}

#[test]
fn a_list_without_many_instances_is_a_mass_expiry_and_without_few_is_not() {
    let resync = |n: usize| gone(n, Cause::Resync);
    let mut world = World::new(10, Protection::default());
    assert_eq!(
        world.apply((0..3).map(resync)),
        "-i0 Resync, -i1 Resync, -i2 Resync"
    );
    let mut world = World::new(10, Protection::default());
    assert_eq!(
        world.apply((0..9).map(resync)).matches("suspect").count(),
        9
    );
    // A list that replaces instances which did not come from etcd is believed.
    let mut world = World::new(10, Protection::default());
    for n in 0..9 {
        world.hold.apply(resync(n), true, world.now);
    }
    world.hold.decide(world.now);
    assert_eq!(world.steps().matches("Resync").count(), 9);
}

#[test]
fn a_stop_of_this_process_ends_what_was_due_meanwhile() {
    let mut world = World::new(50, Protection::default());
    world.apply(expired(0..40));
    // The process was stopped for an hour. Renewals that arrive now come before the next decision.
    world.now += SECOND * 3600;
    let back = world.apply((0..20).map(|n| Change::Added(web(n))));
    assert_eq!(back.matches("up").count(), 20, "{back}");
    assert_eq!(back.matches("Expired").count(), 20, "{back}");
}
