//! What is used, what it costs, and budgets, as a person meets them.

use crate::door::{Door, on_both, texts, word};
use serde_json::{Value, json};

on_both!(
    a_run_at_its_budget_ends_with_exit_code_6_and_says_what_lets_it_go_on,
    a_run_ends_when_all_its_agents_have_reached_their_budgets,
    a_task_goes_on_with_another_when_its_agent_has_reached_its_budget,
    a_task_at_a_budget_of_its_own_is_let_go_on_by_its_number,
    a_task_is_added_with_a_budget,
    without_usage_nothing_is_said_of_it,
    what_a_pulling_agent_says_it_used_counts_for_task_run_and_agent,
);

const AGENT: &str = "[agents.worker]\ndriver = \"command\"\ncommand = [\"sh\", \"agent.sh\"]\n";
const PLAN: &str =
    "goal = 'think'\n[[task]]\nkey = 'a'\nprompt = 'first'\n[[task]]\nkey = 'b'\nprompt = 'second'\n";

/// An agent that has used so many tokens of a model at a dollar for a thousand, and then goes on or not.
fn uses(door: &Door, tokens: i64, then: &str, config: &str) {
    let usage = format!("{{\"quorate\":\"usage\",\"model\":\"m\",\"output_tokens\":{tokens}}}");
    door.write("agent.sh", format!("echo '{usage}'\n{then}\n"));
    door.write("quorate.toml", format!("{config}\n[prices.m]\ninput = 1\noutput = 1000\n{AGENT}"));
    door.write("plan.toml", PLAN);
}

fn a_run_at_its_budget_ends_with_exit_code_6_and_says_what_lets_it_go_on(door: Door) {
    uses(&door, 1_500, "exec sleep 600", "[budget]\nusd = 1.0");
    let output = door.run(&["run", "plan.toml"]);
    let (report, _) = texts(&output);
    assert_eq!(output.status.code(), Some(6), "{report}");
    assert!(report.contains("## Used: $1.50, 1,500 tokens"), "{report}");
    assert!(report.contains("budget: run 1 has used $1.50 of $1.00"), "{report}");
    assert!(report.contains("`quorate runs resume 1` grants the same again"), "{report}");
    let run = door.json(&["runs", "show", "1"]);
    assert_eq!(run["cost"], json!({ "usd": 1.5, "tokens": 1_500 }));
    assert_eq!((&run["usage"][0]["model"], &run["usage"][0]["usd"]), (&json!("m"), &json!(1.5)));
    assert_eq!(run["costs"][0]["task_id"], 1);
    let states: Vec<&str> = (0..2).map(|n| word(&run["tasks"][n]["state"])).collect();
    assert_eq!(states, ["parked", "parked"]);
    assert!(door.ok(&["runs", "show", "1"]).contains("$1.50, 1,500 tokens of $1.00"));
    assert!(word(&door.json(&["task", "show", "2"])["why"]).contains("quorate task unpark 2"));
    door.events("budget.reached", 1);
    door.json(&["task", "unpark", "2"]);
    let tasks = door.json(&["task", "list"]);
    assert_eq!((word(&tasks[0]["state"]), word(&tasks[1]["state"])), ("ready", "ready"));
}

fn a_run_ends_when_all_its_agents_have_reached_their_budgets(door: Door) {
    uses(&door, 10, "true", "");
    let config = std::fs::read_to_string(door.path().join("quorate.toml")).expect("written above");
    door.write("quorate.toml", format!("{config}budget = {{ tokens = 10 }}\n"));
    let output = door.run(&["run", "plan.toml"]);
    let (report, _) = texts(&output);
    assert_eq!(output.status.code(), Some(6), "{report}");
    let worker = door.json(&["agent", "show", "worker"]);
    assert_eq!((word(&worker["state"]), worker["paused"].as_bool()), ("paused", Some(true)), "{worker}");
    assert_eq!(word(&worker["reason"]), "budget: agent worker has used 10 of 10 tokens");
    assert_eq!(worker["cost"], json!({ "usd": 0.01, "tokens": 10 }));
    let again = door.run(&["runs", "resume", "1"]);
    assert_eq!(again.status.code(), Some(6), "it ends like the first: {again:?}");
    assert!(texts(&again).0.contains("`quorate agent resume NAME` grants one again"), "{again:?}");
    let refused = door.fails(6, &["task", "next", "--agent", "worker"]);
    assert!(refused.to_string().contains("quorate agent resume worker"), "{refused}");
    door.ok(&["agent", "resume", "worker"]);
    door.json(&["task", "next", "--agent", "worker"]);
}

