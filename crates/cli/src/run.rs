//! `quorate run` and `quorate runs resume`: do a plan's work here and now, and print the report.
//!
//! Here live the plan's way into the ledger and the watch over a run. Who does the work is a node in this process,
//! which takes tasks of this run only. A crash and an interruption are the same thing: `runs resume` goes on.

use crate::args;
use crate::goal;
use crate::lookout::soon;
use crate::place::{Place, Telemetry};
use crate::print;
use crate::report;
use crate::runs;
use crate::screen::Screen;
use crate::signals::Signals;
use quorate_model::agent::abilities;
use quorate_model::config::{AgentConfig, Config, Driver, millis};
use quorate_model::diagnostic::floor_char_boundary;
use quorate_model::plan::{Plan, PlanTask};
use quorate_model::{Error, Kind, Result, RunId, Seq, TaskId, TaskState};
use quorate_runtime::{Level, Member, Node, end_orphans};
use quorate_server::Server;
use quorate_service::event::{After, Filter, Latest, PAGE_MAX};
use quorate_service::goal::{Decompose, is_decomposed, moves};
use quorate_service::run::{Reported, Resume, Run, Settle, Start};
use quorate_service::task::{Kinds, NewTask, Task};
use quorate_service::usage::{is_budget, is_budget_of_run};
use quorate_service::view::{Pulse, RunShow, RunStory, Stalled, Story, TaskStory};
use quorate_store::Store;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Hints of changes are looked at no oftener than this.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Without a hint, the run is looked at this often.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// The largest result of one task that a decomposed one needs, and of all of them, in bytes: as much as an agent is told.
const NEED_MAX: usize = 8 << 10;
const NEEDS_MAX: usize = 32 << 10;

/// Begins a run from a plan or a goal; with `--detach` only stores it.
pub(crate) async fn run(place: Place, args: &args::Run, json: bool) -> Result<u8> {
    if let Some(id) = args.task {
        return decompose(place, id, args, json).await;
    }
    let words = args.plan.as_deref().unwrap_or_default();
    let plan = read_plan(&place, words, args)?;
    if args.plan_only && is_file(words) {
        goal::print_plan(&plan, json);
        return Ok(0);
    }
    let members = place.team(at_most(args.agents));
    if !args.detach {
        check_team(&plan, &members, &place.config)?;
        place.check_ready(&members)?;
    }
    let store = place.open_for_node().await?;
    let since = store.read(Latest).await?;
    let source = is_file(words).then(|| words.to_owned());
    let tasks = plan.tasks.iter().map(|task| NewTask::planned(task, &place.config)).collect();
    let start = Start { goal: plan.goal.clone(), source, detached: args.detach, tasks };
    let (id, _) = store.write(start).await?;
    if args.detach {
        say_stored(id, json);
        return Ok(0);
    }
    let how = How { json, approve: args.approve, plan_only: args.plan_only };
    work(place, store, (id, since), members, how).await
}

/// Begins a run that does the work of a task which is there already.
async fn decompose(place: Place, id: TaskId, args: &args::Run, json: bool) -> Result<u8> {
    let store = place.open_for_node_of(format!("task {id}")).await?;
    let story = store.read(Story { id }).await?;
    let plan = goal::begin_planned(&words_of(&story), args, &place.config)?;
    let members = place.team(at_most(args.agents));
    if !args.detach {
        check_team(&plan, &members, &place.config)?;
        place.check_ready(&members)?;
    }
    let since = store.read(Latest).await?;
    let tasks = plan.tasks.iter().map(|task| NewTask::planned(task, &place.config)).collect();
    let run = store.write(Decompose::new(&story.task, tasks, args.detach)).await?;
    if args.detach {
        say_stored(run, json);
        return Ok(0);
    }
    work(place, store, (run, since), members, How { json, approve: args.approve, plan_only: args.plan_only })
        .await
}

