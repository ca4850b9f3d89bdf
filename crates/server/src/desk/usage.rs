//! What an agent that pulls its work says it has used, at every door.
//!
//! Here lives the shape in which it is said, and what follows: each model gets its price, the accounts theirs, and who has
//! reached a budget has his task put aside. A supervised child says the same in lines of its output; what they mean, and
//! their bounds, live in `model::usage`.

use super::Desk;
use crate::caller::Caller;
use quorate_model::config::Driver;
use quorate_model::price::priced;
use quorate_model::usage::{MODELS_MAX, Used};
use quorate_model::{Error, Kind, Result, TaskId, TaskState, Term};
use quorate_service::task::{Aside, Progress, Rest, SetAside, Task};
use quorate_service::usage::{Note, Reached, Said};
use quorate_service::view::{Agents, Story, TaskStory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// All that an attempt has used of a model since it began
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelUsage {
    /// The model's name
    model: String,
    /// Tokens read anew
    #[serde(default)]
    input_tokens: i64,
    /// Tokens written
    #[serde(default)]
    output_tokens: i64,
    /// Tokens read from the cache
    #[serde(default)]
    cache_read_tokens: i64,
    /// Tokens written to the cache
    #[serde(default)]
    cache_write_tokens: i64,
    /// Dollars, if known; else they come from prices
    usd: Option<f64>,
    /// Tokens in the context now …
    context_tokens: Option<i64>,
    /// … of how many that fit
    context_window: Option<i64>,
}

impl ModelUsage {
    /// Reads what was typed: one of them, or a list.
    ///
    /// # Errors
    /// `Invalid`, with the field that is wrong.
    pub fn parse(text: &str) -> Result<Vec<ModelUsage>> {
        const HINT: &str = "such as '{\"model\":\"claude-sonnet-4-5\",\"input_tokens\":1000,\"output_tokens\":200}', or a list";
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("the usage is not JSON: {e}")).hint(HINT))?;
        let list = if value.is_array() { value } else { Value::Array(vec![value]) };
        serde_path_to_error::deserialize(list)
            .map_err(|e| Error::invalid(format!("the usage: `{}`: {}", e.path(), e.inner())).hint(HINT))
    }
}

/// Reads each as a child's line is read, which knows the bounds.
fn read(said: &[ModelUsage]) -> Result<Vec<Used>> {
    let mut all = Vec::with_capacity(said.len());
    for (place, one) in said.iter().enumerate() {
        let wrong = |why: String| Error::invalid(format!("`usage[{place}]`: {why}"));
        let fields = match serde_json::to_value(one) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(wrong("no object".into())),
            Err(e) => return Err(wrong(e.to_string())),
        };
        let used = Used::read(&fields).map_err(wrong)?;
        if all.iter().any(|known: &Used| known.model == used.model) {
            return Err(wrong(format!("model `{}` is named twice", used.model))
                .hint("the numbers are sums since the attempt began: one for each model"));
        }
        all.push(used);
    }
    Ok(all)
}

/// An attempt that is kept has a bounded number of models.
fn within_bounds(story: &TaskStory, attempt: i64, used: &[Used]) -> Result<()> {
    let known = story.usage.iter().filter(|entry| entry.attempt == attempt).map(|entry| &entry.used);
    let models: BTreeSet<&str> = known.chain(used).map(|used| used.model.as_str()).collect();
    if models.len() > MODELS_MAX {
        let message = format!("an attempt may use {MODELS_MAX} models, not {}", models.len());
        return Err(Error::invalid(message).hint("add up what the rarest have used"));
    }
    Ok(())
}

impl Desk {
    /// Tells whether a driver counts what an attempt uses: what its agent believes of that would come on top.
    async fn is_counted(&self, task: &Task, agent: &str, term: Term) -> Result<bool> {
        if task.term == term && task.node.is_none() {
            return Ok(false);
        }
        // Who has left the team since has no driver any more.
        let team = self.store.read(Agents { name: Some(agent.to_owned()) }).await?;
        let driver = team.first().map(|view| view.agent.driver.parse::<Driver>()).transpose()?;
        Ok(driver.is_some_and(Driver::is_driven))
    }

