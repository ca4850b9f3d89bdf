//! The pump: reads what a child writes, for as long as anyone can write it, and never makes it wait for anybody else.
//!
//! Here live reading, the writing of the log and the handing on of messages. What is kept is decided in
//! [`crate::keep`].
//!
//! Neither a slow receiver of messages nor a full disk holds up the reading: messages wait in a bounded queue, and a
//! log that cannot be written is left at what it has.

use crate::control::Pulse;
use crate::keep::{Keeper, Stream};
use crate::log::Log;
use crate::message::Message;
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

/// How much is read at once, in bytes. No line within one read is longer than what is kept of a line.
const READ: usize = 64 << 10;
const _: () = assert!(READ <= crate::lines::MAX_LINE);

/// Reads the output of one child.
#[derive(Debug)]
pub(crate) struct Pump {
    pub out: Source,
    pub err: Source,
    pub keeper: Keeper,
    pub pulse: Pulse,
    /// `None` while a write is under way.
    pub log: Option<Log>,
}

/// What the pump leaves at its end.
#[derive(Debug)]
pub(crate) struct Pumped {
    pub keeper: Keeper,
    pub log_bytes: u64,
    pub log_error: Option<String>,
}

/// One stream, until its end.
#[derive(Debug)]
pub(crate) struct Source {
    pipe: Option<Receiver>,
    buffer: Vec<u8>,
}

enum Event {
    Read(Stream, io::Result<usize>),
    /// A receiver has room for a message; `None`: nobody listens any more.
    Room(Option<mpsc::OwnedPermit<Message>>),
    Cut,
}

impl Source {
    pub(crate) fn new(pipe: Receiver) -> Source {
        Source { pipe: Some(pipe), buffer: Vec::new() }
    }

    /// Waits for the next bytes; for ever after the end.
    async fn read(&mut self) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        self.buffer.clear();
        self.buffer.reserve(READ);
        pipe.take(READ as u64).read_buf(&mut self.buffer).await
    }
}

impl Pump {
    /// Pumps until both streams have ended, or until `cut` is fired or dropped.
    pub(crate) async fn run(
        mut self,
        messages: mpsc::Sender<Message>,
        mut cut: oneshot::Receiver<()>,
    ) -> Pumped {
        let mut listener = Some(messages);
        while self.out.pipe.is_some() || self.err.pipe.is_some() {
            let waiting = listener.clone().filter(|_| self.keeper.has_messages());
            let event = tokio::select! {
                read = self.out.read() => Event::Read(Stream::Out, read),
                read = self.err.read() => Event::Read(Stream::Err, read),
                room = room(waiting) => Event::Room(room),
                _ = &mut cut => Event::Cut,
            };
            match event {
                Event::Read(stream, read) => self.took(stream, read.unwrap_or(0)).await,
                Event::Room(Some(room)) => self.tell(room),
                Event::Room(None) => listener = None,
                Event::Cut => break,
            }
        }
        self.finish(listener).await
    }

    async fn took(&mut self, stream: Stream, length: usize) {
        let source = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        if length == 0 {
            source.pipe = None;
            self.keeper.end(stream);
        } else {
            self.pulse.beat();
            self.keeper.feed(stream, &source.buffer);
        }
        self.write_log().await;
    }

    fn tell(&mut self, room: mpsc::OwnedPermit<Message>) {
        if let Some(message) = self.keeper.next_message() {
            room.send(message);
        }
    }

    /// Writes on a thread where a slow disk makes nobody wait but this child.
    async fn write_log(&mut self) {
        let text = self.keeper.take_log();
        if text.is_empty() {
            return;
        }
        if let Some(mut log) = self.log.take() {
            let written = spawn_blocking(move || {
                log.write(&text);
                log
            });
            self.log = written.await.ok();
        }
    }

    async fn finish(mut self, listener: Option<mpsc::Sender<Message>>) -> Pumped {
        self.keeper.finish();
        self.write_log().await;
        while let Some(Ok(room)) =
            listener.as_ref().filter(|_| self.keeper.has_messages()).map(|l| l.clone().try_reserve_owned())
        {
            self.tell(room);
        }
        let (log_bytes, log_error) = match self.log {
            Some(log) => (log.bytes, log.error),
            None => (0, Some("the program was ending".to_owned())),
        };
        Pumped { keeper: self.keeper, log_bytes, log_error }
    }
}

/// Waits for room at the receiver of messages; for ever without one.
async fn room(listener: Option<mpsc::Sender<Message>>) -> Option<mpsc::OwnedPermit<Message>> {
    match listener {
        Some(listener) => listener.reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}
