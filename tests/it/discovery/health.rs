//! Health checks: what follows from their results, and that they end with their registration.

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use etcd_blocking::health::{Check, CheckStatus, Checks, Health, Initial};

use super::*;

const QUICK: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);

/// The other side of a check that asks this test for each result.
struct Answers {
    asked: Receiver<()>,
    answers: Sender<std::result::Result<(), String>>,
}

/// A closure check whose results the test gives, one by one.
fn asking(name: &str) -> (Check, Answers) {
    let (ask, asked) = unbounded();
    let (answers, answer) = unbounded();
    let check = Check::run(move || {
        let _ = ask.send(());
        // After the test, nobody answers.
        answer.recv().unwrap_or(Ok(()))
    });
    let check = check.name(name).interval(QUICK).timeout(SOON);
    (check, Answers { asked, answers })
}

impl Answers {
    /// Answers the next probe.
    fn give(&self, result: std::result::Result<(), &str>) {
        self.asked.recv_timeout(SOON).unwrap();
        self.answers.send(result.map_err(str::to_owned)).unwrap();
    }

    fn pass(&self, times: usize) {
        (0..times).for_each(|_| self.give(Ok(())));
    }

    fn fail(&self, times: usize, why: &str) {
        (0..times).for_each(|_| self.give(Err(why)));
    }

    /// Waits until the closure was dropped with its thread.
    fn assert_ends(self) {
        drop(self.answers);
        let deadline = Instant::now() + SOON;
        loop {
            match self.asked.recv_deadline(deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the thread of the check goes on"),
            }
        }
    }
}

fn health(registration: &Registration) -> Health {
    registration.health().unwrap()
}

fn eventually_status(registration: &Registration, status: CheckStatus) {
    eventually(SOON, "the status of the checks", || {
        (health(registration).status == status).then_some(())
    });
}

/// The status and the reason of the next update of an instance.
fn updated(view: &ServiceView) -> (Status, String) {
    next(view, "updated", |change| match change {
        Change::Updated { instance, .. } => Some((instance.status, instance.reason.clone())),
        _ => None,
    })
}

fn keys(client: &Client) -> u64 {
    let count = etcd_blocking::Get::prefix("/services/").count_only();
    client.call(count).unwrap().count()
}

fn find(client: &Client) -> ServiceView {
    Discovery::new(client).service("web").unwrap()
}

#[test]
fn a_failing_check_takes_an_instance_out_of_service_with_its_reason_until_it_recovers() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let (view, registrar) = (find(&client), registrar(&client, 60));
    let _ = view.changes();
    let (check, answers) = asking("disk");
    answers.answers.send(Ok(())).unwrap();
    let web = registrar.register_checked(web(1), check).unwrap();
    answers.asked.recv_timeout(SOON).unwrap();
    assert!(health(&web).is_passing());
    assert_eq!(view.wait_for(1, SOON).unwrap()[0].status, Status::Up);

    answers.fail(2, "full");
    answers.pass(1);
    answers.fail(3, "full");
    let reason = "disk: full".to_owned();
    assert_eq!(updated(&view), (Status::OutOfService, reason.clone()));
    assert_eq!(health(&web).reason, Some(reason));
    assert!(view.pick().is_none());
    // What the program changes meanwhile is published as well, and the checks still decide the status.
    web.modify(|instance| instance.set_meta("load", "0.7"))
        .unwrap();
    let (status, meta) = next(&view, "the new metadata", |change| match change {
        Change::Updated { instance, .. } => Some((instance.status, instance.meta.clone())),
        _ => None,
    });
    assert_eq!(
        (status, meta["load"].as_str()),
        (Status::OutOfService, "0.7")
    );

    answers.pass(2);
    assert_eq!(updated(&view), (Status::Up, String::new()));
    assert_eq!(view.pick().unwrap().meta["load"], "0.7");
    web.leave().unwrap();
    answers.assert_ends();
}

#[test]
fn an_instance_is_not_registered_before_all_its_checks_have_passed() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let (first, first_answers) = asking("first");
    let (second, second_answers) = asking("second");
    let checks = Checks::new().check(first).check(second);
    let web = registrar.announce_checked(web(1), checks).unwrap();
    first_answers.pass(1);
    second_answers.fail(3, "warming up");
    eventually_status(&web, CheckStatus::Failing);
    eventually(SOON, "withdrawn", || {
        (web.state() == State::Withdrawn).then_some(())
    });
    assert_eq!(keys(&client), 0);
    let error = web.wait_registered(QUICK).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("second: warming up"), "{error}");
    // As often as the checks must rise; the other check goes on passing.
    second_answers.pass(2);
    first_answers.pass(1);
    web.wait_registered(SOON).unwrap();
    assert!(health(&web).is_passing());
}

#[test]
fn register_checked_fails_with_the_reason_of_the_check_and_leaves_nothing() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let quick = client.with_timeout(Duration::from_secs(1));
    let registrar = registrar(&quick, 60);
    let check = Check::run(|| Err("no database")).start_grace(SOON);
    let error = registrar.register_checked(web(1), check).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("run: no database"), "{error}");
    assert_eq!(keys(&client), 0);
    // The same instance can be registered now, because the first attempt has ended.
    let _web = registrar.register(web(1)).unwrap();

    let check = Check::tcp("0.0.0.0:80");
    let error = registrar.register_checked(web(2), check).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn an_instance_can_be_published_before_its_checks_have_passed() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let (view, registrar) = (find(&client), registrar(&client, 60));
    let with = |initial| {
        let (check, answers) = asking("db");
        (Checks::from(check).initial(initial), answers)
    };
    let (checks, _answers) = with(Initial::OutOfService);
    let _out = registrar.register_checked(web(1), checks).unwrap();
    let (checks, _more_answers) = with(Initial::Healthy);
    let _up = registrar.register_checked(web(2), checks).unwrap();
    let found = eventually(SOON, "both are found", || {
        Some(view.snapshot()).filter(|found| found.len() == 2)
    });
    let of = |n: u16| found.iter().find(|one| one.id == web(n).id).unwrap();
    assert_eq!(of(1).status, Status::OutOfService);
    assert_eq!(of(1).reason, "db: has not passed yet");
    assert_eq!(of(2).status, Status::Up);
}

