//! What must hold when a storm is over.
//!
//! Here lives the list. Each check is a pure function of the [`History`]: it answers with what it found wrong, in
//! words. They are grouped by what they look at: `task`, `owner`, `claim`, and `witness` for what was seen beside the
//! ledger.

mod claim;
mod owner;
mod task;
mod witness;

pub use owner::given_up;

use crate::history::History;

/// A check and the name under which it is told.
pub type Check = (&'static str, fn(&History) -> Vec<String>);

/// All checks.
pub const CHECKS: [Check; 18] = [
    ("every_task_has_ended", task::every_task_has_ended),
    ("no_task_failed_for_good", task::no_task_failed_for_good),
    ("a_task_is_completed_once", task::a_task_is_completed_once),
    ("the_result_is_that_of_the_accepted_attempt", task::the_result_is_that_of_the_accepted_attempt),
    ("the_accepted_attempt_left_its_line", task::the_accepted_attempt_left_its_line),
    ("only_a_hurt_attempt_fails", task::only_a_hurt_attempt_fails),
    ("terms_and_attempts_grow", owner::terms_and_attempts_grow),
    ("owners_do_not_overlap", owner::owners_do_not_overlap),
    ("no_superseded_write_was_accepted", owner::no_superseded_write_was_accepted),
    ("only_a_lapsed_owner_is_refused", owner::only_a_lapsed_owner_is_refused),
    ("nothing_healthy_lost_its_lease", owner::nothing_healthy_lost_its_lease),
    ("claims_do_not_overlap", claim::claims_do_not_overlap),
    ("the_log_tells_claims_in_order", claim::the_log_tells_claims_in_order),
    ("no_claim_outlives_its_holder", claim::no_claim_outlives_its_holder),
    ("no_orphan_is_left", witness::no_orphan_is_left),
    ("the_follower_saw_the_log", witness::the_follower_saw_the_log),
    ("nobody_ended_by_itself", witness::nobody_ended_by_itself),
    ("takers_pass_over_a_locked_task", witness::takers_pass_over_a_locked_task),
];

/// Runs all checks; answers with the names of those that found something, and what.
pub fn run(history: &History) -> Vec<(&'static str, Vec<String>)> {
    CHECKS
        .iter()
        .map(|(name, check)| (*name, check(history)))
        .filter(|(_, findings)| !findings.is_empty())
        .collect()
}

#[cfg(test)]
mod sample {
    //! A small history in which everything is as it should be, to be spoiled by tests.

    use crate::history::{Attempt, Event, History, Line, Task};
    use serde_json::{Value, json};

    /// Makes an event; its place is given by [`good`].
    pub fn event(kind: &str, task: i64, data: Value) -> Event {
        Event { kind: kind.into(), task: Some(task), agent: "ada".into(), data, ..Event::default() }
    }

    /// Two tasks: the first was lost once and done by the second owner, the second has a check.
    pub fn good() -> History {
        let taken = |task, attempt: i64, term: i64| {
            event("task.taken", task, json!({ "attempt": attempt, "term": term }))
        };
        let completed = |task, attempt: i64, term: i64| {
            event("task.completed", task, json!({ "attempt": attempt, "term": term }))
        };
        let refused = json!({ "write": "done", "term": 1, "current_term": 3 });
        let events = vec![
            event("node.started", 0, json!({ "node": 1, "pid": 100 })),
            taken(1, 1, 1),
            event("task.progress", 1, json!({ "message": "term 1" })),
            taken(2, 1, 1),
            event("task.verifying", 2, Value::Null),
            event("task.lease_expired", 1, Value::Null),
            event("task.retried", 1, json!({ "attempt": 1 })),
            taken(1, 2, 3),
            event("write.refused", 1, refused),
            event("task.progress", 1, json!({ "message": "term 3" })),
            completed(1, 2, 3),
            completed(2, 1, 3),
        ];
        let events = (1..).zip(events).map(|(seq, event)| Event { seq, at_ms: seq * 1000, ..event });
        let events: Vec<Event> = events.collect();
        let attempt = |task, number, term, span: (i64, i64), outcome: &str| Attempt {
            task,
            number,
            term,
            node: Some(1),
            started_ms: span.0,
            ended_ms: Some(span.1),
            outcome: Some(outcome.into()),
            reason: None,
        };
        let task = |id: i64, verify, result: &str| Task {
            id,
            key: format!("t{id}"),
            state: "completed".into(),
            verify,
            result: Some(result.into()),
            flaky: false,
            why: String::new(),
        };
        let line = |attempt, term| Line { attempt, term };
        History {
            tasks: vec![
                task(1, false, r#"{"attempt":2,"term":3}"#),
                task(2, true, r#"{"attempt":1,"term":1}"#),
            ],
            attempts: vec![
                attempt(1, 1, 1, (2000, 6000), "lost"),
                attempt(1, 2, 3, (8000, 11000), "completed"),
                attempt(2, 1, 1, (4000, 12000), "completed"),
            ],
            followed: events.iter().map(|event| event.seq).collect(),
            events,
            lines: [("t1".into(), vec![line(1, 1), line(2, 3)]), ("t2".into(), vec![line(1, 1)])].into(),
            disturbances: vec![crate::history::Disturbance { pid: Some(100), from_ms: 3000, until_ms: 8000 }],
            lease_ms: 2000,
            ..History::default()
        }
    }

    /// Spoils the good history and demands that the check says so, having said nothing before.
    #[track_caller]
    pub fn check(check: fn(&History) -> Vec<String>, says: &str, spoil: impl FnOnce(&mut History)) {
        let mut history = good();
        assert_eq!(check(&history), Vec::<String>::new(), "the good history is good");
        spoil(&mut history);
        let findings = check(&history);
        assert!(findings.iter().any(|finding| finding.contains(says)), "{says:?} is not in {findings:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_good_history_passes_every_check() {
        assert_eq!(run(&sample::good()), []);
    }

    #[test]
    fn findings_come_with_the_name_of_their_check() {
        let history = History { orphans: vec!["sleep".into()], ..sample::good() };
        assert_eq!(run(&history), [("no_orphan_is_left", vec!["sleep".to_owned()])]);
    }
}