/// Says what is wanted of a task that is to be decomposed, with the results of what it needs, as whoever took it would be told
/// them.
fn words_of(story: &TaskStory) -> String {
    let mut words = story.task.title.clone();
    words.extend(story.task.prompt.iter().map(|prompt| format!("\n\n{prompt}")));
    let mut room = NEEDS_MAX;
    for (need, _) in &story.needs {
        let result = result_words(need.result.as_deref());
        let told = &result[..floor_char_boundary(&result, NEED_MAX.min(room))];
        room -= told.len();
        let cut = if told.len() < result.len() { "…" } else { "" };
        words.push_str(&format!("\n\nThe result of {}, which is done:\n{told}{cut}", need.key));
    }
    words
}

/// Returns a result, a JSON text, as words.
fn result_words(result: Option<&str>) -> String {
    match result.map(serde_json::from_str::<String>) {
        Some(Ok(words)) => words,
        Some(Err(_)) => result.unwrap_or_default().to_owned(),
        None => "(no result)".to_owned(),
    }
}

/// Goes on with a run: what failed or was cancelled is tried anew; with `--detach` by nodes.
pub(crate) async fn resume(place: Place, args: &args::RunsResume, json: bool) -> Result<u8> {
    let id = args.id;
    if args.detach {
        return leave_to_nodes(&place, id, json).await;
    }
    let members = place.team(at_most(args.agents));
    place.check_ready(&members)?;
    let store = place.open_for_node_of(format!("run {id}")).await?;
    if is_told_only(&place, &store, id, json).await? {
        return Ok(0);
    }
    let since = store.read(Latest).await?;
    // What a crash left behind ends first, so that what it failed is among what is tried anew.
    end_orphans(&store, &place.agents_url.full(), millis(place.config.health.grace_ms)).await?;
    check_team_again(&store.read(RunShow { id }).await?, &members, &place.config)?;
    store.write(Resume { id }).await?;
    work(place, store, (id, since), members, How { json, approve: false, plan_only: false }).await
}

/// Says that a run goes on, and no more.
async fn leave_to_nodes(place: &Place, id: RunId, json: bool) -> Result<u8> {
    let store = place.open_for(format!("run {id}")).await?;
    store.write(Resume { id }).await?;
    let words = || {
        format!("run {id} goes on; a node works at it (`quorate up`), `quorate runs show {id}` tells how far")
    };
    let value = runs::whole(&store, id, json).await?;
    print::answer(json, || value, words);
    Ok(0)
}

/// Writes and prints the report of a run that was completed and has none: whoever worked at it died before that. Answers
/// whether that was all there was to do.
async fn is_told_only(place: &Place, store: &Store, id: RunId, json: bool) -> Result<bool> {
    let run = store.read(Pulse { id, node: None }).await?.run;
    if run.state != "completed" || run.report.is_some() {
        return Ok(false);
    }
    let (story, folder) = keep_report(store, &place.state_folder(), id).await?;
    conclude(&story, &End::Over(run), &folder, json);
    Ok(true)
}

fn say_stored(id: RunId, json: bool) {
    let words = || {
        format!("run {id} stored; a node works at it (`quorate up`), `quorate runs show {id}` tells how far")
    };
    print::answer(json, || serde_json::json!({ "id": id.0 }), words);
}

/// Reads how many agents were asked for.
pub(crate) fn at_most(agents: Option<i64>) -> Option<usize> {
    agents.and_then(|n| usize::try_from(n).ok())
}

fn is_file(argument: &str) -> bool {
    !argument.contains(char::is_whitespace)
        && [".toml", ".json", ".md"].iter().any(|ending| argument.to_ascii_lowercase().ends_with(ending))
}

