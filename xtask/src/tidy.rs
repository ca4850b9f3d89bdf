//! `cargo xtask tidy`: the house rules as a test.
//!
//! Here live the reading of the repository's files and the list of rules. The rules live below: `text` for any file,
//! `code` for Rust, `house` for what spans files (arrows, links, event kinds, dead files). The licences and bans of
//! the dependencies are read by `licence`.
//!
//! The one idea: a rule is a function from texts to findings, so that each has a test in which it fails.

mod code;
mod house;
mod source;
mod text;

use crate::{Outcome, licence, root};
use source::Source;
use std::fmt;
use std::process::Command;

/// The rules and their examples: not to be judged by themselves.
const RULES: &str = "xtask/src/tidy";

/// One file of the repository.
#[derive(Debug)]
pub struct File {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// The whole content.
    pub text: String,
}

impl File {
    /// Tells whether the file's name ends so.
    pub fn is(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }
}

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    /// Makes a finding; lines count from 1.
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: path.to_string(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Checks the whole repository; prints every finding.
pub fn command() -> Outcome {
    let files = repository()?;
    let mut findings = findings(&files);
    findings.extend(licence::findings(&files)?);
    findings.iter().for_each(|finding| println!("{finding}"));
    println!("{} files, {} findings", files.len(), findings.len());
    if findings.is_empty() { Ok(()) } else { Err("the house rules are broken".to_string()) }
}

fn findings(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        findings.extend(text::name(file));
        if !file.path.starts_with(RULES) {
            findings.extend(text::content(file));
        }
        if file.is(".rs") {
            let source = Source::read(&file.text, is_test(&file.path));
            findings.extend(code::shape(file, &source));
            if !file.path.starts_with(RULES) {
                findings.extend(code::content(file, &source));
            }
        }
    }
    findings.extend(house::findings(files));
    findings
}

/// Tells whether a whole file is test code.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

/// Reads the files git knows or would add; those that are not UTF-8 are left out.
fn repository() -> Outcome<Vec<File>> {
    let mut git = Command::new("git");
    // A checkout that belongs to another user, as in containers, is no reason to refuse to read it.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.current_dir(root()).output().map_err(|e| format!("cannot run git: {e}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    let read = |path: &str| {
        let text = std::fs::read_to_string(root().join(path)).ok()?;
        Some(File { path: path.to_string(), text })
    };
    Ok(listed.split('\0').filter(|path| !path.is_empty()).filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_names_file_and_line() {
        assert_eq!(Finding::new("a/b.rs", 7, "is wrong").to_string(), "a/b.rs:7: is wrong");
    }

    #[test]
    fn clean_file_has_no_findings() {
        let text = "//! What lives here.\n\n/// Returns one.\npub fn one() -> u8 {\n    1\n}\n".to_string();
        assert_eq!(findings(&[File { path: "crates/model/src/lib.rs".to_string(), text }]), []);
    }

    #[test]
    fn broken_rules_of_every_family_are_found_together() {
        let text = "fn one() { dbg!(1); } \n".to_string();
        let found = findings(&[File { path: "crates/model/src/utils.rs".to_string(), text }]);
        assert_eq!(found.len(), 5, "name, space, module words, dbg, dead file: {found:?}");
    }
}
