//! A server, a network and a clock that do anything at any time, and what must hold all the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::super::*;

const LEASES: i64 = 4;

#[derive(Clone, Debug)]
enum Step {
    Add(i64),
    Remove(i64),
    Revoke(i64),
    /// The server changes its mind about a time to live.
    Live(i64, i64),
    /// From now on the server refuses to renew it, or does not any more.
    Deny(i64, bool),
    /// The server handles requests.
    Serve(Path, usize),
    /// Answers arrive.
    Arrive(Path, usize),
    /// The stream that is being opened is open, or cannot be.
    Open(Path, bool),
    Cut(Path),
    /// Time passes; the keeper is ticked whenever it wants.
    Wait(u64),
    /// Time passes, and nobody looks: a suspended machine, a stopped process.
    Sleep(u64),
    /// An answer that nobody asked for.
    Stray(i64),
}

fn path() -> impl Strategy<Value = Path> {
    prop_oneof![3 => Just(Path::Shared), 1 => Just(Path::Alone)]
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..=LEASES;
    prop_oneof![
        2 => id.clone().prop_map(Step::Add),
        1 => id.clone().prop_map(Step::Remove),
        1 => id.clone().prop_map(Step::Revoke),
        1 => (id.clone(), 1..40i64).prop_map(|(id, ttl)| Step::Live(id, ttl)),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, on)| Step::Deny(id, on)),
        8 => (path(), 1..4usize).prop_map(|(path, count)| Step::Serve(path, count)),
        8 => (path(), 1..4usize).prop_map(|(path, count)| Step::Arrive(path, count)),
        5 => (path(), any::<bool>()).prop_map(|(path, works)| Step::Open(path, works)),
        1 => path().prop_map(Step::Cut),
        4 => (1..3_000u64).prop_map(Step::Wait),
        1 => (1..20_000u64).prop_map(Step::Sleep),
        1 => (1..=LEASES + 2).prop_map(Step::Stray),
    ]
}

#[derive(Clone, Copy, Default, PartialEq)]
enum StreamSchedule {
    #[default]
    Closed,
    Opening,
    Open,
}

/// A stream, and what is on its way.
#[derive(Default)]
struct Wire {
    line: StreamSchedule,
    up: VecDeque<Request>,
    down: VecDeque<Reply>,
    /// The server has ended it, and reads no more.
    ended: bool,
}

impl Wire {
    fn asks(&self, lease: LeaseId) -> bool {
        let replies = self.down.iter().map(|reply| &reply.request);
        self.up
            .iter()
            .chain(replies)
            .any(|request| request.lease == lease)
    }
}

/// A renewal on its way.
struct Request {
    lease: LeaseId,
    sent: BootTime,
}

struct Reply {
    request: Request,
    answer: Answer,
}

enum Answer {
    /// The time to live, and when the lease ends at the server, if nothing else renews it.
    Lives(i64, BootTime),
    /// The stream ends with this.
    Refused,
}

/// What the world knows of a lease that is kept.
#[derive(Default)]
struct Kept {
    until: Option<BootTime>,
    /// The next renewal may be sent from then on; `None`: the last one is not answered.
    next: Option<BootTime>,
    asked: bool,
}

