//! The MCP door over real sockets, on both databases and in both specifications: 2025-11-25 and 2026-07-28.

mod door;

use door::Door;
use quorate_model::{Result, TaskId, TaskState};
use quorate_service::agent::{Begin, Crash, End};
use quorate_service::task::Take;
use quorate_service::token::Token;
use quorate_service::view::Claims;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{begin, command, next_of};
use serde_json::{Value, json};

/// A client of one specification.
struct Client<'a> {
    door: &'a Door,
    version: &'static str,
    token: Option<String>,
}

impl<'a> Client<'a> {
    fn new(door: &'a Door, version: &'static str) -> Client<'a> {
        Client { door, version, token: None }
    }

    /// Sends a request; answers with its result.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let answer = self.send(method, params).await;
        answer.get("result").unwrap_or_else(|| panic!("{method}: {answer}")).clone()
    }

    async fn send(&self, method: &str, mut params: Value) -> Value {
        let is_new = self.version == "2026-07-28";
        if is_new {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": self.version,
                "io.modelcontextprotocol/clientInfo": { "name": "Test Client", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let name = params["name"].as_str().unwrap_or_default().to_owned();
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut head = vec![
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", self.version),
        ];
        if is_new {
            head.push(("Mcp-Method", method));
            head.extend((!name.is_empty()).then_some(("Mcp-Name", name.as_str())));
        }
        head.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        self.door.raw("POST /mcp", &head, &body).await.json()
    }

    /// Calls a tool; answers with what it says.
    async fn call(&self, tool: &str, arguments: Value) -> String {
        let (text, failed) = self.try_call(tool, arguments).await;
        assert!(!failed, "{tool}: {text}");
        text
    }

    /// Calls a tool that must fail.
    async fn fails(&self, tool: &str, arguments: Value) -> String {
        let (text, failed) = self.try_call(tool, arguments).await;
        assert!(failed, "{tool}: {text}");
        text
    }

    async fn try_call(&self, tool: &str, arguments: Value) -> (String, bool) {
        let result = self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await;
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned();
        (text, result["isError"] == true)
    }
}

const VERSIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];

async fn the_tools_are_those_that_are_promised(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    for version in VERSIONS {
        let client = Client::new(&door, version);
        let tools = client.ask("tools/list", json!({})).await;
        let names: Vec<&str> = tools["tools"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|tool| tool["name"].as_str().expect("a name"))
            .collect();
        assert_eq!(
            names,
            [
                "next_task",
                "progress",
                "finish",
                "add_tasks",
                "claim",
                "release",
                "send",
                "inbox",
                "remember",
                "recall",
                "context",
                "status"
            ]
        );
    }
    let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let greeting = Client::new(&door, "2025-11-25").ask("initialize", hello).await;
    assert_eq!(greeting["protocolVersion"], "2025-11-25");
    assert!(greeting["instructions"].as_str().is_some_and(|text| text.contains("next_task")), "{greeting}");
    let found = Client::new(&door, "2026-07-28").ask("server/discover", json!({})).await;
    assert!(
        found["supportedVersions"].as_array().is_some_and(|all| all.contains(&json!("2026-07-28"))),
        "{found}"
    );
    Ok(())
}

async fn a_task_goes_through_its_life_in_both_specifications(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    for version in VERSIONS {
        let client = Client::new(&door, version);
        let tasks = json!({ "tasks": [
            { "title": "Look", "prompt": "Look well.", "key": "look" },
            { "title": "Tell", "prompt": "Tell it.", "needs": ["look"] },
        ]});
        let added = client.call("add_tasks", tasks).await;
        let first: i64 = added.split(' ').nth(1).and_then(|id| id.parse().ok()).expect("an id");
        let next = client.call("next_task", json!({ "agent": "ada" })).await;
        assert!(next.starts_with(&format!("task {first} (look): Look\nterm 1, attempt 1")), "{next}");
        assert!(next.contains("what to do: Look well.\n"), "{next}");
        let again = client.call("next_task", json!({ "agent": "ada" })).await;
        assert!(again.starts_with(&format!("task {first} (look)")), "{again}");
        let noted = client.call("progress", json!({ "id": first, "term": 1.0, "percent": 50.0 })).await;
        assert!(noted.starts_with("noted"), "{noted}");
        let stale = client.fails("finish", json!({ "id": first, "term": 7, "result": "x" })).await;
        assert!(stale.starts_with("stale: "), "{stale}");
        let done = client.call("finish", json!({ "id": first, "term": 1, "result": { "seen": 3 } })).await;
        assert_eq!(done, format!("task {first} is completed"));
        let next = client.call("next_task", json!({ "agent": "ada" })).await;
        assert!(next.contains("result of look: {\"seen\":3}\n"), "{next}");
        let second = first + 1;
        let failed = client
            .call("finish", json!({ "id": second, "term": 1, "error": "no words", "final": true }))
            .await;
        assert_eq!(failed, format!("task {second} has failed for good"));
        let shown = client.call("status", json!({ "task_id": second })).await;
        assert!(shown.contains("failed") && shown.contains("no words"), "{shown}");
        let none = client.call("next_task", json!({ "agent": "ada" })).await;
        assert!(none.starts_with("no task is ready for ada"), "{none}");
    }
    Ok(())
}

