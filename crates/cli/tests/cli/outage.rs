//! What a person has of a run while its database is away: a server of its own for each test, stopped in the middle.

use crate::door::{Door, texts, word};
use quorate_testkit::server::Server;

const PLAN: &str = "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"touch started; sleep 1; touch ended\"\n\
                    [[task]]\nkey = \"b\"\nneeds = [\"a\"]\nrun = \"true\"\n";

#[test]
fn a_run_outlives_a_restart_of_its_database() {
    let server = Server::start().expect("a server");
    let door = Door::at(server.url());
    door.write("plan.toml", PLAN);
    let run = door.start(&["run", "plan.toml"]);
    door.eventually("the first task runs", |door| door.path().join("started").exists().then_some(()));
    server.pg_ctl(&["-m", "immediate", "stop"]).expect("the server obeys");
    door.eventually("the first task ends", |door| door.path().join("ended").exists().then_some(()));
    server.pg_ctl(&["start"]).expect("the server obeys");
    let output = run.end();
    let (report, said) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{report}{said}");
    assert!(report.contains("2 completed") && said.contains("trying again"), "{report}{said}");
    let tasks = door.json(&["task", "list"]);
    assert_eq!((tasks[0]["attempt"].as_i64(), word(&tasks[1]["state"])), (Some(1), "completed"));
}

#[test]
fn ctrl_c_twice_is_heard_while_the_database_is_away() {
    let server = Server::start().expect("a server");
    let door = Door::at(server.url());
    door.write("plan.toml", PLAN);
    let mut run = door.start(&["run", "plan.toml"]);
    door.eventually("the first task runs", |door| door.path().join("started").exists().then_some(()));
    server.pg_ctl(&["-m", "immediate", "stop"]).expect("the server obeys");
    door.eventually("the first task ends", |door| door.path().join("ended").exists().then_some(()));
    run.interrupt();
    std::thread::sleep(std::time::Duration::from_millis(300));
    run.interrupt();
    door.eventually("it ends", |_| run.child().try_wait().expect("it can be asked").map(drop));
}
