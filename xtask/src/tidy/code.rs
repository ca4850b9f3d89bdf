//! Rules for one Rust file: its shape, and what its code may not hold.

use super::source::{Source, is_word_before, line_of};
use super::{File, Finding};

/// The most lines of a file.
const FILE_LINES_MAX: usize = 1_500;

/// The most lines of a function.
const FUNCTION_LINES_MAX: usize = 100;

/// What is left behind by someone who is not finished.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Readings of the wall clock: only a `clock.rs` may.
const WALL_CLOCKS: [&str; 4] = ["SystemTime::now", "Timestamp::now", "Zoned::now", "Utc::now"];

/// Rooms that get the time as a value and may read no clock at all.
const TIMELESS: [&str; 2] = ["crates/model/", "crates/service/"];

/// Rooms that speak SQL.
const SQL_ROOMS: [&str; 3] = ["crates/store/", "crates/service/", "crates/testkit/"];

/// How long a file and its functions are, and that it begins with words.
pub fn shape(file: &File, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.text.starts_with("//!") {
        findings.push(Finding::new(
            &file.path,
            1,
            "a module opens with `//!`: what lives here and what does not",
        ));
    }
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines; a file has at most {FILE_LINES_MAX}");
        findings.push(Finding::new(&file.path, lines, what));
    }
    for (name, line, length) in source.functions() {
        if length > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {length} lines; a function has at most {FUNCTION_LINES_MAX}");
            findings.push(Finding::new(&file.path, line, what));
        }
    }
    findings
}

/// Unfinished work, clocks, and SQL outside its rooms.
pub fn content(file: &File, source: &Source) -> Vec<Finding> {
    let mut findings = unfinished(file, source);
    findings.extend(clocks(file, source));
    findings.extend(sql(file, source));
    findings
}

fn unfinished(file: &File, source: &Source) -> Vec<Finding> {
    let places = UNFINISHED.iter().flat_map(|word| occurrences(source, word).map(move |line| (word, line)));
    places
        .map(|(word, line)| Finding::new(&file.path, line, format!("`{word}` is not for the repository")))
        .collect()
}

/// Lines where a word of code stands, not as the end of a longer word.
fn occurrences(source: &Source, word: &str) -> impl Iterator<Item = usize> {
    let found = source.code.match_indices(word).filter(|(at, _)| !is_word_before(&source.code, *at));
    found.map(|(at, _)| line_of(&source.code, at))
}

fn clocks(file: &File, source: &Source) -> Vec<Finding> {
    if file.is("/clock.rs") || file.path.starts_with("xtask/") || file.path.starts_with("crates/testkit/") {
        return Vec::new();
    }
    let is_timeless = TIMELESS.iter().any(|room| file.path.starts_with(room));
    let words = WALL_CLOCKS.iter().chain(is_timeless.then_some(&"Instant::now"));
    let lines = words.flat_map(|word| occurrences(source, word).map(move |line| (word, line)));
    lines
        .filter(|(_, line)| !source.is_test_line(*line))
        .map(|(word, line)| {
            Finding::new(&file.path, line, format!("`{word}`: the time is given, or read in clock.rs"))
        })
        .collect()
}

fn sql(file: &File, source: &Source) -> Vec<Finding> {
    if !file.path.starts_with("crates/") || SQL_ROOMS.iter().any(|room| file.path.starts_with(room)) {
        return Vec::new();
    }
    let literals = source.strings.iter().filter(|(line, text)| !source.is_test_line(*line) && is_sql(text));
    literals.map(|(line, _)| Finding::new(&file.path, *line, "SQL lives in store and service")).collect()
}

