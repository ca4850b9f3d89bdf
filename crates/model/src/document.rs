//! One tree with places, made from TOML or JSON.
//!
//! Here live the opening of a file's bytes, the tree (`Node`), and the collecting of findings about it. What the
//! keys mean is said by the readers of plans and configurations, through [`crate::table`]. The idea: every value
//! knows its bytes, so that every complaint can point at them. Input is hostile until proven otherwise: size,
//! encoding and depth are bounded before anything walks the tree.

use crate::diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS, quote};
use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned as TomlSpanned;
use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// How deep values may be nested. Bounds every recursion over a tree, its drop included.
pub const MAX_DEPTH: usize = 64;

/// A value and the bytes it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the file.
    pub span: Range<usize>,
}

/// A value of the file and the bytes it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its bytes in the file.
    pub span: Range<usize>,
    /// The value.
    pub kind: NodeKind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// JSON's `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number, and whole numbers beyond 64 bits.
    Number(f64),
    /// A text.
    String(String),
    /// TOML's date or time, as written.
    Time(String),
    /// A list.
    Array(Vec<Node>),
    /// Keys and values in the order of the file, each key once.
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's bytes in the file.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Node,
}

impl NodeKind {
    /// Returns what it is, with its article, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            NodeKind::Null => "null",
            NodeKind::Boolean(_) => "a boolean",
            NodeKind::Integer(_) => "an integer",
            NodeKind::Number(_) => "a number",
            NodeKind::String(_) => "a string",
            NodeKind::Time(_) => "a date or time",
            NodeKind::Array(_) => "an array",
            NodeKind::Table(_) => "a table",
        }
    }
}

/// A file's text and what was found wrong with it so far.
#[derive(Debug)]
pub struct Source<'a> {
    file: &'a str,
    text: &'a str,
    found: RefCell<Vec<Diagnostic>>,
    hidden: Cell<usize>,
}

