//! What a person has of a run while its database is away: a server of its own for each test, stopped in the middle.

use crate::door::{Door, texts, word};
use quorate_testkit::cluster::{Cluster, Durability, Installation, Until, is_root};
use std::process::Command;

/// A server that the test may stop and start; other tests' server is left alone.
pub struct Server {
    installation: Installation,
    cluster: Cluster,
}

impl Server {
    pub fn start() -> Server {
        let installation =
            Installation::find().expect("PostgreSQL is installed: `cargo xtask test` sees to it");
        let cluster =
            Cluster::start(&installation, Durability::Full, Until::ProcessEnds, None).expect("it starts");
        Server { installation, cluster }
    }

    /// The folder with the server's files.
    pub fn data(&self) -> std::path::PathBuf {
        self.cluster.folder().join("data")
    }

    pub fn psql(&self, sql: &str) {
        self.installation.psql(self.cluster.url(), sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    pub fn pg_ctl(&self, words: &[&str]) {
        let data = self.data();
        let program = self.installation.bin().join("pg_ctl");
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        let log = self.cluster.folder().join("server.log");
        let status =
            command.arg("-D").arg(data).args(["-w", "-l"]).arg(log).args(words).current_dir("/").status();
        assert!(status.expect("pg_ctl runs").success(), "pg_ctl {words:?}");
    }
}

const PLAN: &str = "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"touch started; sleep 1; touch ended\"\n\
                    [[task]]\nkey = \"b\"\nneeds = [\"a\"]\nrun = \"true\"\n";

#[test]
fn a_run_outlives_a_restart_of_its_database() {
    let server = Server::start();
    let door = Door::at(server.cluster.url());
    door.write("plan.toml", PLAN);
    let run = door.start(&["run", "plan.toml"]);
    door.eventually("the first task runs", |door| door.path().join("started").exists().then_some(()));
    server.pg_ctl(&["-m", "immediate", "stop"]);
    door.eventually("the first task ends", |door| door.path().join("ended").exists().then_some(()));
    server.pg_ctl(&["start"]);
    let output = run.end();
    let (report, said) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{report}{said}");
    assert!(report.contains("2 completed") && said.contains("trying again"), "{report}{said}");
    let tasks = door.json(&["task", "list"]);
    assert_eq!((tasks[0]["attempt"].as_i64(), word(&tasks[1]["state"])), (Some(1), "completed"));
}

#[test]
fn ctrl_c_twice_is_heard_while_the_database_is_away() {
    let server = Server::start();
    let door = Door::at(server.cluster.url());
    door.write("plan.toml", PLAN);
    let mut run = door.start(&["run", "plan.toml"]);
    door.eventually("the first task runs", |door| door.path().join("started").exists().then_some(()));
    server.pg_ctl(&["-m", "immediate", "stop"]);
    door.eventually("the first task ends", |door| door.path().join("ended").exists().then_some(()));
    run.interrupt();
    std::thread::sleep(std::time::Duration::from_millis(300));
    run.interrupt();
    door.eventually("it ends", |_| run.child().try_wait().expect("it can be asked").map(drop));
}
