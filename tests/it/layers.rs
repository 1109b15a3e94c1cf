//! The layers of the house hold: no file imports from above its own, and what decides does no I/O.

use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules, and the line they stand on; a file may use its own line and those below.
const LAYERS: &[(&str, u8)] = &[
    ("local", 5),
    ("discovery", 5),
    ("concurrency", 5),
    ("cache", 5),
    ("make_mirror", 5),
    ("client", 4),
    ("config", 4),
    ("mirror", 4),
    ("pages", 4),
    ("srv", 4),
    ("auth", 3),
    ("kv", 3),
    ("lease", 3),
    ("watch", 3),
    ("services", 3),
    ("cluster", 3),
    ("maintenance", 3),
    ("request", 3),
    ("rt", 2),
    ("transport", 1),
    ("observe", 1),
    ("etcd_rs_proto", 1),
    ("secret", 0),
    ("error", 0),
    ("secret", 0),
    ("types", 0),
    ("key", 0),
    ("into_bytes", 0),
    ("namespace", 0),
    ("time", 0),
    ("backoff", 0),
    ("chance", 0),
];

/// What decides: no tokio, no tonic, no threads, no clock.
const PURE: &[&str] = &[
    "error.rs",
    "error/",
    "types.rs",
    "key.rs",
    "into_bytes.rs",
    "namespace.rs",
    "time.rs",
    "backoff.rs",
    "config/env.rs",
    "config/span.rs",
    "transport/address_record.rs",
    "transport/address_set.rs",
    "transport/picker.rs",
    "transport/retry.rs",
    "transport/store_identity.rs",
    "transport/endpoint.rs",
    "transport/outline.rs",
    "transport/token/state.rs",
    "secret.rs",
    "cluster/member.rs",
    "cluster/peer_url.rs",
    "maintenance/version.rs",
    "maintenance/snapshot/verify.rs",
    "kv/paging.rs",
    "kv/compare.rs",
    "lease/keeper.rs",
    "watch/state/",
    "watch/event.rs",
    "watch/latest/slots.rs",
    "watch/request.rs",
    "make_mirror/batch.rs",
    "make_mirror/difference.rs",
    "srv/message.rs",
    "mirror/picture.rs",
    "mirror/event.rs",
    "observe/latencies.rs",
    "observe/metrics.rs",
    "concurrency/key_use.rs",
    "concurrency/nest.rs",
    "concurrency/stm/attempt.rs",
    "discovery/address.rs",
    "discovery/balance.rs",
    "discovery/batch.rs",
    "discovery/batch_plan.rs",
    "discovery/batch_plan/queues.rs",
    "discovery/batch_size.rs",
    "discovery/causes.rs",
    "discovery/change.rs",
    "discovery/change_backlog.rs",
    "discovery/claim.rs",
    "discovery/codec.rs",
    "discovery/directory.rs",
    "discovery/dispute.rs",
    "discovery/leases.rs",
    "discovery/turns.rs",
    "discovery/native.rs",
    "discovery/plain.rs",
    "discovery/refusal.rs",
    "discovery/status.rs",
    "concurrency/candidates.rs",
    "concurrency/place.rs",
];

/// Every source file, by its path below `src/`, without its tests and comments.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("\nmod tests {").next().unwrap_or_default();
            let code = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            files.push((name, code.collect::<Vec<_>>().join("\n")));
        }
    }
    assert!(files.len() > 60, "the sources are read");
    files
}

fn is_test(name: &str) -> bool {
    ["tests.rs", "tests/", "model.rs", "world"]
        .iter()
        .any(|part| name.contains(part))
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

#[test]
fn no_file_imports_from_a_layer_above_its_own() {
    let mut crossings = Vec::new();
    for (name, code) in sources() {
        let module = name.split(['/', '.']).next().unwrap_or_default();
        // The front door shows everything.
        if module == "lib" {
            continue;
        }
        let own = layer(module).unwrap_or_else(|| panic!("{name} is on no layer"));
        for used in code.split("crate::").skip(1) {
            let used: String = used
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if layer(&used).is_some_and(|other| other > own) {
                crossings.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(crossings.is_empty(), "{crossings:#?}");
}

#[test]
fn what_decides_does_no_io_and_reads_no_clock() {
    let mut found = Vec::new();
    for (name, code) in sources() {
        if is_test(&name)
            || !PURE
                .iter()
                .any(|pure| name == *pure || pure.ends_with('/') && name.starts_with(pure))
        {
            continue;
        }
        for forbidden in [
            "tokio",
            "tonic",
            "std::thread",
            "thread::spawn",
            "Instant::now",
            "clock::",
            "chance::fraction",
            "chance::number",
        ] {
            // Asking whether this thread panics is no thread of its own.
            let code = code.replace("std::thread::panicking", "");
            if code.contains(forbidden) {
                found.push(format!("{name} mentions {forbidden}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_runtime_knows_nothing_about_etcd_and_tonic_stays_below() {
    for (name, code) in sources() {
        let module = name.split(['/', '.']).next().unwrap_or_default();
        if module == "rt" {
            for etcd in ["transport", "etcd_rs_proto", "tonic", "prost"] {
                assert!(!code.contains(etcd), "{name} mentions {etcd}");
            }
        }
        if matches!(layer(module), Some(0 | 2 | 4 | 5)) {
            assert!(!code.contains("tonic::"), "{name} uses tonic");
        }
    }
}

#[test]
fn discovery_and_concurrency_stand_on_what_users_have() {
    // Two things besides: how an error is put together, and how long to wait before trying again.
    for (name, code) in sources() {
        if !name.starts_with("discovery/") && !name.starts_with("concurrency/") {
            continue;
        }
        for inside in [
            "crate::transport",
            "crate::etcd_rs_proto",
            "crate::request",
            "crate::config",
            "tokio",
        ] {
            assert!(!code.contains(inside), "{name} uses {inside}");
        }
        let of_rt = code.replace("crate::rt::Pending", "");
        assert!(
            !of_rt.contains("crate::rt"),
            "{name} uses more of rt than Pending"
        );
    }
}
