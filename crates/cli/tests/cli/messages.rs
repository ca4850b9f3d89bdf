//! Messages and lines of the log.

use crate::door::{Door, number, on_both, word};
use serde_json::json;

on_both!(
    unread_stays_unread_until_it_was_shown,
    a_reply_names_what_it_answers,
    a_line_does_what_its_action_says,
    a_line_that_cannot_be_true_is_refused,
    whoever_stands_in_quorate_toml_can_be_asked_for_help,
);

fn unread_stays_unread_until_it_was_shown(door: Door) {
    door.ok(&["agent", "add", "alpha"]);
    assert_eq!(door.json(&["send", "--from", "me", "--to", "alpha", "hello\nthere"]), json!({ "id": 1 }));
    assert_eq!(door.json(&["agent", "show", "alpha"])["unread"], 1);
    assert_eq!(door.json(&["inbox", "alpha", "--peek"])[0]["text"], "hello\nthere");
    let shown = door.json(&["inbox", "alpha"]);
    assert_eq!((&shown[0]["from"], &shown[0]["kind"]), (&json!("me"), &json!("note")));
    assert_eq!(door.json(&["inbox", "alpha"]), json!([]));
    assert_eq!(door.json(&["inbox", "alpha", "--all"]).as_array().map(Vec::len), Some(1));
    door.fails(5, &["inbox", "alhpa"]);
}

fn a_reply_names_what_it_answers(door: Door) {
    door.ok(&["agent", "add", "alpha"]);
    let id = number(&door.json(&["send", "--from", "me", "--to", "alpha", "--kind", "help", "how?"])["id"]);
    door.ok(&["send", "--from", "alpha", "--to", "me", "--kind", "reply", "--reply-to", &id, "so"]);
    assert_eq!(door.json(&["inbox", "me"])[0]["reply_to"], json!(1));
    let refused = door.fails(5, &["send", "--from", "alpha", "--to", "me", "--reply-to", "99", "so"]);
    assert!(word(&refused["hint"]).contains("quorate inbox alpha --all"), "{refused}");
    door.fails(2, &["send", "--from", "alpha", "--to", "me", "--kind", "nte", "so"]);
}

fn a_line_does_what_its_action_says(door: Door) {
    let log =
        |words: &[&str]| door.ok(&[["log", "--agent", "me", "--status", "ok"].as_slice(), words].concat());
    log(&["--action", "claim", "--resource", "src/a.rs", "mine"]);
    assert_eq!(door.json(&["claims"])[0]["agent"], "me");
    door.fails(
        3,
        &["log", "--agent", "other", "--action", "claim", "--status", "ok", "--resource", "src", "mine"],
    );
    log(&["--action", "release", "--resource", "src/a.rs", "yours"]);
    assert_eq!(door.json(&["claims"]), json!([]));
    door.ok(&["agent", "add", "alpha"]);
    log(&["--action", "help", "--metadata", r#"{"help_needed_from":"alpha"}"#, "what now?"]);
    assert_eq!(door.json(&["inbox", "alpha"])[0]["kind"], "help");
    log(&["--action", "error", "the disk is full"]);
    assert_eq!(door.json(&["agent", "show", "me"])["state"], "blocked");
    log(&["--action", "idle", "all is well"]);
    door.ok(&["task", "add", "x"]);
    door.ok(&["task", "next", "--agent", "me"]);
    log(&["--action", "complete", "--metadata", r#"{"n":1}"#, "--progress", "100", "there"]);
    assert_eq!(door.json(&["task", "show", "1"])["result"], json!({ "n": 1 }));
    let line = door.events("log.line", 6).pop().expect("there are lines");
    assert_eq!((&line["message"], &line["data"]["progress"]), (&json!("there"), &json!(100)));
}

fn a_line_that_cannot_be_true_is_refused(door: Door) {
    let base = ["log", "--agent", "me", "--action", "claim", "--status", "ok"];
    let refuse = |code: i32, words: &[&str]| door.fails(code, &[base.as_slice(), words].concat());
    assert!(word(&refuse(2, &["no resource"])["hint"]).contains("--resource"));
    refuse(2, &["--progress", "101", "x"]);
    refuse(2, &["--metadata", "{", "x"]);
    refuse(2, &["--metadata", "[1]", "x"]);
    refuse(2, &["--resource", "../out", "x"]);
    door.fails(3, &["log", "--agent", "me", "--action", "complete", "--status", "ok", "nothing"]);
    assert_eq!(door.ok(&["events", "--kind", "log.line"]), "");
}

fn whoever_stands_in_quorate_toml_can_be_asked_for_help(door: Door) {
    let table = |name: &str| format!("[agents.{name}]\ndriver = \"external\"\n");
    door.write("quorate.toml", ["ada", "bob", "eve"].map(table).concat());
    let help = |from: &str| {
        let metadata = format!("{{\"help_needed_from\": {from}}}");
        door.ok(&[
            "log",
            "--agent",
            "me",
            "--action",
            "help",
            "--status",
            "ok",
            "--metadata",
            &metadata,
            "how?",
        ])
    };
    help("\"ada\"");
    help("[\"bob\", \"eve\"]");
    for name in ["ada", "bob", "eve"] {
        assert_eq!(door.json(&["inbox", name])[0]["text"], "how?", "{name}");
    }
}
