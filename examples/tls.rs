//! Connects over TLS with a client certificate, and shows the error for an untrusted authority.
//!
//! ```sh
//! cargo run --example tls
//! ```

use std::error::Error;
use std::fs;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

fn main() -> Result<(), Box<dyn Error>> {
    // An authority and a certificate that it signs. In production these files exist already.
    let dir = std::env::temp_dir().join(format!("etcd-blocking-tls-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
    let (ca_key, cert_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(&ca, params.self_signed(&ca_key)?.pem())?;
    let signed = CertificateParams::new(["127.0.0.1".to_owned()])?
        .signed_by(&cert_key, &Issuer::new(params, ca_key))?;
    fs::write(&cert, signed.pem())?;
    fs::write(&key, cert_key.serialize_pem())?;

    // This etcd accepts only clients with a certificate of the authority.
    let etcd = LocalEtcd::builder().tls(&cert, &key).client_ca(&ca);
    let etcd = etcd.start()?;

    // The files are read again for every connection: replacing them needs no restart.
    let tls = Tls::new().ca_file(&ca).client_cert_files(&cert, &key);
    let client = Client::builder(etcd.endpoint()).tls(tls).connect()?;
    client.put("greeting", "hello")?;
    println!("{}: {}", etcd.endpoint(), client.get("greeting")?.is_some());

    // Without `ca_file`, the authorities of the system are used. This one is not among them.
    let other = Client::builder(etcd.endpoint()).tls(Tls::new()).connect()?;
    let error = other.get("greeting").err().ok_or("it was trusted")?;
    println!("{:?}: {error}", error.kind());

    fs::remove_dir_all(&dir)?;
    Ok(())
}
