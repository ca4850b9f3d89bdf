//! The grammar of globs, and whether two of them share a path.
//!
//! Here live the expansion of braces, the lexical clean-up of a path, the pattern that a glob compiles to, and the
//! intersection of two patterns. Symbols and kinds are not known here.
//!
//! Grammar: `*` and `?` stop at `/`; `**` as a whole component stands for any number of components, elsewhere for
//! any characters; `[a-z]`, `[!x]` are one character of a class and never `/`; `{a,b}` is either; `\` takes away the
//! meaning of the next character. A pattern is a short list of steps, read as a nondeterministic automaton.
//! Two patterns are intersected by walking the pairs of their positions, each pair once: the cost is at most the
//! product of their lengths, whatever the stars.

use super::{ALTERNATIVES_MAX, NAME_MAX};
use crate::diagnostic::quote;
use crate::error::{Error, Result};

/// How deep braces may be nested.
const BRACES_MAX: usize = 16;

/// One alternative of a path name: the paths it matches.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// The steps of the pattern, then those of "and what lies below", which begin at `end`.
    steps: Vec<Step>,
    end: usize,
}

/// One step of a pattern.
#[derive(Debug, Clone)]
enum Step {
    /// One character of the set.
    One(Set),
    /// Any number of characters of the set.
    Many(Set),
    /// The next so many steps may be left out together.
    Maybe(usize),
}

/// A set of characters. Never empty.
#[derive(Debug, Clone)]
enum Set {
    Any,
    NotSlash,
    Char(char),
    /// Inclusive ranges, without `/`.
    Ranges(Vec<(char, char)>),
}

/// Reads a path or glob: returns its clean text and a pattern for each alternative of its braces.
pub(super) fn read(text: &str, base: Option<&str>) -> Result<(String, Vec<Pattern>)> {
    let mut alternatives =
        expand(text)?.iter().map(|path| clean(text, path, base)).collect::<Result<Vec<_>>>()?;
    alternatives.sort();
    alternatives.dedup();
    if alternatives.iter().any(|path| path == ".") {
        alternatives = vec![".".to_string()];
    }
    let total: usize = alternatives.iter().map(|path| path.len() + 1).sum();
    if total > NAME_MAX + 1 {
        return Err(refuse(text, &format!("expands to {total} bytes; at most {NAME_MAX} are allowed"))
            .hint("claim the folder that holds the files, or several shorter names"));
    }
    let patterns = alternatives.iter().map(|path| compile(text, path)).collect::<Result<Vec<_>>>()?;
    Ok((canonical(&alternatives), patterns))
}

/// Returns the one text for these alternatives: `src/{a.rs,b.rs}`, sorted, the common folders in front.
fn canonical(alternatives: &[String]) -> String {
    if let [only] = alternatives {
        return only.clone();
    }
    let shared = shared_folders(alternatives);
    let rests: Vec<String> = alternatives.iter().map(|path| escape_commas(&path[shared..])).collect();
    format!("{}{{{}}}", &alternatives[0][..shared], rests.join(","))
}

/// Returns the bytes of the leading folders that all share, the last `/` included.
fn shared_folders(alternatives: &[String]) -> usize {
    let first = &alternatives[0];
    let ends = first.match_indices('/').map(|(slash, _)| slash + 1);
    ends.take_while(|end| alternatives.iter().all(|path| path.starts_with(&first[..*end])))
        .last()
        .unwrap_or(0)
}

/// Escapes what braces would read as their own: commas that stand in no class and after no `\`.
fn escape_commas(path: &str) -> String {
    let mut escaped = String::new();
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let (unit, after) = rest.split_at(unit_len(rest));
        if c == ',' {
            escaped.push('\\');
        }
        escaped.push_str(unit);
        rest = after;
    }
    escaped
}

/// Returns the bytes of what stands first: an escaped character, a whole class, or one character.
///
/// Whatever is unclosed counts as one character; [`compile`] complains about it.
fn unit_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, '\\')) => chars.next().map_or(1, |(at, c)| at + c.len_utf8()),
        Some((_, '[')) => class_len(text).unwrap_or(1),
        Some((_, c)) => c.len_utf8(),
        None => 0,
    }
}

/// Drops the `\` before a character that has no meaning of its own, so that one path has one text.
fn plain_unit(unit: &str) -> &str {
    match unit.strip_prefix('\\') {
        Some(escaped)
            if !escaped.is_empty() && !escaped.starts_with(['*', '?', '[', '{', '}', '\\', '/']) =>
        {
            escaped
        }
        _ => unit,
    }
}

