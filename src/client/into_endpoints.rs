//! Conversion of texts and collections into endpoints.

use crate::grpc::connect::endpoint::is_socket;

/// One endpoint, a list separated by commas, or a collection of endpoints.
///
/// A text is split at its commas, as in `"10.0.0.1:2379, 10.0.0.2:2379"`; the elements of a collection
/// are not. An iterator is collected first. A text with `@` outside the paths of socket files is not split: credentials
/// are refused, and the error hides a password that contains a comma.
///
/// ```
/// use etcd_blocking::config::IntoEndpoints;
///
/// let list = "10.0.0.1:2379, 10.0.0.2:2379".into_endpoints();
/// let array = ["10.0.0.1:2379", "10.0.0.2:2379"].into_endpoints();
/// assert_eq!(list, array);
/// ```
pub trait IntoEndpoints: sealed::Sealed {
    /// Returns the endpoints as text, in the order given. They are parsed later.
    fn into_endpoints(self) -> Vec<String>;
}

mod sealed {
    pub trait Sealed {}
}

/// Splits a list at its commas.
///
/// A password may contain a comma. Endpoints with credentials are refused, and the error hides what is before the last
/// `@`; so that it hides all of them, such a list stays one text, from its first endpoint that is not a socket file on.
pub(super) fn split(list: &str) -> Vec<String> {
    let mut texts: Vec<_> = list.split(',').map(str::trim).collect();
    let mut rest = Vec::new();
    if texts.iter().any(|one| one.contains('@') && !is_socket(one)) {
        let first = texts.iter().position(|one| !is_socket(one));
        rest = texts.split_off(first.unwrap_or(texts.len()));
    }
    let rest = (!rest.is_empty()).then(|| rest.join(","));
    let texts = texts.into_iter().map(str::to_owned);
    texts.chain(rest).collect()
}

macro_rules! text {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}

        impl IntoEndpoints for $type {
            fn into_endpoints(self) -> Vec<String> {
                split(self.as_ref())
            }
        }
    )*};
}

text!(&str, String, &String);

impl<T: Into<String>, const N: usize> sealed::Sealed for [T; N] {}

impl<T: Into<String>, const N: usize> IntoEndpoints for [T; N] {
    fn into_endpoints(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<String>> sealed::Sealed for Vec<T> {}

impl<T: Into<String>> IntoEndpoints for Vec<T> {
    fn into_endpoints(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! borrowed {
    ($type:ty $(, $size:ident)?) => {
        impl<T: AsRef<str> $(, const $size: usize)?> sealed::Sealed for $type {}

        impl<T: AsRef<str> $(, const $size: usize)?> IntoEndpoints for $type {
            fn into_endpoints(self) -> Vec<String> {
                self.iter().map(|text| text.as_ref().to_owned()).collect()
            }
        }
    };
}

borrowed!(&[T]);
borrowed!(&Vec<T>);
borrowed!(&[T; N], N);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_credentials_is_refused_with_an_error_that_hides_all_of_them() {
        use crate::grpc::connect::endpoint::Endpoint;
        for list in [
            "http://root:sec,ret@h:1",
            "a:1,root:sec,ret@h:1,b:1",
            "unix:/run/a,http://root:sec,ret@h:1",
            "http://a:1,https://root:sec,r/et@h:1",
        ] {
            let parsed = list.into_endpoints().into_iter();
            let errors: Vec<_> = parsed
                .filter_map(|one| Endpoint::parse(&one, false).err())
                .map(|error| error.to_string())
                .collect();
            assert!(errors[0].contains("credentials"), "{list}: {errors:?}");
            let hidden = |error: &String| !error.contains("sec") && !error.contains("root");
            assert!(errors.iter().all(hidden), "{list}: {errors:?}");
        }
        // The path of a socket file may contain the character.
        let files = ["unix:/run/a@b", "UNIXS:/run/c@d", "e:1"];
        assert_eq!(files.join(",").into_endpoints(), files);
    }

    #[test]
    fn a_text_is_split_at_commas_and_a_list_element_is_not() {
        let two = ["a:1", "b:2"];
        for given in [
            "a:1,b:2".into_endpoints(),
            "a:1 , b:2".to_owned().into_endpoints(),
            (&"a:1,b:2".to_owned()).into_endpoints(),
            two.into_endpoints(),
            two.to_vec().into_endpoints(),
            two[..].into_endpoints(),
            (&two).into_endpoints(),
            (&two.map(String::from).to_vec()).into_endpoints(),
        ] {
            assert_eq!(given, two);
        }
        assert_eq!("unix:/run/etcd.sock".into_endpoints().len(), 1);
        assert_eq!(["a:1,b:2"].into_endpoints(), ["a:1,b:2"]);
        assert_eq!(
            "a:1,".into_endpoints(),
            ["a:1", ""],
            "an empty endpoint is refused when it is parsed"
        );
    }
}
