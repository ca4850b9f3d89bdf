//! A folder with a ledger, and the binary that is run in it.

use nix::sys::signal::Signal;
pub use quorate_testkit::ledger::Backend;
use quorate_testkit::postgres::Schema;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub const SOON: Duration = Duration::from_secs(20);

/// A project of one test.
pub struct Door {
    folder: tempfile::TempDir,
    schema: Option<Schema>,
    /// The ledger's address, where it is not that of the schema.
    url: Option<String>,
}

/// Stamps each named `fn(Door)` as a test on both databases.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test(crate::door::Door::new(crate::door::Backend::Lite)); })*
        }
        mod postgres {
            $(#[test] fn $test() { super::$test(crate::door::Door::new(crate::door::Backend::Pg)); })*
        }
    };
}
pub(crate) use on_both;

/// Stamps each named `fn(Door)` as a test on both databases, with pgvector on PostgreSQL.
macro_rules! on_both_with_vectors {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { crate::door::run_with_vectors(crate::door::Backend::Lite, super::$test); })*
        }
        mod postgres {
            $(#[test] fn $test() { crate::door::run_with_vectors(crate::door::Backend::Pg, super::$test); })*
        }
    };
}
pub(crate) use on_both_with_vectors;

/// Runs a test where vectors can be compared; says so where pgvector is not here.
#[expect(clippy::print_stderr, reason = "what is not run is said")]
pub fn run_with_vectors(backend: Backend, test: fn(Door)) {
    match Door::with_vectors(backend) {
        Some(door) => test(door),
        None => eprintln!("not run: pgvector is not here (`cargo xtask setup` brings it where it can)"),
    }
}

impl Door {
    pub fn new(backend: Backend) -> Door {
        let schema = (backend == Backend::Pg).then(Schema::create);
        Door { folder: tempfile::tempdir().expect("a temporary folder"), schema, url: None }
    }

    /// A folder whose ledger can compare vectors; `None` where pgvector is not here.
    pub fn with_vectors(backend: Backend) -> Option<Door> {
        match backend {
            Backend::Lite => Some(Door::lite()),
            Backend::Pg => Some(Door { schema: Some(Schema::create_with_vectors()?), ..Door::lite() }),
        }
    }

    /// A folder whose ledger is at this address.
    pub fn at(url: &str) -> Door {
        Door { url: Some(url.to_owned()), ..Door::lite() }
    }

    pub fn lite() -> Door {
        Door::new(Backend::Lite)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(file), text).expect("the file is written");
    }

    /// The binary with these words, nothing of the tester's environment but the PATH.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(words).current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("NO_COLOR", "1").env("TZ", "UTC").stdin(Stdio::null());
        let schema = self.schema.as_ref().map(|schema| schema.url());
        if let Some(url) = schema.or(self.url.as_deref()) {
            command.env("QUORATE_STORE", url);
        }
        command
    }

    /// Changes the ledger from outside, as another program would.
    pub fn sql(&self, sql: &str) {
        match &self.schema {
            Some(schema) => schema.psql(sql).map(drop),
            None => rusqlite::Connection::open(self.path().join(".quorate/quorate.db"))
                .and_then(|file| file.execute_batch(sql))
                .map_err(|e| e.to_string()),
        }
        .unwrap_or_else(|why| panic!("{sql}: {why}"));
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    /// Runs what must work and returns what it printed.
    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "quorate {words:?}\n{out}{err}");
        out
    }

    /// Runs what must work with `--json` and returns the document.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> Value {
        let out = self.ok(&[words, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("quorate {words:?}: {e}\n{out}"))
    }

    /// Runs what must fail with this exit code; returns the error as `--json` shows it.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "quorate {words:?}\n{out}{err}");
        assert_eq!(out, "", "an error leaves standard output empty");
        let value: Value =
            serde_json::from_str(&err).unwrap_or_else(|e| panic!("quorate {words:?}: {e}\n{err}"));
        value["error"].clone()
    }

    /// Starts something that goes on beside the test; it is ended with the returned value.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        Running(Some(
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts"),
        ))
    }

    /// Looks again until `look` finds something: on PostgreSQL the log shows an event once no older transaction of
    /// the whole server is open, and other tests share that server.
    #[track_caller]
    pub fn eventually<T>(&self, what: &str, mut look: impl FnMut(&Door) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(begun.elapsed() < SOON, "did not happen: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the events of a kind once there are so many.
    #[track_caller]
    pub fn events(&self, kind: &str, count: usize) -> Vec<Value> {
        self.eventually(&format!("{count} of {kind}"), |door| {
            let found = lines(&door.ok(&["events", "--kind", kind, "--json"]));
            (found.len() >= count).then_some(found)
        })
    }
}

/// Returns standard output and standard error as text.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    (text(&output.stdout), text(&output.stderr))
}

/// Reads JSON Lines.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Reads a text.
#[track_caller]
pub fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Reads a number as a word of a command.
#[track_caller]
pub fn number(value: &Value) -> String {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number")).to_string()
}

/// A command that goes on; killed if the test ends before it.
pub struct Running(Option<Child>);

impl Running {
    pub fn begin(command: &mut Command) -> Running {
        Running(Some(command.spawn().expect("the binary starts")))
    }

    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not waited for")
    }

    pub fn signal(&mut self, signal: Signal) {
        let pid = i32::try_from(self.child().id()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it lives");
    }

    /// Sends Ctrl-C.
    pub fn interrupt(&mut self) {
        self.signal(Signal::SIGINT);
    }

    /// Waits for its end.
    pub fn end(mut self) -> Output {
        self.0.take().expect("it was not waited for").wait_with_output().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