#[test]
fn a_failing_instance_is_withdrawn_after_its_time_and_comes_back() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let (view, registrar) = (find(&client), registrar(&client, 60));
    let _ = view.changes();
    let (check, answers) = asking("db");
    answers.answers.send(Ok(())).unwrap();
    let checks = Checks::from(check).withdraw_after(Duration::from_millis(100));
    let web = registrar.register_checked(web(1), checks).unwrap();
    answers.asked.recv_timeout(SOON).unwrap();
    answers.fail(3, "gone");
    until(&web, "withdrawn", |state| *state == State::Withdrawn);
    assert_eq!(removed(&view, &web.instance().id), Cause::Left);
    answers.pass(2);
    until(&web, "registered again", registered);
    next(&view, "added", |change| {
        matches!(change, Change::Added { .. }).then_some(())
    });
}

#[test]
fn a_registration_ends_when_its_checks_fail_for_too_long() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let (check, answers) = asking("db");
    answers.answers.send(Ok(())).unwrap();
    let checks = Checks::from(check).leave_after(Duration::from_millis(50));
    let web = registrar.register_checked(web(1), checks).unwrap();
    answers.asked.recv_timeout(SOON).unwrap();
    answers.fail(3, "gone");
    until(&web, "closed", |state| *state == State::Closed);
    assert_eq!(keys(&client), 0);
    assert_eq!(health(&web).reason.as_deref(), Some("db: gone"));
    answers.assert_ends();
}

#[test]
fn silence_fails_a_heartbeat_and_a_beat_ends_the_failure() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let (check, heartbeat) = Check::heartbeat(Duration::from_millis(100));
    heartbeat.beat();
    let web = registrar.register_checked(web(1), check).unwrap();
    eventually_status(&web, CheckStatus::Failing);
    let reason = health(&web).reason.unwrap();
    assert_eq!(reason, "heartbeat: no heartbeat in 100ms");
    // Each beat wakes the check while it fails.
    eventually(SOON, "a beat ends the failure", || {
        heartbeat.beat();
        health(&web).is_passing().then_some(())
    });
    eventually_status(&web, CheckStatus::Failing);

    let (check, heartbeat) = Check::heartbeat(HOUR);
    let announced = registrar.announce_checked(Instance::new("web", "127.0.1.1:2"), check);
    let other = announced.unwrap();
    heartbeat.beat();
    eventually_status(&other, CheckStatus::Passing);
    heartbeat.fail("out of memory");
    eventually_status(&other, CheckStatus::Failing);
    assert_eq!(health(&other).reason.unwrap(), "heartbeat: out of memory");
    heartbeat.beat();
    eventually_status(&other, CheckStatus::Passing);
}

#[test]
fn a_closure_that_hangs_fails_alone_and_has_one_thread() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    let (check, answers) = asking("hangs");
    let check = check.timeout(QUICK).fall(3);
    let hanging = registrar.announce_checked(web(1), check).unwrap();
    let passing = Check::run(|| Ok::<(), String>(()))
        .interval(QUICK)
        .timeout(SOON);
    let passing = registrar.register_checked(web(2), passing).unwrap();
    eventually_status(&hanging, CheckStatus::Failing);
    eventually(SOON, "the next probe fails at once", || {
        let error = health(&hanging).checks[0].last_error.clone()?;
        (error == "an earlier call has not returned").then_some(())
    });
    assert_eq!(answers.asked.len(), 1, "it was called once");
    assert!(health(&passing).is_passing());

    // A call that returns too late does not count; the next one does.
    answers.answers.send(Err("too late".into())).unwrap();
    eventually(SOON, "it is called again", || {
        (answers.asked.len() == 2).then_some(())
    });
    assert_eq!(health(&hanging).status, CheckStatus::Failing);
    drop(hanging);
    answers.assert_ends();
}

#[test]
fn the_checks_end_with_the_registration_in_every_way_of_ending() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    let registrar = registrar(&client, 60);
    // Long intervals: the end does not wait for the next probe.
    let checked = |n: u16| {
        let used = Arc::new(());
        let watched = Arc::downgrade(&used);
        let (probed, probes) = unbounded();
        let check = Check::run(move || {
            let _ = &used;
            probed.send(()).map_err(|error| error.to_string())
        });
        let check = check.interval(HOUR);
        let registration = registrar.register_checked(web(n), check).unwrap();
        // The second probe comes after a second; the next one an hour later.
        (0..2).for_each(|_| probes.recv_timeout(SOON).unwrap());
        (registration, watched)
    };
    let ends = |used: std::sync::Weak<()>| {
        eventually(SOON, "the thread of the check ends", || {
            (used.strong_count() == 0).then_some(())
        });
    };
    let (left, used) = checked(1);
    left.leave().unwrap();
    ends(used);
    let (dropped, used) = checked(2);
    let clone = dropped.clone();
    drop(dropped);
    assert_eq!(used.strong_count(), 1, "a handle is left");
    drop(clone);
    ends(used);
    let (_all, used) = checked(3);
    registrar.leave_all().unwrap();
    ends(used);
    let (_closed, used) = checked(4);
    client.close().unwrap();
    ends(used);
}