fn read_plan(place: &Place, argument: &str, args: &args::Run) -> Result<Plan> {
    if !is_file(argument) {
        return goal::begin(argument, args, &place.config);
    }
    if args.approve {
        return Err(Error::invalid("a plan from a file needs no approval: whoever runs it has read it")
            .hint("--approve is for a goal; --plan-only shows a plan"));
    }
    let bytes = std::fs::read(argument).map_err(|e| cannot_read(argument, &e))?;
    let base = place.folder.to_string_lossy();
    Ok(Plan::parse_in(Some(&base), argument, &bytes)?)
}

fn cannot_read(file: &str, e: &std::io::Error) -> Error {
    let kind = match e.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Invalid,
    };
    let message = match e.kind() {
        std::io::ErrorKind::NotFound => format!("no plan file {file}"),
        _ => format!("cannot read the plan {file}: {e}"),
    };
    Error::new(kind, message)
        .hint("name a .toml, .json or .md file, or write a goal in words: quorate run \"fix the tests\"")
}

/// What decides who may take a task.
struct Wish<'a> {
    /// The task as people call it.
    task: String,
    agent: Option<&'a String>,
    capability: Option<&'a String>,
    is_command: bool,
}

impl<'a> Wish<'a> {
    fn planned(task: &'a PlanTask) -> Wish<'a> {
        Wish {
            task: format!("`{}`", task.key),
            agent: task.agent.as_ref(),
            capability: task.capability.as_ref(),
            is_command: task.run.is_some(),
        }
    }

    fn stored(task: &'a Task) -> Wish<'a> {
        Wish {
            task: task.named(),
            agent: task.agent.as_ref(),
            capability: task.capability.as_ref(),
            is_command: task.run.is_some(),
        }
    }
}

/// Refuses a plan with a task that nobody could take: it would wait for ever.
fn check_team(plan: &Plan, members: &[Member], config: &Config) -> Result<()> {
    let others = "store the run for others with --detach";
    check_wishes(plan.tasks.iter().map(Wish::planned), members, config, others)
}

/// The same for what is still to be done of a run. Not for what somebody does just now, nor for what a run of its own does,
/// nor for what a later plan has replaced.
fn check_team_again(story: &RunStory, members: &[Member], config: &Config) -> Result<()> {
    let plan = story.tasks.iter().rev().find(|task| goal::is_planning(task)).map(|task| task.id);
    let is_to_do = |task: &&Task| match task.state {
        TaskState::Waiting | TaskState::Ready => true,
        TaskState::Parked => !is_decomposed(task),
        TaskState::Failed | TaskState::Cancelled => Some(task.id) >= plan,
        TaskState::Running | TaskState::Verifying | TaskState::Completed => false,
    };
    let others = format!("leave the run to others: quorate runs resume {} --detach", story.run.id);
    check_wishes(story.tasks.iter().filter(is_to_do).map(Wish::stored), members, config, &others)
}

fn check_wishes<'a>(
    mut wishes: impl Iterator<Item = Wish<'a>>,
    members: &[Member],
    config: &Config,
    others: &str,
) -> Result<()> {
    let is_hopeless = |wish: &Wish<'_>| {
        !members.iter().any(|member| member_can(member, wish))
            && !config.agents().iter().any(|(name, table)| pulls(name, table, wish))
    };
    let Some(wish) = wishes.find(is_hopeless) else { return Ok(()) };
    let wanted = match (wish.agent, wish.capability) {
        (Some(agent), _) if members.iter().any(|member| member.name == *agent) => {
            let (is, takes) = if wish.is_command { ("a command", "words") } else { ("in words", "commands") };
            format!("it is {is}, and agent `{agent}`, which it is for, takes only {takes}")
        }
        (Some(agent), _) => format!("it is for agent `{agent}`, which no node runs here"),
        (None, Some(capability)) => {
            format!("it wants capability `{capability}`, which no agent has that a node runs here")
        }
        (None, None) if wish.is_command => "there are no agents".into(),
        (None, None) => "it has a `prompt` and no `run`, and no agent here takes words".into(),
    };
    let hint = match not_run_here(&wish, config) {
        Some((agent, driver)) => {
            format!(
                "agent `{agent}` could, but this quorate does not run driver `{}`: let it pull its work with `quorate task next` (driver \"external\")",
                driver.as_str()
            )
        }
        None => format!("add an [agents.NAME] table to quorate.toml, or {others}"),
    };
    Err(Error::invalid(format!("no agent could take task {}: {wanted}", wish.task)).hint(hint))
}

