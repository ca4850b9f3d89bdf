//! Claude Code's hooks and status line, as it calls them: JSON in, an answer or nothing out, and never an exit code.

use crate::door::{Door, lines, on_both, texts, word};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};

on_both!(
    an_edit_of_a_file_that_another_claimed_is_refused_and_says_who,
    a_session_is_not_refused_what_it_claimed_itself,
    a_session_keeps_its_name_and_gets_its_context_back_after_clear,
    what_is_no_name_of_an_agent_is_not_written_for_a_shell,
    what_only_a_session_held_is_free_when_it_ends,
    a_session_that_works_keeps_its_lease,
    a_checkpoint_is_saved_before_a_compaction_and_keeps_what_the_agent_said,
    the_status_line_shows_the_run_and_notes_the_context,
);

/// A session of Claude Code, as its hooks tell of it.
const SESSION: &str = "3f0c1a2b-9d4e-4f6a-8b7c-0123456789ab";

fn feed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Who has nothing to read it for may be gone by then.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// What Claude Code 2.1 tells every hook.
fn input(door: &Door, event: &str, more: Value) -> Value {
    let mut told = json!({
        "session_id": SESSION, "transcript_path": "/tmp/t.jsonl", "cwd": door.path(), "hook_event_name": event,
        "permission_mode": "default"
    });
    told.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    told
}

/// Calls a hook; what it must never do is fail.
#[track_caller]
fn hook_as(door: &Door, agent: Option<&str>, event: &str, more: Value) -> Option<Value> {
    let mut command = door.command(["hook", event]);
    agent.map(|agent| command.env("QUORATE_AGENT", agent));
    let output = feed(command, input(door, event, more).to_string().as_bytes());
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{event}: {out}");
    (!out.is_empty()).then(|| serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}")))
}

#[track_caller]
fn hook(door: &Door, event: &str, more: Value) -> Option<Value> {
    hook_as(door, None, event, more)
}

fn edit(file: &str) -> Value {
    json!({
        "tool_name": "Edit", "tool_use_id": "toolu_1",
        "tool_input": { "file_path": file, "old_string": "a", "new_string": "b" }
    })
}

/// Why a tool was refused; `None` if it was not.
#[track_caller]
fn refused(answer: Option<Value>) -> Option<String> {
    let output = answer?["hookSpecificOutput"].clone();
    assert_eq!(
        (&output["hookEventName"], &output["permissionDecision"]),
        (&json!("PreToolUse"), &json!("deny"))
    );
    Some(word(&output["permissionDecisionReason"]).to_owned())
}

fn context(answer: Option<Value>) -> String {
    let output = answer.expect("there is an answer")["hookSpecificOutput"].clone();
    assert_eq!(output["hookEventName"], "SessionStart");
    word(&output["additionalContext"]).to_owned()
}

fn an_edit_of_a_file_that_another_claimed_is_refused_and_says_who(door: Door) {
    door.ok(&["task", "add", "refactor", "--claims", "src/**", "--run", "true"]);
    door.json(&["task", "next", "--agent", "beta"]);
    door.ok(&["claim", "app/\\[id\\].tsx", "--agent", "beta"]);
    std::fs::create_dir_all(door.path().join("src")).expect("made");
    std::os::unix::fs::symlink("src", door.path().join("link")).expect("made");
    let inside = door.path().join("src/a.rs").display().to_string();
    let why = refused(hook(&door, "PreToolUse", edit(&inside))).expect("it is refused");
    assert!(why.starts_with("src/a.rs, held (as src/**) by beta for task 1 until 20"), "{why}");
    assert!(why.contains("--to beta"), "{why}");
    for (tool, input) in [
        ("Write", json!({ "file_path": inside, "content": "x" })),
        ("MultiEdit", json!({ "file_path": "src/new/b.rs", "edits": [] })),
        ("NotebookEdit", json!({ "notebook_path": "src/n.ipynb", "new_source": "" })),
        ("Edit", json!({ "file_path": "link/a.rs" })),
        ("Edit", json!({ "file_path": "./docs/../src/a.rs" })),
        ("Write", json!({ "file_path": "app/[id].tsx" })),
        ("mcp__files__write_file", json!({ "path": "src/a.rs" })),
    ] {
        let more = json!({ "tool_name": tool, "tool_input": input });
        assert!(refused(hook(&door, "PreToolUse", more)).is_some(), "{tool} {input}");
    }
    for (tool, input) in [
        ("Read", json!({ "file_path": inside })),
        ("Edit", json!({ "file_path": "docs/a.md" })),
        ("Edit", json!({ "file_path": "/elsewhere/src/a.rs" })),
        ("Write", json!({ "file_path": "app/i.tsx" })),
        ("Bash", json!({ "command": "rm src/a.rs" })),
        ("Edit", json!({ "file_path": 7 })),
        ("Edit", json!(null)),
    ] {
        let more = json!({ "tool_name": tool, "tool_input": input });
        assert_eq!(refused(hook(&door, "PreToolUse", more)), None, "{tool} {input}");
    }
    let noted = door.events("claim.refused", 8);
    assert_eq!(
        (noted.len(), &noted[0]["resource"], &noted[0]["data"]["held_by"]),
        (8, &json!("src/a.rs"), &json!("beta"))
    );
}