/// Tells whether a text is a statement. It must begin with one: prose may well "select … from".
fn is_sql(text: &str) -> bool {
    let words: Vec<String> =
        text.split([' ', '\n', '\\']).filter(|w| !w.is_empty()).map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["insert", "into", ..] | ["delete", "from", ..] | ["update", _, "set", ..] => true,
        ["select", rest @ ..] => rest.contains(&"from"),
        ["with", _, "as", ..] => text.contains("(select") || text.contains("( select"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let file = File { path: path.to_string(), text: text.to_string() };
        let source = Source::read(text, super::super::is_test(path));
        let mut found = shape(&file, &source);
        found.extend(content(&file, &source));
        let found: Vec<String> = found.iter().map(Finding::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    }

    #[test]
    fn module_opens_with_words() {
        check("crates/model/src/a.rs", "use std::fmt;\n", &["opens with"]);
    }

    #[test]
    fn long_files_are_found_at_the_limit() {
        let text = |lines: usize| format!("//! a\n{}", "\n".repeat(lines - 1));
        check("crates/model/src/a.rs", &text(FILE_LINES_MAX), &[]);
        check("crates/model/src/a.rs", &text(FILE_LINES_MAX + 1), &["1501 lines"]);
    }

    #[test]
    fn long_functions_are_found_at_the_limit() {
        let text = |lines: usize| format!("//! a\nfn f() {{{}}}\n", "\n".repeat(lines - 1));
        check("crates/model/src/a.rs", &text(FUNCTION_LINES_MAX), &[]);
        check("crates/model/src/a.rs", &text(FUNCTION_LINES_MAX + 1), &["a.rs:2: `f` has 101 lines"]);
    }

    #[test]
    fn unfinished_work_is_found() {
        check("crates/cli/src/a.rs", "//! a\nfn f() { todo!() }\n", &["`todo!`"]);
        check("crates/cli/src/a.rs", "//! a\nfn f() { unimplemented!() }\n", &["`unimplemented!`"]);
        check("crates/cli/src/a.rs", "//! a\nfn f() { dbg!(1); }\n", &["`dbg!`"]);
        check("crates/cli/tests/a.rs", "//! a\n#[ignore = \"slow\"]\nfn f() {}\n", &["`#[ignore`"]);
        check(
            "crates/cli/src/a.rs",
            "//! todo! dbg!\nconst A: &str = \"todo!\";\nfn f() { mytodo!() }\n",
            &[],
        );
    }

    #[test]
    fn wall_clock_is_read_in_clock_rs_only() {
        let text = "//! a\nfn f() { SystemTime::now() }\n";
        check("crates/cli/src/a.rs", text, &["`SystemTime::now`"]);
        check("crates/store/src/clock.rs", text, &[]);
        check("crates/cli/tests/a.rs", text, &[]);
        check(
            "crates/cli/src/a.rs",
            "//! a\n#[cfg(test)]\nmod tests {\n fn f() { SystemTime::now() }\n}\n",
            &[],
        );
    }

    #[test]
    fn model_and_service_read_no_clock_at_all() {
        let text = "//! a\nfn f() { Instant::now() }\n";
        check("crates/service/src/a.rs", text, &["`Instant::now`"]);
        check("crates/runtime/src/a.rs", text, &[]);
    }

    #[test]
    fn sql_is_found_outside_its_rooms() {
        for statement in
            ["select id from t", "insert into t values (1)", "update t set a = 1", "DELETE FROM t"]
        {
            let text = format!("//! a\nconst A: &str = \"{statement}\";\n");
            check("crates/runtime/src/a.rs", &text, &["a.rs:2: SQL lives in"]);
            check("crates/service/src/a.rs", &text, &[]);
            check("crates/runtime/tests/a.rs", &text, &[]);
        }
        check(
            "crates/cli/src/a.rs",
            "//! a\nconst A: &str = \"with a as (select 1) delete\";\n",
            &["SQL lives in"],
        );
    }

    #[test]
    fn prose_is_not_sql() {
        for prose in
            ["update the config", "select one task", "take the oldest and delete from it", "with care"]
        {
            check("crates/cli/src/a.rs", &format!("//! a\nconst A: &str = \"{prose}\";\n"), &[]);
        }
    }
}
