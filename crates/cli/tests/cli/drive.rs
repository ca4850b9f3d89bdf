//! Agents that are other programs, as a node runs them: here scripts that speak as the real ones do. The real ones have a
//! suite of their own (`cargo xtask test --agents`).

use crate::door::{Door, lines, on_both, texts, word};
use nix::sys::signal::Signal;
use quorate_testkit::model::{ScriptedModel, Turn};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// Writes a program that stands for an agent.
fn agent(door: &Door, script: &str) {
    door.write("agent.sh", format!("#!/bin/sh\n{script}\n"));
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(door.path().join("agent.sh"), mode).expect("it can be run");
}

const CODEX: &str = "[health]\nretry_after = \"100ms\"\n[agents.coder]\ndriver = \"codex\"\nmodel = \"m\"\n\
                     prompt = \"role.md\"\ncommand = [\"./agent.sh\"]\nenv = { OPENAI_API_KEY = \"key-of-a-test\" }\n";

fn an_agent_is_told_its_role_its_task_what_it_needs_and_what_others_hold(door: Door) {
    door.write("quorate.toml", CODEX);
    door.write("role.md", "You are thorough.\n");
    agent(
        &door,
        r#"cat > told.txt
           echo '{"type":"item.started","item":{"type":"command_execution","command":"make"}}'
           echo '{"type":"item.completed","item":{"type":"agent_message","text":"{\"files\": 2}"}}'
           echo '{"type":"turn.completed","usage":{"input_tokens":9,"output_tokens":1}}'"#,
    );
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"find\"\nrun = \"echo '{\\\"quorate\\\":\\\"result\\\",\\\"value\\\":\\\"notes.md\\\"}'\"\n\
         [[task]]\nkey = \"read\"\nneeds = [\"find\"]\nprompt = \"Read what was found\"\nverify = \"test -s told.txt\"\n",
    );
    door.ok(&["claim", "docs/**", "--agent", "ada", "--ttl", "10m"]);
    let report = door.ok(&["run", "plan.toml"]);
    assert!(report.contains("2 completed"), "{report}");
    let told = std::fs::read_to_string(door.path().join("told.txt")).expect("it read its prompt");
    for part in [
        "You are `coder`",
        "You are thorough.",
        "Read what was found",
        "notes.md",
        "docs/** (ada)",
        "test -s told.txt",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let tasks = door.json(&["task", "list"]);
    assert_eq!(tasks[1]["result"], json!({ "files": 2 }));
    let log = door.ok(&["logs", "2"]);
    assert!(log.contains("[tool] shell: make") && log.contains("\"quorate\":\"usage\""), "{log}");
}

fn the_next_attempt_is_told_why_the_last_one_failed(door: Door) {
    door.write("quorate.toml", CODEX);
    door.write("role.md", "r");
    let words = json!({ "type": "agent_message", "text": "I tried.\nFAILED: the disk is full" });
    door.write("failed.jsonl", format!("{}\n", json!({ "type": "item.completed", "item": words })));
    agent(
        &door,
        r#"if grep -q 'the disk is full' ; then
               echo '{"type":"item.completed","item":{"type":"agent_message","text":"freed"}}'
           else
               cat failed.jsonl
           fi
           echo '{"type":"turn.completed","usage":{}}'"#,
    );
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"do\"\n");
    door.ok(&["run", "plan.toml"]);
    let story = door.json(&["task", "show", "1"]);
    assert!(word(&story["attempts"][0]["reason"]).contains("the disk is full"), "{story}");
    assert_eq!(word(&story["result"]), "freed");
}

fn a_model_s_api_works_at_a_task_with_its_commands(door: Door) {
    let model = ScriptedModel::start([
        Turn::call("count", json!({ "arguments": ["plan.toml"] })).expect("How long"),
        Turn::text("Five lines.").expect("5 plan.toml"),
    ]);
    door.write(
        "quorate.toml",
        format!(
            "[agents.m]\ndriver = \"model\"\nprovider = \"openai-chat\"\nmodel = \"m\"\nbase_url = \"{}/v1\"\n\
             tools.count = {{ command = [\"wc\", \"-l\"], about = \"counts lines\" }}\n",
            model.url()
        ),
    );
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"How long is the plan?\"\n# five\n",
    );
    door.ok(&["run", "plan.toml"]);
    assert_eq!(word(&door.json(&["task", "list"])[0]["result"]), "Five lines.");
    assert_eq!(model.end().len(), 2);
}

