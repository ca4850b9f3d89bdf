//! Runs and nodes as a person has them: in the foreground, interrupted, killed, resumed, detached.

use crate::door::{Door, Running, on_both, texts, word};
use nix::sys::signal::Signal;
use std::time::Duration;

const FAST: &str =
    "[health]\ninterval = \"1s\"\nlease = \"2s\"\nretry_after = \"100ms\"\ngrace = \"500ms\"\n";

/// Whether a process runs: one that has ended may still wait to be reaped.
fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn lines_of(door: &Door, file: &str) -> usize {
    std::fs::read_to_string(door.path().join(file)).unwrap_or_default().lines().count()
}

fn a_plan_is_done_and_its_report_is_kept(door: Door) {
    door.write(
        "plan.toml",
        "goal = \"A good end\"\n[[task]]\nkey = \"a\"\nrun = \"echo '{\\\"quorate\\\":\\\"result\\\",\\\"value\\\":7}'\"\n\
         [[task]]\nkey = \"b\"\nneeds = [\"a\"]\nrun = \"grep -q '\\\"a\\\":7'\"\n",
    );
    let report = door.ok(&["run", "plan.toml"]);
    assert!(report.contains("# A good end") && report.contains("2 completed, 0 failed"), "{report}");
    let kept = std::fs::read_to_string(door.path().join(".quorate/runs/1/report.md")).expect("kept");
    assert!(report.contains(kept.trim()), "what is printed is what is kept");
    let json = std::fs::read_to_string(door.path().join(".quorate/runs/1/report.json")).expect("kept");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((word(&json["state"]), word(&json["tasks"][1]["state"])), ("completed", "completed"));
    let needs = serde_json::json!([{ "task_id": 2, "needs_id": 1 }]);
    assert_eq!((&json["needs"], &door.json(&["runs", "show", "1"])["needs"]), (&needs, &needs));
}

fn a_failed_task_fails_the_run_and_what_needs_it_is_cancelled(door: Door) {
    door.write(
        "plan.toml",
        "goal = \"A bad end\"\n[[task]]\nkey = \"a\"\nattempts = 1\nrun = \"echo the reason; exit 3\"\n\
         [[task]]\nkey = \"b\"\nneeds = [\"a\"]\nrun = \"true\"\n",
    );
    let output = door.run(&["run", "plan.toml"]);
    let (report, _) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("exited with code 3") && report.contains("the reason"), "{report}");
    let tasks = door.json(&["task", "list"]);
    assert_eq!((word(&tasks[0]["state"]), word(&tasks[1]["state"])), ("failed", "cancelled"));
    assert!(word(&tasks[1]["reason"]).contains("(a), which failed"), "{tasks}");
}

fn what_a_child_prints_steers_no_terminal(door: Door) {
    door.write("child.sh", "printf 'bad \\033[2J\\033]0;x\\007 end\\n'; exit 4\n");
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nattempts = 1\nrun = \"sh child.sh\"\n");
    let output = door.run(&["run", "plan.toml"]);
    let (report, said) = texts(&output);
    assert!(report.contains("bad ") && report.contains(" end"), "{report}");
    let steers = |text: &str| text.contains('\u{1b}') || text.contains('\u{7}');
    assert!(!steers(&report) && !steers(&said), "{report:?}{said:?}");
    let kept = std::fs::read_to_string(door.path().join(".quorate/runs/1/report.md")).expect("kept");
    assert!(!steers(&kept), "{kept:?}");
}

