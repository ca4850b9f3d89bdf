//! `quorate up`, `quorate down` and `quorate agent run`: nodes in the foreground, and their end.
//!
//! Here lives the showing of what a node does, which is the log, and the stopping of nodes of this host by signal.

use crate::args;
use crate::lookout::soon;
use crate::place::{Place, Telemetry};
use crate::print;
use crate::run::{at_most, keep_report};
use crate::signals::Signals;
use crate::tmux::{self, Tmux};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_model::config::{Config, Driver};
use quorate_model::{Error, Kind, Result, Seq, nearest};
use quorate_runtime::{Level, Member, Node};
use quorate_server::Server;
use quorate_service::event::{After, Filter, Latest, Logged, PAGE_MAX};
use quorate_service::run::{FOREGROUND_MS, Unreported};
use quorate_service::task::Task;
use quorate_service::view::{Agents, Pulse, Tasks};
use quorate_service::{node, wire};
use quorate_store::Store;
use std::time::{Duration, Instant};

/// Missing reports that a node writes at once, at most.
const REPORTS_MAX: i64 = 1_000;
/// When one looks for the report of a run that was worked at in the foreground: a little after it should be there.
const REPORT_PATIENCE: Duration = Duration::from_millis(FOREGROUND_MS as u64 + 500);
/// When a report that could not be written is tried again.
const REPORT_AGAIN: Duration = Duration::from_secs(30);
/// How long `down` waits for a node to end.
const DOWN_WAIT: Duration = Duration::from_secs(30);

/// Runs a node until it is told to stop.
pub(crate) async fn up(place: Place, args: &args::Up, json: bool) -> Result<u8> {
    if let Some(session) = &args.tmux {
        return tmux::up(&place, args, session, json).await;
    }
    let members = place.team(at_most(args.agents));
    place.check_ready(&members)?;
    let store = place.open_for_node().await?;
    serve(&place, store, members, "up", json).await
}

/// Runs one agent in the foreground.
pub(crate) async fn agent_run(mut place: Place, args: &args::AgentRun, json: bool) -> Result<u8> {
    if let Some(driver) = args.driver {
        place.config = with_driver(&place.config, args, driver)?;
    }
    place.check_telemetry()?;
    // A ledger is made last: a mistyped name leaves nothing behind.
    let there = if place.is_missing() { None } else { Some(place.open_for_node().await?) };
    let member = find_member(&place, there.as_ref(), args).await?;
    place.check_ready(std::slice::from_ref(&member))?;
    let store = match there {
        Some(store) => store,
        None => place.open_for_node().await?,
    };
    serve(&place, store, vec![member], "agent", json).await
}

/// Returns the configuration as if the agent's table named this driver, and the program that is given here.
///
/// # Errors
/// `Invalid` for a driver that no node runs, or that wants more than can be said here.
fn with_driver(config: &Config, args: &args::AgentRun, driver: Driver) -> Result<Config> {
    let name = &args.name;
    let instead = match driver {
        Driver::Command | Driver::Claude | Driver::Codex | Driver::Gemini | Driver::Model => None,
        Driver::External | Driver::Human => {
            Some(format!("it takes its work with `quorate task next --agent {name}`"))
        }
        Driver::Acp => Some("drivers that a node runs are: command, claude, codex, gemini, model".to_owned()),
    };
    if let Some(hint) = instead {
        return Err(Error::invalid(format!("no node runs an agent with driver `{driver}`")).hint(hint));
    }
    let configured = config.agents().into_iter().find(|(member, _)| member == name);
    let mut table = configured.map(|(_, table)| table.clone()).unwrap_or_default();
    (table.driver, table.count) = (driver, 1);
    if !args.command.is_empty() {
        table.command.clone_from(&args.command);
    }
    if driver == Driver::Model {
        if !args.command.is_empty() {
            return Err(Error::invalid("the driver `model` runs no program").hint("leave --command out"));
        }
        if table.model.is_none() || table.api.provider.is_none() {
            return Err(Error::invalid(format!("agent `{name}` has no model to ask")).hint(format!(
                "write `driver = \"model\"`, `provider` and `model` into [agents.{name}] of quorate.toml"
            )));
        }
    }
    let mut config = config.clone();
    config.agent_tables.insert(name.clone(), table);
    Ok(config)
}

