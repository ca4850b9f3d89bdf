//! A ledger that several hosts share: who may do what in it. What the guide's commands show is run with the documents.

use crate::door::{Door, number, texts, word};
use quorate_service::SCHEMA;
use quorate_service::retention::MayPrune;
use quorate_store::{Boxed, Options, Read, Store, Tx, Url};
use quorate_testkit::bouncer::Bouncer;
use quorate_testkit::server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;

const DATABASE: &str = "quorate";
const ROLES: &str =
    "create role quorate_owner login; create role quorate_node login; create role quorate_agent login;
                     create role quorate_reader login; grant pg_read_all_stats to quorate_node";

const PLAN: &str = r#"
goal = "Everything that a node does"
[[task]]
key = "first"
run = "echo first"
verify = "true"
claims = ["src/**"]
[[task]]
key = "second"
needs = ["first"]
run = "test $QUORATE_ATTEMPT -ge 2"
claims = ["src/a.rs"]
[[task]]
key = "third"
run = "echo third"
"#;

/// A server with the four roles, and a ledger whose owner has given the others their rights.
struct Shared(Server);

impl Shared {
    fn start() -> Shared {
        let shared = Shared::without_ledger();
        shared.door("quorate_owner").ok(&["status"]);
        shared.give_rights();
        shared
    }

    fn without_ledger() -> Shared {
        let server = Server::start().expect("a server");
        server.psql(ROLES).expect("made");
        server.psql(&format!("create database {DATABASE} owner quorate_owner")).expect("made");
        Shared(server)
    }

    fn give_rights(&self) {
        let sql = self.door("quorate_owner").ok(&["sql", "roles"]);
        self.sql("quorate_owner", &sql).expect("the owner may");
    }

    fn door(&self, role: &str) -> Door {
        let door = Door::at(&self.0.url_for(role, DATABASE));
        door.write("quorate.toml", "[health]\nretry_after = \"100ms\"\n");
        door
    }

    /// Keeps the server's files as they are now, aside; `back_to` puts them back.
    fn keep(&self) -> PathBuf {
        let copy = self.0.data().with_extension("kept");
        self.still(|| copy_folder(&self.0.data(), &copy));
        copy
    }

    /// Restores the ledger to the moment at which `kept` was made.
    fn back_to(&self, kept: &Path) {
        self.still(|| {
            let data = self.0.data();
            std::fs::rename(&data, data.with_extension("lost")).expect("moved");
            copy_folder(kept, &data);
        });
    }

    fn still(&self, change: impl FnOnce()) {
        self.0.pg_ctl(&["-m", "fast", "stop"]).expect("the server obeys");
        change();
        self.0.pg_ctl(&["start"]).expect("the server obeys");
    }

    fn jump_ahead(&self) {
        let sql = self.door("quorate_owner").ok(&["sql", "restored"]);
        self.sql("quorate_owner", &sql).expect("the owner may");
    }

    fn sql(&self, role: &str, sql: &str) -> Result<String, String> {
        self.0.psql_as(role, DATABASE, sql)
    }

    #[track_caller]
    fn is_denied(&self, role: &str, statements: &[&str]) {
        for sql in statements {
            let said = self.sql(role, sql).expect_err(&format!("{role} must not: {sql}"));
            let is_denied = said.contains("permission denied") || said.contains("must be owner");
            assert!(is_denied, "{role}: {sql}: {said}");
        }
    }
}

/// Copies a folder with all its owners and times, as root and as anyone.
fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}

/// What nobody but the owner may do.
const OWNERS_OWN: [&str; 9] = [
    "update events set message = 'nothing happened'",
    "update events set seq = seq + 1",
    "truncate events",
    "alter table events add column note text",
    "alter table tasks disable trigger all",
    "drop table messages",
    "drop view agent_log",
    "create table mine (id bigint)",
    "update log_era set era = 0",
];

