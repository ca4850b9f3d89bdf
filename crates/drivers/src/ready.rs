//! Whether an agent could work here at all: its program is there, and its model's key.
//!
//! Here lives that look, for `doctor` and for whoever starts agents. It starts nothing and asks nobody.

use crate::agent::Program;
use crate::settings::Settings;
use crate::worker::{How, Worker};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What is missing, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is missing, as the end of a sentence about the agent: `wants claude, which …`
    pub what: String,
    /// The command or the line that mends it.
    pub mend: String,
    /// Whether it cannot work at all; else it may know another way, and this is a warning.
    pub is_fatal: bool,
}

impl Worker {
    /// Returns what is missing for an agent that works in this folder.
    pub fn missing(&self, dir: &Path) -> Option<Missing> {
        let How::Drive { driver, settings } = &self.how else { return None };
        match Program::of(driver) {
            Some(program) => self.program(program, settings, dir).or_else(|| self.sign_in(program)),
            None => self.key(settings),
        }
        .or_else(|| role(settings, dir))
    }

    fn program(&self, program: Program, settings: &Settings, dir: &Path) -> Option<Missing> {
        let name = settings.command.first().map_or(program.name(), String::as_str);
        let path = self.variable("PATH").unwrap_or_default();
        (!is_program(name, dir, &path)).then(|| Missing {
            what: format!("wants the program {name}, which is not there or cannot be run"),
            mend: program.install().to_owned(),
            is_fatal: true,
        })
    }

    /// Who signed in once has left a file; who has a key has it in a variable. There are other ways, too.
    fn sign_in(&self, program: Program) -> Option<Missing> {
        let home = self.variable("HOME").unwrap_or_default();
        let (mend, signs) = program.sign_in();
        let has_key = self.env.iter().any(|(name, _)| {
            program.passed().contains(&name.as_str())
                || name.contains("KEY")
                || name.contains("TOKEN")
                || name.contains("USE_")
        });
        let has_file = signs.iter().any(|file| Path::new(&home).join(file).exists());
        (!has_key && !has_file).then(|| Missing {
            what: format!("runs {}, which has no key here and nobody has signed in", program.name()),
            mend: mend.to_owned(),
            is_fatal: false,
        })
    }

    fn key(&self, settings: &Settings) -> Option<Missing> {
        let name = settings.key_env.as_ref()?;
        let is_set = self.env.iter().any(|(set, value)| set == name && !value.is_empty());
        (!is_set).then(|| Missing {
            what: format!("wants the key of its model in the variable {name}, which is not set"),
            mend: format!("export {name}=…, or write it into .env beside quorate.toml"),
            is_fatal: true,
        })
    }

    /// A variable as its child has it.
    fn variable(&self, name: &str) -> Option<String> {
        let own = self.env.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value.clone());
        own.or_else(|| std::env::var(name).ok())
    }
}

fn role(settings: &Settings, dir: &Path) -> Option<Missing> {
    let file = settings.prompt.as_ref()?;
    (!dir.join(file).is_file()).then(|| Missing {
        what: format!("has its role in {}, which is not there", file.display()),
        mend: "write that file, or mend `prompt` of its table in quorate.toml".to_owned(),
        is_fatal: true,
    })
}

/// Tells whether a program is there, as a path or on a PATH.
fn is_program(name: &str, dir: &Path, path: &str) -> bool {
    let runs = |file: &Path| {
        file.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    };
    match name.contains('/') {
        true => runs(&dir.join(name)),
        false => std::env::split_paths(path).any(|folder| runs(&folder.join(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_process::Limits;
    use std::path::PathBuf;
    use std::time::Duration;

    fn worker(driver: &'static str, settings: Settings, env: &[(&str, &str)]) -> Worker {
        Worker {
            how: How::Drive { driver, settings: Box::new(settings) },
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            limits: Limits::default(),
            grace: Duration::ZERO,
        }
    }

    /// A folder with a program of this name.
    fn folder(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        folder
    }

    #[test]
    fn a_program_that_is_missing_is_told_with_what_installs_it() {
        let missing = worker("codex", Settings::default(), &[("PATH", "/nowhere")]).missing(Path::new("/"));
        let missing = missing.expect("it is missing");
        assert!(missing.is_fatal && missing.what.contains("codex"));
        assert_eq!(missing.mend, "npm install -g @openai/codex");
        let here = folder("codex");
        let path = here.path().display().to_string();
        let env = [("PATH", path.as_str()), ("OPENAI_API_KEY", "k")];
        assert_eq!(worker("codex", Settings::default(), &env).missing(Path::new("/")), None);
    }

    #[test]
    fn an_agent_without_a_key_and_a_sign_in_is_worth_a_warning() {
        let here = folder("claude");
        let path = here.path().display().to_string();
        let env = [("PATH", path.as_str()), ("HOME", path.as_str())];
        let missing = worker("claude", Settings::default(), &env).missing(Path::new("/")).expect("a warning");
        assert!(!missing.is_fatal && missing.mend.contains("ANTHROPIC_API_KEY"), "{missing:?}");
        std::fs::create_dir(here.path().join(".claude")).unwrap();
        std::fs::write(here.path().join(".claude/.credentials.json"), "{}").unwrap();
        assert_eq!(worker("claude", Settings::default(), &env).missing(Path::new("/")), None);
    }

    #[test]
    fn a_model_without_its_key_cannot_work() {
        let settings = Settings { key_env: Some("SOME_KEY".into()), ..Settings::default() };
        let missing = worker("model", settings.clone(), &[]).missing(Path::new("/")).expect("it is missing");
        assert!(missing.is_fatal && missing.what.contains("SOME_KEY"));
        assert_eq!(worker("model", settings, &[("SOME_KEY", "k")]).missing(Path::new("/")), None);
        assert_eq!(
            worker("model", Settings::default(), &[]).missing(Path::new("/")),
            None,
            "a server that wants none"
        );
    }

    #[test]
    fn a_role_that_is_not_there_is_told() {
        let here = folder("role.md");
        let with = |file: &str| Settings { prompt: Some(PathBuf::from(file)), ..Settings::default() };
        assert_eq!(worker("model", with("role.md"), &[]).missing(here.path()), None);
        let missing = worker("model", with("rule.md"), &[]).missing(here.path()).expect("it is missing");
        assert!(missing.what.contains("rule.md"));
    }
}
