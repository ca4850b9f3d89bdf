//! What is kept of a child's output: the decisions, without any reading or writing.
//!
//! Here live the limits of the log, the notes about what is missing, and the sorting of lines into text and messages.
//! Bytes come from [`crate::output`], which also writes what is decided here.

use crate::lines::{Lines, MAX_LINE, Piece};
use crate::log::MAX_LOG;
use crate::mask::Mask;
use crate::message::{self, Message};
use crate::tail::{LOG_TAIL, Tail};
use quorate_model::usage::{MODELS_MAX, Parked, Used};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of the log is filled from the beginning; the rest is for the note and the last lines.
const HEAD: usize = MAX_LOG - LOG_TAIL - 1024;
/// How many messages wait for a receiver that is slow. Progress replaces progress, a result a result, and what was used of
/// a model what was used before; what comes when the queue is full is lost to the receiver, but the last result, the last
/// word of each model and that of being parked are kept in any case.
const MAX_WAITING: usize = 64;
/// How many findings wait with one word of progress; with more, the next word of progress is one of its own.
const MAX_FINDINGS_WAITING: usize = 64;

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// The tail of a child that still runs, shared with those who look at it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedTail(Arc<Mutex<Tail>>);

impl SharedTail {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last word of a child on what counts.
#[derive(Debug, Default)]
pub(crate) struct Word {
    /// The last result.
    pub result: Option<Value>,
    /// What was used of each model, as it was last said.
    pub used: Vec<Used>,
    /// That it cannot go on, as it was last said; a result takes that back.
    pub parked: Option<Parked>,
}

/// The last word, shared with whoever tells how the child ended: what was read counts whatever became of its reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedWord(Arc<Mutex<Word>>);

impl SharedWord {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Word> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts output into log, tail and messages.
#[derive(Debug)]
pub(crate) struct Keeper {
    mask: Mask,
    out: Lines,
    err: Lines,
    tail: SharedTail,
    /// What is to be written to the log next.
    log: String,
    /// How much more the log takes before it is full.
    room: usize,
    full: bool,
    waiting: VecDeque<Message>,
    word: SharedWord,
    /// Bytes of output that are not in the log.
    pub dropped: u64,
}

impl Keeper {
    pub(crate) fn new(mask: Mask, tail: SharedTail, word: SharedWord) -> Keeper {
        Keeper {
            mask,
            out: Lines::new(true),
            err: Lines::new(false),
            tail,
            log: String::new(),
            room: HEAD,
            full: false,
            waiting: VecDeque::new(),
            word,
            dropped: 0,
        }
    }

    /// Takes the next bytes of a stream.
    pub(crate) fn feed(&mut self, stream: Stream, bytes: &[u8]) {
        self.with_lines(stream, |lines, keeper| lines.feed(bytes, |piece| keeper.piece(stream, piece)));
    }

    /// Takes the end of a stream: a line that has begun is one.
    pub(crate) fn end(&mut self, stream: Stream) {
        self.with_lines(stream, |lines, keeper| lines.flush(|piece| keeper.piece(stream, piece)));
    }

    /// Takes the end of everything: a full log gets its note and the last lines.
    pub(crate) fn finish(&mut self) {
        self.end(Stream::Out);
        self.end(Stream::Err);
        if self.full {
            let last = self.tail.lock().for_log(&self.mask);
            self.dropped = self.dropped.saturating_sub(last.len() as u64);
            self.log.push_str(&format!(
                "[quorate: the log is full; {} bytes left out; the last lines:]\n",
                self.dropped
            ));
            self.log.push_str(&last);
        }
    }

    /// Returns how much is to be written to the log, in bytes.
    pub(crate) fn log_waiting(&self) -> usize {
        self.log.len()
    }

    /// Returns what is to be written to the log.
    pub(crate) fn take_log(&mut self) -> String {
        mem::take(&mut self.log)
    }

    /// Returns the next message that waits.
    pub(crate) fn next_message(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }

