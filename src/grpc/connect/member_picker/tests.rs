use super::super::address_record::LONGEST_WAIT;
use super::*;

mod properties;

fn endpoint(text: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint::parse(text, false).unwrap())
}

/// Endpoints that need no look-up, with these numbers. Their addresses are numbered in this order.
fn literals(numbers: impl IntoIterator<Item = usize>) -> Vec<(usize, Arc<Endpoint>)> {
    let numbered = |number| (number, endpoint(&format!("10.0.0.1:{}", number + 1)));
    numbers.into_iter().map(numbered).collect()
}

fn picker_of(endpoints: usize, random: f64) -> MemberPicker {
    MemberPicker::new(literals(0..endpoints), ms(3000), random)
}

fn dial(addresses: &[usize]) -> DialPlan {
    DialPlan::Dial(DialTargets {
        addresses: addresses.to_vec(),
        names: Vec::new(),
    })
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn all_addresses_race_and_the_one_that_worked_is_first() {
    let now = Instant::now();
    let mut picker = picker_of(3, 0.0);
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[0, 1, 2]));
    picker.connected(1);
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[1, 2, 0]));
    let besides = |ids: &[usize]| {
        let pending: Vec<PendingDial> = ids.iter().map(|id| (*id, now)).collect();
        picker.start(now, Urgency::Call, &pending).addresses
    };
    assert_eq!(besides(&[2]), [1, 0]);
    assert!(besides(&[2, 0, 1]).is_empty());
}

#[test]
fn a_failed_member_is_dialled_last_and_not_too_soon() {
    let now = Instant::now();
    let mut picker = picker_of(2, 0.0);
    picker.dialling(0, now);
    picker.failed(0, now, 1.0);
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[1]));
    assert_eq!(picker.plan(now + ms(250), Urgency::Call), dial(&[1, 0]));
}

#[test]
fn an_old_connection_that_is_found_ended_does_not_make_an_address_fail_that_works_again() {
    let t = Instant::now();
    let mut picker = picker_of(1, 0.0);
    picker.dialling(0, t);
    picker.connected(0);
    // The server ends; one of its connections is noticed.
    picker.connection_ended(0, t + ms(100), t + ms(200), 1.0);
    let soon = t + ms(250);
    assert_eq!(
        picker.plan(t + ms(200), Urgency::Background),
        DialPlan::Wait(soon)
    );
    picker.dialling(0, soon);
    picker.connected(0);
    // The others are noticed by the next requests, which dial at once.
    for last_sign_of_life in [0, 100, 249] {
        picker.connection_ended(0, t + ms(last_sign_of_life), t + ms(300), 1.0);
        assert_eq!(picker.plan(t + ms(300), Urgency::Call), dial(&[0]));
    }
    picker.connection_ended(0, t + ms(400), t + ms(450), 1.0);
    assert!(matches!(
        picker.plan(t + ms(450), Urgency::Call),
        DialPlan::Wait(_)
    ));
}

#[test]
fn an_outage_causes_at_most_four_dials_per_second_and_member() {
    for urgency in [Urgency::Call, Urgency::Background] {
        for random in [0.0, 0.3, 1.0] {
            let start = Instant::now();
            let mut now = start;
            let mut picker = picker_of(2, 0.0);
            let mut dials = 0;
            while now < start + ms(10_000) {
                match picker.plan(now, urgency) {
                    DialPlan::Dial(start) => {
                        for member in start.addresses {
                            dials += 1;
                            picker.dialling(member, now);
                            picker.failed(member, now, random);
                        }
                    }
                    DialPlan::Wait(until) => {
                        assert!(until > now, "a wait that is over is a busy loop");
                        now = until;
                    }
                }
            }
            assert!(
                dials <= 2 * (10 * 4 + 2),
                "{urgency:?} {random}: {dials} dials in 10 s"
            );
        }
    }
}

#[test]
fn a_background_wait_never_exceeds_the_maximum() {
    let mut now = Instant::now();
    let mut picker = picker_of(1, 0.0);
    for _ in 0..50 {
        picker.dialling(0, now);
        picker.failed(0, now, 1.0);
        match picker.plan(now, Urgency::Background) {
            DialPlan::Wait(until) => {
                assert!(until <= now + LONGEST_WAIT);
                now = until;
            }
            DialPlan::Dial(_) => {}
        }
    }
}

