//! Moves money between two accounts: with compare and swap, and with `Stm`.
//!
//! ```sh
//! cargo run --example transaction
//! ```

use std::error::Error;

use etcd_blocking::bytes::Bytes;
use etcd_blocking::concurrency::Stm;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Compare, Get, Put, Txn};

fn main() -> Result<(), Box<dyn Error>> {
    let etcd = LocalEtcd::start()?;
    let client = Client::connect(etcd.endpoint())?;
    // Several writes at one revision.
    client.txn(Txn::always([Put::new("a", "100"), Put::new("b", "0")]))?;

    // etcd executes `then` if `a` was not changed since it was read, and `or_else` otherwise.
    let a = client.get("a")?.ok_or("there is no account a")?;
    let unchanged = Compare::mod_revision("a").eq(a.mod_revision());
    let moved = Txn::when([unchanged])
        .then([Put::new("a", "70"), Put::new("b", "30")])
        .or_else([Get::key("a")]);
    println!("moved 30: {}", client.txn(moved)?.succeeded());

    // The closure runs again until nothing that it read was changed before its writes.
    let committed = Stm::new(&client).run(|tx| {
        let (a, b) = (amount(tx.get("a")?), amount(tx.get("b")?));
        tx.put("a", (a - 20).to_string());
        tx.put("b", (b + 20).to_string());
        Ok(a - 20)
    })?;
    let (left, attempts) = (committed.value(), committed.attempts());
    println!("moved 20: {left} left, in {attempts} attempt");

    let b = client.get("b")?.map(|kv| kv.value().clone());
    println!("b has {}", amount(b));
    Ok(())
}

fn amount(value: Option<Bytes>) -> i64 {
    let text = value.and_then(|value| String::from_utf8(value.into()).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
