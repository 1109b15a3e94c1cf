//! Runs a command only while a lock or a leadership is held.

mod own_key;

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use etcd_blocking::concurrency::Session;
use etcd_blocking::crossbeam_channel::{Receiver, bounded, select, tick};
use etcd_blocking::{Client, Error, ErrorKind, Revision};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::arguments::{ConnectionArguments, span};
use crate::child::{Supervised, boot_now};
use crate::failure::{Failure, Outcome};
use crate::output::{complain, printable, say};
use crate::signals;

/// The exit code when it was not acquired in time.
const NOT_ACQUIRED: u8 = 4;

/// The exit code when it was lost while the command ran.
const LOST: u8 = 5;

/// Why it was lost while its session lives.
const DELETED: &str = "its key was deleted";
const SILENT: &str = "etcd did not answer in time";

/// The wait before a failed attempt to acquire is repeated.
const AGAIN: Duration = Duration::from_millis(500);

/// How a lock or a leadership is held, and for what.
#[derive(Args, Debug)]
pub(crate) struct GuardArguments {
    /// Time after which etcd gives it to the next one if this process dies or is cut off
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10s")]
    ttl: Duration,
    /// Longest time to wait for it; then the exit code is 4 [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// Time between SIGTERM and SIGKILL when this process is told to end
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10s")]
    stop_grace: Duration,
    /// The command and its arguments. Without one, the key is printed and held until SIGTERM or SIGINT
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What is held.
pub(crate) struct Held {
    pub(crate) session: Session,
    pub(crate) key: String,
    pub(crate) token: Revision,
    /// Gives it back.
    pub(crate) release: Box<dyn FnOnce() -> etcd_blocking::Result<()> + Send>,
}

/// Acquires in a session, waiting for this long at most.
pub(crate) type Acquire =
    dyn Fn(&Session, Option<Duration>) -> etcd_blocking::Result<Held> + Send + Sync;

impl GuardArguments {
    /// Acquires, runs the command, and gives it back.
    pub(crate) fn run(
        self,
        connection: &ConnectionArguments,
        what: &'static str,
        acquire: Box<Acquire>,
    ) -> Outcome {
        if self.ttl < Duration::from_secs(2) {
            return Err(Failure::usage("--ttl must be at least 2s"));
        }
        let client = connection.connect()?;
        let received = signals::receive(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])?;
        let waiting = Waiting::default();
        let acquired = self.acquire_on_a_thread(client, what, acquire, waiting.clone())?;
        let held = loop {
            select! {
                recv(acquired) -> held => match held {
                    Ok(Ok(held)) => break held,
                    Ok(Err(NotAcquired::InTime)) => {
                        complain(format!("the {what} was not acquired in time"));
                        return Ok(NOT_ACQUIRED);
                    }
                    Ok(Err(NotAcquired::Failed(error))) => return Err((*error).into()),
                    Err(_) => return Err(Failure::failed("the thread that acquires has ended")),
                },
                recv(received) -> signal => if let Ok(signal @ (SIGTERM | SIGINT | SIGHUP)) = signal {
                    waiting.close();
                    return Ok(u8::try_from(128 + signal).unwrap_or(1));
                },
            }
        };
        let gone = own_key::gone(held.session.client(), &held.key, held.token)?;
        let end = match self.command.is_empty() {
            true => {
                say(printable(&held.key))?;
                hold(&held, &gone, &received)
            }
            false => self.command_while(&held, &gone, &received)?,
        };
        match end {
            End::Code(code) => Ok(give_back(held, what).unwrap_or(code)),
            End::Lost(why) => {
                let session = held.session.check().err().map(|error| error.to_string());
                let why = session.as_deref().unwrap_or(why);
                complain(format!("the {what} is lost: {}", printable(why)));
                Ok(LOST)
            }
        }
    }

    fn acquire_on_a_thread(
        &self,
        client: Client,
        what: &'static str,
        acquire: Box<Acquire>,
        waiting: Waiting,
    ) -> Result<Receiver<Result<Held, NotAcquired>>, Failure> {
        let (sender, acquired) = bounded(1);
        let (ttl, timeout) = (self.ttl, self.timeout);
        let work = move || {
            let _ = sender.send(acquire_in_sessions(
                &client, what, ttl, timeout, &acquire, &waiting,
            ));
        };
        let thread = thread::Builder::new().name("acquire".into()).spawn(work);
        thread.map_err(|error| Failure::failed(format!("start a thread: {error}")))?;
        Ok(acquired)
    }

    /// Runs the command to its end.
    fn command_while(
        &self,
        held: &Held,
        gone: &Receiver<()>,
        received: &Receiver<i32>,
    ) -> Result<End, Failure> {
        let token = held.token.to_string();
        let variables = [
            ("ETCD_LOCK_KEY", held.key.clone()),
            ("ETCD_LOCK_REV", token.clone()),
            ("ETCD_FENCING_TOKEN", token),
        ];
        let times = KillTimes::of(held.session.ttl());
        let first = times.at(boot_now(), held.session.valid_for());
        let grace = self.stop_grace;
        let mut command = Supervised::start(&self.command, &variables, grace, Some(first))?;
        let ticks =
            tick((self.ttl / 40).clamp(Duration::from_millis(50), Duration::from_millis(500)));
        let mut stops = false;
        loop {
            // In this order: a stop of this process in between makes the times earlier and never later.
            let now = boot_now();
            let left = held.session.valid_for();
            // The stage does it, unless it is stopped.
            if times.is_over(left) {
                command.kill();
            }
            let (term, kill) = times.at(now, left);
            command.until(term, kill);
            select! {
                recv(command.ended()) -> code => {
                    let in_time = held.session.valid_for() > times.term;
                    return Ok(match in_time {
                        true => End::Code(code.unwrap_or(1)),
                        false => End::Lost(SILENT),
                    });
                }
                recv(held.session.lost()) -> _ => return Ok(lost(&command, SILENT)),
                recv(gone) -> _ => return Ok(lost(&command, DELETED)),
                recv(received) -> signal => match signal {
                    Ok(SIGTERM | SIGINT) if stops => command.kill(),
                    Ok(SIGTERM | SIGINT) => {
                        stops = true;
                        command.stop(self.stop_grace);
                    }
                    Ok(signal) => command.signal(signal),
                    Err(_) => return Err(Failure::failed("no signals are received any more")),
                },
                recv(ticks) -> _ => {}
            }
        }
    }
}

