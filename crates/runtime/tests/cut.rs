//! A node whose database falls silent: nothing is refused, nothing is closed, nothing comes.

use quorate_model::config::Config;
use quorate_model::memory::Query;
use quorate_model::{TaskId, TaskState};
use quorate_runtime::{Level, Node, NodeOptions, team};
use quorate_service::SCHEMA;
use quorate_service::memory::Recall;
use quorate_service::run::Start;
use quorate_service::task::{NewTask, Work};
use quorate_service::view::Story;
use quorate_store::{Options, Store, Url};
use quorate_testkit::postgres::Schema;
use quorate_testkit::proxy::{Proxy, Still};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a test waits for what it expects; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child that shows that it lives.
const BEAT: &str = "while :; do date +%s%3N >> $QUORATE_TASK_ID; sleep 0.05; done";

struct World {
    /// In seconds.
    lease: u64,
    schema: Schema,
    /// The ledger, reached past the proxy.
    store: Store,
    folder: tempfile::TempDir,
}

impl World {
    async fn new(lease: u64) -> World {
        let schema = Schema::create();
        let store = open(schema.url()).await;
        World { lease, schema, store, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    async fn node(&self, url: &str) -> Node {
        self.node_of(url, "").await
    }

    /// Begins a node with these agents.
    async fn node_of(&self, url: &str, agents: &str) -> Node {
        // The grace is longer than the lease.
        let config = format!(
            "[health]\ninterval = \"500ms\"\nlease = \"{}s\"\nretry_after = \"100ms\"\ngrace = \"60s\"\n{agents}",
            self.lease
        );
        let config = Config::parse("quorate.toml", config.as_bytes()).expect("a good configuration");
        let options = NodeOptions {
            kind: "up",
            url: Url::Pg(url.to_owned()),
            agents_url: Url::Pg(url.to_owned()),
            members: team(&config, None, &|_| None),
            config: Arc::new(config),
            folder: self.folder.path().to_owned(),
            state: self.folder.path().join(".quorate"),
            run: None,
            door: None,
            embedder: None,
        };
        Node::begin(open(url).await, options).await.expect("the node begins")
    }

    async fn start(&self, key: &str, run: &str) -> TaskId {
        let task = NewTask { key: Some(key.into()), work: Some(Work::Run(run.into())), ..NewTask::new(key) };
        let start = Start { goal: "a test".into(), source: None, detached: true, tasks: vec![task] };
        self.store.write(start).await.expect("started").1[0]
    }

    async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the task runs for the `attempt`th time; answers with the end of its lease.
    async fn running(&self, id: TaskId, attempt: i64) -> i64 {
        let look = async || {
            let task = self.store.read(Story { id }).await.expect("readable").task;
            (task.state == TaskState::Running && task.attempt == attempt)
                .then_some(task.lease_until)
                .flatten()
        };
        self.until("the task runs", look).await
    }

    async fn completed(&self, id: TaskId) {
        let look = async || {
            let task = self.store.read(Story { id }).await.expect("readable").task;
            (task.state == TaskState::Completed).then_some(())
        };
        self.until("the task is completed", look).await;
    }
}

async fn open(url: &str) -> Store {
    Store::open(&Url::Pg(url.to_owned()), Options::new(&SCHEMA)).await.expect("the ledger opens")
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn last_line(folder: &Path, file: &str) -> i64 {
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0)
}

async fn stop(node: Node) {
    node.stopper().stop(Level::Now);
    tokio::time::timeout(PATIENCE, node.wait()).await.expect("a node ends when told to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_gone_before_its_lease_ends_when_the_database_falls_silent() {
    let world = World::new(3).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let node = world.node(&url).await;
    let polite = world.start("polite", BEAT).await;
    let stubborn = world.start("stubborn", &format!("trap '' TERM; {BEAT}")).await;
    for id in [polite, stubborn] {
        world.running(id, 1).await;
    }
    // Others change the ledger all the time, so the node is mostly just looking whether it still has its tasks.
    proxy.delay(Duration::from_millis(100));
    for n in 0..20 {
        world.start(&format!("other{n}"), "true").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    proxy.stand(Still::All);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut ends = Vec::new();
    for id in [polite, stubborn] {
        ends.push((id, world.running(id, 1).await));
    }
    let last_end = ends.iter().map(|(_, until)| *until).max().unwrap_or(0);
    world.until("the leases end", async || (now_ms() > last_end + 1_000).then_some(())).await;
    for (id, until) in ends {
        let last = last_line(world.folder.path(), &id.to_string());
        assert!(last > 0 && last < until, "task {id} went on until {} ms after its lease", last - until);
    }
    proxy.stand(Still::Nothing);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_take_is_answered_after_its_lease_is_not_begun() {
    let world = World::new(3).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let slow = world.node(&url).await;
    // Once it has taken something, all it needs for another take has been prepared.
    let first = world.start("first", "true").await;
    world.completed(first).await;
    // What it asks is on its way so long that the answer can be held back once the ledger has done it.
    proxy.delay(Duration::from_millis(700));
    let id = world.start("second", "echo $QUORATE_ATTEMPT >> starts; sleep 600").await;
    world.running(id, 1).await;
    proxy.stand(Still::Answers);
    let other = world.node(world.schema.url()).await;
    world.running(id, 2).await;
    // What it is told now comes while it stops, and is passed on all the same.
    slow.stopper().stop(Level::Finish);
    proxy.delay(Duration::ZERO);
    proxy.stand(Still::Nothing);
    let started = async || last_line(world.folder.path(), "starts").eq(&2).then_some(());
    world.until("the second attempt's child", started).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let starts = std::fs::read_to_string(world.folder.path().join("starts")).expect("it has begun");
    assert_eq!(starts, "2\n", "the first owner began when the second had the task");
    let mut heard = Vec::new();
    let ended = slow.wait_and_hear(|notice| heard.push(notice));
    tokio::time::timeout(PATIENCE, ended).await.expect("a node ends when told to");
    assert!(heard.iter().any(|notice| notice.contains("not begun")), "{heard:?}");
    stop(other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_when_a_lease_is_to_be_renewed_costs_nothing() {
    let world = World::new(6).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let node = world.node(&url).await;
    let id = world.start("steady", BEAT).await;
    let taken_until = world.running(id, 1).await;
    // The next renewal is due a third of the lease after this one, and the one after it when the child would have to go.
    let renewed = async || (world.running(id, 1).await > taken_until).then_some(());
    world.until("the lease is renewed", renewed).await;
    proxy.stand(Still::Closed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.stand(Still::Nothing);
    let back = now_ms();
    let (file, folder) = (id.to_string(), world.folder.path());
    world.until("the child goes on", async || (last_line(folder, &file) > back + 6_000).then_some(())).await;
    let story = world.store.read(Story { id }).await.expect("readable");
    assert_eq!((story.task.state, story.attempts.len()), (TaskState::Running, 1), "{story:?}");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_because_the_database_was_away_is_given_back_when_it_answers() {
    let world = World::new(12).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let node = world.node(&url).await;
    let id = world.start("steady", BEAT).await;
    world.running(id, 1).await;
    let (file, folder) = (id.to_string(), world.folder.path());
    world.until("the child has begun", async || (last_line(folder, &file) > 0).then_some(())).await;
    proxy.stand(Still::All);
    let stopped = async || (now_ms() > last_line(folder, &file) + 500).then_some(());
    world.until("the child is stopped", stopped).await;
    let lease_until = world.running(id, 1).await;
    proxy.stand(Still::Nothing);
    world.running(id, 2).await;
    let attempts = world.store.read(Story { id }).await.expect("readable").attempts;
    let (first, second) = (&attempts[0], &attempts[1]);
    assert_eq!(first.outcome.as_deref(), Some("lost"));
    let reason = first.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("could not be renewed"), "{reason}");
    let waited = second.started_at - lease_until;
    assert!(waited < 0, "the second attempt began {waited} ms after the lease of the first had ended");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_check_said_is_heard_when_the_database_is_back() {
    let world = World::new(60).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let node = world.node(&url).await;
    let check = "echo began >> began; until [ -e end ]; do sleep 0.05; done; echo ended >> ended";
    let task = NewTask {
        key: Some("checked".into()),
        work: Some(Work::Run("true".into())),
        verify: Some(check.into()),
        ..NewTask::new("checked")
    };
    let start = Start { goal: "a test".into(), source: None, detached: true, tasks: vec![task] };
    let id = world.store.write(start).await.expect("started").1[0];
    let folder = world.folder.path();
    world.until("the check runs", async || folder.join("began").exists().then_some(())).await;
    proxy.stand(Still::Closed);
    std::fs::write(folder.join("end"), "").expect("written");
    world.until("the check ends", async || folder.join("ended").exists().then_some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.stand(Still::Nothing);
    // Long before the end of its lease.
    world.completed(id).await;
    assert_eq!(std::fs::read_to_string(folder.join("began")).expect("it began"), "began\n");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_in_a_worktree_while_the_database_was_away_is_merged() {
    let world = World::new(4).await;
    let folder = world.folder.path();
    for words in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["commit", "--quiet", "--allow-empty", "-m", "begin"],
    ] {
        let who = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"];
        let ended =
            Command::new("git").arg("-C").arg(folder).args(who).args(words).status().expect("git runs");
        assert!(ended.success(), "git {words:?}");
    }
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let node = world.node_of(&url, "[agents.coder]\ncommand = [\"true\"]\nworkspace = \"worktree\"\n").await;
    // What it has used is told before its work is merged, for as long as that takes.
    let used = r#"{"quorate":"usage","model":"m","input_tokens":1,"output_tokens":1}"#;
    let here = folder.display();
    let script = format!(
        "echo '{used}'; echo done > work.txt; touch {here}/began; until [ -e {here}/end ]; do sleep 0.05; done"
    );
    let id = world.start("worktree", &script).await;
    world.until("the child runs", async || folder.join("began").exists().then_some(())).await;
    proxy.stand(Still::Closed);
    std::fs::write(folder.join("end"), "").expect("written");
    tokio::time::sleep(Duration::from_secs(6)).await;
    proxy.stand(Still::Nothing);
    world.completed(id).await;
    let story = world.store.read(Story { id }).await.expect("readable");
    assert_eq!(story.attempts.len(), 1, "what is done is not done again: {:?}", story.attempts);
    assert_eq!(std::fs::read_to_string(folder.join("work.txt")).ok().as_deref(), Some("done\n"));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_found_out_is_remembered_when_the_database_is_back() {
    let world = World::new(60).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let node = world.node(&url).await;
    let finding = r#"{"quorate":"progress","findings":["the moon is far"]}"#;
    let wait = "until [ -e end ]; do sleep 0.05; done";
    let id = world.start("finder", &format!("echo > began; {wait}; echo '{finding}'; echo > said")).await;
    let folder = world.folder.path();
    world.until("the child runs", async || folder.join("began").exists().then_some(())).await;
    proxy.stand(Still::Closed);
    std::fs::write(folder.join("end"), "").expect("written");
    world.until("the child has said it", async || folder.join("said").exists().then_some(())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.stand(Still::Nothing);
    world.completed(id).await;
    let hits = world.store.read(Recall::of(Query::parse("moon"))).await.expect("readable");
    assert_eq!(hits.len(), 1, "{hits:?}");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_when_it_is_told_to_though_the_database_is_silent() {
    let world = World::new(60).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let node = world.node(&url).await;
    // Once it has worked, all connections that it needs for more work are there.
    let first = world.start("first", "true").await;
    world.completed(first).await;
    // Where the child's output is kept is still on its way to the ledger when that falls silent.
    proxy.delay(Duration::from_millis(300));
    let id = world.start("steady", BEAT).await;
    let file = world.folder.path().join(id.to_string());
    world.until("the child has begun", async || file.exists().then_some(())).await;
    proxy.stand(Still::All);
    let told = std::time::Instant::now();
    stop(node).await;
    // An answer is waited for 30 s; last words of agents, loops and node for 5 s each, one after the other.
    assert!(told.elapsed() < Duration::from_secs(25), "{:?}", told.elapsed());
}

/// Agents of two nodes that are called the same. Whoever has the same name as another shares its claims.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_names_another_took_meanwhile_works_under_names_of_its_own() {
    let world = World::new(3).await;
    let (proxy, url) = Proxy::before(world.schema.url()).expect("a proxy");
    let cut_off = world.node(&url).await;
    let first = world.start("first", "true").await;
    world.completed(first).await;
    proxy.stand(Still::Closed);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let other = world.node(world.schema.url()).await;
    proxy.stand(Still::Nothing);
    let mut nodes_of: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    let both_work = |nodes: &BTreeMap<String, BTreeSet<Option<String>>>| {
        nodes.values().flatten().collect::<BTreeSet<_>>().len() == 2
    };
    for round in 0..20 {
        let mut tasks = Vec::new();
        for n in 0..8 {
            tasks.push(world.start(&format!("work{round}-{n}"), "sleep 0.3").await);
        }
        for id in tasks {
            world.completed(id).await;
            let task = world.store.read(Story { id }).await.expect("readable").task;
            nodes_of.entry(task.owner.unwrap_or_default()).or_default().insert(task.node);
        }
        if both_work(&nodes_of) {
            break;
        }
    }
    assert!(both_work(&nodes_of), "{nodes_of:?}");
    assert!(nodes_of.values().all(|nodes| nodes.len() == 1), "{nodes_of:?}");
    stop(cut_off).await;
    stop(other).await;
}
