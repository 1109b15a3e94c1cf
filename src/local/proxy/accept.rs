//! The threads of a proxy: one accepts connections, two serve each of them.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{connection::Connection, faults::Way, shared::Shared};

/// Write timeout after which a blocked thread checks whether its connection was closed.
const WRITE_SLICE: Duration = Duration::from_millis(20);

/// The time in which a connection to the server must be established.
const DIAL_WITHIN: Duration = Duration::from_secs(1);

/// Accepts connections until the proxy closes, and waits for the end of their threads.
pub(super) fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        let mut switches = shared.switches.lock();
        if switches.closing {
            break;
        }
        let Ok((client, client_addr)) = accepted else {
            // Out of file descriptors: the connection waits in the backlog until there are some.
            drop(switches);
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let lost = switches.faults.black_hole;
        let conn = Connection::new(client, client_addr, lost, switches.limit);
        let conn = Arc::new(conn);
        if switches.cut {
            conn.reset();
        } else {
            switches.open.push(Arc::clone(&conn));
            let upstream = switches.upstream;
            drop(switches);
            let (sharing, serving) = (Arc::clone(shared), Arc::clone(&conn));
            let thread = thread::Builder::new()
                .name("proxy".into())
                .spawn(move || serve(&sharing, &serving, upstream));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(_) => {
                    conn.reset();
                    forget(shared, &conn);
                }
            }
        }
        // Count last: a connection that is counted was accepted or reset.
        drop(conn);
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        threads.retain(|thread| !thread.is_finished());
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Serves one connection until it ends.
fn serve(shared: &Shared, conn: &Arc<Connection>, upstream: SocketAddr) {
    let _ = conn.client.set_nodelay(true);
    let _ = conn.client.set_write_timeout(Some(WRITE_SLICE));
    if conn.lost.load(Ordering::SeqCst) {
        shared.pump(conn, Way::Up, &conn.client, None);
    } else if let Ok(server) = TcpStream::connect_timeout(&upstream, DIAL_WITHIN) {
        let _ = server.set_nodelay(true);
        let _ = server.set_write_timeout(Some(WRITE_SLICE));
        let server = conn.server.get_or_init(|| server);
        thread::scope(|scope| {
            // If the connection was closed during the dial, the pumps notice before their first read.
            let down = || shared.pump(conn, Way::Down, server, Some(&conn.client));
            let thread = thread::Builder::new().name("proxy-down".into());
            match thread.spawn_scoped(scope, down) {
                Ok(_) => shared.pump(conn, Way::Up, &conn.client, Some(server)),
                Err(_) => conn.reset(),
            }
        });
    } else {
        conn.reset();
    }
    forget(shared, conn);
}

fn forget(shared: &Shared, conn: &Arc<Connection>) {
    let mut switches = shared.switches.lock();
    switches.open.retain(|other| !Arc::ptr_eq(other, conn));
}
