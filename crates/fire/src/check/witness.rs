//! What was seen beside the ledger: by a follower of the log, in `/proc`, and by a transaction that stood in the way.

use crate::history::{History, Hold};

/// Findings about the log are cut off after so many: one missed page would fill the screen. With the line that says how many
/// more there are they are as many as a report shows, or that would be hidden by it.
const TOLD_MAX: usize = 4;

/// No process that was started for a task is left.
pub fn no_orphan_is_left(history: &History) -> Vec<String> {
    history.orphans.clone()
}

/// A follower that ran all along has seen every event of the log, once, in order.
pub fn the_follower_saw_the_log(history: &History) -> Vec<String> {
    let mut seen = history.followed.iter().copied().peekable();
    let mut findings = Vec::new();
    for event in &history.events {
        while let Some(other) = seen.next_if(|seq| *seq < event.seq) {
            findings.push(format!("the follower saw {other} again, or too late"));
        }
        if seen.next_if_eq(&event.seq).is_none() {
            findings.push(format!("the follower missed {} ({})", event.seq, event.kind));
        }
    }
    findings.extend(seen.map(|seq| format!("the follower saw {seq}, which is not in the log")));
    let more = findings.len().saturating_sub(TOLD_MAX);
    findings.truncate(TOLD_MAX);
    findings.extend((more > 0).then(|| format!("and {more} more")));
    findings
}

/// No node, agent or follower has ended by itself, and all ended when they were told to.
pub fn nobody_ended_by_itself(history: &History) -> Vec<String> {
    history.desertions.clone()
}

/// While one transaction had the first ready task locked, nobody waited for it, and every agent took another.
///
/// So a node that is stopped in the middle of taking a task does not make others wait.
pub fn takers_pass_over_a_locked_task(history: &History) -> Vec<String> {
    let hold = history.hold.filter(|hold| hold.took < hold.agents || hold.waited > 0);
    let tell = |Hold { agents, took, waited }| {
        format!(
            "with one task locked, {took} of {agents} agents took another, and {waited} connections waited"
        )
    };
    hold.map(tell).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{check, good};

    #[test]
    fn a_process_that_is_left_is_found() {
        check(no_orphan_is_left, "sleep 300", |h| h.orphans.push("7 sleep 300".into()));
    }

    #[test]
    fn a_missed_a_repeated_and_an_invented_event_are_found() {
        check(the_follower_saw_the_log, "missed 4", |h| {
            h.followed.remove(3);
        });
        check(the_follower_saw_the_log, "missed 12", |h| {
            h.followed.pop();
        });
        check(the_follower_saw_the_log, "saw 4 again", |h| h.followed.insert(4, 4));
        check(the_follower_saw_the_log, "saw 99, which", |h| h.followed.push(99));
        check(the_follower_saw_the_log, "too late", |h| h.followed.swap(3, 4));
    }

    #[test]
    fn many_findings_are_cut_short() {
        let history = History { followed: Vec::new(), ..good() };
        let findings = the_follower_saw_the_log(&history);
        assert_eq!((findings.len(), findings[4].as_str()), (5, "and 8 more"));
    }

    #[test]
    fn a_process_that_ended_by_itself_is_found() {
        check(nobody_ended_by_itself, "panicked", |h| h.desertions.push("node-1 panicked".into()));
    }

    #[test]
    fn takers_that_wait_for_a_locked_task_are_found() {
        for (took, waited) in [(3, 0), (14, 1)] {
            let says = format!("{took} of 14 agents took another, and {waited} connections");
            check(takers_pass_over_a_locked_task, &says, |h| {
                h.hold = Some(Hold { agents: 14, took, waited });
            });
        }
        let history = History { hold: Some(Hold { agents: 14, took: 14, waited: 0 }), ..good() };
        assert_eq!(takers_pass_over_a_locked_task(&history), Vec::<String>::new());
    }
}
