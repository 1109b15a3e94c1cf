//! The stage: the parent of the command.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::{RecvTimeoutError, Sender, unbounded};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, wait};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::boot_clock::boot_now;
use super::order::{Due, Order, Schedule};
use crate::failure::{Failure, Outcome};
use crate::output::complain;

/// The first argument of the program when it is the stage.
pub(crate) const STAGE: &str = "__stage";

/// The longest wait for an event, so that a clock that the kernel does not wait on (sleep of the machine) is noticed.
const LOOK: Duration = Duration::from_millis(200);

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
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
    let stdin = match cfg!(target_os = "linux") {
        true => Stdio::inherit(),
        false => Stdio::null(),
    };
    let started = Command::new(program).args(rest).stdin(stdin).spawn();
    let child = match started {
        Ok(child) => Pid::from_child(&child),
        Err(error) => {
            complain(format!("{}: {error}", program.display()));
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            return Ok(if is_missing { 127 } else { 126 });
        }
    };
    let (sender, events) = unbounded();
    let reader = sender.clone();
    let threads = [
        thread::Builder::new().spawn(move || read_orders(orders, &reader)),
        thread::Builder::new().spawn(move || reap(child, &sender)),
    ];
    let mut schedule = Schedule::default();
    if threads.iter().any(Result::is_err) {
        schedule.take(Order::Stop(Duration::ZERO), boot_now());
    }
    loop {
        while let Some(due) = schedule.due(boot_now()) {
            let signal = match due {
                Due::Term => Signal::TERM,
                // This process is in the group, and ends with it.
                Due::Kill => Signal::KILL,
            };
            let _ = kill_process_group(getpid(), signal);
        }
        let wait = schedule
            .wait(boot_now())
            .map_or(LOOK, |wait| wait.min(LOOK));
        match events.recv_timeout(wait) {
            Ok(StageEvent::Ended(code)) => return Ok(code),
            Ok(StageEvent::Order(Order::Signal(number))) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = kill_process(child, signal);
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

/// Waits for every child: the command, and orphans that this process got as their next ancestor.
fn reap(child: Pid, to: &Sender<StageEvent>) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                let code = status.exit_status();
                let code = code.or(status.terminating_signal().map(|signal| 128 + signal));
                let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
                let _ = to.send(StageEvent::Ended(code));
                return;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
