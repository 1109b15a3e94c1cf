//! The formats of the keys and values of instances. Pure.

mod bad_value;
mod native;
mod plain;

use std::borrow::Cow;

use bytes::Bytes;

use self::bad_value::BadValue;
use super::instance::Instance;
use crate::types::key_range::KeyRange;

/// The format of the keys and values of instances.
///
/// A registrar and a view must use the same codec and the same prefix.
///
/// | codec | key | value | default prefix |
/// |---|---|---|---|
/// | `Native` | `prefix` `service` `/` `id` | JSON with all properties | `/services/` |
/// | `Plain` | `prefix` `service` `/` `addr` | the address | `/` |
///
/// A `/` is appended to a prefix that does not end with one. The empty prefix stays empty.
///
/// ```no_run
/// use etcd_blocking::{Codec, Discovery, Registrar};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let registrar = Registrar::builder(&client).codec(Codec::Plain).start()?;
/// let view = Discovery::new(&client).codec(Codec::Plain).service("web")?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Codec {
    /// The value is the address and nothing else.
    ///
    /// It is compatible with Go programs that follow the common tutorials: the key
    /// `/web/10.0.0.5:8080` has the value `10.0.0.5:8080`. It stores no id, weight, status or metadata:
    /// an instance that is read has the last part of its key as its id, and otherwise the defaults of
    /// [`Instance::new`].
    Plain,
    /// One JSON object with every property of the instance.
    ///
    /// ```json
    /// {"v":1,"id":"api-7","addr":"10.0.0.5:8080","endpoints":{"admin":"http://10.0.0.5:9090/"},
    ///  "version":"1.4.2","weight":10,"zone":"eu-1a","tags":["canary"],"meta":{"team":"core"},
    ///  "status":"up","since":1700000000000,"inc":3}
    /// ```
    ///
    /// Only `addr` is required. Unknown fields are kept, and written again with the instance.
    #[default]
    Native,
}

impl Codec {
    /// The prefix of the keys if none is set.
    pub(crate) const fn default_prefix(self) -> &'static str {
        match self {
            Codec::Plain => "/",
            Codec::Native => "/services/",
        }
    }

    /// The key of `instance`, which was [checked](Instance::check).
    pub(crate) fn key(self, prefix: &str, instance: &Instance) -> Bytes {
        let last = match self {
            Codec::Plain => &instance.addr,
            Codec::Native => &instance.id,
        };
        // The slash after the service excludes services with a longer name.
        let mut key = directory(prefix, &instance.service);
        key.push_str(last);
        key.into()
    }

    /// The keys of all instances of `service`. The range ends with `/`, so that `web` does not include
    /// `web2`.
    pub(crate) fn range(self, prefix: &str, service: &str) -> KeyRange {
        KeyRange::prefix(directory(prefix, service))
    }

    /// The value of `instance`, which was [checked](Instance::check).
    pub(crate) fn encode(self, instance: &Instance, incarnation: u64) -> Bytes {
        match self {
            Codec::Plain => plain::encode(instance),
            Codec::Native => native::encode(instance, incarnation),
        }
    }

    /// Decodes an instance from `key` and `value`. The result passes [`Instance::check`].
    pub(crate) fn decode(
        self,
        prefix: &str,
        key: &[u8],
        value: &[u8],
    ) -> Result<Instance, BadValue> {
        let (service, last) = split(prefix, key)?;
        let instance = match self {
            Codec::Plain => plain::decode(service, last, value),
            Codec::Native => native::decode(service, last, value),
        }?;
        // The error of the check contains the refused text, and a value must not be printed.
        match instance.check() {
            Ok(()) => Ok(instance),
            Err(_) if instance.host_and_port().is_none() => Err(BadValue::new(
                "its address is not host:port, or is one that only its own machine can use",
            )),
            Err(_) => Err(BadValue::new("its key has a control character")),
        }
    }
}

/// Appends a `/` to a prefix that has none and is not empty.
fn slashed(prefix: &str) -> Cow<'_, str> {
    if prefix.is_empty() || prefix.ends_with('/') {
        Cow::Borrowed(prefix)
    } else {
        Cow::Owned(format!("{prefix}/"))
    }
}

/// The prefix of the keys of all instances of a service.
fn directory(prefix: &str, service: &str) -> String {
    format!("{}{service}/", slashed(prefix))
}

/// The service and the last part of a key.
fn split<'a>(prefix: &str, key: &'a [u8]) -> Result<(&'a str, &'a str), BadValue> {
    let key = std::str::from_utf8(key).map_err(|_| BadValue::new("its key is not UTF-8"))?;
    let path = key
        .strip_prefix(slashed(prefix).as_ref())
        .ok_or_else(|| BadValue::new("its key is outside of the prefix"))?;
    match path.split_once('/') {
        Some((service, last)) if !service.is_empty() && !last.is_empty() && !last.contains('/') => {
            Ok((service, last))
        }
        _ => Err(BadValue::new(
            "its key is not the prefix, a service and an id, separated by '/'",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Codec; 2] = [Codec::Plain, Codec::Native];

    #[test]
    fn the_range_of_a_service_excludes_services_with_a_longer_name() {
        for codec in BOTH {
            let range = codec.range("/", "web");
            assert!(range.contains(&codec.key("/", &Instance::new("web", "a:1"))));
            assert!(!range.contains(&codec.key("/", &Instance::new("web2", "a:1"))));
            assert!(!range.contains(b"/web"));
        }
    }

    #[test]
    fn a_prefix_gets_its_slash_and_the_empty_one_stays_empty() {
        let web = Instance::new("web", "a:1");
        for prefix in ["/svc", "/svc/"] {
            assert_eq!(Codec::Native.key(prefix, &web), "/svc/web/a:1");
            assert_eq!(Codec::Native.range(prefix, "web").start(), "/svc/web/");
        }
        assert_eq!(Codec::Native.key("", &web), "web/a:1");
    }

    #[test]
    fn a_key_with_another_layout_is_malformed() {
        for codec in BOTH {
            let bad = |key: &[u8]| codec.decode("/svc/", key, b"a:1").unwrap_err();
            assert!(
                bad(b"/other/web/a:1")
                    .to_string()
                    .contains("outside of the prefix")
            );
            assert!(bad(b"/svc/web/\xff").to_string().contains("UTF-8"));
            for key in [
                "/svc/",
                "/svc/web",
                "/svc/web/",
                "/svc//a:1",
                "/svc/web/x/a:1",
            ] {
                let bad = bad(key.as_bytes());
                assert!(bad.to_string().contains("separated by"), "{key}: {bad}");
            }
        }
        let bad = Codec::Plain.decode("/", b"/we\nb/a:1", b"a:1").unwrap_err();
        assert!(bad.to_string().contains("control"));
    }

    #[test]
    fn an_address_for_listening_only_is_malformed_in_every_codec() {
        let plain = Codec::Plain.decode("/", b"/web/0.0.0.0:80", b"0.0.0.0:80");
        let native = Codec::Native.decode("/", b"/web/x", br#"{"addr":"0.0.0.0:80"}"#);
        for bad in [plain, native] {
            let text = bad.unwrap_err().to_string();
            assert!(text.contains("its own machine"));
            assert!(!text.contains("0.0.0.0"), "a value was printed: {text}");
        }
    }
}
