//! The checkers: pure functions of a history.

mod elections;
mod kv;
mod linear;
mod locks;
mod registrations;
mod replicas;
mod truth;
mod violation;
mod watch_ends;
mod watches;
mod wgl;

pub use elections::check as elections;
pub use kv::check as kv;
pub use linear::{Checked, check as linear};
pub use locks::check as locks;
pub use registrations::check as registrations;
pub use replicas::check as replicas;
pub use truth::stores;
pub use violation::Violation;
pub use watch_ends::check as watch_ends;
pub use watches::check as watches;
