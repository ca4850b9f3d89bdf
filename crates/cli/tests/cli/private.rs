//! What belongs to whom: files for their user's eyes alone, and files of others that are not obeyed.

use crate::door::{Door, word};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.flat_map(|path| if path.is_dir() { all_below(&path) } else { vec![path] }).collect()
}

#[test]
fn nobody_else_reads_what_a_run_leaves() {
    let door = Door::lite();
    door.write("plan.toml", "[[task]]\nkey = \"a\"\nrun = \"echo secret\"\n");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "umask 022; exec \"$0\" run plan.toml", env!("CARGO_BIN_EXE_quorate")]);
    let output = command.current_dir(door.path()).env("HOME", door.path()).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    let state = door.path().join(".quorate");
    assert!(all_below(&state).iter().any(|file| file.ends_with("report.md")));
    // Whoever may not enter the folder reaches nothing in it.
    assert_eq!(state.metadata().expect("there").permissions().mode() & 0o077, 0);
    for name in ["quorate.db", "quorate.db.lock"] {
        let mode = state.join(name).metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

#[test]
fn a_configuration_of_another_user_above_is_not_obeyed() {
    // Only who is root can make one that is; others see with their own that it is obeyed otherwise.
    let is_root = nix::unistd::geteuid().is_root();
    let door = Door::lite();
    door.write("quorate.toml", "[agents.a]\ncommand = [\"touch\", \"obeyed\"]\n");
    let inner = door.path().join("inner");
    std::fs::create_dir(&inner).expect("made");
    if is_root {
        chown(door.path().join("quorate.toml"), Some(65_534), None).expect("given away");
    }
    let status = || door.command(["-C", "inner", "status", "--json"]).output().expect("runs");
    let mode = |mode| {
        std::fs::set_permissions(door.path(), std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    // In a shared checkout, others than its owner write the files, too.
    assert_eq!(status().status.code(), Some(0), "only who may write here has put it there");
    mode(0o1777);
    let (code, said) = (status().status.code(), String::from_utf8_lossy(&status().stderr).into_owned());
    assert_eq!(code, Some(if is_root { 2 } else { 0 }), "{said}");
    assert_eq!(said.contains("belongs to another user"), is_root, "{said}");
    // To work in a folder of his is a choice.
    if is_root {
        chown(&inner, Some(65_534), None).expect("given away");
        assert_eq!(status().status.code(), Some(0));
    }
}

#[test]
fn a_ledger_of_another_user_where_anybody_may_lay_one_is_not_obeyed() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can give one away; every other user's own is obeyed, as all other tests show.
        return;
    }
    let door = Door::lite();
    door.ok(&["task", "add", "a trap", "--run", "true"]);
    chown(door.path().join(".quorate"), Some(65_534), None).expect("given away");
    door.ok(&["status"]);
    let open = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(door.path(), open).expect("changed");
    let error = door.fails(2, &["status"]);
    assert!(word(&error["message"]).contains("belongs to another user"), "{error}");
}

#[test]
fn another_ledger_is_not_mixed_with_the_files_way_to_its_own() {
    let door = Door::lite();
    door.write(
        "quorate.toml",
        "[store]\nurl = \"sqlite:own.db\"\nagents_url = \"postgres://nobody@127.0.0.1:1/none\"\n",
    );
    door.write("plan.toml", "[[task]]\nkey = \"a\"\nrun = \"printf '\\\"%s\\\"' $QUORATE_STORE > seen\"\n");
    let mut run = door.command(["run", "plan.toml", "--json"]);
    let output = run.env("QUORATE_STORE", "sqlite:other.db").output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    let seen = std::fs::read_to_string(door.path().join("seen")).expect("written");
    let value = serde_json::from_str(&seen).expect("JSON");
    assert!(word(&value).contains("other.db"), "{seen}");
}
