//! A node with real children, on both databases.

use quorate_model::config::Config;
use quorate_model::{Result, RunId, TaskId, TaskState};
use quorate_runtime::{Level, Node, NodeOptions, team};
use quorate_service::SCHEMA;
use quorate_service::agent::{Tell, Word};
use quorate_service::event::{After, Filter, PAGE_MAX};
use quorate_service::run::Start;
use quorate_service::task::{Cancel, NewTask, Reassign, Retry, Unpark, Work};
use quorate_service::view::{RunShow, RunStory, Story, TaskStory};
use quorate_store::{Options, Store, Url};
use quorate_testkit::postgres::Schema;
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How long a test waits for what it expects; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    store: Store,
    url: Url,
    folder: tempfile::TempDir,
    _schema: Option<Schema>,
}

impl World {
    async fn new(on_postgres: bool) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let schema = on_postgres.then(Schema::create);
        let url = match &schema {
            Some(schema) => Url::Pg(schema.url().to_owned()),
            None => Url::Lite(folder.path().join(".quorate/quorate.db")),
        };
        let store = Store::open(&url, Options::new(&SCHEMA)).await.expect("the ledger opens");
        World { store, url, folder, _schema: schema }
    }

    async fn node(&self, config: &str) -> Node {
        let config = Config::parse("quorate.toml", config.as_bytes()).expect("a good configuration");
        let options = NodeOptions {
            kind: "up",
            url: self.url.clone(),
            agents_url: self.url.clone(),
            members: team(&config, None, &|_| None),
            config: Arc::new(config),
            folder: self.folder.path().to_owned(),
            state: self.folder.path().join(".quorate"),
            run: None,
            door: None,
            embedder: None,
        };
        Node::begin(self.store.clone(), options).await.expect("the node begins")
    }

    async fn start(&self, tasks: Vec<NewTask>) -> Result<(RunId, Vec<TaskId>)> {
        self.store.write(Start { goal: "a test".into(), source: None, detached: true, tasks }).await
    }

    async fn run_over(&self, id: RunId) -> RunStory {
        self.until(|| async {
            let story = self.store.read(RunShow { id }).await.expect("readable");
            story.run.is_over().then_some(story)
        })
        .await
    }

    async fn task(&self, id: TaskId) -> TaskStory {
        self.store.read(Story { id }).await.expect("readable")
    }

    async fn task_in(&self, id: TaskId, state: TaskState) -> TaskStory {
        self.until(|| async {
            let story = self.task(id).await;
            (story.task.state == state).then_some(story)
        })
        .await
    }

    async fn kinds(&self) -> Vec<String> {
        let query = After { seq: None, filter: Filter::default(), limit: PAGE_MAX };
        self.store.read(query).await.expect("readable").events.into_iter().map(|e| e.kind).collect()
    }

    async fn until<T, F: Future<Output = Option<T>>>(&self, mut look: impl FnMut() -> F) -> T {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("did not happen within {PATIENCE:?}; the log: {:?}", self.kinds().await),
        }
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }
}

async fn stop(node: Node) {
    node.stopper().stop(Level::Now);
    tokio::time::timeout(PATIENCE, node.wait()).await.expect("a node ends when told to");
}

fn command(key: &str, run: &str) -> NewTask {
    NewTask { key: Some(key.into()), work: Some(Work::Run(run.into())), ..NewTask::new(key) }
}

const FAST: &str =
    "[health]\ninterval = \"1s\"\nlease = \"3s\"\nretry_after = \"100ms\"\ngrace = \"500ms\"\n";

async fn a_chain_runs_and_passes_results(world: World) {
    let node = world.node(FAST).await;
    let say = r#"echo '{"quorate":"progress","percent":50,"message":"half"}'; echo '{"quorate":"result","value":{"n":7}}'"#;
    let tasks = vec![command("a", say), NewTask { needs_new: vec![0], ..command("b", "cat > seen.json") }];
    let (id, _) = world.start(tasks).await.expect("started");
    let story = world.run_over(id).await;
    assert_eq!(story.run.state, "completed", "{:?}", story.run.reason);
    assert_eq!(story.tasks[0].result.as_deref(), Some("{\"n\":7}"));
    let seen: serde_json::Value =
        serde_json::from_str(&world.read("seen.json")).expect("the task on standard input");
    assert_eq!(seen["needs"]["a"]["n"], 7);
    stop(node).await;
    // On PostgreSQL the log shows an event once no older transaction of the server is open; other tests share it.
    let ended = "node.stopped".to_owned();
    let kinds =
        world.until(|| async { Some(world.kinds().await).filter(|kinds| kinds.contains(&ended)) }).await;
    assert!(kinds.contains(&"task.progress".to_owned()), "{kinds:?}");
}

