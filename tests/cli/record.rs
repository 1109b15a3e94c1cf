//! `record` and `replay`.

use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use rustix::process::Signal;

use crate::program::{Program, SOON, command, command_for, run};
use crate::support::wait::eventually;

const UP: &str = r#"{"addr":"10.0.0.1:80","status":"up"}"#;

#[test]
fn a_recording_has_every_change_across_an_outage_and_becomes_a_picture() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    client.put("/services/api/before", UP).unwrap();
    let folder = std::env::temp_dir().join(format!("etcd-service-record-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, svg) = (folder.join("r.jsonl"), folder.join("r.svg"));
    let (file, svg) = (file.to_str().unwrap(), svg.to_str().unwrap());
    let recorder = Program::start(&mut command_for(&etcd, &["record", "--out", file]));
    let recorded = |text: &str| {
        eventually(SOON, text, || {
            let lines = std::fs::read_to_string(file).unwrap_or_default();
            lines.contains(text).then_some(lines)
        })
    };
    recorded("api/before");
    let lease = client.grant(Duration::from_secs(60)).unwrap();
    let put = etcd_blocking::Put::new("/services/api/<b>", UP).lease(lease.id());
    client.call(put).unwrap();
    client.put("/services/api/raw", &b"\xff"[..]).unwrap();
    recorded("value64\":\"/w==");
    client.revoke(lease.id()).unwrap();
    recorded("\"cause\":\"expired\"");
    client.delete("/services/api/before").unwrap();
    recorded("\"cause\":\"left\"");
    etcd.kill().unwrap();
    recorder.complains("etcd is away");
    etcd.restart().unwrap();
    eventually(SOON, "etcd answers", || {
        client.put("/services/api/after", UP).ok()
    });
    recorded("api/after");
    recorder.signal(Signal::TERM);
    assert_eq!(recorder.ended().code, 0);
    // The last line of a machine that lost power.
    let mut lines = std::fs::read_to_string(file).unwrap();
    assert_eq!(lines.matches("\"kind\":\"reset\"").count(), 1, "{lines}");
    lines.push_str("{\"time\":1");
    std::fs::write(file, &lines).unwrap();
    let ended = run(&mut command(&["replay", file, "--out", svg]));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("1 lines are cut off"), "{ended:?}");
    let picture = std::fs::read_to_string(svg).unwrap();
    for expected in [
        "&lt;b&gt;",
        "before",
        "after",
        "<title>expired</title>",
        "<title>left</title>",
    ] {
        assert!(picture.contains(expected), "{expected}: {picture}");
    }
    let piped = run(&mut command(&["replay", file]));
    assert_eq!(piped.stdout, picture);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_recording_ends_at_its_largest_size_with_a_whole_line() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let file = std::env::temp_dir().join(format!("etcd-service-size-{}", std::process::id()));
    let path = file.to_str().unwrap();
    let args = ["record", "--out", path, "--max-bytes", "1000"];
    let mut recorder = Program::start(&mut command_for(&etcd, &args));
    eventually(SOON, "the recording begins", || {
        std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("first"))
    });
    for _ in 0..20 {
        client.put("/services/api/a", UP).unwrap();
    }
    let ended = recorder.ended_within(SOON);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("--max-bytes"), "{ended:?}");
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(lines.len() <= 1000 && lines.ends_with("}\n"), "{lines}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let ended = run(&mut command(&["replay", "/nonexistent"]));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("read /nonexistent"), "{ended:?}");
    let ended = run(&mut command(&["replay", "/dev/null"]));
    assert!(ended.stderr.contains("no line of a recording"), "{ended:?}");
    let ended = run(&mut command(&["record", "--out", "/nonexistent/file"]));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("open /nonexistent/file"), "{ended:?}");
    if std::path::Path::new("/dev/full").exists() {
        let etcd = LocalEtcd::start().unwrap();
        let ended = run(&mut command_for(&etcd, &["record", "--out", "/dev/full"]));
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains("write /dev/full"), "{ended:?}");
    }
}
