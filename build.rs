//! Compiles the wire contract in `proto/` into messages, the unary methods that take them, and client
//! stubs for the methods that stream.
//!
//! `protox` parses the files in Rust, so no `protoc` has to be installed.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use prost_build::{Method, Service, ServiceGenerator};

/// Messages that carry a password, a hash of one, or a token. They get no derived `Debug`;
/// `src/grpc/etcd_rs_proto.rs` gives each one that hides the secret.
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
    let stubs = tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .codec_path("crate::grpc::Codec")
        .service_generator();
    prost_build::Config::new()
        .bytes(["."])
        .skip_debug(SECRET)
        .service_generator(Box::new(Methods { stubs }))
        .compile_fds(descriptors)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    for entry in fs::read_dir(out)? {
        use_our_imports(&entry?.path())?;
    }
    Ok(())
}

/// What is made of a service.
struct Methods {
    /// tonic's own, for the methods that stream.
    stubs: Box<dyn ServiceGenerator>,
}

impl ServiceGenerator for Methods {
    fn generate(&mut self, mut service: Service, code: &mut String) {
        let streams = |method: &Method| method.client_streaming || method.server_streaming;
        let duplex = |method: &&Method| method.client_streaming && method.server_streaming;
        let (streaming, unary) = std::mem::take(&mut service.methods)
            .into_iter()
            .partition::<Vec<_>, _>(streams);
        let tied = unary.iter().map(|method| ("Unary", method));
        for (kind, method) in tied.chain(streaming.iter().filter(duplex).map(|m| ("Duplex", m))) {
            let path = format!(
                "/{}.{}/{}",
                service.package, service.proto_name, method.proto_name
            );
            let (request, reply) = (&method.input_type, &method.output_type);
            // Writing to a string does not fail.
            let _ = writeln!(
                code,
                "impl crate::grpc::etcd_rs_proto::{kind} for {request} {{\n    \
                     type Reply = {reply};\n    \
                     const PATH: &'static str = \"{path}\";\n\
                     fn header(reply: &{reply}) -> Option<&crate::grpc::etcd_rs_proto::etcdserverpb::ResponseHeader> {{\n        \
                         reply.header.as_ref()\n    \
                     }}\n\
                 }}"
            );
        }
        if !streaming.is_empty() {
            service.methods = streaming;
            self.stubs.generate(service, code);
        }
    }

    fn finalize(&mut self, code: &mut String) {
        self.stubs.finalize(code);
    }

    fn finalize_package(&mut self, package: &str, code: &mut String) {
        self.stubs.finalize_package(package, code);
    }
}

/// `tonic::codegen` is a feature of tonic that brings `async-trait`, which only servers need, and with it
/// a second `syn`. The stubs take the same names from a module of ours.
fn use_our_imports(file: &Path) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(
        file,
        text.replace("tonic::codegen", "crate::grpc::etcd_rs_proto::codegen"),
    )
}
