//! TLS records per request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

/// Forwards every connection to `server`, and counts the records of application data that clients
/// send (RFC 8446, section 5.1).
fn counting(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let records = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&records);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(server)) else {
                return;
            };
            let (mut answers, mut back) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut answers, &mut back));
            let records = Arc::clone(&counted);
            thread::spawn(move || {
                let mut header = [0; 5];
                while client.read_exact(&mut header).is_ok() {
                    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
                    let mut record = vec![0; 5 + length];
                    record[..5].copy_from_slice(&header);
                    let whole = client.read_exact(&mut record[5..]).is_ok();
                    records.fetch_add(usize::from(record[0] == 23), Ordering::SeqCst);
                    if !whole || server.write_all(&record).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (addr, records)
}

#[test]
fn headers_and_body_of_a_request_are_in_one_tls_record() {
    const PUTS: usize = 100;
    let secure = Secure::start();
    let (addr, records) = counting(secure.etcd.client_addr());
    let client = connect(&format!("https://{addr}"), secure.tls());
    works(&client);
    for value in [vec![b'v'; 10], vec![b'v'; 2000]] {
        let before = records.load(Ordering::SeqCst);
        for _ in 0..PUTS {
            client.put("k", value.clone()).unwrap();
        }
        let sent = records.load(Ordering::SeqCst) - before;
        // A few records are window updates and pings.
        assert!((PUTS..=PUTS + 10).contains(&sent), "{sent} for {PUTS} puts");
    }
}
