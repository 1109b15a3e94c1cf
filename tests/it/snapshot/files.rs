//! Snapshots saved to files: private, complete, and replaced in one step.

use super::*;

// Case: M-06
#[test]
fn a_file_is_private_complete_and_replaced_in_one_step() {
    let cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    fill(&client, 1);
    let folder = Folder::new();
    let file = folder.file();
    fs::write(&file, "an older backup").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    // A temporary file that a killed program left two days ago.
    let part = fs::File::create(folder.0.join("backup.db.part.0123456789abcdef")).unwrap();
    let then = SystemTime::now() - Duration::from_secs(48 * 3600);
    part.set_modified(then).unwrap();
    let mut progress: Vec<SnapshotProgress> = Vec::new();
    let saved = client
        .maintenance()
        .snapshot_to_file(&file, |p| progress.push(p))
        .unwrap();
    assert_eq!(folder.names(), ["backup.db"]);
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), saved.size);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(bytes[bytes.len() - 32..], saved.sha256);
    // With several endpoints, the snapshot is of one member, which is named.
    assert!(cluster.endpoints().contains(&saved.endpoint));
    assert!(progress.windows(2).all(|w| w[0].written < w[1].written));
    assert!(progress.iter().all(|p| p.total == saved.size));
    assert_eq!(progress.last().unwrap().written, saved.size);
    // An aimed view chooses the member.
    for endpoint in cluster.endpoints() {
        let view = client.at(&endpoint).unwrap();
        let copy = view.maintenance().snapshot_to(io::sink()).unwrap();
        assert_eq!(copy.endpoint, endpoint);
    }
}

// Fault: W10
#[test]
fn two_snapshots_to_one_path_do_not_interfere() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 2);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.limit_data(1 << 20);
    let cut = Client::connect([proxy.endpoint()]).unwrap();
    let folder = Folder::new();
    let file = folder.file();
    let mut second = None;
    let saved = client
        .maintenance()
        .snapshot_to_file(&file, |_| {
            second.get_or_insert_with(|| {
                let cut = cut.with_timeout(Duration::from_secs(2));
                cut.maintenance()
                    .snapshot_to_file(&file, |_| {})
                    .unwrap_err()
            });
        })
        .unwrap();
    assert!(second.is_some(), "the second one was killed in the middle");
    assert_eq!(folder.names(), ["backup.db"]);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(bytes.len() as u64, saved.size);
    assert_eq!(bytes[bytes.len() - 32..], saved.sha256);
}

#[test]
fn an_unwritable_path_is_an_error_before_anything_is_sent() {
    // No server listens there.
    let client = client("http://127.0.0.1:1");
    let error = within(SOON, move || {
        client
            .maintenance()
            .snapshot_to_file("/nowhere/at/all/backup.db", |_| {})
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Os);
    assert!(
        error.to_string().contains("/nowhere/at/all/backup.db"),
        "{error}"
    );
    assert!(error.source().is_some());
}
