//! The flags and variables that all verbs have.

use etcd_blocking::local::LocalEtcd;

use crate::program::{command, command_for, run};

#[test]
fn wrong_arguments_end_with_2_and_say_what_is_right() {
    for (args, expected) in [
        (&[][..], "Usage:"),
        (&["list", "--frmat", "native"], "--format"),
        (
            &["list", "--format", "consul"],
            "the formats are native, plain",
        ),
        (
            &["list", "--dial-timeout", "5"],
            "--dial-timeout: \"5\" is not a time",
        ),
        (
            &["list", "--insecure-skip-tls-verify"],
            "name the authority in --cacert instead",
        ),
        (
            &["list", "--user", "root:secret", "--auth-jwt-token", "t"],
            "it excludes --user",
        ),
        (
            &["list", "--user", "root:secret"],
            "--allow-plaintext-credentials",
        ),
    ] {
        let ended = run(&mut command(args));
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{args:?}: {ended:?}");
        assert!(!ended.stderr.contains("secret"), "{ended:?}");
    }
}

#[test]
fn flags_win_over_the_variables_of_etcdctl() {
    let etcd = LocalEtcd::start().unwrap();
    let ended = run(&mut command_for(&etcd, &["list"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    let mut other = command(&["list", "--endpoints", &etcd.endpoint()]);
    other.env("ETCD_ENDPOINTS", "127.0.0.1:1");
    other.env("ETCDCTL_ENDPOINTS", "127.0.0.1:1");
    assert_eq!(run(&mut other).code, 0);
    let refused =
        run(command(&["list", "--command-timeout", "300ms"])
            .env("ETCDCTL_ENDPOINTS", "127.0.0.1:1"));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("127.0.0.1:1"), "{refused:?}");
}
