//! How each kind of agent is run: from a task to a child process, and from its end to a report.
//!
//! Here live the drivers `command` and shell, and the fake agent that the demo and the tests use. A driver describes
//! the child and reads its end; it starts nothing (that is `process`) and knows no database.

mod assignment;
pub mod fake;
mod report;
mod worker;

pub use assignment::Assignment;
pub use report::{Report, report, report_check};
pub use worker::{How, Worker};
