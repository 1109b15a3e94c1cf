//! The page of `serve` in a real browser: it follows instances, outages and its server.

use std::fs;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Instance, Put, Registrar, Registration, Status};
use serde_json::{Value, json};

use crate::program::SOON;
use crate::serve::{Server, instances};
use crate::serve_browser::Browser;
use crate::serve_programs::folder;
use crate::serve_tls::not_local;
use crate::support::wait::eventually;

const STATE: &str = "document.querySelector('#state').textContent";

/// A service `api` with the instances `api-01` and so on.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) registrar: Registrar,
    pub(crate) registrations: Vec<Registration>,
}

impl Api {
    pub(crate) fn register(etcd: &LocalEtcd, count: usize) -> Self {
        let client = Client::connect(etcd.endpoint()).unwrap();
        let builder = Registrar::builder(&client).ttl(Duration::from_secs(60));
        let registrar = builder.start().unwrap();
        let instances = (1..=count).map(|n| {
            Instance::new("api", format!("10.0.0.{n}:8080"))
                .id(format!("api-{n:02}"))
                .zone(["eu-1a", "eu-1b", "eu-1c"][n % 3])
                .version("2.14.0")
        });
        let registrations = registrar.register_all(instances).unwrap();
        Api {
            client,
            registrar,
            registrations,
        }
    }
}

/// The ids of the rows, their statuses, and those that are drawn as draining.
fn rows(browser: &mut Browser) -> Vec<(String, String)> {
    let rows = browser.value(
        "[...document.querySelectorAll('#rows tr')].map((row) => \
         [row.querySelector('th').textContent, row.querySelector('.status').textContent])",
    );
    serde_json::from_value(rows).unwrap()
}

fn happened(browser: &mut Browser) -> String {
    let text = browser.value("document.querySelector('#events').innerText");
    text.as_str().unwrap().to_owned()
}

