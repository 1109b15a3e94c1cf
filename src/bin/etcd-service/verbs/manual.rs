//! The verb `manual`.

use clap::Args;

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};

/// The arguments of `manual`.
#[derive(Args, Debug)]
pub(crate) struct Manual {}

impl Manual {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        Err(Failure::failed("PLACEHOLDER"))
    }
}
