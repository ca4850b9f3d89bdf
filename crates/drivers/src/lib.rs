//! How each kind of agent is run: from a task to a child process, and from its end to a report.
//!
//! Here live the drivers `command` and shell, the fake agent that the demo and the tests use, and the drivers of real
//! agents: what they are told ([`prompt`]), how their programs are started and read ([`agent`]), and the process that
//! does it for one attempt ([`drive`]). A driver knows no database.

pub mod agent;
pub mod api;
mod assignment;
mod clock;
pub mod drive;
mod ending;
pub mod fake;
pub mod prompt;
mod ready;
mod report;
mod say;
mod settings;
mod usage;
mod worker;

pub use assignment::{Assignment, COMMIT_EMAIL};
pub use ending::Ending;
pub use ready::Missing;
pub use report::{Report, report, report_check};
pub use say::{Out, Parked};
pub use settings::{Settings, Tool};
pub use usage::Usage;
pub use worker::{How, Worker};
