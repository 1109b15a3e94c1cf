//! Round trips of random instances through every codec: what a format holds comes back, and nothing that it
//! does not hold appears.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::*;
use crate::discovery::status::Status;

const NAME: &str = "[a-z][a-z0-9]{0,8}";

fn instance() -> impl Strategy<Value = Instance> {
    let addr = prop_oneof![
        "10\\.0\\.[0-9]\\.[0-9]:[1-9][0-9]{1,3}",
        "[a-z]{1,9}:80",
        "\\[fe80::[1-9]\\]:1"
    ];
    let status = prop_oneof![
        4 => Just(Status::Up),
        1 => Just(Status::Draining),
        1 => Just(Status::OutOfService),
    ];
    // The names of properties that some formats keep among the metadata are left out.
    let meta = btree_map("x[^\\PC]{0,6}", ".*", 0..4);
    let endpoint = btree_map(
        Just("http".to_owned()),
        "http://[a-z]{1,5}:[1-9]/[a-z]{0,3}",
        0..2,
    );
    (
        (
            NAME,
            addr,
            prop::option::of(NAME),
            "[0-9.]{0,5}",
            0..2000_u32,
        ),
        ("[a-z]{0,3}", vec("\\PC{1,5}", 0..3), meta, endpoint, status),
    )
        .prop_map(
            |((service, addr, id, version, weight), (zone, tags, meta, endpoints, status))| {
                let id = id.unwrap_or_else(|| addr.clone());
                Instance {
                    tags,
                    meta,
                    endpoints,
                    ..Instance::new(service, addr)
                        .id(id)
                        .version(version)
                        .weight(weight)
                        .zone(zone)
                }
                .status(status)
            },
        )
}

/// What a format returns of an instance, besides its service and its address.
fn held(codec: &dyn Codec, instance: &Instance) -> Instance {
    let all = instance.clone();
    let bare = Instance::new(&all.service, &all.addr);
    match codec.name() {
        "native" => all,
        "go-naming" => all,
        "plain" => bare,
        "go-zero" => bare.id(all.id),
        "kratos" => {
            let mut endpoints = all.endpoints.clone();
            endpoints
                .entry("grpc".to_owned())
                .or_insert(format!("grpc://{}", all.addr));
            Instance {
                tags: Vec::new(),
                endpoints,
                ..all
            }
        }
        "kitex" | "hertz" => Instance {
            id: all.addr.clone(),
            tags: Vec::new(),
            endpoints: bare.endpoints,
            ..all
        },
        "rpcx" => Instance {
            id: all.addr.clone(),
            endpoints: bare.endpoints,
            status: if all.is_pickable() {
                Status::Up
            } else {
                Status::OutOfService
            },
            ..all
        },
        "go-micro" => Instance {
            tags: Vec::new(),
            endpoints: bare.endpoints,
            ..all
        },
        "dubbo-go" => {
            let mut tags = all.tags.clone();
            tags.truncate(1);
            Instance {
                id: all.addr.clone(),
                tags,
                endpoints: bare.endpoints,
                ..all
            }
        }
        "skydns" => bare.id(all.id).weight(all.weight),
        other => panic!("no round trip for {other}"),
    }
}

/// The prefix under which each codec is tested.
fn prefix(codec: &dyn Codec) -> &str {
    match codec.name() {
        "skydns" => "/skydns/local",
        _ => codec.default_prefix(),
    }
}

proptest! {
    #[test]
    fn what_a_format_holds_comes_back(instance in instance()) {
        prop_assume!(instance.check().is_ok());
        for codec in all() {
            let prefix = prefix(&codec);
            let key = codec.key(prefix, &instance).unwrap();
            prop_assert!(codec.range(prefix, &instance.service).contains(&key));
            prop_assert!(codec.all(prefix).contains(&key));
            let Some(value) = codec.encode(&instance).unwrap() else {
                prop_assert!(!instance.is_pickable(), "{}", codec.name());
                continue;
            };
            let read = codec.decode(prefix, &key, &value).unwrap().unwrap();
            prop_assert_eq!(&read, &held(&codec, &instance), "{}", codec.name());
            // What was read is written to the same key with the same bytes.
            prop_assert_eq!(&codec.key(prefix, &read).unwrap(), &key, "{}", codec.name());
            prop_assert_eq!(codec.encode(&read).unwrap().unwrap(), value, "{}", codec.name());
        }
    }

    #[test]
    fn any_bytes_are_an_instance_or_a_reason(
        service in NAME,
        last in "[a-z/@%:0-9]{0,12}",
        value in prop_oneof![
            vec(any::<u8>(), 0..50),
            "[{}\\[\\]\":,a-zA-Z0-9%&;=.]{0,60}".prop_map(String::into_bytes),
        ],
    ) {
        for codec in all() {
            let prefix = prefix(&codec);
            let key = codec.all(prefix).start().to_vec();
            let key = [&key, service.as_bytes(), b"/", last.as_bytes()].concat();
            // It must not panic.
            let _ = Format::new(codec).prefix("").decode(&key, &value);
        }
    }
}

#[test]
fn every_codec_has_a_name_of_its_own_and_excludes_longer_services() {
    let mut names: Vec<_> = all().iter().map(|codec| codec.name().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all().len());
    for codec in all() {
        assert_eq!(by_name(codec.name()).unwrap().name(), codec.name());
        let prefix = prefix(&codec);
        let range = codec.range(prefix, "web");
        let key = |service| {
            codec
                .key(prefix, &Instance::new(service, "10.0.0.1:1"))
                .unwrap()
        };
        assert!(
            range.contains(&key("web")) && !range.contains(&key("web2")),
            "{}",
            codec.name()
        );
    }
}