/// Whether an agent that pulls its work could take a task. One that is external and of which nothing is known takes anything.
fn pulls(name: &str, table: &AgentConfig, wish: &Wish<'_>) -> bool {
    let takes_anything = table.driver == Driver::External && table.capabilities.is_empty();
    matches!(table.driver, Driver::External | Driver::Human)
        && can(name, abilities(&table.capabilities).as_ref(), takes_anything, wish)
}

/// Returns the configured agent that could take a task if its driver were run here.
fn not_run_here(wish: &Wish<'_>, config: &Config) -> Option<(String, Driver)> {
    let agents = config.agents().into_iter().filter(|(_, table)| table.driver == Driver::Acp);
    agents
        .into_iter()
        .find(|(name, table)| can(name, abilities(&table.capabilities).as_ref(), false, wish))
        .map(|(name, table)| (name, table.driver))
}

fn member_can(member: &Member, wish: &Wish<'_>) -> bool {
    let kind_fits = match member.kinds {
        Kinds::Any => true,
        Kinds::Run => wish.is_command,
        Kinds::Prompt => !wish.is_command,
    };
    kind_fits && can(&member.name, member.capabilities.as_ref(), false, wish)
}

fn can(name: &str, capabilities: Option<&Vec<String>>, anything: bool, wish: &Wish<'_>) -> bool {
    match (wish.agent, wish.capability, capabilities) {
        (Some(agent), ..) => agent == name,
        (None, Some(capability), Some(own)) => anything || own.contains(capability),
        (None, ..) => true,
    }
}

/// What a person wants of the run besides its work.
#[derive(Debug, Clone, Copy)]
struct How {
    json: bool,
    /// Is asked before the plan is run.
    approve: bool,
    /// Wants only the plan.
    plan_only: bool,
}

/// How the watch over a run ended.
enum End {
    Over(Run),
    /// Only tasks are left that go on by a person's word: parked ones, or those of agents that have reached their budgets.
    Parked,
    Interrupted,
}

/// Works at a run, showing what has happened since a place in the log.
async fn work(
    place: Place,
    store: Store,
    (id, since): (RunId, Seq),
    members: Vec<Member>,
    how: How,
) -> Result<u8> {
    let How { json, approve, plan_only } = how;
    let mut signals = Signals::new()?;
    let story = store.read(RunShow { id }).await?;
    let mut screen = Screen::new(&story.tasks, json);
    screen.say(&format!(
        "run {id}: {} ({} tasks, {} agents)",
        story.run.goal,
        story.tasks.len(),
        members.len()
    ));
    let server = open_doors(&place, &store, &screen).await;
    let mut node = place.begin_node(&store, "run", members, Some(id), server.as_ref()).await?;
    let telemetry = place.begin_exporter(&store, node.id(), since).await.unwrap_or_else(|why| {
        notice(&screen, &why);
        None
    });
    let mut seen = since;
    let end = loop {
        let end = watch(&store, (id, &mut seen), &mut node, &mut signals, &mut screen).await;
        let is_asked = approve && matches!(end, Ok(End::Parked));
        if !is_asked || !goal::is_approved(&store, id, &mut signals, json).await? {
            break end;
        }
    };
    node.stopper().stop(Level::Finish);
    node.wait().await;
    Telemetry::end(telemetry).await.iter().for_each(|words| notice(&screen, words));
    if let Some(server) = server {
        server.end().await;
    }
    screen.close();
    let end = end?;
    let (story, folder) = keep_report(&store, &place.state_folder(), id).await?;
    if plan_only && exit_code(&end) == 0 {
        goal::show(&story, &place.config, &place.folder, json)?;
        return Ok(0);
    }
    conclude(&story, &end, &folder, json);
    Ok(exit_code(&end))
}

