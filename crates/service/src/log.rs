//! What an agent writes into the log of its own accord.
//!
//! Here lives the line. An action that means something to the ledger (claim, release, complete, help, a state) is
//! done by the operation for it, in the same transaction, so that a line can never say what the ledger does not
//! hold. Beside it stands the question for the attempt whose kept output is meant when only its agent is named.

use crate::claim::{self, Releaser};
use crate::message::{self, MessageKind};
use crate::task;
use quorate_model::resource::Mode;
use quorate_model::{Error, Event, EventKind, Kind, Result, TaskId, Term};
use quorate_store::{Boxed, Read, Tx, Write, args};
use serde_json::Value;

/// The longest message of a line, and the longest metadata, in bytes.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// The longest action and status, in bytes.
pub const WORD_MAX: usize = 256;

/// A line for the log.
#[derive(Debug, Clone)]
pub struct Line {
    /// Who writes.
    pub agent: String,
    /// What the line is about: any word; some do something.
    pub action: String,
    /// In what state: any word.
    pub status: Option<String>,
    /// The resource, in canonical form.
    pub resource: Option<String>,
    /// Percent.
    pub progress: Option<i64>,
    /// Further facts, a JSON object.
    pub metadata: Option<serde_json::Value>,
    /// The words.
    pub message: String,
    /// How long a claim made by this line is held, in milliseconds.
    pub ttl_ms: i64,
}

impl Write for Line {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            self.check()?;
            match self.action.as_str() {
                "claim" => self.claim(tx).await?,
                "release" => self.release(tx).await?,
                "complete" => self.complete(tx).await?,
                "help" => self.help(tx).await?,
                "startup" | "idle" => self.state(tx, "idle"),
                "error" => self.state(tx, "blocked"),
                _ => {}
            }
            tx.record(self.event());
            Ok(())
        })
    }
}

impl Line {
    fn check(&self) -> Result<()> {
        if self.progress.is_some_and(|n| !(0..=100).contains(&n)) {
            return Err(Error::invalid("progress is a number from 0 to 100"));
        }
        if self.metadata.as_ref().is_some_and(|value| !value.is_object()) {
            return Err(Error::invalid("metadata is a JSON object").hint("--metadata '{\"key\": \"value\"}'"));
        }
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let metadata = self.metadata.as_ref().map_or(0, |value| value.to_string().len());
        for (what, bytes, most) in [
            ("action", self.action.len(), WORD_MAX),
            ("status", length(&self.status), WORD_MAX),
            ("message", self.message.len(), MESSAGE_MAX),
            ("metadata", metadata, MESSAGE_MAX),
        ] {
            if bytes > most {
                let error = Error::invalid(format!("the {what} has {bytes} bytes, more than {most}"));
                return Err(error.hint("put the long parts into a file and name its path"));
            }
        }
        Ok(())
    }

    fn event(&self) -> Event {
        let data = serde_json::json!({
            "action": self.action, "status": self.status, "progress": self.progress, "metadata": self.metadata
        });
        let event = Event::new(EventKind::LogLine, self.message.clone()).agent(&self.agent).data(data);
        match &self.resource {
            Some(resource) => event.resource(resource),
            None => event,
        }
    }

    fn resource(&self) -> Result<&String> {
        self.resource.as_ref().ok_or_else(|| {
            Error::invalid(format!("action `{}` is about a resource", self.action))
                .hint("add --resource src/a.rs")
        })
    }

    async fn claim(&self, tx: &mut Tx) -> Result<()> {
        let take = claim::Take {
            agent: self.agent.clone(),
            resources: vec![self.resource()?.clone()],
            mode: Mode::Exclusive,
            ttl_ms: self.ttl_ms,
            task: None,
            wait_ms: None,
            place: None,
        };
        take.apply(tx).await.map(drop)
    }

    async fn release(&self, tx: &mut Tx) -> Result<()> {
        let by = Releaser::Holder { agent: self.agent.clone(), term: None };
        claim::Release { resources: vec![self.resource()?.clone()], by }.apply(tx).await.map(drop)
    }

    /// Ends the claim the line names, or the task the agent has.
    async fn complete(&self, tx: &mut Tx) -> Result<()> {
        if self.resource.is_some() {
            return self.release(tx).await;
        }
        let sql = "select id, term from tasks where owner = $1 and state = 'running' order by id limit 1";
        let held = tx
            .one(sql, args![&self.agent], |row| Ok((TaskId(row.int("id")?), Term(row.int("term")?))))
            .await?;
        let Some((id, term)) = held else {
            return Err(Error::new(Kind::Conflict, format!("{} has no task to complete", self.agent))
                .hint("name what is complete with --resource, or take a task with `quorate task next`"));
        };
        let result = self.metadata.as_ref().map(ToString::to_string);
        task::Done { id, term, result, tail: None }.apply(tx).await.map(drop)
    }

    async fn help(&self, tx: &mut Tx) -> Result<()> {
        for to in self.help_needed_from()? {
            let send = message::Send {
                from: self.agent.clone(),
                to,
                kind: MessageKind::Help,
                text: self.message.clone(),
                task: None,
                reply_to: None,
            };
            send.apply(tx).await?;
        }
        Ok(())
    }

    /// Returns whom the metadata names: one agent or several.
    fn help_needed_from(&self) -> Result<Vec<String>> {
        let wrong = || {
            Error::invalid("`help_needed_from` is the name of an agent, or a list of names")
                .hint("--metadata '{\"help_needed_from\": \"alpha\"}'")
        };
        match self.metadata.as_ref().and_then(|metadata| metadata.get("help_needed_from")) {
            None => Ok(Vec::new()),
            Some(Value::String(name)) => Ok(vec![name.clone()]),
            Some(Value::Array(names)) => {
                names.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn state(&self, tx: &mut Tx, state: &'static str) {
        let reason = (state == "blocked").then_some(&self.message);
        tx.later(
            "update agents set state = case when lease_until is null or $2 = 'blocked' then $2 else 'ready' end, reason = $3
              where name = $1 and state <> 'failed'",
            args![&self.agent, state, reason],
        );
        let message = format!("{} says it is {}", self.agent, self.action);
        tx.record(Event::new(EventKind::AgentReported, message).agent(&self.agent));
    }
}

/// Asks for the attempt that an agent began last, whoever has its task by now.
#[derive(Debug, Clone)]
pub struct LatestAttempt {
    /// The agent.
    pub agent: String,
}

impl Read for LatestAttempt {
    /// Its task and number; `None` if the agent has not worked at any task.
    type Answer = Option<(TaskId, i64)>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<(TaskId, i64)>> {
        Box::pin(async move {
            let sql = "select task_id, number from attempts where agent = $1
                        order by started_at desc, task_id desc, number desc limit 1";
            tx.one(sql, args![&self.agent], |row| Ok((TaskId(row.int("task_id")?), row.int("number")?))).await
        })
    }
}
