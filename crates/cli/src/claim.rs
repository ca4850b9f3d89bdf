//! `quorate claim`, `release` and `claims`.

use crate::args::{Claim as Args, Claims, Release};
use crate::lookout::{Lookout, Pause, interrupted};
use crate::place::Place;
use crate::print::table::{Table, cell};
use crate::print::{self, time};
use quorate_model::resource::Mode;
use quorate_model::{Error, Result};
use quorate_service::claim::{self as service, Claim, Grant, Leave, RESOURCES_MAX, Releaser, Take};
use quorate_service::view;
use quorate_service::wire::{self, shapes};
use quorate_store::Store;
use serde_json::json;

pub(crate) async fn claim(place: &Place, args: &Args, json: bool) -> Result<u8> {
    let resources = wanted(place, &args.resources)?;
    let store = place.open().await?;
    place.desk(&store).seen(&args.agent).await?;
    let take = Take {
        agent: args.agent.clone(),
        resources,
        mode: if args.shared { Mode::Shared } else { Mode::Exclusive },
        ttl_ms: args.ttl,
        task: args.task.zip(args.term),
        wait_ms: args.wait,
        place: None,
    };
    let claims = take_in_turn(&store, take).await?;
    print::answer(json, || shapes::<wire::Claim, _>(&claims), || claims.iter().map(taken).collect());
    Ok(0)
}

fn wanted(place: &Place, names: &[String]) -> Result<Vec<String>> {
    if names.len() > RESOURCES_MAX {
        return Err(Error::invalid(format!(
            "{} resources at once; at most {RESOURCES_MAX} are allowed",
            names.len()
        ))
        .hint("claim the folder that holds them"));
    }
    place.resources(names)
}

fn taken(claim: &Claim) -> String {
    let (name, until) = (print::one_line(&claim.resource), time::local(claim.expires_at));
    format!("{name}  {}, term {}, until {until}\n", claim.mode.as_str(), claim.term)
}

/// Takes the resources, waiting in the queue for as long as was allowed.
async fn take_in_turn(store: &Store, mut take: Take) -> Result<Vec<Claim>> {
    let Some(wait) = take.wait_ms else { return granted(store.write(take).await?) };
    let mut lookout = Lookout::new(store, Some(wait))?;
    loop {
        match store.write(take.clone()).await? {
            Grant::Taken(claims) => return Ok(claims),
            Grant::Waits { place, .. } => take.place = Some(place),
        }
        match lookout.pause(None).await {
            Pause::Over => {}
            Pause::TooLate => {
                // The last look says who stands in the way.
                take.wait_ms = None;
                let last = store.write(take.clone()).await;
                leave_queue(store, &take).await;
                return granted(last?);
            }
            Pause::Interrupted => {
                leave_queue(store, &take).await;
                return Err(interrupted());
            }
        }
    }
}

/// Gives up the place; if that cannot be said, those behind wait until it is forgotten.
async fn leave_queue(store: &Store, take: &Take) {
    if let Some(place) = take.place {
        let _ = store.write(Leave { agent: take.agent.clone(), place }).await;
    }
}

fn granted(grant: Grant) -> Result<Vec<Claim>> {
    match grant {
        Grant::Taken(claims) => Ok(claims),
        Grant::Waits { .. } => Err(Error::failed("a claim without --wait was told to wait (this is a bug)")),
    }
}

pub(crate) async fn release(place: &Place, args: &Release, json: bool) -> Result<u8> {
    let resources = wanted(place, &args.resources)?;
    let store = place.open_for(format!("claim on {}", resources.join(", "))).await?;
    let by = match (&args.agent, &args.reason) {
        (Some(name), _) => {
            place.desk(&store).seen(name).await?;
            Releaser::Holder { agent: name.clone(), term: args.term }
        }
        (None, reason) => Releaser::Force { reason: reason.clone().unwrap_or_default() },
    };
    let released = store.write(service::Release { resources, by }).await?;
    let words = |claim: &Claim| {
        format!("{} released (was held by {})\n", print::one_line(&claim.resource), claim.agent)
    };
    print::answer(json, || shapes::<wire::Claim, _>(&released), || released.iter().map(words).collect());
    Ok(0)
}

pub(crate) async fn claims(place: &Place, args: &Claims, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    let claims = store.read(view::Claims { agent: args.agent.clone() }).await?;
    print::answer(json, || shapes::<wire::Claim, _>(&claims), || table(&claims));
    Ok(0)
}

fn table(claims: &[Claim]) -> String {
    if claims.is_empty() {
        return "nothing is claimed\n".into();
    }
    let now = crate::clock::now_ms();
    let mut table = Table::new(&["~RESOURCE", "AGENT", ">TASK", "MODE", ">TERM", "ENDS"]);
    for claim in claims {
        table.row([
            cell(&claim.resource),
            cell(&claim.agent),
            cell(claim.task.map_or_else(String::new, |id| id.to_string())),
            cell(claim.mode.as_str()),
            cell(claim.term),
            cell(time::ago(now, claim.expires_at)),
        ]);
    }
    table.shown()
}
