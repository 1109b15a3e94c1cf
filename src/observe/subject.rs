//! What an event is about, where nothing is told: nothing.

use crate::types::key_range::KeyRange;

/// The keys of a watch, for its events; without the feature `tracing`, no bytes at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    #[cfg(feature = "tracing")]
    keys: Option<KeyRange>,
}

impl Subject {
    #[cfg_attr(
        not(feature = "tracing"),
        allow(unused_variables, reason = "what only an event would say")
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
