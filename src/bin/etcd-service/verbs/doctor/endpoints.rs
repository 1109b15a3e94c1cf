//! Why an endpoint does not answer. Pure.

use std::time::SystemTime;

use etcd_blocking::ErrorKind;

use super::certificates::{self, Owner};
use super::finding::{Class, Finding};
use super::http_answer::{Answer, HttpAnswer};
use super::look::{Look, Reached};
use super::refusal::Refusal;

/// The findings about one endpoint: its certificate, and the reason if its member did not tell its status.
pub(super) fn examine(
    endpoint: &str,
    refusal: Option<&Refusal>,
    look: &Look,
    user: Option<&str>,
    now: SystemTime,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(certificate) = &look.certificate {
        let of = certificates::examine(endpoint, Owner::Server, certificate, now);
        findings.push(of);
    }
    let Some(refusal) = refusal else {
        return findings;
    };
    let certificate = look.certificate.as_ref();
    let is_valid = certificate.is_none_or(|of| certificates::is_valid(of, now));
    match refusal.kind {
        // The finding about the certificate says it.
        ErrorKind::Tls if !is_valid => {}
        ErrorKind::Tls => findings.push(
            Finding::error(Class::Tls, endpoint, &refusal.text)
                .why("no client connects")
                .advice("correct the scheme of the endpoint, --cacert, --cert, --key, or the certificate of the server"),
        ),
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => {
            findings.push(refusal.finding(endpoint, "the status", user));
        }
        _ => findings.push(unreachable(endpoint, refusal, &look.reached)),
    }
    findings
}

fn unreachable(endpoint: &str, refusal: &Refusal, reached: &Reached) -> Finding {
    const WHY: &str = "clients get no answer from it, and lose time with it";
    let finding = |what: String| Finding::error(Class::Unreachable, endpoint, what).why(WHY);
    let text = &refusal.text;
    match reached {
        Reached::NotResolved(why) => finding(format!("the name has no address: {why}"))
            .advice("correct the name, or look at the resolver of this machine"),
        Reached::Refused => {
            finding("nothing listens on the port: the connection is refused".into())
                .advice("start etcd there, or correct the address and --listen-client-urls")
        }
        Reached::NotConnected(why) => finding(format!("no connection is made: {why}"))
            .advice("look at firewalls, routes and whether the machine runs"),
        Reached::Silent => finding("the port is open, and nothing answers".into()).advice(
            "look whether the process is stopped or overloaded, and for a firewall that drops packets",
        ),
        Reached::Answered(answer) => answered(endpoint, text, answer).why(WHY),
        Reached::NoTls(why) => finding(format!("{text}; the TLS handshake failed: {why}"))
            .advice("look whether the port has TLS and is that of etcd"),
        Reached::NotLooked => {
            finding(text.clone()).advice("look whether etcd listens on this socket")
        }
    }
}

