//! The team's memory, checkpoints, and what a fresh orchestrator is told.

use crate::door::{Door, number, on_both, word};
use serde_json::json;

on_both!(
    what_is_told_is_recalled_and_forgotten,
    what_is_recalled_begins_with_the_number_by_which_it_is_forgotten,
    results_failures_messages_and_lines_are_recalled_without_a_node,
    a_state_is_saved_shown_and_listed,
    context_keeps_to_its_tokens,
    mistakes_of_memory_change_nothing,
);

fn what_is_told_is_recalled_and_forgotten(door: Door) {
    let first = ["remember", "--agent", "ada", "--tag", "tests,redis", "the tests need a running server"];
    assert_eq!(door.json(&first), json!({ "id": 1, "count": 1 }));
    assert_eq!(
        door.json(&["agent", "show", "ada"])["driver"],
        "external",
        "who tells something joins the team"
    );
    assert_eq!(door.json(&["remember", "--agent", "bob", "Tests need a running server!"])["count"], 2);
    let decision =
        ["remember", "--agent", "ada", "--kind", "decision", "--ttl", "7d", "we test in containers"];
    door.ok(&decision);
    let hits = door.json(&["recall", "redis"]);
    assert_eq!((&hits[0]["source"], &hits[0]["count"]), (&json!("memory:1"), &json!(2)));
    assert_eq!((&hits[0]["tags"], &hits[0]["agent"]), (&json!(["tests", "redis"]), &json!("ada")));
    assert!(hits[0]["score"].is_number() && word(&hits[0]["seen_at"]).ends_with('Z'));
    assert_eq!(door.json(&["recall", "test"]).as_array().map(Vec::len), Some(2));
    let narrow = door.json(&["recall", "test", "--kind", "decision", "--limit", "1"]);
    assert_eq!(narrow[0]["text"], "we test in containers");
    assert!(word(&narrow[0]["expires_at"]).ends_with('Z'));
    assert!(door.ok(&["recall", "server"]).starts_with("memory:1 finding by ada"));
    assert_eq!(door.json(&["forget", "memory:1"]), json!({ "forgotten": 1 }));
    assert_eq!(door.json(&["recall", "server"]), json!([]));
    door.fails(5, &["forget", "1"]);
}

fn what_is_recalled_begins_with_the_number_by_which_it_is_forgotten(door: Door) {
    for told in ["doors are heavy", "windows let the light in"] {
        door.ok(&["remember", "--agent", "ada", told]);
    }
    door.ok(&["task", "add", "measure the table"]);
    door.ok(&["task", "next", "--agent", "me"]);
    door.ok(&["task", "done", "1", "--term", "1", "--result", "\"of walnut\""]);
    let id = number(&door.json(&["recall", "walnut"])[0]["id"]);
    assert_ne!(id, "1", "it is not the task's");
    let shown = door.ok(&["recall", "walnut"]);
    assert!(shown.starts_with(&format!("memory:{id} finding by me from task:1  ")), "{shown}");
    door.ok(&["forget", &id]);
    assert_eq!(door.json(&["recall", "walnut"]), json!([]));
    door.fails(2, &["forget", "task:1"]);
}

