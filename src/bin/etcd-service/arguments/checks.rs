//! Health checks: `--check` and its settings.

use std::time::Duration;

use clap::Args;
use etcd_blocking::health::{Check, Checks};

use super::span;
use crate::child::shell_check;

/// How the health of an instance is checked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Health")]
pub(crate) struct CheckArguments {
    /// Health check; repeated for several: tcp (the address of the instance), tcp://HOST:PORT, http://HOST:PORT/PATH,
    /// grpc://HOST:PORT/SERVICE, or exec:COMMAND, which passes with exit code 0
    #[arg(long, value_name = "CHECK", value_parser = CheckKind::parse)]
    check: Vec<CheckKind>,
    /// Time between two checks [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = span)]
    check_interval: Option<Duration>,
    /// Time after which a check has failed [default: 2s, or the interval if that is shorter]
    #[arg(long, value_name = "TIME", value_parser = span)]
    check_timeout: Option<Duration>,
    /// Successes in a row that end a failure [default: 2; the first success of all suffices]
    #[arg(long, value_name = "N")]
    rise: Option<u32>,
    /// Failures in a row that begin one [default: 3]
    #[arg(long, value_name = "N")]
    fall: Option<u32>,
    /// Time for which failures do not count after the start, until the first success [default: 0]
    #[arg(long, value_name = "TIME", value_parser = span)]
    start_grace: Option<Duration>,
    /// Time after which a failing instance is taken out of etcd, until it is healthy [default: never]
    #[arg(long, value_name = "TIME", value_parser = span)]
    withdraw_after: Option<Duration>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CheckKind {
    /// At this address, or at that of the instance.
    Tcp(Option<String>),
    Http(String),
    Grpc {
        addr: String,
        service: String,
    },
    Exec(String),
}

impl CheckKind {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "tcp" {
            return Ok(CheckKind::Tcp(None));
        }
        if let Some(command) = text.strip_prefix("exec:").filter(|text| !text.is_empty()) {
            return Ok(CheckKind::Exec(command.to_owned()));
        }
        match text.split_once("://") {
            Some(("tcp", addr)) if !addr.is_empty() => Ok(CheckKind::Tcp(Some(addr.to_owned()))),
            Some(("http", rest)) if !rest.is_empty() => Ok(CheckKind::Http(text.to_owned())),
            Some(("grpc", rest)) if !rest.is_empty() => {
                let (addr, service) = rest.split_once('/').unwrap_or((rest, ""));
                let (addr, service) = (addr.to_owned(), service.to_owned());
                Ok(CheckKind::Grpc { addr, service })
            }
            Some(("https", _)) => {
                Err("checks are without TLS; use http, or exec:curl -sf https://..".to_owned())
            }
            _ => Err(format!(
                "{text:?} is not tcp, tcp://HOST:PORT, http://HOST:PORT/PATH, grpc://HOST:PORT/SERVICE or exec:COMMAND"
            )),
        }
    }

    fn check(&self, instance_addr: &str, timeout: Duration) -> Check {
        match self {
            CheckKind::Tcp(addr) => Check::tcp(addr.as_deref().unwrap_or(instance_addr)),
            CheckKind::Http(url) => Check::http(url.as_str()),
            CheckKind::Grpc { addr, service } => Check::grpc(addr, service.as_str()),
            CheckKind::Exec(command) => {
                let run = command.clone();
                Check::run(move || shell_check(&run, timeout)).name(command.as_str())
            }
        }
    }
}

impl CheckArguments {
    /// The checks of an instance with this address; `None` without a check.
    pub(crate) fn checks(&self, addr: &str) -> Option<Checks> {
        if self.check.is_empty() {
            return None;
        }
        let interval = self.check_interval.unwrap_or(Duration::from_secs(10));
        let timeout = self
            .check_timeout
            .unwrap_or(Duration::from_secs(2).min(interval));
        let mut checks = Checks::new();
        for kind in &self.check {
            let mut check = kind
                .check(addr, timeout)
                .interval(interval)
                .timeout(timeout);
            if let Some(rise) = self.rise {
                check = check.rise(rise);
            }
            if let Some(fall) = self.fall {
                check = check.fall(fall);
            }
            if let Some(grace) = self.start_grace {
                check = check.start_grace(grace);
            }
            checks = checks.check(check);
        }
        if let Some(time) = self.withdraw_after {
            checks = checks.withdraw_after(time);
        }
        Some(checks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_written_as_urls_or_commands() {
        let grpc = |addr: &str, service: &str| CheckKind::Grpc {
            addr: addr.to_owned(),
            service: service.to_owned(),
        };
        for (text, expected) in [
            ("tcp", CheckKind::Tcp(None)),
            ("tcp://[::1]:80", CheckKind::Tcp(Some("[::1]:80".into()))),
            ("http://a:80/x?y", CheckKind::Http("http://a:80/x?y".into())),
            ("grpc://a:80", grpc("a:80", "")),
            ("grpc://a:80/pkg.Service", grpc("a:80", "pkg.Service")),
            ("exec:test -f /x", CheckKind::Exec("test -f /x".into())),
        ] {
            assert_eq!(CheckKind::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "exec:", "tcp://", "http://", "udp://a:1", "a:80"] {
            assert!(
                CheckKind::parse(text).unwrap_err().contains("is not tcp"),
                "{text}"
            );
        }
        assert!(
            CheckKind::parse("https://a/")
                .unwrap_err()
                .contains("without TLS")
        );
    }
}
