//! Software transactional memory: read and write keys as if alone, and commit if nobody interfered.

mod attempt;
#[cfg(test)]
mod model;
mod run;
mod tx;

pub use attempt::Isolation;
pub use run::{Committed, Stm};
pub use tx::Tx;
