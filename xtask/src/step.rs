//! Steps of a check: run, timed, counted.
//!
//! Here live the running of one command with its output passed on as it comes, and the reading of test summaries
//! from that output. Which steps there are lives in `test`.

use crate::Outcome;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many passed.
    pub passed: u64,
    /// How many failed, in whichever way.
    pub failed: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Whose summaries are in a command's output.
///
/// A failed test's output, which nextest shows, contains a summary of libtest: each runner's is read alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// `cargo test`: one `test result:` line per binary.
    Libtest,
    /// `cargo nextest`: one `Summary` line.
    Nextest,
    /// No tests.
    None,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Failed,
    /// This machine cannot run it: no pass, and no failure.
    NotRun,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::NotRun => "not run",
        }
    }
}

/// Steps that were run, in order.
#[derive(Default)]
pub struct Report {
    steps: Vec<(String, Verdict, Duration)>,
    tally: Tally,
}

impl Report {
    /// Runs a step made of one command; its output is passed on.
    pub fn command(&mut self, name: &str, runner: Runner, command: &mut Command) {
        self.step(name, || {
            let (success, tally) = watch(command, runner)?;
            let unexplained = !success && tally.failed == 0;
            let verdict = if success { Verdict::Ok } else { Verdict::Failed };
            Ok((verdict, Tally { failed: tally.failed + u64::from(unexplained), ..tally }))
        });
    }

    /// Runs a step made of our own code.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Outcome) {
        self.step(name, || check().map(|()| (Verdict::Ok, Tally::default())));
    }

    /// Runs a step that not every machine can run; it answers with the reason where this one cannot.
    pub fn attempt(&mut self, name: &str, attempt: impl FnOnce() -> Outcome<Option<String>>) {
        self.step(name, || {
            let Some(why) = attempt()? else { return Ok((Verdict::Ok, Tally::default())) };
            println!("not run: {why}");
            Ok((Verdict::NotRun, Tally::default()))
        });
    }

    fn step(&mut self, name: &str, run: impl FnOnce() -> Outcome<(Verdict, Tally)>) {
        println!("\n=== {name}");
        let began = Instant::now();
        let (verdict, tally) = run().unwrap_or_else(|why| {
            println!("{why}");
            (Verdict::Failed, Tally { passed: 0, failed: 1 })
        });
        self.tally.add(tally);
        let took = began.elapsed();
        println!("=== {name}: {} in {:.1} s", verdict.word(), took.as_secs_f64());
        self.steps.push((name.to_string(), verdict, took));
    }

    /// Prints all steps and, as the last line, the sum; an error if anything failed.
    pub fn finish(self) -> Outcome {
        println!();
        for (name, verdict, took) in &self.steps {
            println!("{:>8.1} s  {:7}  {name}", took.as_secs_f64(), verdict.word());
        }
        println!("{} passed, {} failed", self.tally.passed, self.tally.failed);
        let failed = self.steps.iter().filter(|step| step.1 == Verdict::Failed);
        let failed: Vec<&str> = failed.map(|step| step.0.as_str()).collect();
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }
}

/// Runs a command, passes both its outputs on as they come, and counts the tests they report.
fn watch(command: &mut Command, runner: Runner) -> Outcome<(bool, Tally)> {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tally = thread::scope(|scope| {
        let errors = scope.spawn(|| pass_on(stderr, std::io::stderr(), runner));
        let mut tally = pass_on(stdout, std::io::stdout(), runner);
        tally.add(errors.join().unwrap_or_default());
        tally
    });
    let status = child.wait().map_err(|e| format!("cannot wait for {command:?}: {e}"))?;
    Ok((status.success(), tally))
}

fn pass_on(from: Option<impl Read>, mut to: impl Write, runner: Runner) -> Tally {
    let mut tally = Tally::default();
    let Some(from) = from else { return tally };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        // Nobody may be reading any more; the counting goes on.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        tally.add(summary(runner, &String::from_utf8_lossy(&line)).unwrap_or_default());
        line.clear();
    }
    tally
}

/// Reads a line of a test runner's output, if it is a summary.
fn summary(runner: Runner, line: &str) -> Option<Tally> {
    let line = without_colour(line);
    let line = line.trim();
    let counts = match runner {
        Runner::Libtest => line.strip_prefix("test result: ")?.split_once(". ")?.1,
        Runner::Nextest => line.strip_prefix("Summary [")?.split_once("run: ")?.1,
        Runner::None => return None,
    };
    let mut tally = Tally::default();
    for part in counts.split([',', ';', '(']) {
        let (number, what) = part.trim().split_once(' ').unwrap_or_default();
        let Ok(number) = number.parse::<u64>() else { continue };
        match what.trim_end_matches(')') {
            "passed" => tally.passed += number,
            "failed" | "timed out" | "exec failed" => tally.failed += number,
            what if what.starts_with("passed ") => tally.passed += number,
            _ => {}
        }
    }
    Some(tally)
}

/// Removes colour sequences (`ESC [ … m`).
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut parts = line.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runner: Runner, line: &str, expected: Option<(u64, u64)>) {
        let expected = expected.map(|(passed, failed)| Tally { passed, failed });
        assert_eq!(summary(runner, line), expected, "{line}");
    }

    #[test]
    fn summaries_of_libtest_are_read() {
        let failed =
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1s";
        check(Runner::Libtest, failed, Some((3, 1)));
        check(Runner::Libtest, "test result: ok. 5 passed; 0 failed; 0 ignored", Some((5, 0)));
        check(Runner::Libtest, "test it_works ... ok", None);
        check(Runner::Nextest, failed, None);
    }

    #[test]
    fn summaries_of_nextest_are_read() {
        let one = "     Summary [   0.005s] 1 test run: 1 passed, 0 skipped";
        let many = "     Summary [   9.1s] 15 tests run: 10 passed (1 slow, 2 leaky), 2 failed, 3 timed out, 4 skipped";
        check(Runner::Nextest, one, Some((1, 0)));
        check(Runner::Nextest, many, Some((10, 5)));
        check(Runner::Libtest, one, None);
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m2\u{1b}[0m tests run: \
                    \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m";
        check(Runner::Nextest, line, Some((2, 0)));
    }

    #[test]
    fn step_that_cannot_be_run_here_is_no_pass_and_no_failure() {
        let mut report = Report::default();
        report.attempt("hosts", || Ok(Some("needs root".into())));
        assert_eq!((report.steps[0].1.word(), report.tally), ("not run", Tally::default()));
        report.attempt("time", || Err("it broke".into()));
        assert_eq!(report.steps[1].1, Verdict::Failed);
        assert!(report.finish().is_err_and(|why| why == "failed: time"));
    }

    #[test]
    fn command_that_fails_without_a_summary_counts_as_one_failure() {
        let mut report = Report::default();
        report.command("false", Runner::None, &mut Command::new("false"));
        assert_eq!(report.tally, Tally { passed: 0, failed: 1 });
        assert!(report.finish().is_err());
    }
}
