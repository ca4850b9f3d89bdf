//! What resource names mean: a table of examples, and random names against a slow model that is obviously right.

use proptest::prelude::*;
use quorate_model::Kind;
use quorate_model::resource::{Mode, Resource, conflict};
use std::time::Instant;

fn resource(text: &str) -> Resource {
    Resource::parse(text, Some("/repo/proj")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// One line per pair: `meets` or `apart`, checked both ways round.
const OVERLAPS: &str = r"
meets  src              src
meets  src              src/a.rs
meets  src              src/deep/er/a.rs
apart  src              src2
apart  src              sr
apart  src/a.rs         src/b.rs
meets  .                src/a.rs
meets  .                .
meets  ./               **/*.rs
meets  src/**           src/a.rs
meets  src/**           src/x/y/z.rs
meets  src/**           src
meets  src/**           .
apart  src/**           lib/a.rs
meets  src/*.rs         src/a.*
apart  src/*.rs         src/a.py
meets  src/*.rs         src
apart  src/*.rs         src/x/a.rs
meets  src/*            src/x/a.rs
meets  src/**/*.rs      src/a.rs
meets  src/**/*.rs      src/x/y/a.rs
meets  src/**/*.rs      src/x
apart  src/**/*.rs      lib
meets  a/*/c            a/b/c
apart  a/*/c            a/b/d
meets  a/*/c            a/b
meets  a/*/c            a/b/c/d
apart  a/*/c            a/b/x/c
meets  a/**/c           a/b/x/c
meets  a/**/c           a/c
meets  **               x
meets  **               a/b/c
meets  **/a             a
meets  **/a             b/a
meets  **/a             **/b
meets  a**b             a/x/b
meets  a**b             axb
apart  a**b             b/x/a
meets  *.rs             main.rs
apart  *.rs             src/main.rs.bak
meets  *.rs             main.rs/x
meets  ?.rs             a.rs
apart  ?.rs             ab.rs
apart  a?b              a/b
apart  a*b              a/b
apart  a[!x]b           a/b
meets  [a-c].rs         b.rs
apart  [a-c].rs         d.rs
meets  [!a-c].rs        d.rs
apart  [!a-c].rs        b.rs
meets  [^a].rs          [!b].rs
apart  [a].rs           [!a].rs
apart  [ab].rs          [cd].rs
meets  [a-m].rs         [m-z].rs
meets  []x].rs          ].rs
meets  [a-]             -
meets  src/{a,b}.rs     src/b.rs
apart  src/{a,b}.rs     src/c.rs
meets  {src,lib}/**     lib/x
apart  {src,lib}/**     doc/x
meets  {a,b{c,d}}       bd
apart  {a,b{c,d}}       b
meets  a{,.bak}         a
meets  a{,.bak}         a.bak
apart  a{,.bak}         ab
meets  {a,b}            {b,c}
apart  {a,b}            {c,d}
meets  src/{,x}/a       src/a
meets  {.,src}          lib
meets  a.rs::main       a.rs
meets  a.rs::main       a.rs::main
apart  a.rs::main       a.rs::other
apart  a.rs::main       a.rs::main2
meets  a.rs::Job        a.rs::Job::run
apart  a.rs::Job::stop  a.rs::Job::run
meets  src/a.rs::main   src
meets  src/a.rs::main   src/*.rs
meets  src/a.rs::main   src/**
meets  src/a.rs::main   .
apart  src/a.rs::main   src/b.rs
apart  src/a.rs::main   src/b.rs::main
apart  src::main        src/a.rs
apart  src::main        src/a.rs::main
meets  src/*.rs::main   src/a.rs::main
apart  src/*.rs::main   src/a.rs::other
meets  port:8080        port:8080
apart  port:8080        port:8081
apart  port:8080        gpu:8080
apart  port:8080        .
apart  port:8080        **
apart  port:8080        ./port:8080
meets  ./port:8080      port*
meets  gpu:*            gpu:*
apart  gpu:*            gpu:0
meets  ./src//x/../a.rs src/a.rs
meets  src/             src
meets  /repo/proj/src   src/a.rs
meets  /repo/proj       src/a.rs
meets  ../proj/src      src/a.rs
meets  app/\[id\]/p.tsx app/\[id\]/p.tsx
meets  app/\[id\]/p.tsx app/*/p.tsx
apart  app/\[id\]/p.tsx app/i/p.tsx
meets  app/[id]/p.tsx   app/[id]/p.tsx
meets  a\*b             a\*b
apart  a\*b             axb
meets  a,b              a,b
meets  é*               éa
apart  A.rs             a.rs
meets  .git             *
";

