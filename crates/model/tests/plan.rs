//! What plans may say, in their three formats, and what is told about what they may not.

use proptest::prelude::*;
use quorate_model::at::At;
use quorate_model::plan::{Plan, TASKS_MAX};
use quorate_model::priority::Priority;
use quorate_model::{Error, Kind};
use std::time::Instant;

fn plan(file: &str, text: &str) -> Plan {
    Plan::parse(file, text.as_bytes()).unwrap_or_else(|found| panic!("{text}\n{found}"))
}

fn refuse_in(file: &str, text: &str, expected: &str) {
    let found = Plan::parse(file, text.as_bytes()).expect_err(text).to_string();
    assert!(found.contains(expected), "{text}\n--- found\n{found}\n--- expected\n{expected}");
}

fn refuse(text: &str, expected: &str) {
    refuse_in("plan.toml", text, expected);
}

/// A plan of one task with this line in it.
fn refuse_line(line: &str, expected: &str) {
    refuse(&format!("[[task]]\nkey = 'a'\nrun = 'true'\n{line}\n"), expected);
}

/// `key: needed needed` for each task.
fn shape(plan: &Plan) -> Vec<String> {
    let needs = |task: &quorate_model::plan::PlanTask| {
        task.needs.iter().map(|place| plan.tasks[*place].key.as_str()).collect::<Vec<_>>().join(" ")
    };
    plan.tasks.iter().map(|task| format!("{}: {}", task.key, needs(task)).trim_end().to_string()).collect()
}

const EVERYTHING: &str = r#"
goal = "Is this repository ready to release?"
[[task]]
key = "fmt"
run = "cargo fmt --check"
[[task]]
key        = "lint"
title      = "Clippy, warnings are errors"
needs      = ["fmt", "fmt"]
capability = "validation"
run        = "cargo clippy -- -D warnings"
verify     = "test -s report.md"
claims     = ["./src/**", "src/**", "port:8080"]
priority   = "high"
timeout    = "10m"
attempts   = 5
outputs    = ["report.md"]
at         = "2026-01-31T06:00:00Z"
[[task]]
title  = "Write the report"
needs  = ["lint"]
agent  = "alpha"
prompt = "Say what you found."
at     = 1970-01-01T00:00:01Z
"#;

#[test]
fn every_field_is_read() {
    let found = plan("plan.toml", EVERYTHING);
    assert_eq!(found.goal, "Is this repository ready to release?");
    assert_eq!(shape(&found), ["fmt:", "lint: fmt", "write-the-report: lint"]);
    let [fmt, lint, report] = &found.tasks[..] else { panic!("three") };
    assert_eq!((fmt.title.as_str(), fmt.priority, fmt.timeout_ms), ("fmt", Priority::Medium, None));
    assert_eq!(lint.title, "Clippy, warnings are errors");
    assert_eq!((lint.capability.as_deref(), lint.agent.as_deref()), (Some("validation"), None));
    assert_eq!(lint.run.as_deref(), Some("cargo clippy -- -D warnings"));
    assert_eq!(lint.verify.as_deref(), Some("test -s report.md"));
    let claims: Vec<&str> = lint.claims.iter().map(|claim| claim.as_str()).collect();
    assert_eq!(claims, ["src/**", "port:8080"]);
    assert_eq!((lint.priority, lint.timeout_ms, lint.attempts), (Priority::High, Some(600_000), Some(5)));
    assert_eq!(lint.outputs, ["report.md"]);
    assert_eq!(lint.at, Some(At::Time(1_769_839_200_000)));
    assert_eq!(
        (report.agent.as_deref(), report.prompt.as_deref()),
        (Some("alpha"), Some("Say what you found."))
    );
    assert_eq!((report.run.as_deref(), report.at), (None, Some(At::Time(1000))));
}