/// Opens the doors while the run lasts. A run goes on without them: its work does not need the network.
async fn open_doors(place: &Place, store: &Store, screen: &Screen) -> Option<Server> {
    match place.begin_passing_server(store).await {
        Ok(server) => {
            screen.say(&format!("  listening at {}", server.url()));
            Some(server)
        }
        Err(error) => {
            notice(screen, &error.message);
            None
        }
    }
}

fn exit_code(end: &End) -> u8 {
    match end {
        End::Over(run) if run.state == "completed" => 0,
        End::Over(_) => 1,
        End::Parked => Kind::Refused.exit_code(),
        End::Interrupted => Kind::Interrupted.exit_code(),
    }
}

/// Shows what happens until the run is over, or a person wants it to stop: after the first Ctrl-C what runs may end.
async fn watch(
    store: &Store,
    (id, seen): (RunId, &mut Seq),
    node: &mut Node,
    signals: &mut Signals,
    screen: &mut Screen,
) -> Result<End> {
    let mut changes = store.changes();
    let mut away = false;
    loop {
        match look(store, id, node, seen, screen).await {
            Ok(Some(end)) => return Ok(end),
            Ok(None) if signals.count() > 0 && has_finished(store, id, node).await => {
                return Ok(End::Interrupted);
            }
            Ok(None) => tell_back(screen, &mut away),
            // A database that is away for a while is no reason to give up: leases and terms keep the work safe.
            Err(error) if error.kind == Kind::Unavailable => tell_away(screen, &mut away, &error),
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = async { tokio::time::sleep(LOOK_EVERY).await; changes.wait(LOOK_AT_LEAST).await } => {}
            Some(words) = node.notice() => notice(screen, &words),
            urgent = signals.next() => {
                if urgent || signals.count() > 1 {
                    screen.say("  stopping: what runs is handed back");
                    node.stopper().stop(Level::Now);
                    return Ok(End::Interrupted);
                }
                screen.say("  finishing what runs; press Ctrl-C again to stop at once");
                node.stopper().stop(Level::Finish);
            }
        }
    }
}

async fn look(
    store: &Store,
    id: RunId,
    node: &Node,
    seen: &mut Seq,
    screen: &mut Screen,
) -> Result<Option<End>> {
    *seen = show_new(store, id, *seen, screen).await?;
    let end = is_over(store, id, node).await?;
    if end.is_some() {
        *seen = show_new(store, id, *seen, screen).await?;
    }
    Ok(end)
}

/// Returns whether nothing of this run is running on our node any more; unknown while the ledger is away.
async fn has_finished(store: &Store, id: RunId, node: &Node) -> bool {
    let pulse = soon(store.read(Pulse { id, node: Some(node.id().to_string()) })).await;
    pulse.is_ok_and(|pulse| pulse.running == 0)
}

/// Shows what is amiss; a program gets it on standard error.
fn notice(screen: &Screen, words: &str) {
    let words = print::one_line(words);
    if print::is_json() {
        print::warning(&words);
    } else {
        screen.say(&format!("  notice     {words}"));
    }
}

fn tell_away(screen: &Screen, away: &mut bool, error: &Error) {
    if !std::mem::replace(away, true) {
        notice(screen, &format!("{error}; trying again"));
    }
}

fn tell_back(screen: &Screen, away: &mut bool) {
    if std::mem::take(away) {
        screen.say("  notice     the ledger answers again");
    }
}

