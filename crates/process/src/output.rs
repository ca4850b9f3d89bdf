//! The pump: reads what a child writes, for as long as anyone can write it, and never makes it wait for anybody else.
//!
//! Here live reading, the handing over to the log and the handing on of messages. What is kept is decided in
//! [`crate::keep`], how the log is written in [`crate::pen`].
//!
//! Neither a slow receiver of messages nor a slow or full disk holds up the reading: messages wait in a bounded queue, a
//! log that cannot be written is left at what it has, and what waits for a slow disk waits here, up to [`WAITING_MAX`].
//! What a child said is read, and counts, before its log is whole: the disk may be the last to know.

use crate::control::Pulse;
use crate::keep::{Keeper, Stream};
use crate::message::Message;
use crate::pen::{Pen, Written};
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// How much is read at once, in bytes. No line within one read is longer than what is kept of a line.
const READ: usize = 64 << 10;
const _: () = assert!(READ <= crate::lines::MAX_LINE);
/// How much may wait for the disk before the reading waits too, in bytes.
const WAITING_MAX: usize = 1 << 20;
/// How much of what lies in a pipe is read when nobody waits for more, in bytes: more than a pipe holds, unless somebody
/// goes on filling it.
const REST_MAX: usize = 1 << 20;
/// How long the log may take once the pump is cut.
pub(crate) const LOG_WAIT: Duration = Duration::from_secs(1);

/// Reads the output of one child.
#[derive(Debug)]
pub(crate) struct Pump {
    pub out: Source,
    pub err: Source,
    pub keeper: Keeper,
    pub pulse: Pulse,
    pub pen: Pen,
}

/// What the pump leaves at its end.
#[derive(Debug)]
pub(crate) struct Pumped {
    /// Bytes of output that are not in the log.
    pub dropped: u64,
    pub written: Written,
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
    /// The disk is free for the next piece of the log.
    Written,
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

    /// Reads what is there now; nothing at the end too.
    fn read_now(&mut self) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        self.buffer.resize(READ, 0);
        let length = pipe.try_read(&mut self.buffer).unwrap_or(0);
        self.buffer.truncate(length);
        length
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
            let has_room = self.keeper.log_waiting() < WAITING_MAX;
            let event = tokio::select! {
                read = self.out.read(), if has_room => Event::Read(Stream::Out, read),
                read = self.err.read(), if has_room => Event::Read(Stream::Err, read),
                room = room(waiting) => Event::Room(room),
                () = self.pen.rests() => Event::Written,
                _ = &mut cut => Event::Cut,
            };
            match event {
                Event::Read(stream, read) => self.took(stream, read.unwrap_or(0)),
                Event::Room(Some(room)) => self.tell(room),
                Event::Room(None) => listener = None,
                Event::Written => {}
                Event::Cut => {
                    self.take_rest();
                    return self.finish(listener, None).await;
                }
            }
            self.write_log();
        }
        self.finish(listener, Some(cut)).await
    }

    fn source(&mut self, stream: Stream) -> &mut Source {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    fn took(&mut self, stream: Stream, length: usize) {
        if length == 0 {
            self.source(stream).pipe = None;
            self.keeper.end(stream);
            return;
        }
        self.pulse.beat();
        let source = match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        };
        self.keeper.feed(stream, &source.buffer);
    }

    /// Takes what lies in the pipes: a result among it counts although nobody waits for more.
    fn take_rest(&mut self) {
        for stream in [Stream::Out, Stream::Err] {
            let mut taken = 0;
            while taken < REST_MAX {
                let length = self.source(stream).read_now();
                if length == 0 {
                    break;
                }
                self.took(stream, length);
                taken += length;
            }
        }
    }

    fn tell(&mut self, room: mpsc::OwnedPermit<Message>) {
        if let Some(message) = self.keeper.next_message() {
            room.send(message);
        }
    }

    /// Hands over what the log gets next, unless the disk has not taken the last of it.
    fn write_log(&mut self) {
        if self.pen.is_busy() {
            return;
        }
        let text = self.keeper.take_log();
        if !text.is_empty() {
            self.pen.begin(text);
        }
    }

    /// Ends everything; `cut` is none when it has been fired.
    async fn finish(
        mut self,
        listener: Option<mpsc::Sender<Message>>,
        cut: Option<oneshot::Receiver<()>>,
    ) -> Pumped {
        self.keeper.finish();
        while let Some(Ok(room)) =
            listener.as_ref().filter(|_| self.keeper.has_messages()).map(|l| l.clone().try_reserve_owned())
        {
            self.tell(room);
        }
        let rest = self.keeper.take_log();
        // A task of its own: where the disk takes longer than anyone waits, it goes on by itself.
        let ending = tokio::spawn(self.pen.end(rest));
        let written = tokio::select! {
            biased;
            written = ending => written.unwrap_or_else(|_| Written::unknown("the program was ending")),
            () = late(cut) => Written::unknown("it could not be written in time"),
        };
        Pumped { dropped: self.keeper.dropped, written }
    }
}

/// Waits until the log has had its time.
async fn late(cut: Option<oneshot::Receiver<()>>) {
    if let Some(cut) = cut {
        let _ = cut.await;
    }
    sleep(LOG_WAIT).await;
}

/// Waits for room at the receiver of messages; for ever without one.
async fn room(listener: Option<mpsc::Sender<Message>>) -> Option<mpsc::OwnedPermit<Message>> {
    match listener {
        Some(listener) => listener.reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}
