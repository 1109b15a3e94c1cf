//! The files of `src/discovery`, and their models.

mod check;
mod register;

use crate::harness::Model;

pub(crate) fn models() -> Vec<Model> {
    [check::MODELS, register::MODELS].concat()
}