impl<'a> Source<'a> {
    /// Opens the bytes of a file, which may begin with a UTF-8 byte order mark.
    ///
    /// # Errors
    ///
    /// More than [`MAX_BYTES`], or not UTF-8 (names the first bad byte and its line).
    pub fn open(file: &'a str, bytes: &'a [u8]) -> Result<Source<'a>, Diagnostics> {
        if bytes.len() > MAX_BYTES {
            let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", bytes.len());
            return Err(Diagnostic::at(file, "", 0..0, message).into());
        }
        let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(file, bytes, error.valid_up_to()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Source { file, text, found: RefCell::default(), hidden: Cell::new(0) })
    }

    /// Returns the name of the file.
    pub fn file(&self) -> &'a str {
        self.file
    }

    /// Returns the whole text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns whether there is nothing but white space.
    pub fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Returns the line of a byte, from 1.
    pub fn line_of(&self, byte: usize) -> usize {
        1 + self.text.as_bytes()[..byte.min(self.text.len())].iter().filter(|b| **b == b'\n').count()
    }

    /// Notes a finding.
    pub fn refuse(&self, span: Range<usize>, message: impl Into<String>) {
        self.refuse_with(span, message, || None);
    }

    /// Notes a finding with what mends it. `help` runs only while findings are still kept, so it may be slow.
    pub fn refuse_with(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl FnOnce() -> Option<String>,
    ) {
        if self.is_full() {
            self.hidden.set(self.hidden.get() + 1);
            return;
        }
        self.found.borrow_mut().push(self.finding(span, message).help(help()));
    }

    /// Notes an error of a value as a finding at its place.
    pub fn refuse_error(&self, span: Range<usize>, error: crate::error::Error) {
        self.refuse_with(span, error.message, || error.hint);
    }

    /// Returns whether further findings will only be counted.
    pub fn is_full(&self) -> bool {
        self.found.borrow().len() >= MAX_DIAGNOSTICS
    }

    /// Returns whether nothing was found so far.
    pub fn is_clean(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Returns the value if nothing was found.
    ///
    /// # Errors
    ///
    /// Everything that was found, in the order of its places.
    pub fn verdict<T>(self, value: T) -> Result<T, Diagnostics> {
        let mut list = self.found.into_inner();
        if list.is_empty() {
            return Ok(value);
        }
        list.sort_by_key(|d| (d.line, d.column));
        Err(Diagnostics { list, hidden: self.hidden.get() })
    }

    /// Reads the text as TOML into a table.
    ///
    /// # Errors
    ///
    /// The first error of syntax, duplicate keys included.
    pub fn read_toml(&self) -> Result<Node, Diagnostics> {
        self.check_toml_depth()?;
        let table = DeTable::parse(self.text).map_err(|error| {
            self.finding(error.span().unwrap_or(0..0), lowercase_first(&one_line(error.message())))
        })?;
        let span = table.span();
        Ok(Node { span, kind: self.toml_table(table.into_inner()) })
    }

    /// Reads the text as strict JSON (no comments, no trailing commas).
    ///
    /// Duplicate keys are noted as findings, and the first of them is kept.
    ///
    /// # Errors
    ///
    /// The first error of syntax, an empty text, or values nested too deep.
    pub fn read_json(&self) -> Result<Node, Diagnostics> {
        self.check_json_bytes()?;
        let parsed = jsonc_parser::parse_to_ast(self.text, &Default::default(), &strict_json())
            .map_err(|e| self.finding(range(e.range()), lowercase_first(&e.kind().to_string())))?;
        let value = parsed.value.ok_or_else(|| self.finding(0..0, "the file is empty; expected JSON"))?;
        Ok(self.json_node(value))
    }

    fn finding(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.file, self.text, span, message)
    }

    fn too_deep(&self, span: Range<usize>) -> Diagnostics {
        self.finding(span, format!("values are nested more than {MAX_DEPTH} deep")).into()
    }

    /// Refuses nesting by brackets and by dotted keys. The parser counts only brackets, and a key of a
    /// million dots would make a tree whose drop overflows the stack.
    fn check_toml_depth(&self) -> Result<(), Diagnostics> {
        let (mut open, mut depth, mut dots) = (Vec::<usize>::new(), 0usize, 0usize);
        for token in toml_parser::Source::new(self.text).lex() {
            match token.kind() {
                TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                    open.push(dots);
                    depth += dots + 1;
                    dots = 0;
                }
                TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                    dots = open.pop().unwrap_or(0);
                    depth = depth.saturating_sub(dots + 1);
                }
                TokenKind::Dot => dots += 1,
                TokenKind::Comma => dots = 0,
                TokenKind::Newline if open.is_empty() => dots = 0,
                _ => {}
            }
            if depth + dots > MAX_DEPTH {
                return Err(self.too_deep(token.span().start()..token.span().end()));
            }
        }
        Ok(())
    }

    /// Refuses nesting before the recursive parser meets it, and the bytes that JSON forbids but the parser takes.
    fn check_json_bytes(&self) -> Result<(), Diagnostics> {
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        for (place, byte) in self.text.bytes().enumerate() {
            match byte {
                0..0x20 if in_string => return Err(self.forbidden(place, "must be escaped inside a string")),
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                b'\t' | b'\n' | b'\r' => {}
                0..0x20 | 0x7f.. => return Err(self.forbidden(place, "is not JSON outside a string")),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Err(self.too_deep(place..place + 1));
            }
        }
        Ok(())
    }

    fn forbidden(&self, place: usize, why: &str) -> Diagnostics {
        let c = self.text[place..].chars().next().map_or(0, u32::from);
        self.finding(place..place + 1, format!("the character U+{c:04X} {why}")).into()
    }

    fn toml_table(&self, table: DeTable<'_>) -> NodeKind {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| Entry {
                key_span: key.span(),
                key: key.into_inner().into_owned(),
                value: self.toml_node(value),
            })
            .collect();
        entries.sort_by_key(|e| e.key_span.start);
        NodeKind::Table(entries)
    }

    fn toml_node(&self, value: TomlSpanned<DeValue<'_>>) -> Node {
        let span = value.span();
        let kind = match value.into_inner() {
            DeValue::String(text) => NodeKind::String(text.into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => NodeKind::Integer(number),
                Err(_) => NodeKind::Number(number.as_str().parse().unwrap_or(f64::INFINITY)),
            },
            DeValue::Float(number) => NodeKind::Number(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => NodeKind::Boolean(truth),
            DeValue::Datetime(time) => NodeKind::Time(time.to_string()),
            DeValue::Array(items) => {
                NodeKind::Array(items.into_iter().map(|item| self.toml_node(item)).collect())
            }
            DeValue::Table(table) => self.toml_table(table),
        };
        Node { span, kind }
    }

    fn json_node(&self, value: ast::Value<'_>) -> Node {
        let span = range(value.range());
        let kind = match value {
            ast::Value::NullKeyword(_) => NodeKind::Null,
            ast::Value::BooleanLit(truth) => NodeKind::Boolean(truth.value),
            ast::Value::NumberLit(number) => json_number(number.value),
            ast::Value::StringLit(text) => NodeKind::String(text.value.into_owned()),
            ast::Value::Array(array) => {
                NodeKind::Array(array.elements.into_iter().map(|item| self.json_node(item)).collect())
            }
            ast::Value::Object(object) => NodeKind::Table(self.json_entries(object)),
        };
        Node { span, kind }
    }

    fn json_entries(&self, object: ast::Object<'_>) -> Vec<Entry> {
        let mut first: HashMap<String, usize> = HashMap::new();
        let mut entries = Vec::with_capacity(object.properties.len());
        for property in object.properties {
            let key_span = range(property.name.range());
            let key = property.name.into_string();
            if let Some(earlier) = first.get(&key) {
                self.refuse_with(key_span, format!("the key {} is given twice", quote(&key)), || {
                    Some(format!("the first is on line {}; keep one of them", self.line_of(*earlier)))
                });
                continue;
            }
            first.insert(key.clone(), key_span.start);
            entries.push(Entry { key, key_span, value: self.json_node(property.value) });
        }
        entries
    }
}

