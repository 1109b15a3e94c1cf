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
    let template = Template::new(ready("@haproxy").unwrap().to_owned(), variables()).unwrap();
    let nothing = template.render(contents(&[])).text.unwrap();
    let lines = nothing.lines().count();
    run("ready_template", |data| ready_template(data, lines));
}

fn variables() -> BTreeMap<String, String> {
    BTreeMap::from([("name".to_owned(), "web".to_owned())])
}

/// Renders a template. It ends, and its error is one line.
fn template(data: &[u8]) {
    let source = String::from_utf8_lossy(data).into_owned();
    let instances = [Instance::new("web", "10.0.0.1:80").id("a").weight(600)];
    let rendered =
        Template::new(source, variables()).map(|template| template.render(contents(&instances)));
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

/// Renders one of the ready templates with instances of any properties: a line for each has the address of an instance,
/// or the instance is left out. `without` is the number of lines of `@haproxy` without instances.
fn ready_template(data: &[u8], without: usize) {
    let text = String::from_utf8_lossy(data);
    let instances: Vec<Instance> = text.split('\u{1}').take(INSTANCES).map(instance).collect();
    let up = instances.iter().filter(|one| one.is_pickable());
    let up: Vec<&str> = up.map(|one| one.addr.as_str()).collect();
    let rendered = |name: &str| {
        let template = Template::new(ready(name).unwrap().to_owned(), variables()).unwrap();
        template.render(contents(&instances)).text.unwrap()
    };
    match data.len() % 4 {
        0 => haproxy(&rendered("@haproxy"), &up, without),
        1 => nginx(&rendered("@nginx"), &up),
        2 => hosts(&rendered("@hosts")),
        _ => {
            let list: serde_json::Value = serde_json::from_str(&rendered("@file_sd")).unwrap();
            assert!(list.as_array().unwrap().len() <= instances.len());
        }
    }
}

fn haproxy(text: &str, up: &[&str], without: usize) {
    let mut count = 0;
    for line in text.lines().filter(|line| line.starts_with("    server ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["server", name, addr, "weight", weight] = words[..] else {
            panic!("{line:?}");
        };
        assert!(up.contains(&addr) && !name.is_empty(), "{line:?}");
        assert!((1..=256).contains(&weight.parse().unwrap_or(0)), "{line:?}");
        count += 1;
    }
    assert_eq!(text.lines().count(), without + count);
}

fn nginx(text: &str, up: &[&str]) {
    for line in text.lines().filter(|line| line.starts_with("    server ")) {
        let line = line.strip_suffix(';').unwrap();
        let addr = line.split_whitespace().nth(1).unwrap();
        assert!(up.contains(&addr) || addr == "127.0.0.1:1", "{line:?}");
        assert!(!line.contains(['{', '}', ';', '#', '"', '\'']), "{line:?}");
    }
}

fn hosts(text: &str) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let is_address = words.next().is_none_or(|ip| ip.parse::<IpAddr>().is_ok());
        assert!(is_address, "{line:?}");
    }
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
