//! A codec and the prefix of its keys.

use std::sync::Arc;

use bytes::Bytes;

use super::Codec;
use super::bad_value::BadValue;
use super::native::Native;
use super::path::slashed;
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::error::{Error, Result};
use crate::types::key_range::KeyRange;

/// The part of a prefix below which the elections of leaders are.
const LEADERS: &str = ".leader/";

/// The name of the codec whose keys may be named after leases.
const GO_ZERO: &str = "go-zero";

/// A codec and the prefix of its keys.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    codec: Arc<dyn Codec>,
    prefix: Arc<str>,
}

impl Format {
    /// The format of a codec with its default prefix.
    pub(crate) fn new(codec: impl Codec + 'static) -> Self {
        let prefix = codec.default_prefix().into();
        Format {
            codec: Arc::new(codec),
            prefix,
        }
    }

    pub(crate) fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The beginning of all keys.
    pub(crate) fn beginning(&self) -> &str {
        &self.prefix
    }

    /// The name of the election of the leader of a service.
    pub(crate) fn leader(&self, service: &str) -> String {
        format!("{}{LEADERS}{service}", slashed(&self.prefix))
    }

    pub(crate) fn name(&self) -> &str {
        self.codec.name()
    }

    pub(crate) fn key(&self, instance: &Instance) -> Result<Bytes> {
        self.codec.key(&self.prefix, instance)
    }

    pub(crate) fn range(&self, service: &str) -> KeyRange {
        self.codec.range(&self.prefix, service)
    }

    pub(crate) fn all(&self) -> KeyRange {
        self.codec.all(&self.prefix)
    }

    pub(crate) fn encode(&self, instance: &Instance) -> Result<Option<Bytes>> {
        self.codec.encode(instance)
    }

    /// Decodes an instance. The result passes [`Instance::check`].
    pub(crate) fn decode(&self, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let path = key.strip_prefix(slashed(&self.prefix).as_bytes());
        let is_reserved =
            |path: &[u8]| path.starts_with(b".ctl/") || path.starts_with(LEADERS.as_bytes());
        if path.is_some_and(is_reserved) {
            return Ok(None);
        }
        let Some(instance) = self.codec.decode(&self.prefix, key, value)? else {
            return Ok(None);
        };
        // The error of the check contains the refused text, and a value must not be printed.
        match instance.check() {
            Ok(()) => Ok(Some(instance)),
            Err(_) if instance.host_and_port().is_none() => Err(BadValue::new(
                "its address is not host:port, or is one that only its own machine can use",
            )),
            Err(_) => Err(BadValue::new("its key has a control character")),
        }
    }

    /// Decodes an instance for a view. go-zero names a key after its lease, so one program may have several keys
    /// for a time: the id is then the address, which is the same in all of them.
    pub(crate) fn decode_shown(
        &self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Instance>, BadValue> {
        let read = self.decode(key, value)?;
        let is_lease = |id: &str| id.bytes().all(|byte| byte.is_ascii_digit());
        Ok(read.map(|mut instance| {
            if self.name() == GO_ZERO && is_lease(&instance.id) {
                instance.id.clone_from(&instance.addr);
            }
            instance
        }))
    }

    /// Checks that the format keeps the id of an instance, so that it is found under it.
    pub(crate) fn check_id(&self, instance: &Instance) -> Result<()> {
        let up = Instance {
            weight: instance.weight.max(1),
            ..instance.clone().status(Status::Up)
        };
        let (key, value) = (self.key(&up)?, self.encode(&up)?.unwrap_or_default());
        match self.decode(&key, &value) {
            Ok(Some(stored)) if stored.id != instance.id => Err(Error::invalid(format!(
                "the codec {} cannot store an id, because it uses {:?} as the id: leave the id out, or \
                 name a codec first that stores it, such as Native",
                self.name(),
                stored.id
            ))),
            _ => Ok(()),
        }
    }
}

impl Default for Format {
    fn default() -> Self {
        Format::new(Native)
    }
}
