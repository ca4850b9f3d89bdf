//! The memory at every door: whoever asks it first reads on in the log.
//!
//! Here lives that order of steps. So an answer is complete though no node runs.

use super::Desk;
use quorate_model::Result;
use quorate_model::Seq;
use quorate_service::context::{Context, Facts};
use quorate_service::memory::{CatchUp, Hit, Recall};
use std::time::Duration;
use tokio::time::Instant;

/// Steps of reading on that one who asks takes at most. Who finds more to read than 100,000 events is answered with what is
/// known by then.
const STEPS_MAX: usize = 500;

/// How long one who asks waits at most for transactions of others that may yet write before what he has seen done.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Desk {
    /// Reads on in the log until the memory holds what has happened.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn catch_up(&self) -> Result<()> {
        let (mut until, mut begun) = (None::<Seq>, Instant::now());
        for _ in 0..STEPS_MAX {
            let step = self.store.write(CatchUp).await?;
            let until = *until.get_or_insert(step.end);
            if step.seen >= until {
                break;
            }
            if step.more {
                begun = Instant::now();
                continue;
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Asks the memory.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn recall(&self, recall: Recall) -> Result<Vec<Hit>> {
        self.catch_up().await?;
        self.store.read(recall).await
    }

    /// Asks what somebody needs to go on.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub async fn context(&self, context: Context) -> Result<Facts> {
        self.catch_up().await?;
        self.store.read(context).await
    }
}
