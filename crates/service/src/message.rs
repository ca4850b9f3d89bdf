//! Messages: agent to agent or person.
//!
//! Here live sending and the inbox. The sender is set by the door, never by the text; unread stays unread until
//! it was shown.

use crate::agent;
use quorate_model::{Error, Event, EventKind, MessageId, Result, RunId, TaskId};
use quorate_store::{Boxed, Read, Row, Sql, Tx, Write, args};

/// The longest text of a message, in bytes.
pub const TEXT_MAX: usize = 64 * 1024;
/// Messages fetched at once, and read at once where all are looked at.
pub const INBOX_MAX: i64 = 1_000;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// For information.
    Note,
    /// The sender needs help.
    Help,
    /// The sender hands work over.
    Handoff,
    /// An answer.
    Reply,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: [MessageKind; 4] =
        [MessageKind::Note, MessageKind::Help, MessageKind::Handoff, MessageKind::Reply];

    /// Returns the stable name, as stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            MessageKind::Note => "note",
            MessageKind::Help => "help",
            MessageKind::Handoff => "handoff",
            MessageKind::Reply => "reply",
        }
    }

    fn parse(text: &str) -> Result<MessageKind> {
        MessageKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            Error::invalid(format!("`{text}` is no kind of message")).hint("note, help, handoff or reply")
        })
    }
}

impl std::str::FromStr for MessageKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<MessageKind> {
        MessageKind::parse(text)
    }
}

/// A message as it is stored.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Who sent it.
    pub from: String,
    /// Whom it is for.
    pub to: String,
    /// What it is.
    pub kind: MessageKind,
    /// The text.
    pub text: String,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// When it was sent, milliseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it was first shown to its recipient.
    pub read_at: Option<i64>,
}

macro_rules! message_columns {
    () => {
        "id, sender, recipient, kind, text, task_id, reply_to, created_at, read_at"
    };
}
pub(crate) use message_columns;

pub(crate) fn from_row(row: &Row<'_>) -> Result<Message> {
    Ok(Message {
        id: MessageId(row.int("id")?),
        from: row.text("sender")?,
        to: row.text("recipient")?,
        kind: MessageKind::parse(&row.text("kind")?)?,
        text: row.text("text")?,
        task: row.opt_int("task_id")?.map(TaskId),
        reply_to: row.opt_int("reply_to")?.map(MessageId),
        created_at: row.int("created_at")?,
        read_at: row.opt_int("read_at")?,
    })
}

/// Sends a message; answers with its id.
#[derive(Debug, Clone)]
pub struct Send {
    /// Who sends it.
    pub from: String,
    /// Whom it is for; must be in the team.
    pub to: String,
    /// What it is.
    pub kind: MessageKind,
    /// The text.
    pub text: String,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
}

impl Write for Send {
    type Answer = MessageId;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, MessageId> {
        Box::pin(async move {
            if self.text.len() > TEXT_MAX {
                return Err(Error::invalid(format!(
                    "the text has {} bytes, more than {TEXT_MAX}",
                    self.text.len()
                ))
                .hint("put it into a file and send its path"));
            }
            agent::must_exist(tx, Some(&self.to)).await?;
            let mut run = None;
            if let Some(task) = self.task {
                let sql = "select run_id from tasks where id = $1";
                let found = tx.one(sql, args![task], |row| Ok(row.opt_int("run_id")?.map(RunId))).await?;
                run = found.ok_or_else(|| crate::task::unknown(task))?;
            }
            if let Some(id) = self.reply_to {
                let found =
                    tx.one("select id from messages where id = $1", args![id], |row| row.int("id")).await?;
                found.ok_or_else(|| {
                    Error::not_found(format!("no message {id} to reply to"))
                        .hint(format!("`quorate inbox {} --all` shows what can be replied to", self.from))
                })?;
            }
            let sql = "insert into messages (sender, recipient, kind, text, task_id, reply_to, created_at)
                       values ($1, $2, $3, $4, $5, $6, now_ms()) returning id";
            let args = args![&self.from, &self.to, self.kind.as_str(), &self.text, self.task, self.reply_to];
            let id =
                MessageId(tx.one(sql, args, |row| row.int("id")).await?.expect("an insert returns its row"));
            let message = format!("{} to {} ({})", self.from, self.to, self.kind.as_str());
            let event = Event::new(EventKind::MessageSent, message).agent(&self.from);
            let data = serde_json::json!({ "id": id.0, "to": self.to, "kind": self.kind.as_str() });
            tx.record(match self.task {
                Some(task) => event.task(task).run(run).data(data),
                None => event.data(data),
            });
            Ok(id)
        })
    }
}

/// Shows unread messages and marks them as read, in the order in which they came; at most [`INBOX_MAX`] of them.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Whose inbox.
    pub agent: String,
    /// How much text in all at most, in bytes; the first message is shown whatever its length.
    pub bytes: i64,
}

macro_rules! fetch {
    ($length:literal) => {
        concat!(
            "update messages set read_at = now_ms() where read_at is null and id in
               (select id from (select id, length, sum(length) over (order by id) as in_all
                                  from (select id, ",
            $length,
            " as length from messages where recipient = $1 and read_at is null order by id limit $2) unread) summed
                 where in_all <= $3 or in_all = length) returning ",
            message_columns!()
        )
    };
}

const FETCH: Sql = Sql::Each { lite: fetch!("length(cast(text as blob))"), pg: fetch!("octet_length(text)") };

impl Write for Fetch {
    type Answer = Vec<Message>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Message>> {
        Box::pin(async move {
            agent::must_exist(tx, Some(&self.agent)).await?;
            let mut messages = tx.all(FETCH, args![&self.agent, INBOX_MAX, self.bytes], from_row).await?;
            messages.sort_by_key(|message| message.id);
            Ok(messages)
        })
    }
}

/// Shows messages without marking them, however many there are, in the order in which they came: unread ones, or all.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Whose inbox.
    pub agent: String,
    /// Whether read ones are shown too.
    pub all: bool,
}

impl Read for Inbox {
    type Answer = Vec<Message>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Message>> {
        Box::pin(async move {
            let sql = "select name from agents where name = $1 and removed = 0";
            if tx.one(sql, args![&self.agent], |row| row.text("name")).await?.is_none() {
                return Err(agent::unknown(tx, &self.agent).await?);
            }
            let sql = concat!(
                "select ",
                message_columns!(),
                " from messages
                  where recipient = $1 and id > $2 and ($3 = 1 or read_at is null) order by id limit $4"
            );
            // Page by page: texts are long, and a database answers each question within its time or not at all.
            let mut messages = Vec::<Message>::new();
            loop {
                let seen = messages.last().map_or(MessageId(0), |message| message.id);
                let page = tx.all(sql, args![&self.agent, seen, self.all, INBOX_MAX], from_row).await?;
                let is_last = (page.len() as i64) < INBOX_MAX;
                messages.extend(page);
                if is_last {
                    return Ok(messages);
                }
            }
        })
    }
}

/// Counts the unread messages of an agent; nobody has any who is not known.
#[derive(Debug, Clone)]
pub struct Unread {
    /// Whose inbox.
    pub agent: String,
}

impl Read for Unread {
    type Answer = usize;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, usize> {
        Box::pin(async move {
            let sql = "select count(*) as n from messages where recipient = $1 and read_at is null";
            let count = tx.one(sql, args![&self.agent], |row| row.int("n")).await?;
            Ok(count.and_then(|n| usize::try_from(n).ok()).unwrap_or_default())
        })
    }
}
