//! A tool as an agent calls it.
//!
//! Here live the trait that every tool implements once, the list entry that follows from it, and the reading of its inputs.
//! What a tool does stands in the file of its noun.

use crate::ask::whole_numbers;
use crate::caller::Caller;
use crate::desk::{Desk, Watch};
use crate::openapi::schema_of;
use quorate_model::{Error, Result, nearest};
use rmcp::model::{JsonObject, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The longest description of a tool, in bytes: Claude Code cuts longer ones.
#[cfg(test)]
pub(super) const ABOUT_MAX: usize = 2_048;

/// A tool: its inputs are its fields, its answer is a short text.
pub(super) trait Tool: DeserializeOwned + JsonSchema + Send + 'static {
    /// What it is called.
    const NAME: &'static str;
    /// What it is for, as a model is told.
    const ABOUT: &'static str;
    /// Whether it changes nothing.
    const READS: bool = false;

    /// Does it.
    fn call(self, turn: &Turn) -> impl Future<Output = Result<String>> + Send;
}

/// Who calls, at which desk, and what ends the call early.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) desk: Desk,
    pub(super) caller: Caller,
    /// The name of a caller who does not say it: that of his program.
    pub(super) name: Option<String>,
    pub(super) cancelled: CancellationToken,
}

impl Turn {
    /// Returns the name in which the caller acts.
    ///
    /// # Errors
    /// As [`Caller::acts_as`].
    pub(super) fn acts_as(&self, named: Option<String>) -> Result<String> {
        let named = match self.caller {
            Caller::Person => named.or_else(|| self.name.clone()),
            Caller::Agent(_) => named,
        };
        self.caller.acts_as(named)
    }

    /// Begins a wait that also ends when the call is cancelled.
    pub(super) fn watch(&self, wait_ms: i64) -> Watch {
        let cancelled = self.cancelled.clone().cancelled_owned();
        Watch::until(self.desk.store(), Some(wait_ms), cancelled)
    }
}

type Calling<'a> = Pin<Box<dyn Future<Output = Result<String>> + Send + 'a>>;

/// A tool in the list.
pub(super) struct Entry {
    pub(super) tool: rmcp::model::Tool,
    call: for<'a> fn(&'a Entry, &'a Turn, JsonObject) -> Calling<'a>,
}

impl Entry {
    /// Makes the entry of a tool.
    pub(super) fn of<T: Tool>() -> Entry {
        let mut tool = rmcp::model::Tool::new(T::NAME, T::ABOUT, Arc::new(inputs::<T>()));
        tool.annotations =
            Some(ToolAnnotations::new().read_only(T::READS).destructive(false).open_world(false));
        Entry { tool, call: begin::<T> }
    }

    /// Calls it.
    pub(super) fn call<'a>(&'a self, turn: &'a Turn, inputs: JsonObject) -> Calling<'a> {
        (self.call)(self, turn, inputs)
    }

    fn fields(&self) -> Vec<&str> {
        let fields = self.tool.input_schema.get("properties").and_then(Value::as_object);
        fields.map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
    }
}

fn begin<'a, T: Tool>(entry: &'a Entry, turn: &'a Turn, inputs: JsonObject) -> Calling<'a> {
    match read::<T>(entry, inputs) {
        Ok(asked) => Box::pin(asked.call(turn)),
        Err(error) => Box::pin(std::future::ready(Err(error))),
    }
}

/// What a tool takes, as JSON Schema, without what only costs tokens.
fn inputs<T: Tool>() -> Map<String, Value> {
    let mut schema = match schema_of::<T>().to_value() {
        Value::Object(map) => map,
        _ => unreachable!("a struct's schema is an object"),
    };
    for name in ["$schema", "title", "description"] {
        schema.remove(name);
    }
    schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    schema
}

fn read<T: Tool>(entry: &Entry, mut inputs: JsonObject) -> Result<T> {
    whole_numbers(entry.tool.input_schema.get("properties"), &mut inputs);
    serde_path_to_error::deserialize(Value::Object(inputs)).map_err(|e| {
        let (place, why) = (e.path().to_string(), e.inner().to_string());
        let message = if place == "." { why.clone() } else { format!("`{place}`: {why}") };
        let fields = entry.fields();
        let unknown = why.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let near = unknown.and_then(|unknown| nearest(unknown, fields.iter().copied()));
        Error::invalid(message).hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("{} takes: {}", T::NAME, fields.join(", ")),
        })
    })
}
