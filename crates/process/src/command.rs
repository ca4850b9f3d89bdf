//! What is to be started: program, folder, environment, input, log and limits.
//!
//! Here live the description of a child and the rule of its clean environment. Starting it is in [`crate::spawn`].

use crate::limits::Limits;
use crate::mask::Mask;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How long a child has between TERM and KILL, unless the caller says otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// The variables of our own environment that a child gets; a name that ends in `*` stands for all that begin so.
/// Everything else it gets is in [`Command::env`] and [`Command::marker`].
pub const INHERITED: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "TERM",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A child to be started with [`Command::spawn`].
#[derive(Debug, Clone)]
pub struct Command {
    /// The program: a path, resolved against `dir`, or a name to be found on the child's PATH.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The folder it works in.
    pub dir: PathBuf,
    /// Variables beside (or in place of) those of [`INHERITED`].
    pub env: Vec<(String, String)>,
    /// Variables that the child gets too and that no other child has together: descendants that left its process
    /// group are known by them. Empty: such descendants are not found without a control group.
    pub marker: Vec<(String, String)>,
    /// What it reads on standard input.
    pub stdin: Vec<u8>,
    /// The file its output is added to.
    pub log: PathBuf,
    /// What it may use.
    pub limits: Limits,
    /// How long it may run; `None` is for ever.
    pub timeout: Option<Duration>,
    /// How long it has between TERM and KILL; 5 s unless set.
    pub grace: Duration,
    /// What is secret in its output, beside the values of `env` whose names tell it.
    pub mask: Mask,
}

impl Command {
    /// Describes a program without arguments, input or limits.
    pub fn new(program: impl Into<OsString>, dir: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Command {
        Command {
            program: program.into(),
            args: Vec::new(),
            dir: dir.into(),
            env: Vec::new(),
            marker: Vec::new(),
            stdin: Vec::new(),
            log: log.into(),
            limits: Limits::default(),
            timeout: None,
            grace: GRACE,
            mask: Mask::default(),
        }
    }

    /// Describes `sh -c TEXT`.
    pub fn shell(text: impl Into<OsString>, dir: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Command {
        Command { args: vec!["-c".into(), text.into()], ..Command::new("sh", dir, log) }
    }
}

/// Returns the variables of our environment that a child gets.
pub fn inherited() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_inherited)).collect()
}

fn is_inherited(name: &str) -> bool {
    INHERITED.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_are_inherited() {
        let check = |name: &str, expected: bool| assert_eq!(is_inherited(name), expected, "{name}");
        check("PATH", true);
        check("LC_ALL", true);
        check("PATHS", false);
        check("ANTHROPIC_API_KEY", false);
        check("QUORATE_TOKEN", false);
        check("LD_PRELOAD", false);
    }
}
