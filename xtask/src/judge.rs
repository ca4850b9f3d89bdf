//! `cargo xtask judge`: what strangers' tools say of the doors over the network.
//!
//! Here live a node without agents on a free port, and two judges of it: promtool reads its metrics, schemathesis asks every operation
//! of its OpenAPI document what the document allows and what it forbids. Nothing is installed into the system: what is
//! missing is brought into a cache by pip, or it is said that it is missing.

use crate::cluster::cache_folder;
use crate::step::{Report, Runner};
use crate::{Outcome, root, say, setup};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The version whose verdicts are explained here.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// Without agents of its own: nothing that a judge makes up is run.
const CONFIG: &str = "[server]\nlisten = \"127.0.0.1:0\"\n\n[agents.nobody]\ndriver = \"external\"\n";
/// The log as it grows has no end, so it cannot be asked and read.
const STREAM: &str = "/events$";
/// Names, durations and bounds are narrower than the schema says: what is refused for that is explained in words.
const EXPLAINED: &str = "positive_data_acceptance";

/// Asks both judges.
pub fn command() -> Outcome {
    let mut build = Command::new("cargo");
    let built = build.args(["build", "--workspace", "--bin", "quorate"]).current_dir(root()).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("cargo build --bin quorate failed".into());
    }
    let node = Node::start()?;
    let mut report = Report::default();
    report.attempt("promtool accepts the metrics", || promtool(&node));
    match schemathesis() {
        Ok(Ok(program)) => {
            let mut judge = Command::new(program);
            judge.args(["run", &format!("{}/api/v1/openapi.json", node.url), "--no-color"]);
            judge.args(["--exclude-path-regex", STREAM, "--exclude-checks", EXPLAINED]);
            judge.args(["--generation-deterministic", "--max-examples", "20"]);
            judge.current_dir(&node.folder).stdin(Stdio::null());
            report.command(OPENAPI, Runner::None, &mut judge);
        }
        Ok(Err(why)) => report.attempt(OPENAPI, || Ok(Some(why))),
        Err(why) => report.attempt(OPENAPI, || Err(why)),
    }
    report.finish()
}

const OPENAPI: &str = "schemathesis finds the API as it is described";

fn promtool(node: &Node) -> Outcome<Option<String>> {
    if !setup::has("promtool") {
        return Ok(Some("promtool was not found: on Debian and Ubuntu: apt-get install prometheus".into()));
    }
    let metrics = node.get("/metrics")?;
    let mut judge = Command::new("promtool");
    judge.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut judge = judge.spawn().map_err(|e| format!("promtool could not be run: {e}"))?;
    let input = judge.stdin.take().ok_or("promtool takes no input")?;
    { input }.write_all(metrics.as_bytes()).map_err(|e| format!("promtool took no metrics: {e}"))?;
    let judged = judge.wait_with_output().map_err(|e| format!("promtool did not end: {e}"))?;
    let words = [judged.stdout, judged.stderr].concat();
    if judged.status.success() && words.is_empty() {
        return Ok(None);
    }
    Err(format!("promtool check metrics ({}): {}", judged.status, String::from_utf8_lossy(&words)))
}

/// Finds or installs schemathesis; `Err` within says why that cannot be done here.
fn schemathesis() -> Outcome<Result<PathBuf, String>> {
    let cache = cache_folder().ok_or("no folder for a cache: set HOME or XDG_CACHE_HOME")?;
    let folder = cache.with_file_name(SCHEMATHESIS.replace("==", "-"));
    let program = folder.join("bin/schemathesis");
    if succeeds(Command::new(&program).arg("--version")) {
        return Ok(Ok(program));
    }
    say(&format!("installing {SCHEMATHESIS} into {}", folder.display()));
    if !succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)) {
        return Ok(Err("python3 -m venv failed: on Debian and Ubuntu: apt-get install python3-venv".into()));
    }
    if !succeeds(Command::new(folder.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS])) {
        return Ok(Err(format!("pip could not install {SCHEMATHESIS}")));
    }
    Ok(Ok(program))
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A node in a folder of its own. It and the folder go with this value.
struct Node {
    folder: PathBuf,
    url: String,
    process: Child,
}

impl Node {
    fn start() -> Outcome<Node> {
        let folder = std::env::temp_dir().join(format!("quorate-judge-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        fs::write(folder.join("quorate.toml"), CONFIG)
            .map_err(|e| format!("cannot write into {}: {e}", folder.display()))?;
        let mut command = Command::new(crate::fire::target().join("debug/quorate"));
        command.arg("up").current_dir(&folder).env_remove("QUORATE_STORE").stdin(Stdio::null());
        let process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let process = process.map_err(|e| format!("the node could not be started: {e}"))?;
        let mut node = Node { folder, url: String::new(), process };
        let told = node.process.stderr.take().ok_or("the node tells nothing")?;
        let mut lines = BufReader::new(told).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        node.url = first.strip_prefix("listening at ").ok_or(format!("the node says: {first}"))?.to_owned();
        // It goes on telling; somebody must listen, or it waits for a reader one day.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(node)
    }

    fn get(&self, path: &str) -> Outcome<String> {
        let address = self.url.trim_start_matches("http://");
        let told = |e: std::io::Error| format!("GET {path}: {e}");
        let mut stream = std::net::TcpStream::connect(address).map_err(told)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(told)?;
        let answer = std::io::read_to_string(stream).map_err(told)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(format!("GET {path}: {answer}")),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
