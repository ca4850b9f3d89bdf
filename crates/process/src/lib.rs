//! One child process: spawn, output, limits, stop.
//!
//! Here lives everything about running one program and its descendants on Linux: a clean start ([`Command`]), kept and
//! masked output, messages in it, limits, and an end that leaves nothing behind ([`supervise`], [`orphan`]).
//! It knows no database, no task and no agent: callers hand in an environment, a log path and a marker.
//!
//! The one idea: a child is not reaped before its whole tree is ended. While its zombie holds the process id, neither
//! the id nor its group nor its session can belong to anyone else, so no signal can reach a stranger.
//!
//! ```no_run
//! # async fn example() -> quorate_model::Result<()> {
//! use quorate_process::{Command, supervise};
//! let mut command = Command::shell("cargo test", "/repository", "/repository/.quorate/logs/7-1.log");
//! command.marker = vec![("QUORATE_TASK_ID".into(), "7".into()), ("QUORATE_TERM".into(), "1".into())];
//! let child = command.spawn().await?;
//! let control = child.control();
//! let (sender, _messages) = tokio::sync::mpsc::channel(16);
//! let running = tokio::spawn(supervise(child, sender));
//! control.stop("cancelled by a person");
//! let exit = running.await.expect("supervise does not panic");
//! println!("{}", exit.kind);
//! # Ok(()) }
//! ```

mod cgroup;
mod command;
mod control;
mod exit;
mod fork;
mod keep;
pub mod limits;
mod lines;
mod log;
mod mask;
mod message;
pub mod orphan;
mod output;
mod pen;
mod procfs;
mod spawn;
mod stop;
mod supervise;
mod tail;
mod tree;

pub use command::{Command, INHERITED, inherited};
pub use control::{Activity, Control};
pub use exit::{Exit, ExitKind};
pub use limits::Limits;
pub use lines::MAX_LINE;
pub use log::MAX_LOG;
pub use mask::Mask;
pub use message::{MAX_FINDINGS, MAX_RESULT, Message};
pub use procfs::{ProcessId, ancestry, boot_id, host, name, own_process, start_time};
pub use spawn::Child;
pub use supervise::supervise;
