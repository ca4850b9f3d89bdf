//! Who asks.
//!
//! Here lives what each caller may do in whose name. How a caller is recognised is the business of `guard`.

use quorate_model::diagnostic::quote;
use quorate_model::name::check_agent;
use quorate_model::{Error, Kind, Result};
use quorate_service::task::Task;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A person at this machine, or one with the person's token: may do everything.
    Person,
    /// The agent to whom the token was given: acts in its own name, on its own tasks and claims.
    Agent(String),
}

impl Caller {
    /// Returns the name in which it acts: its own; a person says which.
    ///
    /// # Errors
    /// `Refused` for another's name, `Invalid` for what is no name or without one.
    pub(crate) fn acts_as(&self, named: Option<String>) -> Result<String> {
        match (self, named) {
            (Caller::Agent(own), None) => Ok(own.clone()),
            (Caller::Agent(own), Some(name)) if *own == name => Ok(name),
            (Caller::Agent(own), Some(name)) => Err(Error::new(
                Kind::Refused,
                format!("this token is {}'s, it cannot speak for {}", own, quote(&name)),
            )
            .hint("leave out the name, or use that agent's token")),
            (Caller::Person, Some(name)) => check_agent(&name).map(|()| name),
            (Caller::Person, None) => Err(Error::invalid("which agent? `agent` is missing")
                .hint("an agent's own token (QUORATE_TOKEN) says it by itself")),
        }
    }

    /// Refuses an agent.
    ///
    /// # Errors
    /// `Refused`.
    pub(crate) fn must_be_person(&self, what: &str) -> Result<()> {
        match self {
            Caller::Person => Ok(()),
            Caller::Agent(own) => {
                Err(Error::new(Kind::Refused, format!("{own} is an agent: it may not {what}"))
                    .hint("ask a person: `quorate send --kind help`"))
            }
        }
    }

    /// Refuses an agent that speaks about a task that another has, or had last.
    ///
    /// # Errors
    /// `Refused`.
    pub(crate) fn must_own(&self, task: &Task) -> Result<()> {
        match self {
            Caller::Agent(own) if task.owner.as_ref() != Some(own) => {
                let owner = task.owner.as_deref().unwrap_or("nobody");
                Err(Error::new(Kind::Refused, format!("task {} is {owner}'s, not {own}'s", task.named()))
                    .hint("`next_task` gives you one of your own"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an agent that speaks about an attempt of another's.
    ///
    /// # Errors
    /// `Refused`.
    pub(crate) fn must_speak_of(&self, agent: &str) -> Result<()> {
        match self {
            Caller::Agent(own) if own != agent => {
                Err(Error::new(Kind::Refused, format!("that attempt was {agent}'s, not {own}'s"))
                    .hint("say what your own attempt has used"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the agent's name.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Caller::Person => None,
            Caller::Agent(own) => Some(own.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_speaks_for_itself_alone() {
        let ada = Caller::Agent("ada".into());
        assert_eq!(ada.acts_as(None), Ok("ada".into()));
        assert_eq!(ada.acts_as(Some("ada".into())), Ok("ada".into()));
        assert_eq!(ada.acts_as(Some("eve".into())).expect_err("another's").kind, Kind::Refused);
        assert_eq!(ada.must_be_person("pause agents").expect_err("an agent").kind, Kind::Refused);
        assert_eq!(Caller::Person.acts_as(Some("eve".into())), Ok("eve".into()));
        assert_eq!(Caller::Person.acts_as(Some("no name".into())).expect_err("no name").kind, Kind::Invalid);
        assert_eq!(Caller::Person.acts_as(None).expect_err("nobody").kind, Kind::Invalid);
        assert_eq!(Caller::Person.must_be_person("anything"), Ok(()));
    }
}
