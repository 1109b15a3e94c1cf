//! `top` to a pipe.

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;

use crate::program::{command, command_for, run};

#[test]
fn one_frame_goes_to_a_pipe() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let value = r#"{"addr":"10.0.0.1:80","status":"up","reason":"\u001b[31m"}"#;
    client.put("/services/api/api-7", value).unwrap();
    for args in [&["top"][..], &["top", "--once"]] {
        let ended = run(&mut command_for(&etcd, args));
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended.stdout.starts_with("1 service, 1 instance,"),
            "{ended:?}"
        );
        assert!(ended.stdout.contains("up to date"), "{ended:?}");
        let line = ended.stdout.lines().find(|line| line.contains("api-7"));
        let line = line.unwrap_or_else(|| panic!("{ended:?}"));
        assert!(line.contains("10.0.0.1:80"), "{line}");
        assert!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    }
}

#[test]
fn without_etcd_it_fails_within_the_timeout() {
    let args = [
        "top",
        "--endpoints",
        "http://127.0.0.1:1",
        "--command-timeout",
        "1s",
    ];
    let ended = run(&mut command(&args));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("etcd could not be read"), "{ended:?}");
}
