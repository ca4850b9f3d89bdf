//! `quorate doctor`: every symptom has its name and the command that mends it.

use crate::door::{Door, on_both, word};
use serde_json::Value;
use std::net::TcpListener;

/// Returns the finding of a check; the exit code says whether anything is broken.
fn finding(door: &Door, check: &str) -> (Value, Option<i32>) {
    let output = door.run(&["doctor", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
    let found =
        value["checks"].as_array().expect("a list").iter().find(|f| word(&f["check"]) == check).cloned();
    (found.unwrap_or_else(|| panic!("no check `{check}` in {value}")), output.status.code())
}

#[track_caller]
fn check(door: &Door, name: &str, state: &str, says: &str, mends: &str) {
    let (found, code) = finding(door, name);
    assert_eq!(word(&found["state"]), state, "{found}");
    assert!(word(&found["message"]).contains(says), "{found}");
    assert!(word(&found["mend"]).contains(mends), "{found}");
    assert_eq!(code, Some(i32::from(state == "fail")), "{found}");
}

fn a_healthy_project_is_said_to_be_so(door: Door) {
    door.ok(&["task", "add", "x", "--run", "true"]);
    let text = door.ok(&["doctor"]);
    assert!(!text.contains("fail"), "{text}");
    for name in ["config", "ledger", "size", "agents", "nodes", "programs", "port", "limits", "snapshot"] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

fn a_missing_program_of_an_agent_is_named(door: Door) {
    door.write("quorate.toml", "[agents.a]\ndriver = \"command\"\ncommand = [\"./not-there.sh\"]\n");
    check(&door, "programs", "fail", "./not-there.sh", "[agents.a]");
}

fn a_configured_agent_that_was_never_seen_is_named(door: Door) {
    door.write("quorate.toml", "[agents.zoe]\ndriver = \"human\"\n");
    door.ok(&["task", "add", "x"]);
    check(&door, "agents", "warn", "zoe", "quorate task next --agent zoe");
}

fn a_broken_configuration_is_a_finding_too(door: Door) {
    door.write("quorate.toml", "[healht]\nlease = \"1s\"\n");
    check(&door, "config", "fail", "quorate.toml:1", "health");
}

fn a_taken_port_is_said_with_the_process_that_has_it(door: Door) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    door.write("quorate.toml", format!("[server]\nlisten = \"{address}\"\n"));
    check(&door, "port", "warn", &format!("(pid {})", std::process::id()), "listen");
    drop(listener);
    let mut node = door.start(&["up"]);
    door.eventually("the node is there", |door| (door.events("node.started", 1).len() == 1).then_some(()));
    let (found, _) = finding(&door, "port");
    let answers = format!("node 1 (pid {}) answers at {address}", node.child().id());
    assert_eq!((word(&found["state"]), word(&found["message"])), ("ok", answers.as_str()));
}

#[test]
fn a_newer_schema_is_refused_by_name() {
    let door = Door::lite();
    door.ok(&["task", "add", "x"]);
    sqlite(&door, "pragma user_version = 99");
    check(&door, "schema", "fail", "newer than version", "newer quorate");
}

#[test]
fn another_programs_database_is_refused() {
    let door = Door::lite();
    std::fs::create_dir(door.path().join(".quorate")).expect("a folder");
    sqlite(&door, "create table things (id)");
    check(&door, "ledger", "fail", "not a Quorate ledger", "QUORATE_STORE");
}

/// Changes the file from outside, as another program would.
fn sqlite(door: &Door, sql: &str) {
    let file = rusqlite::Connection::open(door.path().join(".quorate/quorate.db")).expect("it opens");
    file.execute_batch(sql).expect("it is changed");
}

on_both!(
    a_healthy_project_is_said_to_be_so,
    a_missing_program_of_an_agent_is_named,
    a_configured_agent_that_was_never_seen_is_named,
    a_broken_configuration_is_a_finding_too,
    a_taken_port_is_said_with_the_process_that_has_it,
);