async fn show_new(store: &Store, id: RunId, seen: Seq, screen: &mut Screen) -> Result<Seq> {
    let mut after = seen;
    loop {
        let filter = Filter { run: Some(id), ..Filter::default() };
        let page = soon(store.read(After { seq: Some(after), filter, limit: PAGE_MAX })).await?;
        page.events.iter().for_each(|event| screen.show(event));
        after = page.seen;
        if (page.events.len() as i64) < PAGE_MAX {
            return Ok(page.seen);
        }
    }
}

async fn is_over(store: &Store, id: RunId, node: &Node) -> Result<Option<End>> {
    let pulse = soon(store.read(Pulse { id, node: None })).await?;
    if pulse.run.is_over() {
        return Ok(Some(End::Over(pulse.run)));
    }
    if pulse.open == 0 {
        let run = store.write(Settle { id }).await?;
        return Ok(run.is_over().then_some(End::Over(run)));
    }
    if pulse.held == pulse.open {
        return Ok(Some(End::Parked));
    }
    if pulse.running > 0 {
        return Ok(None);
    }
    let stalled = soon(store.read(Stalled { id, node: node.id().to_string() })).await?;
    Ok(stalled.then_some(End::Parked))
}

/// Writes the report of a run into its folder and, if the run has ended, notes where that is; answers with what it tells, and
/// the folder.
pub(crate) async fn keep_report(store: &Store, state: &Path, id: RunId) -> Result<(RunStory, PathBuf)> {
    let story = store.read(RunShow { id }).await?;
    let folder = report::write(state, &story)?;
    let (report, finished_at) = (folder.display().to_string(), story.run.finished_at);
    store.write(Reported { id, report, finished_at }).await?;
    Ok((story, folder))
}

fn conclude(story: &RunStory, end: &End, folder: &Path, json: bool) {
    if json {
        let mut value = report::as_json(story);
        value["report"] = folder.display().to_string().into();
        return print::document(&value);
    }
    print::text(&format!("\n{}", report::shown(story)));
    let id = story.run.id;
    match end {
        End::Over(_) => {}
        End::Parked if story.tasks.iter().any(goal::waits_for_approval) => print::text(&format!(
            "The plan waits to be approved: `quorate runs approve {id}`, then `quorate runs resume {id}`.\n"
        )),
        End::Parked => print::text(&parked_words(story)),
        End::Interrupted => {
            print::text(&format!(
                "Interrupted: {} left. Go on with `quorate runs resume {id}`.\n",
                left(&story.tasks)
            ));
        }
    }
    print::text(&format!("Report: {}", folder.join("report.md").display()));
}

/// Says what lets a run go on of which nothing does by itself.
fn parked_words(story: &RunStory) -> String {
    let id = story.run.id;
    let parked = |task: &&Task| task.state == TaskState::Parked;
    let Some(first) = story.tasks.iter().find(parked) else {
        return format!(
            "Parked: agents have reached their budgets. `quorate agent resume NAME` grants one again, then `quorate runs resume {id}`.\n"
        );
    };
    let why = first.reason.as_deref().unwrap_or("a person parked it");
    let unpark = format!("quorate task unpark {}", first.id);
    match print::one_line(why) {
        why if is_budget_of_run(&why) => format!(
            "Parked: {why}. `quorate runs resume {id}` grants the same again and goes on; [budget] in quorate.toml changes it.\n"
        ),
        why if is_budget(&why) => {
            format!("Parked: {why}. `{unpark}` grants the same again, then `quorate runs resume {id}`.\n")
        }
        why => format!("Parked: {why} ({}). Then `quorate runs resume {id}`.\n", moves(first)),
    }
}

fn left(tasks: &[Task]) -> String {
    let count = tasks.iter().filter(|task| !task.state.is_over()).count();
    let names: Vec<String> =
        tasks.iter().filter(|task| !task.state.is_over()).take(8).map(Task::named).collect();
    let more = if count > names.len() { ", …" } else { "" };
    format!("{count} of {} tasks ({}{more})", tasks.len(), names.join(", "))
}
