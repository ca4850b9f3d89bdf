//! Waiting for something in the ledger to change: what `--wait` and `--follow` have in common.
//!
//! Here lives the pause between two looks. A hint of a change ends it early; a hint may be lost, so it also ends by
//! itself after a second. Only the pause can be interrupted, never a write: what was taken is always told.

use crate::signals::Signals;
use quorate_model::{Error, Result};
use quorate_server::Watch;
use quorate_store::Store;
use std::time::Duration;

/// How long one look may take. A database may fall silent, and who watches is to hear a Ctrl-C all the same.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Looks, but not for ever: what does not answer in time is away.
///
/// # Errors
/// Those of the look, or `Unavailable`.
pub(crate) async fn soon<T>(look: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LOOK_MAX, look).await.unwrap_or_else(|_| {
        Err(Error::unavailable(format!("the ledger has not answered for {} s", LOOK_MAX.as_secs())))
    })
}

/// Begins to watch the ledger; `wait_ms` from now it is too late, or never. A signal interrupts.
pub(crate) fn watch(store: &Store, wait_ms: Option<i64>) -> Result<Watch> {
    let mut signals = Signals::new()?;
    Ok(Watch::until(store, wait_ms, async move {
        signals.next().await;
    }))
}