fn not_utf8(file: &str, bytes: &[u8], offset: usize) -> Diagnostics {
    // Lossy decoding keeps the valid prefix byte for byte, so the offset still fits.
    let text = String::from_utf8_lossy(bytes);
    let message = format!("the file is not UTF-8: byte {offset} is 0x{:02x}", bytes[offset]);
    let help = "save the file as UTF-8 (without it no line of the file can be trusted)";
    Diagnostic::at(file, &text, offset..offset + 1, message).help(Some(help.to_string())).into()
}

fn range(range: jsonc_parser::common::Range) -> Range<usize> {
    range.start..range.end
}

fn json_number(text: &str) -> NodeKind {
    match text.parse() {
        Ok(number) => NodeKind::Integer(number),
        Err(_) => NodeKind::Number(text.parse().unwrap_or(f64::NAN)),
    }
}

fn strict_json() -> jsonc_parser::ParseOptions {
    jsonc_parser::ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Result<Node, Diagnostics> {
        Source::open("f.toml", text.as_bytes())?.read_toml()
    }

    fn json(text: &str) -> Result<Node, Diagnostics> {
        let source = Source::open("f.json", text.as_bytes())?;
        let node = source.read_json()?;
        source.verdict(node)
    }

    fn refuse(result: Result<Node, Diagnostics>, place: &str, message: &str) {
        let diagnostics = result.expect_err(message);
        let first = diagnostics.list[0].to_string();
        assert!(first.starts_with(place) && first.contains(message), "{first}");
    }

    fn keys(node: &Node) -> Vec<&str> {
        match &node.kind {
            NodeKind::Table(entries) => entries.iter().map(|e| e.key.as_str()).collect(),
            other => panic!("{}", other.name()),
        }
    }

    #[test]
    fn both_formats_make_the_same_tree_in_the_order_of_the_file() {
        let from_toml = toml("b = 1\na = [\"x\", 1.5, true]\n[t]\nk = 'v'\n").expect("toml");
        let from_json = json(r#"{"b": 1, "a": ["x", 1.5, true], "t": {"k": "v"}}"#).expect("json");
        assert_eq!(keys(&from_toml), ["b", "a", "t"]);
        assert_eq!(shape(&from_toml), shape(&from_json));
    }

    fn shape(node: &Node) -> String {
        match &node.kind {
            NodeKind::Array(items) => items.iter().map(shape).collect::<Vec<_>>().join(","),
            NodeKind::Table(entries) => {
                entries.iter().map(|e| format!("{}={}", e.key, shape(&e.value))).collect::<Vec<_>>().join(";")
            }
            kind => format!("{kind:?}"),
        }
    }

    #[test]
    fn spans_are_the_bytes_of_the_value() {
        let text = "\u{feff}'é' = 'ü'\nn = 0x10\n";
        let source = Source::open("f.toml", text.as_bytes()).expect("utf-8");
        let NodeKind::Table(entries) = source.read_toml().expect("toml").kind else { panic!("table") };
        assert_eq!(&source.text()[entries[0].value.span.clone()], "'ü'");
        assert_eq!(entries[1].value.kind, NodeKind::Integer(16));
    }

    #[test]
    fn toml_syntax_errors_have_a_place() {
        refuse(toml("a = 1\nb = \n"), "f.toml:2:", "");
        refuse(toml("a = 1\na = 2\n"), "f.toml:2:1: ", "duplicate key");
        refuse(toml("[t]\nk = 1\n[t]\n"), "f.toml:3:", "duplicate key");
        refuse(toml("a = \"\u{0}\""), "f.toml:1:", "");
    }

    #[test]
    fn json_is_strict() {
        refuse(json(""), "f.json:1:1: ", "the file is empty");
        refuse(json("{\"a\": 1,}"), "f.json:1:", "trailing commas are not allowed");
        refuse(json("{\"a\": 1 // no\n}"), "f.json:1:9: ", "comments are not allowed");
        refuse(json("{'a': 1}"), "f.json:1:2: ", "single-quoted");
        refuse(json("{a: 1}"), "f.json:1:", "");
        refuse(json("[1 2]"), "f.json:1:", "comma");
        refuse(json("[NaN]"), "f.json:1:", "");
        refuse(json("{} {}"), "f.json:1:4: ", "more than one");
        refuse(json("{\"a\": \"x\ny\"}"), "f.json:1:9: ", "U+000A must be escaped inside a string");
        refuse(json("[1,\u{a0}2]"), "f.json:1:4: ", "U+00A0 is not JSON outside a string");
        refuse(json("[\"\\ud800\"]"), "f.json:1:", "unpaired");
        json("[\"\u{a0}é\u{7f}\"]\r\n\t").expect("json");
        refuse(json("{\"a\": \"x"), "f.json:1:", "");
        refuse(json("{\"a\":\n 1,\n \"a\": 2}"), "f.json:3:2: ", "`a` is given twice");
    }

    #[test]
    fn a_duplicate_json_key_names_the_first() {
        let error = json("{\"a\":\n 1,\n \"a\": 2}").expect_err("twice");
        assert_eq!(error.list[0].help.as_deref(), Some("the first is on line 1; keep one of them"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named_with_offset_and_line() {
        let error = Source::open("f.toml", b"a = 1\nb = '\xff\xfe'\n").expect_err("bytes");
        assert!(error.to_string().starts_with("f.toml:2:6: the file is not UTF-8: byte 11 is 0xff\n"));
        assert!(Source::open("f.toml", b"\xff\xfea\x00").is_err());
    }

    #[test]
    fn size_is_bounded_at_the_limit() {
        assert!(Source::open("f", &vec![b' '; MAX_BYTES]).is_ok());
        let error = Source::open("f", &vec![b' '; MAX_BYTES + 1]).expect_err("huge");
        assert!(error.to_string().contains("16777217 bytes; at most 16777216"));
    }

    #[test]
    fn depth_is_bounded_at_the_limit_in_every_disguise() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(json(&nested(MAX_DEPTH)).is_ok());
        refuse(json(&nested(MAX_DEPTH + 1)), "f.json:1:65: ", "nested more than 64 deep");
        assert!(toml(&format!("a = {}", nested(MAX_DEPTH))).is_ok());
        refuse(toml(&format!("a = {}", nested(MAX_DEPTH + 1))), "f.toml:1:", "nested more than 64 deep");
        for text in [
            format!("{} = 1", vec!["a"; 100_000].join(".")),
            format!("[{}]", vec!["a"; 100_000].join(".")),
            format!("a = {}1{}", "{a.a.a = ".repeat(30), "}".repeat(30)),
            format!("a = {}", "{".repeat(100_000)),
            format!("a = {}", "[".repeat(100_000)),
        ] {
            refuse(toml(&text), "f.toml:1:", "nested more than 64 deep");
        }
        for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
            refuse(json(&text), "f.json:1:", "nested more than 64 deep");
        }
    }

    #[test]
    fn dots_that_nest_nothing_are_not_counted() {
        let dots = ".".repeat(1000);
        let numbers = vec!["1.5"; 1000].join(", ");
        let text = format!(
            "a = \"{dots}\"\n# {dots}\nb = [{numbers}]\nc = '''\n{dots}'''\n{}",
            "d.e = 1\n[d]\nf = 1.5\n"
        );
        let text = text.replace("d.e = 1\n[d]", "[d]");
        toml(&text).expect("shallow");
        json(&format!("[\"{}\"]", "[\\\"".repeat(1000))).expect("shallow");
    }

    #[test]
    fn findings_are_bounded_and_sorted() {
        let source = Source::open("f", b"a\nb\n").expect("utf-8");
        for _ in 0..MAX_DIAGNOSTICS {
            source.refuse(2..3, "later");
        }
        source.refuse_with(0..1, "too many", || panic!("no help is worked out for a hidden finding"));
        let error = source.verdict(()).expect_err("found");
        assert_eq!((error.list.len(), error.hidden), (MAX_DIAGNOSTICS, 1));
        let source = Source::open("f", b"a\nb\n").expect("utf-8");
        source.refuse(2..3, "second");
        source.refuse(0..1, "first");
        let error = source.verdict(()).expect_err("found");
        assert_eq!(error.list[0].message, "first");
    }
}
