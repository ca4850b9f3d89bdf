//! `quorate send` and `inbox`.

use crate::args::{Inbox as InboxArgs, Send as SendArgs};
use crate::place::Place;
use crate::print::style::{Colour, paint};
use crate::print::{self, time};
use quorate_model::Result;
use quorate_service::message::{Inbox, Message, MessageKind, Send};
use quorate_service::wire::{self, shapes};
use serde_json::json;

pub(crate) async fn send(place: &Place, args: &SendArgs, json: bool) -> Result<u8> {
    let store = place.open().await?;
    place.desk(&store).seen(&args.from).await?;
    place.desk(&store).add_configured(&args.to).await?;
    let send = Send {
        from: args.from.clone(),
        to: args.to.clone(),
        kind: args.kind,
        text: args.text.clone(),
        task: args.task,
        reply_to: args.reply_to,
    };
    let id = store.write(send).await?;
    print::answer(json, || json!({ "id": id.0 }), || format!("message {id} sent to {}", args.to));
    Ok(0)
}

pub(crate) async fn inbox(place: &Place, args: &InboxArgs, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    place.desk(&store).add_configured(&args.name).await?;
    let messages = if args.all || args.peek {
        store.read(Inbox { agent: args.name.clone(), all: args.all }).await?
    } else {
        place.desk(&store).fetch(&args.name).await?
    };
    print::answer(json, || shapes::<wire::Message, _>(&messages), || words(&messages));
    Ok(0)
}

fn words(messages: &[Message]) -> String {
    if messages.is_empty() {
        return "no messages\n".into();
    }
    messages.iter().map(letter).collect()
}

fn letter(message: &Message) -> String {
    let colour = if message.kind == MessageKind::Help { Colour::Yellow } else { Colour::Bold };
    let about = message.task.map_or_else(String::new, |task| format!(", task {task}"));
    let answers = message.reply_to.map_or_else(String::new, |id| format!(", answers {id}"));
    let at = time::local(message.created_at);
    let head = format!("{} {} from {}", message.id, message.kind.as_str(), message.from);
    format!(
        "{}  {at}{about}{answers}\n{}",
        paint(colour, &head),
        print::indent(&print::lines(&message.text), 2)
    )
}
