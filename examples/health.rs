//! A health check that fails and recovers: readers see why, and pick the instance only while it is healthy.
//!
//! ```sh
//! cargo run --example health
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::health::Check;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Change, Client, Discovery, Instance, Registrar};

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;

    // A program that serves /ready, and answers 503 while it is not ready.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let ready = Arc::new(AtomicBool::new(true));
    let is_ready = Arc::clone(&ready);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let status = if is_ready.load(SeqCst) {
                "200 OK"
            } else {
                "503 Not Ready"
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });

    let view = Discovery::new(&client).service("api")?;
    let changes = view.changes().clone();
    let registrar = Registrar::builder(&client).start()?;
    let check = Check::http(format!("http://{addr}/ready"))
        .interval(Duration::from_millis(200))
        .rise(2)
        .fall(3);
    // It is registered when the check has passed.
    let _api = registrar.register_checked(Instance::new("api", addr), check)?;

    for change in changes.iter() {
        match change {
            Change::Added(instance) => {
                println!("added: {}", instance.status);
                ready.store(false, SeqCst);
            }
            Change::Updated { instance, .. } if !instance.is_pickable() => {
                println!("failing: {}: {}", instance.status, instance.reason);
                println!("picked: {}", view.pick().is_some());
                ready.store(true, SeqCst);
            }
            Change::Updated { instance, .. } => {
                println!("recovered: {}", instance.status);
                break;
            }
            _ => {}
        }
    }
    println!("picked: {}", view.pick().is_some());
    Ok(())
}
