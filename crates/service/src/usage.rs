//! What agents use of models, and the budgets that bound it.
//!
//! Here live the accounts: a row for each attempt and model, and sums for each run, agent and task, against which budgets
//! are checked: when a task is taken (in `task::take`) and while an agent works ([`Note`]). What tokens cost is decided
//! before, by `model::price`; when a budget is reached, by `model::budget`.
//!
//! The one idea: what was spent is spent. A late word of an attempt that was lost is still added to its account. And a
//! person who lets something go on grants the same budget again, counted from there.

use crate::agent;
use crate::task::{self, Task, columns, refuse};
use quorate_model::budget::{Budget, Spent};
use quorate_model::config::Limits;
use quorate_model::name::member;
use quorate_model::usage::{Tokens, Used};
use quorate_model::{Event, EventKind, Result, RunId, TaskId, Term};
use quorate_store::{Boxed, Row, Sql, Tx, Write, args};
use std::collections::BTreeMap;

/// What every reason begins with for which a budget is the cause.
const BUDGET: &str = "budget: ";

/// Tells whether a reason says that a budget is the cause.
pub fn is_budget(reason: &str) -> bool {
    reason.starts_with(BUDGET)
}

/// Tells whether a reason says that the budget of a run is the cause: resuming the run grants it again.
pub fn is_budget_of_run(reason: &str) -> bool {
    reason.strip_prefix(BUDGET).is_some_and(|of| of.starts_with(RUN))
}

/// A budget that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Whose it is.
    pub of: BudgetOf,
    /// Which, and how far, in words.
    pub reason: String,
}

/// Whose a budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetOf {
    /// The agent's: others may go on with its task.
    Agent,
    /// The run's.
    Run,
    /// The task's own.
    Task,
}

/// Tasks that one take puts aside for one budget; the next take goes on with the rest.
const PARKED_AT_ONCE: i64 = 1_000;

/// The columns of a row that say what was used.
macro_rules! used_columns {
    () => {
        "model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usd_micros, context_tokens, context_window"
    };
}

/// Notes what an attempt has used until now; what it said before of the same model is replaced.
#[derive(Debug, Clone)]
pub struct Note {
    /// The task.
    pub id: TaskId,
    /// The term under which it was taken.
    pub term: Term,
    /// The attempt's number.
    pub attempt: i64,
    /// What it has used, by model; each model once.
    pub used: Vec<Used>,
    /// The budgets of its run and its agent.
    pub limits: Limits,
    /// Whether it is its last word.
    pub is_last: bool,
}

/// Whose attempt it is that has used something.
struct Whose {
    agent: String,
    run: Option<RunId>,
}

impl Write for Note {
    type Answer = Option<Reached>;

    /// Answers with the budget that is reached, if one is.
    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Reached>> {
        Box::pin(async move {
            let whose = self.whose(tx).await?;
            let before = self.before(tx).await?;
            self.count(tx, &whose, &before, &self.used).await
        })
    }
}

/// The same where it is the agent itself that says it: nothing that is counted already is taken back by that, or it could say at
/// the end that it has used nothing.
#[derive(Debug, Clone)]
pub struct Said(pub Note);

impl Write for Said {
    type Answer = Option<Reached>;

    /// Answers with the budget that is reached, if one is.
    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Reached>> {
        Box::pin(async move {
            let Said(note) = self;
            let whose = note.whose(tx).await?;
            let before = note.before(tx).await?;
            let counted = |used: &Used| match before.iter().find(|before| before.model == used.model) {
                Some(before) => used.clone().at_least(before),
                None => used.clone(),
            };
            let used: Vec<Used> = note.used.iter().map(counted).collect();
            note.count(tx, &whose, &before, &used).await
        })
    }
}

/// Locked, so that of two words of one attempt each is added once.
const WHOSE: Sql = Sql::Each {
    lite: "select a.agent, t.run_id from attempts a, tasks t
            where a.task_id = $1 and a.number = $2 and a.term = $3 and t.id = a.task_id",
    pg: "select a.agent, t.run_id from attempts a, tasks t
          where a.task_id = $1 and a.number = $2 and a.term = $3 and t.id = a.task_id for update of a",
};

