//! Refuses an instance that is too large for a request before it is sent.

use bytes::Bytes;

use super::batch;
use super::batch_size::ClientLimits;
use crate::client::Client;
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::error::{Error, Result};

/// The settings on which the size of a registered instance depends.
#[derive(Debug)]
pub(super) struct SizeCheck {
    first_format: Format,
    more_formats: Vec<Format>,
    namespace: usize,
    limits: ClientLimits,
}

impl SizeCheck {
    pub(super) fn new(client: &Client, first_format: Format, more_formats: Vec<Format>) -> Self {
        SizeCheck {
            first_format,
            more_formats,
            namespace: namespace(client),
            limits: limits(client),
        }
    }

    /// The format that is named first.
    pub(super) fn first_format(&self) -> &Format {
        &self.first_format
    }

    fn formats(&self) -> impl Iterator<Item = &Format> {
        std::iter::once(&self.first_format).chain(&self.more_formats)
    }

    /// Checks that the formats can hold the instance, and that this client can send it.
    ///
    /// # Errors
    ///
    /// Of the kind `TooLarge`, or of the kind `InvalidArgument` when a format cannot hold the instance or two
    /// formats have the same key for it.
    pub(super) fn check(&self, instance: &Instance) -> Result<()> {
        let mut keys: Vec<(Bytes, Bytes)> = Vec::with_capacity(1 + self.more_formats.len());
        for (n, format) in self.formats().enumerate() {
            let key = format.key(instance)?;
            let value = format.encode(instance)?.unwrap_or_default();
            if let Some(same) = keys.iter().position(|(other, _)| *other == key) {
                let other = self.formats().nth(same).map_or("", Format::name);
                let name = format.name();
                return Err(Error::invalid(format!(
                    "the codecs {other} and {name} (number {} and {} of the registrar) have the same key for \
                     it: give one of them another prefix",
                    same + 1,
                    n + 1
                )));
            }
            keys.push((key, value));
        }
        let keys = keys.iter().map(|(key, value)| (key, value));
        batch::check_size(keys, self.namespace, self.limits)
    }
}

/// The number of bytes that the client's namespace adds before each key.
pub(super) fn namespace(client: &Client) -> usize {
    client.absolute(&Bytes::new()).len()
}

/// The limits of a client for one transaction.
pub(super) fn limits(client: &Client) -> ClientLimits {
    ClientLimits {
        txn_ops: client.max_txn_ops(),
        send_bytes: client.send_limit(),
    }
}
