//! `quorate agent add|list|show|pause|resume|kill|remove`, and joining the team by being named.

use crate::args::{Agent, AgentAdd, AgentName};
use crate::place::Place;
use crate::print::style::{self, paint};
use crate::print::table::{Table, cell, state};
use crate::print::{self, time};
use quorate_model::{Error, Result, nearest};
use quorate_service::agent::{self as service, Tell, Word};
use quorate_service::message::Inbox;
use quorate_service::view::{self, AgentView};
use quorate_service::wire;
use quorate_store::Store;
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
        Agent::Run(_) => unreachable!("`main` gives it to `up`"),
    }
}

/// Notes a sign of life of an agent that speaks for itself. A name first seen joins the team, unless only those of
/// `quorate.toml` may.
pub(crate) async fn seen(place: &Place, store: &Store, name: &str) -> Result<service::Agent> {
    let is_configured = add_configured(place, store, name).await?;
    let strict = place.config.strict_agents && !is_configured;
    store.write(service::Seen { name: name.to_owned(), strict }).await
}

/// Adds an agent that stands in `quorate.toml`: it belongs to the team before it was ever started.
pub(crate) async fn add_configured(place: &Place, store: &Store, name: &str) -> Result<bool> {
    let members = place.config.agents();
    let Some((_, config)) = members.into_iter().find(|(member, _)| member == name) else { return Ok(false) };
    let (driver, capabilities) = (config.driver.as_str().to_owned(), config.capabilities.clone());
    store.write(service::Add { name: name.to_owned(), driver, capabilities }).await?;
    Ok(true)
}

async fn add(place: &Place, args: &AgentAdd, json: bool) -> Result<u8> {
    let store = place.open().await?;
    let add = service::Add {
        name: args.name.clone(),
        driver: args.driver.as_str().to_owned(),
        capabilities: args.capability.clone(),
    };
    store.write(add).await?;
    let view = find(place, &store, &args.name).await?;
    print::answer(json, || wire::agent(&view), || format!("{} is in the team ({})", args.name, args.driver));
    Ok(0)
}

async fn list(place: &Place, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    let agents = store.read(view::Agents::default()).await?;
    let now = crate::clock::now_ms();
    print::answer(json, || agents.iter().map(wire::agent).collect(), || words(&agents, now));
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
    let mut table = Table::new(&["NAME", "STATE", ">TASK", "DRIVER", "SEEN", "~CAN", "~WHY"]);
    for view in agents {
        table.row([
            cell(&view.agent.name),
            state(view.state.as_str()),
            cell(view.task.map_or_else(String::new, |id| id.to_string())),
            cell(&view.agent.driver),
            cell(time::ago_or_none(now, view.agent.heartbeat_at)),
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
    let view = find(place, &store, &args.name).await?;
    let claims = store.read(view::Claims { agent: Some(args.name.clone()) }).await?;
    let unread = store.read(Inbox { agent: args.name.clone(), all: false }).await?.len();
    let value = || {
        let mut value = wire::agent(&view);
        value["claims"] = claims.iter().map(wire::claim).collect();
        value["unread"] = unread.into();
        value
    };
    let words = || {
        let mut text = portrait(&view);
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

fn portrait(view: &AgentView) -> String {
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
    say("respawns", (agent.respawns > 0).then(|| agent.respawns.to_string()));
    text
}

/// Finds an agent, or says which name is nearest.
pub(crate) async fn find(place: &Place, store: &Store, name: &str) -> Result<AgentView> {
    let mut found = store.read(view::Agents { name: Some(name.to_owned()) }).await?;
    if let Some(view) = found.pop() {
        return Ok(view);
    }
    let team = store.read(view::Agents::default()).await?;
    let hint = match nearest(name, team.iter().map(|view| view.agent.name.as_str())) {
        Some(near) => format!("did you mean `{near}`? `quorate agent list` shows the team"),
        _ if place.is_configured(name) => {
            "it stands in quorate.toml and joins when it is started: quorate up".into()
        }
        None => format!("add it with `quorate agent add {name}`; `quorate agent list` shows the team"),
    };
    Err(Error::not_found(format!("no agent {}", quorate_model::diagnostic::quote(name))).hint(hint))
}

async fn tell(place: &Place, args: &AgentName, word: Word, json: bool) -> Result<u8> {
    let store = place.open_for(format!("agent `{}`", args.name)).await?;
    add_configured(place, &store, &args.name).await?;
    store.write(Tell { name: args.name.clone(), word }).await?;
    if word == Word::Remove {
        let gone = || json!({ "name": args.name, "state": "removed" });
        print::answer(json, gone, || format!("{} left the team", args.name));
        return Ok(0);
    }
    let view = find(place, &store, &args.name).await?;
    print::answer(json, || wire::agent(&view), || told(&args.name, word));
    Ok(0)
}

fn told(name: &str, word: Word) -> String {
    match word {
        Word::Pause => format!("{name} is paused: it takes nothing more"),
        Word::Resume => format!("{name} may take work again"),
        Word::Kill => format!("{name} is stopped; what it had is tried again"),
        Word::Remove => format!("{name} left the team"),
    }
}
