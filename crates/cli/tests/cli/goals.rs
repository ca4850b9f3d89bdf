//! A goal in words: planned by one agent, done by others, put together by the last.

use crate::door::{Door, on_both, word};
use serde_json::Value;

on_both!(
    a_goal_is_planned_done_and_reported,
    a_plan_waits_for_approval_where_nobody_can_be_asked,
    a_new_plan_is_made_when_a_task_fails_for_good,
    a_task_that_is_there_is_decomposed_and_ends_with_its_subtasks,
    a_task_is_decomposed_with_the_results_of_what_it_needs,
    what_an_agent_reports_steers_no_terminal,
);

/// A team whose planner and whose hands are scripts; `hand` is the body of the hands'.
fn team(door: &Door, boss: &str, hand: &str) {
    door.write(
        "quorate.toml",
        "[health]\nretry_after = \"100ms\"\nmax_attempts = 1\n\
         [agents.boss]\ndriver = \"command\"\ncapabilities = [\"orchestration\"]\ncommand = [\"sh\", \"boss.sh\"]\n\
         [agents.hand]\ndriver = \"command\"\ncount = 2\ncapabilities = [\"work\", \"synthesis\"]\ncommand = [\"sh\", \"hand.sh\"]\n",
    );
    door.write("boss.sh", format!("task=$(cat)\nprintf '%s\\n' \"$task\" >> asked.txt\n{boss}"));
    door.write(
        "hand.sh",
        format!("task=$(cat)\ncase $task in *'Write the report'*) printf '%s\\n' \"$task\" > report-task.txt;; esac\n{hand}"),
    );
}

/// A planner's line that answers with this plan, as a model would: a text around it.
fn answers(plan: &str) -> String {
    let said = Value::from(format!("Here it is:\n{plan}\nGood luck."));
    format!("cat <<'EOF'\n{{\"quorate\":\"result\",\"value\":{said}}}\nEOF\n")
}

const HAND: &str = "case $task in\n\
    *'Write the report'*) echo '{\"quorate\":\"result\",\"value\":\"The answer is 42.\"}';;\n\
    *) echo '{\"quorate\":\"result\",\"value\":{\"n\":21}}';;\nesac\n";

