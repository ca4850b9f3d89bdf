//! One attempt of an agent that is another's program, from its start to its end.
//!
//! Here lives what is not pure: starting it, passing its lines to their reader, and writing what they say. It runs in a
//! process of its own (`quorate drive`), which is an ordinary child to the node: limits, timeouts, masking and the end
//! of the whole tree are the supervisor's.
//!
//! ```text
//! task document ─▶ prompt ─▶ program ─ stdout ─▶ reader ─▶ words, usage, progress ─▶ ending ─▶ exit code
//!                                    └ stderr ─▶ words ┘
//! ```

use crate::agent::{Home, Launch, Means, Program, Stream};
use crate::ending::Ending;
use crate::prompt::{Prompt, ROLE_MAX};
use crate::say::{Out, Writer};
use crate::settings::Settings;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_model::{Error, Kind, Result};
use serde_json::Value;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Terms, SignalKind, signal};

/// The longest line of a stream that is read; of a longer one only this much is.
const LINE_MAX: usize = 8 << 20;
/// How long an agent may be refused by its provider before it is ended and its task parked.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How long a program may take to end after its output has.
const END_WAIT: Duration = Duration::from_secs(30);
/// How long a program that has said how its work ended may go on without a word before it is ended: it may have left
/// something running that never ends.
pub const LINGER: Duration = Duration::from_secs(60);
/// How long the output of a program that has ended is read on: what it left running may hold it open.
const LEFT_WAIT: Duration = Duration::from_secs(2);
/// The exit code of what was ended by TERM, as shells have it.
const TERMINATED: u8 = 143;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// The task document.
    pub document: Value,
    /// The agent's settings.
    pub settings: Settings,
    /// The folder it works in.
    pub dir: PathBuf,
    /// The program and arguments of its MCP server; none if empty.
    pub mcp: Vec<String>,
    /// How long it may be refused by its provider.
    pub patience: Duration,
    /// How long it may go on in silence once it has said how its work ended.
    pub linger: Duration,
}

impl Job {
    /// Reads the job from a task document.
    ///
    /// # Errors
    /// `Invalid` for a document that is no task.
    pub fn new(document: &str, settings: Settings, dir: PathBuf, mcp: Vec<String>) -> Result<Job> {
        let document: Value = serde_json::from_str(document)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| Error::invalid("the task on standard input is no JSON object"))?;
        Ok(Job { document, settings, dir, mcp, patience: PATIENCE, linger: LINGER })
    }

    /// Makes what the agent is told.
    ///
    /// # Errors
    /// `Invalid` when the file with its role cannot be read.
    pub fn prompt(&self) -> Result<Prompt> {
        let role = self.settings.prompt.as_ref().map(|file| read_role(&self.dir.join(file))).transpose()?;
        Ok(Prompt::new(&self.document, role.as_deref(), !self.mcp.is_empty()))
    }

    /// Returns a folder of this attempt's own; it need not be there.
    fn folder(&self) -> PathBuf {
        let number = |key: &str| self.document[key].as_i64().unwrap_or_default();
        let name = format!("{}-{}", number("id"), number("attempt"));
        self.settings.state.join("drive").join(name)
    }
}

