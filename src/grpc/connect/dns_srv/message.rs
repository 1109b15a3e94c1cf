//! Encodes a DNS question for SRV records, and decodes the answer (RFC 1035, RFC 2782). Pure.
//!
//! The answer is untrusted input: every access is bounds-checked, and compressed names cannot loop.

/// The record type SRV, and the class IN.
const SRV: u16 = 33;
const INTERNET: u16 = 1;

/// The longest name (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 255;

/// One SRV record: a server of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A decoded answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Servers(Vec<Server>),
    /// The name does not exist, or has no such records.
    None,
    /// The answer was truncated: repeat the question over TCP.
    Truncated,
    /// The server refused the question with this response code.
    Refused(u8),
}

/// Encodes a question for the SRV records of `name`; `None` when the name is not valid.
pub(super) fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64);
    // Flags: recursion desired. Counts: one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    let begin = bytes.len();
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..64).contains(n))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !label.bytes().all(plain) {
            return None;
        }
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    if bytes.len() - begin > LONGEST_NAME {
        return None;
    }
    bytes.extend(SRV.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    Some(bytes)
}

/// Decodes the answer to `question`; `None` when the bytes are not an answer to it.
pub(super) fn answer(question: &[u8], bytes: &[u8]) -> Option<Answer> {
    let asked = question.get(12..)?;
    let head = Reader { bytes, at: 2 };
    let (id, flags) = (bytes.get(..2)?, head.clone().read_u16()?);
    let is_response = flags & 0x8000 != 0;
    // The answer repeats the question; the case of its letters may differ.
    let echoed = bytes.get(12..12 + asked.len())?;
    if id != question.get(..2)? || !is_response || !echoed.eq_ignore_ascii_case(asked) {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Answer::Truncated);
    }
    match (flags & 0x000f) as u8 {
        0 => {}
        // NXDOMAIN: the name does not exist.
        3 => return Some(Answer::None),
        code => return Some(Answer::Refused(code)),
    }
    let count = Reader { bytes, at: 6 }.read_u16()?;
    let mut reader = Reader {
        bytes,
        at: 12 + asked.len(),
    };
    let mut servers = Vec::new();
    for _ in 0..count {
        reader.name()?;
        let (kind, class) = (reader.read_u16()?, reader.read_u16()?);
        // The TTL, which is not used.
        reader.read_u16()?;
        reader.read_u16()?;
        let length = usize::from(reader.read_u16()?);
        let next = reader
            .at
            .checked_add(length)
            .filter(|at| *at <= bytes.len())?;
        if (kind, class) == (SRV, INTERNET) {
            let (priority, weight, port) =
                (reader.read_u16()?, reader.read_u16()?, reader.read_u16()?);
            let host = reader.name()?;
            // A target of "." means that the service is not available at this domain (RFC 2782).
            if !host.is_empty() && port != 0 {
                servers.push(Server {
                    priority,
                    weight,
                    host,
                    port,
                });
            }
        }
        reader.at = next;
    }
    Some(if servers.is_empty() {
        Answer::None
    } else {
        Answer::Servers(servers)
    })
}

