//! Command line flags of one etcd process.

use std::{io, net::SocketAddr, path::Path};

use super::ports;

/// Addresses, name and peers of one etcd process.
#[derive(Clone, Debug)]
pub(super) struct Flags {
    pub(super) name: String,
    pub(super) client: SocketAddr,
    /// The address of `/health` and `/metrics` without TLS, when the client port uses TLS.
    pub(super) metrics: Option<SocketAddr>,
    pub(super) peer: SocketAddr,
    /// The address that peers dial: `peer`, or a proxy in front of it.
    pub(super) peer_advertised: SocketAddr,
    /// Name and advertised peer address of each member, including this one.
    pub(super) initial_cluster: Vec<(String, SocketAddr)>,
    /// Whether the process joins a running cluster instead of bootstrapping a new one.
    pub(super) joins: bool,
    /// Whether the process is a cluster of one member, to which no member is added.
    pub(super) is_alone: bool,
    pub(super) extra: Vec<String>,
}

/// Returns whether `extra` enables TLS on the client port.
fn is_tls(extra: &[String]) -> bool {
    extra
        .iter()
        .any(|arg| arg.trim_start_matches('-').starts_with("cert-file"))
}

impl Flags {
    /// A port for health and metrics without TLS, when `extra` enables TLS on the client port.
    pub(super) fn metrics_addr(extra: &[String]) -> io::Result<Option<SocketAddr>> {
        is_tls(extra).then(ports::free).transpose()
    }

    pub(super) fn scheme(&self) -> &'static str {
        if is_tls(&self.extra) { "https" } else { "http" }
    }

    /// The address that answers `GET /health` without TLS.
    pub(super) fn health(&self) -> SocketAddr {
        self.metrics.unwrap_or(self.client)
    }

    /// The addresses on which the process listens.
    pub(super) fn listens(&self) -> impl Iterator<Item = SocketAddr> {
        [self.client, self.peer].into_iter().chain(self.metrics)
    }

    pub(super) fn args(&self, data_dir: &Path, since_3_5: bool) -> Vec<String> {
        let client_url = format!("{}://{}", self.scheme(), self.client);
        let cluster: Vec<_> = self
            .initial_cluster
            .iter()
            .map(|(name, addr)| format!("{name}=http://{addr}"))
            .collect();
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", data_dir.display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls=http://{}", self.peer),
            format!(
                "--initial-advertise-peer-urls=http://{}",
                self.peer_advertised
            ),
            format!("--initial-cluster={}", cluster.join(",")),
            format!(
                "--initial-cluster-state={}",
                if self.joins { "existing" } else { "new" }
            ),
            "--log-level=warn".to_owned(),
        ];
        args.extend(
            self.metrics
                .map(|addr| format!("--listen-metrics-urls=http://{addr}")),
        );
        // etcd requires an election timeout of at least 5 heartbeat intervals. A single member always
        // wins its election, so its timeout only delays the start. All members of a cluster need the same timeouts,
        // also if it has one member at first.
        let (heartbeat, election) = if self.is_alone { (10, 100) } else { (50, 500) };
        args.push(format!("--heartbeat-interval={heartbeat}"));
        args.push(format!("--election-timeout={election}"));
        args.push(
            if since_3_5 {
                "--unsafe-no-fsync"
            } else {
                "--logger=zap"
            }
            .to_owned(),
        );
        // etcd uses the last value of a repeated flag, so `extra` overrides all flags above.
        args.extend(self.extra.iter().cloned());
        args
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::Path};

    use super::Flags;

    fn flags(members: u16, extra: &[&str]) -> Flags {
        let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Flags {
            name: "m0".into(),
            client: addr(1),
            metrics: None,
            peer: addr(2),
            peer_advertised: addr(3),
            initial_cluster: (0..members)
                .map(|i| (format!("m{i}"), addr(3 + i)))
                .collect(),
            joins: false,
            is_alone: members == 1,
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
        }
    }

    #[test]
    fn peers_dial_the_advertised_address() {
        let args = flags(2, &[]).args(Path::new("d"), true);
        assert!(args.contains(&"--listen-peer-urls=http://127.0.0.1:2".into()));
        assert!(args.contains(&"--initial-advertise-peer-urls=http://127.0.0.1:3".into()));
        assert!(
            args.contains(&"--initial-cluster=m0=http://127.0.0.1:3,m1=http://127.0.0.1:4".into())
        );
    }

    #[test]
    fn the_no_fsync_flag_is_given_only_to_an_etcd_that_has_it() {
        assert!(
            flags(1, &[])
                .args(Path::new("d"), true)
                .contains(&"--unsafe-no-fsync".into())
        );
        assert!(
            !flags(1, &[])
                .args(Path::new("d"), false)
                .contains(&"--unsafe-no-fsync".into())
        );
    }

    #[test]
    fn extra_arguments_come_last() {
        let args = flags(1, &["--log-level=info"]).args(Path::new("d"), true);
        assert_eq!(args.last().map(String::as_str), Some("--log-level=info"));
    }

    #[test]
    fn a_certificate_makes_the_client_url_https() {
        assert_eq!(flags(1, &["--cert-file=x"]).scheme(), "https");
        assert_eq!(flags(1, &["--peer-cert-file=x"]).scheme(), "http");
    }
}
