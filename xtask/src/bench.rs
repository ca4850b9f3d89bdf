//! `cargo xtask bench`: the numbers of the ledger, beside those of its databases alone.
//!
//! Here live the building of what is measured, and a durable PostgreSQL that ends with the bench. What is measured,
//! and how, lives in `crates/bench`; the short check that CI runs, and all that it shares with the bench, in
//! `crates/measure`.

use crate::cluster::{Cluster, Durability, Until};
use crate::{Outcome, root, say, setup};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Builds everything, starts a server where it is needed, and passes `words` on.
pub fn command(words: &[&str]) -> Outcome {
    if words.contains(&"--ratio") {
        return ratio(words);
    }
    build("quorate-bench")?;
    // Without it the bench measures the ledger and says what it left out.
    let has_program = wants_program(words) && build("quorate").inspect_err(|why| say(why)).is_ok();
    let mut bench = Command::new(target().join("quorate-bench"));
    bench.args(words);
    if !has_program {
        bench.args(["--quorate", "/nonexistent"]);
    }
    run(&mut bench, words)
}

/// Begins to build the short check with what the machine has left, beside steps that wait more than they work. It shares
/// nothing with unoptimised builds, so neither waits for the other; who runs the check then finds it built.
pub fn begin_ratio() -> Option<Child> {
    let mut build = Command::new("nice");
    build.args(["cargo", "build", "--release", "--quiet", "--package", "quorate-measure"]);
    // What goes wrong with it is told by the build that comes before the check.
    build.current_dir(root()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Builds the short check alone, which takes half as long as the whole bench, and runs it.
fn ratio(words: &[&str]) -> Outcome {
    build("quorate-measure")?;
    let mut check = Command::new(target().join("quorate-ratio"));
    check.args(words.iter().filter(|word| **word != "--ratio"));
    run(&mut check, words)
}

fn run(program: &mut Command, words: &[&str]) -> Outcome {
    let folder = Folder::make()?;
    let cluster = wants_postgres(words).then(|| start(&folder)).transpose()?;
    program.arg("--dir").arg(&folder.0).env_remove("QUORATE_STORE");
    if let Some(cluster) = &cluster {
        program.args(["--postgres", cluster.url()]);
    }
    let status = program.status().map_err(|e| format!("cannot run the bench: {e}"))?;
    if status.success() { Ok(()) } else { Err("the bench did not end well".to_string()) }
}

fn build(package: &str) -> Outcome {
    let mut cargo = Command::new("cargo");
    let status = cargo.args(["build", "--release", "--package", package]).current_dir(root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{package} could not be built")),
    }
}

/// Tells whether the words ask for a measurement on PostgreSQL, as everything but `--only sqlite` does.
fn wants_postgres(words: &[&str]) -> bool {
    !words.windows(2).any(|pair| pair == ["--only", "sqlite"])
}

/// Tells whether the words ask for figures of the program itself, and not only of the ledger in the bench's process.
fn wants_program(words: &[&str]) -> bool {
    !words.contains(&"--peers")
}

fn start(folder: &Folder) -> Outcome<Cluster> {
    let installation = setup::postgres()?;
    let cluster = Cluster::start(&installation, Durability::Full, Until::ProcessEnds, Some(&folder.0))?;
    say(&format!("a durable PostgreSQL runs in {} and ends with the bench", cluster.folder().display()));
    Ok(cluster)
}

fn target() -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    base.join("release")
}

/// A folder for all data, on the disk that holds the build (the temporary folder may lie in memory).
struct Folder(PathBuf);

impl Folder {
    fn make() -> Outcome<Folder> {
        let path = target().join(format!("bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_started_unless_only_sqlite_is_measured() {
        for (words, expected) in
            [(&[][..], true), (&["--quick", "--only", "sqlite"], false), (&["--only", "process"], true)]
        {
            assert_eq!(wants_postgres(words), expected, "{words:?}");
        }
    }

    #[test]
    fn the_program_is_built_for_its_own_figures_only() {
        assert!(wants_program(&["--quick"]));
        assert!(!wants_program(&["--peers", "--only", "sqlite"]));
    }
}
