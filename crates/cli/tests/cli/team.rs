//! A project, and a tmux server of its own, which is asked and typed into as a person does.

use crate::door::{Door, texts};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A project, and a tmux server of its own that ends with it.
pub struct Team {
    pub door: Door,
    /// Variables beside those of every test.
    pub env: Vec<(&'static str, OsString)>,
}

impl Team {
    pub fn new() -> Team {
        Team { door: Door::lite(), env: Vec::new() }
    }

    fn socket(&self) -> PathBuf {
        self.door.path().join("tmux")
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.door.command(words);
        command
            .env("QUORATE_TMUX_SOCKET", self.socket())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .envs(self.env.iter().cloned());
        command
    }

    pub fn quorate(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.quorate(words);
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "quorate {words:?}\n{out}{err}");
        out
    }

    /// What must fail with this code; answers with what it said.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.quorate(words);
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "quorate {words:?}\n{out}{err}");
        err
    }

    pub fn tmux(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.socket()).arg("-f/dev/null").args(words).stdin(Stdio::null());
        command.output().expect("tmux is installed")
    }

    #[track_caller]
    pub fn asked(&self, words: &[&str]) -> String {
        let output = self.tmux(words);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "tmux {words:?}: {err}");
        out
    }

    /// What stands in a pane.
    pub fn seen(&self, pane: &str) -> String {
        self.asked(&["capture-pane", "-p", "-t", pane])
    }

    #[track_caller]
    pub fn sees(&self, pane: &str, words: &[&str]) {
        self.door.eventually(&format!("{words:?} in {pane}"), |_| {
            let seen = self.seen(pane);
            words.iter().all(|word| seen.contains(word)).then_some(())
        });
    }

    pub fn keys(&self, pane: &str, keys: &[&str]) {
        for key in keys {
            self.asked(&["send-keys", "-t", pane, key]);
        }
    }

    /// Windows by name, with how many panes they have.
    pub fn windows(&self) -> Vec<(String, usize)> {
        let listed = self.asked(&["list-windows", "-t", "=team", "-F", "#{window_name} #{window_panes}"]);
        let window = |line: &str| {
            let (name, panes) = line.rsplit_once(' ').expect("two words");
            (name.to_owned(), panes.parse().expect("a number"))
        };
        listed.lines().map(window).collect()
    }

    pub fn pane_of(&self, title: &str) -> String {
        let listed = self.asked(&["list-panes", "-s", "-t", "=team", "-F", "#{pane_id} #{pane_title}"]);
        let found = listed.lines().find_map(|line| line.strip_suffix(&format!(" {title}")));
        found.unwrap_or_else(|| panic!("no pane of {title} in\n{listed}")).to_owned()
    }

    pub fn is_there(&self) -> bool {
        self.tmux(&["has-session", "-t", "=team"]).status.success()
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        // Nodes end in order before their terminal goes.
        let _ = self.quorate(&["down"]);
        let _ = self.tmux(&["kill-server"]);
    }
}
