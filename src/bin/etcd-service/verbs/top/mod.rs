//! The verb `top`.

mod frame;
mod state;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;

use crate::arguments::{ConnectionArguments, FormatArguments};
use crate::failure::{Failure, Outcome};
use crate::output::say;
use crate::registry::Registry;
use crate::signals::signals;
use frame::{draw, plain};
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
/ filters by name; s sorts by another column.

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
        let signals = signals()?;
        // It enters the alternate screen, and restores the terminal if the program panics.
        let mut terminal = ratatui::try_init().map_err(terminal_failed)?;
        let result = live(&mut terminal, &registry, &|| signals.try_recv().is_ok());
        let restored = ratatui::try_restore().map_err(terminal_failed);
        result.and(restored)?;
        Ok(0)
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

/// Shows the picture until a key or a signal ends it.
fn live(
    terminal: &mut DefaultTerminal,
    registry: &Registry,
    is_signalled: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let mut state = State::default();
    let mut drawn: Option<(u64, Instant)> = None;
    let mut is_changed = true;
    while !is_signalled() {
        let picture = registry.picture();
        let is_due =
            drawn.is_none_or(|(version, at)| version != picture.version && at.elapsed() >= FRAME);
        if is_changed || is_due {
            drawn = Some((picture.version, Instant::now()));
            state.look_at(&picture);
            let frame = terminal.draw(|frame| draw(frame, &picture, &state));
            frame.map_err(terminal_failed)?;
        }
        is_changed = false;
        if event::poll(TICK).map_err(terminal_failed)? {
            match state.on(&event::read().map_err(terminal_failed)?, &picture) {
                After::End => return Ok(()),
                After::Redraw => is_changed = true,
                After::Nothing => {}
            }
        }
    }
    Ok(())
}

fn terminal_failed(error: io::Error) -> Failure {
    Failure::failed(format!("use the terminal: {error}"))
}