impl Note {
    async fn whose(&self, tx: &mut Tx) -> Result<Whose> {
        let args = args![self.id, self.attempt, self.term];
        let whose = tx
            .one(WHOSE, args, |row| {
                Ok(Whose { agent: row.text("agent")?, run: row.opt_int("run_id")?.map(RunId) })
            })
            .await?;
        match whose {
            Some(whose) => Ok(whose),
            None => Err(refuse(&task::lock(tx, self.id).await?, self.term, "usage")),
        }
    }

    /// What the attempt has used by its words until now.
    async fn before(&self, tx: &mut Tx) -> Result<Vec<Used>> {
        let sql = concat!("select ", used_columns!(), " from usage where task_id = $1 and attempt = $2");
        tx.all(sql, args![self.id, self.attempt], used).await
    }

    /// Counts what it has used; answers with the budget that is reached.
    async fn count(
        &self,
        tx: &mut Tx,
        whose: &Whose,
        before: &[Used],
        used: &[Used],
    ) -> Result<Option<Reached>> {
        let more = self.replace(tx, whose, before, used);
        let reached = self.add_up(tx, whose, more).await?;
        if self.is_last && !used.is_empty() {
            self.tell(tx, whose, used);
        }
        Ok(reached)
    }

    /// Writes the new rows; answers with how much more it is than before.
    fn replace(&self, tx: &mut Tx, whose: &Whose, before: &[Used], used: &[Used]) -> Spent {
        let replaced = before.iter().filter(|b| used.iter().any(|used| used.model == b.model));
        let (before, now) = (Spent::of(replaced), Spent::of(used));
        for used in used {
            let Tokens { input, output, cache_read, cache_write } = used.tokens;
            tx.later(
                "insert into usage (task_id, attempt, model, agent, run_id, input_tokens, output_tokens, cache_read_tokens,
                        cache_write_tokens, usd_micros, context_tokens, context_window, at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now_ms())
                 on conflict (task_id, attempt, model) do update set input_tokens = excluded.input_tokens,
                        output_tokens = excluded.output_tokens, cache_read_tokens = excluded.cache_read_tokens,
                        cache_write_tokens = excluded.cache_write_tokens, usd_micros = excluded.usd_micros,
                        context_tokens = coalesce(excluded.context_tokens, usage.context_tokens),
                        context_window = coalesce(excluded.context_window, usage.context_window), at = excluded.at",
                args![
                    self.id,
                    self.attempt,
                    &used.model,
                    &whose.agent,
                    whose.run,
                    input,
                    output,
                    cache_read,
                    cache_write,
                    used.usd_micros,
                    used.context_tokens,
                    used.context_window
                ],
            );
        }
        Spent {
            usd_micros: now.usd_micros.saturating_sub(before.usd_micros),
            tokens: now.tokens.saturating_sub(before.tokens),
        }
    }

    /// Adds to the accounts of the agent, the run and the task, always in that order, so that two never wait for each
    /// other; answers with the budget that is reached, the narrowest if several are.
    async fn add_up(&self, tx: &mut Tx, whose: &Whose, more: Spent) -> Result<Option<Reached>> {
        let of_agent =
            self.add_to(tx, whose, &agent_subject(&whose.agent), Some(self.limits.agent), more).await?;
        if let Some(reason) = &of_agent {
            agent::pause_for_budget(tx, &whose.agent, reason).await?;
        }
        let of_run = match whose.run {
            Some(run) => self.add_to(tx, whose, &run_subject(run), Some(self.limits.run), more).await?,
            None => None,
        };
        let of_task = self.add_to(tx, whose, &task_subject(self.id), None, more).await?;
        let reached = |of, reason: Option<String>| reason.map(|reason| Reached { of, reason });
        Ok(reached(BudgetOf::Task, of_task)
            .or(reached(BudgetOf::Run, of_run))
            .or(reached(BudgetOf::Agent, of_agent)))
    }

    /// Adds to one account; answers with the reason if its budget is reached: its own where none is given.
    async fn add_to(
        &self,
        tx: &mut Tx,
        whose: &Whose,
        subject: &str,
        budget: Option<Budget>,
        more: Spent,
    ) -> Result<Option<String>> {
        let account = add(tx, subject, more).await?;
        let budget = budget.unwrap_or(account.own);
        let Some(words) = account.reached(budget) else { return Ok(None) };
        let reason = reason(&account.subject, &words);
        self.cross(tx, whose, &account, (budget, more), &reason);
        Ok(Some(reason))
    }

    /// Says in the log that a budget is reached, once: when the sum passes it.
    fn cross(
        &self,
        tx: &mut Tx,
        whose: &Whose,
        account: &Account,
        (budget, more): (Budget, Spent),
        why: &str,
    ) {
        let before = Spent {
            usd_micros: account.used.usd_micros.saturating_sub(more.usd_micros),
            tokens: account.used.tokens.saturating_sub(more.tokens),
        };
        if budget.reached(before.since(account.from)).is_none() {
            let event = Event::new(EventKind::BudgetReached, why.trim_start_matches(BUDGET).to_owned());
            let data = serde_json::json!({
                "subject": account.subject,
                "usd": crate::wire::usd(account.since().usd_micros),
                "tokens": account.since().tokens,
            });
            tx.record(event.agent(&whose.agent).task(self.id).run(whose.run).data(data));
        }
    }

    fn tell(&self, tx: &mut Tx, whose: &Whose, used: &[Used]) {
        let spent = Spent::of(used);
        let cost = match used.iter().all(|used| used.usd_micros.is_none()) {
            true => "no price is known".to_owned(),
            false => quorate_model::budget::dollars(spent.usd_micros),
        };
        let tokens = quorate_model::budget::grouped(spent.tokens);
        let message = format!("attempt {} at task {} used {tokens} tokens ({cost})", self.attempt, self.id);
        let models: Vec<crate::wire::Usage> = crate::wire::shapes(used);
        let data = serde_json::json!({ "attempt": self.attempt, "models": models });
        let event = Event::new(EventKind::TaskUsed, message).agent(&whose.agent);
        tx.record(event.task(self.id).run(whose.run).data(data));
    }
}