/// Finds the agent in the configuration, or in the ledger; without both it is a shell agent of that name.
async fn find_member(place: &Place, store: Option<&Store>, args: &args::AgentRun) -> Result<Member> {
    let (config, members) = (&place.config, place.team(None));
    // The last of the name: a table of its own comes behind one that stands for several agents.
    let mut member = match members.iter().rfind(|member| member.name == args.name) {
        Some(member) => member.clone(),
        None => {
            let known = match store {
                Some(store) => store.read(Agents { name: Some(args.name.clone()) }).await?,
                None => Vec::new(),
            };
            if known.is_empty() && !config.agent_tables.is_empty() && args.command.is_empty() {
                return Err(unknown(&args.name, &members));
            }
            let capabilities = known
                .first()
                .map(|view| view.agent.capabilities.clone())
                .filter(|own| !own.is_empty() && !own.iter().any(|capability| capability == "*"));
            Member { name: args.name.clone(), capabilities, ..Member::shell(1, config) }
        }
    };
    if !args.capability.is_empty() {
        member.capabilities = Some(args.capability.clone());
    }
    // With a driver the program is in the table.
    if !args.command.is_empty() && args.driver.is_none() {
        member.worker.how = quorate_drivers::How::Command(args.command.clone());
        member.kinds = quorate_service::task::Kinds::Any;
    }
    Ok(member)
}

fn unknown(name: &str, members: &[Member]) -> Error {
    let hint = match nearest(name, members.iter().map(|member| member.name.as_str())) {
        Some(near) => format!("did you mean `{near}`? quorate.toml has the team"),
        None => format!("add [agents.{name}] with a command to quorate.toml"),
    };
    Error::not_found(format!("no agent `{name}` that this machine could run")).hint(hint)
}

async fn serve(
    place: &Place,
    store: Store,
    members: Vec<Member>,
    kind: &'static str,
    json: bool,
) -> Result<u8> {
    let mut signals = Signals::new()?;
    let mut seen = store.read(Latest).await?;
    // Doors first: one that cannot be opened ends it before any work has begun.
    let server = if kind == "up" { Some(place.begin_server(&store).await?) } else { None };
    let mut node = place.begin_node(&store, kind, members, None, server.as_ref()).await?;
    let mut telemetry = place.begin_exporter(&store, node.id(), seen).await.unwrap_or_else(|why| {
        show(&why);
        None
    });
    if let Some(server) = &server {
        say_address(place, server);
        server.no_socket().into_iter().for_each(|error| show(&error.message));
    }
    print::note(&format!("node {} on {}; Ctrl-C stops it", node.id(), place.url.shown()));
    let mut changes = store.changes();
    // When to look for reports that those who ought to write them did not live to write, or could not.
    let mut owed = keep_missed_reports(place, &store).await.err().map(|error| later(&error));
    let urgent = loop {
        match show_new(place, &store, seen, json).await {
            Ok(New { seen: at, in_foreground }) => {
                seen = at;
                match in_foreground {
                    // Counted from the last run that ended: an earlier look would find it too young, and none would follow.
                    Ok(true) => owed = Some(Instant::now() + REPORT_PATIENCE),
                    Ok(false) => {}
                    Err(error) => owed = Some(later(&error)),
                }
            }
            Err(error) => show(&error.message),
        }
        if owed.is_some_and(|at| at <= Instant::now()) {
            owed = keep_missed_reports(place, &store).await.err().map(|error| later(&error));
        }
        tokio::select! {
            () = async { tokio::time::sleep(Duration::from_millis(50)).await; changes.wait(Duration::from_secs(5)).await } => {}
            Some(notice) = node.notice() => show(&notice),
            notice = Telemetry::notice(&mut telemetry) => show(&notice),
            urgent = signals.next() => break urgent,
        }
    };
    node.stopper().stop(if urgent { Level::Now } else { Level::Finish });
    print::note(&farewell(&store, &node, urgent).await);
    let stopper = node.stopper();
    let mut ended = std::pin::pin!(node.wait_and_hear(|notice| show(&notice)));
    let mut at_once = false;
    loop {
        tokio::select! {
            () = &mut ended => break,
            _ = signals.next() => {
                at_once = true;
                stopper.stop(Level::Now);
            }
        }
    }
    if let Some(server) = server {
        server.end().await;
    }
    Telemetry::end(telemetry).await.iter().for_each(|notice| show(notice));
    // The log may be out of reach at the end; the node itself has ended in order.
    let _ = show_new(place, &store, seen, json).await;
    Ok(if at_once { Kind::Interrupted.exit_code() } else { 0 })
}

