//! Conversion of keys and values to bytes.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// A type that can be a key or a value: text or bytes, borrowed or owned.
///
/// Owned values are moved, borrowed values are copied. A [`Bytes`], also a borrowed one, is shared
/// without a copy. Implement this trait for your own key and value types.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
/// use etcd_blocking::IntoBytes;
/// use etcd_blocking::bytes::Bytes;
///
/// struct User(u32);
///
/// impl IntoBytes for &User {
///     fn into_bytes(self) -> Bytes {
///         format!("/users/{}", self.0).into_bytes().into()
///     }
/// }
///
/// let (user, name) = (User(7), String::from("Ada"));
/// client.put(&user, &name)?;
/// assert_eq!(client.get(&user)?.unwrap().value(), &name);
/// # Ok(()) }
/// ```
pub trait IntoBytes {
    /// Converts the value to bytes.
    fn into_bytes(self) -> Bytes;
}

macro_rules! owned {
    ($($owned:ty),*) => {
        $(
            impl IntoBytes for $owned {
                fn into_bytes(self) -> Bytes {
                    self.into()
                }
            }
        )*
    };
}

macro_rules! borrowed {
    ($($borrowed:ty),*) => {
        $(
            impl IntoBytes for &$borrowed {
                fn into_bytes(self) -> Bytes {
                    Bytes::copy_from_slice(self.as_ref())
                }
            }
        )*
    };
}

owned!(Bytes, BytesMut, String, Vec<u8>, Box<[u8]>);
borrowed!(str, String, [u8], Vec<u8>, Box<[u8]>);

impl IntoBytes for &Bytes {
    fn into_bytes(self) -> Bytes {
        self.clone()
    }
}

impl<const N: usize> IntoBytes for [u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl<const N: usize> IntoBytes for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoBytes for Box<str> {
    fn into_bytes(self) -> Bytes {
        String::from(self).into()
    }
}

impl IntoBytes for Cow<'_, str> {
    fn into_bytes(self) -> Bytes {
        self.into_owned().into()
    }
}

impl IntoBytes for Cow<'_, [u8]> {
    fn into_bytes(self) -> Bytes {
        self.into_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_convert_to_the_same_bytes() {
        let (text, bytes) = (String::from("key"), b"key".to_vec());
        let shared = Bytes::from_static(b"key");
        let given = [
            "key".into_bytes(),
            (&text).into_bytes(),
            text.as_str().into_bytes(),
            text.clone().into_boxed_str().into_bytes(),
            Cow::Borrowed(text.as_str()).into_bytes(),
            IntoBytes::into_bytes(text.clone()),
            b"key".into_bytes(),
            (*b"key").into_bytes(),
            (&bytes).into_bytes(),
            bytes[..].into_bytes(),
            Cow::Borrowed(&bytes[..]).into_bytes(),
            bytes.clone().into_boxed_slice().into_bytes(),
            bytes.into_bytes(),
            (&shared).into_bytes(),
            BytesMut::from(&b"key"[..]).into_bytes(),
        ];
        assert!(given.iter().all(|key| key == "key"), "{given:?}");
    }

    #[test]
    fn bytes_are_shared_and_not_copied() {
        let shared = Bytes::from(vec![1; 100]);
        assert_eq!((&shared).into_bytes().as_ptr(), shared.as_ptr());
        let owned = vec![1; 100];
        let at = owned.as_ptr();
        assert_eq!(owned.into_bytes().as_ptr(), at);
    }
}
