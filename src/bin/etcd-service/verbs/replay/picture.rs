//! A timeline as a picture in SVG. Pure.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use etcd_blocking::{Cause, Status};

use crate::output::printable;
use crate::registry::Track;

/// What is drawn.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) begun: SystemTime,
    pub(super) ended: SystemTime,
    /// The services by name, and their instances.
    pub(super) services: Vec<(String, Vec<Track>)>,
    /// The times in which etcd was away, in order.
    pub(super) outages: Vec<(SystemTime, SystemTime)>,
}

/// The largest number of rows.
const ROWS: usize = 2_000;

/// Measures, in the units of the picture.
const LEFT: f64 = 260.0;
const WIDTH: f64 = 900.0;
const TOP: f64 = 64.0;
const ROW: f64 = 20.0;
const MARGIN: f64 = 24.0;

/// The colour of each status.
const COLOURS: [(Status, &str); 6] = [
    (Status::Up, "#2e9e5b"),
    (Status::Starting, "#4c7fe0"),
    (Status::Draining, "#d9a400"),
    (Status::OutOfService, "#cf3f3f"),
    (Status::Maintenance, "#8a63d2"),
    (Status::Suspect, "#e07b28"),
];

/// The word, the sign and the class of each cause.
const CAUSES: [(Cause, &str, &str, &str); 5] = [
    (Cause::Left, "left", "○", "quiet"),
    (Cause::Expired, "expired", "✕", "bad"),
    (Cause::Replaced, "replaced", "◇", "quiet"),
    (Cause::Resync, "seen gone later", "△", "quiet"),
    (Cause::Unknown, "cause unknown", "?", "quiet"),
];

/// The colours of everything else, on light and on dark screens.
const STYLE: &str = "<style>\n\
    .paper{fill:#fff} .ink{fill:#1b1d21} .quiet{fill:#555} .bad{fill:#b00020}\n\
    .grid{stroke:#ddd} .halo{stroke:#fff} .restart{stroke:#000} .away{fill:#808080;fill-opacity:.28}\n\
    @media (prefers-color-scheme: dark){\n\
    .paper{fill:#16181c} .ink{fill:#e8eaed} .quiet{fill:#a9afb8} .bad{fill:#ff8080}\n\
    .grid{stroke:#343941} .halo{stroke:#16181c} .restart{stroke:#fff}}\n\
    </style>";

/// The steps of the axis of time, in seconds.
const STEPS: [u64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 172_800, 604_800, 2_592_000, 31_536_000,
];

/// Draws the chart.
pub(super) fn svg(chart: &Chart) -> String {
    let axis = Axis::new(chart);
    let rows: usize = chart
        .services
        .iter()
        .map(|(_, tracks)| tracks.len() + 1)
        .sum();
    let is_cut = rows > ROWS;
    let height = TOP + (rows.min(ROWS) + usize::from(is_cut)) as f64 * ROW + 40.0;
    let width = LEFT + WIDTH + MARGIN;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>Instances from {} to {} UTC</title>\n{STYLE}\n\
         <rect width=\"100%\" height=\"100%\" class=\"paper\"/>",
        stamp(axis.begun, Label::Full),
        stamp(axis.begun + axis.seconds.ceil() as u64, Label::Full),
    );
    legend(&mut out);
    ticks(&axis, height - 40.0, &mut out);
    let mut row = 0;
    outages(&axis, chart, height - 40.0, &mut out);
    'all: for (name, tracks) in &chart.services {
        if row >= ROWS {
            break;
        }
        let y = TOP + row as f64 * ROW;
        let _ = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"{:.1}\" class=\"ink\" font-weight=\"bold\">{}</text>",
            y + 14.0,
            escaped(&shortened(name, 34))
        );
        row += 1;
        for track in tracks {
            if row >= ROWS {
                break 'all;
            }
            instance(&axis, track, TOP + row as f64 * ROW, &mut out);
            row += 1;
        }
    }
    if is_cut {
        let y = TOP + ROWS as f64 * ROW + 14.0;
        let more = rows - ROWS;
        let _ = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"{y}\" class=\"ink\">{more} more rows are not drawn</text>"
        );
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String) {
    let mut x = MARGIN;
    for (status, colour) in COLOURS {
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"12\" width=\"14\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"22\" class=\"ink\">{status}</text>",
            x + 18.0
        );
        x += 34.0 + 7.0 * status.as_str().len() as f64;
    }
    x += 10.0;
    for (_, word, sign, class) in CAUSES {
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"22\" class=\"{class}\">{sign} {word}</text>"
        );
        x += 24.0 + 6.0 * word.len() as f64;
    }
    let _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"12\" width=\"14\" height=\"12\" class=\"away\"/>\
         <text x=\"{}\" y=\"22\" class=\"quiet\">etcd away</text>",
        x + 18.0
    );
}

