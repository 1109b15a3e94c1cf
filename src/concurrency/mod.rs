//! Recipes over the public interface: what programs on one etcd agree on by keys they share.

mod barrier;
mod element;
pub(crate) mod nest;
mod priority_queue;
mod queue;
mod stm;

pub use barrier::Barrier;
pub use element::Element;
pub use priority_queue::PriorityQueue;
pub use queue::Queue;
pub use stm::{Committed, Isolation, Stm, Tx};
