//! The verb `top`.

mod frame;
mod screen;
mod state;

use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use etcd_blocking::crossbeam_channel::Receiver;
use ratatui::crossterm::event;
use rustix::process::{Signal, kill_current_process_group};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::output::{say, wait_until_closed};
use crate::registry::Registry;
use crate::signals::receive;
use frame::{draw, plain};
use screen::{Screen, terminal_failed};
use state::{After, State};

/// The longest wait for a key before the picture is looked at.
const TICK: Duration = Duration::from_millis(100);

/// The shortest time between two frames, unless a key was pressed.
const FRAME: Duration = Duration::from_millis(200);

/// How long nothing may change until the one frame is taken to be complete.
const QUIET: Duration = Duration::from_millis(300);

/// The arguments of `top`.
#[derive(Args, Debug)]
#[command(
    after_help = "Keys: q ends; arrows choose a service; Enter shows its instances, and Esc the services again; \
/ filters by name; s sorts by another column; Ctrl-Z stops.

Examples:
  etcd-service top
  etcd-service top --once | grep api"
)]
pub(crate) struct Top {
    #[command(flatten)]
    formats: FormatArguments,
    /// Prints one frame as text, also if stdout is a terminal
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(crate) fn run(self, connection: &ConnectionArguments) -> Outcome {
        let client = connection.connect()?;
        let registry = Registry::open(&client, &self.formats)?;
        if self.once || !io::stdout().is_terminal() {
            return once(&registry, client.timeout());
        }
        let signals = receive(&[SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT])?;
        end_with_terminal()?;
        let mut screen = Screen::open()?;
        let result = live(&mut screen, &registry, &signals);
        let closed = screen.close();
        match result? {
            // The terminal is gone.
            End::HungUp => Ok(0),
            End::Asked => closed.map(|()| 0),
        }
    }
}

/// Prints one frame.
fn once(registry: &Registry, limit: Duration) -> Outcome {
    let mut picture = registry.picture();
    let begun = Instant::now();
    loop {
        let seen = picture.version;
        picture = registry.wait(seen, QUIET);
        if picture.is_live() && picture.version == seen {
            break;
        }
        if begun.elapsed() > limit {
            if picture.is_live() {
                break;
            }
            let why = picture.error.as_deref().unwrap_or("it has not answered");
            return Err(Failure::failed(format!("etcd could not be read: {why}")));
        }
    }
    for line in plain(&picture) {
        say(line)?;
    }
    Ok(0)
}

/// Ends the program when the terminal is closed. The library that reads keys does not return from its call then, so
/// nothing else in this program would notice.
fn end_with_terminal() -> Result<(), Failure> {
    let watch = || {
        wait_until_closed();
        std::process::exit(0);
    };
    let thread = thread::Builder::new().name("closed-terminal".into());
    let started = thread.spawn(watch);
    started.map_err(|error| Failure::failed(format!("start a thread: {error}")))?;
    Ok(())
}

/// Why the interactive view ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By a key or a signal.
    Asked,
    /// The terminal was closed.
    HungUp,
}

/// Shows the picture until a key or a signal ends it.
fn live(screen: &mut Screen, registry: &Registry, signals: &Receiver<i32>) -> Result<End, Failure> {
    let mut state = State::default();
    let mut drawn: Option<(u64, Instant)> = None;
    let mut is_changed = true;
    loop {
        for signal in signals.try_iter() {
            match signal {
                SIGTSTP => {
                    screen.close()?;
                    // Returns after SIGCONT, which is received, too.
                    emulate_default_handler(SIGTSTP).map_err(terminal_failed)?;
                }
                SIGCONT => {
                    // The shell has set the terminal as it likes it.
                    screen.reopen()?;
                    is_changed = true;
                }
                SIGHUP => return Ok(End::HungUp),
                _ => return Ok(End::Asked),
            }
        }
        let picture = registry.picture();
        let is_due =
            drawn.is_none_or(|(version, at)| version != picture.version && at.elapsed() >= FRAME);
        if is_changed || is_due {
            drawn = Some((picture.version, Instant::now()));
            state.look_at(&picture);
            screen.draw(|frame| draw(frame, &picture, &state))?;
        }
        is_changed = false;
        if event::poll(TICK).map_err(terminal_failed)? {
            match state.on(&event::read().map_err(terminal_failed)?, &picture) {
                After::End => return Ok(End::Asked),
                After::Redraw => is_changed = true,
                // To the whole job, as the terminal does it. This program handles the signal above.
                After::Stop => {
                    kill_current_process_group(Signal::TSTP)
                        .map_err(|error| terminal_failed(error.into()))?;
                }
                After::Nothing => {}
            }
        }
    }
}