fn a_session_is_not_refused_what_it_claimed_itself(door: Door) {
    door.ok(&["claim", "src", "--agent", "ada"]);
    hook(&door, "SessionStart", json!({ "source": "startup" }));
    let answer = hook(&door, "PreToolUse", edit("src/a.rs")).expect("it is refused");
    assert!(word(&answer["systemMessage"]).contains("If ada is you"), "{answer}");
    assert_eq!(hook_as(&door, Some("ada"), "PreToolUse", edit("src/a.rs")), None, "by its name");
    let told = hook_as(&door, Some("bob"), "PreToolUse", edit("src/a.rs")).expect("it is refused");
    assert_eq!(told.get("systemMessage"), None, "who bob is, is certain");
    door.ok(&["claim", "docs", "--agent", "claude-s1"]);
    assert_eq!(hook(&door, "PreToolUse", edit("docs/a.md")), None, "by the name of its session");
    let other =
        json!({ "session_id": "another", "tool_name": "Edit", "tool_input": { "file_path": "docs/a.md" } });
    assert!(refused(hook(&door, "PreToolUse", other)).is_some(), "another session is another agent");
}

fn a_session_keeps_its_name_and_gets_its_context_back_after_clear(door: Door) {
    door.write("plan.toml", "goal = 'count sheep'\n[[task]]\nkey = 'one'\ncapability = 'x'\nprompt = 'p'\n");
    assert_eq!(hook(&door, "SessionStart", json!({ "source": "startup" })), None, "there is no ledger yet");
    door.ok(&["agent", "add", "xer", "--capability", "x"]);
    assert_eq!(hook(&door, "SessionStart", json!({ "source": "startup" })), None, "nothing goes on");
    door.ok(&["run", "plan.toml", "--detach"]);
    let told = context(hook(&door, "SessionStart", json!({ "source": "startup" })));
    assert!(told.contains("You are `claude-s1`") && told.contains("count sheep"), "{told}");
    hook(&door, "SessionEnd", json!({ "reason": "clear" }));
    // The same process goes by another name now, as after a /clear that a person typed.
    let cleared = json!({ "source": "clear", "session_id": "after-clear", "model": "m" });
    let mut command = door.command(["hook", "SessionStart"]);
    command.env("CLAUDE_ENV_FILE", door.path().join("env.sh"));
    let output = feed(command, input(&door, "SessionStart", cleared).to_string().as_bytes());
    let told = context(serde_json::from_str(&texts(&output).0).ok());
    assert!(told.contains("You are `claude-s1`") && told.contains("count sheep"), "{told}");
    let shell = std::fs::read_to_string(door.path().join("env.sh")).expect("it was written");
    assert_eq!(shell, "export QUORATE_AGENT=claude-s1\n");
    for source in ["compact", "resume"] {
        let told =
            context(hook(&door, "SessionStart", json!({ "source": source, "session_id": "after-clear" })));
        assert!(told.contains("count sheep") && told.chars().count() <= 10_000, "{told}");
    }
    let restored = door.events("context.restored", 3);
    assert!(restored.iter().all(|event| event["agent"] == "claude-s1"), "{restored:?}");
    assert_eq!(door.events("agent.started", 1).len(), 1, "it is one session");
}

