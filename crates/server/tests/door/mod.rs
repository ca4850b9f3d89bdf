//! Open doors of a test's ledger, and who knocks.

// Two test programs share this; neither needs all of it.
#![allow(dead_code)]

use quorate_model::config::Config;
use quorate_server::{Desk, Server, ServerOptions};
use quorate_testkit::ledger::TestLedger;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a test waits for what it expects; far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Returns the answer of what must have been done.
    pub fn done(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Returns the kind of failure, its status and what it says.
    pub fn problem(self) -> (u16, String, String) {
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        let value = self.json();
        assert_eq!(value["status"], self.status);
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        (self.status, text("kind"), format!("{}; {}", text("detail"), text("hint")))
    }
}

/// Open doors and who knocks.
pub struct Door {
    pub server: Server,
    pub socket: tempfile::TempDir,
}

impl Door {
    /// Opens doors at which this user is known without a token.
    pub async fn open(ledger: &TestLedger) -> Door {
        Door::configured(ledger, "").await
    }

    /// Opens doors at which the person has this token.
    pub async fn with_token(ledger: &TestLedger, token: &str) -> Door {
        Door::begin(ledger, "", Some(token)).await
    }

    /// Opens doors of a project whose `quorate.toml` says so.
    pub async fn configured(ledger: &TestLedger, config: &str) -> Door {
        Door::begin(ledger, config, None).await
    }

    async fn begin(ledger: &TestLedger, config: &str, token: Option<&str>) -> Door {
        let config = Config::parse("quorate.toml", config.as_bytes()).expect("a configuration");
        let socket = tempfile::tempdir().expect("a folder");
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().expect("an address"),
            is_set: true,
            socket: Some(socket.path().join("socket")),
            token: token.map(Into::into),
        };
        let desk = Desk::new(ledger.store.clone(), Arc::new(config), PathBuf::from("/project"));
        Door { server: Server::begin(desk, options).await.expect("opens"), socket }
    }

    /// Sends a request with these lines in its head; answers with everything that comes back.
    pub async fn raw(&self, request: &str, head: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.server.address()).await.expect("connects");
        let lines: String = head.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!(
            "{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n{lines}\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.expect("sends");
        read(&mut stream).await
    }

    pub async fn send(&self, request: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer =
            self.raw(request, &[("Host", "localhost"), ("Content-Type", "application/json")], &body).await;
        if answer.status == 200
            && let Some(schema) = described(request)
        {
            has_all(&schema, &answer.json(), request);
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET /api/v1{path}"), None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(&format!("POST /api/v1{path}"), Some(body)).await
    }
}

/// Returns the schema of what a request answers with as JSON, if the document has it.
fn described(request: &str) -> Option<Value> {
    let (method, path) = request.split_once(' ')?;
    let parts = |path: &str| path.split('?').next().unwrap_or("").split('/').map(str::to_owned).collect();
    let asked: Vec<String> = parts(path);
    let document = quorate_server::openapi();
    let is_asked = |template: &str| {
        let template: Vec<String> = parts(template);
        template.len() == asked.len()
            && template.iter().zip(&asked).all(|(t, a)| t == a || t.starts_with('{'))
    };
    let (_, operations) = document["paths"].as_object()?.iter().find(|(template, _)| is_asked(template))?;
    operations[method.to_lowercase()]["responses"]["200"]["content"]["application/json"]
        .get("schema")
        .cloned()
}

/// Panics unless an answer has every field that its schema says is always there.
fn has_all(schema: &Value, value: &Value, place: &str) {
    static DOCUMENT: std::sync::LazyLock<Value> = std::sync::LazyLock::new(quorate_server::openapi);
    if let Some(name) = schema["$ref"].as_str() {
        let schema = DOCUMENT.pointer(name.trim_start_matches('#')).expect("what is referred to is there");
        return has_all(schema, value, place);
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(value.get(name).is_some(), "{place}: {name} is required: {value}");
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            has_all(schema, value, &format!("{place} {name}"));
        }
    }
    for value in value.as_array().into_iter().flatten() {
        has_all(&schema["items"], value, place);
    }
}

pub async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("in time").expect("reads");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}
