//! Name and password for a token.

use std::fmt;

use super::{exchange, named};
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse as PbAuthenticateResponse,
};
use crate::rpc::kv::header;
use crate::types::ResponseHeader;
use crate::util::secret::Secret;

/// Exchanges a name and a password for a token.
///
/// A client does that by itself when it is made with
/// [`ClientBuilder::user`](crate::ClientBuilder::user); this is to check a password, or to hand a
/// token to somebody else. It costs the server up to 100 ms of CPU, and sends the password over
/// whatever connection the client has: it is up to the caller to use TLS or a unix socket.
///
/// [`Unauthenticated`](crate::ErrorKind::Unauthenticated) when name or password are wrong,
/// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) when authentication is off.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is called"]
pub struct Authenticate {
    name: String,
    password: Secret,
}

impl Authenticate {
    /// Asks for a token of this user.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Authenticate {
            name: name.into(),
            password: Secret::new(password),
        }
    }

    fn message(&self) -> AuthenticateRequest {
        AuthenticateRequest {
            name: self.name.clone(),
            password: self.password.reveal().to_owned(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about("authenticate user", format_args!("{:?}", self.name))
    }

    fn problem(&self) -> Result<()> {
        named("user", &self.name)
    }
}

exchange!(Authenticate, read AuthenticateRequest => AuthenticateResponse);

/// The answer to an [`Authenticate`]. The token in it does not print.
#[derive(Clone)]
pub struct AuthenticateResponse {
    header: ResponseHeader,
    token: Secret,
}

impl AuthenticateResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The token: a secret, for as long as it is valid.
    pub fn token(&self) -> &str {
        self.token.reveal()
    }
}

impl fmt::Debug for AuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateResponse")
            .field("header", &self.header)
            .field("token", &self.token)
            .finish()
    }
}

impl From<PbAuthenticateResponse> for AuthenticateResponse {
    fn from(pb: PbAuthenticateResponse) -> Self {
        AuthenticateResponse {
            header: header(pb.header),
            token: Secret::new(pb.token),
        }
    }
}
