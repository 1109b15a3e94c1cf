//! Events that are lost below a view, and audits that find it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use etcd_blocking::{Discovery, Freshness};

use super::*;
use crate::support::frames::DATA;
use crate::support::raw::RawServer;
use crate::support::server::{EARLY_PROGRESS, skip_before};
use crate::support::wait::eventually;

/// Forwards connections to etcd. While `is_losing`, it loses each message of the server that contains
/// `marker`.
struct LosingProxy {
    server: RawServer,
    is_losing: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
}

impl LosingProxy {
    fn start(etcd: SocketAddr, marker: &'static [u8]) -> Self {
        let is_losing = Arc::new(AtomicBool::new(false));
        let lost = Arc::new(AtomicUsize::new(0));
        let (losing, count) = (Arc::clone(&is_losing), Arc::clone(&lost));
        let server = RawServer::start(move |client, _| {
            let Ok(server) = TcpStream::connect(etcd) else {
                return;
            };
            let (mut up, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let requests = thread::spawn(move || {
                let _ = io::copy(&mut up, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let _ = replies(server, client, |message| {
                let loses = losing.load(Ordering::SeqCst)
                    && message.windows(marker.len()).any(|part| part == marker);
                count.fetch_add(usize::from(loses), Ordering::SeqCst);
                loses
            });
            let _ = requests.join();
        });
        LosingProxy {
            server,
            is_losing,
            lost,
        }
    }
}

/// Forwards the frames of a server, without the data that `loses` accepts.
fn replies(
    mut server: TcpStream,
    mut client: TcpStream,
    loses: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    loop {
        let mut head = [0; 9];
        if let Err(error) = server.read_exact(&mut head) {
            let _ = client.shutdown(std::net::Shutdown::Both);
            return Err(error);
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        server.read_exact(&mut payload)?;
        if head[3] != DATA || !loses(&payload) {
            client.write_all(&[&head[..], &payload].concat())?;
        }
    }
}

#[test]
fn an_audit_finds_and_heals_events_that_the_watch_lost() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let near = client(&etcd);
    let proxies = [(); 2].map(|()| LosingProxy::start(etcd.client_addr(), b"/services/web/lost"));
    let open = |proxy: &LosingProxy, every| {
        let client = Client::connect([proxy.server.endpoint()]).unwrap();
        let discovery = Discovery::new(&client).audit_every(every);
        (discovery.service("web").unwrap(), client)
    };
    put(&near, "lost-leaver", "127.0.1.1:1", 1, None);
    put(&near, "stays", "127.0.1.1:2", 1, None);
    let (audited, client) = open(&proxies[0], Duration::from_millis(100));
    let (blind, blind_client) = open(&proxies[1], Duration::ZERO);
    eventually(SOON, "audits of a correct view", || {
        (client.metrics().views.audits >= 2).then_some(())
    });
    assert_eq!(client.metrics().views.repairs, 0);
    let mut reader = Reader::default();
    reader.until(&audited, "both", |reader| reader.known.len() == 2);

    let set_losing = |on| {
        for proxy in &proxies {
            proxy.is_losing.store(on, Ordering::SeqCst);
        }
    };
    let lost = |proxy: &LosingProxy| proxy.lost.load(Ordering::SeqCst);
    set_losing(true);
    delete(&near, "lost-leaver");
    eventually(SOON, "both views lost the event", || {
        proxies.iter().all(|proxy| lost(proxy) >= 1).then_some(())
    });
    put(&near, "lost-joiner", "127.0.1.1:3", 1, None);
    // An audit may have healed the other one already.
    eventually(SOON, "a view without audits lost both events", || {
        (lost(&proxies[1]) >= 2).then_some(())
    });
    set_losing(false);

    let healed = ["lost-joiner", "stays"];
    reader.until(&audited, "the view is healed", |reader| {
        ids(reader.known.values()) == healed
    });
    assert_eq!(ids(audited.snapshot().iter()), healed);
    eventually(SOON, "it is live again", || {
        (audited.freshness() == Freshness::Live).then_some(())
    });
    let views = client.metrics().views;
    assert!(
        views.repairs >= 1 && views.audits > views.repairs,
        "{views:?}"
    );
    // Later events arrive, and nothing else is repaired.
    put(&near, "later", "127.0.1.1:4", 1, None);
    reader.until(&audited, "later events", |reader| reader.known.len() == 3);
    let audits = client.metrics().views.audits;
    eventually(SOON, "further audits", || {
        (client.metrics().views.audits >= audits + 2).then_some(())
    });
    assert_eq!(client.metrics().views.repairs, views.repairs);

    // Without audits, a view does not know.
    let last = near
        .put("/services/web/end", r#"{"addr":"127.0.1.1:5"}"#)
        .unwrap();
    let shown = blind.wait_revision(last.revision(), SOON).unwrap();
    assert_eq!(ids(shown.iter()), ["end", "later", "lost-leaver", "stays"]);
    assert_eq!(blind_client.metrics().views.audits, 0);
}
