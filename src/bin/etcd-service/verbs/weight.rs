//! The verb `weight`.

use clap::Args;

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};

/// The arguments of `weight`.
#[derive(Args, Debug)]
pub(crate) struct Weight {}

impl Weight {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        Err(Failure::failed("PLACEHOLDER"))
    }
}