#[test]
fn a_member_that_cannot_serve_is_set_aside_only_while_there_are_others() {
    let now = Instant::now();
    let mut picker = picker_of(2, 0.0);
    assert!(picker.set_aside(0, now));
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[1]));
    assert!(!picker.set_aside(1, now), "it is all there is");
    assert_eq!(picker.plan(now + ms(1001), Urgency::Call), dial(&[0, 1]));
    let mut lone = picker_of(1, 0.0);
    assert!(!lone.learner(0, now));
    assert_eq!(lone.plan(now, Urgency::Call), dial(&[0]));
}

#[test]
fn a_lagging_member_is_left_for_a_failed_one_but_not_for_none() {
    let t = Instant::now();
    let mut picker = picker_of(2, 0.0);
    picker.connected(0);
    picker.failed(1, t, 0.0);
    assert!(
        !picker.set_aside(0, t),
        "it serves, and the other one does not"
    );
    assert!(!picker.learner(0, t));
    assert_eq!(picker.plan(t, Urgency::Call), dial(&[0, 1]));
    assert!(picker.lagging(0, t));
    assert_eq!(picker.plan(t, Urgency::Call), dial(&[1, 0]));
    picker.lagging(1, t);
    assert!(!picker.lagging(0, t), "nobody is left to turn to");
    assert!(picker.lagging(0, t + ms(1000)));
}

#[test]
fn a_member_set_aside_is_used_again_when_all_others_fail() {
    let now = Instant::now();
    let mut picker = picker_of(2, 0.0);
    picker.learner(0, now);
    picker.dialling(1, now);
    picker.failed(1, now, 1.0);
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[0]));
}

#[test]
fn a_silent_dial_is_repeated_beside_the_first_and_counts_as_failing() {
    let start = Instant::now();
    let mut picker = picker_of(2, 0.0);
    assert!(picker.set_aside(1, start));
    let dialled = |picker: &MemberPicker, at, pending: &[PendingDial]| {
        picker
            .start(start + ms(at), Urgency::Call, pending)
            .addresses
    };
    picker.dialling(0, start);
    let first = (0, start);
    assert_eq!(dialled(&picker, 499, &[first]), [0; 0], "a sixth of 3 s");
    assert_eq!(dialled(&picker, 500, &[first]), [0, 1]);
    picker.dialling(0, start + ms(500));
    let pending = [first, (0, start + ms(500)), (1, start + ms(500))];
    assert_eq!(dialled(&picker, 999, &pending), [0; 0]);
    assert_eq!(dialled(&picker, 1000, &pending), [0, 1]);
    // Another caller's dial of the address does not count for this one.
    assert_eq!(dialled(&picker, 700, &[first]), [0, 1]);
    // A failing address is not dialled more often because of a silent dial.
    picker.failed(0, start + ms(1000), 1.0);
    picker.dialling(0, start + ms(1000));
    assert_eq!(dialled(&picker, 1200, &[first]), [1]);
}

#[test]
fn the_last_failure_of_a_member_is_kept_until_a_newer_event() {
    let mut picker = picker_of(2, 0.0);
    let (expired, refused) = (
        ConnectError::tls("expired"),
        ConnectError::unconnected("refused"),
    );
    picker.failed_with(0, &expired);
    picker.failed_with(1, &expired);
    picker.failed_with(1, &refused);
    let errors = |picker: &MemberPicker| picker.last_errors().into_iter().map(|(_, error)| error);
    let known: Vec<_> = errors(&picker).collect();
    assert_eq!(known, [Some(expired), Some(refused.clone())]);
    assert_eq!(picker.last_errors()[1].0, "http://10.0.0.1:2");
    picker.connected(0);
    assert!(errors(&picker).eq([None, Some(refused)]));
}

#[test]
fn a_member_that_closes_connections_is_probed_once() {
    let mut picker = picker_of(1, 0.0);
    assert!(picker.may_probe(0));
    let hung_up = ConnectError {
        hung_up: true,
        ..ConnectError::unconnected("closed")
    };
    picker.failed_with(0, &hung_up);
    assert!(!picker.may_probe(0));
    picker.failed_with(0, &ConnectError::unconnected("refused"));
    assert!(picker.may_probe(0));
}

