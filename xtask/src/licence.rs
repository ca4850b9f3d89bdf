//! Licences and bans of the dependencies, as `deny.toml` states them.
//!
//! Here lives a reading of `cargo tree` against the two lists of `deny.toml` that matter on every run, without
//! cargo-deny. Advisories and duplicate versions need cargo-deny itself (`cargo xtask deny`).

use crate::tidy::{File, Finding};
use crate::{Outcome, root};
use std::process::Command;

/// The file with the lists.
const LISTS: &str = "deny.toml";

/// Checks every dependency that is compiled for this machine, those for tests and builds included.
pub fn findings(files: &[File]) -> Outcome<Vec<Finding>> {
    let lists = files.iter().find(|file| file.path == LISTS).ok_or(format!("{LISTS} is missing"))?;
    let allowed = list(&lists.text, "licenses", "allow");
    let banned = list(&lists.text, "bans", "deny");
    Ok(judge(&tree()?, &allowed, &banned))
}

fn tree() -> Outcome<String> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "tree",
        "--workspace",
        "--prefix",
        "none",
        "--edges",
        "normal,build,dev",
        "--format",
        "{p}\t{l}",
    ]);
    let output = cargo.current_dir(root()).output().map_err(|e| format!("cannot run cargo tree: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr)))
}

fn judge(tree: &str, allowed: &[String], banned: &[String]) -> Vec<Finding> {
    let mut lines: Vec<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().filter_map(|line| judge_package(line, allowed, banned)).collect()
}

fn judge_package(line: &str, allowed: &[String], banned: &[String]) -> Option<Finding> {
    let (package, licence) = line.split_once('\t')?;
    let name = package.split(' ').next()?;
    if banned.iter().any(|b| b == name) {
        return Some(Finding::new(LISTS, 1, format!("`{package}` is banned")));
    }
    let is_allowed = Expression::new(licence).allowed_by(allowed);
    (!is_allowed)
        .then(|| Finding::new(LISTS, 1, format!("the licence `{licence}` of `{package}` is not allowed")))
}

/// Reads the strings of `key = [ … ]` in one table of a TOML file.
fn list(text: &str, table: &str, key: &str) -> Vec<String> {
    let (mut is_table, mut is_list, mut found) = (false, false, Vec::new());
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if line.starts_with('[') && !is_list {
            is_table = line == format!("[{table}]");
        }
        let begins = is_table && line.split('=').next().is_some_and(|k| k.trim() == key);
        is_list |= begins;
        if is_list {
            found.extend(line.split('"').skip(1).step_by(2).map(str::to_string));
            is_list = !line.contains(']');
        }
    }
    found
}

/// A licence expression (SPDX, and the older `A/B` for `A OR B`).
struct Expression<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Expression<'a> {
    fn new(text: &'a str) -> Expression<'a> {
        let mut words = Vec::new();
        for word in text.split(' ') {
            let inner = word.trim_matches(['(', ')']);
            words.extend(word.matches('(').map(|_| "("));
            for (number, part) in inner.split('/').filter(|part| !part.is_empty()).enumerate() {
                words.extend((number > 0).then_some("OR"));
                words.push(part);
            }
            words.extend(word.matches(')').map(|_| ")"));
        }
        Expression { words, at: 0 }
    }

    /// Tells whether one of the alternatives is covered by the list; an empty or broken expression is not.
    fn allowed_by(mut self, allowed: &[String]) -> bool {
        let verdict = self.alternatives(allowed);
        verdict && self.at == self.words.len()
    }

    fn alternatives(&mut self, allowed: &[String]) -> bool {
        let mut verdict = self.all_of(allowed);
        while self.eat("OR") {
            verdict |= self.all_of(allowed);
        }
        verdict
    }

    fn all_of(&mut self, allowed: &[String]) -> bool {
        let mut verdict = self.one(allowed);
        while self.eat("AND") {
            verdict &= self.one(allowed);
        }
        verdict
    }

    fn one(&mut self, allowed: &[String]) -> bool {
        if self.eat("(") {
            let verdict = self.alternatives(allowed);
            return self.eat(")") && verdict;
        }
        let Some(name) = self.words.get(self.at) else { return false };
        self.at += 1;
        let mut name = name.to_string();
        if self.eat("WITH") {
            let exception = self.words.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            name = format!("{name} WITH {exception}");
        }
        allowed.contains(&name)
    }

    fn eat(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is_next);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<String> {
        ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_string).to_vec()
    }

    fn check(licence: &str, expected: bool) {
        assert_eq!(Expression::new(licence).allowed_by(&allowed()), expected, "{licence}");
    }

    #[test]
    fn licence_expressions_are_judged() {
        check("MIT", true);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0 OR MIT", true);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("Apache-2.0 WITH LLVM-exception OR MIT", true);
        check("GPL-3.0", false);
        check("MIT AND GPL-3.0", false);
        check("MIT AND (GPL-3.0 OR AGPL-3.0)", false);
        check("Apache-2.0 WITH LLVM-exception", false);
        check("", false);
        check("(MIT", false);
    }

    #[test]
    fn lists_are_read_from_their_table_only() {
        let text = "[bans]\ndeny = [\n    \"ring\", # no\n    \"openssl\",\n]\nallow = [\"x\"]\n[licenses]\nallow = [\"MIT\"]\n";
        assert_eq!(list(text, "bans", "deny"), ["ring", "openssl"]);
        assert_eq!(list(text, "licenses", "allow"), ["MIT"]);
    }

    #[test]
    fn banned_and_unlicensed_packages_are_found() {
        let tree = "ring v0.17.0\tMIT\nfree v1.0.0\tMIT\nodd v1.0.0\tGPL-3.0\nfree v1.0.0\tMIT (*)\n";
        let found = judge(tree, &allowed(), &["ring".to_string()]);
        let found: Vec<String> = found.iter().map(Finding::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("`GPL-3.0` of `odd v1.0.0`") && found[1].contains("`ring v0.17.0` is banned")
        );
    }
}
