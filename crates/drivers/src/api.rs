//! A model's API as an agent: it is asked, the commands that it calls are run, and its last answer is the result.
//!
//! Here live that loop, its limits, and what is done when the service refuses: a short wait is waited for, a long one
//! parks the task. How each provider is spoken to is in `talk` and the files of its formats.

mod chat;
pub mod embeddings;
mod gemini;
mod http;
mod messages;
mod responses;
mod servers;
mod sse;
mod talk;
mod tool;

use crate::agent::refusal;
use crate::drive::{Job, conclude, nobody_reads};
use crate::ending::{Ending, LastWords};
use crate::say::{ERROR_MAX, Out, Parked, Writer, call, short};
use crate::usage::{Meter, Usage};
use http::Ask;
use quorate_model::{Error, Kind, Result};
use serde_json::Value;
use servers::Servers;
use std::io::Write;
use std::time::{Duration, Instant};
use talk::{Answered, Heard, Opening, Sent, Stop, Talk};

/// The tool of our own MCP server that ends a task.
const FINISH: &str = "quorate_finish";
/// How many times a model is asked during one attempt, unless its table says otherwise.
const TURNS: u32 = 100;
/// All tokens of one attempt.
const TOKENS_MAX: i64 = 20_000_000;
/// Calls in one answer that are run.
const CALLS_MAX: usize = 32;
/// How often one request is tried again.
const RETRIES_MAX: u32 = 5;
/// The longest wait that is waited for; a longer one parks the task.
const WAIT_SHORT: Duration = Duration::from_secs(60);
/// The first wait where the service says none; doubles.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// How long a stream may be silent whose answer has ended: its usage may still come.
const AFTER_END: Duration = Duration::from_secs(5);
/// How often an agent shows that it waits for a tool, whose time is bounded, and is not stuck.
const SIGN_EVERY: Duration = Duration::from_secs(10);

/// Runs a model as an agent on one task, writing to `out` as a command agent does; answers with the exit code.
///
/// # Errors
/// When its settings are no good, or nobody reads what it says.
pub async fn drive(job: &Job, out: impl Write) -> Result<u8> {
    let mut writer = Writer::new(out);
    let servers = start_servers(job, &mut writer).await?;
    let mut session = Session::new(job, servers, writer)?;
    let ending = session.work().await?;
    conclude(&ending, &mut session.writer)
}

/// Starts the MCP servers of the table and our own.
async fn start_servers<W: Write>(job: &Job, writer: &mut Writer<W>) -> Result<Servers> {
    let mut servers = Servers::default();
    let own = (!job.mcp.is_empty()).then_some(("quorate", &job.mcp));
    let named = job.settings.mcp.iter().map(|(name, words)| (name.as_str(), words));
    for (name, words) in own.into_iter().chain(named) {
        if let Err(why) = servers.start(name, words, &job.dir).await {
            let told = Out::Text(short(&format!("[mcp] {name}: {why}"), ERROR_MAX));
            writer.say(&told, Instant::now()).map_err(|e| nobody_reads(&e))?;
        }
    }
    Ok(servers)
}

struct Session<'a, W> {
    job: &'a Job,
    talk: Box<dyn Talk>,
    servers: Servers,
    base: String,
    key: Option<String>,
    writer: Writer<W>,
    words: LastWords,
    meter: Meter,
}

