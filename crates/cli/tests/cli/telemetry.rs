//! Traces and metrics at the door: settings that cannot be followed, and a collector that takes nothing.

use crate::door::{Door, Running, texts, word};
use std::fs::{File, read_to_string};
use std::net::TcpListener;

const PLAN: &str = "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"true\"\n";
/// As people set it for another program of theirs.
const GRPC: [(&str, &str); 2] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];

#[test]
fn what_the_project_asks_for_and_cannot_be_done_is_refused_before_anything_begins() {
    let door = Door::lite();
    door.write("plan.toml", PLAN);
    door.write("quorate.toml", "[telemetry]\notlp = \"localhost:4317\"\n");
    for words in [&["run", "plan.toml"][..], &["up"], &["agent", "run", "a"], &["runs", "resume", "1"]] {
        let error = door.fails(2, words);
        assert!(word(&error["message"]).contains("OTLP endpoint"), "{words:?}: {error}");
        assert!(word(&error["hint"]).contains("http://127.0.0.1:4318"), "{words:?}: {error}");
        assert!(!door.path().join(".quorate").exists(), "{words:?}: nothing was stored");
    }
    door.write("quorate.toml", "[telemetry]\notlp = \"http://127.0.0.1:4318\"\n");
    let output = door.command(["run", "plan.toml"]).envs(GRPC).output().expect("runs");
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert!(err.contains("`grpc` is not spoken"), "{err}");
    assert!(!door.path().join(".quorate").exists(), "nothing was stored");
}

#[test]
fn what_only_the_environment_asks_for_stops_no_run() {
    let door = Door::lite();
    door.write("plan.toml", PLAN);
    let check = |variables: &[(&str, &str)], why: &str, mend: &str| {
        let mut command = door.command(["run", "plan.toml"]);
        let output = command.envs(variables.iter().copied()).output().expect("runs");
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{out}{err}");
        assert!(out.contains("1 completed"), "{out}");
        assert_eq!(err.matches("there is no telemetry").count(), 1, "{err}");
        assert!(err.contains(why) && err.contains(mend), "{err}");
    };
    check(&GRPC, "`grpc` is not spoken", "http/protobuf");
    check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")], "OTLP endpoint", "http://127.0.0.1:4318");
}

#[test]
fn what_only_the_environment_asks_for_stops_no_node() {
    let door = Door::lite();
    let file = |name: &str| File::create(door.path().join(name)).expect("a file");
    let mut command = door.command(["up", "--agents", "1"]);
    let node = Running::begin(command.envs(GRPC).stdout(file("seen")).stderr(file("told")));
    door.ok(&["task", "add", "x", "--run", "true"]);
    door.eventually("the node works", |door| {
        (word(&door.json(&["task", "show", "1"])["state"]) == "completed").then_some(())
    });
    door.ok(&["down"]);
    assert!(node.end().status.success());
    let told = read_to_string(door.path().join("told")).expect("it is read");
    assert_eq!(told.matches("there is no telemetry").count(), 1, "{told}");
}

#[test]
fn spans_that_no_collector_takes_are_told_at_the_end() {
    let door = Door::lite();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    door.write("quorate.toml", format!("[telemetry]\notlp = \"http://{address}\"\n"));
    door.write("plan.toml", PLAN);
    let output = door.run(&["run", "plan.toml"]);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    // That of the run, and that of its only attempt.
    assert!(err.contains("telemetry: 2 spans were not delivered"), "{err}");
    assert!(!err.contains("trying again"), "{err}");
}
