//! What happens by itself: a node and its loops.
//!
//! ```text
//! Node ── session (one an agent) ── attempt ── child process
//!      ├─ checker   runs the checks of tasks that are said to be done; reads plans (planner)
//!      ├─ janitor   reads on for the memory; removes what is older than [retention] and [memory] say, and worktrees of what is over
//!      ├─ health    elected: what lapses, comes due, ends
//!      └─ renewer   a thread of its own: keeps leases, stops children whose lease is lost
//! ```
//!
//! Loops are few, each around one step; every loop ends when it is told to stop. What a task is and who may write to
//! it is decided in `service`; how a child is run, in `process`. Nothing is kept outside the ledger: a start after a
//! crash is the normal start.

mod attempt;
mod checker;
mod consolidator;
mod git;
mod health;
mod janitor;
mod memory;
mod node;
mod orphans;
mod planner;
mod relay;
mod renewer;
mod rests;
mod result_file;
mod session;
mod stop;
mod team;
mod workspace;
mod worktrees;

pub use node::{Node, NodeOptions};
pub use orphans::{end_orphans, is_running, running_here};
pub use stop::{Level, Stop, Stopper};
pub use team::{Member, team};
pub use workspace::check_repository;
