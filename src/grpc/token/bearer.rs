//! The token as the connections of a client send it.

use http::{HeaderName, HeaderValue};
use parking_lot::RwLock;

use crate::grpc::etcd_rs_proto::Unary as _;
use crate::grpc::etcd_rs_proto::etcdserverpb::AuthenticateRequest;
use crate::util::atomic::{AtomicU64, Ordering};

/// etcd reads `token` and `authorization`; its own clients send `token`.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// The only method that is sent without a token: etcd before 3.4.11 rejects it when the token has
/// expired.
const AUTHENTICATE: &str = AuthenticateRequest::PATH;

/// The current token header, shared by the connections of a client.
#[derive(Debug, Default)]
pub(crate) struct Bearer {
    header: RwLock<Option<HeaderValue>>,
    pub(super) generation: AtomicU64,
}

impl Bearer {
    pub(super) fn set(&self, header: Option<HeaderValue>, generation: u64) {
        *self.header.write() = header;
        // Stored after the header: a request that reads this number sends that token or a newer
        // one.
        self.generation.store(generation, Ordering::Release);
    }

    /// Adds the token to a request, if there is one.
    pub(in crate::grpc) fn attach_token<T>(&self, request: &mut http::Request<T>) {
        if request.uri().path() == AUTHENTICATE {
            return;
        }
        let header = self.header.read().clone();
        if let Some(header) = header {
            request.headers_mut().insert(TOKEN, header);
        }
    }
}

/// The header for a token. It is marked as sensitive, so it is not printed and not indexed by
/// HPACK.
pub(super) fn header(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(token).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> http::Request<()> {
        http::Request::builder().uri(path).body(()).unwrap()
    }

    #[test]
    fn every_request_but_authenticate_has_the_token_and_debug_output_hides_it() {
        let bearer = Bearer::default();
        let mut put = request("/etcdserverpb.KV/Put");
        bearer.attach_token(&mut put);
        assert!(put.headers().is_empty(), "there is none yet");
        bearer.set(header("canary-4711"), 1);
        bearer.attach_token(&mut put);
        assert_eq!(put.headers().get(TOKEN).unwrap(), "canary-4711");
        let printed = format!("{:?} {bearer:?}", put.headers());
        assert!(
            !printed.contains("canary") && printed.contains("Sensitive"),
            "{printed}"
        );
        let mut authenticate = request(AUTHENTICATE);
        bearer.attach_token(&mut authenticate);
        assert!(authenticate.headers().is_empty());
    }
}
