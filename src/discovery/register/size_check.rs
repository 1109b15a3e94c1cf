//! Refuses an instance that is too large for a request before it is sent.

use bytes::Bytes;

use super::batch;
use super::batch_size::ClientLimits;
use crate::client::Client;
use crate::discovery::codec::Codec;
use crate::discovery::instance::Instance;
use crate::error::Result;

/// The longest incarnation in a value: see `RegistrarTask::incarnation`.
const INCARNATION: u64 = u64::MAX >> 11;

/// The settings on which the size of a registered instance depends.
#[derive(Debug)]
pub(super) struct SizeCheck {
    codec: Codec,
    prefix: String,
    namespace: usize,
    limits: ClientLimits,
}

impl SizeCheck {
    pub(super) fn new(client: &Client, codec: Codec, prefix: String) -> Self {
        SizeCheck {
            codec,
            prefix,
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
        let key = self.codec.key(&self.prefix, instance);
        let value = self.codec.encode(instance, INCARNATION);
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
