//! Messages: agent to agent or person. The sender is who calls.

use super::tool::{Tool, Turn};
use crate::ask::Ask;
use crate::http::message::MessageSend;
use quorate_model::Result;
use quorate_service::message as service;
use quorate_service::wire;
use schemars::JsonSchema;
use serde::Deserialize;

/// Text of one look into the inbox, in bytes: what a client cuts off would be read and never shown.
const INBOX_BYTES: i64 = 16 * 1024;

/// Sends a message
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    /// Whom it is for: an agent's or a person's name
    to: String,
    /// The text
    text: String,
    /// note, help, handoff or reply; note if not said
    kind: Option<String>,
    /// The task it is about
    task_id: Option<i64>,
    /// The id of the message it answers
    reply_to: Option<i64>,
    /// Your name, if you have no token
    from: Option<String>,
}

impl Tool for Send {
    const NAME: &'static str = "send";
    const ABOUT: &'static str = "Sends a message to another agent or a person: a note, a call for help, a handoff or a reply. It waits \
in the inbox until it is read.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let to = self.to.clone();
        let asked = MessageSend {
            from: Some(turn.acts_as(self.from)?),
            to: self.to,
            kind: self.kind,
            text: self.text,
            task_id: self.task_id,
            reply_to: self.reply_to,
        };
        let id = asked.answer(&turn.desk, &turn.caller).await?.id;
        Ok(format!("message {id} is in the inbox of {to}"))
    }
}

/// Reads the inbox
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Inbox {
    /// Your name, if you have no token
    agent: Option<String>,
}

impl Tool for Inbox {
    const NAME: &'static str = "inbox";
    const ABOUT: &'static str = "Shows your unread messages, the oldest first, and marks them as read; if there are more than fit, \
call it again. Answer with `send` and `reply_to`.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let agent = turn.acts_as(self.agent)?;
        turn.desk.seen(&agent).await?;
        let store = turn.desk.store();
        let messages = store.write(service::Fetch { agent: agent.clone(), bytes: INBOX_BYTES }).await?;
        if messages.is_empty() {
            return Ok("no unread messages".into());
        }
        let mut lines: Vec<String> = messages.iter().map(shown).collect();
        // Only a hint, as long as what is read is shown.
        let left = store.read(service::Unread { agent }).await.unwrap_or(0);
        if left > 0 {
            lines.push(format!("{left} more: call `inbox` again"));
        }
        Ok(lines.join("\n"))
    }
}

fn shown(message: &service::Message) -> String {
    let wire::Message { id, from, kind, text, task_id, created_at, .. } = message.into();
    let about = task_id.map_or_else(String::new, |task| format!(" about task {task}"));
    let at = created_at.unwrap_or_default();
    format!("{id}: {kind} from {from}{about}, {at}: {text}")
}