fn used(row: &Row<'_>) -> Result<Used> {
    Ok(Used {
        model: row.text("model")?,
        tokens: tokens(row)?,
        usd_micros: row.opt_int("usd_micros")?,
        context_tokens: row.opt_int("context_tokens")?,
        context_window: row.opt_int("context_window")?,
    })
}

fn tokens(row: &Row<'_>) -> Result<Tokens> {
    Ok(Tokens {
        input: row.int("input_tokens")?,
        output: row.int("output_tokens")?,
        cache_read: row.int("cache_read_tokens")?,
        cache_write: row.int("cache_write_tokens")?,
    })
}

/// What has been used by a run, an agent or a task, and from where it is counted.
#[derive(Debug, Clone, Default)]
struct Account {
    subject: String,
    used: Spent,
    from: Spent,
    /// A budget of its own, which the ledger keeps: that of a task.
    own: Budget,
}

impl Account {
    fn from_row(row: &Row<'_>) -> Result<Account> {
        Ok(Account {
            subject: row.text("subject")?,
            used: Spent { usd_micros: row.int("usd_micros")?, tokens: row.int("tokens")? },
            from: Spent { usd_micros: row.int("from_usd_micros")?, tokens: row.int("from_tokens")? },
            own: Budget { usd_micros: row.opt_int("max_usd_micros")?, tokens: row.opt_int("max_tokens")? },
        })
    }

    fn since(&self) -> Spent {
        self.used.since(self.from)
    }

    fn reached(&self, budget: Budget) -> Option<String> {
        budget.reached(self.since())
    }
}

