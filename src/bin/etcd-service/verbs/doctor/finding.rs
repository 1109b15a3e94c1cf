//! What `doctor` finds, and the exit code for it. Pure.

use serde::Serialize;

use crate::output::{counted, printable};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Checked, and in order: shown with `--verbose` only.
    Ok,
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
    /// Keys, values and leases below the prefix.
    Registry,
    /// Clocks of members and of this machine.
    Clock,
    /// Versions and members of the cluster.
    Cluster,
    /// Alarms, and the size of the database.
    Quota,
    /// Users, passwords, tokens and permissions.
    Auth,
    /// Certificates and keys.
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
            Class::Clock => 16,
        }
    }
}

/// Something that `doctor` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) class: Class,
    /// The endpoint, member, file, key or prefix.
    #[serde(rename = "where")]
    pub(super) place: String,
    pub(super) what: String,
    /// Why it matters; empty for what is in order.
    pub(super) why: String,
    /// What to do; empty if there is nothing to do.
    pub(super) advice: String,
}

impl Finding {
    pub(super) fn error(class: Class, place: impl Into<String>, what: impl Into<String>) -> Self {
        Finding::new(Severity::Error, class, place, what)
    }

    pub(super) fn warning(class: Class, place: impl Into<String>, what: impl Into<String>) -> Self {
        Finding::new(Severity::Warning, class, place, what)
    }

    pub(super) fn info(class: Class, place: impl Into<String>, what: impl Into<String>) -> Self {
        Finding::new(Severity::Info, class, place, what)
    }

    /// Something that was checked and is in order.
    pub(super) fn ok(class: Class, place: impl Into<String>, what: impl Into<String>) -> Self {
        Finding::new(Severity::Ok, class, place, what)
    }

    pub(super) fn new(
        severity: Severity,
        class: Class,
        place: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Finding {
            severity,
            class,
            place: place.into(),
            what: what.into(),
            why: String::new(),
            advice: String::new(),
        }
    }

    /// Adds why it matters.
    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// Adds what to do.
    pub(super) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// The lines for a terminal.
    pub(super) fn lines(&self) -> Vec<String> {
        let severity = match self.severity {
            Severity::Ok => "ok",
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let (place, what) = (printable(&self.place), printable(&self.what));
        let mut lines = vec![format!("{severity:7}  {place}: {what}")];
        for (name, text) in [("why:", &self.why), ("do: ", &self.advice)] {
            if !text.is_empty() {
                lines.push(format!("         {name} {}", printable(text)));
            }
        }
        lines
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

/// The last line: how many findings there are.
pub(super) fn summary(findings: &[Finding]) -> String {
    let count = |severity| {
        let of = findings.iter().filter(|of| of.severity == severity);
        of.count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors + warnings == 0 {
        return "nothing wrong was found".to_owned();
    }
    format!(
        "{}, {}",
        counted(errors, "error"),
        counted(warnings, "warning")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let registry = Finding::error(Class::Registry, "", "");
        let quota = Finding::warning(Class::Quota, "", "");
        let info = Finding::info(Class::Unreachable, "", "");
        let ok = Finding::ok(Class::Unreachable, "", "");
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(&[info.clone(), ok]), 0);
        assert_eq!(exit_code(&[info, quota.clone()]), 14);
        assert_eq!(exit_code(&[quota.clone(), registry]), 15);
        let unreachable = Finding::warning(Class::Unreachable, "", "");
        assert_eq!(exit_code(&[quota.clone(), unreachable]), 10);
        let clock = Finding::warning(Class::Clock, "", "");
        assert_eq!(exit_code(std::slice::from_ref(&clock)), 16);
        let cluster = Finding::warning(Class::Cluster, "", "");
        assert_eq!(exit_code(&[clock, cluster.clone()]), 13);
        assert_eq!(exit_code(&[quota, cluster]), 14);
    }

    #[test]
    fn lines_have_no_control_characters() {
        let finding = Finding::error(Class::Registry, "key \u{1b}[2J\n", "bad");
        assert_eq!(finding.lines(), ["error    key \\u{1b}[2J\\u{a}: bad"]);
        let finding = finding.why("\u{1b}a").advice("delete it");
        let expected = ["         why: \\u{1b}a", "         do:  delete it"];
        assert_eq!(finding.lines()[1..], expected);
    }

    #[test]
    fn findings_are_counted() {
        let error = Finding::error(Class::Registry, "", "");
        assert_eq!(summary(&[]), "nothing wrong was found");
        assert_eq!(summary(&[error]), "1 error, 0 warnings");
    }
}