fn results_and_reasons_steer_no_terminal(door: Door) {
    door.write("child.sh", "echo '{\"quorate\":\"result\",\"value\":\"bad \u{202e} end\"}'\n");
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"sh child.sh\"\n\
         [[task]]\nkey = \"b\"\nneeds = [\"a\"]\nrun = \"sleep 60\"\n",
    );
    let run = door.start(&["run", "plan.toml"]);
    door.eventually("the second runs", |door| {
        (door.json(&["task", "list"])[1]["state"] == "running").then_some(())
    });
    door.ok(&["runs", "cancel", "1", "--reason", "no \u{1b}[2J \u{202e} more"]);
    let (report, said) = texts(&run.end());
    assert!(
        report.contains("bad \u{fffd} end") && report.contains("no \u{fffd}[2J \u{fffd} more"),
        "{report}"
    );
    let steers = |text: &str| text.contains(['\u{1b}', '\u{202e}']);
    assert!(!steers(&report) && !steers(&said), "{report:?}{said:?}");
}

fn a_plan_that_nobody_could_do_is_refused(door: Door) {
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\ncapability = \"gpu\"\nrun = \"true\"\n");
    door.ok(&["run", "plan.toml"]);
    door.write("words.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"think\"\n");
    door.fails(2, &["run", "words.toml"]);
    door.write("mine.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nagent = \"shell-1\"\nprompt = \"think\"\n");
    let error = door.fails(2, &["run", "mine.toml"]);
    let why = "no agent could take task `a`: it is in words, and agent `shell-1`, which it is for, takes only commands";
    assert_eq!(word(&error["message"]), why);
    door.fails(2, &["run", "a goal in words"]);
    door.fails(5, &["run", "missing.toml"]);
}

/// A run whose process is killed goes on where it was; what was done is not done again, what ran is ended: also what
/// emptied its environment, so that only the session it shares with the noted child tells whose it is.
fn a_killed_run_is_resumed(door: Door) {
    door.write("quorate.toml", FAST);
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"first\"\nrun = \"echo x >> first\"\n\
         [[task]]\nkey = \"slow\"\nneeds = [\"first\"]\n\
         run = \"echo $$ >> slow; if [ $QUORATE_ATTEMPT = 1 ]; then sleep 600 & echo $! > child; \
                 env -i sleep 600 & echo $! > bare; wait; fi\"\n",
    );
    let mut run = door.start(&["run", "plan.toml"]);
    door.eventually("the slow task runs", |door| (lines_of(door, "bare") == 1).then_some(()));
    run.child().kill().expect("killed with SIGKILL");
    run.child().wait().expect("it has ended");
    let shown = door.json(&["runs", "show", "1"]);
    assert_eq!(word(&shown["state"]), "running");
    let report = door.ok(&["runs", "resume", "1"]);
    assert!(report.contains("2 completed"), "{report}");
    assert_eq!((lines_of(&door, "first"), lines_of(&door, "slow")), (1, 2));
    for file in ["slow", "child", "bare"] {
        let pids = std::fs::read_to_string(door.path().join(file)).expect("written");
        assert!(!is_running(pids.lines().next().expect("a process")), "nothing of the first attempt is left");
    }
    assert_eq!(door.events("task.lease_expired", 1).len(), 1);
}

/// A run whose command is killed is done by the next node, which writes its report, too.
fn a_killed_run_is_done_and_told_by_a_node(door: Door) {
    door.write("quorate.toml", FAST);
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"echo $$ > child; test $QUORATE_ATTEMPT = 2 || sleep 600\"\n",
    );
    let mut run = door.start(&["run", "plan.toml"]);
    a_process_of(&door, "child");
    run.child().kill().expect("killed with SIGKILL");
    run.child().wait().expect("it has ended");
    let _node = door.start(&["up"]);
    // Noted once it is written to the end.
    let shown = door.eventually("the report is written", |door| {
        Some(door.json(&["runs", "show", "1"])).filter(|shown| shown["report"].is_string())
    });
    assert_eq!(word(&shown["state"]), "completed", "{shown}");
    let report = std::fs::read_to_string(door.path().join(".quorate/runs/1/report.md")).expect("written");
    assert!(report.contains("1 completed"), "{report}");
}

/// Writes a plan whose task leaves a process behind, and waits for its number.
fn a_process_of(door: &Door, file: &str) -> String {
    door.eventually("it runs", |door| {
        let text = std::fs::read_to_string(door.path().join(file)).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    })
}

