//! The record of a run: what its clients, watchers, replicas, registrations and locks did and saw.
//!
//! A directory has one file per recorder, with one JSON object per line. All times are nanoseconds of
//! CLOCK_MONOTONIC. Checkers read nothing else, so a directory can be judged again at any time.

mod collected;
mod files;
mod records;

pub use collected::History;
pub use files::{Recorder, Recorders, now, read};
pub use records::*;
