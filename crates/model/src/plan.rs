//! A run's tasks and what each needs, from a file or from a sentence.
//!
//! Here live the plan as a checked value and its reading from TOML and JSON; `queue` reads Markdown. Nothing is
//! stored or started here, and what agents exist is not known. The idea: a `Plan` that exists is sound (keys are
//! unique, needs exist, an order exists, every task has work), so nobody below checks again; and everything wrong
//! in a file is told at once, each thing with its place.

pub mod order;
mod queue;

use crate::at::At;
use crate::budget::Budget;
use crate::config::read_budget;
use crate::diagnostic::{Diagnostic, Diagnostics, quote};
use crate::document::{Entry, Node, NodeKind, Source, Spanned};
use crate::error::{Error, Result};
use crate::name::{check_key, check_name, slug};
use crate::priority::Priority;
use crate::resource::Resource;
use crate::table::{Table, as_string, did_you_mean};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// How many tasks a plan may have.
pub const TASKS_MAX: usize = 100_000;

/// The longest title, in characters. A title that is made up from longer words is cut to [`TITLE_CUT`].
pub const TITLE_MAX: usize = 1000;

/// Where a title that is made up is cut, in characters.
pub const TITLE_CUT: usize = 80;

/// How often a task may be tried at most.
pub const ATTEMPTS_MAX: i64 = 100;

/// The shortest timeout, in milliseconds.
const TIMEOUT_LEAST_MS: i64 = 100;

/// How many tasks of a cycle are named before the rest is counted.
const CYCLE_SHOWN: usize = 100;

/// A goal and the tasks that serve it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the run is for.
    pub goal: String,
    /// The tasks in the order of the file; at least one.
    pub tasks: Vec<PlanTask>,
}

/// A task of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlanTask {
    /// Its name in the plan: unique.
    pub key: String,
    /// What people read.
    pub title: String,
    /// The tasks that must be completed before, as places in [`Plan::tasks`], each once.
    pub needs: Vec<usize>,
    /// Which agents may take it. Never together with `agent`.
    pub capability: Option<String>,
    /// The one agent that may take it. Never together with `capability`.
    pub agent: Option<String>,
    /// A command. Exactly one of `run` and `prompt` is given.
    pub run: Option<String>,
    /// Words for an AI agent or a person.
    pub prompt: Option<String>,
    /// A command that a supervisor runs after the agent says done.
    pub verify: Option<String>,
    /// Resources that are taken together with the task.
    pub claims: Vec<Resource>,
    /// How urgent it is.
    pub priority: Priority,
    /// How long an attempt may take, in milliseconds; the configuration's limit if `None`.
    pub timeout_ms: Option<i64>,
    /// How often it is tried at most; the configuration's limit if `None`.
    pub attempts: Option<i64>,
    /// Files that the task makes, for the report.
    pub outputs: Vec<String>,
    /// Not before this time.
    pub at: Option<At>,
    /// How much it may use, over all its attempts.
    pub budget: Budget,
}

impl Plan {
    /// Reads a plan; its format is that of the file's extension: `.toml`, `.json`, `.md` or `.markdown`.
    ///
    /// Absolute paths in `claims` are refused; see [`Plan::parse_in`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong in the file (up to a limit), each with its place.
    ///
    /// ```
    /// use quorate_model::plan::Plan;
    /// let plan = Plan::parse("plan.toml", b"goal = 'ready?'\n[[task]]\nkey = 'fmt'\nrun = 'cargo fmt --check'\n")?;
    /// assert_eq!(plan.tasks[0].key, "fmt");
    /// # Ok::<(), quorate_model::diagnostic::Diagnostics>(())
    /// ```
    pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Plan, Diagnostics> {
        Plan::parse_in(None, file_name, bytes)
    }

