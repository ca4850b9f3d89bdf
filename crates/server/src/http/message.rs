//! Messages: agent to agent or person. The sender is who asks.

use super::{agent_of, field, words_of};
use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::Desk;
use crate::grammar::one_of;
use axum::http::Method;
use quorate_model::{MessageId, Result, TaskId};
use quorate_service::message::{Inbox, MessageKind, Send};
use quorate_service::wire::{self, shapes};
use schemars::JsonSchema;
use serde::Deserialize;

/// A message
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageSend {
    /// Who sends it; an agent's own token says it by itself
    pub(crate) from: Option<String>,
    /// Whom it is for
    pub(crate) to: String,
    /// note, help, handoff or reply; note if not said
    #[schemars(extend("pattern" = one_of(MessageKind::ALL.map(MessageKind::as_str))))]
    pub(crate) kind: Option<String>,
    /// The text
    pub(crate) text: String,
    /// The task it is about
    pub(crate) task_id: Option<i64>,
    /// The message it answers
    pub(crate) reply_to: Option<i64>,
}

impl Ask for MessageSend {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/messages";
    const NAME: &'static str = "send";
    const ABOUT: &'static str = "Sends a message";
    type Answer = super::Id;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<super::Id> {
        let text = words_of("text", self.text)?;
        let kind = self.kind.map(|kind| field("kind", kind.parse::<MessageKind>())).transpose()?;
        let to = agent_of("to", self.to)?;
        let from = by.acts_as(self.from)?;
        desk.seen(&from).await?;
        desk.add_configured(&to).await?;
        let send = Send {
            from,
            to,
            kind: kind.unwrap_or(MessageKind::Note),
            text,
            task: self.task_id.map(TaskId),
            reply_to: self.reply_to.map(MessageId),
        };
        Ok(super::Id { id: desk.store().write(send).await?.0 })
    }
}

/// Looks into an inbox
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InboxShow {
    /// Whose
    name: String,
    /// Also what was read before
    #[serde(default)]
    all: bool,
}

impl Ask for InboxShow {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/agents/{name}/inbox";
    const NAME: &'static str = "showInbox";
    const ABOUT: &'static str = "Shows an agent's messages and leaves them unread";
    type Answer = Vec<wire::Message>;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Vec<wire::Message>> {
        let agent = by.acts_as(Some(self.name))?;
        desk.add_configured(&agent).await?;
        Ok(shapes(&desk.store().read(Inbox { agent, all: self.all }).await?))
    }
}

/// Reads an inbox
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InboxFetch {
    /// Whose
    name: String,
}

impl Ask for InboxFetch {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/agents/{name}/inbox";
    const NAME: &'static str = "readInbox";
    const ABOUT: &'static str = "Shows an agent's unread messages and marks them as read";
    type Answer = Vec<wire::Message>;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Vec<wire::Message>> {
        let agent = by.acts_as(Some(self.name))?;
        desk.seen(&agent).await?;
        Ok(shapes(&desk.fetch(&agent).await?))
    }
}
