//! Tasks of agents that pull their work.

use crate::door::{Door, number, on_both, texts, word};
use serde_json::json;
use std::io::Write;
use std::process::Stdio;

on_both!(
    an_external_agent_lives_by_four_commands,
    a_stale_term_is_refused_everywhere,
    what_is_not_there_is_told_with_the_nearest_name,
    nothing_to_do_is_an_answer,
    waiting_ends_when_a_task_is_added,
    a_lapsed_lease_goes_to_the_next_without_any_node,
    a_task_is_taken_when_it_is_due,
    results_come_from_words_files_and_pipes,
    a_failed_attempt_is_shown_to_the_next_owner,
    a_person_cancels_retries_and_reassigns,
    what_an_agent_can_do_decides_what_it_gets,
    who_is_added_again_keeps_what_is_not_said,
    who_stands_in_quorate_toml_and_has_not_joined_yet_is_told_how,
    strict_teams_take_only_whom_they_know,
    a_done_task_with_a_check_waits_for_a_node,
    show_tells_why,
);

fn an_external_agent_lives_by_four_commands(door: Door) {
    let id =
        door.json(&["task", "add", "measure", "--prompt", "how long is it?", "--claims", "src/**,docs/a.md"]);
    assert_eq!(id, json!({ "id": 1 }));
    door.json(&["task", "add", "use it", "--needs", "1", "--run", "true"]);
    let taken = door.json(&["task", "next", "--agent", "me", "--lease", "5m"]);
    assert_eq!(
        (&taken["id"], &taken["prompt"], &taken["attempt"]),
        (&json!(1), &json!("how long is it?"), &json!(1))
    );
    assert!(word(&taken["lease_until"]).ends_with('Z'));
    let again = door.json(&["task", "next", "--agent", "me"]);
    assert_eq!(
        (&again["id"], &again["term"]),
        (&taken["id"], &taken["term"]),
        "a holder gets its task again"
    );
    let term = number(&taken["term"]);
    let told = door.json(&["task", "progress", "1", "--term", &term, "--percent", "40", "--message", "half"]);
    assert_eq!((&told["progress"], &told["state"]), (&json!(40), &json!("running")));
    assert_eq!(door.json(&["claims"]).as_array().map(Vec::len), Some(2));
    let done = ["task", "done", "1", "--term", &term, "--result", r#"{"metres": 3}"#];
    let completed = json!({ "id": 1, "state": "completed" });
    assert_eq!(door.json(&done), completed);
    assert_eq!(door.json(&done), completed, "saying it twice is no error");
    let otherwise = ["task", "done", "1", "--term", &term, "--result", r#"{ "metres":3 }"#];
    assert_eq!(door.json(&otherwise), completed, "nor in other words of JSON");
    assert_eq!(door.json(&["claims"]), json!([]), "claims end with their task");
    let next = door.json(&["task", "next", "--agent", "me"]);
    assert_eq!((&next["id"], &next["needs"]), (&json!(2), &json!({ "1": { "metres": 3 } })));
    let list = door.json(&["task", "list"]);
    assert_eq!((&list[0]["state"], &list[0]["result"]["metres"]), (&json!("completed"), &json!(3)));
    let status = door.json(&["status"]);
    assert_eq!(
        (&status["tasks"], &status["agents"][0]["driver"]),
        (&json!({ "completed": 1, "running": 1 }), &json!("external"))
    );
}

fn a_stale_term_is_refused_everywhere(door: Door) {
    door.ok(&["task", "add", "a"]);
    door.ok(&["task", "next", "--agent", "me"]);
    for words in [
        ["task", "progress", "1", "--term", "9", "--percent", "1"].as_slice(),
        &["task", "done", "1", "--term", "0"],
        &["task", "fail", "1", "--term", "2", "--error", "no"],
        &["claim", "x", "--agent", "me", "--task", "1", "--term", "7"],
    ] {
        assert_eq!(door.fails(4, words)["kind"], "stale");
    }
    assert_eq!(door.events("write.refused", 4).len(), 4);
    assert_eq!(door.json(&["task", "show", "1"])["state"], "running");
}

fn what_is_not_there_is_told_with_the_nearest_name(door: Door) {
    door.ok(&["agent", "add", "validation"]);
    for words in [
        ["agent", "show", "validatoin"].as_slice(),
        &["agent", "pause", "validatoin"],
        &["task", "add", "x", "--agent", "validatoin"],
        &["send", "--from", "me", "--to", "validatoin", "hello"],
    ] {
        let error = door.fails(5, words);
        assert!(word(&error["hint"]).contains("`validation`"), "{words:?}: {error}");
    }
    for words in [
        ["task", "show", "99"].as_slice(),
        &["task", "done", "99", "--term", "1"],
        &["task", "add", "x", "--needs", "99"],
        &["task", "add", "x", "--in", "99"],
        &["runs", "show", "99"],
        &["logs", "99"],
        &["release", "src", "--force", "--reason", "x"],
    ] {
        assert_eq!(door.fails(5, words)["kind"], "not_found", "{words:?}");
    }
    assert_eq!(door.json(&["task", "list"]), json!([]), "nothing was added");
}

fn nothing_to_do_is_an_answer(door: Door) {
    assert_eq!(door.fails(7, &["task", "next", "--agent", "me"])["kind"], "nothing");
    let error = door.fails(7, &["task", "next", "--agent", "me", "--wait", "150ms"]);
    assert!(word(&error["message"]).contains("within 150ms"), "{error}");
    door.ok(&["task", "add", "for another", "--agent", "me"]);
    door.fails(7, &["task", "next", "--agent", "other"]);
}

fn waiting_ends_when_a_task_is_added(door: Door) {
    door.ok(&["agent", "add", "me"]);
    let waiting = door.start(&["task", "next", "--agent", "me", "--wait", "20s", "--json"]);
    door.ok(&["task", "add", "at last"]);
    let output = waiting.end();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("at last"), "{out}");
}

fn a_lapsed_lease_goes_to_the_next_without_any_node(door: Door) {
    door.ok(&["task", "add", "a"]);
    door.ok(&["task", "next", "--agent", "gone", "--lease", "1s"]);
    let taken = door.json(&["task", "next", "--agent", "me", "--wait", "20s"]);
    assert_eq!((&taken["attempt"], &taken["term"]), (&json!(2), &json!(3)), "the lapse raised the term too");
    let past = &taken["previous_attempts"][0];
    assert_eq!((&past["agent"], &past["outcome"]), (&json!("gone"), &json!("lost")));
}

fn a_task_is_taken_when_it_is_due(door: Door) {
    door.ok(&["task", "add", "later", "--at", "300ms"]);
    assert_eq!(door.json(&["task", "list", "--state", "waiting"]).as_array().map(Vec::len), Some(1));
    assert_eq!(door.json(&["task", "next", "--agent", "me", "--wait", "20s"])["id"], 1);
    door.ok(&["task", "add", "long past", "--at", "2020-01-01T00:00:00Z"]);
    assert_eq!(door.json(&["task", "next", "--agent", "other"])["id"], 2);
}

fn results_come_from_words_files_and_pipes(door: Door) {
    for title in ["a", "b", "c"] {
        door.ok(&["task", "add", title]);
    }
    let take = |agent: &str| door.json(&["task", "next", "--agent", agent]);
    let refuse = |result: &str, why: &str| {
        let error = door.fails(2, &["task", "done", "1", "--term", "1", "--result", result]);
        assert!(word(&error["message"]).contains(why), "{error}");
    };
    take("a");
    door.write("bad.json", "{\n \"a\": tru }");
    door.write("binary.json", b"\"\xff\"");
    door.write("large.json", format!("\"{}\"", "x".repeat(1 << 20)));
    refuse("not json", "--result is not JSON");
    refuse("", "is not JSON");
    refuse("@bad.json", "bad.json is not JSON: expected ident at line 2 column 10");
    refuse("@binary.json", "byte 1 is no UTF-8");
    refuse("@large.json", "1 MiB");
    door.fails(5, &["task", "done", "1", "--term", "1", "--result", "@gone.json"]);
    assert_eq!(door.json(&["task", "show", "1"])["state"], "running", "nothing changed");
    door.write("good.json", "{\"from\": \"file\"}\n");
    door.ok(&["task", "done", "1", "--term", "1", "--result", "@good.json"]);
    take("b");
    let mut command = door.command(["task", "done", "2", "--term", "1", "--result", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
    child.stdin.take().expect("a pipe").write_all(b"[1, 2]").expect("is read");
    assert!(child.wait().expect("ends").success());
    take("c");
    door.ok(&["task", "done", "3", "--term", "1", "--result", "-3"]);
    let results: Vec<_> = door
        .json(&["task", "list"])
        .as_array()
        .expect("a list")
        .iter()
        .map(|t| t["result"].clone())
        .collect();
    assert_eq!(results, [json!({ "from": "file" }), json!([1, 2]), json!(-3)]);
}

fn a_failed_attempt_is_shown_to_the_next_owner(door: Door) {
    door.write("quorate.toml", "[health]\nretry_after = '100ms'\n");
    door.ok(&["task", "add", "a"]);
    door.ok(&["task", "next", "--agent", "one"]);
    let failed = door.json(&["task", "fail", "1", "--term", "1", "--error", "the server is down"]);
    assert_eq!(failed, json!({ "id": 1, "state": "waiting" }));
    let taken = door.json(&["task", "next", "--agent", "two", "--wait", "20s"]);
    assert_eq!(taken["previous_attempts"][0]["reason"], "the server is down");
    let words = door.ok(&["task", "show", "1"]);
    assert!(words.contains("failed") && words.contains("the server is down"), "{words}");
    let last = door.json(&[
        "task",
        "fail",
        "1",
        "--term",
        &number(&taken["term"]),
        "--error",
        "hopeless",
        "--final",
    ]);
    assert_eq!(last["state"], "failed");
    assert_eq!(door.json(&["task", "show", "1"])["attempts"].as_array().map(Vec::len), Some(2));
}

fn a_person_cancels_retries_and_reassigns(door: Door) {
    door.ok(&["task", "add", "a"]);
    door.ok(&["task", "add", "needs a", "--needs", "1"]);
    let taken = door.json(&["task", "next", "--agent", "one"]);
    door.ok(&["agent", "add", "two"]);
    let moved = door.json(&["task", "reassign", "1", "--to", "two", "--reason", "one is slow"]);
    assert_eq!((&moved["state"], &moved["only_agent"]), (&json!("ready"), &json!("two")));
    door.fails(4, &["task", "done", "1", "--term", &number(&taken["term"])]);
    door.fails(7, &["task", "next", "--agent", "one"]);
    assert_eq!(door.json(&["task", "cancel", "1"])["state"], "cancelled");
    assert_eq!(door.json(&["task", "show", "2"])["state"], "cancelled", "what needs it is cancelled with it");
    door.fails(3, &["task", "cancel", "1"]);
    assert_eq!(door.json(&["task", "retry", "1"])["state"], "ready");
    assert_eq!(door.json(&["task", "show", "2"])["state"], "waiting");
    for word_of_a_person in ["unpark", "approve"] {
        let refused = door.fails(3, &["task", word_of_a_person, "1"]);
        assert!(word(&refused["hint"]).contains("quorate task show 1"), "{refused}");
    }
}

fn what_an_agent_can_do_decides_what_it_gets(door: Door) {
    door.ok(&["agent", "add", "reviewer", "--capability", "review"]);
    door.ok(&["task", "add", "build", "--capability", "build"]);
    door.fails(7, &["task", "next", "--agent", "reviewer"]);
    door.ok(&["task", "add", "read", "--capability", "review"]);
    assert_eq!(door.json(&["task", "next", "--agent", "reviewer"])["id"], 2);
    door.fails(7, &["task", "next", "--agent", "other", "--capability", "docs"]);
    assert_eq!(door.json(&["task", "next", "--agent", "other", "--capability", "docs,build"])["id"], 1);
    door.ok(&["task", "add", "cook", "--capability", "cook"]);
    assert_eq!(
        door.json(&["task", "next", "--agent", "stranger"])["id"],
        3,
        "an external agent takes anything"
    );
    door.ok(&["agent", "pause", "stranger"]);
    assert_eq!(door.json(&["agent", "show", "stranger"])["paused"], true);
    door.ok(&["agent", "pause", "other"]);
    door.ok(&["task", "done", "1", "--term", "1"]);
    assert!(word(&door.fails(7, &["task", "next", "--agent", "other"])["message"]).contains("is paused"));
    door.ok(&["agent", "resume", "other"]);
    door.fails(3, &["agent", "remove", "stranger"]);
    door.ok(&["agent", "kill", "stranger"]);
    assert_eq!(door.json(&["agent", "remove", "stranger"])["state"], "removed");
    assert_eq!(door.json(&["agent", "list"]).as_array().map(Vec::len), Some(2));
}

fn who_is_added_again_keeps_what_is_not_said(door: Door) {
    let add = |words: &[&str]| {
        let agent = door.json(&[["agent", "add", "maria"].as_slice(), words].concat());
        (word(&agent["driver"]).to_owned(), agent["capabilities"].clone())
    };
    assert_eq!(add(&["--driver", "human", "--capability", "approve"]), ("human".into(), json!(["approve"])));
    assert_eq!(add(&[]), ("human".into(), json!(["approve"])));
    assert_eq!(add(&["--capability", "docs"]), ("human".into(), json!(["docs"])));
    assert!(door.ok(&["agent", "add", "maria"]).contains("maria is in the team (human)"));
    door.ok(&["agent", "remove", "maria"]);
    assert_eq!(add(&[]), ("external".into(), json!([])), "who comes back is a newcomer");
}

fn who_stands_in_quorate_toml_and_has_not_joined_yet_is_told_how(door: Door) {
    door.write("quorate.toml", "[agents.maria]\ndriver = 'human'\n[agents.hand]\ncommand = ['true']\n");
    door.ok(&["agent", "add", "maria2"]);
    for (name, how) in [("maria", "quorate task next --agent maria"), ("hand", "quorate up")] {
        let hint = word(&door.fails(5, &["agent", "show", name])["hint"]).to_owned();
        assert!(hint.contains(how), "{hint}");
    }
}

fn strict_teams_take_only_whom_they_know(door: Door) {
    door.write(
        "quorate.toml",
        "strict_agents = true\n[agents.known]\ndriver = 'external'\ncapabilities = ['a']\n",
    );
    door.ok(&["task", "add", "x", "--agent", "known"]);
    let error = door.fails(6, &["task", "next", "--agent", "knwon"]);
    assert!(word(&error["hint"]).contains("`known`"), "{error}");
    assert_eq!(door.json(&["task", "next", "--agent", "known"])["id"], 1);
    assert_eq!(door.json(&["agent", "show", "known"])["capabilities"], json!(["a"]));
    for words in [
        ["claim", "x", "--agent", "stranger"].as_slice(),
        &["send", "--from", "stranger", "--to", "known", "x"],
        &["log", "--agent", "stranger", "--action", "a", "--status", "b", "x"],
    ] {
        assert_eq!(door.fails(6, words)["kind"], "refused");
    }
}

fn a_done_task_with_a_check_waits_for_a_node(door: Door) {
    door.ok(&["task", "add", "a", "--verify", "test -s report.md"]);
    door.ok(&["task", "next", "--agent", "me"]);
    for _ in 0..2 {
        let said = door.json(&["task", "done", "1", "--term", "1"]);
        assert_eq!(said, json!({ "id": 1, "state": "verifying" }), "the same fields, whatever became of it");
    }
    let shown = door.json(&["task", "show", "1"]);
    assert!(word(&shown["why"]).contains("quorate up"), "{shown}");
    assert_eq!((&shown["term"], &shown["verify"]), (&json!(2), &json!("test -s report.md")));
}

fn show_tells_why(door: Door) {
    door.ok(&["task", "add", "a", "--capability", "rare"]);
    door.ok(&["task", "add", "b", "--needs", "1,1"]);
    let why = |id: &str| door.json(&["task", "show", id])["why"].as_str().unwrap_or("").to_owned();
    assert!(why("1").contains("capability `rare`"), "{}", why("1"));
    assert_eq!(why("2"), "needs 1 (ready)");
    door.ok(&["claim", "src", "--agent", "other"]);
    door.ok(&["task", "add", "c", "--claims", "src/a.rs", "--agent", "other"]);
    door.ok(&["agent", "add", "me"]);
    door.ok(&["task", "add", "d", "--claims", "src/b.rs", "--agent", "me"]);
    door.fails(7, &["task", "next", "--agent", "me", "--capability", "none"]);
    assert!(why("4").contains("held (as src) by other until"), "{}", why("4"));
    let shown = door.json(&["task", "show", "2"]);
    assert_eq!(shown["needs"], json!([{ "id": 1, "key": "1", "state": "ready", "result": null }]));
}
