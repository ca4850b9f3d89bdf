//! What a collector receives, on both databases: a real one's place is taken by a receiver on loopback, which takes the
//! messages apart as protobuf is defined, and takes nothing for granted.

use quorate_model::config::Limits;
use quorate_model::usage::{Tokens, Used};
use quorate_model::{Result, RunId};
use quorate_service::event::Latest;
use quorate_service::run::Settle;
use quorate_service::usage::Note;
use quorate_telemetry::{Exporter, Settings};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::command;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

on_every_backend!(
    a_run_arrives_as_one_trace_with_its_tokens_and_its_cost,
    what_a_collector_does_not_take_is_said_again,
    without_work_nothing_is_sent,
    what_a_silent_collector_has_not_taken_is_counted_at_the_end,
    what_nobody_listens_to_is_not_tried_again_after_the_end,
);

const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it arrived.
#[derive(Debug)]
struct Arrived {
    head: String,
    body: Vec<u8>,
}

/// Listens; answers each request with the next of these statuses, and with 200 when there are no more.
async fn collector(statuses: Vec<u16>) -> (u16, mpsc::UnboundedReceiver<Arrived>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut statuses = statuses.into_iter();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let arrived = receive(&mut stream).await;
            let status = statuses.next().unwrap_or(200);
            let answer = format!("HTTP/1.1 {status} Because\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            if sender.send(arrived).is_err() {
                return;
            }
        }
    });
    (port, receiver)
}

async fn receive(stream: &mut TcpStream) -> Arrived {
    let mut bytes = Vec::new();
    let end = loop {
        stream.read_buf(&mut bytes).await.expect("readable");
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text").to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let length: usize = length.trim().parse().expect("a number");
    while bytes.len() < end + length {
        stream.read_buf(&mut bytes).await.expect("readable");
    }
    assert_eq!(bytes.len(), end + length, "nothing comes behind the body");
    Arrived { head, body: bytes[end..].to_vec() }
}

/// A field of a protobuf message.
#[derive(Debug, Clone, PartialEq)]
enum Field {
    Number(u64),
    Fixed(u64),
    Bytes(Vec<u8>),
}

/// Takes a message apart: the fields by their numbers, in order.
fn fields(bytes: &[u8]) -> BTreeMap<u64, Vec<Field>> {
    let mut rest = bytes;
    let mut fields = BTreeMap::<u64, Vec<Field>>::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut rest)),
            1 => Field::Fixed(u64::from_le_bytes(take(&mut rest, 8).try_into().expect("eight bytes"))),
            2 => {
                let length = varint(&mut rest) as usize;
                Field::Bytes(take(&mut rest, length).to_vec())
            }
            other => panic!("wire type {other} is not used by OTLP"),
        };
        fields.entry(key >> 3).or_default().push(field);
    }
    fields
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at_checked(length).expect("the message is whole");
    *rest = left;
    taken
}

fn varint(rest: &mut &[u8]) -> u64 {
    (0..10)
        .fold((0, false), |(sum, done), place| {
            if done {
                return (sum, done);
            }
            let byte = take(rest, 1)[0];
            (sum | (u64::from(byte & 0x7f) << (7 * place)), byte < 0x80)
        })
        .0
}