    pub(crate) fn has_messages(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn with_lines(&mut self, stream: Stream, f: impl FnOnce(&mut Lines, &mut Keeper)) {
        let mut lines = mem::take(self.lines(stream));
        f(&mut lines, self);
        *self.lines(stream) = lines;
    }

    fn lines(&mut self, stream: Stream) -> &mut Lines {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    fn piece(&mut self, stream: Stream, piece: Piece) {
        match piece {
            Piece::Block(bytes) => self.block(stream, &clean(bytes)),
            Piece::Line(bytes, dropped) => self.line(stream, &clean(bytes), dropped),
        }
    }

    /// Keeps whole lines, together if there is no message among them.
    fn block(&mut self, stream: Stream, text: &str) {
        if stream == Stream::Out && text.contains("\"quorate\"") {
            text.split_inclusive('\n').for_each(|line| self.line(stream, line.trim_end_matches('\n'), 0));
        } else if self.full {
            self.dropped += text.len() as u64;
            self.tail.lock().push(text);
        } else {
            let masked = self.mask.text(text).into_owned();
            self.tail.lock().push(&masked);
            self.log_lines(&masked);
        }
    }

    /// Keeps one line, as a message or as text. Good messages are in the log for people, but not in the tail: what
    /// they say is in the ledger already.
    fn line(&mut self, stream: Stream, line: &str, dropped: u64) {
        let message = (stream == Stream::Out).then(|| message::parse(line, dropped == 0)).flatten();
        let message = message.map(|message| self.within_models(message.masked(&self.mask)));
        let is_text = matches!(message, None | Some(Message::Bad(_) | Message::BadResult(_)));
        let text = self.short(line, dropped);
        if is_text {
            self.tail.lock().push(&text);
        }
        self.log_lines(&text);
        message.into_iter().for_each(|message| self.say(message));
    }

    /// Returns what is kept of a line: masked, 64 KiB, and how much is missing.
    fn short(&mut self, line: &str, dropped: u64) -> String {
        let mut text = self.mask.cut(line, MAX_LINE);
        let over = line.len().saturating_sub(MAX_LINE) as u64 + dropped;
        if over > 0 {
            self.dropped += over;
            text.push_str(&format!("[quorate: {over} more bytes of this line left out]"));
        }
        text.push('\n');
        text
    }

    /// Puts whole lines into the log, as many as there is room for.
    fn log_lines(&mut self, lines: &str) {
        let fits = match lines.len() <= self.room && !self.full {
            true => lines.len(),
            false if self.full => 0,
            false => lines[..crate::mask::floor(lines, self.room)].rfind('\n').map_or(0, |n| n + 1),
        };
        self.log.push_str(&lines[..fits]);
        self.room -= fits;
        self.full |= fits < lines.len();
        self.dropped += (lines.len() - fits) as u64;
    }

    /// Lets no attempt use more models than are kept.
    fn within_models(&self, message: Message) -> Message {
        let word = self.word.lock();
        match message {
            Message::Usage(used)
                if word.used.len() >= MODELS_MAX && !word.used.iter().any(|u| u.model == used.model) =>
            {
                Message::Bad(format!(
                    "more than {MODELS_MAX} models are used; those of one more are not counted"
                ))
            }
            other => other,
        }
    }

    fn say(&mut self, message: Message) {
        self.note(&message);
        let message = match self.waiting.iter().position(|earlier| is_replaced(earlier, &message)) {
            Some(place) => with_findings_of(self.waiting.remove(place), message),
            None => message,
        };
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(message);
        }
    }

    /// Keeps what must not be lost.
    fn note(&self, message: &Message) {
        let mut word = self.word.lock();
        match message {
            Message::Result(value) => {
                word.result = Some(value.clone());
                word.parked = None;
            }
            Message::Parked(parked) => word.parked = Some(parked.clone()),
            Message::Usage(used) => match word.used.iter_mut().find(|known| known.model == used.model) {
                Some(known) => *known = used.clone(),
                None => word.used.push(used.clone()),
            },
            Message::Progress { .. } | Message::Bad(_) | Message::BadResult(_) => {}
        }
    }
}

/// Returns whether nobody need hear of a message that waits, now that there is a later one.
fn is_replaced(earlier: &Message, later: &Message) -> bool {
    match (earlier, later) {
        (Message::Progress { findings, .. }, Message::Progress { findings: more, .. }) => {
            findings.len() + more.len() <= MAX_FINDINGS_WAITING
        }
        (Message::Usage(earlier), Message::Usage(later)) => earlier.model == later.model,
        (Message::Result(_), Message::Result(_)) | (Message::Parked(_), Message::Parked(_)) => true,
        _ => false,
    }
}

/// Adds the findings of progress that is replaced to those of what replaces it.
fn with_findings_of(earlier: Option<Message>, later: Message) -> Message {
    match (earlier, later) {
        (
            Some(Message::Progress { findings: mut all, .. }),
            Message::Progress { percent, message, findings },
        ) => {
            all.extend(findings);
            Message::Progress { percent, message, findings: all }
        }
        (_, later) => later,
    }
}

/// Makes text of bytes. A NUL is replaced as well: no database keeps it in a text.
fn clean(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Kept {
        keeper: Keeper,
        log: String,
    }

    impl Kept {
        fn new() -> Kept {
            let mask = Mask::from_env([("KEY", "hunter22")]);
            let keeper = Keeper::new(mask, SharedTail::default(), SharedWord::default());
            Kept { keeper, log: String::new() }
        }

        fn out(mut self, text: impl AsRef<[u8]>) -> Kept {
            self.keeper.feed(Stream::Out, text.as_ref());
            self.log += &self.keeper.take_log();
            self
        }

        fn err(mut self, text: &str) -> Kept {
            self.keeper.feed(Stream::Err, text.as_bytes());
            self
        }

        fn finish(mut self) -> Kept {
            self.keeper.finish();
            self.log += &self.keeper.take_log();
            self
        }

        fn tail(&self) -> String {
            self.keeper.tail.lock().for_ledger(&self.keeper.mask)
        }

        fn word(&self) -> MutexGuard<'_, Word> {
            self.keeper.word.lock()
        }

        fn messages(&mut self) -> Vec<Message> {
            std::iter::from_fn(|| self.keeper.next_message()).collect()
        }
    }

