//! A task has one owner at a time; what another writes is refused, and nobody healthy loses what is his.
//!
//! All of it is read from the log: `task.taken` begins a holding, and what ends it is told by an event too.

use crate::history::{Attempt, Disturbance, Event, History};
use std::collections::HashMap;

/// Terms and attempts of each task grow with every `task.taken`; attempts without a gap.
pub fn terms_and_attempts_grow(history: &History) -> Vec<String> {
    let mut findings = Vec::new();
    for (task, events) in history.by_task() {
        let taken: Vec<Holding> = events.iter().filter_map(|event| Holding::begun(event)).collect();
        for pair in taken.windows(2) {
            if pair[1].term <= pair[0].term || pair[1].attempt != pair[0].attempt + 1 {
                findings.push(format!("task {task}: {:?} is followed by {:?}", pair[0], pair[1]));
            }
        }
    }
    findings
}

/// One holding of a task, as `task.taken` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holding {
    attempt: i64,
    term: i64,
}

impl Holding {
    fn begun(event: &Event) -> Option<Holding> {
        let (attempt, term) = (event.data["attempt"].as_i64(), event.data["term"].as_i64());
        (event.kind == "task.taken").then_some(Holding { attempt: attempt?, term: term? })
    }
}

/// Returns whether an event ends the attempt.
fn is_end(event: &Event) -> bool {
    let ends =
        ["task.retried", "task.failed", "task.cancelled", "task.parked", "task.released", "task.completed"];
    ends.contains(&event.kind.as_str())
}

/// By the log, a task is taken only while nobody has it, and ended only by the attempt that has it. By the table of
/// attempts, each ended before the next began.
pub fn owners_do_not_overlap(history: &History) -> Vec<String> {
    let mut findings = Vec::new();
    for (task, events) in history.by_task() {
        let (mut holding, mut checked) = (None::<Holding>, false);
        for event in events {
            if let Some(next) = Holding::begun(event) {
                if let Some(held) = holding {
                    findings
                        .push(format!("task {task}: {next:?} taken while held by {held:?} ({})", event.seq));
                }
                (holding, checked) = (Some(next), false);
            } else if event.kind == "task.verifying" {
                checked = true;
            } else if is_end(event) && !(checked && event.kind == "task.released") {
                findings.extend(wrong_end(task, holding, event));
                holding = None;
            }
        }
    }
    findings.extend(history.attempts.windows(2).filter_map(|pair| overlap(&pair[0], &pair[1])));
    findings
}

fn wrong_end(task: i64, holding: Option<Holding>, event: &Event) -> Option<String> {
    let named = event.data["attempt"].as_i64();
    match (holding, named) {
        (Some(held), Some(attempt)) if held.attempt != attempt => Some(format!(
            "task {task}: {} of attempt {attempt} while held by {held:?} ({})",
            event.kind, event.seq
        )),
        (None, Some(_)) => Some(format!("task {task}: {} while nobody holds it ({})", event.kind, event.seq)),
        _ => None,
    }
}

/// On PostgreSQL a time is that of the transaction's beginning, and a take may have waited since: by so much its
/// attempt may seem to begin before the end of the one before it. The order of the log is exact.
///
/// The server ends a transaction whose client is silent for 5 s, and a lock is waited for 1 s; the rest is a processor
/// that others have (3.2 and 3.3 s were seen at a load of 18 and of 39 on two).
const WAITED_MS: i64 = 10_000;

fn overlap(one: &Attempt, next: &Attempt) -> Option<String> {
    let follows = one.task == next.task;
    match one.ended_ms {
        _ if !follows => None,
        None => Some(format!("task {}: attempt {} has no end, but a successor", one.task, one.number)),
        Some(end) if next.started_ms + WAITED_MS < end => Some(format!(
            "task {}: attempt {} began {} ms before attempt {} ended",
            one.task,
            next.number,
            end - next.started_ms,
            one.number
        )),
        Some(_) => None,
    }
}

