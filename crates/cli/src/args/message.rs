//! `quorate send` and `inbox`.

use super::value;
use clap::Args;
use quorate_model::{MessageId, TaskId};
use quorate_service::message::MessageKind;

/// Sends a message to an agent or person of the team
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate send --from me --to alpha \"the schema has changed\"
  quorate send --from me --to alpha --kind help --task 12 \"what does this test expect?\"
  quorate send --from alpha --to me --kind reply --reply-to 7 \"an empty list\"")]
pub(crate) struct Send {
    /// Who sends; a name first seen joins the team
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) from: String,
    /// Whom it is for
    #[arg(long, value_name = "NAME")]
    pub(crate) to: String,
    /// note, help, handoff or reply
    #[arg(long, default_value = "note", value_parser = value::message_kind)]
    pub(crate) kind: MessageKind,
    /// The task it is about
    #[arg(long, value_name = "ID")]
    pub(crate) task: Option<TaskId>,
    /// The message it answers
    #[arg(long, value_name = "ID")]
    pub(crate) reply_to: Option<MessageId>,
    /// The words
    #[arg(value_parser = value::words)]
    pub(crate) text: String,
}

/// Shows an agent's unread messages and marks them as read
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate inbox me
  quorate inbox me --all --json")]
pub(crate) struct Inbox {
    /// Whose inbox
    pub(crate) name: String,
    /// Shows read ones too, and marks none
    #[arg(long)]
    pub(crate) all: bool,
    /// Shows unread ones and leaves them unread
    #[arg(long, conflicts_with = "all")]
    pub(crate) peek: bool,
}
