//! Renders a template with what it reads. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcd_blocking::Instance;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::contents::{Contents, Reading, Record};
use super::safe;
use crate::output::{instance_json, printable};

/// The ready templates, by their names.
const READY: [(&str, &str); 4] = [
    ("@haproxy", include_str!("templates/haproxy.cfg.j2")),
    ("@nginx", include_str!("templates/nginx.conf.j2")),
    ("@hosts", include_str!("templates/hosts.j2")),
    ("@file_sd", include_str!("templates/file_sd.json.j2")),
];

/// The steps of a rendering: an endless loop in a template ends.
const FUEL: u64 = 5_000_000;

/// A template, with the variables of `--set`.
#[derive(Debug)]
pub(super) struct Template {
    source: String,
    variables: BTreeMap<String, String>,
}

/// A rendering.
#[derive(Debug)]
pub(super) struct Rendered {
    /// The text, or what is wrong with the template or with what it read.
    pub(super) text: Result<String, String>,
    pub(super) record: Record,
}

/// The source of a ready template, or what there is instead.
pub(super) fn ready(name: &str) -> Result<&'static str, String> {
    let found = READY.iter().find(|(ready, _)| *ready == name);
    found.map(|(_, source)| *source).ok_or_else(|| {
        let names = READY.map(|(name, _)| name).join(", ");
        format!(
            "there is no ready template {name}; there are {names}; a file of this name is ./{name}"
        )
    })
}

impl Template {
    /// Parses a template.
    pub(super) fn new(source: String, variables: BTreeMap<String, String>) -> Result<Self, String> {
        let template = Template { source, variables };
        let reading = Arc::new(Reading::default());
        environment(&reading)
            .template_from_str(&template.source)
            .map_err(|error| message(&error))?;
        Ok(template)
    }

    /// Renders the template.
    pub(super) fn render(&self, contents: Contents) -> Rendered {
        let reading = Arc::new(Reading::new(contents));
        let environment = environment(&reading);
        let text = environment
            .template_from_str(&self.source)
            .and_then(|template| template.render(map(&self.variables)))
            .map_err(|error| message(&error));
        Rendered {
            text,
            record: reading.record(),
        }
    }
}

/// The error on one line.
fn message(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    printable(&text).replace("<string>", "template")
}

