//! Arguments that several verbs share.

mod checks;
mod connection;
mod formats;
mod instance;
mod span;

pub(crate) use checks::CheckArguments;
pub(crate) use connection::ConnectionArguments;
pub(crate) use formats::FormatArguments;
pub(crate) use instance::InstanceArguments;
pub(crate) use span::span;