fn git(door: &Door, words: &[&str]) -> String {
    let who = ["-c", "user.name=ann", "-c", "user.email=ann"];
    let output = std::process::Command::new("git").arg("-C").arg(door.path()).args(who).args(words).output();
    let output = output.expect("git runs");
    assert!(output.status.success(), "git {words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Two agents change the same line, each in a worktree of its own: both pieces of work arrive, one after the other.
fn work_in_worktrees_is_merged_and_a_conflict_is_an_agent_s_to_resolve(door: Door) {
    let git = |words: &[&str]| git(&door, words);
    door.write(
        "quorate.toml",
        "[health]\nretry_after = \"100ms\"\n[agents.coder]\ndriver = \"codex\"\ncount = 2\nworkspace = \"worktree\"\n\
         command = [\"./agent.sh\"]\nenv = { OPENAI_API_KEY = \"key-of-a-test\" }\n",
    );
    // Both have begun before either is done, so the second to end meets a conflict; told of it, it only edits the file.
    agent(
        &door,
        r#"told=$(cat); own=$QUORATE_TASK_ID; both=$(git rev-parse --git-common-dir)
           case $told in
               *"it conflicts with main: the merge is begun here"*"marked in shared.txt"*)
                   grep -q '^<<<<<<< ' shared.txt && printf 'both\n' > shared.txt;;
               *) echo "by $own" > shared.txt; touch "$both/began-$own"
                   while [ ! -e "$both/began-1" ] || [ ! -e "$both/began-2" ]; do sleep 0.05; done;;
           esac
           echo '{"type":"item.completed","item":{"type":"agent_message","text":"ok"}}'
           echo '{"type":"turn.completed","usage":{}}'"#,
    );
    door.write("shared.txt", "at first\n");
    door.write(".gitignore", ".quorate/\nplan.toml\n");
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "-m", "begin"]);
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"a\"\nverify = \"test -s shared.txt\"\n[[task]]\nkey = \"b\"\nprompt = \"b\"\n",
    );
    let report = door.ok(&["run", "plan.toml"]);
    assert!(report.contains("2 completed"), "{report}");
    assert_eq!(git(&["show", "main:shared.txt"]), "both\n");
    let names = git(&["log", "--merges", "--format=%an", "-1"]);
    assert!(
        names.starts_with("coder-"),
        "an agent's commits bear its name, though git knows nobody here: {names}"
    );
    assert_eq!(git(&["branch", "--list", "quorate/*"]), "", "what is merged is cleared away");
    assert_eq!(git(&["status", "--porcelain"]), "");
}

/// Its word by the tool `finish` is heard by its driver; the task ends when its process has, with its work on main.
fn an_agent_that_calls_finish_is_brought_home_by_its_node(door: Door) {
    door.write(
        "quorate.toml",
        "[agents.coder]\ndriver = \"codex\"\nworkspace = \"worktree\"\ncommand = [\"./agent.sh\"]\n\
         env = { OPENAI_API_KEY = \"key-of-a-test\" }\n",
    );
    let script = r#"cat > ../told.txt
           said() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
           with="\"id\":$QUORATE_TASK_ID,\"term\":$QUORATE_TERM,\"result\":\"by the tool\""
           used='"usage":[{"model":"a name of its own","input_tokens":900}]'
           {
               said '"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}'
               said '"method":"notifications/initialized"'
               said "\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"finish\",\"arguments\":{$with,$used}}"
               sleep 1
           } | BINARY mcp > ../answers.txt
           echo "{\"type\":\"item.started\",\"item\":{\"type\":\"mcp_tool_call\",\"server\":\"quorate\",\"tool\":\"finish\",\"arguments\":{$with}}}"
           sleep 1; echo late > late.txt
           echo '{"type":"item.completed","item":{"type":"agent_message","text":"I have said it."}}'
           echo '{"type":"turn.completed","usage":{"input_tokens":9,"output_tokens":1}}'"#;
    agent(&door, &script.replace("BINARY", env!("CARGO_BIN_EXE_quorate")));
    door.write(".gitignore", ".quorate/\nplan.toml\n");
    git(&door, &["init", "--quiet", "--initial-branch=main"]);
    git(&door, &["add", "--all"]);
    git(&door, &["commit", "--quiet", "-m", "begin"]);
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"a\"\n[[task]]\nkey = \"b\"\nneeds = [\"a\"]\n\
         prompt = \"b\"\nverify = \"test -s late.txt\"\n",
    );
    let report = door.ok(&["run", "plan.toml"]);
    assert!(report.contains("2 completed"), "{report}");
    let answers =
        std::fs::read_to_string(door.path().join(".quorate/worktrees/answers.txt")).expect("it asked");
    assert!(answers.contains("ends so, with you"), "{answers}");
    assert_eq!(git(&door, &["show", "main:late.txt"]), "late\n", "what came after its word is merged, too");
    assert_eq!(word(&door.json(&["task", "show", "1"])["result"]), "by the tool");
    let used = door.json(&["task", "show", "1"])["usage"].to_string();
    assert!(!used.contains("a name of its own"), "its driver counts: {used}");
}

on_both!(
    an_agent_that_calls_finish_is_brought_home_by_its_node,
    work_in_worktrees_is_merged_and_a_conflict_is_an_agent_s_to_resolve,
    an_agent_is_told_its_role_its_task_what_it_needs_and_what_others_hold,
    the_next_attempt_is_told_why_the_last_one_failed,
    a_model_s_api_works_at_a_task_with_its_commands,
);

