//! Callers that call as fast as they are answered.
//!
//! Here lives the closed loop: each caller waits for its answer before it calls again; calls of the warm-up are
//! not counted. What is called lives in `ours` and `raw_lite`.

use crate::samples::Samples;
use quorate_model::Result;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long a measurement lasts.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before anything is counted.
    pub warm_up: Duration,
    /// What is counted.
    pub cell: Duration,
    /// Each of the two probes of the disk.
    pub probe: Duration,
}

impl Timing {
    /// Returns how long one measurement takes, its warm-up included.
    pub fn whole(&self) -> Duration {
        self.warm_up + self.cell
    }
}

/// Whether a call found something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It did its work.
    Done,
    /// The prepared rows are used up: the measurement ends for all callers.
    Dry,
}

/// One caller.
pub trait Caller: Send + 'static {
    /// Does one operation and waits for its answer.
    fn call(&mut self) -> impl Future<Output = Result<Call>> + Send;
}

/// Lets all callers call during the time of one measurement.
pub async fn run<C: Caller>(callers: Vec<C>, timing: Timing) -> Result<Samples> {
    let dry = Arc::new(AtomicBool::new(false));
    let counted = Instant::now() + timing.warm_up;
    let mut loops = JoinSet::new();
    for caller in callers {
        loops.spawn(call_until(caller, counted, counted + timing.cell, Arc::clone(&dry)));
    }
    let mut nanos = Vec::new();
    for each in loops.join_all().await {
        nanos.extend(each?);
    }
    let lasted = counted.elapsed().min(timing.cell);
    Ok(Samples::new(nanos, lasted))
}

async fn call_until<C: Caller>(
    mut caller: C,
    counted: Instant,
    end: Instant,
    dry: Arc<AtomicBool>,
) -> Result<Vec<u64>> {
    let mut nanos = Vec::new();
    while !dry.load(Ordering::Relaxed) {
        let at = Instant::now();
        if at >= end {
            break;
        }
        match caller.call().await? {
            Call::Done if at >= counted => {
                nanos.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
            Call::Done => {}
            Call::Dry => dry.store(true, Ordering::Relaxed),
        }
    }
    Ok(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Three(u32);

    impl Caller for Three {
        async fn call(&mut self) -> Result<Call> {
            self.0 += 1;
            Ok(if self.0 > 3 { Call::Dry } else { Call::Done })
        }
    }

    #[test]
    fn a_caller_that_runs_dry_ends_the_measurement() {
        let timing = Timing { warm_up: Duration::ZERO, cell: Duration::from_secs(60), probe: Duration::ZERO };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let samples = runtime.block_on(run(vec![Three(0)], timing)).expect("no call fails");
        assert!(samples.max_ms() > 0.0 && samples.per_second() > 0.0);
    }
}
