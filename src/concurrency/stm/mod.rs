//! Software transactional memory: a function reads and writes keys, and its writes are committed if no
//! key that it depends on was changed.

mod attempt;
mod run;
#[cfg(test)]
mod tests;
mod tx;

pub use attempt::Isolation;
pub use run::{Committed, Stm};
pub use tx::Tx;