    /// Reads a plan whose `claims` may name absolute paths inside the project folder `base`.
    ///
    /// # Errors
    ///
    /// As [`Plan::parse`].
    pub fn parse_in(base: Option<&str>, file_name: &str, bytes: &[u8]) -> Result<Plan, Diagnostics> {
        let source = Source::open(file_name, bytes)?;
        let (goal, drafts) = match extension(file_name).as_str() {
            "toml" => read_table(&source, source.read_toml()?, base),
            "json" => read_table(&source, source.read_json()?, base),
            "md" | "markdown" => queue::read(&source),
            _ => return Err(unknown_format(file_name).into()),
        };
        let tasks = link(&source, drafts);
        source.verdict(Plan { goal: goal.unwrap_or_else(|| stem(file_name).to_string()), tasks })
    }

    /// Makes a plan of one task whose prompt is the goal.
    ///
    /// # Errors
    ///
    /// `Invalid` if the goal is blank or holds a NUL character.
    pub fn from_goal(goal: &str) -> Result<Plan> {
        let goal = goal.trim();
        if goal.is_empty() {
            return Err(
                Error::invalid("the goal is empty").hint("name a plan file or say what is to be done")
            );
        }
        if goal.contains('\0') {
            return Err(Error::invalid("the goal holds a NUL character"));
        }
        let key = Some(slug(goal)).filter(|key| !key.is_empty()).unwrap_or_else(|| "goal".to_string());
        let title = Some(made_up_title(goal)).filter(|title| !title.is_empty());
        let task = PlanTask {
            title: title.unwrap_or_else(|| key.clone()),
            key,
            prompt: Some(goal.to_string()),
            ..PlanTask::default()
        };
        Ok(Plan { goal: goal.to_string(), tasks: vec![task] })
    }
}

/// A task as the file gives it: names are not yet checked against each other.
#[derive(Debug)]
struct Draft {
    span: Range<usize>,
    key: Option<Spanned<String>>,
    needs: Vec<Spanned<String>>,
    /// Needs that are known by place (the item before, in a queue).
    after: Option<usize>,
    /// All that needs no other task to be checked.
    task: PlanTask,
}

fn read_table(source: &Source<'_>, root: Node, base: Option<&str>) -> (Option<String>, Vec<Draft>) {
    let Some(mut table) = Table::new(source, root, "a plan must be a table with `goal` and `task`") else {
        return (None, Vec::new());
    };
    let goal = table.string("goal").map(|goal| goal.value.trim().to_string()).filter(|g| !g.is_empty());
    let nodes = task_nodes(source, &mut table);
    table.finish();
    if source.is_clean() {
        check_count(source, nodes.len());
    }
    let drafts = nodes.into_iter().take(TASKS_MAX).filter_map(|node| read_task(source, node, base)).collect();
    (goal, drafts)
}

/// Takes the list of tasks, which may be called `task` (as TOML's `[[task]]` reads best) or `tasks`.
fn task_nodes(source: &Source<'_>, table: &mut Table<'_, '_>) -> Vec<Node> {
    let what = "a list of tables (`[[task]]`)";
    if let (Some(_), Some(many)) = (table.find("task"), table.find("tasks")) {
        source.refuse(many.key_span.clone(), "`task` and `tasks` are both given; keep one of them");
    }
    let one = table.array("task", what);
    let many = table.array("tasks", what);
    one.or(many).unwrap_or_default()
}

fn check_count(source: &Source<'_>, count: usize) {
    if count == 0 {
        source.refuse_with(0..0, "the plan has no task", || {
            Some("add a `[[task]]` with a `key` and a `run` or `prompt`".to_string())
        });
    }
    if count > TASKS_MAX {
        source.refuse(0..0, format!("the plan has {count} tasks; at most {TASKS_MAX} are allowed"));
    }
}