fn what_is_no_name_of_an_agent_is_not_written_for_a_shell(door: Door) {
    door.ok(&["task", "add", "work", "--run", "true"]);
    hook(&door, "SessionStart", json!({ "source": "startup" }));
    door.write("env.sh", "export MINE=1\n");
    door.sql("update sessions set agent = 'x; touch pwned'");
    for source in ["compact", "resume", "startup"] {
        let mut command = door.command(["hook", "SessionStart"]);
        command.env("CLAUDE_ENV_FILE", door.path().join("env.sh"));
        let output =
            feed(command, input(&door, "SessionStart", json!({ "source": source })).to_string().as_bytes());
        let shell = std::fs::read_to_string(door.path().join("env.sh")).expect("readable");
        assert_eq!(shell, "export MINE=1\n", "{source}");
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{source}: {err}");
        assert!(err.contains("`x; touch pwned` is not a name"), "{source}: {err}");
    }
}

fn what_only_a_session_held_is_free_when_it_ends(door: Door) {
    door.ok(&["claim", "mine", "--agent", "ada"]);
    hook(&door, "SessionStart", json!({ "source": "startup" }));
    hook_as(&door, Some("ada"), "SessionStart", json!({ "source": "startup", "session_id": "ada's" }));
    door.ok(&["claim", "src", "--agent", "claude-s1"]);
    hook(&door, "SessionEnd", json!({ "reason": "clear" }));
    assert_eq!(door.json(&["claims"]).as_array().map(Vec::len), Some(2), "it goes on");
    hook(&door, "SessionEnd", json!({ "reason": "prompt_input_exit" }));
    hook_as(&door, Some("ada"), "SessionEnd", json!({ "reason": "logout", "session_id": "ada's" }));
    let left = door.json(&["claims"]);
    assert_eq!((left.as_array().map(Vec::len), &left[0]["agent"]), (Some(1), &json!("ada")));
    assert_eq!(hook(&door, "SessionEnd", json!({ "reason": "other", "session_id": "never seen" })), None);
}

fn a_session_that_works_keeps_its_lease(door: Door) {
    door.ok(&["task", "add", "work", "--run", "true"]);
    hook(&door, "SessionStart", json!({ "source": "startup" }));
    let taken = door.json(&["task", "next", "--agent", "claude-s1", "--lease", "1h"]);
    let until = |door: &Door| word(&door.json(&["task", "show", "1"])["lease_until"]).to_owned();
    let before = until(&door);
    assert_eq!(before, word(&taken["lease_until"]));
    hook(&door, "Stop", json!({ "stop_hook_active": false, "background_tasks": [] }));
    assert!(until(&door) > before, "the turn is over, the session is not");
    for event in ["UserPromptSubmit", "PostToolUse", "SubagentStop"] {
        assert_eq!(
            hook(&door, event, json!({ "prompt": "x", "agent_type": "", "trigger": "auto" })),
            None,
            "{event}"
        );
    }
    // A node keeps the lease of what it supervises, and knows its agents.
    let mut command = door.command(["hook", "Stop"]);
    command.env("QUORATE_TASK_ID", "1").env("QUORATE_AGENT", "claude-s1");
    let before = until(&door);
    assert!(feed(command, input(&door, "Stop", json!({})).to_string().as_bytes()).status.success());
    assert_eq!(until(&door), before);
}

