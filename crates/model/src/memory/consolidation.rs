//! Merging what says the same: when the likeness of vectors is enough, what an agent is asked, and how its answer is
//! read.
//!
//! Here live the decisions and the words. An agent is asked by an ordinary task whose check is a [`Consolidation`]:
//! an answer that cannot be used fails the check, so the next attempt is shown why. What is stored, archived and
//! removed is others' business.

use super::{Gist, MemoryKind};
use crate::error::{Error, Result};
use crate::goal::{cut, json_object};
use crate::ids::MemoryId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// From this likeness on two memories say the same, if nothing else speaks against it, in per cent.
pub const TWIN_LIKENESS: i64 = 95;
/// Groups that one task is about at most.
pub const GROUPS_MAX: usize = 8;
/// Memories of one group at most.
pub const GROUP_MAX: usize = 6;
/// How often an agent is asked: once, and twice more with what was wrong.
pub const ATTEMPTS: i64 = 3;
/// The longest memory that an agent is asked about, in characters: what it does not see whole it cannot merge.
pub const SHOWN_MAX: usize = 600;
/// The longest text that it may write, in characters.
const TEXT_MAX: usize = 2_000;
/// The longest text of what is wrong that an agent is told, in characters.
const WRONG_MAX: usize = 2_000;

/// Returns whether two memories whose vectors are so alike that a model takes them for the same may be merged.
///
/// Models hardly see what turns a sentence round, nor which file or server it is about: numbers, such words and names
/// must be equal.
///
/// ```
/// use quorate_model::memory::{MemoryKind::Finding, may_merge};
/// assert!(may_merge((Finding, "the car is slow"), (Finding, "the automobile is sluggish")));
/// assert!(!may_merge((Finding, "src/a.rs is slow"), (Finding, "src/b.rs is slow")));
/// ```
pub fn may_merge(one: (MemoryKind, &str), other: (MemoryKind, &str)) -> bool {
    let gist = |(kind, text)| Gist::of(kind, text);
    one.0.family().contains(&other.0)
        && gist(one).fixed == gist(other).fixed
        && names(one.0, one.1) == names(other.0, other.1)
}

/// What in a text is the name of a thing: what has a sign within, as paths, modules and hosts have. In an episode
/// digits do not count.
pub(super) fn names(kind: MemoryKind, text: &str) -> BTreeSet<String> {
    let counts_digits = !matches!(kind, MemoryKind::Episode | MemoryKind::Pattern);
    let is_part = |c: char| c.is_alphanumeric();
    let pieces = text.split_whitespace().map(|piece| piece.trim_matches(|c| !is_part(c)));
    let named = pieces.filter(|piece| piece.contains(['/', '_', '.', ':', '@', '\\']));
    named
        .map(|name| name.to_lowercase().chars().filter(|c| counts_digits || !c.is_ascii_digit()).collect())
        .collect()
}

/// Tells whether an agent is shown the whole of a memory, and so may be asked about it.
pub fn is_shown_whole(text: &str) -> bool {
    text.chars().nth(SHOWN_MAX).is_none()
}

/// A memory as an agent is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its id.
    pub id: MemoryId,
    /// What it is.
    pub kind: MemoryKind,
    /// How often it was said.
    pub count: i64,
    /// Its text.
    pub text: String,
}

/// The check of a task that consolidates: which memories it was about, in groups. It stands where a task's `verify`
/// is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consolidation {
    /// The groups.
    pub groups: Vec<Vec<MemoryId>>,
}

impl Consolidation {
    /// What every stored text is like, and no command, in the words of SQL.
    pub const LIKE: &str = "@memory %";
    const BEGIN: &str = "@memory ";

    /// Reads a task's `verify`; `None` is something else.
    pub fn of(verify: &str) -> Option<Consolidation> {
        let group = |text: &str| text.split(',').map(|id| id.parse().ok()).collect::<Option<Vec<MemoryId>>>();
        let groups = verify.strip_prefix(Consolidation::BEGIN)?.split(' ').map(group);
        groups.collect::<Option<_>>().map(|groups| Consolidation { groups })
    }

    /// Returns the stored text; no command begins like it.
    pub fn stored(&self) -> String {
        let group = |ids: &Vec<MemoryId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        format!("{}{}", Consolidation::BEGIN, self.groups.iter().map(group).collect::<Vec<_>>().join(" "))
    }

    fn group_of(&self, id: MemoryId) -> Option<usize> {
        self.groups.iter().position(|group| group.contains(&id))
    }
}

