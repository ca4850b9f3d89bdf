//! What is judged: a process of our own that serves on a free port.
//!
//! Here live a node without agents, the door with what the conformance suite asks for behind it, and asking either.

use crate::Outcome;
use crate::fire::target;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Without agents of its own: nothing that a judge makes up is run. Whoever comes may plan.
const CONFIG: &str = "[server]\nlisten = \"127.0.0.1:0\"\n\n[agents.planner]\ndriver = \"external\"\n\
                      capabilities = [\"orchestration\"]\n";

/// A process in a folder of its own. It and the folder go with this value.
pub struct Served {
    folder: PathBuf,
    url: String,
    process: Child,
}

impl Served {
    /// Starts a node.
    pub fn node() -> Outcome<Served> {
        let folder = folder("node")?;
        fs::write(folder.join("quorate.toml"), CONFIG)
            .map_err(|e| format!("cannot write into {}: {e}", folder.display()))?;
        let mut command = Command::new(target().join("debug/quorate"));
        command.arg("up").env_remove("QUORATE_STORE").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Served::start(folder, &mut command, |process| process.stderr.take())
    }

    /// Starts the door with what the conformance suite of MCP asks for behind it.
    pub fn fixture() -> Outcome<Served> {
        let mut command = Command::new(target().join("debug/examples/conformance"));
        // It ends with its input, should we not be there to end it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Served::start(folder("fixture")?, &mut command, |process| process.stdout.take())
    }

    fn start<Output: Read + Send + 'static>(
        folder: PathBuf,
        command: &mut Command,
        told: impl Fn(&mut Child) -> Option<Output>,
    ) -> Outcome<Served> {
        let process = command.current_dir(&folder).spawn();
        let process = process.map_err(|e| format!("{command:?} could not be started: {e}"))?;
        let mut served = Served { folder, url: String::new(), process };
        let told = told(&mut served.process).ok_or("the server tells nothing")?;
        let mut lines = BufReader::new(told).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        let url = first.strip_prefix("listening at ");
        served.url = url.ok_or(format!("the server says: {first}"))?.to_owned();
        // It goes on telling; somebody must listen, or it waits for a reader one day.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(served)
    }

    /// Returns where it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks for a page.
    pub fn get(&self, path: &str) -> Outcome<String> {
        self.ask(&format!("GET {path}"), "")
    }

    /// Asks for something to be done.
    pub fn post(&self, path: &str, body: &str) -> Outcome<String> {
        self.ask(&format!("POST {path}"), body)
    }

    fn ask(&self, request: &str, body: &str) -> Outcome<String> {
        let address = self.url.trim_start_matches("http://");
        let told = |e: std::io::Error| format!("{request}: {e}");
        let mut stream = TcpStream::connect(address).map_err(told)?;
        let head =
            format!("Host: {address}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        write!(stream, "{request} HTTP/1.0\r\n{head}\r\n\r\n{body}").map_err(told)?;
        let answer = std::io::read_to_string(stream).map_err(told)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(format!("{request}: {answer}")),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn folder(name: &str) -> Outcome<PathBuf> {
    let folder = std::env::temp_dir().join(format!("quorate-judge-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    Ok(folder)
}
