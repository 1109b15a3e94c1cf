//! What the peers in Rust share: their arguments, their measurements and the line of JSON that they print.

pub mod meter;
pub mod params;
pub mod report;
pub mod task;

/// Why a run failed, as text for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
