//! The token that clients send.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use crate::failure::Failure;

/// The shortest token.
const SHORTEST: usize = 16;

/// The token that clients send. Its debug output hides it.
#[derive(PartialEq, Eq)]
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token of a file, without the space around it.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("--token-file {}: {error}", path.display())))?;
        Token::parse(&text)
            .map_err(|reason| Failure::usage(format!("--token-file {}: {reason}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.len() < SHORTEST {
            return Err(
                "the token is shorter than 16 characters; `openssl rand -hex 32` makes a good one",
            );
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token has characters other than letters, digits and signs of ASCII");
        }
        Ok(Token(text.to_owned()))
    }

    /// Whether a header `Authorization` has the token. The time does not depend on how much of it is right.
    pub(super) fn is_in(&self, authorization: &str) -> bool {
        let Some((scheme, given)) = authorization.split_once(' ') else {
            return false;
        };
        let (expected, given) = (self.0.as_bytes(), given.trim().as_bytes());
        let length_differs = u8::from(expected.len() != given.len());
        let padded = given.iter().chain(std::iter::repeat(&0));
        let differences = expected.iter().zip(padded);
        let difference = differences.fold(length_differs, |difference, (a, b)| {
            black_box(difference | (a ^ b))
        });
        scheme.eq_ignore_ascii_case("bearer") && difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_right() {
        let token = Token::parse(" 0123456789abcdef\n").unwrap();
        assert!(token.is_in("Bearer 0123456789abcdef"));
        assert!(token.is_in("bearer  0123456789abcdef"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer 0123456789abcdeF",
            "0123456789abcdef",
        ] {
            assert!(!token.is_in(wrong), "{wrong}");
        }
    }

    #[test]
    fn weak_tokens_are_refused() {
        assert!(Token::parse("short").is_err());
        assert!(Token::parse("").is_err());
        assert!(Token::parse("0123456789 abcdef").is_err());
        assert!(Token::parse("0123456789abcdé0000").is_err());
        let token = Token::parse("0123456789abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "Token");
    }
}
