//! Writes the tables into `docs/performance.md`, and the picture beside it.

use std::fs;
use std::path::Path;

use peers::Failure;

const BEGIN: &str = "<!-- peers: written by the command below -->";
const END: &str = "<!-- peers: end -->";

/// Puts the text between the marks of the section.
pub(crate) fn write(text: &str, picture: &str) -> Result<(), Failure> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = docs.join("performance.md");
    let changed = replace(&fs::read_to_string(&page)?, text)
        .ok_or("docs/performance.md has no marks of the section")?;
    fs::write(docs.join("peers.svg"), picture)?;
    Ok(fs::write(page, changed)?)
}

fn replace(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        text.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, replace};

    #[test]
    fn only_the_text_between_the_marks_changes() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let changed = replace(&page, "new\n");
        assert_eq!(changed, Some(format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n")));
        assert_eq!(replace("a", "new"), None);
    }
}
