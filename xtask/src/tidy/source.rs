//! Rust source, taken apart as far as the rules need it.
//!
//! Here lives a small lexer that tells code from comments and literals, so that a rule about code is not misled by a
//! text, and a rule about SQL sees texts only. It is no parser: braces are counted.

/// A Rust file in layers. Both layers have the lines of the original.
#[derive(Debug)]
pub struct Source {
    /// The code: comments and the insides of literals are blank.
    pub code: String,
    /// String literals: the line where each begins, and its inside as written.
    pub strings: Vec<(usize, String)>,
    /// For each line, whether it is test code.
    test_lines: Vec<bool>,
}

impl Source {
    /// Takes a text apart; with `all_test`, all of it is test code.
    pub fn read(text: &str, all_test: bool) -> Source {
        let mut lexer =
            Lexer { chars: text.chars().collect(), at: 0, line: 1, code: String::new(), strings: Vec::new() };
        lexer.run();
        let test_lines = if all_test { vec![true; text.lines().count()] } else { test_lines(&lexer.code) };
        Source { code: lexer.code, strings: lexer.strings, test_lines }
    }

    /// Tells whether a line, counted from 1, is test code.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    /// Returns the functions: name, first line and length in lines, with the body's closing brace.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let starts = self.code.match_indices("fn ").filter(|(at, _)| !is_word_before(&self.code, *at));
        starts.filter_map(|(at, _)| function_at(&self.code, at)).collect()
    }
}

/// Tells whether the character before `at` belongs to a word.
pub fn is_word_before(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Returns the line, counted from 1, of a byte.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn function_at(code: &str, at: usize) -> Option<(String, usize, usize)> {
    let rest = &code[at + "fn ".len()..];
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let body = rest.find(['{', ';']).filter(|open| rest[*open..].starts_with('{') && !name.is_empty())?;
    let end = closing_brace(&rest[body..])? + body;
    let first = line_of(code, at);
    Some((name, first, rest[..end].matches('\n').count() + 1))
}

/// Returns the byte of the brace that closes the one `text` begins with.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Marks the lines from each `#[cfg(test)]` to the end of the item it stands before.
fn test_lines(code: &str) -> Vec<bool> {
    let mut marks = vec![false; code.lines().count()];
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let rest = &code[at..];
        let end = match rest.find(['{', ';']) {
            Some(open) if rest[open..].starts_with('{') => open + closing_brace(&rest[open..]).unwrap_or(0),
            other => other.unwrap_or(0),
        };
        let (first, last) = (line_of(code, at), line_of(code, at + end));
        marks.iter_mut().take(last).skip(first - 1).for_each(|mark| *mark = true);
    }
    marks
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    code: String,
    strings: Vec<(usize, String)>,
}

impl Lexer {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                '/' if self.peek(1) == Some('/') => self.blank_until_line_end(),
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.string(),
                'r' if !self.follows_word() && self.raw_hashes().is_some() => self.raw_string(),
                '\'' => self.quote(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Goes one character on; it stays in the code.
    fn keep(&mut self) {
        if let Some(c) = self.step() {
            self.code.push(c);
        }
    }

    /// Goes one character on; the code gets a blank (or the line's end).
    fn blank(&mut self) -> Option<char> {
        let c = self.step()?;
        self.code.push(if c == '\n' { '\n' } else { ' ' });
        Some(c)
    }

    fn step(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn blank_until_line_end(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            let pair = (self.peek(0), self.peek(1));
            match pair {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        self.keep();
        let mut inside = String::new();
        while let Some(c) = self.peek(0).filter(|c| *c != '"') {
            inside.extend(self.blank());
            if c == '\\' {
                inside.extend(self.blank());
            }
        }
        self.keep();
        self.strings.push((line, inside));
    }

    /// Returns the number of `#` if a raw string begins here (`br` and `cr` are met at their `r`).
    fn raw_hashes(&self) -> Option<usize> {
        let hashes = self.chars[self.at + 1..].iter().take_while(|c| **c == '#').count();
        (self.peek(1 + hashes) == Some('"')).then_some(hashes)
    }

    fn raw_string(&mut self) {
        let line = self.line;
        let hashes = self.raw_hashes().unwrap_or(0);
        (0..hashes + 2).for_each(|_| self.keep());
        let mut inside = String::new();
        while self.peek(0).is_some() && !self.closes_raw(hashes) {
            inside.extend(self.blank());
        }
        (0..=hashes).for_each(|_| self.keep());
        self.strings.push((line, inside));
    }

    fn closes_raw(&self, hashes: usize) -> bool {
        self.peek(0) == Some('"') && (1..=hashes).all(|n| self.peek(n) == Some('#'))
    }

    /// A character literal, or the beginning of a lifetime.
    fn quote(&mut self) {
        let is_literal = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.keep();
        if !is_literal {
            return;
        }
        if self.blank() == Some('\\') {
            self.blank();
        }
        while self.peek(0).is_some_and(|c| c != '\'') {
            self.blank();
        }
        self.keep();
    }

    /// Tells whether the character before belongs to a name (`for"` is none, `br"` and `cr"` are prefixes).
    fn follows_word(&self) -> bool {
        let before = |n: usize| self.at.checked_sub(n).and_then(|at| self.chars.get(at)).copied();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        match before(1) {
            Some('b' | 'c') => is_word(before(2)),
            other => is_word(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_insides_of_literals_are_blank() {
        let text = "let a = \"dbg!\"; // dbg!\nlet b = r#\"x\"y\"#; /* a /* b */ dbg! */ let c = '\"'; let d: &'a str;\n";
        let source = Source::read(text, false);
        assert!(!source.code.contains("dbg!"), "{}", source.code);
        assert!(source.code.contains("let c = ' '; let d: &'a str;"), "{}", source.code);
        assert_eq!(source.strings, [(1, "dbg!".to_string()), (2, "x\"y".to_string())]);
    }

    #[test]
    fn escapes_do_not_end_a_literal() {
        let source = Source::read(r#"f("a\"b", '\'', b"c\\", br"d\");"#, false);
        let insides: Vec<&str> = source.strings.iter().map(|(_, inside)| inside.as_str()).collect();
        assert_eq!(insides, ["a\\\"b", "c\\\\", "d\\"]);
    }

    #[test]
    fn functions_have_their_length() {
        let text =
            "fn one() {\n    two(\"}\");\n}\ntrait T {\n    fn none();\n}\ntype F = fn (u8);\nfn last() {}\n";
        let functions = Source::read(text, false).functions();
        assert_eq!(functions, [("one".to_string(), 1, 3), ("last".to_string(), 8, 1)]);
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let source =
            Source::read("fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n", false);
        let lines: Vec<bool> = (1..=6).map(|line| source.is_test_line(line)).collect();
        assert_eq!(lines, [false, true, true, true, true, false]);
    }
}
