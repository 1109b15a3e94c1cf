//! Calls a service of which one instance fails: it is ejected, and used again when it answers.
//!
//! ```sh
//! cargo run --example balance
//! ```
//!
//! Three servers are registered, and one of them answers no call, as if it had lost its database. No call of the
//! client fails: each that meets this server is tried with another one. After five of them it gets no calls for
//! a time, and then one at a time until five were answered.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::balance::{Attempt, CallError, Ejection};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Balance, Client, Discovery, Instance, Registrar, ServiceView};

static BROKEN: AtomicBool = AtomicBool::new(true);

/// Answers each connection with one byte, but `web-3` does not while it is broken.
fn serve(id: &str, listener: &TcpListener) {
    for mut connection in listener.incoming().flatten() {
        if id != "web-3" || !BROKEN.load(Ordering::Relaxed) {
            let _ = connection.write_all(b"!");
        }
    }
}

/// Calls the service until `done`; returns how many calls each instance answered.
fn calls(
    view: &ServiceView,
    done: impl Fn() -> bool,
) -> Result<BTreeMap<String, usize>, CallError<io::Error>> {
    let (mut answered, end) = (BTreeMap::new(), Instant::now() + Duration::from_secs(30));
    while !done() && Instant::now() < end {
        let id = view.call(|instance| {
            let answer = TcpStream::connect(&instance.addr)
                .and_then(|mut connection| connection.read_exact(&mut [0]));
            match answer {
                Ok(()) => Attempt::Succeeded(instance.id.clone()),
                // This call has no effect, so another instance may be tried.
                Err(error) => Attempt::Retry(error),
            }
        })?;
        *answered.entry(id).or_insert(0) += 1;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(answered)
}

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;
    let registrar = Registrar::builder(&client).start()?;
    let mut registrations = Vec::new();
    for id in ["web-1", "web-2", "web-3"] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let instance = Instance::listening("web", &listener)?.id(id);
        registrations.push(registrar.register(instance)?);
        thread::spawn(move || serve(id, &listener));
    }
    let view = Discovery::new(&client)
        .balance(Balance::LeastInFlight)
        .ejection(Ejection::default().base_time(Duration::from_secs(1)))
        .service("web")?;
    view.wait_for(3, Duration::from_secs(10))?;

    println!(
        "answered: {:?}",
        calls(&view, || !view.ejected().is_empty())?
    );
    println!("ejected: {}", view.ejected().first().ok_or("none")?.id);

    BROKEN.store(false, Ordering::Relaxed);
    println!(
        "answered: {:?}",
        calls(&view, || view.ejected().is_empty())?
    );
    println!("used again: {}", view.ejected().is_empty());
    Ok(())
}
