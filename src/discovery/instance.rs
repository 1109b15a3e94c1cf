//! One registered member of a service.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use super::address;
use super::status::Status;
use crate::error::{Error, ErrorKind, Result};

/// A running member of a service, as it is registered and found.
///
/// [`new`](Instance::new) takes the service and the address. A method of the same name sets each other
/// property, and the public fields return it.
///
/// ```
/// use etcd_blocking::Instance;
///
/// let api = Instance::new("api", "10.0.0.5:8080")
///     .id("api-7")
///     .version("1.4.2")
///     .weight(10)
///     .zone("eu-1a")
///     .tag("canary")
///     .meta("team", "core")
///     .endpoint("admin", "http://10.0.0.5:9090/");
///
/// assert_eq!(api.addr, "10.0.0.5:8080");
/// assert_eq!(api.weight, 10);
/// assert_eq!(api.meta["team"], "core");
/// assert_eq!(api.host_and_port(), Some(("10.0.0.5", 8080)));
/// api.check()?;
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
///
/// The [`Codec`](crate::codec::Codec) decides which properties are stored:
/// [`Plain`](crate::codec::Plain) stores only the address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// The service it belongs to.
    pub service: String,
    /// Its name, unique within the service.
    pub id: String,
    /// The address to connect to, as `host:port`.
    pub addr: String,
    /// The version of the program; empty if not set.
    pub version: String,
    /// Its share of the calls, relative to the other instances. With 0 it gets no calls.
    pub weight: u32,
    /// The data centre or availability zone in which it runs; empty if not set.
    pub zone: String,
    /// Labels, in the order in which they were added.
    pub tags: Vec<String>,
    /// Other properties, by name.
    pub meta: BTreeMap<String, String>,
    /// Additional URIs of the instance, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Whether it accepts calls.
    pub status: Status,
    /// Why its status is not [`Up`](Status::Up), such as the last failure of a health check; empty if not set.
    pub reason: String,
    /// The time at which it was registered, in milliseconds since 1970.
    pub(crate) since: Option<u64>,
    pub(crate) incarnation: u64,
    /// Unknown fields of its value. Boxed, because they are rare.
    pub(crate) extra: Extra,
}

/// Fields of a value that this program does not know, and the format that they belong to. They are written
/// again in that format only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extra(Option<Box<(&'static str, Fields)>>);

type Fields = serde_json::Map<String, serde_json::Value>;

impl Extra {
    pub(crate) fn new(format: &'static str, fields: Fields) -> Self {
        Extra((!fields.is_empty()).then(|| Box::new((format, fields))))
    }

    /// The fields of a format.
    pub(crate) fn of(&self, format: &str) -> Fields {
        let of = self.0.as_ref().filter(|extra| extra.0 == format);
        of.map(|extra| extra.1.clone()).unwrap_or_default()
    }
}

impl Instance {
    /// Creates an instance of `service` with the address `addr`: `host:port`, or a `SocketAddr`.
    ///
    /// The id defaults to the address, the weight to 1, and the status to [`Status::Up`]. Nothing is
    /// checked here; see [`check`](Instance::check).
    pub fn new(service: impl Into<String>, addr: impl ToString) -> Self {
        let addr = addr.to_string();
        Instance {
            service: service.into(),
            id: addr.clone(),
            addr,
            version: String::new(),
            weight: 1,
            zone: String::new(),
            tags: Vec::new(),
            meta: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            status: Status::Up,
            reason: String::new(),
            since: None,
            incarnation: 0,
            extra: Extra::default(),
        }
    }

    /// Creates an instance of `service` with the address of a listener.
    ///
    /// It is for listeners on port 0, whose port is assigned by the operating system.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use etcd_blocking::Instance;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let api = Instance::listening("api", &listener)?;
    /// assert_eq!(api.addr, listener.local_addr()?.to_string());
    ///
    /// // A listener on every interface has no address that others can connect to.
    /// let everywhere = TcpListener::bind("0.0.0.0:0")?;
    /// assert!(Instance::listening("api", &everywhere).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] when the listener listens on every interface (`0.0.0.0`, `[::]`)
    /// or [`check`](Instance::check) refuses the service; [`ErrorKind::Os`] when the address of the
    /// listener cannot be read.
    pub fn listening(service: impl Into<String>, listener: &TcpListener) -> Result<Self> {
        // With port 0, this has the port that the operating system chose.
        let addr = listener.local_addr().map_err(|error| {
            Error::new(
                ErrorKind::Os,
                format!("the address of the listener cannot be read: {error}"),
            )
            .caused_by(error)
        })?;
        let instance = Instance::new(service, addr);
        instance.check()?;
        Ok(instance)
    }

