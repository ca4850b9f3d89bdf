//! A team in tmux: a real tmux on a socket of the test's own. The screen is read here only, and nowhere else.

use crate::door::{Door, lines, texts, word};
use crate::team::Team;
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn expected(windows: &[(&str, usize)]) -> Vec<(String, usize)> {
    windows.iter().map(|(name, panes)| ((*name).to_owned(), *panes)).collect()
}

#[test]
fn each_agent_has_a_pane_and_top_is_the_first() {
    for (agents, windows) in [
        ("3", [("top", 4), ("node", 1)].as_slice()),
        ("6", &[("top", 7), ("node", 1)]),
        ("7", &[("top", 7), ("more-2", 1), ("node", 1)]),
    ] {
        let team = Team::new();
        let said = team.ok(&["up", "--agents", agents, "--tmux", "team"]);
        assert!(said.contains("attach -t team"), "{said}");
        assert_eq!(team.windows(), expected(windows), "{agents} agents");
        let panes = team.asked(&["list-panes", "-t", "=team:top", "-F", "#{pane_index} #{pane_title}"]);
        let panes: Vec<&str> = panes.lines().collect();
        assert_eq!(panes[..4], ["0 top", "1 shell-1", "2 shell-2", "3 shell-3"]);
        team.sees(&team.pane_of("top"), &["quorate", "Agents", "shell-1"]);
        assert_eq!(word(&team.door.json(&["status"])["agents"][0]["state"]), "ready", "the node has begun");
        let said = team.ok(&["down", "team"]);
        assert!(said.contains("tmux session team ended"), "{said}");
        assert!(!team.is_there());
        team.door.fails(7, &["down"]);
    }
}

#[test]
fn a_pane_follows_its_agent_from_one_attempt_to_the_next() {
    let team = Team::new();
    team.ok(&["up", "--agents", "1", "--tmux", "team"]);
    let pane = team.pane_of("shell-1");
    team.door.ok(&["task", "add", "one", "--run", "echo first work"]);
    team.sees(&pane, &["task 1", "first work"]);
    team.door.ok(&["task", "add", "two", "--run", "echo second work"]);
    team.sees(&pane, &["first work", "task 2", "second work"]);
    assert!(team.asked(&["display-message", "-p", "-t", &pane, "#{pane_dead}"]).starts_with('0'));
    let said = team.ok(&["down", "team", "--archive-logs"]);
    assert!(said.contains("archive"), "{said}");
    assert!(team.door.ok(&["logs", "1"]).contains("first work"), "archived, and found");
}

#[test]
fn a_session_that_is_there_is_left_alone() {
    let team = Team::new();
    team.asked(&["new-session", "-d", "-s", "team", "sleep", "1000"]);
    let said = team.fails(3, &["up", "--tmux", "team"]);
    assert!(said.contains("already") && said.contains("attach -t team"), "{said}");
    assert_eq!(team.windows().len(), 1);
    let said = team.fails(5, &["down", "another"]);
    assert!(said.contains("no tmux session `another`"), "{said}");
    let mut node = team.door.start(&["up", "--agents", "1"]);
    team.door.events("agent.started", 1);
    let said = team.fails(3, &["down", "team"]);
    assert!(
        said.contains("was not made by `quorate up --tmux`") && said.contains("kill-session -t team"),
        "{said}"
    );
    assert!(team.is_there() && node.child().try_wait().expect("it is asked").is_none(), "nothing was ended");
    node.interrupt();
}

#[test]
fn a_session_of_another_ledger_is_left_alone() {
    let team = Team::new();
    let mut other = Team::new();
    other.env = vec![("QUORATE_TMUX_SOCKET", team.door.path().join("tmux").into())];
    team.ok(&["up", "--agents", "1", "--tmux", "team"]);
    let said = other.fails(3, &["up", "--tmux", "team"]);
    assert!(said.contains("choose another name"), "{said}");
    let said = other.fails(3, &["down", "team"]);
    let here = team.door.path().canonicalize().expect("a folder");
    assert!(said.contains(&format!("cd {} && quorate down team", here.display())), "{said}");
    assert!(team.is_there());
    assert_eq!(word(&team.door.json(&["status"])["agents"][0]["state"]), "ready", "its node goes on");
    team.ok(&["down", "team"]);
    assert!(!team.is_there());
}