async fn what_an_agent_says_it_used_reaches_its_budget(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    for title in ["one", "two"] {
        door.post("/tasks", json!({ "title": title, "prompt": "x", "budget": { "usd": 0.5 } })).await.done();
    }
    let used = |usd: f64| json!([{ "model": "m", "input_tokens": 10, "output_tokens": 5, "usd": usd }]);
    client.call("next_task", json!({ "agent": "ada" })).await;
    let noted = client.call("progress", json!({ "id": 1, "term": 1, "usage": used(0.1) })).await;
    assert!(noted.starts_with("noted"), "{noted}");
    let parked = client.call("progress", json!({ "id": 1, "term": 1, "usage": used(0.6) })).await;
    assert!(
        parked.starts_with("task 1 is parked: budget: task 1 has used $0.60 of $0.50; stop here"),
        "{parked}"
    );
    client.call("next_task", json!({ "agent": "ada" })).await;
    let failed = json!({ "id": 2, "term": 1, "error": "no", "final": true, "usage": used(0.7) });
    let failed = client.call("finish", failed).await;
    assert_eq!(failed, "task 2 has failed for good; budget: task 2 has used $0.70 of $0.50");
    let wrong = json!({ "id": 2, "term": 1, "usage": [{ "model": "m", "tokens": 1 }] });
    let wrong = client.fails("progress", wrong).await;
    assert!(wrong.contains("`usage[0].tokens`") || wrong.contains("unknown field `tokens`"), "{wrong}");
    Ok(())
}

async fn who_waits_for_a_task_has_it_when_it_comes(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    let waiting = client.call("next_task", json!({ "agent": "ada", "wait": "20s" }));
    let adding = async {
        // Only once it waits: a sign of life is the first thing that it writes.
        while ledger.count("agent.added").await == 0 {
            tokio::task::yield_now().await;
        }
        ledger.add(command("late")).await
    };
    let (next, added) = tokio::join!(waiting, adding);
    assert!(next.contains(": late\n"), "{next}");
    added?;
    let long = client.fails("next_task", json!({ "agent": "ada", "wait": "2h" })).await;
    assert!(long.contains("longer than 1h"), "{long}");
    Ok(())
}

async fn claims_and_messages_are_whose_they_are(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    let yours = client.call("claim", json!({ "agent": "ada", "resources": ["src/**"] })).await;
    assert!(yours.starts_with("yours: src/** until "), "{yours}");
    let held = client.fails("claim", json!({ "agent": "eve", "resources": ["src/a.rs"] })).await;
    assert!(held.starts_with("conflict: ") && held.contains("ada"), "{held}");
    let sent = client
        .call("send", json!({ "from": "ada", "to": "eve", "kind": "help", "text": "where is it?" }))
        .await;
    assert!(sent.ends_with("in the inbox of eve"), "{sent}");
    let inbox = client.call("inbox", json!({ "agent": "eve" })).await;
    assert!(inbox.contains("help from ada") && inbox.ends_with("where is it?"), "{inbox}");
    assert_eq!(client.call("inbox", json!({ "agent": "eve" })).await, "no unread messages");
    let free = client.call("release", json!({ "agent": "ada", "resources": ["src/**"] })).await;
    assert_eq!(free, "released: src/**");
    let unnamed = client.call("claim", json!({ "resources": ["b.rs"] })).await;
    assert!(unnamed.starts_with("yours: b.rs"), "{unnamed}");
    let claims = ledger.store.read(Claims { agent: None }).await?;
    assert!(
        claims.iter().any(|claim| claim.agent == "test-client"),
        "a program's name stands for its person"
    );
    Ok(())
}