    /// Sets the id. If it stays the same over restarts, readers can recognise a restart.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets the version of the program.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the weight. With 0 the instance gets no calls.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the zone.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets one entry of the metadata.
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }

    /// Sets one entry of the metadata, for [`Registration::modify`](crate::Registration::modify).
    pub fn set_meta(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.meta.insert(name.into(), value.into());
    }

    /// Sets an additional URI of the instance.
    pub fn endpoint(mut self, name: impl Into<String>, uri: impl Into<String>) -> Self {
        self.endpoints.insert(name.into(), uri.into());
        self
    }

    /// Sets the status.
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Sets the reason of the status.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Returns when it was registered, by the clock of its machine, or `None` if its value has no time.
    pub fn since(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.since?))
    }

    /// Returns a number that differs for each start of the program, or 0 if its value has none.
    ///
    /// Another number under the same id means that the program was restarted.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Returns the host (an IPv6 address without its brackets) and the port of its address, or `None`
    /// if [`check`](Instance::check) would refuse the address.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        address::parse(&self.addr).ok()
    }

    /// Returns whether it can be picked: it is [`Status::Up`], and its weight is not 0.
    pub fn is_pickable(&self) -> bool {
        self.status.is_pickable() && self.weight > 0
    }

    /// Checks that it can be registered. A registrar calls this first.
    ///
    /// The service and the id become parts of a key: they must not be empty or contain a `/` or a
    /// control character. The address must be a `host:port` that others can connect to: `0.0.0.0` and
    /// `[::]` are refused. Loopback is accepted, for programs on one machine.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for an invalid service, id or address.
    pub fn check(&self) -> Result<()> {
        check_name("service", &self.service)?;
        if let ".ctl" | ".leader" = self.service.as_str() {
            let service = &self.service;
            return Err(Error::invalid(format!(
                "the service {service:?} is reserved for overrides and leaders; use another name"
            )));
        }
        // Before the id, which is the address unless it was set.
        if let Err(reason) = address::parse(&self.addr) {
            let addr = &self.addr;
            return Err(Error::invalid(format!("the address {addr:?} {reason}")));
        }
        check_name("id", &self.id)?;
        if self.status == Status::Suspect {
            let reason = "the status suspect is only for views: register another one";
            return Err(Error::invalid(reason));
        }
        Ok(())
    }
}

/// Whether `name` can be one part of a key.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.contains('/') {
        "contains '/', which separates the parts of a key"
    } else if name.contains(char::is_control) {
        "contains a control character"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("the {what} {name:?} {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_as_address_is_refused_with_a_reason_about_the_address() {
        let error = Instance::new("api", "http://h:80").check().unwrap_err();
        assert!(error.to_string().contains("is a URL"), "{error}");
    }

    fn refusal(instance: Instance) -> String {
        let error = instance.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.to_string()
    }

    #[test]
    fn names_that_are_invalid_in_a_key_are_refused() {
        let addr = "10.0.0.5:80";
        assert!(refusal(Instance::new("", addr)).contains("service \"\" is empty"));
        assert!(refusal(Instance::new("a/b", addr)).contains("'/'"));
        assert!(refusal(Instance::new("a\n", addr)).contains("control"));
        assert!(refusal(Instance::new("a", addr).id("")).contains("id \"\" is empty"));
        assert!(refusal(Instance::new("a", addr).id("x/y")).contains("'/'"));
        assert!(refusal(Instance::new("a", addr).id("\u{7f}")).contains("control"));
    }

    // Fault: N14
    #[test]
    fn an_unreachable_address_is_refused_with_advice() {
        let text = refusal(Instance::new("api", "0.0.0.0:80"));
        assert!(text.contains("\"0.0.0.0:80\"") && text.contains("they can reach"));
        assert!(refusal(Instance::new("api", "web").id("x")).contains("host:port"));
    }

    #[test]
    fn an_address_is_a_valid_id() {
        let v6: std::net::SocketAddr = "[::1]:80".parse().unwrap();
        let instance = Instance::new("api", v6);
        assert_eq!(instance.id, "[::1]:80");
        assert!(instance.check().is_ok());
    }

    #[test]
    fn an_instance_with_weight_zero_is_not_pickable() {
        let instance = Instance::new("api", "a:1");
        assert!(instance.is_pickable());
        assert!(!instance.clone().weight(0).is_pickable());
        assert!(!instance.status(Status::Starting).is_pickable());
    }

    #[test]
    fn a_registration_time_out_of_range_is_absent() {
        let instance = Instance::new("api", "a:1");
        assert_eq!(instance.since(), None);
        let ms = Duration::from_millis(1500);
        let registered_at = |unix_ms| Instance {
            since: Some(unix_ms),
            ..instance.clone()
        };
        let at = registered_at(1500).since();
        assert_eq!(at, Some(SystemTime::UNIX_EPOCH + ms));
        // Whatever a value holds, reading it must not panic.
        let _ = registered_at(u64::MAX).since();
    }
}
