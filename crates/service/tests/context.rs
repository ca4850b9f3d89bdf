//! What a fresh orchestrator is told, on both databases: what it needs first, within the tokens that it has, counted with
//! real tokenizers.

use quorate_model::memory::MemoryKind;
use quorate_model::{Kind, Result, RunId, TaskId, tokens};
use quorate_service::checkpoint::Save;
use quorate_service::context::{BUDGET_DEFAULT, BUDGET_LEAST, Context, Facts};
use quorate_service::memory::{CatchUp, Remember};
use quorate_service::message::{MessageKind, Send};
use quorate_service::task::{Add, Done, Fail, NewTask, Progress, Taken};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{begin, command, failure};
use serde_json::json;

/// What the larger of two common tokenizers counts.
fn counted(text: &str) -> usize {
    let o200k = tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len();
    o200k.max(tiktoken_rs::cl100k_base_singleton().encode_ordinary(text).len())
}

async fn learn(ledger: &TestLedger) -> Result<()> {
    ledger.events().await;
    while ledger.store.write(CatchUp).await?.more {}
    Ok(())
}

const WORK: [&str; 10] = [
    "Read the release notes of the last five versions and list every breaking change",
    "Measure the cold start of the binary on an idle machine",
    "Check that every error message of the parser names the line and column",
    "Write the upgrade guide for users of the old configuration format",
    "Compare the retry policy with those of three other queues",
    "Find out why test_login_redirect fails on PostgreSQL 17 only",
    "Replace the hand-written CSV reader in src/import/csv_reader.rs",
    "Audit all uses of unsafe in crates/store and justify or remove them",
    "Translate the onboarding e-mail into German, French and Japanese",
    "Summarise the interviews with customers A, B and C in one page",
];

/// A run of 50 tasks and a team of 10 in the middle of it: everything that can be in a context is there.
async fn busy(ledger: &TestLedger) -> Result<RunId> {
    let task = |n: usize| command(&format!("{} ({n})", WORK[n % WORK.len()]));
    let tasks = (0..50)
        .map(|n| if n < 40 { task(n) } else { NewTask { needs_new: vec![n - 20, n - 10], ..task(n) } });
    let (run, _) = ledger.start(tasks.collect()).await?;
    for n in 0..10 {
        ledger.store.write(begin(&format!("specialist-{n}"), "1")).await?;
    }
    for n in 0..18 {
        let taken = ledger.must_take(&format!("specialist-{}", n % 10)).await?;
        ledger.store.write(result_of(&taken, n)).await?;
    }
    for n in 0..4 {
        let taken = ledger.must_take(&format!("specialist-{n}")).await?;
        let why =
            format!("exit code {n}: assertion failed: left == right, see target/debug/build/output-{n}.log");
        ledger.store.write(Fail { is_final: true, ..failure(&taken, &why) }).await?;
    }
    for n in 0..10 {
        let taken = ledger.must_take(&format!("specialist-{n}")).await?;
        let message = Some(format!("step {n} of 10: reading the second file of the third folder"));
        let progress = Progress { id: taken.task.id, term: taken.task.term, percent: Some(n * 10), message };
        ledger.store.write(progress).await?;
    }
    for (kind, text) in [
        (
            MemoryKind::Decision,
            "Results are kept as JSON lines, since the other format cannot be appended to",
        ),
        (MemoryKind::Finding, "The staging database has no extension pgvector, and nobody may install it"),
    ] {
        let tell = Remember {
            agent: "lead".into(),
            kind,
            text: text.into(),
            tags: vec![],
            task: None,
            ttl_ms: None,
        };
        ledger.store.write(tell).await?;
    }
    ledger.join("lead").await?;
    ledger.store.write(help("lead", "which of the two formats is the current one?")).await?;
    let state =
        "Wave one is done. Next: decide about task 7, then write the report from the findings. ".repeat(20);
    ledger.store.write(Save { agent: "lead".into(), run: Some(run), state: state.into() }).await?;
    learn(ledger).await?;
    Ok(run)
}

fn result_of(taken: &Taken, n: usize) -> Done {
    let result = json!({ "summary": format!("Found {n} places; the worst is in src/module_{n}/mod.rs, line {n}1."),
                         "files": [format!("reports/{n}.md")], "confidence": 0.8 });
    Done { id: taken.task.id, term: taken.task.term, result: Some(result.to_string()), tail: None }
}

