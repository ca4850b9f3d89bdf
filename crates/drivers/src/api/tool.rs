//! The commands that a model may call.
//!
//! Here live what the model is told of them and how one is run: the words of the table, behind them the arguments of the
//! call, never through a shell. Time and output are bounded; what a command leaves running ends with it.

use super::talk::Offer;
use crate::say::head;
use crate::settings::Tool;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// How long a command may run.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);
/// How long the output of a command that has ended is read on: what it left running may hold it open.
const LEFT_WAIT: Duration = Duration::from_millis(500);
/// How much of the beginning and of the end of its output the model is shown, in bytes.
const HEAD_MAX: usize = 16 << 10;
const TAIL_MAX: usize = 16 << 10;
/// Arguments of one call, and the bytes of all of them.
const ARGUMENTS_MAX: usize = 256;
const ARGUMENT_BYTES_MAX: usize = 96 << 10;

/// What a model is told of a command.
pub(super) fn offer(name: &str, tool: &Tool) -> Offer {
    let words = tool.command.join(" ");
    let about = if tool.about.is_empty() {
        format!("Runs `{words}`.")
    } else {
        format!("{} (`{words}`)", tool.about)
    };
    let schema = json!({
        "type": "object",
        "properties": {
            "arguments": {
                "type": "array", "items": { "type": "string" },
                "description": format!("Words behind `{words}`; no shell reads them."),
            },
            "stdin": { "type": "string", "description": "What the command reads on standard input." },
        },
    });
    Offer { name: name.to_owned(), about, schema }
}

/// Runs a command; answers with what the model is told, and whether that is an error.
pub(super) async fn run(tool: &Tool, input: &Value, dir: &Path, timeout: Duration) -> (String, bool) {
    match arguments(input) {
        Ok(arguments) => {
            let stdin = input["stdin"].as_str().unwrap_or_default().to_owned();
            start(tool, &arguments, stdin, dir, timeout).await
        }
        Err(why) => (why, true),
    }
}

fn arguments(input: &Value) -> Result<Vec<String>, String> {
    let list = match &input["arguments"] {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err("`arguments` is no list of texts".to_owned()),
    };
    let words: Option<Vec<String>> = list.iter().map(|word| word.as_str().map(str::to_owned)).collect();
    let words = words.ok_or("`arguments` holds something that is no text")?;
    let bytes: usize = words.iter().map(String::len).sum();
    if words.len() > ARGUMENTS_MAX
        || bytes > ARGUMENT_BYTES_MAX
        || words.iter().any(|word| word.contains('\0'))
    {
        return Err(format!(
            "at most {ARGUMENTS_MAX} arguments with {ARGUMENT_BYTES_MAX} bytes, without NUL"
        ));
    }
    Ok(words)
}

async fn start(
    tool: &Tool,
    arguments: &[String],
    stdin: String,
    dir: &Path,
    timeout: Duration,
) -> (String, bool) {
    let Some((program, words)) = tool.command.split_first() else { return ("no command".to_owned(), true) };
    let mut command = Command::new(program);
    command.args(words).args(arguments).current_dir(dir).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return (format!("cannot start {program}: {e}"), true),
    };
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let feed = async {
        if let Some(mut input) = child.stdin.take() {
            // One that does not read its input may still do its work.
            let _ = input.write_all(stdin.as_bytes()).await;
        }
    };
    let (mut out, mut err) = (Kept::default(), Kept::default());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let streams = async { tokio::join!(out.read(stdout), err.read(stderr), feed) };
        let (mut streams, mut end) = (pin!(streams), pin!(ended(group)));
        tokio::select! {
            _ = &mut streams => end.await,
            () = &mut end => drop(tokio::time::timeout(LEFT_WAIT, streams).await),
        }
    };
    let in_time = tokio::time::timeout(timeout, work).await.is_ok();
    if let Some(group) = group {
        // Nothing of it is to run on; all of it may have ended.
        let _ = killpg(group, Signal::SIGKILL);
    }
    let status = child.wait().await.ok();
    let told =
        [out.text(), err.text()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    match status.and_then(|status| status.code()) {
        _ if !in_time => (format!("{told}\n[stopped after {} s]", timeout.as_secs()), true),
        Some(0) if told.is_empty() => ("[no output]".to_owned(), false),
        Some(0) => (told, false),
        Some(code) => (format!("{told}\n[exit code {code}]"), true),
        None => (format!("{told}\n[ended by a signal]"), true),
    }
}

/// Waits until a child has ended, and leaves it to be reaped: until then its group is nobody else's, and can be killed.
async fn ended(child: Option<Pid>) {
    let Some(child) = child else { return };
    let wait = move || {
        while waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    };
    // A child that outlives its time is killed, which ends this thread, too.
    let _ = tokio::task::spawn_blocking(wait).await;
}

