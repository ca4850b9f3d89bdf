//! What must hold when the goals are over.
//!
//! Here live the checks that only goals have, each a pure function of the [`Record`], and the choice of the others: all of a
//! storm's that fit. Tasks fail here where the script says so, and only there.

use super::record::{Part, Record, Run, Used};
use super::script::{Goal, plan_of};
use super::team::{ANSWER_MICROS, Role, Seat, Tokens};
use crate::check::CHECKS;
use crate::history::{Event, History, Line};
use quorate_model::goal::REPLANS_MAX;
use quorate_model::name::member;
use std::collections::BTreeMap;

/// A check and the name under which it is told.
type Check = (&'static str, fn(&Record) -> Vec<String>);

/// Those that only goals have.
pub const OWN: [Check; 8] = [
    ("the_goal_is_reached", the_goal_is_reached),
    ("all_ended_as_planned", all_ended_as_planned),
    ("a_plan_is_adopted_once", a_plan_is_adopted_once),
    ("replans_are_bounded", replans_are_bounded),
    ("what_was_replaced_rests", what_was_replaced_rests),
    ("what_was_used_is_counted_once", what_was_used_is_counted_once),
    ("the_models_were_asked_well", the_models_were_asked_well),
    ("the_accepted_attempt_was_answered", the_accepted_attempt_was_answered),
];

/// Those of a storm that fit.
const OF_ALL: [&str; 14] = [
    "every_task_has_ended",
    "a_task_is_completed_once",
    "the_result_is_that_of_the_accepted_attempt",
    "only_a_hurt_attempt_fails",
    "terms_and_attempts_grow",
    "owners_do_not_overlap",
    "no_superseded_write_was_accepted",
    "only_a_lapsed_owner_is_refused",
    "nothing_healthy_lost_its_lease",
    "claims_do_not_overlap",
    "the_log_tells_claims_in_order",
    "no_claim_outlives_its_holder",
    "no_orphan_is_left",
    "nobody_ended_by_itself",
];
/// The one that is shown the whole log.
const OF_THE_LOG: &str = "the_follower_saw_the_log";

/// Runs all checks; answers with the names of those that found something, and what.
pub fn run(record: &Record) -> Vec<(&'static str, Vec<String>)> {
    let history = as_planned(record);
    let own = OWN.iter().map(|(name, check)| (*name, check(record)));
    let others =
        CHECKS.iter().filter(|(name, _)| OF_ALL.contains(name)).map(|(name, check)| (*name, check(&history)));
    let log = CHECKS.iter().filter(|(name, _)| *name == OF_THE_LOG);
    let log = log.map(|(name, check)| (*name, check(&record.history)));
    own.chain(others).chain(log).filter(|(_, findings)| !findings.is_empty()).collect()
}

/// The history for the others' checks: what fails by the script is told as hurt, and late words of killed children's tools are
/// left out. Their agents are gone, the tools that they had called may be an instant longer there.
fn as_planned(record: &Record) -> History {
    let mut history = record.history.clone();
    let failing = record.seen.answered.iter().filter(|call| call.fails);
    history.killed.extend(failing.map(|call| (call.task, call.by.attempt)));
    let killed: Vec<(i64, i64)> = history
        .attempts
        .iter()
        .filter(|attempt| history.killed.contains(&(attempt.task, attempt.number)))
        .map(|attempt| (attempt.task, attempt.term))
        .collect();
    let is_late_tool = |event: &Event| {
        let whose = event.task.zip(event.data["term"].as_i64());
        event.kind == "write.refused"
            && event.data["write"] == "progress"
            && whose.is_some_and(|whose| killed.contains(&whose))
    };
    history.events.retain(|event| !is_late_tool(event));
    history
}

/// Each goal's run has ended as it must: completed with a report by whoever writes reports, or failed where all is in vain.
pub fn the_goal_is_reached(record: &Record) -> Vec<String> {
    let missing = Goal::ALL
        .into_iter()
        .filter(|goal| record.runs.iter().filter(|r| r.goal() == Some(*goal)).count() != 1);
    let mut findings: Vec<String> =
        missing.map(|goal| format!("the goal `{}` has not exactly one run", goal.words())).collect();
    for run in &record.runs {
        let Some(goal) = run.goal() else { continue };
        let wanted = if record.script.is_reached(goal) { "completed" } else { "failed" };
        if run.state != wanted {
            findings.push(format!(
                "run {} ({}) is {}, not {wanted}: {}",
                run.id, run.words, run.state, run.reason
            ));
            continue;
        }
        if !run.is_written {
            findings
                .push(format!("run {} ({}): no report was written ({:?})", run.id, run.words, run.report));
        }
        findings.extend(wrong_report(record, run, goal));
        findings.extend(wrong_end(record, run, goal));
    }
    findings
}

/// What is wrong with the report of a goal that was reached.
fn wrong_report(record: &Record, run: &Run, goal: Goal) -> Option<String> {
    let last = record.parts_of(run.id).filter(|part| part.key.starts_with("report")).last();
    if !record.script.is_reached(goal) {
        return None;
    }
    let Some(part) = last else { return Some(format!("run {}: no task writes the report", run.id)) };
    let is_writer = Seat::of_agent(&part.owner).is_some_and(|seat| seat.role == Role::Writer);
    let text = record.ended(part.id).and_then(|(_, result)| result).unwrap_or_default();
    let is_report = text.contains("# Report") && Line::told(text).is_some();
    (!is_writer || !is_report).then(|| format!("run {}: {} by {}: {text}", run.id, part.key, part.owner))
}

/// What is wrong with the end of the command that worked at a goal.
fn wrong_end(record: &Record, run: &Run, goal: Goal) -> Option<String> {
    let is_reached = record.script.is_reached(goal);
    match record.said.get(&goal) {
        None if goal == Goal::Detached => None,
        None => Some(format!("run {}: no command ended by itself", run.id)),
        Some(said) if said.is_well != is_reached || (is_reached && !said.text.contains("# Report")) => {
            let end = said.text.lines().rev().take(3).collect::<Vec<_>>().join(" / ");
            Some(format!(
                "run {}: its command ended {} and said {end}",
                run.id,
                if said.is_well { "well" } else { "badly" }
            ))
        }
        Some(_) => None,
    }
}

/// Each run has the tasks of its plans, each once, in the states that follow from what cannot be done.
pub fn all_ended_as_planned(record: &Record) -> Vec<String> {
    let mut findings = Vec::new();
    for (run, goal) in record.runs.iter().filter_map(|run| Some((run, run.goal()?))) {
        let plans = 1..=record.script.plans(goal);
        let mut wanted: Vec<(String, String)> = plans
            .flat_map(|number| record.script.draft(goal, number).outcomes())
            .map(|(key, state)| (key, state.to_owned()))
            .collect();
        for part in record.parts_of(run.id) {
            let state = record.ended(part.id).map_or("nowhere", |(state, _)| state);
            let found = (part.key.clone(), state.to_owned());
            match wanted.iter().position(|wanted| *wanted == found) {
                Some(at) => drop(wanted.remove(at)),
                None => findings.push(format!(
                    "run {}: {} ({}) is {state}, as nobody planned",
                    run.id, part.key, part.id
                )),
            }
        }
        findings.extend(wanted.iter().map(|(key, state)| format!("run {}: no {key} is {state}", run.id)));
    }
    findings
}

/// The tasks of a plan are those of the attempt whose plan was accepted: none of a planner whose answer came late.
pub fn a_plan_is_adopted_once(record: &Record) -> Vec<String> {
    let mut findings = Vec::new();
    for run in &record.runs {
        let plans: Vec<&Part> = record.parts_of(run.id).filter(|part| part.is_plan).collect();
        for part in record.parts_of(run.id) {
            let Some((_, number)) = plan_of(&part.key) else { continue };
            let by = Line::told(&part.title);
            let accepted = plans.get(number - 1).and_then(|plan| record.accepted(plan.id));
            if by.is_none() || by != accepted {
                findings.push(format!(
                    "run {}: {} ({}) was planned by {by:?}, plan {number} is that of {accepted:?}",
                    run.id, part.key, part.id
                ));
            }
        }
    }
    findings
}

/// There are so many plans as the goal takes, and never more than the bound.
pub fn replans_are_bounded(record: &Record) -> Vec<String> {
    let most = 1 + REPLANS_MAX as usize;
    let mut findings = Vec::new();
    for (run, goal) in record.runs.iter().filter_map(|run| Some((run, run.goal()?))) {
        let plans = record.parts_of(run.id).filter(|part| part.is_plan).count();
        let wanted = record.script.plans(goal);
        if plans != wanted || plans > most || run.replanned != wanted - 1 {
            findings.push(format!(
                "run {}: {plans} plans and {} times planned anew, where {wanted} plans are needed and {most} allowed",
                run.id, run.replanned
            ));
        }
    }
    findings
}

/// Once a new plan is accepted, nobody works at the tasks of the one before it any more.
pub fn what_was_replaced_rests(record: &Record) -> Vec<String> {
    let parts: BTreeMap<i64, &Part> = record.parts.iter().map(|part| (part.id, part)).collect();
    let mut accepted: BTreeMap<i64, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for event in &record.history.events {
        let Some(part) = event.task.and_then(|task| parts.get(&task)) else { continue };
        let plans = accepted.entry(part.run).or_default();
        match event.kind.as_str() {
            "task.completed" if part.is_plan => *plans += 1,
            "task.taken" if number_of(record, part).is_some_and(|number| number < *plans) => {
                findings.push(format!(
                    "run {}: {} ({}) was taken after plan {plans} had taken its place ({})",
                    part.run, part.key, part.id, event.seq
                ))
            }
            _ => {}
        }
    }
    findings
}

/// Returns of which plan a task is, also a report.
fn number_of(record: &Record, part: &Part) -> Option<usize> {
    let is_report = part.key.starts_with("report");
    let before = || record.parts_of(part.run).filter(|other| other.is_plan && other.id < part.id).count();
    plan_of(&part.key).map(|(_, number)| number).or_else(|| is_report.then(before))
}

/// What attempts have used is what the models say: of an accepted attempt all of it, of any other no more than was answered. The
/// accounts of runs, tasks and agents are the sums of that.
pub fn what_was_used_is_counted_once(record: &Record) -> Vec<String> {
    let mut answers: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for call in &record.seen.answered {
        *answers.entry((call.task, call.by.attempt)).or_default() += 1;
    }
    let rows = record.used.iter().filter_map(|used| wrong_use(record, used, &answers));
    let mut findings: Vec<String> = rows.collect();
    for attempt in record.history.attempts.iter().filter(|a| a.outcome.as_deref() == Some("completed")) {
        let was_noted = |used: &Used| (used.task, used.attempt) == (attempt.task, attempt.number);
        let has_answer = answers.contains_key(&(attempt.task, attempt.number));
        if has_answer && !record.used.iter().any(was_noted) {
            findings.push(format!("task {}: attempt {} used nothing", attempt.task, attempt.number));
        }
    }
    findings.extend(wrong_accounts(record));
    findings
}

fn wrong_use(record: &Record, used: &Used, answers: &BTreeMap<(i64, i64), i64>) -> Option<String> {
    let answered = answers.get(&(used.task, used.attempt)).copied().unwrap_or(0);
    let noted = used.micros / ANSWER_MICROS;
    let Tokens { input, cached, output } = Tokens::of(noted);
    let is_accepted = record.accepted(used.task).is_some_and(|by| by.attempt == used.attempt);
    let is_whole = used.tokens == [input, output, cached, 0] && used.micros == noted * ANSWER_MICROS;
    let is_its_model = Seat::of_agent(&used.agent).is_some_and(|seat| seat.model() == used.model);
    let is_as_answered = if is_accepted { noted == answered } else { noted <= answered };
    (!is_whole || !is_its_model || !is_as_answered || noted < 1)
        .then(|| format!("{answered} answers were given, and noted is {used:?}"))
}

/// Sums up by what they are counted for.
fn wrong_accounts(record: &Record) -> Vec<String> {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for used in &record.used {
        let tokens = used.tokens[0] + used.tokens[1] + used.tokens[3];
        // Whatever a node calls a member of the team (`NAME@NODE`), it has one account.
        let member = member(&used.agent);
        let subjects =
            [format!("run {}", used.run), format!("task {}", used.task), format!("agent {member}")];
        for subject in subjects {
            let sum = sums.entry(subject).or_default();
            *sum = (sum.0 + used.micros, sum.1 + tokens);
        }
    }
    let subjects = sums.keys().chain(record.accounts.keys()).collect::<std::collections::BTreeSet<_>>();
    let of =
        |list: &BTreeMap<String, (i64, i64)>, subject: &str| list.get(subject).copied().unwrap_or_default();
    let wrong = subjects.into_iter().filter(|subject| of(&sums, subject) != of(&record.accounts, subject));
    wrong
        .map(|subject| {
            let (sum, account) = (of(&sums, subject), of(&record.accounts, subject));
            format!("{subject}: {account:?} millionths of a dollar and tokens are counted, {sum:?} were used")
        })
        .collect()
}

/// No model was asked what it could not understand; its agent had our tools, unless the database server was away.
pub fn the_models_were_asked_well(record: &Record) -> Vec<String> {
    let mut findings = record.seen.wrong.clone();
    let was_away = record.tally.restarts > 0;
    let without = record.seen.answered.iter().filter(|call| !call.has_tools).count();
    if without > 0 && !was_away {
        findings.push(format!("{without} times an agent had none of our tools"));
    }
    findings
}

/// An attempt of an agent with a model was accepted only where the model has answered it, under that term; one of a command only
/// where it has left its line.
pub fn the_accepted_attempt_was_answered(record: &Record) -> Vec<String> {
    let answered =
        |task: i64, by: Line| record.seen.answered.iter().any(|call| (call.task, call.by) == (task, by));
    let left = |task: i64, by: Line| {
        record.history.lines.get(&task.to_string()).is_some_and(|lines| lines.contains(&by))
    };
    let mut findings = Vec::new();
    for part in &record.parts {
        let Some(by) = record.accepted(part.id) else { continue };
        let is_there = match Seat::of_agent(&part.owner) {
            Some(_) => answered(part.id, by),
            None => left(part.id, by),
        };
        if !is_there {
            findings.push(format!(
                "task {} ({}) was completed {}, which nobody saw",
                part.id,
                part.key,
                by.words()
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::blows::Tally;
    use crate::goal::model::{Call, Seen};
    use crate::goal::record::Said;
    use crate::goal::script::{Script, Step};
    use crate::history::{Attempt, Task};
    use serde_json::json;

    const BY: Line = Line { attempt: 1, term: 1 };

    /// Everything as it should be: every attempt is the first and, where the plan lets it, accepted.
    fn good() -> Record {
        let script = Script::new(5);
        let mut record = Record {
            history: History::default(),
            script,
            runs: Vec::new(),
            parts: Vec::new(),
            used: Vec::new(),
            accounts: BTreeMap::new(),
            seen: Seen::default(),
            said: BTreeMap::new(),
            tally: Tally::default(),
        };
        for (id, goal) in (1..).zip(Goal::ALL) {
            let is_reached = script.is_reached(goal);
            record.runs.push(Run {
                id,
                words: goal.words().into(),
                state: if is_reached { "completed" } else { "failed" }.into(),
                report: "folder".into(),
                is_written: true,
                replanned: script.plans(goal) - 1,
                ..Run::default()
            });
            if goal != Goal::Detached {
                record.said.insert(goal, Said { is_well: is_reached, text: "# Report".into() });
            }
            for number in 1..=script.plans(goal) {
                for (key, state) in script.draft(goal, number).outcomes() {
                    add(&mut record, (id, goal), &key, state);
                }
            }
        }
        record
    }

    fn add(record: &mut Record, (run, goal): (i64, Goal), key: &str, state: &str) {
        let id = record.parts.len() as i64 + 1;
        let (is_plan, is_report) = (key.starts_with("plan"), key.starts_with("report"));
        let owner = match (is_plan, is_report) {
            (true, _) => "planner-1",
            (_, true) => "writer-1",
            _ => "measure-1",
        };
        let title = format!("Do it, planned {}", BY.words());
        let (key, owner) = (key.to_owned(), owner.to_owned());
        record.parts.push(Part { id, run, key: key.clone(), title, owner: owner.clone(), is_plan });
        let result = json!(format!("# Report {}", BY.words())).to_string();
        record.history.tasks.push(Task {
            id,
            key,
            state: state.into(),
            result: Some(result),
            ..Task::default()
        });
        if state != "completed" {
            return;
        }
        let outcome = Some("completed".to_owned());
        record.history.attempts.push(Attempt { task: id, number: 1, term: 1, outcome, ..Attempt::default() });
        record.history.lines.insert(id.to_string(), vec![BY]);
        let seq = record.history.events.len() as i64 + 1;
        let event = Event { seq, kind: "task.completed".into(), task: Some(id), ..Event::default() };
        record.history.events.push(event);
        let Some(seat) = Seat::of_agent(&owner) else { return };
        let call = Call {
            id: seq as u64,
            goal,
            step: Step::Report,
            task: id,
            by: BY,
            fails: false,
            has_tools: true,
        };
        record.seen.answered.push(call);
        let Tokens { input, cached, output } = Tokens::of(1);
        let (tokens, micros, model) = ([input, output, cached, 0], ANSWER_MICROS, seat.model());
        for subject in [format!("run {run}"), format!("task {id}"), format!("agent {owner}")] {
            let sum = record.accounts.entry(subject).or_default();
            *sum = (sum.0 + micros, sum.1 + input + output);
        }
        record.used.push(Used { task: id, attempt: 1, model, run, agent: owner, tokens, micros });
    }

    #[track_caller]
    fn check(check: fn(&Record) -> Vec<String>, says: &str, spoil: impl Fn(&mut Record)) {
        let mut record = good();
        assert_eq!(check(&record), Vec::<String>::new(), "nothing is wrong before");
        spoil(&mut record);
        let findings = check(&record);
        assert!(findings.iter().any(|finding| finding.contains(says)), "{says}: {findings:?}");
    }

    fn find(record: &Record, key: &str) -> usize {
        record.parts.iter().position(|part| part.key == key).expect("it is there")
    }

    #[test]
    fn the_names_of_others_checks_are_theirs() {
        for name in OF_ALL.iter().chain([&OF_THE_LOG]) {
            assert!(CHECKS.iter().any(|(other, _)| other == name), "{name}");
        }
    }

    #[test]
    fn a_goal_that_is_not_reached_is_found() {
        check(the_goal_is_reached, "not completed", |r| r.runs[0].state = "failed".into());
        check(the_goal_is_reached, "not failed", |r| r.runs[2].state = "completed".into());
        check(the_goal_is_reached, "has not exactly one run", |r| drop(r.runs.pop()));
        check(the_goal_is_reached, "no report was written", |r| r.runs[0].is_written = false);
        check(the_goal_is_reached, "by measure-1", |r| {
            let last = r.parts.iter().rposition(|part| part.run == 1 && part.key.starts_with("report"));
            r.parts[last.expect("a report")].owner = "measure-1".into();
        });
        check(the_goal_is_reached, "no command ended", |r| r.said.clear());
        check(the_goal_is_reached, "ended badly", |r| {
            r.said.insert(Goal::Foreground, Said::default());
        });
        check(the_goal_is_reached, "ended well", |r| {
            r.said.insert(Goal::Hopeless, Said { is_well: true, text: String::new() });
        });
    }

    #[test]
    fn a_task_too_much_and_one_too_few_are_found() {
        check(all_ended_as_planned, "d1-0 (77) is completed, as nobody planned", |r| {
            let (mut part, mut task) = (r.parts[1].clone(), r.history.tasks[1].clone());
            (part.id, task.id) = (77, 77);
            r.parts.push(part);
            r.history.tasks.push(task);
        });
        check(all_ended_as_planned, "no d1-0 is completed", |r| drop(r.parts.remove(1)));
        check(all_ended_as_planned, "d1-doomed", |r| {
            let at = find(r, "d1-doomed");
            r.history.tasks[at].state = "completed".into();
        });
    }

    #[test]
    fn a_task_of_a_planner_who_was_late_is_found() {
        check(a_plan_is_adopted_once, "d1-0", |r| {
            r.parts[1].title = "planned by attempt 2 under term 3".into()
        });
        check(a_plan_is_adopted_once, "planned by None", |r| r.parts[1].title = "Do it".into());
        check(a_plan_is_adopted_once, "is that of None", |r| {
            r.history.attempts[0].outcome = Some("lost".into())
        });
    }

    #[test]
    fn a_plan_too_much_is_found() {
        check(replans_are_bounded, "planned anew", |r| r.runs[0].replanned += 1);
        check(replans_are_bounded, "and 3 allowed", |r| {
            let plan = r.parts.iter().find(|part| part.run == 3 && part.is_plan).cloned();
            r.parts.extend(plan);
        });
    }

    #[test]
    fn work_at_what_was_replaced_is_found() {
        for key in ["d1-doomed", "report"] {
            check(what_was_replaced_rests, &format!("{key} ("), |r| {
                let task = Some(r.parts[find(r, key)].id);
                r.history.events.push(Event { kind: "task.taken".into(), task, ..Event::default() });
            });
        }
    }

    #[test]
    fn work_at_the_last_plan_is_no_finding() {
        let mut record = good();
        let task = Some(record.parts[find(&record, "d2-0")].id);
        record.history.events.push(Event { kind: "task.taken".into(), task, ..Event::default() });
        assert_eq!(what_was_replaced_rests(&record), Vec::<String>::new());
    }

    #[test]
    fn usage_that_is_counted_twice_or_not_at_all_is_found() {
        check(what_was_used_is_counted_once, "1 answers were given", |r| {
            r.used[0].tokens = r.used[0].tokens.map(|n| n * 2);
            r.used[0].micros *= 2;
        });
        check(what_was_used_is_counted_once, "0 answers were given", |r| r.seen.answered.clear());
        check(what_was_used_is_counted_once, "used nothing", |r| drop(r.used.remove(0)));
        check(what_was_used_is_counted_once, "noted is", |r| r.used[0].tokens[2] = 0);
        check(what_was_used_is_counted_once, "noted is", |r| r.used[0].model = "another".into());
        check(what_was_used_is_counted_once, "run 1: ", |r| {
            r.accounts.entry("run 1".into()).or_default().0 += ANSWER_MICROS;
        });
        check(what_was_used_is_counted_once, "agent nobody: ", |r| {
            r.accounts.insert("agent nobody".into(), (0, 1));
        });
    }

    #[test]
    fn what_a_member_used_under_a_name_of_its_node_is_the_members() {
        let mut record = good();
        record.used[0].agent.push_str("@7");
        assert_eq!(what_was_used_is_counted_once(&record), Vec::<String>::new());
    }

    #[test]
    fn usage_of_an_attempt_that_was_lost_may_be_less_than_was_answered() {
        let mut record = good();
        let second = Call { by: Line { attempt: 9, term: 9 }, ..record.seen.answered[0] };
        record.seen.answered.push(second);
        assert_eq!(what_was_used_is_counted_once(&record), Vec::<String>::new());
    }

    #[test]
    fn a_request_that_was_wrong_is_found() {
        check(the_models_were_asked_well, "without the key", |r| r.seen.wrong.push("without the key".into()));
        check(the_models_were_asked_well, "none of our tools", |r| r.seen.answered[0].has_tools = false);
    }

    #[test]
    fn a_completed_attempt_that_nobody_saw_is_found() {
        check(the_accepted_attempt_was_answered, "task 1 (plan)", |r| r.seen.answered.clear());
        check(the_accepted_attempt_was_answered, "(d1-0)", |r| r.history.lines.clear());
    }

    #[test]
    fn what_fails_by_the_script_counts_as_hurt_and_late_tools_are_left_out() {
        let mut record = good();
        record.seen.answered[0].fails = true;
        let data = json!({ "write": "progress", "term": 1 });
        let refused = Event { kind: "write.refused".into(), task: Some(1), data, ..Event::default() };
        record.history.events.push(refused.clone());
        record.history.events.push(Event { task: Some(2), ..refused });
        let history = as_planned(&record);
        assert!(history.killed.contains(&(1, 1)));
        assert_eq!(history.count("write.refused"), 1);
    }
}
