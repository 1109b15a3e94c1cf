//! The common parts of the requests of the auth service.

use crate::error::{Error, Result};

/// Implements `Rpc` for a request with the methods `message`, `about` and `validate`. With `names keys`,
/// the request is refused inside a namespace.
macro_rules! auth_rpc {
    ($request:ty, $mode:ident $message:ty => $response:ty) => {
        auth_rpc!($request, $mode $message => $response, |request| {
            Ok($crate::rpc::request::Namespaced::keyless(request))
        });
    };
    ($request:ty, $mode:ident $message:ty => $response:ty, names keys) => {
        auth_rpc!($request, $mode $message => $response, |_| Err($crate::rpc::auth::auth_rpc::names_keys()));
    };
    ($request:ty, $mode:ident $message:ty => $response:ty, $within:expr) => {
        impl $crate::rpc::request::sealed::Rpc for $request {
            type Response = $response;

            fn operation(&self) -> $crate::error::Operation {
                self.about()
            }

            fn check(&self) -> $crate::error::Result<()> {
                self.validate()
            }

            fn within(
                self,
                _: &$crate::rpc::namespace::Namespace,
            ) -> $crate::error::Result<$crate::rpc::request::Namespaced<Self>> {
                type Within<R> = fn(R) -> $crate::error::Result<$crate::rpc::request::Namespaced<R>>;
                let within: Within<Self> = $within;
                within(self)
            }

            $crate::rpc::request::unary_rpc!($mode $message);
        }
    };
}
pub(super) use auth_rpc;

/// The error of a permission inside a namespace, where its keys would be ambiguous.
pub(super) fn names_keys() -> Error {
    Error::invalid(
        "permissions apply to full keys, and not to keys inside a namespace: use the client without \
         a namespace",
    )
}

/// Refuses an empty name, which the server treats as a missing token or an unknown user.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    match name.is_empty() {
        true => Err(Error::invalid(format!(
            "the name of the {what} is empty: set one"
        ))),
        false => Ok(()),
    }
}