fn what_a_check_of_a_killed_node_left_is_ended_although_another_node_has_settled_it(door: Door) {
    door.write("quorate.toml", FAST);
    let check = "if mkdir first; then sleep 600 & echo $! > left; sleep 600; fi";
    door.write(
        "plan.toml",
        format!("goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"true\"\nverify = \"{check}\"\n"),
    );
    door.ok(&["run", "plan.toml", "--detach"]);
    let mut killed = door.start(&["up"]);
    let left = a_process_of(&door, "left");
    let _other = door.start(&["up"]);
    door.eventually("another node works", |door| (door.events("node.started", 2).len() == 2).then_some(()));
    killed.child().kill().expect("killed with SIGKILL");
    killed.child().wait().expect("it has ended");
    door.eventually("the other has settled the check", |door| {
        (word(&door.json(&["task", "show", "1"])["state"]) == "completed").then_some(())
    });
    let _next = door.start(&["up"]);
    door.eventually("nothing is left of the check", |_| (!is_running(&left)).then_some(()));
}

/// Stops a node while it does not write: an embedded ledger is nobody else's while a write is under way.
fn stop_between_writes(door: &Door, node: &mut Running) {
    let file = door.path().join(".quorate/quorate.db");
    door.eventually("it is stopped between two writes", |_| {
        node.signal(Signal::SIGSTOP);
        let is_free = !file.exists() || {
            let ledger = rusqlite::Connection::open(&file).expect("opens");
            ledger.busy_timeout(Duration::from_millis(100)).expect("is set");
            ledger.execute_batch("begin immediate; rollback").is_ok()
        };
        if !is_free {
            node.signal(Signal::SIGCONT);
        }
        is_free.then_some(())
    });
}

fn a_node_that_is_only_stopped_keeps_its_children_until_it_wakes(door: Door) {
    door.write("quorate.toml", FAST);
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"if mkdir first; then echo $$ > child; exec sleep 600; fi\"\n",
    );
    door.ok(&["run", "plan.toml", "--detach"]);
    let mut stopped = door.start(&["up"]);
    let child = a_process_of(&door, "child");
    stop_between_writes(&door, &mut stopped);
    let _other = door.start(&["up"]);
    door.eventually("the task is done by the other node", |door| {
        (word(&door.json(&["task", "show", "1"])["state"]) == "completed").then_some(())
    });
    // A third start looks for orphans too, now that the lease has lapsed.
    let _third = door.start(&["up"]);
    door.eventually("the third works", |door| (door.events("node.started", 3).len() == 3).then_some(()));
    assert!(is_running(&child), "its supervisor is there and will end it");
    stopped.signal(Signal::SIGCONT);
    door.eventually("the stopped node ends its child", |_| (!is_running(&child)).then_some(()));
    let shown = door.json(&["task", "show", "1"]);
    assert_eq!((word(&shown["state"]), shown["attempts"].as_array().map(Vec::len)), ("completed", Some(2)));
}

fn resume_tries_the_only_attempt_of_a_killed_run_anew(door: Door) {
    door.write("quorate.toml", FAST);
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"slow\"\nattempts = 1\n\
         run = \"echo x >> slow; if [ $QUORATE_ATTEMPT = 1 ]; then sleep 600; fi\"\n\
         [[task]]\nkey = \"after\"\nneeds = [\"slow\"]\nrun = \"true\"\n",
    );
    let mut run = door.start(&["run", "plan.toml"]);
    door.eventually("the slow task runs", |door| (lines_of(door, "slow") == 1).then_some(()));
    run.child().kill().expect("killed with SIGKILL");
    run.child().wait().expect("it has ended");
    let report = door.ok(&["runs", "resume", "1"]);
    assert!(report.contains("2 completed"), "{report}");
    assert_eq!(lines_of(&door, "slow"), 2);
}

