//! Models: the files of the crate that hand something from thread to thread, run in every order of their threads.
//!
//! The code under test is that of `src/`, which is compiled here against the stand-ins of this package. A model is a
//! small program of two to four threads with assertions. loom runs it once for each order in which the operations of
//! its threads can happen, and reports a failed assertion, a panic, and a deadlock: a thread that nobody wakes.
//!
//! Not covered: tokio, parking_lot and crossbeam themselves, time limits (time does not pass), sockets, and panics.
//!
//! ```text
//! models            all models
//! models NAME...    those with one of these names, or parts of them
//! ```

// The paths in the files of the crate have these names. `error` and `types` are symbolic links, because a file with
// modules of its own below it cannot be named by a path.
extern crate stand_ins as crossbeam_channel;
extern crate stand_ins as parking_lot;
extern crate stand_ins as tokio;

mod client;
mod discovery;
mod error;
mod grpc;
mod harness;
mod observe;
mod replica;
mod rpc;
mod runtime;
mod types;
mod util;
#[path = "../../../src/worker.rs"]
mod worker;
mod worker_model;

use error::ErrorKind;
use harness::Model;

fn main() -> std::process::ExitCode {
    let models: Vec<Model> = [
        runtime::models(),
        grpc::models(),
        rpc::MODELS.to_vec(),
        replica::MODELS.to_vec(),
        worker_model::MODELS.to_vec(),
        discovery::models(),
    ]
    .concat();
    harness::run(&models, &std::env::args().skip(1).collect::<Vec<_>>())
}
