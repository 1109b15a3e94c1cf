//! What the program prints: text that is safe on a terminal, and lines whose reader may be gone.

mod printable;
mod say;

pub(crate) use printable::printable;
pub(crate) use say::{complain, say};