macro_rules! account_columns {
    () => {
        "subject, usd_micros, tokens, from_usd_micros, from_tokens, max_usd_micros, max_tokens"
    };
}

/// How the subject of a run begins.
const RUN: &str = "run ";

fn run_subject(run: RunId) -> String {
    format!("{RUN}{run}")
}

/// One for all the names that nodes call a member of the team by: else each node would bring a budget of its own.
fn agent_subject(name: &str) -> String {
    format!("agent {}", member(name))
}

fn task_subject(task: TaskId) -> String {
    format!("task {task}")
}

fn reason(subject: &str, words: &str) -> String {
    format!("{}{words}", begins(subject))
}

/// How every reason begins for which the budget of a subject is the cause, to be found again in the reasons of tasks.
fn begins(subject: &str) -> String {
    format!("{BUDGET}{subject} has used ")
}

async fn add(tx: &mut Tx, subject: &str, more: Spent) -> Result<Account> {
    let sql = concat!(
        "insert into budgets (subject, usd_micros, tokens) values ($1, $2, $3)
         on conflict (subject) do update set usd_micros = budgets.usd_micros + excluded.usd_micros,
                tokens = budgets.tokens + excluded.tokens
         returning ",
        account_columns!()
    );
    let account = tx.one(sql, args![subject, more.usd_micros, more.tokens], Account::from_row).await?;
    Ok(account.expect("an upsert returns its row"))
}

async fn account(tx: &mut Tx, subject: &str) -> Result<Account> {
    let sql = concat!("select ", account_columns!(), " from budgets where subject = $1");
    let found = tx.one(sql, args![subject], Account::from_row).await?;
    Ok(found.unwrap_or_else(|| Account { subject: subject.to_owned(), ..Account::default() }))
}

/// Gives a task that is added a budget of its own.
pub(crate) fn give_budget(tx: &mut Tx, task: TaskId, budget: Budget) {
    if budget.is_set() {
        tx.later(
            "insert into budgets (subject, max_usd_micros, max_tokens) values ($1, $2, $3)",
            args![task_subject(task), budget.usd_micros, budget.tokens],
        );
    }
}

/// Forgets what a run has used, of which nothing else is left.
pub(crate) fn forget_run(tx: &mut Tx, run: RunId) {
    tx.later("delete from budgets where subject = $1", args![run_subject(run)]);
}

/// Returns whether an agent may take nothing, because its budget is reached. It is paused, until a person resumes it.
pub(crate) async fn agent_is_over(tx: &mut Tx, name: &str, budget: Budget) -> Result<bool> {
    if !budget.is_set() {
        return Ok(false);
    }
    let subject = agent_subject(name);
    let Some(words) = account(tx, &subject).await?.reached(budget) else { return Ok(false) };
    agent::pause_for_budget(tx, name, &reason(&subject, &words)).await?;
    Ok(true)
}

/// Puts a task aside that is about to be taken, if the budget of its run or its own is reached, and with it what is ready
/// of the same run; answers whether it did.
pub(crate) async fn park_if_over(tx: &mut Tx, task: &Task, run: Budget, has_own: bool) -> Result<bool> {
    if has_own {
        let account = account(tx, &task_subject(task.id)).await?;
        if let Some(words) = account.reached(account.own) {
            park_all(tx, std::slice::from_ref(task), &reason(&account.subject, &words));
            return Ok(true);
        }
    }
    let (Some(id), true) = (task.run_id, run.is_set()) else { return Ok(false) };
    let account = account(tx, &run_subject(id)).await?;
    let Some(words) = account.reached(run) else { return Ok(false) };
    let ready = tx.all(READY_OF_RUN, args![id, PARKED_AT_ONCE], Task::from_row).await?;
    park_all(tx, &ready, &reason(&account.subject, &words));
    // There may be more than are put aside at once, before this one.
    if !ready.iter().any(|other| other.id == task.id) {
        park_all(tx, std::slice::from_ref(task), &reason(&account.subject, &words));
    }
    Ok(true)
}

