//! The HTTP door over real sockets, on both databases.

mod door;

use door::{Door, PATIENCE, read};
use quorate_model::{Result, TaskState};
use quorate_service::SCHEMA;
use quorate_service::goal::APPROVAL;
use quorate_service::task::{NewTask, Park, Work};
use quorate_service::view::Tasks;
use quorate_store::{Options, Store, Url};
use quorate_testkit::ledger::{Backend, TestLedger};
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::command;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

async fn a_task_goes_through_its_life(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let task = json!({ "title": "Look", "prompt": "Look well.", "claims": ["src/**"], "priority": "high" });
    let id = door.post("/tasks", task).await.done()["id"].as_i64().expect("an id");
    let taken = door.post("/tasks/next", json!({ "agent": "ada" })).await.done();
    assert_eq!(
        (&taken["id"], &taken["prompt"], &taken["priority"]),
        (&json!(id), &json!("Look well."), &json!("high"))
    );
    let term = taken["term"].as_i64().expect("a term");
    let again = door.post("/tasks/next", json!({ "agent": "ada" })).await.done();
    assert_eq!((&again["id"], &again["term"]), (&json!(id), &json!(term)));

    let progress = json!({ "term": term, "percent": 40, "message": "half" });
    let told = door.post(&format!("/tasks/{id}/progress"), progress).await.done();
    assert_eq!((&told["progress"], &told["message"]), (&json!(40), &json!("half")));
    // To JSON that is a whole number; half of one is not.
    let told =
        door.post(&format!("/tasks/{id}/progress"), json!({ "term": term, "percent": 60.0 })).await.done();
    assert_eq!(told["progress"], json!(60));
    let half =
        door.post(&format!("/tasks/{id}/progress"), json!({ "term": term, "percent": 60.5 })).await.problem();
    assert!(half.0 == 400 && half.2.contains("percent"), "{half:?}");
    let late =
        door.post(&format!("/tasks/{id}/done"), json!({ "term": term - 1, "result": 1 })).await.problem();
    assert_eq!((late.0, late.1.as_str()), (412, "stale"), "{}", late.2);
    let done = door
        .post(&format!("/tasks/{id}/done"), json!({ "term": term, "result": { "found": 3 } }))
        .await
        .done();
    assert_eq!(done, json!({ "id": id, "state": "completed" }));
    let story = door.get(&format!("/tasks/{id}")).await.done();
    assert_eq!(
        (&story["result"], story["attempts"].as_array().map(Vec::len)),
        (&json!({ "found": 3 }), Some(1))
    );
    assert_eq!(door.post("/tasks/next", json!({ "agent": "ada", "wait": "10ms" })).await.done(), Value::Null);
    let attempt = |number: &str| format!("/tasks/{id}/output?attempt={number}");
    assert_eq!(door.get(&attempt("1.0")).await.done()["attempt"], json!(1));
    assert_eq!(door.get(&attempt("1.5")).await.problem().0, 400);
    let listed = door.get("/tasks?state=completed").await.done();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let status = door.get("/status").await.done();
    assert_eq!((&status["tasks"], &status["agents"][0]["name"]), (&json!({ "completed": 1 }), &json!("ada")));
    Ok(())
}

