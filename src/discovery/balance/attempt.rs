//! The outcomes of one attempt of a call, and the errors of a call.

use std::error::Error;
use std::fmt;

/// The result of one attempt of [`ServiceView::call`](crate::ServiceView::call).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attempt<T, E> {
    /// The instance gave a proper answer, which is returned. That can be the answer that the request is invalid.
    Succeeded(T),
    /// The instance failed, and the call must not be sent to another one: it may have had an effect.
    Failed(E),
    /// The instance failed, and the call may be sent to another one.
    Retry(E),
}

/// Why [`ServiceView::call`](crate::ServiceView::call) has no answer.
///
/// ```
/// use etcd_blocking::balance::CallError;
///
/// let error: CallError<&str> = CallError::NoInstance;
/// assert_eq!(error.to_string(), "no instance can be picked");
/// assert_eq!(error.failure(), None);
/// assert_eq!(CallError::Failed("refused").failure(), Some("refused"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// No instance can be picked; the call was not attempted.
    NoInstance,
    /// The failure of the last attempt.
    Failed(E),
}

impl<E> CallError<E> {
    /// Returns the failure of the last attempt, or `None` if there was no attempt.
    pub fn failure(self) -> Option<E> {
        match self {
            CallError::NoInstance => None,
            CallError::Failed(failure) => Some(failure),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NoInstance => f.write_str("no instance can be picked"),
            CallError::Failed(failure) => write!(f, "the last attempt failed: {failure}"),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::NoInstance => None,
            CallError::Failed(failure) => Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_call_has_the_failure_of_its_last_attempt() {
        let failed = CallError::Failed(fmt::Error);
        let text = format!("the last attempt failed: {}", fmt::Error);
        assert_eq!(failed.to_string(), text);
        assert_eq!(failed.source().unwrap().to_string(), fmt::Error.to_string());
        assert_eq!(failed.failure(), Some(fmt::Error));
        let none = CallError::<fmt::Error>::NoInstance;
        assert_eq!(none.to_string(), "no instance can be picked");
        assert!(none.source().is_none() && none.failure().is_none());
    }
}