fn the_output_of_an_agent_is_found_although_another_took_its_task_over(door: Door) {
    door.write("quorate.toml", FAST);
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"echo by $QUORATE_AGENT; test $QUORATE_ATTEMPT = 2\"\n",
    );
    door.ok(&["run", "plan.toml", "--agents", "2"]);
    let shown = door.json(&["task", "show", "1"]);
    let agents: Vec<&str> = (0..2).map(|n| word(&shown["attempts"][n]["agent"])).collect();
    assert_ne!(agents[0], agents[1], "a retry prefers another agent");
    for agent in &agents {
        assert_eq!(door.ok(&["logs", agent]).trim(), format!("by {agent}"));
    }
    let told = door.fails(5, &["logs", agents[1], "--attempt", "1"]);
    let anothers = format!("attempt 1 of task 1 (a) was by {}, not by {}", agents[0], agents[1]);
    assert_eq!(
        (word(&told["message"]), word(&told["hint"]).contains("logs 1 --attempt 1")),
        (&*anothers, true)
    );
    assert!(word(&door.fails(5, &["logs", agents[1], "--attempt", "9"])["message"]).contains("no attempt 9"));
}

fn ctrl_c_finishes_what_runs_and_says_what_is_left(door: Door) {
    door.write(
        "plan.toml",
        "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"touch started; sleep 1; touch ended\"\n\
         [[task]]\nkey = \"b\"\nneeds = [\"a\"]\nrun = \"touch never\"\n",
    );
    let mut run = door.start(&["run", "plan.toml"]);
    door.eventually("the first task runs", |door| door.path().join("started").exists().then_some(()));
    run.interrupt();
    let output = run.end();
    let (report, _) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{report}");
    assert!(report.contains("1 of 2 tasks") && report.contains("quorate runs resume 1"), "{report}");
    assert!(door.path().join("ended").exists() && !door.path().join("never").exists());
}

fn ctrl_c_twice_stops_at_once_and_hands_the_task_back(door: Door) {
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"touch started; exec sleep 600\"\n");
    let mut run = door.start(&["run", "plan.toml"]);
    door.eventually("the task runs", |door| door.path().join("started").exists().then_some(()));
    run.interrupt();
    std::thread::sleep(std::time::Duration::from_millis(300));
    run.interrupt();
    assert_eq!(run.end().status.code(), Some(130));
    let task = door.json(&["task", "show", "1"]);
    let task = task.get("task").unwrap_or(&task);
    assert_eq!(word(&task["state"]), "ready", "{task}");
}

fn a_detached_run_is_done_by_a_node(door: Door) {
    door.write("quorate.toml", FAST);
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"true\"\n");
    let answer = door.json(&["run", "plan.toml", "--detach"]);
    assert_eq!(answer["id"], 1);
    let mut up = door.start(&["up"]);
    door.eventually("the report is kept", |door| {
        door.path().join(".quorate/runs/1/report.md").exists().then_some(())
    });
    door.ok(&["down", "--archive-logs"]);
    assert!(!door.path().join(".quorate/logs").exists());
    door.ok(&["logs", "1"]);
    let ended = up.child().wait().expect("the node has ended");
    assert!(ended.success());
    door.fails(7, &["down"]);
}

/// A run whose last word came when nobody was there who writes reports, as when the node is killed just then.
fn a_run_without_its_report(door: &Door) {
    door.write("quorate.toml", FAST);
    door.write("plan.toml", "goal = \"Told late\"\n[[task]]\nkey = \"a\"\nprompt = \"think\"\n");
    door.ok(&["run", "plan.toml", "--detach"]);
    let term = door.json(&["task", "next", "--agent", "me"])["term"].to_string();
    door.ok(&["task", "done", "1", "--term", &term, "--result", "\"It was seven.\""]);
    let run = door.json(&["runs", "show", "1"]);
    assert_eq!((word(&run["state"]), run["report"].is_null()), ("completed", true), "{run}");
}