async fn what_an_agent_says_it_used_counts_once_and_a_budget_parks_its_task(
    ledger: TestLedger,
) -> Result<()> {
    let door = Door::open(&ledger).await;
    let task = json!({ "title": "Look", "prompt": "Look well.", "budget": { "tokens": 1_000 } });
    let id = door.post("/tasks", task).await.done()["id"].as_i64().expect("an id");
    let at = |word: &str| format!("/tasks/{id}/{word}");
    let used = async || door.get(&format!("/tasks/{id}")).await.done()["usage"].clone();
    let first = door.post("/tasks/next", json!({ "agent": "ada" })).await.done()["term"].clone();
    let say = |input: i64| json!({ "term": first, "usage": [{ "model": "claude-sonnet-4-5", "input_tokens": input, "cache_read_tokens": 9_000 }] });
    for _ in 0..2 {
        let told = door.post(&at("progress"), say(100)).await.done();
        assert_eq!(told["state"], "running");
    }
    let known = used().await;
    assert_eq!((known.as_array().map(Vec::len), &known[0]["input_tokens"]), (Some(1), &json!(100)));
    assert_eq!(known[0]["usd"], json!(0.003), "with its price");
    let below = json!({ "term": first, "usage": [{ "model": "m", "input_tokens": -1 }] });
    let wrong = door.post(&at("progress"), below).await.problem();
    assert!(wrong.0 == 400 && wrong.2.contains("`usage[0]`: `input_tokens` is not from 0"), "{wrong:?}");
    let parked = door.post(&at("progress"), say(1_100)).await.done();
    let reason = format!("budget: task {id} has used 1,100 of 1,000 tokens");
    assert_eq!((&parked["state"], &parked["reason"]), (&json!("parked"), &json!(reason)));
    let late = door.post(&at("progress"), say(1_200)).await.problem();
    assert_eq!((late.0, late.1.as_str()), (412, "stale"), "{}", late.2);
    assert_eq!(used().await[0]["input_tokens"], 1_200, "what was spent was spent");

    ledger.join("eve").await?;
    let eve =
        door.post("/agents/eve/tokens", json!({})).await.done()["token"].as_str().expect("one").to_owned();
    let head = [("Authorization", &*format!("Bearer {eve}")), ("Content-Type", "application/json")];
    let request = format!("POST /api/v1{}", at("progress"));
    let another = door.raw(&request, &head, &say(5_000).to_string()).await.problem();
    assert!(another.0 == 403 && another.2.contains("ada's, not eve's"), "{another:?}");

    door.post(&at("unpark"), json!({})).await.done();
    let second = door.post("/tasks/next", json!({ "agent": "ada" })).await.done()["term"].clone();
    let done =
        json!({ "term": second, "result": 1, "usage": [{ "model": "house-model", "output_tokens": 5_000 }] });
    let reason = format!("budget: task {id} has used 5,000 of 1,000 tokens");
    for _ in 0..2 {
        let said = door.post(&at("done"), done.clone()).await.done();
        assert_eq!(said, json!({ "id": id, "state": "completed", "budget": reason }), "what is done is done");
    }
    let known = used().await;
    assert_eq!((known.as_array().map(Vec::len), &known[1]["output_tokens"]), (Some(2), &json!(5_000)));
    assert_eq!(
        (&known[1]["usd"], ledger.count("task.used").await),
        (&Value::Null, 1),
        "no price, and told once"
    );
    Ok(())
}

async fn an_agent_takes_nothing_back_of_what_it_said_it_used(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let id =
        door.post("/tasks", json!({ "title": "Look", "prompt": "Look well." })).await.done()["id"].clone();
    ledger.join("ada").await?;
    let token = door.post("/agents/ada/tokens", json!({})).await.done()["token"].clone();
    let bearer = format!("Bearer {}", token.as_str().expect("a token"));
    let head = [("Authorization", &*bearer), ("Content-Type", "application/json")];
    let ada = async |at: &str, body: Value| {
        door.raw(&format!("POST /api/v1/tasks/{at}"), &head, &body.to_string()).await.done()
    };
    let tokens = async || door.get("/agents/ada").await.done()["cost"]["tokens"].clone();
    let term = ada("next", json!({})).await["term"].clone();
    let used = |tokens: i64| json!([{ "model": "m", "output_tokens": tokens }]);
    let done = |tokens: i64| json!({ "term": term, "result": 1, "usage": used(tokens) });
    ada(&format!("{id}/progress"), json!({ "term": term, "usage": used(5_000) })).await;
    for said in [5_000, 0, 10] {
        assert_eq!(ada(&format!("{id}/done"), done(said)).await["state"], "completed");
        assert_eq!(tokens().await, 5_000, "after {said}");
    }
    assert_eq!(door.get(&format!("/tasks/{id}")).await.done()["usage"][0]["output_tokens"], 5_000);
    door.post(&format!("/tasks/{id}/done"), done(10)).await.done();
    assert_eq!(tokens().await, 10, "a person may correct it");
    Ok(())
}

async fn what_reaches_its_agents_budget_is_given_to_others_and_refused(ledger: TestLedger) -> Result<()> {
    let config = "[agents.ada]\ndriver = 'external'\nbudget = { tokens = 100 }\n";
    let door = Door::configured(&ledger, config).await;
    let id =
        door.post("/tasks", json!({ "title": "Look", "prompt": "Look well." })).await.done()["id"].clone();
    let next = json!({ "agent": "ada" });
    let term = door.post("/tasks/next", next.clone()).await.done()["term"].clone();
    let used = json!([{ "model": "m", "output_tokens": 100 }]);
    let over =
        door.post(&format!("/tasks/{id}/progress"), json!({ "term": term, "usage": used })).await.problem();
    let why = format!("task {id} is given back: budget: agent ada has used 100 of 100 tokens");
    assert!(over.0 == 403 && over.2.contains(&why), "{over:?}");
    let other = door.post("/tasks/next", json!({ "agent": "eve" })).await.done();
    assert_eq!((&other["id"], &other["previous_attempts"][0]["outcome"]), (&id, &json!("released")));
    Ok(())
}

