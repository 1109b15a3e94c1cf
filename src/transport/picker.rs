//! Which member to connect to, and when: a pure decision over what is known of each.
//!
//! A connection lives as long as it works, so the picker is asked only when there is none. Members
//! that fail are left alone for a while, ever longer; members that answer but cannot serve (a
//! learner, one cut off from its peers) are set aside while there are others.

use std::time::{Duration, Instant};

use super::fault::Fault;
use crate::backoff::Backoff;

/// For calls that wait, a member that failed is dialled again this soon: four times a second.
const SPACING: Duration = Duration::from_millis(250);

/// The waits of background work between dials of one member. With a ceiling of 3 s a third of the
/// waits would be longer than 2 s, in which streams and registrations are to be back.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// How long a member that cannot serve is set aside, at first and at most.
const SET_ASIDE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(16));

/// A learner serves nothing but serializable reads until somebody promotes it.
const LEARNER: Duration = Duration::from_secs(30);

/// A member that is behind the others usually catches up soon.
const BEHIND: Duration = Duration::from_secs(1);

/// Who wants the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// A caller that waits: as soon as may be.
    Call,
    /// A stream in the background: no hurry, and no storm.
    Background,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Race these members, the first one with a head start.
    Dial(Vec<usize>),
    /// Ask again then.
    Wait(Instant),
}

#[derive(Debug)]
struct Member {
    /// Its number, which is never another's.
    index: usize,
    failing: bool,
    backoff: Backoff,
    dialled: Option<Instant>,
    retry_at: Option<Instant>,
    aside_until: Option<Instant>,
    aside: Backoff,
    /// How the last dial failed, if it did.
    fault: Option<Fault>,
}

#[derive(Debug)]
pub(crate) struct Picker {
    members: Vec<Member>,
    /// Where to begin: anywhere, so that the clients of a cluster spread over it.
    first: usize,
}

impl Member {
    fn new(index: usize) -> Self {
        Member {
            index,
            failing: false,
            backoff: BACKOFF,
            dialled: None,
            retry_at: None,
            aside_until: None,
            aside: SET_ASIDE,
            fault: None,
        }
    }
}

impl Picker {
    /// A picker of the members 0 to `members` - 1.
    pub(crate) fn new(members: usize, random: f64) -> Self {
        let first = (random.clamp(0.0, 1.0) * members as f64) as usize;
        Picker {
            members: (0..members).map(Member::new).collect(),
            first: first.min(members.saturating_sub(1)),
        }
    }

    /// From now on these are the members. What is known of those that stay, stays.
    pub(crate) fn change(&mut self, indexes: &[usize]) {
        let mut old = std::mem::take(&mut self.members);
        let keep = |index: &usize| match old.iter().position(|m| m.index == *index) {
            Some(at) => old.swap_remove(at),
            None => Member::new(*index),
        };
        self.members = indexes.iter().map(keep).collect();
    }

    /// Which members to dial at `now`.
    pub(crate) fn plan(&self, now: Instant, demand: Demand) -> Plan {
        let begin = self.members.iter().position(|m| m.index == self.first);
        let in_order = || {
            let turning = self.members.iter().cycle().skip(begin.unwrap_or(0));
            turning.take(self.members.len()).map(|m| m.index)
        };
        let may = |index: &usize| self.may_dial_at(*index, demand).is_none_or(|at| at <= now);
        let aside = |index: &usize| self.is_aside(*index, now);
        let mut picked: Vec<usize> = in_order().filter(|i| !aside(i)).filter(may).collect();
        // Those that failed go last: they only run when the others are slow.
        picked.sort_by_key(|index| self.get(*index).is_some_and(|m| m.failing));
        let all_failing = in_order().filter(|i| !aside(i)).all(|i| self.is_failing(i));
        if all_failing {
            // Better one that may serve again than none.
            picked.extend(in_order().filter(aside).filter(may));
        }
        if !picked.is_empty() {
            return Plan::Dial(picked);
        }
        let soonest = in_order()
            .filter(|i| all_failing || !aside(i))
            .filter_map(|i| self.may_dial_at(i, demand))
            .min();
        Plan::Wait(soonest.unwrap_or(now + SPACING).max(now))
    }

    /// A dial begins.
    pub(crate) fn dialling(&mut self, index: usize, now: Instant) {
        if let Some(member) = self.get_mut(index) {
            member.dialled = Some(now);
        }
    }

    /// A dial failed, or a connection that had been made broke.
    pub(crate) fn failed(&mut self, index: usize, now: Instant, random: f64) {
        if let Some(member) = self.get_mut(index) {
            member.failing = true;
            member.retry_at = Some(now + member.backoff.next(random));
        }
    }

    /// How the dial failed that just did.
    pub(crate) fn failed_by(&mut self, index: usize, fault: &Fault) {
        if let Some(member) = self.get_mut(index) {
            member.fault = Some(fault.clone());
        }
    }