async fn an_inbox_is_shown_bit_by_bit_and_nothing_is_skipped(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    ledger.join("eve").await?;
    let texts: Vec<String> = [9_000, 9_000, 60_000, 10].iter().map(|length| "ö".repeat(length / 2)).collect();
    for text in &texts {
        client.call("send", json!({ "from": "ada", "to": "eve", "text": text })).await;
    }
    // As many as fit; one that would never fit comes alone.
    for (text, more) in texts.iter().zip(["3 more", "2 more", "1 more", ""]) {
        let inbox = client.call("inbox", json!({ "agent": "eve" })).await;
        let hint = if more.is_empty() { String::new() } else { format!("\n{more}: call `inbox` again") };
        assert!(inbox.ends_with(&format!(": {text}{hint}")), "{more}: {} bytes", inbox.len());
    }
    assert_eq!(client.call("inbox", json!({ "agent": "eve" })).await, "no unread messages");
    Ok(())
}

async fn what_one_found_out_another_is_told(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    let kept = client
        .call("remember", json!({ "agent": "ada", "text": "The port is 7331.", "tags": ["network"] }))
        .await;
    assert!(kept.starts_with("kept as memory "), "{kept}");
    let found = client.call("recall", json!({ "query": "port" })).await;
    assert!(found.contains("finding by ada") && found.ends_with("The port is 7331."), "{found}");
    ledger.add(command("look")).await?;
    client.call("next_task", json!({ "agent": "ada" })).await;
    let progress = json!({ "id": 1, "term": 1, "findings": ["The moon is round."] });
    client.call("progress", progress.clone()).await;
    assert!(client.call("recall", json!({ "query": "moon" })).await.contains("The moon is round."));
    let both =
        client.fails("finish", json!({ "id": 1, "term": 1, "result": "sand", "error": "no words" })).await;
    assert!(both.contains("not with both"), "{both}");
    // Models fill in what they could leave out.
    client.call("finish", json!({ "id": 1, "term": 1, "result": "nothing but sand", "error": "" })).await;
    let found = client.call("recall", json!({ "query": "sand" })).await;
    assert!(found.starts_with("task:1 finding by ada"), "{found}");
    assert!(
        client.fails("progress", progress).await.starts_with("stale"),
        "who has no task tells nothing with it"
    );
    let context = client.call("context", json!({ "agent": "ada", "budget": 500 })).await;
    assert!(context.contains("nothing but sand"), "{context}");
    let none = client.call("recall", json!({ "query": "elephants" })).await;
    assert_eq!(none, "the team knows nothing of that");
    Ok(())
}

async fn an_agent_with_a_token_is_itself_alone(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    for name in ["ada", "eve"] {
        ledger.join(name).await?;
    }
    let given = door.post("/agents/ada/tokens", json!({})).await.done();
    let token = given["token"].as_str().expect("a token").to_owned();
    let ada = Client { token: Some(token.clone()), ..Client::new(&door, "2026-07-28") };
    let id = ledger.add(command("one")).await?.0;
    let next = ada.call("next_task", json!({})).await;
    assert!(next.starts_with(&format!("task {id}: one")), "{next}");
    let refused = ada.fails("next_task", json!({ "agent": "eve" })).await;
    assert!(refused.starts_with("refused: ") && refused.contains("ada"), "{refused}");
    let person = Client::new(&door, "2026-07-28");
    let other = ledger.add(command("two")).await?.0;
    person.call("next_task", json!({ "agent": "eve" })).await;
    let theirs = ada.fails("finish", json!({ "id": other, "term": 1 })).await;
    assert!(theirs.starts_with("refused: "), "{theirs}");
    // Nobody has it under that term yet: when the write came, another might.
    let next = ledger.add(command("three")).await?.0;
    let early = ada.fails("finish", json!({ "id": next, "term": 1, "result": "mine" })).await;
    assert!(early.starts_with("stale: ") && early.contains("has not had the term 1"), "{early}");
    assert_eq!(ledger.count("write.refused").await, 0, "nothing was written");
    let check = json!({ "tasks": [{ "title": "t", "prompt": "p", "verify": "rm -r /" }] });
    assert!(ada.fails("add_tasks", check.clone()).await.contains("may not"));
    person.call("add_tasks", check).await;
    let revoked = door.send("DELETE /api/v1/agents/ada/tokens", None).await.done();
    assert_eq!(revoked["revoked"], 1);
    let answer = door.raw("GET /api/v1/status", &[("Authorization", &format!("Bearer {token}"))], "").await;
    assert_eq!(answer.problem().0, 401);
    Ok(())
}

