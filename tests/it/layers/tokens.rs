//! The tokens of Rust code that matter for imports.

/// An identifier, `::`, or any other single character that is not white space.
///
/// Comments and literals are left out: a path in them imports nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    PathSeparator,
    Other(char),
}

pub(super) fn tokens(code: &str) -> Vec<Token> {
    let chars: Vec<char> = code.chars().collect();
    let at = |n: usize| chars.get(n).copied().unwrap_or('\n');
    let mut tokens = Vec::new();
    let mut n = 0;
    while n < chars.len() {
        match at(n) {
            '/' if at(n + 1) == '/' => n = end_of_line(&chars, n),
            '"' => n = end_of_literal(&chars, n, '"'),
            // A character; a quote without a second one begins a lifetime.
            '\'' if at(n + 1) == '\\' => n = end_of_literal(&chars, n, '\''),
            '\'' if at(n + 2) == '\'' => n += 3,
            ':' if at(n + 1) == ':' => {
                tokens.push(Token::PathSeparator);
                n += 2;
            }
            c if is_name(c) => {
                let name: String = chars[n..].iter().take_while(|c| is_name(**c)).collect();
                n += name.chars().count();
                match end_of_raw_string(&chars, n) {
                    Some(end) if matches!(name.as_str(), "r" | "br") => n = end,
                    _ => tokens.push(Token::Name(name)),
                }
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token::Other(c));
                }
                n += 1;
            }
        }
    }
    tokens
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    let rest = chars[from..].iter();
    from + rest.take_while(|c| **c != '\n').count()
}

/// The position after the literal that begins with `quote` at `from`.
fn end_of_literal(chars: &[char], from: usize, quote: char) -> usize {
    let mut n = from + 1;
    while n < chars.len() && chars[n] != quote {
        n += if chars[n] == '\\' { 2 } else { 1 };
    }
    n + 1
}

/// The position after `"…"`, `#"…"#` and so on, if there is one at `from`.
fn end_of_raw_string(chars: &[char], from: usize) -> Option<usize> {
    let rest = chars.get(from..)?;
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    let quote = from + hashes;
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
    let rest = chars.get(quote + 1..)?;
    let length = rest.windows(end.len()).position(|w| w == end)?;
    Some(quote + 1 + length + end.len())
}
