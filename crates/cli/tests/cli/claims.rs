//! Claims.

use crate::door::{Door, number, on_both, texts, word};
use serde_json::json;

on_both!(
    a_claim_is_all_or_nothing_and_says_who_stands_in_the_way,
    waiting_for_a_claim_ends_when_it_is_released,
    waiting_for_a_claim_ends_at_its_deadline,
    a_release_needs_the_holder_its_term_or_force,
    names_are_normalised_against_the_folder_of_the_project,
);

fn a_claim_is_all_or_nothing_and_says_who_stands_in_the_way(door: Door) {
    let claims = door.json(&["claim", "src/**", "port:8080", "--agent", "alpha", "--ttl", "1h"]);
    assert_eq!(claims[0]["resource"], "src/**");
    assert_eq!((&claims[1]["agent"], &claims[1]["mode"]), (&json!("alpha"), &json!("exclusive")));
    assert!(word(&claims[0]["expires_at"]).ends_with('Z'));
    let error = door.fails(3, &["claim", "docs", "src/a.rs", "--agent", "beta"]);
    assert!(word(&error["message"]).contains("held (as src/**) by alpha until"), "{error}");
    assert_eq!(door.json(&["claims"]).as_array().map(Vec::len), Some(2), "nothing of it was taken");
    assert_eq!(door.events("claim.refused", 1)[0]["agent"], "beta");
    door.ok(&["claim", "gpu:0", "--agent", "alpha", "--shared"]);
    door.ok(&["claim", "gpu:0", "--agent", "beta", "--shared"]);
    door.fails(3, &["claim", "gpu:0", "--agent", "gamma"]);
    assert_eq!(door.json(&["claims", "--agent", "beta"]).as_array().map(Vec::len), Some(1));
}

fn waiting_for_a_claim_ends_when_it_is_released(door: Door) {
    door.ok(&["claim", "src", "--agent", "alpha"]);
    let waiting = door.start(&["claim", "src/a.rs", "--agent", "beta", "--wait", "20s", "--json"]);
    door.events("claim.refused", 1);
    door.ok(&["release", "src", "--agent", "alpha"]);
    let output = waiting.end();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("\"agent\":\"beta\""), "{out}");
}

fn waiting_for_a_claim_ends_at_its_deadline(door: Door) {
    door.ok(&["claim", "src", "--agent", "alpha"]);
    let error = door.fails(3, &["claim", "src", "--agent", "beta", "--wait", "200ms"]);
    assert!(word(&error["message"]).contains("by alpha"), "{error}");
}

fn a_release_needs_the_holder_its_term_or_force(door: Door) {
    let term = number(&door.json(&["claim", "deploy:prod", "--agent", "alpha"])[0]["term"]);
    door.fails(3, &["release", "deploy:prod", "--agent", "beta"]);
    door.fails(4, &["release", "deploy:prod", "--agent", "alpha", "--term", "999"]);
    door.fails(2, &["release", "deploy:prod", "--force"]);
    let released = door.json(&["release", "deploy:prod", "--agent", "alpha", "--term", &term]);
    assert_eq!(released[0]["agent"], "alpha");
    door.fails(5, &["release", "deploy:prod", "--agent", "alpha"]);
    door.ok(&["claim", "deploy:prod", "--agent", "alpha"]);
    door.ok(&["release", "deploy:prod", "--force", "--reason", "on holiday"]);
    assert_eq!(door.json(&["claims"]), json!([]));
    let last = door.events("claim.released", 2).pop().expect("two of them");
    assert!(word(&last["message"]).contains("by force: on holiday"), "{last}");
}

fn names_are_normalised_against_the_folder_of_the_project(door: Door) {
    let inside = door.path().join("src/./a.rs").display().to_string();
    assert_eq!(door.json(&["claim", &inside, "--agent", "alpha"])[0]["resource"], "src/a.rs");
    for name in ["../x", "", " a", &"x".repeat(10_000), "quorate:health", "[", "a\u{7}"] {
        let error = door.fails(2, &["claim", name, "--agent", "beta"]);
        assert_eq!(error["kind"], "invalid", "{name:?}");
        assert!(word(&error["message"]).len() < 300, "{error}");
    }
}