#[test]
fn a_node_runs_everything_without_owning_anything() {
    let shared = Shared::start();
    let door = shared.door("quorate_node");
    door.write("plan.toml", PLAN);
    let report = door.ok(&["run", "plan.toml"]);
    assert!(report.contains("3 completed"), "{report}");
    door.ok(&["task", "add", "one more", "--run", "true"]);
    door.ok(&["runs", "list"]);
    let seen = door.ok(&["doctor"]);
    assert!(seen.contains("quorate_node adds work, takes and reports, removes old history"), "{seen}");
    assert!(seen.contains("connections taken") && seen.contains("nobody holds an old view"), "{seen}");
    shared.is_denied("quorate_node", &OWNERS_OWN);
    shared.sql("quorate_node", "delete from events where seq < 0").expect("retention needs that");
}

#[test]
fn an_agent_takes_and_completes_work_and_cannot_alter_the_log() {
    let shared = Shared::start();
    let (node, agent) = (shared.door("quorate_node"), shared.door("quorate_agent"));
    let id =
        number(&node.json(&["task", "add", "build", "--run", "cat >/dev/null", "--claims", "src/**"])["id"]);
    let checked = number(&node.json(&["task", "add", "check", "--run", "true", "--verify", "true"])["id"]);
    let mut run = agent.start(&["agent", "run", "builder"]);
    for id in [&id, &checked] {
        node.eventually("it is completed", |door| {
            (word(&door.json(&["task", "show", id])["state"]) == "completed").then_some(())
        });
    }
    run.interrupt();
    let (_, said) = texts(&run.end());
    assert!(!said.contains("denied"), "{said}");
    assert_eq!(node.events("task.completed", 2).len(), 2);

    by_hand(&shared, &node, &agent);
    shared.is_denied("quorate_agent", &OWNERS_OWN);
    shared.is_denied(
        "quorate_agent",
        &[
            "delete from events",
            "delete from tasks",
            "delete from attempts",
            "insert into tasks (title, state, run, max_attempts, created_at) values ('t', 'ready', 'x', 1, 0)",
            "update tasks set run = 'echo mine'",
            "update tasks set verify = null",
            "update tasks set title = 'another'",
            "update attempts set term = 9",
            "update meta set value = '0'",
            "delete from memories",
        ],
    );
    let error = agent.fails(1, &["task", "add", "more work", "--run", "true"]);
    assert!(word(&error["message"]).contains("permission denied"), "{error}");
}

/// What an agent does that is no child of ours: each command a process of its own.
fn by_hand(shared: &Shared, node: &Door, agent: &Door) {
    let id = number(&node.json(&["task", "add", "words", "--prompt", "Think."])["id"]);
    let taken = agent.json(&["task", "next", "--agent", "ada"]);
    assert_eq!(number(&taken["id"]), id);
    let term = number(&taken["term"]);
    agent.ok(&["claim", "docs/**", "--agent", "ada", "--task", &id, "--term", &term]);
    agent.ok(&["claim", "port:8080", "--agent", "ada"]);
    agent.fails(3, &["claim", "port:8080", "--agent", "bob"]);
    agent.ok(&["release", "port:8080", "--agent", "ada"]);
    agent.ok(&["task", "progress", &id, "--term", &term, "--percent", "50"]);
    agent.ok(&["send", "--from", "ada", "--to", "bob", "half of it"]);
    agent.ok(&["inbox", "bob"]);
    agent.ok(&["log", "--agent", "ada", "--action", "note", "--status", "ok", "a word"]);
    agent.ok(&["task", "done", &id, "--term", &term, "--result", "\"both halves\""]);
    agent.ok(&["remember", "--agent", "ada", "halves are enough"]);
    for n in 0..=20 {
        agent.ok(&["checkpoint", "save", "--agent", "ada", &format!("step {n}")]);
    }
    assert_eq!(agent.json(&["recall", "halves"]).as_array().map(Vec::len), Some(2));
    agent.ok(&["context", "--agent", "ada"]);
    agent.fails(1, &["forget", "1"]);
    agent.fails(4, &["task", "fail", &id, "--term", &term, "--error", "no"]);
    let again = number(&node.json(&["task", "add", "by SQL", "--prompt", "Think."])["id"]);
    let by_sql = shared.sql("quorate_agent", "select id, term from claim_task('cy')").expect("it may");
    assert_eq!(by_sql, format!("{again}|1"));
    agent.ok(&["task", "fail", &again, "--term", "1", "--error", "no", "--final"]);
}

