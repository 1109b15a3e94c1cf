//! Lines with the time since the start.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::time::Instant;

/// Prints lines with the time since its start, from any thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline(Instant);

impl Timeline {
    pub(crate) fn start() -> Self {
        Timeline(Instant::now())
    }

    pub(crate) fn say(self, text: impl Display) {
        let at = self.0.elapsed().as_secs_f64();
        // Not `println!`, which panics when the pipe is closed, as in `quickstart | head`.
        let _ = writeln!(io::stdout(), "{at:7.3}s  {text}");
    }
}