#[test]
fn a_session_that_comes_at_the_same_moment_is_left_alone() {
    let mut team = Team::new();
    team.asked(&["new-session", "-d", "-s", "before", "sleep", "1000"]);
    let bin = team.door.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let path = std::env::var("PATH").expect("a PATH");
    // The real tmux; only that somebody else is a little earlier.
    let script = format!(
        "#!/bin/sh\nPATH='{path}'\ncase \" $* \" in *' new-session '*) tmux -S '{}' new-session -d -s team sleep 1000;; esac\nexec tmux \"$@\"\n",
        team.door.path().join("tmux").display()
    );
    std::fs::write(bin.join("tmux"), script).expect("a file");
    std::fs::set_permissions(bin.join("tmux"), std::fs::Permissions::from_mode(0o755)).expect("may be run");
    team.env = vec![("PATH", format!("{}:{path}", bin.display()).into()), ("SECRET_OF_MINE", "x".into())];
    let said = team.fails(3, &["up", "--agents", "1", "--tmux", "team"]);
    assert!(said.contains("there is a tmux session `team` already"), "{said}");
    assert_eq!(team.windows().len(), 1, "it is as it was");
    let left = team.asked(&["show-options", "-g", "update-environment"]);
    assert!(!left.contains("SECRET_OF_MINE"), "what was set for a moment is as before: {left}");
}

#[test]
fn a_session_whose_node_cannot_begin_is_taken_away_again() {
    let team = Team::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it has an address").port();
    team.door.write("quorate.toml", format!("[server]\nlisten = \"127.0.0.1:{port}\"\n"));
    let said = team.fails(1, &["up", "--tmux", "team"]);
    assert!(said.contains("the node has ended at once") && said.contains("quorate up"), "{said}");
    assert!(!team.is_there());
}

#[test]
fn without_tmux_its_installation_is_named() {
    let team = Team::new();
    let folder = team.door.path().join("bin");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("apt-get"), "").expect("a file");
    let mut command = team.command(&["up", "--tmux", "team"]);
    let (_, err) = texts(&command.env("PATH", &folder).output().expect("the binary runs"));
    assert!(err.contains("no program `tmux`") && err.contains("sudo apt-get install tmux"), "{err}");
    assert_eq!(command.output().expect("again").status.code(), Some(2));
}

#[test]
fn an_orchestrator_has_a_window_of_its_own_and_what_it_needs() {
    let team = Team::new();
    let script = "echo \"I am $QUORATE_AGENT in $QUORATE_TMUX_SESSION, pane $QUORATE_TMUX_PANE;\"; quorate --version; pwd; exec sleep 1000;";
    let said = team.ok(&["up", "--agents", "1", "--tmux", "team", "--orchestrator", script]);
    assert!(said.contains("lead"), "{said}");
    let pane = team.pane_of("orchestrator");
    let here = team.door.path().canonicalize().expect("a folder");
    team.sees(&pane, &["I am orchestrator in team, pane 1;", "quorate 0.", here.to_str().expect("UTF-8")]);
    let said = team.fails(2, &["up", "--tmux", "second", "--orchestrator", "gemini"]);
    assert!(said.contains("no program `gemini`") && said.contains("npm install"), "{said}");
    team.fails(2, &["up", "--orchestrator", "sh"]);
    team.fails(2, &["up", "--attach"]);
    team.fails(2, &["up", "--tmux", "a:b"]);
    team.fails(2, &["up", "--tmux", "second", "--attach"]);
}