/// The end of a lock or a leadership.
enum End {
    /// It was held to the end, with this exit code.
    Code(u8),
    /// It was lost, for this reason if the session still lives.
    Lost(&'static str),
}

/// Kills the command of what was lost, and waits for its end.
fn lost(command: &Supervised, why: &'static str) -> End {
    command.kill();
    let _ = command.ended().recv();
    End::Lost(why)
}

/// How much of the lease is left when the command gets SIGTERM and SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KillTimes {
    term: Duration,
    kill: Duration,
}

impl KillTimes {
    /// A lease is renewed when two thirds of its time are left. The last third is for the end of the command.
    fn of(ttl: Duration) -> Self {
        KillTimes {
            term: ttl / 3,
            kill: (ttl / 10).max(Duration::from_millis(500)),
        }
    }

    /// Returns whether the time of SIGKILL has passed when `left` remains of the lease.
    fn is_over(self, left: Duration) -> bool {
        left <= self.kill
    }

    fn at(self, now: Duration, left: Duration) -> (Duration, Duration) {
        let end = now + left;
        (end.saturating_sub(self.term), end.saturating_sub(self.kill))
    }
}

/// The session that waits.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Option<Session>>>);

impl Waiting {
    fn set(&self, session: &Session) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Some(session.clone());
    }

    /// Leaves the queue, so that the next one does not wait for the end of the lease.
    fn close(&self) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(session) = waiting {
            let _ = session.close();
        }
    }
}

/// Why it was not acquired.
enum NotAcquired {
    InTime,
    Failed(Box<Error>),
}

/// Acquires. While etcd is away, it says so once and tries again.
fn acquire_in_sessions(
    client: &Client,
    what: &str,
    ttl: Duration,
    timeout: Option<Duration>,
    acquire: &Acquire,
    waiting: &Waiting,
) -> Result<Held, NotAcquired> {
    let begun = Instant::now();
    let mut is_reported = false;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let session = Session::builder(client).ttl(ttl).start();
        let held = session.and_then(|session| {
            waiting.set(&session);
            acquire(&session, left)
        });
        let error = match held {
            Ok(held) => {
                if is_reported {
                    complain(format!("etcd is back, and the {what} is acquired"));
                }
                return Ok(held);
            }
            Err(error) => error,
        };
        let is_over = timeout.is_some_and(|timeout| begun.elapsed() >= timeout);
        match error.kind() {
            ErrorKind::Timeout | ErrorKind::Unavailable if is_over => {
                return Err(NotAcquired::InTime);
            }
            ErrorKind::Timeout
            | ErrorKind::Unavailable
            | ErrorKind::LeaseExpired
            | ErrorKind::LeaseNotFound => {}
            _ => return Err(NotAcquired::Failed(Box::new(error))),
        }
        if !std::mem::replace(&mut is_reported, true) {
            complain(format!("waiting: {}", printable(&error.to_string())));
        }
        thread::sleep(left.map_or(AGAIN, |left| AGAIN.min(left)));
    }
}

/// Waits until it is lost, or until a signal asks for the end.
fn hold(held: &Held, gone: &Receiver<()>, received: &Receiver<i32>) -> End {
    loop {
        select! {
            recv(held.session.lost()) -> _ => return End::Lost(SILENT),
            recv(gone) -> _ => return End::Lost(DELETED),
            recv(received) -> signal => if let Ok(SIGTERM | SIGINT | SIGHUP) | Err(_) = signal {
                return End::Code(0);
            },
        }
    }
}

/// Gives it back. Returns an exit code if it was not held until now.
fn give_back(held: Held, what: &str) -> Option<u8> {
    let Held {
        session, release, ..
    } = held;
    let released = release();
    let closed = session.close();
    match released {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            complain(format!("the {what} was lost before the command ended"));
            Some(LOST)
        }
        _ => {
            if let Err(error) = closed {
                let error = error.to_string();
                complain(format!(
                    "{}; etcd frees the {what} after its TTL",
                    printable(&error)
                ));
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_ends_before_the_lease() {
        for ttl in [2, 5, 10, 60] {
            let ttl = Duration::from_secs(ttl);
            let times = KillTimes::of(ttl);
            assert!(times.kill < times.term && times.term < ttl / 2);
            let now = Duration::from_secs(1000);
            let (term, kill) = times.at(now, ttl);
            assert!(now + ttl / 2 < term && term < kill);
            assert_eq!(kill + times.kill, now + ttl);
            // What the stage does at this time, the program does if the stage is stopped.
            let just_before = times.kill + Duration::from_millis(1);
            assert!(times.is_over(times.kill) && !times.is_over(just_before));
        }
    }
}
