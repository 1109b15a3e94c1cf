//! The structure of the sources: no file imports from a layer above its own, files that decide do no I/O, no
//! files import each other in a circle, and no file is too long.

mod circles;
mod file_sizes;
mod imports;
mod sources;
mod tokens;
mod wall_clock;

/// The layer of each module; the first entry that contains a file counts. A file may use its own layer and
/// those below.
const LAYERS: &[(&str, u8)] = &[
    // A crate of its own, which can use the public API only.
    ("bin", 6),
    ("local", 5),
    ("discovery", 5),
    ("concurrency", 5),
    ("replica/copy", 5),
    // The names and tests of the targets, which are in the modules that they test; what a target reads is below all.
    ("fuzz/input", 0),
    ("fuzz", 5),
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

/// Files that hold decisions only: no tokio, no tonic, no threads, no clock.
const PURE: &[&str] = &[
    "local/proxy/faults.rs",
    "local/proxy/link.rs",
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
    "grpc/timers/table.rs",
    "grpc/connect/address_record.rs",
    "grpc/connect/address_set.rs",
    "grpc/connect/member_picker.rs",
    "grpc/retry.rs",
    "grpc/connect/store_identity.rs",
    "grpc/connect/endpoint.rs",
    "grpc/attempt_failure.rs",
    "grpc/attempts.rs",
    "grpc/member_condition.rs",
    "grpc/message_splitter.rs",
    "grpc/oversized_message.rs",
    "grpc/token/state.rs",
    "util/secret.rs",
    "rpc/cluster/member.rs",
    "rpc/cluster/peer_url.rs",
    "rpc/maintenance/version.rs",
    "rpc/maintenance/snapshot/verifier.rs",
    "rpc/kv/paging.rs",
    "rpc/probe/http_reply.rs",
    "rpc/probe/question.rs",
    "rpc/probe/url.rs",
    "rpc/kv/compare.rs",
    "rpc/lease/renewal_schedule/",
    "rpc/watch/state/",
    "rpc/watch/event.rs",
    "rpc/watch/latest_slots.rs",
    "rpc/watch/turn.rs",
    "rpc/watch/watch_request.rs",
    "replica/copy/batch.rs",
    "replica/copy/difference.rs",
    "grpc/connect/dns_srv/message.rs",
    "replica/mirror/contents.rs",
    "replica/mirror/event.rs",
    "replica/mirror/key_tree.rs",
    "observe/latencies.rs",
    "observe/metrics.rs",
    "concurrency/key_use.rs",
    "concurrency/nest.rs",
    "concurrency/stm/attempt.rs",
    "discovery/address.rs",
    "discovery/balance/attempt.rs",
    "discovery/balance/balance.rs",
    "discovery/balance/call_window.rs",
    "discovery/balance/ejection.rs",
    "discovery/balance/filter.rs",
    "discovery/balance/outliers.rs",
    "discovery/balance/peak_ewma.rs",
    "discovery/balance/pick_schedule.rs",
    "discovery/balance/pool.rs",
    "discovery/balance/pool/choice.rs",
    "discovery/balance/rendezvous.rs",
    "discovery/balance/retry_budget.rs",
    "discovery/balance/settings.rs",
    "discovery/balance/slots.rs",
    "discovery/balance/stable_hash.rs",
    "discovery/balance/subset.rs",
    "discovery/balance/tier.rs",
    "discovery/balance/weight_tree.rs",
    "discovery/balance/zone_share.rs",
    "discovery/check/check_state.rs",
    "discovery/check/consequence.rs",
    "discovery/check/health.rs",
    "discovery/check/instance_health.rs",
    "discovery/check/probe_schedule.rs",
    "discovery/check/silence.rs",
    "discovery/resolve/audit.rs",
    "discovery/resolve/cache_file.rs",
    "discovery/resolve/cache_plan.rs",
    "discovery/resolve/catalog_split.rs",
    "discovery/resolve/freshness.rs",
    "discovery/resolve/hold.rs",
    "discovery/resolve/merge.rs",
    "discovery/resolve/override_stage.rs",
    "discovery/resolve/pick_edits.rs",
    "discovery/resolve/probe_plan.rs",
    "discovery/resolve/protection.rs",
    "discovery/resolve/service_list.rs",
    "discovery/register/batch.rs",
    "discovery/register/batch_plan.rs",
    "discovery/register/batch_plan/queues.rs",
    "discovery/register/batch_plan/refusal_backoff.rs",
    "discovery/register/step_size.rs",
    "discovery/register/on_conflict.rs",
    "discovery/register/batch_size.rs",
    "discovery/resolve/removal_cause.rs",
    "discovery/resolve/change.rs",
    "discovery/resolve/change_backlog.rs",
    "discovery/overrides/operator_override.rs",
    "discovery/register/owned_key.rs",
    "discovery/register/owned_key/known.rs",
    "discovery/register/owned_keys.rs",
    "discovery/register/verdict.rs",
    "discovery/register/key_phase.rs",
    "discovery/register/key_step.rs",
    "discovery/codec.rs",
    "discovery/codec/bad_value.rs",
    "discovery/resolve/directory.rs",
    "discovery/register/contention_backoff.rs",
    "discovery/register/registrar_leases.rs",
    "discovery/register/key_queue.rs",
    "discovery/codec/format.rs",
    "discovery/codec/native.rs",
    "discovery/codec/path.rs",
    "discovery/codec/plain.rs",
    "discovery/register/refusal.rs",
    "discovery/status.rs",
    "concurrency/candidates.rs",
    "concurrency/queue_position.rs",
];

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
    for source in sources::library() {
        let (name, code) = (&source.name, source.code());
        // The crate root re-exports from every layer; docs.rs has pages and no code.
        if matches!(name.as_str(), "lib.rs" | "docs.rs") {
            continue;
        }
        let own = layer(name).unwrap_or_else(|| panic!("{name} is on no layer"));
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
fn decision_files_do_no_io_and_read_no_clock() {
    let mut found = Vec::new();
    let names: Vec<String> = sources::library().into_iter().map(|s| s.name).collect();
    for pure in PURE {
        let exists = names.iter().any(|name| name.starts_with(pure));
        assert!(exists, "{pure} is no file of the library");
    }
    for source in sources::library() {
        let (name, code) = (&source.name, source.code());
        if source.is_test()
            || !PURE
                .iter()
                .any(|pure| name == pure || pure.ends_with('/') && name.starts_with(*pure))
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
            // `panicking` starts no thread.
            let code = code.replace("std::thread::panicking", "");
            if code.contains(forbidden) {
                found.push(format!("{name} mentions {forbidden}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_runtime_does_not_import_etcd_code_and_only_grpc_imports_tonic() {
    for source in sources::library() {
        let (name, code) = (&source.name, source.code());
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
        if !name.starts_with("grpc/") {
            assert!(!code.contains("tonic::"), "{name} uses tonic");
        }
    }
}

#[test]
fn discovery_and_concurrency_use_only_the_public_api() {
    // The exceptions are `Pending`, error construction and backoff.
    for source in sources::library() {
        let (name, code) = (&source.name, source.code());
        if !name.starts_with("discovery/") && !name.starts_with("concurrency/") {
            continue;
        }
        for inside in [
            "crate::grpc",
            "crate::rpc::request",
            "crate::client::builder",
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

/// `util/atomic` has them for targets whose processor does not.
#[test]
fn atomics_of_64_bits_come_from_util() {
    let mut found = Vec::new();
    for source in sources::library() {
        if source.name == "util/atomic.rs" || source.is_test() {
            continue;
        }
        let code = source.code();
        for imported in code.split("sync::atomic::").skip(1) {
            let end = if imported.starts_with('{') { '}' } else { ';' };
            let names = imported.split(end).next().unwrap_or_default();
            if names.contains("I64") || names.contains("U64") {
                found.push(format!("{} imports {names}", source.name));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