#[test]
fn examples_overlap_or_do_not_both_ways_round() {
    for line in OVERLAPS.lines().filter(|line| !line.is_empty()) {
        let [expected, a, b] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (a, b) = (resource(a), resource(b));
        assert_eq!(a.overlaps(&b), expected == "meets", "{line}");
        assert_eq!(b.overlaps(&a), expected == "meets", "{line}, the other way round");
        assert!(a.overlaps(&a) && b.overlaps(&b), "{line}: each overlaps itself");
    }
}

#[test]
fn the_stored_form_is_clean_and_reads_back_the_same() {
    for (text, stored) in [
        ("src/a.rs", "src/a.rs"),
        ("./src//a.rs", "src/a.rs"),
        ("src/./x/../a.rs", "src/a.rs"),
        ("src/", "src"),
        (".", "."),
        ("./", "."),
        ("src/..", "."),
        ("/repo/proj", "."),
        ("/repo/proj/", "."),
        ("/repo/proj/src/*.rs", "src/*.rs"),
        ("/repo/./x/../proj/src", "src"),
        ("../proj/src", "src"),
        ("src/{b,a}.rs", "src/{a.rs,b.rs}"),
        ("./src/{a,b}.rs", "src/{a.rs,b.rs}"),
        ("{src/a.rs,src/b.rs}", "src/{a.rs,b.rs}"),
        ("{src,src/a}", "{src,src/a}"),
        ("{a}", "a"),
        ("{a,a}", "a"),
        ("{.,a}", "."),
        ("{a\\,b,c}", "{a\\,b,c}"),
        ("a\\,b", "a,b"),
        ("\\a\\*", "a\\*"),
        ("./port:8080", "./port:8080"),
        ("port:8080", "port:8080"),
        ("deploy:prod/eu", "deploy:prod/eu"),
        ("src/a.rs::Job::run", "src/a.rs::Job::run"),
        ("./a.rs::main", "a.rs::main"),
        ("Makefile:3", "Makefile:3"),
        ("a/b:c", "a/b:c"),
        ("with space/x y", "with space/x y"),
    ] {
        let parsed = resource(text);
        assert_eq!(parsed.to_string(), stored, "{text}");
        let again = Resource::from_stored(stored).expect(stored);
        assert_eq!(again, parsed);
        assert!(again.overlaps(&parsed), "{stored}");
    }
}

#[test]
fn bad_names_are_refused_and_say_why() {
    for (text, why) in [
        ("", "empty"),
        ("..", "leaves the project folder"),
        ("../x", "leaves the project folder"),
        ("src/../../x", "leaves the project folder"),
        ("/etc/passwd", "leaves the project folder"),
        ("/", "leaves the project folder"),
        ("/repo/project", "leaves the project folder"),
        ("/work", "leaves the project folder"),
        ("/*/proj/x", "leaves the project folder"),
        ("{a,../x}", "leaves the project folder"),
        ("*/../x", "`..` after a wildcard"),
        ("**/..", "`..` after a wildcard"),
        ("a\u{0}b", "control character U+0000"),
        ("a\nb", "control character U+000A"),
        (" a", "white space"),
        ("a ", "white space"),
        ("./ a", "white space"),
        ("a[b", "`[` without its `]`"),
        ("a[b/c]", "`[` without its `]`"),
        ("[z-a]", "range `z-a` backwards"),
        ("[/]", "`[` without its `]`"),
        ("[!\u{1}-\u{10ffff}\\", "control character"),
        ("{a,b", "`{` without its `}`"),
        ("a}", "`}` without its `{`"),
        ("a\\", "ends a component with `\\`"),
        ("a\\/b", "ends a component with `\\`"),
        ("a.rs::", "empty symbol"),
        ("a.rs::x::", "empty symbol"),
        ("::x", "no file before its symbol"),
        (".::x", "symbol of the project folder"),
        ("{a:}:b", "`::` inside its path"),
        ("{a:}::b", "`::` inside its path"),
        ("port:", "no name after its kind"),
        ("quorate:health", "reserved"),
        (&"{".repeat(100), "nests braces more than 16 deep"),
        (&"{a,b}".repeat(40), "more than 256 alternatives"),
    ] {
        let error = Resource::parse(text, Some("/repo/proj")).expect_err(text);
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.contains(why), "{text:?}: {}", error.message);
    }
}

#[test]
fn without_a_project_folder_absolute_paths_are_refused() {
    assert!(Resource::parse("/repo/proj/src", None).is_err());
    assert!(Resource::parse("../proj/src", None).is_err());
    assert!(Resource::parse("src/../lib", None).is_ok());
}

