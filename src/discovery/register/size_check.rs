//! Refuses an instance that is too large for a request before it is sent.

use bytes::Bytes;

use super::batch;
use super::batch_size::ClientLimits;
use crate::client::Client;
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::error::Result;

/// The settings on which the size of a registered instance depends.
#[derive(Debug)]
pub(super) struct SizeCheck {
    format: Format,
    namespace: usize,
    limits: ClientLimits,
}

impl SizeCheck {
    pub(super) fn new(client: &Client, format: Format) -> Self {
        SizeCheck {
            format,
            namespace: namespace(client),
            limits: limits(client),
        }
    }

    /// Checks that this client can send the instance.
    ///
    /// # Errors
    ///
    /// Of the kind `TooLarge`.
    pub(super) fn check(&self, instance: &Instance) -> Result<()> {
        let key = self.format.key(instance)?;
        let value = self.format.encode(instance)?.unwrap_or_default();
        batch::check_size(&key, &value, self.namespace, self.limits)
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
