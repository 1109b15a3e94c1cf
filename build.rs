//! Compiles the wire contract in `proto/` into messages and client stubs.
//!
//! `protox` parses the files in Rust, so no `protoc` has to be installed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

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
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    for entry in fs::read_dir(out)? {
        use_our_imports(&entry?.path())?;
    }
    Ok(())
}

/// `tonic::codegen` is a feature of tonic that brings `async-trait`, which only servers need, and with it
/// a second `syn`. The stubs take the same names from a module of ours.
fn use_our_imports(file: &Path) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(
        file,
        text.replace("tonic::codegen", "crate::etcd_rs_proto::codegen"),
    )
}
