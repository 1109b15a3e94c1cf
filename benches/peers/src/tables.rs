//! The Markdown tables.

use peers::report::Report;

use crate::figures::{Figure, Measured};
use crate::runner::{OWN, Row};
use crate::works::{Feed, thousands};

/// A number with three significant digits, or all digits before the point.
pub(crate) fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => thousands(value.round() as usize),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// A ratio: two digits that matter where it is small.
fn digits(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 10.0 => format!("{ratio:.0}"),
        _ if ratio >= 0.1 => format!("{ratio:.2}"),
        _ => format!("{ratio:.3}"),
    }
}

/// A table with a row for each work and a column for each peer; in brackets is the ratio of this client to that peer.
fn table(title: &str, rows: &[Row], peers: &[&'static str], figure: Figure) -> String {
    let mut text = format!("| {title} |");
    for peer in peers {
        text.push_str(&format!(" {peer} |"));
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(peers.len())));
    for row in rows {
        let cells: Vec<String> = peers
            .iter()
            .map(|peer| cell(&row.measured, peer, figure))
            .collect();
        if cells.iter().any(|cell| cell != "-" && cell != "failed") {
            text.push_str(&format!("| {} | {} |\n", row.work.name, cells.join(" | ")));
        }
    }
    text
}

fn cell(measured: &Measured, peer: &str, figure: Figure) -> String {
    let Some(value) = measured.median(peer, figure) else {
        let failed = measured
            .none(peer)
            .is_some_and(|reason| reason.starts_with("failed"));
        return if failed { "failed" } else { "-" }.to_owned();
    };
    match measured.ratio(OWN, peer, figure) {
        Some(ratio) if peer != OWN => format!("{} ({})", number(value), digits(ratio)),
        _ => number(value),
    }
}

/// All tables, and the reasons for what failed.
pub(crate) fn all(rows: &[Row], peers: &[&'static str]) -> String {
    let of = |choice: &dyn Fn(&Row) -> bool| -> Vec<Row> {
        rows.iter().filter(|row| choice(row)).cloned().collect()
    };
    let is_idle = |row: &Row| row.work.feed == Feed::Idle;
    let without_floor: Vec<&'static str> = peers
        .iter()
        .copied()
        .filter(|peer| *peer != "floor")
        .collect();
    let measured = of(&|row| !is_idle(row));
    let mut text = String::new();
    let mut add = |part: String| {
        if part.lines().count() > 2 {
            text.push_str(&part);
            text.push('\n');
        }
    };
    add(table(
        "operations/s",
        &of(&|row| !is_idle(row) && !matches!(row.work.feed, Feed::Leases { .. })),
        peers,
        Report::rate,
    ));
    add(table(
        "CPU of the client, us/operation",
        &measured,
        peers,
        |report| report.cpu,
    ));
    add(table("p50, us", &measured, peers, |report| report.p50));
    add(table("p99, us", &measured, peers, |report| report.p99));
    add(table(
        "peak memory of the process, MiB",
        &measured,
        &without_floor,
        |report| Some(report.rss? / 1024.0),
    ));
    add(table(
        "leases that were lost",
        &of(&|row| matches!(row.work.feed, Feed::Leases { .. })),
        &without_floor,
        |report| report.lost,
    ));
    let idle = of(&is_idle);
    let renamed = |name: &str| -> Vec<Row> {
        let mut rows = idle.clone();
        for row in &mut rows {
            row.work.name = name.to_owned();
        }
        rows
    };
    let mut lines = table(
        "an idle client",
        &renamed("memory of the process, MiB"),
        &without_floor,
        |report| Some(report.rss? / 1024.0),
    );
    for (name, figure) in [
        (
            "memory of one more client, KiB",
            (|report| report.per_client) as Figure,
        ),
        ("wake-ups in 10 s", |report| report.wakeups),
    ] {
        let more = table("", &renamed(name), &without_floor, figure);
        lines.extend(more.lines().skip(2).map(|line| format!("{line}\n")));
    }
    add(lines);
    for row in rows {
        for peer in peers {
            if let Some(reason) = row
                .measured
                .none(peer)
                .filter(|reason| reason.starts_with("failed"))
            {
                text.push_str(&format!("{peer}, {}: {reason}\n\n", row.work.name));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.0042), "0.0042");
        assert_eq!(number(2.34567), "2.35");
        assert_eq!(number(23.4567), "23.5");
        assert_eq!(number(23456.7), "23,457");
    }
}