fn a_checkpoint_is_saved_before_a_compaction_and_keeps_what_the_agent_said(door: Door) {
    door.ok(&["task", "add", "work", "--run", "true", "--claims", "src"]);
    hook(&door, "SessionStart", json!({ "source": "startup" }));
    let term = door.json(&["task", "next", "--agent", "claude-s1"])["term"].clone();
    door.ok(&["checkpoint", "save", "--agent", "claude-s1", "the plan is b"]);
    for _ in 0..2 {
        assert_eq!(
            hook(&door, "PreCompact", json!({ "trigger": "auto", "custom_instructions": null })),
            None
        );
    }
    let saved = door.json(&["checkpoint", "list", "--agent", "claude-s1"]);
    assert_eq!(saved.as_array().map(Vec::len), Some(3), "{saved}");
    let id = saved[0]["id"].to_string();
    let state = door.json(&["checkpoint", "show", &id])["state"].clone();
    assert_eq!(
        (&state["saved"], &state["said"]),
        (&json!("before a compaction"), &json!("the plan is b")),
        "{state}"
    );
    assert_eq!((&state["tasks"][0]["term"], &state["claims"]), (&term, &json!(["src"])));
    let told = context(hook(&door, "SessionStart", json!({ "source": "compact" })));
    assert!(told.contains("the plan is b"), "{told}");
}

/// What Claude Code 2.1 tells the status line.
fn usage(door: &Door, percent: Value, usd: f64) -> String {
    json!({
        "session_id": SESSION, "cwd": door.path(), "model": { "id": "claude-x", "display_name": "X" },
        "workspace": { "current_dir": door.path(), "project_dir": door.path() },
        "cost": { "total_cost_usd": usd, "total_duration_ms": 1 },
        "context_window": {
            "total_input_tokens": 1, "context_window_size": 200_000, "used_percentage": percent,
            "current_usage": { "input_tokens": 2, "output_tokens": 9, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5 }
        }
    })
    .to_string()
}

#[track_caller]
fn statusline(door: &Door, input: &str) -> String {
    let output = feed(door.command(["statusline"]), input.as_bytes());
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    out
}

fn the_status_line_shows_the_run_and_notes_the_context(door: Door) {
    assert_eq!(
        statusline(&door, &usage(&door, json!(41.4), 1.2)),
        "41 % context · $1.20\n",
        "there is no ledger yet"
    );
    assert!(!door.path().join(".quorate").exists(), "nor is one made");
    door.write(
        "plan.toml",
        "goal = 'g'\n[[task]]\nkey = 'a'\nrun = 'true'\n[[task]]\nkey = 'b'\nrun = 'false'\nattempts = 1\n[[task]]\nkey = 'c'\nprompt = 'p'\ncapability = 'x'\n",
    );
    door.ok(&["agent", "add", "xer", "--capability", "x"]);
    door.ok(&["run", "plan.toml", "--detach"]);
    hook(&door, "SessionStart", json!({ "source": "startup" }));
    let done = door.json(&["task", "next", "--agent", "ada"]);
    door.ok(&["task", "done", "1", "--term", &done["term"].to_string()]);
    let failed = door.json(&["task", "next", "--agent", "ada"]);
    door.ok(&["task", "fail", "2", "--term", &failed["term"].to_string(), "--error", "no"]);
    door.json(&["task", "next", "--agent", "xer"]);
    let line = statusline(&door, &usage(&door, json!(41.4), 1.2));
    assert_eq!(line, "run 1: 1/3 done, 1 running, 1 failed · 41 % context · $1.20\n");
    assert_eq!(
        statusline(&door, &usage(&door, json!(null), 0.0)),
        "run 1: 1/3 done, 1 running, 1 failed · $0.00\n"
    );
    statusline(&door, &usage(&door, json!(80), 2.5));
    let filled = door.events("context.filled", 1);
    assert_eq!((&filled[0]["agent"], &filled[0]["data"]["used_percent"]), (&json!("claude-s1"), &json!(80)));
    assert_eq!(door.json(&["checkpoint", "list", "--agent", "claude-s1"]).as_array().map(Vec::len), Some(1));
    statusline(&door, &usage(&door, json!(95), 2.5));
    assert_eq!(door.events("context.filled", 1).len(), 1, "once");
    assert!(
        lines(&door.ok(&["events", "--kind", "context.cleared", "--json"])).is_empty(),
        "it is in no pane of ours"
    );
}

