//! Accepts connections, up to a limit, and gives each a thread.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::{Connection, TIMES};
use super::request::{BadRequest, Request};
use super::response::Response;
use super::transport::Encryption;
use crate::output::complain;

/// The largest number of connections at the same time.
pub(crate) const CONNECTIONS: usize = 128;

/// The wait after a failure.
const RETRY: Duration = Duration::from_millis(200);

/// Answers a connection with a request, or with why there is none.
pub(crate) type Answer = dyn Fn(Connection, Result<Request, BadRequest>) + Send + Sync;

/// Accepts connections for ever.
pub(crate) fn serve(
    listener: &TcpListener,
    encryption: Option<&Arc<dyn Encryption>>,
    answer: &Arc<Answer>,
) {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut refused = Refused::default();
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
        refused.forget();
        let Some(place) = Place::take(&taken, CONNECTIONS) else {
            // A reply would need a handshake, and that a thread.
            if encryption.is_none() {
                refused.refuse(stream);
            }
            continue;
        };
        let (answer, encryption) = (Arc::clone(answer), encryption.map(Arc::clone));
        let thread = thread::Builder::new().name("connection".into());
        let answered = thread.spawn(move || {
            let _place = place;
            let Some(mut connection) = Connection::open(stream, encryption.as_deref(), TIMES)
            else {
                return;
            };
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

/// The last connections that were refused. They stay open for a while: closed with an unread request, the client
/// would get a reset in place of the reply.
#[derive(Debug, Default)]
struct Refused(VecDeque<(Instant, TcpStream)>);

impl Refused {
    const TIME: Duration = Duration::from_secs(1);
    const MOST: usize = 32;

    /// Writes a short reply, without a wait and without a thread.
    fn refuse(&mut self, mut stream: TcpStream) {
        let response = Response::error(503, "there are too many connections");
        let response = response.header("Retry-After", "5");
        if stream.set_nonblocking(true).is_err() || stream.write(&response.encode(false)).is_err() {
            return;
        }
        let _ = stream.shutdown(Shutdown::Write);
        self.0.truncate(Self::MOST - 1);
        self.0.push_front((Instant::now(), stream));
    }

    /// Closes those whose time is over.
    fn forget(&mut self) {
        while let Some((since, _)) = self.0.back()
            && since.elapsed() >= Self::TIME
        {
            self.0.pop_back();
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
