//! The folder: its configuration, its ledger, and what is made from the command tree.

use crate::door::{Door, on_both, texts, word};
use serde_json::json;

on_both!(a_backup_is_a_whole_ledger);

fn a_backup_is_a_whole_ledger(door: Door) {
    door.ok(&["task", "add", "kept"]);
    let written = door.json(&["backup", "copy.db"]);
    assert!(written["bytes"].as_u64() > Some(1000), "{written}");
    let error = door.fails(3, &["backup", "copy.db"]);
    assert!(word(&error["message"]).contains("there already"), "{error}");
    let header = std::fs::read(door.path().join("copy.db")).expect("it is there");
    if header.starts_with(b"SQLite") {
        let mut command = door.command(["task", "list", "--json"]);
        let output = command.env("QUORATE_STORE", "sqlite:copy.db").output().expect("runs");
        assert!(texts(&output).0.contains("kept"));
    } else {
        assert!(header.starts_with(b"PGDMP"));
    }
    assert!(!door.path().join("copy.db.part").exists());
}

#[test]
fn looking_makes_no_ledger() {
    let door = Door::lite();
    assert_eq!(door.json(&["status"]), json!({ "agents": [], "tasks": {}, "runs": [] }));
    for words in
        [["task", "list"].as_slice(), &["runs", "list"], &["agent", "list"], &["claims"], &["inbox", "me"]]
    {
        assert_eq!(door.json(words), json!([]), "{words:?}");
        assert!(door.ok(words).starts_with("no ledger here yet"), "{words:?}");
    }
    assert_eq!(door.ok(&["events", "--json"]), "");
    for words in [
        ["task", "show", "1"].as_slice(),
        &["task", "done", "1", "--term", "1"],
        &["runs", "cancel", "1"],
        &["agent", "pause", "me"],
        &["release", "x", "--agent", "me"],
        &["logs", "me"],
        &["backup", "copy"],
        &["run", "--task", "9"],
        &["runs", "resume", "9"],
    ] {
        assert!(word(&door.fails(5, words)["message"]).contains("no ledger"), "{words:?}");
    }
    assert!(word(&door.fails(7, &["down"])["message"]).contains("no ledger"));
    let count = || std::fs::read_dir(door.path()).expect("readable").count();
    assert_eq!(count(), 0, "nothing was made");
    door.write("quorate.toml", "[agents.known]\ncommand = ['true']\n");
    assert!(word(&door.fails(5, &["agent", "run", "knwon"])["hint"]).contains("`known`"));
    assert_eq!(count(), 1, "nothing was made");
}

#[test]
fn init_writes_a_configuration_once() {
    let door = Door::lite();
    door.write(".gitignore", "target");
    door.ok(&["init"]);
    assert_eq!(
        std::fs::read_to_string(door.path().join(".gitignore")).expect("there"),
        "target\n.quorate/\n"
    );
    let error = door.fails(3, &["init"]);
    assert!(word(&error["message"]).contains("there already"), "{error}");
    assert!(word(&door.fails(5, &["init", "--template", "defualt"])["hint"]).contains("`default`"));
    door.ok(&["task", "add", "it is sound"]);
}

#[test]
fn the_configuration_is_found_from_below() {
    let door = Door::lite();
    door.write("quorate.toml", "[store]\nurl = 'sqlite:state/l.db'\n");
    std::fs::create_dir_all(door.path().join("a/b")).expect("made");
    door.ok(&["-C", "a", "-C", "b", "task", "add", "x"]);
    assert!(door.path().join("state/l.db").exists());
    assert_eq!(door.json(&["task", "list", "-C", "a/b"]).as_array().map(Vec::len), Some(1));
    assert_eq!(door.json(&["-C", "a", "claim", "b/c", "--agent", "me"])[0]["resource"], "b/c");
    door.fails(5, &["-C", "nowhere", "status"]);
}

#[test]
fn the_ledger_is_chosen_by_environment_then_env_file_then_configuration() {
    let door = Door::lite();
    door.write("quorate.toml", "[store]\nurl = 'sqlite:three.db'\n");
    door.ok(&["task", "add", "x"]);
    door.write(".env", "# secrets\nQUORATE_STORE=\"sqlite:two.db\"\nnonsense\n");
    door.ok(&["task", "add", "x"]);
    assert!(
        door.command(["task", "add", "x"])
            .env("QUORATE_STORE", "sqlite:one.db")
            .status()
            .expect("runs")
            .success()
    );
    for file in ["one.db", "two.db", "three.db"] {
        assert!(door.path().join(file).exists(), "{file}");
    }
    door.write(".env", "QUORATE_STORE=mysql://u:secret@h/d");
    let error = door.fails(2, &["status"]);
    assert!(
        word(&error["message"]).contains("sqlite:PATH") && !error.to_string().contains("secret"),
        "{error}"
    );
}

#[test]
fn a_mistake_in_the_configuration_is_shown_with_its_place() {
    let door = Door::lite();
    door.write("quorate.toml", "[health]\nleese = '10s'\n");
    let error = door.fails(2, &["status"]);
    assert!(word(&error["message"]).starts_with("quorate.toml:2:1: unknown key `leese`"), "{error}");
    assert!(word(&error["hint"]).contains("`lease`"), "{error}");
    door.write("quorate.toml", b"\xff\xfe");
    door.fails(2, &["status"]);
    std::fs::remove_file(door.path().join("quorate.toml")).expect("removed");
    std::fs::create_dir(door.path().join("quorate.toml")).expect("made");
    assert!(word(&door.fails(2, &["status"])["message"]).contains("it is no file"));
}

#[test]
fn a_file_that_is_no_ledger_is_left_alone() {
    let door = Door::lite();
    std::fs::create_dir(door.path().join(".quorate")).expect("made");
    door.write(
        ".quorate/quorate.db",
        "someone's letters, and long enough to look like a database".repeat(20),
    );
    assert_eq!(door.fails(1, &["task", "add", "x"])["kind"], "unavailable");
    assert_eq!(door.fails(1, &["status"])["kind"], "unavailable");
}

#[test]
fn shells_and_readers_get_their_files() {
    let door = Door::lite();
    for shell in ["bash", "zsh", "fish"] {
        assert!(door.ok(&["completion", shell]).contains("quorate"), "{shell}");
    }
    door.fails(2, &["completion", "tcsh"]);
    assert!(door.ok(&["man"]).contains(".TH quorate 1"));
    door.ok(&["man", "--dir", "man1"]);
    for page in ["quorate.1", "quorate-task-next.1", "quorate-claim.1"] {
        assert!(door.path().join("man1").join(page).exists(), "{page}");
    }
}
