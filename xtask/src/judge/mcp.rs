//! The conformance suite of the Model Context Protocol, which judges how our door speaks.
//!
//! Here live its version, whom it judges and by what, and the reading of its verdict. Two are judged. The *fixture* has everything that
//! the suite asks for, behind our door (`crates/server/examples/conformance`): all that a revision of the specification
//! requires is asked of it. The *product* is a real node, and is asked what needs none of the suite's own tools.
//!
//! What may fail stands in a file with its reason, check by check, so that the rest of a scenario still counts. It must
//! fail: what passes, and what is never asked, has no place there.

use super::served::Served;
use crate::npm::{self, NODE};
use crate::{Outcome, root, say};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The revisions of the specification that are judged.
pub const REVISIONS: [&str; 2] = [OLD, NEW];
const OLD: &str = "2025-11-25";
const NEW: &str = "2026-07-28";

/// The version whose verdicts are explained in the files.
const PACKAGES: [&str; 2] = [NODE, "@modelcontextprotocol/conformance@0.2.0-alpha.12"];
const PROGRAM: &str = "conformance";
/// Where it stands what may fail, and why.
const EXPECTED: &str = "crates/server/examples/conformance/expected";
/// How long the suite may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the suite runs but does not count, or not yet, and our door holds all the same.
fn also(revision: &str) -> &'static [&'static str] {
    match revision {
        OLD => &["json-schema-2020-12"],
        _ => &["json-schema-2020-12", "http-header-validation", "http-custom-header-server-validation"],
    }
}

/// What needs none of the suite's own tools, prompts and resources.
fn of_product(revision: &str) -> &'static [&'static str] {
    match revision {
        OLD => &["server-initialize", "ping", "tools-list", "dns-rebinding-protection"],
        _ => &[
            "server-stateless",
            "tools-list",
            "server-sse-multiple-streams",
            "input-required-result-unsupported-methods",
            "dns-rebinding-protection",
            "http-header-validation",
        ],
    }
}

/// Asks it; answers why that cannot be done here, if it cannot.
pub fn judge(node: &Served, revision: &str) -> Outcome<Option<String>> {
    let folder = match npm::install("mcp-conformance", &PACKAGES, "150 MB", runs)? {
        Ok(folder) => folder,
        Err(why) => return Ok(Some(why)),
    };
    let door = Served::fixture()?;
    let fixture = Judged { folder: &folder, url: door.url(), who: "fixture", revision };
    fixture.must_pass(&[&["--requirements", revision]], also(revision))?;
    let product = Judged { folder: &folder, url: node.url(), who: "product", revision };
    product.must_pass(&[], of_product(revision))?;
    Ok(None)
}

fn runs(folder: &Path) -> Result<(), String> {
    let mut suite = npm::program(folder, PROGRAM);
    let look = suite.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if look.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(format!("npm installed {PROGRAM}, but it does not run here"))
}

/// A server before its judge.
struct Judged<'a> {
    folder: &'a Path,
    url: &'a str,
    who: &'a str,
    revision: &'a str,
}

impl Judged<'_> {
    /// Has it judged by sets of scenarios and by single ones; nothing may fail but what is expected to, and that must.
    fn must_pass(&self, sets: &[&[&str]], scenarios: &[&str]) -> Outcome {
        let expected = Expected::read(self.who, self.revision)?;
        let single = scenarios.iter().map(|name| vec!["--scenario", name, "--spec-version", self.revision]);
        let mut sum = Verdict::default();
        for words in sets.iter().map(|words| words.to_vec()).chain(single) {
            let verdict = self.verdict(&words, &expected)?;
            sum.asked += verdict.asked;
            sum.failed.extend(verdict.failed);
        }
        let never: Vec<&String> = expected.checks.difference(&sum.failed).collect();
        if !never.is_empty() {
            let path = expected.path.display();
            return Err(format!("{path} says that these fail, but they are not even asked: {never:?}"));
        }
        let (who, asked, failed) = (self.who, sum.asked, sum.failed.len());
        say(&format!("{who}: {asked} scenarios; {failed} checks fail as they should, nothing else does"));
        Ok(())
    }

    fn verdict(&self, words: &[&str], expected: &Expected) -> Outcome<Verdict> {
        let mut suite = npm::program(self.folder, PROGRAM);
        suite.args(["server", "--url", &format!("{}/mcp", self.url), "--expected-failures"]);
        suite.arg(&expected.path).args(words).current_dir(self.folder);
        let (is_well, said) = run(&mut suite)?;
        let verdict = Verdict::read(&said);
        if is_well && verdict.asked > 0 {
            return Ok(verdict);
        }
        Err(format!("{said}\nthe {} does not pass: conformance server {}", self.who, words.join(" ")))
    }
}