fn answered(endpoint: &str, text: &str, answer: &Answer) -> Finding {
    let finding = |what: String| Finding::error(Class::Unreachable, endpoint, what);
    match answer {
        Answer::Http(HttpAnswer {
            is_peer_port: true,
            client_urls,
            ..
        }) => finding("this is the port for the other members of etcd, not for clients".into())
            .advice(match client_urls.is_empty() {
                true => "use the port of --advertise-client-urls, usually 2379".to_owned(),
                false => format!("use {}", client_urls.join(",")),
            }),
        Answer::Http(HttpAnswer {
            is_client_port: true,
            ..
        }) => finding(format!(
            "etcd answers over HTTP/1, and not over gRPC: {text}"
        ))
        .advice("look at its log, and for a proxy that does not pass HTTP/2 on"),
        Answer::Http(HttpAnswer { status, server, .. }) => {
            let name = match server.is_empty() {
                true => String::new(),
                false => format!(" ({server})"),
            };
            finding(format!(
                "another HTTP server{name} answers with the status {status}: it is not etcd"
            ))
            .advice("correct the port, or make the proxy pass gRPC on to etcd")
        }
        Answer::Tls => finding("the server speaks TLS".into())
            .advice("write the endpoint with https, and name its authority in --cacert"),
        Answer::Http2 => finding(format!("an HTTP/2 server answers, but not as etcd: {text}"))
            .advice("correct the port, or look at the proxy in front of etcd"),
        Answer::Closed => finding(format!(
            "the server accepts connections and closes them: {text}"
        ))
        .advice("look for a proxy without a backend, and for a port that needs TLS"),
        Answer::Other(begin) => finding(format!(
            "a server of another protocol answers: it begins with {begin:?}"
        ))
        .advice("correct the port"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::certificate::Certificate;
    use super::*;

    fn look(reached: Reached) -> Look {
        Look {
            reached,
            certificate: None,
            clock: None,
        }
    }

    fn refusal(kind: ErrorKind) -> Refusal {
        Refusal {
            kind,
            text: "the reason".into(),
        }
    }

    #[test]
    fn each_way_to_fail_is_said_with_advice() {
        let http = |change: fn(&mut HttpAnswer)| {
            let mut answer = HttpAnswer::default();
            change(&mut answer);
            Reached::Answered(Answer::Http(answer))
        };
        for (reached, expected) in [
            (Reached::NotResolved("no".into()), "has no address: no"),
            (Reached::Refused, "refused"),
            (
                Reached::NotConnected("timed out".into()),
                "no connection is made: timed out",
            ),
            (Reached::Silent, "nothing answers"),
            (Reached::NotLooked, "the reason"),
            (Reached::NoTls("alert".into()), "handshake failed: alert"),
            (
                http(|answer| answer.is_peer_port = true),
                "port for the other members",
            ),
            (
                http(|answer| answer.is_client_port = true),
                "not over gRPC: the reason",
            ),
            (
                http(|answer| answer.server = "nginx".into()),
                "another HTTP server (nginx)",
            ),
            (Reached::Answered(Answer::Tls), "speaks TLS"),
            (Reached::Answered(Answer::Http2), "but not as etcd"),
            (Reached::Answered(Answer::Closed), "closes them"),
            (
                Reached::Answered(Answer::Other("SSH".into())),
                "begins with \"SSH\"",
            ),
        ] {
            let refusal = refusal(ErrorKind::Unavailable);
            let findings = examine("a", Some(&refusal), &look(reached), None, SystemTime::now());
            assert_eq!(findings.len(), 1, "{findings:?}");
            let finding = &findings[0];
            assert_eq!(finding.class, Class::Unreachable);
            assert!(finding.what.contains(expected), "{finding:?}");
            assert!(
                !finding.why.is_empty() && !finding.advice.is_empty(),
                "{finding:?}"
            );
        }
        let peer = http(|answer| {
            answer.is_peer_port = true;
            answer.client_urls = vec!["http://a:2379".into()];
        });
        let refusal = refusal(ErrorKind::Timeout);
        let findings = examine("a", Some(&refusal), &look(peer), None, SystemTime::now());
        assert_eq!(findings[0].advice, "use http://a:2379");
    }

    #[test]
    fn an_expired_certificate_is_said_once() {
        let certificate = Certificate {
            name: "etcd".into(),
            not_before: 0,
            not_after: 10,
        };
        let refusal = refusal(ErrorKind::Tls);
        let mut look = look(Reached::NoTls("no".into()));
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let findings = examine("a", Some(&refusal), &look, None, at(20));
        assert_eq!(findings[0].what, "the reason");
        look.certificate = Some(certificate);
        let findings = examine("a", Some(&refusal), &look, None, at(20));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0].what.contains("expired 0 days ago"),
            "{findings:?}"
        );
        // A valid certificate that is refused for another reason.
        let findings = examine("a", Some(&refusal), &look, None, at(5));
        assert!(findings.iter().any(|of| of.what == "the reason"));
        assert_eq!(examine("a", None, &look, None, at(20)).len(), 1);
    }
}
