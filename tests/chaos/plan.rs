//! The plan of faults: a pure function of a seed and the settings.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// The settings of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// 1 or 3.
    pub members: usize,
    /// With TLS and users.
    pub secure: bool,
    /// How long faults are injected.
    pub lasts: Duration,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Processes.
    Kill(Target),
    Pause(Target),
    Restart(Target),
    /// The data of the only member is lost.
    Wipe,
    /// A member is removed, and a new one takes its place.
    Replace,
    /// Links between members.
    PeerPartition(Target),
    /// Links between clients and members.
    ClientPartition(Clients),
    Silence(Clients),
    OneWay(Clients, Way),
    Hold(Clients),
    /// Milliseconds, each way.
    Delay(u64),
    /// Bytes per second.
    Throttle(u64),
    Resets,
    /// The tokens of the clients are not valid any more.
    Tokens,
    /// The certificate of the servers is replaced, and connections are reset.
    Certificates,
    /// What operators and etcd do to a store.
    Compaction,
    Defragmentation,
    Quota,
    MoveLeader,
    RevokeLeases,
    DeleteServices,
}

/// A member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Leader,
    Member(usize),
}

/// The members that clients cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clients {
    All,
    Of(usize),
}

/// The direction in which bytes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    Up,
    Down,
}

/// One fault with its times since the begin of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
    /// A fault of the network or the store that occurs meanwhile.
    pub with: Option<Fault>,
}

/// A schedule of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub settings: Settings,
    pub steps: Vec<Step>,
}

/// The kinds of faults, of which each occurs before any occurs again.
const KINDS: u8 = 21;
/// The kind of fault that occurs in the end only, because it changes the members.
const REPLACE: u8 = 4;
/// The index of the step, in each plan, during which leases expire.
const OUTAGE_AT: usize = 1;
/// Milliseconds.
const LONGER_THAN_A_LEASE: std::ops::Range<u64> = 2800..3600;
/// The shortest run that replaces a member.
const LONG: Duration = Duration::from_secs(45);

impl Plan {
    pub fn new(seed: u64, settings: Settings) -> Self {
        let mut random = Rng::with_seed(seed ^ (settings.members as u64) << 32);
        let (mut steps, mut deck) = (Vec::new(), Vec::new());
        let mut at = Duration::from_millis(random.u64(800..1200));
        loop {
            let outage = steps.len() == OUTAGE_AT;
            let fault = match outage {
                true => self::outage(&mut random),
                false => next(&mut deck, settings, &mut random),
            };
            let second = random.u8(..3) == 0;
            let with = second
                .then(|| beside(&mut random))
                .filter(|with| *with != fault);
            let lasts = match outage {
                true => Duration::from_millis(random.u64(LONGER_THAN_A_LEASE)),
                false => lasts(fault, &mut random),
            };
            if at + lasts > settings.lasts {
                break;
            }
            steps.push(Step {
                at,
                lasts,
                fault,
                with,
            });
            at += lasts + Duration::from_millis(random.u64(300..900));
        }
        if settings.members > 1 && settings.lasts >= LONG {
            steps.push(Step {
                at,
                lasts: Duration::ZERO,
                fault: Fault::Replace,
                with: None,
            });
        }
        Plan {
            seed,
            settings,
            steps,
        }
    }
}

impl Plan {
    /// The same faults with a fixed time between their beginnings, as many as fit; without the replacement of a member.
    pub fn spaced(mut self, every: Duration) -> Self {
        self.steps.retain(|step| step.fault != Fault::Replace);
        let mut at = Duration::ZERO;
        for step in &mut self.steps {
            at += every;
            step.at = at;
        }
        let end = self.settings.lasts;
        self.steps.retain(|step| step.at + step.lasts < end);
        self
    }
}

/// A fault after which no client has reached any member for longer than a lease lives.
fn outage(random: &mut Rng) -> Fault {
    match random.u8(..3) {
        0 => Fault::ClientPartition(Clients::All),
        1 => Fault::Silence(Clients::All),
        _ => Fault::OneWay(Clients::All, Way::Up),
    }
}

/// The next fault of a shuffled deck of all kinds.
fn next(deck: &mut Vec<u8>, settings: Settings, random: &mut Rng) -> Fault {
    loop {
        if deck.is_empty() {
            deck.extend((0..KINDS).filter(|kind| *kind != REPLACE));
            random.shuffle(deck);
        }
        let kind = deck.pop().unwrap_or_default();
        if let Some(fault) = fault(kind, settings, random) {
            return fault;
        }
    }
}

/// A fault of a kind, if these settings have it.
fn fault(kind: u8, settings: Settings, random: &mut Rng) -> Option<Fault> {
    let member = random.usize(..settings.members);
    let target = match random.bool() {
        true => Target::Leader,
        false => Target::Member(member),
    };
    let clients = match settings.members > 1 && random.bool() {
        true => Clients::Of(member),
        false => Clients::All,
    };
    let way = if random.bool() { Way::Up } else { Way::Down };
    let (delay, rate) = (random.u64(20..150), random.u64(32_000..128_000));
    let several = settings.members > 1;
    let fault = match kind {
        0 => Fault::Kill(target),
        1 => Fault::Pause(target),
        2 => Fault::Restart(target),
        // Users are lost with the data.
        3 if several || settings.secure => return None,
        3 => Fault::Wipe,
        5 if several => Fault::PeerPartition(target),
        6 => Fault::ClientPartition(clients),
        7 => Fault::Silence(clients),
        8 => Fault::OneWay(clients, way),
        9 => Fault::Hold(clients),
        10 => Fault::Delay(delay),
        11 => Fault::Throttle(rate),
        12 => Fault::Resets,
        13 if settings.secure => Fault::Tokens,
        14 if settings.secure => Fault::Certificates,
        15 => Fault::Compaction,
        16 => Fault::Defragmentation,
        17 => Fault::Quota,
        18 if several => Fault::MoveLeader,
        19 => Fault::RevokeLeases,
        20 => Fault::DeleteServices,
        _ => return None,
    };
    Some(fault)
}

