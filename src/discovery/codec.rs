//! The formats of the keys and values of instances. Pure.

mod bad_value;
mod dns_label;
mod dubbo_go;
mod fields;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod go_micro;
mod go_naming;
mod go_zero;
#[cfg(test)]
mod golden;
mod hertz;
mod kitex;
mod kratos;
mod native;
mod path;
mod plain;
mod properties;
#[cfg(test)]
mod round_trip;
mod rpcx;
mod sky_dns;
mod url;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use self::bad_value::BadValue;
pub use self::dubbo_go::DubboGo;
pub(crate) use self::format::Format;
pub use self::go_micro::GoMicro;
pub use self::go_naming::GoNaming;
pub use self::go_zero::GoZero;
pub use self::hertz::Hertz;
pub use self::kitex::Kitex;
pub use self::kratos::Kratos;
pub use self::native::Native;
pub use self::plain::Plain;
pub use self::rpcx::Rpcx;
pub use self::sky_dns::SkyDns;
use super::instance::Instance;
use crate::error::Result;
use crate::types::key_range::KeyRange;

/// A format of the keys and values of instances.
///
/// A registrar writes each instance in one format or in several, and a view reads one or several. A codec has
/// no state: `prefix` is the beginning of all keys, as the registrar or the view was set up. It may lack
/// the `/` at its end.
///
/// | codec | key | value | default prefix |
/// |---|---|---|---|
/// | [`Native`] | `prefix` `service` `/` `id` | JSON with all properties | `/services/` |
/// | [`Plain`] | `prefix` `service` `/` `addr` | the address | `/` |
/// | [`GoNaming`] | `prefix` `service` `/` `id` | JSON of etcd's Go client and gRPC-Go | none |
/// | [`GoZero`] | `prefix` `service` `/` `id` | the address | none |
/// | [`Kratos`] | `prefix` `service` `/` `id` | JSON | `/microservices/` |
/// | [`Kitex`] | `prefix` `service` `/` `addr` | JSON | `kitex/registry-etcd/` |
/// | [`Hertz`] | `prefix` `service` `/` `addr` | JSON | `hertz/registry-etcd/` |
/// | [`Rpcx`] | `prefix` `service` `/tcp@` `addr` | a query | `/rpcx_test/` |
/// | [`GoMicro`] | `prefix` `service` `/` `id` | JSON | `/micro/registry/` |
/// | [`DubboGo`] | `prefix` `service` `/` `addr` | JSON | `/services/` |
/// | [`SkyDns`] | `prefix` `service` `/` label | JSON of CoreDNS | `/skydns/` |
///
/// The page [formats](crate::docs::formats) has what each format stores.
///
/// A program can implement the trait for a format of its own:
///
/// ```
/// use etcd_blocking::bytes::Bytes;
/// use etcd_blocking::codec::{BadValue, Codec};
/// use etcd_blocking::{Instance, Result};
///
/// /// The key `PREFIX/SERVICE/ID`, and the value `ADDR WEIGHT`.
/// #[derive(Debug)]
/// struct Words;
///
/// impl Codec for Words {
///     fn name(&self) -> &str {
///         "words"
///     }
///
///     fn default_prefix(&self) -> &str {
///         "words"
///     }
///
///     fn key(&self, prefix: &str, instance: &Instance) -> Result<Bytes> {
///         let prefix = prefix.trim_end_matches('/');
///         Ok(format!("{prefix}/{}/{}", instance.service, instance.id).into())
///     }
///
///     fn encode(&self, instance: &Instance) -> Result<Option<Bytes>> {
///         // The format has no status, so an instance that takes no calls has no key.
///         let value = || format!("{} {}", instance.addr, instance.weight).into();
///         Ok(instance.is_pickable().then(value))
///     }
///
///     fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
///         let bad = || BadValue::new("it is not an address and a weight");
///         let key = std::str::from_utf8(key).map_err(|_| bad())?;
///         let mut path = key.rsplit('/');
///         let (Some(id), Some(service)) = (path.next(), path.next()) else {
///             return Err(bad());
///         };
///         let value = std::str::from_utf8(value).map_err(|_| bad())?;
///         let (addr, weight) = value.split_once(' ').ok_or_else(bad)?;
///         let weight = weight.parse().map_err(|_| bad())?;
///         Ok(Some(Instance::new(service, addr).id(id).weight(weight)))
///     }
/// }
///
/// let api = Instance::new("api", "10.0.0.5:8080").id("api-7").weight(3);
/// let key = Words.key("words", &api)?;
/// assert!(Words.range("words", "api").contains(&key));
/// let value = Words.encode(&api)?.expect("it is up");
/// assert_eq!(value, "10.0.0.5:8080 3");
/// assert_eq!(Words.decode("words", &key, &value).unwrap(), Some(api));
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
pub trait Codec: fmt::Debug + Send + Sync {
    /// Returns the name of the format, such as `kratos`, in lower case with `-` between words.
    fn name(&self) -> &str;