fn a_goal_is_planned_done_and_reported(door: Door) {
    let wrong = answers(r#"{"tasks":[{"key":"a","prompt":"x","capability":"wrok"}]}"#);
    let right = answers(
        r#"{"tasks":[{"key":"a","title":"One","prompt":"x","capability":"work"},{"key":"b","title":"Two","prompt":"y","needs":["a"],"capability":"work"}]}"#,
    );
    team(&door, &format!("if [ \"$QUORATE_ATTEMPT\" = 1 ]; then\n{wrong}else\n{right}fi\n"), HAND);
    let out = door.ok(&["run", "find the answer"]);
    assert!(out.contains("The answer is 42."), "{out}");
    let asked = std::fs::read_to_string(door.path().join("asked.txt")).expect("it was asked");
    assert!(asked.contains("find the answer") && asked.contains("- hand-1: work, synthesis"), "{asked}");
    assert!(asked.contains("did you mean `work`?"), "the second time it is told what was wrong: {asked}");
    let run = door.json(&["runs", "show", "1"]);
    assert_eq!(word(&run["state"]), "completed");
    let keys: Vec<&str> =
        run["tasks"].as_array().expect("tasks").iter().map(|task| word(&task["key"])).collect();
    assert_eq!(keys, ["plan", "a", "b", "report"]);
    let told = std::fs::read_to_string(door.path().join("report-task.txt")).expect("it was written");
    assert!(told.contains("\"a\":{\"n\":21}") && told.contains("\"b\":{\"n\":21}"), "{told}");
    let report = std::fs::read_to_string(door.path().join(".quorate/runs/1/report.md")).expect("a report");
    assert!(report.contains("The answer is 42."), "{report}");
}

fn a_plan_waits_for_approval_where_nobody_can_be_asked(door: Door) {
    team(&door, &answers(r#"{"tasks":[{"key":"a","prompt":"x","capability":"work"}]}"#), HAND);
    let output = door.run(&["run", "find the answer", "--approve"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let tasks = door.json(&["task", "list"]);
    assert_eq!(word(&tasks[1]["state"]), "parked", "{tasks}");
    assert!(word(&door.json(&["task", "show", "2"])["why"]).contains("`quorate runs approve 1`"));
    let approved = door.json(&["runs", "approve", "1"]);
    assert_eq!((&approved["id"], &approved["begun"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(approved["tasks"], door.json(&["runs", "show", "1"])["tasks"], "the whole run");
    assert_eq!(door.fails(3, &["runs", "approve", "1"])["kind"], "conflict");
    let out = door.ok(&["runs", "resume", "1"]);
    assert!(out.contains("The answer is 42."), "{out}");
}

fn a_new_plan_is_made_when_a_task_fails_for_good(door: Door) {
    let first = answers(r#"{"tasks":[{"key":"hard","prompt":"the hard way","capability":"work"}]}"#);
    let second = answers(r#"{"tasks":[{"key":"easy","prompt":"another way","capability":"work"}]}"#);
    let boss = format!("case $task in *'has failed for good'*)\n{second};;\n*)\n{first};;\nesac\n");
    let hand = format!("case $task in *'the hard way'*) echo 'no way'; exit 1;; esac\n{HAND}");
    team(&door, &boss, &hand);
    let out = door.ok(&["run", "find the answer"]);
    assert!(out.contains("The answer is 42."), "{out}");
    let asked = std::fs::read_to_string(door.path().join("asked.txt")).expect("it was asked");
    assert!(asked.contains("- hard: failed: exited with code 1: no way"), "{asked}");
    assert_eq!(door.events("run.replanned", 1).len(), 1);
}

fn a_task_that_is_there_is_decomposed_and_ends_with_its_subtasks(door: Door) {
    team(&door, &answers(r#"{"tasks":[{"key":"a","prompt":"x","capability":"work"}]}"#), HAND);
    door.ok(&["task", "add", "Find the answer", "--prompt", "To everything."]);
    let out = door.ok(&["run", "--task", "1"]);
    assert!(out.contains("The answer is 42."), "{out}");
    let task = door.json(&["task", "show", "1"]);
    assert_eq!((word(&task["state"]), word(&task["result"])), ("completed", "The answer is 42."), "{task}");
    let asked = std::fs::read_to_string(door.path().join("asked.txt")).expect("it was asked");
    assert!(asked.contains("Find the answer\\n\\nTo everything."), "{asked}");
    door.fails(3, &["run", "--task", "1"]);
    door.fails(5, &["run", "--task", "77"]);
    door.fails(2, &["run", "a goal", "--task", "1"]);
}

fn a_task_is_decomposed_with_the_results_of_what_it_needs(door: Door) {
    team(&door, &answers(r#"{"tasks":[{"key":"a","prompt":"x","capability":"work"}]}"#), HAND);
    door.ok(&["task", "add", "Look", "--prompt", "Look around."]);
    door.ok(&["task", "add", "Find the answer", "--needs", "1"]);
    let refused = door.fails(3, &["run", "--task", "2"]);
    assert!(word(&refused["message"]).contains("waits for task 1 yet"), "{refused}");
    let term = door.json(&["task", "next", "--agent", "me"])["term"].to_string();
    door.ok(&["task", "done", "1", "--term", &term, "--result", "\"It is below the stairs.\""]);
    let out = door.ok(&["run", "--task", "2"]);
    assert!(out.contains("The answer is 42."), "{out}");
    let asked = std::fs::read_to_string(door.path().join("asked.txt")).expect("it was asked");
    let told = "Find the answer\\n\\nThe result of 1, which is done:\\nIt is below the stairs.";
    assert!(asked.contains(told), "{asked}");
}

fn what_an_agent_reports_steers_no_terminal(door: Door) {
    let hand = "case $task in\n\
        *'Write the report'*) printf '%s\\n' '{\"quorate\":\"result\",\"value\":\"It is \\u001b[2J42.\\nReally \\u202eso.\"}';;\n\
        *) echo '{\"quorate\":\"result\",\"value\":21}';;\nesac\n";
    team(&door, &answers(r#"{"tasks":[{"key":"a","prompt":"x","capability":"work"}]}"#), hand);
    let out = door.ok(&["run", "find the answer"]);
    let kept = std::fs::read_to_string(door.path().join(".quorate/runs/1/report.md")).expect("a report");
    for text in [out, kept] {
        assert!(text.contains("It is \u{fffd}[2J42.\nReally \u{fffd}so."), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
}

#[test]
fn a_plan_alone_is_shown_and_can_be_run_later() {
    let door = Door::lite();
    team(
        &door,
        &answers(
            r#"{"tasks":[{"key":"a","prompt":"x","capability":"work","timeout":"5m"},{"key":"b","prompt":"y","needs":["a"]}]}"#,
        ),
        HAND,
    );
    let plan = door.json(&["run", "find the answer", "--plan-only"]);
    assert_eq!(
        (word(&plan["goal"]), word(&plan["tasks"][1]["needs"][0])),
        ("find the answer", "a"),
        "{plan}"
    );
    assert_eq!(door.json(&["task", "list"]).as_array().map(Vec::len), Some(1), "only the planning itself");
    let shown = door.ok(&["run", "find the answer", "--plan-only"]);
    assert!(shown.contains("KEY") && shown.contains("work"), "{shown}");
    door.write("plan.json", plan.to_string());
    let again = door.json(&["run", "plan.json", "--plan-only"]);
    assert_eq!(again, plan, "what is printed is a plan file");
    door.ok(&["run", "plan.json"]);
    assert_eq!(door.fails(2, &["run", "plan.json", "--approve"])["kind"], "invalid");
}

#[test]
fn without_a_planner_a_goal_is_one_task() {
    let door = Door::lite();
    door.write(
        "quorate.toml",
        "[agents.hand]\ndriver = \"command\"\ncommand = [\"sh\", \"-c\", \"cat > task.txt\"]\n",
    );
    door.ok(&["run", "find the answer"]);
    assert_eq!(door.json(&["task", "list"]).as_array().map(Vec::len), Some(1));
    let error = door.fails(2, &["run", "find the answer", "--plan-only"]);
    assert!(word(&error["hint"]).contains("orchestration"), "{error}");
}
