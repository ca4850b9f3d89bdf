//! What must hold when a node was cut off, beside what must always hold.
//!
//! Each check is a pure function of what was seen: the history, the files of the children, the node's own output.

use crate::history::{Attempt, History};
use std::time::Duration;

/// A child that went on until it was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// Its task's key.
    pub key: String,
    /// When its lease ended, by the database's clock.
    pub lease_until_ms: i64,
    /// When it wrote its last line.
    pub last_ms: Option<i64>,
}

/// What was seen of a node that was cut off and healed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Absence {
    /// The node.
    pub node: i64,
    /// From when it was cut off …
    pub from_ms: i64,
    /// … until when.
    pub until_ms: i64,
    /// Its children that went on until they were stopped.
    pub beats: Vec<Beat>,
    /// The tasks of its children that ended meanwhile.
    pub late: Vec<i64>,
    /// All that it has said.
    pub said: String,
}

/// A child that is cut off is stopped before its lease ends, so before another may have its task.
pub fn children_stop_before_their_leases_end(absence: &Absence) -> Vec<String> {
    let wrong = |beat: &Beat| match beat.last_ms {
        None => Some(format!("{} has not left a line", beat.key)),
        Some(last) if last < absence.from_ms => Some(format!("{} ended before the cut", beat.key)),
        Some(last) if last >= beat.lease_until_ms => {
            Some(format!("{} went on until {} ms after its lease", beat.key, last - beat.lease_until_ms))
        }
        Some(_) => None,
    };
    absence.beats.iter().filter_map(wrong).collect()
}

/// What it had is done by others while it is away.
pub fn others_do_its_work_meanwhile(absence: &Absence, history: &History) -> Vec<String> {
    let is_own = |a: &&Attempt| a.node == Some(absence.node) && a.started_ms <= absence.from_ms;
    let own = history.attempts.iter().filter(is_own);
    let lost = own.filter(|a| a.outcome.as_deref() == Some("lost"));
    let done = |task: i64| {
        let is_done = |a: &&Attempt| a.task == task && a.outcome.as_deref() == Some("completed");
        history.attempts.iter().find(is_done)
    };
    let lost: Vec<i64> = lost.map(|a| a.task).collect();
    let mut findings: Vec<String> = Vec::new();
    if lost.len() < absence.beats.len() + absence.late.len() {
        findings.push(format!("it lost only {lost:?}"));
    }
    for task in lost {
        match done(task) {
            Some(a) if a.node == Some(absence.node) => {
                findings.push(format!("task {task} was done by itself"))
            }
            Some(a) if a.ended_ms.is_none_or(|ended| ended > absence.until_ms) => {
                findings.push(format!("task {task} was done only after the cut"));
            }
            Some(_) => {}
            None => findings.push(format!("task {task} was not done")),
        }
    }
    findings
}

/// What it reports too late is refused, and that is said in the log and by the node itself.
pub fn late_results_are_refused_and_said(absence: &Absence, history: &History) -> Vec<String> {
    let mut findings = Vec::new();
    for task in &absence.late {
        let own = history.attempts.iter().find(|a| a.task == *task && a.number == 1);
        let refused = history.events.iter().filter(|event| {
            event.kind == "write.refused"
                && event.task == Some(*task)
                && event.data["write"] == "done"
                && event.data["term"].as_i64() == own.map(|a| a.term)
        });
        if refused.count() != 1 {
            findings.push(format!("task {task}: no write.refused, or more than one, for its first attempt"));
        }
        let is_said = |line: &str| line.starts_with("notice: ") && line.contains(&format!("task {task} "));
        if !absence.said.lines().any(is_said) {
            findings.push(format!("task {task}: the node says nothing of its refused result"));
        }
    }
    findings
}

/// Without having been started again, it takes and does work.
pub fn it_works_again(absence: &Absence, history: &History) -> Vec<String> {
    let again = history.attempts.iter().any(|a| {
        a.node == Some(absence.node)
            && a.started_ms > absence.until_ms
            && a.outcome.as_deref() == Some("completed")
    });
    if again { Vec::new() } else { vec!["it did nothing after the cut was healed".into()] }
}

/// How long after a cut new work may take to begin, however long the cut was.
const BACK_MAX: Duration = Duration::from_secs(20);

/// A cut that has healed is noticed.
pub fn it_is_back_soon(after: Duration) -> Vec<String> {
    let late = after > BACK_MAX;
    late.then(|| format!("it began new work only after {:.1} s", after.as_secs_f64())).into_iter().collect()
}

