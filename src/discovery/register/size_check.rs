//! Refuses an instance that is too large for a request, before anything happens.

use bytes::Bytes;

use super::batch;
use super::batch_size::ClientLimits;
use crate::client::Client;
use crate::discovery::codec::Codec;
use crate::discovery::instance::Instance;
use crate::error::Result;

/// The longest incarnation in a value: see `RegistrarTask::incarnation`.
const INCARNATION: u64 = u64::MAX >> 11;

/// What the size of a registered instance depends on.
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

    /// Whether this client can send the instance.
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

/// How many bytes a namespace puts in front of each key.
pub(super) fn namespace(client: &Client) -> usize {
    client.absolute(&Bytes::new()).len()
}

pub(super) fn limits(client: &Client) -> ClientLimits {
    ClientLimits {
        txn_ops: client.max_txn_ops(),
        send_bytes: client.send_limit(),
    }
}
