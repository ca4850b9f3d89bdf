//! What a team keeps in mind: kinds, words, questions, and when two memories say the same.
//!
//! Here live the pure parts of memory. Words are cut here and not by a database, so that both find the same; a question is
//! made of such words only, so no text of a user's can be a mistake in a database's own language. How memories are stored and
//! found lives in `service::memory`.

pub mod consolidation;
mod fusion;

pub use consolidation::may_merge;
pub use fusion::{FoundBy, Fused, fuse};

use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// The longest word that is told apart, in characters.
pub const WORD_MAX: usize = 64;
/// The terms of a question that count.
pub const TERMS_MAX: usize = 16;
/// The words of one term that count.
const TERM_WORDS_MAX: usize = 8;
/// From so many characters on the last word of a term finds longer words, too: `test` finds `tests`.
const STEM_LEAST: usize = 4;
/// So often an episode is seen before it is a pattern.
pub const PATTERN_LEAST: i64 = 3;
/// From this share of common words on, in per cent, two memories say nearly the same.
const NEAR_PERCENT: usize = 85;

/// What a memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemoryKind {
    /// Something that was found out.
    Finding,
    /// Something that went wrong once, and why.
    Episode,
    /// Something that was settled.
    Decision,
    /// An episode that was seen again and again.
    Pattern,
    /// A state that was saved.
    Checkpoint,
    /// A message between agents.
    Message,
    /// A line that an agent logged.
    Line,
}

impl MemoryKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [MemoryKind; 7] = [
        MemoryKind::Finding,
        MemoryKind::Episode,
        MemoryKind::Decision,
        MemoryKind::Pattern,
        MemoryKind::Checkpoint,
        MemoryKind::Message,
        MemoryKind::Line,
    ];

    /// Those that can be told; the others come from what happened.
    pub const TOLD: [MemoryKind; 4] =
        [MemoryKind::Finding, MemoryKind::Episode, MemoryKind::Decision, MemoryKind::Pattern];

    /// Returns the stable name, as stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            MemoryKind::Finding => "finding",
            MemoryKind::Episode => "episode",
            MemoryKind::Decision => "decision",
            MemoryKind::Pattern => "pattern",
            MemoryKind::Checkpoint => "checkpoint",
            MemoryKind::Message => "message",
            MemoryKind::Line => "line",
        }
    }

    /// Returns the kind of that which is seen for the `count`th time.
    #[must_use]
    pub fn seen(self, count: i64) -> MemoryKind {
        match self {
            MemoryKind::Episode if count >= PATTERN_LEAST => MemoryKind::Pattern,
            kind => kind,
        }
    }

    /// Returns whether one that says the same is counted instead of kept beside it. A message, or a state that was saved,
    /// stands for itself.
    pub fn merges(self) -> bool {
        !matches!(self, MemoryKind::Checkpoint | MemoryKind::Message)
    }

    /// Returns the kinds among which one that says the same is looked for.
    pub fn family(self) -> &'static [MemoryKind] {
        match self {
            MemoryKind::Finding => &[MemoryKind::Finding],
            MemoryKind::Decision => &[MemoryKind::Decision],
            MemoryKind::Episode | MemoryKind::Pattern => &[MemoryKind::Episode, MemoryKind::Pattern],
            MemoryKind::Line => &[MemoryKind::Line],
            MemoryKind::Checkpoint | MemoryKind::Message => &[],
        }
    }
}

impl std::str::FromStr for MemoryKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<MemoryKind> {
        MemoryKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            Error::invalid(format!("`{text}` is no kind of memory"))
                .hint("finding, episode, decision, pattern, checkpoint, message or line")
        })
    }
}

