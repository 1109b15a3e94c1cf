//! How urgently a connection is needed.

/// How urgently a connection is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A caller waits: dial as soon as possible.
    Call,
    /// A background stream: dial at a moderate rate.
    Background,
}
