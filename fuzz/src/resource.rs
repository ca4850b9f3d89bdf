//! Names of resources: any two, and the slow model of their overlap.
//!
//! The model takes the definition at its word. A name stands for the paths that its pattern matches and all below;
//! two names overlap when they share one. So it tries every short path against both patterns, one character after
//! another, with nothing clever. It reads only names of a few characters; any text is folded into those.

use quorate_model::resource::{NAME_MAX, Resource};
use std::cell::RefCell;
use std::collections::HashMap;

/// The project folder of absolute paths.
const BASE: &str = "/a/b";

/// The letters of the model's paths. `z` stands for every letter that no name holds.
const LETTERS: [char; 3] = ['a', 'b', 'z'];
/// The letters of names. So there is a letter that is in no class, and one that every `[!…]` lets through.
const NAMED: [char; 2] = ['a', 'b'];

/// The longest path that is tried, in characters.
const PATH_MAX: usize = 7;

/// How many answers are remembered: a mutated pair often keeps one of its names.
const REMEMBERED_MAX: usize = 4096;

/// Checks the first line and the second as two names.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (a, b) = text.split_once('\n').unwrap_or((text, text));
    check_pair(a, b);
    check_model(&folded(a), &folded(b));
}

fn check_pair(a: &str, b: &str) {
    for base in [None, Some(BASE)] {
        let (a, b) = (Resource::parse(a, base), Resource::parse(b, base));
        a.iter().chain(&b).for_each(check_name);
        if let (Ok(a), Ok(b)) = (a, b) {
            let overlap = a.overlaps(&b);
            assert_eq!(overlap, b.overlaps(&a), "{a} and {b}, the other way round");
            assert_eq!(overlap, stored(&a).overlaps(&stored(&b)), "{a} and {b}, read back");
        }
    }
}

