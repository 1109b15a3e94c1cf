//! The settings of a transport.

use std::sync::Arc;
use std::time::Duration;

use super::connect::endpoint::Endpoint;
use super::connect::keepalive_task::PingRate;
use super::connect::resolver::Resolver;
use super::limits::MessageLimits;
use super::timers::Timers;
#[cfg(feature = "__tls")]
use super::tls;
use super::token::tokens::Tokens;
use crate::error::Error;

/// The settings of a transport.
#[derive(Clone, Debug)]
pub(crate) struct TransportSettings {
    /// The time limit of one connection attempt, from the first packet to the server's first
    /// answer.
    pub(crate) connect_timeout: Duration,
    /// The head start of each address over the next one in a race.
    pub(crate) stagger: Duration,
    pub(crate) resolver: Resolver,
    /// The flow-control window of one stream, in bytes.
    pub(crate) stream_window: u32,
    /// The flow-control window of one connection, in bytes.
    pub(crate) connection_window: u32,
    /// The largest accepted reply and the largest request.
    pub(crate) limits: MessageLimits,
    pub(crate) ping: Arc<PingRate>,
    pub(crate) timers: Timers,
    /// The token of the client's user; `None` when it has no user, or a certificate identifies it.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// Whether a password or a token may be sent without TLS.
    pub(crate) plaintext_credentials: bool,
    /// Present when the endpoints use TLS.
    #[cfg(feature = "__tls")]
    pub(crate) tls: Option<Arc<tls::Connector>>,
}

impl TransportSettings {
    pub(crate) fn pings(every: Duration, answer_within: Duration) -> Arc<PingRate> {
        Arc::new(PingRate::new(every, answer_within))
    }

    pub(crate) fn check_plaintext(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let in_the_clear = self.tokens.is_some() && endpoint.is_plaintext();
        if !in_the_clear || self.plaintext_credentials {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "a password or a token would be sent without encryption to {}; use https, or permit it \
             (ClientBuilder::allow_plaintext_credentials)",
            endpoint.text
        )))
    }
}
