use super::*;
use crate::discovery::codec::golden::{self, assert_reasons};
use crate::discovery::status::Status;

const PREFIX: &str = "/skydns/local/";

fn refusal(prefix: &str, instance: &Instance) -> String {
    let error = SkyDns.key(prefix, instance).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
    error.to_string()
}

fn read(key: &str, value: &str) -> Option<Instance> {
    SkyDns
        .decode(PREFIX, key.as_bytes(), value.as_bytes())
        .unwrap()
}

fn written(instance: &Instance) -> String {
    let value = SkyDns.encode(instance).unwrap().unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

#[test]
fn documented_records_are_read_and_written_byte_for_byte() {
    let golden = include_str!("../golden/skydns.txt");
    let mut read = golden::records(golden).into_iter().map(|(key, value)| {
        let instance = read(key, value).unwrap();
        assert_eq!(SkyDns.key(PREFIX, &instance).unwrap(), key);
        assert_eq!(written(&instance), value);
        instance
    });
    let first = read.next().unwrap();
    assert_eq!((first.id.as_str(), first.weight), ("x1", 50));
    let second = Instance::new("web", "10.0.0.2:8080").id("x2").weight(100);
    assert_eq!(read.next(), Some(second));
}

#[test]
fn an_address_is_a_label_and_is_read_as_the_id() {
    let web = Instance::new("web", "10.0.0.5:8080").weight(3);
    let key = SkyDns.key(PREFIX, &web).unwrap();
    assert_eq!(key, "/skydns/local/web/10-0-0-5-8080");
    let value = r#"{"host":"10.0.0.5","port":8080,"weight":3,"ttl":30}"#;
    assert_eq!(written(&web), value);
    assert_eq!(read("/skydns/local/web/10-0-0-5-8080", value), Some(web));
    for addr in ["[2001:db8::1]:80", "db.example.com:5432"] {
        let web = Instance::new("web", addr);
        let key = SkyDns.key(PREFIX, &web).unwrap();
        let key = std::str::from_utf8(&key).unwrap();
        assert_eq!(read(key, &written(&web)), Some(web));
    }
}

#[test]
fn names_that_dns_cannot_express_are_refused_before_they_are_written() {
    let web = |service: &str| Instance::new(service, "10.0.0.1:80");
    for (service, expected) in [
        ("Web", "lower-case"),
        ("a.b", "lower-case"),
        ("-web", "begins or ends"),
        ("any", "meaning of its own"),
        ("dns", "meaning of its own"),
        (&"a".repeat(64), "63"),
    ] {
        let reason = refusal(PREFIX, &web(service));
        assert!(reason.contains(expected), "{service}: {reason}");
    }
    for prefix in [
        "",
        "skydns/local",
        "/",
        "/skydns//local/",
        "/skydns/Local/",
        "/skydns/a.b",
    ] {
        let reason = refusal(prefix, &web("web"));
        assert!(
            reason.contains("/skydns/local/cluster/"),
            "{prefix}: {reason}"
        );
    }
    let deep = format!("/skydns{}", "/a-label-of-some-length".repeat(10));
    assert!(refusal(&deep, &web(&"w".repeat(30))).contains("253"));
    let long_ok = SkyDns.key(&deep, &web("w"));
    assert!(long_ok.is_ok());
}

#[test]
fn hosts_that_dns_cannot_express_are_refused_before_they_are_written() {
    for addr in ["a..b:80", "10.0.0.256:80", "[fe80::1%eth0]:80", "bé:80"] {
        let error = SkyDns.encode(&Instance::new("web", addr)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{addr}");
        // Also while it takes no calls: it would be refused later otherwise.
        let draining = Instance::new("web", addr).status(Status::Draining);
        assert!(SkyDns.encode(&draining).is_err());
    }
}

#[test]
fn an_instance_that_takes_no_calls_has_no_record() {
    let web = Instance::new("web", "10.0.0.1:80");
    assert_eq!(SkyDns.encode(&web.clone().weight(0)).unwrap(), None);
    assert_eq!(SkyDns.encode(&web.status(Status::Draining)).unwrap(), None);
}

#[test]
fn records_that_are_no_instances_are_ignored() {
    for (key, value) in [
        ("/skydns/local/web/x", r#"{"host":"10.0.0.1"}"#),
        ("/skydns/local/web/x", r#"{"text":"hello"}"#),
        (
            "/skydns/local/web/x",
            r#"{"host":"mx.a.b","port":25,"mail":true}"#,
        ),
        ("/skydns/local/web", r#"{"host":"10.0.0.1","port":80}"#),
        ("/skydns/local/eu/web/x", r#"{"host":"10.0.0.1","port":80}"#),
    ] {
        assert_eq!(read(key, value), None, "{key} {value}");
    }
}

#[test]
fn unknown_and_foreign_fields_are_preserved() {
    let value = r#"{"host":"db.a.b","port":80,"priority":1,"text":"x","ttl":60,"lane":[1],"targetstrip":1}"#;
    let web = read("/skydns/local/web/x", value).unwrap();
    assert_eq!(written(&web), value);
    assert_eq!(web.weight, 100);
}

#[test]
fn malformed_values_have_a_reason_without_the_value() {
    let bad = [
        ("secret", "not JSON"),
        ("[]", "not an object"),
        (r#"{"host":7,"port":80}"#, "\"host\""),
        (r#"{"host":"a","port":"secret"}"#, "\"port\""),
        (r#"{"host":"a","port":70000}"#, "\"port\""),
        (r#"{"host":"a","port":80,"weight":"secret"}"#, "\"weight\""),
        (r#"{"host":"a","port":80,"ttl":"secret"}"#, "\"ttl\""),
        (r#"{"host":"a","port":80,"priority":1.5}"#, "\"priority\""),
        (r#"{"host":"a","port":80,"text":1}"#, "\"text\""),
        (r#"{"host":"a","port":80,"mail":"secret"}"#, "\"mail\""),
        (r#"{"host":"a secret","port":80}"#, "host:port"),
        (r#"{"host":"0.0.0.0","port":80}"#, "host:port"),
    ];
    assert_reasons(SkyDns, "/skydns/web/x", &bad);
    // A record that CoreDNS cannot read breaks the names above it, so it is reported wherever it is.
    assert!(
        SkyDns
            .decode("/skydns", b"/skydns/local/eu/web/x", b"{")
            .is_err()
    );
}
