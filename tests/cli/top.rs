//! `top` to a pipe and on a terminal.

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use rustix::process::{Pid, Signal};

use crate::program::{SOON, command, command_for, run};
use crate::support::wait::eventually;
use crate::terminal::Terminal;

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
            ended.stdout.starts_with("1 service, 1 instance, "),
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

/// A terminal with `top` for a registry of three services.
fn interactive(etcd: &LocalEtcd) -> Option<Terminal> {
    let client = Client::connect(etcd.endpoint()).unwrap();
    for (service, id) in [
        ("api", "a-1"),
        ("db", "d-1"),
        ("web", "w-1"),
        ("web", "w-2"),
    ] {
        let value = r#"{"addr":"10.0.0.1:80","status":"up"}"#;
        client
            .put(format!("/services/{service}/{id}"), value)
            .unwrap();
    }
    let terminal = Terminal::start(&format!("top --endpoints {}", etcd.endpoint()))?;
    terminal.shows("3 services, 4 instances");
    // The lists are read before they are followed.
    terminal.shows("up to date");
    terminal.until("the cursor is hidden", |shown| shown.is_cursor_hidden);
    Some(terminal)
}

#[test]
fn keys_work_on_a_terminal_and_it_is_restored() {
    let etcd = LocalEtcd::start().unwrap();
    let Some(mut terminal) = interactive(&etcd) else {
        return;
    };
    // Down to `db`, open it, back.
    terminal.press("\u{1b}[B\r");
    let screen = terminal.shows("db: instance, address");
    assert!(
        screen.contains("d-1") && !screen.contains("w-1"),
        "{screen}"
    );
    terminal.press("\u{1b}[D");
    terminal.shows("SERVICE");
    terminal.press("ss");
    terminal.shows("sorted by instances that are not up");
    terminal.press("/we");
    terminal.until("the filter", |shown| {
        let text = shown.text();
        text.contains("filter: we_") && !text.contains("api")
    });
    terminal.press("\r\r");
    let screen = terminal.shows("web: instance, address");
    assert!(screen.contains("w-1") && screen.contains("w-2"), "{screen}");
    terminal.press("q");
    assert_eq!(terminal.restored(), 0);
}

#[test]
fn signals_and_control_keys_restore_the_terminal() {
    let etcd = LocalEtcd::start().unwrap();
    for end in [
        Some(Signal::TERM),
        Some(Signal::INT),
        Some(Signal::HUP),
        None,
    ] {
        let Some(mut terminal) = interactive(&etcd) else {
            return;
        };
        match end {
            Some(signal) => terminal.signal(signal),
            None => terminal.press("\u{3}"),
        }
        assert_eq!(terminal.restored(), 0, "{end:?}");
    }
}

#[test]
fn it_stops_and_goes_on_and_ends_with_its_terminal() {
    let etcd = LocalEtcd::start().unwrap();
    let Some(mut terminal) = interactive(&etcd) else {
        return;
    };
    // `T` is stopped. A process that has ended is a zombie, `Z`, until somebody waits for it.
    let state = |pid: Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        let stat = stat.unwrap_or_else(|_| ") Z".to_owned());
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    for by_key in [false, true] {
        match by_key {
            false => terminal.signal(Signal::TSTP),
            true => terminal.press("\u{1a}"),
        }
        terminal.until("the terminal is given back", |shown| {
            !shown.is_alternate && !shown.is_cursor_hidden
        });
        eventually(SOON, "it is stopped", || {
            (state(terminal.pid()) == 'T').then_some(())
        });
        terminal.signal(Signal::CONT);
        terminal.shows("3 services, 4 instances");
        terminal.until("the cursor is hidden", |shown| shown.is_cursor_hidden);
        // Keys are read again.
        terminal.press("/api");
        terminal.shows("filter: api_");
        terminal.press("\u{1b}");
        terminal.until("no filter", |shown| !shown.text().contains("filter: "));
    }
    let pid = terminal.pid();
    terminal.close();
    eventually(SOON, "it ends with its terminal", || {
        (state(pid) == 'Z').then_some(())
    });
}

#[test]
fn it_follows_the_size_of_the_terminal_and_shows_outages() {
    let mut etcd = LocalEtcd::start().unwrap();
    let Some(mut terminal) = interactive(&etcd) else {
        return;
    };
    terminal.shows("s sort");
    for (columns, rows) in [(60, 10), (3, 2), (1, 1), (120, 40)] {
        terminal.resize(columns, rows);
        if rows >= 10 {
            let last = usize::try_from(rows).unwrap() - 1;
            terminal.until("the keys are in the last line", |shown| {
                let text = shown.text();
                text.lines()
                    .nth(last)
                    .is_some_and(|line| line.starts_with("q end"))
                    && text.lines().count() == last + 1
            });
        }
    }
    terminal.shows("3 services, 4 instances");
    etcd.kill().unwrap();
    terminal.shows("NOT UP TO DATE: etcd is away");
    etcd.restart().unwrap();
    terminal.shows("up to date");
    terminal.until("it is back", |shown| !shown.text().contains("NOT UP"));
    let client = Client::connect(etcd.endpoint()).unwrap();
    client
        .put("/services/new/n-1", r#"{"addr":"10.0.0.1:80"}"#)
        .unwrap();
    terminal.shows("4 services, 5 instances");
    terminal.press("q");
    assert_eq!(terminal.restored(), 0);
}