fn say_address(place: &Place, server: &Server) {
    let here = format!("http://{}", server.address());
    let taken = server.has_moved().then(|| format!("{} is taken", place.config.server.listen));
    let since = taken.as_ref().map_or_else(String::new, |taken| format!(", since {taken}"));
    print::fact("listening", &here, &format!("listening at {here}{since}"));
    // People have it in that line already.
    if let Some(taken) = taken.filter(|_| print::is_json()) {
        show(&format!("{taken}, so another port is used"));
    }
}

fn show(notice: &str) {
    print::warning(&print::one_line(notice));
}

/// Says why a report could not be written; answers when to try again.
fn later(error: &Error) -> Instant {
    show(&error.message);
    Instant::now() + REPORT_AGAIN
}

/// Says what a node that stops still does.
async fn farewell(store: &Store, node: &Node, urgent: bool) -> String {
    let running = Tasks { state: Some("running".into()), ..Tasks::default() };
    let tasks = soon(store.read(running)).await.unwrap_or_default();
    let own = node.id().to_string();
    let names: Vec<String> =
        tasks.iter().filter(|task| task.node.as_ref() == Some(&own)).map(Task::named).collect();
    match (names.is_empty(), urgent) {
        (true, _) => "stopping: nothing is running".into(),
        (false, true) => format!("stopping: handed back, to go on elsewhere: {}", names.join(", ")),
        (false, false) => format!("finishing: {}; Ctrl-C again hands back at once", names.join(", ")),
    }
}

/// Writes the reports of detached runs that have ended: whoever began them is not there to do it. Answers whether one in the
/// foreground has none yet.
async fn keep_reports(place: &Place, store: &Store, events: &[Logged]) -> Result<bool> {
    let mut in_foreground = false;
    let ended = events.iter().filter(|event| event.kind == "run.finished").filter_map(|event| event.run);
    for id in ended {
        let run = soon(store.read(Pulse { id, node: None })).await?.run;
        match (run.report, run.detached) {
            (None, true) => drop(keep_report(store, &place.state_folder(), id).await?),
            (None, false) => in_foreground = true,
            (Some(_), _) => {}
        }
    }
    Ok(in_foreground)
}

/// Writes those that are missing: a node was killed before it wrote them, or none was there.
async fn keep_missed_reports(place: &Place, store: &Store) -> Result<()> {
    for id in soon(store.read(Unreported { limit: REPORTS_MAX })).await? {
        keep_report(store, &place.state_folder(), id).await?;
    }
    Ok(())
}

/// What was new in the log.
struct New {
    seen: Seq,
    /// Whether a run in the foreground has ended and has no report yet; or why not all reports could be written.
    in_foreground: Result<bool>,
}

/// Shows what is new. What was shown is behind us, whatever becomes of the reports.
async fn show_new(place: &Place, store: &Store, seen: Seq, json: bool) -> Result<New> {
    let new = After { seq: Some(seen), filter: Filter::default(), limit: PAGE_MAX };
    let page = soon(store.read(new)).await?;
    for event in &page.events {
        if json {
            print::json_line(&wire::value(wire::Event::from(event)));
        } else {
            let time = quorate_service::time::rfc3339(event.at);
            print::text(&format!(
                "{}  {:<20} {}",
                time.get(11..19).unwrap_or(&time),
                event.kind,
                print::one_line(&event.message)
            ));
        }
    }
    let in_foreground = keep_reports(place, store, &page.events).await;
    Ok(New { seen: page.seen, in_foreground })
}

