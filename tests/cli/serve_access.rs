//! The page of `serve` for people who use a keyboard or a screen reader, and its contrast.

use std::fs;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Instance, Status};
use serde_json::{Value, json};

use crate::program::SOON;
use crate::serve::{Server, instances};
use crate::serve_browser::Browser;
use crate::serve_page::Api;
use crate::serve_programs::folder;
use crate::support::wait::eventually;

/// All controls that are seen, in the order of the document.
const CONTROLS: &str = "[...document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]')]\
     .filter((e) => e.checkVisibility())";

/// The text by which a test names the control with the focus.
const FOCUSED: &str = "(() => { const e = document.activeElement; \
     return e.getAttribute('aria-label') || e.id || e.textContent.trim(); })()";

/// A page with ten instances of `api`, nine further services, and controls.
fn open(browser: &mut Browser, etcd: &LocalEtcd) -> (Api, Server) {
    let api = Api::register(etcd, 10);
    for n in 0..9 {
        let value = json!({ "service": format!("other-{n}"), "id": "a", "addr": "10.0.1.1:80", "status": "maintenance" });
        api.client
            .put(format!("/services/other-{n}/a"), value.to_string())
            .unwrap();
    }
    api.client.put("/services/bad/value", "nonsense").unwrap();
    let server = Server::start(etcd, &["--allow-changes"]);
    server.json("/v1/services/api", "ten instances", |api| {
        instances(api) == 10
    });
    browser.open(&format!("http://{}/#/api", server.address));
    browser.until("document.querySelectorAll('#rows tr').length === 10");
    browser.until("document.querySelectorAll('#services li').length === 10");
    browser.until("document.querySelectorAll('#timeline .bar').length >= 10");
    (api, server)
}