fn help(to: &str, text: &str) -> Send {
    let (from, to, text) = ("specialist-3".into(), to.into(), text.into());
    Send { from, to, kind: MessageKind::Help, text, task: None, reply_to: None }
}

async fn facts(ledger: &TestLedger) -> Result<Facts> {
    ledger.store.read(Context::default()).await
}

async fn fifty_tasks_and_ten_agents_take_less_than_3000_tokens(ledger: TestLedger) -> Result<()> {
    let run = busy(&ledger).await?;
    let facts = facts(&ledger).await?;
    let text = facts.text(BUDGET_DEFAULT);
    assert!(counted(&text) < 3_000, "{} tokens:\n{text}", counted(&text));
    for wanted in
        ["50 tasks", "specialist-9", "decision", "JSON lines", "checkpoint", "Wave one", "help", "90%"]
    {
        assert!(text.contains(wanted), "{wanted} is missing:\n{text}");
    }
    let said = facts.document(BUDGET_DEFAULT);
    let shown = serde_json::to_string(&said).expect("texts for keys");
    assert!(counted(&shown) < 3_000, "{} tokens: {shown}", counted(&shown));
    assert_eq!(said.runs[0].id, run.0);
    assert_eq!(said.tasks.iter().filter(|task| task.state == "running").count(), 10);
    assert_eq!(said.tasks.iter().filter(|task| task.state == "failed").count(), 4);
    assert_eq!(said.agents.iter().filter(|agent| agent.task_id.is_some()).count(), 10);
    Ok(())
}

async fn every_task_that_somebody_can_do_something_about_is_named(ledger: TestLedger) -> Result<()> {
    busy(&ledger).await?;
    let text = facts(&ledger).await?.text(BUDGET_DEFAULT);
    for (ids, state) in [(19..=22, "failed "), (23..=32, ""), (33..=40, "")] {
        for id in ids {
            assert!(text.contains(&format!("\n{state}{id} ")), "{id} is missing:\n{text}");
        }
    }
    Ok(())
}

async fn any_number_of_tokens_is_kept_to_and_the_most_important_comes_first(
    ledger: TestLedger,
) -> Result<()> {
    busy(&ledger).await?;
    let facts = facts(&ledger).await?;
    let mut last = 0;
    for budget in [BUDGET_LEAST, 75, 100, 200, 400, 800, 1_600, 3_200, 10_000] {
        let text = facts.text(budget);
        assert!(tokens::estimate(&text) <= budget && counted(&text) <= budget, "{budget}:\n{text}");
        assert!(text.len() >= last, "more tokens say more: {budget}");
        last = text.len();
        let shown = serde_json::to_string(&facts.document(budget.max(200))).expect("texts for keys");
        assert!(counted(&shown) <= budget.max(200), "{budget}: {shown}");
    }
    let little = facts.text(300);
    assert!(little.contains("run 1 running") && little.contains("left out:"), "{little}");
    assert!(!facts.text(10_000).contains("left out:"));
    Ok(())
}

async fn what_was_not_looked_at_is_counted_as_left_out(ledger: TestLedger) -> Result<()> {
    let left_out = async |run| {
        let said = ledger.store.read(Context { run, agent: None }).await?.document(100_000);
        Ok::<_, quorate_model::Error>((said.runs.len() as i64, said.left_out.runs, said.left_out.tasks))
    };
    let tasks: Vec<NewTask> = (0..130).map(|n| command(&format!("task {n}"))).collect();
    ledger.store.write(Add { run: None, tasks: tasks.clone(), by: None }).await?;
    assert_eq!(left_out(None).await?, (0, 0, 30), "of no run");
    let (first, _) = ledger.start(tasks).await?;
    assert_eq!(left_out(Some(first)).await?, (1, 0, 30), "only what was asked for");
    assert_eq!(left_out(None).await?, (1, 0, 160), "of a run and of none");
    for n in 0..20 {
        ledger.start(vec![NewTask { priority: 0, ..command(&format!("of run {n}")) }]).await?;
    }
    assert_eq!(left_out(None).await?, (20, 1, 180), "100 of 280 are looked at");
    Ok(())
}

