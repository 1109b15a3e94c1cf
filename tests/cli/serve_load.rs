//! The page of `serve` while much changes: 1,000 instances, and 50 changes a second.

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Put};
use serde_json::{Value, json};

use crate::serve::{Server, instances};
use crate::serve_browser::Browser;

const INSTANCES: usize = 1_000;
const CHANGES: usize = 500;

/// The time between two changes.
const PACE: Duration = Duration::from_millis(20);

fn put(n: usize, weight: usize) -> Put {
    let value = json!({
        "service": "api", "id": format!("api-{n:04}"), "addr": format!("10.0.{}.{}:80", n / 250, n % 250),
        "weight": weight, "status": if weight % 4 == 2 { "draining" } else { "up" }, "zone": "eu-1a", "version": "2.14.0",
    });
    Put::new(format!("/services/api/api-{n:04}"), value.to_string())
}

/// Counts what happens in the page, by its own clock.
const MEASURE: &str = "
    window.seen = { begun: performance.now(), batches: 0, nodes: 0, times: 0, said: 0, tasks: [], frames: [] };
    new MutationObserver((records) => {
      const nodes = new Set(records.map((record) => record.target));
      const times = [...nodes].filter((node) => node.parentElement && node.closest && node.closest('time')).length;
      seen.times += times;
      seen.nodes += nodes.size - times;
      if (nodes.size > times) seen.batches += 1;
    }).observe(document.querySelector('#rows'), { subtree: true, childList: true, characterData: true, attributes: true });
    new MutationObserver(() => { seen.said += 1; })
      .observe(document.querySelector('#announcement'), { childList: true, characterData: true, subtree: true });
    new PerformanceObserver((list) => { for (const task of list.getEntries()) seen.tasks.push(task.duration); })
      .observe({ type: 'longtask' });
    let last = performance.now();
    requestAnimationFrame(function frame(now) {
      seen.frames.push(now - last);
      last = now;
      requestAnimationFrame(frame);
    });";

#[test]
fn a_thousand_instances_with_fifty_changes_a_second_touch_few_nodes() {
    let Some(mut browser) = Browser::start("load") else {
        return;
    };
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let puts: Vec<_> = (0..INSTANCES).map(|n| client.submit(put(n, 1))).collect();
    for put in puts {
        put.wait().unwrap();
    }
    let server = Server::start(&etcd, &[]);
    server.json("/v1/services/api", "all instances", |api| {
        instances(api) == INSTANCES
    });
    browser.open(&format!("http://{}/", server.address));
    browser.until(&format!(
        "document.querySelectorAll('#rows tr').length === {INSTANCES}"
    ));
    browser.until("document.querySelectorAll('#timeline .bar').length > 0");
    browser.value(MEASURE);

    let begun = Instant::now();
    let changes = thread::spawn(move || {
        for n in 0..CHANGES {
            // Every second change is of an instance that is seen.
            let instance = if n % 2 == 0 {
                n / 2 % 20
            } else {
                n * 7 % INSTANCES
            };
            client.submit(put(instance, 2 + n)).wait().unwrap();
            let next = PACE * u32::try_from(n + 1).unwrap();
            thread::sleep(next.saturating_sub(begun.elapsed()));
        }
        begun.elapsed()
    });
    // Meanwhile it scrolls, and answers.
    for _ in 0..20 {
        browser.value("window.scrollBy(0, 40); document.querySelector('#rows tr').offsetTop");
        thread::sleep(Duration::from_millis(100));
    }
    let took = changes.join().unwrap();
    let last = (CHANGES - 1) * 7 % INSTANCES;
    browser.until(&format!(
        "document.querySelectorAll('#rows tr')[{last}].querySelector('.number').textContent === '{}'",
        CHANGES + 1
    ));
    let seen = browser.value("({ ...seen, took: performance.now() - seen.begun })");
    let number = |name: &str| seen[name].as_f64().unwrap();
    let sorted = |name: &str| -> Vec<f64> {
        let mut values: Vec<f64> = seen[name]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (tasks, frames) = (sorted("tasks"), sorted("frames"));
    let at = |values: &[f64], part: f64| {
        let index = (values.len().saturating_sub(1) as f64 * part) as usize;
        values.get(index).copied().unwrap_or_default()
    };
    println!(
        "{CHANGES} changes of {INSTANCES} instances in {took:?}: {} updates of the table, {:.1} nodes a change, {} times, \
         {} announcements; {} tasks over 50 ms, the longest {:.0} ms; frames: median {:.0} ms, 99 % below {:.0} ms, \
         the longest {:.0} ms",
        number("batches"),
        number("nodes") / CHANGES as f64,
        number("times"),
        number("said"),
        tasks.len(),
        at(&tasks, 1.0),
        at(&frames, 0.5),
        at(&frames, 0.99),
        at(&frames, 1.0),
    );
    let seconds = number("took") / 1000.0;
    // The server sends four events a second at most, and the first one may come at once.
    assert!(number("batches") <= 4.0 * seconds + 2.0, "{seen}");
    // The weight, and the attributes and texts that belong to it.
    assert!(number("nodes") <= 4.0 * CHANGES as f64, "{seen}");
    // Only the times on the screen go on.
    assert!(
        number("times") <= 100.0 * (seconds + 2.0) + CHANGES as f64,
        "{seen}"
    );
    assert!(number("said") <= seconds / 5.0 + 1.0, "{seen}");
    let lanes = browser.value("document.querySelectorAll('#timeline .lane').length");
    assert!(lanes.as_u64().unwrap() <= 24, "{lanes}");
    assert_eq!(
        browser.value("document.querySelectorAll('#events li').length"),
        json!(200)
    );
    browser.pictures("load");
}