/// Returns the bytes of the class that `text` begins with, or `None` if it is not closed in its component.
fn class_len(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    chars.next_if(|(_, c)| matches!(c, '!' | '^'));
    chars.next_if(|(_, c)| *c == ']');
    while let Some((at, c)) = chars.next() {
        match c {
            ']' => return Some(at + 1),
            '/' => return None,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    None
}

/// Expands braces into the texts without them, in order.
fn expand(text: &str) -> Result<Vec<String>> {
    let (expanded, rest) = expand_until(text, text, 0)?;
    match rest {
        "" => Ok(expanded),
        _ => Err(refuse(text, "has a `}` without its `{`").hint("write `\\}` for the character itself")),
    }
}

/// Expands up to the end, or inside braces up to the `,` or `}` that ends the alternative; returns the rest.
fn expand_until<'t>(whole: &str, text: &'t str, depth: usize) -> Result<(Vec<String>, &'t str)> {
    let mut found = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            '}' => break,
            ',' if depth > 0 => break,
            '{' => {
                let (choices, after) = expand_braces(whole, rest, depth + 1)?;
                found = join_each(whole, &found, &choices)?;
                rest = after;
            }
            _ => {
                let (unit, after) = rest.split_at(unit_len(rest));
                found.iter_mut().for_each(|text| text.push_str(plain_unit(unit)));
                rest = after;
            }
        }
    }
    Ok((found, rest))
}

/// Expands the braces that `text` begins with; returns the choices and what follows them.
fn expand_braces<'t>(whole: &str, text: &'t str, depth: usize) -> Result<(Vec<String>, &'t str)> {
    if depth > BRACES_MAX {
        return Err(refuse(whole, &format!("nests braces more than {BRACES_MAX} deep")));
    }
    let mut choices = Vec::new();
    let mut rest = &text[1..];
    loop {
        let (expanded, after) = expand_until(whole, rest, depth)?;
        choices.extend(expanded);
        check_count(whole, choices.len())?;
        match after.chars().next() {
            Some(',') => rest = &after[1..],
            Some(_) => return Ok((choices, &after[1..])),
            None => {
                return Err(refuse(whole, "has a `{` without its `}`")
                    .hint("close the braces, or write `\\{` for the character itself"));
            }
        }
    }
}

fn join_each(whole: &str, starts: &[String], ends: &[String]) -> Result<Vec<String>> {
    check_count(whole, starts.len() * ends.len())?;
    Ok(starts.iter().flat_map(|start| ends.iter().map(move |end| format!("{start}{end}"))).collect())
}

fn check_count(whole: &str, count: usize) -> Result<()> {
    if count <= ALTERNATIVES_MAX {
        return Ok(());
    }
    Err(refuse(whole, &format!("expands to more than {ALTERNATIVES_MAX} alternatives"))
        .hint("claim the folder that holds the files, or several shorter names"))
}

/// Cleans a path without braces: no `.`, `..` or empty components, relative to the project folder.
fn clean(whole: &str, path: &str, base: Option<&str>) -> Result<String> {
    let base: Vec<&str> = base.map(|base| components(base).collect()).unwrap_or_default();
    let mut stack: Vec<&str> = if path.starts_with('/') { Vec::new() } else { base.clone() };
    for component in components(path) {
        // The components of the project folder are names, whatever characters they hold.
        let of_base = !path.starts_with('/') && stack.len() <= base.len();
        match (component, stack.last()) {
            ("..", None) => return Err(leaves(whole)),
            ("..", Some(last)) if !of_base && has_wildcard(last) => {
                return Err(refuse(whole, "has `..` after a wildcard").hint("write the path without `..`"));
            }
            ("..", Some(_)) => drop(stack.pop()),
            (component, _) => stack.push(component),
        }
    }
    if path.starts_with('/') && base.is_empty() {
        return Err(leaves(whole));
    }
    let inside =
        stack.len() >= base.len() && stack.iter().zip(&base).all(|(c, b)| *c == *b || unescaped(c) == *b);
    match &stack[base.len().min(stack.len())..] {
        _ if !inside => Err(leaves(whole)),
        [] => Ok(".".to_string()),
        below => Ok(below.join("/")),
    }
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !matches!(*component, "" | "."))
}

