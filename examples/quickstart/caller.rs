//! Calls the service repeatedly, as its clients do.

use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use etcd_blocking::{Instance, ServiceView};

/// The time between calls.
const PAUSE: Duration = Duration::from_millis(10);
/// The bound for the answer of one instance.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// The bound for a call, including its further attempts at other instances.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// A thread that calls until this value is dropped.
pub(crate) struct Caller {
    calls: Receiver<Call>,
    go_on: Sender<()>,
}

/// One call: to an instance and, if that does not answer, to the next one.
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
            // Nothing is sent on `go_on`: dropping it ends the thread.
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

    /// Ends the thread, and returns the calls that were not read.
    pub(crate) fn stop(self) -> impl Iterator<Item = Call> {
        drop(self.go_on);
        self.calls.into_iter()
    }
}

/// A view has the registered instances. A process that was killed stays registered until its lease ends,
/// so a call that fails goes to the next instance.
fn call(view: &ServiceView) -> Call {
    let begun = Instant::now();
    let mut picks = 0;
    loop {
        // The view learns which instances fail, and ejects them.
        let answer = match view.acquire() {
            Some(guard) => {
                picks += 1;
                let answer = ask(&guard).map_err(|error| format!("{}: {error}", guard.id));
                match answer {
                    Ok(_) => guard.succeeded(),
                    Err(_) => guard.failed(),
                }
                answer
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