fn results_failures_messages_and_lines_are_recalled_without_a_node(door: Door) {
    door.ok(&["task", "add", "measure the table", "--attempts", "1"]);
    door.ok(&["task", "add", "measure the door", "--attempts", "1"]);
    let term = number(&door.json(&["task", "next", "--agent", "me"])["term"]);
    door.ok(&["task", "done", "1", "--term", &term, "--result", r#"{"metres": 3, "wood": "walnut"}"#]);
    let term = number(&door.json(&["task", "next", "--agent", "me"])["term"]);
    door.ok(&["task", "fail", "2", "--term", &term, "--error", "the door is made of walnut and stuck"]);
    door.ok(&["agent", "add", "alpha"]);
    door.ok(&["send", "--from", "me", "--to", "alpha", "walnut is heavy"]);
    door.ok(&["log", "--agent", "me", "--action", "look", "--status", "ok", "walnut everywhere"]);
    let hits = door.json(&["recall", "walnut"]);
    let mut found: Vec<String> = hits
        .as_array()
        .expect("a list")
        .iter()
        .map(|hit| {
            let source = word(&hit["source"]);
            format!("{} {}", word(&hit["kind"]), source.split(':').next().unwrap_or_default())
        })
        .collect();
    found.sort();
    assert_eq!(found, ["episode attempt", "finding task", "line event", "message message"]);
}

fn a_state_is_saved_shown_and_listed(door: Door) {
    assert_eq!(door.json(&["checkpoint", "save", "--agent", "lead", "next: task 7"]), json!({ "id": 1 }));
    door.ok(&["checkpoint", "save", "--agent", "lead", r#"{"next": [7]}"#]);
    door.write("state.json", "[1, 2]");
    door.ok(&["checkpoint", "save", "--agent", "beta", "@state.json"]);
    assert_eq!(door.json(&["checkpoint", "show", "1"])["state"], "next: task 7");
    assert_eq!(door.json(&["checkpoint", "show"])["state"], json!([1, 2]));
    assert_eq!(door.json(&["checkpoint", "show", "--agent", "lead"])["state"], json!({ "next": [7] }));
    assert_eq!(door.json(&["checkpoint", "list", "--agent", "lead"]).as_array().map(Vec::len), Some(2));
    assert_eq!(door.json(&["checkpoint", "list", "--in", "1"]), json!([]), "as for tasks: --in is --run");
    assert!(door.ok(&["checkpoint", "list"]).contains("beta"));
    assert_eq!(door.json(&["recall", "\"task 7\""])[0]["source"], "checkpoint:1");
}

fn context_keeps_to_its_tokens(door: Door) {
    for n in 0..40 {
        door.ok(&["task", "add", &format!("look into part number {n} of the whole")]);
    }
    door.ok(&["remember", "--agent", "ada", "the whole has forty parts"]);
    let text = door.ok(&["context"]);
    assert!(
        text.contains("ready:\n1 look into part number 0") && text.contains("the whole has forty parts"),
        "{text}"
    );
    assert!(!text.contains("left out"), "{text}");
    let less = door.ok(&["context", "--budget", "200"]);
    assert!(less.len() < 900 && less.contains("left out:"), "{less}");
    let said = door.json(&["context", "--budget", "1000"]);
    let shown = said["tasks"].as_array().map(Vec::len).expect("tasks");
    assert!((1..40).contains(&shown), "{shown}");
    assert_eq!(said["left_out"]["tasks"], json!(40 - shown));
}

fn mistakes_of_memory_change_nothing(door: Door) {
    door.fails(2, &["remember", "--agent", "ada"]);
    door.fails(2, &["remember", "--agent", "ada", " "]);
    door.fails(2, &["remember", "the tests need a server"]);
    door.fails(2, &["remember", "--agent", "ada", "--kind", "message", "x"]);
    door.fails(2, &["remember", "--agent", "ada", "--kind", "fnding", "x"]);
    door.fails(2, &["recall"]);
    door.fails(2, &["recall", "x", "--limit", "0"]);
    door.fails(2, &["context", "--budget", "49"]);
    door.fails(2, &["checkpoint", "save", "--agent", "ada", ""]);
    door.fails(5, &["checkpoint", "save", "--agent", "ada", "@nothing-here"]);
    door.ok(&["agent", "add", "ada"]);
    door.fails(5, &["remember", "--agent", "ada", "--task", "99", "x"]);
    door.fails(5, &["checkpoint", "show"]);
    door.fails(5, &["checkpoint", "show", "9"]);
    door.fails(5, &["context", "--run", "9"]);
    assert_eq!(door.json(&["recall", "x"]), json!([]));
}