/// No completion and no progress carries a term that was superseded before it.
///
/// Children tell their term as the message of their progress.
pub fn no_superseded_write_was_accepted(history: &History) -> Vec<String> {
    let verify: HashMap<i64, bool> = history.tasks.iter().map(|task| (task.id, task.verify)).collect();
    let mut findings = Vec::new();
    for (task, events) in history.by_task() {
        let (mut taken, mut known) = (0, 0);
        for event in events {
            if let Some(holding) = Holding::begun(event) {
                taken = holding.term;
            }
            known = known.max(taken).max(event.data["current_term"].as_i64().unwrap_or(0));
            let Some(term) = carried_term(event) else { continue };
            let is_check = event.kind == "task.completed" && verify.get(&task) == Some(&true);
            if term < known || (is_check && term <= taken) || (!is_check && term != taken) {
                findings.push(format!(
                    "task {task}: {} with term {term} was accepted after term {known} ({})",
                    event.kind, event.seq
                ));
            }
        }
    }
    findings
}

fn carried_term(event: &Event) -> Option<i64> {
    match event.kind.as_str() {
        "task.completed" => event.data["term"].as_i64(),
        "task.progress" => event.data["message"].as_str()?.strip_prefix("term ")?.parse().ok(),
        _ => None,
    }
}

/// Someone's word on his own task is refused only after his lease was seen to lapse: nobody else may end his attempt.
///
/// Where an outage may have swallowed the answer to a word that did count, it may be said again and be refused.
pub fn only_a_lapsed_owner_is_refused(history: &History) -> Vec<String> {
    let by_task = history.by_task();
    let refused = history.events.iter().filter(|event| event.kind == "write.refused");
    let unexplained = refused.filter_map(|event| {
        let (task, term) = (event.task?, event.data["term"].as_i64()?);
        let end = end_of(by_task.get(&task)?, term)?;
        let lapsed = matches!(end.kind.as_str(), "task.lease_expired" | "task.released" | "task.cancelled");
        if lapsed || outages(history).any(|outage| may_have_swallowed(outage, end)) {
            return None;
        }
        let write = event.data["write"].as_str().unwrap_or("a write");
        Some(format!(
            "task {task}: {write} with term {term} was refused ({}), after {} ({})",
            event.seq, end.kind, end.seq
        ))
    });
    unexplained.collect()
}

/// Returns the event that ended the holding with this term; `None` if no `task.taken` has it.
fn end_of<'a>(events: &[&'a Event], term: i64) -> Option<&'a Event> {
    let begun = events.iter().position(|event| Holding::begun(event).is_some_and(|h| h.term == term))?;
    events[begun + 1..].iter().find(|event| is_end(event) || event.kind == "task.lease_expired").copied()
}

fn outages(history: &History) -> impl Iterator<Item = &Disturbance> {
    history.disturbances.iter().filter(|disturbance| disturbance.pid.is_none())
}

/// How long a transaction may have gone on before the outage that swallowed its answer.
const IN_FLIGHT_MS: i64 = 3_000;

fn may_have_swallowed(outage: &Disturbance, end: &Event) -> bool {
    (outage.from_ms - IN_FLIGHT_MS..=outage.until_ms.saturating_add(IN_FLIGHT_MS)).contains(&end.at_ms)
}

/// In the reason of an attempt whose supervisor could not renew its lease and said so itself.
const NOT_RENEWED: &str = "the lease could not be renewed before its end";

/// A lease lapses, or is given up, only if its supervisor, or the database, was killed, stopped or away within two leases
/// before.
pub fn nothing_healthy_lost_its_lease(history: &History) -> Vec<String> {
    let processes = history.processes();
    let nodes: HashMap<(i64, i64), i64> =
        history.attempts.iter().filter_map(|a| Some(((a.task, a.number), a.node?))).collect();
    let judge = |task: i64, attempt: i64, event: &Event, what: &str| {
        let node = nodes.get(&(task, attempt)).copied();
        let pid = node.and_then(|node| processes.get(&node).copied());
        let seq = event.seq;
        (!was_hurt(history, pid, event.at_ms))
            .then(|| format!("task {task}: {what} ({seq}), but its node {node:?}, process {pid:?}, was well"))
    };
    let mut findings = Vec::new();
    for (task, events) in history.by_task() {
        let (mut attempt, mut checked) = (0, false);
        for event in events {
            if let Some(holding) = Holding::begun(event) {
                (attempt, checked) = (holding.attempt, false);
            }
            checked |= event.kind == "task.verifying";
            if event.kind == "task.lease_expired" && !checked {
                findings.extend(judge(
                    task,
                    attempt,
                    event,
                    &format!("the lease of attempt {attempt} lapsed"),
                ));
            }
        }
    }
    let given_up = given_up(history);
    findings.extend(given_up.filter_map(|(task, attempt, event)| {
        judge(task, attempt, event, &format!("attempt {attempt} was given up"))
    }));
    findings
}