/// Returns how many tasks a node has completed.
pub fn completed_by(node: i64, history: &History) -> usize {
    let is_done = |a: &&Attempt| a.node == Some(node) && a.outcome.as_deref() == Some("completed");
    history.attempts.iter().filter(is_done).count()
}

/// A node that has it hard is not left out.
pub fn it_does_some_of_the_work(node: i64, history: &History) -> Vec<String> {
    if completed_by(node, history) > 0 { Vec::new() } else { vec!["it completed nothing".into()] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Event;
    use serde_json::json;

    fn good() -> (Absence, History) {
        let attempt = |task, number, node, outcome: &str, started_ms, ended_ms| Attempt {
            task,
            number,
            node: Some(node),
            term: number,
            outcome: Some(outcome.into()),
            started_ms,
            ended_ms: Some(ended_ms),
            reason: None,
        };
        let refused = Event {
            kind: "write.refused".into(),
            task: Some(2),
            data: json!({ "write": "done", "term": 1 }),
            ..Event::default()
        };
        let history = History {
            attempts: vec![
                attempt(1, 1, 7, "lost", 0, 200),
                attempt(1, 2, 8, "completed", 210, 300),
                attempt(2, 1, 7, "lost", 0, 200),
                attempt(2, 2, 8, "completed", 210, 300),
                attempt(3, 1, 7, "completed", 500, 600),
            ],
            events: vec![refused],
            ..History::default()
        };
        let beat = Beat { key: "beat1".into(), lease_until_ms: 190, last_ms: Some(150) };
        let absence = Absence {
            node: 7,
            from_ms: 100,
            until_ms: 400,
            beats: vec![beat],
            late: vec![2],
            said: "notice: shell-1: task 2 (late1): lost\n".into(),
        };
        (absence, history)
    }

    fn run((absence, history): &(Absence, History)) -> Vec<String> {
        let of_both: [fn(&Absence, &History) -> Vec<String>; 3] =
            [others_do_its_work_meanwhile, late_results_are_refused_and_said, it_works_again];
        let of_both = of_both.iter().flat_map(|check| check(absence, history));
        of_both.chain(children_stop_before_their_leases_end(absence)).collect()
    }

    #[track_caller]
    fn check(says: &str, spoil: impl FnOnce(&mut Absence, &mut History)) {
        let (mut absence, mut history) = good();
        assert_eq!(run(&good()), Vec::<String>::new(), "the good one is good");
        spoil(&mut absence, &mut history);
        let findings = run(&(absence, history));
        assert!(findings.iter().any(|finding| finding.contains(says)), "{says:?} is not in {findings:?}");
    }

    #[test]
    fn a_child_that_outlives_its_lease_is_found() {
        check("10 ms after its lease", |a, _| a.beats[0].last_ms = Some(200));
        check("has not left a line", |a, _| a.beats[0].last_ms = None);
        check("ended before the cut", |a, _| a.beats[0].last_ms = Some(99));
    }

    #[test]
    fn work_that_waits_for_the_cut_to_heal_is_found() {
        check("only after the cut", |_, h| h.attempts[1].ended_ms = Some(401));
        check("done by itself", |_, h| h.attempts[1].node = Some(7));
        check("was not done", |_, h| h.attempts[1].outcome = Some("failed".into()));
        check("it lost only [2]", |_, h| h.attempts[0].outcome = Some("completed".into()));
    }

    #[test]
    fn a_late_result_that_is_not_refused_or_not_told_is_found() {
        check("no write.refused", |_, h| h.events.clear());
        check("no write.refused", |_, h| h.events[0].data["term"] = 2.into());
        check("says nothing", |a, _| a.said = "notice: shell-1: task 21: lost".into());
    }

    #[test]
    fn a_node_that_stays_idle_is_found() {
        check("it did nothing", |_, h| drop(h.attempts.pop()));
        assert_eq!(it_is_back_soon(BACK_MAX), Vec::<String>::new());
        assert_eq!(it_is_back_soon(BACK_MAX * 2), ["it began new work only after 40.0 s"]);
        let (_, history) = good();
        assert_eq!((completed_by(7, &history), completed_by(8, &history)), (1, 2));
        assert_eq!(it_does_some_of_the_work(9, &history), ["it completed nothing"]);
    }
}
