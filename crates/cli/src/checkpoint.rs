//! `quorate checkpoint`: saving a state to go on from, and looking at those that were saved.

use crate::args::{Checkpoint as Args, CheckpointList, CheckpointSave, CheckpointShow};
use crate::place::Place;
use crate::print::table::{Table, cell};
use crate::print::{self, time};
use quorate_model::diagnostic::quote;
use quorate_model::{Error, Kind, Result};
use quorate_service::checkpoint::{Checkpoint, List, STATE_MAX, Save, Show};
use quorate_service::wire::{self, shapes};
use serde_json::{Value, json};
use std::io::Read;

/// Characters of a state in the list.
const BEGINNING: usize = 60;

pub(crate) async fn checkpoint(place: &Place, args: Args, json: bool) -> Result<u8> {
    match args {
        Args::Save(args) => save(place, args, json).await,
        Args::Show(args) => show(place, args, json).await,
        Args::List(args) => list(place, args, json).await,
    }
}

async fn save(place: &Place, args: CheckpointSave, json: bool) -> Result<u8> {
    let state = read_state(&args.state)?;
    let store = place.open().await?;
    place.desk(&store).seen(&args.agent).await?;
    let id = store.write(Save { agent: args.agent, run: args.run, state }).await?;
    print::answer(json, || json!({ "id": id.0 }), || format!("checkpoint {id} saved"));
    Ok(0)
}

/// Reads a state. What is a JSON object or list counts as such, anything else as words.
fn read_state(given: &str) -> Result<Value> {
    let text = match (given, given.strip_prefix('@')) {
        ("-", _) => read_bounded("standard input", std::io::stdin().lock())?,
        (_, Some(file)) => {
            let opened = std::fs::File::open(file).map_err(|e| {
                let kind =
                    if e.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
                Error::new(kind, format!("cannot read the state from {}: {e}", quote(file)))
                    .hint("@FILE reads a file; anything else is the state itself")
            })?;
            read_bounded(file, opened)?
        }
        _ => given.to_owned(),
    };
    if text.trim().is_empty() {
        return Err(Error::invalid("the state is empty"));
    }
    let read =
        serde_json::from_str::<Value>(&text).ok().filter(|value| value.is_object() || value.is_array());
    Ok(read.unwrap_or_else(|| text.trim().into()))
}

/// Reads one byte more than is allowed, so that what is too large is noticed and nothing more is held.
fn read_bounded(from: &str, source: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let limit = STATE_MAX as u64 + 1;
    let wrong = |why: String| Error::invalid(format!("cannot read the state from {}: {why}", quote(from)));
    source.take(limit).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
    if bytes.len() > STATE_MAX {
        return Err(wrong(format!("it has more than {STATE_MAX} bytes"))
            .hint("put the long parts into a file and save its path"));
    }
    String::from_utf8(bytes).map_err(|e| wrong(format!("byte {} is no UTF-8", e.utf8_error().valid_up_to())))
}

async fn show(place: &Place, args: CheckpointShow, json: bool) -> Result<u8> {
    let what = args.id.map_or_else(|| "checkpoint".to_owned(), |id| format!("checkpoint {id}"));
    let store = place.open_for(&what).await?;
    place.desk(&store).catch_up().await?;
    let saved = match args.id {
        Some(id) => store.read(Show { id }).await?,
        None => {
            let list = List { agent: args.agent, run: args.run, told: false, limit: Some(1) };
            store.read(list).await?.pop().ok_or_else(|| {
                Error::not_found("no checkpoint").hint("save one: quorate checkpoint save --agent NAME \"…\"")
            })?
        }
    };
    print::answer(json, || wire::Checkpoint::from(&saved), || words(&saved));
    Ok(0)
}

fn words(saved: &Checkpoint) -> String {
    let head = format!("checkpoint {} by {}, {}", saved.id, by(saved), time::local(saved.created_at));
    format!("{head}{}\n{}", about(saved), print::indent(&print::lines(&state_words(saved)), 2))
}

fn by(saved: &Checkpoint) -> &str {
    saved.agent.as_deref().unwrap_or("itself")
}

fn about(saved: &Checkpoint) -> String {
    saved.run.map_or_else(String::new, |run| format!(", run {run}"))
}

/// The state for people: words as they are, JSON indented.
fn state_words(saved: &Checkpoint) -> String {
    match serde_json::from_str::<Value>(&saved.state) {
        Ok(Value::String(text)) => text,
        Ok(value) => format!("{value:#}"),
        Err(_) => saved.state.clone(),
    }
}

async fn list(place: &Place, args: CheckpointList, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    place.desk(&store).catch_up().await?;
    let saved = store.read(List { agent: args.agent, run: args.run, told: false, limit: None }).await?;
    print::answer(json, || shapes::<wire::Checkpoint, _>(&saved), || table(&saved));
    Ok(0)
}

fn table(saved: &[Checkpoint]) -> String {
    if saved.is_empty() {
        return "no checkpoints\n".into();
    }
    let mut table = Table::new(&["ID", "RUN", "BY", "SAVED", "STATE"]);
    for one in saved {
        let run = one.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
        let text = print::one_line(&one.state.chars().take(BEGINNING).collect::<String>());
        table.row([cell(one.id), cell(run), cell(by(one)), cell(time::local(one.created_at)), cell(text)]);
    }
    table.shown()
}