#[test]
fn a_project_folder_with_odd_characters_is_a_name_like_any_other() {
    let base = Some("/repo/a[b]*/proj");
    assert_eq!(Resource::parse("/repo/a[b]*/proj/src", base).expect("inside").as_str(), "src");
    assert_eq!(Resource::parse("../proj/src", base).expect("inside").as_str(), "src");
    assert_eq!(Resource::parse("../../a[b]*/proj/src", base).expect("inside").as_str(), "src");
}

#[test]
fn length_is_bounded_at_the_limit_and_the_message_is_short() {
    assert!(Resource::parse(&"x".repeat(4096), None).is_ok());
    let error = Resource::parse(&"x".repeat(10_000), None).expect_err("10 kB");
    assert_eq!(error.message, "the resource name has 10000 bytes; at most 4096 are allowed");
    let expanding = format!("{{{}}}/{}", vec!["a"; 200].join("1,"), "y".repeat(100));
    assert!(Resource::parse(&expanding, None).is_ok(), "alternatives that are the same count once");
    let names: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let expanding = format!("{{{}}}/{}", names.join(","), "y".repeat(100));
    let error = Resource::parse(&expanding, None).expect_err("expands");
    assert!(error.message.contains("bytes; at most 4096"), "{}", error.message);
}

#[test]
fn alternatives_are_bounded_at_the_limit() {
    assert!(Resource::parse(&"{a,b}".repeat(8), None).is_ok());
    assert!(Resource::parse(&"{a,b}".repeat(9), None).is_err());
    let list: Vec<String> = (0..=256).map(|n| n.to_string()).collect();
    assert!(Resource::parse(&format!("{{{}}}", list[..256].join(",")), None).is_ok());
    assert!(Resource::parse(&format!("{{{}}}", list.join(",")), None).is_err());
}

#[test]
fn reserved_names_are_for_the_product() {
    let leader = Resource::reserved("health");
    assert_eq!(leader.as_str(), "quorate:health");
    assert_eq!(Resource::from_stored("quorate:health"), Ok(leader));
}

#[test]
fn only_two_who_share_do_not_conflict() {
    let (a, b) = (resource("src"), resource("src/a.rs"));
    assert!(conflict(&a, Mode::Exclusive, &b, Mode::Exclusive));
    assert!(conflict(&a, Mode::Shared, &b, Mode::Exclusive));
    assert!(conflict(&a, Mode::Exclusive, &b, Mode::Shared));
    assert!(!conflict(&a, Mode::Shared, &b, Mode::Shared));
    assert!(!conflict(&a, Mode::Exclusive, &resource("lib"), Mode::Exclusive));
    assert_eq!("shared".parse(), Ok(Mode::Shared));
    assert_eq!("exclusive".parse(), Ok(Mode::Exclusive));
    assert!("x".parse::<Mode>().is_err());
}

#[test]
fn many_stars_cost_no_more_than_the_product_of_the_lengths() {
    let begun = Instant::now();
    for (a, b, expected) in [
        ("*a".repeat(60), format!("{}b", "*a".repeat(60)), false),
        ("*a*".repeat(500), format!("{}c", "*b*".repeat(500)), true),
        (format!("{}x", "*a".repeat(1000)), format!("{}y", "a*".repeat(1000)), false),
        (format!("{}x", "**/a/".repeat(500)), format!("{}y", "**/b/".repeat(500)), true),
        (format!("{}x::s", "**/a/".repeat(500)), format!("{}y::s", "**/b/".repeat(500)), false),
    ] {
        assert_eq!(resource(&a).overlaps(&resource(&b)), expected, "{}…", &a[..10]);
    }
    // Exponential work would not end; the bound only has to tell the two apart on a busy machine.
    assert!(begun.elapsed().as_secs() < 60);
}

/// Says whether a path is matched, by trying everything: the model. No `\`, no braces.
fn matches(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', '/', rest @ ..] => {
            matches(rest, path) || (1..=path.len()).any(|n| path[n - 1] == '/' && matches(rest, &path[n..]))
        }
        ['*', '*', rest @ ..] => (0..=path.len()).any(|n| matches(rest, &path[n..])),
        ['*', rest @ ..] => (0..=path.len()).any(|n| !path[..n].contains(&'/') && matches(rest, &path[n..])),
        ['?', rest @ ..] => path.first().is_some_and(|c| *c != '/') && matches(rest, &path[1..]),
        ['[', '!', x, ']', rest @ ..] => {
            path.first().is_some_and(|c| c != x && *c != '/') && matches(rest, &path[1..])
        }
        ['[', x, y, ']', rest @ ..] => {
            path.first().is_some_and(|c| c == x || c == y) && matches(rest, &path[1..])
        }
        [c, rest @ ..] => path.first() == Some(c) && matches(rest, &path[1..]),
    }
}

