//! Plans: any bytes, read as each of the three formats.
//!
//! A refusal has its place in the file. What is accepted is sound, as those who store it take for granted.

use crate::finding;
use quorate_model::name::{check_key, check_name};
use quorate_model::plan::{ATTEMPTS_MAX, Plan, PlanTask, TASKS_MAX, TITLE_MAX};
use quorate_model::resource::Resource;
use std::collections::HashSet;

/// The project folder of claims with absolute paths.
const BASE: &str = "/a/b";

/// Reads the bytes as TOML, JSON and Markdown, with and without a project folder.
pub fn check(bytes: &[u8]) {
    for file in ["plan.toml", "plan.json", "plan.md", ".md"] {
        for base in [None, Some(BASE)] {
            match Plan::parse_in(base, file, bytes) {
                Ok(plan) => check_plan(&plan),
                Err(found) => finding::check(&found, file, bytes),
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(plan) = Plan::from_goal(text)
    {
        check_plan(&plan);
    }
}

pub(crate) fn check_plan(plan: &Plan) {
    check_text(&plan.goal, "a goal");
    assert!((1..=TASKS_MAX).contains(&plan.tasks.len()));
    let keys: HashSet<&str> = plan.tasks.iter().map(|task| task.key.as_str()).collect();
    assert_eq!(keys.len(), plan.tasks.len(), "keys are unique");
    plan.tasks.iter().for_each(|task| check_task(task, plan.tasks.len()));
    check_order(&plan.tasks);
}

fn check_task(task: &PlanTask, count: usize) {
    check_key(&task.key).expect("a key is one");
    check_text(&task.title, "a title");
    assert!(!task.title.chars().any(char::is_control), "a title is one line: {:?}", task.title);
    assert!(task.title.chars().count() <= TITLE_MAX);
    assert!(task.needs.iter().all(|need| *need < count), "needs are places in the plan");
    assert_eq!(task.needs.iter().collect::<HashSet<_>>().len(), task.needs.len(), "each need once");
    assert!(task.run.is_some() != task.prompt.is_some(), "a task has exactly one kind of work");
    assert!(task.capability.is_none() || task.agent.is_none());
    for name in task.capability.iter().chain(&task.agent) {
        check_name("agent", name).expect("a name is one");
    }
    for text in task.run.iter().chain(&task.prompt).chain(&task.verify).chain(&task.outputs) {
        check_text(text, "a text");
    }
    assert!(task.timeout_ms.is_none_or(|ms| ms >= 100));
    assert!(task.attempts.is_none_or(|attempts| (1..=ATTEMPTS_MAX).contains(&attempts)));
    check_claims(&task.claims);
}

fn check_claims(claims: &[Resource]) {
    let names: HashSet<&str> = claims.iter().map(Resource::as_str).collect();
    assert_eq!(names.len(), claims.len(), "each claim once");
    for claim in claims {
        assert_eq!(Resource::from_stored(claim.as_str()).as_ref(), Ok(claim), "a stored claim reads back");
    }
}

/// Checks that all tasks can be done, by doing again and again what needs nothing that is left.
fn check_order(tasks: &[PlanTask]) {
    let mut done = vec![false; tasks.len()];
    loop {
        let before = done.iter().filter(|done| **done).count();
        for (place, task) in tasks.iter().enumerate() {
            done[place] |= task.needs.iter().all(|need| done[*need]);
        }
        let after = done.iter().filter(|done| **done).count();
        if after == tasks.len() {
            return;
        }
        assert!(after > before, "{} tasks can never begin", tasks.len() - after);
    }
}

fn check_text(text: &str, what: &str) {
    assert!(!text.trim().is_empty(), "{what} is blank");
    assert!(!text.contains('\0'), "{what} holds a NUL, which no database keeps: {text:?}");
}