/// Cuts a text into words: runs of letters and digits, in small letters. Scripts that are written without spaces have a word
/// for each character.
///
/// ```
/// use quorate_model::memory::words;
/// assert_eq!(words("See src/a_b.rs!"), ["see", "src", "a", "b", "rs"]);
/// ```
pub fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut length) = (Vec::new(), String::new(), 0);
    for c in text.chars().flat_map(char::to_lowercase) {
        if is_own_word(c) || !c.is_alphanumeric() {
            words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            words.extend(is_own_word(c).then(|| c.to_string()));
            length = 0;
        } else if length < WORD_MAX {
            word.push(c);
            length += 1;
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// Han, kana and Thai and their neighbours: nothing there says where a word ends.
fn is_own_word(c: char) -> bool {
    c.is_alphabetic()
        && matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// Words that say nothing about what a text is about.
const FILLERS: &[&str] = &[
    "a", "about", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do",
    "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "me",
    "my", "of", "on", "or", "our", "should", "so", "that", "the", "their", "then", "there", "these", "they",
    "this", "to", "us", "was", "we", "were", "what", "when", "where", "which", "who", "why", "will", "with",
    "would", "you", "your",
];

/// Words that turn a sentence into its opposite: where they differ, two texts never say the same.
const TURNS: &[&str] = &[
    "always", "cannot", "disable", "disabled", "enable", "enabled", "fail", "failed", "fails", "false",
    "less", "more", "never", "no", "none", "not", "ok", "off", "pass", "passed", "passes", "t", "true",
    "without", "yes",
];

/// A question to the memory: terms, any of which may be found; the more, the better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    terms: Vec<Vec<String>>,
}

impl Query {
    /// Reads a question. What stands together (`src/a_b.rs`) or in double quotes is one term; fillers count only where there
    /// is nothing else.
    pub fn parse(text: &str) -> Query {
        let all: Vec<Vec<String>> = pieces(text).flat_map(|piece| terms_of(words(piece))).collect();
        let is_filler = |term: &[String]| matches!(term, [word] if FILLERS.contains(&word.as_str()));
        let telling: Vec<Vec<String>> = all.iter().filter(|term| !is_filler(term)).cloned().collect();
        let mut terms: Vec<Vec<String>> = Vec::new();
        for term in if telling.is_empty() { all } else { telling } {
            if terms.len() < TERMS_MAX && !terms.contains(&term) {
                terms.push(term);
            }
        }
        Query { terms }
    }

    /// Returns whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Writes it in the language of SQLite's full-text search.
    pub fn fts5(&self) -> String {
        let term = |words: &Vec<String>| {
            let star = if is_open(words) { "*" } else { "" };
            format!("\"{}\"{star}", words.join(" "))
        };
        self.terms.iter().map(term).collect::<Vec<_>>().join(" OR ")
    }

    /// Writes each term in the language of PostgreSQL's full-text search.
    pub fn tsqueries(&self) -> Vec<String> {
        let term = |words: &Vec<String>| {
            let star = if is_open(words) { ":*" } else { "" };
            format!(
                "{}{star}",
                words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" <-> ")
            )
        };
        self.terms.iter().map(term).collect()
    }

    /// Returns where in a text in small letters the first of the terms begins, in bytes.
    fn place(&self, text: &str) -> Option<usize> {
        self.terms.iter().filter_map(|term| text.find(term.first()?)).min()
    }
}

/// Whether the last word of a term finds longer ones.
fn is_open(words: &[String]) -> bool {
    words.last().is_some_and(|word| word.chars().count() >= STEM_LEAST)
}

/// What stands in double quotes, and what spaces part.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').enumerate().flat_map(|(place, part)| {
        let quoted = place % 2 == 1;
        let whole = Some(part).filter(|_| quoted).into_iter();
        whole.chain(Some(part).filter(|_| !quoted).into_iter().flat_map(str::split_whitespace))
    })
}

/// The terms of a piece. A sentence without spaces is looked for by pairs of its characters.
fn terms_of(mut words: Vec<String>) -> Vec<Vec<String>> {
    let spaceless = words.iter().filter_map(|word| word.chars().next()).filter(|c| is_own_word(*c)).count();
    if spaceless > 2 {
        return words.windows(2).map(<[String]>::to_vec).collect();
    }
    words.truncate(TERM_WORDS_MAX);
    if words.is_empty() { Vec::new() } else { vec![words] }
}

/// Returns the part of a text that shows what was found in it, of so many characters at most.
///
/// ```
/// use quorate_model::memory::{Query, excerpt};
/// assert_eq!(excerpt("short", &Query::parse("x"), 10), "short");
/// assert_eq!(excerpt("it stands far behind: needle", &Query::parse("needle"), 12), "…nd: needle");
/// ```
pub fn excerpt(text: &str, query: &Query, max: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= max {
        return text.to_owned();
    }
    let small: String = chars.iter().map(|c| c.to_lowercase().next().unwrap_or(*c)).collect();
    let found = query.place(&small).map_or(0, |byte| small[..byte].chars().count());
    let room = max.saturating_sub(2);
    let start = if found < room { 0 } else { found.saturating_sub(room / 4).min(chars.len() - room) };
    let end = (start + room).min(chars.len());
    let shown: String = chars[start..end].iter().collect();
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < chars.len() { "…" } else { "" });
    format!("{before}{}{after}", shown.trim())
}