struct World {
    now: BootTime,
    keeper: RenewalSchedule,
    shared: Wire,
    alone: Wire,
    denied: BTreeSet<LeaseId>,
    /// Life and end of each lease at the server.
    server: BTreeMap<LeaseId, (i64, BootTime)>,
    kept: BTreeMap<LeaseId, Kept>,
    opens: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = BootTime::from_boot(Duration::from_secs(1000));
        let server = (1..=LEASES).map(|n| {
            let ttl = n * 3;
            (id(n), (ttl, now + seconds(ttl)))
        });
        World {
            now,
            keeper: RenewalSchedule::new(seed),
            shared: Wire::default(),
            alone: Wire::default(),
            denied: BTreeSet::new(),
            server: server.collect(),
            kept: BTreeMap::new(),
            opens: 0,
        }
    }

    fn wire(&mut self, path: Path) -> &mut Wire {
        match path {
            Path::Shared => &mut self.shared,
            Path::Alone => &mut self.alone,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Add(n) => {
                self.kept.entry(id(n)).or_default();
                let within = Duration::from_secs(5);
                self.tell(Input::Add {
                    lease: id(n),
                    within,
                });
            }
            Step::Remove(n) => {
                self.kept.remove(&id(n));
                self.tell(Input::Remove(id(n)));
            }
            Step::Revoke(n) => {
                self.server.remove(&id(n));
            }
            Step::Live(n, ttl) => {
                self.server.insert(id(n), (ttl, self.now + seconds(ttl)));
            }
            Step::Deny(n, true) => {
                self.denied.insert(id(n));
            }
            Step::Deny(n, false) => {
                self.denied.remove(&id(n));
            }
            Step::Serve(path, count) => (0..count).for_each(|_| self.serve(path)),
            Step::Arrive(path, count) => (0..count).for_each(|_| self.arrive(path)),
            Step::Open(path, works) if self.wire(path).line == StreamSchedule::Opening => {
                if works {
                    self.wire(path).line = StreamSchedule::Open;
                    self.tell(Input::Opened(path));
                } else {
                    self.cut(path);
                }
            }
            Step::Open(..) => {}
            Step::Cut(path) if self.wire(path).line == StreamSchedule::Open => self.cut(path),
            Step::Cut(_) => {}
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
            Step::Sleep(millis) => self.now = self.now + Duration::from_millis(millis),
            Step::Stray(n) => {
                let asked = self.shared.asks(id(n)) || self.alone.asks(id(n));
                if self.shared.line == StreamSchedule::Open && !asked {
                    self.tell(Input::Answer {
                        path: Path::Shared,
                        lease: id(n),
                        ttl: 999,
                    });
                }
            }
        }
    }

    fn serve(&mut self, path: Path) {
        let now = self.now;
        let wire = self.wire(path);
        if wire.ended {
            return;
        }
        let Some(request) = wire.up.pop_front() else {
            return;
        };
        if self.denied.contains(&request.lease) {
            let wire = self.wire(path);
            wire.ended = true;
            let answer = Answer::Refused;
            wire.down.push_back(Reply { request, answer });
            return;
        }
        let alive = self
            .server
            .get_mut(&request.lease)
            .filter(|(_, end)| *end > now);
        let (ttl, end) = match alive {
            Some((ttl, end)) => {
                *end = now + seconds(*ttl);
                (*ttl, *end)
            }
            None => (0, now),
        };
        let answer = Answer::Lives(ttl, end);
        self.wire(path).down.push_back(Reply { request, answer });
    }

    fn arrive(&mut self, path: Path) {
        let Some(Reply { request, answer }) = self.wire(path).down.pop_front() else {
            return;
        };
        let Answer::Lives(ttl, end) = answer else {
            self.drop_line(path);
            let trouble = Trouble::new(ErrorKind::PermissionDenied, "permission denied");
            self.tell(Input::Refused(path, trouble));
            return;
        };
        let lease = request.lease;
        if let Some(kept) = self.kept.get_mut(&lease) {
            let pause = match ttl {
                0 => Duration::from_millis(200),
                ttl => seconds(ttl).mul_f64(0.9 / 3.0),
            };
            let from = if ttl == 0 { self.now } else { request.sent };
            kept.next = Some(from + pause - Duration::from_micros(1));
            // A lease that was made anew with a shorter life may be over when it is heard of.
            let until = request.sent + seconds(ttl);
            if ttl > 0 && until <= self.now {
                kept.until = Some(until);
            }
        }
        let actions = self.keeper.on(Input::Answer { path, lease, ttl }, self.now);
        for action in &actions {
            if let Action::Renewed {
                lease: of, until, ..
            } = action
            {
                assert_eq!(*of, lease);
                assert_eq!(
                    *until,
                    request.sent + seconds(ttl),
                    "counted from the sending"
                );
                assert!(*until <= end, "said to live longer than the server lets it");
            }
        }
        self.obey(actions);
    }

    fn cut(&mut self, path: Path) {
        self.drop_line(path);
        let trouble = Trouble::new(ErrorKind::Unavailable, "cut");
        self.tell(Input::Broken(path, trouble));
    }

    fn drop_line(&mut self, path: Path) {
        *self.wire(path) = Wire::default();
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        let mut ticks = 0;
        while let Some(wake) = self.keeper.wake_at().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.tell(Input::Tick);
            ticks += 1;
            assert!(ticks < 1_000, "ticks without end");
        }
        self.now = self.now.max(end);
    }

    fn tell(&mut self, input: Input) {
        let actions = self.keeper.on(input, self.now);
        self.obey(actions);
    }

    fn obey(&mut self, actions: Vec<Action>) {
        let now = self.now;
        for action in actions {
            match action {
                Action::Open(path) => {
                    let wire = self.wire(path);
                    assert!(wire.line == StreamSchedule::Closed, "two streams");
                    wire.line = StreamSchedule::Opening;
                    self.opens += usize::from(path == Path::Shared);
                }
                Action::Abandon { path, .. } | Action::Close(path) => self.drop_line(path),
                Action::Send(path, lease) => self.sent(path, lease),
                Action::Renewed { lease, until, .. } => {
                    assert!(until > now, "renewed in the past");
                    self.kept.get_mut(&lease).expect("nobody keeps it").until = Some(until);
                }
                Action::Gone { lease, why } => {
                    let kept = self.kept.remove(&lease).expect("gone twice, or never kept");
                    match why {
                        Gone::Expired { .. } => {
                            assert!(kept.until.is_none_or(|until| until <= now));
                        }
                        Gone::Unanswered { .. } | Gone::Refused(_) => assert_eq!(kept.until, None),
                        Gone::NotFound => {}
                    }
                }
            }
        }
        for (lease, kept) in &self.kept {
            assert!(
                kept.until.is_none_or(|until| until > now),
                "{lease} is over and not gone"
            );
        }
        match self.keeper.wake_at() {
            Some(wake) => assert!(wake > now, "a busy loop"),
            None => assert!(self.kept.is_empty(), "forgotten"),
        }
        if self.kept.is_empty() {
            let lines = [self.shared.line, self.alone.line];
            assert!(lines == [StreamSchedule::Closed; 2], "a stream for nothing");
        }
    }

    fn sent(&mut self, path: Path, lease: LeaseId) {
        assert!(
            self.wire(path).line == StreamSchedule::Open,
            "sent without a stream"
        );
        let unanswered = self.shared.asks(lease) || self.alone.asks(lease);
        assert!(!unanswered, "two renewals of one lease");
        let kept = self.kept.get_mut(&lease).expect("nobody keeps it");
        assert!(kept.next.is_none_or(|at| at <= self.now), "too often");
        kept.next = None;
        kept.asked = true;
        let sent = self.now;
        self.wire(path).up.push_back(Request { lease, sent });
    }
}

