//! Compiles the wire contract in `proto/` into messages, and ties the request of each method to its
//! path and its reply.
//!
//! `protox` parses the files in Rust, so no `protoc` has to be installed. tonic's client needs no
//! generated stubs: the methods of `src/grpc` take the path from the request.

use std::error::Error;
use std::fmt::Write as _;

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

/// The package of gRPC's health service.
const HEALTH: &str = "grpc.health.v1";

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["kv", "auth", "rpc", "lock", "election", "health"]
        .map(|name| format!("proto/{name}.proto"));
    println!("cargo::rerun-if-changed=proto");
    let mut methods = prost_build::Config::new();
    methods.service_generator(Box::new(Methods));
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".")
        .skip_debug(SECRET)
        .compile_fds_with_config(protox::compile(files, ["proto"])?, methods)?;
    Ok(())
}

/// Implements a trait of `src/grpc/etcd_rs_proto.rs` for the request of each method.
struct Methods;

impl ServiceGenerator for Methods {
    fn generate(&mut self, service: Service, code: &mut String) {
        for method in &service.methods {
            let path = format!(
                "/{}.{}/{}",
                service.package, service.proto_name, method.proto_name
            );
            // Only etcd's own replies have a header.
            let header = match service.package.as_str() {
                HEALTH => "None",
                _ => "reply.header.as_ref()",
            };
            // Writing to a string does not fail.
            let _ = match (method.client_streaming, method.server_streaming) {
                (false, false) => unary(method, &path, header, code),
                (false, true) => streaming("ServerStream", method, &path, code),
                (true, _) => streaming("Duplex", method, &path, code),
            };
        }
    }
}

fn unary(method: &Method, path: &str, header: &str, code: &mut String) -> std::fmt::Result {
    let (request, reply) = (&method.input_type, &method.output_type);
    let argument = if header == "None" { "_" } else { "reply" };
    writeln!(
        code,
        "impl crate::grpc::etcd_rs_proto::Unary for {request} {{\n    \
             type Reply = {reply};\n    \
             const PATH: &'static str = \"{path}\";\n\
             fn header({argument}: &{reply}) -> Option<&crate::grpc::etcd_rs_proto::etcdserverpb::ResponseHeader> {{\n        \
                 {header}\n    \
             }}\n\
         }}"
    )
}

fn streaming(kind: &str, method: &Method, path: &str, code: &mut String) -> std::fmt::Result {
    let (request, reply) = (&method.input_type, &method.output_type);
    writeln!(
        code,
        "impl crate::grpc::etcd_rs_proto::Streaming for {request} {{\n    \
             type Reply = {reply};\n    \
             const PATH: &'static str = \"{path}\";\n\
         }}\n\
         impl crate::grpc::etcd_rs_proto::{kind} for {request} {{}}"
    )
}
