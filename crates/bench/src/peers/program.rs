//! A peer's program: made once, run on a database of its own, read.
//!
//! Here live the package managers' calls and the lines that programs print. Everything that is made lies in
//! `target/peers`. What goes wrong is an answer in words, as the table shows it: no peer is left out silently.

use super::list::{Language, Peer};
use super::standing::{Measure, Round};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take.
const RUN_MAX: Duration = Duration::from_secs(240);
/// How often a running program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Characters of a reason that are shown.
const REASON_MAX: usize = 160;

/// Why a peer has no numbers.
pub(super) type Why = String;

/// Returns the folder of the programs in the repository.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../peers")
}

/// Returns where a peer's program is written.
pub(super) fn source(peer: &Peer) -> PathBuf {
    match peer.language {
        Language::Rust => sources().join("rust/src/bin").join(peer.program).with_extension("rs"),
        Language::Node => sources().join("node").join(peer.program).with_extension("js"),
        Language::Python => sources().join("python").join(peer.program).with_extension("py"),
    }
}

/// Returns the folder of everything that is made: `target/peers`, beside the folder of this program.
pub(super) fn folder() -> Result<PathBuf, Why> {
    let me = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let target = me.ancestors().nth(2).ok_or("this program does not lie in a target folder")?;
    Ok(target.join("peers"))
}

/// Makes what a peer's program needs, unless it is there.
pub(super) fn make(peer: &Peer) -> Result<(), Why> {
    let made = folder()?;
    match peer.language {
        Language::Rust => {
            let mut cargo = Command::new("cargo");
            cargo.args(["build", "--release", "--locked", "--quiet", "--target-dir"]).arg(made.join("rust"));
            make_with(cargo.current_dir(sources().join("rust")), &made.join("rust.log"))
        }
        Language::Node => {
            let pins = sources().join("node/package.json");
            once(&made.join("node"), &pins, |folder| {
                copy(&pins, &folder.join("package.json"))?;
                let mut npm = Command::new("npm");
                npm.args(["install", "--no-fund", "--no-audit", "--no-package-lock"]).current_dir(folder);
                make_with(&mut npm, &made.join("node.log"))
            })
        }
        Language::Python => {
            let (log, pins) =
                (made.join(format!("{}.log", peer.program)), source(peer).with_extension("txt"));
            once(&made.join("python").join(peer.program), &pins, |folder| {
                let mut python = Command::new("python3");
                make_with(python.args(["-m", "venv", "--clear"]).arg(folder), &log)?;
                let mut pip = Command::new(folder.join("bin/pip"));
                pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&pins);
                make_with(&mut pip, &log)
            })
        }
    }
}

/// Makes a folder unless it was made of the same pins before.
fn once(folder: &Path, pins: &Path, make: impl FnOnce(&Path) -> Result<(), Why>) -> Result<(), Why> {
    let stamp = folder.join("made-of");
    let wanted = fs::read(pins).map_err(|e| format!("cannot read {}: {e}", pins.display()))?;
    if fs::read(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    make(folder)?;
    copy(pins, &stamp)
}

fn copy(from: &Path, to: &Path) -> Result<(), Why> {
    fs::copy(from, to).map(drop).map_err(|e| format!("cannot write {}: {e}", to.display()))
}

/// Runs a peer's program once; `place` is its database's URL or the folder of its files.
pub(super) fn run(peer: &Peer, tasks: usize, place: (&'static str, &str)) -> Result<Round, Why> {
    let made = folder()?;
    let program = match peer.language {
        Language::Rust => made.join("rust/release").join(peer.program),
        Language::Node => PathBuf::from("node"),
        Language::Python => made.join("python").join(peer.program).join("bin/python"),
    };
    let mut command = Command::new(program);
    match peer.language {
        Language::Rust => {}
        Language::Node => drop(command.arg(source(peer)).env("NODE_PATH", made.join("node/node_modules"))),
        Language::Python => drop(command.arg(source(peer)).env("PYTHONDONTWRITEBYTECODE", "1")),
    }
    for name in std::env::vars_os().map(|(name, _)| name) {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("PEERS_TASKS", tasks.to_string()).env("PEERS_SLOTS", super::SLOTS.to_string());
    command.envs(peer.settings.iter().copied()).env(place.0, place.1);
    let log = made.join(format!("{}.log", peer.program));
    let output = made.join(format!("{}.out", peer.program));
    let file = File::create(&output).map_err(|e| format!("cannot write {}: {e}", output.display()))?;
    command.stdout(file);
    run_to_end(&mut command, &log)?;
    let text = fs::read_to_string(&output).map_err(|e| format!("cannot read {}: {e}", output.display()))?;
    let round = read(&text);
    if round.is_empty() { Err("it printed no numbers".to_owned()) } else { Ok(round) }
}

/// Runs a package manager: what it prints is not the bench's.
fn make_with(command: &mut Command, log: &Path) -> Result<(), Why> {
    run_to_end(command.stdout(Stdio::null()), log)
}

/// Runs a command; the end of what it says on standard error is the reason when it fails.
fn run_to_end(command: &mut Command, log: &Path) -> Result<(), Why> {
    let name = command.get_program().to_string_lossy().into_owned();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    }
    let file = File::create(log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    let mut child =
        command.stdin(Stdio::null()).stderr(file).spawn().map_err(|e| format!("cannot run {name}: {e}"))?;
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let said = fs::read(log).unwrap_or_default();
                return Err(format!("{name}: {status}: {}", reason(&String::from_utf8_lossy(&said))));
            }
            Ok(None) if began.elapsed() > RUN_MAX && !is_maker(&name) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name}: not done after {} s", RUN_MAX.as_secs()));
            }
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Err(e) => return Err(format!("cannot wait for {name}: {e}")),
        }
    }
}