fn read_task(source: &Source<'_>, node: Node, base: Option<&str>) -> Option<Draft> {
    let mut table = Table::new(source, node, "a task must be a table")?;
    let span = table.span();
    let key = table.string("key").filter(|key| accepted(source, key, check_key));
    let title = table.string("title").filter(|title| accepted(source, title, check_title));
    let needs = table.strings("needs").unwrap_or_default();
    let (capability, agent) = read_assignee(source, &mut table);
    let (run, prompt) = read_work(source, &mut table);
    let verify = table.string("verify").filter(|verify| accepted(source, verify, check_not_blank));
    let title = match (title, &key) {
        (Some(title), _) => title.value.trim().to_string(),
        (None, Some(key)) => key.value.clone(),
        (None, None) => made_up_title(run.as_deref().or(prompt.as_deref()).unwrap_or_default()),
    };
    let task = PlanTask {
        title,
        capability,
        agent,
        run,
        prompt,
        verify: verify.map(|verify| verify.value),
        claims: read_claims(source, &mut table, base),
        priority: table.parsed("priority", str::parse).unwrap_or_default(),
        timeout_ms: table.duration_ms("timeout", TIMEOUT_LEAST_MS),
        attempts: table.integer("attempts", 1..=ATTEMPTS_MAX).map(|attempts| attempts.value),
        outputs: read_outputs(source, &mut table),
        at: read_at(source, &mut table),
        budget: read_task_budget(source, &mut table),
        ..PlanTask::default()
    };
    table.finish();
    Some(Draft { span, key, needs, after: None, task })
}

fn read_assignee(source: &Source<'_>, table: &mut Table<'_, '_>) -> (Option<String>, Option<String>) {
    let capability =
        table.string("capability").filter(|c| accepted(source, c, |t| check_name("capability", t)));
    let agent = table.string("agent").filter(|a| accepted(source, a, |t| check_name("agent", t)));
    if let (Some(_), Some(agent)) = (&capability, &agent) {
        source.refuse_with(agent.span.clone(), "`capability` and `agent` are both given", || {
            Some("keep `agent` to pin the task to one agent, or `capability` for any that has it".to_string())
        });
    }
    (capability.map(|c| c.value), agent.map(|a| a.value))
}

fn read_work(source: &Source<'_>, table: &mut Table<'_, '_>) -> (Option<String>, Option<String>) {
    let (run, prompt) = (table.take("run"), table.take("prompt"));
    match (&run, &prompt) {
        (Some(_), Some(prompt)) => {
            source.refuse_with(prompt.key_span.clone(), "`run` and `prompt` are both given", || {
                Some(
                    "keep `run` for a command, or `prompt` for words to an agent; make two tasks of both"
                        .to_string(),
                )
            })
        }
        (None, None) => source.refuse_with(table.span(), "the task has neither `run` nor `prompt`", || {
            Some("add `run = \"a command\"`, or `prompt = \"words for an agent or a person\"`".to_string())
        }),
        _ => {}
    }
    let text = |entry: Option<Entry>| {
        let entry = entry?;
        let what = format!("`{}` must be a string", entry.key);
        let text = as_string(source, entry.value, &what)?;
        accepted(source, &text, check_not_blank).then_some(text.value)
    };
    (text(run), text(prompt))
}

fn read_claims(source: &Source<'_>, table: &mut Table<'_, '_>, base: Option<&str>) -> Vec<Resource> {
    let mut claims: Vec<Resource> = Vec::new();
    let mut seen = HashSet::new();
    for name in table.strings("claims").unwrap_or_default() {
        match Resource::parse(&name.value, base) {
            Ok(claim) if seen.insert(claim.as_str().to_string()) => claims.push(claim),
            Ok(_) => {}
            Err(error) => source.refuse_error(name.span, error),
        }
    }
    claims
}

fn read_outputs(source: &Source<'_>, table: &mut Table<'_, '_>) -> Vec<String> {
    let outputs = table.strings("outputs").unwrap_or_default();
    outputs
        .into_iter()
        .filter(|path| accepted(source, path, check_not_blank))
        .map(|path| path.value)
        .collect()
}

/// Takes `at`, which TOML may also give as a time of its own type.
fn read_at(source: &Source<'_>, table: &mut Table<'_, '_>) -> Option<At> {
    let entry = table.take("at")?;
    let text = match entry.value.kind {
        NodeKind::Time(value) => Spanned { value, span: entry.value.span },
        _ => as_string(source, entry.value, "`at` must be a time or a duration in quotes")?,
    };
    At::parse(&text.value).map_err(|error| source.refuse_error(text.span, error)).ok()
}

