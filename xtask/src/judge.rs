//! `cargo xtask judge`: what strangers' tools say of the doors over the network.
//!
//! Here lives the list of judges. promtool reads the metrics of a node (`metrics`), schemathesis asks every operation of its
//! OpenAPI document what the document allows and what it forbids (`openapi`), and the conformance suite of MCP judges how the
//! door speaks, in both specifications (`mcp`). What is judged is a real node, and our door with what the suite asks for behind
//! it (`served`). Nothing is installed into the system: what is missing is brought into a cache by pip and npm, or it is said
//! that it is missing.

mod mcp;
mod metrics;
mod openapi;
mod prepared;
mod served;

use crate::step::Report;
use crate::{Outcome, root};
use served::Served;
use std::process::Command;

/// Asks all judges.
pub fn command() -> Outcome {
    let mut report = Report::default();
    steps(&mut report, false);
    report.finish()
}

/// Asks all judges, each as a step; with `locked`, Cargo.lock must be up to date.
pub fn steps(report: &mut Report, locked: bool) {
    let node = build(locked).and_then(|()| Served::node());
    let node = match node {
        Ok(node) => node,
        Err(why) => return report.check("judges of the doors over the network", || Err(why)),
    };
    report.attempt("promtool accepts the metrics", || metrics::judge(&node));
    openapi::steps(report, &node);
    for revision in mcp::REVISIONS {
        report.attempt(&format!("MCP conformance {revision}"), || mcp::judge(&node, revision));
    }
}

/// Builds what is judged, with the features that the tests have: else all is built once more.
fn build(locked: bool) -> Outcome {
    let mut build = Command::new("cargo");
    build.args(["build", "--workspace", "--bin", "quorate", "--example", "conformance"]);
    let built = build.args(locked.then_some("--locked")).current_dir(root()).status();
    if built.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err("cargo build --bin quorate --example conformance failed".into())
}

/// Tells whether a command succeeds; what it prints is of no use.
fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