#[test]
fn everything_can_be_done_with_a_keyboard() {
    let Some(mut browser) = Browser::start("keyboard") else {
        return;
    };
    let etcd = LocalEtcd::start().unwrap();
    let (api, _server) = open(&mut browser, &etcd);
    let count = browser
        .value(&format!("{CONTROLS}.length"))
        .as_u64()
        .unwrap();
    // A link to skip, a filter, services, bad values, times, the list of events if there are some, a filter, two controls
    // of each instance.
    let has_events = browser.value("!document.querySelector('#events').hidden") == json!(true);
    assert_eq!(count, 1 + 1 + 10 + 1 + 4 + u64::from(has_events) + 1 + 20);
    let mut order = Vec::new();
    for position in 0..count {
        browser.press("Tab");
        let focus = browser.value(&format!(
            "(() => {{ const e = document.activeElement, style = getComputedStyle(e), r = e.getBoundingClientRect(); \
             return {{ position: {CONTROLS}.indexOf(e), name: {FOCUSED}, outline: style.outlineStyle, \
             width: parseFloat(style.outlineWidth), isSeen: r.top >= 0 && r.bottom <= innerHeight }}; }})()"
        ));
        assert_eq!(focus["position"], json!(position), "{order:?}: {focus}");
        assert_eq!(focus["outline"], "solid", "{focus}");
        assert!(focus["width"].as_f64().unwrap() >= 2.0, "{focus}");
        assert_eq!(focus["isSeen"], json!(true), "{focus}");
        order.push(focus["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(order[0], "Skip to the instances");
    assert_eq!(order.last().unwrap(), "Drain api-10");
    browser.press("Shift+Tab");
    assert_eq!(browser.value(FOCUSED), "Weight of api-10");

    // A time is chosen by Space, and the list of bad values is opened by Enter.
    browser.value("document.querySelector('[data-minutes=\"15\"]').focus()");
    browser.press(" ");
    browser.until("document.activeElement.getAttribute('aria-pressed') === 'true'");
    browser.value("document.querySelector('summary').focus()");
    browser.press("Enter");
    browser.until("document.querySelector('#bad').open");

    // The focus stays on its control while rows come, change and go.
    browser.value("document.querySelector('#rows tr:nth-child(5) button').focus()");
    browser.press("Enter");
    browser.until(
        "document.querySelector('#rows tr:nth-child(5) .status').textContent === 'draining'",
    );
    browser.until(&format!("{FOCUSED} === 'Undrain api-05'"));
    let new = [("api-00", 90), ("api-04b", 91), ("api-99", 92)]
        .map(|(id, n)| Instance::new("api", format!("10.0.0.{n}:8080")).id(id));
    let new = api.registrar.register_all(new).unwrap();
    browser.until("document.querySelectorAll('#rows tr').length === 13");
    api.registrations[4].modify(|i| i.weight = 3).unwrap();
    browser.until("[...document.querySelectorAll('#rows input')].some((e) => e.value === '3')");
    assert_eq!(browser.value(FOCUSED), "Undrain api-05");
    assert_eq!(
        browser.value("getComputedStyle(document.activeElement).outlineStyle"),
        "solid"
    );
    browser.press(" ");
    browser.until(&format!("{FOCUSED} === 'Drain api-05'"));
    // The row with the focus goes: the next row has it.
    for gone in new {
        gone.leave().unwrap();
    }
    api.registrations[4].clone().leave().unwrap();
    browser.until("document.querySelectorAll('#rows tr').length === 9");
    assert_eq!(browser.value(FOCUSED), "Drain api-06");

    // A weight is entered, and what is typed is not overwritten by what arrives.
    browser.value("document.querySelector('#rows tr:nth-child(1) input').select()");
    browser.enter("44");
    api.registrations[0]
        .modify(|i| i.version = "3.0.0".into())
        .unwrap();
    browser.until("document.querySelector('#rows tr:nth-child(1)').innerText.includes('3.0.0')");
    assert_eq!(browser.value("document.activeElement.value"), "44");
    browser.press("Enter");
    eventually(SOON, "the weight is set", || {
        let value = api.client.get("/services/.ctl/api/api-01").unwrap()?;
        (value.value().as_ref() == b"weight=44").then_some(())
    });

    // The first link skips the list of services; a service is chosen by Enter.
    browser.value("document.activeElement.blur()");
    browser.value("document.querySelector('.skip').focus()");
    browser.press("Enter");
    browser.until("document.activeElement.id === 'main'");
    browser.press("Tab");
    assert_eq!(browser.value(FOCUSED), "1 min");
    browser.value("document.querySelector('a[href=\"#/other-3\"]').focus()");
    browser.press("Enter");
    browser.until("document.querySelector('#service-name').textContent === 'other-3'");
    assert_eq!(
        browser.value("document.activeElement.getAttribute('aria-current')"),
        "page"
    );
}

/// A node of the accessibility tree.
struct Node {
    role: String,
    name: String,
    properties: Value,
}

fn tree(browser: &mut Browser) -> Vec<Node> {
    browser.call("Accessibility.enable", json!({}));
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let nodes = tree["nodes"].as_array().unwrap().iter();
    let nodes = nodes.filter(|node| node["ignored"] == json!(false));
    let text = |value: &Value| {
        value["value"]
            .as_str()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    nodes
        .map(|node| Node {
            role: text(&node["role"]),
            name: text(&node["name"]),
            properties: node["properties"].clone(),
        })
        .collect()
}

#[test]
fn screen_readers_find_names_roles_and_one_calm_live_region() {
    let Some(mut browser) = Browser::start("reader") else {
        return;
    };
    let mut etcd = LocalEtcd::start().unwrap();
    let (api, _server) = open(&mut browser, &etcd);
    let nodes = tree(&mut browser);
    let named = |role: &str| -> Vec<&str> {
        let with = nodes.iter().filter(|node| node.role == role);
        with.map(|node| node.name.as_str()).collect()
    };
    assert_eq!(named("table"), ["Instances 10"]);
    // The header of a row is what a screen reader says with each of its cells.
    assert_eq!(named("row").len(), 11);
    assert_eq!(named("rowheader").len(), 10);
    assert_eq!(named("cell").len(), 70);
    let columns = [
        "Instance", "Address", "Status", "Since", "Weight", "Zone", "Version", "Change",
    ];
    assert_eq!(named("columnheader"), columns);
    assert_eq!(named("rowheader")[..2], ["api-01", "api-02"]);
    assert!(
        named("button").contains(&"Drain api-07"),
        "{:?}",
        named("button")
    );
    assert!(named("spinbutton").contains(&"Weight of api-07"));
    assert_eq!(
        named("searchbox"),
        [
            "Show services whose name contains",
            "Show instances that contain"
        ]
    );
    assert!(
        named("link").contains(&"api: 10 of 10 up"),
        "{:?}",
        named("link")
    );
    assert_eq!(named("navigation"), ["Services"]);
    assert!(named("group").contains(&"Time shown"));
    let pictures = named("image");
    assert!(
        pictures[0].starts_with("Statuses of 10 of 10 instances over "),
        "{pictures:?}"
    );
    for node in &nodes {
        let needs_name = [
            "button",
            "link",
            "searchbox",
            "spinbutton",
            "image",
            "table",
            "navigation",
        ];
        assert!(
            !needs_name.contains(&node.role.as_str()) || !node.name.is_empty(),
            "{} without a name",
            node.role
        );
    }
    let lives = |node: &&Node| {
        let mut properties = node.properties.as_array().into_iter().flatten();
        properties.any(|p| p["name"] == "live" && p["value"]["value"] == "polite")
    };
    assert_eq!(nodes.iter().filter(lives).count(), 1, "one polite region");

    browser.value(
        "window.said = []; new MutationObserver(() => \
         window.said.push([performance.now(), document.querySelector('#announcement').textContent]))\
         .observe(document.querySelector('#announcement'), { childList: true, characterData: true, subtree: true })",
    );
    for registration in &api.registrations {
        registration
            .modify(|i| i.status = Status::Draining)
            .unwrap();
    }
    browser.until("window.said.some(([, text]) => text === 'api: 0 of 10 up')");
    etcd.kill().unwrap();
    browser.until("window.said.some(([, text]) => text === 'Stale')");
    etcd.restart().unwrap();
    browser.until("window.said.some(([, text]) => text === 'Live')");
    let said: Vec<(f64, String)> = serde_json::from_value(browser.value("window.said")).unwrap();
    println!("announced: {said:?}");
    for pair in said.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 4_900.0, "too often: {said:?}");
    }
}

#[test]
fn text_is_legible_in_light_and_dark() {
    let Some(mut browser) = Browser::start("contrast") else {
        return;
    };
    let mut etcd = LocalEtcd::start().unwrap();
    let (api, server) = open(&mut browser, &etcd);
    for (n, status) in [
        Status::Starting,
        Status::Draining,
        Status::OutOfService,
        Status::Maintenance,
    ]
    .into_iter()
    .enumerate()
    {
        let change = |i: &mut Instance| {
            i.status = status;
            i.reason = "a reason".into();
        };
        api.registrations[n].modify(change).unwrap();
    }
    browser.until("document.querySelectorAll('#statuses li').length === 5");
    browser.until("document.querySelectorAll('#events li').length >= 4");
    browser.value("document.querySelector('#bad').open = true");
    let check = |browser: &mut Browser, state: &str| {
        browser.pictures(state);
        for scheme in ["light", "dark"] {
            browser.colours(scheme);
            let found = browser.value(include_str!("serve_contrast.js"));
            println!(
                "{state}, {scheme}: the least contrast of {} texts is {:.2}",
                found["texts"],
                found["least"].as_f64().unwrap()
            );
            assert_eq!(found["found"], json!([]), "{state}, {scheme}");
        }
    };
    check(&mut browser, "statuses");
    etcd.kill().unwrap();
    browser.until("!document.querySelector('#banner').hidden");
    browser.click("#rows tr:nth-child(5) button");
    browser.until("document.querySelector('#change-error').innerText !== ''");
    check(&mut browser, "failed");
    drop(server);
    browser.until("document.querySelector('#state').textContent === 'Connection lost'");
    check(&mut browser, "lost");
    etcd.restart().unwrap();
    let folder = folder("contrast-token");
    let file = folder.join("token");
    fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let server = Server::start(&etcd, &["--token-file", file.to_str().unwrap()]);
    browser.open(&format!("http://{}/", server.address));
    browser.until("document.activeElement.id === 'token'");
    browser.enter("0123456789abcdef9999");
    browser.press("Enter");
    browser.until("document.querySelector('#token-error').innerText !== ''");
    check(&mut browser, "wrong-token");
    fs::remove_dir_all(folder).unwrap();
}