#[derive(Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn read_u16(&mut self) -> Option<u16> {
        let word = self.bytes.get(self.at..self.at.checked_add(2)?)?;
        self.at += 2;
        Some(u16::from_be_bytes(word.try_into().ok()?))
    }

    /// Reads a name without its trailing dot. It may continue at an earlier place in the message
    /// (RFC 1035, section 4.1.4).
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut at = self.at;
        let mut jumped = false;
        loop {
            let length = *self.bytes.get(at)?;
            match length {
                0 => {
                    at += 1;
                    break;
                }
                1..64 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
                    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_".contains(b);
                    if !label.iter().all(plain) {
                        return None;
                    }
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(std::str::from_utf8(label).ok()?);
                    at += 1 + usize::from(length);
                }
                192.. => {
                    let low = *self.bytes.get(at + 1)?;
                    if !jumped {
                        self.at = at + 2;
                    }
                    jumped = true;
                    let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                    // Pointers only go backwards, so this loop ends.
                    if target >= at {
                        return None;
                    }
                    at = target;
                }
                _ => return None,
            }
            if name.len() > LONGEST_NAME {
                return None;
            }
        }
        if !jumped {
            self.at = at;
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "_etcd-client._tcp.example.com";

    /// An answer with these records after the question.
    fn reply(question: &[u8], flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = question[..2].to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        bytes.extend(&question[12..]);
        bytes.extend(records.concat());
        bytes
    }

    /// A record for the name in the question. Its target ends with the domain in the question.
    fn record(kind: u16, priority: u16, port: u16, host: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xc0, 12];
        for word in [kind, 1, 0, 60, 6 + host.len() as u16, priority, 0, port] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(host);
        bytes
    }

    #[test]
    fn records_are_read_with_plain_and_compressed_names() {
        let question = question(7, NAME).unwrap();
        // "example.com" follows the 13 and 5 bytes of the first two labels.
        let short = b"\x02e1\xc0\x1e";
        let long = b"\x02e2\x05other\x00";
        let records = [
            record(33, 10, 2379, short),
            record(5, 0, 0, long),
            record(33, 20, 2381, long),
            record(33, 0, 1, b"\x00"),
        ];
        let server = |priority, host: &str, port| Server {
            priority,
            weight: 0,
            host: host.into(),
            port,
        };
        assert_eq!(
            answer(&question, &reply(&question, 0x8180, &records)),
            Some(Answer::Servers(vec![
                server(10, "e1.example.com", 2379),
                server(20, "e2.other", 2381)
            ]))
        );
    }

    #[test]
    fn responses_that_are_not_answers_are_distinguished() {
        let question = question(7, NAME).unwrap();
        let read =
            |flags, records: &[Vec<u8>]| answer(&question, &reply(&question, flags, records));
        assert_eq!(read(0x8183, &[]), Some(Answer::None));
        assert_eq!(read(0x8180, &[]), Some(Answer::None));
        assert_eq!(read(0x8182, &[]), Some(Answer::Refused(2)));
        assert_eq!(read(0x8380, &[]), Some(Answer::Truncated));
        assert_eq!(read(0x0100, &[]), None, "a question is no answer");
        let other = super::question(8, NAME).unwrap();
        assert_eq!(answer(&question, &reply(&other, 0x8180, &[])), None);
        let elsewhere = super::question(7, "_etcd-client._tcp.example.org").unwrap();
        assert_eq!(answer(&question, &reply(&elsewhere, 0x8180, &[])), None);
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic() {
        let question = question(7, NAME).unwrap();
        let good = reply(&question, 0x8180, &[record(33, 1, 2379, b"\x02e1\xc0\x1e")]);
        for length in 0..good.len() {
            let cut = answer(&question, &good[..length]);
            assert!(!matches!(cut, Some(Answer::Servers(_))), "{length}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 63, 64, 191, 192, 255] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = answer(&question, &bytes);
            }
        }
        // A name that points to itself.
        let at = 12 + question.len() - 12 + 2 + 10 + 6;
        let own = record(33, 1, 1, &[0xc0, u8::try_from(at).unwrap()]);
        assert_eq!(answer(&question, &reply(&question, 0x8180, &[own])), None);
    }

    #[test]
    fn invalid_names_are_not_queried() {
        let long = "a".repeat(64);
        let longest = format!("{}com", "abcdefg.".repeat(32));
        for name in ["", ".", "a..b", "a b", "ä", &long, &longest] {
            assert_eq!(question(1, name), None, "{name}");
        }
        assert_eq!(question(1, "a.b"), question(1, "a.b."));
    }

    #[test]
    fn the_longest_name_of_a_question_has_255_bytes() {
        let label = "a".repeat(63);
        let name = |last: usize| format!("{label}.{label}.{label}.{}", "b".repeat(last));
        let longest = question(7, &name(61)).unwrap();
        assert_eq!(longest.len(), 12 + 255 + 4);
        assert!(question(7, &name(62)).is_none());
    }

    #[test]
    fn the_name_of_a_server_has_255_bytes_at_most() {
        let question = question(7, NAME).unwrap();
        for (lengths, is_read) in [
            (&[63, 63, 63, 63][..], true),
            (&[63, 63, 63, 62, 1], false),
            (&[63, 63, 63, 62, 63], false),
        ] {
            let labels = lengths.iter().map(|length| "a".repeat(*length));
            let labels: Vec<String> = labels.collect();
            let mut host = Vec::new();
            for label in &labels {
                host.push(label.len() as u8);
                host.extend(label.as_bytes());
            }
            host.push(0);
            let servers = vec![Server {
                priority: 1,
                weight: 0,
                host: labels.join("."),
                port: 2379,
            }];
            assert_eq!(
                answer(
                    &question,
                    &reply(&question, 0x8180, &[record(33, 1, 2379, &host)])
                ),
                is_read.then_some(Answer::Servers(servers)),
                "{lengths:?}"
            );
        }
    }

    #[test]
    fn a_record_may_repeat_its_name_and_refer_to_a_distant_one() {
        let question = question(7, NAME).unwrap();
        let mut plain = question[12..question.len() - 4].to_vec();
        plain.extend(&record(33, 10, 2379, b"\x02e1\xc0\x1e")[2..]);
        let filler = record(16, 0, 0, &[0; 250]);
        // The name of the last record but one, which is over 255 bytes from the start.
        let at = question.len() + plain.len() + filler.len() + 2 + 10 + 6;
        let distant = record(33, 20, 2380, b"\x02e2\x05other\x00");
        let [high, low] = u16::try_from(at).unwrap().to_be_bytes();
        assert!(high > 0);
        let pointer = record(33, 30, 2381, &[0xc0 | high, low]);
        let records = [plain, filler, distant, pointer];
        let Some(Answer::Servers(servers)) = answer(&question, &reply(&question, 0x8180, &records))
        else {
            panic!("there are servers");
        };
        let hosts: Vec<&str> = servers.iter().map(|server| &server.host[..]).collect();
        assert_eq!(hosts, ["e1.example.com", "e2.other", "e2.other"]);
    }
}
