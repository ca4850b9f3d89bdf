//! `quorate claim`, `release` and `claims`.

use crate::args::{Claim as Args, Claims, Release};
use crate::lookout::watch;
use crate::place::Place;
use crate::print::table::{Table, cell};
use crate::print::{self, time};
use quorate_model::Result;
use quorate_model::resource::Mode;
use quorate_server::claimable;
use quorate_service::claim::{self as service, Claim, Releaser, Take};
use quorate_service::view;
use quorate_service::wire::{self, shapes};
use serde_json::json;

pub(crate) async fn claim(place: &Place, args: &Args, json: bool) -> Result<u8> {
    let resources = claimable(&args.resources, &place.folder)?;
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
    let watch = args.wait.map(|wait| watch(&store, Some(wait))).transpose()?;
    let claims = place.desk(&store).claim(take, watch).await?;
    print::answer(json, || shapes::<wire::Claim, _>(&claims), || claims.iter().map(taken).collect());
    Ok(0)
}

fn taken(claim: &Claim) -> String {
    let (name, until) = (print::one_line(&claim.resource), time::local(claim.expires_at));
    format!("{name}  {}, term {}, until {until}\n", claim.mode.as_str(), claim.term)
}

pub(crate) async fn release(place: &Place, args: &Release, json: bool) -> Result<u8> {
    let resources = claimable(&args.resources, &place.folder)?;
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
