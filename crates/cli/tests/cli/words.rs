//! The command line itself: help, mistakes, and what no argument may do.

use crate::door::{Door, texts, word};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

#[test]
fn nothing_typed_is_greeted() {
    let door = Door::lite();
    let text = door.ok(&[]);
    for command in ["quorate demo", "quorate run PLAN", "quorate status"] {
        assert!(text.contains(command), "{text}");
    }
    assert!(door.ok(&["--version"]).starts_with("quorate 0."));
}

#[test]
fn help_is_an_answer() {
    let door = Door::lite();
    for words in [
        ["help"].as_slice(),
        &["--help"],
        &["task", "add", "--help"],
        &["help", "claim"],
        &["runs", "list", "-h"],
    ] {
        assert!(door.ok(words).contains("Examples:"), "{words:?}");
    }
}

#[test]
fn help_says_what_exit_codes_mean_and_which_templates_there_are() {
    let door = Door::lite();
    let check = |words: &[&str], says: &str| {
        let help = door.ok(&[words, &["--help"]].concat());
        assert!(one_line(&help).contains(says), "{words:?} does not say {says:?}:\n{help}");
    };
    check(&["run"], "Exit codes: 0 every task is completed, 1 one is not, 6 nothing can go on");
    check(&["down"], "Exit code 7: no node");
    check(&["doctor"], "Exit code 1: something is broken");
    check(
        &["task", "next"],
        "Exit codes: 6 the agent's budget is reached, or a node gives it its tasks, 7 nothing to do",
    );
    check(&["events"], "one a line");
    let hint = door.fails(5, &["init", "--template", "none"])["hint"].clone();
    let (_, known) = word(&hint).split_once("there are: ").expect("they are named");
    for name in known.split("), ").filter_map(|template| template.split(' ').next()) {
        check(&["init"], &format!("{name} ("));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_of_other_days_are_not_listed() {
    let help = Door::lite().ok(&["help"]);
    let listed: Vec<&str> =
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    for command in ["board", "rollout", "service"] {
        assert!(!listed.contains(&command), "{command}");
    }
}

#[test]
fn mistakes_are_usage_errors_with_a_hint() {
    let door = Door::lite();
    for words in [
        ["statsu"].as_slice(),
        &["task"],
        &["task", "show", "abc"],
        &["task", "show", "-1"],
        &["task", "add"],
        &["task", "add", ""],
        &["task", "add", "two\nlines"],
        &["task", "add", "x", "--run", "a", "--prompt", "b"],
        &["task", "add", "x", "--capability", "a", "--agent", "b"],
        &["task", "add", "x", "--priority", "urgent"],
        &["task", "add", "x", "--timeout", "99ms"],
        &["task", "add", "x", "--timeout", "10"],
        &["task", "add", "x", "--attempts", "0"],
        &["task", "add", "x", "--needs", "a"],
        &["task", "add", "x", "--claims", "../out"],
        &["task", "add", "x", "--at", "soon"],
        &["task", "add", "x", "--key", "k"],
        &["task", "next"],
        &["task", "next", "--agent", "not a name"],
        &["task", "next", "--agent", "me", "--lease", "10ms"],
        &["task", "progress", "1", "--term", "1", "--percent", "101"],
        &["task", "fail", "1", "--term", "1", "--error", " "],
        &["task", "list", "--state", "redy"],
        &["claim", "--agent", "me"],
        &["claim", "x", "--agent", "me", "--task", "1"],
        &["release", "x"],
        &["agent", "add", "x", "--driver", "magic"],
        &["events", "--after", "x"],
        &["logs", "1", "--follow"],
    ] {
        let error = door.fails(2, words);
        assert_eq!(error["kind"], "invalid", "{words:?}");
        assert!(
            !word(&error["message"]).is_empty() && !word(&error["hint"]).is_empty(),
            "{words:?}: {error}"
        );
    }
    assert_eq!(std::fs::read_dir(door.path()).expect("readable").count(), 0, "a mistake makes no ledger");
}

#[test]
fn people_get_words_and_programs_get_json() {
    let door = Door::lite();
    let output = door.run(&["task", "show", "1"]);
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(5), ""));
    assert!(err.starts_with("error: no task 1") && err.contains("\nhint: "), "{err}");
    let error = door.fails(2, &["task", "add", "x", "--frm", "y"]);
    assert!(word(&error["message"]).contains("'--frm'"), "{error}");
}

#[test]
fn a_command_that_is_missing_is_told_wherever_json_is_asked_for() {
    let door = Door::lite();
    for words in [["--json", "task"].as_slice(), &["--json", "runs"], &["--json", "checkpoint"]] {
        let output = door.run(words);
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{words:?}");
        let error: serde_json::Value = serde_json::from_str(&err).expect("JSON");
        assert_eq!(error["error"]["message"], "a command is missing", "{words:?}");
        let hint = word(&error["error"]["hint"]);
        assert!(hint.starts_with(&format!("usage: quorate {}", words[1])), "{hint}");
    }
}

#[test]
fn arguments_that_are_no_text_are_refused() {
    let door = Door::lite();
    let bad = OsStr::from_bytes(b"\xff\xfe");
    for words in [
        [OsStr::new("task"), OsStr::new("add"), bad].as_slice(),
        &[OsStr::new("claim"), bad, OsStr::new("--agent"), OsStr::new("me")],
        &[bad],
    ] {
        let output = door.command(words).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{:?}", texts(&output));
    }
}

#[test]
fn a_pipe_gets_no_colours_and_no_cut_lines() {
    let door = Door::lite();
    let title = "a very long title ".repeat(12);
    door.ok(&["task", "add", &title]);
    let mut command = door.command(["task", "list"]);
    let output = command.env_remove("NO_COLOR").env("TERM", "xterm-256color").output().expect("runs");
    let (out, _) = texts(&output);
    assert!(out.contains(title.trim()) && !out.contains('\u{1b}'), "{out}");
}

#[test]
fn a_full_disk_behind_standard_output_is_told() {
    let door = Door::lite();
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let output = door.command(["status"]).stdout(Stdio::from(full)).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("cannot write to standard output"));
}

#[test]
fn waiting_can_be_interrupted() {
    let door = Door::lite();
    door.ok(&["claim", "src", "--agent", "alpha"]);
    let mut waiting = door.start(&["claim", "src", "--agent", "beta", "--wait", "1m", "--json"]);
    door.events("claim.refused", 1);
    waiting.interrupt();
    let output = waiting.end();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(130), ""));
    assert!(err.contains("\"interrupted\""), "{err}");
}
