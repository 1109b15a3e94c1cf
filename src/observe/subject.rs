//! The subject of watch events; empty without the feature `tracing`.

use crate::types::key_range::KeyRange;

/// The keys of a watch, for its events. Zero-sized without the feature `tracing`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    #[cfg(feature = "tracing")]
    keys: Option<KeyRange>,
}

impl Subject {
    #[cfg_attr(
        not(feature = "tracing"),
        allow(unused_variables, reason = "used only by tracing events")
    )]
    pub(crate) fn keys(keys: &KeyRange) -> Self {
        Subject {
            #[cfg(feature = "tracing")]
            keys: Some(keys.clone()),
        }
    }
}

#[cfg(feature = "tracing")]
impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.keys {
            Some(keys) => keys.fmt(f),
            None => Ok(()),
        }
    }
}