/// Returns the messages at the end of a path of field numbers.
fn at(bytes: &[u8], path: &[u64]) -> Vec<Vec<u8>> {
    let Some((first, rest)) = path.split_first() else { return vec![bytes.to_vec()] };
    let inner = fields(bytes).remove(first).unwrap_or_default();
    inner
        .into_iter()
        .flat_map(|field| match field {
            Field::Bytes(bytes) => at(&bytes, rest),
            other => panic!("field {first} is {other:?}, not a message"),
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Returns the attributes of a message, of which this is the field's number.
fn attributes(bytes: &[u8], number: u64) -> BTreeMap<String, Field> {
    let pairs = at(bytes, &[number]);
    let pair = |pair: &Vec<u8>| {
        let value = fields(&at(pair, &[2])[0]).into_values().next().expect("a value")[0].clone();
        (text(&at(pair, &[1])[0]), value)
    };
    pairs.iter().map(pair).collect()
}

fn settings(port: u16) -> Settings {
    settings_every(port, "100")
}

/// Settings with a time between two messages, in milliseconds.
fn settings_every(port: u16, delay: &str) -> Settings {
    let env = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("x-key=secret".to_owned()),
        "OTEL_BSP_SCHEDULE_DELAY" => Some(delay.to_owned()),
        _ => None,
    };
    let endpoint = format!("http://127.0.0.1:{port}");
    Settings::read(Some(&endpoint), env).expect("settings").expect("an endpoint is named")
}

/// Begins a run of one task, of which an attempt uses something and completes.
async fn work(ledger: &TestLedger) -> Result<RunId> {
    let (run, _) = ledger.start(vec![command("think")]).await?;
    let taken = ledger.must_take("ada").await?;
    let tokens = Tokens { input: 10, output: 5, cache_read: 100, cache_write: 0 };
    let used = Used { model: "claude-x".into(), tokens, usd_micros: Some(500_000), ..Used::default() };
    let (id, term, attempt) = (taken.task.id, taken.task.term, taken.task.attempt);
    let limits = Limits::default();
    ledger.store.write(Note { id, term, attempt, used: vec![used], limits, is_last: true }).await?;
    ledger.advance(1_500).await;
    ledger.done(&taken).await?;
    ledger.store.write(Settle { id: run }).await?;
    // On PostgreSQL the log shows what no older transaction of the server is open for; other tests share it.
    ledger.events().await;
    Ok(run)
}

async fn next(arrived: &mut mpsc::UnboundedReceiver<Arrived>, path: &str) -> Arrived {
    let found = async {
        loop {
            let arrived = arrived.recv().await.expect("the collector listens");
            if arrived.head.starts_with(&format!("post {path} ")) {
                return arrived;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it arrives")
}

/// Begins to export from now on.
async fn begin(ledger: &TestLedger, settings: Settings, notices: mpsc::Sender<String>) -> Result<Exporter> {
    let since = ledger.store.read(Latest).await?;
    Ok(Exporter::start(ledger.store.clone(), settings, (1, "test".into()), since, notices).await)
}

async fn a_run_arrives_as_one_trace_with_its_tokens_and_its_cost(ledger: TestLedger) -> Result<()> {
    let (port, mut arrived) = collector(Vec::new()).await;
    let (notices, _heard) = mpsc::channel(8);
    let since = ledger.store.read(Latest).await?;
    // The node may have begun to work before its exporter begins.
    work(&ledger).await?;
    let node = (1, "test".into());
    let exporter = Exporter::start(ledger.store.clone(), settings(port), node, since, notices).await;
    let mut spans = Vec::new();
    while spans.len() < 2 {
        let traces = next(&mut arrived, "/v1/traces").await;
        assert!(traces.head.contains("content-type: application/x-protobuf"), "{}", traces.head);
        assert!(traces.head.contains("x-key: secret"), "{}", traces.head);
        let resource = attributes(&at(&traces.body, &[1, 1])[0], 1);
        assert_eq!(resource["service.name"], Field::Bytes(b"quorate".to_vec()));
        spans.extend(at(&traces.body, &[1, 2, 2]));
    }
    exporter.end().await;
    let names: Vec<String> = spans.iter().map(|span| text(&at(span, &[5])[0])).collect();
    assert_eq!(names, ["invoke_agent ada", "invoke_workflow run 1"]);
    let (attempt, run) = (fields(&spans[0]), fields(&spans[1]));
    assert_eq!(attempt[&1], run[&1], "one trace");
    assert_eq!(attempt[&4], run[&2], "the run is the parent");
    assert!(
        matches!((&attempt[&1][0], &attempt[&2][0]), (Field::Bytes(a), Field::Bytes(b)) if a.len() == 16 && b.len() == 8)
    );
    let (Field::Fixed(began), Field::Fixed(ended)) = (&attempt[&7][0], &attempt[&8][0]) else {
        panic!("times")
    };
    let took_ms = (ended - began) / 1_000_000;
    assert!(
        (1_400..1_600).contains(&took_ms),
        "the log's times may differ by a little on PostgreSQL: {took_ms}"
    );
    let said = attributes(&spans[0], 9);
    assert_eq!(said["gen_ai.operation.name"], Field::Bytes(b"invoke_agent".to_vec()));
    assert_eq!(said["gen_ai.provider.name"], Field::Bytes(b"anthropic".to_vec()));
    assert_eq!(said["gen_ai.usage.input_tokens"], Field::Number(110));
    assert_eq!(said["gen_ai.usage.output_tokens"], Field::Number(5));
    assert_eq!(said["quorate.cost.usd"], Field::Fixed(0.5_f64.to_bits()));
    assert_eq!(fields(&at(&spans[0], &[15])[0])[&3], [Field::Number(1)], "it went well");
    Ok(())
}

async fn what_a_collector_does_not_take_is_said_again(ledger: TestLedger) -> Result<()> {
    let (port, mut arrived) = collector(vec![503, 503]).await;
    let (notices, mut heard) = mpsc::channel(8);
    let exporter = begin(&ledger, settings(port), notices).await?;
    work(&ledger).await?;
    let refused = next(&mut arrived, "/v1/traces").await;
    let first = at(&refused.body, &[1, 2, 2]).remove(0);
    let mut again = next(&mut arrived, "/v1/traces").await;
    assert_eq!(at(&again.body, &[1, 2, 2])[0], first, "the same once more");
    let told = tokio::time::timeout(PATIENCE, heard.recv()).await.expect("it is said").unwrap_or_default();
    assert!(told.contains("cannot be reached") && told.contains("503"), "{told}");
    let back = tokio::time::timeout(PATIENCE, heard.recv()).await.expect("it is said").unwrap_or_default();
    assert!(back.contains("answers again"), "{back}");
    let metrics = next(&mut arrived, "/v1/metrics").await;
    let names: Vec<String> =
        at(&metrics.body, &[1, 2, 2]).iter().map(|metric| text(&at(metric, &[1])[0])).collect();
    assert!(names.contains(&"gen_ai.client.token.usage".to_owned()), "{names:?}");
    for metric in at(&metrics.body, &[1, 2, 2]) {
        for histogram in at(&metric, &[9]) {
            assert_eq!(fields(&histogram)[&2], [Field::Number(1)], "delta");
            for point in at(&histogram, &[1]) {
                let (counts, bounds) = (at(&point, &[6])[0].len() / 8, at(&point, &[7])[0].len() / 8);
                assert_eq!(counts, bounds + 1, "a bucket more than bounds");
            }
        }
    }
    exporter.end().await;
    again.body.clear();
    Ok(())
}

async fn without_work_nothing_is_sent(ledger: TestLedger) -> Result<()> {
    let (port, mut arrived) = collector(Vec::new()).await;
    let (notices, _heard) = mpsc::channel(8);
    let exporter = begin(&ledger, settings(port), notices).await?;
    ledger.add(command("nobody takes it")).await?;
    ledger.events().await;
    exporter.end().await;
    assert!(arrived.try_recv().is_err(), "nothing has happened that is told");
    Ok(())
}

/// Ends an exporter after some work of two spans; returns all that it said.
async fn said_at_the_end(ledger: &TestLedger, settings: Settings) -> Result<Vec<String>> {
    let (notices, mut heard) = mpsc::channel(8);
    let exporter = begin(ledger, settings, notices).await?;
    work(ledger).await?;
    exporter.end().await;
    Ok(std::iter::from_fn(|| heard.try_recv().ok()).collect())
}

async fn what_a_silent_collector_has_not_taken_is_counted_at_the_end(ledger: TestLedger) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let silent = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            streams.push(stream);
        }
    });
    let said = said_at_the_end(&ledger, settings(port)).await?;
    assert_eq!(said, ["telemetry: 2 spans were not delivered"]);
    silent.abort();
    Ok(())
}

async fn what_nobody_listens_to_is_not_tried_again_after_the_end(ledger: TestLedger) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let said = said_at_the_end(&ledger, settings_every(port, "3600000")).await?;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("cannot be reached") && !said[0].contains("trying again"), "{said:?}");
    assert_eq!(said[1], "telemetry: 2 spans were not delivered");
    Ok(())
}
