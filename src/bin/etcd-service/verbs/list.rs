//! The verb `list`.

use clap::Args;

use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};

/// The arguments of `list`.
#[derive(Args, Debug)]
pub(crate) struct List {}

impl List {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        Err(Failure::failed("PLACEHOLDER"))
    }
}