    /// Whether to find out why this member hangs up, if it does: once is enough while it goes on.
    pub(crate) fn may_probe(&self, index: usize) -> bool {
        let fault = self.get(index).and_then(|m| m.fault.as_ref());
        fault.is_none_or(|fault| !fault.hung_up)
    }

    /// How the last dial of each member failed, if it did.
    pub(crate) fn faults(&self) -> Vec<(usize, Option<Fault>)> {
        let last = |member: &Member| (member.index, member.fault.clone());
        self.members.iter().map(last).collect()
    }

    /// A dial succeeded.
    pub(crate) fn connected(&mut self, index: usize) {
        if let Some(member) = self.get_mut(index) {
            member.failing = false;
            member.backoff.reset();
            member.retry_at = None;
            member.fault = None;
        }
        // Stay with what works.
        self.first = index;
    }

    /// The member answers but cannot serve now. Says whether there is another to turn to.
    pub(crate) fn set_aside(&mut self, index: usize, now: Instant) -> bool {
        let others = self.others(index, now);
        if let (true, Some(member)) = (others, self.get_mut(index)) {
            // It served for long since it was last set aside: begin with the short time again.
            if member.aside_until.is_none_or(|until| until + LEARNER < now) {
                member.aside.reset();
            }
            member.aside_until = Some(now + member.aside.next(1.0));
        }
        others
    }

    /// The member is a learner. Says whether there is another to turn to.
    pub(crate) fn learner(&mut self, index: usize, now: Instant) -> bool {
        let others = self.others(index, now);
        if let (true, Some(member)) = (others, self.get_mut(index)) {
            member.aside_until = Some(now + LEARNER);
        }
        others
    }

    /// The member is behind another one. Says whether there is another to turn to: one that failed
    /// is worth a try, for this one has no answer that can be used.
    pub(crate) fn behind(&mut self, index: usize, now: Instant) -> bool {
        if let Some(member) = self.get_mut(index) {
            member.aside_until = Some(now + BEHIND);
        }
        let mut numbers = self.members.iter().map(|member| member.index);
        numbers.any(|index| !self.is_aside(index, now))
    }

    /// Whether another member is worth trying.
    pub(crate) fn others(&self, index: usize, now: Instant) -> bool {
        let worth = |m: &Member| m.index != index && !m.failing && !self.is_aside(m.index, now);
        self.members.iter().any(worth)
    }

    fn get(&self, index: usize) -> Option<&Member> {
        self.members.iter().find(|m| m.index == index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.index == index)
    }

    fn is_aside(&self, index: usize, now: Instant) -> bool {
        self.get(index)
            .and_then(|m| m.aside_until)
            .is_some_and(|until| now < until)
    }

    fn is_failing(&self, index: usize) -> bool {
        self.get(index).is_none_or(|m| m.failing)
    }

