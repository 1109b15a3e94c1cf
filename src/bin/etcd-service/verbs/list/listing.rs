//! The lines of a list. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use clap::ValueEnum;
use etcd_blocking::Instance;
use serde_json::{Value, json};

use crate::output::{
    csv_record, instance_json, json_line, printable, shell_variable, table, variable_name,
};

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table for people
    #[value(alias = "simple", alias = "table")]
    Text,
    /// One JSON array
    Json,
    /// A JSON object a line
    Jsonl,
    /// Lines of /etc/hosts: the address and the service of each instance that accepts calls
    Hosts,
    /// Variables of a shell for the instances that accept calls: WEB_ADDRS, WEB_0_ADDR and so on
    Env,
    /// A header and a record a line, as RFC 4180 defines them
    Csv,
}

impl Output {
    /// Whether it has only instances that accept calls, because it is for programs that call them.
    pub(crate) fn is_for_callers(self) -> bool {
        matches!(self, Output::Hosts | Output::Env)
    }
}

/// The lines of a list, and what is missing in it and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) lines: Vec<String>,
    pub(crate) omitted: Vec<String>,
}

impl Listing {
    /// The instances of one service.
    pub(crate) fn of_service(output: Output, service: &str, all: &[Arc<Instance>]) -> Self {
        match output {
            Output::Hosts => hosts(all),
            Output::Env => env(service, all).into(),
            Output::Json => one_array(all.iter().map(|instance| instance_json(instance))).into(),
            Output::Jsonl => objects(all.iter().map(|instance| instance_json(instance))).into(),
            _ if all.is_empty() => Listing::default(),
            Output::Text => {
                let columns = [
                    "ID", "ADDR", "STATUS", "WEIGHT", "ZONE", "VERSION", "TAGS", "REASON",
                ];
                let rows: Vec<_> = all.iter().map(|one| row(one)).collect();
                table(&columns, &rows).into()
            }
            Output::Csv => {
                let columns = "id,addr,status,weight,zone,version,tags,reason".to_owned();
                let rows = all.iter().map(|one| row(one));
                let rows = rows.map(|row| csv_record(row.iter().map(String::as_str)));
                std::iter::once(columns)
                    .chain(rows)
                    .collect::<Vec<_>>()
                    .into()
            }
        }
    }

    /// The services, each with its instances.
    pub(crate) fn of_services(
        output: Output,
        services: &BTreeMap<String, Vec<Arc<Instance>>>,
    ) -> Self {
        let counted = services.iter().map(|(name, all)| {
            let up = all.iter().filter(|instance| instance.is_pickable()).count();
            (name, up, all.len())
        });
        let object = |(name, up, total)| json!({ "service": name, "up": up, "total": total });
        let cells = |(name, up, total): (&String, usize, usize)| {
            vec![name.clone(), up.to_string(), total.to_string()]
        };
        match output {
            Output::Hosts => {
                let all: Vec<_> = services.values().flatten().cloned().collect();
                hosts(&all)
            }
            Output::Env => {
                let lines = services.iter().flat_map(|(name, all)| env(name, all));
                lines.collect::<Vec<_>>().into()
            }
            Output::Json => one_array(counted.map(object)).into(),
            Output::Jsonl => objects(counted.map(object)).into(),
            _ if services.is_empty() => Listing::default(),
            Output::Text => {
                let rows: Vec<_> = counted.map(cells).collect();
                table(&["SERVICE", "UP", "TOTAL"], &rows).into()
            }
            Output::Csv => {
                let rows = counted.map(cells);
                let rows = rows.map(|row| csv_record(row.iter().map(String::as_str)));
                let head = std::iter::once("service,up,total".to_owned());
                head.chain(rows).collect::<Vec<_>>().into()
            }
        }
    }
}

impl From<Vec<String>> for Listing {
    fn from(lines: Vec<String>) -> Self {
        Listing {
            lines,
            omitted: Vec::new(),
        }
    }
}

fn row(instance: &Instance) -> Vec<String> {
    vec![
        instance.id.clone(),
        instance.addr.clone(),
        instance.status.to_string(),
        instance.weight.to_string(),
        instance.zone.clone(),
        instance.version.clone(),
        instance.tags.join(" "),
        instance.reason.clone(),
    ]
}

fn one_array(values: impl Iterator<Item = Value>) -> Vec<String> {
    vec![json_line(&Value::Array(values.collect()))]
}

fn objects(values: impl Iterator<Item = Value>) -> Vec<String> {
    values.map(|value| json_line(&value)).collect()
}