async fn what_has_stopped_and_why_comes_before_what_waits(ledger: TestLedger) -> Result<()> {
    let (_, ids) = ledger
        .start(vec![command("first"), NewTask { needs_new: vec![0], ..command("second") }, command("third")])
        .await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.store.write(Fail { is_final: true, ..failure(&taken, "no such host") }).await?;
    let text = facts(&ledger).await?.text(BUDGET_DEFAULT);
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} is missing:\n{text}"));
    assert!(place(&format!("failed {} first", ids[0])) < place("third"));
    assert!(text.contains("no such host"));
    Ok(())
}

async fn a_task_that_waits_names_what_it_needs(ledger: TestLedger) -> Result<()> {
    let (run, _) =
        ledger.start(vec![command("first"), NewTask { needs_new: vec![0], ..command("second") }]).await?;
    let said = ledger.store.read(Context { run: Some(run), agent: None }).await?.document(BUDGET_DEFAULT);
    assert_eq!(
        said.tasks.iter().find(|task| task.title == "second").map(|task| task.needs.clone()),
        Some(vec![1])
    );
    Ok(())
}

async fn a_call_for_help_is_shown_until_it_is_answered(ledger: TestLedger) -> Result<()> {
    ledger.join("lead").await?;
    ledger.join("specialist-3").await?;
    let id = ledger.store.write(help("lead", "where is the key")).await?;
    let messages = |facts: Facts| facts.messages.len();
    assert_eq!(messages(facts(&ledger).await?), 1);
    let lead = Context { run: None, agent: Some("lead".into()) };
    assert_eq!(messages(ledger.store.read(lead.clone()).await?), 1, "unread and unanswered is one message");
    let reply = Send {
        from: "lead".into(),
        kind: MessageKind::Reply,
        reply_to: Some(id),
        ..help("specialist-3", "in the safe")
    };
    ledger.store.write(reply).await?;
    assert_eq!(messages(facts(&ledger).await?), 0);
    assert_eq!(messages(ledger.store.read(lead).await?), 1, "it has not read it");
    Ok(())
}

async fn the_checkpoint_is_the_askers_else_anybodys(ledger: TestLedger) -> Result<()> {
    let save =
        |agent: &str| Save { agent: agent.into(), run: None, state: format!("state of {agent}").into() };
    ledger.store.write(save("lead")).await?;
    ledger.advance(1).await;
    ledger.store.write(save("beta")).await?;
    let of = async |agent: Option<&str>| {
        let context = Context { run: None, agent: agent.map(ToOwned::to_owned) };
        Ok::<_, quorate_model::Error>(ledger.store.read(context).await?.document(BUDGET_DEFAULT).checkpoint)
    };
    assert_eq!(of(Some("lead")).await?.expect("saved").state, "state of lead");
    assert_eq!(of(None).await?.expect("saved").state, "state of beta");
    assert_eq!(of(Some("nobody")).await?.expect("saved").state, "state of beta");
    Ok(())
}