fn outages(axis: &Axis, chart: &Chart, bottom: f64, out: &mut String) {
    for (from, to) in &chart.outages {
        let (left, right) = (axis.at(*from), axis.at(*to));
        let seconds = to.duration_since(*from).unwrap_or_default();
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"50\" width=\"{:.1}\" height=\"{:.1}\" class=\"away\"><title>etcd was away for \
             {:.1} s: what changed then was seen later</title></rect>",
            (right - left).max(1.0),
            bottom - 50.0,
            seconds.as_secs_f64()
        );
    }
}

fn ticks(axis: &Axis, bottom: f64, out: &mut String) {
    let step = axis.step();
    let label = match step {
        86_400.. => Label::Date,
        60.. => Label::Minutes,
        _ => Label::Seconds,
    };
    let mut at = axis.begun.next_multiple_of(step);
    while at as f64 <= axis.begun as f64 + axis.seconds {
        let x = axis.x(at as f64);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"50\" x2=\"{x:.1}\" y2=\"{bottom}\" class=\"grid\"/>\
             <text x=\"{x:.1}\" y=\"44\" text-anchor=\"middle\" class=\"quiet\">{}</text>",
            stamp(at, label)
        );
        at += step;
    }
    let y = bottom + 24.0;
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{y}\" class=\"quiet\">{} to {} UTC</text>",
        stamp(axis.begun, Label::Full),
        stamp(axis.begun + axis.seconds.ceil() as u64, Label::Full)
    );
}

fn instance(axis: &Axis, track: &Track, y: f64, out: &mut String) {
    let id = escaped(&shortened(&track.id, 32));
    let _ = writeln!(
        out,
        "<g><title>{} at {}</title><text x=\"{}\" y=\"{:.1}\" class=\"ink\">{id}</text>",
        escaped(&shortened(&track.id, 200)),
        escaped(&shortened(&track.addr, 200)),
        MARGIN + 12.0,
        y + 14.0
    );
    for span in &track.spans {
        let (from, to) = (axis.at(span.from), axis.at(span.to));
        let colour = COLOURS.iter().find(|(status, _)| *status == span.status);
        let colour = colour.map_or("#888", |(_, colour)| colour);
        let seconds = span.to.duration_since(span.from).unwrap_or_default();
        let _ = writeln!(
            out,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" fill=\"{colour}\"><title>{} {} for \
             {:.1} s</title></rect>",
            y + 4.0,
            (to - from).max(1.0),
            escaped(&shortened(&track.id, 200)),
            span.status,
            seconds.as_secs_f64()
        );
    }
    for restart in &track.restarts {
        let x = axis.at(*restart);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" class=\"restart\" stroke-width=\"2\"><title>\
             restarted</title></line>",
            y + 2.0,
            y + 18.0
        );
    }
    for (at, cause) in &track.ends {
        let of = CAUSES.iter().find(|(of, ..)| of == cause);
        let (word, sign, class) = of.map_or(("gone", "?", "quiet"), |(_, word, sign, class)| {
            (*word, *sign, *class)
        });
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"halo {class}\" \
             stroke-width=\"3\" paint-order=\"stroke\" font-weight=\"bold\">{sign}<title>{word}</title></text>",
            axis.at(*at) + 5.0,
            y + 14.5
        );
    }
    out.push_str("</g>\n");
}

