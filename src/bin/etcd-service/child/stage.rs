//! The stage: the parent of the command.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::{RecvTimeoutError, Sender, unbounded};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::boot_clock::boot_now;
use super::group::Group;
use super::order::{Due, Order, Schedule};
use super::orphans;
use crate::failure::{Failure, Outcome};
use crate::output::complain;

/// The first argument of the program when it is the stage.
pub(crate) const STAGE: &str = "__stage";

/// The longest wait for an event, so that a clock that the kernel does not wait on (sleep of the machine) is noticed.
const LOOK: Duration = Duration::from_millis(200);

/// The wait until what is killed is looked at again.
const KILLS: Duration = Duration::from_millis(10);

enum StageEvent {
    Order(Order),
    /// The process that gives orders has died.
    Orphaned,
    /// The command has ended.
    Ended(u8),
}

/// Starts the command after `--`, and obeys the orders in a pipe. `arguments` are the process that gives orders, its
/// end of the pipe, and the milliseconds from SIGTERM to SIGKILL.
pub(crate) fn stage(arguments: &[OsString]) -> Outcome {
    let usage = || Failure::usage("this is an internal command");
    let [orders, grace, separator, program, rest @ ..] = arguments else {
        return Err(usage());
    };
    let grace = grace
        .to_str()
        .and_then(|text| text.parse().ok())
        .map(Duration::from_millis);
    let grace = grace.filter(|_| separator == "--").ok_or_else(usage)?;
    let orders =
        open(orders).map_err(|error| Failure::failed(format!("open the orders: {error}")))?;
    // They are for the command, and arrive as orders. Handlers, unlike ignored signals, are not inherited by it.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    orphans::adopt().map_err(|error| Failure::failed(format!("adopt orphans: {error}")))?;
    let mut command = Command::new(program);
    command.args(rest);
    let started = match cfg!(target_os = "linux") {
        true => Group::start(&mut command),
        // Without orphans, who starts this process must be able to kill the command with it.
        false => Group::start_here(command.stdin(Stdio::null())),
    };
    let command = match started {
        Ok(command) => Arc::new(command),
        Err(error) => {
            complain(format!("{}: {error}", program.display()));
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            return Ok(if is_missing { 127 } else { 126 });
        }
    };
    let (sender, events) = unbounded();
    let (reader, waited) = (sender.clone(), Arc::clone(&command));
    let wait = move || sender.send(StageEvent::Ended(exit_code(waited.wait())));
    let threads = [
        thread::Builder::new().spawn(move || read_orders(orders, &reader)),
        thread::Builder::new().spawn(move || drop(wait())),
    ];
    let mut schedule = Schedule::default();
    if threads.iter().any(Result::is_err) {
        schedule.take(Order::Stop(Duration::ZERO), boot_now());
    }
    let mut kills = false;
    loop {
        while let Some(due) = schedule.due(boot_now()) {
            match due {
                Due::Term => command.signal_all(Signal::TERM),
                Due::Kill => kills = true,
            }
        }
        if kills {
            command.kill();
            orphans::kill();
        }
        let wait = schedule.wait(boot_now()).unwrap_or(LOOK);
        let wait = wait.min(if kills { KILLS } else { LOOK });
        match events.recv_timeout(wait) {
            Ok(StageEvent::Ended(code)) => {
                say_refused(orphans::end());
                return Ok(code);
            }
            Ok(StageEvent::Order(Order::Signal(number))) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    command.signal(signal);
                }
            }
            Ok(StageEvent::Order(order)) => schedule.take(order, boot_now()),
            Ok(StageEvent::Orphaned) => schedule.take(Order::Stop(grace), boot_now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::failed("the command is lost"));
            }
        }
    }
}

/// Opens the pipe of orders: `PID/FD`, or the stdin for `-`.
fn open(orders: &OsStr) -> io::Result<Box<dyn Read + Send>> {
    let text = orders.to_string_lossy();
    match text.split_once('/') {
        Some((pid, fd)) => Ok(Box::new(File::open(format!("/proc/{pid}/fd/{fd}"))?)),
        None => Ok(Box::new(io::stdin())),
    }
}

fn read_orders(orders: Box<dyn Read + Send>, to: &Sender<StageEvent>) {
    let lines = BufReader::new(orders).lines().map_while(Result::ok);
    for order in lines.filter_map(|line| Order::parse(&line)) {
        if to.send(StageEvent::Order(order)).is_err() {
            return;
        }
    }
    let _ = to.send(StageEvent::Orphaned);
}

/// The exit code of a command that has ended: 128 and the number of the signal if one ended it.
fn exit_code(status: io::Result<ExitStatus>) -> u8 {
    let code = status
        .ok()
        .and_then(|status| status.code().or(status.signal().map(|signal| 128 + signal)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn say_refused(processes: usize) {
    if processes > 0 {
        complain(format!(
            "the command has left {processes} of its processes behind: they belong to another user, and cannot be killed"
        ));
    }
}
