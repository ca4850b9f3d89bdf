//! Two rankings of memories put together: by their words, and by their meaning.
//!
//! Reciprocal rank fusion: only places count, since the scores of a full-text search and the likeness of vectors have
//! nothing in common. How either ranking is made is `service::memory`'s business.

use crate::ids::MemoryId;
use std::collections::BTreeMap;

/// How fast a place loses its weight: the first has 1/(60+1), the second 1/(60+2), …
const FADE: i64 = 60;

/// By what an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// Its words.
    Words,
    /// Its meaning: it is like the question to an embedding model.
    Meaning,
    /// Both.
    Both,
}

impl FoundBy {
    /// Returns the stable name, as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            FoundBy::Words => "words",
            FoundBy::Meaning => "meaning",
            FoundBy::Both => "both",
        }
    }
}

/// A memory in the ranking that two others make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fused {
    /// Which.
    pub id: MemoryId,
    /// Its weight, in millionths.
    pub score: i64,
    /// In which of the two it stood.
    pub by: FoundBy,
}

/// Puts two rankings together, the best first. Where two weigh the same, the one that was found by its words comes
/// first.
///
/// ```
/// use quorate_model::MemoryId;
/// use quorate_model::memory::fuse;
/// let ids = |list: &[i64]| list.iter().copied().map(MemoryId).collect::<Vec<_>>();
/// let fused: Vec<i64> = fuse(&ids(&[1, 2]), &ids(&[3, 2])).iter().map(|one| one.id.0).collect();
/// assert_eq!(fused, [2, 1, 3]);
/// ```
pub fn fuse(words: &[MemoryId], meaning: &[MemoryId]) -> Vec<Fused> {
    let mut all: BTreeMap<MemoryId, Fused> = BTreeMap::new();
    let placed = |list: &[MemoryId], by| {
        let places = list.iter().zip(1_i64..);
        places.map(|(id, place)| Fused { id: *id, score: 1_000_000 / (FADE + place), by }).collect::<Vec<_>>()
    };
    for one in placed(words, FoundBy::Words).into_iter().chain(placed(meaning, FoundBy::Meaning)) {
        all.entry(one.id)
            .and_modify(|known| {
                *known = Fused { score: known.score + one.score, by: FoundBy::Both, ..*known }
            })
            .or_insert(one);
    }
    let mut fused: Vec<Fused> = all.into_values().collect();
    fused.sort_by_key(|one| (std::cmp::Reverse(one.score), one.by == FoundBy::Meaning, one.id));
    fused
}
