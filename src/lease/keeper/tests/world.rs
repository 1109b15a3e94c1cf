//! A server, a network and a clock that do anything at any time, and what must hold all the same.

use std::collections::{BTreeMap, VecDeque};

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
    /// The server handles requests.
    Serve(usize),
    /// Answers arrive.
    Arrive(usize),
    /// The stream that is being opened is open, or cannot be.
    Open(bool),
    Cut,
    /// Time passes; the keeper is ticked whenever it wants.
    Wait(u64),
    /// Time passes, and nobody looks: a suspended machine, a stopped process.
    Sleep(u64),
    /// An answer that nobody asked for.
    Stray(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..=LEASES;
    prop_oneof![
        2 => id.clone().prop_map(Step::Add),
        1 => id.clone().prop_map(Step::Remove),
        1 => id.clone().prop_map(Step::Revoke),
        1 => (id.clone(), 1..40i64).prop_map(|(id, ttl)| Step::Live(id, ttl)),
        6 => (1..4usize).prop_map(Step::Serve),
        6 => (1..4usize).prop_map(Step::Arrive),
        4 => any::<bool>().prop_map(Step::Open),
        1 => Just(Step::Cut),
        4 => (1..3_000u64).prop_map(Step::Wait),
        1 => (1..20_000u64).prop_map(Step::Sleep),
        1 => (1..=LEASES + 2).prop_map(Step::Stray),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Line {
    Closed,
    Opening,
    Open,
}

/// A renewal on its way.
struct Request {
    lease: LeaseId,
    sent: BootTime,
}

struct Reply {
    request: Request,
    ttl: i64,
    /// When the lease ends at the server, if nothing else renews it.
    end: BootTime,
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
    keeper: Keeper,
    line: Line,
    up: VecDeque<Request>,
    down: VecDeque<Reply>,
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
            keeper: Keeper::new(seed),
            line: Line::Closed,
            up: VecDeque::new(),
            down: VecDeque::new(),
            server: server.collect(),
            kept: BTreeMap::new(),
            opens: 0,
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
            Step::Serve(count) => (0..count).for_each(|_| self.serve()),
            Step::Arrive(count) => (0..count).for_each(|_| self.arrive()),
            Step::Open(works) if self.line == Line::Opening => {
                if works {
                    self.line = Line::Open;
                    self.tell(Input::Opened);
                } else {
                    self.cut();
                }
            }
            Step::Open(_) => {}
            Step::Cut if self.line == Line::Open => self.cut(),
            Step::Cut => {}
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
            Step::Sleep(millis) => self.now = self.now + Duration::from_millis(millis),
            Step::Stray(n) => {
                let asked = self.up.iter().any(|r| r.lease == id(n))
                    || self.down.iter().any(|r| r.request.lease == id(n));
                if self.line == Line::Open && !asked {
                    self.tell(Input::Answer {
                        lease: id(n),
                        ttl: 999,
                    });
                }
            }
        }
    }

    fn serve(&mut self) {
        let Some(request) = self.up.pop_front() else {
            return;
        };
        let now = self.now;
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
        self.down.push_back(Reply { request, ttl, end });
    }

    fn arrive(&mut self) {
        let Some(Reply { request, ttl, end }) = self.down.pop_front() else {
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
        let actions = self.keeper.on(Input::Answer { lease, ttl }, self.now);
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

    fn cut(&mut self) {
        self.drop_line();
        self.tell(Input::Broken(Trouble::new(ErrorKind::Unavailable, "cut")));
    }

    fn drop_line(&mut self) {
        self.line = Line::Closed;
        self.up.clear();
        self.down.clear();
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
                Action::Open => {
                    assert!(self.line == Line::Closed, "two streams");
                    self.line = Line::Opening;
                    self.opens += 1;
                }
                Action::Abandon { .. } | Action::Close => self.drop_line(),
                Action::Send(lease) => self.sent(lease),
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
            assert!(self.line == Line::Closed, "a stream for nothing");
        }
    }

    fn sent(&mut self, lease: LeaseId) {
        assert!(self.line == Line::Open, "sent without a stream");
        let unanswered = self.up.iter().any(|r| r.lease == lease)
            || self.down.iter().any(|r| r.request.lease == lease);
        assert!(!unanswered, "two renewals of one lease on one stream");
        let kept = self.kept.get_mut(&lease).expect("nobody keeps it");
        assert!(kept.next.is_none_or(|at| at <= self.now), "too often");
        kept.next = None;
        kept.asked = true;
        self.up.push_back(Request {
            lease,
            sent: self.now,
        });
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
            if self.line != Line::Closed {
                self.cut();
            }
            self.wait(Duration::from_millis(100));
        }
    }

    fn works_again(&mut self) {
        // What the keeper missed while nobody looked comes out, and what is on its way arrives.
        self.tell(Input::Tick);
        if self.line == Line::Open {
            self.cut();
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
            if self.line == Line::Opening {
                self.take(Step::Open(true));
            }
            self.wait(Duration::from_millis(50));
            while !self.up.is_empty() {
                self.serve();
            }
            self.wait(Duration::from_millis(50));
            while !self.down.is_empty() {
                self.arrive();
            }
        }
    }
}