/// One line for each IP address of a service.
fn hosts(instances: &[Arc<Instance>]) -> Listing {
    let mut listing = Listing::default();
    let mut omit = |instance: &Instance, why: &str| {
        let (service, id) = (printable(&instance.service), printable(&instance.id));
        listing
            .omitted
            .push(format!("{service} {id} {why}; it is left out"));
    };
    let mut lines = Vec::new();
    for instance in instances {
        let address = instance
            .host_and_port()
            .map(|(host, _)| host.parse::<IpAddr>());
        match address {
            _ if !is_host_name(&instance.service) => omit(instance, "has no name for /etc/hosts"),
            Some(Ok(ip)) => lines.push(format!("{ip} {}", instance.service)),
            _ => omit(instance, "has no IP address"),
        }
    }
    lines.dedup();
    listing.lines = lines;
    listing
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// The variables of one service.
fn env(service: &str, instances: &[Arc<Instance>]) -> Vec<String> {
    let name = variable_name(service);
    let addrs: Vec<&str> = instances.iter().map(|one| one.addr.as_str()).collect();
    let mut lines = vec![
        shell_variable(&format!("{name}_COUNT"), &instances.len().to_string()),
        shell_variable(&format!("{name}_ADDRS"), &addrs.join(" ")),
    ];
    for (index, instance) in instances.iter().enumerate() {
        let variable =
            |end: &str, value: &str| shell_variable(&format!("{name}_{index}_{end}"), value);
        lines.push(variable("ID", &instance.id));
        lines.push(variable("ADDR", &instance.addr));
        if let Some((host, port)) = instance.host_and_port() {
            lines.push(variable("HOST", host));
            lines.push(variable("PORT", &port.to_string()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use etcd_blocking::Status;

    use super::*;

    fn instances() -> Vec<Arc<Instance>> {
        let one = Instance::new("web", "10.0.0.5:80")
            .id("a")
            .zone("z")
            .tag("x")
            .tag("y");
        let two = Instance::new("web", "db.local:81").id("b").version("=1");
        let two = two.status(Status::Draining).reason("it's \"late\"");
        vec![Arc::new(one), Arc::new(two)]
    }

    fn lines(output: Output) -> Vec<String> {
        Listing::of_service(output, "web", &instances()).lines
    }

    #[test]
    fn a_table_and_records_have_a_line_for_each_instance() {
        assert_eq!(
            lines(Output::Text),
            [
                "ID  ADDR         STATUS    WEIGHT  ZONE  VERSION  TAGS  REASON",
                "a   10.0.0.5:80  up        1       z     -        x y   -",
                "b   db.local:81  draining  1       -     =1       -     it's \"late\"",
            ]
        );
        assert_eq!(
            lines(Output::Csv),
            [
                "id,addr,status,weight,zone,version,tags,reason",
                "a,10.0.0.5:80,up,1,z,,\"x y\",",
                "b,db.local:81,draining,1,,'=1,,\"it's \"\"late\"\"\"",
            ]
        );
    }

    #[test]
    fn json_is_one_array_or_a_line_for_each() {
        let array: Value = serde_json::from_str(&lines(Output::Json).join("\n")).unwrap();
        let objects = lines(Output::Jsonl);
        assert_eq!(objects.len(), 2);
        let objects = objects
            .iter()
            .map(|line| serde_json::from_str(line).unwrap());
        assert_eq!(array, Value::Array(objects.collect()));
    }

    #[test]
    fn hosts_have_ip_addresses_and_name_what_they_omit() {
        let listing = Listing::of_service(Output::Hosts, "web", &instances());
        assert_eq!(listing.lines, ["10.0.0.5 web"]);
        assert_eq!(listing.omitted, ["web b has no IP address; it is left out"]);
        let v6 = Arc::new(Instance::new("web", "[::1]:80"));
        assert_eq!(hosts(&[v6]).lines, ["::1 web"]);
        for service in ["a b", "a\n10.0.0.1 bank", "", "-x", "a#"] {
            let listing = hosts(&[Arc::new(Instance::new(service, "10.0.0.5:80").id("i"))]);
            assert!(listing.lines.is_empty(), "{service:?}");
            assert_eq!(listing.omitted.len(), 1);
        }
    }

    #[test]
    fn variables_have_every_address() {
        let lines = lines(Output::Env);
        let expected = "WEB_COUNT='2'\nWEB_ADDRS='10.0.0.5:80 db.local:81'\nWEB_0_ID='a'\n\
                        WEB_0_ADDR='10.0.0.5:80'\nWEB_0_HOST='10.0.0.5'\nWEB_0_PORT='80'\n";
        assert!(lines.join("\n").starts_with(expected), "{lines:?}");
    }

    #[test]
    fn nothing_is_no_line_except_where_that_would_be_no_answer() {
        for (output, expected) in [
            (Output::Text, &[][..]),
            (Output::Jsonl, &[]),
            (Output::Hosts, &[]),
            (Output::Csv, &[]),
            (Output::Json, &["[]"]),
            (Output::Env, &["WEB_COUNT='0'", "WEB_ADDRS=''"]),
        ] {
            assert_eq!(Listing::of_service(output, "web", &[]).lines, expected);
        }
        let none = BTreeMap::new();
        assert!(Listing::of_services(Output::Text, &none).lines.is_empty());
        assert_eq!(Listing::of_services(Output::Json, &none).lines, ["[]"]);
    }

    #[test]
    fn services_are_counted() {
        let services = BTreeMap::from([("web".to_owned(), instances())]);
        let lines = |output| Listing::of_services(output, &services).lines;
        assert_eq!(
            lines(Output::Text),
            ["SERVICE  UP  TOTAL", "web      1   2"]
        );
        assert_eq!(lines(Output::Csv), ["service,up,total", "web,1,2"]);
        let object = r#"{"service":"web","total":2,"up":1}"#;
        assert_eq!(lines(Output::Jsonl), [object]);
    }
}
