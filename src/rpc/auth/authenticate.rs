//! The request that exchanges a name and a password for a token.

use std::fmt;

use super::auth_rpc::{auth_rpc, check_name};
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse as PbAuthenticateResponse,
};
use crate::rpc::kv::header;
use crate::types::ResponseHeader;
use crate::util::secret::Secret;

/// Exchanges a name and a password for a token.
///
/// A client with [`ClientBuilder::user`](crate::ClientBuilder::user) does this by itself. The request is
/// for checking a password, or for passing a token to another program. It costs the server up to 100 ms
/// of CPU, and sends the password over the client's connection: use TLS or a unix socket.
///
/// The call fails with [`Unauthenticated`](crate::ErrorKind::Unauthenticated) when the name or the
/// password is wrong, and with [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) when
/// authentication is disabled.
///
/// ```no_run
/// use etcd_blocking::Client;
/// use etcd_blocking::auth::Authenticate;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let password = std::env::var("API_PASSWORD").unwrap_or_default();
/// let token = client.call(Authenticate::new("api", password))?;
/// let other = Client::builder("https://10.0.0.1:2379").token(token.token()).connect()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is called"]
pub struct Authenticate {
    name: String,
    password: Secret,
}

impl Authenticate {
    /// Requests a token of this user.
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

    fn validate(&self) -> Result<()> {
        check_name("user", &self.name)
    }
}

auth_rpc!(Authenticate, read AuthenticateRequest => AuthenticateResponse);

/// The response to an [`Authenticate`]. `Debug` does not print the token.
#[derive(Clone)]
pub struct AuthenticateResponse {
    header: ResponseHeader,
    token: Secret,
}

impl AuthenticateResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The token. It is a secret while it is valid.
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
