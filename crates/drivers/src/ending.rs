//! What the end of an agent's work says: its result, its failure, or that it has to wait.
//!
//! Here lives the reading of the last message, which is the same for every agent.

use crate::prompt::FAILED;
use crate::say::{Parked, head, short};
use serde_json::Value;

/// The longest last message that is kept as a result, in bytes; the supervisor takes no larger one.
const RESULT_MAX: usize = 512 << 10;
/// The longest reason, in characters.
pub(crate) const REASON_MAX: usize = 400;

/// How an agent's work ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// It says that it is done, with this result.
    Done(Value),
    /// It failed, for this reason.
    Failed(String),
    /// It cannot go on now.
    Parked(Parked),
}

impl Ending {
    pub(crate) fn failed(why: impl AsRef<str>) -> Ending {
        Ending::Failed(reason(why.as_ref(), "it said that it failed, and not why"))
    }

    pub(crate) fn parked(reason: impl AsRef<str>, until: Option<String>) -> Ending {
        Ending::Parked(parked(reason, until))
    }
}

/// Says that an agent has to wait: until a time, or, without one, longer each time, as the ledger decides.
pub(crate) fn parked(reason: impl AsRef<str>, until: Option<String>) -> Parked {
    let reason = self::reason(reason.as_ref(), "its provider makes it wait, and does not say why");
    Parked { reason, until, after_ms: None }
}

/// Returns a reason on one line; where none was said, what is known.
fn reason(said: &str, known: &str) -> String {
    let said = short(said, REASON_MAX);
    if said.is_empty() { known.to_owned() } else { said }
}

/// The last message of an agent, and the result that it gave in other ways.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    given: Option<Value>,
    refused: Option<String>,
    last: String,
}

impl LastWords {
    /// Takes a whole message; answers with what of it is for people. A line that is a result is one.
    pub(crate) fn hear(&mut self, message: &str) -> String {
        let (results, words): (Vec<&str>, Vec<&str>) =
            message.lines().partition(|line| result(line).is_some());
        if let Some(value) = results.last().and_then(|line| result(line)) {
            self.given = Some(value);
        }
        let words = words.join("\n");
        if !words.trim().is_empty() {
            self.last = words.trim().to_owned();
        }
        words
    }

    /// Takes the input of a call of our tool `finish`: a result, or why there is none.
    pub(crate) fn finish(&mut self, input: &Value) {
        // Models fill in what they could leave out.
        self.refused = input["error"].as_str().filter(|why| !why.trim().is_empty()).map(str::to_owned);
        self.given = input.get("result").cloned().or(self.given.take());
    }

    /// Reads what the agent came to.
    pub(crate) fn ending(&self) -> Ending {
        let last_line = self.last.lines().last().unwrap_or_default().trim_start_matches(['*', '`', ' ']);
        if let Some(why) = last_line.strip_prefix(FAILED) {
            return Ending::failed(why.trim_end_matches(['*', '`']));
        }
        if let Some(why) = &self.refused {
            return Ending::failed(why);
        }
        match &self.given {
            Some(value) => Ending::Done(value.clone()),
            None if self.last.is_empty() => Ending::failed("it ended without a word"),
            None => Ending::Done(as_value(&self.last)),
        }
    }
}

fn result(line: &str) -> Option<Value> {
    let line = line.trim();
    if !(line.starts_with('{') && line.contains("\"quorate\"")) {
        return None;
    }
    let mut message: Value = serde_json::from_str(line).ok()?;
    (message["quorate"] == "result").then(|| message["value"].take())
}

/// A message that is an object or a list in JSON is that, also between the fences of Markdown; any other is a text.
fn as_value(message: &str) -> Value {
    let inner =
        message.strip_prefix("```json").and_then(|rest| rest.strip_suffix("```")).unwrap_or(message).trim();
    let value = inner.starts_with(['{', '[']).then(|| serde_json::from_str(inner).ok()).flatten();
    value.unwrap_or_else(|| head(message, RESULT_MAX).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ending(messages: &[&str]) -> Ending {
        let mut words = LastWords::default();
        messages.iter().for_each(|message| drop(words.hear(message)));
        words.ending()
    }

    #[test]
    fn the_last_message_is_the_result() {
        assert_eq!(
            ending(&["looking", "All done.\nTwo files."]),
            Ending::Done("All done.\nTwo files.".into())
        );
        assert_eq!(ending(&["found", ""]), Ending::Done("found".into()));
    }

    #[test]
    fn a_message_that_is_json_is_a_value() {
        assert_eq!(ending(&["{\"a\": [1]}"]), Ending::Done(json!({ "a": [1] })));
        assert_eq!(ending(&["```json\n[1, 2]\n```"]), Ending::Done(json!([1, 2])));
        assert_eq!(ending(&["{not json}"]), Ending::Done("{not json}".into()));
        assert_eq!(ending(&["7"]), Ending::Done("7".into()));
    }

    #[test]
    fn a_result_that_was_given_counts_more_than_the_last_words() {
        let mut words = LastWords::default();
        let shown = words.hear("here:\n{\"quorate\":\"result\",\"value\":{\"n\":1}}");
        assert_eq!(shown, "here:");
        words.hear("That was it.");
        assert_eq!(words.ending(), Ending::Done(json!({ "n": 1 })));
        words.finish(&json!({ "id": 1, "term": 1, "result": 2 }));
        assert_eq!(words.ending(), Ending::Done(json!(2)));
        words.finish(&json!({ "id": 1, "term": 1, "error": "no" }));
        assert_eq!(words.ending(), Ending::Failed("no".into()));
    }

    #[test]
    fn a_last_line_that_says_failed_is_a_failure() {
        assert_eq!(ending(&["I tried.\nFAILED: no such file"]), Ending::Failed("no such file".into()));
        assert_eq!(ending(&["**FAILED: no**"]), Ending::Failed("no".into()));
        assert_eq!(
            ending(&["FAILED: first\nbut then it worked"]),
            Ending::Done("FAILED: first\nbut then it worked".into())
        );
    }

    #[test]
    fn silence_is_a_failure() {
        assert_eq!(ending(&[]), Ending::Failed("it ended without a word".into()));
    }

    #[test]
    fn a_result_is_cut_at_its_limit() {
        let Ending::Done(Value::String(text)) = ending(&["x".repeat(RESULT_MAX + 1).as_str()]) else {
            panic!("it is done")
        };
        assert_eq!(text.len(), RESULT_MAX);
    }

    #[test]
    fn who_knows_no_time_states_none() {
        assert_eq!(parked("limit", None), Parked { reason: "limit".into(), ..Parked::default() });
        assert_eq!(parked("limit", Some("t".into())).until.as_deref(), Some("t"));
    }
}
