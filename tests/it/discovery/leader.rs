//! The leader of a service.

use super::*;

#[test]
fn one_instance_of_a_service_leads_and_the_next_follows_it() {
    let etcd = LocalEtcd::start().unwrap();
    let (client, other) = (client(&etcd), client(&etcd));
    let discovery = Discovery::new(&client);
    assert_eq!(discovery.leader("web").unwrap(), None);
    let (one, two) = (registrar(&client, 30), registrar(&other, 30));
    let (one, two) = (one.register(web(1)).unwrap(), two.register(web(2)).unwrap());
    let leadership = one.lead().unwrap();
    assert_eq!(
        discovery.leader("web").unwrap().as_deref(),
        Some("127.0.1.1:1")
    );
    let late = two.lead_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    // Another service has another leader.
    let api = registrar(&client, 30)
        .register(Instance::new("api", "127.0.1.9:9"))
        .unwrap();
    let of_api = api.lead_timeout(SOON).unwrap();
    assert!(leadership.fencing_token() < of_api.fencing_token());
    let next = std::thread::spawn(move || two.lead());
    leadership.resign().unwrap();
    let next = next.join().unwrap().unwrap();
    assert_eq!(
        discovery.leader("web").unwrap().as_deref(),
        Some("127.0.1.1:2")
    );
    assert_eq!(
        next.key(),
        client.get_prefix("/services/.leader/web/").unwrap()[0].key()
    );
    drop(next);
    eventually(SOON, "nobody leads", || {
        discovery.leader("web").unwrap().is_none().then_some(())
    });
    let error = discovery.leader("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}