fn a_report_that_nobody_wrote_is_written_by_the_next_node(door: Door) {
    a_run_without_its_report(&door);
    let mut node = door.start(&["up", "--agents", "1"]);
    let report = door.eventually("it is written", |door| {
        let run = door.json(&["runs", "show", "1"]);
        let folder = run["report"].as_str()?;
        std::fs::read_to_string(door.path().join(folder).join("report.md")).ok()
    });
    assert!(report.contains("# Told late") && report.contains("It was seven."), "{report}");
    node.interrupt();
    assert!(node.child().wait().expect("it has ended").success());
}

/// The report of a run that failed is no longer true once it goes on.
fn a_run_that_goes_on_is_told_anew_by_the_node_that_completes_it(door: Door) {
    door.write("quorate.toml", FAST);
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"test -e ready\"\nattempts = 1\n");
    door.ok(&["run", "plan.toml", "--detach"]);
    let _node = door.start(&["up"]);
    let told = |door: &Door, what: &str| {
        let report = std::fs::read_to_string(door.path().join(".quorate/runs/1/report.md")).ok()?;
        (door.json(&["runs", "show", "1"])["report"].is_string() && report.contains(what)).then_some(())
    };
    door.eventually("its failure is told", |door| told(door, "1 failed"));
    door.write("ready", "");
    door.ok(&["task", "retry", "1"]);
    door.eventually("its success is told", |door| told(door, "1 completed"));
}

fn a_completed_run_is_resumed_to_its_report_once(door: Door) {
    a_run_without_its_report(&door);
    let report = door.ok(&["runs", "resume", "1"]);
    assert!(report.contains("# Told late") && report.contains("It was seven."), "{report}");
    assert!(door.path().join(".quorate/runs/1/report.md").is_file());
    let told = door.fails(3, &["runs", "resume", "1"]);
    assert!(word(&told["message"]).contains("nothing to resume"), "{told}");
}

fn one_agent_runs_beside_a_node(door: Door) {
    door.write(
        "quorate.toml",
        format!(
            "{FAST}[agents.solo]\ndriver = \"command\"\ncapabilities = [\"alone\"]\ncommand = [\"true\"]\n\
                 [agents.team]\ndriver = \"command\"\ncapabilities = [\"together\"]\ncommand = [\"true\"]\n"
        ),
    );
    let mut solo = door.start(&["agent", "run", "solo"]);
    door.ok(&["task", "add", "mine", "--run", "true", "--capability", "alone"]);
    door.eventually("solo did it", |door| {
        let task = door.json(&["task", "list"]);
        (word(&task[0]["state"]) == "completed").then_some(())
    });
    solo.interrupt();
    assert!(solo.child().wait().expect("it has ended").success());
    door.fails(5, &["agent", "run", "sola"]);
}

/// Two nodes with the same agents: those of the second have names of their own, and the doors take them.
fn agents_of_a_second_node_work_under_names_of_their_own(door: Door) {
    door.write("quorate.toml", format!("{FAST}[agents.hand]\ncommand = [\"sh\", \"hand.sh\"]\n"));
    door.write(
        "hand.sh",
        "cat > /dev/null\nquorate claim file-$QUORATE_TASK_ID --agent $QUORATE_AGENT --task $QUORATE_TASK_ID --term $QUORATE_TERM || exit 1\n\
         while [ ! -e go ]; do sleep 0.05; done\n",
    );
    let names = |door: &Door, words: &[&str], key: &str| -> Vec<String> {
        let list = door.json(words);
        let names = list.as_array().into_iter().flatten().map(|one| word(&one[key]).to_owned());
        names.collect()
    };
    let mut nodes = vec![door.start(&["up"])];
    door.eventually("the first is there", |door| {
        names(door, &["agent", "list"], "name").contains(&"hand".to_owned()).then_some(())
    });
    nodes.push(door.start(&["up"]));
    let second = door.eventually("the second is there", |door| {
        names(door, &["agent", "list"], "name").into_iter().find(|name| name.starts_with("hand@"))
    });
    for title in ["one", "two"] {
        door.ok(&["task", "add", title, "--prompt", "think"]);
    }
    door.eventually("both have claimed", |door| {
        let mut holders = names(door, &["claims"], "agent");
        holders.sort();
        (holders == ["hand", &second]).then_some(())
    });
    assert_eq!(word(&door.json(&["agent", "show", &second])["name"]), second);
    door.ok(&["send", "--from", "me", "--to", &second, "well done"]);
    assert!(door.ok(&["inbox", &second]).contains("well done"));
    door.fails(2, &["agent", "add", "mine@7"]);
    door.write("go", "");
    door.eventually("both are done", |door| {
        let states = names(door, &["task", "list"], "state");
        (states == ["completed", "completed"]).then_some(())
    });
    for node in &mut nodes {
        node.interrupt();
        assert!(node.child().wait().expect("it has ended").success());
    }
}

