//! Finding by meaning: an embedding model is asked for the question and for what is new, and never else.

use crate::door::{Backend, Door, on_both_with_vectors, texts, word};
use quorate_testkit::embeddings::Embeddings;
use serde_json::{Value, json};

fn configure(door: &Door, base_url: &str, more: &str) {
    door.write(
        "quorate.toml",
        format!("[memory.embedding]\nbase_url = '{base_url}'\nmodel = 'small'\n{more}"),
    );
}

fn remember(door: &Door, text: &str) {
    door.ok(&["remember", "--agent", "ada", text]);
}

fn found(hits: &Value) -> Vec<(&str, &str)> {
    let hits = hits.as_array().expect("a list").iter();
    hits.map(|hit| (word(&hit["text"]), word(&hit["found_by"]))).collect()
}

on_both_with_vectors!(
    recall_finds_what_is_said_in_other_words,
    the_model_is_asked_for_questions_and_news_alone,
    a_model_that_is_away_costs_the_meaning_and_no_answer,
    many_memories_are_shown_to_the_model_in_parts,
);

fn recall_finds_what_is_said_in_other_words(door: Door) {
    let model = Embeddings::start();
    configure(&door, &model.base_url(), "");
    remember(&door, "the automobile of the courier is sluggish");
    remember(&door, "the car park closes at noon");
    remember(&door, "pastry is served at noon");
    let hits = door.json(&["recall", "slow car"]);
    assert_eq!(
        found(&hits),
        [("the car park closes at noon", "both"), ("the automobile of the courier is sluggish", "meaning")]
    );
    assert!(door.ok(&["recall", "slow car"]).contains("memory:1 finding by ada"));
    assert_eq!(found(&door.json(&["recall", "slow car", "--limit", "1"])).len(), 1);
    let checks = door.json(&["doctor"])["checks"].clone();
    let check = checks.as_array().and_then(|all| all.iter().find(|check| check["check"] == "embedding"));
    assert_eq!(check.map(|check| word(&check["state"])), Some("ok"), "{checks}");
}

fn the_model_is_asked_for_questions_and_news_alone(door: Door) {
    let model = Embeddings::start();
    remember(&door, "before there was a model");
    door.ok(&["recall", "before"]);
    configure(&door, &model.base_url(), "");
    remember(&door, "the automobile");
    door.ok(&["task", "add", "drive", "--attempts", "1"]);
    door.ok(&["status"]);
    door.ok(&["context"]);
    door.ok(&["doctor"]);
    assert_eq!(model.count(), 0);
    door.ok(&["recall", "car"]);
    assert_eq!(model.count(), 2, "the question, and what is new");
    door.ok(&["recall", "car"]);
    assert_eq!(model.count(), 3, "the question");
    door.ok(&["recall", "car", "--kind", "line"]);
    door.ok(&["recall", " "]);
    assert_eq!(model.count(), 3);
    let asked = model.end();
    assert_eq!(asked[0].body["input"], json!(["car"]));
    assert_eq!(asked[1].body["input"].as_array().map(Vec::len), Some(2));
}

fn a_model_that_is_away_costs_the_meaning_and_no_answer(door: Door) {
    let model = Embeddings::start();
    configure(&door, &model.base_url(), "");
    remember(&door, "the car is slow");
    remember(&door, "an automobile");
    let check = |why: &str| {
        let output = door.run(&["recall", "car", "--json"]);
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{err}");
        let hits: Value = serde_json::from_str(&out).expect("one document");
        assert_eq!(found(&hits), [("the car is slow", "words")]);
        let hint: Value = serde_json::from_str(&err).expect("one document");
        assert!(
            word(&hint["hint"]).starts_with("found by words alone: ") && word(&hint["hint"]).contains(why),
            "{hint}"
        );
    };
    model.fail(Some(500));
    check("500: told to fail");
    model.fail(None);
    model.fall_silent();
    check("did not answer within 2.0 s");
    let url = model.base_url();
    drop(model);
    configure(&door, &url, "");
    check("cannot reach 127.0.0.1");
    configure(&door, &url, "key_env = 'EMBED_KEY'\n");
    check("wants its key in the variable EMBED_KEY");
    assert!(texts(&door.run(&["recall", "car"])).1.starts_with("hint: found by words alone"));
}

fn many_memories_are_shown_to_the_model_in_parts(door: Door) {
    let model = Embeddings::start();
    for n in 0..20 {
        remember(&door, &format!("automobile number {n}"));
    }
    configure(&door, &model.base_url(), "");
    assert_eq!(found(&door.json(&["recall", "car", "--limit", "50"])).len(), 16);
    assert_eq!(found(&door.json(&["recall", "car", "--limit", "50"])).len(), 20);
    let sizes: Vec<_> =
        model.end().iter().map(|asked| asked.body["input"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(sizes, [1, 16, 1, 4]);
}

#[test]
fn without_pgvector_no_model_is_asked_and_the_doctor_knows_what_mends_it() {
    let door = Door::new(Backend::Pg);
    let model = Embeddings::start();
    configure(&door, &model.base_url(), "");
    remember(&door, "the car is slow");
    let output = door.run(&["recall", "car", "--json"]);
    let (out, err) = texts(&output);
    assert!(out.contains("the car is slow") && err.contains("no extension pgvector"), "{out}{err}");
    let checks = door.json(&["doctor"])["checks"].clone();
    let check = checks.as_array().and_then(|all| all.iter().find(|check| check["check"] == "embedding"));
    let check = check.expect("it is looked at");
    assert_eq!(check["state"], "warn");
    assert!(word(&check["mend"]).contains("create extension vector"), "{check}");
    assert_eq!(model.end().len(), 0);
}
