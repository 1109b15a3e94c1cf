//! No file has more than 500 lines.

use super::sources;

const MAX_LINES: usize = 500;

#[test]
fn no_file_has_more_than_500_lines() {
    let mut longer = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for source in sources::below(folder) {
            let name = format!("{folder}/{}", source.name);
            let lines = source.text.lines().count();
            if lines > MAX_LINES {
                longer.push(format!("{name} has {lines} lines"));
            }
        }
    }
    assert!(longer.is_empty(), "{longer:#?}");
}