/// What is kept of an output: its beginning and its end.
#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    dropped: usize,
}

impl Kept {
    async fn read(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length) = from.read(&mut buffer).await
            && length > 0
        {
            self.take(&buffer[..length]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = HEAD_MAX.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend_from_slice(&bytes[room..]);
        let over = self.tail.len().saturating_sub(TAIL_MAX);
        self.tail.drain(..over);
        self.dropped += over;
    }

    fn text(&self) -> String {
        let (head_text, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&self.tail));
        match self.dropped {
            0 => format!("{head_text}{tail}").trim_end().to_owned(),
            dropped => {
                format!("{}\n[{dropped} bytes left out]\n{}", head(&head_text, HEAD_MAX), tail.trim_end())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(words: &[&str]) -> Tool {
        Tool { command: words.iter().map(|word| (*word).to_owned()).collect(), about: "x".into() }
    }

    async fn told(words: &[&str], input: Value) -> (String, bool) {
        run(&tool(words), &input, Path::new("/"), Duration::from_secs(20)).await
    }

    #[tokio::test]
    async fn arguments_come_behind_the_words_of_the_table_and_no_shell_reads_them() {
        let input = json!({ "arguments": ["$HOME; ls", "b"] });
        assert_eq!(told(&["printf", "%s|"], input).await, ("$HOME; ls|b|".into(), false));
        assert_eq!(told(&["cat"], json!({ "stdin": "in" })).await, ("in".into(), false));
        assert_eq!(told(&["true"], json!({})).await, ("[no output]".into(), false));
    }

    #[tokio::test]
    async fn a_failure_is_told_with_both_outputs() {
        let (text, is_error) = told(&["sh", "-c", "echo out; echo err >&2; exit 3"], json!({})).await;
        assert_eq!((text.as_str(), is_error), ("out\nerr\n[exit code 3]", true));
        assert!(told(&["/nowhere/x"], json!({})).await.0.contains("cannot start"));
    }

    #[tokio::test]
    async fn a_command_is_stopped_at_its_limit_with_all_that_it_started() {
        let words = tool(&["sh", "-c", "echo begun; sleep 600 & wait"]);
        let (text, is_error) = run(&words, &json!({}), Path::new("/"), Duration::from_millis(300)).await;
        assert_eq!((text.as_str(), is_error), ("begun\n[stopped after 0 s]", true));
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_ends_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let words = ["sh", "-c", "sleep 600 & echo $! > left; echo ok"];
        let (text, is_error) = run(&tool(&words), &json!({}), folder.path(), TIMEOUT).await;
        assert_eq!((text.as_str(), is_error), ("ok", false));
        let left: i32 = std::fs::read_to_string(folder.path().join("left")).unwrap().trim().parse().unwrap();
        // Nobody may have reaped it yet.
        let lives = || {
            let state = std::fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        for _ in 0..2_000 {
            if !lives() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("process {left} lives on");
    }

    #[tokio::test]
    async fn a_command_that_closes_its_outputs_before_it_ends_is_not_killed_for_that() {
        let words = "echo done; exec >&- 2>&-; sleep 0.3; exit 3";
        assert_eq!(told(&["sh", "-c", words], json!({})).await, ("done\n[exit code 3]".into(), true));
        let hangs = tool(&["sh", "-c", "echo begun; exec >&- 2>&-; sleep 600"]);
        let (text, _) = run(&hangs, &json!({}), Path::new("/"), Duration::from_millis(300)).await;
        assert_eq!(text, "begun\n[stopped after 0 s]");
    }

    #[tokio::test]
    async fn what_is_no_list_of_arguments_is_told_to_the_model() {
        let check = async |arguments: Value| told(&["true"], json!({ "arguments": arguments })).await;
        assert!(check(json!("a b")).await.0.contains("no list"));
        assert!(check(json!([1])).await.0.contains("no text"));
        assert!(check(json!(["a\0b"])).await.1);
        assert!(!check(json!(vec!["a"; ARGUMENTS_MAX])).await.1);
        assert!(check(json!(vec!["a"; ARGUMENTS_MAX + 1])).await.1);
        assert!(check(json!(["a".repeat(ARGUMENT_BYTES_MAX + 1)])).await.1);
    }

    #[test]
    fn of_a_long_output_the_beginning_and_the_end_are_kept() {
        let mut kept = Kept::default();
        kept.take(&[b'a'; HEAD_MAX]);
        kept.take(&[b'b'; TAIL_MAX]);
        assert_eq!(kept.text().len(), HEAD_MAX + TAIL_MAX);
        kept.take(b"c");
        let text = kept.text();
        assert!(text.contains("\n[1 bytes left out]\n") && text.ends_with("bc"));
    }
}
