//! How an agent does its work.
//!
//! Here lives the description of the child for one attempt, by the agent's kind. Limits and environment come from the
//! agent's table in `quorate.toml`.

use crate::assignment::Assignment;
use crate::settings::Settings;
use quorate_model::{Error, Result};
use quorate_process::{Command, Limits, Mask};
use std::time::Duration;

/// By what means an agent works.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// Only the task's own command, by `sh -c`: the built-in shell agents.
    Shell,
    /// The task's own command, or else this program with its arguments.
    Command(Vec<String>),
    /// The task's own command, or else `quorate drive`, which runs a real agent.
    Drive {
        /// The driver's name.
        driver: &'static str,
        /// The settings of the agent's table.
        settings: Box<Settings>,
    },
}

/// An agent's means, environment and limits.
#[derive(Debug, Clone)]
pub struct Worker {
    /// By what means.
    pub how: How,
    /// Variables of its table, and those of ours that it passes on.
    pub env: Vec<(String, String)>,
    /// What its children may use.
    pub limits: Limits,
    /// How long a child has between TERM and KILL.
    pub grace: Duration,
}

impl Worker {
    /// Describes the child for one attempt.
    ///
    /// # Errors
    /// `Invalid` when the agent has no means for this task.
    pub fn command(&self, assignment: &Assignment) -> Result<Command> {
        let (dir, log) = (&assignment.dir, &assignment.log);
        let mut command = match (&assignment.run, &self.how) {
            (Some(text), _) => Command::shell(text, dir, log),
            (None, How::Command(words)) if !words.is_empty() => {
                let mut command = Command::new(&words[0], dir, log);
                command.args = words[1..].iter().map(Into::into).collect();
                command
            }
            (None, How::Drive { driver, settings }) => {
                let state = &assignment.state;
                // The folder it works in may be another than the project's, where its role is.
                let project = state.parent().unwrap_or(dir);
                let prompt = settings.prompt.as_ref().map(|file| project.join(file));
                let settings = Settings { state: state.clone(), prompt, ..(**settings).clone() };
                let mut command = Command::new(&assignment.program, dir, log);
                let words = ["drive", "--driver", driver, "--settings", &settings.word()];
                command.args = words.map(Into::into).to_vec();
                command
            }
            (None, _) => {
                return Err(Error::invalid(format!(
                    "agent `{}` has no command for a task without `run`",
                    assignment.agent
                ))
                .hint("give its table in quorate.toml a `command`, or the task a `run`"));
            }
        };
        command.stdin = assignment.document.clone().into_bytes();
        command.timeout = Some(assignment.timeout);
        self.equip(&mut command, assignment);
        Ok(command)
    }

    /// Describes the child that runs a task's check.
    pub fn check(&self, verify: &str, assignment: &Assignment) -> Command {
        let mut command = Command::shell(verify, &assignment.dir, &assignment.log);
        command.timeout = Some(assignment.timeout);
        self.equip(&mut command, assignment);
        command
    }

    /// Returns whether the child would be the agent's own process, whose death counts against the agent.
    pub fn is_own_process(&self, assignment: &Assignment) -> bool {
        assignment.run.is_none() && self.how != How::Shell
    }

    /// Returns whether the child would be `quorate drive` with a real agent.
    pub fn is_driven(&self, assignment: &Assignment) -> bool {
        assignment.run.is_none() && matches!(self.how, How::Drive { .. })
    }

    fn equip(&self, command: &mut Command, assignment: &Assignment) {
        command.env = assignment.env();
        command.env.extend(self.env.iter().cloned());
        command.marker = assignment.marker();
        command.limits = self.limits;
        command.grace = self.grace;
        // What is secret in our own environment must not appear in kept output either, however a child got hold of it.
        let ours = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        command.mask = Mask::from_env(ours);
    }
}