/// Returns what an agent is asked about groups of memories.
pub fn question(groups: &[Vec<Shown>]) -> String {
    let mut text = String::from(
        "These are notes from a team's memory, in groups that may be about the same. Find those that say the same, or \
         are the same trouble again, and say each such set in one text, so that nothing that matters is lost: what \
         happens, where, why, and what helps.\n",
    );
    for (number, group) in groups.iter().enumerate() {
        let _ = writeln!(text, "\nGroup {}", number + 1);
        for Shown { id, kind, count, text: said } in group {
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(text, "[{id}] {}, said {count} times: {}", kind.as_str(), cut(&said, SHOWN_MAX));
        }
    }
    let _ = write!(
        text,
        "\nAnswer with one JSON object and nothing else:\n\
         {{\"merge\": [{{\"ids\": [12, 15], \"kind\": \"pattern\", \"text\": \"what both say\"}}]}}\n\n\
         Rules:\n\
         - Each set has two or more ids of one group; no id stands in two sets. What stands alone is not named.\n\
         - `kind`: findings stay `finding`, decisions stay `decision`; of episodes and patterns it is `episode`, or \
         `pattern` for what happens again and again.\n\
         - `text` has at most {TEXT_MAX} characters. Keep numbers, names of files and causes; add nothing that the \
         notes do not say.\n\
         - What differs in a number, a name, a place or a yes and no is not the same. Where you doubt, leave it.\n\
         - If nothing says the same, answer {{\"merge\": []}}.\n"
    );
    text
}

/// Memories that an agent wants to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merger {
    /// Which.
    pub ids: Vec<MemoryId>,
    /// What they are together.
    pub kind: MemoryKind,
    /// What they say together.
    pub text: String,
}

