//! Aligned columns. Pure.

use super::printable;

/// The lines of a table, without spaces at their ends. Texts are made safe for a terminal; an empty cell is `-`.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head = head.iter().map(|&name| name.to_owned()).collect();
    let safe = |row: &Vec<String>| row.iter().map(|cell| shown(cell)).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(safe)).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn shown(cell: &str) -> String {
    match cell.is_empty() {
        true => "-".to_owned(),
        false => printable(cell).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["größer".to_owned(), "1".into()], vec!["a".into()]];
        let lines = table(&["ID", "WEIGHT"], &rows);
        assert_eq!(lines, ["ID      WEIGHT", "größer  1", "a"]);
    }

    #[test]
    fn cells_are_never_empty_and_never_obeyed_by_a_terminal() {
        let rows = [vec![String::new(), "\u{1b}[2J".into(), "x".into()]];
        let lines = table(&["A", "B", "C"], &rows);
        assert_eq!(lines, ["A  B          C", "-  \\u{1b}[2J  x"]);
    }
}