/// Takes `budget`. One of nothing would be reached before anything was used.
fn read_task_budget(source: &Source<'_>, table: &mut Table<'_, '_>) -> Budget {
    let Some(found) = table.table("budget") else { return Budget::default() };
    let span = found.span();
    let budget = read_budget(source, found);
    check_task_budget(budget).map_or_else(
        |error| {
            source.refuse_error(span, error);
            Budget::default()
        },
        |()| budget,
    )
}

/// Refuses a task's budget of nothing.
///
/// # Errors
///
/// `Invalid`.
pub fn check_task_budget(budget: Budget) -> Result<()> {
    if budget.usd_micros == Some(0) || budget.tokens == Some(0) {
        return Err(Error::invalid("a task's budget must be more than 0")
            .hint("leave it out for a task that may use as much as its run"));
    }
    Ok(())
}

/// Notes a finding if `check` refuses the text.
fn accepted(source: &Source<'_>, text: &Spanned<String>, check: impl FnOnce(&str) -> Result<()>) -> bool {
    check(&text.value).map_err(|error| source.refuse_error(text.span.clone(), error)).is_ok()
}

fn check_title(title: &str) -> Result<()> {
    check_not_blank(title)?;
    if title.trim().chars().any(char::is_control) {
        return Err(Error::invalid("a title must be one line without control characters"));
    }
    if title.chars().count() > TITLE_MAX {
        return Err(Error::invalid(format!("a title may have at most {TITLE_MAX} characters")));
    }
    Ok(())
}

fn check_not_blank(text: &str) -> Result<()> {
    if text.trim().is_empty() { Err(Error::invalid("the text is empty")) } else { Ok(()) }
}

/// Names the tasks, checks what they need, and finds cycles.
fn link(source: &Source<'_>, drafts: Vec<Draft>) -> Vec<PlanTask> {
    let keys = unique_keys(source, &drafts);
    let places: HashMap<&str, usize> =
        keys.iter().enumerate().rev().map(|(place, key)| (key.as_str(), place)).collect();
    let needs: Vec<Vec<usize>> =
        drafts.iter().map(|draft| needed_places(source, draft, &keys, &places)).collect();
    for cycle in order::cycles(&needs) {
        refuse_cycle(source, &drafts, &keys, &needs, &cycle);
    }
    let tasks = drafts.into_iter().zip(keys).zip(needs);
    tasks.map(|((draft, key), needs)| linked(draft.task, key, needs)).collect()
}

/// Gives a task its key and needs. Work of which no title could be made is called by its key.
fn linked(task: PlanTask, key: String, needs: Vec<usize>) -> PlanTask {
    let title = if task.title.is_empty() { key.clone() } else { task.title };
    PlanTask { key, title, needs, ..task }
}

/// Returns the key of each task. Keys that are given win over keys that are made up from titles.
fn unique_keys(source: &Source<'_>, drafts: &[Draft]) -> Vec<String> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    for key in drafts.iter().filter_map(|draft| draft.key.as_ref()) {
        if let Some(first) = taken.get(&key.value) {
            source.refuse_with(
                key.span.clone(),
                format!("the key {} is given twice", quote(&key.value)),
                || {
                    Some(format!(
                        "the first is on line {}; keys are unique in a plan",
                        source.line_of(*first)
                    ))
                },
            );
        } else {
            taken.insert(key.value.clone(), key.span.start);
        }
    }
    let mut next_number: HashMap<String, usize> = HashMap::new();
    let mut key_of = |(place, draft): (usize, &Draft)| match &draft.key {
        Some(key) => key.value.clone(),
        None => made_up_key(&draft.task.title, place, &mut taken, &mut next_number),
    };
    drafts.iter().enumerate().map(&mut key_of).collect()
}

