//! The layers of the house hold: no file imports from above its own, and what decides does no I/O.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules, and the layer that each is in; the first that contains a file decides. A file may use its
/// own layer and those below.
const LAYERS: &[(&str, u8)] = &[
    ("local", 5),
    ("discovery", 5),
    ("concurrency", 5),
    ("replica/copy", 5),
    ("worker", 4),
    ("client", 4),
    ("replica", 4),
    ("rpc", 3),
    ("runtime", 2),
    ("grpc", 1),
    ("observe", 1),
    ("error", 0),
    ("types", 0),
    ("util", 0),
];

/// What decides: no tokio, no tonic, no threads, no clock.
const PURE: &[&str] = &[
    "error.rs",
    "error/",
    "types.rs",
    "types/key_range.rs",
    "types/into_bytes.rs",
    "rpc/namespace.rs",
    "util/boot_time.rs",
    "util/backoff.rs",
    "client/config/env.rs",
    "client/config/span.rs",
    "grpc/connect/address_record.rs",
    "grpc/connect/address_set.rs",
    "grpc/connect/member_picker.rs",
    "grpc/retry.rs",
    "grpc/connect/store_identity.rs",
    "grpc/connect/endpoint.rs",
    "grpc/outline.rs",
    "grpc/token/state.rs",
    "util/secret.rs",
    "rpc/cluster/member.rs",
    "rpc/cluster/peer_url.rs",
    "rpc/maintenance/version.rs",
    "rpc/maintenance/snapshot/verify.rs",
    "rpc/kv/paging.rs",
    "rpc/kv/compare.rs",
    "rpc/lease/renewal_schedule.rs",
    "rpc/watch/state/",
    "rpc/watch/event.rs",
    "rpc/watch/latest/slots.rs",
    "rpc/watch/request.rs",
    "replica/copy/batch.rs",
    "replica/copy/difference.rs",
    "grpc/connect/dns_srv/message.rs",
    "replica/mirror/contents.rs",
    "replica/mirror/event.rs",
    "observe/latencies.rs",
    "observe/metrics.rs",
    "concurrency/key_use.rs",
    "concurrency/nest.rs",
    "concurrency/stm/attempt.rs",
    "discovery/address.rs",
    "discovery/resolve/balance.rs",
    "discovery/register/batch.rs",
    "discovery/register/batch_plan.rs",
    "discovery/register/batch_plan/queues.rs",
    "discovery/register/batch_size.rs",
    "discovery/resolve/removal_cause.rs",
    "discovery/resolve/change.rs",
    "discovery/resolve/change_backlog.rs",
    "discovery/register/owned_key.rs",
    "discovery/codec.rs",
    "discovery/resolve/directory.rs",
    "discovery/register/contention_backoff.rs",
    "discovery/register/leases.rs",
    "discovery/register/key_queue.rs",
    "discovery/codec/native.rs",
    "discovery/codec/plain.rs",
    "discovery/register/refusal.rs",
    "discovery/status.rs",
    "concurrency/candidates.rs",
    "concurrency/queue_position.rs",
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
    ["tests.rs", "tests/"]
        .iter()
        .any(|part| name.contains(part))
}

fn layer(path: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| {
            let rest = path.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        })
        .map(|(_, layer)| *layer)
}

#[test]
fn no_file_imports_from_a_layer_above_its_own() {
    let mut crossings = Vec::new();
    for (name, code) in sources() {
        // The crate root re-exports from every layer.
        if name == "lib.rs" {
            continue;
        }
        let own = layer(&name).unwrap_or_else(|| panic!("{name} is on no layer"));
        for used in code.split("crate::").skip(1) {
            let used: String = used
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                .collect();
            let used = used.replace("::", "/");
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
            "jitter::fraction",
            "jitter::number",
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
        if name.starts_with("runtime/") {
            for etcd in [
                "crate::grpc",
                "crate::rpc",
                "etcd_rs_proto",
                "tonic",
                "prost",
            ] {
                assert!(!code.contains(etcd), "{name} mentions {etcd}");
            }
        }
        if matches!(layer(&name), Some(0 | 2 | 4 | 5)) {
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
            "crate::grpc",
            "crate::rpc::request",
            "crate::client::config",
            "tokio",
        ] {
            assert!(!code.contains(inside), "{name} uses {inside}");
        }
        let rest = code.replace("crate::runtime::Pending", "");
        assert!(
            !rest.contains("crate::runtime"),
            "{name} uses more of the runtime than Pending"
        );
    }
}
