//! Recordings of any bytes.

use std::time::SystemTime;

use etcd_blocking::codec;

use super::history::History;
use super::moment::moment;
use super::picture::svg;
use crate::campaign::run;
use crate::output::utc;
use crate::verbs::record::Line;

#[test]
fn recordings() {
    run("recording", recording);
}

/// The elements of a picture.
const TAGS: [&str; 11] = [
    "text", "title", "rect", "line", "path", "polyline", "g", "svg", "style", "defs", "pattern",
];

/// Draws a recording. The picture is well-formed and has few ticks, whatever is in the lines.
fn recording(data: &[u8]) {
    let formats = ["native", "plain"].map(|name| codec::by_name(name).unwrap());
    let formats = formats.map(|codec| {
        let prefix = codec.default_prefix().to_owned();
        (codec, prefix)
    });
    let mut history = History::new(formats.into());
    let mut lines = data.split(|byte| *byte == b'\n');
    // The first line has the times of the picture.
    let times = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (from, to) = times.split_once('|').unwrap_or((&times, ""));
    for line in lines {
        if let Ok(line) = serde_json::from_slice::<Line>(line) {
            round_trip(&line);
            history.apply(&line);
        }
    }
    let picture = svg(&history.chart(time(from), time(to)));
    assert!(!picture.contains(|c: char| c.is_control() && c != '\n'));
    assert_eq!(
        picture.matches("<g>").count(),
        picture.matches("</g>").count()
    );
    for tag in TAGS {
        let (begins, ends) = (format!("<{tag}"), format!("</{tag}>"));
        assert!(picture.matches(&ends).count() <= picture.matches(&begins).count());
    }
    for tag in picture.split('<').skip(1) {
        let name = tag.strip_prefix('/').unwrap_or(tag);
        assert!(TAGS.iter().any(|known| name.starts_with(known)), "{tag}");
    }
    let ticks = picture.matches("text-anchor=\"middle\" class=\"quiet\">");
    // At most 12, each with its time above and below.
    assert!(ticks.count() <= 24);
    assert!(!picture.contains("NaN") || data.windows(3).any(|part| part == b"NaN"));
}

/// A time of the arguments is written as it was read.
fn time(text: &str) -> Option<SystemTime> {
    let time = moment(text).ok()?;
    let written = utc(time);
    assert_eq!(moment(written.strip_suffix(".000Z").unwrap()), Ok(time));
    Some(time)
}

fn round_trip(line: &Line) {
    let written = serde_json::to_string(line).unwrap();
    assert!(!written.contains('\n'));
    let again: Line = serde_json::from_str(&written).unwrap();
    assert_eq!(&again, line);
    let _ = (line.key(), line.value());
}