/// Makes a key from a title: `lint`, then `lint-2`. Remembers the last number, so that a plan of equal titles
/// is not quadratic.
fn made_up_key(
    title: &str,
    place: usize,
    taken: &mut HashMap<String, usize>,
    next_number: &mut HashMap<String, usize>,
) -> String {
    let base = Some(slug(title)).filter(|s| !s.is_empty()).unwrap_or_else(|| format!("task-{}", place + 1));
    let number = next_number.entry(base.clone()).or_insert(1);
    loop {
        let key = if *number == 1 { base.clone() } else { format!("{base}-{number}") };
        *number += 1;
        if !taken.contains_key(&key) {
            taken.insert(key.clone(), 0);
            return key;
        }
    }
}

fn needed_places(
    source: &Source<'_>,
    draft: &Draft,
    keys: &[String],
    places: &HashMap<&str, usize>,
) -> Vec<usize> {
    let mut needs: Vec<usize> = draft.after.into_iter().collect();
    let mut seen: HashSet<usize> = needs.iter().copied().collect();
    for need in &draft.needs {
        match places.get(need.value.as_str()) {
            Some(place) if seen.insert(*place) => needs.push(*place),
            Some(_) => {}
            None => source.refuse_with(
                need.span.clone(),
                format!("no task has the key {}", quote(&need.value)),
                || {
                    Some(
                        did_you_mean(&need.value, keys.iter().map(String::as_str))
                            .unwrap_or_else(|| known_keys(keys)),
                    )
                },
            ),
        }
    }
    needs
}

/// Lists the first keys of the plan, for a need that is near none of them.
fn known_keys(keys: &[String]) -> String {
    let shown = keys.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    let rest = if keys.len() > 12 { ", …" } else { "" };
    format!("the keys of this plan are: {shown}{rest}")
}

/// Notes a cycle at the need of its first task.
fn refuse_cycle(
    source: &Source<'_>,
    drafts: &[Draft],
    keys: &[String],
    needs: &[Vec<usize>],
    cycle: &[usize],
) {
    let first = cycle[0];
    let second = cycle.get(1).copied().unwrap_or(first);
    debug_assert!(needs[first].contains(&second));
    let needed = drafts[first].needs.iter().find(|need| need.value == keys[second]);
    let span = needed.map_or(drafts[first].span.clone(), |need| need.span.clone());
    if let [_] = cycle {
        return source.refuse(span, format!("the task {} needs itself", quote(&keys[first])));
    }
    source.refuse_with(span, format!("these tasks need each other: {}", cycle_words(keys, cycle)), || {
        Some("an arrow means `needs`; take one of these needs away".to_string())
    });
}

fn cycle_words(keys: &[String], cycle: &[usize]) -> String {
    let mut words: Vec<&str> = cycle.iter().take(CYCLE_SHOWN).map(|place| keys[*place].as_str()).collect();
    let hidden = format!("… {} more …", cycle.len().saturating_sub(CYCLE_SHOWN));
    if cycle.len() > CYCLE_SHOWN {
        words.push(&hidden);
    }
    words.push(&keys[cycle[0]]);
    words.join(" → ")
}

/// Returns the first line that has something to read, cut when long; empty if there is none.
fn made_up_title(text: &str) -> String {
    let line = text.lines().map(printable).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(TITLE_CUT) {
        Some((cut, _)) => format!("{}…", line[..cut].trim_end()),
        None => line,
    }
}

/// Returns the line without control characters, and without white space at its ends.
fn printable(line: &str) -> String {
    let line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
    line.trim().replace('\t', " ")
}

fn extension(file_name: &str) -> String {
    let name = file_name.rsplit('/').next().unwrap_or(file_name);
    name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default()
}

/// Returns the file's name without its folders and extension; of `.md` nothing else would be left.
fn stem(file_name: &str) -> &str {
    let name = file_name.rsplit('/').next().unwrap_or(file_name);
    name.rsplit_once('.').map(|(stem, _)| stem).filter(|stem| !stem.trim().is_empty()).unwrap_or(name)
}

fn unknown_format(file_name: &str) -> Diagnostic {
    Diagnostic::at(file_name, "", 0..0, "the format of the plan is unknown")
        .help(Some("name the file .toml, .json or .md".to_string()))
}
