//! `record` and `replay`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use etcd_blocking::Client;
use etcd_blocking::local::{LocalEtcd, Proxy};
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
    assert!(ended.stderr.contains("1 line is cut off"), "{ended:?}");
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

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("etcd-service-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until a file contains the text, and returns its contents.
#[track_caller]
fn recorded(file: &str, text: &str) -> String {
    eventually(SOON, text, || {
        let lines = std::fs::read_to_string(file).unwrap_or_default();
        lines.contains(text).then_some(lines)
    })
}

#[test]
fn a_gap_by_a_compaction_is_bridged_and_recorded() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let folder = Folder::new("gap");
    let (file, svg) = (folder.file("r.jsonl"), folder.file("r.svg"));
    for id in ["stays", "goes"] {
        client.put(format!("/services/api/{id}"), UP).unwrap();
    }
    let args = ["record", "--out", &file, "--endpoints", &proxy.endpoint()];
    let recorder = Program::start(&mut command(&args));
    recorded(&file, "api/stays");
    proxy.cut();
    recorder.complains("etcd is away");
    client.delete("/services/api/goes").unwrap();
    let last = client.put("/services/api/comes", UP).unwrap();
    // More than the watch has missed is gone from the history.
    let last = client
        .put("/other", "x")
        .map(|put| put.header().revision.max(last.header().revision));
    client.compact(last.unwrap()).unwrap();
    proxy.restore();
    recorder.complains("changes are missing (relisted)");
    let lines = recorded(&file, "api/comes");
    let of = |text: &str| {
        let found = lines.lines().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text}: {lines}"))
    };
    assert!(of("\"stale\"") < of("\"cause\":\"relisted\""), "{lines}");
    assert!(
        of("\"cause\":\"relisted\"") < of("\"cause\":\"resync\""),
        "{lines}"
    );
    assert_eq!(lines.matches("api/stays").count(), 1, "{lines}");
    client.put("/services/api/later", UP).unwrap();
    recorded(&file, "api/later");
    recorder.signal(Signal::INT);
    assert_eq!(recorder.ended().code, 0);
    let ended = run(&mut command(&["replay", &file, "--out", &svg]));
    assert_eq!(ended.code, 0, "{ended:?}");
    let picture = std::fs::read_to_string(svg).unwrap();
    for expected in ["are missing: relisted", "etcd was away", "seen gone later"] {
        assert!(picture.contains(expected), "{expected}: {picture}");
    }
}

#[test]
fn the_prefixes_are_those_of_the_formats() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    client.put("/services/api/native", UP).unwrap();
    client.put("/microservices/api/kratos", "x").unwrap();
    client.put("/mine/api/own", "x").unwrap();
    let folder = Folder::new("formats");
    for (name, args, expected) in [
        ("a", &["--format", "kratos"][..], &["kratos"][..]),
        (
            "b",
            &["--format", "native,kratos,dubbo-go"],
            &["kratos", "native"],
        ),
        ("c", &["--prefix", "/mine/"], &["own"]),
    ] {
        let file = folder.file(name);
        let mut all = vec!["record", "--out", &file];
        all.extend(args);
        let recorder = Program::start(&mut command_for(&etcd, &all));
        for id in expected {
            recorded(&file, id);
        }
        client.put("/services/end", "x").unwrap();
        recorder.signal(Signal::TERM);
        assert_eq!(recorder.ended().code, 0);
        let lines = std::fs::read_to_string(&file).unwrap();
        let first = "\"cause\":\"first\"";
        assert_eq!(lines.matches(first).count(), expected.len(), "{lines}");
        for id in ["native", "kratos", "own"] {
            let is_expected = expected.contains(&id);
            assert_eq!(
                lines.matches(id).count(),
                usize::from(is_expected),
                "{id}: {lines}"
            );
        }
    }
}

#[test]
fn a_file_that_exists_is_gone_on_with_only_when_told() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    client.put("/services/api/a", UP).unwrap();
    let folder = Folder::new("append");
    let file = folder.file("r.jsonl");
    let record = |more: &[&str]| {
        let mut args = vec!["record", "--out", &file];
        args.extend(more);
        command_for(&etcd, &args)
    };
    let first = |count: usize| {
        eventually(SOON, "it records", || {
            let lines = std::fs::read_to_string(&file).unwrap_or_default();
            (lines.matches("api/a").count() == count).then_some(lines)
        })
    };
    let recorder = Program::start(&mut record(&[]));
    let before = first(1);
    recorder.signal(Signal::HUP);
    assert_eq!(recorder.ended().code, 0);
    let ended = run(&mut record(&[]));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("exists: --append"), "{ended:?}");
    let recorder = Program::start(&mut record(&["--append"]));
    let lines = first(2);
    assert!(lines.starts_with(&before), "{lines}");
    recorder.signal(Signal::TERM);
    assert_eq!(recorder.ended().code, 0);
    std::fs::write(&file, "127.0.0.1 localhost\n").unwrap();
    let ended = run(&mut record(&["--append"]));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("stays as it is"), "{ended:?}");
    let ended = run(&mut command(&["replay", &file]));
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    assert!(ended.stderr.contains("is no recording"), "{ended:?}");
}

#[test]
fn a_pipe_whose_reader_is_gone_ends_the_recording() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    client.put("/services/api/a", UP).unwrap();
    let program = env!("CARGO_BIN_EXE_etcd-service");
    let script = format!("{program} record --out /dev/stdout | head -n 1; echo ended >&2");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).stdin(Stdio::null());
    shell.env("ETCDCTL_ENDPOINTS", etcd.endpoint());
    let mut shell = Program::start(&mut shell);
    let line = shell.line();
    assert!(line.contains("\"first\""), "{line}");
    // It notices with the next line.
    eventually(SOON, "the shell ends", || {
        client.put("/services/api/a", UP).unwrap();
        shell.stderr().contains("ended").then_some(())
    });
    let ended = shell.ended_within(SOON);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (0, "ended\n"),
        "{ended:?}"
    );
    if !cfg!(target_os = "linux") {
        println!("skipped: the threads of a program are read from /proc");
        return;
    }
    // A named pipe without a reader does not keep a signal waiting.
    let folder = Folder::new("fifo");
    let fifo = folder.file("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let mut recorder = Program::start(&mut command_for(&etcd, &["record", "--out", &fifo]));
    // Until the handler is there, the signal ends it as well, but with another code.
    eventually(SOON, "the thread waits for a reader", || {
        let pid = recorder.pid().as_raw_nonzero();
        let names = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let names =
            names.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names
            .into_iter()
            .any(|name| name.trim() == "open")
            .then_some(())
    });
    recorder.signal(Signal::TERM);
    assert_eq!(recorder.ended_within(SOON).code, 0);
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
    assert!(ended.stderr.contains("is no recording"), "{ended:?}");
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
