//! The fake agent: a real child process that behaves as its script says, without a model, a key or a network.
//!
//! Here lives the script, a few words that are read from the task's prompt: each line is a step, and a line that
//! begins with `attempt N:` holds only for that attempt. The demo and the tests use it; people can try a plan with it
//! before they pay for a model.
//!
//! ```text
//! say reading the notes
//! work 800ms
//! attempt 1: die
//! write notes.md The summary
//! result {"words": 2}
//! ```

use quorate_model::{Error, Result, duration};
use std::io::Write;
use std::time::Duration;

/// One step of a script.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Prints a line.
    Say(String),
    /// Works for so many milliseconds, with progress.
    Work(i64),
    /// Is silent for so many milliseconds: no output, no progress.
    Rest(i64),
    /// Says, as progress, what it was told of the attempt before.
    Recall,
    /// Writes a file: its path, then its text.
    Write(String, String),
    /// Gives a result.
    Result(serde_json::Value),
    /// Ends without success, with these words.
    Fail(String),
    /// Does nothing for ever.
    Hang,
    /// Ends itself with SIGKILL, as a crash would.
    Die,
}

/// Reads the script in a task's prompt, as it stands for the attempt with this number.
///
/// # Errors
/// `Invalid` for a line that is no step.
pub fn script(prompt: &str, attempt: i64) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for line in prompt.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix("attempt ").and_then(|rest| rest.split_once(':')) {
            Some((number, step)) if number.trim().parse() == Ok(attempt) => steps.push(read(step.trim())?),
            Some(_) => {}
            None => steps.push(read(line)?),
        }
    }
    Ok(steps)
}

fn read(line: &str) -> Result<Step> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let unknown = || {
        Error::invalid(format!("`{line}` is no step of the fake agent")).hint(
            "say TEXT, work 500ms, rest 2s, recall, write FILE TEXT, result JSON, fail WHY, hang or die",
        )
    };
    Ok(match word {
        "say" => Step::Say(rest.to_owned()),
        "work" => Step::Work(duration::parse(rest)?),
        "rest" => Step::Rest(duration::parse(rest)?),
        "recall" => Step::Recall,
        "write" => {
            let (file, text) = rest.split_once(' ').ok_or_else(unknown)?;
            Step::Write(file.to_owned(), text.to_owned())
        }
        "result" => Step::Result(serde_json::from_str(rest).map_err(|_| unknown())?),
        "fail" => Step::Fail(rest.to_owned()),
        "hang" => Step::Hang,
        "die" => Step::Die,
        _ => return Err(unknown()),
    })
}

/// How many times progress is reported during one `work`.
const BEATS: i64 = 5;

/// Does what the task document says, writing to `out` as a command agent does; answers with the exit code.
///
/// # Errors
/// `Invalid` for a document that is no task, `Failed` when a file or the output cannot be written.
pub fn run(document: &str, out: &mut dyn Write) -> Result<u8> {
    let task: serde_json::Value = serde_json::from_str(document)
        .map_err(|e| Error::invalid(format!("the task on standard input is no JSON: {e}")))?;
    let prompt = task["prompt"].as_str().unwrap_or_default();
    let attempt = task["attempt"].as_i64().unwrap_or(1);
    for step in script(prompt, attempt)? {
        if let Some(code) = perform(&step, &task, out)? {
            return Ok(code);
        }
    }
    Ok(0)
}

/// Performs one step; answers with the exit code if the agent ends here.
fn perform(step: &Step, task: &serde_json::Value, out: &mut dyn Write) -> Result<Option<u8>> {
    match step {
        Step::Say(text) => line(out, text)?,
        Step::Work(ms) => work(*ms, out)?,
        Step::Rest(ms) => std::thread::sleep(Duration::from_millis(u64::try_from(*ms).unwrap_or(0))),
        Step::Recall => recall(task, out)?,
        Step::Write(file, text) => std::fs::write(file, format!("{text}\n"))
            .map_err(|e| Error::failed(format!("cannot write {file}: {e}")))?,
        Step::Result(value) => {
            line(out, &serde_json::json!({ "quorate": "result", "value": value }).to_string())?
        }
        Step::Fail(why) => {
            line(out, why)?;
            return Ok(Some(1));
        }
        Step::Hang => loop {
            std::thread::park();
        },
        Step::Die => die()?,
    }
    Ok(None)
}

fn recall(task: &serde_json::Value, out: &mut dyn Write) -> Result<()> {
    let last = task["previous_attempts"].as_array().and_then(|list| list.last()).cloned().unwrap_or_default();
    let words = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
    let said = format!("was told of attempt {} by {}: {}", last["attempt"], words("agent"), words("reason"));
    line(out, &serde_json::json!({ "quorate": "progress", "percent": 0, "message": said }).to_string())
}

fn work(ms: i64, out: &mut dyn Write) -> Result<()> {
    for beat in 1..=BEATS {
        std::thread::sleep(Duration::from_millis(u64::try_from(ms / BEATS).unwrap_or(0)));
        let percent = beat * 100 / BEATS;
        line(out, &serde_json::json!({ "quorate": "progress", "percent": percent }).to_string())?;
    }
    Ok(())
}

fn die() -> Result<()> {
    let pid = std::process::id().to_string();
    let ended = std::process::Command::new("kill").args(["-KILL", &pid]).status();
    Err(Error::failed(format!("could not end itself: {ended:?}")))
}

fn line(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|e| Error::failed(format!("cannot write: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_differs_by_attempt() {
        let text = "say hello\nattempt 1: die\n  attempt 2: result {\"n\": 1}\nwork 500ms";
        let first = [Step::Say("hello".into()), Step::Die, Step::Work(500)];
        assert_eq!(script(text, 1).unwrap(), first);
        let second =
            [Step::Say("hello".into()), Step::Result(serde_json::json!({ "n": 1 })), Step::Work(500)];
        assert_eq!(script(text, 2).unwrap(), second);
    }

    #[test]
    fn a_line_that_is_no_step_is_refused_with_the_steps_there_are() {
        let error = script("dance", 1).expect_err("refused");
        assert!(error.message.contains("dance") && error.hint.unwrap().contains("hang or die"));
    }

    #[test]
    fn it_speaks_as_a_command_agent_does() {
        let mut out = Vec::new();
        let document = r#"{"prompt": "say hi\nresult 7\nfail not today", "attempt": 1}"#;
        assert_eq!(run(document, &mut out).unwrap(), 1);
        assert_eq!(String::from_utf8(out).unwrap(), "hi\n{\"quorate\":\"result\",\"value\":7}\nnot today\n");
    }
}