#[test]
fn agents_that_could_not_work_are_refused_with_what_mends_it() {
    let door = Door::lite();
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"do\"\n");
    let check = |table: &str, part: &str, hint: &str| {
        door.write("quorate.toml", format!("[agents.a]\n{table}\n"));
        for words in [&["run", "plan.toml"][..], &["up"]] {
            let error = door.fails(2, words);
            assert!(word(&error["message"]).contains(part) && word(&error["hint"]).contains(hint), "{error}");
        }
        let output = door.run(&["doctor", "--json"]);
        let found: serde_json::Value = serde_json::from_str(&texts(&output).0).expect("JSON");
        let checks = found["checks"].as_array().expect("checks");
        let own = checks.iter().find(|check| check["check"] == "real_agents").expect("the check");
        assert_eq!((output.status.code(), word(&own["state"])), (Some(1), "fail"), "{own}");
        assert!(word(&own["message"]).contains(part) && word(&own["mend"]).contains(hint), "{own}");
    };
    let claude = "driver = \"claude\"\nenv = { PATH = \"/nowhere\" }";
    check(claude, "agent `a` wants the program claude", "npm install -g @anthropic-ai/claude-code");
    let model = "driver = \"model\"\nprovider = \"anthropic\"\nmodel = \"m\"";
    check(model, "ANTHROPIC_API_KEY, which is not set", "export ANTHROPIC_API_KEY=");
    assert!(!door.path().join(".quorate").exists(), "nothing was begun");
    assert!(word(&door.fails(2, &["agent", "run", "a"])["message"]).contains("ANTHROPIC_API_KEY"));
}

#[test]
fn worktrees_want_a_git_repository() {
    let door = Door::lite();
    door.write("quorate.toml", "[agents.a]\ncommand = [\"true\"]\nworkspace = \"worktree\"\n");
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"do\"\n");
    let error = door.fails(2, &["run", "plan.toml"]);
    assert!(
        word(&error["message"]).contains("no git repository") && word(&error["hint"]).contains("git init"),
        "{error}"
    );
    git(&door, &["init", "--quiet", "--initial-branch=main"]);
    let error = door.fails(2, &["run", "plan.toml"]);
    assert!(
        word(&error["message"]).contains("main has no commit") && word(&error["hint"]).contains("git commit"),
        "{error}"
    );
}

#[test]
fn a_key_may_stand_in_the_file_of_secrets() {
    let model = ScriptedModel::start([Turn::text("ok")]);
    let door = Door::lite();
    door.write(
        "quorate.toml",
        format!("[agents.m]\ndriver = \"model\"\nprovider = \"anthropic\"\nmodel = \"m\"\nkey_env = \"MY_KEY\"\nbase_url = \"{}\"\n", model.url()),
    );
    door.write(".env", "MY_KEY=from-the-file\n");
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"do\"\n");
    door.ok(&["run", "plan.toml"]);
    let asked = model.end();
    assert_eq!(asked[0].headers["x-api-key"], "from-the-file");
}

#[test]
fn an_agent_that_is_told_to_stop_ends_with_its_driver() {
    let door = Door::lite();
    agent(
        &door,
        "trap 'echo ended > ended; exit 0' TERM\necho started > started\nwhile :; do sleep 0.05; done",
    );
    let settings = json!({ "command": ["./agent.sh"], "state": door.path().join(".quorate") });
    let mut command = door.command(["drive", "--driver", "codex", "--settings", &settings.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let task = json!({ "id": 1, "attempt": 1, "title": "t" }).to_string();
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), task.as_bytes()).expect("written");
    door.eventually("the agent works", |door| door.path().join("started").exists().then_some(()));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it lives");
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    assert!(door.path().join("ended").exists(), "the agent was told, too");
}

#[test]
fn what_a_driver_cannot_do_is_its_last_line() {
    let door = Door::lite();
    let mut command =
        door.command(["drive", "--driver", "claude", "--settings", "{\"command\":[\"./none\"]}"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"{\"id\":1}").expect("written");
    let output = child.wait_with_output().expect("it ends");
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.trim_end().lines().last().is_some_and(|line| line.contains("npm install")), "{err}");
    assert_eq!(lines(&out).len(), 0);
}

#[test]
fn one_agent_runs_with_the_driver_that_is_named() {
    let door = Door::lite();
    agent(
        &door,
        r#"cat > told.txt
           echo '{"type":"item.completed","item":{"type":"agent_message","text":"{\"files\": 2}"}}'
           echo '{"type":"turn.completed","usage":{"input_tokens":9,"output_tokens":1}}'"#,
    );
    door.ok(&["task", "add", "Count", "--prompt", "Count the files"]);
    let mut node = door.start(&["agent", "run", "coder", "--driver", "codex", "--command", "./agent.sh"]);
    let task = door.eventually("it is counted", |door| {
        let task = door.json(&["task", "show", "1"]);
        (word(&task["state"]) == "completed").then_some(task)
    });
    assert_eq!(task["result"], json!({ "files": 2 }), "{task}");
    node.interrupt();
    assert!(node.end().status.success());
    let told = std::fs::read_to_string(door.path().join("told.txt")).expect("it read its prompt");
    assert!(told.contains("You are `coder`"), "{told}");
}
