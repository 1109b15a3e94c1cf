//! Health checks of an instance: `--check` and what goes with it.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use etcd_blocking::health::{Check, Checks, Initial};
use serde::{Deserialize, Deserializer};

use super::span;
use crate::child::Group;

/// The time of a probe if none is given, as in the library.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Time between looks at a command that is running.
const LOOK: Duration = Duration::from_millis(10);

/// Which health checks an instance has. In a file, each key is the name of a flag.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[command(next_help_heading = "Health checks")]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct CheckArguments {
    /// Check: `tcp` (the address of the instance), `tcp://HOST:PORT`, `http://HOST:PORT/PATH`,
    /// `grpc://HOST:PORT/SERVICE`, or `exec:COMMAND`, which /bin/sh runs. Can be repeated: all have to pass
    #[arg(long, value_name = "CHECK")]
    check: Vec<String>,
    /// Time between two probes [default: 10s; 1s until the first success]
    #[arg(long, value_name = "TIME", value_parser = span)]
    #[serde(deserialize_with = "time")]
    check_interval: Option<Duration>,
    /// Time after which a probe has failed; a command is killed then [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = span)]
    #[serde(deserialize_with = "time")]
    check_timeout: Option<Duration>,
    /// Successes in a row that end a failure [default: 2]
    #[arg(long, value_name = "COUNT")]
    rise: Option<u32>,
    /// Failures in a row that begin one [default: 3]
    #[arg(long, value_name = "COUNT")]
    fall: Option<u32>,
    /// Time at the start in which failures do not count; it ends at the first success [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = span)]
    #[serde(deserialize_with = "time")]
    start_grace: Option<Duration>,
    /// Time of failure after which the keys of the instance are deleted until it recovers [default: never]
    #[arg(long, value_name = "TIME", value_parser = span)]
    #[serde(deserialize_with = "time")]
    withdraw_after: Option<Duration>,
    /// Time of failure after which the registration ends [default: never]
    #[arg(long, value_name = "TIME", value_parser = span)]
    #[serde(deserialize_with = "time")]
    leave_after: Option<Duration>,
    /// Status that is published until all checks have passed once
    #[arg(long, value_name = "STATUS", value_enum, default_value_t)]
    initial: Published,
}

/// The status that is published until all checks have passed once.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Published {
    /// Nothing
    #[default]
    Withheld,
    /// The instance, with the status out_of_service
    OutOfService,
    /// The instance, as healthy
    Healthy,
}

/// A time in a file is a text, as in a flag.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    span(&text).map(Some).map_err(serde::de::Error::custom)
}

impl CheckArguments {
    /// Returns whether there are checks.
    pub(crate) fn any(&self) -> bool {
        !self.check.is_empty()
    }

    /// Returns the checks of an instance with this address. The error says what to write instead.
    pub(crate) fn checks(&self, addr: &str) -> Result<Checks, String> {
        let mut checks = Checks::new().initial(match self.initial {
            Published::Withheld => Initial::Withheld,
            Published::OutOfService => Initial::OutOfService,
            Published::Healthy => Initial::Healthy,
        });
        for text in &self.check {
            checks = checks.check(self.check_of(text, addr)?);
        }
        if let Some(time) = self.withdraw_after {
            checks = checks.withdraw_after(time);
        }
        if let Some(time) = self.leave_after {
            checks = checks.leave_after(time);
        }
        Ok(checks)
    }

    fn check_of(&self, text: &str, addr: &str) -> Result<Check, String> {
        let mut check = match kind(text)? {
            Kind::Own => Check::tcp(addr),
            Kind::Tcp(addr) => Check::tcp(addr),
            Kind::Http(url) => Check::http(url),
            Kind::Grpc(addr, service) => Check::grpc(addr, service),
            Kind::Exec(command) => {
                let command = command.to_owned();
                let limit = self.check_timeout.unwrap_or(TIMEOUT);
                Check::run(move || probe(&command, limit)).name(text)
            }
        };
        if let Some(time) = self.check_interval {
            check = check.interval(time);
        }
        if let Some(time) = self.check_timeout {
            check = check.timeout(time);
        }
        if let Some(count) = self.rise {
            check = check.rise(count);
        }
        if let Some(count) = self.fall {
            check = check.fall(count);
        }
        if let Some(time) = self.start_grace {
            check = check.start_grace(time);
        }
        Ok(check)
    }
}