async fn a_check_that_fails_leads_to_another_attempt(world: World) {
    let node = world.node(FAST).await;
    let task = NewTask {
        verify: Some("test -s out".into()),
        ..command("out", "if [ $QUORATE_ATTEMPT -gt 1 ]; then echo x > out; fi")
    };
    let (id, tasks) = world.start(vec![task]).await.expect("started");
    assert_eq!(world.run_over(id).await.run.state, "completed");
    let attempts = world.task(tasks[0]).await.attempts;
    let outcomes: Vec<_> = attempts.iter().map(|a| a.outcome.as_deref().unwrap_or("")).collect();
    assert_eq!(outcomes, ["verify_failed", "completed"]);
    assert_eq!(attempts[1].evidence.as_deref(), Some("checked"));
    stop(node).await;
}

async fn a_check_reads_a_result_that_is_too_long_for_a_variable(world: World) {
    let node = world.node(FAST).await;
    let say = r#"printf '{"quorate":"result","value":"%s"}\n' "$(head -c 200000 /dev/zero | tr '\0' x)""#;
    let verify = |length: usize, is_set: &str| {
        let file = format!("test $(wc -c < \"$QUORATE_RESULT_FILE\") = {length}");
        Some(format!("{file} && test \"${{QUORATE_RESULT+set}}\" = \"{is_set}\""))
    };
    let long = NewTask { verify: verify(200_002, ""), ..command("long", say) };
    let short =
        NewTask { verify: verify(1, "set"), ..command("short", r#"echo '{"quorate":"result","value":7}'"#) };
    let (id, tasks) = world.start(vec![long, short]).await.expect("started");
    assert_eq!(world.run_over(id).await.run.state, "completed");
    for task in tasks {
        let attempts = world.task(task).await.attempts;
        assert_eq!((attempts.len(), attempts[0].evidence.as_deref()), (1, Some("checked")));
    }
    let logs = std::fs::read_dir(world.folder.path().join(".quorate/logs")).expect("readable");
    let left = logs.flatten().filter(|file| !file.file_name().to_string_lossy().ends_with(".log"));
    assert_eq!(left.count(), 0, "the files go with their checks");
    stop(node).await;
}

async fn a_result_that_cannot_be_read_is_no_success(world: World) {
    let node = world.node(FAST).await;
    let bad = NewTask { max_attempts: 1, ..command("bad", r#"echo '{"quorate":"result","value":oops}'"#) };
    let fine = command("fine", r#"echo '{"quorate":"progress","percent":"x"}'"#);
    let (id, tasks) = world.start(vec![bad, fine]).await.expect("started");
    let story = world.run_over(id).await;
    assert_eq!((story.tasks[0].state, story.tasks[1].state), (TaskState::Failed, TaskState::Completed));
    let reason = world.task(tasks[0]).await.task.reason.unwrap_or_default();
    assert!(reason.contains("its result could not be read: not valid JSON"), "{reason}");
    stop(node).await;
}

async fn a_timeout_stops_a_hanging_child_and_others_go_on(world: World) {
    let node = world.node(FAST).await;
    let hang =
        NewTask { timeout_ms: Some(300), max_attempts: 1, ..command("hang", "trap '' TERM; sleep 600") };
    let (id, tasks) = world.start(vec![hang, command("fine", "true")]).await.expect("started");
    let story = world.run_over(id).await;
    assert_eq!(story.run.state, "failed");
    assert_eq!(story.tasks[1].state, TaskState::Completed);
    assert_eq!(world.task(tasks[0]).await.attempts[0].outcome.as_deref(), Some("timed_out"));
    stop(node).await;
}

async fn cancel_stops_a_running_child(world: World) {
    let node = world.node(FAST).await;
    let (_, tasks) =
        world.start(vec![command("long", "echo $$ > pid; exec sleep 600")]).await.expect("started");
    world.until(|| async { (!world.read("pid").trim().is_empty()).then_some(()) }).await;
    let pid: i32 = world.read("pid").trim().parse().expect("a number");
    world.store.write(Cancel { id: tasks[0], reason: "a test".into() }).await.expect("cancelled");
    world.until(|| async { quorate_process::start_time(pid).is_none().then_some(()) }).await;
    assert_eq!(world.task(tasks[0]).await.task.state, TaskState::Cancelled);
    stop(node).await;
}

async fn what_is_taken_away_is_stopped_and_done_once(world: World) {
    let node = world.node(FAST).await;
    let task = command(
        "slow",
        "echo start >> starts; if [ $(wc -l < starts) -eq 1 ]; then sleep 600; fi; echo end >> ends",
    );
    let (id, tasks) = world.start(vec![task]).await.expect("started");
    world.until(|| async { (world.read("starts").lines().count() == 1).then_some(()) }).await;
    world
        .store
        .write(Reassign { id: tasks[0], to: None, reason: "a test".into() })
        .await
        .expect("reassigned");
    assert_eq!(world.run_over(id).await.run.state, "completed");
    assert_eq!((world.read("starts").lines().count(), world.read("ends").lines().count()), (2, 1));
    let attempts = world.task(tasks[0]).await.attempts;
    assert_eq!(attempts[0].outcome.as_deref(), Some("released"));
    stop(node).await;
}

async fn who_had_a_task_is_stopped_though_another_of_the_same_node_has_it_now(world: World) {
    let node = world.node(FAST).await;
    let (_, tasks) =
        world.start(vec![command("long", "echo $$ >> starts; exec sleep 600")]).await.expect("started");
    let started = |count: usize| {
        let starts = world.read("starts");
        async move { (starts.lines().count() == count).then_some(starts) }
    };
    for count in 1..=6 {
        world.until(|| started(count)).await;
        let reassign = Reassign { id: tasks[0], to: None, reason: "a test".into() };
        world.store.write(reassign).await.expect("reassigned");
    }
    let pids = world.until(|| started(7)).await;
    let runs = |pid: &&str| std::path::Path::new("/proc").join(pid).exists();
    world.until(|| async { (pids.lines().filter(runs).count() == 1).then_some(()) }).await;
    stop(node).await;
}

async fn a_node_that_stops_hands_its_tasks_back(world: World) {
    let node = world.node(FAST).await;
    let (_, tasks) = world.start(vec![command("long", "sleep 600")]).await.expect("started");
    world.task_in(tasks[0], TaskState::Running).await;
    stop(node).await;
    let story = world.task_in(tasks[0], TaskState::Ready).await;
    assert_eq!((story.task.failures, story.attempts[0].outcome.as_deref()), (0, Some("released")));
}

/// Its last words come later than the ledger is waited for, but the ledger is there.
async fn a_child_that_uses_all_of_a_long_grace_is_handed_back_too(world: World) {
    let node = world.node("[health]\ngrace = \"6s\"\n").await;
    let stubborn = command("long", "trap '' TERM; echo > begun; sleep 600");
    let (_, tasks) = world.start(vec![stubborn]).await.expect("started");
    world.until(|| async { (!world.read("begun").is_empty()).then_some(()) }).await;
    stop(node).await;
    let story = world.task_in(tasks[0], TaskState::Ready).await;
    assert_eq!((story.task.failures, story.attempts[0].outcome.as_deref()), (0, Some("released")));
}

async fn a_lease_is_kept_while_the_child_works_longer_than_it(world: World) {
    let node = world.node("[health]\ninterval = \"200ms\"\nlease = \"1s\"\n").await;
    let (id, tasks) = world.start(vec![command("long", "sleep 3")]).await.expect("started");
    assert_eq!(world.run_over(id).await.run.state, "completed");
    assert_eq!(world.task(tasks[0]).await.attempts.len(), 1);
    stop(node).await;
}

async fn an_agent_that_always_dies_is_left_failed(world: World) {
    let config = format!(
        "{FAST}max_respawns = 2\n[agents.bad]\ndriver = \"command\"\ncommand = [\"sh\", \"-c\", \"kill -9 $$\"]\n"
    );
    let node = world.node(&config).await;
    let words =
        |key: &str| NewTask { work: Some(Work::Prompt("x".into())), max_attempts: 9, ..command(key, "") };
    world.start(vec![words("a"), words("b"), words("c"), words("d")]).await.expect("started");
    world.until(|| async { world.kinds().await.contains(&"agent.failed".to_owned()).then_some(()) }).await;
    let respawned = world.kinds().await.iter().filter(|kind| *kind == "agent.respawned").count();
    assert_eq!(respawned, 2);
    stop(node).await;
}

async fn two_nodes_share_the_work_and_nothing_is_done_twice(world: World) {
    let (one, two) = (world.node(FAST).await, world.node(FAST).await);
    let tasks = (0..40).map(|n| command(&format!("t{n}"), "echo x >> count; sleep 0.02")).collect();
    let (id, _) = world.start(tasks).await.expect("started");
    let story = world.run_over(id).await;
    assert_eq!(story.run.state, "completed");
    assert_eq!(world.read("count").lines().count(), 40);
    let nodes: std::collections::HashSet<_> = story.tasks.iter().map(|task| task.node.clone()).collect();
    assert_eq!(nodes.len(), 2, "both nodes took part");
    stop(one).await;
    stop(two).await;
}

/// Returns the output line by which a child says what it has used.
fn usage(model: &str, output: i64) -> String {
    format!(r#"echo '{{"quorate":"usage","model":"{model}","output_tokens":{output}}}'"#)
}

async fn what_a_child_uses_is_kept_with_its_price_though_it_ends_at_once(world: World) {
    let config = format!("{FAST}[prices.\"known\"]\ninput = 1\noutput = 10\n");
    let node = world.node(&config).await;
    let says = format!("{}; {}; {}", usage("known", 1), usage("strange", 5), usage("known", 100_000));
    let (id, tasks) = world.start(vec![command("a", &says)]).await.expect("started");
    assert_eq!(world.run_over(id).await.run.state, "completed");
    let story = world.task(tasks[0]).await;
    let used: Vec<_> = story.usage.iter().map(|e| (e.used.tokens.output, e.used.usd_micros)).collect();
    assert_eq!(used, [(100_000, Some(1_000_000)), (5, None)]);
    stop(node).await;
}

async fn a_budget_that_is_reached_stops_the_child_and_puts_the_run_aside(world: World) {
    let config = format!("{FAST}[budget]\ntokens = 1_000\n");
    let node = world.node(&config).await;
    let says = format!("echo $$ > pid; {}; {}; exec sleep 600", usage("m", 999), usage("m", 1_000));
    let next = command("b", "sleep 600");
    let (_, tasks) = world.start(vec![command("a", &says)]).await.expect("started");
    let story = world.task_in(tasks[0], TaskState::Parked).await;
    assert_eq!(story.task.reason.as_deref(), Some("budget: run 1 has used 1,000 of 1,000 tokens"));
    let attempt = &story.attempts[0];
    assert_eq!((attempt.outcome.as_deref(), story.task.failures), (Some("parked"), 0));
    let pid: i32 = world.read("pid").trim().parse().expect("a number");
    assert!(quorate_process::start_time(pid).is_none(), "its child is gone");
    let add = quorate_service::task::Add { run: story.task.run_id, tasks: vec![next], by: None };
    let added = world.store.write(add).await.expect("added")[0];
    assert_eq!(
        world.task_in(added, TaskState::Parked).await.task.attempt,
        0,
        "nothing more begins in this run"
    );
    stop(node).await;
}

const LIMITED: &str = r#"
[agents.worker]
driver = "command"
command = ["sh", "-c", "echo $QUORATE_TASK_ID-$QUORATE_ATTEMPT >> began; [ $QUORATE_ATTEMPT -gt 1 ] || echo '{\"quorate\":\"parked\",\"reason\":\"rate limit\",\"after_ms\":1500}'"]
"#;

async fn an_agent_that_cannot_go_on_takes_nothing_else_before_it_can(world: World) {
    let node = world.node(&format!("{FAST}{LIMITED}")).await;
    let words = |key: &str| NewTask { work: Some(Work::Prompt("x".into())), ..NewTask::new(key) };
    let (_, tasks) = world.start(vec![words("a"), words("b")]).await.expect("started");
    let parked = world.task_in(tasks[0], TaskState::Parked).await;
    assert_eq!(parked.task.reason.as_deref(), Some("rate limit"));
    let rests_until = parked.task.due_at.expect("it states a time");
    let story = world.task_in(tasks[0], TaskState::Completed).await;
    let again = &story.attempts[1];
    assert!(again.started_at >= rests_until, "{} before {rests_until}", again.started_at);
    let other = world.until(|| async { world.task(tasks[1]).await.attempts.into_iter().next() }).await;
    assert!(other.started_at >= rests_until, "it went on to the next task while it was limited");
    stop(node).await;
}

async fn an_agent_that_cannot_go_on_is_let_go_on_by_a_person(world: World) {
    let for_an_hour = LIMITED.replace("1500", "3600000");
    let node = world.node(&format!("{FAST}{for_an_hour}")).await;
    let words = |key: &str| NewTask { work: Some(Work::Prompt("x".into())), ..NewTask::new(key) };
    let (_, tasks) = world.start(vec![words("a"), words("b"), words("c")]).await.expect("started");
    world.task_in(tasks[0], TaskState::Parked).await;
    world.store.write(Unpark { id: tasks[0] }).await.expect("it was parked");
    let story = world.task_in(tasks[0], TaskState::Completed).await;
    assert_eq!(story.attempts.len(), 2);
    let waited = story.attempts[1].started_at - story.attempts[0].ended_at.expect("it was parked");
    assert!(waited < 10_000, "{waited} ms");
    world.task_in(tasks[1], TaskState::Parked).await;
    let resumed = Tell { name: "worker".into(), word: Word::Resume };
    world.store.write(resumed).await.expect("it is known");
    world.task_in(tasks[2], TaskState::Parked).await;
    assert_eq!(world.task(tasks[1]).await.task.state, TaskState::Parked, "its own time is not over");
    assert_eq!(world.read("began").lines().count(), 4, "each attempt once");
    stop(node).await;
}

async fn whatever_a_child_prints_is_a_sign_of_life(world: World) {
    let node = world.node(&format!("{FAST}stop_stuck_after = \"500ms\"\n")).await;
    let talks = "for n in 1 2 3 4 5 6 7 8 9 10; do echo '{\"type\":\"assistant\"}'; sleep 0.2; done";
    let silent = NewTask { max_attempts: 1, ..command("silent", "exec sleep 600") };
    let (id, tasks) = world.start(vec![command("talks", talks), silent]).await.expect("started");
    let story = world.run_over(id).await;
    assert_eq!((story.tasks[0].state, story.tasks[1].state), (TaskState::Completed, TaskState::Failed));
    let reason = world.task(tasks[1]).await.task.reason.unwrap_or_default();
    assert!(reason.starts_with("stuck: no sign of life"), "{reason}");
    stop(node).await;
}

/// A node with agents of which each start would cost money: while there is nothing for them, none is started, whatever
/// else happens in the ledger.
async fn idle_agents_cost_nothing(world: World) {
    let config = format!(
        "{FAST}[agents.model]\ndriver = \"command\"\ncount = 3\ncapabilities = [\"thinking\"]\ncommand = [\"sh\", \"-c\", \"echo x >> calls; {}\"]\n",
        usage("m", 1).replace('"', "\\\"")
    );
    let node = world.node(&config).await;
    for n in 0..20 {
        let task = NewTask { capability: Some("other".into()), ..NewTask::new(format!("for a person {n}")) };
        let (_, ids) = world.start(vec![task]).await.expect("started");
        world.store.write(Cancel { id: ids[0], reason: "a test".into() }).await.expect("cancelled");
    }
    // What is cancelled last is ended by the health check: the loops went round meanwhile.
    world.run_over(RunId(20)).await;
    assert_eq!(world.read("calls"), "", "an idle agent was started");
    let spent = world.store.read(quorate_service::view::Status).await.expect("readable").spent;
    assert!(!spent.is_any(), "{spent:?}");
    let task = NewTask { capability: Some("thinking".into()), ..NewTask::new("for a model") };
    let (id, _) = world.start(vec![task]).await.expect("started");
    world.run_over(id).await;
    assert_eq!(world.read("calls").lines().count(), 1, "one task is one call");
    stop(node).await;
}

/// How soon the only agent tries again what it failed at: what it is to leave to others for 2 s is its own then, though
/// nothing in the ledger changes at that moment. The quickest of three, on a machine that has other work.
async fn an_agent_that_is_alone_tries_again_as_soon_as_it_may(world: World) {
    let config = format!("{FAST}[agents.alone]\ndriver = \"command\"\ncommand = [\"true\"]\n");
    let node = world.node(&config).await;
    let mut rests = Vec::new();
    while rests.len() < 3 && rests.iter().all(|rest| *rest >= 4_000) {
        let (id, ids) =
            world.start(vec![command("again", "test $QUORATE_ATTEMPT = 2")]).await.expect("started");
        assert_eq!(world.run_over(id).await.run.state, "completed");
        let attempts = world.task(ids[0]).await.attempts;
        rests.push(attempts[1].started_at - attempts[0].ended_at.expect("it failed"));
    }
    assert!(rests.iter().any(|rest| (2_000..4_000).contains(rest)), "{rests:?} ms");
    stop(node).await;
}

/// The settings of a team of which one agent works in worktrees.
fn in_worktrees() -> String {
    format!("{FAST}[agents.coder]\ncommand = [\"true\"]\nworkspace = \"worktree\"\n")
}

fn git(folder: &Path, words: &[&str]) {
    let who = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"];
    let ended = Command::new("git").arg("-C").arg(folder).args(who).args(words).output().expect("git runs");
    assert!(ended.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&ended.stderr));
}

fn make_repository(world: &World) {
    std::fs::write(world.folder.path().join(".gitignore"), ".quorate/\n").expect("written");
    git(world.folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    git(world.folder.path(), &["add", "--all"]);
    git(world.folder.path(), &["commit", "--quiet", "-m", "begin"]);
}

/// Keeps everybody from making or merging a worktree, as a merge that takes long does.
fn keep_the_turn(world: &World) -> File {
    let folder = world.folder.path().join(".quorate/worktrees");
    std::fs::create_dir_all(&folder).expect("made");
    let lock = File::create(folder.join("lock")).expect("made");
    lock.lock().expect("locked");
    lock
}

async fn a_check_keeps_its_lease_until_its_work_is_merged(world: World) {
    make_repository(&world);
    let node = world.node(&in_worktrees()).await;
    let work = command("work", "sleep 0.5; echo done > work.txt");
    let (id, tasks) =
        world.start(vec![NewTask { verify: Some("true".into()), ..work }]).await.expect("started");
    let opened = world.folder.path().join(format!(".quorate/worktrees/{}/.git", tasks[0]));
    world.until(|| async { opened.exists().then_some(()) }).await;
    let turn = keep_the_turn(&world);
    world.task_in(tasks[0], TaskState::Verifying).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!world.kinds().await.contains(&"task.lease_expired".to_owned()), "it waits longer than a lease");
    drop(turn);
    assert_eq!(world.run_over(id).await.run.state, "completed");
    assert_eq!(world.read("work.txt"), "done\n");
    stop(node).await;
}

async fn a_node_that_stops_does_not_wait_for_others_merges(world: World) {
    make_repository(&world);
    let turn = keep_the_turn(&world);
    let node = world.node(&in_worktrees()).await;
    let (_, tasks) = world.start(vec![command("work", "echo done > work.txt")]).await.expect("started");
    world.task_in(tasks[0], TaskState::Running).await;
    stop(node).await;
    assert_eq!(world.task(tasks[0]).await.task.state, TaskState::Ready, "it is given back");
    drop(turn);
    let node = world.node(&in_worktrees()).await;
    world.task_in(tasks[0], TaskState::Completed).await;
    assert_eq!(world.read("work.txt"), "done\n");
    stop(node).await;
}

async fn work_that_no_waiting_mends_ends_the_task_though_it_passed_its_check(world: World) {
    make_repository(&world);
    let node = world.node(&in_worktrees()).await;
    // Somebody's own file of that name, which git does not know.
    std::fs::write(world.folder.path().join("work.txt"), "mine\n").expect("written");
    let work = command(
        "work",
        "echo x >> ../begun; echo done > work.txt; echo '{\"quorate\":\"result\",\"value\":7}'",
    );
    let work = NewTask { verify: Some("test $QUORATE_RESULT = 7".into()), ..work };
    let (_, tasks) = world.start(vec![work]).await.expect("started");
    let story = world.task_in(tasks[0], TaskState::Failed).await;
    let reason = story.attempts[0].reason.clone().unwrap_or_default();
    assert!(story.attempts.len() == 1 && reason.contains("commit or stash"), "{:?}", story.attempts);
    assert_eq!(world.read("work.txt"), "mine\n");
    std::fs::remove_file(world.folder.path().join("work.txt")).expect("removed");
    world.store.write(Retry { id: tasks[0] }).await.expect("it has failed");
    let story = world.task_in(tasks[0], TaskState::Completed).await;
    assert_eq!((world.read("work.txt"), story.task.result.as_deref()), ("done\n".into(), Some("7")));
    assert_eq!(world.read(".quorate/worktrees/begun"), "x\n", "it was only to be merged, not done again");
    stop(node).await;
}

/// Two pieces of work of which each is right alone, and main would be broken by both.
async fn what_passed_its_check_alone_is_checked_with_what_was_merged_meanwhile(world: World) {
    make_repository(&world);
    let node = world.node(&in_worktrees().replace("command =", "count = 2\ncommand =")).await;
    let work = |own: &str, other: &str| {
        let both = format!("touch ../{own}-begun; while [ ! -e ../{other}-begun ]; do sleep 0.05; done");
        NewTask {
            verify: Some("sleep 0.5; ! { test -e a && test -e b; }".into()),
            max_attempts: 1,
            ..command(own, &format!("{both}; touch {own}"))
        }
    };
    let (id, _) = world.start(vec![work("a", "b"), work("b", "a")]).await.expect("started");
    let story = world.run_over(id).await;
    let failed: Vec<_> = story.tasks.iter().filter(|task| task.state == TaskState::Failed).collect();
    assert_eq!(failed.len(), 1, "{:?}", story.tasks);
    let reason = failed[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("it passed before main was merged into it"), "{reason}");
    let there = ["a", "b"].map(|file| world.folder.path().join(file).exists());
    assert!(there[0] != there[1], "main holds what was checked: {there:?}");
    stop(node).await;
}

async fn a_person_who_is_on_no_branch_is_waited_for(world: World) {
    make_repository(&world);
    git(world.folder.path(), &["checkout", "--quiet", "--detach"]);
    let node = world.node(&in_worktrees()).await;
    let next = NewTask { needs_new: vec![0], ..command("next", "true") };
    let (id, tasks) =
        world.start(vec![command("work", "echo done > work.txt"), next]).await.expect("started");
    let story = world.task_in(tasks[0], TaskState::Parked).await;
    let reason = story.task.reason.clone().unwrap_or_default();
    assert!(reason.contains("on no branch") && reason.contains("git switch"), "{reason}");
    assert!(
        story.task.failures == 0 && story.task.due_at.is_some(),
        "it goes on by itself: {:?}",
        story.task
    );
    git(world.folder.path(), &["switch", "--quiet", "main"]);
    world.store.write(Unpark { id: tasks[0] }).await.expect("it was parked");
    assert_eq!(world.run_over(id).await.run.state, "completed");
    assert_eq!(world.read("work.txt"), "done\n");
    stop(node).await;
}

async fn work_that_is_done_waits_for_a_person_s_rebase(world: World) {
    make_repository(&world);
    git(world.folder.path(), &["commit", "--quiet", "--allow-empty", "-m", "more"]);
    let node = world.node(&in_worktrees()).await;
    let work = "echo x >> ../begun; while [ ! -e ../go ]; do sleep 0.05; done; echo done > work.txt";
    let (id, tasks) = world.start(vec![command("work", work)]).await.expect("started");
    world.until(|| async { (!world.read(".quorate/worktrees/begun").is_empty()).then_some(()) }).await;
    let edit = "sequence.editor=sed -i s/^pick/edit/";
    git(world.folder.path(), &["-c", edit, "rebase", "--quiet", "--keep-empty", "-i", "HEAD~1"]);
    std::fs::write(world.folder.path().join(".quorate/worktrees/go"), "").expect("written");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let story = world.task(tasks[0]).await;
    assert_eq!(story.task.state, TaskState::Running, "{:?}", story.task.reason);
    git(world.folder.path(), &["rebase", "--continue"]);
    assert_eq!(world.run_over(id).await.run.state, "completed");
    assert_eq!((world.task(tasks[0]).await.attempts.len(), world.read("work.txt")), (1, "done\n".into()));
    stop(node).await;
}

async fn a_merge_that_an_agent_half_resolved_brings_no_conflict_markers_to_main(world: World) {
    let write = |text: &str| {
        for file in ["one.txt", "two.txt"] {
            std::fs::write(world.folder.path().join(file), text).expect("written");
        }
    };
    write("at first\n");
    make_repository(&world);
    let node = world.node(&in_worktrees()).await;
    let own = "echo own > one.txt; echo own > two.txt; git commit --quiet --all -m own; touch ../begun";
    let wait = "while [ ! -e ../go ]; do sleep 0.05; done";
    let half = format!("{own}; {wait}; git merge main; echo both > one.txt; exit 0");
    let half = NewTask { max_attempts: 1, ..command("half", &half) };
    let (_, tasks) = world.start(vec![half]).await.expect("started");
    let worktrees = world.folder.path().join(".quorate/worktrees");
    world.until(|| async { worktrees.join("begun").exists().then_some(()) }).await;
    write("meanwhile\n");
    git(world.folder.path(), &["commit", "--quiet", "--all", "-m", "meanwhile"]);
    std::fs::write(worktrees.join("go"), "").expect("written");
    let story = world.run_over(RunId(1)).await;
    let reason = story.tasks[0].reason.clone().unwrap_or_default();
    assert_eq!(world.read("two.txt"), "meanwhile\n");
    assert!(reason.contains("conflict markers are left in two.txt"), "{reason}");
    git(world.folder.path(), &["show", &format!("quorate/task-{}:one.txt", tasks[0])]);
    stop(node).await;
}

async fn the_worktree_of_a_task_that_failed_goes_with_the_next_node(world: World) {
    make_repository(&world);
    let node = world.node(&in_worktrees()).await;
    let work = NewTask { max_attempts: 1, ..command("work", "echo half > half.txt; exit 1") };
    let (_, tasks) = world.start(vec![work]).await.expect("started");
    world.task_in(tasks[0], TaskState::Failed).await;
    stop(node).await;
    let worktree = world.folder.path().join(format!(".quorate/worktrees/{}", tasks[0]));
    assert!(worktree.exists());
    let node = world.node(&in_worktrees()).await;
    world.until(|| async { (!worktree.exists()).then_some(()) }).await;
    git(world.folder.path(), &["show", &format!("quorate/task-{}:half.txt", tasks[0])]);
    stop(node).await;
}

fn run<F: Future<Output = ()>>(on_postgres: bool, test: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { test(World::new(on_postgres).await).await });
}

macro_rules! stamp {
    ($($test:ident),* $(,)?) => {
        mod sqlite { $(#[test] fn $test() { super::run(false, super::$test); })* }
        mod postgres { $(#[test] fn $test() { super::run(true, super::$test); })* }
    };
}

stamp!(
    a_chain_runs_and_passes_results,
    a_check_that_fails_leads_to_another_attempt,
    a_check_reads_a_result_that_is_too_long_for_a_variable,
    a_result_that_cannot_be_read_is_no_success,
    a_timeout_stops_a_hanging_child_and_others_go_on,
    cancel_stops_a_running_child,
    what_is_taken_away_is_stopped_and_done_once,
    who_had_a_task_is_stopped_though_another_of_the_same_node_has_it_now,
    a_node_that_stops_hands_its_tasks_back,
    a_child_that_uses_all_of_a_long_grace_is_handed_back_too,
    a_lease_is_kept_while_the_child_works_longer_than_it,
    an_agent_that_always_dies_is_left_failed,
    two_nodes_share_the_work_and_nothing_is_done_twice,
    what_a_child_uses_is_kept_with_its_price_though_it_ends_at_once,
    a_budget_that_is_reached_stops_the_child_and_puts_the_run_aside,
    an_agent_that_cannot_go_on_takes_nothing_else_before_it_can,
    an_agent_that_cannot_go_on_is_let_go_on_by_a_person,
    whatever_a_child_prints_is_a_sign_of_life,
    idle_agents_cost_nothing,
    an_agent_that_is_alone_tries_again_as_soon_as_it_may,
    a_check_keeps_its_lease_until_its_work_is_merged,
    a_node_that_stops_does_not_wait_for_others_merges,
    work_that_no_waiting_mends_ends_the_task_though_it_passed_its_check,
    what_passed_its_check_alone_is_checked_with_what_was_merged_meanwhile,
    a_person_who_is_on_no_branch_is_waited_for,
    work_that_is_done_waits_for_a_person_s_rebase,
    the_worktree_of_a_task_that_failed_goes_with_the_next_node,
    a_merge_that_an_agent_half_resolved_brings_no_conflict_markers_to_main,
);