/// The axis of time.
struct Axis {
    /// Seconds since 1970.
    begun: u64,
    seconds: f64,
}

impl Axis {
    fn new(chart: &Chart) -> Self {
        let begun = chart.begun.duration_since(SystemTime::UNIX_EPOCH);
        let begun = begun.unwrap_or_default().as_secs();
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(begun);
        let span = chart.ended.duration_since(from).unwrap_or_default();
        Axis {
            begun,
            seconds: span.as_secs_f64().max(1.0),
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        let share = (seconds - self.begun as f64) / self.seconds;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - 20.0)
    }

    fn at(&self, time: SystemTime) -> f64 {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        self.x(since.unwrap_or_default().as_secs_f64())
    }

    /// The smallest step with at most 10 ticks.
    fn step(&self) -> u64 {
        let fits = |step: &&u64| self.seconds / **step as f64 <= 10.0;
        let widest = self.seconds as u64 / 10 + 1;
        STEPS.iter().find(fits).copied().unwrap_or(widest)
    }
}

/// How a time is written.
#[derive(Clone, Copy)]
enum Label {
    Full,
    Date,
    Minutes,
    Seconds,
}

/// A time in UTC.
fn stamp(seconds: u64, label: Label) -> String {
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar from days, in years that begin in March.
    let day = day + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    match label {
        Label::Full => {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
        }
        Label::Date => format!("{year:04}-{month:02}-{day:02}"),
        Label::Minutes => format!("{hour:02}:{minute:02}"),
        Label::Seconds => format!("{hour:02}:{minute:02}:{second:02}"),
    }
}

/// At most so many characters.
fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Text for an XML document.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML does not have these.
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Span;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn chart(id: &str, seconds: u64) -> Chart {
        let track = Track {
            id: id.into(),
            addr: "10.0.0.1:80".into(),
            spans: vec![Span {
                from: at(0),
                to: at(seconds / 2),
                status: Status::Up,
            }],
            ends: vec![(at(seconds / 2), Cause::Expired)],
            restarts: vec![at(1)],
        };
        Chart {
            begun: at(0),
            ended: at(seconds),
            services: vec![("<api>".into(), vec![track])],
            outages: vec![(at(0), at(seconds / 4))],
        }
    }

    #[test]
    fn all_text_is_escaped() {
        let svg = svg(&chart("<script>\u{1b}'&\"", 60));
        assert!(!svg.contains("<script"), "{svg}");
        assert!(!svg.contains('\u{1b}'));
        assert!(svg.contains("&lt;api&gt;"), "{svg}");
        assert!(
            svg.contains("&lt;script&gt;\\u{1b}&#39;&amp;&quot;"),
            "{svg}"
        );
        assert!(svg.contains("✕<title>expired</title>"), "{svg}");
        assert!(svg.contains("fill=\"#2e9e5b\"><title>"), "{svg}");
        assert!(svg.contains("etcd was away for 15.0 s"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn the_axis_has_few_ticks_at_any_length() {
        for seconds in [
            0,
            1,
            7,
            60,
            3_599,
            86_400,
            900_000,
            40_000_000,
            4_000_000_000,
        ] {
            let svg = svg(&chart("a", seconds));
            let ticks = svg
                .matches("text-anchor=\"middle\" class=\"quiet\"")
                .count();
            assert!(ticks <= 12, "{seconds}: {ticks}");
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(stamp(0, Label::Full), "1970-01-01 00:00:00");
        assert_eq!(stamp(951_782_400, Label::Date), "2000-02-29");
        assert_eq!(stamp(1_700_000_000, Label::Full), "2023-11-14 22:13:20");
        assert_eq!(stamp(1_735_689_599, Label::Full), "2024-12-31 23:59:59");
    }

    #[test]
    fn rows_are_limited() {
        let mut many = chart("a", 60);
        let track = many.services[0].1[0].clone();
        many.services[0].1 = vec![track; 3_000];
        let svg = svg(&many);
        assert!(svg.contains("1001 more rows are not drawn"));
        assert_eq!(svg.matches("<g>").count(), ROWS - 1);
    }
}
