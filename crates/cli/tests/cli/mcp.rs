//! The tools for agents on standard input and output, and what a node's children are given to be known by.

use crate::door::{Door, on_both, word};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

on_both!(a_client_works_through_a_task, a_nodes_child_is_known_by_its_token_and_speaks_for_its_agent_alone,);

/// A client of `quorate mcp`.
struct Client {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    asked: i64,
}

impl Client {
    fn start(door: &Door, words: &[&str]) -> Client {
        let mut command = door.command([&["mcp"], words].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut client = Client { to: child.stdin.take(), child, from, asked: 0 };
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
                            "clientInfo": { "name": "Some Client", "version": "1" } });
        let greeting = client.ask("initialize", hello);
        assert_eq!(greeting["serverInfo"]["name"], "quorate");
        client.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn write(&mut self, message: &Value) {
        writeln!(self.to.as_mut().expect("it is open"), "{message}").expect("it listens");
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        self.write(&json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params }));
        let mut line = String::new();
        self.from.read_line(&mut line).expect("it answers");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{method}: {e}: {line}"));
        assert_eq!(answer["id"], self.asked, "{answer}");
        answer["result"].clone()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        word(&result["content"][0]["text"]).to_owned()
    }

    /// Hangs up; answers with the exit code.
    fn end(mut self) -> Option<i32> {
        self.to = None;
        self.child.wait().expect("it ends").code()
    }
}

fn a_client_works_through_a_task(door: Door) {
    door.ok(&["task", "add", "Look", "--prompt", "Look well."]);
    let mut client = Client::start(&door, &[]);
    let tools = client.ask("tools/list", json!({}));
    assert!(tools["tools"].as_array().is_some_and(|tools| tools.len() >= 9), "{tools}");
    let next = client.call("next_task", json!({}));
    assert!(next.starts_with("task 1: Look\nterm 1"), "{next}");
    assert_eq!(client.call("finish", json!({ "id": 1, "term": 1, "result": "seen" })), "task 1 is completed");
    assert_eq!(client.end(), Some(0));
    let task = door.json(&["task", "show", "1"]);
    assert_eq!((word(&task["state"]), word(&task["agent"])), ("completed", "some-client"));
    // Who is named is that agent and no other.
    let mut ada = Client::start(&door, &["--agent", "ada"]);
    let refused = ada.call("next_task", json!({ "agent": "eve" }));
    assert!(refused.starts_with("refused: "), "{refused}");
    assert_eq!(ada.end(), Some(0));
}

fn a_nodes_child_is_known_by_its_token_and_speaks_for_its_agent_alone(door: Door) {
    door.ok(&["agent", "add", "ada"]);
    door.write(
        "ask.sh",
        "ask() { curl -s -H \"Authorization: Bearer $QUORATE_TOKEN\" -H 'Content-Type: application/json' \"$@\"; }\n\
         ask \"$QUORATE_URL/api/v1/messages\" -d '{\"to\": \"ada\", \"text\": \"from a child\"}'\n\
         ask \"$QUORATE_URL/api/v1/messages\" -d '{\"from\": \"ada\", \"to\": \"ada\", \"text\": \"forged\"}' > forged.json\n\
         echo \"my token is $QUORATE_TOKEN\"\n",
    );
    door.write("plan.toml", "goal = \"Ask\"\n[[task]]\nkey = \"ask\"\nrun = \"sh ask.sh\"\n");
    door.ok(&["run", "plan.toml"]);
    let inbox = door.json(&["inbox", "ada"]);
    assert_eq!(inbox.as_array().map(Vec::len), Some(1), "{inbox}");
    assert!(word(&inbox[0]["from"]).starts_with("shell-"), "{inbox}");
    let forged: Value =
        serde_json::from_slice(&std::fs::read(door.path().join("forged.json")).expect("an answer"))
            .expect("JSON");
    assert_eq!(forged["status"], 403, "{forged}");
    let kept = door.ok(&["logs", "1"]);
    assert!(kept.contains("my token is ***"), "{kept}");
}

#[test]
fn a_token_is_shown_once_and_revoked() {
    let door = Door::lite();
    door.ok(&["agent", "add", "ada"]);
    let token = door.ok(&["agent", "token", "ada"]);
    assert!(token.starts_with("qrt_") && token.lines().count() == 1, "{token}");
    assert_eq!(door.json(&["agent", "token", "ada", "--revoke"])["revoked"], 1);
    assert!(word(&door.fails(5, &["agent", "token", "eve"])["message"]).contains("eve"));
}