fn check_name(name: &Resource) {
    let text = name.as_str();
    assert!(!text.is_empty() && text.len() <= NAME_MAX && text.trim() == text, "{text:?}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert_eq!(stored(name).as_str(), text, "the stored form reads back the same");
    assert!(name.overlaps(name) && name.overlaps(&stored(name)), "{text}");
    let everything = Resource::parse(".", None).expect("the project folder");
    assert_eq!(name.overlaps(&everything), !is_kind(text), "{text} and the project folder");
}

fn stored(name: &Resource) -> Resource {
    Resource::from_stored(name.as_str()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares the answer about two names with the model's.
pub fn check_model(a: &str, b: &str) {
    let (Ok(one), Ok(other)) = (Resource::parse(a, None), Resource::parse(b, None)) else { return };
    let Some((shared, certain)) = answer(a, b) else { return };
    let overlap = one.overlaps(&other);
    // A path that both have proves the overlap; that there is none is only known where all were short.
    assert!(overlap || !shared, "{a} and {b} share a path, but do not overlap");
    assert!(!overlap || shared || !certain, "{a} and {b} overlap, but share no path");
}

/// Returns whether the model finds a path that both have, and whether a "no" is certain; `None` if it cannot read them.
pub fn answer(a: &str, b: &str) -> Option<(bool, bool)> {
    Some(Model::read(a)?.shares_with(&Model::read(b)?))
}

/// Makes a text that the model may be able to read: odd characters become `a` or `b`.
pub fn folded(text: &str) -> String {
    let fold = |c: char| match c {
        'a' | 'b' | '/' | '*' | '?' | '[' | ']' | '!' | '{' | '}' | ',' | ':' | '.' => c,
        c if u32::from(c) % 2 == 0 => 'a',
        _ => 'b',
    };
    text.chars().map(fold).collect()
}

/// A name as the model reads it.
enum Model {
    Kind(String),
    Path { alternatives: Vec<Pattern>, symbol: Option<String> },
}

/// A path without braces, and how many characters a path needs to match all of its parts.
struct Pattern {
    text: String,
    parts: Vec<Part>,
    weight: usize,
}

#[derive(Clone)]
enum Part {
    Char(char),
    /// `?`
    One,
    /// `[ab]`, or `[!ab]` if true.
    Class(bool, Vec<char>),
    /// `*`
    Star,
    /// `**` anywhere but as a whole component before others.
    Deep,
    /// `**/`
    Folders,
}

impl Model {
    /// Reads a name that the product accepts; `None` if it holds what the model has no words for.
    fn read(text: &str) -> Option<Model> {
        if is_kind(text) {
            return Some(Model::Kind(text.to_string()));
        }
        let (path, symbol) = match text.split_once("::") {
            Some((path, symbol)) => (path, Some(symbol.to_string())),
            None => (text, None),
        };
        if path.contains('[') && path.contains(['{', '}', ',']) {
            return None;
        }
        let alternatives =
            without_braces(path)?.iter().map(|path| Pattern::read(path)).collect::<Option<_>>()?;
        Some(Model::Path { alternatives, symbol })
    }

    /// Returns whether both have a path in common, and whether a "no" is certain.
    fn shares_with(&self, other: &Model) -> (bool, bool) {
        let (
            Model::Path { alternatives: mine, symbol: my_symbol },
            Model::Path { alternatives: others, symbol: other_symbol },
        ) = (self, other)
        else {
            return (matches!((self, other), (Model::Kind(a), Model::Kind(b)) if a == b), true);
        };
        if let (Some(mine), Some(other)) = (my_symbol, other_symbol)
            && !is_within(mine, other)
            && !is_within(other, mine)
        {
            return (false, true);
        }
        let union = |patterns: &[Pattern], symbol: &Option<String>| {
            let all = patterns.iter().map(|pattern| pattern.paths(symbol.is_none()));
            all.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a | b).collect()).unwrap_or_default()
        };
        let (mine_set, others_set) = (union(mine, my_symbol), union(others, other_symbol));
        let heaviest = |patterns: &[Pattern]| patterns.iter().map(|p| p.weight).max().unwrap_or(0);
        let shared = mine_set.iter().zip(&others_set).any(|(a, b)| *a && *b);
        // One more for the `/` with which begins what lies below.
        (shared, heaviest(mine) + heaviest(others) < PATH_MAX)
    }
}

/// Tells whether the text is `kind:name`.
fn is_kind(text: &str) -> bool {
    let Some((kind, name)) = text.split_once(':') else { return false };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    kind.starts_with(|c: char| c.is_ascii_lowercase()) && kind.chars().all(fits) && !name.starts_with(':')
}

/// Tells whether a symbol is the other or nested in it.
fn is_within(inner: &str, outer: &str) -> bool {
    inner == outer || inner.starts_with(&format!("{outer}::"))
}

/// Replaces the first braces by each of their choices, until there are none.
fn without_braces(text: &str) -> Option<Vec<String>> {
    let Some(open) = text.find('{') else { return Some(vec![text.to_string()]) };
    let (mut depth, mut choices, mut begin) = (0, Vec::new(), open + 1);
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(&text[begin..at]);
                begin = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(&text[begin..at]);
                let all = choices
                    .iter()
                    .map(|choice| without_braces(&format!("{}{choice}{}", &text[..open], &text[at + 1..])));
                return all.collect::<Option<Vec<_>>>().map(|all| all.concat());
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

impl Pattern {
    fn read(path: &str) -> Option<Pattern> {
        let mut components: Vec<&str> = Vec::new();
        for component in path.split('/').filter(|component| !matches!(*component, "" | ".")) {
            match component {
                ".." => drop(components.pop()?),
                component => components.push(component),
            }
        }
        let text = components.join("/");
        let (mut parts, mut weight) = (Vec::new(), components.len().saturating_sub(1));
        for (place, component) in components.iter().enumerate() {
            let is_last = place + 1 == components.len();
            match (*component, is_last) {
                ("**", false) => parts.push(Part::Folders),
                (component, _) => {
                    let of_component = read_component(component)?;
                    weight += of_component.iter().filter(|part| !part.is_star()).count().max(1);
                    parts.extend(of_component);
                    parts.extend((!is_last).then_some(Part::Char('/')));
                }
            }
        }
        if components.is_empty() {
            parts.push(Part::Deep);
        }
        Some(Pattern { text, parts, weight })
    }

    /// Returns of each path whether it is matched, or with `below` whether a folder above it is.
    fn paths(&self, below: bool) -> Vec<bool> {
        thread_local! {
            static PATHS: Vec<Vec<char>> = every_path();
            static REMEMBERED: RefCell<HashMap<(String, bool), Vec<bool>>> = RefCell::default();
        }
        REMEMBERED.with_borrow_mut(|remembered| {
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            let answers = remembered.entry((self.text.clone(), below)).or_insert_with(|| {
                PATHS.with(|paths| paths.iter().map(|path| self.has(path, below)).collect())
            });
            answers.clone()
        })
    }

    fn has(&self, path: &[char], below: bool) -> bool {
        let is_above = |end: usize| below && path[end] == '/';
        (1..=path.len()).any(|end| (end == path.len() || is_above(end)) && matches(&self.parts, &path[..end]))
    }
}

impl Part {
    fn is_star(&self) -> bool {
        matches!(self, Part::Star | Part::Deep)
    }
}

fn read_component(component: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = component;
    while let Some(c) = rest.chars().next() {
        let mut length = 1;
        parts.push(match c {
            '*' if rest.starts_with("**") => {
                length = rest.len() - rest.trim_start_matches('*').len();
                Part::Deep
            }
            '*' => Part::Star,
            '?' => Part::One,
            '[' => {
                let inside = &rest[1..rest.find(']')?];
                length = inside.len() + 2;
                read_class(inside)?
            }
            c if NAMED.contains(&c) => Part::Char(c),
            _ => return None,
        });
        rest = &rest[length..];
    }
    Some(parts)
}

fn read_class(inside: &str) -> Option<Part> {
    let (negated, letters) = match inside.strip_prefix('!') {
        Some(letters) => (true, letters),
        None => (false, inside),
    };
    let is_plain = !letters.is_empty() && letters.chars().all(|c| NAMED.contains(&c));
    is_plain.then(|| Part::Class(negated, letters.chars().collect()))
}

/// Tells whether the whole path is matched, by trying everything.
fn matches(parts: &[Part], path: &[char]) -> bool {
    let Some((part, rest)) = parts.split_first() else { return path.is_empty() };
    let one = |fits: &dyn Fn(char) -> bool| {
        path.split_first().is_some_and(|(c, path)| *c != '/' && fits(*c) && matches(rest, path))
    };
    match part {
        Part::Char(wanted) => path.split_first().is_some_and(|(c, path)| c == wanted && matches(rest, path)),
        Part::One => one(&|_| true),
        Part::Class(negated, letters) => one(&|c| letters.contains(&c) != *negated),
        Part::Star => (0..=path.len()).any(|n| !path[..n].contains(&'/') && matches(rest, &path[n..])),
        Part::Deep => (0..=path.len()).any(|n| matches(rest, &path[n..])),
        Part::Folders => {
            matches(rest, path) || (1..=path.len()).any(|n| path[n - 1] == '/' && matches(rest, &path[n..]))
        }
    }
}

/// Returns every path of at most [`PATH_MAX`] characters.
fn every_path() -> Vec<Vec<char>> {
    let mut grown: Vec<Vec<char>> = vec![Vec::new()];
    let mut paths = Vec::new();
    for _ in 0..PATH_MAX {
        grown = grown.iter().flat_map(|start| longer(start)).collect();
        paths.extend(grown.iter().filter(|path| path.last() != Some(&'/')).cloned());
    }
    paths
}

/// Returns the text with one more character, without making an empty component.
fn longer(start: &[char]) -> Vec<Vec<char>> {
    let slash = start.last().is_some_and(|last| *last != '/').then_some('/');
    LETTERS.into_iter().chain(slash).map(|c| [start, &[c]].concat()).collect()
}