/// Returns whether a component matches more than one name.
fn has_wildcard(component: &str) -> bool {
    let mut rest = component;
    while let Some(c) = rest.chars().next() {
        if matches!(c, '*' | '?' | '[') {
            return true;
        }
        rest = &rest[unit_len(rest)..];
    }
    false
}

fn unescaped(component: &str) -> String {
    let mut chars = component.chars();
    let mut plain = String::new();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

/// Compiles a clean path.
fn compile(whole: &str, path: &str) -> Result<Pattern> {
    let mut steps = Vec::new();
    if path == "." {
        steps.push(Step::Many(Set::Any));
    } else {
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            let last = components.peek().is_none();
            match component {
                "**" if last => steps.push(Step::Many(Set::Any)),
                "**" => steps.extend([Step::Maybe(2), Step::Many(Set::Any), Step::One(Set::Char('/'))]),
                _ => compile_component(whole, component, &mut steps)?,
            }
            if !last && component != "**" {
                steps.push(Step::One(Set::Char('/')));
            }
        }
    }
    let end = steps.len();
    steps.extend([Step::One(Set::Char('/')), Step::Many(Set::Any)]);
    Ok(Pattern { steps, end })
}

fn compile_component(whole: &str, component: &str, steps: &mut Vec<Step>) -> Result<()> {
    let mut rest = component;
    while let Some(c) = rest.chars().next() {
        let (unit, after) = rest.split_at(unit_len(rest));
        rest = after;
        let step = match c {
            '*' if after.starts_with('*') => {
                rest = after.trim_start_matches('*');
                Step::Many(Set::Any)
            }
            '*' => Step::Many(Set::NotSlash),
            '?' => Step::One(Set::NotSlash),
            '[' => Step::One(class(whole, unit)?),
            '\\' => match unit[1..].chars().next() {
                Some(escaped) => Step::One(Set::Char(escaped)),
                None => {
                    return Err(refuse(whole, "ends a component with `\\`; expected a character after it"));
                }
            },
            c => Step::One(Set::Char(c)),
        };
        steps.push(step);
    }
    Ok(())
}

/// Reads a whole class such as `[a-z]` or `[!x]`.
fn class(whole: &str, unit: &str) -> Result<Set> {
    let Some(inside) = unit.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return Err(refuse(whole, "has a `[` without its `]`")
            .hint("close the class, or write `\\[` for the character itself"));
    };
    let (negated, inside) = match inside.strip_prefix(['!', '^']) {
        Some(inside) => (true, inside),
        None => (false, inside),
    };
    let mut ranges = class_ranges(whole, inside)?;
    ranges.sort_unstable();
    let ranges = if negated { complement(&ranges) } else { ranges };
    let ranges: Vec<_> = ranges.into_iter().flat_map(without_slash).collect();
    if ranges.is_empty() {
        return Err(refuse(whole, &format!("has the class {} which no character fits", quote(unit))));
    }
    Ok(Set::Ranges(ranges))
}

fn class_ranges(whole: &str, inside: &str) -> Result<Vec<(char, char)>> {
    let mut ranges = Vec::new();
    let mut chars = inside.chars().peekable();
    while let Some(low) = next_in_class(&mut chars) {
        let mut ahead = chars.clone();
        let high = match (ahead.next(), next_in_class(&mut ahead)) {
            (Some('-'), Some(high)) => {
                chars = ahead;
                high
            }
            _ => low,
        };
        if high < low {
            return Err(refuse(
                whole,
                &format!("has the range {} backwards", quote(&format!("{low}-{high}"))),
            )
            .hint("write the lower character first, or `\\[` for a bracket that is part of the name"));
        }
        ranges.push((low, high));
    }
    Ok(ranges)
}

fn next_in_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next().or(Some('\\')),
        c => Some(c),
    }
}

/// Returns the characters that are in none of the sorted ranges.
fn complement(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let mut gaps = Vec::new();
    let mut next = Some('\0');
    for (low, high) in ranges {
        if let Some(start) = next
            && let Some(before) = previous(*low).filter(|before| *before >= start)
        {
            gaps.push((start, before));
        }
        next = next.and_then(|start| following(*high).map(|after| after.max(start)));
    }
    gaps.extend(next.map(|start| (start, char::MAX)));
    gaps
}

fn without_slash((low, high): (char, char)) -> Vec<(char, char)> {
    if !(low..=high).contains(&'/') {
        return vec![(low, high)];
    }
    let below = (low < '/').then_some((low, '.'));
    let above = (high > '/').then_some(('0', high));
    below.into_iter().chain(above).collect()
}

