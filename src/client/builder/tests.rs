//! Checks the table of defaults, and the settings from the environment and from files.

use std::time::Duration;

use super::*;
use crate::client::config::{env, span};
use crate::error::ErrorKind;

const TABLE: &str = include_str!("../config/defaults.md");

/// The default of a setting in the table, by its name in a file.
fn told(setting: &str) -> &'static str {
    let begin = format!("| `{setting}`");
    let row = TABLE.lines().find(|row| row.starts_with(&begin));
    let row = row.unwrap_or_else(|| panic!("{setting} is not in the table"));
    row.trim_end_matches(" |").rsplit("| ").next().unwrap()
}

fn bytes(text: &str) -> usize {
    let mib = text.strip_suffix(" MiB").unwrap();
    mib.parse::<usize>().unwrap() << 20
}

#[test]
fn the_documented_defaults_match_the_code() {
    let builder = ClientBuilder::new(["a:1"]);
    let spans = [
        ("request-timeout", builder.timeout),
        ("dial-timeout", builder.connect_timeout),
        ("dial-keep-alive-time", builder.ping_interval),
        ("dial-keep-alive-timeout", builder.ping_timeout),
    ];
    for (name, span) in spans {
        assert_eq!(told(name), span::format(span), "{name}");
    }
    let sizes = [
        ("max-call-send-msg-size", builder.limits.send),
        ("max-call-recv-msg-size", builder.limits.receive),
        ("watch-queue-bytes", builder.watch_room.bytes),
    ];
    for (name, size) in sizes {
        assert_eq!(bytes(told(name)), size, "{name}");
    }
    let responses = builder.watch_room.items.to_string();
    assert_eq!(told("watch-queue-responses"), responses);
    assert_eq!(told("max-txn-ops"), builder.limits.txn_ops.to_string());
}

#[test]
fn an_empty_config_has_the_default_values() {
    let config = Config {
        endpoints: vec!["a:1".to_owned()],
        max_call_send_msg_size: Some(0),
        ..Config::default()
    };
    let (from, new) = (config.builder().unwrap(), ClientBuilder::new(["a:1"]));
    assert_eq!(format!("{from:?}"), format!("{new:?}"));
}

