//! What the system can do: one request value per operation, with its SQL.
//!
//! Only here does state change. A door parses its input once into a request, gives it to
//! [`Store::write`](quorate_store::Store::write) or [`read`](quorate_store::Store::read), and shows the answer.
//! No HTTP, no terminal, no child process, no clock of its own.

pub mod agent;
pub mod checkpoint;
pub mod claim;
pub mod context;
pub mod doctor;
pub mod event;
pub mod goal;
pub mod health;
pub mod log;
pub mod memory;
pub mod message;
pub mod node;
pub mod retention;
pub mod run;
mod schema;
pub mod session;
pub mod task;
pub mod time;
pub mod token;
pub mod top;
pub mod usage;
pub mod view;
pub mod why;
pub mod wire;

pub use schema::{RESTORED_SQL, ROLES_SQL, SCHEMA};