/// Fillers that still say how the words around them belong together: who does it to whom, from where to where.
const JOINTS: &[&str] = &[
    "about", "and", "as", "at", "but", "by", "for", "from", "how", "if", "in", "into", "of", "on", "or",
    "then", "to", "what", "when", "where", "which", "who", "why", "with",
];

/// What a text says, apart from how: its words without fillers. Of an episode in any order and without numbers, which are times,
/// places and attempts there; of anything else in their order, for "a waits for b" is not "b waits for a".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gist {
    words: BTreeSet<String>,
    /// The words and joints in their order, where that counts.
    order: Vec<String>,
    /// What has a name, where that must be the same.
    names: BTreeSet<String>,
    /// What must be the same for two to say the same.
    fixed: BTreeSet<String>,
}

impl Gist {
    /// Takes the gist of a text.
    pub fn of(kind: MemoryKind, text: &str) -> Gist {
        let is_number = |word: &str| word.contains(|c: char| c.is_ascii_digit());
        let counts_numbers = !matches!(kind, MemoryKind::Episode | MemoryKind::Pattern);
        let is_told = |word: &str| !FILLERS.contains(&word) || JOINTS.contains(&word);
        let said = words(text);
        let order = if counts_numbers {
            said.iter().filter(|word| is_told(word)).cloned().collect()
        } else {
            Vec::new()
        };
        let names = if counts_numbers { consolidation::names(kind, text) } else { BTreeSet::new() };
        let mut all: BTreeSet<String> =
            said.into_iter().filter(|word| counts_numbers || !is_number(word)).collect();
        if all.iter().any(|word| !FILLERS.contains(&word.as_str())) {
            all.retain(|word| !FILLERS.contains(&word.as_str()));
        }
        let is_fixed = |word: &&String| is_number(word) || TURNS.contains(&word.as_str());
        Gist { fixed: all.iter().filter(is_fixed).cloned().collect(), words: all, order, names }
    }

    /// Returns a number that is the same for the same gist, in all versions of this program.
    pub fn mark(&self) -> i64 {
        let bytes = self.words.iter().flat_map(|word| word.bytes().chain([b' ']));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        i64::from_ne_bytes(hash.to_ne_bytes())
    }

    /// Returns whether both say nearly the same: where the order counts, one says all that the other does, and a little more.
    ///
    /// ```
    /// use quorate_model::memory::{Gist, MemoryKind::Finding};
    /// let gist = |text| Gist::of(Finding, text);
    /// assert!(gist("The loader ignores empty lines.").is_near(&gist("loader ignores EMPTY lines")));
    /// assert!(!gist("the loader is not fast").is_near(&gist("the loader is fast")));
    /// ```
    pub fn is_near(&self, other: &Gist) -> bool {
        self.fixed == other.fixed
            && self.names == other.names
            && self.share(other) >= NEAR_PERCENT
            && (is_within(&self.order, &other.order) || is_within(&other.order, &self.order))
    }

    /// Returns the share of their words that both have, in per cent.
    pub fn share(&self, other: &Gist) -> usize {
        let common = self.words.intersection(&other.words).count();
        let all = self.words.len() + other.words.len() - common;
        common * 100 / all.max(1)
    }

    /// Returns the question that finds those that may say the same: its longest words.
    pub fn query(&self) -> Query {
        let mut words: Vec<&String> = self.words.iter().collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.chars().count()));
        Query { terms: words.into_iter().take(KIN_TERMS).map(|word| vec![word.clone()]).collect() }
    }
}

/// Returns whether a list has all of `part`, in its order.
fn is_within(part: &[String], list: &[String]) -> bool {
    let mut rest = list.iter();
    part.iter().all(|word| rest.any(|other| other == word))
}

/// Words by which those that may say the same are looked for.
const KIN_TERMS: usize = 4;
