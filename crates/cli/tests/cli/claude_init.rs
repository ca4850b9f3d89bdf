//! `quorate init --claude`: what it adds to files that are somebody's, and takes out again; and the guard, with real git.

use crate::door::{Door, texts, word};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn read(door: &Door, file: &str) -> String {
    fs::read_to_string(door.path().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn states(report: &Value) -> Vec<&str> {
    let files = report["files"].as_array().expect("a list").iter();
    files.chain([&report["guard"], &report["config"]]).map(|item| word(&item["state"])).collect()
}

/// Runs git, with nothing of the tester's; `quorate` is on its PATH.
fn git_with(door: &Door, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let ours = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().expect("a folder").display().to_string();
    let path = format!("{ours}:{}", std::env::var("PATH").unwrap_or_default());
    let mut git = Command::new("git");
    git.args(["-c", "user.name=t", "-c", "user.email=t", "-c", "init.defaultBranch=main"]).args(words);
    git.current_dir(door.path()).env_clear().env("PATH", path).env("HOME", door.path());
    git.envs(variables.iter().copied()).output().expect("git is here")
}

#[track_caller]
fn git(door: &Door, words: &[&str]) -> String {
    let output = git_with(door, words, &[]);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "git {words:?}: {out}{err}");
    out
}

/// Why a commit was refused.
#[track_caller]
fn refused(door: &Door, variables: &[(&str, &str)]) -> String {
    refused_with(door, &["commit", "-m", "m"], variables)
}

#[track_caller]
fn refused_with(door: &Door, words: &[&str], variables: &[(&str, &str)]) -> String {
    let output = git_with(door, words, variables);
    let (out, err) = texts(&output);
    assert!(!output.status.success(), "git {words:?}: it was committed: {out}{err}");
    err
}

/// Writes a script that can be run, with the folders above it.
fn script(door: &Door, file: &str, text: &str) {
    let file = door.path().join(file);
    fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
}

/// A repository in `repo` with a project in each of these folders, all committed.
fn projects(door: &Door, folders: &[&str]) {
    git(door, &["init", "-q", "repo"]);
    for folder in folders {
        fs::create_dir_all(door.path().join("repo").join(folder).join("src")).expect("made");
        door.write(&format!("repo/{folder}/quorate.toml"), "");
        door.write(&format!("repo/{folder}/src/a.rs"), "1");
    }
    door.write("repo/.gitignore", ".quorate/\n.claude/\n.mcp.json\n");
    git(door, &["-C", "repo", "add", "-A"]);
    git(door, &["-C", "repo", "commit", "-q", "-m", "all"]);
}

#[test]
fn an_empty_folder_gets_all_of_it_and_loses_it_again() {
    let door = Door::lite();
    git(&door, &["init", "-q"]);
    let report = door.json(&["init", "--claude"]);
    assert_eq!(states(&report), ["written", "written", "written", "written"]);
    let settings: Value = serde_json::from_str(&read(&door, ".claude/settings.json")).expect("JSON");
    assert_eq!(settings["statusLine"]["command"], "quorate statusline");
    assert_eq!(settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"], "quorate hook PreToolUse");
    let servers: Value = serde_json::from_str(&read(&door, ".mcp.json")).expect("JSON");
    assert_eq!(servers, json!({ "mcpServers": { "quorate": { "command": "quorate", "args": ["mcp"] } } }));
    assert_eq!(read(&door, ".gitignore"), ".quorate/\n");
    let all = [
        read(&door, ".claude/settings.json"),
        read(&door, ".mcp.json"),
        read(&door, ".git/hooks/pre-commit"),
    ];
    let report = door.json(&["init", "--claude"]);
    assert_eq!(states(&report), ["unchanged"; 4]);
    let again = [
        read(&door, ".claude/settings.json"),
        read(&door, ".mcp.json"),
        read(&door, ".git/hooks/pre-commit"),
    ];
    assert_eq!(again, all, "a second time changes nothing");
    let report = door.json(&["init", "--claude", "--remove"]);
    assert_eq!(states(&report), ["removed", "removed", "removed", "unchanged"]);
    for gone in [".claude", ".mcp.json", ".git/hooks/pre-commit", ".quorate/claude"] {
        assert!(!door.path().join(gone).exists(), "{gone}");
    }
    assert!(door.path().join("quorate.toml").exists(), "the project stays one");
    assert_eq!(states(&door.json(&["init", "--claude", "--remove"])), ["unchanged"; 4]);
    door.fails(2, &["init", "--remove"]);
    assert!(!door.path().join(".quorate/quorate.db").exists(), "no ledger was made");
}

#[test]
fn what_was_there_gets_its_very_bytes_back() {
    for (settings, servers) in [
        ("{}", "{\"mcpServers\":{}}\n"),
        (
            "{ \"hooks\": {} , \"model\":\"x\"}\r\n",
            "{\n\t\"mcpServers\": {\n\t\t\"a\": { \"type\": \"http\", \"url\": \"x\" }\n\t}\n}",
        ),
        (
            "\u{feff}{\"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"./mine\"}]}], \"PreToolUse\": []}}",
            "\n",
        ),
    ] {
        let door = Door::lite();
        fs::create_dir(door.path().join(".claude")).expect("made");
        door.write(".claude/settings.json", settings);
        door.write(".mcp.json", servers);
        fs::set_permissions(door.path().join(".mcp.json"), fs::Permissions::from_mode(0o640)).expect("set");
        door.ok(&["init", "--claude"]);
        assert!(read(&door, ".claude/settings.json").contains("quorate hook Stop"));
        door.ok(&["init", "--claude"]);
        door.ok(&["init", "--claude", "--remove"]);
        assert_eq!(read(&door, ".claude/settings.json"), settings);
        assert_eq!(read(&door, ".mcp.json"), servers);
        let mode = fs::metadata(door.path().join(".mcp.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}

#[test]
fn what_somebody_added_meanwhile_stays() {
    let door = Door::lite();
    fs::create_dir(door.path().join(".claude")).expect("made");
    door.write(".claude/settings.json", "{\n  \"model\": \"a\"\n}\n");
    door.ok(&["init", "--claude"]);
    let changed = read(&door, ".claude/settings.json").replace("\"model\": \"a\"", "\"model\": \"b\"");
    door.write(".claude/settings.json", changed);
    door.write(".claude/notes.md", "mine");
    door.ok(&["init", "--claude", "--remove"]);
    assert_eq!(read(&door, ".claude/settings.json"), "{\n  \"model\": \"b\"\n}\n");
    assert_eq!(read(&door, ".claude/notes.md"), "mine");
}

#[test]
fn a_broken_file_is_named_with_its_line_and_nothing_is_changed() {
    let door = Door::lite();
    git(&door, &["init", "-q"]);
    fs::create_dir(door.path().join(".claude")).expect("made");
    door.write(".claude/settings.json", "{}\n");
    for broken in ["{\n  \"mcpServers\": {\n", "{\n  \"mcpServers\": [1]\n}\n", "[]"] {
        door.write(".mcp.json", broken);
        let error = door.fails(2, &["init", "--claude"]);
        assert!(word(&error["message"]).starts_with(".mcp.json:"), "{error}");
        assert!(error["hint"].is_string(), "{error}");
        assert_eq!(
            (read(&door, ".mcp.json").as_str(), read(&door, ".claude/settings.json").as_str()),
            (broken, "{}\n")
        );
        for unmade in [".git/hooks/pre-commit", "quorate.toml", ".quorate"] {
            assert!(!door.path().join(unmade).exists(), "{unmade}");
        }
    }
    door.write(".mcp.json", b"\xff{}");
    door.fails(2, &["init", "--claude"]);
    fs::remove_file(door.path().join(".mcp.json")).expect("removed");
    fs::create_dir(door.path().join(".mcp.json")).expect("made");
    assert!(word(&door.fails(2, &["init", "--claude"])["message"]).contains("is no file"));
}

#[test]
fn a_link_to_settings_stays_a_link_and_a_project_below_is_found() {
    let door = Door::lite();
    door.write("quorate.toml", "");
    fs::create_dir_all(door.path().join("dotfiles")).expect("made");
    fs::create_dir_all(door.path().join("a/b")).expect("made");
    fs::create_dir(door.path().join(".claude")).expect("made");
    door.write("dotfiles/settings.json", "{}");
    std::os::unix::fs::symlink("../dotfiles/settings.json", door.path().join(".claude/settings.json"))
        .expect("linked");
    let report = door.json(&["-C", "a/b", "init", "--claude"]);
    assert!(read(&door, "dotfiles/settings.json").contains("quorate hook"));
    assert!(fs::symlink_metadata(door.path().join(".claude/settings.json")).expect("there").is_symlink());
    assert_eq!(report["guard"]["state"], "none", "it is no repository: {report}");
    assert!(!door.path().join("a/b/.claude").exists());
    door.ok(&["init", "--claude", "--remove"]);
    assert_eq!(read(&door, "dotfiles/settings.json"), "{}");
}

#[test]
fn a_commit_of_what_another_claimed_is_refused() {
    let door = Door::lite();
    git(&door, &["init", "-q"]);
    door.ok(&["init", "--claude"]);
    fs::create_dir_all(door.path().join("app")).expect("made");
    for file in ["a.rs", "app/[id].tsx", "b.rs", "ünicode name.rs"] {
        door.write(file, "1");
    }
    git(&door, &["add", "-A"]);
    git(&door, &["commit", "-q", "-m", "without a ledger"]);
    door.ok(&["claim", "a.rs", "app", "--agent", "beta"]);
    door.ok(&["claim", "ünicode*", "--agent", "cy"]);
    for file in ["a.rs", "app/[id].tsx", "b.rs", "ünicode name.rs"] {
        door.write(file, "2");
    }
    git(&door, &["add", "-A"]);
    let why = refused(&door, &[]);
    assert!(why.contains("3 of the commit's files are claimed by others"), "{why}");
    assert!(why.contains("a.rs, held by beta until 20") && why.contains("(as ünicode*) by cy"), "{why}");
    assert!(why.contains("QUORATE_AGENT=beta"), "{why}");
    assert!(refused(&door, &[("QUORATE_AGENT", "beta")]).contains("1 of the commit's files"));
    assert_eq!(door.events("claim.refused", 4)[3]["agent"], "beta");
    door.ok(&["release", "ünicode*", "--agent", "cy"]);
    let output = git_with(&door, &["commit", "-q", "-m", "own"], &[("QUORATE_AGENT", "beta")]);
    assert!(output.status.success(), "{output:?}");
    git(&door, &["mv", "a.rs", "moved.rs"]);
    assert!(refused(&door, &[]).contains("a.rs, held by beta"), "moving it away changes it");
    git(&door, &["commit", "-q", "--no-verify", "-m", "by force"]);
    door.write("quorate.toml", "[store]\nurl = 'sqlite:broken.db'\n");
    door.write("broken.db", "no database".repeat(400));
    door.write("b.rs", "3");
    let output = git_with(&door, &["commit", "-q", "-a", "-m", "unchecked"], &[]);
    assert!(output.status.success() && texts(&output).1.contains("the commit is not checked"), "{output:?}");
}

#[test]
fn the_hook_that_was_there_is_called_first_and_put_back() {
    let door = Door::lite();
    git(&door, &["init", "-q"]);
    let hook = door.path().join(".git/hooks/pre-commit");
    let mine = "#!/bin/sh\necho \"mine in $(pwd)\"\ntest ! -e forbidden\n";
    fs::create_dir_all(hook.parent().expect("a folder")).expect("made");
    fs::write(&hook, mine).expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    let report = door.json(&["init", "--claude"]);
    assert!(report["notes"].to_string().contains("is kept, and called first"), "{report}");
    door.write("a", "1");
    door.write("forbidden", "");
    git(&door, &["add", "a"]);
    assert!(refused(&door, &[]).contains("mine in "));
    fs::remove_file(door.path().join("forbidden")).expect("removed");
    door.ok(&["claim", "a", "--agent", "beta"]);
    let why = refused(&door, &[]);
    assert!(why.contains("mine in ") && why.contains("held by beta"), "{why}");
    door.ok(&["init", "--claude", "--remove"]);
    assert_eq!(fs::read_to_string(&hook).expect("there"), mine);
    assert!(!door.path().join(".git/hooks/pre-commit.before-quorate").exists());
    git(&door, &["commit", "-q", "-m", "unguarded"]);
    door.ok(&["init", "--claude"]);
    fs::remove_file(&hook).expect("removed");
    fs::write(&hook, mine).expect("written");
    let error = door.fails(3, &["init", "--claude"]);
    assert!(word(&error["message"]).contains("pre-commit.before-quorate is there already"), "{error}");
    assert_eq!(fs::read_to_string(&hook).expect("there"), mine);
}

#[test]
fn the_guard_goes_where_git_looks_and_never_outside_of_the_repository() {
    let door = Door::lite();
    git(&door, &["init", "-q", "--bare", "shared.git"]);
    git(&door, &["init", "-q", "repo"]);
    let repo = door.path().join("repo");
    git(&door, &["-C", "repo", "config", "core.hooksPath", ".husky"]);
    let report = door.json(&["-C", "repo", "init", "--claude"]);
    assert!(repo.join(".husky/pre-commit").exists(), "{report}");
    door.ok(&["-C", "repo", "init", "--claude", "--remove"]);
    assert!(!repo.join(".husky/pre-commit").exists());
    fs::create_dir(repo.join("part")).expect("made");
    door.write("repo/part/quorate.toml", "");
    door.ok(&["-C", "repo/part", "init", "--claude"]);
    assert!(repo.join(".husky/pre-commit").exists() && !repo.join("part/.husky").exists());
    door.ok(&["-C", "repo/part", "init", "--claude", "--remove"]);
    let outside = door.path().join("everyone").display().to_string();
    git(&door, &["-C", "repo", "config", "core.hooksPath", &outside]);
    let report = door.json(&["-C", "repo", "init", "--claude"]);
    assert_eq!(report["guard"]["state"], "none");
    assert!(report["notes"].to_string().contains("core.hooksPath"), "{report}");
    assert!(!door.path().join("everyone").exists());
    git(&door, &["-C", "repo", "config", "--unset", "core.hooksPath"]);
    door.write("repo/a", "1");
    git(&door, &["-C", "repo", "add", "a"]);
    git(&door, &["-C", "repo", "commit", "-q", "-m", "m"]);
    git(&door, &["-C", "repo", "worktree", "add", "-q", "../tree"]);
    let report = door.json(&["-C", "tree", "init", "--claude"]);
    assert_eq!(report["guard"]["state"], "written", "{report}");
    assert!(repo.join(".git/hooks/pre-commit").exists(), "hooks are those of the repository");
}

/// Git gives its hooks files relative to the top of the tree (`GIT_INDEX_FILE`), and another index for each way to commit.
#[test]
fn a_project_below_the_top_is_guarded_however_one_commits() {
    let door = Door::lite();
    projects(&door, &["svc"]);
    git(&door, &["-C", "repo", "worktree", "add", "-q", "../tree"]);
    let report = door.json(&["-C", "repo/svc", "init", "--claude"]);
    assert_eq!(report["guard"]["state"], "written", "{report}");
    door.ok(&["-C", "repo/svc", "claim", "src", "--agent", "beta"]);
    let ledger = format!("sqlite:{}", door.path().join("repo/svc/.quorate/quorate.db").display());
    let at_ledger = [("QUORATE_STORE", ledger.as_str())];
    door.write("repo/svc/src/a.rs", "2");
    door.write("tree/svc/src/a.rs", "2");
    let all = ["commit", "-q", "-a", "-m", "m"];
    let only = ["commit", "-q", "-m", "m", "--", "src/a.rs"];
    for words in [["-C", "repo"], ["-C", "repo/svc"], ["-C", "tree"], ["-C", "tree/svc"]] {
        let why = refused_with(&door, &[&words[..], &all].concat(), &at_ledger);
        assert!(why.contains("src/a.rs, held") && why.contains("by beta"), "{why}");
    }
    assert!(refused_with(&door, &[&["-C", "repo/svc"][..], &only].concat(), &[]).contains("by beta"));
    git(&door, &["-C", "repo", "add", "svc"]);
    for folder in ["repo", "repo/svc"] {
        assert!(
            refused_with(&door, &["-C", folder, "commit", "-m", "m"], &[]).contains("by beta"),
            "{folder}"
        );
    }
    let error = door.fails(3, &["-C", "repo", "hook", "pre-commit", "svc"]);
    assert_eq!(error["kind"], "conflict", "{error}");
    door.ok(&["-C", "repo/svc", "release", "src", "--agent", "beta"]);
    git(&door, &["-C", "repo/svc", "commit", "-q", "-m", "free"]);
    let output = git_with(&door, &[&["-C", "tree"][..], &all].concat(), &at_ledger);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn each_project_of_a_repository_has_its_line_in_the_hook() {
    let door = Door::lite();
    let folders = ["svc", "it's here"];
    projects(&door, &folders);
    let mine = "#!/bin/sh\ntest ! -e forbidden\n";
    script(&door, "repo/.git/hooks/pre-commit", mine);
    let init = |folder: &str, more: &[&str]| {
        let at = format!("repo/{folder}");
        let report = door.json(&[&["-C", at.as_str(), "init", "--claude"][..], more].concat());
        word(&report["guard"]["state"]).to_owned()
    };
    for state in ["written", "unchanged"] {
        assert_eq!(folders.map(|folder| init(folder, &[])), [state; 2]);
    }
    let hook = read(&door, "repo/.git/hooks/pre-commit");
    assert!(hook.ends_with("guard 'svc'\nguard 'it'\\''s here'\n"), "{hook}");
    for folder in folders {
        door.ok(&["-C", &format!("repo/{folder}"), "claim", "src", "--agent", "beta"]);
        door.write(&format!("repo/{folder}/src/a.rs"), "2");
        let why = refused_with(&door, &["-C", "repo", "commit", "-a", "-m", "m"], &[]);
        assert!(why.contains("1 of the commit's files is claimed"), "{why}");
        door.ok(&["-C", &format!("repo/{folder}"), "release", "src", "--agent", "beta"]);
    }
    assert_eq!(init("svc", &["--remove"]), "written");
    assert!(!read(&door, "repo/.git/hooks/pre-commit").contains("svc"), "its line is gone");
    assert_eq!(init("svc", &["--remove"]), "unchanged");
    assert_eq!(init("it's here", &["--remove"]), "removed");
    assert_eq!(read(&door, "repo/.git/hooks/pre-commit"), mine);
    let names = fs::read_dir(door.path().join("repo/.git/hooks")).expect("readable").flatten();
    let names = names.map(|file| file.file_name().to_string_lossy().into_owned());
    let left: Vec<String> = names.filter(|name| !name.ends_with(".sample")).collect();
    assert_eq!(left, ["pre-commit"], "nothing else is left");
}

/// As it is written into a hook that names no folder.
const OLD_HOOK: &str = r#"#!/bin/sh
# quorate guards this repository: files that another agent has claimed are not committed.
# `quorate init --claude --remove` takes this file out and puts pre-commit.before-quorate back.
before="$(dirname "$0")/pre-commit.before-quorate"
if [ -x "$before" ]; then
    "$before" "$@" || exit $?
fi
if command -v quorate > /dev/null 2>&1; then
    exec quorate hook pre-commit
fi
"#;

#[test]
fn a_hook_that_names_no_folder_is_brought_up_to_date() {
    let door = Door::lite();
    projects(&door, &[".", "svc"]);
    script(&door, "repo/.git/hooks/pre-commit", OLD_HOOK);
    assert_eq!(door.json(&["-C", "repo/svc", "init", "--claude"])["guard"]["state"], "written");
    assert!(read(&door, "repo/.git/hooks/pre-commit").ends_with("guard '.'\nguard 'svc'\n"));
    for folder in ["repo", "repo/svc"] {
        door.ok(&["-C", folder, "claim", "src/a.rs", "--agent", "beta"]);
        door.write(&format!("{folder}/src/a.rs"), "2");
        assert!(
            refused_with(&door, &["-C", "repo", "commit", "-a", "-m", "m"], &[]).contains("by beta"),
            "{folder}"
        );
        door.ok(&["-C", folder, "release", "src/a.rs", "--agent", "beta"]);
    }
    assert_eq!(door.json(&["-C", "repo/svc", "init", "--claude", "--remove"])["guard"]["state"], "written");
    assert!(read(&door, "repo/.git/hooks/pre-commit").ends_with("guard '.'\n"), "the top stays guarded");
    assert_eq!(door.json(&["-C", "repo", "init", "--claude", "--remove"])["guard"]["state"], "removed");
    // At a top that is no project there is nothing to guard.
    fs::remove_file(door.path().join("repo/quorate.toml")).expect("removed");
    fs::remove_dir_all(door.path().join("repo/.quorate")).expect("removed");
    script(&door, "repo/.git/hooks/pre-commit", OLD_HOOK);
    assert_eq!(door.json(&["-C", "repo/svc", "init", "--claude", "--remove"])["guard"]["state"], "removed");
    assert!(!door.path().join("repo/.git/hooks/pre-commit").exists());
}

/// What husky (version 9) has git call: it finds a repository's own hook by the name under which it was called itself.
const HUSKY: &str = r#"#!/bin/sh
name=$(basename "$0")
own="$(dirname "$(dirname "$0")")/$name"
[ -f "$own" ] || exit 0
sh -e "$own" "$@"
"#;

#[test]
fn hooks_that_need_their_names_keep_them() {
    let door = Door::lite();
    projects(&door, &["."]);
    git(&door, &["-C", "repo", "config", "core.hooksPath", ".husky/_"]);
    script(&door, "repo/.husky/_/h", HUSKY);
    let called = "#!/bin/sh\n. \"$(dirname \"$0\")/h\"\n";
    script(&door, "repo/.husky/_/pre-commit", called);
    script(&door, "repo/.husky/pre-commit", "test ! -e forbidden\n");
    door.write("repo/forbidden", "");
    door.write("repo/src/a.rs", "2");
    let commit = ["-C", "repo", "commit", "-q", "-a", "-m", "m"];
    let check = |says: &str| {
        let report = door.json(&["-C", "repo", "init", "--claude"]);
        assert_eq!(report["guard"]["state"], "none", "{report}");
        assert!(report["notes"].to_string().contains(says), "{report}");
        refused_with(&door, &commit, &[])
    };
    check("add `quorate hook pre-commit` to .husky/pre-commit");
    assert_eq!(read(&door, "repo/.husky/_/pre-commit"), called);
    // Where an earlier guard stands in its way, it goes.
    fs::rename(
        door.path().join("repo/.husky/_/pre-commit"),
        door.path().join("repo/.husky/_/pre-commit.before-quorate"),
    )
    .expect("renamed");
    script(&door, "repo/.husky/_/pre-commit", OLD_HOOK);
    check("add `quorate hook pre-commit` to .husky/pre-commit");
    assert_eq!(read(&door, "repo/.husky/_/pre-commit"), called);
    // What is advised works.
    script(&door, "repo/.husky/pre-commit", "test ! -e forbidden\nquorate hook pre-commit\n");
    fs::remove_file(door.path().join("repo/forbidden")).expect("removed");
    door.ok(&["-C", "repo", "claim", "src", "--agent", "beta"]);
    assert!(refused_with(&door, &commit, &[]).contains("by beta"));
    door.ok(&["-C", "repo", "release", "src", "--agent", "beta"]);
    git(&door, &["-C", "repo", "config", "--unset", "core.hooksPath"]);
    script(
        &door,
        "repo/.git/hooks/pre-commit",
        "#!/bin/sh\n[ \"$(basename \"$0\")\" != pre-commit ] || test ! -e forbidden\n",
    );
    door.write("repo/forbidden", "");
    check("asks for its own name: add `quorate hook pre-commit` to it");
    fs::remove_file(door.path().join("repo/forbidden")).expect("removed");
    git(&door, &commit);
}

#[test]
fn what_stands_in_the_way_of_a_template_is_said_before_anything_is_changed() {
    let door = Door::lite();
    git(&door, &["init", "-q"]);
    let init = ["init", "--claude", "--template", "specialists"];
    let unchanged = |unmade: &[&str]| {
        for file in
            [".claude", ".mcp.json", ".git/hooks/pre-commit", ".quorate", ".gitignore"].iter().chain(unmade)
        {
            assert!(!door.path().join(file).exists(), "{file}");
        }
    };
    fs::create_dir(door.path().join("prompts")).expect("made");
    door.write("prompts/research.md", "mine");
    let error = door.fails(3, &init);
    assert!(word(&error["message"]).contains("prompts/research.md is there already"), "{error}");
    unchanged(&["quorate.toml"]);
    fs::remove_file(door.path().join("prompts/research.md")).expect("removed");
    door.write("quorate.toml", "# mine\n");
    let error = door.fails(3, &init);
    assert!(word(&error["message"]).contains("quorate.toml is there already"), "{error}");
    unchanged(&["prompts/research.md"]);
    door.ok(&["init", "--claude"]);
    assert_eq!(read(&door, "quorate.toml"), "# mine\n");
    fs::remove_file(door.path().join("quorate.toml")).expect("removed");
    door.ok(&init);
    assert!(door.path().join("prompts/research.md").exists());
}
