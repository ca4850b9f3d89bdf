//! The place of one storm: a folder, a configuration with short leases, a database of its own.
//!
//! Here lives what all its processes share. The ledger's address is this storm's alone, so a process that has it in
//! its environment was started by this storm: that is how children are found, never by name.

use crate::Outcome;
use crate::ledger::Ledger;
use crate::plan::{CHECK, WORK, plan};
use crate::seed::Chance;
use quorate_testkit::server::Server;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The lease of everything in a storm, in milliseconds.
pub const LEASE_MS: u64 = 2_000;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// SQLite.
    Lite,
    /// PostgreSQL.
    Pg,
}

impl Backend {
    /// Returns the name for people.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Lite => "sqlite",
            Backend::Pg => "postgres",
        }
    }
}

/// Where a storm takes place.
#[derive(Debug)]
pub struct Arena {
    folder: TempDir,
    program: PathBuf,
    url: String,
    /// None on SQLite.
    pub server: Option<Server>,
}

/// How the address of a file begins.
const LITE: &str = "sqlite:";

const CONFIG: &str = "[health]\ninterval = \"500ms\"\nlease = \"2s\"\nretry_after = \"100ms\"\ngrace = \"500ms\"\n\
                      timeout = \"60s\"\nmax_attempts = 60\nmax_respawns = 1000\n";

/// What a storm works with.
fn files(chance: &mut Chance, tasks: usize) -> [(&'static str, String); 4] {
    [
        ("quorate.toml", CONFIG.to_owned()),
        ("work.sh", WORK.to_owned()),
        ("check.sh", CHECK.to_owned()),
        ("plan.toml", plan(chance, tasks, LEASE_MS)),
    ]
}

impl Arena {
    /// Makes the folder, the database and the plan.
    pub fn make(backend: Backend, program: &Path, chance: &mut Chance, tasks: usize) -> Outcome<Arena> {
        Arena::with(backend, program, &files(chance, tasks))
    }

    /// Makes the folder with these files, and the database.
    pub fn with(backend: Backend, program: &Path, files: &[(&str, impl AsRef<str>)]) -> Outcome<Arena> {
        let server = (backend == Backend::Pg).then(Server::start).transpose()?;
        let url = server.as_ref().map(Server::url);
        let arena = Arena::around(url, program, files)?;
        Ok(Arena { server, ..arena })
    }

    /// Makes the folder and the plan for the ledger at an address; without one it is a file in the folder.
    pub fn at(url: Option<String>, program: &Path, chance: &mut Chance, tasks: usize) -> Outcome<Arena> {
        Arena::around(url.as_deref(), program, &files(chance, tasks))
    }

    /// Makes the folder with other files, for a ledger at an address that is known; without one, for a file in it.
    pub fn around(url: Option<&str>, program: &Path, files: &[(&str, impl AsRef<str>)]) -> Outcome<Arena> {
        let folder = tempfile::Builder::new().prefix("quorate-fire-").tempdir().map_err(said)?;
        let file = || format!("{LITE}{}", folder.path().join("ledger.db").display());
        let url = url.map_or_else(file, str::to_owned);
        for name in ["out", "logs"] {
            std::fs::create_dir(folder.path().join(name)).map_err(said)?;
        }
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text.as_ref()).map_err(said)?;
        }
        Ok(Arena { folder, program: program.to_owned(), url, server: None })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder behind, to be looked at, and returns where it is.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Returns the ledger's address, as it stands in the environment of every child.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a reader of the ledger.
    pub fn ledger(&self) -> Outcome<Ledger> {
        match self.url.strip_prefix(LITE) {
            Some(path) => Ok(Ledger::lite(path.into())),
            None => Ledger::pg(&self.url),
        }
    }

    /// Returns the program with these words, in the folder, with nothing of our environment but the PATH.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
        command.env("QUORATE_STORE", &self.url);
        command
    }

    /// Runs the program to its end and returns what it printed.
    pub fn run(&self, words: &[&str]) -> Outcome<String> {
        let output = self.command(words).output().map_err(|e| self.unrunnable(&e))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!("quorate {}: {}: {}", words.join(" "), output.status, text(&output.stderr))),
        }
    }

    /// Says that the program could not be started.
    pub fn unrunnable(&self, error: &std::io::Error) -> String {
        format!("cannot run {}: {error}", self.program.display())
    }
}

fn said(error: std::io::Error) -> String {
    format!("cannot prepare the storm's folder: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::config::Config;

    #[test]
    fn the_configuration_is_sound_and_its_lease_is_the_storms() {
        let config = Config::parse("quorate.toml", CONFIG.as_bytes()).expect("it is sound");
        assert_eq!(config.health.lease_ms, LEASE_MS as i64);
    }
}
