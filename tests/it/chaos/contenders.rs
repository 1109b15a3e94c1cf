//! Contenders for locks and elections, each with a session of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_blocking::concurrency::{Election, Mutex, Observer, Session};
use etcd_blocking::{ErrorKind, Revision};

use super::seats::{Holder, Seat};
use super::{PATIENCE, Run};

/// A short TTL, so that sessions can be lost while there is no leader.
const TTL: Duration = Duration::from_secs(5);
/// The value of the last leader.
const LAST: &str = "the-last";

pub(super) const ELECTION: &str = "app/vote";

/// Returns the session, or a new one when it is lost.
fn valid_session(run: &Run, session: Option<Session>) -> Option<Session> {
    if let Some(session) = session {
        match session.check() {
            Ok(()) => return Some(session),
            Err(error) => run.tally.failed("session lost", &error),
        }
    }
    match Session::builder(&run.client).ttl(TTL).start() {
        Ok(session) => {
            run.tally.count("session started");
            Some(session)
        }
        Err(error) => {
            run.tally.failed("start session", &error);
            None
        }
    }
}

/// Locks one after the other until the run is over.
pub(super) fn lock(run: &Run, locks: &[Seat], name: &str, first: usize) {
    let mut session = None;
    for seat in locks.iter().cycle().skip(first) {
        if !run.is_running() {
            return;
        }
        session = valid_session(run, session);
        let Some(session) = &session else { continue };
        match Mutex::new(session, format!("app/lock/{}", seat.name())).lock_timeout(PATIENCE) {
            Ok(guard) => {
                let owns = guard.is_owner();
                let holder = Holder {
                    name,
                    token: guard.fencing_token(),
                    owns: owns.clone(),
                    session,
                };
                seat.hold(run, &holder, || ());
                seat.leave(run, owns, session, guard.unlock());
            }
            Err(error) => run.tally.failed("lock", &error),
        }
    }
}

/// Campaigns, leads for a while and resigns, until the run is over.
pub(super) fn campaign(run: &Run, seat: &Seat, name: &str) {
    let mut session = None;
    while run.is_running() {
        session = valid_session(run, session);
        let Some(session) = &session else { continue };
        match Election::new(session, ELECTION).campaign_timeout(name.to_owned(), PATIENCE) {
            Ok(leadership) => {
                let owns = leadership.is_leader();
                let holder = Holder {
                    name,
                    token: leadership.fencing_token(),
                    owns: owns.clone(),
                    session,
                };
                seat.hold(run, &holder, || {
                    for n in 0..3 {
                        match leadership.proclaim(format!("{name} {n}")) {
                            Ok(()) => run.tally.count("proclaimed"),
                            Err(error) if error.kind() == ErrorKind::NotFound => {
                                run.tally.count("proclaim: the leader's key is gone");
                                run.is_lost(session, "the key was gone");
                            }
                            Err(error) => run.tally.failed("proclaim", &error),
                        }
                    }
                });
                seat.leave(run, owns, session, leadership.resign());
            }
            Err(error) => run.tally.failed("campaign", &error),
        }
    }
}

/// Leads after all others are done; every observer receives that in the end.
pub(super) fn lead_last(run: &Run) {
    let session = Session::builder(&run.client).start().unwrap();
    let election = Election::new(&session, ELECTION);
    let leadership = election.campaign_timeout(LAST, PATIENCE).unwrap();
    assert_eq!(election.leader().unwrap().unwrap().value(), LAST);
    let _kept = leadership.keep();
    session.orphan();
}

/// Observes until the last one leads; checks that leaders follow each other without overlap.
pub(super) fn observe(run: &Run, observer: &Observer) {
    let mut leaders: BTreeMap<Revision, String> = BTreeMap::new();
    loop {
        let item = match observer.recv_timeout(Duration::from_millis(100)) {
            Ok(item) => item.expect("the observer goes on"),
            Err(_) if run.is_over() => return,
            Err(_) => continue,
        };
        run.tally.count("observed");
        let Some(kv) = item else { continue };
        let value = kv.value_str().unwrap();
        if value == LAST {
            println!("{} leaders observed", leaders.len());
            run.observed_last_leader();
            return;
        }
        let token = kv.create_revision();
        let name = value.split(' ').next().unwrap();
        let known = leaders.entry(token).or_insert_with(|| name.to_owned());
        assert_eq!(known, name, "two leaders have the token {token}");
        assert_eq!(
            leaders.keys().last(),
            Some(&token),
            "a former leader leads again"
        );
    }
}
