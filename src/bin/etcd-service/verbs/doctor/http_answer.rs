//! The answer of a server to `GET /members`, by which `doctor` recognises what listens on a port. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::calendar::Civil;

/// What is sent. The port for members answers with the members; the port for clients does not have the path. Both tell
/// their time. There is no secret in it.
pub(super) fn request(host: &str) -> String {
    format!(
        "GET /members HTTP/1.1\r\nHost: {host}\r\nUser-Agent: etcd-service\r\nConnection: close\r\n\r\n"
    )
}

/// What a server answered over HTTP/1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    /// The name that the server gives itself; it may be empty.
    pub(super) server: String,
    /// The time of the server, in whole seconds.
    pub(super) date: Option<SystemTime>,
    /// Whether it is the port that etcd has for its other members.
    pub(super) is_peer_port: bool,
    /// Whether it is etcd's port for clients.
    pub(super) is_client_port: bool,
    /// The URLs for clients that the port for members tells.
    pub(super) client_urls: Vec<String>,
}

/// What listens on a port, by the first bytes that it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Http(HttpAnswer),
    /// The server speaks HTTP/2 only.
    Http2,
    /// The server speaks TLS.
    Tls,
    /// It sent bytes of another protocol; their beginning.
    Other(String),
    /// It closed the connection without a byte.
    Closed,
}

/// Recognises the bytes of an answer.
pub(super) fn recognise(bytes: &[u8]) -> Answer {
    match bytes {
        [] => return Answer::Closed,
        [0x15 | 0x16, 0x03, ..] => return Answer::Tls,
        // The header of the frame SETTINGS, or GOAWAY, on stream 0.
        [_, _, _, 0x04 | 0x07, _, 0, 0, 0, 0, ..] => return Answer::Http2,
        _ => {}
    }
    let text = String::from_utf8_lossy(bytes);
    match http(&text) {
        Some(answer) => Answer::Http(answer),
        None => Answer::Other(text.chars().take(40).collect()),
    }
}

fn http(text: &str) -> Option<HttpAnswer> {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?;
    let mut answer = HttpAnswer {
        status: status.split(' ').nth(1)?.parse().ok()?,
        ..HttpAnswer::default()
    };
    let mut has_cluster = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "date" => answer.date = date(value.trim()),
            "server" => answer.server = value.trim().chars().take(40).collect(),
            "x-etcd-cluster-id" => has_cluster = true,
            // etcd sends it with every answer of that port, and it is unusual elsewhere.
            "access-control-allow-headers" => {
                answer.is_client_port = value.trim() == "accept, content-type, authorization";
            }
            _ => {}
        }
    }
    answer.is_peer_port = has_cluster && answer.status == 200 && body.contains("\"peerURLs\"");
    if answer.is_peer_port {
        answer.client_urls = client_urls(body);
    }
    Some(answer)
}

/// The URLs of the members in the JSON of the port for members.
fn client_urls(body: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Member {
        #[serde(default, rename = "clientURLs")]
        client_urls: Vec<String>,
    }
    let members: Vec<Member> = serde_json::from_str(body.trim()).unwrap_or_default();
    members.into_iter().flat_map(|of| of.client_urls).collect()
}

/// A time such as `Mon, 30 Nov 2026 08:50:00 GMT`.
fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut parts = text.strip_suffix(" GMT")?.split(' ').skip(1);
    let day = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year = parts.next()?.parse().ok()?;
    let mut time = parts.next()?.split(':').map(|part| part.parse().ok());
    let civil = Civil {
        year,
        month: u64::try_from(month).ok()? + 1,
        day,
        hour: time.next()??,
        minute: time.next()??,
        second: time.next()??,
    };
    Some(UNIX_EPOCH + Duration::from_secs(civil.seconds()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_etcd_are_distinguished() {
        let peer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Etcd-Cluster-Id: a7ef\r\n\
                    Date: Mon, 30 Nov 2026 08:50:01 GMT\r\n\r\n\
                    [{\"id\":1,\"peerURLs\":[\"http://a:2380\"],\"name\":\"a\",\"clientURLs\":[\"http://a:2379\"]}]";
        let Answer::Http(answer) = recognise(peer.as_bytes()) else {
            panic!("{peer}");
        };
        assert!(answer.is_peer_port);
        assert_eq!(answer.client_urls, ["http://a:2379"]);
        let at = UNIX_EPOCH + Duration::from_secs(1_796_028_601);
        assert_eq!(answer.date, Some(at));
        let client = "HTTP/1.1 404 Not Found\r\nAccess-Control-Allow-Headers: accept, content-type, authorization\r\n\r\n";
        let expected = HttpAnswer {
            status: 404,
            is_client_port: true,
            ..HttpAnswer::default()
        };
        assert_eq!(recognise(client.as_bytes()), Answer::Http(expected));
        let other = "HTTP/1.1 404 Not Found\r\nserver: nginx\r\n\r\n404 page not found";
        let expected = HttpAnswer {
            status: 404,
            server: "nginx".into(),
            ..HttpAnswer::default()
        };
        assert_eq!(recognise(other.as_bytes()), Answer::Http(expected));
    }

    #[test]
    fn other_protocols_are_recognised() {
        for (bytes, expected) in [
            (&b""[..], Answer::Closed),
            (b"\x15\x03\x01\x00\x02\x02\x46", Answer::Tls),
            (b"\0\0\0\x04\0\0\0\0\0", Answer::Http2),
            (
                b"SSH-2.0-OpenSSH_9.2\r\n",
                Answer::Other("SSH-2.0-OpenSSH_9.2\r\n".into()),
            ),
            (b"HTTP/1.1 what", Answer::Other("HTTP/1.1 what".into())),
        ] {
            assert_eq!(recognise(bytes), expected);
        }
        assert_eq!(date("Mon, 30 Foo 2026 08:50:01 GMT"), None);
        assert_eq!(date("Mon, 30 Nov 2026 08:50:01"), None);
    }
}