/// Compiling and downloading take as long as they take.
fn is_maker(name: &str) -> bool {
    matches!(name, "cargo" | "npm" | "pip" | "python3")
}

/// Returns the line that says most: the last one, cut.
fn reason(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next_back().unwrap_or("it said nothing").chars().take(REASON_MAX).collect()
}

/// Reads lines of `NAME jobs_per_s=… p50_ms=… p99_ms=…`.
fn read(text: &str) -> Round {
    let mut round = Round::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        let numbers = words.filter_map(|word| word.split_once('='));
        for (name, number) in numbers.filter_map(|(name, number)| Some((name, number.parse::<f64>().ok()?))) {
            if let Some(measure) = Measure::of(what, name).filter(|_| number.is_finite()) {
                round.insert(measure, number);
            }
        }
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_program_are_read_and_what_it_did_not_measure_is_left_out() {
        let text = "add jobs_per_s=20000 p50_ms=nan p99_ms=nan\nnoise\ndrain jobs_per_s=100 p50_ms=1.0 p99_ms=2.0\n\
                    wake jobs_per_s=0 p50_ms=3.2 p99_ms=10.6\nthousand jobs_per_s=65 p50_ms=nan p99_ms=nan wall_s=15.3\n";
        let expected = [
            (Measure::Drain, 100.0),
            (Measure::Add, 20_000.0),
            (Measure::WakeP50, 3.2),
            (Measure::WakeP99, 10.6),
            (Measure::Wall, 15.3),
        ];
        assert_eq!(read(text), Round::from(expected));
    }

    #[test]
    fn a_reason_is_the_last_line_and_short() {
        assert_eq!(reason("Traceback\n  line\nValueError: no\n\n"), "ValueError: no");
        assert_eq!(reason(&"x".repeat(1_000)).len(), REASON_MAX);
    }

    #[test]
    fn a_program_that_fails_or_is_missing_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut failing = Command::new("sh");
        let why = run_to_end(failing.args(["-c", "echo first >&2; echo why >&2; exit 3"]), &log);
        assert!(why.as_ref().is_err_and(|why| why.contains("3") && why.ends_with(": why")), "{why:?}");
        let why = run_to_end(&mut Command::new("no-such-program"), &log);
        assert!(why.is_err_and(|why| why.starts_with("cannot run no-such-program")));
    }

    #[test]
    fn what_was_made_of_the_same_pins_is_not_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (made, pins) = (folder.path().join("made"), folder.path().join("pins.txt"));
        fs::write(&pins, "a==1\n").expect("written");
        let mut times = 0;
        for text in ["a==1\n", "a==1\n", "a==2\n"] {
            fs::write(&pins, text).expect("written");
            let count = |_: &Path| {
                times += 1;
                Ok(())
            };
            once(&made, &pins, count).expect("made");
        }
        assert_eq!(times, 2);
        let failed = || once(&folder.path().join("other"), &pins, |_| Err("no network".to_owned()));
        assert_eq!((failed(), failed()), (Err("no network".to_owned()), Err("no network".to_owned())));
    }
}
