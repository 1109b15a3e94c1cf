//! Files of `src/rpc`, and their models.

pub(crate) mod lease;

use crate::harness::Model;

pub(super) const MODELS: &[Model] = lease::MODELS;
