//! The flags that describe an instance.

use std::collections::BTreeMap;

use clap::Args;
use etcd_blocking::Instance;
use serde::Deserialize;

/// The properties of an instance. In a file, each key is the name of a flag; `meta` and `endpoint` are tables
/// there, or lists of texts as in the flags.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[command(next_help_heading = "Instance")]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct InstanceArguments {
    /// Name of the service
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Address at which clients reach the instance
    #[arg(long, value_name = "HOST:PORT")]
    addr: String,
    /// Id of the instance in its service [default: the address]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Share of the calls, compared with the other instances [default: 1]
    #[arg(long, value_name = "WEIGHT")]
    weight: Option<u32>,
    /// Zone that the instance is in
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Tag; can be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Metadata; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    #[serde(deserialize_with = "pairs")]
    meta: Vec<(String, String)>,
    /// Version of the program, such as 1.4.2
    #[arg(long = "version", value_name = "VERSION")]
    #[serde(rename = "version")]
    instance_version: Option<String>,
    /// Further address, such as `metrics=http://10.0.0.5:9100/metrics`; can be repeated
    #[arg(long, value_name = "NAME=URI", value_parser = pair)]
    #[serde(deserialize_with = "pairs")]
    endpoint: Vec<(String, String)>,
}

impl InstanceArguments {
    /// The address.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Returns the instance. The error says what is wrong with it.
    pub(crate) fn instance(&self) -> Result<Instance, String> {
        let mut instance = Instance::new(&self.service, &self.addr);
        if let Some(id) = &self.id {
            instance = instance.id(id);
        }
        if let Some(weight) = self.weight {
            instance = instance.weight(weight);
        }
        if let Some(zone) = &self.zone {
            instance = instance.zone(zone);
        }
        if let Some(version) = &self.instance_version {
            instance = instance.version(version);
        }
        for tag in &self.tag {
            instance = instance.tag(tag);
        }
        for (key, value) in &self.meta {
            instance = instance.meta(key, value);
        }
        for (name, uri) in &self.endpoint {
            instance = instance.endpoint(name, uri);
        }
        instance.check().map_err(|error| error.to_string())?;
        Ok(instance)
    }
}

/// Parses `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

/// A table of texts, or a list of `NAME=VALUE`.
fn pairs<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Table(BTreeMap<String, String>),
        List(Vec<String>),
    }
    match Form::deserialize(from)? {
        Form::Table(table) => Ok(table.into_iter().collect()),
        Form::List(list) => {
            let pairs = list.iter().map(|text| pair(text)).collect::<Result<_, _>>();
            pairs.map_err(serde::de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_describe_instances() {
        let text = "service = 'web'\naddr = '10.0.0.5:80'\ntag = ['a']\nversion = '1'\nendpoint = ['m=http://x']\n\
                    [meta]\nk = 'v=w'";
        let arguments: InstanceArguments = toml::from_str(text).unwrap();
        let instance = arguments.instance().unwrap();
        assert_eq!(
            (instance.service.as_str(), instance.id.as_str()),
            ("web", "10.0.0.5:80")
        );
        assert_eq!(instance.meta["k"], "v=w");
        assert_eq!(instance.endpoints["m"], "http://x");
        assert_eq!(instance.version, "1");
    }

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err() && pair("a").is_err());
        assert!(InstanceArguments::default().instance().is_err());
    }
}
