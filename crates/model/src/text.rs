//! Texts from elsewhere, made fit to be shown on a terminal.
//!
//! Here live taking out what would steer the terminal, and cutting to a width in columns. What is shown where, and in
//! which colour, is decided by who shows it.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Characters that are looked at for a column of a cut text: marks that take no column may be thousands.
const CHARS_PER_COLUMN: usize = 8;

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
    if width == 0 {
        return String::new();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars().take(width.saturating_mul(CHARS_PER_COLUMN)) {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        kept.push(c);
        used += wide;
    }
    kept.push('…');
    // Characters together may be wider than one by one, as `⚠` and what makes an emoji of it are.
    while kept.width() > width {
        kept.truncate(kept.len() - '…'.len_utf8());
        kept.pop();
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

    #[test]
    fn characters_that_are_wider_together_are_cut_to_the_width_too() {
        let marks = format!("e{}", "\u{301}".repeat(1_000));
        let texts = [
            "⚠️ careful",
            "✔️✔️✔️✔️✔️✔️",
            "❤️",
            "a❤️b❤️c❤️d",
            "👩\u{200d}👩\u{200d}👧 family",
            "🇩🇪🇩🇪🇩🇪",
            marks.as_str(),
        ];
        for text in texts {
            for columns in 0..12 {
                let shown = cut(&text.repeat(3), columns);
                assert!(width(&shown) <= columns, "{text} in {columns}: {shown:?}");
                let is_whole = shown == text.repeat(3);
                assert_eq!(shown.ends_with('…'), columns > 0 && !is_whole, "{text} in {columns}: {shown:?}");
                assert!(is_whole || shown.chars().count() <= columns * CHARS_PER_COLUMN + 1, "{shown:?}");
            }
        }
        assert_eq!(cut("⚠️⚠️⚠️", 5), "⚠️⚠️…");
        assert_eq!(cut("⚠️⚠️⚠️", 2), "⚠…");
    }
}
