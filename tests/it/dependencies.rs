//! Dependencies: their number stays small, and TLS libraries are present only with the feature `tls`.

use std::collections::BTreeSet;
use std::process::Command;

/// The packages that a program gets with this crate, by name and version, without the crate itself.
fn packages(features: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "--edges", "normal"])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}"])
        .args(features)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let packages = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        words.join(" ")
    });
    let packages = packages.filter(|package| !package.is_empty());
    let all: BTreeSet<String> = packages.collect();
    let ourselves = |package: &&String| !package.starts_with("etcd-blocking ");
    assert!(
        all.iter().any(|package| package.starts_with("tokio ")),
        "{all:?}"
    );
    all.iter().filter(ourselves).cloned().collect()
}

#[test]
fn without_tls_there_are_at_most_60_packages_and_none_of_tls() {
    let packages = packages(&["--no-default-features"]);
    println!("{} packages without default features", packages.len());
    assert!(packages.len() <= 60, "{}: {packages:#?}", packages.len());
    let tls = [
        "rustls",
        "ring ",
        "aws-lc",
        "webpki",
        "openssl",
        "native-tls",
    ];
    for package in &packages {
        let is_tls = tls.iter().any(|part| package.contains(part));
        assert!(!is_tls, "{package}");
    }
}

#[test]
fn with_the_default_features_there_are_at_most_90_packages() {
    let packages = packages(&[]);
    println!("{} packages with the default features", packages.len());
    assert!(packages.len() <= 90, "{}: {packages:#?}", packages.len());
}
