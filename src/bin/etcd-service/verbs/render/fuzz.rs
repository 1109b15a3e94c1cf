//! Templates of any text, and instances with any properties.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use etcd_blocking::Instance;

use super::contents::Contents;
use super::template::{Template, ready};
use crate::campaign::run;

/// The instances of an input.
const INSTANCES: usize = 6;

#[test]
fn templates() {
    run("template", template);
}

#[test]
fn ready_templates() {
    run("ready_template", ready_template);
}

/// Renders a template. It ends, and its error is one line.
fn template(data: &[u8]) {
    let source = String::from_utf8_lossy(data).into_owned();
    let variables = BTreeMap::from([("name".to_owned(), "web".to_owned())]);
    let instances = [Instance::new("web", "10.0.0.1:80").id("a").weight(600)];
    let rendered =
        Template::new(source, variables).map(|template| template.render(contents(&instances)));
    if let Err(error) = rendered.and_then(|rendered| rendered.text) {
        assert!(!error.contains('\n'), "{error:?}");
    }
}

fn contents(instances: &[Instance]) -> Contents {
    let web: Vec<_> = instances.iter().cloned().map(Arc::new).collect();
    let prefix = BTreeMap::from([("c/d".to_owned(), "2".to_owned())]);
    Contents {
        services: Some(BTreeMap::from([("web".to_owned(), web.clone())])),
        service: BTreeMap::from([("web".to_owned(), web)]),
        key: BTreeMap::from([("a".to_owned(), Some("1".to_owned()))]),
        prefix: BTreeMap::from([("c/".to_owned(), prefix)]),
    }
}

/// Renders the ready templates with instances of any properties: a line for each has the address of an instance, or the
/// instance is left out.
fn ready_template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let instances: Vec<Instance> = text.split('\u{1}').take(INSTANCES).map(instance).collect();
    let rendered = |name: &str| {
        let variables = BTreeMap::from([("name".to_owned(), "web".to_owned())]);
        let template = Template::new(ready(name).unwrap().to_owned(), variables).unwrap();
        template.render(contents(&instances)).text.unwrap()
    };
    let is_address = |addr: &str| {
        let mut all = instances.iter().filter(|one| one.is_pickable());
        all.any(|one| one.addr == addr)
    };
    let lines = |text: &str, begin: &str| {
        let lines = text.lines().filter(|line| line.starts_with(begin));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let haproxy = rendered("@haproxy");
    for line in lines(&haproxy, "    server ") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["server", name, addr, "weight", weight] = words[..] else {
            panic!("{line:?}");
        };
        assert!(is_address(addr) && !name.is_empty(), "{line:?}");
        assert!((1..=256).contains(&weight.parse().unwrap_or(0)), "{line:?}");
    }
    let nothing = Template::new(ready("@haproxy").unwrap().to_owned(), {
        BTreeMap::from([("name".to_owned(), "web".to_owned())])
    });
    let nothing = nothing.unwrap().render(contents(&[])).text.unwrap();
    let servers = lines(&haproxy, "    server ").len();
    assert_eq!(haproxy.lines().count(), nothing.lines().count() + servers);
    for line in lines(&rendered("@nginx"), "    server ") {
        let line = line.strip_suffix(';').unwrap();
        let addr = line.split_whitespace().nth(1).unwrap();
        assert!(is_address(addr) || addr == "127.0.0.1:1", "{line:?}");
        assert!(!line.contains(['{', '}', ';', '#', '"', '\'']), "{line:?}");
    }
    for line in rendered("@hosts").lines() {
        let line = line.split('#').next().unwrap_or_default();
        let first = line.split_whitespace().next();
        assert!(
            first.is_none_or(|ip| ip.parse::<IpAddr>().is_ok()),
            "{line:?}"
        );
    }
    let file_sd: serde_json::Value = serde_json::from_str(&rendered("@file_sd")).unwrap();
    assert!(file_sd.as_array().unwrap().len() <= instances.len());
}

/// An instance with these properties, separated by `\u{2}`: address, id, zone, version, weight.
fn instance(text: &str) -> Instance {
    let mut fields = text.split('\u{2}');
    let mut field = || fields.next().unwrap_or("x");
    Instance::new("web", field())
        .id(field())
        .zone(field())
        .version(field())
        .weight(field().parse().unwrap_or(1))
}
