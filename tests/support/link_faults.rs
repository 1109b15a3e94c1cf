//! Random schedules of link faults that leave the network working for half of the TTL.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::proxy::{Dir, Proxy};

/// Shortest duration of a condition.
pub const TICK: Duration = Duration::from_millis(100);

/// Maximum delay of a tick. The shortest life that the schedules leave is over twice as long.
pub const MAX_LATE: Duration = Duration::from_millis(250);

/// Condition of a link during a tick. A silent link loses bytes, which makes the connection unusable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    Good,
    /// One-way latency, and bytes per second.
    Slow(Duration, Option<u64>),
    /// Connections are reset, and new ones are refused.
    Cut,
    Silent(Dir),
    /// Silent in both directions.
    Hole,
    /// Connections are reset, once.
    Reset,
}

impl Condition {
    pub fn works(self) -> bool {
        matches!(self, Condition::Good | Condition::Slow(..))
    }

    fn begin(self, link: &Proxy) {
        match self {
            Condition::Good => {}
            Condition::Slow(latency, rate) => {
                link.delay(Dir::Both, latency);
                for dir in [Dir::Up, Dir::Down] {
                    link.throttle(dir, rate);
                }
            }
            Condition::Cut => link.cut(),
            Condition::Silent(dir) => link.silence(dir, true),
            Condition::Hole => link.black_hole(true),
            Condition::Reset => link.drop_connections(),
        }
    }

    fn end(self, link: &Proxy) {
        match self {
            Condition::Good | Condition::Reset => {}
            Condition::Slow(..) => Condition::Slow(Duration::ZERO, None).begin(link),
            Condition::Cut => link.restore(),
            Condition::Silent(dir) => link.silence(dir, false),
            Condition::Hole => link.black_hole(false),
        }
    }
}

/// Conditions of a link, one per tick.
pub type Link = Vec<Condition>;

/// The largest number of consecutive ticks in which a link works.
fn longest_working(link: &[Condition]) -> usize {
    let runs = link.split(|condition| !condition.works());
    runs.map(<[Condition]>::len).max().unwrap_or(0)
}

/// The ticks that a renewal through a new connection takes on the slowest link.
const CONNECT: usize = 15;

/// Returns whether the network works for half of the TTL: in each span of `ttl` ticks, one of several links
/// works for `ttl / 2 + connect` consecutive ticks. A renewal is due after a third of the TTL, a lost one is noticed after
/// another sixth, and the next one needs a connection through another link. A single link works for `ttl / 2` after
/// each break of up to `ttl / 4`, which is half of each span in total.
fn is_fair(links: &[Link], ttl: usize, connect: usize) -> bool {
    if let [link] = links {
        let (working, broken): (Vec<_>, Vec<_>) = link
            .chunk_by(|a, b| a.works() == b.works())
            .enumerate()
            .partition(|(_, run)| run[0].works());
        let last = working.len() + broken.len() - 1;
        let long = |(n, run): &(usize, &[Condition])| *n == last || run.len() >= ttl / 2;
        return working.iter().all(long) && broken.iter().all(|(_, run)| run.len() <= ttl / 4);
    }
    let ticks = links[0].len();
    (0..=ticks.saturating_sub(ttl)).all(|from| {
        let longest = |link: &Link| longest_working(&link[from..ticks.min(from + ttl)]);
        links.iter().map(longest).max() >= Some(ttl / 2 + connect)
    })
}

/// Creates random schedules that satisfy [`is_fair`].
pub fn links(count: usize, ttl: usize, ticks: usize, random: &mut fastrand::Rng) -> Vec<Link> {
    let mut links = vec![vec![Condition::Good; ticks]; count];
    for link in &mut links {
        let mut from = 0;
        while from < ticks {
            let to = (from + random.usize(5..40)).min(ticks);
            if random.bool() {
                let latency = Duration::from_millis(random.u64(100..=300));
                let rate = random.bool().then(|| random.u64(16_000..128_000));
                link[from..to].fill(Condition::Slow(latency, rate));
            }
            from = to;
        }
    }
    for _ in 0..ticks {
        let from = random.usize(0..ticks);
        let (condition, most) = match random.u8(..6) {
            0 | 1 => (Condition::Cut, ttl),
            2 => (Condition::Silent(Dir::Up), ttl),
            3 => (Condition::Silent(Dir::Down), ttl),
            4 => (Condition::Hole, ttl),
            _ => (Condition::Reset, 1),
        };
        let to = (from + random.usize(1..=most)).min(ticks);
        let mut changed = links.clone();
        changed[random.usize(0..count)][from..to].fill(condition);
        if is_fair(&changed, ttl, CONNECT) {
            links = changed;
        }
    }
    links
}

/// Applies the schedules to the proxies until `stop` is disconnected. `late` is set to the last time at which
/// the machine was so slow that a tick exceeded [`MAX_LATE`].
pub fn play(links: &[Link], proxies: &[Proxy], stop: &Receiver<()>, late: &Mutex<Option<Instant>>) {
    let mut now = vec![Condition::Good; links.len()];
    let mut at = Instant::now();
    for tick in 0.. {
        for ((link, proxy), now) in links.iter().zip(proxies).zip(&mut now) {
            let next = link.get(tick).copied().unwrap_or(Condition::Good);
            if *now != next {
                now.end(proxy);
                next.begin(proxy);
                *now = next;
            }
        }
        at += TICK;
        if stop.recv_deadline(at) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        if at.elapsed() > MAX_LATE {
            *late.lock().unwrap() = Some(Instant::now());
        }
    }
}

#[test]
fn fair_schedules_have_a_working_link_for_half_of_each_ttl() {
    let link = |text: &str| -> Link {
        let condition = |c| {
            if c == '+' {
                Condition::Good
            } else {
                Condition::Cut
            }
        };
        text.chars().map(condition).collect()
    };
    let alone = |text| is_fair(&[link(text)], 8, 0);
    assert!(alone("++++++") && alone("++++--++++-++++--"));
    assert!(!alone("++++---++++") && !alone("++++--+++--++++"));
    let two = |a, b| is_fair(&[link(a), link(b)], 8, 0);
    assert!(two("+++++----+++++", "------++++----"));
    assert!(!two("++++++--++++++", "------++------"));
    let pair = [link("+++++----+++++"), link("----++++++----")];
    assert!(is_fair(&pair, 8, 1) && !is_fair(&pair, 8, 2));
}
