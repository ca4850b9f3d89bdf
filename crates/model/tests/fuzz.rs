//! What must hold for any input (`fuzz/src`), asked of the seeds and of every input that once failed.
//!
//! `cargo xtask fuzz` looks for new ones; what it finds is mended and put into `fuzz/fixtures`.

use proptest::prelude::*;
use replay::replay;

#[path = "../../../fuzz/src/answer.rs"]
mod answer;
#[path = "../../../fuzz/src/config.rs"]
mod config;
#[path = "../../../fuzz/src/finding.rs"]
mod finding;
#[path = "../../../fuzz/src/json.rs"]
mod json;
#[path = "../../../fuzz/src/plan.rs"]
mod plan;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/resource.rs"]
mod resource;

#[test]
fn plans_are_sound_or_refused_with_their_place() {
    replay("plan", plan::check);
}

#[test]
fn answers_are_taken_as_they_were_asked_for_or_refused_with_a_reason() {
    replay("answer", answer::check);
}

#[test]
fn configurations_are_within_their_limits_or_refused_with_their_place() {
    replay("config", config::check);
}

#[test]
fn both_readers_of_json_agree() {
    replay("json", json::check);
}

#[test]
fn names_overlap_as_the_model_says() {
    replay("resource", resource::check);
}

#[test]
fn the_model_of_overlap_reads_what_the_product_reads() {
    for (a, b, expected) in [
        ("a/**", "a/b", (true, true)),
        ("[!ab]", "?", (true, true)),
        ("{a,b}/*", "b/[ab]", (true, true)),
        ("a?", "a/b", (false, true)),
        ("a", "b::z", (false, true)),
        ("a", "a/b::z", (true, true)),
        ("a::b", "a::b::z", (true, true)),
        ("a/b/a/b", "**/b/b/b", (false, false)),
    ] {
        assert_eq!(resource::answer(a, b), Some(expected), "{a} and {b}");
    }
    assert_eq!(resource::answer("x", "a"), None, "what the model has no words for");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_two_names_overlap_as_the_model_says(a in "[ab/*?{},.:]{1,6}|([ab*?/]|\\[!?[ab]{1,2}\\]){1,4}", b in "[ab/*?{},]{1,6}") {
        resource::check_model(&a, &b);
    }
}