const READY_OF_RUN: Sql = Sql::Each {
    lite: concat!(
        "select ",
        columns!(),
        " from tasks where run_id = $1 and state = 'ready' order by priority, id limit $2"
    ),
    pg: concat!(
        "select ",
        columns!(),
        " from tasks where run_id = $1 and state = 'ready' order by priority, id limit $2 for update skip locked"
    ),
};

fn park_all(tx: &mut Tx, tasks: &[Task], reason: &str) {
    for task in tasks {
        task::set_aside(tx, task, reason, None);
    }
}

/// Grants the budget again for which a task waits; answers with the tasks that wait for the same, the task among them.
///
/// They are asked for by their reason, which only this module writes so.
pub(crate) async fn grant(tx: &mut Tx, task: Task) -> Result<Vec<Task>> {
    let reason = task.reason.clone().unwrap_or_default();
    if reason.starts_with(&begins(&task_subject(task.id))) {
        count_from_now(tx, &task_subject(task.id));
    }
    match task.run_id {
        Some(run) if reason.starts_with(&begins(&run_subject(run))) => {
            let all = grant_run(tx, run).await?;
            Ok(if all.iter().any(|other| other.id == task.id) { all } else { vec![task] })
        }
        _ => Ok(vec![task]),
    }
}

/// Grants the budget of a run again if tasks wait for it; answers with those, their rows locked.
pub(crate) async fn grant_run(tx: &mut Tx, run: RunId) -> Result<Vec<Task>> {
    let waiting = tx.all(WAIT_FOR_RUN, args![run, begins(&run_subject(run))], Task::from_row).await?;
    if !waiting.is_empty() {
        grant_anew(tx, run);
    }
    Ok(waiting)
}

/// Grants the budget of a run again, whether or not anything waits for it.
pub(crate) fn grant_anew(tx: &mut Tx, run: RunId) {
    count_from_now(tx, &run_subject(run));
}

macro_rules! wait_for_run {
    ($lock:literal) => {
        concat!(
            "select ",
            columns!(),
            " from tasks where run_id = $1 and state = 'parked' and due_at is null
                and substr(parked_for, 1, length(cast($2 as text))) = $2 order by id",
            $lock
        )
    };
}
const WAIT_FOR_RUN: Sql = Sql::Each { lite: wait_for_run!(""), pg: wait_for_run!(" for update") };

/// Grants the budget of an agent again, if that is why it was paused; answers with how the reasons begin of all who were
/// paused for the same.
pub(crate) fn grant_agent(tx: &mut Tx, name: &str, reason: Option<&str>) -> Option<String> {
    reason.filter(|reason| is_budget(reason))?;
    let subject = agent_subject(name);
    count_from_now(tx, &subject);
    Some(begins(&subject))
}

fn count_from_now(tx: &mut Tx, subject: &str) {
    tx.later(
        "update budgets set from_usd_micros = usd_micros, from_tokens = tokens where subject = $1",
        args![subject],
    );
}

/// What an attempt has used of one model.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The task.
    pub task: TaskId,
    /// The attempt's number.
    pub attempt: i64,
    /// Whose attempt it was.
    pub agent: String,
    /// What it has used.
    pub used: Used,
}

macro_rules! entries {
    ($of:literal) => {
        concat!(
            "select task_id, attempt, agent, ",
            used_columns!(),
            " from usage where ",
            $of,
            " = $1 order by task_id, attempt, model"
        )
    };
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        task: TaskId(row.int("task_id")?),
        attempt: row.int("attempt")?,
        agent: row.text("agent")?,
        used: used(row)?,
    })
}

pub(crate) async fn entries_of_task(tx: &mut Tx, id: TaskId) -> Result<Vec<Entry>> {
    tx.all(entries!("task_id"), args![id], entry).await
}

pub(crate) async fn entries_of_run(tx: &mut Tx, id: RunId) -> Result<Vec<Entry>> {
    tx.all(entries!("run_id"), args![id], entry).await
}

/// What was used, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Tokens by their kind.
    pub tokens: Tokens,
    /// What they cost, in millionths of a dollar; `None` where no price is known for any.
    pub usd_micros: Option<i64>,
}

