//! What this program asks of others over HTTPS: real TLS on loopback, with an authority of the test's own that is trusted
//! as a user would have it, by `SSL_CERT_FILE`.

use crate::door::{Door, texts, word};
use quorate_testkit::model::{ScriptedModel, Turn};
use quorate_testkit::tls::{Authority, Front};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::mpsc;

/// Two authorities: `ours.pem` signs what is asked, `others.pem` does not.
fn two_authorities(door: &Door) -> Authority {
    let ours = Authority::new("ours");
    door.write("ours.pem", ours.certificate());
    door.write("others.pem", Authority::new("others").certificate());
    ours
}

/// Runs the plan with these authorities trusted, and no others.
fn run_trusting(door: &Door, authorities: &str) -> Output {
    let mut command = door.command(["run", "plan.toml"]);
    command.env("SSL_CERT_FILE", door.path().join(authorities));
    command.env("OTEL_BSP_SCHEDULE_DELAY", "100").output().expect("the binary runs")
}

#[test]
fn a_model_is_asked_over_https_if_its_certificate_is_trusted() {
    let door = Door::lite();
    let authority = two_authorities(&door);
    let model = ScriptedModel::start([Turn::text("ok")]);
    let port = model.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let (good, elsewhere) =
        (Front::before(port, &authority, "localhost"), Front::before(port, &authority, "elsewhere"));
    let asks = |front: &Front| {
        let table = "[agents.m]\ndriver = \"model\"\nprovider = \"openai-chat\"\nmodel = \"m\"\n";
        door.write("quorate.toml", format!("{table}base_url = \"https://localhost:{}/v1\"\n", front.port()));
    };
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nprompt = \"do\"\nattempts = 1\n");
    let refusal = |task: &str, front: &Front, authorities: &str| {
        asks(front);
        assert_eq!(run_trusting(&door, authorities).status.code(), Some(1));
        let story = door.json(&["task", "show", task]);
        word(&story["attempts"][0]["reason"]).to_owned()
    };
    let unknown = refusal("1", &good, "others.pem");
    assert!(
        unknown.contains("the certificate of localhost is signed by no authority that is trusted"),
        "{unknown}"
    );
    assert!(unknown.contains("SSL_CERT_FILE=FILE names those to trust"), "{unknown}");
    let another = refusal("2", &elsewhere, "ours.pem");
    assert!(another.contains("the certificate of localhost is not accepted"), "{another}");
    let nobody = refusal("3", &good, "no-such.pem");
    assert!(nobody.contains("trusted here (failed to read PEM from file"), "{nobody}");
    asks(&good);
    let done = run_trusting(&door, "ours.pem");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(word(&door.json(&["task", "show", "4"])["result"]), "ok");
    assert_eq!(model.end().len(), 1, "who was not believed was told nothing");
}

/// Takes what is sent to a collector; answers with the first line of each request.
fn collector() -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some(line) = receive(stream) else { continue };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    (port, told)
}

fn receive(mut stream: TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse::<usize>();
            // Lossy reading only makes it longer, and only behind the head.
            if bytes.len() >= end + 4 + length.ok()? {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
                return Some(text.lines().next()?.to_owned());
            }
        }
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
    }
}

#[test]
fn telemetry_is_sent_over_https_if_the_collector_s_certificate_is_trusted() {
    let (port, told) = collector();
    // One ledger each: which of its nodes exports is agreed on in the ledger.
    let [unheard, heard] = ["others.pem", "ours.pem"].map(|authorities| {
        let door = Door::lite();
        let front = Front::before(port, &two_authorities(&door), "localhost");
        door.write("quorate.toml", format!("[telemetry]\notlp = \"https://localhost:{}\"\n", front.port()));
        door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"true\"\n");
        (run_trusting(&door, authorities), told.try_iter().collect::<Vec<String>>())
    });
    let (_, err) = texts(&unheard.0);
    assert_eq!(unheard.0.status.code(), Some(0), "a collector that is away is no reason to fail: {err}");
    let why =
        "telemetry: the collector cannot be reached: the certificate of localhost is signed by no authority";
    assert!(err.contains(why), "{err}");
    assert!(unheard.1.is_empty(), "who was not believed was told nothing: {:?}", unheard.1);
    assert_eq!(heard.0.status.code(), Some(0), "{heard:?}");
    assert!(heard.1.iter().any(|line| line == "post /v1/traces http/1.1"), "{heard:?}");
}