#[test]
fn only_who_may_remove_history_asks_to() -> quorate_model::Result<()> {
    let shared = Shared::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (role, may) in [("quorate_node", true), ("quorate_agent", false)] {
        let url = Url::Pg(shared.0.url_for(role, DATABASE));
        let answer = runtime
            .block_on(async { Store::open(&url, Options::new(&SCHEMA)).await?.read(MayPrune).await })?;
        assert_eq!(answer, may, "{role}");
    }
    Ok(())
}

#[test]
fn a_reader_sees_everything_and_changes_nothing() {
    let shared = Shared::start();
    shared.door("quorate_node").ok(&["task", "add", "seen", "--run", "true"]);
    let door = shared.door("quorate_reader");
    assert!(door.ok(&["task", "list"]).contains("seen"));
    let seen = door.ok(&["doctor"]);
    assert!(
        seen.contains("quorate_reader only reads") && seen.contains("grant pg_read_all_stats to"),
        "{seen}"
    );
    for words in
        [&["status"][..], &["task", "show", "1"], &["claims"], &["runs", "list"], &["doctor"], &["events"]]
    {
        door.ok(words);
    }
    let error = door.fails(1, &["task", "add", "more", "--run", "true"]);
    assert!(word(&error["message"]).contains("permission denied"), "{error}");
    shared.is_denied("quorate_reader", &OWNERS_OWN);
    let log = "insert into events (seq, at, kind, message) values (1, 1, 'x', 'y')";
    shared.is_denied("quorate_reader", &[log, "delete from events", "select nextval('log_order')"]);
}

#[test]
fn who_may_not_make_the_schema_says_who_must() {
    let shared = Shared::without_ledger();
    let error = shared.door("quorate_node").fails(1, &["status"]);
    assert!(word(&error["message"]).contains("permission denied"), "{error}");
    assert!(word(&error["hint"]).contains("owner"), "{error}");
    shared.door("quorate_owner").ok(&["status"]);
    shared.give_rights();
    shared.door("quorate_node").ok(&["status"]);
}

#[test]
fn only_the_owner_puts_the_log_of_another_server_in_order_and_the_others_say_so() {
    let shared = Shared::start();
    let ahead =
        "insert into events (seq, at, kind, message) values (1::bigint << 60, 0, 'x', 'of a longer history')";
    shared.sql("quorate_owner", ahead).expect("the owner may");
    let error = shared.door("quorate_node").fails(1, &["status"]);
    assert!(word(&error["message"]).contains("comes from another server"), "{error}");
    shared.door("quorate_owner").ok(&["status"]);
    shared.door("quorate_node").ok(&["status"]);
}

#[test]
fn every_table_is_given_to_those_who_need_it() {
    let shared = Shared::start();
    let sql = "select c.relname from pg_class c
                where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
                  and not (has_table_privilege('quorate_reader', c.oid, 'select')
                           and (c.relkind = 'v' or c.relname = 'log_era' or has_table_privilege('quorate_node', c.oid, 'insert')))";
    assert_eq!(shared.sql("quorate_owner", sql), Ok(String::new()), "give them their rights in roles.sql");
}

/// Asks how long a transaction may stand idle: a direct connection says so once, behind a pooler each transaction does.
struct Patience;

impl Read for Patience {
    type Answer = Option<String>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<String>> {
        Box::pin(async move {
            let sql = "select current_setting('idle_in_transaction_session_timeout') as patience";
            tx.one(sql, &[], |row| row.text("patience")).await
        })
    }
}

/// A pooler in front of a shared ledger, or `None` where PgBouncer is not installed.
#[expect(clippy::print_stderr, reason = "what is not tested is said")]
fn pooler(shared: &Shared, lines: &str) -> Option<Bouncer> {
    let Some(program) = Bouncer::find() else {
        eprintln!("not tested: PgBouncer is not here (`cargo xtask setup` installs it where it can)");
        return None;
    };
    let roles = ["quorate_owner", "quorate_node", "quorate_agent"];
    Some(Bouncer::start(&program, &shared.0, &roles, lines).expect("it starts"))
}