/// What may fail.
struct Expected {
    path: PathBuf,
    checks: BTreeSet<String>,
}

impl Expected {
    fn read(who: &str, revision: &str) -> Outcome<Expected> {
        let path = root().join(EXPECTED).join(format!("{who}-{revision}.yaml"));
        let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Ok(Expected { path, checks: listed(&text) })
    }
}

/// Returns the items of a list in YAML.
fn listed(text: &str) -> BTreeSet<String> {
    let items = text.lines().filter_map(|line| line.trim_start().strip_prefix("- "));
    items.map(|item| item.split(" #").next().unwrap_or_default().trim().to_owned()).collect()
}

/// What the suite says.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    /// How many scenarios were run.
    asked: usize,
    /// The checks that failed as expected.
    failed: BTreeSet<String>,
}

impl Verdict {
    /// Reads it: of a set there is a line for each scenario, of a single scenario one line for its checks.
    fn read(said: &str) -> Verdict {
        let mut verdict = Verdict::default();
        for line in said.lines() {
            let is_of_set = line.starts_with("✓ ") || line.starts_with("✗ ");
            let is_single = line.strip_prefix("Passed: ").is_some_and(|rest| !rest.starts_with("0/"));
            verdict.asked += usize::from(is_of_set || is_single);
            verdict.failed.extend(line.strip_prefix("  ~ ").map(str::to_owned));
        }
        verdict
    }
}

/// Runs a command to its end, but not for ever; answers whether it ended well, and what it said.
fn run(command: &mut Command) -> Outcome<(bool, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    let readers = [
        child.stdout.take().map(|output| std::thread::spawn(|| read(output))),
        child.stderr.take().map(|output| std::thread::spawn(|| read(output))),
    ];
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("cannot wait for {command:?}: {e}"))? {
            break Some(status);
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said: String = readers.into_iter().flatten().filter_map(|reader| reader.join().ok()).collect();
    match ended {
        Some(status) => Ok((status.success(), said)),
        None => Err(format!("{said}\n{command:?} did not end in {} s", PATIENCE.as_secs())),
    }
}

fn read(mut output: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before it broke is said all the same.
    let _ = output.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn verdict_on_a_set_counts_its_scenarios_and_names_what_was_expected_to_fail() {
        let said = "=== SUMMARY ===\n✓ ping: 2 passed, 0 failed\n✗ tools-call-sampling: 1 passed, 1 failed\n\n\
                    \u{1b}[33mExpected failures (in baseline):\u{1b}[0m\n  ~ tools-call-sampling:tools-call-sampling\n";
        let failed = texts(&["tools-call-sampling:tools-call-sampling"]);
        assert_eq!(Verdict::read(said), Verdict { asked: 2, failed });
    }

    #[test]
    fn scenario_of_which_nothing_was_asked_does_not_count() {
        assert_eq!(Verdict::read("Passed: 3/3, 0 failed, 0 warnings\n").asked, 1);
        assert_eq!(Verdict::read("Passed: 0/0, 0 failed, 0 warnings\n").asked, 0);
        assert_eq!(Verdict::read("SKIPPED: scenario 'ping' is not applicable at spec version x\n").asked, 0);
    }

    #[test]
    fn list_of_what_may_fail_is_read_without_its_reasons() {
        let text = "# Why.\nserver:\n  # It needs a session.\n  - a:b # so\n  - c\n";
        assert_eq!(listed(text), texts(&["a:b", "c"]));
        assert_eq!(listed("# Nothing.\nserver: []\n"), texts(&[]));
    }
}