/// A fault that another one does not disturb.
fn beside(random: &mut Rng) -> Fault {
    match random.u8(..4) {
        0 => Fault::Compaction,
        1 => Fault::Resets,
        2 => Fault::Delay(random.u64(10..60)),
        _ => Fault::Throttle(random.u64(64_000..256_000)),
    }
}

/// How long a fault lasts. Some last longer than a lease.
fn lasts(fault: Fault, random: &mut Rng) -> Duration {
    let ms = match fault {
        Fault::Pause(_) | Fault::ClientPartition(_) | Fault::Silence(_) | Fault::OneWay(..) => {
            match random.u8(..4) {
                0 => random.u64(LONGER_THAN_A_LEASE),
                _ => random.u64(300..1500),
            }
        }
        Fault::Kill(_)
        | Fault::PeerPartition(_)
        | Fault::Hold(_)
        | Fault::Delay(_)
        | Fault::Throttle(_) => random.u64(500..2000),
        Fault::Quota => random.u64(300..800),
        Fault::Resets => random.u64(300..1000),
        _ => 0,
    };
    Duration::from_millis(ms)
}

impl Fault {
    /// The kind, for figures.
    pub fn label(self) -> &'static str {
        match self {
            Fault::Kill(_) => "kill",
            Fault::Pause(_) => "pause",
            Fault::Restart(_) => "restart",
            Fault::Wipe => "wipe",
            Fault::Replace => "member replaced",
            Fault::PeerPartition(_) => "peer partition",
            Fault::ClientPartition(_) => "client partition",
            Fault::Silence(_) => "silence",
            Fault::OneWay(..) => "one-way loss",
            Fault::Hold(_) => "hold",
            Fault::Delay(_) => "delay",
            Fault::Throttle(_) => "throttle",
            Fault::Resets => "resets",
            Fault::Tokens => "tokens expire",
            Fault::Certificates => "certificates rotated",
            Fault::Compaction => "compaction",
            Fault::Defragmentation => "defragmentation",
            Fault::Quota => "quota alarm",
            Fault::MoveLeader => "leader moved",
            Fault::RevokeLeases => "leases revoked",
            Fault::DeleteServices => "services deleted",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.lasts.as_millis();
        write!(
            f,
            "{:6} ms  {:?} for {ms} ms",
            self.at.as_millis(),
            self.fault
        )?;
        match self.with {
            Some(with) => write!(f, ", with {with:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn settings(members: usize, secure: bool, seconds: u64) -> Settings {
        Settings {
            members,
            secure,
            lasts: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_plan_is_a_function_of_its_seed_and_settings() {
        for seed in 0..200 {
            for settings in [settings(1, false, 20), settings(3, true, 60)] {
                let plan = Plan::new(seed, settings);
                let again = Plan::new(seed, settings);
                assert_eq!(plan, again);
                let texts =
                    |plan: &Plan| plan.steps.iter().map(Step::to_string).collect::<Vec<_>>();
                assert_eq!(texts(&plan), texts(&again));
                assert_ne!(plan.steps, Plan::new(seed + 1, settings).steps);
            }
        }
    }

    #[test]
    fn steps_follow_each_other_within_the_run() {
        for seed in 0..200 {
            let plan = Plan::new(seed, settings(3, true, 60));
            assert!(plan.steps.len() > 10, "{plan:?}");
            for pair in plan.steps.windows(2) {
                assert!(pair[0].at + pair[0].lasts < pair[1].at);
            }
            let last = plan.steps.last().unwrap();
            assert_eq!(last.fault, Fault::Replace);
            let replaced = plan
                .steps
                .iter()
                .filter(|step| step.fault == Fault::Replace);
            assert_eq!(replaced.count(), 1);
            assert!(
                plan.steps
                    .iter()
                    .rev()
                    .skip(1)
                    .all(|step| step.at + step.lasts <= Duration::from_secs(60))
            );
        }
    }

    #[test]
    fn spaced_steps_begin_in_equal_intervals() {
        let every = Duration::from_secs(10);
        let plan = Plan::new(7, settings(3, true, 7200)).spaced(every);
        assert_eq!(plan.steps.len(), 719, "one each 10 s in two hours");
        for (n, step) in (1_u32..).zip(&plan.steps) {
            assert_eq!(step.at, n * every);
            assert!(step.lasts < every && step.fault != Fault::Replace);
        }
    }

    #[test]
    fn leases_expire_in_each_plan() {
        for seed in 0..100 {
            for settings in [settings(1, false, 12), settings(3, true, 14)] {
                let plan = Plan::new(seed, settings);
                let long =
                    |step: &&Step| step.lasts.as_millis() >= LONGER_THAN_A_LEASE.start.into();
                assert!(plan.steps.iter().any(|step| long(&step)), "{plan:?}");
            }
        }
    }

    #[test]
    fn a_long_plan_has_every_kind_of_fault() {
        let labels = |settings| {
            let steps = Plan::new(1, settings).steps;
            steps
                .into_iter()
                .map(|step| step.fault.label())
                .collect::<HashSet<_>>()
        };
        let three = labels(settings(3, true, 600));
        let one = labels(settings(1, false, 600));
        assert_eq!(three.len(), 20, "all but the loss of the data: {three:?}");
        assert_eq!(one.len(), 16, "{one:?}");
        assert!(one.contains("wipe") && !three.contains("wipe"));
        assert_eq!(three.union(&one).count(), usize::from(KINDS));
    }
}
