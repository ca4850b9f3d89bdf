//! The log, followed and read again.

use crate::door::{Door, Running, lines, number, on_both, texts, word};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

on_both!(
    a_follower_misses_nothing_and_repeats_nothing_across_restarts,
    filters_narrow,
    a_follower_ends_with_ctrl_c,
    a_follower_ends_with_its_reader,
);

/// Reads lines of a follower.
fn follow(door: &Door, after: Option<&str>) -> (Running, impl Iterator<Item = Value> + use<>) {
    let words =
        ["events", "--follow", "--json"].into_iter().chain(after.iter().flat_map(|seq| ["--after", *seq]));
    let mut running = door.start(&words.collect::<Vec<_>>());
    let out = BufReader::new(running.child().stdout.take().expect("a pipe"));
    (running, out.lines().map(|line| serde_json::from_str(&line.expect("UTF-8")).expect("JSON Lines")))
}

fn a_follower_misses_nothing_and_repeats_nothing_across_restarts(door: Door) {
    let titles: Vec<String> = (0..30).map(|n| format!("title-{n}")).collect();
    let (mut seen, mut last) = (Vec::new(), None::<String>);
    for round in titles.chunks(10) {
        let (running, mut events) = follow(&door, last.as_deref());
        for title in round {
            door.ok(&["task", "add", title]);
        }
        for _ in round {
            let event = events.next().expect("it goes on");
            last = Some(number(&event["seq"]));
            seen.push(word(&event["message"]).to_owned());
        }
        drop(running);
    }
    let expected: Vec<String> =
        titles.iter().enumerate().map(|(n, title)| format!("task {} added: {title}", n + 1)).collect();
    assert_eq!(seen, expected);
    let all = door.events("task.added", 30);
    let places: Vec<i64> = all.iter().filter_map(|event| event["seq"].as_i64()).collect();
    assert!(places.is_sorted() && places.len() == 30, "{places:?}");
    let tail = lines(&door.ok(&["events", "--json", "--after", &places[27].to_string()]));
    assert_eq!(tail.len(), 2);
}

fn filters_narrow(door: Door) {
    door.ok(&["task", "add", "a"]);
    door.ok(&["task", "next", "--agent", "me"]);
    door.ok(&["claim", "src/a.rs", "--agent", "other"]);
    let events = |words: &[&str]| lines(&door.ok(&[["events", "--json"].as_slice(), words].concat())).len();
    door.events("claim.taken", 1);
    assert_eq!(events(&["--kind", "task.taken"]), 1);
    assert_eq!(events(&["--agent", "other"]), 2);
    assert_eq!(events(&["--resource", "./src//a.rs"]), 1);
    assert_eq!(events(&["--task", "1"]), 2);
    assert_eq!(events(&["--task", "1", "--kind", "task.added"]), 1);
    assert_eq!(events(&["--task", "2"]), 0);
    assert_eq!(events(&["--since", "1h"]), 5);
    assert_eq!(events(&["--since", "2100-01-01T00:00:00Z"]), 0);
    let words = door.ok(&["events"]);
    assert!(
        words.lines().count() == 5 && words.contains("task.taken") && !words.contains('\u{1b}'),
        "{words}"
    );
    let error = door.fails(2, &["events", "--kind", "task.take"]);
    assert!(word(&error["message"]).contains("`task.taken`"), "{error}");
    door.fails(2, &["events", "--since", "yesterday"]);
}

fn a_follower_ends_with_ctrl_c(door: Door) {
    door.ok(&["task", "add", "a"]);
    let (mut running, mut events) = follow(&door, None);
    events.next().expect("an event");
    running.interrupt();
    let output = running.end();
    assert_eq!(output.status.code(), Some(130), "{:?}", texts(&output));
}

fn a_follower_ends_with_its_reader(door: Door) {
    door.ok(&["task", "add", "a"]);
    let (running, mut events) = follow(&door, None);
    events.next().expect("an event");
    drop(events);
    // Nothing more happens in the ledger: the closed pipe alone ends it.
    assert_eq!(running.end().status.code(), Some(0));
}

#[test]
fn a_follower_waits_for_a_ledger_and_makes_none() {
    let door = Door::lite();
    let (_running, mut events) = follow(&door, None);
    assert!(!door.path().join(".quorate").exists());
    door.ok(&["task", "add", "first"]);
    assert_eq!(events.next().expect("an event")["kind"], "task.added");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let door = Door::lite();
    for n in 0..3 {
        door.ok(&["task", "add", &"long ".repeat(n + 1)]);
    }
    let mut child =
        door.command(["task", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), texts(&output).1.as_str()), (Some(0), ""));
}
