//! A timeline as a picture in SVG. Pure.

mod axis;
mod capacity;
mod text;

use std::fmt::Write as _;
use std::time::SystemTime;

use etcd_blocking::{Cause, Status};

use crate::output::counted;
use crate::registry::Track;
use axis::{Axis, LEFT, Label, WIDTH, stamp};
use capacity::{steps, up_percent};
use text::{escaped, shortened};

/// What is drawn.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) begun: SystemTime,
    pub(super) ended: SystemTime,
    /// The services by name, and their instances.
    pub(super) services: Vec<(String, Vec<Track>)>,
    /// The times in which etcd was away, in order.
    pub(super) outages: Vec<(SystemTime, SystemTime)>,
    /// Where changes are missing, and why.
    pub(super) gaps: Vec<(SystemTime, String)>,
}

/// The largest number of rows.
const ROWS: usize = 2_000;

/// Measures, in the units of the picture. The rows begin at `TOP`; the column of figures is right of the axis.
const TOP: f64 = 92.0;
const ROW: f64 = 20.0;
const MARGIN: f64 = 24.0;
const FIGURES: f64 = 170.0;

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

/// The colours of everything else, on light and on dark screens. Out of service is hatched, so that it differs from
/// up for those who do not see the difference of red and green.
const STYLE: &str = "<style>\n\
    .paper{fill:#fff} .ink{fill:#1b1d21} .quiet{fill:#555} .bad{fill:#b00020}\n\
    .grid{stroke:#ddd} .halo{stroke:#fff} .restart{stroke:#000} .away{fill:#808080;fill-opacity:.4}\n\
    .gone{stroke:#bbb} .up{fill:#2e9e5b;fill-opacity:.35} .gap{stroke:#b00020}\n\
    @media (prefers-color-scheme: dark){\n\
    .paper{fill:#16181c} .ink{fill:#e8eaed} .quiet{fill:#a9afb8} .bad{fill:#ff8080}\n\
    .grid{stroke:#343941} .halo{stroke:#16181c} .restart{stroke:#fff} .gone{stroke:#555} .gap{stroke:#ff8080}}\n\
    </style>\n\
    <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#cf3f3f\"/>\
    <rect width=\"2\" height=\"6\" fill=\"#7d1a1a\"/></pattern></defs>";

/// Draws the chart.
pub(super) fn svg(chart: &Chart) -> String {
    let axis = Axis::new(chart.begun, chart.ended);
    let rows: usize = chart
        .services
        .iter()
        .map(|(_, tracks)| tracks.len() + 1)
        .sum();
    let is_cut = rows > ROWS;
    let drawn = rows.min(ROWS) + usize::from(is_cut);
    let bottom = TOP + drawn as f64 * ROW;
    let height = bottom + 40.0;
    let width = LEFT + WIDTH + FIGURES;
    let mut out = String::new();
    let span = format!(
        "{} to {} UTC",
        stamp(axis.begun, Label::Full),
        stamp(axis.ended(), Label::Full)
    );
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>Instances from {span}</title>\n{STYLE}\n\
         <rect width=\"100%\" height=\"100%\" class=\"paper\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" class=\"ink\" font-size=\"15\" font-weight=\"bold\">{}</text>\
         <text x=\"{LEFT}\" y=\"24\" class=\"quiet\">{span}</text>",
        totals(chart),
    );
    legend(&mut out);
    ticks(&axis, bottom, &mut out);
    let mut row = 0;
    'all: for (name, tracks) in &chart.services {
        if row >= ROWS {
            break;
        }
        service(&axis, chart, name, tracks, TOP + row as f64 * ROW, &mut out);
        row += 1;
        for track in tracks {
            if row >= ROWS {
                break 'all;
            }
            instance(&axis, chart, track, TOP + row as f64 * ROW, &mut out);
            row += 1;
        }
    }
    // Over the bars: what they show there is not certain.
    outages(&axis, chart, bottom, &mut out);
    if is_cut {
        let y = TOP + ROWS as f64 * ROW + 14.0;
        let more = counted(rows - ROWS, "more row");
        let verb = if rows - ROWS == 1 { "is" } else { "are" };
        let _ = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"{y}\" class=\"ink\">{more} {verb} not drawn</text>"
        );
    }
    out.push_str("</svg>\n");
    out
}

fn totals(chart: &Chart) -> String {
    let instances: usize = chart.services.iter().map(|(_, tracks)| tracks.len()).sum();
    let services = counted(chart.services.len(), "service");
    format!("{services}, {}", counted(instances, "instance"))
}

fn legend(out: &mut String) {
    let mut x = MARGIN;
    let mut entry = |shape: String, word: &str, class: &str, x: &mut f64| {
        let _ = writeln!(
            out,
            "{shape}<text x=\"{}\" y=\"52\" class=\"{class}\">{word}</text>",
            *x + 18.0
        );
        // About the width of a letter of this size, and room to the next entry.
        *x += 34.0 + 6.6 * word.len() as f64;
    };
    for (status, _) in COLOURS {
        let shape = format!(
            "<rect x=\"{x}\" y=\"42\" width=\"14\" height=\"12\" rx=\"2\" fill=\"{}\"/>",
            fill(status)
        );
        entry(shape, status.as_str(), "ink", &mut x);
    }
    for (_, word, sign, class) in CAUSES {
        let shape = format!(
            "<text x=\"{}\" y=\"52\" class=\"{class}\">{sign}</text>",
            x + 4.0
        );
        entry(shape, word, class, &mut x);
    }
    let shape = format!(
        "<line x1=\"{0}\" x2=\"{0}\" y1=\"41\" y2=\"55\" class=\"restart\" stroke-width=\"2\"/>",
        x + 8.0
    );
    entry(shape, "restarted", "quiet", &mut x);
    let shape = format!("<rect x=\"{x}\" y=\"42\" width=\"14\" height=\"12\" class=\"away\"/>");
    entry(shape, "etcd away", "quiet", &mut x);
}

