//! Keeping things bounded: what is older than `[retention]` says is removed, a little at a time, and processes that
//! nobody supervises any more are ended.
//!
//! Here lives the loop: history and memory once soon after the start and then every hour, or more often where
//! `[retention]` or `[memory]` is short; processes every minute, and the memory reads on then. Worktrees of tasks that are
//! over are looked at as often, and once at the start, for a run may end sooner. What is in the ledger is removed, and shown
//! to an embedding model, by one node at a time; kept output, worktrees and processes are a matter of each host.

use crate::node::Shared;
use crate::orphans::end_strays;
use crate::stop::{Level, Stop};
use crate::worktrees::Worktrees;
use crate::{consolidator, memory};
use quorate_model::Result;
use quorate_model::TaskId;
use quorate_model::config::{Config, RetentionConfig, millis};
use quorate_service::node::Lead;
use quorate_service::retention::{MayPrune, Prune, Pruned};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often processes are looked at. Soon after the start, so that a short run is not held up by it, begins a round
/// through history; the next after so many looks at most.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOKS_MAX: u32 = 60;

/// What is to be removed outlives its time by at most this part of it, or by a look.
const ROUNDS_PER_TIME: i64 = 10;

/// Between two parts of a round, so that others get their turn.
const BREATH: Duration = Duration::from_millis(50);

/// Removes old history until told to stop.
pub(crate) async fn serve(shared: Arc<Shared>, mut stop: Stop) {
    let every = looks_between(&shared.config);
    let (mut looks, mut worktrees) = (0, worktrees_of(&shared));
    while stop.level() == Level::Go {
        put_away(&shared, &stop, &mut worktrees).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.reached(Level::Finish) => return,
        }
        // What cannot be looked at now is looked at in a minute.
        let _ = end_strays(&shared.agents_url.full(), millis(shared.config.health.grace_ms)).await;
        if let Err(error) = stop.in_time(memory::catch_up(&shared.store, &stop)).await {
            shared.say(format!("the memory does not know the newest for now: {error}"));
        }
        if let Err(error) = stop.in_time(embed(&shared, &stop)).await {
            shared.say(format!("memories are found by their words for now: {error}"));
        }
        if looks % every == 0
            && let Err(error) = stop.in_time(round(&shared, &stop, every)).await
        {
            shared.say(format!("old history stays for now: {error}"));
        }
        looks = looks.wrapping_add(1);
    }
}

fn worktrees_of(shared: &Shared) -> Worktrees {
    let (git, project, state) = (shared.git.clone(), shared.folder.clone(), shared.state.clone());
    Worktrees::new(git, project, state, shared.host.clone())
}

/// Takes away worktrees of tasks that are over. What cannot be asked or done now can be in a minute.
async fn put_away(shared: &Shared, stop: &Stop, worktrees: &mut Worktrees) {
    let troubles = stop.in_time(worktrees.look(&shared.store, stop)).await.unwrap_or_default();
    troubles.into_iter().for_each(|trouble| shared.say(trouble));
}

/// Returns how many looks there are from one round to the next.
fn looks_between(config: &Config) -> u32 {
    let RetentionConfig { events_ms, attempts_ms, logs_ms, tasks_ms } = config.retention;
    let remembered = config.memory.ages_ms().into_iter().map(|(_, age_ms)| age_ms).min().unwrap_or(i64::MAX);
    let shortest = events_ms.min(attempts_ms).min(logs_ms).min(tasks_ms).min(remembered);
    let looks = millis(shortest / ROUNDS_PER_TIME).as_secs() / LOOK_EVERY.as_secs();
    u32::try_from(looks).unwrap_or(LOOKS_MAX).clamp(1, LOOKS_MAX)
}

/// Shows the embedding model what is new, if this node is the one that does.
async fn embed(shared: &Shared, stop: &Stop) -> Result<()> {
    let Some(embedder) = &shared.embedder else { return Ok(()) };
    let lease_ms = i64::try_from((LOOK_EVERY * 2).as_millis()).unwrap_or(i64::MAX);
    let lead = Lead { duty: "embedding", node: shared.node_id, lease_ms };
    match shared.store.write(lead).await? {
        Some(_) => {
            memory::embed(&shared.store, embedder, stop).await?;
            memory::merge_alike(&shared.store, embedder.model(), &shared.state, stop).await
        }
        None => Ok(()),
    }
}

async fn round(shared: &Shared, stop: &Stop, every: u32) -> Result<()> {
    let retention = &shared.config.retention;
    let (logs, age) = (shared.state.join("logs"), millis(retention.logs_ms));
    // There may be many; files that stay are no reason to leave the ledger's history as it is.
    let _ = tokio::task::spawn_blocking(move || remove_old_files(&logs, age)).await;
    // Who may not remove history must not keep those from it who may.
    if !shared.store.read(MayPrune).await? {
        return Ok(());
    }
    let lease_ms = i64::try_from((LOOK_EVERY * (every + 1)).as_millis()).unwrap_or(i64::MAX);
    let lead = Lead { duty: "retention", node: shared.node_id, lease_ms };
    if shared.store.write(lead).await?.is_none() {
        return Ok(());
    }
    let RetentionConfig { events_ms, attempts_ms, tasks_ms, .. } = *retention;
    let mut step = Prune { events_ms, attempts_ms, tasks_ms, after: TaskId(0) };
    while let Pruned { seen, more: true, .. } = shared.store.write(step.clone()).await?
        && stop.level() == Level::Go
    {
        step.after = seen;
        tokio::time::sleep(BREATH).await;
    }
    memory::prune(&shared.store, &shared.config.memory, &shared.state, stop).await?;
    if let Err(error) = consolidator::begin(shared).await {
        shared.say(format!("nobody is asked to consolidate the memory for now: {error}"));
    }
    Ok(())
}

/// Removes files that were not written for so long. One that cannot be removed is left for the next round.
fn remove_old_files(folder: &Path, age: Duration) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_old = file
            .metadata()
            .and_then(|facts| facts.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed > age));
        if is_old {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_the_shortest_time_but_come_every_hour_at_least() {
        const DAY_MS: i64 = 86_400_000;
        let with = |events_ms| {
            let retention = RetentionConfig { events_ms, ..RetentionConfig::default() };
            looks_between(&Config { retention, ..Config::default() })
        };
        assert_eq!(with(30 * DAY_MS), LOOKS_MAX);
        assert_eq!(with(3_600_000), 6);
        assert_eq!(with(300_000), 1);
        assert_eq!(with(100), 1);
    }

    #[test]
    fn only_files_that_are_old_enough_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("young.log"), "x").expect("made");
        let old = std::fs::File::create(folder.path().join("old.log")).expect("made");
        old.set_modified(std::time::UNIX_EPOCH).expect("aged");
        remove_old_files(folder.path(), Duration::from_secs(500));
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("readable").flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "young.log");
    }
}
