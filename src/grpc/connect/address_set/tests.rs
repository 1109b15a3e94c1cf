use super::*;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn of(texts: &[&str]) -> AddressSet {
    let endpoint = |text: &&str| Arc::new(Endpoint::parse(text, false).unwrap());
    AddressSet::new(
        texts.iter().map(endpoint).enumerate().collect(),
        CONNECT_TIMEOUT,
    )
}

fn ip(host: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, host], 0))
}

/// A look-up that begins and ends at `now`.
fn look_up(set: &mut AddressSet, found: Result<Vec<SocketAddr>, String>, now: Instant) {
    set.begin(0, now).unwrap();
    set.finish(0, found, now, 1.0);
}

#[test]
fn failed_look_ups_back_off_until_one_succeeds() {
    let mut now = Instant::now();
    let mut set = of(&["a:1"]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        look_up(&mut set, Err("down".into()), now);
        let due = set.next_due().unwrap();
        assert!(set.due(due - ms(1)).is_empty());
        assert_eq!(set.due(due), [0]);
        waits.push((due - now).as_millis());
        now = due;
    }
    assert_eq!(waits, [250, 500, 1000, 2000, 2000, 2000]);
    look_up(&mut set, Ok(vec![ip(1)]), now);
    assert_eq!(set.next_due(), None, "an address is known");
    look_up(&mut set, Err("down".into()), now + ms(1000));
    assert!(set.due(now + ms(1249)).is_empty());
    assert_eq!(set.due(now + ms(1250)), [0]);
}

#[test]
fn a_dial_waits_for_a_look_up_in_time_while_no_address_works() {
    let now = Instant::now();
    let mut set = of(&["a:1"]);
    assert!(!set.awaits(now));
    look_up(&mut set, Err("down".into()), now);
    let began = now + ms(250);
    set.begin(0, began).unwrap();
    assert_eq!(set.next_due(), None, "it is under way");
    set.note_overdue(began + CONNECT_TIMEOUT - ms(1));
    assert!(set.awaits(began + CONNECT_TIMEOUT - ms(1)));
    assert!(
        set.last_errors()[0]
            .1
            .as_ref()
            .unwrap()
            .text
            .ends_with("down")
    );
    set.note_overdue(began + CONNECT_TIMEOUT);
    assert!(!set.awaits(began + CONNECT_TIMEOUT));
    assert!(
        set.last_errors()[0]
            .1
            .as_ref()
            .unwrap()
            .text
            .ends_with("in 3s")
    );
    set.finish(0, Ok(vec![ip(1), ip(2)]), began, 1.0);
    assert!(!set.is_looking_up(0));
    set.begin(0, began).unwrap();
    assert!(set.is_looking_up(0));
    assert!(!set.awaits(began), "two are known, and do not fail");
    set.get_mut(0).unwrap().record.failed(began, 1.0);
    assert!(!set.awaits(began));
    set.get_mut(1).unwrap().record.failed(began, 1.0);
    assert!(set.awaits(began));
}

#[test]
fn a_resolved_address_has_the_port_of_its_endpoint() {
    let mut set = of(&["a:2379", "10.0.0.1:2380"]);
    look_up(&mut set, Ok(vec![ip(1), ip(1), ip(2)]), Instant::now());
    let targets = set.dialable().map(|entry| entry.target.clone());
    let targets: Vec<DialTarget> = targets.collect();
    let tcp = |text: &str| DialTarget::Tcp(text.parse().unwrap());
    let expected = ["10.0.0.1:2380", "127.0.0.1:2379", "127.0.0.2:2379"].map(tcp);
    assert_eq!(targets, expected);
    // A literal address is named by its endpoint; the others by the name and the address.
    let labels = set.dialable().map(|entry| set.label(entry.id));
    let labels: Vec<String> = labels.collect();
    let named = "http://a:2379 at 127.0.0";
    assert_eq!(
        labels,
        [
            "http://10.0.0.1:2380",
            &format!("{named}.1"),
            &format!("{named}.2")
        ]
    );
}

#[test]
fn addresses_of_a_removed_endpoint_are_removed_also_while_connected() {
    let mut set = of(&["a:1", "10.0.0.1:2"]);
    look_up(&mut set, Ok(vec![ip(1), ip(2)]), Instant::now());
    let known = set.dialable().map(|entry| entry.id).max().unwrap();
    set.connected(known);
    set.change(vec![(
        1,
        Arc::new(Endpoint::parse("10.0.0.1:2", false).unwrap()),
    )]);
    assert_eq!(set.dialable().count(), 1);
    assert!(set.get(known).is_none());
    set.disconnected(known);
}

#[test]
fn an_address_that_its_name_lost_stays_while_it_is_connected() {
    let now = Instant::now();
    let mut set = of(&["a:1"]);
    look_up(&mut set, Ok(vec![ip(1), ip(2)]), now);
    let ids: Vec<usize> = set.dialable().map(|entry| entry.id).collect();
    set.connected(ids[0]);
    look_up(&mut set, Ok(vec![ip(3)]), now + ms(5000));
    assert_eq!(set.dialable().count(), 1);
    let known = |set: &AddressSet| ids.iter().map(|id| set.get(*id).is_some()).collect();
    let is_known: Vec<bool> = known(&set);
    assert_eq!(is_known, [true, false]);
    set.disconnected(ids[0]);
    let is_known: Vec<bool> = known(&set);
    assert_eq!(is_known, [false, false]);
}

/// The budget of an endpoint after any number of dials of failing addresses, at any time.
#[test]
fn an_endpoint_dials_four_failing_addresses_at_once_and_eight_in_a_second() {
    let start = Instant::now();
    for dials in 0..7u32 {
        let mut set = of(&["10.0.0.1:1"]);
        set.dialling(0, start);
        assert_eq!(
            set.budget(0, start),
            4,
            "one that does not fail costs nothing"
        );
        set.get_mut(0).unwrap().record.failed(start, 1.0);
        for _ in 0..dials {
            set.dialling(0, start);
        }
        for after in 0..1000u32 {
            let now = start + ms(after.into());
            // The budget recovers by one dial every 125 ms.
            let spent = dials.saturating_sub(after / 125);
            let expected = 4usize.saturating_sub(spent as usize);
            assert_eq!(set.budget(0, now), expected, "{dials} dials, {after} ms");
            let may = set.budget_at(0).is_none_or(|at| at <= now);
            assert_eq!(may, expected > 0, "{dials} dials, {after} ms");
        }
    }
}
