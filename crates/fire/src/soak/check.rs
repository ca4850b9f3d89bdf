//! What must hold of the work itself: the checks of a storm, shown what a soak has seen.
//!
//! Most of the ledger's history is gone when a soak ends, as it should be. So checks of the log are shown what the
//! follower was told all along, checks of rows what is left, and one of our own compares both with what was added.

use super::feed::Kind;
use super::judge::{self, Judgement};
use super::watch::times;
use crate::check::CHECKS;
use crate::history::{Event, History, Line, Task};
use std::collections::{BTreeMap, BTreeSet};

/// Of what was told, and of the rows that are left.
const OF_THE_WORK: [&str; 14] = [
    "every_task_has_ended",
    "no_task_failed_for_good",
    "a_task_is_completed_once",
    "the_result_is_that_of_the_accepted_attempt",
    "the_accepted_attempt_left_its_line",
    "only_a_hurt_attempt_fails",
    "terms_and_attempts_grow",
    "owners_do_not_overlap",
    "only_a_lapsed_owner_is_refused",
    "nothing_healthy_lost_its_lease",
    "the_log_tells_claims_in_order",
    "no_claim_outlives_its_holder",
    "no_orphan_is_left",
    "nobody_ended_by_itself",
];
/// Of what was told, with the checks of tasks that are gone.
const OF_THE_LOG: [&str; 1] = ["no_superseded_write_was_accepted"];
/// Of the log that is left, and the same part of what was told.
const OF_THE_END: [&str; 1] = ["the_follower_saw_the_log"];

/// What was seen beside the ledger.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The log, as the follower was told.
    pub events: Vec<Event>,
    /// What children wrote, by task.
    pub lines: BTreeMap<String, Vec<Line>>,
    /// The tasks that were added one by one.
    pub kinds: BTreeMap<i64, Kind>,
    /// Processes that are left.
    pub orphans: Vec<String>,
    /// What went wrong on the way.
    pub complaints: Vec<String>,
    /// The lease, in milliseconds.
    pub lease_ms: i64,
}

/// Runs all checks on what is left of the ledger and what was seen.
pub fn run(left: History, seen: Seen) -> Vec<Judgement> {
    let undone = every_task_added_was_completed_once(&seen);
    let first = left.events.first().map_or(i64::MAX, |event| event.seq);
    let followed = seen.events.iter().map(|event| event.seq).filter(|seq| *seq >= first).collect();
    let end = History { events: left.events, followed, ..History::default() };
    let log = History { tasks: checked_tasks(&seen), events: seen.events.clone(), ..History::default() };
    let tasks = left.tasks.into_iter().map(|task| Task { key: task.id.to_string(), ..task }).collect();
    let work = History {
        tasks,
        events: seen.events,
        lines: seen.lines,
        orphans: seen.orphans,
        desertions: seen.complaints,
        lease_ms: seen.lease_ms,
        attempts: left.attempts,
        claims: left.claims,
        ..History::default()
    };
    let mut said = vec![judge::check("every_task_added_was_completed_once", &undone)];
    for (names, history) in [(&OF_THE_WORK[..], &work), (&OF_THE_LOG, &log), (&OF_THE_END, &end)] {
        let chosen = CHECKS.iter().filter(|(name, _)| names.contains(name));
        said.extend(chosen.map(|(name, check)| judge::check(name, &check(history))));
    }
    said
}

/// Every task that was added is told by the log, and every task of the log was completed, once.
fn every_task_added_was_completed_once(seen: &Seen) -> Vec<String> {
    let told = times(&seen.events);
    let mut ids: BTreeSet<i64> = seen.kinds.keys().copied().collect();
    ids.extend(told.keys());
    let wrong = ids.iter().filter_map(|id| {
        let times = told.get(id).copied().unwrap_or_default();
        let is_whole = times.added_ms.is_some() && times.taken_ms.is_some() && times.completions == 1;
        (!is_whole).then(|| format!("task {id}, {:?}: {times:?}", seen.kinds.get(id)))
    });
    wrong.collect()
}

/// The tasks of the log, with whether each has a check: nothing else of those that are gone is needed.
fn checked_tasks(seen: &Seen) -> Vec<Task> {
    let mut tasks: BTreeMap<i64, bool> =
        seen.kinds.iter().map(|(id, kind)| (*id, *kind == Kind::Verified)).collect();
    for event in seen.events.iter().filter(|event| event.kind == "task.verifying") {
        tasks.extend(event.task.map(|id| (id, true)));
    }
    tasks.into_iter().map(|(id, verify)| Task { id, verify, ..Task::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(seq: i64, kind: &str, term: i64) -> Event {
        let data = json!({ "attempt": 1, "term": term });
        Event {
            seq,
            kind: kind.into(),
            task: Some(7),
            at_ms: seq,
            agent: "ada".into(),
            data,
            ..Event::default()
        }
    }

    fn good() -> (History, Seen) {
        let events =
            vec![event(1, "task.added", 0), event(2, "task.taken", 1), event(3, "task.completed", 1)];
        let left = History { events: events[1..].to_vec(), ..History::default() };
        (left, Seen { events, kinds: [(7, Kind::Plain)].into(), lease_ms: 60_000, ..Seen::default() })
    }

    fn red(left: History, seen: Seen) -> Vec<String> {
        run(left, seen).into_iter().filter(|said| said.held == Some(false)).map(|said| said.what).collect()
    }

    #[test]
    fn every_name_is_that_of_a_check() {
        let known: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
        for name in OF_THE_WORK.iter().chain(&OF_THE_LOG).chain(&OF_THE_END) {
            assert!(known.contains(name), "{name}");
        }
    }

    #[test]
    fn a_good_soak_passes_though_its_rows_are_gone() {
        let (left, seen) = good();
        assert_eq!(red(left, seen), Vec::<String>::new());
    }

    #[test]
    fn a_task_that_was_never_completed_or_twice_is_found() {
        let (left, mut seen) = good();
        seen.events.pop();
        assert!(red(left, seen).contains(&"every_task_added_was_completed_once".to_owned()));
        let (left, mut seen) = good();
        seen.events.push(event(4, "task.completed", 1));
        assert!(red(left, seen).contains(&"every_task_added_was_completed_once".to_owned()));
        let (left, mut seen) = good();
        seen.kinds.insert(8, Kind::Plain);
        assert!(red(left, seen).contains(&"every_task_added_was_completed_once".to_owned()));
    }

    #[test]
    fn an_old_term_a_missed_event_and_a_complaint_are_found() {
        let (left, mut seen) = good();
        seen.events[2].data["term"] = json!(9);
        assert_eq!(red(left, seen), ["no_superseded_write_was_accepted"]);
        let (mut left, seen) = good();
        left.events.push(event(9, "task.ready", 0));
        assert_eq!(red(left, seen), ["the_follower_saw_the_log"]);
        let (left, mut seen) = good();
        seen.complaints.push("the node ended by itself".into());
        assert_eq!(red(left, seen), ["nobody_ended_by_itself"]);
    }
}
