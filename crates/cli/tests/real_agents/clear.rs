//! The story of `/clear`: an orchestrator whose context is full is emptied and goes on, and the run that it leads ends right.

use crate::desk::{Desk, FULL, words_of};
use crate::door::word;
use quorate_testkit::model::{Say, Turn};
use serde_json::{Value, json};

/// What is said once, and stands nowhere but in the conversation.
const SAID: &str = "heliotrope";

/// Is typed by a person who never presses Enter.
const HALF: &str = "by the way, could";

/// The parts are done by whichever agent is free, once the test lets them.
const PLAN: &str = r#"
goal = "three parts"
[[task]]
key = "one"
run = "until test -e open; do sleep 0.05; done; echo one >> ran; echo '{\"quorate\":\"result\",\"value\":\"part one\"}'"
[[task]]
key = "two"
run = "until test -e open; do sleep 0.05; done; echo two >> ran; echo '{\"quorate\":\"result\",\"value\":\"part two\"}'"
[[task]]
key = "three"
run = "until test -e open; do sleep 0.05; done; echo three >> ran; echo '{\"quorate\":\"result\",\"value\":\"part three\"}'"
"#;

#[test]
fn an_orchestrator_with_a_full_context_is_cleared_and_leads_the_run_to_its_end() {
    let desk = Desk::new();
    desk.model.set([
        Turn::call("mcp__quorate__next_task", json!({ "wait": "1m" })).expect(SAID),
        Turn::text("I have the task in hand.").expect("Say how many parts").tokens(FULL),
        Turn::read(add_and_finish)
            .expect("Go on with your work")
            .expect("You are `orchestrator`")
            .expect("run 1 running: three parts (4 tasks: 4 running)")
            .expect("the context is full"),
        Turn::call("mcp__quorate__next_task", json!({ "wait": "1m" }))
            .expect("added: 5 seal")
            .expect("task 4 is completed"),
        Turn::read(finish).expect("result of one: part one").expect("result of three: part three"),
        Turn::text("The run is led to its end.").expect("task 5 is completed"),
    ]);
    desk.starts("3");
    let door = &desk.team.door;
    door.write("plan.toml", PLAN);
    door.ok(&["run", "plan.toml", "--detach"]);
    desk.waits("three agents at work", || count(&desk, "running") == 3);
    desk.types(&format!("Lead the run. The word is {SAID}."), || desk.model.asked() == 1);
    // It waits for a task. Meanwhile the person begins to type, and is called away.
    desk.begins_to_type(HALF);
    let judge = ["--prompt", "Say how many parts there are to be.", "--agent", "orchestrator", "--in", "1"];
    door.ok(&[&["task", "add", "Judge the parts"], judge.as_slice()].concat());
    // From here on nobody types but the product.
    desk.waits("the context is given back", || !desk.events("context.restored", "orchestrator").is_empty());
    desk.waits("it goes on, and adds a task", || count(&desk, "waiting") == 1);
    assert!(!desk.team.door.path().join("ran").exists(), "the agents are at work still");
    door.write("open", "");
    desk.waits("the run's end", || word(&door.json(&["runs", "show", "1"])["state"]) == "completed");
    check_run(&desk);
    check_log(&desk);
    desk.waits("the last word", || desk.model.asked() == 6);
    desk.team.ok(&["down", "team"]);
    let asked = desk.model.end();
    let told: Vec<String> = asked.iter().map(|asked| words_of(&asked.body)).collect();
    assert!(told[..2].iter().all(|told| told.contains(SAID)), "the old conversation");
    assert!(told.iter().all(|told| !told.contains(HALF)), "what was half typed is not sent");
    for told in &told[2..] {
        assert!(
            !told.contains(SAID) && !told.contains("I have the task in hand"),
            "the old conversation is gone: {told}"
        );
        assert_eq!(
            told.matches("run 1 running: three parts").count(),
            1,
            "the ledger's word is there once: {told}"
        );
    }
}

fn count(desk: &Desk, state: &str) -> usize {
    desk.team.door.json(&["task", "list", "--state", state]).as_array().map_or(0, Vec::len)
}