#[test]
fn records_of_endpoints_that_stay_survive_a_change() {
    let now = Instant::now();
    let mut picker = picker_of(3, 0.0);
    picker.connected(1);
    picker.dialling(2, now);
    picker.failed(2, now, 1.0);
    // The address of the new endpoint is the fourth.
    picker.change(literals([1, 2, 7]));
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[1, 3]));
    picker.change(literals([7, 2]));
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[3]));
    assert_eq!(picker.address_count(), 2);
    // An endpoint that is added again is new, and a removed one is not recorded.
    picker.change(literals([7, 9]));
    picker.connected(0);
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[3, 4]));
}

// Fault: N7
#[test]
fn a_lagging_member_is_identified_by_its_number_and_not_by_its_index() {
    let now = Instant::now();
    let mut picker = picker_of(1, 0.0);
    picker.change(literals([7, 8]));
    assert!(picker.lagging(1, now), "the other one is left");
    assert_eq!(picker.plan(now, Urgency::Call), dial(&[2]));
}

#[test]
fn the_first_member_of_a_client_is_random() {
    let now = Instant::now();
    for (random, first) in [(0.0, 0), (0.5, 1), (0.99, 2)] {
        match picker_of(3, random).plan(now, Urgency::Call) {
            DialPlan::Dial(start) => assert_eq!(start.addresses[0], first),
            DialPlan::Wait(_) => panic!("nothing to wait for"),
        }
    }
    assert!(
        matches!(picker_of(3, 1.0).plan(now, Urgency::Call), DialPlan::Dial(start) if start.addresses.len() == 3)
    );
}

/// A picker whose endpoints are host names with these addresses. All look-ups have ended.
fn named(found: &[(&str, &[u8])], now: Instant) -> MemberPicker {
    let endpoints = found.iter().map(|(text, _)| endpoint(text));
    let mut picker = MemberPicker::new(endpoints.enumerate().collect(), ms(3000), 0.0);
    for (number, (_, hosts)) in found.iter().enumerate() {
        if picker.begin_look_up(number, now).is_some() {
            picker.looked_up(number, Ok(ips(hosts)), now, 0.0);
        }
    }
    picker
}

fn ips(hosts: &[u8]) -> Vec<SocketAddr> {
    let ip = |host: &u8| SocketAddr::from(([127, 0, 0, *host], 0));
    hosts.iter().map(ip).collect()
}

/// The last byte of each address that would be dialled.
fn hosts(picker: &MemberPicker, plan: &DialPlan) -> Vec<u8> {
    let DialPlan::Dial(start) = plan else {
        return Vec::new();
    };
    let host = |id: &usize| match picker.to_dial(*id) {
        Some((.., DialTarget::Tcp(SocketAddr::V4(v4)))) => v4.ip().octets()[3],
        other => panic!("{other:?}"),
    };
    start.addresses.iter().map(host).collect()
}

#[test]
fn addresses_of_endpoints_alternate_and_those_that_worked_are_first() {
    let now = Instant::now();
    let found: &[(&str, &[u8])] = &[("a:1", &[1, 2, 3, 4]), ("b:1", &[5]), ("c:1", &[6, 7])];
    let mut picker = named(found, now);
    let plan =
        |picker: &MemberPicker, after| hosts(picker, &picker.plan(now + ms(after), Urgency::Call));
    assert_eq!(plan(&picker, 0), [1, 5, 6, 2, 7, 3, 4]);
    // The address and the endpoint that worked last are first.
    picker.connected(2);
    picker.connected(6);
    picker.connected(1);
    assert_eq!(plan(&picker, 0), [2, 5, 7, 3, 6, 1, 4]);
    picker.dialling(1, now);
    picker.failed(1, now, 0.0);
    assert_eq!(plan(&picker, 0), [3, 5, 7, 1, 6, 4], "it failed just now");
    assert_eq!(plan(&picker, 250), [3, 5, 7, 1, 6, 4, 2]);
}

