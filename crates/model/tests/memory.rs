//! Words, questions, and what says the same: texts in, decisions out.

use proptest::prelude::*;
use quorate_model::memory::{Gist, MemoryKind, PATTERN_LEAST, Query, TERMS_MAX, WORD_MAX, excerpt, words};
use quorate_model::tokens;

#[test]
fn a_text_is_cut_into_words_of_letters_and_digits() {
    for (text, expected) in [
        ("", &[][..]),
        ("Hello, World!", &["hello", "world"]),
        ("src/a_b.rs:12", &["src", "a", "b", "rs", "12"]),
        ("HTTP2 on 10.0.0.1", &["http2", "on", "10", "0", "0", "1"]),
        ("Straße ÜBER", &["straße", "über"]),
        ("日本 test語", &["日", "本", "test", "語"]),
        ("🙂 -- ?", &[]),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
    assert_eq!(words(&"a".repeat(WORD_MAX + 1)), ["a".repeat(WORD_MAX)]);
}

#[test]
fn a_question_becomes_terms_in_the_language_of_each_database() {
    let check = |text: &str, fts5: &str, tsqueries: &[&str]| {
        let query = Query::parse(text);
        assert_eq!(
            (query.fts5().as_str(), query.tsqueries().as_slice()),
            (fts5, &to_texts(tsqueries)[..]),
            "{text}"
        );
    };
    check("", "", &[]);
    check("?? !!", "", &[]);
    check("login", "\"login\"*", &["'login':*"]);
    check("the log", "\"log\"", &["'log'"]);
    check("the", "\"the\"", &["'the'"]);
    check("src/a_b.rs", "\"src a b rs\"", &["'src' <-> 'a' <-> 'b' <-> 'rs'"]);
    check(
        "\"the empty lines\" x",
        "\"the empty lines\"* OR \"x\"",
        &["'the' <-> 'empty' <-> 'lines':*", "'x'"],
    );
    check("x x X", "\"x\"", &["'x'"]);
    check("設定だ", "\"設 定\" OR \"定 だ\"", &["'設' <-> '定'", "'定' <-> 'だ'"]);
    let many: String = (0..=TERMS_MAX).map(|n| format!("w{n} ")).collect();
    assert_eq!(Query::parse(&many).tsqueries().len(), TERMS_MAX);
}

fn to_texts(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn what_says_the_same_is_told_from_what_does_not() {
    let near = |kind, one: &str, other: &str| Gist::of(kind, one).is_near(&Gist::of(kind, other));
    let finding = MemoryKind::Finding;
    assert!(near(finding, "the parser drops empty lines", "Parser drops EMPTY lines!"));
    assert!(near(MemoryKind::Episode, "the parser drops empty lines", "Parser: empty lines, drops the!"));
    for (one, other) in [
        ("use tabs instead of spaces", "use spaces instead of tabs"),
        ("migrate from MySQL to Postgres", "migrate to MySQL from Postgres"),
        ("alpha waits for beta", "beta waits for alpha"),
    ] {
        assert!(!near(finding, one, other), "{one}, {other}");
    }
    let of = |what: &str| {
        format!(
            "in the nightly release build every single integration test of the {what} needs two long minutes and half a gigabyte"
        )
    };
    assert!(near(finding, &of("large database"), &of("database")));
    assert!(!near(finding, &of("staging database"), &of("production database")));
    assert!(!near(finding, &of("crates/store"), &of("crates/service")));
    assert!(!near(finding, "the parser drops empty lines", "the lexer keeps full tokens"));
    assert!(!near(finding, "port 80", "port 81"));
    assert!(near(MemoryKind::Episode, "timeout after 30 s on port 80", "timeout after 31 s on port 81"));
    assert!(!near(finding, "all tests pass on the first try", "all tests fail on the first try"));
    assert!(!near(finding, "", ""));
    let long: String = (0..20).map(|n| format!("{} ", "w".repeat(n + 1))).collect();
    let seventeen: String = (0..17).map(|n| format!("{} ", "w".repeat(n + 1))).collect();
    let sixteen: String = (0..16).map(|n| format!("{} ", "w".repeat(n + 1))).collect();
    assert!(near(finding, &long, &seventeen), "85 % of the words");
    assert!(!near(finding, &long, &sixteen), "80 % of them");
}

#[test]
fn the_mark_of_a_gist_does_not_change_between_versions() {
    let mark = |text| Gist::of(MemoryKind::Finding, text).mark();
    assert_eq!(mark("Parser drops lines"), mark("the lines (parser) drops"));
    assert_ne!(mark("parser drops lines"), mark("parser keeps lines"));
    assert_eq!(mark(""), -3_750_763_034_362_895_579, "the stored ones would no longer be found");
}

#[test]
fn an_episode_that_comes_again_is_a_pattern() {
    assert_eq!(MemoryKind::Episode.seen(PATTERN_LEAST - 1), MemoryKind::Episode);
    assert_eq!(MemoryKind::Episode.seen(PATTERN_LEAST), MemoryKind::Pattern);
    assert_eq!(MemoryKind::Finding.seen(99), MemoryKind::Finding);
    for kind in MemoryKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert!("thought".parse::<MemoryKind>().is_err());
}

#[test]
fn tokens_are_cut_to_what_was_asked_for() {
    assert_eq!(tokens::cut("short", 10), "short");
    assert_eq!(tokens::cut("one two three four five six", 6), "one two…");
    assert_eq!(tokens::cut("anything at all", 2), "");
}

proptest! {
    #[test]
    fn a_question_holds_no_character_of_a_users_but_letters_and_digits(text in ".{0,200}") {
        let query = Query::parse(&text);
        let ours = |c: char| c.is_alphanumeric() || " '\"*:<->OR".contains(c);
        prop_assert!(query.fts5().chars().all(ours));
        prop_assert!(query.tsqueries().iter().all(|term| term.chars().all(ours)));
        prop_assert_eq!(query.is_empty(), query.fts5().is_empty());
    }

    #[test]
    fn an_excerpt_is_never_longer_than_asked(text in ".{0,300}", words in ".{0,30}", max in 2usize..100) {
        let shown = excerpt(&text, &Query::parse(&words), max);
        prop_assert!(shown.chars().count() <= max);
    }

    #[test]
    fn a_cut_text_fits_and_a_longer_one_never_has_fewer_tokens(text in ".{0,200}", more in ".{0,20}", max in 0usize..60) {
        prop_assert!(tokens::estimate(&tokens::cut(&text, max)) <= max);
        let longer = text.clone() + &more;
        prop_assert!(tokens::estimate(&text) <= tokens::estimate(&longer));
    }

    #[test]
    fn two_gists_are_near_each_other_or_not(one in "[a-d 0-1]{0,20}", other in "[a-d 0-1]{0,20}") {
        let gist = |text: &str| Gist::of(MemoryKind::Finding, text);
        prop_assert_eq!(gist(&one).is_near(&gist(&other)), gist(&other).is_near(&gist(&one)));
        if gist(&one) == gist(&other) {
            prop_assert_eq!(gist(&one).mark(), gist(&other).mark());
        }
    }
}
