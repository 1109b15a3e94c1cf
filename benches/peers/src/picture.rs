//! The picture: for each work, the other peers relative to this client, on a logarithmic scale.

use std::fmt::Write as _;

use peers::report::Report;

use crate::figures::Figure;
use crate::runner::{OWN, Row};
use crate::works::Feed;

const COLOURS: [(&str, &str); 4] = [
    ("etcd-client", "#b7410e"),
    ("clientv3", "#0077a8"),
    ("jetcd", "#6a994e"),
    ("floor", "#8d8d8d"),
];

const NAMES: f64 = 220.0;
const PANEL: f64 = 330.0;
const GAP: f64 = 40.0;
const LINE: f64 = 22.0;
const TOP: f64 = 92.0;

/// The picture as SVG; `caption` says what was measured.
pub(crate) fn draw(rows: &[Row], peers: &[&'static str], caption: &str) -> String {
    let rows: Vec<&Row> = rows
        .iter()
        .filter(|row| row.work.feed != Feed::Idle && row.work.verb != "pick")
        .collect();
    let width = NAMES + 2.0 * PANEL + GAP + 30.0;
    let height = TOP + rows.len() as f64 * LINE + 50.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\">\n<title>Other clients of etcd relative to {OWN}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\" font-weight=\"bold\" fill=\"#222222\">Relative to {OWN} (the line at 1)</text>\n"
    );
    let mut x = 10.0;
    for (peer, colour) in COLOURS.iter().filter(|(peer, _)| peers.contains(peer)) {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.0}\" cy=\"40\" r=\"5\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"44\" fill=\"#222222\">{peer}</text>",
            x + 5.0,
            x + 15.0
        );
        x += 110.0;
    }
    for (n, row) in rows.iter().enumerate() {
        let y = TOP + n as f64 * LINE;
        if n % 2 == 0 {
            let _ = writeln!(
                svg,
                "<rect x=\"0\" y=\"{y:.0}\" width=\"{width}\" height=\"{LINE}\" fill=\"#f4f4f4\"/>"
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{:.0}\" fill=\"#222222\">{}</text>",
            y + 15.0,
            row.work.name
        );
    }
    let rate: Figure = Report::rate;
    let speed: Vec<&Row> = rows.iter().copied().filter(|row| !row.work.paced).collect();
    panel(
        &mut svg,
        NAMES,
        "operations/s (right: faster)",
        &rows,
        &speed,
        peers,
        rate,
    );
    panel(
        &mut svg,
        NAMES + PANEL + GAP,
        "CPU/operation (right: more CPU)",
        &rows,
        &rows,
        peers,
        |report| report.cpu,
    );
    let _ = writeln!(
        svg,
        "<text x=\"10\" y=\"{:.0}\" font-size=\"11\" fill=\"#555555\">{caption}</text>\n</svg>",
        height - 14.0
    );
    svg
}

/// One panel; only the rows in `shown` have points.
fn panel(
    svg: &mut String,
    left: f64,
    title: &str,
    rows: &[&Row],
    shown: &[&Row],
    peers: &[&'static str],
    figure: Figure,
) {
    // The ratio of a peer to this client is the reverse of the ratio in the tables.
    let ratio = |row: &Row, peer: &str| {
        row.measured
            .ratio(OWN, peer, figure)
            .filter(|ratio| *ratio > 0.0)
            .map(|ratio| 1.0 / ratio)
    };
    let all = shown
        .iter()
        .flat_map(|row| COLOURS.iter().filter_map(|(peer, _)| ratio(row, peer)));
    let (low, high) = all.fold((0.5_f64, 2.0_f64), |(low, high), ratio| {
        (low.min(ratio), high.max(ratio))
    });
    let (low, high) = (low.log10() - 0.05, high.log10() + 0.05);
    let x = |ratio: f64| left + (ratio.log10() - low) / (high - low) * PANEL;
    let bottom = TOP + rows.len() as f64 * LINE;
    let _ = writeln!(
        svg,
        "<text x=\"{left:.0}\" y=\"66\" font-weight=\"bold\" fill=\"#222222\">{title}</text>"
    );
    let mut last = f64::NEG_INFINITY;
    for tick in [
        0.01_f64, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
        1000.0,
    ] {
        if tick.log10() < low || tick.log10() > high {
            continue;
        }
        let (at, colour, wide) = (
            x(tick),
            if tick == 1.0 { "#222222" } else { "#cccccc" },
            if tick == 1.0 { 2 } else { 1 },
        );
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom:.0}\" stroke=\"{colour}\" stroke-width=\"{wide}\"/>"
        );
        if at - last > 24.0 || tick == 1.0 {
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"86\" text-anchor=\"middle\" fill=\"#555555\">{tick}</text>"
            );
            last = at;
        }
    }
    for row in shown {
        let place = rows
            .iter()
            .position(|other| std::ptr::eq(*other, *row))
            .unwrap_or(0);
        let y = TOP + place as f64 * LINE + LINE / 2.0;
        for (peer, colour) in COLOURS.iter().filter(|(peer, _)| peers.contains(peer)) {
            if let Some(ratio) = ratio(row, peer) {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{y:.0}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.85\"><title>{peer}, {}: {ratio:.2}</title></circle>",
                    x(ratio),
                    row.work.name
                );
            }
        }
    }
}
