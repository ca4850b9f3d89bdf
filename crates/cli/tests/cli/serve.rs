//! A node's doors over the network.

use crate::door::{Door, Running, lines, on_both, word};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

on_both!(a_node_answers_at_its_socket);

/// Asks at the socket of a folder; `None` while nobody answers there.
fn ask(door: &Door, request: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(door.path().join(".quorate/socket")).ok()?;
    let head = format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    stream
        .write_all(format!("{request} HTTP/1.1\r\nConnection: close\r\n{head}\r\n\r\n{body}").as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?))
}

fn a_node_answers_at_its_socket(door: Door) {
    // What a node that was killed has left behind is no hindrance.
    std::fs::create_dir(door.path().join(".quorate")).expect("a folder");
    drop(UnixListener::bind(door.path().join(".quorate/socket")).expect("a socket"));
    let _up = door.start(&["up"]);
    let (status, _) = door.eventually("the node answers", |door| ask(door, "GET /api/v1/status", ""));
    assert_eq!(status, 200);
    let task = r#"{"title": "From elsewhere", "run": "echo done"}"#;
    let added = ask(&door, "POST /api/v1/tasks", task).expect("an answer");
    assert_eq!((added.0, &added.1["id"]), (200, &Value::from(1)));
    door.eventually("it is done", |door| {
        let (_, task) = ask(door, "GET /api/v1/tasks/1", "")?;
        (word(&task["state"]) == "completed").then_some(())
    });
    let (_, output) = ask(&door, "GET /api/v1/tasks/1/output", "").expect("an answer");
    assert_eq!((word(&output["output"]), &output["whole"]), ("done\n", &Value::from(true)));
    let (status, _) = ask(&door, "GET /api/v1/tasks/1/output?attempt=7", "").expect("an answer");
    assert_eq!(status, 404);
    let (status, found) = ask(&door, "GET /api/v1/doctor", "").expect("an answer");
    let of = |check: &str| {
        let checks = found["checks"].as_array().expect("a list");
        checks.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check}: {found}"))
    };
    assert_eq!(
        (status, word(&of("ledger")["state"]), word(&of("nodes")["message"])),
        (200, "ok", "1 on this host")
    );
    door.ok(&["down"]);
    assert_eq!(ask(&door, "GET /api/v1/status", ""), None);
}

#[test]
fn the_demo_is_served_while_it_lasts() {
    let door = Door::lite();
    let demo = door.start(&["demo", "--keep", "."]);
    let (status, _) = door.eventually("the demo answers", |door| ask(door, "GET /api/v1/tasks/1", ""));
    assert_eq!(status, 200);
    assert!(demo.end().status.success());
    assert_eq!(ask(&door, "GET /api/v1/tasks/1", ""), None);
}

#[test]
fn programs_are_told_where_a_node_listens_and_what_is_amiss() {
    let door = Door::lite();
    // Unless somebody holds it already.
    let _holder = TcpListener::bind("127.0.0.1:8888");
    let said = || std::fs::read_to_string(door.path().join("said")).expect("it is read");
    let mut command = door.command(["up", "--agents", "1", "--json"]);
    // As people set it for another program of theirs.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317");
    command.stderr(File::create(door.path().join("said")).expect("a file"));
    let node = Running::begin(command.stdout(Stdio::null()));
    door.eventually("it listens", |_| said().contains("listening").then_some(()));
    door.ok(&["down"]);
    assert!(node.end().status.success());
    let said = lines(&said());
    let address = said.iter().find_map(|line| line["listening"].as_str()).expect("an address");
    let warns = |words: &str| said.iter().any(|line| line["warning"].to_string().contains(words));
    assert!(address.starts_with("http://127.0.0.1:") && warns("there is no telemetry"), "{said:?}");
    let has_moved = address != "http://127.0.0.1:8888";
    assert_eq!(warns("127.0.0.1:8888 is taken"), has_moved, "{said:?}");
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let door = Door::lite();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    door.write("quorate.toml", format!("[server]\nlisten = \"{address}\"\n"));
    let error = door.fails(2, &["up"]);
    assert!(word(&error["message"]).contains(&address.to_string()), "{error}");
    assert!(word(&error["hint"]).contains("[server] listen"), "{error}");
}

#[test]
fn other_machines_are_let_in_with_a_token_only() {
    let door = Door::lite();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    door.write("quorate.toml", format!("[server]\nlisten = \"0.0.0.0:{port}\"\n"));
    let error = door.fails(2, &["up"]);
    assert!(word(&error["message"]).contains("needs a token"), "{error}");
    assert!(word(&error["hint"]).contains("QUORATE_SERVER_TOKEN"), "{error}");
}