fn id(n: i64) -> LeaseId {
    LeaseId::new(n).unwrap()
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_no_lease_is_said_to_live_that_is_over(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(seed);
        steps.into_iter().for_each(|step| world.take(step));
        // Then nothing works any more: everything ends, and ends soon.
        world.cut_for_good();
        prop_assert!(world.kept.is_empty());
    }

    #[test]
    fn after_whatever_happened_a_lease_that_lives_is_kept_alive(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(seed);
        steps.into_iter().for_each(|step| world.take(step));
        world.works_again();
    }
}

impl World {
    fn cut_for_good(&mut self) {
        // The longest life is 40 s.
        let end = self.now + Duration::from_secs(41);
        while self.now < end && !self.kept.is_empty() {
            for path in Path::BOTH {
                if self.wire(path).line != StreamSchedule::Closed {
                    self.cut(path);
                }
            }
            self.wait(Duration::from_millis(100));
        }
    }

    fn works_again(&mut self) {
        // What the keeper missed while nobody looked comes out, and what is on its way arrives.
        self.tell(Input::Tick);
        self.denied.clear();
        for path in Path::BOTH {
            if self.wire(path).line == StreamSchedule::Open {
                self.cut(path);
            }
        }
        // A lease that was made anew with a shorter life may end before anyone knows. Not these.
        let grace = self.now + Duration::from_secs(60);
        self.server.values_mut().for_each(|(_, end)| *end = grace);
        self.smoothly(Duration::from_secs(2));
        let alive: Vec<_> = self
            .kept
            .keys()
            .copied()
            .filter(|id| self.server.contains_key(id))
            .collect();
        let opens = self.opens;
        self.smoothly(Duration::from_secs(130));
        assert!(alive.iter().all(|lease| self.kept.contains_key(lease)));
        assert!(self.kept.values().all(|kept| kept.until.is_some()));
        assert_eq!(self.opens, opens, "reopened without need");
    }

    /// A network of 100 ms and a server that works.
    fn smoothly(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            for path in Path::BOTH {
                self.take(Step::Open(path, true));
            }
            self.wait(Duration::from_millis(50));
            for path in Path::BOTH {
                while !self.wire(path).ended && !self.wire(path).up.is_empty() {
                    self.serve(path);
                }
            }
            self.wait(Duration::from_millis(50));
            for path in Path::BOTH {
                while !self.wire(path).down.is_empty() {
                    self.arrive(path);
                }
            }
        }
    }

    /// What kept each of these alive, when all of them were granted at once and some are refused.
    fn refuse_some(seed: u64, ttls: &[(i64, bool)]) {
        let mut world = World::new(seed);
        let leases = (1..).zip(ttls);
        for (n, (ttl, denied)) in leases.clone() {
            world
                .server
                .insert(id(n), (*ttl, world.now + seconds(*ttl)));
            if *denied {
                world.denied.insert(id(n));
            }
            world.take(Step::Add(n));
        }
        world.smoothly(Duration::from_secs(130));
        for (n, (_, denied)) in leases {
            let kept = world.kept.contains_key(&id(n));
            assert_eq!(kept, !denied, "lease {n} of {ttls:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Up to 16 of 48 are refused, on a network of 100 ms.
    // Fault: N6
    #[test]
    fn those_that_are_refused_cost_the_others_nothing(
        seed in any::<u64>(),
        good in prop::collection::vec(4..40i64, 0..32),
        denied in prop::collection::vec(4..40i64, 0..16),
        turn in 0..48usize,
    ) {
        let mut ttls: Vec<_> = good.into_iter().map(|ttl| (ttl, false)).collect();
        ttls.extend(denied.into_iter().map(|ttl| (ttl, true)));
        if !ttls.is_empty() {
            let turn = turn % ttls.len();
            ttls.rotate_left(turn);
        }
        World::refuse_some(seed, &ttls);
    }
}
