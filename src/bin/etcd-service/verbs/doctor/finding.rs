//! What `doctor` finds, and the exit code for it. Pure.

use etcd_blocking::{Error, ErrorKind};
use serde::Serialize;

use crate::output::printable;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Worth to know; it does not change the exit code.
    Info,
    /// Something will fail, or works only in part.
    Warning,
    /// Something fails now.
    Error,
}

/// What a finding is about. Each class has an exit code of its own; a later class is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    /// Keys and values below the prefix.
    Registry,
    /// Versions and members of the cluster.
    Cluster,
    /// Alarms, and the size of the database.
    Quota,
    /// Users, passwords, tokens and permissions.
    Auth,
    /// Certificates.
    Tls,
    /// Endpoints that do not answer.
    Unreachable,
}

impl Class {
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Class::Unreachable => 10,
            Class::Tls => 11,
            Class::Auth => 12,
            Class::Cluster => 13,
            Class::Quota => 14,
            Class::Registry => 15,
        }
    }

    /// The class of an error of a request.
    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Tls => Class::Tls,
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => Class::Auth,
            ErrorKind::NoSpace => Class::Quota,
            ErrorKind::Corrupt | ErrorKind::Unimplemented => Class::Cluster,
            _ => Class::Unreachable,
        }
    }
}

/// Something that `doctor` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) class: Class,
    /// What is found, and what it means.
    pub(super) what: String,
    /// What to do.
    pub(super) advice: String,
}

impl Finding {
    pub(super) fn error(class: Class, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding::new(Severity::Error, class, what, advice)
    }

    pub(super) fn warning(
        class: Class,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Finding::new(Severity::Warning, class, what, advice)
    }

    pub(super) fn info(class: Class, what: impl Into<String>) -> Self {
        Finding::new(Severity::Info, class, what, "")
    }

    fn new(
        severity: Severity,
        class: Class,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Finding {
            severity,
            class,
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// One line for a terminal.
    pub(super) fn line(&self) -> String {
        let severity = match self.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let advice = match self.advice.is_empty() {
            true => String::new(),
            false => format!(" -> {}", printable(&self.advice)),
        };
        format!("{severity:7}  {}{advice}", printable(&self.what))
    }
}

/// The exit code: that of the worst class among the errors, else among the warnings.
pub(super) fn exit_code(findings: &[Finding]) -> u8 {
    let worst = findings
        .iter()
        .filter(|finding| finding.severity > Severity::Info)
        .max_by_key(|finding| (finding.severity, finding.class));
    worst.map_or(0, |finding| finding.class.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let registry = Finding::error(Class::Registry, "", "");
        let quota = Finding::warning(Class::Quota, "", "");
        let info = Finding::info(Class::Unreachable, "");
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(std::slice::from_ref(&info)), 0);
        assert_eq!(exit_code(&[info, quota.clone()]), 14);
        assert_eq!(exit_code(&[quota.clone(), registry]), 15);
        let unreachable = Finding::warning(Class::Unreachable, "", "");
        assert_eq!(exit_code(&[quota, unreachable]), 10);
    }

    #[test]
    fn a_line_has_no_control_characters() {
        let finding = Finding::error(Class::Registry, "bad \u{1b}[2J\nkey", "delete it");
        assert_eq!(
            finding.line(),
            "error    bad \\u{1b}[2J\\u{a}key -> delete it"
        );
    }
}