    /// Notes what the attempt of a term has used until now, in place of what was said before of the same models; answers
    /// with the budget that is reached by that. Late words count too: what was spent was spent. An agent takes nothing back.
    ///
    /// # Errors
    /// `Invalid` for what is out of bounds, `Refused` for an agent that speaks of another's attempt.
    pub async fn spend(
        &self,
        by: &Caller,
        (id, term): (TaskId, Term),
        said: &[ModelUsage],
        is_last: bool,
    ) -> Result<Option<Reached>> {
        if said.is_empty() {
            return Ok(None);
        }
        let used = read(said)?;
        let story = self.store.read(Story { id }).await?;
        let Some(attempt) = story.attempts.iter().find(|attempt| attempt.term == term) else {
            // There never was such a term: the report that this came with is refused for it.
            return Ok(None);
        };
        by.must_speak_of(&attempt.agent)?;
        if *by != Caller::Person && self.is_counted(&story.task, &attempt.agent, term).await? {
            return Ok(None);
        }
        within_bounds(&story, attempt.number, &used)?;
        // Said again, its last word is no news.
        let is_under_way = story.task.state == TaskState::Running && story.task.term == term;
        let note = Note {
            id,
            term,
            attempt: attempt.number,
            used: used.into_iter().map(|used| priced(&self.config.prices, used)).collect(),
            limits: self.config.limits(&attempt.agent),
            is_last: is_last && is_under_way,
        };
        match by {
            Caller::Agent(_) => self.store.write(Said(note)).await,
            Caller::Person => self.store.write(note).await,
        }
    }

    /// Takes a report on a task; with a budget that is reached the task is put aside instead, until a person lets it go on.
    ///
    /// # Errors
    /// `Stale` for a term that is over; `Refused` where it is the agent that may not go on: others have its task now.
    pub async fn progress(&self, report: Progress, reached: Option<Reached>) -> Result<Task> {
        let Some(reached) = reached else { return self.store.write(report).await };
        let (id, term) = (report.id, report.term);
        let why = Aside::Budget(reached.clone());
        if let Rest::GivenBack = self.store.write(SetAside { id, term, why, tail: None }).await? {
            let message = format!("task {id} is given back: {}", reached.reason);
            return Err(Error::new(Kind::Refused, message)
                .hint("stop here: others go on with it; `quorate agent resume NAME` grants the same again"));
        }
        Ok(self.store.read(Story { id }).await?.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Used>> {
        read(&ModelUsage::parse(text)?)
    }

    fn wrong(text: &str, part: &str) {
        let error = parsed(text).expect_err("wrong");
        assert!(error.kind == Kind::Invalid && error.to_string().contains(part), "{text}: {error}");
    }

    #[test]
    fn one_model_or_a_list_of_them_is_read_with_the_names_that_children_use() {
        let one = parsed(r#"{"model":"m","input_tokens":1,"usd":0.5}"#).expect("read");
        assert_eq!((one.len(), one[0].tokens.input, one[0].usd_micros), (1, 1, Some(500_000)));
        let two = parsed(r#"[{"model":"m"},{"model":"n","cache_write_tokens":7}]"#).expect("read");
        assert_eq!((two[0].tokens.counted(), two[1].tokens.counted()), (0, 7));
    }

    #[test]
    fn what_is_wrong_is_named() {
        wrong("nonsense", "not JSON");
        wrong("7", "`[0]`");
        wrong(r#"{"model":"m","tokens":1}"#, "unknown field `tokens`");
        wrong(r#"{"input_tokens":1}"#, "missing field `model`");
        wrong(r#"[{"model":"m"},{"model":"n","output_tokens":"x"}]"#, "`[1].output_tokens`");
        wrong(r#"{"model":"m","input_tokens":-1}"#, "`usage[0]`: `input_tokens` is not from 0");
        wrong(r#"{"model":"  "}"#, "without `model`");
        wrong(r#"[{"model":"m"},{"model":" m"}]"#, "named twice");
        wrong(r#"{"model":"m","usd":1e300}"#, "`usd` is not from 0");
    }
}