    #[test]
    fn lines_of_both_streams_are_kept_whole() {
        let kept = Kept::new().out("one ").err("two\nthr").out("more\n").err("ee").finish();
        assert_eq!(kept.log, "two\none more\nthree\n");
        assert_eq!(kept.tail(), "two\none more\nthree");
    }

    #[test]
    fn a_secret_that_arrives_in_two_pieces_is_masked() {
        let kept = Kept::new().out("a hunt").out("er22 b\nhunter22\nhunter").out("22").finish();
        assert_eq!(kept.log, "a *** b\n***\n***\n");
        assert_eq!(kept.tail(), "a *** b\n***\n***");
    }

    #[test]
    fn a_secret_at_the_cut_of_a_line_is_masked() {
        for before in MAX_LINE - 10..MAX_LINE + 2 {
            let kept = Kept::new().out("x".repeat(before)).out("hunter22").out("y".repeat(100_000)).finish();
            assert!(!kept.log.contains("hu"), "{before}");
        }
    }

    #[test]
    fn what_is_left_out_of_a_long_line_is_counted() {
        let kept = Kept::new().out("x".repeat(MAX_LINE)).out("\n").finish();
        assert_eq!((kept.log.len(), kept.keeper.dropped), (MAX_LINE + 1, 0));
        let kept = Kept::new().out("x".repeat(MAX_LINE + 1)).out("\n").finish();
        assert!(kept.log.ends_with("x[quorate: 1 more bytes of this line left out]\n"));
        assert_eq!(kept.keeper.dropped, 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(Kept::new().out(b"a\xffb\0c\n").finish().log, "a\u{fffd}b\u{fffd}c\n");
    }

    #[test]
    fn messages_are_told_masked_and_not_in_the_tail() {
        let mut kept = Kept::new()
            .out("hello\n{\"quorate\":\"progress\",\"message\":\"uses hunter22\"}\n")
            .out("{\"quorate\":\"result\",\"value\":[\"hunter22\"]}\n{\"quorate\":\"x\"}\n")
            .finish();
        let progress =
            Message::Progress { percent: None, message: Some("uses ***".into()), findings: Vec::new() };
        let bad = "unknown message `x`; expected `progress`, `result`, `usage` or `parked`";
        let said = [progress, Message::Result(json!(["***"])), Message::Bad(bad.into())];
        assert_eq!(kept.messages(), said);
        assert_eq!(kept.word().result, Some(json!(["***"])));
        assert_eq!(kept.tail(), "hello\n{\"quorate\":\"x\"}");
        assert!(kept.log.contains("***") && !kept.log.contains("hunter"));
    }

    #[test]
    fn messages_on_standard_error_are_text() {
        let mut kept = Kept::new().err("{\"quorate\":\"result\",\"value\":1}\n").finish();
        assert_eq!((kept.messages(), kept.word().result.clone()), (vec![], None));
        assert_eq!(kept.tail(), "{\"quorate\":\"result\",\"value\":1}");
    }

    #[test]
    fn a_result_longer_than_a_line_still_counts() {
        let text = "x".repeat(1_000_000);
        let kept =
            Kept::new().out(format!("{{\"quorate\":\"result\",\"value\":\"{text}")).out("\"}\n").finish();
        assert_eq!(kept.word().result, Some(json!(text)));
        assert!(kept.log.len() < MAX_LINE + 100);
    }

    #[test]
    fn messages_that_wait_are_bounded_and_the_latest_progress_is_among_them() {
        let mut kept = Kept::new();
        for n in 0..1000 {
            kept = kept.out(format!("{{\"quorate\":\"progress\",\"percent\":{}}}\n", n % 100));
        }
        let latest = Message::Progress { percent: Some(99), message: None, findings: Vec::new() };
        assert_eq!(kept.messages(), [latest]);
        for _ in 0..1000 {
            kept = kept.out("{\"quorate\":1}\n");
        }
        assert_eq!(kept.messages().len(), MAX_WAITING);
    }

    fn usage(model: &str, output: i64) -> String {
        format!("{{\"quorate\":\"usage\",\"model\":\"{model}\",\"output_tokens\":{output}}}\n")
    }

    #[test]
    fn the_last_usage_of_each_model_counts_however_slow_the_receiver() {
        let mut kept = Kept::new();
        for n in 0..1000 {
            kept = kept.out(usage("a", n)).out(usage("b", 2 * n)).out("{\"quorate\":\"progress\"}\n");
        }
        assert_eq!(kept.messages().len(), 3);
        for _ in 0..1000 {
            kept = kept.out("{\"quorate\":1}\n");
        }
        kept = kept.out(usage("a", 7_000));
        assert!(
            !kept.messages().iter().any(|message| matches!(message, Message::Usage(_))),
            "the queue was full"
        );
        let used: Vec<_> = kept.word().used.iter().map(|u| (u.model.clone(), u.tokens.output)).collect();
        assert_eq!(used, [("a".to_owned(), 7_000), ("b".to_owned(), 1_998)]);
    }

    #[test]
    fn sixteen_models_are_counted_and_one_more_is_text() {
        let mut kept = Kept::new();
        for n in 0..=MODELS_MAX {
            kept = kept.out(usage(&format!("m{n}"), 1));
        }
        kept = kept.out(usage("m0", 5));
        let first = kept.word().used[0].tokens.output;
        assert_eq!((kept.word().used.len(), first), (MODELS_MAX, 5));
        assert!(kept.tail().contains("m16") && !kept.tail().contains("m15"), "{}", kept.tail());
        assert!(kept.messages().iter().any(|m| matches!(m, Message::Bad(why) if why.contains("16 models"))));
    }

    #[test]
    fn a_result_takes_back_that_it_cannot_go_on() {
        let parked = "{\"quorate\":\"parked\",\"reason\":\"limit of hunter22\"}\n";
        let kept = Kept::new().out(parked);
        let reason = kept.word().parked.as_ref().map(|parked| parked.reason.clone());
        assert_eq!(reason.as_deref(), Some("limit of ***"));
        let kept = kept.out("{\"quorate\":\"result\",\"value\":1}\n");
        assert_eq!(kept.word().parked, None);
        assert!(kept.out(parked).word().parked.is_some(), "the last word counts");
    }

    #[test]
    fn findings_wait_with_later_progress_and_none_is_lost_on_the_way() {
        let mut kept = Kept::new();
        for n in 0..100 {
            kept = kept.out(format!("{{\"quorate\":\"progress\",\"findings\":[\"f{n}\"]}}\n"));
        }
        let lists: Vec<Vec<String>> = kept
            .messages()
            .into_iter()
            .filter_map(|message| match message {
                Message::Progress { findings, .. } => Some(findings),
                _ => None,
            })
            .collect();
        assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_FINDINGS_WAITING, 36]);
        assert_eq!(lists.concat(), (0..100).map(|n| format!("f{n}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_is_bounded_and_ends_with_the_last_lines() {
        let mut kept = Kept::new();
        let block = "a line of output with hunter22 in it\n".repeat(1000);
        while kept.log.len() + block.len() < HEAD {
            kept = kept.out(&block);
        }
        assert_eq!(kept.keeper.dropped, 0);
        for _ in 0..100 {
            kept = kept.out(&block);
        }
        let kept = kept.out("the end\n").finish();
        assert!(kept.log.len() <= MAX_LOG, "{}", kept.log.len());
        assert!(kept.log.ends_with("in it\nthe end\n") && !kept.log.contains("hunter22"));
        let note = kept.log.lines().find(|l| l.starts_with("[quorate: the log is full; ")).unwrap();
        assert!(note.contains(&kept.keeper.dropped.to_string()), "{note}");
    }
}
