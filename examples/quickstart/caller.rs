//! Calls the service again and again, as its clients would.

use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use etcd_blocking::{Instance, ServiceView};

/// The time between calls.
const PAUSE: Duration = Duration::from_millis(10);
/// How long one instance may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How long a call may take in all, however many instances it tries.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// A thread that calls, until this is dropped.
pub(crate) struct Caller {
    calls: Receiver<Call>,
    go_on: Sender<()>,
}

/// One call, to one instance or, when that was dead, to the next.
pub(crate) struct Call {
    pub(crate) answer: Result<String, String>,
    pub(crate) picks: usize,
    pub(crate) took: Duration,
}

impl Caller {
    pub(crate) fn start(view: Arc<ServiceView>) -> Self {
        let (sender, calls) = unbounded();
        let (go_on, ended) = bounded::<()>(0);
        thread::spawn(move || {
            // Nothing is ever sent in `go_on`: dropping it is the message.
            while ended
                .recv_timeout(PAUSE)
                .is_err_and(|error| error.is_timeout())
            {
                let _ = sender.send(call(&view));
            }
        });
        Caller { calls, go_on }
    }

    /// The calls that were made.
    pub(crate) fn calls(&self) -> &Receiver<Call> {
        &self.calls
    }

    /// Ends it, and returns the calls that nobody has looked at.
    pub(crate) fn stop(self) -> impl Iterator<Item = Call> {
        drop(self.go_on);
        self.calls.into_iter()
    }
}

/// A view knows who is registered. Whether it answers, only a call can tell: a process that was
/// killed stays registered until its lease ends. So a call that fails goes to the next instance.
fn call(view: &ServiceView) -> Call {
    let begun = Instant::now();
    let mut picks = 0;
    loop {
        let answer = match view.pick() {
            Some(instance) => {
                picks += 1;
                ask(&instance).map_err(|error| format!("{}: {error}", instance.id))
            }
            None => Err("there is no instance".to_owned()),
        };
        let took = begun.elapsed();
        if answer.is_ok() || took > CALL_WITHIN {
            return Call {
                answer,
                picks,
                took,
            };
        }
        if picks == 0 {
            thread::sleep(PAUSE);
        }
    }
}

fn ask(instance: &Instance) -> io::Result<String> {
    let addr: SocketAddr = instance.addr.parse().map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&addr, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