async fn of_a_checkpoint_that_is_cut_the_long_words_go_first(ledger: TestLedger) -> Result<()> {
    let state = serde_json::json!({ "said": "word ".repeat(2_000), "tasks": [{ "id": 7, "term": 3 }], "claims": ["a"] });
    ledger.store.write(Save { agent: "lead".into(), run: None, state }).await?;
    let said = ledger.store.read(Context { run: None, agent: None }).await?.document(BUDGET_DEFAULT);
    let state = said.checkpoint.expect("saved").state;
    assert!(state.starts_with(r#"{"claims":["a"],"tasks":[{"id":7,"term":3}],"said":"word"#), "{state}");
    Ok(())
}

async fn without_a_run_that_goes_on_the_last_one_is_shown(ledger: TestLedger) -> Result<()> {
    let empty = facts(&ledger).await?;
    assert!(empty.runs.is_empty() && empty.text(BUDGET_DEFAULT).starts_with("team at 2026"));
    for _ in 0..2 {
        let (run, _) = ledger.start(vec![command("x")]).await?;
        let taken = ledger.must_take("alpha").await?;
        ledger.done(&taken).await?;
        ledger.store.write(quorate_service::run::Settle { id: run }).await?;
    }
    let runs: Vec<_> = facts(&ledger).await?.runs.iter().map(|(run, _)| run.id).collect();
    assert_eq!(runs, [RunId(2)]);
    let unknown = ledger.store.read(Context { run: Some(RunId(99)), agent: None }).await;
    assert_eq!(unknown.expect_err("no such run").kind, Kind::NotFound);
    Ok(())
}

async fn a_crowd_of_tasks_is_counted_though_not_looked_at(ledger: TestLedger) -> Result<()> {
    ledger.start((0..150).map(|n| command(&format!("task {n}"))).collect()).await?;
    let said = facts(&ledger).await?.document(100_000);
    assert_eq!((said.tasks.len(), said.left_out.tasks), (100, 50));
    assert_eq!(said.runs[0].counts["ready"], 150);
    Ok(())
}

async fn tasks_of_no_run_count_too(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("alone")).await?;
    let (run, _) = ledger.start(vec![command("in a run")]).await?;
    let titles = |facts: &Facts| facts.tasks.iter().map(|task| task.id).collect::<Vec<TaskId>>();
    assert!(titles(&facts(&ledger).await?).contains(&id));
    let only = ledger.store.read(Context { run: Some(run), agent: None }).await?;
    assert!(!titles(&only).contains(&id));
    Ok(())
}

#[test]
fn the_estimate_is_never_below_what_tokenizers_count() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| std::fs::read_to_string(here.join(file)).expect("it is readable");
    let mut samples = vec![
        read("README.md"),
        read("docs/schema.md"),
        read("crates/service/src/view.rs"),
        read("crates/service/migrations/postgres/0001.sql"),
        read("Cargo.lock").chars().take(20_000).collect(),
        "設定ファイルは読み込まれない。テストが失敗した理由を調べる。".repeat(5),
        "Größe, Straße, naïve café, żółć, пример текста, δοκιμή, مثال, उदाहरण, ตัวอย่าง".repeat(5),
        "🙂🚀🧪👩‍👩‍👧‍👦🏴‍☠️ ✓✗→…—“”".repeat(10),
        "xqzvkwj brrgth zzyzx mxyzptlk qwrtpsdf HTTPServer iPhone XMLHttpRequest getElementById".repeat(5),
        "a1b2c3d4e5f60718293a4b5c6d7e8f90 550e8400-e29b-41d4-a716-446655440000 0xDEADBEEF 1763700000123"
            .repeat(5),
        "    \t\n\n\r\n   {}[]()<>;:,.!?@#$%^&*-_=+|\\/~`'\" ((((((( ======= ///// .....".repeat(5),
        "A B C D E F AAAA BBBB THIS IS SHOUTED LOUDLY. THE QUICK BROWN FOX".repeat(5),
        String::new(),
    ];
    // Anything at all: characters of all kinds in an order that a fixed seed decides.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20 {
        let random = (0..400).filter_map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            char::from_u32(match seed % 4 {
                0 => 32 + (seed >> 8) as u32 % 95,
                1 => (seed >> 8) as u32 % 0x500,
                2 => 97 + (seed >> 8) as u32 % 26,
                _ => (seed >> 8) as u32 % 0x1_ffff,
            })
        });
        samples.push(random.collect());
    }
    for sample in &samples {
        let (real, ours) = (counted(sample), tokens::estimate(sample));
        let start: String = sample.chars().take(60).collect();
        assert!(ours >= real, "{ours} by estimate, {real} counted: {start}");
        for line in sample.lines() {
            assert!(
                tokens::estimate(line) >= counted(line),
                "{} by estimate, {} counted: {line}",
                tokens::estimate(line),
                counted(line)
            );
        }
    }
    let prose = read("README.md");
    assert!(tokens::estimate(&prose) < counted(&prose) * 2, "it is not far above either");
}

on_every_backend!(
    fifty_tasks_and_ten_agents_take_less_than_3000_tokens,
    every_task_that_somebody_can_do_something_about_is_named,
    any_number_of_tokens_is_kept_to_and_the_most_important_comes_first,
    what_has_stopped_and_why_comes_before_what_waits,
    a_task_that_waits_names_what_it_needs,
    a_call_for_help_is_shown_until_it_is_answered,
    the_checkpoint_is_the_askers_else_anybodys,
    of_a_checkpoint_that_is_cut_the_long_words_go_first,
    without_a_run_that_goes_on_the_last_one_is_shown,
    a_crowd_of_tasks_is_counted_though_not_looked_at,
    what_was_not_looked_at_is_counted_as_left_out,
    tasks_of_no_run_count_too,
);
