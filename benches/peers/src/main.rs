//! Measures this client beside other clients of etcd: same server, same data, in turn.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [--quick] [--rounds N] [--only WORK] [--write]
//! ```
//!
//! Each peer is a program that does one work and prints one line of JSON. Those in Rust are this program itself,
//! called as `peers peer NAME ENDPOINT WORK KEY=VALUE...`; those in Go and Java are in `go/` and `java/`. A peer
//! whose toolchain is missing is skipped, and the output says so.
//!
//! The runner starts one etcd, writes the data, and runs every work with every peer in each round; the order of the
//! peers rotates. It prints tables of medians and of the medians of the ratios within a round. `--write` puts
//! the tables into `docs/performance.md` and the picture into `docs/peers.svg`.

mod args;
mod child;
mod figures;
mod peer;
mod picture;
mod programs;
mod runner;
mod section;
mod server;
mod tables;
mod works;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == "peer" => peer::run(rest),
        _ => args::Args::parse(&args).and_then(|args| runner::run(&args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
