//! `quorate top`: the live screen, here.
//!
//! Here lives what the screen needs of the place; the screen itself is a room of its own (`quorate_top`).

use crate::logs;
use crate::place::Place;
use crate::print;
use jiff::tz::TimeZone;
use quorate_model::{Error, Result};
use quorate_server::Desk;
use quorate_service::view::Attempt;
use quorate_store::Store;
use quorate_top::Manner;
use std::io::{IsTerminal, stdin};
use std::path::PathBuf;

pub(crate) async fn top(place: &Place, json: bool) -> Result<u8> {
    if json {
        return Err(Error::invalid("the live screen prints no JSON")
            .hint("one look: quorate status --json; as things happen: quorate events --follow --json"));
    }
    if !print::is_terminal() || !stdin().is_terminal() {
        return Err(Error::invalid("the live screen needs a terminal, for its keys and for its pictures")
            .hint("one look, also in a pipe: quorate status"));
    }
    let manner = Manner { is_coloured: print::is_coloured(), zone: TimeZone::system() };
    quorate_top::run(Here(place.clone()), manner).await
}

/// A place as the screen needs it.
struct Here(Place);

impl quorate_top::Place for Here {
    async fn open(&self) -> Result<Option<Store>> {
        self.0.look().await
    }

    fn desk(&self, store: &Store) -> Desk {
        self.0.desk(store)
    }

    fn output(&self, attempt: &Attempt) -> Result<PathBuf, String> {
        logs::file_here(&self.0, attempt)
    }

    fn name(&self) -> String {
        self.0.url.shown().to_string()
    }
}
