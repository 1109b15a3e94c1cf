//! The file of services. Pure, but for reading the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use etcd_blocking::Instance;
use serde::Deserialize;

/// A service of the file: one instance.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(alias = "name")]
    pub(super) service: String,
    pub(super) addr: String,
    pub(super) id: Option<String>,
    pub(super) weight: Option<u32>,
    #[serde(default)]
    pub(super) zone: String,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) meta: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) endpoints: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Services {
    service: Vec<Entry>,
}

impl Entry {
    /// The instance that is registered.
    pub(super) fn instance(&self) -> Instance {
        let mut instance = Instance::new(self.service.as_str(), self.addr.as_str())
            .zone(self.zone.as_str())
            .version(self.version.as_str());
        if let Some(id) = &self.id {
            instance = instance.id(id.as_str());
        }
        if let Some(weight) = self.weight {
            instance = instance.weight(weight);
        }
        instance.tags.clone_from(&self.tags);
        instance.meta.clone_from(&self.meta);
        instance.endpoints.clone_from(&self.endpoints);
        instance
    }

    /// The service and the id.
    pub(super) fn name(&self) -> (String, String) {
        let instance = self.instance();
        (instance.service, instance.id)
    }
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
    let entries = parsed?.service;
    let mut names = BTreeSet::new();
    for entry in &entries {
        entry
            .instance()
            .check()
            .map_err(|error| error.to_string())?;
        let (service, id) = entry.name();
        if !names.insert((service.clone(), id.clone())) {
            return Err(format!(
                "{service} {id} is there twice: give each an id of its own"
            ));
        }
    }
    match entries.is_empty() {
        // A file that was cut off must not take everything out of service.
        true => Err("it has no service; end the program to take all out of etcd".to_owned()),
        false => Ok(entries),
    }
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
        tags = ["blue"]
        meta = { team = "core" }

        [[service]]
        name = "db"
        addr = "10.0.0.5:5432"
    "#;

    #[test]
    fn toml_and_yaml_mean_the_same() {
        let yaml = "service:\n- {service: web, addr: '10.0.0.5:80', id: a, weight: 5, zone: x, version: '1.2', \
                    tags: [blue], meta: {team: core}}\n- {name: db, addr: '10.0.0.5:5432'}\n";
        let entries = parse(TOML, false).unwrap();
        assert_eq!(parse(yaml, true).unwrap(), entries);
        let web = entries[0].instance();
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
    fn a_wrong_file_is_refused_on_one_line() {
        for (text, expected) in [
            ("", "missing field `service`"),
            ("service = []", "it has no service"),
            ("[[service]]\nservice = \"web\"", "missing field `addr`"),
            (
                "[[service]]\nservice = \"web\"\naddr = \"web\"",
                "host:port",
            ),
            ("[[service]]\nservice = \"a/b\"\naddr = \"a:1\"", "'/'"),
            (
                "[[service]]\nservice = \"web\"\naddr = \"a:1\"\nwait = 1",
                "unknown field `wait`",
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