#[test]
fn nothing_that_is_wrong_with_us_stops_a_session() {
    let door = Door::lite();
    let silent = |door: &Door, words: &[&str], input: &[u8]| {
        let output = feed(door.command(words), input);
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(0), ""), "{words:?}: {err}");
        err
    };
    let start = input(&door, "PreToolUse", edit("src/a.rs")).to_string();
    assert_eq!(silent(&door, &["hook", "PreToolUse"], start.as_bytes()), "");
    assert_eq!(std::fs::read_dir(door.path()).expect("readable").count(), 0, "no ledger is made");
    assert!(silent(&door, &["hook", "Notification"], b"{}").contains("nothing is done at Notification"));
    assert!(silent(&door, &["hook", "PreToolUse"], b"{\"a\":").contains("not JSON"));
    assert!(silent(&door, &["hook", "PreToolUse"], b"").contains("not JSON"));
    let gone = json!({ "cwd": "/nowhere/at/all" }).to_string();
    assert!(silent(&door, &["hook", "Stop"], gone.as_bytes()).contains("/nowhere/at/all"));
    door.ok(&["task", "add", "x"]);
    assert!(silent(&door, &["hook", "Stop"], b"{}").contains("session_id"));
    let agent = {
        let mut command = door.command(["hook", "PreToolUse"]);
        command.env("QUORATE_AGENT", "no name");
        texts(&feed(command, start.as_bytes()))
    };
    assert!(agent.0.is_empty() && agent.1.contains("no name"), "{agent:?}");
    door.write("quorate.toml", "leese = 1\n");
    assert!(silent(&door, &["hook", "PreToolUse"], start.as_bytes()).contains("unknown key"));
    assert_eq!(statusline_out(&door), "41 % context · $1.00\n");
    door.write("quorate.toml", "[store]\nurl = 'sqlite:broken.db'\n");
    door.write(
        "broken.db",
        "this is no database, and it is long enough to be read as one by anybody".repeat(40),
    );
    assert!(!silent(&door, &["hook", "PreToolUse"], start.as_bytes()).is_empty());
    assert_eq!(statusline_out(&door), "41 % context · $1.00\n");
    assert_eq!(texts(&feed(door.command(["statusline"]), b"nonsense")).0, "");
    door.write("quorate.toml", "[store]\nurl = 'postgres://nobody@127.0.0.1:1/none'\n");
    assert!(!silent(&door, &["hook", "PreToolUse"], start.as_bytes()).is_empty());
}

/// The line, whatever is said on standard error.
fn statusline_out(door: &Door) -> String {
    texts(&feed(door.command(["statusline"]), usage(door, json!(41), 1.0).as_bytes())).0
}

#[test]
fn strict_agents_keep_a_stranger_out_but_not_from_working() {
    let door = Door::lite();
    door.write("quorate.toml", "strict_agents = true\n[agents.ada]\ndriver = 'external'\n");
    door.ok(&["claim", "src", "--agent", "ada"]);
    let output = feed(
        door.command(["hook", "SessionStart"]),
        input(&door, "SessionStart", json!({ "source": "startup" })).to_string().as_bytes(),
    );
    assert!(output.status.success() && texts(&output).1.contains("strict_agents"), "{output:?}");
    assert!(refused(hook(&door, "PreToolUse", edit("src/a.rs"))).is_some());
    assert_eq!(hook_as(&door, Some("ada"), "PreToolUse", edit("src/a.rs")), None);
    assert_eq!(hook_as(&door, Some("ada"), "SessionStart", json!({ "source": "startup" })), None);
    assert_eq!(door.json(&["agent", "list"]).as_array().map(Vec::len), Some(1));
}

/// A tmux server of the test's own.
struct Tmux {
    name: String,
    socket: String,
    pane: String,
}

impl Tmux {
    /// Starts one with a pane in which whatever is typed goes into the file `typed`.
    fn start(door: &Door) -> Tmux {
        let name = format!(
            "quorate-test-{}-{}",
            std::process::id(),
            door.path().file_name().expect("named").display()
        );
        let tmux = |words: &[&str]| {
            let mut command = Command::new("tmux");
            command
                .args(["-L", &name, "-f", "/dev/null"])
                .args(words)
                .current_dir(door.path())
                .env_remove("TMUX");
            let output = command.output().expect("tmux is here: cargo xtask setup");
            assert!(output.status.success(), "{output:?}");
            texts(&output).0.trim().to_owned()
        };
        tmux(&["new-session", "-d", "-x", "80", "-y", "24", "cat > typed"]);
        let told = tmux(&["display-message", "-p", "#{socket_path} #{pane_id}"]);
        let (socket, pane) = told.split_once(' ').expect("two words");
        Tmux { socket: socket.to_owned(), pane: pane.to_owned(), name }
    }

