//! `cargo xtask fire`: tests that break things.
//!
//! Here lives the building of what they need, and the look whether they can be run here at all. What is broken, and
//! what must hold then, lives in `crates/fire`.

pub mod needs;

use crate::{Outcome, root};
use std::path::PathBuf;
use std::process::Command;

/// How a test that breaks things ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// All held.
    Well,
    /// This machine cannot run it, and why. It is no pass.
    NotRun(String),
}

/// What `fire` ends with where a case could not be made on this machine, or where it was asked for in the wrong way.
const NOT_RUN: i32 = 2;

/// Builds the program and its tormentor, and passes `words` on.
pub fn command(words: &[&str]) -> Outcome<Ended> {
    let (is_release, words) = split(words);
    // An hour of an unoptimised build would say little about the one that people use.
    let is_release = is_release || words.first() == Some(&"soak");
    let library = match needs::of(&words) {
        Ok(library) => library,
        Err(why) => return Ok(Ended::NotRun(format!("fire {}: {why}", words.join(" ")))),
    };
    build(is_release)?;
    let profile = if is_release { "release" } else { "debug" };
    let mut fire = Command::new(target().join(profile).join("fire"));
    fire.args(&words);
    if words.first() == Some(&"mutants") {
        fire.arg("--root").arg(root());
    }
    if let Some(library) = library {
        fire.arg("--faketime").arg(library);
    }
    let status = fire.status().map_err(|e| format!("cannot run fire: {e}"))?;
    match status.code() {
        Some(0) => Ok(Ended::Well),
        Some(NOT_RUN) => {
            Ok(Ended::NotRun("something could not be run here, which is no pass: see above".to_string()))
        }
        _ => Err("fire did not end well".to_string()),
    }
}

/// Takes `--release` out of the words.
fn split<'a>(words: &[&'a str]) -> (bool, Vec<&'a str>) {
    let rest: Vec<&str> = words.iter().copied().filter(|word| *word != "--release").collect();
    (rest.len() < words.len(), rest)
}

fn build(is_release: bool) -> Outcome {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--package", "quorate", "--package", "quorate-fire"]).current_dir(root());
    cargo.args(is_release.then_some("--release"));
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err("quorate and quorate-fire could not be built".to_string()),
    }
}

pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_for_the_build_and_the_rest_for_the_test() {
        assert_eq!(split(&["storm", "--release", "--short"]), (true, vec!["storm", "--short"]));
        assert_eq!(split(&["mutants"]), (false, vec!["mutants"]));
    }
}
