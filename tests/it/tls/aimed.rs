//! Aimed views, member lists and snapshots under TLS.

use std::io;

use etcd_blocking::{Client, ErrorKind};

use super::Secure;

#[test]
fn aimed_views_and_snapshots_use_the_tls_settings_of_their_client() {
    let secure = Secure::start();
    let client = secure.client();
    client.put("k", "v").unwrap();
    let endpoint = secure.etcd.endpoint();
    let bare = secure.etcd.client_addr().to_string();
    for text in [&endpoint, &bare] {
        let view = client.at(text).unwrap();
        assert_eq!(view.endpoints(), [&*endpoint]);
        assert_eq!(view.get("k").unwrap().unwrap().value(), "v");
        let copy = view.maintenance().snapshot_to(io::sink()).unwrap();
        assert_eq!(copy.endpoint, endpoint);
    }
    assert!(client.maintenance().health().unwrap()[0].is_healthy());
    assert_eq!(client.sync_endpoints().unwrap(), [&*endpoint]);
    let plain = format!("http://{bare}");
    for error in [
        client.at(&plain).unwrap_err(),
        client.set_endpoints([&plain]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    assert_eq!(client.endpoints(), [&*endpoint]);
    let in_the_clear = Client::connect([&plain]).unwrap();
    assert!(in_the_clear.at(&endpoint).is_err());
}