#[test]
fn the_page_follows_instances_and_outages_without_a_reload() {
    let Some(mut browser) = Browser::start("outage") else {
        return;
    };
    let mut etcd = LocalEtcd::start().unwrap();
    let api = Api::register(&etcd, 49);
    let lease = api.client.grant(Duration::from_secs(600)).unwrap();
    let killed = r#"{"service":"api","id":"api-50","addr":"10.0.0.50:8080","zone":"eu-1a"}"#;
    let put = Put::new("/services/api/api-50", killed).lease(lease.id());
    api.client.submit(put).wait().unwrap();
    let listen = ["--listen", "127.0.0.77:0", "--host", "127.0.0.77"];
    let server = Server::start(&etcd, &listen);
    let address = server.address.clone();
    browser.open(&format!("http://{address}/"));
    browser.until("document.querySelectorAll('#rows tr').length === 50");
    browser.until(&format!("{STATE} === 'Live'"));
    browser.until("document.querySelectorAll('#timeline .bar').length >= 12");
    assert!(rows(&mut browser).iter().all(|(_, status)| status == "up"));
    assert_eq!(happened(&mut browser), "", "nothing has happened yet");
    browser.value("window.wasNotReloaded = true");

    api.client.revoke(lease.id()).unwrap();
    browser.until("document.querySelectorAll('#rows tr').length === 49");
    let drained = &api.registrations[4];
    drained.modify(|i| i.status = Status::Draining).unwrap();
    browser.until("document.querySelectorAll('#rows [data-status=draining]').length === 1");
    let shown = rows(&mut browser);
    for (n, (id, status)) in shown.iter().enumerate() {
        assert_eq!(*id, format!("api-{:02}", n + 1));
        let expected = if n == 4 { "draining" } else { "up" };
        assert_eq!(status, expected, "{id}");
    }
    browser.until("document.querySelector('#events').innerText.includes('api-50 expired')");
    browser.until("document.querySelector('#events').innerText.includes('api-05 is draining')");
    browser.until("document.querySelectorAll('#timeline .end[data-cause=expired]').length === 1");
    browser.until("document.querySelector('#statuses').innerText.includes('48 up')");
    browser.pictures("page");

    etcd.kill().unwrap();
    browser.until(&format!("{STATE} === 'Stale'"));
    let stale = Instant::now();
    browser.until("document.querySelector('#banner').innerText.includes('etcd does not answer')");
    browser
        .until("/^as of \\d\\d:\\d\\d:\\d\\d$/.test(document.querySelector('#as-of').textContent)");
    browser.until("document.querySelectorAll('#timeline .outage').length === 1");
    browser.until("document.querySelector('#events').innerText.includes('etcd stopped answering')");
    // The timeline is read at once, and not only every 30 s.
    assert!(stale.elapsed() < Duration::from_secs(25));
    assert_eq!(rows(&mut browser), shown, "the last picture stays");
    browser.pictures("outage");

    etcd.restart().unwrap();
    browser.until(&format!("{STATE} === 'Live'"));
    browser.until(
        "document.querySelector('#banner').hidden && document.querySelector('#as-of').hidden",
    );
    assert_eq!(rows(&mut browser), shown);
    let later = Instance::new("api", "10.0.0.51:8080").id("api-51");
    let _later = api.registrar.register(later).unwrap();
    browser.until("document.querySelectorAll('#rows tr').length === 50");

    // The server itself goes and comes back.
    drop(server);
    browser.until(&format!("{STATE} === 'Connection lost'"));
    browser.until("!document.querySelector('#as-of').hidden");
    assert_eq!(rows(&mut browser).len(), 50);
    let _server = Server::start(&etcd, &["--listen", &address, "--host", "127.0.0.77"]);
    browser.until(&format!("{STATE} === 'Live'"));
    browser.until("document.querySelectorAll('#rows tr').length === 50");
    assert_eq!(browser.value("window.wasNotReloaded"), json!(true));

    // All that time, it asked this server only.
    let mut paths = Vec::new();
    for request in browser.events("Network.requestWillBeSent") {
        let url = request["request"]["url"].as_str().unwrap();
        let path = url.strip_prefix(&format!("http://{address}"));
        paths.push(
            path.unwrap_or_else(|| panic!("a request to {url}"))
                .to_owned(),
        );
    }
    for path in ["/", "/page.js", "/events", "/v1/services/api/timeline"] {
        assert!(paths.iter().any(|asked| asked == path), "{paths:?}");
    }
    assert!(browser.events("Runtime.exceptionThrown").is_empty());
}

