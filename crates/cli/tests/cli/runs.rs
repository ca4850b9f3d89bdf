//! Runs, as they are listed and called off; doing them is tested elsewhere.

use crate::door::{Door, on_both};
use serde_json::json;

on_both!(a_run_is_listed_shown_and_cancelled, a_run_ends_with_its_last_task);

const PLAN: &str = "goal = 'two steps'
[[task]]
key = 'one'
prompt = 'first'
[[task]]
key = 'two'
prompt = 'second'
needs = ['one']
";

fn a_run_is_listed_shown_and_cancelled(door: Door) {
    assert_eq!(door.json(&["runs", "list"]), json!([]));
    door.write("plan.toml", PLAN);
    assert_eq!(door.json(&["run", "plan.toml", "--detach"])["id"], 1);
    let runs = door.json(&["runs", "list"]);
    assert_eq!((&runs[0]["goal"], &runs[0]["state"]), (&json!("two steps"), &json!("running")));
    assert_eq!(runs[0]["tasks"][1]["key"], "two");
    door.ok(&["task", "add", "one more", "--in", "1", "--key", "three", "--needs", "2"]);
    assert_eq!(door.json(&["runs", "show", "1"])["tasks"].as_array().map(Vec::len), Some(3));
    assert!(door.ok(&["runs", "list"]).contains("0/3"));
    assert_eq!(door.json(&["runs", "cancel", "1", "--reason", "enough"])["state"], "cancelled");
    assert_eq!(door.json(&["task", "list", "--state", "cancelled"]).as_array().map(Vec::len), Some(3));
    door.fails(3, &["runs", "cancel", "1"]);
    door.fails(3, &["task", "add", "too late", "--in", "1"]);
}

fn a_run_ends_with_its_last_task(door: Door) {
    door.write("plan.toml", PLAN);
    door.ok(&["run", "plan.toml", "--detach"]);
    for id in ["1", "2"] {
        assert_eq!(door.json(&["task", "next", "--agent", "me", "--in", "1"])["id"].to_string(), id);
        door.ok(&["task", "done", id, "--term", "1"]);
    }
    assert_eq!(door.json(&["runs", "show", "1"])["state"], "completed");
    assert_eq!(door.json(&["status"])["runs"][0]["state"], "completed");
}