/// Every task was done once, by whom it was for, and the report says so.
fn check_run(desk: &Desk) {
    let door = &desk.team.door;
    let run = door.json(&["runs", "show", "1"]);
    let tasks = run["tasks"].as_array().expect("a list");
    let facts =
        |task: &Value| (word(&task["state"]).to_owned(), task["attempt"].clone(), task["term"].clone());
    assert_eq!(
        tasks.iter().map(facts).collect::<Vec<_>>(),
        vec![("completed".to_owned(), json!(1), json!(1)); 5]
    );
    assert_eq!(door.events("task.completed", 5).len(), 5);
    let ran = std::fs::read_to_string(door.path().join("ran")).expect("they ran");
    let (mut ran, mut by): (Vec<&str>, Vec<&str>) =
        (ran.lines().collect(), tasks.iter().map(|task| word(&task["agent"])).collect());
    ran.sort_unstable();
    by.sort_unstable();
    assert_eq!(ran, ["one", "three", "two"]);
    assert_eq!(by, ["orchestrator", "orchestrator", "shell-1", "shell-2", "shell-3"]);
    assert_eq!(tasks[4]["result"], "part one, part two, part three");
    let report = door.eventually("the report", |door| {
        door.json(&["runs", "show", "1"])["report"].as_str().map(str::to_owned)
    });
    let report = std::fs::read_to_string(door.path().join(report).join("report.md")).expect("it is written");
    assert!(report.contains("three parts") && report.contains("Judge the parts"), "{report}");
}

/// Each step is in the log, once and in order, and the state before is kept.
fn check_log(desk: &Desk) {
    let seqs = ["context.filled", "context.cleared", "context.restored"].map(|kind| {
        let events = desk.events(kind, "orchestrator");
        assert_eq!(events.len(), 1, "{kind}: {events:?}");
        events[0]["seq"].as_i64().expect("a number")
    });
    assert!(seqs.is_sorted(), "{seqs:?}");
    assert_eq!(desk.events("agent.started", "orchestrator").len(), 1, "it is one session");
    let saved = desk.team.door.json(&["checkpoint", "list", "--agent", "orchestrator"]);
    assert_eq!(saved[0]["state"]["saved"], "the context is full", "{saved}");
}

/// What a model does that knows only the context it was given: adds a task that needs the running ones, and ends its own.
fn add_and_finish(request: &Value) -> Vec<Say> {
    let told = words_of(request);
    let run = number_after(&told, "\nrun ");
    let needs: Vec<i64> = told
        .lines()
        .filter(|line| line.ends_with(']') && line.contains("[shell-"))
        .map(first_number)
        .collect();
    let saved = told.split_once("\"tasks\":").expect("a checkpoint with tasks").1;
    let own: Value =
        serde_json::Deserializer::from_str(saved).into_iter().next().expect("JSON").expect("JSON");
    let seal = json!({
        "key": "seal", "title": "Seal it", "prompt": "Put the parts together.", "agent": "orchestrator", "needs": needs
    });
    vec![
        Say::Call("mcp__quorate__add_tasks".into(), json!({ "run_id": run, "tasks": [seal] })),
        Say::Call(
            "mcp__quorate__finish".into(),
            json!({ "id": own[0]["id"], "term": own[0]["term"], "result": format!("{} parts", needs.len()) }),
        ),
    ]
}

/// What it does with the task that it was given last.
fn finish(request: &Value) -> Vec<Say> {
    let told = words_of(request);
    let task = told.rsplit_once("\ntask ").expect("a task").1;
    let result = |key: &str| {
        let after = task.split_once(&format!("result of {key}: ")).expect("a result").1;
        after.lines().next().unwrap_or_default().to_owned()
    };
    let result = ["one", "two", "three"].map(result).join(", ");
    let (id, term) = (first_number(task), number_after(task, "\nterm "));
    vec![Say::Call("mcp__quorate__finish".into(), json!({ "id": id, "term": term, "result": result }))]
}

fn number_after(text: &str, mark: &str) -> i64 {
    first_number(text.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in {text}")).1)
}

fn first_number(text: &str) -> i64 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
}
