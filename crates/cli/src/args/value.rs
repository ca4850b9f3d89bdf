//! Values as they are typed.
//!
//! Here live the parsers that clap calls, so that what reaches a command is sound. What needs the project's folder
//! (names of resources) is read later, in `place`.

use quorate_model::config::{DURATION_LEAST_MS, Driver, LEASE_LEAST_MS};
use quorate_model::priority::Priority;
use quorate_model::{Error, EventKind, MemoryKind, Result, TaskState, at, duration, name, nearest};
use quorate_service::message::MessageKind;

/// Folds the hint into the message: clap shows only one text.
fn one_text<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| match error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message,
    })
}

fn at_least(text: &str, least_ms: i64) -> Result<i64> {
    let ms = duration::parse(text)?;
    if ms >= least_ms {
        return Ok(ms);
    }
    Err(Error::invalid(format!("the duration is shorter than {}", duration::short(least_ms))))
}

/// A duration of at least 100 ms, in milliseconds.
pub(crate) fn time_span(text: &str) -> Result<i64, String> {
    one_text(at_least(text, DURATION_LEAST_MS))
}

/// How long a lease lasts: at least 1 s, in milliseconds.
pub(crate) fn lease(text: &str) -> Result<i64, String> {
    one_text(at_least(text, LEASE_LEAST_MS))
}

/// How long to wait: any duration, in milliseconds.
pub(crate) fn wait(text: &str) -> Result<i64, String> {
    one_text(duration::parse(text))
}

/// A number of dollars above nothing, in millionths.
pub(crate) fn usd(text: &str) -> Result<i64, String> {
    one_text(quorate_model::budget::parse_usd(text))
}

/// The name of an agent of the team.
pub(crate) fn agent(text: &str) -> Result<String, String> {
    one_text(name::check_agent(text).map(|()| text.to_owned()))
}

/// A name that is given to an agent.
pub(crate) fn new_agent(text: &str) -> Result<String, String> {
    one_text(name::check_name("agent", text).map(|()| text.to_owned()))
}

/// The name of a capability; `*` is every one.
pub(crate) fn capability(text: &str) -> Result<String, String> {
    match text {
        "*" => Ok(text.to_owned()),
        _ => one_text(name::check_name("capability", text).map(|()| text.to_owned())),
    }
}

/// The longest name of a tmux session, in characters.
const SESSION_MAX: usize = 64;

/// The name of a tmux session, of letters that mean nothing else to tmux.
pub(crate) fn session(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= SESSION_MAX && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!("use 1 to {SESSION_MAX} of the characters A-Z a-z 0-9 _ - and begin with a letter or digit"))
}

/// The key of a task.
pub(crate) fn key(text: &str) -> Result<String, String> {
    one_text(name::check_key(text).map(|()| text.to_owned()))
}

/// How urgent a task is.
pub(crate) fn priority(text: &str) -> Result<Priority, String> {
    one_text(text.parse())
}

/// How an agent is run.
pub(crate) fn driver(text: &str) -> Result<Driver, String> {
    one_text(text.parse())
}

/// What a message is.
pub(crate) fn message_kind(text: &str) -> Result<MessageKind, String> {
    one_text(text.parse())
}

/// What a memory is.
pub(crate) fn memory_kind(text: &str) -> Result<MemoryKind, String> {
    one_text(text.parse())
}

/// When a task is due: a time, or a while from now.
pub(crate) fn due(text: &str) -> Result<at::At, String> {
    one_text(at::At::parse(text))
}

/// Since when: a time, or a while ago.
pub(crate) fn since(text: &str) -> Result<at::At, String> {
    at::At::parse(text).map_err(|_| {
        "write a time with offset such as `2026-01-31T06:00:00Z`, or how long ago, as in `10m`".into()
    })
}

/// A kind of event, `noun.verb`.
pub(crate) fn event_kind(text: &str) -> Result<EventKind, String> {
    let known = EventKind::ALL.iter().copied().find(|kind| kind.as_str() == text);
    known.ok_or_else(|| unknown("no kind of event", text, EventKind::ALL.iter().map(|kind| kind.as_str())))
}

/// A task's state.
pub(crate) fn task_state(text: &str) -> Result<TaskState, String> {
    text.parse()
        .map_err(|_: Error| unknown("no state", text, TaskState::ALL.iter().map(|state| state.as_str())))
}

fn unknown<'a>(what: &str, text: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(text, known.clone()) {
        Some(near) => format!("{what}; did you mean `{near}`?"),
        None => format!("{what}; known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// A line that says what a task is about.
pub(crate) fn title(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the title is empty".into());
    }
    if text.chars().any(char::is_control) {
        return Err("a title is one line without control characters; put more into --prompt".into());
    }
    if text.chars().count() > quorate_model::plan::TITLE_MAX {
        return Err(format!("a title has at most {} characters", quorate_model::plan::TITLE_MAX));
    }
    Ok(text.to_owned())
}

/// A text with at least one word.
pub(crate) fn words(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("the text is empty".into()) } else { Ok(text.to_owned()) }
}

/// Splits lists at commas, except at those inside braces and brackets: `src/{a,b}.rs,docs` is two names.
pub(crate) fn split_names(lists: &[String]) -> Vec<String> {
    lists.iter().flat_map(|list| split_one(list)).collect()
}

fn split_one(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut name) = (0_usize, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                continue;
            }
            _ => {}
        }
        name.push(c);
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_commas_outside_of_braces() {
        let check = |list: &str, expected: &[&str]| assert_eq!(split_names(&[list.to_owned()]), expected);
        check("a,b", &["a", "b"]);
        check("src/{a,b}.rs,docs", &["src/{a,b}.rs", "docs"]);
        check("x[,]y,", &["x[,]y"]);
        check("", &[]);
    }

    #[test]
    fn durations_below_their_least_are_refused() {
        assert_eq!(time_span("100ms"), Ok(100));
        assert!(time_span("99ms").unwrap_err().contains("shorter than 100ms"));
        assert_eq!(lease("1s"), Ok(1000));
        assert!(lease("999ms").is_err());
        assert_eq!(wait("0s"), Ok(0));
    }

    #[test]
    fn an_unknown_kind_names_the_nearest() {
        assert!(event_kind("task.complete").unwrap_err().contains("did you mean `task.completed`?"));
        assert!(task_state("redy").unwrap_err().contains("did you mean `ready`?"));
        assert!(event_kind("x").unwrap_err().contains("known are task.added"));
    }

    #[test]
    fn a_title_is_one_line() {
        assert_eq!(title(" a "), Ok("a".into()));
        for wrong in ["", "  ", "a\nb", &"x".repeat(1001)] {
            assert!(title(wrong).is_err(), "{wrong:?}");
        }
    }
}