impl<'a, W: Write> Session<'a, W> {
    fn new(job: &'a Job, servers: Servers, writer: Writer<W>) -> Result<Session<'a, W>> {
        let settings = &job.settings;
        let provider = talk::provider(settings)?;
        let model = settings.model.clone().ok_or_else(|| {
            Error::invalid("a model without a name").hint("add `model = \"…\"` to its table in quorate.toml")
        })?;
        let prompt = job.prompt()?;
        let commands = settings.tools.iter().map(|(name, tool)| tool::offer(name, tool));
        let tools = commands.chain(servers.offers()).collect();
        let opening = Opening { model, system: prompt.role, user: prompt.task, tools };
        Ok(Session {
            job,
            talk: talk::begin(provider, opening),
            servers,
            base: settings.base_url.clone().unwrap_or_else(|| provider.base_url().to_owned()),
            key: settings.key_env.as_ref().and_then(|name| std::env::var(name).ok()),
            writer,
            words: LastWords::default(),
            meter: Meter::default(),
        })
    }

    async fn work(&mut self) -> Result<Ending> {
        let turns = self.job.settings.max_turns.unwrap_or(TURNS);
        for _ in 0..turns {
            let heard = match self.ask().await? {
                Ok(heard) => heard,
                Err(ending) => return Ok(ending),
            };
            self.hear(&heard)?;
            if let Stop::Cut(why) = &heard.stop {
                return Ok(Ending::failed(format!("the model's answer was cut: {why}")));
            }
            if heard.calls.is_empty() {
                return Ok(self.words.ending());
            }
            if self.meter.tokens() > TOKENS_MAX {
                return Ok(Ending::failed(format!("more than {TOKENS_MAX} tokens in one attempt")));
            }
            let answers = self.run_tools(heard.calls).await?;
            self.talk.answer(&answers);
        }
        Ok(Ending::failed(format!("the model was asked {turns} times and was not done (max_turns)")))
    }

    fn say(&mut self, out: &Out) -> Result<()> {
        self.writer.say(out, Instant::now()).map_err(|e| nobody_reads(&e))
    }

    /// Tells what an answer says and what it used.
    fn hear(&mut self, heard: &Heard) -> Result<()> {
        let words = self.words.hear(&heard.text);
        if !words.trim().is_empty() {
            self.say(&Out::Text(words))?;
        }
        self.count(&heard.usage)
    }

    /// Counts what an answer used; also of one that broke off.
    fn count(&mut self, used: &Usage) -> Result<()> {
        let context_tokens = Some(used.context());
        let sum = self.meter.add(&Usage { context_tokens, ..used.clone() });
        self.say(&Out::Usage(sum))
    }

    async fn run_tools(&mut self, calls: Vec<talk::Call>) -> Result<Vec<Answered>> {
        let mut answers = Vec::with_capacity(calls.len());
        for (number, called) in calls.into_iter().enumerate() {
            let input = called.input.clone().unwrap_or_default();
            let (text, is_error) = match (self.job.settings.tools.get(&called.name), &called.input) {
                _ if number >= CALLS_MAX => (format!("at most {CALLS_MAX} calls at once are run"), true),
                (None, Ok(_)) if self.servers.has(&called.name) => {
                    self.say(&Out::Doing(call(&called.name, &input)))?;
                    if called.name == FINISH {
                        self.words.finish(&input);
                    }
                    let call = self.servers.call(&called.name, &input, tool::TIMEOUT);
                    with_signs(&mut self.writer, SIGN_EVERY, call).await
                }
                (None, _) => (format!("there is no tool {}", short(&called.name, ERROR_MAX)), true),
                (_, Err(why)) => (why.clone(), true),
                (Some(found), Ok(_)) => {
                    self.say(&Out::Doing(call(&called.name, &shown(&input))))?;
                    let work = tool::run(found, &input, &self.job.dir, tool::TIMEOUT);
                    with_signs(&mut self.writer, SIGN_EVERY, work).await
                }
            };
            if is_error {
                self.say(&Out::tool_failed(&text))?;
            }
            answers.push(Answered { call: called, text, is_error });
        }
        Ok(answers)
    }

    /// Asks for the next answer, and again after a refusal that a short wait may mend.
    async fn ask(&mut self) -> Result<std::result::Result<Heard, Ending>> {
        let mut wait = WAIT_FIRST;
        for tries in 0.. {
            let (trouble, used) = match self.ask_once().await {
                Ok(heard) => return Ok(Ok(heard)),
                Err(refusal) => refusal,
            };
            if used.context() > 0 {
                self.count(&used)?;
            }
            let told = trouble.wait.unwrap_or(wait);
            match trouble.verdict(tries, told) {
                Next::End(ending) => return Ok(Err(ending)),
                Next::Wait => {
                    let seconds = told.as_secs_f64();
                    self.say(&Out::Text(format!("[api] {}; tries again in {seconds:.0} s", trouble.why)))?;
                    tokio::time::sleep(told).await;
                    wait = wait.saturating_mul(2);
                }
            }
        }
        unreachable!("the last try ends it")
    }

    /// Asks once. Of an answer that broke off there is what it used.
    async fn ask_once(&mut self) -> std::result::Result<Heard, (Trouble, Usage)> {
        let none = |trouble| (trouble, Usage::default());
        let Sent { path, headers, body } = self.talk.request(self.key.as_deref());
        let ask = Ask { url: format!("{}{path}", self.base), headers, body };
        let mut answer = http::ask(&ask).await.map_err(|error| none(Trouble::from(error)))?;
        if answer.status != 200 {
            return Err(none(refused(answer).await));
        }
        let mut events = sse::Events::default();
        let broken = loop {
            let silence = if self.talk.has_ended() { AFTER_END } else { http::SILENCE };
            let bytes = match answer.next_within(silence).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break None,
                Err(error) => break Some(Trouble::from(error)),
            };
            match events.feed(&bytes) {
                Ok(found) => found.iter().for_each(|event| self.talk.on_event(event)),
                Err(why) => break Some(Trouble::fatal(why)),
            }
            // What is not heard shows where the answer is told.
            let _ = self.writer.say(&Out::Sign, Instant::now());
        };
        let heard = self.talk.end();
        let trouble = match (broken, &heard.stop) {
            // It was all there before the connection broke.
            (_, Stop::Whole | Stop::Cut(_)) => return Ok(heard),
            (_, Stop::Broken(why)) => Trouble { can_wait: refusal::meets_all(why), ..Trouble::passing(why) },
            (Some(trouble), Stop::Unfinished) => trouble,
            (None, Stop::Unfinished) => Trouble::passing("the model's answer broke off"),
        };
        Err((trouble, heard.usage))
    }
}

