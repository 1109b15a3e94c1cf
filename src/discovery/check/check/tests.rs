use super::*;
use crate::error::ErrorKind;

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn refusal(check: Check) -> String {
    let error = check.plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    error.to_string()
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let plan = Check::tcp("10.0.0.5:80").plan().unwrap();
    assert_eq!(plan.name, "tcp 10.0.0.5:80");
    assert_eq!((plan.interval, plan.timeout), (10 * SECOND, 2 * SECOND));
    assert_eq!((plan.rise, plan.fall), (2, 3));
    let short = Check::tcp("10.0.0.5:80").interval(SECOND).plan().unwrap();
    assert_eq!(short.timeout, SECOND, "at most the interval");
    let (heartbeat, _) = Check::heartbeat(30 * SECOND);
    let plan = heartbeat.plan().unwrap();
    assert_eq!((plan.rise, plan.fall, plan.interval), (1, 1, 30 * SECOND));
}

#[test]
fn checks_are_named_after_what_they_check() {
    let name = |check: Check| check.plan().unwrap().name;
    assert_eq!(name(Check::http("http://h/x")), "http http://h/x");
    assert_eq!(
        name(Check::http("http://h:1/x?token=1#y")),
        "http http://h:1/x"
    );
    assert_eq!(name(Check::grpc("h:1", "")), "grpc h:1");
    assert_eq!(name(Check::grpc("h:1", "pkg.Api")), "grpc h:1 pkg.Api");
    let run = || Check::run(|| Ok::<(), String>(()));
    assert_eq!(name(run()), "run");
    assert_eq!(name(run().name("disk")), "disk");
    assert!(format!("{:?}", run().name("disk")).contains("disk"));
}

#[test]
fn invalid_settings_are_refused_with_a_reason() {
    let tcp = || Check::tcp("h:80");
    assert!(refusal(Check::tcp("h")).contains("host:port"));
    assert!(refusal(Check::tcp("0.0.0.0:80")).contains("they can reach"));
    assert!(refusal(Check::http("https://h/")).contains("Check::run"));
    assert!(refusal(tcp().rise(0)).contains("from 1 to 1000"));
    assert!(refusal(tcp().fall(1001)).contains("from 1 to 1000"));
    assert!(refusal(tcp().interval(Duration::ZERO)).contains("the interval"));
    assert!(refusal(tcp().interval(Duration::MAX)).contains("the interval"));
    assert!(refusal(tcp().timeout(Duration::ZERO)).contains("the timeout"));
    assert!(refusal(tcp().timeout(Duration::MAX)).contains("the timeout"));
    assert!(refusal(tcp().start_grace(Duration::MAX)).contains("start grace"));
    assert!(refusal(tcp().body("ok")).contains("only an HTTP check"));
    assert!(refusal(tcp().status(200..=200)).contains("only an HTTP check"));
    let heartbeat = || Check::heartbeat(SECOND).0;
    assert!(refusal(heartbeat().interval(SECOND)).contains("no interval"));
    assert!(refusal(heartbeat().timeout(SECOND)).contains("no interval"));
    assert!(refusal(Check::heartbeat(Duration::ZERO).0).contains("the silence"));
}

#[test]
fn a_password_in_a_url_is_refused_and_not_printed() {
    for url in [
        "http://me:canary@h/",
        "http://h/?t=canary bad",
        "ftp://me:canary@h",
    ] {
        let check = Check::http(url);
        assert!(!format!("{check:?}").contains("canary"));
        let text = refusal(check);
        assert!(!text.contains("canary"), "{text}");
    }
}
