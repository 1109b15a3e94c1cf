//! Compiles the wire contract in `proto/` into messages and client stubs.
//!
//! `protox` parses the files in Rust, so no `protoc` has to be installed.

use std::error::Error;

/// Messages that carry a password, a hash of one, or a token. They get no derived `Debug`;
/// `src/etcd_rs_proto.rs` gives each one that hides the secret.
const SECRET: [&str; 5] = [
    "authpb.User",
    "etcdserverpb.AuthenticateRequest",
    "etcdserverpb.AuthenticateResponse",
    "etcdserverpb.AuthUserAddRequest",
    "etcdserverpb.AuthUserChangePasswordRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["kv", "auth", "rpc", "lock", "election"].map(|name| format!("proto/{name}.proto"));
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .codec_path("crate::transport::Codec")
        .bytes(".")
        .skip_debug(SECRET)
        .compile_fds(descriptors)?;
    Ok(())
}
