//! Software transactional memory: read and write keys as if alone, and commit if nobody interfered.

mod attempt;
mod run;
#[cfg(test)]
mod tests;
mod tx;

pub use attempt::Isolation;
pub use run::{Committed, Stm};
pub use tx::Tx;