impl Sum {
    /// Adds up entries by what `key` says of each, in the order of the keys.
    pub fn by<'a, K: Ord>(
        entries: impl IntoIterator<Item = &'a Entry>,
        key: impl Fn(&'a Entry) -> K,
    ) -> BTreeMap<K, Sum> {
        let mut sums = BTreeMap::<K, Sum>::new();
        for entry in entries {
            let sum = sums.entry(key(entry)).or_default();
            *sum = sum.plus(&entry.used);
        }
        sums
    }

    /// Returns the sum as it counts against a budget.
    pub fn spent(self) -> Spent {
        Spent { usd_micros: self.usd_micros.unwrap_or(0), tokens: self.tokens.counted() }
    }

    fn plus(self, used: &Used) -> Sum {
        let (old, new) = (self.tokens, used.tokens);
        Sum {
            tokens: Tokens {
                input: old.input.saturating_add(new.input),
                output: old.output.saturating_add(new.output),
                cache_read: old.cache_read.saturating_add(new.cache_read),
                cache_write: old.cache_write.saturating_add(new.cache_write),
            },
            usd_micros: match (self.usd_micros, used.usd_micros) {
                (None, None) => None,
                (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
            },
        }
    }
}

/// What counts against a budget, and the budget where the ledger keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Used since a person last let it go on, or ever.
    pub spent: Spent,
    /// Used ever.
    pub ever: Spent,
    /// A task's own budget.
    pub budget: Budget,
}

impl From<&Account> for Counted {
    fn from(account: &Account) -> Counted {
        Counted { spent: account.since(), ever: account.used, budget: account.own }
    }
}

pub(crate) async fn counted_of_task(tx: &mut Tx, id: TaskId) -> Result<Counted> {
    Ok(Counted::from(&account(tx, &task_subject(id)).await?))
}

pub(crate) async fn counted_of_run(tx: &mut Tx, id: RunId) -> Result<Counted> {
    Ok(Counted::from(&account(tx, &run_subject(id)).await?))
}

/// What each run, or each agent, has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// By the ids of runs.
    Runs,
    /// By the names of agents.
    Agents,
}

pub(crate) async fn counted(tx: &mut Tx, of: Whole) -> Result<BTreeMap<String, Counted>> {
    let (from, up_to) = match of {
        Whole::Runs => (RUN, "run!"),
        Whole::Agents => ("agent ", "agent!"),
    };
    let sql = concat!(
        "select ",
        account_columns!(),
        " from budgets where subject > $1 and subject < $2 order by subject"
    );
    let accounts = tx.all(sql, args![from, up_to], Account::from_row).await?;
    let named = |account: &Account| account.subject.trim_start_matches(from).to_owned();
    Ok(accounts.iter().map(|account| (named(account), Counted::from(account))).collect())
}

/// Returns how full the contexts of those are who work now, by the agent's name: tokens, and how many fit.
pub(crate) async fn contexts(tx: &mut Tx) -> Result<BTreeMap<String, (i64, Option<i64>)>> {
    let sql = "select u.agent, u.context_tokens, u.context_window from tasks t
                 join usage u on u.task_id = t.id and u.attempt = t.attempt
                where t.state in ('running', 'verifying') and u.context_tokens is not null order by u.at";
    let all = tx
        .all(sql, &[], |row| {
            Ok((row.text("agent")?, (row.int("context_tokens")?, row.opt_int("context_window")?)))
        })
        .await?;
    // The latest word of each counts.
    Ok(all.into_iter().collect())
}

/// Models that are named to a person at most.
const MODELS_SHOWN: i64 = 10;

/// Lists models that were used and for which no price is known.
pub(crate) async fn unpriced(tx: &mut Tx) -> Result<Vec<String>> {
    let sql = "select distinct model from usage where usd_micros is null order by model limit $1";
    tx.all(sql, args![MODELS_SHOWN], |row| row.text("model")).await
}
