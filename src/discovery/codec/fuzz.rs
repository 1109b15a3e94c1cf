//! The fuzz target of the formats.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Codec as _, Format, all};
use crate::discovery::Status;
use crate::discovery::instance::Instance;
use crate::fuzz::input::Input;

/// Decodes a key and a value in one of the formats. The key of the instance is below the prefix of the format and in
/// the range of its service, and its value is read as the same instance.
pub(crate) fn codecs(data: &[u8]) {
    let mut data = Input::new(data);
    let codecs = all();
    let codec = &codecs[data.below(codecs.len())];
    let prefix = match (data.below(3), codec.name()) {
        (_, "skydns") => "/skydns/local".to_owned(),
        (0, _) => codec.default_prefix().to_owned(),
        (1, _) => String::new(),
        _ => data.text(8),
    };
    let format = Format::new(codec.clone()).prefix(&prefix);
    // Most keys are below the prefix.
    let (is_below, path) = (data.byte() < 224, data.bytes(256));
    let start = format.all().start().to_vec();
    let key = match is_below && start != b"\0" {
        true => [&start, path].concat(),
        false => path.to_vec(),
    };
    let value = data.rest();
    match format.decode_shown(&key, value) {
        Ok(Some(instance)) => {
            assert!(instance.check().is_ok());
            assert!(instance.host_and_port().is_some());
            let _ = (instance.since(), format!("{instance:?}"));
        }
        Ok(None) => {}
        Err(bad) => {
            let text = bad.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.len() <= 500, "{text}");
        }
    }
    if let Ok(Some(instance)) = format.decode(&key, value) {
        let (again, own) = encoded(&format, &instance);
        let mut expected = instance;
        if own.is_some_and(|own| own != key) {
            // Others may have named the key in another way: then the id is another one.
            expected.id.clone_from(&again.id);
        }
        if format.name() == "kratos" && again.endpoints != expected.endpoints {
            // The endpoint with the address is written first. The names of several of one scheme are their order.
            let uris = |of: &Instance| of.endpoints.values().cloned().collect::<BTreeSet<_>>();
            assert_eq!(uris(&again), uris(&expected));
            expected.endpoints.clone_from(&again.endpoints);
        }
        if !expected.is_pickable() && again.status == Status::OutOfService {
            // Some formats have one state for every instance that takes no calls, which one of weight 0 is.
            expected.status = again.status;
            if format.name() == "rpcx" {
                // That state takes the place of another one.
                expected.meta.remove("state");
            }
        }
        assert_eq!(again, expected, "{}", format.name());
        assert_eq!(encoded(&format, &again).0, again, "{}", format.name());
    }
}

/// The instance after it was written and read, and the key under which that was. A format can read what it does not
/// write.
fn encoded(format: &Format, instance: &Instance) -> (Instance, Option<Bytes>) {
    let (Ok(key), Ok(Some(value))) = (format.key(instance), format.encode(instance)) else {
        return (instance.clone(), None);
    };
    let (name, service) = (format.name(), &instance.service);
    assert!(
        format.range(service).contains(&key),
        "{name}: {key:?} is not of {service:?}"
    );
    assert!(format.all().contains(&key), "{name}: {key:?}");
    let again = format.decode(&key, &value).unwrap_or_else(|bad| {
        panic!("{name}: {bad}: {key:?} {value:?}");
    });
    (again.expect("an instance"), Some(key))
}