async fn whom_a_node_gives_its_tasks_cannot_pull_more(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    let token = Token::fresh()?;
    ledger.store.write(Begin { token: Some(token.digest()), ..begin("ada", "1") }).await?;
    let ada = Client { token: Some(token.reveal().to_owned()), ..Client::new(&door, "2026-07-28") };
    let (one, _) = (ledger.add(command("one")).await?, ledger.add(command("two")).await?);
    let taken =
        ledger.store.write(Take { node: Some("1".into()), ..next_of("ada") }).await?.task().expect("a task");
    assert_eq!(taken.task.id, one);
    let own = ada.call("next_task", json!({})).await;
    assert!(own.starts_with(&format!("task {one}: one")), "its own it may be shown: {own}");
    let early = ada.fails("finish", json!({ "id": one.0, "term": 1 })).await;
    assert!(early.contains("it ends with your process") && early.contains("exit with 0"), "{early}");
    let bearer = format!("Bearer {}", token.reveal());
    let head = [("Host", "localhost"), ("Content-Type", "application/json"), ("Authorization", &bearer)];
    let over_http = door.raw(&format!("POST /api/v1/tasks/{}/done", one.0), &head, r#"{"term":1}"#).await;
    assert_eq!(over_http.problem().0, 403, "its node ends it");
    assert_eq!(ledger.state(one).await?, TaskState::Running);
    ledger.done(&taken).await?;
    let refused = ada.fails("next_task", json!({})).await;
    assert!(refused.starts_with("refused: a node gives ada its tasks"), "{refused}");
    let next = client.call("next_task", json!({ "agent": "eve" })).await;
    assert!(next.contains(": two\n"), "{next}");
    Ok(())
}

async fn what_is_wrong_is_named_and_changes_nothing(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    let unknown = client.fails("progress", json!({ "id": 1, "term": 1, "percnt": 5 })).await;
    assert!(unknown.contains("percnt") && unknown.contains("did you mean `percent`"), "{unknown}");
    let missing = client.fails("finish", json!({ "id": 1 })).await;
    assert!(missing.contains("term"), "{missing}");
    let circle = json!({ "tasks": [
        { "title": "a", "prompt": "a", "key": "a", "needs": ["b"] },
        { "title": "b", "prompt": "b", "key": "b", "needs": ["a"] },
    ]});
    let circle = client.fails("add_tasks", circle).await;
    assert!(circle.contains("circle: a -> b -> a"), "{circle}");
    let stranger = json!({ "tasks": [{ "title": "a", "prompt": "a", "key": "abc", "needs": ["abd"] }] });
    let stranger = client.fails("add_tasks", stranger).await;
    assert!(stranger.contains("tasks[0]") && stranger.contains("did you mean `abc`"), "{stranger}");
    let empty = client.fails("add_tasks", json!({ "tasks": [] })).await;
    assert!(empty.contains("from 1 to 100"), "{empty}");
    assert_eq!(ledger.count("task.added").await, 0);
    let error = client.send("tools/call", json!({ "name": "no_such_tool", "arguments": {} })).await;
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("no_such_tool")), "{error}");
    Ok(())
}

