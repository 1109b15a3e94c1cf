//! What a checker found, with the lines of the history that show it.

use std::fmt;

use crate::history::{Line, Time};

/// The most lines that are printed of one violation.
const LINES: usize = 12;
/// The most characters that are printed of one line.
const WIDTH: usize = 1200;

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule, such as `watch: unique`.
    pub rule: &'static str,
    pub what: String,
    /// The time of the last line.
    pub at: Option<Time>,
    lines: Vec<String>,
}

impl Violation {
    pub fn new(rule: &'static str, what: impl Into<String>, lines: &[Line]) -> Self {
        Violation {
            rule,
            what: what.into(),
            at: lines.iter().filter_map(Line::time).max(),
            lines: lines.iter().take(LINES).map(Line::text).collect(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)?;
        for line in &self.lines {
            let end = line.char_indices().nth(WIDTH).map_or(line.len(), |at| at.0);
            write!(f, "\n    {}", &line[..end])?;
        }
        Ok(())
    }
}
