//! Texts from elsewhere, made fit to be shown on a terminal.
//!
//! Here live taking out what would steer the terminal, and cutting to a width in columns. What is shown where, and in
//! which colour, is decided by who shows it.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Makes a text from elsewhere safe for a terminal: one line, nothing that steers the cursor.
pub fn one_line(text: &str) -> String {
    let words = text.split(['\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().map(|c| if is_steering(c) { '\u{fffd}' } else { c }).collect()
}

/// As [`one_line`], for texts that may have several.
pub fn lines(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\r')
        .map(|c| if is_steering(c) && !"\n\t".contains(c) { '\u{fffd}' } else { c })
        .collect()
}

fn is_steering(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns how many columns a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Cuts a text to a width in columns, the last of which is then `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        kept.push(c);
        used += wide;
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\u{1b}[2J\n b\u{202e}"), "a\u{fffd}[2J b\u{fffd}");
        assert_eq!(lines("a\u{1b}\nb\r\n"), "a\u{fffd}\nb\n");
    }

    #[test]
    fn a_cut_text_has_its_width() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("整理整", 4), "整…");
        assert_eq!(cut("abc", 0), "");
    }
}