/// The target of a check.
#[derive(Debug, PartialEq)]
enum Kind<'a> {
    Own,
    Tcp(&'a str),
    Http(&'a str),
    Grpc(&'a str, &'a str),
    Exec(&'a str),
}

/// Parses a check.
fn kind(text: &str) -> Result<Kind<'_>, String> {
    if text == "tcp" {
        return Ok(Kind::Own);
    }
    if let Some(command) = text.strip_prefix("exec:") {
        return match command.trim() {
            "" => Err("--check exec: has no command after the colon".to_owned()),
            command => Ok(Kind::Exec(command)),
        };
    }
    match text.split_once("://") {
        Some((_, "")) => Err(format!("--check {text} has no address")),
        Some(("tcp", addr)) => Ok(Kind::Tcp(addr)),
        Some(("http", _)) => Ok(Kind::Http(text)),
        Some(("grpc", rest)) => {
            let (addr, service) = rest.split_once('/').unwrap_or((rest, ""));
            Ok(Kind::Grpc(addr, service))
        }
        Some(("https", rest)) => Err(format!(
            "--check {text}: checks do not use TLS; use `exec:curl -fsS https://{rest}`"
        )),
        _ => Err(format!(
            "--check {text} is not tcp, tcp://HOST:PORT, http://HOST:PORT/PATH, grpc://HOST:PORT/SERVICE or exec:COMMAND"
        )),
    }
}

/// Runs a command by the shell, and kills it with its children at the limit.
fn probe(command: &str, limit: Duration) -> Result<(), String> {
    let begun = Instant::now();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]);
    shell.stdin(Stdio::null()).stdout(Stdio::null());
    let shell = Group::start(shell.stderr(Stdio::null()));
    let shell = shell.map_err(|error| format!("/bin/sh: {error}"))?;
    loop {
        match shell.ended() {
            Ok(None) if begun.elapsed() < limit => thread::sleep(LOOK),
            Ok(None) => return Err(format!("no exit in {limit:?}")),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_have_a_kind() {
        for (text, expected) in [
            ("tcp", Kind::Own),
            ("tcp://a:1", Kind::Tcp("a:1")),
            ("http://a:1/x?y", Kind::Http("http://a:1/x?y")),
            ("grpc://a:1", Kind::Grpc("a:1", "")),
            ("grpc://a:1/x.Y", Kind::Grpc("a:1", "x.Y")),
            ("exec: test -e x", Kind::Exec("test -e x")),
        ] {
            assert_eq!(kind(text), Ok(expected));
        }
        for (text, expected) in [
            ("https://a/x", "exec:curl -fsS https://a/x"),
            ("udp://a:1", "is not tcp"),
            ("tcp://", "has no address"),
            ("exec: ", "no command"),
            ("", "is not tcp"),
        ] {
            assert!(kind(text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn a_command_passes_fails_or_is_killed() {
        assert_eq!(probe("exit 0", TIMEOUT), Ok(()));
        assert_eq!(probe("exit 3", TIMEOUT), Err("exit status: 3".to_owned()));
        let begun = Instant::now();
        let killed = probe("sleep 60 & sleep 60", Duration::from_millis(50));
        assert_eq!(killed, Err("no exit in 50ms".to_owned()));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_file_has_the_names_of_the_flags() {
        let text = "check = ['tcp']\ncheck-interval = '5s'\nrise = 3\ninitial = 'out-of-service'";
        let checks: CheckArguments = toml::from_str(text).unwrap();
        assert_eq!(checks.check_interval, Some(Duration::from_secs(5)));
        assert_eq!(checks.initial, Published::OutOfService);
        assert!(checks.any() && checks.checks("127.0.0.1:1").is_ok());
        assert!(!CheckArguments::default().any());
    }
}
