//! Tasks end, once, with the result of the attempt that was accepted.

use crate::history::{Attempt, History, Line, Task};
use std::collections::BTreeMap;

/// Every task has ended; one that has not says why.
pub fn every_task_has_ended(history: &History) -> Vec<String> {
    let is_over = |task: &&Task| matches!(task.state.as_str(), "completed" | "failed" | "cancelled");
    let open = history.tasks.iter().filter(|task| !is_over(task));
    open.map(|task| format!("task {} ({}) is {}: {}", task.id, task.key, task.state, task.why)).collect()
}

/// The plan's tasks can all be done, and may fail often: none has failed for good.
pub fn no_task_failed_for_good(history: &History) -> Vec<String> {
    let given_up = |task: &&Task| matches!(task.state.as_str(), "failed" | "cancelled");
    let failed = history.tasks.iter().filter(given_up);
    failed.map(|task| format!("task {} ({}) {}: {}", task.id, task.key, task.state, task.why)).collect()
}

/// A completed task has one `task.completed` and one attempt that completed it; any other has neither.
pub fn a_task_is_completed_once(history: &History) -> Vec<String> {
    let mut events: BTreeMap<i64, usize> = BTreeMap::new();
    for event in history.events.iter().filter(|event| event.kind == "task.completed") {
        *events.entry(event.task.unwrap_or_default()).or_default() += 1;
    }
    let mut findings = Vec::new();
    for task in &history.tasks {
        let expected = usize::from(task.state == "completed");
        let said = events.get(&task.id).copied().unwrap_or(0);
        let done = accepted(history, task).len();
        if (said, done) != (expected, expected) {
            let state = &task.state;
            findings.push(format!(
                "task {} is {state}, with {said} task.completed and {done} attempts that completed it",
                task.id
            ));
        }
    }
    findings
}

fn accepted<'a>(history: &'a History, task: &Task) -> Vec<&'a Attempt> {
    let first = history.attempts.partition_point(|attempt| attempt.task < task.id);
    let own = history.attempts[first..].iter().take_while(|attempt| attempt.task == task.id);
    own.filter(|attempt| attempt.outcome.as_deref() == Some("completed")).collect()
}

/// A completed task's result names the attempt and the term of the attempt that completed it.
pub fn the_result_is_that_of_the_accepted_attempt(history: &History) -> Vec<String> {
    let mut findings = Vec::new();
    for task in history.tasks.iter().filter(|task| task.state == "completed") {
        for attempt in accepted(history, task) {
            let expected = Line { attempt: attempt.number, term: attempt.term };
            if result(task) != Some(expected) {
                let result = task.result.as_deref().unwrap_or("nothing");
                findings
                    .push(format!("task {} was completed by {expected:?}, its result is {result}", task.id));
            }
        }
    }
    findings
}

/// Reads who gave a result: a script says it in two fields, a model in its words.
fn result(task: &Task) -> Option<Line> {
    let value: serde_json::Value = serde_json::from_str(task.result.as_deref()?).ok()?;
    match value.as_str() {
        Some(words) => Line::told(words),
        None => Some(Line { attempt: value["attempt"].as_i64()?, term: value["term"].as_i64()? }),
    }
}

/// The file of a completed task has a line of the attempt that completed it.
pub fn the_accepted_attempt_left_its_line(history: &History) -> Vec<String> {
    let mut findings = Vec::new();
    for task in history.tasks.iter().filter(|task| task.state == "completed") {
        let lines = history.lines.get(&task.key).map_or(&[][..], Vec::as_slice);
        for attempt in accepted(history, task) {
            let expected = Line { attempt: attempt.number, term: attempt.term };
            if !lines.contains(&expected) {
                findings.push(format!("task {}: no line of {expected:?} among {lines:?}", task.id));
            }
        }
    }
    findings
}

/// An attempt fails only where one of its processes was killed, or where the plan says so: nobody can make
/// another's attempt fail.
pub fn only_a_hurt_attempt_fails(history: &History) -> Vec<String> {
    let flaky = |attempt: &Attempt| {
        let task = history.tasks.iter().find(|task| task.id == attempt.task);
        attempt.number == 1 && task.is_some_and(|task| task.flaky)
    };
    let failed = history.attempts.iter().filter(|attempt| {
        matches!(attempt.outcome.as_deref(), Some("failed" | "verify_failed" | "timed_out"))
    });
    failed
        .filter(|attempt| !history.killed.contains(&(attempt.task, attempt.number)) && !flaky(attempt))
        .map(|attempt| {
            let (task, number) = (attempt.task, attempt.number);
            let reason = attempt.reason.as_deref().unwrap_or("no reason");
            format!("task {task}: attempt {number} failed unhurt: {reason}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::check;

    #[test]
    fn a_task_that_is_still_open_is_found() {
        check(every_task_has_ended, "task 1 (t1) is running", |h| h.tasks[0].state = "running".into());
    }

    #[test]
    fn a_task_that_failed_is_found() {
        check(no_task_failed_for_good, "task 2 (t2) cancelled", |h| h.tasks[1].state = "cancelled".into());
    }

    #[test]
    fn a_second_completion_is_found() {
        check(a_task_is_completed_once, "task 1 is completed, with 2", |h| {
            let last = h.events[10].clone();
            h.events.push(last);
        });
        check(a_task_is_completed_once, "and 2 attempts", |h| {
            h.attempts[0].outcome = Some("completed".into());
        });
        check(a_task_is_completed_once, "task 2 is failed", |h| h.tasks[1].state = "failed".into());
    }

    #[test]
    fn a_result_of_another_attempt_is_found() {
        check(the_result_is_that_of_the_accepted_attempt, "task 1 was completed by", |h| {
            h.tasks[0].result = Some(r#"{"attempt":1,"term":1}"#.into());
        });
        check(the_result_is_that_of_the_accepted_attempt, "its result is nothing", |h| {
            h.tasks[1].result = None;
        });
    }

    #[test]
    fn a_result_in_words_says_whose_it_is() {
        let mut history = crate::check::sample::good();
        history.tasks[0].result = Some("\"Done, by attempt 2 under term 3.\"".into());
        assert_eq!(the_result_is_that_of_the_accepted_attempt(&history), Vec::<String>::new());
        history.tasks[0].result = Some("\"Done, by attempt 1 under term 3.\"".into());
        assert_eq!(the_result_is_that_of_the_accepted_attempt(&history).len(), 1);
    }

    #[test]
    fn a_completed_attempt_that_never_ran_is_found() {
        check(the_accepted_attempt_left_its_line, "task 1: no line", |h| {
            h.lines.insert("t1".into(), vec![Line { attempt: 1, term: 1 }]);
        });
        check(the_accepted_attempt_left_its_line, "task 2: no line", |h| drop(h.lines.remove("t2")));
    }

    #[test]
    fn an_attempt_that_failed_unhurt_is_found() {
        check(only_a_hurt_attempt_fails, "task 1: attempt 2 failed unhurt", |h| {
            h.attempts[1].outcome = Some("failed".into());
            h.killed.insert((1, 1));
            h.tasks[0].flaky = true;
        });
    }

    #[test]
    fn an_attempt_that_was_killed_or_fails_as_planned_is_no_finding() {
        let mut history = crate::check::sample::good();
        history.attempts[0].outcome = Some("failed".into());
        history.tasks[0].flaky = true;
        history.attempts[1].outcome = Some("verify_failed".into());
        history.killed.insert((1, 2));
        assert_eq!(only_a_hurt_attempt_fails(&history), Vec::<String>::new());
    }
}