/// Says whether a path or a folder above it is matched.
fn covers(pattern: &str, path: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    (1..=path.len()).any(|n| (n == path.len() || path[n] == '/') && matches(&pattern, &path[..n]))
}

/// Every path of one to three components of one or two characters. `z` is in no pattern.
///
/// Enough for two patterns of at most two components of at most two parts: what they share in one component has
/// at most one character for each part that is no star, and only what lies below one adds a third component.
fn every_path() -> Vec<String> {
    let letters = ["a", "b", "z"].map(str::to_string).to_vec();
    let pairs = letters.iter().flat_map(|a| letters.iter().map(move |b| format!("{a}{b}")));
    let components: Vec<String> = letters.iter().cloned().chain(pairs).collect();
    let below = |paths: &[String]| -> Vec<String> {
        paths.iter().flat_map(|path| components.iter().map(move |c| format!("{path}/{c}"))).collect()
    };
    let two = below(&components);
    let three = below(&two);
    [components.clone(), two, three].concat()
}

fn component() -> impl Strategy<Value = String> {
    let part = prop_oneof![Just("a"), Just("b"), Just("*"), Just("?"), Just("[ab]"), Just("[!a]")];
    prop_oneof![
        4 => prop::collection::vec(part, 1..3).prop_map(|parts| parts.concat()).prop_filter("two stars cross", |t| !t.contains("**")),
        1 => Just("**".to_string()),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(component(), 1..3).prop_map(|components| components.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn overlap_agrees_with_trying_every_path(a in pattern(), b in pattern()) {
        thread_local!(static PATHS: Vec<String> = every_path());
        let expected = PATHS.with(|paths| paths.iter().any(|path| covers(&a, path) && covers(&b, path)));
        prop_assert_eq!(resource(&a).overlaps(&resource(&b)), expected, "{} and {}", a, b);
        prop_assert_eq!(resource(&b).overlaps(&resource(&a)), expected, "{} and {}", b, a);
    }

    #[test]
    fn a_symbol_meets_what_covers_exactly_its_file(a in pattern(), b in pattern()) {
        thread_local!(static PATHS: Vec<String> = every_path());
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = PATHS.with(|paths| {
            paths.iter().any(|path| matches(&chars(&a), &chars(path)) && covers(&b, path))
        });
        let symbol = resource(&format!("{a}::main"));
        prop_assert_eq!(symbol.overlaps(&resource(&b)), expected, "{}::main and {}", a, b);
        prop_assert_eq!(resource(&b).overlaps(&symbol), expected, "{} and {}::main", b, a);
    }

    #[test]
    fn braces_are_the_union_of_their_alternatives(a in pattern(), b in pattern(), c in pattern()) {
        let both = resource(&format!("{{{a},{b}}}"));
        let expected = resource(&a).overlaps(&resource(&c)) || resource(&b).overlaps(&resource(&c));
        prop_assert_eq!(both.overlaps(&resource(&c)), expected);
        prop_assert_eq!(resource(&format!("{{{b},{a}}}")), both);
    }

    #[test]
    fn any_text_is_refused_or_reads_back_and_overlaps_itself_and_everything(text in "[ab*?/.{},\\[\\]!\\\\:é-]{1,12}") {
        if let Ok(parsed) = Resource::parse(&text, Some("/a/b")) {
            let again = Resource::from_stored(parsed.as_str());
            prop_assert_eq!(again.as_ref(), Ok(&parsed));
            prop_assert!(parsed.overlaps(&parsed) && parsed.overlaps(&again.expect("read back")));
            let named = parsed.as_str().starts_with("a:") || parsed.as_str().starts_with("b:")
                || parsed.as_str().split_once(':').is_some_and(|(k, n)| !n.starts_with(':')
                    && k.starts_with(['a', 'b']) && k.chars().all(|c| matches!(c, 'a' | 'b' | '-')));
            prop_assert!(named || parsed.overlaps(&resource(".")));
        }
    }

    #[test]
    fn overlap_is_symmetric(a in "[ab*?/{},]{1,8}", b in "[ab*?/{},]{1,8}") {
        if let (Ok(a), Ok(b)) = (Resource::parse(&a, None), Resource::parse(&b, None)) {
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        }
    }
}
