//! `cargo xtask fuzz`: looks for inputs that break what must hold.
//!
//! Here live the building of the targets and the running of each for a while. What must hold is written in
//! `fuzz/src`; seeds and inputs that once failed are in `fuzz/corpus-seed` and `fuzz/fixtures`.
//!
//! The targets are laid out as cargo-fuzz likes them, but neither it nor a nightly compiler is needed: coverage comes
//! from a pass that stable compilers have too. There is no address sanitizer, as what is fuzzed has no `unsafe`;
//! overflows and debug assertions are on. What libFuzzer learns stays in `target/fuzz/corpus`.

use crate::{Outcome, root, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every target, in the order in which they run.
const TARGETS: [&str; 9] =
    ["plan", "answer", "config", "json", "merge", "output", "resource", "stream", "model"];

/// How long each target runs unless told, in seconds.
const SECONDS: u32 = 60;

/// What makes libFuzzer see which way the code went, as cargo-fuzz sets it; and the checks of a debug build.
const FLAGS: [&str; 10] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Cforce-frame-pointers",
];

/// The limits of one run: an input is small, takes no ten seconds and no gigabyte.
const LIMITS: [&str; 4] = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish<'a> {
    targets: Vec<&'a str>,
    seconds: u32,
}

/// Builds the targets and runs those that `words` name, or all, one after another.
pub fn command(words: &[&str]) -> Outcome {
    let wish = read(words)?;
    let host = host()?;
    build(&host)?;
    let failed: Vec<&str> = wish
        .targets
        .iter()
        .copied()
        .filter(|target| run(&host, target, wish.seconds).inspect_err(|why| say(why)).is_err())
        .collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("inputs that fail were found: {}", failed.join(", "))),
    }
}

fn read<'a>(words: &[&'a str]) -> Outcome<Wish<'a>> {
    let mut wish = Wish { targets: Vec::new(), seconds: SECONDS };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
            wish.seconds = number.ok_or("--seconds wants a whole number, at least 1")?;
        } else if TARGETS.contains(&word) {
            wish.targets.push(word);
        } else {
            return Err(format!("`{word}` is no fuzz target; they are: {}", TARGETS.join(", ")));
        }
    }
    if wish.targets.is_empty() {
        wish.targets = TARGETS.to_vec();
    }
    Ok(wish)
}

/// Returns the triple of this machine: with it flags reach the targets alone, not what builds them.
fn host() -> Outcome<String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|e| format!("cannot run rustc: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_string).ok_or_else(|| "rustc does not say for which host it is".to_string())
}

fn build(host: &str) -> Outcome {
    let fuzz = root().join("fuzz");
    // What is fuzzed are the versions that the product is built with.
    fs::copy(root().join("Cargo.lock"), fuzz.join("Cargo.lock"))
        .map_err(|e| format!("cannot copy Cargo.lock to {}: {e}", fuzz.display()))?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", host, "--target-dir"]).arg(folder());
    cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")).current_dir(fuzz);
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err("the fuzz targets could not be built (they need a C++ compiler as well)".to_string()),
    }
}

fn run(host: &str, target: &str, seconds: u32) -> Outcome {
    let corpus = folder().join("corpus").join(target);
    let artifacts = folder().join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    }
    say(&format!("{target}: {seconds} s"));
    let mut fuzzer = Command::new(folder().join(host).join("release").join(target));
    fuzzer.arg(&corpus).args(given(target)).args(LIMITS).current_dir(&artifacts);
    // The folder ends with `/`: libFuzzer only puts the name of a file behind it.
    fuzzer.args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", artifacts.display())]);
    let status = fuzzer.status().map_err(|e| format!("cannot run {target}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!(
        "{target}: an input fails; it is in {}. Put it into {} and mend what it breaks",
        artifacts.display(),
        root().join("fuzz/fixtures").join(target).display()
    ))
}

/// Returns the folders of the repository with inputs of a target; nothing may have failed yet.
fn given(target: &str) -> Vec<PathBuf> {
    let folder = |kind: &str| root().join("fuzz").join(kind).join(target);
    ["corpus-seed", "fixtures"].map(folder).into_iter().filter(|folder| folder.is_dir()).collect()
}

/// Returns the folder of everything that is made here.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    absolute(&target).join("fuzz")
}

/// A relative folder is meant from where the developer stands, but used from elsewhere.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], targets: &[&str], seconds: u32) {
        assert_eq!(read(words), Ok(Wish { targets: targets.to_vec(), seconds }), "{words:?}");
    }

    #[test]
    fn targets_and_seconds_are_read_in_any_order() {
        check(&[], &TARGETS, SECONDS);
        check(&["plan"], &["plan"], SECONDS);
        check(&["--seconds", "600", "json", "plan"], &["json", "plan"], 600);
    }

    #[test]
    fn other_words_are_refused() {
        for words in [&["plans"][..], &["--seconds"], &["--seconds", "0"], &["--seconds", "soon"]] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn every_target_is_in_the_manifest_and_has_seeds() {
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("the manifest");
        for target in TARGETS {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
            assert!(
                given(target).iter().any(|folder| folder.ends_with(format!("corpus-seed/{target}"))),
                "{target}"
            );
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }
}
