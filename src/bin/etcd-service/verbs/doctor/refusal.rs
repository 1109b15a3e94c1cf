//! Requests that failed, and what that means. Pure.

use etcd_blocking::{Error, ErrorKind};

use super::finding::{Class, Finding};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
}

impl Refusal {
    /// The cause only: the text of an error also has the request, the endpoint and the attempts.
    pub(super) fn of(error: &Error) -> Self {
        let text = error.to_string();
        let last = text
            .rsplit_once("; last: ")
            .map(|(_, last)| last.strip_suffix(')').unwrap_or(last));
        let endpoint = error.endpoint().unwrap_or_default();
        let cause = last.unwrap_or(&text);
        let own = format!("{endpoint}: ");
        let cause = cause.strip_prefix(&own).unwrap_or(cause);
        let from = format!(" from {endpoint}");
        let cause = cause.strip_suffix(&from).unwrap_or(cause);
        // A request that failed at once begins with its name.
        let cause = match last {
            Some(_) => cause,
            None => cause.split_once(": ").map_or(cause, |(_, cause)| cause),
        };
        Refusal {
            kind: error.kind(),
            text: cause.to_owned(),
        }
    }

    /// What the failure is about.
    pub(super) fn class(&self) -> Class {
        match self.kind {
            ErrorKind::Tls => Class::Tls,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => Class::Auth,
            ErrorKind::NoSpace => Class::Quota,
            ErrorKind::Corrupt | ErrorKind::Unimplemented => Class::Cluster,
            _ => Class::Unreachable,
        }
    }

    /// The finding for a question that was refused: `what` is what could not be read at `place`, and `user` the user
    /// who asked.
    pub(super) fn finding(&self, place: &str, what: &str, user: Option<&str>) -> Finding {
        let text = format!("{what} could not be read: {}", self.text);
        let finding = Finding::error(self.class(), place, text);
        match (self.kind, user) {
            (ErrorKind::Unauthenticated, None) => Finding::error(
                Class::Auth,
                place,
                format!("etcd has users, and none was given, or the token is refused: {}", self.text),
            )
            .why("etcd answers users only")
            .advice("give --user NAME and the password in ETCDCTL_PASSWORD"),
            (ErrorKind::Unauthenticated, Some(user)) => Finding::error(
                Class::Auth,
                place,
                format!("etcd refuses the name or the password of the user {user}: {}", self.text),
            )
            .why("nothing can be read or registered with them")
            .advice("correct --user and ETCDCTL_PASSWORD, or set the password with `etcdctl user passwd`"),
            (ErrorKind::PermissionDenied, user) => Finding::error(
                Class::Auth,
                place,
                format!("{} may not read {what}: {}", who(user), self.text),
            )
            .why("programs with this user cannot read it either")
            .advice("grant a role of the user the permission (`etcdctl role grant-permission ROLE read`)"),
            _ => match finding.class {
                Class::Tls => finding
                    .why("no client connects")
                    .advice("compare --cacert, --cert and --key with the certificate of the server"),
                Class::Quota => finding
                    .why("etcd refuses writes")
                    .advice("free space in the database of etcd"),
                Class::Unreachable => finding
                    .why("clients fail in the same way")
                    .advice("look whether a majority of the members runs, and at the network"),
                _ => finding
                    .why("the answer of etcd is unusual")
                    .advice("look at the log of etcd"),
            },
        }
    }
}

fn who(user: Option<&str>) -> String {
    user.map_or_else(|| "this client".into(), |user| format!("the user {user}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: ErrorKind) -> Refusal {
        Refusal {
            kind,
            text: "because".into(),
        }
    }

    #[test]
    fn each_kind_has_its_class_and_advice() {
        for (kind, user, class, expected) in [
            (
                ErrorKind::Unauthenticated,
                None,
                Class::Auth,
                "none was given",
            ),
            (
                ErrorKind::Unauthenticated,
                Some("bob"),
                Class::Auth,
                "password of the user bob",
            ),
            (
                ErrorKind::PermissionDenied,
                Some("bob"),
                Class::Auth,
                "the user bob may not read keys",
            ),
            (
                ErrorKind::PermissionDenied,
                None,
                Class::Auth,
                "this client may not",
            ),
            (ErrorKind::Tls, None, Class::Tls, "because"),
            (ErrorKind::Timeout, None, Class::Unreachable, "because"),
            (ErrorKind::NoSpace, None, Class::Quota, "because"),
            (ErrorKind::Corrupt, None, Class::Cluster, "because"),
        ] {
            let finding = refusal(kind).finding("a", "keys", user);
            assert_eq!(finding.class, class, "{finding:?}");
            assert!(finding.what.contains(expected), "{finding:?}");
            assert!(!finding.why.is_empty() && !finding.advice.is_empty());
        }
    }

    #[test]
    fn the_cause_of_an_error_is_without_its_frame() {
        let client = etcd_blocking::Client::builder(["http://127.0.0.1:1"])
            .timeout(std::time::Duration::from_millis(300))
            .connect()
            .unwrap();
        let error = client.get("a").unwrap_err();
        assert_eq!(Refusal::of(&error).text, "connection refused", "{error}");
    }
}
