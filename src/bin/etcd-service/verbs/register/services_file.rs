//! The file of services. Pure, but for reading the file.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Args as _, Command};
use etcd_blocking::Instance;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::arguments::{CheckArguments, InstanceArguments};

/// One instance that is registered.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) instance: Instance,
    pub(super) checks: CheckArguments,
    /// What the file says about it, to tell whether the checks changed.
    written: Map<String, Value>,
}

impl Entry {
    /// An instance with its checks.
    pub(super) fn new(
        instance: &InstanceArguments,
        checks: CheckArguments,
    ) -> Result<Self, String> {
        let instance = instance.instance()?;
        // What is wrong with a check is said now, and not when it is registered.
        let _ = checks.checks(&instance.addr)?;
        Ok(Entry {
            instance,
            checks,
            written: Map::new(),
        })
    }

    /// The service and the id.
    pub(super) fn name(&self) -> (String, String) {
        (self.instance.service.clone(), self.instance.id.clone())
    }

    /// Whether the registration can stay: its address and its checks are those of the other.
    pub(super) fn continues(&self, other: &Entry) -> bool {
        let checks = |entry: &Entry| -> Map<String, Value> {
            let known = flags(CheckArguments::augment_args(Command::new("")));
            let written = entry
                .written
                .iter()
                .filter(|(name, _)| known.contains(*name));
            written
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        self.instance.addr == other.instance.addr && checks(self) == checks(other)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Services {
    service: Vec<Map<String, Value>>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let of_file = |why: String| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| of_file(error.to_string()))?;
    let ends_with = |end: &str| path.extension().is_some_and(|extension| extension == end);
    parse(&text, ends_with("yaml") || ends_with("yml")).map_err(of_file)
}

/// Parses YAML, or TOML.
fn parse(text: &str, is_yaml: bool) -> Result<Vec<Entry>, String> {
    let one_line = |text: String| text.trim_end().replace('\n', " ");
    let parsed: Result<Services, String> = match is_yaml {
        true => serde_norway::from_str(text).map_err(|error| one_line(error.to_string())),
        false => toml::from_str(text).map_err(|error| one_line(error.to_string())),
    };
    let mut names = BTreeSet::new();
    let mut entries = Vec::new();
    for (index, written) in parsed?.service.into_iter().enumerate() {
        let of_entry = |why: String| format!("service {}: {why}", index + 1);
        let entry = entry(written).map_err(of_entry)?;
        let (service, id) = entry.name();
        if !names.insert(entry.name()) {
            return Err(format!(
                "{service} {id} is there twice: give each an id of its own"
            ));
        }
        entries.push(entry);
    }
    match entries.is_empty() {
        // A file that was cut off must not take everything out of service.
        true => Err("it has no service; end the program to take all out of etcd".to_owned()),
        false => Ok(entries),
    }
}

fn entry(written: Map<String, Value>) -> Result<Entry, String> {
    let known = CheckArguments::augment_args(InstanceArguments::augment_args(Command::new("")));
    let known = flags(known);
    if let Some(name) = written.keys().find(|name| !known.contains(*name)) {
        let known: Vec<_> = known.into_iter().collect();
        return Err(format!(
            "there is no setting {name:?}; there are {}",
            known.join(", ")
        ));
    }
    let value = || Value::Object(written.clone());
    let instance: InstanceArguments =
        serde_json::from_value(value()).map_err(|error| error.to_string())?;
    let checks: CheckArguments =
        serde_json::from_value(value()).map_err(|error| error.to_string())?;
    Ok(Entry {
        written,
        ..Entry::new(&instance, checks)?
    })
}

/// The names of the flags, which are those of the settings.
fn flags(of: Command) -> BTreeSet<String> {
    let names = of
        .get_arguments()
        .filter_map(|argument| argument.get_long());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        [[service]]
        service = "web"
        addr = "10.0.0.5:80"
        id = "a"
        weight = 5
        zone = "x"
        version = "1.2"
        tag = ["blue"]
        meta = { team = "core" }

        [[service]]
        service = "db"
        addr = "10.0.0.5:5432"
    "#;

    #[test]
    fn toml_and_yaml_mean_the_same() {
        let yaml = "service:\n- {service: web, addr: '10.0.0.5:80', id: a, weight: 5, zone: x, version: '1.2', \
                    tag: [blue], meta: {team: core}}\n- {service: db, addr: '10.0.0.5:5432'}\n";
        let entries = parse(TOML, false).unwrap();
        for (one, other) in parse(yaml, true).unwrap().iter().zip(&entries) {
            assert!(one.instance == other.instance && one.continues(other));
        }
        let web = entries[0].instance.clone();
        let expected = Instance::new("web", "10.0.0.5:80")
            .id("a")
            .weight(5)
            .zone("x")
            .version("1.2");
        assert_eq!(web, expected.tag("blue").meta("team", "core"));
        assert_eq!(
            entries[1].name(),
            ("db".to_owned(), "10.0.0.5:5432".to_owned())
        );
    }

    #[test]
    fn a_registration_continues_unless_its_address_or_its_checks_change() {
        let entry = |more: &str| {
            let text = format!("[[service]]\nservice = 'web'\naddr = 'a:1'\n{more}");
            parse(&text, false).unwrap().remove(0)
        };
        let before = entry("check = ['tcp']");
        assert!(before.continues(&entry("check = ['tcp']\nweight = 5\nzone = 'x'")));
        for other in ["", "check = ['tcp', 'tcp']", "check = ['tcp']\nrise = 5"] {
            assert!(!before.continues(&entry(other)), "{other}");
        }
        let moved = Entry {
            instance: Instance::new("web", "a:2").id("a:1"),
            ..before.clone()
        };
        assert!(!before.continues(&moved));
    }

    #[test]
    fn a_wrong_file_is_refused_on_one_line() {
        for (text, expected) in [
            ("", "missing field `service`"),
            ("service = []", "it has no service"),
            ("[[service]]\nservice = \"web\"", "service 1: "),
            (
                "[[service]]\nservice = \"web\"\naddr = \"web\"",
                "host:port",
            ),
            ("[[service]]\nservice = \"a/b\"\naddr = \"a:1\"", "'/'"),
            (
                "[[service]]\nservice = \"web\"\naddr = \"a:1\"\nwait = 1",
                "there is no setting \"wait\"",
            ),
            (
                "[[service]]\nservice = \"web\"\naddr = \"a:1\"\ncheck = [\"udp\"]",
                "is not tcp",
            ),
            ("[[service", "line 1"),
            (
                "[[service]]\nservice=\"a\"\naddr=\"a:1\"\n[[service]]\nservice=\"a\"\naddr=\"a:1\"",
                "a a:1 is there twice",
            ),
        ] {
            let error = parse(text, false).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