fn read_role(file: &Path) -> Result<String> {
    let cannot = |why: &dyn std::fmt::Display| {
        Error::invalid(format!("cannot read the agent's role in {}: {why}", file.display()))
            .hint("write that file, or mend `prompt` of its table in quorate.toml")
    };
    let mut bytes = Vec::new();
    // One byte more tells the prompt that something is left out.
    let opened = std::fs::File::open(file).map_err(|e| cannot(&e))?;
    opened.take(ROLE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|e| cannot(&e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a program as an agent on one task, writing to `out` as a command agent does; answers with the exit code.
///
/// # Errors
/// When the program cannot be started, or nobody reads what it says.
pub async fn drive(program: Program, job: &Job, out: impl Write) -> Result<u8> {
    let prompt = job.prompt()?;
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let means = Means { mcp: job.mcp.clone(), variables, folder: job.folder() };
    let launch = program.launch(&job.settings, &prompt, &means);
    // Before the start: who is told to stop from now on passes it on.
    let terms = signal(SignalKind::terminate())
        .map_err(|e| Error::failed(format!("cannot listen for signals: {e}")))?;
    let home = launch.home.as_ref().map(OwnHome::make).transpose()?;
    let child = start(program, &launch, &job.dir)?;
    let mut watch = Watch {
        stream: program.stream(&job.settings),
        writer: Writer::new(out),
        patience: job.patience,
        linger: job.linger,
        refused: None,
    };
    let ended = watch.until_end(child, launch.stdin, terms).await?;
    drop(home);
    let Ended::ByItself(code) = ended else { return Ok(TERMINATED) };
    let ending = match watch.waited_too_long() {
        Some(parked) => Ending::Parked(parked),
        None => watch.stream.end(code),
    };
    conclude(&ending, &mut watch.writer)
}

/// Says how it ended; answers with the exit code.
pub(crate) fn conclude<W: Write>(ending: &Ending, writer: &mut Writer<W>) -> Result<u8> {
    let now = Instant::now();
    let (written, code) = match ending {
        Ending::Done(value) => (writer.say(&Out::Result(value.clone()), now), 0),
        Ending::Failed(why) => (writer.text(why, now), Kind::Failed.exit_code()),
        Ending::Parked(parked) => {
            let told = writer.text(&format!("parked: {}", parked.reason), now);
            (told.and_then(|()| writer.line(&parked.line(), now)), Kind::Refused.exit_code())
        }
    };
    written.map_err(|e| nobody_reads(&e))?;
    Ok(code)
}

pub(crate) fn nobody_reads(e: &std::io::Error) -> Error {
    Error::failed(format!("cannot write to the supervisor: {e}"))
}

/// A home for the program alone; it goes with the value.
struct OwnHome(PathBuf);

impl OwnHome {
    fn make(home: &Home) -> Result<OwnHome> {
        let own = OwnHome(home.folder.clone());
        let inner = home.folder.join(home.inner);
        let cannot = |e: std::io::Error| Error::failed(format!("cannot write {}: {e}", inner.display()));
        // One of an attempt that was killed may be left.
        let _ = std::fs::remove_dir_all(&home.folder);
        DirBuilder::new().recursive(true).mode(0o700).create(&inner).map_err(cannot)?;
        let users = std::env::var_os(home.variable).or_else(|| std::env::var_os("HOME")).unwrap_or_default();
        let users = Path::new(&users).join(home.inner);
        for entry in std::fs::read_dir(&users)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name() != home.file)
        {
            symlink(entry.path(), inner.join(entry.file_name())).map_err(cannot)?;
        }
        let text = std::fs::read_to_string(users.join(home.file)).ok();
        let settings = home.settings(text.as_deref()).map_err(|why| {
            Error::invalid(format!("{}: {why}", users.display())).hint("take comments out of it, or mend it")
        })?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written =
            options.open(inner.join(home.file)).and_then(|mut file| file.write_all(settings.as_bytes()));
        written.map_err(cannot)?;
        Ok(own)
    }
}

impl Drop for OwnHome {
    fn drop(&mut self) {
        // Links go, and what they lead to stays. What is left of it holds no secret.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(program: Program, launch: &Launch, dir: &Path) -> Result<Child> {
    let mut command = Command::new(&launch.program);
    command.args(&launch.args).current_dir(dir).envs(launch.env.iter().cloned());
    command.envs(launch.home.iter().map(|home| (home.variable, &home.folder)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Error::failed(format!("{} was not found", launch.program)).hint(program.install())
        }
        _ => Error::failed(format!("cannot start {}: {e}", launch.program)),
    })
}

enum Ended {
    ByItself(Option<i32>),
    /// We were told to stop.
    ByTerm,
}

/// What came next.
enum Event {
    Line(Option<String>),
    ErrorLine(Option<String>),
    Exit(Option<i32>),
    Look,
    Late,
    Term,
}

/// Passes on what a program says.
struct Watch<W> {
    stream: Box<dyn Stream>,
    writer: Writer<W>,
    patience: Duration,
    linger: Duration,
    /// Since when its provider refuses it.
    refused: Option<Instant>,
}

impl<W: Write> Watch<W> {
    async fn until_end(&mut self, mut child: Child, stdin: String, mut terms: Terms) -> Result<Ended> {
        let missing = || Error::failed("the program has no standard streams");
        let mut input = child.stdin.take().ok_or_else(missing)?;
        let mut output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let mut errors = BufReader::new(child.stderr.take().ok_or_else(missing)?);
        // One that does not read its input to the end says why itself.
        let feeding = tokio::spawn(async move {
            let _ = input.write_all(stdin.as_bytes()).await;
        });
        let (mut line, mut error_line) = (Vec::new(), Vec::new());
        let (mut has_output, mut has_errors, mut is_told) = (true, true, false);
        let (mut exit, mut until) = (None, None);
        while has_output {
            let event = tokio::select! {
                read = next_line(&mut output, &mut line) => Event::Line(read),
                read = next_line(&mut errors, &mut error_line), if has_errors => Event::ErrorLine(read),
                status = child.wait(), if exit.is_none() => Event::Exit(status.ok().and_then(|status| status.code())),
                () = tokio::time::sleep(self.patience / 4), if self.refused.is_some() => Event::Look,
                () = moment(until) => Event::Late,
                _ = terms.recv() => Event::Term,
            };
            match event {
                Event::Line(Some(line)) => {
                    self.line(&line)?;
                    if exit.is_none() && self.stream.is_over() {
                        until = Some(Instant::now() + self.linger);
                    }
                }
                Event::Line(None) => has_output = false,
                Event::ErrorLine(Some(line)) => self.error_line(&line)?,
                Event::ErrorLine(None) => has_errors = false,
                Event::Exit(code) => {
                    exit = Some(code);
                    until = Some(Instant::now() + LEFT_WAIT);
                }
                Event::Look => {}
                Event::Late => break,
                Event::Term => {
                    is_told = true;
                    tell_to_end(&child);
                }
            }
            if self.waited_too_long().is_some() {
                break;
            }
        }
        feeding.abort();
        if is_told {
            // The supervisor ends it for good when its grace is over.
            let _ = child.wait().await;
            return Ok(Ended::ByTerm);
        }
        if has_output && exit.is_none() {
            tell_to_end(&child);
        }
        let wait = if exit.is_some() { LEFT_WAIT } else { END_WAIT };
        while has_errors
            && let Ok(Some(line)) = tokio::time::timeout(wait, next_line(&mut errors, &mut error_line)).await
        {
            self.error_line(&line)?;
        }
        let code = match exit {
            Some(code) => code,
            None => {
                let status = tokio::time::timeout(END_WAIT, child.wait()).await;
                status.ok().and_then(|status| status.ok()?.code())
            }
        };
        Ok(Ended::ByItself(code))
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (outs, now) = (self.stream.on_line(line), Instant::now());
        for out in outs {
            self.writer.say(&out, now).map_err(|e| nobody_reads(&e))?;
        }
        self.look_for_refusal();
        Ok(())
    }

    /// Keeps a line of standard error among the others: the last line of all is the reason of a failure.
    fn error_line(&mut self, line: &str) -> Result<()> {
        self.writer.text(line, Instant::now()).map_err(|e| nobody_reads(&e))?;
        self.stream.on_error_line(line);
        self.look_for_refusal();
        Ok(())
    }

    fn look_for_refusal(&mut self) {
        self.refused = self.stream.waits().map(|_| self.refused.unwrap_or_else(Instant::now));
    }

    /// Returns why its task is to be parked: its provider has refused it for too long.
    fn waited_too_long(&self) -> Option<crate::say::Parked> {
        let since = self.refused?;
        (since.elapsed() >= self.patience).then(|| self.stream.waits().cloned()).flatten()
    }
}

/// Waits until a time; for ever without one.
async fn moment(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

fn tell_to_end(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// Reads a line into `begun`, which keeps what has come when the read is given up; `None` at the end.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), begun: &mut Vec<u8>) -> Option<String> {
    loop {
        let bytes = from.fill_buf().await.ok()?;
        if bytes.is_empty() {
            let last = (!begun.is_empty()).then(|| String::from_utf8_lossy(begun).into_owned());
            begun.clear();
            return last;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = LINE_MAX.saturating_sub(begun.len()).min(part.len());
        begun.extend_from_slice(&part[..room]);
        let read = part.len() + usize::from(end.is_some());
        from.consume(read);
        if end.is_some() {
            let line = String::from_utf8_lossy(begun).into_owned();
            begun.clear();
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(folder: &Path) -> Job {
        let document = json!({ "id": 3, "attempt": 1, "agent": "a", "title": "t", "prompt": "do it" });
        let settings = Settings { state: folder.join("state"), ..Settings::default() };
        Job::new(&document.to_string(), settings, folder.to_owned(), Vec::new()).unwrap()
    }

    async fn run(program: Program, job: &Job) -> (u8, String) {
        let mut out = Vec::new();
        let code = drive(program, job, &mut out).await.unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    /// Makes a program that does what the script says, whatever its arguments are.
    fn program(folder: &Path, script: &str) -> Job {
        let file = folder.join("agent.sh");
        let mut options = OpenOptions::new();
        let mut opened = options.write(true).create(true).truncate(true).mode(0o755).open(&file).unwrap();
        opened.write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        let mut job = job(folder);
        job.settings.command = vec![file.display().to_string()];
        job
    }

    #[tokio::test]
    async fn an_agent_reads_its_prompt_and_its_last_message_is_the_result() {
        let folder = tempfile::tempdir().unwrap();
        let job = program(
            folder.path(),
            r#"grep -q 'do it' || exit 9
               echo '{"type":"item.completed","item":{"type":"agent_message","text":"Found it."}}'
               echo 'what is this'
               echo '{"type":"turn.completed","usage":{"input_tokens":3,"output_tokens":1}}'"#,
        );
        let (code, said) = run(Program::Codex, &job).await;
        assert_eq!(code, 0, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], ["Found it.", "what is this"]);
        assert!(lines[2].contains("\"quorate\":\"usage\"") && lines[2].contains("\"input_tokens\":3"));
        assert_eq!(lines[3], r#"{"quorate":"result","value":"Found it."}"#);
    }

    #[tokio::test]
    async fn a_failure_s_reason_is_the_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let job = program(
            folder.path(),
            r#"echo '{"type":"turn.failed","error":{"message":"no such model"}}'; exit 1"#,
        );
        let (code, said) = run(Program::Codex, &job).await;
        assert_eq!((code, said.lines().last()), (1, Some("no such model")));
    }

    #[tokio::test]
    async fn an_agent_that_is_refused_for_too_long_is_ended_and_parked() {
        let folder = tempfile::tempdir().unwrap();
        let mut job = program(
            folder.path(),
            r#"echo '{"type":"error","message":"429, try again in 2 hours"}'; exec sleep 600"#,
        );
        job.patience = Duration::from_millis(50);
        let (code, said) = run(Program::Codex, &job).await;
        assert_eq!(code, Kind::Refused.exit_code());
        let parked: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&parked["quorate"], &parked["after_ms"]), (&json!("parked"), &json!(7_200_000)));
    }

    #[tokio::test]
    async fn a_program_that_has_ended_its_work_and_does_not_end_is_ended() {
        let ends = [
            (Program::Claude, r#"{"type":"result","subtype":"success","result":"ok"}"#),
            (Program::Gemini, r#"{"type":"result","status":"success"}"#),
            (Program::Codex, r#"{"type":"turn.completed","usage":{}}"#),
        ];
        for (agent, end) in ends {
            let folder = tempfile::tempdir().unwrap();
            let said = r#"{"type":"message","role":"assistant","content":"ok"}"#;
            let item = r#"{"type":"item.completed","item":{"type":"agent_message","text":"ok"}}"#;
            let mut job = program(
                folder.path(),
                &format!("echo '{said}'; echo '{item}'; echo '{end}'; exec sleep 600"),
            );
            job.linger = Duration::from_millis(100);
            let (code, said) = run(agent, &job).await;
            assert_eq!(
                (code, said.lines().last()),
                (0, Some(r#"{"quorate":"result","value":"ok"}"#)),
                "{said}"
            );
        }
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let end = r#"{"type":"result","subtype":"success","result":"ok"}"#;
        let job = program(folder.path(), &format!("sleep 600 & echo $! > left; echo '{end}'"));
        let (code, said) = run(Program::Claude, &job).await;
        assert_eq!(code, 0, "{said}");
        let left: i32 = std::fs::read_to_string(folder.path().join("left")).unwrap().trim().parse().unwrap();
        // What is left is the supervisor's to end: here it is ours.
        kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn words_after_the_end_are_still_heard() {
        let folder = tempfile::tempdir().unwrap();
        let end = |said: &str| format!(r#"echo '{{"type":"result","subtype":"success","result":"{said}"}}'"#);
        let job = program(folder.path(), &format!("{}; sleep 0.2; {}", end("first"), end("second")));
        let (code, said) = run(Program::Claude, &job).await;
        assert_eq!(
            (code, said.lines().last()),
            (0, Some(r#"{"quorate":"result","value":"second"}"#)),
            "{said}"
        );
    }

    #[tokio::test]
    async fn the_last_line_is_the_reason_whatever_stands_on_standard_error() {
        let folder = tempfile::tempdir().unwrap();
        let failed = r#"{"type":"turn.failed","error":{"message":"no such model"}}"#;
        let job = program(
            folder.path(),
            &format!("echo '{failed}'; for n in 1 2 3; do echo \"   at line $n\" >&2; done; exit 1"),
        );
        let (code, said) = run(Program::Codex, &job).await;
        assert_eq!((code, said.lines().last()), (1, Some("no such model")), "{said}");
        assert!(said.contains("   at line 3\n"), "{said}");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_told_with_what_installs_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(folder.path());
        job.settings.command = vec!["/nowhere/claude".into()];
        let error = drive(Program::Claude, &job, Vec::new()).await.unwrap_err();
        assert_eq!(error.message, "/nowhere/claude was not found");
        assert_eq!(error.hint.as_deref(), Some("npm install -g @anthropic-ai/claude-code"));
    }

    #[tokio::test]
    async fn a_home_of_its_own_goes_with_it_and_what_it_links_to_stays() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let job = program(
            folder.path(),
            r#"stat -c %a "$GEMINI_CLI_HOME/.gemini/settings.json" > mode
               cp "$GEMINI_CLI_HOME/.gemini/settings.json" seen
               echo '{"type":"message","role":"assistant","content":"ok","delta":true}'
               echo '{"type":"result","status":"success"}'"#,
        );
        assert_eq!(run(Program::Gemini, &job).await.0, 0);
        assert_eq!(std::fs::read_to_string(folder.path().join("mode")).unwrap(), "600\n");
        let drive = folder.path().join("state/drive");
        assert_eq!(std::fs::read_dir(&drive).unwrap().count(), 0);
        assert_eq!(drive.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let kept = folder.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let own = OwnHome(folder.path().join("own"));
        std::fs::create_dir(&own.0).unwrap();
        symlink(&kept, own.0.join("link")).unwrap();
        drop(own);
        assert!(kept.join("file").exists() && !folder.path().join("own").exists());
    }

    #[test]
    fn a_role_that_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut job = job(folder.path());
        job.settings.prompt = Some("prompts/none.md".into());
        let error = job.prompt().unwrap_err();
        assert!(error.message.contains("prompts/none.md") && error.hint.unwrap().contains("quorate.toml"));
        std::fs::write(folder.path().join("role.md"), "You are patient.").unwrap();
        job.settings.prompt = Some("role.md".into());
        assert!(job.prompt().unwrap().role.ends_with("You are patient."));
    }

    #[test]
    fn a_document_that_is_no_task_is_refused() {
        for text in ["", "7", "[]"] {
            assert!(Job::new(text, Settings::default(), PathBuf::new(), Vec::new()).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_line_is_read_up_to_its_limit() {
        let text = format!("{}\nb\nc", "x".repeat(LINE_MAX + 9));
        let (mut from, mut begun) = (BufReader::new(text.as_bytes()), Vec::new());
        assert_eq!(next_line(&mut from, &mut begun).await.map(|line| line.len()), Some(LINE_MAX));
        assert_eq!(next_line(&mut from, &mut begun).await.as_deref(), Some("b"));
        assert_eq!(next_line(&mut from, &mut begun).await.as_deref(), Some("c"));
        assert_eq!(next_line(&mut from, &mut begun).await, None);
    }
}
