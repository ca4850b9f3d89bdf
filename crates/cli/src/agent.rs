//! `quorate agent add|list|show|pause|resume|kill|remove`, and joining the team by being named.

use crate::args::{Agent, AgentAdd, AgentName, AgentToken};
use crate::place::Place;
use crate::print::style::{self, paint};
use crate::print::table::{Table, cell, state};
use crate::print::{self, cost, time};
use quorate_model::budget::{Budget, grouped};
use quorate_model::{Result, TaskState};
use quorate_service::agent::{self as service, Stopped, Word};
use quorate_service::message::Unread;
use quorate_service::token::Revoke;
use quorate_service::view::{self, AgentView};
use quorate_service::wire::{self, shapes};
use serde_json::json;

pub(crate) async fn agent(place: &Place, command: Agent, json: bool) -> Result<u8> {
    match command {
        Agent::Add(args) => add(place, &args, json).await,
        Agent::List => list(place, json).await,
        Agent::Show(args) => show(place, &args, json).await,
        Agent::Pause(args) => tell(place, &args, Word::Pause, json).await,
        Agent::Resume(args) => tell(place, &args, Word::Resume, json).await,
        Agent::Kill(args) => tell(place, &args, Word::Kill, json).await,
        Agent::Remove(args) => tell(place, &args, Word::Remove, json).await,
        Agent::Token(args) => token(place, &args, json).await,
        Agent::Run(_) => unreachable!("`main` gives it to `up`"),
    }
}

async fn add(place: &Place, args: &AgentAdd, json: bool) -> Result<u8> {
    let store = place.open().await?;
    let add = service::Add {
        name: args.name.clone(),
        driver: args.driver.map(|driver| driver.as_str().to_owned()),
        capabilities: (!args.capability.is_empty()).then(|| args.capability.clone()),
    };
    store.write(add).await?;
    let view = place.desk(&store).agent(&args.name).await?;
    print::answer(
        json,
        || wire::Agent::from(&view),
        || format!("{} is in the team ({})", args.name, view.agent.driver),
    );
    Ok(0)
}

async fn list(place: &Place, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    let agents = store.read(view::Agents::default()).await?;
    let now = crate::clock::now_ms();
    print::answer(json, || shapes::<wire::Agent, _>(&agents), || words(&agents, now));
    Ok(0)
}

fn words(agents: &[AgentView], now: i64) -> String {
    if agents.is_empty() {
        return "no agents yet; `quorate up` starts some, `quorate agent add NAME` adds one\n".into();
    }
    table(agents.iter(), now).shown()
}

/// Returns agents as a table.
pub(crate) fn table<'a>(agents: impl Iterator<Item = &'a AgentView>, now: i64) -> Table {
    let mut table = Table::new(&["NAME", "STATE", ">TASK", "DRIVER", "SEEN", ">COST", "~CAN", "~WHY"]);
    for view in agents {
        table.row([
            cell(&view.agent.name),
            state(view.state.as_str()),
            cell(view.task.map_or_else(String::new, |id| id.to_string())),
            cell(&view.agent.driver),
            cell(time::ago_or_none(now, view.agent.heartbeat_at)),
            cell(cost::short(view.spent)),
            cell(abilities(&view.agent)),
            cell(view.agent.reason.as_deref().unwrap_or("")),
        ]);
    }
    table
}

fn abilities(agent: &service::Agent) -> String {
    match agent.capabilities.as_slice() {
        [all] if all == "*" => "everything".into(),
        [] if agent.driver == "external" => "anything".into(),
        some => some.join(","),
    }
}

async fn show(place: &Place, args: &AgentName, json: bool) -> Result<u8> {
    let store = place.open_for(format!("agent `{}`", args.name)).await?;
    let view = place.desk(&store).agent(&args.name).await?;
    let claims = store.read(view::Claims { agent: Some(args.name.clone()) }).await?;
    let unread = store.read(Unread { agent: args.name.clone() }).await?;
    let value = || wire::AgentStory { agent: (&view).into(), claims: shapes(&claims), unread };
    let words = || {
        let mut text = portrait(&view, place.config.limits(&args.name).agent);
        if unread > 0 {
            text.push_str(&format!("  inbox    {unread} unread (quorate inbox {})\n", args.name));
        }
        for claim in &claims {
            text.push_str(&format!(
                "  holds    {} until {}\n",
                print::one_line(&claim.resource),
                time::local(claim.expires_at)
            ));
        }
        text
    };
    print::answer(json, value, words);
    Ok(0)
}

