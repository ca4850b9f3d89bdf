//! Aligned tables.
//!
//! Here lives the table as rows of cells. On a terminal it fits the width: columns that may shrink are cut with `…`,
//! the widest first. In a pipe nothing is cut and nothing is coloured, but all is aligned.

use super::style::{self, Colour};
pub(crate) use quorate_model::text::cut;
use unicode_width::UnicodeWidthStr;

/// Space between columns.
const GAP: usize = 2;
/// What a column that may shrink keeps.
const SHRUNK: usize = 8;

/// One cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    colour: Colour,
}

/// A cell without colour.
pub(crate) fn cell(text: impl ToString) -> Cell {
    Cell { text: super::one_line(&text.to_string()), colour: Colour::Plain }
}

/// A cell in a colour.
pub(crate) fn coloured(colour: Colour, text: impl ToString) -> Cell {
    Cell { colour, ..cell(text) }
}

/// A state in its colour.
pub(crate) fn state(state: &str) -> Cell {
    coloured(style::of_state(state), state)
}

#[derive(Debug, Clone, Copy)]
struct Column {
    title: &'static str,
    shrinks: bool,
    right: bool,
}

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Makes a table. A title with `>` in front is of a column aligned to the right, one with `~` of a column that
    /// may shrink.
    pub(crate) fn new(titles: &[&'static str]) -> Table {
        let column = |title: &&'static str| Column {
            title: title.trim_start_matches(['>', '~']),
            shrinks: title.starts_with('~'),
            right: title.starts_with('>'),
        };
        Table { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<Cell> = cells.into_iter().collect();
        cells.resize_with(self.columns.len(), || cell(""));
        self.rows.push(cells);
    }

    /// Writes the table for standard output.
    pub(crate) fn shown(&self) -> String {
        self.render(super::width(), super::is_coloured())
    }

    fn render(&self, limit: Option<usize>, is_coloured: bool) -> String {
        let widths = self.widths(limit);
        let heading = self.columns.iter().map(|column| coloured(Colour::Bold, column.title));
        let mut text = self.line(&heading.collect::<Vec<_>>(), &widths, is_coloured);
        for row in &self.rows {
            text.push_str(&self.line(row, &widths, is_coloured));
        }
        text
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let natural = |place: usize, column: &Column| {
            let cells = self.rows.iter().map(|row| row[place].text.width());
            cells.chain([column.title.width()]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(i, column)| natural(i, column)).collect();
        if let Some(limit) = limit {
            self.shrink(&mut widths, limit);
        }
        widths
    }

    fn shrink(&self, widths: &mut [usize], limit: usize) {
        let gaps = GAP * widths.len().saturating_sub(1);
        loop {
            let total = widths.iter().sum::<usize>() + gaps;
            let shrinking = (0..widths.len()).filter(|&i| self.columns[i].shrinks && widths[i] > SHRUNK);
            let Some(widest) = shrinking.max_by_key(|&i| widths[i]).filter(|_| total > limit) else { return };
            widths[widest] -= 1;
        }
    }

    fn line(&self, cells: &[Cell], widths: &[usize], is_coloured: bool) -> String {
        let mut line = String::new();
        for (place, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let text = cut(&cell.text, width);
            let space = " ".repeat(width.saturating_sub(text.width()));
            let painted = style::paint_if(is_coloured && !text.is_empty(), cell.colour, &text);
            let is_last = place + 1 == cells.len();
            match (self.columns[place].right, is_last) {
                (true, _) => line.push_str(&format!("{space}{painted}")),
                (false, true) => line.push_str(&painted),
                (false, false) => line.push_str(&format!("{painted}{space}")),
            }
            if !is_last {
                line.push_str(&" ".repeat(GAP));
            }
        }
        format!("{}\n", line.trim_end())
    }
}

/// Breaks a line between words so that no part is wider than `width`; a word that is wider stays whole. Parts after the
/// first are indented.
pub(crate) fn fold(line: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in line.split_inclusive(' ') {
        let wide = word.trim_end().width();
        if column > indent && column + wide > width {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        }
        out.push_str(word);
        column += word.width();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[">ID", "STATE", "~TITLE"]);
        table.row([cell(1), state("ready"), cell("a title that is much longer than the screen is wide")]);
        table.row([cell(12), state("running"), cell("整理整理整理整理整理整理整理整理整理整理整理")]);
        table.row([cell(3)]);
        table
    }

    #[test]
    fn a_long_line_is_broken_between_words() {
        let check = |line: &str, expected: &str| assert_eq!(fold(line, 12, 3), expected, "{line}");
        check("one two", "one two");
        check("one two three four", "one two\n   three\n   four");
        check("one twothreefour five", "one\n   twothreefour\n   five");
        check("  0.1 s  a b", "  0.1 s  a b");
        check("äöü äöü äöü äöü", "äöü äöü äöü\n   äöü");
        check("", "");
    }

    #[test]
    fn a_pipe_gets_everything_aligned_and_plain() {
        let expected = "ID  STATE    TITLE
 1  ready    a title that is much longer than the screen is wide
12  running  整理整理整理整理整理整理整理整理整理整理整理
 3
";
        assert_eq!(table().render(None, false), expected);
    }

    #[test]
    fn a_terminal_gets_no_line_that_is_too_long() {
        let text = table().render(Some(40), false);
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        assert_eq!(text.lines().filter(|line| line.ends_with('…')).count(), 2, "{text}");
    }

    #[test]
    fn what_is_wider_together_than_one_by_one_is_cut_and_aligned() {
        for emoji in ["⚠️", "✔️", "❤️"] {
            for width in 20..40 {
                let mut table = Table::new(&["~TITLE", "STATE"]);
                table.row([cell(emoji.repeat(30)), state("ready")]);
                table.row([cell(format!("{emoji} a title that is much longer than that")), state("ready")]);
                let text = table.render(Some(width), false);
                let states: Vec<usize> = text
                    .lines()
                    .skip(1)
                    .map(|line| line.split("ready").next().unwrap_or("").width())
                    .collect();
                assert_eq!(states[0], states[1], "{text}");
                assert!(text.lines().all(|line| line.width() <= width), "{width}\n{text}");
            }
        }
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let plain = table().render(Some(40), false);
        let painted = table().render(Some(40), true);
        assert!(painted.contains("\u{1b}[36mready\u{1b}[0m"), "{painted:?}");
        let stripped = painted.replace("\u{1b}[36m", "").replace("\u{1b}[34m", "").replace("\u{1b}[1m", "");
        assert_eq!(stripped.replace("\u{1b}[0m", ""), plain);
    }

    #[test]
    fn what_cannot_shrink_is_left_whole() {
        let mut table = Table::new(&["NAME", "~X"]);
        table.row([cell("n".repeat(30)), cell("x".repeat(30))]);
        assert_eq!(table.widths(Some(10)), vec![30, SHRUNK]);
    }
}
