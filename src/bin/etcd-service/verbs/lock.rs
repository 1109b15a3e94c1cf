//! The verb `lock`.

use clap::Args;

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};

/// The arguments of `lock`.
#[derive(Args, Debug)]
pub(crate) struct Lock {}

impl Lock {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        Err(Failure::failed("PLACEHOLDER"))
    }
}
