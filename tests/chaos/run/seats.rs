//! Contenders for a lock and for an election, and an observer.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::concurrency::{Election, Mutex, Observer, Session};

use super::clients::{Operations, transact};
use super::replicas::TTL;
use super::stage::Stage;
use crate::history::{Change, Guard, Hold, Leader, Line, Time, now};
use crate::support::wait::Raise;

const ELECTION: &str = "vote/v";
/// The time between two checks whether a lock is held.
const CHECKS: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_millis(20);
/// How long a contender waits. At the end of the run it gives up after this time.
const PATIENCE: Duration = Duration::from_secs(4);

/// The session, or a new one when it has ended.
fn valid(client: &Client, session: Option<Session>) -> Option<Session> {
    let valid = session.filter(|session| session.check().is_ok());
    valid.or_else(|| {
        let started = Session::builder(client).ttl(TTL).start().ok();
        if started.is_none() {
            thread::sleep(PAUSE);
        }
        started
    })
}

/// Checks all the time while something works; returns the first and the last time of a check that succeeded.
fn held_while(check: &(dyn Fn() -> bool + Sync), work: impl FnOnce()) -> Vec<Time> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let mut held_at = Vec::new();
            while !done.load(SeqCst) {
                let t = now();
                if check() {
                    held_at.truncate(1);
                    held_at.push(t);
                }
                thread::sleep(CHECKS);
            }
            held_at
        });
        let raise = Raise(&done);
        work();
        drop(raise);
        checking.join().unwrap()
    })
}

/// The hold of a seat that was just taken. Until when it was held is added in the end.
fn taken(session: &Session, seat: &str, holder: &str, key: &[u8], token: i64, call: Time) -> Hold {
    Hold {
        seat: format!("{seat}/"),
        election: seat == ELECTION,
        holder: holder.to_owned(),
        key: String::from_utf8_lossy(key).into_owned(),
        token,
        lease: session.lease().get(),
        call,
        ret: now(),
        held_at: Vec::new(),
        end: 0,
    }
}

/// Locks and unlocks until the run ends. A long hold lasts until the lock is lost, or for some seconds.
pub fn lock(stage: &Stage, client: &Client, number: u32, name: &str, long: bool) {
    let (lock, holder) = (format!("lock/{name}"), format!("locker-{number}"));
    let recorder = stage.file(&holder);
    let mut operations = Operations::new(stage, number);
    let mut session = None;
    while stage.works() {
        session = valid(client, session);
        let Some(session) = &session else { continue };
        let call = now();
        let Ok(guard) = Mutex::new(session, &*lock).lock_timeout(PATIENCE) else {
            continue;
        };
        let token = guard.fencing_token().get();
        let mut hold = taken(session, &lock, &holder, guard.key(), token, call);
        let (ret, key) = (hold.ret, hold.key.clone());
        hold.held_at = held_while(&|| guard.check().is_ok(), || {
            for n in 0..if long { 60 } else { 4 } {
                if long && (guard.check().is_err() || !stage.works()) {
                    break;
                }
                let when = vec![Guard {
                    key: key.clone(),
                    create: true,
                    revision: token,
                    value: None,
                }];
                let then = vec![Change {
                    key: format!("guarded/{name}"),
                    value: Some(format!("{token} {number} {n} {ret}")),
                }];
                transact(&mut operations, client, vec![guard.is_owner()], when, then);
                thread::sleep(PAUSE);
            }
        });
        hold.end = now();
        let _ = guard.unlock();
        recorder.write(Line::Hold(hold));
    }
    close(session);
}

/// Campaigns, leads and resigns until the run ends.
pub fn campaign(stage: &Stage, client: &Client, number: u32) {
    let name = format!("candidate-{number}");
    let recorder = stage.file(&name);
    let mut session = None;
    while stage.works() {
        session = valid(client, session);
        let Some(session) = &session else { continue };
        let call = now();
        let campaign =
            Election::new(session, ELECTION).campaign_timeout(format!("{name} 0"), PATIENCE);
        let Ok(leadership) = campaign else { continue };
        let token = leadership.fencing_token().get();
        let mut hold = taken(session, ELECTION, &name, leadership.key(), token, call);
        hold.held_at = held_while(&|| leadership.check().is_ok(), || {
            for n in 1..4 {
                let _ = leadership.proclaim(format!("{name} {n}"));
                thread::sleep(PAUSE);
            }
        });
        hold.end = now();
        let _ = leadership.resign();
        recorder.write(Line::Hold(hold));
    }
    close(session);
}

fn close(session: Option<Session>) {
    if let Some(session) = session {
        let _ = session.close();
    }
}

/// The observer of the election.
pub fn observer(session: &Session) -> Observer {
    Election::new(session, ELECTION).observe().unwrap()
}

/// Records what an observer is told until the run is over.
pub fn observe(stage: &Stage, observer: &Observer) {
    let recorder = stage.file("observer");
    while !stage.is_over() {
        if let Ok(Ok(Some(kv))) = observer.recv_timeout(5 * PAUSE) {
            recorder.write(Line::Leader(Leader {
                observer: "observer".to_owned(),
                seat: format!("{ELECTION}/"),
                t: now(),
                token: kv.create_revision().get(),
                value: String::from_utf8_lossy(kv.value()).into_owned(),
            }));
        }
    }
}
