//! What a child is given: one attempt at one task.
//!
//! Here lives the environment that `docs/guides/command-agents.md` promises. The JSON document on standard input is
//! made by the caller, who knows its shape.

use std::path::PathBuf;
use std::time::Duration;

/// The address in commits of agents; the name is the agent's.
pub const COMMIT_EMAIL: &str = "quorate";

/// One attempt at one task, as its child sees it.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The task's id.
    pub task_id: i64,
    /// The term under which it is held.
    pub term: i64,
    /// The agent's name.
    pub agent: String,
    /// The run it serves.
    pub run_id: Option<i64>,
    /// The attempt's number.
    pub attempt: i64,
    /// The task's own command.
    pub run: Option<String>,
    /// The task as one JSON document, for standard input.
    pub document: String,
    /// How long the attempt may take.
    pub timeout: Duration,
    /// The folder it works in.
    pub dir: PathBuf,
    /// Whether the folder is a worktree of the task's own: what is committed in it is then the agent's.
    pub is_own_worktree: bool,
    /// The ledger's address, for `quorate` called by the child.
    pub store: String,
    /// The file that keeps its output.
    pub log: PathBuf,
    /// The project's folder of state.
    pub state: PathBuf,
    /// The `quorate` program; its folder is added to the child's PATH.
    pub program: PathBuf,
    /// Where its node is asked over the network, and the token of its agent.
    pub door: Option<(String, String)>,
}

impl Assignment {
    /// Returns the variables by which every descendant of the child is known.
    pub fn marker(&self) -> Vec<(String, String)> {
        vec![
            ("QUORATE_TASK_ID".into(), self.task_id.to_string()),
            ("QUORATE_TERM".into(), self.term.to_string()),
            ("QUORATE_STORE".into(), self.store.clone()),
        ]
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("QUORATE_AGENT".to_owned(), self.agent.clone()),
            ("QUORATE_ATTEMPT".to_owned(), self.attempt.to_string()),
            ("QUORATE_DIR".to_owned(), self.dir.display().to_string()),
        ];
        if let Some(run) = self.run_id {
            env.push(("QUORATE_RUN_ID".to_owned(), run.to_string()));
        }
        if let Some((url, token)) = &self.door {
            env.push(("QUORATE_URL".to_owned(), url.clone()));
            env.push(("QUORATE_TOKEN".to_owned(), token.clone()));
        }
        if self.is_own_worktree {
            // Without a name git refuses to commit, and on a server nobody may have given it one.
            let who = [("NAME", self.agent.as_str()), ("EMAIL", COMMIT_EMAIL)];
            let each = who.into_iter().flat_map(|(what, value)| {
                ["AUTHOR", "COMMITTER"].map(|role| (format!("GIT_{role}_{what}"), value.to_owned()))
            });
            env.extend(each);
        }
        if let Some(path) = self.path() {
            env.push(("PATH".to_owned(), path));
        }
        env
    }

    fn program_dir(&self) -> Option<PathBuf> {
        self.program.parent().filter(|folder| folder.is_absolute()).map(PathBuf::from)
    }

    /// The child's PATH: ours, and `quorate` itself behind it, so that it never hides another program.
    fn path(&self) -> Option<String> {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&own).chain(self.program_dir());
        std::env::join_paths(folders).ok()?.into_string().ok()
    }
}