fn environment(reading: &Arc<Reading>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The files are no HTML.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    let mut syntax = SyntaxConfig::builder();
    syntax
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.add_global(
        "services",
        Value::from_object(Services(Arc::clone(reading))),
    );
    let of = Arc::clone(reading);
    environment.add_function("service", move |name: String| instances(&of.service(&name)));
    let of = Arc::clone(reading);
    environment.add_function("key", move |key: String, kwargs: Kwargs| {
        let default = kwargs.get::<Option<Value>>("default")?;
        kwargs.assert_all_used()?;
        match (of.key(&key), default) {
            (Some(value), _) => Ok(Value::from(value)),
            (None, Some(default)) => Ok(default),
            // A range that is not read yet may have it.
            (None, None) if of.record().is_incomplete => Ok(Value::from("")),
            (None, None) => Err(Error::new(
                ErrorKind::UndefinedError,
                format!("there is no key {key:?}; key({key:?}, default=\"\") permits that"),
            )),
        }
    });
    let of = Arc::clone(reading);
    environment.add_function("keys", move |prefix: String| map(&of.prefix(&prefix)));
    environment.add_filter("up", |value: Value| filtered(&value, is_up));
    let of = Arc::clone(reading);
    environment.add_filter("safe", move |value: Value| safe_instances(&of, &value));
    environment.add_filter("tojson", |value: Value| {
        let failed = |error| Error::new(ErrorKind::BadSerialization, format!("{error}"));
        serde_json::to_string(&value).map_err(failed)
    });
    environment.add_filter("fail", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_test("name", |name: String| safe::is_name(&name));
    environment.add_test("ip", |host: String| {
        host.parse::<std::net::IpAddr>().is_ok()
    });
    environment
}

/// The services by their names. A template that iterates over them reads all; one that indexes them reads one.
#[derive(Debug)]
struct Services(Arc<Reading>);

impl Object for Services {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        key.as_str().map(|name| instances(&self.0.service(name)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.names().into_iter().map(Value::from).collect())
    }
}

/// An instance as a template sees it.
#[derive(Debug)]
struct Shown {
    instance: Arc<Instance>,
    /// The unique name that the filter `safe` gives it.
    name: Option<String>,
}

impl Object for Shown {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let instance = &*self.instance;
        let host_and_port = instance.host_and_port();
        match key.as_str()? {
            "host" => host_and_port.map(|(host, _)| Value::from(host)),
            "port" => host_and_port.map(|(_, port)| Value::from(port)),
            "name" => self.name.clone().map(Value::from),
            "ready" => Some(Value::from(instance.is_pickable())),
            other => {
                let value = instance_json(instance).get(other)?.clone();
                serde_json::from_value(value).ok()
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&[
            "addr",
            "endpoints",
            "host",
            "id",
            "meta",
            "port",
            "ready",
            "reason",
            "service",
            "status",
            "tags",
            "version",
            "weight",
            "zone",
        ])
    }
}

fn map(entries: &BTreeMap<String, String>) -> Value {
    let entries = entries.iter();
    Value::from_pairs(entries.map(|(name, value)| (name.as_str(), value.as_str())))
}

fn instances(of: &[Arc<Instance>]) -> Value {
    let shown = of.iter().map(|instance| {
        let instance = Arc::clone(instance);
        Value::from_object(Shown {
            instance,
            name: None,
        })
    });
    shown.collect()
}

fn is_up(shown: &Shown) -> bool {
    shown.instance.is_pickable()
}

fn filtered(value: &Value, keeps: impl Fn(&Shown) -> bool) -> Result<Value, Error> {
    let mut kept = Vec::new();
    for one in value.try_iter()? {
        if keeps(&*shown(&one)?) {
            kept.push(one);
        }
    }
    Ok(Value::from(kept))
}

fn shown(value: &Value) -> Result<Arc<Shown>, Error> {
    let wrong = || {
        Error::new(
            ErrorKind::InvalidOperation,
            "the filter is for instances only",
        )
    };
    value.downcast_object::<Shown>().ok_or_else(wrong)
}

/// The instances whose addresses can be in a configuration file, each with a unique `name`.
fn safe_instances(reading: &Reading, value: &Value) -> Result<Value, Error> {
    let mut labels = safe::Labels::default();
    let mut kept = Vec::new();
    for one in value.try_iter()? {
        let instance = Arc::clone(&shown(&one)?.instance);
        if safe::address(&instance).is_some() {
            let name = Some(labels.of(&instance.id));
            kept.push(Value::from_object(Shown { instance, name }));
        } else {
            let Instance {
                service, id, addr, ..
            } = &*instance;
            let (service, id, addr) = (printable(service), printable(id), printable(addr));
            reading.omit(format!(
                "{service} {id} is left out: its address {addr} has unusual characters"
            ));
        }
    }
    Ok(Value::from(kept))
}

#[cfg(test)]
mod tests {
    use etcd_blocking::Status;

    use super::*;

    fn contents() -> Contents {
        let evil = "x\n}\";{{ 1 }}\u{1b}' -->";
        let web = [
            Instance::new("web", "10.0.0.5:80").id("a").weight(600),
            Instance::new("web", "[2001:db8::1]:80").id("a:1"),
            Instance::new("web", "web-3:80").id("a_1"),
            Instance::new("web", "10.0.0.6:80")
                .id("down")
                .status(Status::Draining),
            Instance::new("web", "10.0.0.7;reload:80").id("evil-host"),
            Instance::new("web", "10.0.0.8:80")
                .id(evil)
                .zone(evil)
                .version(evil),
        ];
        let web: Vec<_> = web.into_iter().map(Arc::new).collect();
        let evil = Arc::new(Instance::new("a\n10.0.0.9 bank", "10.0.0.9:1"));
        let services = BTreeMap::from([
            ("web".to_owned(), web.clone()),
            (evil.service.clone(), vec![evil]),
        ]);
        Contents {
            services: Some(services),
            service: BTreeMap::from([("web".to_owned(), web)]),
            key: BTreeMap::from([
                ("a".to_owned(), Some("1".to_owned())),
                ("b".to_owned(), None),
            ]),
            prefix: BTreeMap::from([(
                "c/".to_owned(),
                BTreeMap::from([("c/d".into(), "2".into())]),
            )]),
        }
    }

    fn rendered(source: &str, variables: &[(&str, &str)]) -> Rendered {
        let variables = variables
            .iter()
            .map(|&(name, value)| (name.into(), value.into()));
        let template = Template::new(source.to_owned(), variables.collect()).unwrap();
        template.render(contents())
    }

    #[track_caller]
    fn text(source: &str) -> String {
        rendered(source, &[]).text.unwrap()
    }

    #[test]
    fn services_and_keys_are_read() {
        for (source, expected) in [
            (
                "{% for i in service('web') | up %}{{ i.id[:4] }} {% endfor %}",
                "a a:1 a_1 evil x\n}\" ",
            ),
            (
                "{{ service('web')[0].host }}:{{ service('web')[0].port }}",
                "10.0.0.5:80",
            ),
            ("{{ services.web[3].ready }}", "False"),
            ("{{ services | length }}", "2"),
            ("{{ key('a') }}{{ key('b', default='-') }}", "1-"),
            (
                "{% for k, v in keys('c/') | items %}{{ k }}={{ v }}{% endfor %}",
                "c/d=2",
            ),
            ("{{ '<&>' }}{{ [1, 'a\"'] | tojson }}", "<&>[1,\"a\\\"\"]"),
        ] {
            assert_eq!(text(source), expected, "{source}");
        }
    }

    #[test]
    fn only_what_a_template_reads_is_recorded() {
        use super::super::contents::Range;
        for (source, expected) in [
            (
                "{{ services.web | length }}",
                vec![Range::Service("web".into())],
            ),
            (
                "{% for name in services %}{{ services[name] | length }}{% endfor %}",
                vec![Range::Services],
            ),
            (
                "{% for n, all in services | items %}{{ all | length }}{% endfor %}",
                vec![Range::Services],
            ),
            ("{{ key('a') }}", vec![Range::Key("a".into())]),
            ("nothing", vec![]),
        ] {
            let record = rendered(source, &[]).record;
            assert_eq!(record.read, expected.into_iter().collect(), "{source}");
            assert!(!record.is_incomplete);
        }
        assert!(
            rendered("{{ key('x') }}{{ service('y') }}", &[])
                .record
                .is_incomplete
        );
    }

    #[test]
    fn mistakes_are_one_line() {
        for (source, expected) in [
            ("{{ nothing }}", "undefined"),
            ("{{ service('web')[0].adr }}", "undefined"),
            ("{{ key('b') }}", "there is no key \"b\""),
            ("{{ [1] | safe }}", "for instances only"),
            ("{{ 'too bad' | fail }}", "too bad"),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
                "fuel",
            ),
        ] {
            let error = rendered(source, &[]).text.unwrap_err();
            assert!(error.contains(expected), "{source}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = Template::new("{% if %}".into(), BTreeMap::new()).unwrap_err();
        assert!(error.contains("template:1"), "{error}");
        assert!(
            ready("@apache")
                .unwrap_err()
                .contains("@haproxy, @nginx, @hosts, @file_sd")
        );
    }

    #[test]
    fn hostile_values_leave_the_ready_templates_well_formed() {
        let all = |name: &str| {
            let rendered = rendered(ready(name).unwrap(), &[("name", "web")]);
            (rendered.text.unwrap(), rendered.record.omitted)
        };
        let (haproxy, omitted) = all("@haproxy");
        let servers: Vec<_> = haproxy
            .lines()
            .filter(|line| line.starts_with("    server "))
            .collect();
        assert_eq!(
            servers,
            [
                "    server a 10.0.0.5:80 weight 256",
                "    server a_1 [2001:db8::1]:80 weight 1",
                "    server a_1_2 web-3:80 weight 1",
                "    server x_______1______--_ 10.0.0.8:80 weight 1",
            ],
            "{haproxy}"
        );
        let omitted: Vec<_> = omitted.into_iter().collect();
        assert_eq!(
            omitted,
            ["web evil-host is left out: its address 10.0.0.7;reload:80 has unusual characters"]
        );
        let (nginx, _) = all("@nginx");
        let servers = nginx.lines().filter(|line| line.starts_with("    server "));
        assert_eq!(servers.count(), 4, "{nginx}");
        let hosts = rendered(ready("@hosts").unwrap(), &[]).text.unwrap();
        assert!(
            hosts.ends_with("::1 localhost\n10.0.0.5 web\n2001:db8::1 web\n10.0.0.8 web\n"),
            "{hosts}"
        );
        let file_sd = rendered(ready("@file_sd").unwrap(), &[]).text.unwrap();
        let value: serde_json::Value = serde_json::from_str(&file_sd).unwrap();
        assert_eq!(value.as_array().unwrap().len(), 6, "{file_sd}");
        assert_eq!(value[0]["labels"]["service"], "a\n10.0.0.9 bank");
    }

    #[test]
    fn ready_templates_of_no_instance_are_well_formed() {
        let empty = |name: &str| {
            let template = ready(name).unwrap().to_owned();
            let variables = BTreeMap::from([("name".to_owned(), "web".to_owned())]);
            let contents = Contents {
                service: BTreeMap::from([("web".to_owned(), Vec::new())]),
                ..Contents::default()
            };
            Template::new(template, variables)
                .unwrap()
                .render(contents)
                .text
                .unwrap()
        };
        assert!(!empty("@haproxy").contains("    server "));
        assert!(empty("@nginx").contains("server 127.0.0.1:1 down;"));
        assert_eq!(
            empty("@file_sd").split_whitespace().collect::<String>(),
            "[]"
        );
        let unnamed = rendered(ready("@haproxy").unwrap(), &[]).text.unwrap_err();
        assert!(unnamed.contains("say --set name=SERVICE"), "{unnamed}");
    }
}
