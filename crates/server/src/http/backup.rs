//! The ledger as a file, for who keeps copies of it.
//!
//! An embedded ledger is copied by SQLite, beside itself on its disk, and then sent piece by piece: neither needs more
//! memory for a large ledger than for a small one. One on PostgreSQL is copied by `pg_dump`, which a door does not start.

use super::{App, must_be_bare, must_be_json};
use crate::ask::Inputs;
use crate::caller::Caller;
use crate::openapi::{Document, schema_of};
use crate::problem::Failure;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use quorate_model::{Error, Kind, Result};
use quorate_store::Store;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use std::io;
use std::sync::{Arc, LazyLock};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;

/// Where it is, below `/api/v1`. What makes a file on the disk is no GET: a page of another site could have it made.
pub(crate) const PATH: &str = "/backup";
/// The media type of SQLite's files.
const MEDIA_TYPE: &str = "application/vnd.sqlite3";
/// Copies that are made or fetched at once: each takes as much of the disk as the ledger.
pub(crate) const COPIES_MAX: usize = 2;
/// What is read of a copy at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// What the inputs are.
static SCHEMA: LazyLock<Schema> = LazyLock::new(schema_of::<Backup>);

/// A copy of the ledger
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Backup {}

/// Describes the operation, whose answer is a file.
pub(crate) fn describe(document: &mut Document) {
    let about = "Copies an embedded ledger while everything runs: a SQLite file (PostgreSQL is copied by `quorate backup`)";
    document.add_file::<Backup>(PATH, "backup", about, MEDIA_TYPE);
}

pub(crate) async fn backup(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    must_be_bare(query.as_deref().unwrap_or_default())?;
    must_be_json(&headers, &body)?;
    let Backup {} = Inputs { schema: &SCHEMA, texts: Vec::new(), body: &body }.read()?;
    caller.must_be_person("copy the ledger")?;
    let place = Arc::clone(&app.copies).try_acquire_owned().map_err(|_| busy())?;
    let (copy, place) = made(app.desk.store().clone(), place).await?;
    let length = copy.metadata().map_err(|e| Error::failed(format!("the copy cannot be read: {e}")))?.len();
    let head = [
        (header::CONTENT_TYPE, MEDIA_TYPE.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"quorate.db\"".to_owned()),
    ];
    Ok((head, Body::from_stream(pieces(File::from_std(copy), place))).into_response())
}

/// Makes the copy; the place goes with it. Not within this call: who hangs up ends the call, but not the copying, which goes
/// on on a thread of its own, and with his place given back copies would pile up.
async fn made(store: Store, place: OwnedSemaphorePermit) -> Result<(std::fs::File, OwnedSemaphorePermit)> {
    let making = tokio::spawn(async move { Ok::<_, Error>((store.copy().await?, place)) });
    making.await.map_err(|e| Error::failed(format!("the copy stopped: {e}")))?
}

/// Reads the copy as fast as it is taken. Where that fails the body ends short of its length, which its reader notices.
fn pieces(copy: File, place: OwnedSemaphorePermit) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((copy, place), |(mut copy, place)| async move {
        let mut piece = vec![0; CHUNK];
        let length = copy.read(&mut piece).await?;
        piece.truncate(length);
        Ok((length > 0).then(|| (Bytes::from(piece), (copy, place))))
    })
}

fn busy() -> Error {
    Error::new(Kind::Conflict, format!("{COPIES_MAX} copies of the ledger are under way"))
        .hint("wait until one is fetched, or use `quorate backup FILE` on the node's machine")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_testkit::ledger::{Backend, TestLedger};
    use std::task::{Context, Waker};
    use std::time::Duration;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn who_hangs_up_keeps_his_place_until_his_copy_is_made() {
        let ledger = TestLedger::new(Backend::Lite).await;
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().expect("it is free");
        let mut making = Box::pin(made(ledger.store.clone(), place));
        assert!(making.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(making);
        assert_eq!(places.available_permits(), 0, "it is being made");
        let back = tokio::time::timeout(Duration::from_secs(30), places.acquire()).await;
        assert!(back.is_ok_and(|place| place.is_ok()), "it is made, and nobody fetches it");
    }
}