async fn a_run_is_stored_called_off_and_resumed(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let plan = json!({ "goal": "two", "task": [{ "key": "a", "run": "true" }, { "key": "b", "run": "true", "needs": ["a"] }] });
    let id = door.post("/runs", json!({ "plan": plan })).await.done()["id"].as_i64().expect("an id");
    let run = door.get(&format!("/runs/{id}")).await.done();
    assert_eq!(
        (run["tasks"].as_array().map(Vec::len), run["needs"].as_array().map(Vec::len)),
        (Some(2), Some(1))
    );
    assert_eq!(door.get("/runs").await.done()[0]["counts"], json!({ "ready": 1, "waiting": 1 }));
    let wrong = json!({ "plan": { "goal": "x", "task": [{ "key": "a", "run": "true", "needs": ["b"] }] } });
    let (status, kind, said) = door.post("/runs", wrong).await.problem();
    assert_eq!((status, kind.as_str()), (400, "invalid"));
    assert!(said.contains("plan.json"), "{said}");
    let cancelled = door.post(&format!("/runs/{id}/cancel"), json!({ "reason": "enough" })).await.done();
    assert_eq!(
        (&cancelled["state"], &cancelled["tasks"][1]["state"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    let resumed = door.post(&format!("/runs/{id}/resume"), json!({})).await.done();
    assert_eq!((&resumed["id"], &resumed["state"]), (&json!(id), &json!("running")));
    assert_eq!(resumed["tasks"], door.get(&format!("/runs/{id}")).await.done()["tasks"], "the whole run");
    assert_eq!(door.get("/runs").await.done()[0]["counts"], json!({ "ready": 1, "waiting": 1 }));
    assert_eq!(door.post("/runs/99/resume", json!({})).await.problem().0, 404);
    Ok(())
}

async fn an_approved_run_is_told_as_a_whole(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let (run, tasks) = ledger.start(vec![command("one")]).await?;
    let park = Park { id: tasks[0], term: None, reason: APPROVAL.into(), until: None };
    ledger.store.write(park).await?;
    let approved = door.post(&format!("/runs/{run}/approve"), json!({})).await.done();
    assert_eq!((&approved["id"], &approved["tasks"][0]["state"]), (&json!(run.0), &json!("ready")));
    Ok(())
}

async fn who_is_added_again_keeps_what_is_not_said(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let add = async |more: Value| {
        let mut body = json!({ "name": "maria" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let agent = door.post("/agents", body).await.done();
        json!([agent["driver"], agent["capabilities"]])
    };
    assert_eq!(add(json!({})).await, json!(["external", []]));
    assert_eq!(add(json!({ "driver": "human", "capabilities": ["docs"] })).await, json!(["human", ["docs"]]));
    assert_eq!(add(json!({})).await, json!(["human", ["docs"]]));
    assert_eq!(add(json!({ "capabilities": [] })).await, json!(["human", []]));
    Ok(())
}

async fn an_agent_begins_runs_but_none_that_run_commands(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    ledger.join("eve").await?;
    let token = door.post("/agents/eve/tokens", json!({})).await.done()["token"].clone();
    let bearer = format!("Bearer {}", token.as_str().expect("a token"));
    let head = [("Authorization", &*bearer), ("Content-Type", "application/json")];
    let start = async |body: Value| door.raw("POST /api/v1/runs", &head, &body.to_string()).await;
    let plan = |task: Value| json!({ "plan": { "goal": "x", "task": [task] } });
    // With the check of a plan she would answer with one that holds commands, and have it begun.
    for task in [
        json!({ "key": "p", "prompt": "p", "agent": "eve", "verify": "@plan" }),
        json!({ "key": "p", "prompt": "p", "verify": "true" }),
        json!({ "key": "p", "run": "true" }),
    ] {
        let (status, kind, said) = start(plan(task)).await.problem();
        assert_eq!((status, kind.as_str()), (403, "refused"), "{said}");
        assert!(said.contains("eve is an agent: it may not have a node run commands"), "{said}");
    }
    assert_eq!(door.get("/tasks").await.done(), json!([]));
    assert_eq!(start(plan(json!({ "key": "p", "prompt": "p" }))).await.done(), json!({ "id": 1 }));
    assert_eq!(start(json!({ "goal": "make it so" })).await.done(), json!({ "id": 2 }));
    // Where plans may hold commands, she may be the one who plans her own goal: a person is asked about its plan.
    for (orchestrator, verify) in [("commands = true", "@plan-approve"), ("", "@plan")] {
        let text = format!("[orchestrator]\n{orchestrator}\n[agents.eve]\ndriver = \"claude\"\n");
        let door = Door::configured(&ledger, &text).await;
        let goal = json!({ "goal": "make it so" });
        let hers = door.raw("POST /api/v1/runs", &head, &goal.to_string()).await.done();
        let ours = door.post("/runs", goal).await.done();
        for (run, expected) in [(hers, verify), (ours, "@plan")] {
            let story = door.get(&format!("/runs/{}", run["id"])).await.done();
            let id = story["tasks"][0]["id"].clone();
            assert_eq!(door.get(&format!("/tasks/{id}")).await.done()["verify"], expected, "{orchestrator}");
        }
    }
    Ok(())
}

async fn who_is_removed_while_he_waits_does_not_come_back(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let waits = door.post("/tasks/next", json!({ "agent": "bob", "wait": "1h" }));
    let removes = async {
        while door.get("/agents/bob").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        door.send("DELETE /api/v1/agents/bob", None).await.done();
        ledger.add(command("one")).await
    };
    // It is noticed at the next sign of life: every 20 s.
    let (waited, added) = tokio::join!(waits, removes);
    let (status, kind, said) = waited.problem();
    assert_eq!((status, kind.as_str()), (403, "refused"), "{said}");
    assert!(said.contains("bob was removed") && said.contains("quorate agent add bob"), "{said}");
    assert_eq!(ledger.state(added?).await?, TaskState::Ready);
    assert_eq!((ledger.count("agent.added").await, door.get("/agents/bob").await.status), (1, 404));
    Ok(())
}

async fn claims_and_messages_are_whose_they_are(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let claim = |agent: &str| json!({ "agent": agent, "resources": ["src/a.rs", "port:1"] });
    let held = door.post("/claims", claim("ada")).await.done();
    assert_eq!((&held[0]["resource"], &held[1]["agent"]), (&json!("src/a.rs"), &json!("ada")));
    let (status, kind, said) = door.post("/claims", claim("bob")).await.problem();
    assert_eq!((status, kind.as_str()), (409, "conflict"));
    assert!(said.contains("ada"), "{said}");
    let path = json!({ "agent": "bob", "resources": ["../../etc"] });
    assert_eq!(door.post("/claims", path).await.problem().0, 400);
    let released =
        door.post("/claims/release", json!({ "agent": "ada", "resources": ["src/a.rs"] })).await.done();
    assert_eq!(released.as_array().map(Vec::len), Some(1));
    let forced = json!({ "resources": ["port:1"], "reason": "ada is gone" });
    assert_eq!(door.post("/claims/release", forced).await.status, 200);
    assert_eq!(door.get("/claims").await.done(), json!([]));
    let brief = json!({ "agent": "ada", "resources": ["brief"], "ttl": "100ms" });
    assert_eq!(door.post("/claims", brief).await.status, 200);

    let letter = json!({ "from": "ada", "to": "bob", "kind": "help", "text": "How?" });
    assert_eq!(door.post("/messages", letter).await.done(), json!({ "id": 1 }));
    let shown = door.get("/agents/bob/inbox").await.done();
    assert_eq!((&shown[0]["text"], &shown[0]["from"]), (&json!("How?"), &json!("ada")));
    assert_eq!(door.get("/agents/bob").await.done()["unread"], 1);
    assert_eq!(door.post("/agents/bob/inbox", json!({})).await.done().as_array().map(Vec::len), Some(1));
    assert_eq!(door.get("/agents/bob/inbox").await.done(), json!([]));
    assert_eq!(door.post("/agents/bob/pause", json!({})).await.done()["state"], "paused");
    assert_eq!(door.send("DELETE /api/v1/agents/bob", None).await.done(), Value::Null);
    assert_eq!(door.get("/agents/bobb").await.problem().0, 404);
    Ok(())
}

async fn the_memory_is_told_and_asked(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let told = json!({ "agent": "ada", "text": "the parser drops lines", "tags": ["parser"], "ttl": "7d" });
    assert_eq!(door.post("/memories", told.clone()).await.done(), json!({ "id": 1, "count": 1 }));
    assert_eq!(door.post("/memories", told).await.done(), json!({ "id": 1, "count": 2 }));
    door.post("/tasks", json!({ "title": "count the parsers", "run": "true" })).await.done();
    let taken = door.post("/tasks/next", json!({ "agent": "ada" })).await.done();
    let done = json!({ "term": taken["term"], "result": "seven" });
    door.post("/tasks/1/done", done).await.done();
    ledger.events().await;
    let hits = door.get("/memories?query=parser&limit=5").await.done();
    let mut found: Vec<&str> =
        hits.as_array().expect("a list").iter().filter_map(|hit| hit["source"].as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["memory:1", "task:1"]);
    assert_eq!(door.get("/memories?query=parser&kind=episode").await.done(), json!([]));
    assert_eq!(door.get("/memories?query=parser&kind=thought").await.problem().0, 400);
    assert_eq!(door.get("/memories?query=parser&limit=101").await.problem().0, 400);

    let state = json!({ "agent": "ada", "state": { "next": 2 } });
    assert_eq!(door.post("/checkpoints", state).await.done(), json!({ "id": 1 }));
    assert_eq!(door.post("/checkpoints", json!({ "agent": "ada", "state": " " })).await.problem().0, 400);
    assert_eq!(door.get("/checkpoints/1").await.done()["state"], json!({ "next": 2 }));
    assert_eq!(door.get("/checkpoints?agent=ada").await.done().as_array().map(Vec::len), Some(1));
    let context = door.get("/context?budget=500").await.done();
    assert_eq!(
        (&context["tasks"][0]["title"], &context["checkpoint"]["id"]),
        (&json!("count the parsers"), &json!(1))
    );
    assert_eq!(door.get("/context?budget=49").await.problem().0, 400);
    assert_eq!(door.post("/memories/consolidate", json!({})).await.problem().0, 400);
    assert_eq!(door.post("/memories/consolidate", json!({ "agent": "ada" })).await.problem().0, 404);
    for text in [
        "build failed since the disk of the runner is full",
        "the disk of the runner is full and the upload stopped",
    ] {
        door.post("/memories", json!({ "agent": "ada", "kind": "episode", "text": text })).await.done();
    }
    assert_eq!(
        door.post("/memories/consolidate", json!({ "agent": "ada" })).await.done(),
        json!({ "task_id": 2 })
    );
    ledger.advance(1).await;
    let more =
        json!({ "agent": "ada", "kind": "episode", "text": "no space left: the disk of the runner is full" });
    door.post("/memories", more).await.done();
    assert_eq!(door.post("/memories/consolidate", json!({ "agent": "ada" })).await.problem().0, 409);
    assert_eq!(door.send("DELETE /api/v1/memories/1", None).await.done(), json!({ "forgotten": 1 }));
    assert_eq!(door.send("DELETE /api/v1/memories/1", None).await.problem().0, 404);
    Ok(())
}

async fn what_is_wrong_is_named_and_changes_nothing(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    for (path, body, expected) in [
        ("/tasks", json!({}), "missing field `title`"),
        ("/tasks", json!({ "title": "x", "promt": "y" }), "did you mean `prompt`?"),
        ("/tasks", json!({ "title": 3 }), "`title`: invalid type"),
        ("/tasks", json!({ "title": "x", "priority": "hihg" }), "`priority`"),
        ("/tasks", json!({ "title": "x", "timeout": "1ms" }), "`timeout` is shorter than 100ms"),
        ("/tasks", json!({ "title": "x", "run": "a", "prompt": "b" }), "not both"),
        ("/tasks", json!({ "title": "x\ny" }), "`title` is one line"),
        ("/tasks", json!({ "title": "x", "attempts": 0 }), "`attempts` is 0"),
        ("/tasks", json!([1]), "not a JSON object"),
        ("/tasks/next", json!({}), "which agent?"),
        ("/tasks/next", json!({ "agent": "no name" }), "is not a name"),
        ("/tasks/next", json!({ "agent": "ada", "wait": "61m" }), "`wait` is longer than 1h; ask again"),
        ("/claims", json!({ "agent": "ada", "resources": ["a"], "wait": "61m" }), "`wait` is longer than 1h"),
        ("/claims", json!({ "agent": "ada", "resources": ["a"], "ttl": "99ms" }), "shorter than 100ms"),
        ("/tasks/seven/done", json!({ "term": 1 }), "not a whole number"),
        ("/tasks/7/done", json!({ "term": 1, "id": 8 }), "`id` is given twice"),
        ("/runs", json!({}), "a `plan` or with a `goal`"),
    ] {
        let (status, kind, said) = door.post(path, body.clone()).await.problem();
        assert_eq!((status, kind.as_str()), (400, "invalid"), "{path} {body}: {said}");
        assert!(said.contains(expected), "{path} {body}: {said}");
    }
    for (path, status) in
        [("/tasks/99", 404), ("/nowhere", 404), ("/tasks?state=redy", 400), ("/tasks?stat=ready", 400)]
    {
        assert_eq!(door.get(path).await.problem().0, status, "{path}");
    }
    for request in ["PUT /api/v1/tasks", "POST /health", "POST /ready", "DELETE /metrics"] {
        assert_eq!(door.send(request, None).await.problem().0, 405, "{request}");
    }
    let (status, kind, said) = door.get("/agents/%FF").await.problem();
    assert!(status == 400 && kind == "invalid" && said.contains("no UTF-8"), "{said}");
    assert_eq!(door.get("/tasks").await.done(), json!([]));
    Ok(())
}

async fn who_comes_from_elsewhere_is_kept_out(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let (get, post) = ("GET /api/v1/tasks", "POST /api/v1/tasks");
    let json = ("Content-Type", "application/json");
    assert_eq!(door.raw(get, &[("Host", "rebound.example")], "").await.problem().0, 403);
    assert_eq!(
        door.raw(get, &[("Host", "localhost"), ("Origin", "https://evil.example")], "").await.problem().0,
        403
    );
    // What a page of another port can send without asking first.
    let write = "POST /api/v1/tasks?title=x&run=touch%20pwned";
    for head in [("Origin", "http://localhost:3000"), ("Sec-Fetch-Site", "same-site")] {
        let (status, _, said) = door.raw(write, &[("Host", "localhost:8888"), head], "").await.problem();
        assert!(status == 403 && said.contains("not served here"), "{said}");
    }
    let hidden = [("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(door.raw("GET /api/v1/memories?query=x", &hidden, "").await.problem().0, 403);
    // What changes something takes no field from the query, whoever asks.
    for request in [write, "POST /api/v1/agents/ada/kill?reason=x", "DELETE /api/v1/agents/ada?name=ada"] {
        let (status, _, said) = door.raw(request, &[("Host", "localhost"), json], "").await.problem();
        assert!(status == 400 && said.contains("stands in the query"), "{request}: {said}");
    }
    assert_eq!(door.get("/tasks").await.done(), json!([]));
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(door.raw(post, &[("Host", "localhost"), form], "title=x").await.problem().0, 415);
    assert_eq!(
        door.raw(post, &[("Host", "localhost"), ("Content-Type", "text/plain")], "{\"title\":\"x\"}")
            .await
            .problem()
            .0,
        415
    );
    assert_eq!(door.raw(post, &[("Host", "localhost"), json], "{\"title\":\"x\"}").await.status, 200);
    assert_eq!(
        door.raw(get, &[("Host", "localhost"), ("Authorization", "Bearer no")], "").await.problem().0,
        401
    );
    let large = format!("{{\"title\": \"{}\"}}", "x".repeat(5 << 20));
    assert_eq!(door.raw(post, &[("Host", "localhost"), json], &large).await.status, 413);

    let mut socket = UnixStream::connect(door.socket.path().join("socket")).await.expect("connects");
    socket
        .write_all(b"GET /api/v1/tasks HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
        .await
        .expect("sends");
    assert_eq!(read(&mut socket).await.done().as_array().map(Vec::len), Some(1));
    Ok(())
}

async fn a_token_that_is_set_is_asked_for(ledger: TestLedger) -> Result<()> {
    let door = Door::with_token(&ledger, "the person's").await;
    let get = |head: &'static [(&str, &str)]| door.raw("GET /api/v1/tasks", head, "");
    let (status, _, said) = get(&[("Host", "localhost")]).await.problem();
    assert!(status == 401 && said.contains("Bearer"), "{said}");
    assert_eq!(get(&[("Host", "localhost"), ("Authorization", "Bearer another's")]).await.status, 401);
    let known = [("Host", "team.example"), ("Authorization", "Bearer the person's")];
    assert_eq!(door.raw("GET /api/v1/tasks", &known, "").await.done(), json!([]));
    // The socket is this user's alone.
    let mut socket = UnixStream::connect(door.socket.path().join("socket")).await.expect("connects");
    let request = b"GET /api/v1/tasks HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n";
    socket.write_all(request).await.expect("sends");
    assert_eq!(read(&mut socket).await.done(), json!([]));
    Ok(())
}

/// Asks as a user of this machine; answers with the first line of what comes back.
fn ask_as(uid: u32, port: u16) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /api/v1/tasks HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n' >&3; head -n 1 <&3"
    );
    let mut command = std::process::Command::new("bash");
    let output = command.args(["-c", &script]).current_dir("/").uid(uid).output().expect("bash runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

async fn without_a_token_another_user_is_not_the_person(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let own = nix::unistd::geteuid();
    let users = if own.is_root() {
        vec![(0, "200 OK"), (65_534, "403 Forbidden")]
    } else {
        vec![(own.as_raw(), "200 OK")]
    };
    let port = door.server.address().port();
    for (uid, expected) in users {
        let said = tokio::task::spawn_blocking(move || ask_as(uid, port)).await.expect("it is asked");
        assert_eq!(said, format!("HTTP/1.1 {expected}"), "{uid}");
    }
    Ok(())
}

/// Reads a stream of events until so many were seen; answers with their places and data.
async fn follow(door: &Door, path: &str, last: Option<&str>, count: usize) -> Vec<(String, Value)> {
    let mut stream = TcpStream::connect(door.server.address()).await.expect("connects");
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let (mut lines, mut seen, mut id) = (BufReader::new(stream).lines(), Vec::new(), String::new());
    while seen.len() < count {
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .expect("in time")
            .expect("reads")
            .expect("goes on");
        if let Some(place) = line.strip_prefix("id: ") {
            id = place.to_owned();
        }
        if let Some(data) = line.strip_prefix("data: ") {
            seen.push((id.clone(), serde_json::from_str(data).expect("JSON")));
        }
    }
    seen
}

async fn the_log_is_followed_and_gone_on_with(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    for n in 1..=3 {
        ledger.add(command(&format!("task {n}"))).await?;
    }
    let first = follow(&door, "/events", None, 3).await;
    let tasks: Vec<&Value> = first.iter().map(|(_, event)| &event["task_id"]).collect();
    assert_eq!(tasks, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(first[0].0, first[0].1["seq"].to_string());
    let (later, _) = tokio::join!(follow(&door, "/events?kind=task.added", Some(&first[1].0), 2), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ledger.add(command("task 4")).await
    });
    let tasks: Vec<&Value> = later.iter().map(|(_, event)| &event["task_id"]).collect();
    assert_eq!(tasks, [&json!(3), &json!(4)]);

    let page =
        |path: &'static str| door.raw(path, &[("Host", "localhost"), ("Accept", "application/json")], "");
    let all = page("GET /api/v1/events?task_id=4").await.done();
    assert_eq!(all["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(page("GET /api/v1/events?kind=task.addd").await.problem().0, 400);
    let nowhere = [("Host", "localhost"), ("Last-Event-ID", "x")];
    assert_eq!(door.raw("GET /api/v1/events", &nowhere, "").await.problem().0, 400);
    let open = TcpStream::connect(door.server.address()).await;
    tokio::time::timeout(PATIENCE, door.server.end())
        .await
        .expect("who follows does not keep the doors open");
    drop(open);
    Ok(())
}

async fn a_monitor_is_answered(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    ledger.add(command("one")).await?;
    for (path, expected) in
        [("/health", "ok"), ("/ready", "ready"), ("/metrics", "quorate_tasks{state=\"ready\"} 1")]
    {
        let answer = door.send(&format!("GET {path}"), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains(expected), "{answer:?}");
    }
    Ok(())
}

/// Every operation of the document is there, and refuses what its description refuses.
async fn what_is_described_is_there(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let document = door.get("/openapi.json").await.done();
    assert_eq!(document, quorate_server::openapi());
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 20, "{}", paths.len());
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().expect("operations") {
            let request = format!(
                "{} {}",
                method.to_uppercase(),
                path.replace("{id}", "77").replace("{name}", "nobody")
            );
            if path.ends_with("/events") {
                continue;
            }
            let answer = door.raw(&format!("{request}?no_such_field=1"), &[("Host", "localhost")], "").await;
            let (status, _, said) = answer.problem();
            assert_eq!(status, 400, "{request}: {said}");
            assert!(said.contains("no_such_field"), "{request}: {said}");
            assert!(operation["summary"].as_str().is_some_and(|about| !about.is_empty()), "{request}");
        }
    }
    Ok(())
}

/// Asks for a copy of the ledger, without reading it.
async fn ask_for_copy(door: &Door) -> TcpStream {
    let mut stream = TcpStream::connect(door.server.address()).await.expect("connects");
    let request = b"POST /api/v1/backup HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sends");
    stream
}

async fn status_of(stream: &mut TcpStream) -> String {
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.expect("an answer");
    String::from_utf8_lossy(&first).into_owned()
}

async fn an_agent_is_given_no_copy(door: &Door, ledger: &TestLedger) -> Result<()> {
    ledger.join("ada").await?;
    let token = door.post("/agents/ada/tokens", json!({})).await.done()["token"].clone();
    let head = [("Authorization", &*format!("Bearer {}", token.as_str().expect("a token")))];
    let refused = door.raw("POST /api/v1/backup", &head, "").await.problem();
    assert!(refused.0 == 403 && refused.2.contains("may not copy the ledger"), "{refused:?}");
    Ok(())
}

async fn a_person_is_given_a_copy(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    // More than a connection holds that nobody reads.
    for n in 0..24 {
        let work = Some(Work::Prompt("x".repeat(1 << 20)));
        ledger.add(NewTask { work, ..command(&format!("task {n}")) }).await?;
    }
    an_agent_is_given_no_copy(&door, &ledger).await?;
    let mut begun = Vec::new();
    for _ in 0..2 {
        let mut stream = ask_for_copy(&door).await;
        assert_eq!(status_of(&mut stream).await, "HTTP/1.1 200");
        begun.push(stream);
    }
    let third = door.post("/backup", json!({})).await.problem();
    assert!(third.0 == 409 && third.2.contains("2 copies of the ledger are under way"), "{third:?}");
    ledger.add(command("while copies are fetched")).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, begun.remove(0).read_to_end(&mut answer))
        .await
        .expect("in time")
        .expect("reads");
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
    let (head, copy) = (String::from_utf8_lossy(&answer[..end]).to_lowercase(), &answer[end + 4..]);
    assert!(head.contains("content-type: application/vnd.sqlite3"), "{head}");
    assert!(head.contains(&format!("content-length: {}", copy.len())), "{head}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("copy.db");
    std::fs::write(&file, copy).expect("writes");
    let opened = Store::open(&Url::Lite(file), Options::new(&SCHEMA)).await?;
    let tasks = opened.read(Tasks::default()).await?.len();
    assert_eq!(tasks, 24, "what it was when it was asked for");
    // Who hangs up gives his place back.
    drop(begun);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while status_of(&mut ask_for_copy(&door).await).await != "HTTP/1.1 200" {
        assert!(tokio::time::Instant::now() < deadline, "no place was given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn a_ledger_on_postgresql_is_copied_elsewhere(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    an_agent_is_given_no_copy(&door, &ledger).await?;
    let (status, _, said) = door.post("/backup", json!({})).await.problem();
    assert!(status == 400 && said.contains("pg_dump") && said.contains("`quorate backup FILE`"), "{said}");
    Ok(())
}

#[test]
fn a_copy_of_the_ledger_is_a_persons() {
    quorate_testkit::ledger::run(Backend::Lite, a_person_is_given_a_copy);
    quorate_testkit::ledger::run(Backend::Pg, a_ledger_on_postgresql_is_copied_elsewhere);
}

async fn who_keeps_all_places_busy(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(door.server.address()).await.expect("connects");
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: loc").await.expect("sends");
        slow.push(stream);
    }
    // All places are taken by those who never end their heads, so this one is answered only once one of them was cut off.
    let begun = std::time::Instant::now();
    let answer = door.raw("GET /health", &[("Host", "localhost")], "").await;
    assert_eq!(answer.status, 200);
    assert!(begun.elapsed() >= HEAD_MAX / 2, "it did not wait: {:?}", begun.elapsed());
    Ok(())
}

async fn who_sends_a_head_and_no_body(ledger: TestLedger) -> Result<()> {
    let door = Door::open(&ledger).await;
    let begun = std::time::Instant::now();
    let mut silent = Vec::new();
    for request in ["POST /api/v1/tasks", "POST /mcp"] {
        let mut stream = TcpStream::connect(door.server.address()).await.expect("connects");
        let head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n";
        stream.write_all(format!("{request} HTTP/1.1\r\n{head}\r\n{{").as_bytes()).await.expect("sends");
        silent.push(stream);
    }
    for mut stream in silent {
        // The connection is closed as well.
        let (status, _, said) = read(&mut stream).await.problem();
        assert!(status == 408 && said.contains("within 20 s"), "{said}");
    }
    assert!(begun.elapsed() >= BODY_TIME / 2, "it did not wait: {:?}", begun.elapsed());
    Ok(())
}

on_every_backend!(
    what_an_agent_says_it_used_counts_once_and_a_budget_parks_its_task,
    an_agent_takes_nothing_back_of_what_it_said_it_used,
    what_reaches_its_agents_budget_is_given_to_others_and_refused,
    a_task_goes_through_its_life,
    a_run_is_stored_called_off_and_resumed,
    an_approved_run_is_told_as_a_whole,
    who_is_added_again_keeps_what_is_not_said,
    an_agent_begins_runs_but_none_that_run_commands,
    who_is_removed_while_he_waits_does_not_come_back,
    claims_and_messages_are_whose_they_are,
    the_memory_is_told_and_asked,
    what_is_wrong_is_named_and_changes_nothing,
    a_token_that_is_set_is_asked_for,
    without_a_token_another_user_is_not_the_person,
    who_comes_from_elsewhere_is_kept_out,
    the_log_is_followed_and_gone_on_with,
    a_monitor_is_answered,
    what_is_described_is_there,
);

#[test]
fn who_keeps_all_places_busy_is_cut_off() {
    // The database plays no part in it.
    quorate_testkit::ledger::run(Backend::Lite, who_keeps_all_places_busy);
}

#[test]
fn who_sends_a_head_and_no_body_is_cut_off() {
    // As above.
    quorate_testkit::ledger::run(Backend::Lite, who_sends_a_head_and_no_body);
}

/// As in `body`.
const BODY_TIME: Duration = Duration::from_secs(20);
/// As in `serve`.
const CONNECTIONS_MAX: usize = 512;
const HEAD_MAX: Duration = Duration::from_secs(10);
