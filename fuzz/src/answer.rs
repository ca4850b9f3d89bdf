//! What models answer in words: any text, read as a planner's plan, and as what it says of memories that are alike.
//!
//! What is taken is sound and keeps to what was asked; what is refused is refused with a reason that a model can be told. The same
//! text stands for a stored check, too: what reads as one is stored as it was.

use crate::plan::check_plan;
use quorate_model::goal::{self, Mate, PlanCheck, TASKS_MAX, with_report};
use quorate_model::memory::consolidation::{self, Consolidation, Merger};
use quorate_model::{Error, Kind, MemoryId, MemoryKind};
use std::collections::{BTreeMap, BTreeSet};

/// The longest reason, in characters: 2,000 of what is wrong, and words of our own.
const REASON_MAX: usize = 2_100;
/// The longest text of a merged memory, in characters.
const TEXT_MAX: usize = 2_000;

/// Reads the text in all ways.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for commands in [false, true] {
        check_planned(&text, commands);
    }
    match consolidation::read(&text, &asked(), &kinds()) {
        Ok(mergers) => check_mergers(&mergers),
        Err(error) => check_reason(&error),
    }
    if let Some(stored) = Consolidation::of(&text) {
        assert_eq!(Consolidation::of(&stored.stored()), Some(stored));
    }
    assert!(PlanCheck::of(&text).is_none_or(|check| check.as_str() == text));
}

fn check_planned(text: &str, commands: bool) {
    match goal::read(text, &team(), commands, Some("/a/b")) {
        Ok(plan) => {
            assert!((1..=TASKS_MAX).contains(&plan.tasks.len()));
            let holds_none = plan.tasks.iter().all(|task| task.run.is_none() && task.verify.is_none());
            assert!(commands || holds_none, "a command that nobody allowed: {plan:?}");
            check_plan(&plan);
            check_plan(&with_report(plan, "a goal", &team()));
        }
        Err(error) => check_reason(&error),
    }
}

fn check_mergers(mergers: &[Merger]) {
    let (asked, kinds) = (asked(), kinds());
    let ids: Vec<MemoryId> = mergers.iter().flat_map(|merger| merger.ids.iter().copied()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each once: {mergers:?}");
    for Merger { ids, kind, text } in mergers {
        assert!(ids.len() >= 2 && asked.groups.iter().any(|group| ids.iter().all(|id| group.contains(id))));
        assert!(ids.iter().all(|id| kinds.get(id).is_some_and(|known| kind.family().contains(known))));
        assert!(!text.trim().is_empty() && !text.contains('\0') && text.chars().count() <= TEXT_MAX);
    }
}

fn check_reason(error: &Error) {
    assert_eq!(error.kind, Kind::Invalid);
    assert!(!error.message.trim().is_empty() && error.message.chars().count() <= REASON_MAX, "{error:?}");
}

fn team() -> Vec<Mate> {
    let mate = |name: &str, capabilities: Option<&[&str]>| Mate {
        name: name.into(),
        capabilities: capabilities.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
        takes_words: name != "ci",
    };
    vec![mate("ann", Some(&["research"])), mate("bob", Some(&["synthesis", "analysis"])), mate("ci", None)]
}

/// Memory 8 is gone meanwhile.
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