    /// Returns the prefix of the keys if none is set.
    fn default_prefix(&self) -> &str;

    /// Returns the key of an instance, which passes [`Instance::check`].
    ///
    /// The key must stay the same while the service, the id and the address do.
    ///
    /// # Errors
    ///
    /// Of the kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the format has no key for
    /// such an instance. The text says what to change.
    fn key(&self, prefix: &str, instance: &Instance) -> Result<Bytes>;

    /// Returns the keys of all instances of a service. It must exclude services with a longer name.
    ///
    /// Without an implementation, these are the keys that begin with `prefix`, `service` and `/`. The prefix
    /// gets a `/` at its end if it has none and is not empty. A format with another layout needs its own.
    fn range(&self, prefix: &str, service: &str) -> KeyRange {
        path::range(prefix, service)
    }

    /// Returns the keys of all instances of all services.
    ///
    /// Without an implementation, these are the keys that begin with `prefix`, which gets a `/` as in
    /// [`range`](Codec::range).
    fn all(&self, prefix: &str) -> KeyRange {
        path::all(prefix)
    }

    /// Returns the value of an instance, which passes [`Instance::check`].
    ///
    /// `None` means that the instance has no key at present: a format without a status can only say by a
    /// missing key that the instance takes no calls.
    ///
    /// # Errors
    ///
    /// Of the kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the format cannot hold the
    /// instance. The text says what to change.
    fn encode(&self, instance: &Instance) -> Result<Option<Bytes>>;

    /// Decodes the instance of a key and a value. `None` means that the key is not an instance in this
    /// format and that this is no fault, such as for a placeholder.
    ///
    /// # Errors
    ///
    /// The reason why the value is not an instance. The view [reports](crate::Change::Bad) it, and all other
    /// instances are unaffected. An instance that does not pass [`Instance::check`] is a bad value too; the
    /// view checks that.
    fn decode(
        &self,
        prefix: &str,
        key: &[u8],
        value: &[u8],
    ) -> std::result::Result<Option<Instance>, BadValue>;
}

/// A codec that is chosen while the program runs.
impl<C: Codec + ?Sized> Codec for Arc<C> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn default_prefix(&self) -> &str {
        (**self).default_prefix()
    }

    fn key(&self, prefix: &str, instance: &Instance) -> Result<Bytes> {
        (**self).key(prefix, instance)
    }

    fn range(&self, prefix: &str, service: &str) -> KeyRange {
        (**self).range(prefix, service)
    }

    fn all(&self, prefix: &str) -> KeyRange {
        (**self).all(prefix)
    }

    fn encode(&self, instance: &Instance) -> Result<Option<Bytes>> {
        (**self).encode(instance)
    }

    fn decode(
        &self,
        prefix: &str,
        key: &[u8],
        value: &[u8],
    ) -> std::result::Result<Option<Instance>, BadValue> {
        (**self).decode(prefix, key, value)
    }
}

/// Returns the codecs of this crate, each under its [name](Codec::name).
///
/// ```
/// use etcd_blocking::codec;
///
/// let names: Vec<String> = codec::all().iter().map(|codec| codec.name().to_owned()).collect();
/// assert!(names.contains(&"plain".to_owned()));
/// ```
pub fn all() -> Vec<Arc<dyn Codec>> {
    vec![
        Arc::new(Native),
        Arc::new(Plain),
        Arc::new(GoNaming),
        Arc::new(GoZero),
        Arc::new(Kratos),
        Arc::new(Kitex),
        Arc::new(Hertz),
        Arc::new(Rpcx),
        Arc::new(GoMicro),
        Arc::new(DubboGo),
        Arc::new(SkyDns),
    ]
}