/// What a node and an agent by hand do, through a pooler.
fn work_through(shared: &Shared, bouncer: &Bouncer, words: &str) {
    let way = |role: &str| {
        let door = Door::at(&format!("{}&{words}", bouncer.url_for(role, DATABASE)));
        door.write("quorate.toml", "[health]\nretry_after = \"100ms\"\n");
        door
    };
    let (node, agent) = (way("quorate_node"), way("quorate_agent"));
    node.write("plan.toml", PLAN);
    let report = node.ok(&["run", "plan.toml"]);
    assert!(report.contains("3 completed"), "{report}");
    by_hand(shared, &node, &agent);
    let id = number(&node.json(&["task", "add", "later", "--run", "true"])["id"]);
    let mut nodes = [node.start(&["up", "--agents", "2"]), node.start(&["up", "--agents", "2"])];
    let more = number(&agent.json(&["task", "show", &id])["id"]);
    for number_of_task in 0..20 {
        node.ok(&["task", "add", &format!("task {number_of_task}"), "--run", "true"]);
    }
    node.eventually("all are completed", |door| {
        let tasks = door.json(&["task", "list", "--state", "completed"]);
        let done = tasks.as_array().expect("a list").len();
        (done >= 24 && tasks.as_array()?.iter().any(|task| number(&task["id"]) == more)).then_some(())
    });
    for node in &mut nodes {
        node.interrupt();
    }
    for node in nodes {
        let (_, said) = texts(&node.end());
        assert!(!said.contains("notice"), "{said}");
    }
}

