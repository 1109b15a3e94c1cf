//! Finds certificates that are expired, not valid yet or expiring soon. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::certificate::Certificate;
use super::finding::{Class, Finding};
use crate::output::{counted, utc};

const DAY: u64 = 86_400;

/// A certificate with fewer days left is called soon expiring.
const SOON: u64 = 30;

/// The owner of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Server,
    Client,
    /// An authority that `--cacert` names.
    Authority,
}

/// The finding about a certificate.
pub(super) fn examine(
    place: &str,
    owner: Owner,
    certificate: &Certificate,
    now: SystemTime,
) -> Finding {
    let whose = match owner {
        Owner::Server => "the certificate of the server",
        Owner::Client => "the certificate of this client",
        Owner::Authority => "the certificate of the authority",
    };
    let name = match certificate.name.is_empty() {
        true => whose.to_owned(),
        false => format!("{whose} ({})", certificate.name),
    };
    let why = match owner {
        Owner::Server => "clients refuse the connection",
        Owner::Client => "a server that asks for certificates refuses the connection",
        Owner::Authority => "certificates of this authority are not accepted",
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (from, to) = (certificate.not_before, certificate.not_after);
    if to < now {
        let days = counted((now - to) / DAY, "day");
        return Finding::error(
            Class::Tls,
            place,
            format!("{name} expired {days} ago, on {}", date(to)),
        )
        .why(why)
        .advice("renew it, or correct the clock of this machine if that is wrong");
    }
    if from > now {
        let days = counted((from - now).div_ceil(DAY), "day");
        return Finding::error(
            Class::Tls,
            place,
            format!("{name} is not valid yet, but in {days}, on {}", date(from)),
        )
        .why(why)
        .advice("correct the clock of this machine, or issue it anew");
    }
    let days = (to - now) / DAY;
    let left = format!(
        "{name} is valid for {} more, until {}",
        counted(days, "day"),
        date(to)
    );
    match days < SOON {
        true => Finding::warning(Class::Tls, place, left)
            .why(format!("after that, {why}"))
            .advice("renew it in time; files are read again for each connection"),
        false => Finding::ok(Class::Tls, place, left),
    }
}

/// Whether the certificate is valid at a time.
pub(super) fn is_valid(certificate: &Certificate, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    (certificate.not_before..=certificate.not_after).contains(&now)
}

fn date(seconds: u64) -> String {
    let text = utc(UNIX_EPOCH + Duration::from_secs(seconds));
    text.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn the_days_that_are_left_decide() {
        let now = 20_000 * DAY;
        for (from, to, severity, expected) in [
            (
                -10,
                -3,
                Severity::Error,
                "expired 3 days ago, on 2024-10-01",
            ),
            (2, 10, Severity::Error, "is not valid yet, but in 2 days"),
            (-10, 29, Severity::Warning, "is valid for 29 days more"),
            (-10, 0, Severity::Warning, "is valid for 0 days more"),
            (-10, 30, Severity::Ok, "is valid for 30 days more"),
        ] {
            let at = |days: i64| now.saturating_add_signed(days * 86_400);
            let certificate = Certificate {
                name: "etcd".into(),
                not_before: at(from),
                not_after: at(to),
            };
            let at = UNIX_EPOCH + Duration::from_secs(now);
            let finding = examine("a", Owner::Server, &certificate, at);
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert!(finding.what.contains(expected), "{finding:?}");
            assert_eq!(is_valid(&certificate, at), severity < Severity::Error);
        }
    }
}