#[test]
fn a_token_is_asked_for_and_a_wrong_one_is_said() {
    let Some(mut browser) = Browser::start("asked") else {
        return;
    };
    let etcd = LocalEtcd::start().unwrap();
    let _api = Api::register(&etcd, 3);
    let folder = folder("page-token");
    let file = folder.join("token");
    fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let listen = [
        "--listen",
        not_local(),
        "--token-file",
        file.to_str().unwrap(),
    ];
    let server = Server::start(&etcd, &listen);
    browser.open(&format!("http://{}/", server.address));
    browser.until("document.activeElement.id === 'token'");
    browser.until(&format!("{STATE} === 'A token is needed'"));
    browser.pictures("token");
    assert_eq!(
        browser.value("document.querySelector('.columns').hidden"),
        json!(true)
    );
    browser.enter("0123456789abcdef9999");
    browser.press("Enter");
    browser.until("document.querySelector('#token-error').innerText === 'This token is wrong.'");
    browser.until("document.activeElement.id === 'token'");
    assert_eq!(
        browser.value("document.querySelectorAll('#rows tr').length"),
        json!(0)
    );
    browser.enter("0123456789abcdef0123");
    browser.press("Tab");
    browser.press("Enter");
    browser.until("document.querySelectorAll('#rows tr').length === 3");
    browser.until("document.querySelector('#token-form').hidden");
    // The tab keeps it.
    browser.call("Page.reload", json!({}));
    browser.until("document.querySelectorAll('#rows tr').length === 3");
    assert_eq!(
        browser.value("document.querySelector('#token-form').hidden"),
        json!(true)
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn instances_are_changed_by_clicks_if_that_is_allowed() {
    let Some(mut browser) = Browser::start("clicks") else {
        return;
    };
    let mut etcd = LocalEtcd::start().unwrap();
    let api = Api::register(&etcd, 3);
    let server = Server::start(&etcd, &["--allow-changes"]);
    server.json("/v1/services/api", "three instances", |api| {
        instances(api) == 3
    });
    browser.open(&format!("http://{}/", server.address));
    browser.until("document.querySelectorAll('#rows button').length === 3");
    let setting = || {
        let value = api.client.get("/services/.ctl/api/api-02").unwrap();
        value.map(|value| String::from_utf8(value.value().to_vec()).unwrap())
    };
    browser.click("#rows tr:nth-child(2) button");
    browser.until(
        "document.querySelector('#rows tr:nth-child(2) .status').textContent === 'draining'",
    );
    assert_eq!(setting().as_deref(), Some("draining"));
    browser
        .until("document.querySelector('#rows tr:nth-child(2) button').textContent === 'Undrain'");
    browser.pictures("changes");
    browser.click("#rows tr:nth-child(2) button");
    browser.until("document.querySelector('#rows tr:nth-child(2) .status').textContent === 'up'");
    browser.click("#rows tr:nth-child(2) input");
    browser.value("document.activeElement.select()");
    browser.enter("25");
    browser.press("Enter");
    eventually(SOON, "the weight is set", || {
        (setting().as_deref() == Some("weight=25")).then_some(())
    });
    browser.until(
        "document.querySelector('#announcement').textContent.includes('weight api-02: done')",
    );
    // A change that fails is said.
    etcd.kill().unwrap();
    browser.click("#rows tr:nth-child(3) button");
    browser.until("document.querySelector('#change-error').innerText.startsWith('drain api-03: ')");
    etcd.restart().unwrap();

    let read_only = Server::start(&etcd, &[]);
    browser.open(&format!("http://{}/", read_only.address));
    browser.until("document.querySelectorAll('#rows tr').length === 3");
    let controls = "document.querySelectorAll('#rows button, #rows input').length";
    assert_eq!(browser.value(controls), json!(0));
    let refused = browser.value(
        "fetch('v1/services/api/instances/api-01/drain', {method: 'POST', headers: {'X-Etcd-Service': '1'}})\
         .then((response) => response.status)",
    );
    assert_eq!(refused, json!(403));
}

#[test]
fn a_page_without_services_says_so_and_runs_no_foreign_script() {
    let Some(mut browser) = Browser::start("empty") else {
        return;
    };
    let etcd = LocalEtcd::start().unwrap();
    let server = Server::start(&etcd, &[]);
    browser.open(&format!("http://{}/", server.address));
    browser
        .until("document.querySelector('#nothing').innerText.includes('No service is registered')");
    browser.pictures("empty");
    // What the policy of the page forbids does not happen.
    let blocked = browser.value(
        "new Promise((resolve) => { \
         const seen = []; \
         document.addEventListener('securitypolicyviolation', (e) => { seen.push(e.violatedDirective); \
         if (seen.length === 3) resolve(seen.sort()); }); \
         const script = document.createElement('script'); script.textContent = 'window.foreign = 1'; \
         document.body.append(script); \
         const picture = new Image(); picture.src = 'http://127.0.0.2:9/x.png'; \
         fetch('http://127.0.0.2:9/').catch(() => {}); })",
    );
    assert_eq!(
        blocked,
        json!(["connect-src", "img-src", "script-src-elem"])
    );
    assert_eq!(browser.value("window.foreign"), Value::Null);
    let client = Client::connect(etcd.endpoint()).unwrap();
    let hostile = "<img src=x onerror='window.foreign=1'>";
    let value = json!({ "service": "x", "id": "i", "addr": "10.0.0.5:80", "zone": hostile, "reason": hostile });
    client
        .put(format!("/services/{hostile}/i"), value.to_string())
        .unwrap();
    browser.until("document.querySelectorAll('#rows tr').length === 1");
    browser.until("document.querySelectorAll('#events li').length === 1");
    assert_eq!(
        browser.value("document.querySelectorAll('main img').length"),
        json!(0)
    );
    assert_eq!(browser.value("window.foreign"), Value::Null);
}
