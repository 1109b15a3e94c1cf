//! Accepts connections, up to a limit, and gives each a thread.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::connection::Connection;
use super::request::{BadRequest, Request};
use super::response::Response;
use crate::output::complain;

/// The largest number of connections at the same time.
pub(crate) const CONNECTIONS: usize = 128;

/// The wait after a failure.
const RETRY: Duration = Duration::from_millis(200);

/// Answers a connection with a request, or with why there is none.
pub(crate) type Answer = dyn Fn(Connection, Result<Request, BadRequest>) + Send + Sync;

/// Accepts connections for ever.
pub(crate) fn serve(listener: &TcpListener, answer: &Arc<Answer>) {
    let taken = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Without free file descriptors, the next attempt fails as well.
                complain(format_args!("accept a connection: {error}"));
                thread::sleep(RETRY);
                continue;
            }
        };
        let mut connection = Connection::new(stream);
        let Some(place) = Place::take(&taken, CONNECTIONS) else {
            // A thread for this refusal would be one too many.
            connection.refuse(&Response::error(503, "there are too many connections"));
            continue;
        };
        let answer = Arc::clone(answer);
        let thread = thread::Builder::new().name("connection".into());
        let answered = thread.spawn(move || {
            let _place = place;
            if let Some(request) = connection.request() {
                answer(connection, request);
            }
        });
        if let Err(error) = answered {
            complain(format_args!("start a thread for a connection: {error}"));
            thread::sleep(RETRY);
        }
    }
}

/// One of a limited number of places. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(crate) fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |taken: usize| (taken < limit).then_some(taken + 1);
        let before = taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        before.is_ok().then(|| Place(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