fn outages(axis: &Axis, chart: &Chart, bottom: f64, out: &mut String) {
    let top = TOP - 12.0;
    for (from, to) in &chart.outages {
        let (left, right) = (axis.at(*from), axis.at(*to));
        let seconds = to.duration_since(*from).unwrap_or_default();
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\" class=\"away\"><title>etcd was \
             away for {:.1} s: what changed then was seen later</title></rect>",
            (right - left).max(1.0),
            bottom - top,
            seconds.as_secs_f64()
        );
    }
    for (at, why) in &chart.gaps {
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top}\" y2=\"{bottom}\" class=\"gap\" stroke-width=\"2\" \
             stroke-dasharray=\"4 3\"><title>changes before this are missing: {1}</title></line>",
            axis.at(*at),
            escaped(&shortened(why, 40))
        );
    }
}

fn ticks(axis: &Axis, bottom: f64, out: &mut String) {
    let (ticks, label) = axis.ticks();
    let top = TOP - 12.0;
    for at in ticks {
        let x = axis.x(at as f64);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" class=\"grid\"/>"
        );
        for y in [top - 6.0, bottom + 18.0] {
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" class=\"quiet\">{}</text>",
                stamp(at, label)
            );
        }
    }
}

/// The row of a service: its name, and how many instances are up over time.
fn service(axis: &Axis, chart: &Chart, name: &str, tracks: &[Track], y: f64, out: &mut String) {
    let steps = steps(tracks, chart.begun);
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(0);
    // The last step is the end of the recording, where every span ends.
    let counts = steps.iter().filter(|(at, _)| *at < chart.ended);
    let counts: Vec<_> = counts.collect();
    let fewest = counts.iter().map(|(_, count)| *count).min().unwrap_or(0);
    let floor = y + ROW - 3.0;
    let level = |count: usize| floor - (ROW - 5.0) * count as f64 / most.max(1) as f64;
    let mut path = format!("M{LEFT:.1} {floor:.1}");
    for (at, count) in &counts {
        let _ = write!(path, "H{:.1}V{:.1}", axis.at(*at), level(*count));
    }
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"{:.1}\" class=\"ink\" font-weight=\"bold\">{}</text>\
         <path d=\"{path}H{:.1}V{floor:.1}Z\" class=\"up\"><title>{fewest} to {most} up</title></path>\
         <text x=\"{:.1}\" y=\"{:.1}\" class=\"quiet\">{fewest} to {most} up</text>",
        y + 14.0,
        escaped(&shortened(name, 34)),
        axis.at(chart.ended),
        LEFT + WIDTH + 10.0,
        y + 14.0,
    );
}

fn instance(axis: &Axis, chart: &Chart, track: &Track, y: f64, out: &mut String) {
    let id = escaped(&shortened(&track.id, 32));
    let _ = writeln!(
        out,
        "<g><title>{} at {}</title><text x=\"{}\" y=\"{:.1}\" class=\"ink\">{id}</text>\
         <line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" class=\"gone\" stroke-dasharray=\"1 3\"/>",
        escaped(&shortened(&track.id, 200)),
        escaped(&shortened(&track.addr, 200)),
        MARGIN + 12.0,
        y + 14.0,
        axis.at(chart.ended),
        middle = y + 10.0,
    );
    for span in &track.spans {
        let (from, to) = (axis.at(span.from), axis.at(span.to));
        let seconds = span.to.duration_since(span.from).unwrap_or_default();
        // What takes no calls is visible also if it was short.
        let least = if span.status == Status::Up { 1.0 } else { 2.0 };
        let _ = writeln!(
            out,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" fill=\"{}\"><title>{} {} for \
             {:.1} s</title></rect>",
            y + 4.0,
            (to - from).max(least),
            fill(span.status),
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
    let percent = up_percent(track, chart.begun, chart.ended);
    let ends = match track.ends.len() {
        0 => String::new(),
        1 => ", gone once".to_owned(),
        2 => ", gone twice".to_owned(),
        many => format!(", gone {many} times"),
    };
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" class=\"quiet\">up {percent} %{ends}</text></g>",
        LEFT + WIDTH + 10.0,
        y + 14.0
    );
}

/// How a status is filled.
fn fill(status: Status) -> &'static str {
    if status == Status::OutOfService {
        return "url(#hatch)";
    }
    let colour = COLOURS.iter().find(|(of, _)| *of == status);
    colour.map_or("#888", |(_, colour)| colour)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            gaps: vec![(at(seconds / 4), "relisted".into())],
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
        assert!(svg.contains("are missing: relisted"), "{svg}");
        assert!(svg.contains(">0 to 1 up<"), "{svg}");
        assert!(svg.contains(">up 50 %, gone once<"), "{svg}");
        assert!(svg.contains(">1 service, 1 instance<"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
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