#[test]
fn a_name_is_looked_up_before_its_first_dial_and_again_later() {
    let t = Instant::now();
    let mut picker = MemberPicker::new(vec![(0, endpoint("a:1"))], ms(3000), 0.0);
    let names = |picker: &MemberPicker, at| match picker.plan(at, Urgency::Call) {
        DialPlan::Dial(start) => start.names,
        DialPlan::Wait(until) => panic!("{:?}", until - at),
    };
    assert_eq!(names(&picker, t), [0]);
    assert_eq!(picker.begin_look_up(0, t).unwrap(), "a");
    assert_eq!(picker.begin_look_up(0, t), None, "one at a time");
    // There is no address to dial yet, but a look-up to wait for until its time is over.
    assert_eq!(picker.plan(t + ms(2999), Urgency::Call), dial(&[]));
    assert!(!picker.awaits_look_up(t + ms(3000)));
    assert!(matches!(
        picker.plan(t + ms(3000), Urgency::Call),
        DialPlan::Wait(_)
    ));
    let (label, error) = picker.last_errors().remove(0);
    let text = error.unwrap().text;
    assert_eq!(
        (&*label, &*text),
        ("http://a:1", "name look-up: no answer in 3s")
    );
    // The look-up ends late.
    picker.looked_up(0, Ok(ips(&[1])), t + ms(4000), 0.0);
    assert_eq!(picker.plan(t + ms(4999), Urgency::Call), dial(&[0]));
    assert_eq!(
        picker.last_errors(),
        [("http://a:1 at 127.0.0.1".to_owned(), None)]
    );
    assert_eq!(names(&picker, t + ms(5000)), [0]);
}

#[test]
fn a_failed_look_up_removes_no_address_and_is_repeated_after_a_wait() {
    let t = Instant::now();
    let mut picker = named(&[("a:1", &[1])], t);
    picker.begin_look_up(0, t + ms(1000));
    picker.looked_up(0, Err("no such host".into()), t + ms(1000), 0.0);
    assert_eq!(picker.plan(t + ms(1249), Urgency::Call), dial(&[0]));
    let DialPlan::Dial(start) = picker.plan(t + ms(1250), Urgency::Call) else {
        panic!("there is something to dial");
    };
    assert_eq!((start.addresses, start.names), (vec![0], vec![0]));
    // This name has no address at all.
    let mut unknown = MemberPicker::new(vec![(0, endpoint("b:1"))], ms(3000), 0.0);
    unknown.begin_look_up(0, t);
    unknown.looked_up(0, Ok(Vec::new()), t, 0.0);
    assert_eq!(unknown.plan(t, Urgency::Call), DialPlan::Wait(t + ms(250)));
    let error = unknown.last_errors().remove(0).1.unwrap();
    assert_eq!(error.text, "name look-up: it has no address");
}

#[test]
fn a_withdrawn_address_is_removed_with_its_last_connection() {
    let t = Instant::now();
    let mut picker = named(&[("a:1", &[1, 2])], t);
    let look_up = |picker: &mut MemberPicker, found: &[u8]| {
        picker.begin_look_up(0, t);
        picker.looked_up(0, Ok(ips(found)), t, 0.0);
    };
    picker.connected(0);
    picker.connected(0);
    look_up(&mut picker, &[3]);
    assert_eq!(picker.plan(t, Urgency::Call), dial(&[2]));
    assert!(picker.to_dial(0).is_none() && picker.to_dial(1).is_none());
    picker.disconnected(0);
    look_up(&mut picker, &[3, 1]);
    assert_eq!(picker.plan(t, Urgency::Call), dial(&[0, 2]), "it was known");
    look_up(&mut picker, &[3]);
    picker.disconnected(0);
    look_up(&mut picker, &[1, 3]);
    assert_eq!(picker.plan(t, Urgency::Call), dial(&[3, 2]), "it is new");
}

#[test]
fn at_most_64_addresses_of_a_name_are_kept() {
    let t = Instant::now();
    let mut picker = named(&[("a:1", &[1])], t);
    let many = (0..2000).map(|n: u32| SocketAddr::from((std::net::Ipv4Addr::from(n), 0)));
    picker.begin_look_up(0, t);
    picker.looked_up(0, Ok(many.collect()), t, 0.0);
    assert_eq!(picker.address_count(), 64);
}

#[test]
fn without_addresses_there_is_a_pause_before_the_next_plan() {
    let now = Instant::now();
    let picker = MemberPicker::new(Vec::new(), ms(3000), 0.0);
    let DialPlan::Wait(until) = picker.plan(now, Urgency::Call) else {
        panic!("there is nothing to dial");
    };
    assert_eq!(until, now + SPACING);
}

#[test]
fn an_address_knows_whether_its_name_is_being_looked_up() {
    let t = Instant::now();
    let mut picker = named(&[("a:1", &[1])], t);
    assert!(!picker.is_looking_up(0));
    picker.begin_look_up(0, t);
    assert!(picker.is_looking_up(0));
}