/// Nobody would watch over a second task, and who is taken out while its node runs it would be back at once.
fn whom_a_node_runs_takes_no_second_task_and_stays_in_the_team(door: Door) {
    door.write("quorate.toml", "[agents.hand]\ncommand = [\"sh\", \"hand.sh\"]\n");
    door.write("hand.sh", "cat > /dev/null\nwhile [ ! -e go ]; do sleep 0.05; done\n");
    for title in ["one", "two"] {
        door.ok(&["task", "add", title, "--prompt", "think"]);
    }
    let mut node = door.start(&["up"]);
    let state = |door: &Door, id: &str| word(&door.json(&["task", "show", id])["state"]).to_owned();
    door.eventually("it has one", |door| (state(door, "1") == "running").then_some(()));
    assert_eq!(door.json(&["task", "next", "--agent", "hand"])["id"], 1, "that which it has");
    assert_eq!(state(&door, "2"), "ready");
    let stays = || {
        let refused = door.fails(3, &["agent", "remove", "hand"]);
        let said = (word(&refused["message"]), word(&refused["hint"]));
        assert!(
            said.0.contains("is run by node 1 on ") && said.1.contains("quorate agent pause hand"),
            "{said:?}"
        );
    };
    stays();
    door.write("go", "");
    door.eventually("both are done", |door| (state(door, "2") == "completed").then_some(()));
    let refused = door.fails(6, &["task", "next", "--agent", "hand"]);
    assert!(word(&refused["message"]).contains("a node gives hand its tasks"), "{refused}");
    stays();
    node.interrupt();
    assert!(node.child().wait().expect("it has ended").success());
    assert_eq!(door.json(&["agent", "remove", "hand"])["state"], "removed");
    assert_eq!(door.json(&["agent", "list"]), serde_json::json!([]));
}

on_both!(
    whom_a_node_runs_takes_no_second_task_and_stays_in_the_team,
    a_plan_is_done_and_its_report_is_kept,
    a_failed_task_fails_the_run_and_what_needs_it_is_cancelled,
    what_a_child_prints_steers_no_terminal,
    results_and_reasons_steer_no_terminal,
    a_plan_that_nobody_could_do_is_refused,
    a_killed_run_is_resumed,
    a_killed_run_is_done_and_told_by_a_node,
    resume_tries_the_only_attempt_of_a_killed_run_anew,
    what_a_check_of_a_killed_node_left_is_ended_although_another_node_has_settled_it,
    a_node_that_is_only_stopped_keeps_its_children_until_it_wakes,
    the_output_of_an_agent_is_found_although_another_took_its_task_over,
    ctrl_c_finishes_what_runs_and_says_what_is_left,
    ctrl_c_twice_stops_at_once_and_hands_the_task_back,
    a_detached_run_is_done_by_a_node,
    a_report_that_nobody_wrote_is_written_by_the_next_node,
    a_run_that_goes_on_is_told_anew_by_the_node_that_completes_it,
    a_completed_run_is_resumed_to_its_report_once,
    one_agent_runs_beside_a_node,
    agents_of_a_second_node_work_under_names_of_their_own,
);