fn portrait(view: &AgentView, budget: Budget) -> String {
    let agent = &view.agent;
    let name = view.state.as_str();
    let mut text = format!("{}  {}\n", agent.name, paint(style::of_state(name), name));
    let mut say = |what: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("  {what:<8} {}\n", print::one_line(&value)));
        }
    };
    let now = crate::clock::now_ms();
    say("driver", Some(agent.driver.clone()));
    say("can", Some(abilities(agent)));
    say("why", agent.reason.clone());
    say("task", view.task.map(|id| format!("{id} (quorate task show {id})")));
    say("seen", agent.heartbeat_at.map(|at| time::ago(now, at)));
    let session = agent.node.as_ref().map(|node| {
        let (host, pid) = (agent.host.as_deref().unwrap_or("?"), agent.pid.unwrap_or_default());
        format!("node {node} on {host}, process {pid}")
    });
    say("session", session);
    say("used", Some(cost::of_budget(view.spent, budget)));
    say("context", view.context.map(|(tokens, window)| context(tokens, window)));
    say("respawns", (agent.respawns > 0).then(|| agent.respawns.to_string()));
    text
}

/// Writes how full a context is: `84,000 of 200,000 tokens (42 %)`.
fn context(tokens: i64, window: Option<i64>) -> String {
    match window.filter(|window| *window > 0) {
        Some(window) => {
            let percent = tokens.saturating_mul(100) / window;
            format!("{} of {} tokens ({percent} %)", grouped(tokens), grouped(window))
        }
        None => format!("{} tokens", grouped(tokens)),
    }
}

async fn tell(place: &Place, args: &AgentName, word: Word, json: bool) -> Result<u8> {
    let store = place.open_for(format!("agent `{}`", args.name)).await?;
    let stopped = place.desk(&store).tell(&args.name, word).await?;
    if word == Word::Remove {
        let gone = || json!({ "name": args.name, "state": "removed" });
        print::answer(json, gone, || format!("{} left the team", args.name));
        return Ok(0);
    }
    let view = place.desk(&store).agent(&args.name).await?;
    print::answer(json, || wire::Agent::from(&view), || told(&args.name, word, &stopped));
    Ok(0)
}

/// Shows a new token, alone on its line: it goes into a variable, and nobody can show it again.
async fn token(place: &Place, args: &AgentToken, json: bool) -> Result<u8> {
    let store = place.open_for(format!("agent `{}`", args.name)).await?;
    let name = &args.name;
    if args.revoke {
        let revoked = store.write(Revoke { agent: name.clone() }).await?;
        let words = || format!("{revoked} token(s) of {name} made void");
        print::answer(json, || json!({ "agent": name, "revoked": revoked }), words);
        return Ok(0);
    }
    let token = place.desk(&store).give_token(name).await?;
    print::answer(json, || json!({ "agent": name, "token": token.reveal() }), || token.reveal().to_owned());
    Ok(0)
}

fn told(name: &str, word: Word, stopped: &[Stopped]) -> String {
    match word {
        Word::Pause => format!("{name} is paused: it takes nothing more"),
        Word::Resume => format!("{name} may take work again"),
        Word::Kill if stopped.is_empty() => format!("{name} has no task: there was nothing to stop"),
        Word::Kill => {
            let fates: Vec<String> = stopped.iter().map(fate).collect();
            format!("{name} is stopped; {}", fates.join(", "))
        }
        Word::Remove => format!("{name} left the team"),
    }
}

fn fate(stopped: &Stopped) -> String {
    match stopped.state {
        TaskState::Failed => format!("task {} has failed: its attempts are used up", stopped.task),
        _ => format!("task {} is tried again", stopped.task),
    }
}
