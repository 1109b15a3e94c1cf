//! A text that is never printed.

use std::fmt;
use std::sync::Arc;

/// A password or a token. It prints as `***`, and cannot be displayed or compared.
#[derive(Clone)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Secret(Arc::from(text.into()))
    }

    /// The text itself, for the wire.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("canary-4711");
        assert_eq!(
            format!("{secret:?} {:#?}", Some(&secret)),
            "*** Some(\n    ***,\n)"
        );
        assert_eq!(secret.reveal(), "canary-4711");
    }
}
