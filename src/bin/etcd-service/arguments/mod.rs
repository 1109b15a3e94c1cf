//! Arguments that several verbs share.

mod connection;
mod formats;
mod span;

pub(crate) use connection::ConnectionArguments;
pub(crate) use formats::FormatArguments;
pub(crate) use span::span;