/// Steps over the gap of surrogates, as ranges of `char` do.
fn previous(c: char) -> Option<char> {
    ('\0'..c).next_back()
}

fn following(c: char) -> Option<char> {
    (c..=char::MAX).nth(1)
}

fn refuse(whole: &str, why: &str) -> Error {
    Error::invalid(format!("the resource name {} {why}", quote(whole)))
}

fn leaves(whole: &str) -> Error {
    refuse(whole, "leaves the project folder")
        .hint("name a path inside the folder of `quorate.toml`, or use `kind:name` for anything else")
}

impl Set {
    fn meets(&self, other: &Set) -> bool {
        match (self, other) {
            (Set::Any, _) | (_, Set::Any) => true,
            (Set::Char(a), Set::Char(b)) => a == b,
            (Set::NotSlash, Set::Char(c)) | (Set::Char(c), Set::NotSlash) => *c != '/',
            (Set::NotSlash, _) | (_, Set::NotSlash) => true,
            (Set::Ranges(ranges), Set::Char(c)) | (Set::Char(c), Set::Ranges(ranges)) => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&c))
            }
            (Set::Ranges(a), Set::Ranges(b)) => a.iter().any(|(low, high)| {
                b.iter().any(|(other_low, other_high)| low <= other_high && other_low <= high)
            }),
        }
    }
}

impl Pattern {
    /// Returns whether a path exists that both match, or, where `below` says so, lies below what they match.
    pub(super) fn meets(&self, below: bool, other: &Pattern, other_below: bool) -> bool {
        Walk::new(self, below, other, other_below).finds_a_path()
    }

    fn len(&self, below: bool) -> usize {
        if below { self.steps.len() } else { self.end }
    }

    /// Returns whether a path may end here. Only `Many` and `Maybe` reach further without a character,
    /// and the walk visits those places too.
    fn may_end_at(&self, place: usize, len: usize) -> bool {
        place == self.end || place == len
    }
}

/// The walk over pairs of places in two patterns. A pair is visited once.
struct Walk<'p> {
    a: &'p Pattern,
    b: &'p Pattern,
    a_len: usize,
    b_len: usize,
    seen: Vec<u64>,
    open: Vec<(usize, usize)>,
}

impl<'p> Walk<'p> {
    fn new(a: &'p Pattern, a_below: bool, b: &'p Pattern, b_below: bool) -> Walk<'p> {
        let (a_len, b_len) = (a.len(a_below), b.len(b_below));
        let seen = vec![0; ((a_len + 1) * (b_len + 1)).div_ceil(64)];
        Walk { a, b, a_len, b_len, seen, open: Vec::new() }
    }

    fn finds_a_path(mut self) -> bool {
        self.visit(0, 0);
        while let Some((i, j)) = self.open.pop() {
            if self.a.may_end_at(i, self.a_len) && self.b.may_end_at(j, self.b_len) {
                return true;
            }
            self.step(i, j);
        }
        false
    }

    fn visit(&mut self, i: usize, j: usize) {
        let bit = i * (self.b_len + 1) + j;
        let (word, mask) = (bit / 64, 1 << (bit % 64));
        if self.seen[word] & mask == 0 {
            self.seen[word] |= mask;
            self.open.push((i, j));
        }
    }

    fn step(&mut self, i: usize, j: usize) {
        let mine = self.a.steps[..self.a_len].get(i);
        let others = self.b.steps[..self.b_len].get(j);
        match mine {
            Some(Step::Many(_)) => self.visit(i + 1, j),
            Some(Step::Maybe(skipped)) => {
                self.visit(i + 1, j);
                self.visit(i + 1 + skipped, j);
            }
            Some(Step::One(_)) | None => {}
        }
        match others {
            Some(Step::Many(_)) => self.visit(i, j + 1),
            Some(Step::Maybe(skipped)) => {
                self.visit(i, j + 1);
                self.visit(i, j + 1 + skipped);
            }
            Some(Step::One(_)) | None => {}
        }
        match (mine, others) {
            (Some(Step::One(a)), Some(Step::One(b))) if a.meets(b) => self.visit(i + 1, j + 1),
            (Some(Step::One(a)), Some(Step::Many(b))) if a.meets(b) => self.visit(i + 1, j),
            (Some(Step::Many(a)), Some(Step::One(b))) if a.meets(b) => self.visit(i, j + 1),
            // Two repeats that eat the same character stay where they are: nothing new to visit.
            _ => {}
        }
    }
}
