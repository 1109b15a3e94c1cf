//! Fuzz targets of what users give: endpoints and settings.

use super::input::Input;
use crate::config::{Config, IntoEndpoints};
use crate::error::{Error, ErrorKind};
use crate::grpc::connect::endpoint::{Address, Endpoint};

/// Parses a list of endpoints. What is accepted has a host and a port and is read again as the same endpoint; an error
/// does not depend on credentials.
pub(super) fn endpoints(data: &[u8]) {
    let mut data = Input::new(data);
    let tls = data.flag();
    let text = String::from_utf8_lossy(data.rest()).into_owned();
    for one in text.as_str().into_endpoints().iter().chain([&text]) {
        match Endpoint::parse(one, tls) {
            Ok(endpoint) => accepted(&endpoint),
            Err(error) => {
                refused(&error);
                if let Some(other) = with_other_credentials(one)
                    && let Err(same) = Endpoint::parse(&other, tls)
                {
                    assert_eq!(
                        error.to_string(),
                        same.to_string(),
                        "for {one:?} and {other:?}"
                    );
                }
            }
        }
    }
}

/// Replaces the letters and digits of the user name and password of an endpoint. Errors must be the same for both texts.
/// `None` for a text without credentials.
fn with_other_credentials(text: &str) -> Option<String> {
    let (before, host) = text.rsplit_once('@')?;
    // A text before it may be a scheme.
    let at = before.find("://").map_or(0, |at| at + 3);
    let (scheme, credentials) = before.split_at_checked(at)?;
    let is_file = text.trim_start().get(..4)?.eq_ignore_ascii_case("unix");
    let other = |c: char| if c.is_alphanumeric() { 'x' } else { c };
    let credentials: String = credentials.chars().map(other).collect();
    (!is_file).then(|| format!("{scheme}{credentials}@{host}"))
}

fn accepted(endpoint: &Endpoint) {
    let again = Endpoint::parse(&endpoint.text, endpoint.secure).expect("its own text");
    match &endpoint.address {
        Address::Tcp { host, port } => assert!(!host.is_empty() && *port > 0),
        // The slashes at the beginning may be fewer, which names the same file.
        Address::Unix(path) if path.to_string_lossy().starts_with("//") => return,
        Address::Unix(path) => assert!(!path.as_os_str().is_empty()),
    }
    assert_eq!(&again, endpoint);
    assert!(!endpoint.text.contains(char::is_control));
}

fn refused(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Reads settings from variables, one a line.
pub(super) fn env(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let vars = text.lines().filter_map(|line| line.split_once('='));
    let vars: Vec<(&str, &str)> = vars.collect();
    match Config::from_vars(vars.clone()) {
        Ok(config) => configured(&config),
        Err(error) => refused(&error),
    }
    // No password or token is in an error, or in what is printed of the settings.
    let secrets = [
        ("ETCDCTL_USER", "u:canary-in-user"),
        ("ETCDCTL_PASSWORD", "canary-in-password"),
        ("ETCDCTL_AUTH_JWT_TOKEN", "canary-in-token"),
    ];
    let shown = match Config::from_vars(vars.into_iter().chain(secrets)) {
        Ok(config) => format!("{config:?} {:?}", config.clone().builder()),
        Err(error) => error.to_string(),
    };
    assert!(!shown.contains("canary"), "{shown}");
}

fn configured(config: &Config) {
    if let Err(error) = config.clone().builder() {
        refused(&error);
    }
}

/// Reads settings from JSON. What is written of them is read as the same, without the password and the token.
#[cfg(feature = "serde")]
pub(super) fn text(data: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Config>(data) else {
        return;
    };
    configured(&config);
    let written = serde_json::to_string(&config).expect("settings are JSON");
    let again: Config = serde_json::from_str(&written).expect("its own JSON");
    assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
    assert_eq!(again.endpoints, config.endpoints);
    let spans = |of: &Config| {
        [
            of.dial_timeout,
            of.request_timeout,
            of.dial_keep_alive_time,
            of.auto_sync_interval,
        ]
    };
    assert_eq!(spans(&again), spans(&config));
}