/// Does some work, and shows now and then that it goes on.
async fn with_signs<W: Write, T>(
    writer: &mut Writer<W>,
    every: Duration,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(every, &mut work).await {
            Ok(done) => return done,
            // What is not heard shows where the answer is told.
            Err(_) => drop(writer.say(&Out::Sign, Instant::now())),
        }
    }
}

/// What of a call is told: its arguments.
fn shown(input: &Value) -> Value {
    let words = input["arguments"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let words: Vec<&str> = words.collect();
    if words.is_empty() { Value::Null } else { serde_json::json!({ "command": words.join(" ") }) }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
struct Trouble {
    why: String,
    /// Another try may help.
    passes: bool,
    /// It would meet every other task alike: a limit, a service with too much to do or out of reach, an account.
    can_wait: bool,
    /// How long to wait, as the service says.
    wait: Option<Duration>,
}

enum Next {
    Wait,
    End(Ending),
}

impl Trouble {
    fn passing(why: impl Into<String>) -> Trouble {
        Trouble { why: short(&why.into(), ERROR_MAX), passes: true, can_wait: false, wait: None }
    }

    fn fatal(why: impl Into<String>) -> Trouble {
        Trouble { passes: false, ..Trouble::passing(why) }
    }

    fn verdict(&self, tries: u32, wait: Duration) -> Next {
        if self.passes && tries < RETRIES_MAX && wait <= WAIT_SHORT {
            return Next::Wait;
        }
        if !self.can_wait {
            return Next::End(Ending::failed(&self.why));
        }
        // A short time was waited for, and did not help: the ledger makes it longer each time.
        let told = self.wait.filter(|wait| *wait > WAIT_SHORT);
        let after_ms = told.and_then(|wait| i64::try_from(wait.as_millis()).ok());
        Next::End(Ending::Parked(Parked { after_ms, ..crate::ending::parked(&self.why, None) }))
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        let is_away = error.kind == Kind::Unavailable;
        Trouble { passes: is_away, can_wait: is_away, ..Trouble::passing(error.message) }
    }
}

async fn refused(answer: http::Answer) -> Trouble {
    let (status, wait) = (answer.status, retry_after(&answer.headers));
    let body = answer.text().await;
    let told =
        serde_json::from_str::<Value>(&body).map_or_else(|_| body.clone(), |value| said(&value, &body));
    let why = format!("the model's service refused it with {status}: {told}");
    let wait = wait
        .or_else(|| refusal::wait_ms(&told).and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis));
    let is_limit = matches!(status, 429 | 503 | 529);
    let passes = is_limit || matches!(status, 408 | 409 | 500..);
    let can_wait = is_limit || refusal::ACCOUNT.contains(&status);
    Trouble { passes, can_wait, wait, ..Trouble::passing(why) }
}

fn said(value: &Value, body: &str) -> String {
    // Gemini's errors come as a list of one.
    let error = if value.is_array() { &value[0]["error"] } else { &value["error"] };
    match error {
        Value::Object(_) => talk::why(error),
        Value::String(words) => words.clone(),
        _ => body.to_owned(),
    }
}

/// Reads how long to wait: in seconds or milliseconds, or until a time, counted from that of the answer.
fn retry_after(headers: &hyper::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(ms) =
        text("retry-after-ms").and_then(|ms| ms.trim().parse::<f64>().ok()).filter(|ms| ms.is_finite())
    {
        return Some(Duration::from_millis(ms.max(0.0) as u64));
    }
    let after = text("retry-after")?.trim();
    if let Ok(seconds) = after.parse::<f64>() {
        return seconds.is_finite().then(|| Duration::from_millis((seconds.max(0.0) * 1000.0) as u64));
    }
    let time = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp().as_second());
    let seconds = time(after)? - time(text("date")?)?;
    u64::try_from(seconds.max(0)).ok().map(Duration::from_secs)
}

