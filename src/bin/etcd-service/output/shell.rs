//! Variables of a POSIX shell. Pure.

use super::printable;

/// `NAME='value'`, which a shell takes as text whatever it contains.
pub(crate) fn shell_variable(name: &str, value: &str) -> String {
    format!("{name}='{}'", printable(value).replace('\'', "'\\''"))
}

/// The name in capitals, with `_` for each character that a variable cannot have.
pub(crate) fn variable_name(name: &str) -> String {
    let letters = name.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    });
    let name: String = letters.collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        true => format!("_{name}"),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_for_a_shell() {
        for (value, expected) in [
            ("10.0.0.5:80", "A='10.0.0.5:80'"),
            ("$(reboot) `x` \"", "A='$(reboot) `x` \"'"),
            ("it's", "A='it'\\''s'"),
            ("a\nb", "A='a\\u{a}b'"),
        ] {
            assert_eq!(shell_variable("A", value), expected);
        }
    }

    #[test]
    fn names_have_letters_digits_and_underscores() {
        for (name, expected) in [
            ("web", "WEB"),
            ("shop.cart-2", "SHOP_CART_2"),
            ("3d", "_3D"),
            ("", "_"),
            ("ä;b", "__B"),
        ] {
            assert_eq!(variable_name(name), expected);
        }
    }
}
