//! The verb `undrain`.

use clap::Args;

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};

/// The arguments of `undrain`.
#[derive(Args, Debug)]
pub(crate) struct Undrain {}

impl Undrain {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        Err(Failure::failed("PLACEHOLDER"))
    }
}