    fn may_dial_at(&self, index: usize, demand: Demand) -> Option<Instant> {
        let member = self.get(index)?;
        let spaced = member
            .dialled
            .filter(|_| member.failing)
            .map(|at| at + SPACING);
        match demand {
            Demand::Call => spaced,
            // The jitter may say "at once"; the spacing bounds the rate all the same, but for the
            // first retry, which brings back most connections that a server let go of.
            Demand::Background if member.backoff.is_first_retry() => member.retry_at,
            Demand::Background => member.retry_at.max(spaced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn all_are_raced_and_the_one_that_worked_goes_first() {
        let now = Instant::now();
        let mut picker = Picker::new(3, 0.0);
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![0, 1, 2]));
        picker.connected(1);
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![1, 2, 0]));
    }

    #[test]
    fn a_member_that_failed_goes_last_and_not_too_soon() {
        let now = Instant::now();
        let mut picker = Picker::new(2, 0.0);
        picker.dialling(0, now);
        picker.failed(0, now, 1.0);
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![1]));
        assert_eq!(
            picker.plan(now + ms(250), Demand::Call),
            Plan::Dial(vec![1, 0])
        );
    }

    #[test]
    fn an_outage_costs_at_most_four_dials_a_second_and_member() {
        for demand in [Demand::Call, Demand::Background] {
            for random in [0.0, 0.3, 1.0] {
                let start = Instant::now();
                let mut now = start;
                let mut picker = Picker::new(2, 0.0);
                let mut dials = 0;
                while now < start + ms(10_000) {
                    match picker.plan(now, demand) {
                        Plan::Dial(members) => {
                            for member in members {
                                dials += 1;
                                picker.dialling(member, now);
                                picker.failed(member, now, random);
                            }
                        }
                        Plan::Wait(until) => {
                            assert!(until > now, "a wait that is over is a busy loop");
                            now = until;
                        }
                    }
                }
                assert!(
                    dials <= 2 * (10 * 4 + 2),
                    "{demand:?} {random}: {dials} dials in 10 s"
                );
            }
        }
    }

    #[test]
    fn a_wait_in_the_background_never_exceeds_the_ceiling() {
        let mut now = Instant::now();
        let mut picker = Picker::new(1, 0.0);
        for _ in 0..50 {
            picker.dialling(0, now);
            picker.failed(0, now, 1.0);
            match picker.plan(now, Demand::Background) {
                Plan::Wait(until) => {
                    assert!(until <= now + ms(1500));
                    now = until;
                }
                Plan::Dial(_) => {}
            }
        }
    }

    #[test]
    fn a_member_that_cannot_serve_is_set_aside_only_while_there_are_others() {
        let now = Instant::now();
        let mut picker = Picker::new(2, 0.0);
        assert!(picker.set_aside(0, now));
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![1]));
        assert!(!picker.set_aside(1, now), "it is all there is");
        assert_eq!(
            picker.plan(now + ms(1001), Demand::Call),
            Plan::Dial(vec![0, 1])
        );
        let mut lone = Picker::new(1, 0.0);
        assert!(!lone.learner(0, now));
        assert_eq!(lone.plan(now, Demand::Call), Plan::Dial(vec![0]));
    }

    #[test]
    fn one_that_is_behind_is_left_for_one_that_failed_but_not_for_nothing() {
        let t = Instant::now();
        let mut picker = Picker::new(2, 0.0);
        picker.connected(0);
        picker.failed(1, t, 0.0);
        assert!(
            !picker.set_aside(0, t),
            "it serves, and the other one does not"
        );
        assert!(picker.behind(0, t));
        assert_eq!(picker.plan(t, Demand::Call), Plan::Dial(vec![1, 0]));
        picker.behind(1, t);
        assert!(!picker.behind(0, t), "nobody is left to turn to");
        assert!(picker.behind(0, t + BEHIND));
    }

    #[test]
    fn one_that_is_behind_is_known_by_its_number_also_after_the_members_changed() {
        let now = Instant::now();
        let mut picker = Picker::new(2, 0.0);
        // Their positions are 0 and 1 now.
        picker.change(&[7, 9]);
        picker.connected(7);
        assert!(picker.behind(7, now), "there is the other one");
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![9]));
        assert!(!picker.behind(9, now), "nobody is left to turn to");
    }

    #[test]
    fn one_set_aside_is_used_again_when_all_others_fail() {
        let now = Instant::now();
        let mut picker = Picker::new(2, 0.0);
        picker.learner(0, now);
        picker.dialling(1, now);
        picker.failed(1, now, 1.0);
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![0]));
    }

    #[test]
    fn how_a_member_failed_is_known_until_something_else_happens() {
        let mut picker = Picker::new(2, 0.0);
        let (expired, refused) = (Fault::tls("expired"), Fault::unconnected("refused"));
        picker.failed_by(0, &expired);
        picker.failed_by(1, &expired);
        picker.failed_by(1, &refused);
        assert_eq!(
            picker.faults(),
            [(0, Some(expired)), (1, Some(refused.clone()))]
        );
        picker.connected(0);
        assert_eq!(picker.faults(), [(0, None), (1, Some(refused))]);
    }

    #[test]
    fn a_member_that_hangs_up_is_probed_once() {
        let mut picker = Picker::new(1, 0.0);
        assert!(picker.may_probe(0));
        let hung_up = Fault {
            hung_up: true,
            ..Fault::unconnected("closed")
        };
        picker.failed_by(0, &hung_up);
        assert!(!picker.may_probe(0));
        picker.failed_by(0, &Fault::unconnected("refused"));
        assert!(picker.may_probe(0));
    }

    #[test]
    fn when_members_change_what_is_known_of_the_others_stays() {
        let now = Instant::now();
        let mut picker = Picker::new(3, 0.0);
        picker.connected(1);
        picker.dialling(2, now);
        picker.failed(2, now, 1.0);
        picker.change(&[1, 2, 7]);
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![1, 7]));
        picker.change(&[7, 2]);
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![7]));
        // One that comes back is new.
        picker.change(&[7, 9]);
        picker.connected(0);
        assert_eq!(picker.plan(now, Demand::Call), Plan::Dial(vec![7, 9]));
    }

    #[test]
    fn clients_begin_anywhere() {
        let now = Instant::now();
        for (random, first) in [(0.0, 0), (0.5, 1), (0.99, 2)] {
            match Picker::new(3, random).plan(now, Demand::Call) {
                Plan::Dial(members) => assert_eq!(members[0], first),
                Plan::Wait(_) => panic!("nothing to wait for"),
            }
        }
        assert!(
            matches!(Picker::new(3, 1.0).plan(now, Demand::Call), Plan::Dial(m) if m.len() == 3)
        );
    }
}
