//! One process of the service: what a server does to be found.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use etcd_blocking::{Client, Instance, Registrar};

use crate::program::{Ending, say};
use crate::{SERVICE, TTL, states};

/// How long it goes on answering after it has left: others hear of that within milliseconds, and
/// whoever was about to call still gets an answer.
const LINGER: Duration = Duration::from_millis(300);

/// Serves, registered as `name`, until stdin ends; states are lines on stdout.
pub(crate) fn serve(name: &str, endpoint: &str) -> Result<(), Ending> {
    let failed = |error: io::Error| Ending::Failed(error.to_string());

    // First listen, then register: whoever finds it can call it. Port 0 is any free one, and
    // `listening` registers the one that it became.
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let instance = Instance::listening(SERVICE, &listener)?.id(name);
    let greeting = format!("{name}, pid {}\n", std::process::id());
    thread::spawn(move || {
        for mut caller in listener.incoming().flatten() {
            // A caller that has gone is no trouble of the service.
            let _ = caller.write_all(greeting.as_bytes());
        }
    });

    let client = Client::connect([endpoint])?;
    let registrar = Registrar::builder(&client).ttl(TTL).start()?;
    let registration = registrar.register(instance)?;

    // Nobody needs to look at the states. This demonstration shows them.
    let changes = registration.states().clone();
    let printer = thread::spawn(move || {
        changes
            .iter()
            .try_for_each(|state| say(states::describe(&state)))
    });

    // The end of stdin is how the demonstration asks to leave. It also ends when that is killed: no
    // process stays behind.
    let _ = io::stdin().read_to_end(&mut Vec::new());

    drop(registration);
    thread::sleep(LINGER);
    printer.join().unwrap_or(Err(Ending::Unread))
}
