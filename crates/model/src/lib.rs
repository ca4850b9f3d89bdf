//! Nouns and pure decisions.
//!
//! Here live the words of the product as types: ids, events, errors, task states, plans, configuration, resource
//! names, and the decisions that need only facts. No I/O, no clock, no async, no random numbers.

pub mod agent;
pub mod at;
pub mod budget;
pub mod config;
pub mod diagnostic;
pub mod document;
pub mod duration;
mod error;
mod event;
pub mod goal;
mod ids;
pub mod memory;
pub mod name;
pub mod plan;
pub mod price;
pub mod priority;
pub mod resource;
pub mod retry;
pub mod said;
pub mod table;
pub mod task;
pub mod text;
pub mod tokens;
pub mod usage;

pub use agent::AgentState;
pub use error::{Error, Kind, Result, nearest};
pub use event::{Event, EventKind};
pub use ids::{CheckpointId, MemoryId, MessageId, RunId, Seq, TaskId, Term};
pub use memory::MemoryKind;
pub use task::TaskState;
