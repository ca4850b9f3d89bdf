//! What the goals have left behind, read once when everything is quiet.
//!
//! Here live the rows that only goals have, beside the [`History`] that all tests share, as plain values.

use super::blows::Tally;
use super::model::Seen;
use super::script::{Goal, Script};
use crate::Outcome;
use crate::history::{History, Line};
use crate::ledger::{Ledger, Row};
use std::collections::BTreeMap;
use std::path::Path;

/// A run as it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: i64,
    /// The goal in words.
    pub words: String,
    /// Its state.
    pub state: String,
    /// Why.
    pub reason: String,
    /// The folder of its report, and whether there is one in it.
    pub report: String,
    /// Whether that folder holds it.
    pub is_written: bool,
    /// How often the log tells of a new plan.
    pub replanned: usize,
}

impl Run {
    /// Returns which goal it is to reach.
    pub fn goal(&self) -> Option<Goal> {
        Goal::ALL.into_iter().find(|goal| goal.words() == self.words)
    }
}

/// What a task is to its run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Its id.
    pub id: i64,
    /// Its run.
    pub run: i64,
    /// Its key.
    pub key: String,
    /// Its title.
    pub title: String,
    /// Who had it last.
    pub owner: String,
    /// Whether it makes a plan.
    pub is_plan: bool,
}

/// What an attempt has used of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// The task …
    pub task: i64,
    /// … the attempt …
    pub attempt: i64,
    /// … and the model.
    pub model: String,
    /// The run.
    pub run: i64,
    /// Whose attempt it was.
    pub agent: String,
    /// Read anew, written, from a cache, into a cache.
    pub tokens: [i64; 4],
    /// What it cost, in millionths of a dollar.
    pub micros: i64,
}

/// What the command said that worked at a goal to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Whether it ended well.
    pub is_well: bool,
    /// What it printed.
    pub text: String,
}

/// Everything that the checks of goals look at.
#[derive(Debug, Clone)]
pub struct Record {
    /// What all tests look at.
    pub history: History,
    /// What should have been.
    pub script: Script,
    /// The runs.
    pub runs: Vec<Run>,
    /// The tasks.
    pub parts: Vec<Part>,
    /// What was used.
    pub used: Vec<Used>,
    /// Dollars, in millionths, and tokens by what they are counted for.
    pub accounts: BTreeMap<String, (i64, i64)>,
    /// What the models saw.
    pub seen: Seen,
    /// What the commands said that ended by themselves, by goal.
    pub said: BTreeMap<Goal, Said>,
    /// What was killed.
    pub tally: Tally,
}

impl Record {
    /// Reads the ledger's part, and the reports in the folder of state.
    pub fn read(ledger: &mut Ledger, folder: &Path, history: History, script: Script) -> Outcome<Record> {
        let mut runs = all(ledger, include_str!("../../sql/goal/runs.sql"), run)?;
        for run in &mut runs {
            run.is_written = !run.report.is_empty() && folder.join(&run.report).join("report.md").is_file();
        }
        Ok(Record {
            history,
            script,
            runs,
            parts: all(ledger, include_str!("../../sql/goal/tasks.sql"), part)?,
            used: all(ledger, include_str!("../../sql/goal/usage.sql"), used)?,
            accounts: all(ledger, include_str!("../../sql/goal/accounts.sql"), account)?
                .into_iter()
                .collect(),
            seen: Seen::default(),
            said: BTreeMap::new(),
            tally: Tally::default(),
        })
    }

    /// Returns the parts of a run.
    pub fn parts_of(&self, run: i64) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.run == run)
    }

    /// Returns the state and the result of a task.
    pub fn ended(&self, task: i64) -> Option<(&str, Option<&str>)> {
        let found = self.history.tasks.iter().find(|other| other.id == task)?;
        Some((&found.state, found.result.as_deref()))
    }

    /// Returns the attempt that completed a task.
    pub fn accepted(&self, task: i64) -> Option<Line> {
        let is_it = |outcome: &Option<String>| outcome.as_deref() == Some("completed");
        let found = self.history.attempts.iter().find(|a| a.task == task && is_it(&a.outcome))?;
        Some(Line { attempt: found.number, term: found.term })
    }

    /// Writes what is not in the history, for whoever looks into a red story.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        self.history.write(folder)?;
        let lines = |list: &mut dyn Iterator<Item = String>| list.collect::<Vec<_>>().join("\n") + "\n";
        let answered = lines(&mut self.seen.answered.iter().map(|call| format!("{call:?}")));
        std::fs::write(folder.join("answered.txt"), answered)?;
        std::fs::write(folder.join("wrong.txt"), self.seen.wrong.join("\n"))?;
        let rows = self.runs.iter().map(|run| format!("{run:?}"));
        let rows = rows.chain(self.parts.iter().map(|part| format!("{part:?}")));
        let mut rows = rows.chain(self.used.iter().map(|used| format!("{used:?}")));
        std::fs::write(folder.join("goals.txt"), lines(&mut rows))
    }
}

fn all<T>(ledger: &mut Ledger, sql: &str, decode: fn(&Row) -> Option<T>) -> Outcome<Vec<T>> {
    let rows = ledger.rows(sql)?;
    rows.iter().map(|row| decode(row).ok_or_else(|| format!("cannot read {row:?}"))).collect()
}

fn number(row: &Row, at: usize) -> Option<i64> {
    row.get(at)?.as_ref()?.parse().ok()
}

fn text(row: &Row, at: usize) -> Option<String> {
    row.get(at)?.clone()
}

fn run(row: &Row) -> Option<Run> {
    Some(Run {
        id: number(row, 0)?,
        words: text(row, 1)?,
        state: text(row, 2)?,
        reason: text(row, 3)?,
        report: text(row, 4)?,
        is_written: false,
        replanned: usize::try_from(number(row, 5)?).ok()?,
    })
}

fn part(row: &Row) -> Option<Part> {
    Some(Part {
        id: number(row, 0)?,
        run: number(row, 1)?,
        key: text(row, 2)?,
        title: text(row, 3)?,
        owner: text(row, 4)?,
        is_plan: number(row, 5)? == 1,
    })
}

fn used(row: &Row) -> Option<Used> {
    let tokens = |at: usize| number(row, at);
    Some(Used {
        task: number(row, 0)?,
        attempt: number(row, 1)?,
        model: text(row, 2)?,
        run: number(row, 3)?,
        agent: text(row, 4)?,
        tokens: [tokens(5)?, tokens(6)?, tokens(7)?, tokens(8)?],
        micros: number(row, 9)?,
    })
}

fn account(row: &Row) -> Option<(String, (i64, i64))> {
    Some((text(row, 0)?, (number(row, 1)?, number(row, 2)?)))
}
