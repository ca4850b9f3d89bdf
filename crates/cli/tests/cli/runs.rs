//! Runs, as they are listed and called off, and the output that is left of them.

use crate::door::{Door, Running, lines, on_both, texts, word};
use serde_json::{Value, json};

on_both!(
    a_run_is_listed_shown_and_cancelled,
    a_run_ends_with_its_last_task,
    a_run_that_is_resumed_detached_is_left_to_nodes,
    a_run_ends_that_a_cancel_in_another_has_left_nothing_to_do,
    who_is_killed_at_the_last_attempt_ends_the_run,
    a_run_that_nobody_could_go_on_with_is_left_as_it_is,
    output_is_kept_and_followed,
    output_that_is_not_here_is_shown_as_far_as_it_is_known,
    a_report_that_cannot_be_written_is_said_and_the_log_goes_on,
);

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
    let twice = door.fails(2, &["task", "add", "another", "--in", "1", "--key", "three"]);
    assert_eq!(twice["message"], "run 1 has a task with the key `three` already: 3");
    assert_eq!(door.json(&["runs", "show", "1"])["tasks"].as_array().map(Vec::len), Some(3));
    assert!(door.ok(&["runs", "list"]).contains("0/3"));
    let cancelled = door.json(&["runs", "cancel", "1", "--reason", "enough"]);
    assert_eq!(cancelled, door.json(&["runs", "show", "1"]), "the whole run");
    assert_eq!(
        (&cancelled["state"], &cancelled["tasks"][2]["state"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    let of_run = door.eventually("its events are there", |door| {
        let found = lines(&door.ok(&["events", "--run", "1", "--json"]));
        found.iter().any(|event| event["kind"] == "run.finished").then_some(found)
    });
    assert!(of_run.iter().all(|event| event["run_id"] == 1), "{of_run:?}");
    assert_eq!(door.json(&["task", "list", "--state", "cancelled"]).as_array().map(Vec::len), Some(3));
    assert!(word(&door.fails(3, &["runs", "cancel", "1"])["hint"]).contains("quorate runs show 1"));
    assert!(word(&door.fails(3, &["runs", "approve", "1"])["hint"]).contains("quorate runs show 1"));
    assert!(word(&door.fails(3, &["task", "add", "too late", "--in", "1"])["hint"]).contains("--in"));
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

fn a_run_that_is_resumed_detached_is_left_to_nodes(door: Door) {
    door.write("plan.toml", "goal = 'later'\n[[task]]\nkey = 'one'\nrun = 'test -e go'\nattempts = 1\n");
    assert_eq!(door.run(&["run", "plan.toml"]).status.code(), Some(1));
    door.write("go", "");
    let resumed = door.json(&["runs", "resume", "1", "--detach"]);
    assert_eq!((&resumed["state"], &resumed["tasks"][0]["state"]), (&json!("running"), &json!("ready")));
    assert_eq!(door.json(&["task", "show", "1"])["state"], "ready", "nobody works at it yet");
    assert!(door.ok(&["status"]).contains("nobody is there to do them: `quorate up`"));
    assert!(door.ok(&["runs", "resume", "1", "--detach"]).contains("quorate up"));
    let _node = door.start(&["up", "--agents", "1"]);
    door.ok(&["agent", "add", "other"]);
    door.ok(&["task", "add", "for an agent that is not there", "--agent", "other", "--prompt", "wait"]);
    door.eventually("somebody is there", |door| {
        (!door.ok(&["status"]).contains("nobody is there")).then_some(())
    });
    door.eventually("a node completes it", |door| {
        (door.json(&["runs", "show", "1"])["state"] == "completed").then_some(())
    });
    door.fails(3, &["runs", "resume", "1", "--detach"]);
    door.fails(5, &["runs", "resume", "9", "--detach"]);
    door.fails(2, &["runs", "resume", "1", "--detach", "--agents", "2"]);
}

fn a_run_ends_that_a_cancel_in_another_has_left_nothing_to_do(door: Door) {
    let goal = |name: &str| {
        door.write("plan.toml", format!("goal = '{name}'\n[[task]]\nkey = '{name}'\nprompt = 'do it'\n"));
        door.ok(&["run", "plan.toml", "--detach"]);
    };
    // Nobody is there who would look after the others.
    let ended = |run: &str| {
        let run = door.json(&["runs", "show", run]);
        assert_eq!((word(&run["state"]), run["finished_at"].is_string()), ("failed", true), "{run}");
    };
    for name in ["one", "two", "three"] {
        goal(name);
    }
    door.ok(&["task", "cancel", "2"]);
    door.ok(&["task", "add", "needs it", "--in", "3", "--needs", "1"]);
    door.ok(&["task", "cancel", "3"]);
    ended("2");
    door.ok(&["task", "cancel", "1"]);
    ended("1");
    ended("3");
    for name in ["four", "five"] {
        goal(name);
    }
    door.ok(&["task", "add", "needs it", "--in", "5", "--needs", "5"]);
    door.ok(&["task", "cancel", "6"]);
    assert_eq!(word(&door.json(&["runs", "show", "5"])["state"]), "running");
    door.ok(&["runs", "cancel", "4"]);
    ended("5");
}

fn who_is_killed_at_the_last_attempt_ends_the_run(door: Door) {
    door.write("plan.toml", "goal = 'one'\n[[task]]\nkey = 'a'\nprompt = 'do it'\nattempts = 2\n");
    door.ok(&["run", "plan.toml", "--detach"]);
    door.ok(&["agent", "add", "me"]);
    assert!(door.ok(&["agent", "kill", "me"]).contains("nothing to stop"));
    door.ok(&["task", "next", "--agent", "me"]);
    assert!(door.ok(&["agent", "kill", "me"]).contains("task 1 (a) is tried again"));
    door.ok(&["task", "next", "--agent", "other"]);
    assert!(door.ok(&["agent", "kill", "other"]).contains("task 1 (a) has failed: its attempts are used up"));
    assert_eq!(word(&door.json(&["runs", "show", "1"])["state"]), "failed");
}

/// One that goes on with a run here is told what nobody here could take, as at its beginning.
fn a_run_that_nobody_could_go_on_with_is_left_as_it_is(door: Door) {
    door.write("plan.toml", "goal = 'g'\n[[task]]\nkey = 'a'\nprompt = 'think'\n");
    door.ok(&["run", "plan.toml", "--detach"]);
    let before = door.json(&["task", "show", "1"]);
    let refused = door.fails(2, &["runs", "resume", "1"]);
    assert!(word(&refused["message"]).contains("no agent could take task 1 (a)"), "{refused}");
    assert!(word(&refused["hint"]).contains("quorate runs resume 1 --detach"), "{refused}");
    assert_eq!(door.json(&["task", "show", "1"]), before);
    door.ok(&["runs", "cancel", "1"]);
    door.fails(2, &["runs", "resume", "1"]);
    assert_eq!(word(&door.json(&["runs", "show", "1"])["state"]), "cancelled");
    let person = |driver: &str| format!("[agents.maria]\ndriver = \"{driver}\"\n");
    door.write("quorate.toml", person("human"));
    let mut run = door.start(&["runs", "resume", "1"]);
    let term = door.eventually("it goes on", |door| {
        let taken = door.run(&["task", "next", "--agent", "maria", "--json"]);
        let taken: Value = serde_json::from_slice(&taken.stdout).ok()?;
        Some(taken["term"].to_string())
    });
    door.ok(&["task", "done", "1", "--term", &term]);
    assert!(run.child().wait().expect("it ends").success());
    // A person of whom nothing is known can do nothing in particular.
    door.write("plan.toml", "goal = 'g'\n[[task]]\nkey = 'a'\nprompt = 'think'\ncapability = 'gpu'\n");
    assert!(word(&door.fails(2, &["run", "plan.toml"])["message"]).contains("wants capability `gpu`"));
    door.ok(&["run", "plan.toml", "--detach"]);
    door.fails(7, &["task", "next", "--agent", "maria"]);
    door.write("quorate.toml", person("external"));
    assert_eq!(door.json(&["task", "next", "--agent", "maria"])["id"], 2);
}

const TALKS: &str = "goal = 'talk'
[[task]]
key = 'talk'
run = 'echo begin; while [ ! -e go ]; do sleep 0.02; done; echo end'
attempts = 1
";

fn output_is_kept_and_followed(door: Door) {
    door.write("plan.toml", TALKS);
    let run = door.start(&["run", "plan.toml", "--json"]);
    door.eventually("the task begins to talk", |door| {
        let output = door.run(&["logs", "1"]);
        texts(&output).0.contains("begin").then_some(())
    });
    let follower = door.start(&["logs", "1", "--follow"]);
    door.write("go", "");
    assert_eq!(run.end().status.code(), Some(0));
    let followed = follower.end();
    assert_eq!((followed.status.code(), texts(&followed).0.as_str()), (Some(0), "begin\nend\n"));
    let kept = door.json(&["logs", "1", "--attempt", "1"]);
    assert_eq!((&kept["output"], &kept["whole"]), (&json!("begin\nend\n"), &json!(true)));
    let agent = word(&kept["agent"]).to_owned();
    assert_eq!(door.ok(&["logs", &agent]), "begin\nend\n");
    assert!(word(&door.fails(5, &["logs", "1", "--attempt", "2"])["message"]).contains("no attempt 2"));
    door.ok(&["agent", "add", "lazy"]);
    assert!(word(&door.fails(5, &["logs", "lazy"])["message"]).contains("has not worked"));
}

fn output_that_is_not_here_is_shown_as_far_as_it_is_known(door: Door) {
    door.write("plan.toml", TALKS);
    door.write("go", "");
    door.ok(&["run", "plan.toml"]);
    let log = door.path().join(word(&door.json(&["task", "show", "1"])["attempts"][0]["log"]));
    std::fs::remove_file(log).expect("the log is there");
    let kept = door.json(&["logs", "1"]);
    assert_eq!((&kept["output"], &kept["whole"]), (&json!("begin\nend"), &json!(false)));
    door.ok(&["task", "add", "by hand"]);
    door.ok(&["task", "next", "--agent", "me"]);
    assert!(word(&door.fails(5, &["logs", "2"])["message"]).contains("outside of any node"));
}

fn a_report_that_cannot_be_written_is_said_and_the_log_goes_on(door: Door) {
    std::fs::create_dir(door.path().join(".quorate")).expect("a folder");
    door.write(".quorate/runs", "no folder");
    door.write("plan.toml", "goal = 'one'\n[[task]]\nkey = 'one'\nrun = 'true'\n");
    let file = |name: &str| std::fs::File::create(door.path().join(name)).expect("a file");
    let mut command = door.command(["up", "--agents", "1"]);
    let node = Running::begin(command.stdout(file("seen")).stderr(file("told")));
    let read = |name: &str| std::fs::read_to_string(door.path().join(name)).expect("it is read");
    for _ in 0..2 {
        let before = read("seen").matches("run.finished").count();
        door.ok(&["run", "plan.toml", "--detach"]);
        door.eventually("it is shown", |_| {
            (read("seen").matches("run.finished").count() > before).then_some(())
        });
    }
    door.ok(&["log", "--agent", "me", "--action", "note", "--status", "ok", "the end"]);
    door.eventually("the end is shown", |_| read("seen").contains("the end").then_some(()));
    assert_eq!(read("seen").matches("run.finished").count(), 2, "each once:\n{}", read("seen"));
    assert!(read("told").contains("cannot write"), "{}", read("told"));
    door.ok(&["down"]);
    assert!(node.end().status.success());
}