/// Returns the attempts whose supervisors said that they could not keep them: the task, the attempt, and where they said so.
pub fn given_up(history: &History) -> impl Iterator<Item = (i64, i64, &Event)> {
    history.events.iter().filter_map(|event| {
        let reason = event.data["reason"].as_str()?;
        let is_one = reason.contains(NOT_RENEWED) && matches!(&*event.kind, "task.retried" | "task.failed");
        is_one.then_some((event.task?, event.data["attempt"].as_i64()?, event))
    })
}

fn was_hurt(history: &History, pid: Option<u32>, at_ms: i64) -> bool {
    let hurt = |d: &Disturbance| {
        (d.pid.is_none() || d.pid == pid)
            && d.from_ms <= at_ms
            && d.until_ms.saturating_add(history.lease_ms * 2) >= at_ms
    };
    history.disturbances.iter().any(hurt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{check, event};
    use serde_json::json;

    #[test]
    fn a_term_that_does_not_grow_is_found() {
        check(terms_and_attempts_grow, "task 1", |h| h.events[7].data["term"] = 1.into());
        check(terms_and_attempts_grow, "task 1", |h| h.events[7].data["attempt"] = 3.into());
    }

    #[test]
    fn a_second_owner_beside_the_first_is_found() {
        check(owners_do_not_overlap, "taken while held", |h| h.events[6].kind = "task.ready".into());
        check(owners_do_not_overlap, "began 10001 ms before", |h| {
            h.attempts[1].started_ms = 6_000 - WAITED_MS - 1;
        });
        check(owners_do_not_overlap, "has no end", |h| h.attempts[0].ended_ms = None);
    }

    #[test]
    fn an_end_by_an_attempt_that_does_not_have_the_task_is_found() {
        check(owners_do_not_overlap, "of attempt 1 while held", |h| h.events[10].data["attempt"] = 1.into());
        check(owners_do_not_overlap, "while nobody holds it", |h| {
            h.events.push(event("task.retried", 1, json!({ "attempt": 2 })));
        });
    }

    #[test]
    fn an_accepted_write_with_an_old_term_is_found() {
        check(no_superseded_write_was_accepted, "task.completed with term 1", |h| {
            h.events[10].data["term"] = 1.into();
        });
        check(no_superseded_write_was_accepted, "task.progress with term 1", |h| {
            h.events[9].data["message"] = "term 1".into();
        });
        check(no_superseded_write_was_accepted, "after term 5", |h| {
            h.events[8].data["current_term"] = 5.into();
        });
        check(no_superseded_write_was_accepted, "task 2: task.completed with term 1", |h| {
            h.events[11].data["term"] = 1.into();
        });
    }

    #[test]
    fn an_owner_who_is_refused_without_having_lapsed_is_found() {
        check(only_a_lapsed_owner_is_refused, "done with term 3 was refused", |h| {
            let data = json!({ "write": "done", "term": 3, "current_term": 3 });
            h.events.push(event("write.refused", 1, data));
        });
    }

    #[test]
    fn a_word_said_again_after_an_outage_is_no_finding() {
        let mut history = crate::check::sample::good();
        let data = json!({ "write": "fail", "term": 3, "current_term": 3 });
        history.events.push(event("write.refused", 1, data));
        history.disturbances.push(Disturbance { pid: None, from_ms: 12_000, until_ms: 13_000 });
        assert_eq!(only_a_lapsed_owner_is_refused(&history), Vec::<String>::new());
    }

    #[test]
    fn a_healthy_supervisor_that_lost_a_lease_is_found() {
        check(nothing_healthy_lost_its_lease, "was well", |h| h.disturbances.clear());
        check(nothing_healthy_lost_its_lease, "was well", |h| h.disturbances[0].pid = Some(7));
        check(nothing_healthy_lost_its_lease, "was well", |h| h.disturbances[0].until_ms = 1_999);
        check(nothing_healthy_lost_its_lease, "attempt 2 was given up", |h| {
            let data = json!({ "attempt": 2, "reason": format!("{NOT_RENEWED}: it was away") });
            h.events.push(Event { at_ms: 60_000, ..event("task.retried", 1, data) });
        });
    }
}
