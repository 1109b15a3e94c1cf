//! One process of the service: it listens, registers and answers.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::health::Check;
use etcd_blocking::{Client, Instance, Registrar};

use crate::program::{Ending, say};
use crate::{SERVICE, TTL, states};

/// How long it answers after it has left. Callers see that it left within milliseconds; until then they
/// still get an answer.
const LINGER: Duration = Duration::from_millis(300);

/// Serves as the instance `name` until stdin ends, and prints its states. A line `fail` makes its health
/// check fail, a line `hang up` makes it answer nobody, and any other line ends both.
pub(crate) fn serve(name: &str, endpoint: &str) -> Result<(), Ending> {
    let failed = |error: io::Error| Ending::Failed(error.to_string());

    // It listens before it registers, so that every caller that discovers it is answered. Port 0 is
    // any free port, and `listening` registers the one that was chosen.
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let instance = Instance::listening(SERVICE, &listener)?.id(name);
    let greeting = format!("{name}, pid {}\n", std::process::id());
    let hangs_up = Arc::new(AtomicBool::new(false));
    let is_mute = Arc::clone(&hangs_up);
    thread::spawn(move || {
        for mut caller in listener.incoming().flatten() {
            if !is_mute.load(SeqCst) {
                // A caller that has gone is no failure of the service.
                let _ = caller.write_all(greeting.as_bytes());
            }
        }
    });

    let client = Client::connect(endpoint)?;
    let registrar = Registrar::builder(&client).ttl(TTL).start()?;
    let is_full = Arc::new(AtomicBool::new(false));
    let disk = Arc::clone(&is_full);
    let check = Check::run(move || match disk.load(SeqCst) {
        false => Ok(()),
        true => Err("full"),
    });
    let check = check.name("disk").interval(Duration::from_millis(200));
    let registration = registrar.register_checked(instance, check)?;

    // A program need not read the states. This demonstration prints them.
    let changes = registration.states().clone();
    let printer = thread::spawn(move || {
        changes
            .iter()
            .try_for_each(|state| say(states::describe(&state)))
    });

    // The demonstration closes stdin to make this process leave. stdin is closed, too, when the
    // demonstration is killed: no process stays behind.
    for line in io::stdin().lines().map_while(Result::ok) {
        is_full.store(line == "fail", SeqCst);
        hangs_up.store(line == "hang up", SeqCst);
    }

    drop(registration);
    thread::sleep(LINGER);
    printer.join().unwrap_or(Err(Ending::Unread))
}