async fn who_takes_nothing_is_told_why(ledger: TestLedger) -> Result<()> {
    let config = "[agents.ada]\ndriver = 'external'\nbudget = { tokens = 100 }\n";
    let door = Door::configured(&ledger, config).await;
    let client = Client::new(&door, "2026-07-28");
    ledger.add(command("one")).await?;
    client.call("next_task", json!({ "agent": "ada" })).await;
    let used = json!([{ "model": "m", "output_tokens": 100 }]);
    client.call("finish", json!({ "id": 1, "term": 1, "result": "x", "usage": used })).await;
    for title in ["two", "three"] {
        ledger.add(command(title)).await?;
    }
    let over = client.fails("next_task", json!({ "agent": "ada" })).await;
    assert!(
        over.starts_with("refused: ada takes nothing more: budget: agent ada has used 100 of 100"),
        "{over}"
    );
    ledger.join("bob").await?;
    door.post("/agents/bob/pause", json!({})).await.done();
    ledger.store.write(begin("eve", "1")).await?;
    let crash = Crash {
        name: "eve".into(),
        task: TaskId(2),
        reason: "exit 139".into(),
        spawn: true,
        max_respawns: 0,
    };
    ledger.store.write(crash).await?;
    ledger.store.write(End { name: "eve".into(), node: "1".into() }).await?;
    for (agent, why) in [("bob", "bob is paused"), ("eve", "eve has failed too often")] {
        let told = client.call("next_task", json!({ "agent": agent, "wait": "100ms" })).await;
        assert_eq!(told, format!("{why}: it takes nothing more; stop here, a person lets it go on"));
    }
    Ok(())
}

async fn who_comes_from_elsewhere_is_kept_out(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} }).to_string();
    let json = ("Content-Type", "application/json");
    let both = ("Accept", "application/json, text/event-stream");
    let from = |host: &'static str, origin: Option<&'static str>| {
        let mut head = vec![("Host", host), json, both];
        head.extend(origin.map(|origin| ("Origin", origin)));
        head
    };
    assert_eq!(door.raw("POST /mcp", &from("localhost", None), &body).await.status, 200);
    assert_eq!(door.raw("POST /mcp", &from("evil.example", None), &body).await.status, 403);
    assert_eq!(
        door.raw("POST /mcp", &from("localhost", Some("https://evil.example")), &body).await.status,
        403
    );
    let wrong = [("Host", "localhost"), json, both, ("Authorization", "Bearer wrong")];
    assert_eq!(door.raw("POST /mcp", &wrong, &body).await.status, 401);
    Ok(())
}

async fn a_whole_task_is_short_whatever_is_around_it(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let client = Client::new(&door, "2026-07-28");
    let long = "word ".repeat(2_000);
    let mut tasks: Vec<Value> = (0..40)
        .map(|n| json!({ "title": format!("t{n}"), "prompt": "p", "key": format!("key-of-task-{n}") }))
        .collect();
    let keys: Vec<Value> = tasks.iter().map(|task| task["key"].clone()).collect();
    let claims: Vec<String> = (0..60).map(|n| format!("src/some/folder/file-{n}.rs")).collect();
    let verify = format!("test -n '{long}'");
    tasks.push(
        json!({ "title": "last", "prompt": "the prompt", "needs": keys, "claims": claims, "verify": verify }),
    );
    client.call("add_tasks", json!({ "tasks": tasks })).await;
    for id in 1..=40 {
        client.call("next_task", json!({ "agent": "ada" })).await;
        client.call("finish", json!({ "id": id, "term": 1, "result": long })).await;
    }
    // Three attempts fail at length; another agent each time, who need not wait for the pause of the one before.
    for (agent, term) in [("ada", 1), ("bob", 3)] {
        ledger.advance(120_000).await;
        let next = client.call("next_task", json!({ "agent": agent })).await;
        assert!(next.starts_with("task 41"), "{next}");
        client.call("finish", json!({ "id": 41, "term": term, "error": long })).await;
    }
    ledger.advance(120_000).await;
    let next = client.call("next_task", json!({ "agent": "eve" })).await;
    assert!(next.contains("what to do: the prompt\n") && next.contains("attempt 2 by bob"), "{next}");
    let tokens = tiktoken_rs::o200k_base().expect("it carries its vocabulary").encode_ordinary(&next).len();
    assert!(tokens < 600, "{tokens} tokens:\n{next}");
    Ok(())
}

on_every_backend!(
    what_an_agent_says_it_used_reaches_its_budget,
    the_tools_are_those_that_are_promised,
    a_task_goes_through_its_life_in_both_specifications,
    who_waits_for_a_task_has_it_when_it_comes,
    claims_and_messages_are_whose_they_are,
    an_inbox_is_shown_bit_by_bit_and_nothing_is_skipped,
    what_one_found_out_another_is_told,
    an_agent_with_a_token_is_itself_alone,
    whom_a_node_gives_its_tasks_cannot_pull_more,
    who_takes_nothing_is_told_why,
    what_is_wrong_is_named_and_changes_nothing,
    who_comes_from_elsewhere_is_kept_out,
    a_whole_task_is_short_whatever_is_around_it,
);
