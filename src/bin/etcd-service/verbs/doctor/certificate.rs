//! The names and the time of validity of an X.509 certificate. Pure.
//!
//! Nothing is trusted because of them: the library verifies certificates.

use crate::base64::from_base64;
use crate::calendar::Civil;

/// The name of a certificate and the time in which it is valid, in seconds since 1970. A time before 1970 is read as 0,
/// and one after the year 9999 as the end of that year.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The common name of the subject; it may be empty.
    pub(super) name: String,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` of a certificate: its version.
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

/// The certificates of a PEM file, in order.
pub(super) fn of_pem(text: &str) -> Vec<Certificate> {
    let sections = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let sections = sections.filter_map(|section| section.split("-----END").next());
    let ders = sections.filter_map(|section| {
        let digits: String = section.split_whitespace().collect();
        from_base64(&digits)
    });
    ders.filter_map(|der| of_der(&der)).collect()
}

/// Reads a certificate; `None` if the bytes are not one.
pub(super) fn of_der(der: &[u8]) -> Option<Certificate> {
    let mut all = Elements(der);
    let mut all = Elements(all.expect(SEQUENCE)?);
    let mut fields = Elements(all.expect(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    // The serial number, the algorithm of the signature and the issuer.
    fields.expect(INTEGER)?;
    fields.expect(SEQUENCE)?;
    fields.expect(SEQUENCE)?;
    let mut validity = Elements(fields.expect(SEQUENCE)?);
    let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
    let name = common_name(fields.expect(SEQUENCE)?);
    Some(Certificate {
        name: name.unwrap_or_default(),
        not_before,
        not_after,
    })
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut names = Elements(subject);
    while let Some((SET, set)) = names.next() {
        let mut name = Elements(Elements(set).expect(SEQUENCE)?);
        if name.expect(OID)? == COMMON_NAME {
            let (_, text) = name.next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
    }
    None
}

/// `YYMMDDHHMMSSZ`, or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            // RFC 5280, section 4.1.2.5.1.
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let civil = Civil {
        year,
        month: part(0)?,
        day: part(2)?,
        hour: part(4)?,
        minute: part(6)?,
        second: part(8)?,
    };
    match year {
        ..1970 => Some(0),
        10_000.. => Some(LAST),
        _ => civil.seconds(),
    }
}

/// A sequence of DER elements.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The number of the bytes of the length.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                let length = bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, if it has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn pem(name: &str, since: i32, until: i32) -> String {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "o");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(since, 1, 2);
        params.not_after = date_time_ymd(until, 1, 2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn names_and_times_are_read() {
        let text = format!(
            "a comment\n{}{}",
            pem("a", 2018, 2049),
            pem("ö", 1960, 2051)
        );
        let read = of_pem(&text);
        let expected = [
            Certificate {
                name: "a".into(),
                not_before: 1_514_851_200,
                not_after: 2_493_158_400,
            },
            Certificate {
                name: "ö".into(),
                not_before: 0,
                not_after: 2_556_230_400,
            },
        ];
        assert_eq!(read, expected);
        assert_eq!(of_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END"), []);
    }

    #[test]
    fn broken_certificates_are_none() {
        let text = pem("a", 2018, 2049);
        let body: String = text
            .lines()
            .filter(|line| !line.contains("-----"))
            .collect();
        let der = from_base64(&body).unwrap();
        assert!(of_der(&der).is_some());
        for end in 0..der.len() {
            assert_eq!(of_der(&der[..end]), None);
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = der.clone();
            bytes[random.usize(..der.len())] = random.u8(..);
            let _ = of_der(&bytes);
        }
    }
}
