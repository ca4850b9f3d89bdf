//! `cargo xtask test`: every check there is, on a machine that may have nothing yet.
//!
//! Here lives the list of steps. How a step is run and counted lives in `step`; the house rules live in `tidy`. The
//! tests get a PostgreSQL of our own, which ends with this process, however that ends.

use crate::cluster::{Cluster, Durability, Until};
use crate::fire::Ended;
use crate::step::{Report, Runner};
use crate::{Outcome, agents, bench, fire, judge, plugin, root, say, setup, tidy};
use std::process::Command;

/// Runs all steps; with `locked`, Cargo.lock must be up to date.
pub fn everything(locked: bool) -> Outcome {
    let cluster = start_cluster()?;
    let build = |words: &str| {
        let mut command = cargo(words);
        command.args(locked.then_some("--locked"));
        command
    };
    let mut report = Report::default();
    report.command("formatting", Runner::None, &mut cargo("fmt --all --check"));
    let mut clippy = build("clippy --workspace --all-targets");
    report.command("clippy, warnings are errors", Runner::None, clippy.args(["--", "-D", "warnings"]));
    report.check("tidy, the house rules", tidy::command);
    if setup::has_cargo("nextest") {
        let mut tests = build("nextest run --workspace --no-fail-fast --no-tests=pass");
        report.command("tests (nextest)", Runner::Nextest, with(&mut tests, &cluster));
        let mut examples = build("test --workspace --doc --no-fail-fast");
        report.command("examples in the documentation", Runner::Libtest, with(&mut examples, &cluster));
    } else {
        let mut tests = build("test --workspace --no-fail-fast");
        report.command("tests", Runner::Libtest, with(&mut tests, &cluster));
    }
    agents::step(&mut report, locked);
    // Only where nobody else is to be kept from working: it is built with optimisation.
    let mut begun = locked.then(bench::begin_ratio).flatten();
    breaking(&mut report, "a storm on each database", &["storm", "--short"]);
    breaking(&mut report, "a goal on each database, and who works at it is killed", &["goal", "--short"]);
    breaking(&mut report, "short trouble with the database", &["trouble", "--short"]);
    breaking(&mut report, "several hosts", &["hosts", "--short"]);
    breaking(&mut report, "clocks that jump", &["time", "--short"]);
    report.attempt("Claude Code accepts the plugin", plugin::check);
    judge::steps(&mut report, locked);
    if locked {
        report.check("the ledger's share of its databases' speed", || {
            if let Some(build) = &mut begun {
                build.wait().map_err(|e| format!("its build is lost: {e}"))?;
            }
            bench::command(&["--ratio"])
        });
    }
    let mut doc = build("doc --workspace --no-deps");
    report.command("documentation without warnings", Runner::None, doc.env("RUSTDOCFLAGS", "-D warnings"));
    report.finish()
}

/// Runs a test that breaks things; where it cannot be run, that is said and counts as nothing.
fn breaking(report: &mut Report, name: &str, words: &[&str]) {
    report.attempt(name, || match fire::command(words)? {
        Ended::Well => Ok(None),
        Ended::NotRun(why) => Ok(Some(why)),
    });
}

/// Runs the tests of some crates: `-p CRATE… [FILTER…]`, as `cargo test` takes them.
pub fn some(selection: &[&str]) -> Outcome {
    let cluster = start_cluster()?;
    let mut report = Report::default();
    let (runner, mut tests) = if setup::has_cargo("nextest") {
        (Runner::Nextest, cargo("nextest run --no-fail-fast --no-tests=pass"))
    } else {
        (Runner::Libtest, cargo("test --no-fail-fast"))
    };
    report.command("tests", runner, with(tests.args(selection), &cluster));
    report.finish()
}

fn start_cluster() -> Outcome<Cluster> {
    let installation = setup::everything()?;
    let cluster = Cluster::start(&installation, Durability::None, Until::ProcessEnds, None)?;
    say(&format!("a PostgreSQL for the tests runs in {} and ends with them", cluster.folder().display()));
    Ok(cluster)
}

fn cargo(words: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(words.split(' ')).current_dir(root());
    command
}

/// Names the test server to the tests, and takes away what would point the product at someone's real ledger.
fn with<'a>(command: &'a mut Command, cluster: &Cluster) -> &'a mut Command {
    command.env("QUORATE_TEST_PG", cluster.url()).env_remove("QUORATE_STORE")
}
