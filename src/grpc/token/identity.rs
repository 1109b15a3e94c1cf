//! The configured identity of a client.

use super::bearer::header;
use crate::error::{Error, Result};
use crate::util::secret::Secret;

/// The configured identity of a client.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// A user with a password, which are exchanged for a token.
    User { name: String, password: Secret },
    /// A token that was issued elsewhere.
    Token(Secret),
}

impl Identity {
    /// Rejects an identity that cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        let error = match self {
            Identity::User { name, .. } if name.is_empty() => "the user name is empty",
            Identity::User { password, .. } if password.reveal().is_empty() => {
                "the password is empty, which etcd does not accept"
            }
            Identity::Token(token) if token.reveal().is_empty() => "the token is empty",
            Identity::Token(token) if header(token.reveal()).is_none() => {
                "the token contains characters that an HTTP header cannot hold"
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(error))
    }
}