#[test]
fn every_setting_reaches_the_builder() {
    let config = Config::from_vars([
        ("ETCD_ENDPOINTS", " a:1 , http://b:2"),
        ("ETCDCTL_ENDPOINTS", "c:3"),
        ("ETCDCTL_DIAL_TIMEOUT", "1s"),
        ("ETCDCTL_COMMAND_TIMEOUT", "2s"),
        ("ETCDCTL_KEEPALIVE_TIME", "20s"),
        ("ETCDCTL_KEEPALIVE_TIMEOUT", "4s"),
        ("ETCDCTL_MAX_REQUEST_BYTES", "1000"),
        ("ETCDCTL_MAX_RECV_BYTES", "2000"),
        ("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "false"),
        ("ETCDCTL_INSECURE_TRANSPORT", "true"),
        // For the tool only, unknown, or empty.
        ("ETCDCTL_API", "3"),
        ("ETCDCTL_SOMETHING_NEW", "x"),
        ("ETCDCTL_CACERT", ""),
        ("PATH", "/bin"),
    ]);
    let mut config = config.unwrap();
    assert_eq!(config.endpoints, ["a:1", "http://b:2"]);
    (config.watch_queue_responses, config.watch_queue_bytes) = (Some(3), Some(4));
    config.max_txn_ops = Some(5);
    let builder = config.builder().unwrap();
    let spans = [
        builder.connect_timeout,
        builder.timeout,
        builder.ping_interval,
        builder.ping_timeout,
    ];
    assert_eq!(spans, [1, 2, 20, 4].map(Duration::from_secs));
    assert_eq!((builder.limits.send, builder.limits.receive), (1000, 2000));
    assert_eq!((builder.watch_room.items, builder.watch_room.bytes), (3, 4));
    assert_eq!(builder.limits.txn_ops, 5);
}

#[test]
fn an_invalid_variable_is_refused_by_name_and_without_its_value() {
    let wrong: &[&[(&str, &str)]] = &[
        &[("ETCDCTL_DIAL_TIMEOUT", "5")],
        &[("ETCDCTL_MAX_RECV_BYTES", "many")],
        &[("ETCDCTL_INSECURE_TRANSPORT", "maybe")],
        &[("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "true")],
        &[("ETCDCTL_INSECURE_DISCOVERY", "perhaps")],
        &[("ETCDCTL_USER", "canary")],
        &[("ETCDCTL_PASSWORD", "canary")],
        &[
            ("ETCDCTL_AUTH_JWT_TOKEN", "canary"),
            ("ETCDCTL_USER", "a:canary"),
        ],
    ];
    for vars in wrong {
        let error = Config::from_vars(vars.iter().copied()).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        assert!(
            text.contains(vars[0].0) && !text.contains("canary"),
            "{text}"
        );
    }
    let not_text = env::read([("ETCDCTL_CACERT".to_owned(), None)]).unwrap_err();
    assert!(
        not_text
            .to_string()
            .contains("ETCDCTL_CACERT: it is not UTF-8")
    );
}

#[test]
fn users_are_parsed_as_in_etcdctl_and_passwords_are_not_printed() {
    let both = Config::from_vars([("ETCDCTL_USER", "root:canary:x")]).unwrap();
    let apart = [("ETCDCTL_USER", "ro:ot"), ("ETCDCTL_PASSWORD", "canary")];
    let apart = Config::from_vars(apart).unwrap();
    assert_eq!(both.username.as_deref(), Some("root"));
    assert_eq!(apart.username.as_deref(), Some("ro:ot"));
    let shown = format!("{both:?} {apart:#?}");
    assert!(
        !shown.contains("canary") && shown.contains("***"),
        "{shown}"
    );
}

#[test]
fn unsupported_and_incomplete_settings_are_refused() {
    let refused = |change: fn(&mut Config), why: &str| {
        let mut config = Config::default();
        change(&mut config);
        let text = config.builder().unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    };
    refused(|c| c.permit_without_stream = true, "permit-without-stream");
    refused(|c| c.secure.insecure_skip_tls_verify = true, "cacert");
    refused(|c| c.secure.cert = Some("c".into()), "both cert and key");
    refused(|c| c.username = Some("u".into()), "password is not");
    refused(|c| c.set_password("p"), "username is not");
    refused(
        |c| c.discovery_srv_name = Some("n".into()),
        "discovery-srv is not",
    );
    let both = |c: &mut Config| {
        c.endpoints.push("a:1".into());
        c.discovery_srv = Some("example.com".into());
    };
    refused(both, "exclude each other");
}

#[test]
fn dns_srv_settings_reach_the_builder() {
    let config = Config::from_vars([
        ("ETCDCTL_DISCOVERY_SRV", "example.com"),
        ("ETCDCTL_DISCOVERY_SRV_NAME", "prod"),
        ("ETCDCTL_DIAL_TIMEOUT", "1s"),
    ]);
    let lookup = SrvLookup::new("example.com")
        .service_name("prod")
        .timeout(Duration::from_secs(1));
    let expected = ClientBuilder::new([""; 0])
        .connect_timeout(Duration::from_secs(1))
        .discovery_srv(lookup);
    let found = config.unwrap().builder().unwrap();
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

#[cfg(feature = "__tls")]
#[test]
fn with_untrusted_dns_srv_certificates_are_verified_against_the_domain() {
    let built = |server_name: Option<&str>| {
        let mut config = Config::from_vars([
            ("ETCDCTL_DISCOVERY_SRV", "example.com"),
            ("ETCDCTL_INSECURE_DISCOVERY", "false"),
        ])
        .unwrap();
        config.secure.server_name = server_name.map(str::to_owned);
        format!("{:?}", config.builder().unwrap())
    };
    let lookup = SrvLookup::new("example.com")
        .secure_only()
        .timeout(Duration::from_secs(3));
    for (said, name) in [(None, "example.com"), (Some("etcd"), "etcd")] {
        let tls = crate::Tls::new().server_name(name);
        let builder = ClientBuilder::new([""; 0]).tls(tls);
        let expected = builder.discovery_srv(lookup.clone());
        assert_eq!(built(said), format!("{expected:?}"));
    }
}

#[cfg(feature = "__tls")]
#[test]
fn tls_settings_reach_the_builder() {
    let vars = [
        ("ETCD_ENDPOINTS", "a:1"),
        ("ETCDCTL_CACERT", "ca.pem"),
        ("ETCDCTL_CERT", "cert.pem"),
        ("ETCDCTL_KEY", "key.pem"),
    ];
    let mut config = Config::from_vars(vars).unwrap();
    config.secure.server_name = Some("etcd.example".to_owned());
    let tls = crate::Tls::new()
        .ca_file("ca.pem")
        .client_cert_files("cert.pem", "key.pem")
        .server_name("etcd.example");
    let expected = ClientBuilder::new(["a:1"]).tls(tls);
    assert_eq!(
        format!("{:?}", config.builder().unwrap()),
        format!("{expected:?}")
    );
    for (word, wanted) in [("false", true), ("true", false)] {
        let config = Config::from_vars([("ETCDCTL_INSECURE_TRANSPORT", word)]).unwrap();
        assert_eq!(config.builder().unwrap().tls.is_some(), wanted, "{word}");
    }
}

#[cfg(not(feature = "__tls"))]
#[test]
fn tls_settings_are_refused_in_a_build_without_tls() {
    let config = Config::from_vars([("ETCDCTL_CACERT", "ca.pem")]).unwrap();
    let text = config.builder().unwrap_err().to_string();
    assert!(text.contains("feature `tls`"), "{text}");
}

#[cfg(feature = "serde")]
mod files {
    use super::*;

    #[test]
    fn a_file_has_the_field_names_of_clientv3_and_times_with_units() {
        let config: Config = serde_json::from_str(
            r#"{
                "endpoints": ["a:1"],
                "dial-timeout": "500ms",
                "keepalive-time": "1m30s",
                "max-request-bytes": 7,
                "username": "u",
                "password": "canary",
                "secure-transport": {"cacert": "ca.pem", "server-name": "etcd"}
            }"#,
        )
        .unwrap();
        assert_eq!(config.dial_timeout, Some(Duration::from_millis(500)));
        assert_eq!(config.dial_keep_alive_time, Some(Duration::from_secs(90)));
        assert_eq!(config.max_call_send_msg_size, Some(7));
        assert_eq!(config.secure.cacert.as_deref(), Some("ca.pem"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("canary"), "{written}");
        let again: Config = serde_json::from_str(&written).unwrap();
        assert_eq!(again.dial_timeout, config.dial_timeout);
        assert_eq!(again.secure, config.secure);
    }

    #[test]
    fn every_documented_name_is_a_field_of_the_file() {
        for row in TABLE.lines().skip(2) {
            let names = row.split('|').nth(1).unwrap().split(',');
            for name in names.map(|name| name.trim().trim_matches('`')) {
                let (name, part) = name.split_once('.').unwrap_or((name, ""));
                let file = match part {
                    "" => format!("{{\"{name}\": {{}}}}"),
                    part => format!("{{\"{name}\": {{\"{part}\": {{}}}}}}"),
                };
                let error = serde_json::from_str::<Config>(&file)
                    .unwrap_err()
                    .to_string();
                assert!(!error.contains("unknown field"), "{name} {part}: {error}");
            }
        }
    }

    #[test]
    fn invalid_fields_are_refused_and_secrets_are_not_printed() {
        let cases = [
            (r#"{"endpoint": []}"#, "unknown field `endpoint`"),
            (r#"{"secure": {"ca": ""}}"#, "unknown field `ca`"),
            (r#"{"dial-timeout": 5}"#, "a time with its unit"),
            (r#"{"dial-timeout": "5"}"#, "5s, 500ms"),
            (r#"{"password": 4711}"#, "must be a text"),
            (r#"{"token": [4711]}"#, "must be a text"),
            (r#"{"password": {"4711": 1}}"#, "must be a text"),
            (r#"{"username": 5}"#, "expected a string"),
            (r#"{"max-txn-ops": "5"}"#, "expected usize"),
            (r#"{"secure": {"cert": 5}}"#, "expected a string"),
        ];
        for (file, why) in cases {
            let error = serde_json::from_str::<Config>(file)
                .unwrap_err()
                .to_string();
            assert!(error.contains(why) && !error.contains("4711"), "{error}");
        }
    }

    // Fault: N13
    #[test]
    fn null_and_an_empty_text_set_nothing() {
        let default = format!("{:?}", Config::default());
        for row in TABLE.lines().skip(2) {
            let names = row.split('|').nth(1).unwrap().split(',');
            for name in names.map(|name| name.trim().trim_matches('`')) {
                for nothing in ["null", "\"\""] {
                    let file = match name.split_once('.') {
                        None => format!("{{\"{name}\": {nothing}}}"),
                        Some((name, part)) => {
                            format!("{{\"{name}\": {{\"{part}\": {nothing}}}}}")
                        }
                    };
                    let config: Config = serde_json::from_str(&file)
                        .unwrap_or_else(|error| panic!("{file}: {error}"));
                    assert_eq!(format!("{config:?}"), default, "{file}");
                }
            }
        }
        let file = r#"{"endpoints": null, "secure": null, "keepalive-time": "", "username": "", "password": null}"#;
        let config: Config = serde_json::from_str(file).unwrap();
        assert_eq!(format!("{config:?}"), default);
    }
}