/// Returns the codec of this crate with this name, such as `native`, or `None` if there is none.
///
/// ```
/// use etcd_blocking::{Client, Registrar, codec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = std::env::var("CODEC").unwrap_or("plain".into());
/// let codec = codec::by_name(&name).ok_or("CODEC is not the name of a codec")?;
/// # if false {
/// # let client = Client::connect("http://127.0.0.1:2379")?;
/// let registrar = Registrar::builder(&client).codec(codec).start()?;
/// # }
/// # Ok(()) }
/// ```
pub fn by_name(name: &str) -> Option<Arc<dyn Codec>> {
    all().into_iter().find(|codec| codec.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::status::Status;

    fn both() -> [Format; 2] {
        [Format::new(Plain), Format::new(Native)]
    }

    #[test]
    fn the_range_of_a_service_excludes_services_with_a_longer_name() {
        for format in both() {
            let format = format.prefix("/");
            let key = |service| format.key(&Instance::new(service, "a:1")).unwrap();
            let range = format.range("web");
            assert!(range.contains(&key("web")));
            assert!(!range.contains(&key("web2")));
            assert!(!range.contains(b"/web"));
        }
    }

    #[test]
    fn a_prefix_gets_its_slash_and_the_empty_one_stays_empty() {
        let web = Instance::new("web", "a:1");
        for prefix in ["/svc", "/svc/"] {
            let format = Format::new(Native).prefix(prefix);
            assert_eq!(format.key(&web).unwrap(), "/svc/web/a:1");
            assert_eq!(format.range("web").start(), "/svc/web/");
            assert_eq!(Native.all(prefix).start(), "/svc/");
        }
        assert_eq!(Native.key("", &web).unwrap(), "web/a:1");
    }

    #[test]
    fn a_key_with_another_layout_is_malformed() {
        for format in both() {
            let format = format.prefix("/svc/");
            let bad = |key: &[u8]| format.decode(key, b"a:1").unwrap_err().to_string();
            assert!(bad(b"/other/web/a:1").contains("outside of the prefix"));
            assert!(bad(b"/svc/web/\xff").contains("UTF-8"));
            for key in [
                "/svc/",
                "/svc/web",
                "/svc/web/",
                "/svc//a:1",
                "/svc/web/x/a:1",
            ] {
                let bad = bad(key.as_bytes());
                assert!(bad.contains("separated by"), "{key}: {bad}");
            }
        }
        let bad = Format::new(Plain).decode(b"/we\nb/a:1", b"a:1");
        assert!(bad.unwrap_err().to_string().contains("control"));
    }

    #[test]
    fn overrides_are_no_instances_and_no_bad_values() {
        let format = Format::new(Native).prefix("/svc");
        assert_eq!(format.decode(b"/svc/.ctl/web/a:1", b"draining"), Ok(None));
        assert_eq!(format.decode(b"/svc/.leader/web/7f", b"a:1"), Ok(None));
        assert!(format.decode(b"/svc/.ctl2/a:1", b"draining").is_err());
        let reserved = Instance::new(".ctl", "a:1").check().unwrap_err();
        assert!(reserved.to_string().contains("overrides"), "{reserved}");
    }

    #[test]
    fn an_address_for_listening_only_is_malformed_in_every_codec() {
        let plain = Format::new(Plain).decode(b"/web/0.0.0.0:80", b"0.0.0.0:80");
        let native = Format::new(Native).prefix("/");
        let native = native.decode(b"/web/x", br#"{"addr":"0.0.0.0:80"}"#);
        for bad in [plain, native] {
            let text = bad.unwrap_err().to_string();
            assert!(text.contains("its own machine"));
            assert!(!text.contains("0.0.0.0"), "a value was printed: {text}");
        }
    }

    #[test]
    fn a_codec_without_ids_refuses_an_instance_with_an_id() {
        let named = Instance::new("web", "a:1")
            .id("web-1")
            .status(Status::Starting);
        Format::new(Native).check_id(&named).unwrap();
        let error = Format::new(Plain).check_id(&named).unwrap_err().to_string();
        assert!(
            error.contains("the codec plain cannot store an id"),
            "{error}"
        );
        Format::new(Plain)
            .check_id(&Instance::new("web", "a:1").weight(0))
            .unwrap();
    }

    #[test]
    fn every_codec_is_found_under_its_own_name_and_has_a_prefix() {
        let all = all();
        assert_eq!(all.len(), 11);
        for codec in all {
            assert_eq!(by_name(codec.name()).unwrap().name(), codec.name());
            assert_eq!(codec.default_prefix(), (*codec).default_prefix());
        }
        assert_eq!(Arc::new(Native).default_prefix(), Native.default_prefix());
        assert!(by_name("xyzzy").is_none());
    }

    #[test]
    fn the_keys_and_elections_of_a_format_begin_with_its_prefix() {
        for prefix in ["/svc", "/svc/"] {
            let format = Format::new(Native).prefix(prefix);
            assert_eq!(format.beginning(), prefix);
            assert_eq!(format.leader("web"), "/svc/.leader/web");
        }
    }

    #[test]
    fn an_instance_without_weight_has_an_id_like_any_other() {
        for codec in all() {
            let format = Format::new(codec);
            let is_kept = |weight| {
                let instance = Instance::new("web", "10.0.0.1:80").id("a").weight(weight);
                format.check_id(&instance).is_ok()
            };
            assert_eq!(is_kept(0), is_kept(1), "{}", format.name());
        }
    }
}
