//! Server-sent events, from bytes to the JSON of each event.
//!
//! Here lives the cutting, in bounded memory. All four providers send one JSON text per event; the event's name stands
//! in it too, where it matters.

use serde_json::Value;

/// The largest event that is read, in bytes.
const EVENT_MAX: usize = 8 << 20;
/// The largest stream of one answer that is read, in bytes.
const ANSWER_MAX: usize = 32 << 20;

/// Cuts one stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: String,
    read: usize,
}

impl Events {
    /// Takes the next bytes and returns what became whole.
    ///
    /// # Errors
    /// In words, when an event, or the whole stream, is larger than any that is read.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Value>, String> {
        self.read += bytes.len();
        if self.read > ANSWER_MAX {
            return Err(format!("the model's service sent an answer of more than {ANSWER_MAX} bytes"));
        }
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() > EVENT_MAX {
                return Err(format!("the model's service sent an event of more than {EVENT_MAX} bytes"));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])));
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Value> {
        if line.is_empty() {
            // What is no JSON is a mark of the end.
            return serde_json::from_str(&std::mem::take(&mut self.data)).ok();
        }
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_whole_however_their_bytes_come() {
        let text = "event: a\ndata: {\"n\":1}\n\n: ping\n\ndata: {\"n\":\ndata: 2}\r\n\r\ndata: [DONE]\n\n";
        let expected = [json!({ "n": 1 }), json!({ "n": 2 })];
        for size in 1..text.len() {
            let mut events = Events::default();
            let found: Vec<Value> =
                text.as_bytes().chunks(size).flat_map(|part| events.feed(part).unwrap()).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_that_is_too_large_is_refused() {
        let mut events = Events::default();
        events.feed(b"data: ").unwrap();
        let piece = [b'x'; 1 << 10];
        let fits = (EVENT_MAX - 6) / piece.len();
        (0..fits).for_each(|_| drop(events.feed(&piece).unwrap()));
        assert!(events.feed(&piece).is_err());
    }
    #[test]
    fn an_answer_that_is_too_large_is_refused() {
        let mut events = Events::default();
        let event = format!("data: \"{}\"\n\n", "x".repeat((1 << 20) - 10));
        let whole = ANSWER_MAX / event.len();
        (0..whole).for_each(|_| assert_eq!(events.feed(event.as_bytes()).unwrap().len(), 1));
        assert!(events.feed(&event.as_bytes()[..=ANSWER_MAX - whole * event.len()]).is_err());
    }
}
