//! Locks that are acquired after the session has ended are not returned.

use std::thread;

use etcd_blocking::Error;
use etcd_blocking::concurrency::{Election, Mutex, RwLock};

use super::*;
use crate::support::proxy::{Dir, Proxy};

/// Ends the session while the answer with the lock is in flight, and returns the error of the call.
fn acquire_after_the_session_ended(win: impl FnOnce(&Session) -> Option<Error> + Send) -> Error {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let session = session(&client);
    proxy.hold(Dir::Down, true);
    thread::scope(|scope| {
        let winning = scope.spawn(|| win(&session));
        keys_become(&direct, "x/", 1);
        session.orphan();
        proxy.hold(Dir::Down, false);
        let error = winning.join().unwrap().expect("the session has ended");
        keys_become(&direct, "x/", 0);
        error
    })
}

// Fault: M2
#[test]
fn no_guard_is_returned_for_an_ended_session() {
    let ends = [
        acquire_after_the_session_ended(|session| Mutex::new(session, "x").lock().err()),
        acquire_after_the_session_ended(|session| Mutex::new(session, "x").try_lock().err()),
        acquire_after_the_session_ended(|session| RwLock::new(session, "x").write().err()),
        acquire_after_the_session_ended(|session| RwLock::new(session, "x").try_read().err()),
        acquire_after_the_session_ended(|session| Election::new(session, "x").campaign("").err()),
    ];
    for end in ends {
        assert_eq!(end.kind(), ErrorKind::Closed, "{end}");
    }
}