#[test]
fn json_has_the_same_fields() {
    let text = r#"{"goal": "g", "task": [
        {"key": "a", "run": "true", "agent": null},
        {"key": "b", "needs": ["a"], "prompt": "p", "timeout": "1s", "attempts": 2, "at": "10m"}]}"#;
    let found = plan("plan.JSON", text);
    assert_eq!(shape(&found), ["a:", "b: a"]);
    assert_eq!(found.tasks[1].at, Some(At::After(600_000)));
    assert_eq!(plan("plan.json", &text.replace("\"task\"", "\"tasks\"")), found);
    refuse_in("p.json", r#"{"task": [], "tasks": []}"#, "`task` and `tasks` are both given");
    refuse_in(
        "p.json",
        r#"{"task": [{"key": "a", "key": "b", "run": "x"}]}"#,
        "p.json:1:24: the key `key` is given twice",
    );
    refuse_in("p.json", r#"[1]"#, "a plan must be a table with `goal` and `task`, not an array");
    refuse_in("p.json", r#"{"task": {"a": 1}}"#, "`task` must be a list of tables (`[[task]]`), not a table");
    refuse_in("p.json", r#"{"task": [3]}"#, "p.json:1:11: a task must be a table, not an integer");
}

#[test]
fn a_plan_without_goal_is_named_after_its_file() {
    assert_eq!(plan("/x/nightly.toml", "[[task]]\nrun = 'true'\n").goal, "nightly");
}

#[test]
fn keys_and_titles_that_are_missing_are_made_up() {
    let text = "[[task]]\ntitle = 'Do it'\nrun = 'a'\n[[task]]\ntitle = 'Do it!'\nrun = 'b'\n\
                [[task]]\nkey = 'do-it-2'\nrun = 'c'\n[[task]]\ntitle = '整理'\nrun = 'd'\n[[task]]\nrun = 'cargo test'\n";
    let found = plan("plan.toml", text);
    assert_eq!(shape(&found), ["do-it:", "do-it-3:", "do-it-2:", "task-4:", "cargo-test:"]);
    assert_eq!(found.tasks[2].title, "do-it-2");
    assert_eq!(found.tasks[4].title, "cargo test");
}

#[test]
fn an_unknown_need_is_pointed_at() {
    let text = "[[task]]\nkey = \"fmt\"\nrun = \"true\"\n[[task]]\nkey = \"lint\"\nneeds = [\"fmt\", \"fmr\"]\nrun = \"x\"\n";
    let error = Error::from(Plan::parse("plan.toml", text.as_bytes()).expect_err("unknown"));
    assert_eq!(error.kind, Kind::Invalid);
    assert_eq!(
        error.message,
        "plan.toml:6:17: no task has the key `fmr`\n6 | needs = [\"fmt\", \"fmr\"]\n  |                 ^^^^^"
    );
    assert_eq!(error.hint.as_deref(), Some("did you mean `fmt`?"));
    refuse_line("needs = ['xyzzy']", "the keys of this plan are: a");
}

#[test]
fn a_cycle_is_named_whole_and_pointed_at() {
    let task = |key: &str, need: &str| format!("[[task]]\nkey = '{key}'\nneeds = ['{need}']\nrun = 'x'\n");
    let text = [task("d", "b"), task("a", "c"), task("b", "a"), task("c", "b")].concat();
    refuse(
        &text,
        "plan.toml:7:10: these tasks need each other: a → c → b → a\n7 | needs = ['c']\n  |          ^^^",
    );
    refuse_line("needs = ['a']", "plan.toml:4:10: the task `a` needs itself");
    let two = [task("a", "b"), task("b", "a"), task("c", "d"), task("d", "c")].concat();
    refuse(&two, "a → b → a");
    refuse(&two, "c → d → c");
}

#[test]
fn duplicate_keys_name_the_first() {
    let text = "[[task]]\nkey = 'a'\nrun = 'x'\n[[task]]\nkey = 'a'\nrun = 'x'\n";
    refuse(
        text,
        "plan.toml:5:7: the key `a` is given twice\n5 | key = 'a'\n  |       ^^^\nhelp: the first is on line 2",
    );
}

#[test]
fn wrong_fields_say_where_and_what_was_expected() {
    refuse_line(
        "neds = []",
        "plan.toml:4:1: unknown key `neds`\n4 | neds = []\n  | ^^^^\nhelp: did you mean `needs`?",
    );
    refuse_line("env = {}", "unknown key `env`");
    refuse_line("capability = 'x'\nagent = 'y'", "plan.toml:5:9: `capability` and `agent` are both given");
    refuse_line("prompt = 'x'", "plan.toml:4:1: `run` and `prompt` are both given");
    refuse("[[task]]\nkey = 'a'\n", "plan.toml:1:1: the task has neither `run` nor `prompt`");
    refuse("[[task]]\nrun = ' '\n", "the text is empty");
    refuse_line("priority = 'urgent'", "plan.toml:4:12: unknown priority `urgent`");
    refuse_line("priority = 1", "`priority` must be a string, not an integer");
    refuse_line("timeout = '99ms'", "`timeout` must be at least 100ms");
    refuse_line("budget = { usd = 0 }", "a task's budget must be more than 0");
    refuse_line("budget = { tokens = 0 }", "a task's budget must be more than 0");
    refuse_line("budget = 3", "`budget` must be a table");
    refuse_line("timeout = 30", "`timeout` must be a duration in quotes");
    refuse_line("attempts = 0", "`attempts` must be a whole number from 1 to 100, not 0");
    refuse_line("attempts = 101", "from 1 to 100");
    refuse_line("claims = ['../x']", "plan.toml:4:11: the resource name `../x` leaves the project folder");
    refuse_line("claims = ['/etc/x']", "leaves the project folder");
    refuse_line(&format!("claims = ['{}']", "x".repeat(10_000)), "has 10000 bytes; at most 4096");
    refuse_line("claims = 'src'", "`claims` must be an array of strings, not a string");
    refuse_line("agent = 'a b'", "agent `a b` is not a name");
    refuse_line("capability = ''", "capability `` is not a name");
    refuse_line("at = 'soon'", "neither RFC 3339 nor a duration");
    refuse_line("at = 2026-01-01", "neither RFC 3339 nor a duration");
    refuse_line("outputs = ['']", "the text is empty");
    refuse_line("verify = ''", "the text is empty");
    refuse_line("title = \"a\\nb\"", "a title must be one line");
    refuse_line("needs = [1]", "`needs` must be an array of strings, not an integer");
    refuse("[[task]]\nkey = 'a b'\nrun = 'x'\n", "plan.toml:2:7: the key `a b` is not usable");
    refuse(&format!("[[task]]\nkey = '{}'\nrun = 'x'\n", "k".repeat(129)), "is not usable");
    refuse("[[task]]\nrun = \"a\\u0000b\"\n", "without NUL");
    refuse("gaol = 'x'\n[[task]]\nrun = 'x'\n", "did you mean `goal`?");
    plan(
        "plan.toml",
        &format!("[[task]]\nkey = '{}'\nrun = 'x'\nattempts = 100\ntimeout = '100ms'\n", "k".repeat(128)),
    );
}

#[test]
fn claims_may_be_absolute_inside_the_project_folder() {
    let text = b"[[task]]\nrun = 'x'\nclaims = ['/repo/proj/src']\n";
    let found = Plan::parse_in(Some("/repo/proj"), "plan.toml", text).expect("inside");
    assert_eq!(found.tasks[0].claims[0].as_str(), "src");
}

#[test]
fn empty_plans_are_refused() {
    refuse("", "plan.toml:1:1: the plan has no task");
    refuse("goal = 'x'\n", "the plan has no task");
    refuse("task = []\n", "the plan has no task");
    refuse_in("p.json", "", "p.json:1:1: the file is empty");
    refuse_in("p.json", "{}", "the plan has no task");
    refuse_in("p.md", "", "the plan has no task");
    refuse_in("p.md", "# Only words\n", "the plan has no task");
    refuse_in("p.md", "- [x] a\n- [X] b\n", "no open item: all 2 are done");
    refuse_in("p.txt", "x", "the format of the plan is unknown");
    refuse_in("plan", "x", "the format of the plan is unknown");
}

#[test]
fn bytes_that_are_not_utf8_are_refused_in_every_format() {
    for file in ["p.toml", "p.json", "p.md"] {
        let found = Plan::parse(file, b"ok\n\xff\xfe").expect_err(file).to_string();
        assert!(found.contains(":2:1: the file is not UTF-8: byte 3 is 0xff"), "{found}");
    }
}

#[test]
fn several_findings_are_told_together_and_bounded() {
    let found = Plan::parse("p.toml", "[[task]]\nx = 1\n".repeat(1000).as_bytes()).expect_err("many");
    assert_eq!((found.list.len(), found.hidden), (20, 1980));
    assert!(found.list.windows(2).all(|pair| pair[0].line <= pair[1].line));
}

fn chain(count: usize) -> String {
    let task = |n: usize| match n {
        0 => "[[task]]\nkey = 't0'\nrun = 'true'\n".to_string(),
        n => format!("[[task]]\nkey = 't{n}'\nneeds = ['t{}']\nrun = 'true'\n", n - 1),
    };
    (0..count).map(task).collect()
}

/// Generous for a busy machine and a debug build; quadratic work over ten thousand tasks takes far longer.
const SECONDS_MAX: u64 = 20;

#[test]
fn ten_thousand_tasks_are_read_and_checked_at_once() {
    let begun = Instant::now();
    assert_eq!(plan("plan.toml", &chain(10_000)).tasks.len(), 10_000);
    let ring = chain(10_000).replacen("key = 't0'\n", "key = 't0'\nneeds = ['t9999']\n", 1);
    refuse(&ring, "t0 → t9999 → t9998");
    let wrong = chain(10_000).replace("needs = ['t", "needs = ['u");
    refuse(&wrong, "… and 9979 more");
    let same = "[[task]]\ntitle = 'same'\nrun = 'x'\n".repeat(10_000);
    assert_eq!(plan("plan.toml", &same).tasks[9999].key, "same-10000");
    let queue = plan("p.md", &"- [ ] item\n".repeat(10_000));
    assert_eq!(queue.tasks[9999].needs, [9998]);
    let json: Vec<String> = (0..10_000).map(|n| format!("{{\"key\": \"k{n}\", \"run\": \"x\"}}")).collect();
    assert_eq!(plan("p.json", &format!("{{\"task\": [{}]}}", json.join(","))).tasks.len(), 10_000);
    assert!(begun.elapsed().as_secs() < SECONDS_MAX, "{:?}", begun.elapsed());
}

#[test]
fn tasks_are_bounded_at_the_limit() {
    let queue = |count: usize| "- [ ] x\n".repeat(count);
    assert_eq!(plan("p.md", &queue(TASKS_MAX)).tasks.len(), TASKS_MAX);
    refuse_in("p.md", &queue(TASKS_MAX + 1), "the plan has 100001 tasks; at most 100000");
    let json = |count: usize| format!("{{\"task\": [{}]}}", vec!["{\"run\":\"x\"}"; count].join(","));
    refuse_in("p.json", &json(TASKS_MAX + 1), "the plan has 100001 tasks; at most 100000");
}

#[test]
fn a_long_line_is_shown_around_its_caret() {
    let tasks: Vec<String> = (0..5000).map(|n| format!("{{\"key\": \"k{n}\", \"run\": \"x\"}}")).collect();
    let text = format!("{{\"task\": [{},{{\"key\": \"z\", \"nope\": 1}}]}}", tasks.join(","));
    let found = Plan::parse("p.json", text.as_bytes()).expect_err("unknown key");
    assert!(found.list.iter().all(|finding| finding.source_line.chars().count() <= 122));
}

#[test]
fn a_queue_runs_in_order() {
    let text = "# Clean up\n\nSome words.\n\n- [x] Done before\n- [ ] First\n* [ ] Second\n1. [ ] Third\n";
    let found = plan("queue.md", text);
    assert_eq!(found.goal, "Clean up");
    assert_eq!(shape(&found), ["first:", "second: first", "third: second"]);
    assert!(found.tasks.iter().all(|task| task.run.is_none() && task.agent.is_none()));
    assert_eq!(plan("/a/queue.markdown", "- [ ] x\n").goal, "queue");
}

#[test]
fn what_is_indented_belongs_to_the_prompt() {
    let text = "- [ ] Fix the parser\r\n  It fails on tabs.\r\n\r\n  - [ ] add a test\r\n    - deep\r\n\
                  ```\r\n  code\r\n- [x] Done\r\n  not this\r\n- [ ] Next\nlazy line\n\nNot this.\n- plain bullet\n";
    let found = plan("q.md", text);
    assert_eq!(found.tasks.len(), 1, "the fence that is not indented ends the item");
    let text = text.replace("```\r\n  code", "  ```\r\n  code\r\n  ```");
    let found = plan("q.md", &text);
    let prompt = "Fix the parser\nIt fails on tabs.\n\n- [ ] add a test\n  - deep\n```\ncode\n```";
    assert_eq!(found.tasks[0].prompt.as_deref(), Some(prompt));
    assert_eq!(found.tasks[0].title, "Fix the parser");
    assert_eq!(found.tasks[1].prompt.as_deref(), Some("Next\nlazy line"));
    assert_eq!(found.tasks.len(), 2);
}

#[test]
fn a_queue_may_name_its_agents() {
    let text = "agent: front\n# Goal\n- [ ] one\n## alpha\n- [ ] two\n- [ ] three\n\n## agent: beta\n- [ ] four\n\
                ## Two words\n- [ ] five\n### beta\n- [ ] six\n\nAgent: gamma\n\n- [ ] seven\n";
    let found = plan("q.md", text);
    let agents: Vec<&str> = found.tasks.iter().map(|task| task.agent.as_deref().unwrap_or("-")).collect();
    assert_eq!(agents, ["front", "alpha", "alpha", "beta", "front", "front", "gamma"]);
    assert_eq!(shape(&found), ["one:", "two:", "three: two", "four:", "five: one", "six: five", "seven:"]);
    refuse_in("q.md", "# x\nagent: not a name\n- [ ] x\n", "q.md:2:8: agent `not a name` is not a name");
}

#[test]
fn boxes_that_are_none_are_told_apart_from_mistakes() {
    let found = plan("q.md", "- [link](x)\n- [ref]\n- []( x)\n```\n- [ ] code\n```\n-[ ] no\n- [ ] yes\n");
    assert_eq!(shape(&found), ["yes:"]);
    refuse_in("q.md", "- [ ] a\n- [y] b\n", "q.md:2:1: the box `[y]` is neither open nor done");
    refuse_in("q.md", "- [] b\n", "the box `[]` is neither open nor done");
    refuse_in("q.md", "- [ ]\n", "q.md:1:1: the item is empty");
}

#[test]
fn what_has_nothing_to_read_is_named_by_what_there_is() {
    for (file, text) in [
        ("p.md", "# \u{1}\n- [ ] \u{1}\n"),
        ("p.toml", "[[task]]\nprompt = \"\\u0001\"\n[[task]]\nkey = 'task-1'\nrun = \"\\u0001\"\n"),
        ("p.json", "{\"tasks\": [{\"prompt\": \"\\u0001\\n\"}]}"),
    ] {
        let plan = plan(file, text);
        assert_eq!(plan.goal, "p", "{text}");
        assert!(plan.tasks.iter().all(|task| !task.title.is_empty()), "{plan:?}");
    }
    assert_eq!(plan(".md", "- [ ] one\n").goal, ".md");
    assert_eq!(plan("p.md", "- [ ] \u{1}\n  two\tthree\n").tasks[0].title, "two three");
    assert_eq!(Plan::from_goal("\u{1}").expect("a goal").tasks[0].title, "goal");
}

#[test]
fn a_goal_is_a_plan_of_one_task() {
    let found = Plan::from_goal("  Make it fast\nand right ").expect("a goal");
    assert_eq!(found.goal, "Make it fast\nand right");
    assert_eq!(found.tasks[0].prompt.as_deref(), Some("Make it fast\nand right"));
    assert_eq!(
        (found.tasks[0].key.as_str(), found.tasks[0].title.as_str()),
        ("make-it-fast-and-right", "Make it fast")
    );
    let long = Plan::from_goal(&"word ".repeat(1000)).expect("a goal");
    assert!(long.tasks[0].title.chars().count() <= 81 && long.tasks[0].key.len() <= 128);
    assert_eq!(Plan::from_goal("整理").expect("a goal").tasks[0].key, "goal");
    assert!(Plan::from_goal(" \n").is_err() && Plan::from_goal("a\0b").is_err());
}

proptest! {
    #[test]
    fn no_text_panics(
        text in "(\\[\\[task\\]\\]|key|run|needs|=|'a'|'b'|\\[|\\]|\\{|\\}|\"|\n|,|:|- \\[ \\] |#|`|agent: |x| |é){0,40}"
    ) {
        for file in ["p.toml", "p.json", "p.md"] {
            if let Err(found) = Plan::parse(file, text.as_bytes()) {
                prop_assert!(!found.list.is_empty());
                prop_assert!(found.to_string().starts_with(file));
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for file in ["p.toml", "p.json", "p.md"] {
            let _ = Plan::parse(file, &bytes);
        }
    }
}