    /// What a person types there, without Enter.
    fn type_words(&self, words: &str) {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.name, "send-keys", "-t", &self.pane, "-l", words]);
        assert!(command.status().expect("tmux is here").success());
    }

    /// A command of ours as it is run in that pane.
    fn inside(&self, door: &Door, words: &[&str], input: &str) {
        let mut command = door.command(words);
        command
            .env("TMUX", format!("{},1,0", self.socket))
            .env("TMUX_PANE", &self.pane)
            .env("QUORATE_TMUX_PANE", "1");
        let output = feed(command, input.as_bytes());
        assert_eq!((output.status.code(), texts(&output).1.as_str()), (Some(0), ""), "{output:?}");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.name, "kill-server"]).output();
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[test]
fn a_full_context_in_a_pane_of_ours_is_cleared_once_when_the_turn_is_over_and_goes_on() {
    let door = Door::lite();
    door.write("plan.toml", "goal = 'g'\n[[task]]\nkey = 'a'\nprompt = 'p'\ncapability = 'x'\n");
    door.ok(&["agent", "add", "xer", "--capability", "x"]);
    door.ok(&["run", "plan.toml", "--detach"]);
    let tmux = Tmux::start(&door);
    let call = |event: &str, more: Value| {
        tmux.inside(&door, &["hook", event], &input(&door, event, more).to_string())
    };
    let report = |percent: i64| tmux.inside(&door, &["statusline"], &usage(&door, json!(percent), 1.0));
    // Enter is pressed again until the ledger shows that a line was taken.
    let typed = || {
        let all = std::fs::read_to_string(door.path().join("typed")).unwrap_or_default();
        all.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect::<String>()
    };
    call("SessionStart", json!({ "source": "startup" }));
    call("UserPromptSubmit", json!({ "prompt": "work" }));
    report(79);
    report(85);
    call("PostToolUse", edit("a"));
    call("Stop", json!({ "background_tasks": [{ "id": "sh1" }] }));
    assert!(
        lines(&door.ok(&["events", "--kind", "context.cleared", "--json"])).is_empty(),
        "something runs still"
    );
    tmux.type_words("words half typed");
    call("Stop", json!({ "background_tasks": [] }));
    door.eventually("/clear is typed", |_| (typed() == "/clear\n").then_some(()));
    report(86);
    call("Stop", json!({}));
    assert_eq!(door.events("context.cleared", 1).len(), 1, "once");
    call("SessionEnd", json!({ "reason": "clear" }));
    call("SessionStart", json!({ "source": "clear", "session_id": "after" }));
    let all = door.eventually("it goes on", |_| Some(typed()).filter(|typed| typed.lines().count() == 2));
    assert!(all.starts_with("/clear\nGo on with your work"), "{all}");
    call("UserPromptSubmit", json!({ "session_id": "after", "prompt": "Go on" }));
    call("Stop", json!({ "session_id": "after" }));
    // A person's own /clear is not answered.
    call("SessionEnd", json!({ "reason": "clear", "session_id": "after" }));
    call("SessionStart", json!({ "source": "clear", "session_id": "again" }));
    assert_eq!(typed(), all);
    // Idle at the prompt, the status line itself clears.
    let full = usage(&door, json!(90), 1.0).replace(SESSION, "again");
    tmux.inside(&door, &["statusline"], &full);
    door.eventually("/clear is typed again", |_| typed().ends_with("\n/clear\n").then_some(()));
    door.write("quorate.toml", "[orchestrator]\nclear_at = 100\n");
    call("SessionStart", json!({ "source": "clear", "session_id": "never" }));
    door.eventually("it goes on again", |_| (typed().lines().count() == 4).then_some(()));
    tmux.inside(&door, &["statusline"], &usage(&door, json!(100), 1.0).replace(SESSION, "never"));
    assert_eq!(door.events("context.cleared", 2).len(), 2, "100 is never");
}