/// What must hold for the stream of any answer: the same properties that `cargo xtask fuzz model` tries.
#[cfg(test)]
#[path = "../../../fuzz/src/api/model.rs"]
mod any_stream;
#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Tool};
    use quorate_testkit::model::{Asked, ScriptedModel, Turn};
    use serde_json::json;
    use std::collections::BTreeMap;

    const PROVIDERS: [(&str, &str); 4] =
        [("anthropic", ""), ("openai", "/v1"), ("openai-chat", "/v1"), ("gemini", "/v1beta")];

    fn job(provider: &str, base_url: String) -> Job {
        let tool = Tool { command: vec!["echo".into(), "seen".into()], about: "looks".into() };
        let settings = Settings {
            provider: Some(provider.into()),
            model: Some("m".into()),
            base_url: Some(base_url),
            tools: BTreeMap::from([("look".into(), tool)]),
            ..Settings::default()
        };
        let document = json!({ "id": 1, "attempt": 1, "agent": "a", "title": "Look around" });
        Job::new(&document.to_string(), settings, "/".into(), Vec::new()).unwrap()
    }

    /// Runs a script; answers with the exit code, what was printed and what was asked.
    async fn run(
        provider: (&str, &str),
        script: Vec<Turn>,
        change: impl Fn(&mut Job),
    ) -> (u8, String, Vec<Asked>) {
        let model = ScriptedModel::start(script);
        let mut job = job(provider.0, format!("{}{}", model.url(), provider.1));
        change(&mut job);
        let mut out = Vec::new();
        let code = drive(&job, &mut out).await.unwrap();
        (code, String::from_utf8(out).unwrap(), model.end())
    }

    #[test]
    fn streams_are_heard_the_same_in_any_pieces_and_what_breaks_off_is_forgotten() {
        replay::replay("model", |bytes| {
            any_stream::check(bytes);
            (0..bytes.len()).step_by(37).for_each(|end| any_stream::check(&bytes[..end]));
        });
    }

    #[tokio::test]
    async fn each_provider_s_model_calls_a_command_and_gives_its_result() {
        for provider in PROVIDERS {
            let script = vec![
                Turn::call("look", json!({ "arguments": ["here"] })).expect("Look around").expect("looks"),
                Turn::text("I saw it.").expect("seen here"),
            ];
            let (code, said, asked) = run(provider, script, |_| {}).await;
            assert_eq!(code, 0, "{provider:?}: {said}");
            let lines: Vec<&str> = said.lines().filter(|line| *line != ".").collect();
            assert_eq!(lines[1], "[tool] look: here", "{said}");
            assert_eq!(lines.last(), Some(&r#"{"quorate":"result","value":"I saw it."}"#), "{said}");
            let usage: Value = serde_json::from_str(lines[lines.len() - 2]).unwrap();
            assert_eq!((&usage["input_tokens"], &usage["cache_read_tokens"]), (&json!(120), &json!(80)));
            assert_eq!((&usage["output_tokens"], &usage["context_tokens"]), (&json!(20), &json!(110)));
            assert_eq!(asked.len(), 2);
        }
    }

    #[tokio::test]
    async fn a_key_is_sent_as_each_provider_wants_it() {
        for (provider, header) in
            PROVIDERS.into_iter().zip(["x-api-key", "authorization", "authorization", "x-goog-api-key"])
        {
            let (_, said, asked) = run(provider, vec![Turn::text("ok")], |job| {
                // A variable that is set wherever tests run, in place of a secret.
                job.settings.key_env = Some("CARGO_MANIFEST_DIR".into());
            })
            .await;
            let key = env!("CARGO_MANIFEST_DIR");
            assert!(asked[0].headers[header].to_str().unwrap().ends_with(key), "{provider:?}");
            assert!(!said.contains(key));
        }
    }

    #[tokio::test]
    async fn a_short_wait_is_waited_for() {
        let script = vec![Turn::refuse(429, Some(0)), Turn::refuse(500, Some(0)), Turn::text("ok")];
        let (code, said, _) = run(PROVIDERS[0], script, |_| {}).await;
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("refused it with 429: rate_limit_error: scripted 429; tries again in 0 s"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_long_wait_parks_the_task_until_then() {
        for provider in PROVIDERS {
            let (code, said, _) = run(provider, vec![Turn::refuse(429, Some(3600))], |_| {}).await;
            assert_eq!(code, Kind::Refused.exit_code());
            let parked: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
            assert_eq!((&parked["quorate"], &parked["after_ms"]), (&json!("parked"), &json!(3_600_000)));
        }
    }

    #[tokio::test]
    async fn refusals_without_an_end_park_it_after_the_last_try() {
        let script = vec![Turn::refuse(529, Some(0)); RETRIES_MAX as usize + 1];
        let (code, said, _) = run(PROVIDERS[0], script, |_| {}).await;
        assert_eq!(code, Kind::Refused.exit_code(), "{said}");
        let parked: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&parked["quorate"], parked.get("after_ms")), (&json!("parked"), None));
    }

    #[tokio::test]
    async fn who_waits_for_a_tool_shows_that_it_lives() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let work = tokio::time::sleep(Duration::from_millis(200));
        with_signs(&mut writer, Duration::from_millis(10), work).await;
        assert_eq!(out, b".");
    }

    /// A service that breaks off right behind what it says, without the end of the body; in the end come the bodies that it was
    /// sent.
    fn breaking(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        use std::io::{BufRead, BufReader, Read};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = move |text: String| {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                length =
                    lower.strip_prefix("content-length:").map_or(length, |rest| rest.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            write!(stream.get_mut(), "{head}{:x}\r\n{text}\r\n", text.len()).unwrap();
            String::from_utf8(body).unwrap()
        };
        (url, std::thread::spawn(move || answers.into_iter().map(serve).collect()))
    }

    fn stream(events: &[Value]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).collect()
    }

    #[tokio::test]
    async fn a_connection_that_breaks_behind_a_whole_answer_costs_nothing() {
        let call = json!({ "index": 0, "id": "c1", "function": { "name": "look", "arguments": "{}" } });
        let first =
            json!({ "choices": [{ "delta": { "tool_calls": [call] }, "finish_reason": "tool_calls" }] });
        let second = json!({ "choices": [{ "delta": { "content": "I saw it." }, "finish_reason": "stop" }] });
        let (url, asked) = breaking(vec![stream(&[first]), stream(&[second])]);
        let mut out = Vec::new();
        let code = drive(&job("openai-chat", url), &mut out).await.unwrap();
        let said = String::from_utf8(out).unwrap();
        assert_eq!(code, 0, "{said}");
        assert!(said.ends_with("{\"quorate\":\"result\",\"value\":\"I saw it.\"}\n"), "{said}");
        let asked = asked.join().unwrap();
        assert_eq!(asked[1].matches("\"role\":\"assistant\"").count(), 1, "{}", asked[1]);
        assert!(asked[1].contains("\"role\":\"tool\""), "{}", asked[1]);
    }

    #[tokio::test]
    async fn an_answer_that_broke_off_is_counted_too() {
        let usage = json!({ "input_tokens": 100, "output_tokens": 1 });
        let start = json!({ "type": "message_start", "message": { "usage": usage } });
        let block = json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "ok" } });
        let end = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 5 } });
        let (url, asked) = breaking(vec![stream(std::slice::from_ref(&start)), stream(&[start, block, end])]);
        let mut out = Vec::new();
        assert_eq!(drive(&job("anthropic", url), &mut out).await.unwrap(), 0);
        assert_eq!(asked.join().unwrap().len(), 2);
        let said = String::from_utf8(out).unwrap();
        let sums: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let inputs: Vec<&Value> =
            sums.iter().filter(|sum| sum["quorate"] == "usage").map(|sum| &sum["input_tokens"]).collect();
        assert_eq!(inputs, [&json!(100), &json!(200)], "{said}");
    }

    #[tokio::test]
    async fn what_no_wait_mends_fails_at_once() {
        let (code, said, _) = run(PROVIDERS[1], vec![Turn::refuse(400, None)], |_| {}).await;
        assert_eq!(code, 1);
        assert!(said.lines().last().unwrap().contains("refused it with 400"), "{said}");
    }

    /// The next task would be refused as well: none is to lose its attempts for it.
    #[tokio::test]
    async fn a_key_that_is_not_taken_parks() {
        let (_, said, _) = run(PROVIDERS[1], vec![Turn::refuse(401, None)], |_| {}).await;
        let parked: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(parked["quorate"], "parked", "{said}");
        assert!(parked["reason"].as_str().unwrap().contains("401: authentication_error"), "{said}");
    }

    #[tokio::test]
    async fn turns_are_bounded() {
        let script = vec![Turn::call("look", json!({})), Turn::call("look", json!({}))];
        let (code, said, _) = run(PROVIDERS[2], script, |job| job.settings.max_turns = Some(2)).await;
        assert_eq!(code, 1);
        assert!(said.ends_with("asked 2 times and was not done (max_turns)\n"), "{said}");
    }

    #[tokio::test]
    async fn a_call_of_what_is_not_there_is_told_to_the_model() {
        let script =
            vec![Turn::call("destroy", json!({})), Turn::text("ok").expect("there is no tool destroy")];
        assert_eq!(run(PROVIDERS[0], script, |_| {}).await.0, 0);
    }

    #[tokio::test]
    async fn calls_in_one_answer_are_bounded() {
        let mut many = Turn::default();
        for _ in 0..=CALLS_MAX {
            many = many.and(quorate_testkit::model::Say::Call("look".into(), json!({})));
        }
        let script = vec![many, Turn::text("ok").expect("at most 32 calls")];
        let (_, said, _) = run(PROVIDERS[0], script, |_| {}).await;
        assert_eq!(said.matches("[tool] look").count(), CALLS_MAX);
    }

    #[tokio::test]
    async fn a_service_that_cannot_be_reached_is_tried_again_and_then_waited_for() {
        let model = ScriptedModel::start([]);
        let url = model.url().to_owned();
        drop(model);
        let trouble = Trouble::from(
            http::ask(&Ask { url, headers: Vec::new(), body: Value::Null }).await.err().unwrap(),
        );
        assert!(trouble.passes, "{trouble:?}");
        assert!(matches!(trouble.verdict(0, WAIT_FIRST), Next::Wait));
        assert!(matches!(trouble.verdict(RETRIES_MAX, WAIT_FIRST), Next::End(Ending::Parked(_))));
    }

    #[test]
    fn waits_up_to_a_minute_are_short() {
        let limit = Trouble { can_wait: true, ..Trouble::passing("x") };
        assert!(matches!(limit.verdict(0, WAIT_SHORT), Next::Wait));
        let longer = WAIT_SHORT + Duration::from_millis(1);
        assert!(matches!(limit.verdict(0, longer), Next::End(Ending::Parked(_))));
    }

    #[test]
    fn a_service_says_how_long_to_wait_in_three_ways() {
        let check = |pairs: &[(&'static str, &str)], expected: Option<u64>| {
            let headers: hyper::HeaderMap =
                pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(retry_after(&headers), expected.map(Duration::from_millis), "{pairs:?}");
        };
        check(&[("retry-after", "7")], Some(7_000));
        check(&[("retry-after", "0.5")], Some(500));
        check(&[("retry-after", "-1")], Some(0));
        check(&[("retry-after-ms", "250"), ("retry-after", "7")], Some(250));
        let date = ("date", "Fri, 02 Jan 2026 10:00:00 GMT");
        check(&[("retry-after", "Fri, 02 Jan 2026 10:01:30 GMT"), date], Some(90_000));
        check(&[("retry-after", "Fri, 02 Jan 2026 10:01:30 GMT")], None);
        check(&[("retry-after", "soon")], None);
        check(&[], None);
    }

    #[test]
    fn the_words_of_an_error_are_found_wherever_they_stand() {
        let check = |value: Value, expected: &str| assert_eq!(said(&value, "body"), expected);
        check(json!({ "error": { "type": "t", "message": "m" } }), "t: m");
        check(json!([{ "error": { "status": "S", "message": "m" } }]), "S: m");
        check(json!({ "error": "words" }), "words");
        check(json!({ "detail": "x" }), "body");
    }
}