#[test]
fn a_folder_may_have_any_name_and_its_variables_reach_the_node() {
    let team = Team::new();
    let folder = team.door.path().join("a #{b} 'c' %d;");
    std::fs::create_dir(&folder).expect("a folder");
    let store = format!("sqlite:{}", team.door.path().join("elsewhere.db").display());
    let mut command = team.command(&["up", "--agents", "1", "--tmux", "team"]);
    let output =
        command.current_dir(&folder).env("QUORATE_STORE", &store).env("SECRET_OF_MINE", "x y").output();
    let (out, err) = texts(&output.expect("the binary runs"));
    assert!(team.is_there(), "{out}{err}");
    assert!(team.door.path().join("elsewhere.db").exists(), "the node uses the ledger that was named");
    let listed = team.asked(&["list-panes", "-s", "-t", "=team", "-F", "#{pane_current_path}"]);
    let path = folder.canonicalize().expect("a folder");
    assert!(listed.lines().all(|line| line == path.to_str().expect("UTF-8")), "{listed}");
    assert_eq!(
        team.asked(&["show-environment", "-t", "=team", "SECRET_OF_MINE"]).trim(),
        "SECRET_OF_MINE=x y"
    );
    let left = team.asked(&["show-options", "-g", "update-environment"]);
    assert!(!left.contains("SECRET_OF_MINE"), "what was set for a moment is as before: {left}");
    let mut down = team.command(&["down", "team"]);
    let ended = down.current_dir(&folder).env("QUORATE_STORE", &store).output().expect("the binary runs");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn top_needs_a_terminal() {
    let door = Door::lite();
    let error = door.fails(2, &["top"]);
    assert!(word(&error["hint"]).contains("quorate status --json"), "{error}");
    let (_, err) = texts(&door.run(&["top"]));
    assert!(err.contains("needs a terminal") && err.contains("quorate status"), "{err}");
}

/// Starts a shell in a pane of 80 columns, and `quorate top` in it.
fn top(team: &Team) {
    team.asked(&["new-session", "-d", "-s", "team", "-x", "80", "-y", "24", "sh"]);
    team.asked(&["set-option", "-g", "status", "off"]);
    type_top(team);
}

fn type_top(team: &Team) {
    let program = env!("CARGO_BIN_EXE_quorate");
    let folder = team.door.path().display().to_string();
    let line =
        format!("PS1='$ '; clear; NO_COLOR=1 LANG=C.UTF-8 '{program}' -C '{folder}' top; echo \"code $?\"");
    team.keys("=team:", &[&line, "Enter"]);
}

#[test]
fn one_looks_and_steps_in_with_keys() {
    let team = Team::new();
    let door = &team.door;
    door.ok(&["task", "add", "first thing"]);
    door.ok(&["task", "add", "second thing"]);
    door.ok(&["task", "next", "--agent", "ada"]);
    top(&team);
    team.sees("=team:", &["2 tasks", "1 running", "ada", "working", "1 first thing", "task.taken"]);
    door.ok(&["task", "progress", "1", "--term", "1", "--percent", "40", "--message", "well on the way"]);
    team.sees("=team:", &["40%", "well on the way"]);
    team.keys("=team:", &["p"]);
    team.sees("=team:", &["ada is paused"]);
    assert_eq!(door.json(&["agent", "show", "ada"])["paused"], true);
    team.keys("=team:", &["Enter"]);
    team.sees("=team:", &["Task 1 running", "attempt 1 of 3"]);
    team.keys("=team:", &["c"]);
    team.sees("=team:", &["cancel task 1?"]);
    team.keys("=team:", &["y"]);
    team.sees("=team:", &["Task 1 cancelled"]);
    team.keys("=team:", &["r"]);
    team.sees("=team:", &["Task 1 ready"]);
    team.keys("=team:", &["Escape"]);
    // Together they would be another key: Alt and a slash.
    team.sees("=team:", &["Agents 1"]);
    team.keys("=team:", &["/"]);
    team.sees("=team:", &["Enter keeps it"]);
    team.keys("=team:", &["n", "o", "n", "e", "Enter"]);
    team.sees("=team:", &["nothing has this word in it"]);
    team.keys("=team:", &["q"]);
    team.sees("=team:", &["code 0"]);
    assert!(!team.seen("=team:").contains("quorate  "), "the screen is as it was");
}

#[test]
fn output_is_shown_as_it_comes() {
    let team = Team::new();
    let door = &team.door;
    door.ok(&[
        "task",
        "add",
        "talk",
        "--run",
        "echo early; until test -e go; do sleep 0.05; done; echo late",
    ]);
    let mut node = door.start(&["up", "--agents", "1"]);
    top(&team);
    team.sees("=team:", &["1 running", "shell-1"]);
    team.keys("=team:", &["Enter"]);
    team.sees("=team:", &["Output of attempt 1", "following", "early"]);
    door.write("go", "");
    team.sees("=team:", &["early", "late", "Task 1 completed"]);
    node.interrupt();
    team.keys("=team:", &["C-c"]);
    team.sees("=team:", &["code 130"]);
}

#[test]
fn top_waits_for_a_ledger_and_for_one_that_is_away() {
    let team = Team::new();
    top(&team);
    team.sees("=team:", &["no ledger yet", "waiting for one"]);
    team.door.ok(&["task", "add", "a thing"]);
    team.sees("=team:", &["1 task ", "1 ready"]);
}

#[test]
fn the_terminal_is_given_back_whatever_ends_the_screen() {
    let team = Team::new();
    team.door.ok(&["task", "add", "a thing"]);
    let pid = |team: &Team| {
        team.door.eventually("its process", |_| {
            let shell = team.asked(&["display-message", "-p", "-t", "=team:", "#{pane_pid}"]);
            let listed = Command::new("pgrep").args(["-P", shell.trim()]).output().expect("pgrep runs");
            texts(&listed).0.lines().next().map(str::to_owned)
        })
    };
    let send = |team: &Team, signal: &str| {
        let status = Command::new("kill").args([signal, &pid(team)]).status().expect("kill runs");
        assert!(status.success());
    };
    let is_whole = |team: &Team| {
        // Keys are for the shell only once the terminal is its own again.
        let asked = &[
            "display-message",
            "-p",
            "-t",
            "=team:",
            "#{alternate_on} #{cursor_flag} #{pane_current_command}",
        ];
        team.door.eventually("the shell's screen, with its cursor", |_| {
            (team.asked(asked).trim() == "0 1 sh").then_some(())
        });
        let stty = "echo modes $(stty -a | tr ' ;' '\\n' | grep -x -e icanon -e echo | sort)";
        team.keys("=team:", &["clear", "Enter", stty, "Enter"]);
        team.sees("=team:", &["modes echo icanon"]);
    };
    top(&team);
    team.sees("=team:", &["1 task "]);
    send(&team, "-TERM");
    team.sees("=team:", &["code 130"]);
    is_whole(&team);

    type_top(&team);
    team.sees("=team:", &["1 task "]);
    team.keys("=team:", &["C-z"]);
    is_whole(&team);
    team.keys("=team:", &["fg", "Enter"]);
    team.sees("=team:", &["quorate", "1 task ", "quit"]);
    send(&team, "-TSTP");
    is_whole(&team);
    team.keys("=team:", &["fg", "Enter"]);
    team.sees("=team:", &["quorate", "1 task ", "quit"]);
    team.asked(&["resize-window", "-t", "=team:", "-x", "40", "-y", "10"]);
    team.sees("=team:", &["1 task ", "q quit"]);
    assert!(team.seen("=team:").lines().count() <= 10);
    team.keys("=team:", &["q"]);
    is_whole(&team);
}

#[test]
fn an_agent_is_followed_from_one_attempt_to_the_next() {
    let door = Door::lite();
    assert!(word(&door.fails(5, &["logs", "nobody"])["message"]).contains("nobody"));
    let (_, err) = texts(&door.run(&["logs", "nobody", "--follow"]));
    assert!(err.contains("nobody"), "{err}");
    let file = |name: &str| std::fs::File::create(door.path().join(name)).expect("a file");
    let mut command = door.command(["logs", "shell-1", "--follow"]);
    let mut follower = command.stdout(file("seen")).stderr(file("told")).spawn().expect("the binary starts");
    door.eventually("it waits", |door| {
        let told = std::fs::read_to_string(door.path().join("told")).expect("it is read");
        told.contains("waiting for one").then_some(())
    });
    // It is late: all is over before it looks again.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(follower.id()).expect("a process id"));
    let signal = |signal| nix::sys::signal::kill(pid, signal).expect("it lives");
    signal(Signal::SIGSTOP);
    for n in 1..=5 {
        door.ok(&["task", "add", "talk", "--run", &format!("echo work {n}")]);
    }
    let mut node = door.start(&["up", "--agents", "1"]);
    door.events("task.completed", 5);
    signal(Signal::SIGCONT);
    door.eventually("all output, in order", |door| {
        let seen = std::fs::read_to_string(door.path().join("seen")).expect("it is read");
        (seen == "work 1\nwork 2\nwork 3\nwork 4\nwork 5\n").then_some(())
    });
    signal(Signal::SIGINT);
    assert_eq!(follower.wait().expect("it ends").code(), Some(130));
    node.interrupt();
    assert_eq!(lines(&door.ok(&["events", "--kind", "task.taken", "--json"])).len(), 5);
}
