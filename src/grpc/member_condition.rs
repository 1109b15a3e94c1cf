//! The condition of a member, as a failure shows it. Pure.

use std::fmt;

use crate::error::{RetryHint, ServerError};

/// The condition of a member, as a failure shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberCondition {
    /// The failure says nothing against the member.
    Healthy,
    /// No answer arrived: check the connection, and use another member meanwhile.
    Silent,
    /// The member answers but cannot serve.
    Unable,
    /// The member is a learner.
    Learner,
}

impl fmt::Display for MemberCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemberCondition::Healthy => "nothing is wrong",
            MemberCondition::Silent => "it does not answer",
            MemberCondition::Unable => "it cannot serve now",
            MemberCondition::Learner => "it is a learner",
        })
    }
}

impl MemberCondition {
    /// The condition of a member that answered with this error.
    pub(crate) fn of_answer(error: &ServerError) -> Self {
        match error.retry_hint {
            RetryHint::OtherMember => MemberCondition::Unable,
            RetryHint::Learner => MemberCondition::Learner,
            RetryHint::None | RetryHint::SameMember | RetryHint::NewToken(_) => {
                MemberCondition::Healthy
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_printed_as_the_reason_of_an_error() {
        let text = MemberCondition::Silent.to_string();
        assert_eq!(text, "it does not answer");
    }
}