/// Reads an agent's answer: the result of its task, a JSON text. `kinds` knows the memories that are still there.
///
/// A set with a memory that is gone meanwhile is left out: that is nobody's mistake.
///
/// # Errors
/// `Invalid`, with everything that is wrong, as the agent is told it.
pub fn read(
    answer: &str,
    asked: &Consolidation,
    kinds: &BTreeMap<MemoryId, MemoryKind>,
) -> Result<Vec<Merger>> {
    let text = json_object(answer, "the answer holds no JSON object")?;
    let refused = |why: &str| Error::invalid(format!("the answer cannot be used: {}", cut(why, WRONG_MAX)));
    let value: Value = serde_json::from_str(&text).map_err(|e| refused(&e.to_string()))?;
    let object = value.as_object().filter(|object| object.len() == 1);
    let sets = object.and_then(|object| object.get("merge")?.as_array());
    let sets = sets.ok_or_else(|| refused("it is to be {\"merge\": [ … ]} and nothing more"))?;
    let (mut mergers, mut wrong, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (place, set) in sets.iter().enumerate() {
        match read_set(set, asked, kinds, &mut used) {
            Ok(merger) => mergers.extend(merger),
            Err(why) => wrong.push(format!("set {}: {why}", place + 1)),
        }
    }
    if wrong.is_empty() { Ok(mergers) } else { Err(refused(&wrong.join("; "))) }
}

/// Reads one set; `None` where one of its memories is gone.
fn read_set(
    set: &Value,
    asked: &Consolidation,
    kinds: &BTreeMap<MemoryId, MemoryKind>,
    used: &mut BTreeSet<MemoryId>,
) -> std::result::Result<Option<Merger>, String> {
    let fields = set.as_object().ok_or("it is no object")?;
    if let Some(key) = fields.keys().find(|key| !["ids", "kind", "text"].contains(&key.as_str())) {
        return Err(format!("unknown field `{}`; there are `ids`, `kind` and `text`", cut(key, 40)));
    }
    let ids = fields.get("ids").and_then(Value::as_array).ok_or("`ids` is no list")?;
    let ids =
        ids.iter().map(Value::as_i64).collect::<Option<Vec<_>>>().ok_or("`ids` holds what is no number")?;
    let ids: Vec<MemoryId> = ids.into_iter().map(MemoryId).collect();
    if ids.len() < 2 {
        return Err("`ids` has fewer than two".to_owned());
    }
    let group = asked.group_of(ids[0]);
    for id in &ids {
        match asked.group_of(*id) {
            None => return Err(format!("{id} is none of the notes")),
            found if found != group => return Err(format!("{id} is of another group than {}", ids[0])),
            Some(_) if !used.insert(*id) => return Err(format!("{id} is named twice")),
            Some(_) => {}
        }
    }
    let text = fields.get("text").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if text.is_empty() || text.chars().count() > TEXT_MAX || text.contains('\0') {
        return Err(format!("`text` has 1 to {TEXT_MAX} characters"));
    }
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default();
    let kind: MemoryKind = kind.parse().map_err(|error: Error| error.message)?;
    let Some(known) = ids.iter().map(|id| kinds.get(id)).collect::<Option<Vec<_>>>() else { return Ok(None) };
    if let Some(other) = known.iter().find(|known| !kind.family().contains(known)) {
        return Err(format!("a {} is no {}", other.as_str(), kind.as_str()));
    }
    Ok(Some(Merger { ids, kind, text: text.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Consolidation {
        let ids = |list: &[i64]| list.iter().copied().map(MemoryId).collect();
        Consolidation { groups: vec![ids(&[1, 2, 3]), ids(&[7, 8])] }
    }

    fn kinds() -> BTreeMap<MemoryId, MemoryKind> {
        let known = [
            (1, MemoryKind::Episode),
            (2, MemoryKind::Pattern),
            (3, MemoryKind::Episode),
            (7, MemoryKind::Finding),
        ];
        known.into_iter().map(|(id, kind)| (MemoryId(id), kind)).collect()
    }

    fn wrong(answer: &str) -> String {
        read(answer, &asked(), &kinds()).expect_err("refused").message
    }

    #[test]
    fn the_check_is_read_as_it_was_stored() {
        let check = asked();
        assert_eq!(check.stored(), "@memory 1,2,3 7,8");
        assert_eq!(Consolidation::of(&check.stored()), Some(check));
        for other in ["true", "@plan", "@memory ", "@memory 1,x", "@memory"] {
            assert_eq!(Consolidation::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_good_answer_is_read_whatever_stands_around_it() {
        let object = r#"{"merge":[{"ids":[1,2],"kind":"pattern","text":" the disk is full "}]}"#;
        for answer in [object.to_owned(), Value::from(format!("Here:\n```json\n{object}\n```")).to_string()] {
            let found = read(&answer, &asked(), &kinds()).expect("it is good");
            let ids = vec![MemoryId(1), MemoryId(2)];
            let text = "the disk is full".to_owned();
            assert_eq!(found, [Merger { ids, kind: MemoryKind::Pattern, text }]);
        }
        assert_eq!(read(r#"{"merge":[]}"#, &asked(), &kinds()), Ok(Vec::new()));
        let gone = r#"{"merge":[{"ids":[7,8],"kind":"finding","text":"x"}]}"#;
        assert_eq!(read(gone, &asked(), &kinds()), Ok(Vec::new()), "memory 8 is gone meanwhile");
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        assert!(wrong("\"I cannot\"").contains("no JSON object"));
        assert!(wrong(r#"{"merge":{}}"#).contains("it is to be"));
        assert!(wrong(r#"{"merge":[],"more":1}"#).contains("nothing more"));
        let check = |set: &str, why: &str| {
            let told = wrong(&format!("{{\"merge\":[{set}]}}"));
            assert!(told.contains(why), "{set}: {told}");
        };
        check("3", "it is no object");
        check(r#"{"ids":[1],"kind":"episode","text":"x"}"#, "fewer than two");
        check(r#"{"ids":[1,99],"kind":"episode","text":"x"}"#, "99 is none of the notes");
        check(r#"{"ids":[1,7],"kind":"episode","text":"x"}"#, "7 is of another group");
        check(r#"{"ids":[1,1],"kind":"episode","text":"x"}"#, "1 is named twice");
        check(r#"{"ids":[1,2],"kind":"finding","text":"x"}"#, "is no finding");
        check(r#"{"ids":[1,2],"kind":"truth","text":"x"}"#, "no kind of memory");
        check(r#"{"ids":[1,2],"kind":"episode","text":" "}"#, "`text` has 1 to 2000 characters");
        check(r#"{"ids":[1,2],"kind":"episode","text":"x","why":"y"}"#, "unknown field `why`");
        check(r#"{"ids":["1",2],"kind":"episode","text":"x"}"#, "no number");
        let two = wrong(
            r#"{"merge":[{"ids":[1]},{"ids":[1,2],"kind":"episode","text":"a"},
                {"ids":[2,3],"kind":"episode","text":"b"}]}"#,
        );
        assert!(two.contains("set 1: ") && two.contains("set 3: 2 is named twice"), "{two}");
    }

    #[test]
    fn the_question_is_bounded_and_shows_ids_kinds_and_counts() {
        let shown = |id: usize| Shown {
            id: MemoryId(id as i64),
            kind: MemoryKind::Episode,
            count: 2,
            text: format!("{}\n{}", "word ".repeat(1_000), id),
        };
        let groups: Vec<Vec<Shown>> = (0..GROUPS_MAX).map(|_| (0..GROUP_MAX).map(shown).collect()).collect();
        let text = question(&groups);
        assert!(text.contains("Group 8\n[0] episode, said 2 times: word word"), "{text}");
        assert!(text.len() < 35_000, "{}", text.len());
    }

    #[test]
    fn likeness_alone_does_not_merge() {
        let check = |kind, one: &str, other: &str, expected| {
            assert_eq!(may_merge((kind, one), (kind, other)), expected, "{one} | {other}");
            assert_eq!(may_merge((kind, other), (kind, one)), expected, "{other} | {one}");
        };
        let (finding, episode) = (MemoryKind::Finding, MemoryKind::Episode);
        check(finding, "the car is slow", "the vehicle lags", true);
        check(finding, "the car is slow", "the car is not slow", false);
        check(finding, "the build takes 3 minutes", "the build takes 30 minutes", false);
        check(finding, "the cache of db.example is cold", "the cache of web.example is cold", false);
        check(finding, "see Store::open.", "see `Store::open`", true);
        check(episode, "cannot reach 10.0.0.1:80", "10.0.0.2:81 cannot be reached", true);
        check(episode, "the disk of alpha is full", "no space left on alpha", false);
        assert!(!may_merge((finding, "x y"), (MemoryKind::Decision, "x y")));
        assert!(!may_merge((MemoryKind::Message, "x y"), (MemoryKind::Message, "x y")));
    }
}