#[test]
fn everything_works_behind_a_pooler_that_lends_a_connection_for_a_transaction() {
    let shared = Shared::start();
    let lines = "pool_mode = transaction\ndefault_pool_size = 4";
    let Some(bouncer) = pooler(&shared, lines) else { return };
    work_through(&shared, &bouncer, "pooler=transaction");
    let url = format!("{}&pooler=transaction", bouncer.url_for("quorate_node", DATABASE));
    let error = Door::at(&url).fails(2, &["backup", "copy.dump"]);
    assert!(word(&error["hint"]).contains("without `pooler=`"), "{error}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let patience = runtime
        .block_on(async { Store::open(&Url::Pg(url), Options::new(&SCHEMA)).await?.read(Patience).await });
    assert_eq!(patience.ok().flatten().as_deref(), Some("5s"), "a stopped process keeps nobody waiting");
    let sql = "select count(*) from pg_stat_activity where usename in ('quorate_node', 'quorate_agent')";
    let lent: i64 = shared.0.psql(sql).expect("answers").parse().expect("a number");
    assert!(lent <= 8, "two roles with four connections each, not {lent}");
}

#[test]
fn everything_works_behind_a_pooler_that_lends_a_connection_for_a_session() {
    let shared = Shared::start();
    let Some(bouncer) = pooler(&shared, "pool_mode = session\ndefault_pool_size = 60") else { return };
    work_through(&shared, &bouncer, "pooler=session");
}

#[test]
fn a_pooler_that_the_address_does_not_mention_is_noticed() {
    let shared = Shared::start();
    let Some(bouncer) = pooler(&shared, "pool_mode = transaction") else { return };
    let refused = |bouncer: &Bouncer, words: &str| {
        let door = Door::at(&format!("{}{words}", bouncer.url_for("quorate_node", DATABASE)));
        let error = door.fails(1, &["status"]);
        assert!(word(&error["hint"]).contains("pooler=transaction"), "{error}");
    };
    refused(&bouncer, "");
    let bouncer =
        pooler(&shared, "pool_mode = transaction\nignore_startup_parameters = options").expect("again");
    refused(&bouncer, "");
    let door = Door::at(&format!("{}&pooler=transaction", bouncer.url_for("quorate_node", DATABASE)));
    door.ok(&["status"]);
    // Said to lend for a session: the first leaves its statements on a connection that the second is lent.
    let door = Door::at(&format!("{}&pooler=session", bouncer.url_for("quorate_node", DATABASE)));
    door.run(&["status"]);
    refused(&bouncer, "&pooler=session");
}

/// A ledger with a task that was taken, under term 1, after the moment to which it is restored.
fn with_a_holder_that_was_forgotten() -> (Shared, Door, PathBuf) {
    let shared = Shared::start();
    let door = shared.door("quorate_node");
    door.ok(&["task", "add", "words", "--prompt", "Think."]);
    let kept = shared.keep();
    assert_eq!(number(&door.json(&["task", "next", "--agent", "forgotten"])["term"]), "1");
    assert_eq!(number(&door.json(&["task", "add", "lost", "--prompt", "Think."])["id"]), "2");
    (shared, door, kept)
}

#[test]
fn after_a_restore_alone_a_term_and_a_number_mean_two_things() {
    let (shared, door, kept) = with_a_holder_that_was_forgotten();
    shared.back_to(&kept);
    assert_eq!(number(&door.json(&["task", "next", "--agent", "bob"])["term"]), "1");
    door.ok(&["task", "done", "1", "--term", "1", "--result", "\"of the forgotten one\""]);
    assert_eq!(
        word(&door.json(&["task", "show", "1"])["agent"]),
        "bob",
        "why `quorate sql restored` is needed"
    );
}

#[test]
fn after_a_restore_whoever_was_forgotten_is_refused() {
    let (shared, door, kept) = with_a_holder_that_was_forgotten();
    let seen = |door: &Door| number(&door.events("task.added", 1).pop().expect("an event")["seq"]);
    let last = door.eventually("both are in the log", |door| {
        let added = door.events("task.added", 1);
        (added.len() == 2).then(|| seen(door))
    });
    shared.back_to(&kept);
    shared.jump_ahead();
    assert_eq!(number(&door.json(&["task", "next", "--agent", "bob"])["term"]), "1000001");
    let error = door.fails(4, &["task", "done", "1", "--term", "1"]);
    assert!(word(&error["message"]).contains("not its current term"), "{error}");
    door.ok(&["task", "done", "1", "--term", "1000001"]);
    let next: i64 =
        number(&door.json(&["task", "add", "new", "--prompt", "Think."])["id"]).parse().expect("a number");
    assert!(next > 1_000_000, "{next} may have been given out before");
    door.eventually("a follower sees what came after the restore", |door| {
        let news = door.ok(&["events", "--after", &last, "--json"]);
        (news.contains("ledger.restored")
            && news.contains("write.refused")
            && news.contains("task.completed"))
        .then_some(())
    });
    door.ok(&["claim", "src/**", "--agent", "bob"]);
    let mut node = door.start(&["up", "--agents", "1"]);
    door.ok(&["task", "add", "run", "--run", "true"]);
    door.eventually("a node works", |door| {
        let tasks = door.json(&["task", "list", "--state", "completed"]);
        (tasks.as_array()?.len() == 2).then_some(())
    });
    node.interrupt();
    node.end();
}

#[test]
fn a_node_that_was_forgotten_at_a_restore_loses_what_it_had_and_goes_on() {
    let shared = Shared::start();
    let door = shared.door("quorate_node");
    door.write("quorate.toml", "[health]\nlease = \"8s\"\ninterval = \"500ms\"\n");
    let line = "echo began $QUORATE_TERM >>lines; test $QUORATE_TERM -gt 1 || sleep 60; echo ended $QUORATE_TERM >>lines";
    door.ok(&["task", "add", "long", "--run", line]);
    let kept = shared.keep();
    let mut node = door.start(&["up", "--agents", "1"]);
    let lines = |door: &Door| std::fs::read_to_string(door.path().join("lines")).unwrap_or_default();
    door.eventually("it began", |door| lines(door).contains("began 1\n").then_some(()));
    shared.back_to(&kept);
    shared.jump_ahead();
    let task = door.eventually("it is done again", |door| {
        let task = door.json(&["task", "show", "1"]);
        (word(&task["state"]) == "completed").then_some(task)
    });
    assert_eq!(number(&task["term"]), "1000001", "{task}");
    node.interrupt();
    node.end();
    assert_eq!(lines(&door), "began 1\nbegan 1000001\nended 1000001\n", "the first was stopped");
}