/// One of the two would go on for ever; what it began the other ends.
fn a_task_goes_on_with_another_when_its_agent_has_reached_its_budget(door: Door) {
    let spender = "if [ \"$QUORATE_AGENT\" = worker ]; then exec sleep 600; fi; sleep 0.5";
    uses(&door, 10, spender, "");
    let config = std::fs::read_to_string(door.path().join("quorate.toml")).expect("written above");
    let other = AGENT.replace("worker", "other");
    door.write("quorate.toml", format!("{config}budget = {{ tokens = 10 }}\n{other}"));
    let report = door.ok(&["run", "plan.toml"]);
    assert!(report.contains("budget: agent worker has used 10 of 10 tokens"), "{report}");
    let run = door.json(&["runs", "show", "1"]);
    assert_eq!(word(&run["state"]), "completed", "{run}");
    let attempts: Vec<Value> = (1..=2)
        .flat_map(|id: i32| {
            door.json(&["task", "show", &id.to_string()])["attempts"].as_array().expect("a list").clone()
        })
        .collect();
    let ended = |agent: &str, outcome: &str| {
        attempts.iter().filter(|a| word(&a["agent"]) == agent && word(&a["outcome"]) == outcome).count()
    };
    assert_eq!((ended("worker", "released"), ended("other", "completed")), (1, 2), "{attempts:?}");
}

fn a_task_at_a_budget_of_its_own_is_let_go_on_by_its_number(door: Door) {
    uses(&door, 10, "exec sleep 600", "");
    door.write("plan.toml", "[[task]]\nkey = 'a'\nprompt = 'x'\nbudget = { tokens = 7 }\n");
    let output = door.run(&["run", "plan.toml"]);
    let (report, _) = texts(&output);
    assert_eq!(output.status.code(), Some(6), "{report}");
    let wanted = "budget: task 1 has used 10 of 7 tokens. `quorate task unpark 1` grants the same again, then `quorate runs resume 1`";
    assert!(report.contains(wanted), "{report}");
}

fn a_task_is_added_with_a_budget(door: Door) {
    door.ok(&["task", "add", "think", "--prompt", "x", "--budget-usd", "0.5", "--budget-tokens", "1000"]);
    assert_eq!(door.json(&["task", "show", "1"])["budget"], json!({ "usd": 0.5, "tokens": 1_000 }));
    assert!(door.ok(&["task", "show", "1"]).contains("nothing of $0.50 and 1,000 tokens"));
    for wrong in ["0", "-1", "much", "1000000001"] {
        door.fails(2, &["task", "add", "think", &format!("--budget-usd={wrong}")]);
    }
    door.fails(2, &["task", "add", "think", "--budget-tokens", "0"]);
    door.write("plan.toml", "[[task]]\nprompt = 'x'\nbudget = { usd = 2, tokens = 7 }\n");
    door.ok(&["run", "plan.toml", "--detach"]);
    assert_eq!(door.json(&["task", "show", "2"])["budget"], json!({ "usd": 2.0, "tokens": 7 }));
}

fn without_usage_nothing_is_said_of_it(door: Door) {
    door.write("plan.toml", "[[task]]\nrun = 'true'\n");
    let report = door.ok(&["run", "plan.toml"]);
    let told =
        [report, door.ok(&["runs", "show", "1"]), door.ok(&["task", "show", "1"]), door.ok(&["status"])];
    assert!(told.iter().all(|text| !text.to_lowercase().contains("used")), "{told:?}");
    assert_eq!(door.json(&["status"])["cost"], json!({ "usd": 0.0, "tokens": 0 }));
}

fn what_a_pulling_agent_says_it_used_counts_for_task_run_and_agent(door: Door) {
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"x\"\n[[task]]\nkey = \"b\"\nprompt = \"x\"\n",
    );
    door.write("quorate.toml", "[budget]\ntokens = 1000\n[prices.m]\ninput = 1_000\noutput = 1_000\n");
    door.ok(&["run", "plan.toml", "--detach"]);
    door.json(&["task", "next", "--agent", "ada"]);
    let used = |tokens: i64| format!(r#"{{"model":"m","input_tokens":{tokens}}}"#);
    let progress =
        |usage: &str| ["task", "progress", "1", "--term", "1", "--usage", usage].map(str::to_owned);
    let said = |args: [String; 7]| door.ok(&args.each_ref().map(String::as_str));
    said(progress(&used(300)));
    assert!(said(progress(&format!("[{}]", used(400)))).contains("yours until"), "a list is read, too");
    let done = ["task", "done", "1", "--term", "1", "--usage", &used(600)];
    for _ in 0..2 {
        assert_eq!(door.json(&done)["budget"], Value::Null);
    }
    let run = door.json(&["runs", "show", "1"]);
    assert_eq!((&run["usage"][0]["input_tokens"], &run["usage"][0]["usd"]), (&json!(600), &json!(0.6)));
    assert_eq!(door.json(&["agent", "show", "ada"])["cost"], json!({ "usd": 0.6, "tokens": 600 }));

    door.json(&["task", "next", "--agent", "ada"]);
    let over = used(400);
    let parked = door.run(&["task", "progress", "2", "--term", "1", "--usage", &over]);
    let why = "task 2 is parked: budget: run 1 has used 1,000 of 1,000 tokens";
    assert!(parked.status.code() == Some(6) && texts(&parked).0.contains(why), "{parked:?}");
    let shown = door.json(&["task", "show", "2"]);
    assert_eq!((&shown["state"], &shown["attempts"][0]["outcome"]), (&json!("parked"), &json!("parked")));
    let wrong = door.fails(2, &["task", "progress", "2", "--term", "1", "--usage", "{\"model\":7}"]);
    assert!(word(&wrong["message"]).contains("`[0].model`"), "{wrong}");
}
