//! What may be called what: the letters and lengths of names.
//!
//! Here live the rules for the names of agents and capabilities and for the keys of tasks. Names of resources
//! have their own grammar in [`crate::resource`].

use crate::diagnostic::quote;
use crate::error::{Error, Result};

/// The longest name of an agent or capability, in characters.
pub const NAME_MAX: usize = 64;

/// The most digits that the number of a node has.
pub const NODE_MAX: usize = 19;

/// The longest key of a task, in characters.
pub const KEY_MAX: usize = 128;

/// Checks the name of an agent or capability; `what` says which, for the message.
///
/// # Errors
///
/// `Invalid` unless it is 1 to [`NAME_MAX`] of `A-Z a-z 0-9 . _ -` and begins with a letter or digit.
pub fn check_name(what: &str, text: &str) -> Result<()> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= NAME_MAX && text.chars().all(is_name_char) {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} {} is not a name", quote(text))).hint(format!(
        "use 1 to {NAME_MAX} of the characters A-Z a-z 0-9 . _ - and begin with a letter or digit"
    )))
}

/// Checks the name by which an agent of the team is called: its own, or `NAME@NODE`, as a node calls it while another has the
/// name.
///
/// ```
/// use quorate_model::name::check_agent;
/// assert!(check_agent("ada").is_ok() && check_agent("ada@7").is_ok());
/// assert!(check_agent("ada@home").is_err());
/// ```
///
/// # Errors
///
/// `Invalid` where what stands before the `@` is no name, or what stands behind it no number.
pub fn check_agent(text: &str) -> Result<()> {
    check_name("agent", member(text))
}

/// Returns the name of the member of the team that an agent is: of `NAME@NODE`, as a node calls it while another has the name,
/// it is `NAME`.
///
/// ```
/// use quorate_model::name::member;
/// assert_eq!((member("ada@7"), member("ada"), member("ada@home")), ("ada", "ada", "ada@home"));
/// ```
pub fn member(agent: &str) -> &str {
    match agent.split_once('@') {
        Some((name, node)) if is_node(node) => name,
        _ => agent,
    }
}

fn is_node(text: &str) -> bool {
    (1..=NODE_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Checks the key of a task.
///
/// # Errors
///
/// `Invalid` unless it is 1 to [`KEY_MAX`] of `A-Z a-z 0-9 . _ -`.
pub fn check_key(text: &str) -> Result<()> {
    if !text.is_empty() && text.len() <= KEY_MAX && text.chars().all(is_name_char) {
        return Ok(());
    }
    Err(Error::invalid(format!("the key {} is not usable", quote(text)))
        .hint(format!("use 1 to {KEY_MAX} of the characters A-Z a-z 0-9 . _ -")))
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Returns words as a key: lower case, runs of other characters become one `-`; empty if nothing is left.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if slug.len() >= SLUG_MAX {
            break;
        }
        match c {
            c if c.is_ascii_alphanumeric() => slug.push(c.to_ascii_lowercase()),
            '.' | '_' if !slug.is_empty() => slug.push(c),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.trim_end_matches(['-', '.', '_']).to_string()
}

/// The longest slug, in characters: short enough to read in a table, and to take a number behind it.
const SLUG_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_plain_characters_are_accepted_up_to_the_limit() {
        for name in ["a", "alpha", "9", "validation-1", "a.b_c-d", &"x".repeat(NAME_MAX)] {
            assert_eq!(check_name("agent", name), Ok(()));
        }
    }

    #[test]
    fn odd_names_are_refused() {
        for name in ["", "-a", ".a", "a b", "ä", "a/b", "a\n", &"x".repeat(NAME_MAX + 1)] {
            assert!(check_name("agent", name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_agent_may_be_called_after_its_node() {
        let longest = format!("{}@{}", "x".repeat(NAME_MAX), i64::MAX);
        for name in ["a", "planner-1@7", &longest] {
            assert_eq!(check_agent(name), Ok(()), "{name}");
        }
        for name in ["", "@7", "a@", "a@b", "a@7@8", "-a@7", "a@-1", &format!("{longest}0")] {
            assert!(check_agent(name).is_err(), "{name:?}");
        }
        assert!(check_name("agent", "a@7").is_err(), "nobody is given such a name by hand");
    }

    #[test]
    fn keys_are_checked_at_the_limit() {
        assert_eq!(check_key(&"k".repeat(KEY_MAX)), Ok(()));
        assert_eq!(check_key("-k"), Ok(()));
        for key in ["", "a b", "a:b", &"k".repeat(KEY_MAX + 1)] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn slugs_are_keys() {
        for (title, expected) in [
            ("Clippy, warnings are errors", "clippy-warnings-are-errors"),
            ("  v1.2 — ready? ", "v1.2-ready"),
            ("整理", ""),
            ("...", ""),
        ] {
            assert_eq!(slug(title), expected);
        }
        assert!(slug(&"word ".repeat(100)).len() <= SLUG_MAX);
    }
}