/// Ends the nodes of this ledger on this host, in order, and then the tmux session that is named.
pub(crate) async fn down(place: Place, args: &args::Down, json: bool) -> Result<u8> {
    let session = args.session.as_deref().map(|session| in_tmux(&place, session)).transpose()?;
    let nodes = match place.look().await? {
        Some(store) => quorate_runtime::running_here(&store).await?,
        None if session.is_some() => Vec::new(),
        None => return Err(nothing_to_end(&place)),
    };
    if nodes.is_empty() && session.is_none() {
        return Err(Error::new(Kind::Nothing, "no node of this ledger runs on this host")
            .hint("start one with `quorate up`"));
    }
    for node in &nodes {
        if let Ok(pid) = i32::try_from(node.pid) {
            // One that has ended by now is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
    let ended = tokio::time::timeout(DOWN_WAIT, wait_for_end(&nodes)).await.is_ok();
    if !ended {
        return Err(Error::failed(format!("a node did not end within {} s", DOWN_WAIT.as_secs()))
            .hint("quorate status shows what it does"));
    }
    let stamp = quorate_service::time::rfc3339(crate::clock::now_ms()).replace(':', "");
    let archive = if args.archive_logs { crate::logs::archive(&place, &stamp)? } else { None };
    let ids: Vec<i64> = nodes.iter().map(|node| node.id).collect();
    let words = || {
        let moved = archive.as_ref().map(|folder| format!("; output moved to {}", folder.display()));
        let closed = args.session.as_ref().map(|session| format!("; tmux session {session} ended"));
        format!(
            "stopped {} node(s): {ids:?}{}{}",
            ids.len(),
            moved.unwrap_or_default(),
            closed.unwrap_or_default()
        )
    };
    let value = || {
        let archive = archive.as_ref().map(|folder| folder.display().to_string());
        serde_json::json!({ "stopped": ids, "archive": archive, "session": args.session })
    };
    print::answer(json, value, words);
    // Last of all: this very command may run in it.
    if let Some((tmux, id)) = session {
        tmux.end(&id)?;
    }
    Ok(0)
}

fn nothing_to_end(place: &Place) -> Error {
    Error::new(Kind::Nothing, format!("no node runs here: there is no ledger yet ({})", place.url.shown()))
        .hint("start one with `quorate up`; -C DIR names the folder of another project")
}

/// Finds a session before anything is ended; one that is not ours is left alone.
fn in_tmux(place: &Place, session: &str) -> Result<(Tmux, String)> {
    let tmux = Tmux::find(place)?;
    let id = tmux.ours(place, session)?;
    Ok((tmux, id))
}

async fn wait_for_end(nodes: &[node::Node]) {
    while nodes.iter().any(quorate_runtime::is_running) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_drivers::How;

    fn typed(name: &str, driver: Driver, command: &[&str]) -> args::AgentRun {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        args::AgentRun { name: name.into(), driver: Some(driver), capability: Vec::new(), command }
    }

    fn member(text: &str, args: &args::AgentRun) -> Result<Member> {
        let config = Config::parse("quorate.toml", text.as_bytes()).expect("a good configuration");
        let config = with_driver(&config, args, args.driver.expect("one is named"))?;
        let team = quorate_runtime::team(&config, None, &|_| None);
        Ok(team.into_iter().rfind(|member| member.name == args.name).expect("a node runs it"))
    }

    #[test]
    fn a_driver_that_is_named_is_that_of_the_agents_table() {
        let found = member("", &typed("a", Driver::Claude, &["./agent.sh"])).expect("a member");
        let How::Drive { driver: "claude", settings } = &found.worker.how else { panic!("{found:?}") };
        assert_eq!(
            (found.driver.as_str(), settings.command.as_slice()),
            ("claude", &["./agent.sh".to_owned()][..])
        );
        let table = "[agents.a]\ncount = 2\ncommand = ['./one.sh']\ncapabilities = ['build']\n";
        let found = member(table, &typed("a-2", Driver::Codex, &[])).expect("a member");
        let How::Drive { driver: "codex", settings } = &found.worker.how else { panic!("{found:?}") };
        assert_eq!(settings.command, ["./one.sh"]);
        assert_eq!(found.capabilities.as_deref(), Some(&["build".to_owned()][..]));
        let found = member("", &typed("a", Driver::Command, &["./b.sh"])).expect("a member");
        assert_eq!(found.worker.how, How::Command(vec!["./b.sh".into()]));
    }

    #[test]
    fn a_driver_that_no_node_runs_is_refused() {
        let check = |driver: Driver, command: &[&str], says: &str, hint: &str| {
            let error = member("", &typed("a", driver, command)).expect_err("refused");
            assert_eq!(error.kind, Kind::Invalid);
            assert!(error.message.contains(says), "{error}");
            assert!(error.hint.as_ref().is_some_and(|words| words.contains(hint)), "{error:?}");
        };
        check(Driver::External, &[], "driver `external`", "quorate task next --agent a");
        check(Driver::Human, &[], "driver `human`", "quorate task next --agent a");
        check(Driver::Acp, &[], "driver `acp`", "command, claude");
        check(Driver::Model, &[], "no model to ask", "[agents.a]");
        check(Driver::Model, &["x"], "runs no program", "--command");
    }
}
