//! The team's memory, kept up to date and bounded.
//!
//! Here live reading on in the log, a little at a time, showing an embedding model what is new, and the archive: what
//! is to go is first appended to a file of its month and flushed to the disk. What is to go, and what the log
//! teaches, `service::memory` decides.

use crate::stop::{Level, Stop};
use quorate_drivers::api::embeddings::{BATCH_MAX, Embedder};
use quorate_model::config::MemoryConfig;
use quorate_model::{Error, Result};
use quorate_service::memory::{
    Alike, CatchUp, KeepVectors, Limits, Memory, Merge, Old, Prune, Twins, Unembedded,
};
use quorate_service::{time, wire};
use quorate_store::Store;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Steps of reading on that one look takes at most; whoever asks the memory meanwhile reads on by himself.
const STEPS_MAX: usize = 500;

/// Requests to the embedding model that one look leads to at most, and how long each may take.
const REQUESTS_MAX: usize = 30;
const MODEL_PATIENCE: Duration = Duration::from_secs(60);

/// Between two steps, so that others get their turn.
const BREATH: Duration = Duration::from_millis(50);

/// The folder of the archive, in that of state.
const ARCHIVE: &str = "archive";

/// Reads on in the log until the memory holds what has happened.
pub(crate) async fn catch_up(store: &Store, stop: &Stop) -> Result<()> {
    for _ in 0..STEPS_MAX {
        if !store.write(CatchUp).await?.more || stop.level() != Level::Go {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Shows an embedding model what it has not seen. Where nothing is new, it is not asked.
pub(crate) async fn embed(store: &Store, embedder: &Embedder, stop: &Stop) -> Result<()> {
    let (model, limit) = (embedder.model().to_owned(), BATCH_MAX as i64);
    for _ in 0..REQUESTS_MAX {
        let new = store.read(Unembedded { model: model.clone(), limit }).await?.texts;
        if new.is_empty() || stop.level() != Level::Go {
            break;
        }
        let texts: Vec<&str> = new.iter().map(|(_, text)| text.as_str()).collect();
        let vectors = embedder.embed_each(&texts, MODEL_PATIENCE).await?;
        store.write(KeepVectors::of(&model, new, vectors)).await?;
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Archives and removes what is older or more than `[memory]` says. The archive is in the folder of state.
pub(crate) async fn prune(store: &Store, config: &MemoryConfig, state: &Path, stop: &Stop) -> Result<()> {
    let limits = limits(config);
    while stop.level() == Level::Go {
        let (read_at, old) = store.read(Old { limits: limits.clone() }).await?;
        if old.is_empty() {
            break;
        }
        let said = old.iter().map(|memory| (memory.id, memory.count)).collect();
        let archive = archive(state, read_at, old).await?;
        // None where what is old by its date was said again since, as after a step of the clock: it is old the next time.
        if store.write(Prune { said, read_at, archive }).await? == 0 {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Merges memories that an embedding model takes for the same, once each was archived as it was.
pub(crate) async fn merge_alike(store: &Store, model: &str, state: &Path, stop: &Stop) -> Result<()> {
    for _ in 0..STEPS_MAX {
        let Twins { read_at, seen, sets } = store.read(Alike { model: model.to_owned() }).await?;
        if seen.is_empty() || stop.level() != Level::Go {
            break;
        }
        let originals = sets.iter().flat_map(|set| set.memories.clone()).collect();
        let archive = archive(state, read_at, originals).await?;
        store.write(Merge { sets, seen, by: None, archive }).await?;
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Archives memories that were read at this time; answers with the archive's name.
pub(crate) async fn archive(state: &Path, read_at: i64, memories: Vec<Memory>) -> Result<String> {
    let name = format!("memory-{}.jsonl", month(read_at));
    if !memories.is_empty() {
        append(state.join(ARCHIVE).join(&name), memories).await?;
    }
    Ok(format!("{ARCHIVE}/{name}"))
}

fn limits(memory: &MemoryConfig) -> Limits {
    Limits { ages_ms: memory.ages_ms(), count_max: memory.count, bytes_max: memory.size_bytes }
}

/// The year and month of a time.
fn month(ms: i64) -> String {
    time::rfc3339(ms).chars().take("2026-01".len()).collect()
}

/// Appends memories to a file, a JSON document a line, and waits until the disk has them.
async fn append(file: PathBuf, memories: Vec<Memory>) -> Result<()> {
    let lines: String =
        memories.iter().map(|memory| format!("{}\n", wire::value(wire::Memory::from(memory)))).collect();
    let shown = file.display().to_string();
    let written = tokio::task::spawn_blocking(move || write(&file, &lines)).await;
    let done = written.map_err(|e| e.to_string()).and_then(|done| done.map_err(|e| e.to_string()));
    done.map_err(|e| {
        Error::unavailable(format!("cannot write the archive {shown}: {e}; nothing is removed"))
            .hint("free some space, or mend the folder's permissions")
    })
}

fn write(file: &Path, lines: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        quorate_store::private_folder(folder)?;
    }
    let mut archive = std::fs::File::options().create(true).append(true).open(file)?;
    archive.write_all(lines.as_bytes())?;
    archive.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stopper;
    use quorate_model::config::{EmbeddingConfig, LIKENESS};
    use quorate_model::memory::{MemoryKind, Query};
    use quorate_service::memory::{Recall, Remember};
    use quorate_testkit::embeddings::Embeddings;
    use quorate_testkit::ledger::TestLedger;
    use quorate_testkit::{on_every_backend, on_every_backend_with_vectors};

    async fn told(ledger: &TestLedger, text: &str) -> Result<()> {
        let (agent, text) = ("alpha".into(), text.into());
        let tell = Remember {
            agent,
            kind: MemoryKind::Finding,
            text,
            tags: vec![],
            task: None,
            ttl_ms: Some(1_000),
        };
        ledger.store.write(tell).await.map(drop)
    }

    async fn what_goes_is_in_the_archive_first(ledger: TestLedger) -> Result<()> {
        let (_stopper, stop) = Stopper::new();
        let state = tempfile::tempdir().expect("a temporary folder");
        let prune = async || prune(&ledger.store, &MemoryConfig::default(), state.path(), &stop).await;
        let file = state.path().join("archive/memory-2026-01.jsonl");
        prune().await?;
        assert!(!file.exists(), "without anything to remove there is no archive");
        for text in ["first words", "second ones"] {
            told(&ledger, text).await?;
            ledger.advance(2_000).await;
            prune().await?;
        }
        let lines = std::fs::read_to_string(&file).expect("the archive is there");
        let read = |line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON document a line");
        let texts: Vec<_> = lines.lines().map(read).map(|memory| memory["text"].clone()).collect();
        assert_eq!(texts, ["first words", "second ones"]);
        assert!(ledger.store.read(Recall::of(Query::parse("words ones"))).await?.is_empty());
        Ok(())
    }

    async fn what_cannot_be_archived_stays(ledger: TestLedger) -> Result<()> {
        let (_stopper, stop) = Stopper::new();
        let state = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(state.path().join(ARCHIVE), "a file stands in the way").expect("written");
        told(&ledger, "words").await?;
        ledger.advance(2_000).await;
        let error = prune(&ledger.store, &MemoryConfig::default(), state.path(), &stop).await;
        assert!(error.expect_err("no archive").message.contains("nothing is removed"));
        let limits = limits(&MemoryConfig::default());
        assert_eq!(ledger.store.read(Old { limits }).await?.1.len(), 1);
        Ok(())
    }

    on_every_backend!(what_goes_is_in_the_archive_first, what_cannot_be_archived_stays);

    fn embedder(server: &Embeddings) -> Embedder {
        let config = EmbeddingConfig {
            base_url: server.base_url(),
            model: "small".into(),
            key_env: None,
            likeness: LIKENESS,
        };
        Embedder::new(&config, |_| None)
    }

    async fn a_model_is_asked_for_what_is_new_alone(ledger: TestLedger) -> Result<()> {
        let (_stopper, stop) = Stopper::new();
        let (server, state) = (Embeddings::start(), tempfile::tempdir().expect("a temporary folder"));
        let embedder = embedder(&server);
        let round = async || {
            embed(&ledger.store, &embedder, &stop).await?;
            merge_alike(&ledger.store, "small", state.path(), &stop).await
        };
        round().await?;
        assert_eq!(server.count(), 0, "there is nothing yet");
        for n in 0..=BATCH_MAX {
            told(&ledger, &format!("part {n} is done")).await?;
        }
        round().await?;
        assert_eq!(server.count(), 2);
        round().await?;
        assert_eq!(server.count(), 2, "nothing is new");
        server.fail(Some(500));
        told(&ledger, "something else").await?;
        assert!(round().await.is_err());
        assert!(round().await.expect_err("it is left alone").message.contains("left alone"));
        assert_eq!(server.count(), 3);
        Ok(())
    }

    async fn what_is_alike_is_merged_once_it_is_archived(ledger: TestLedger) -> Result<()> {
        let (_stopper, stop) = Stopper::new();
        let (server, state) = (Embeddings::start(), tempfile::tempdir().expect("a temporary folder"));
        for text in ["the car is slow", "the automobile is sluggish", "the cake is good"] {
            told(&ledger, text).await?;
        }
        embed(&ledger.store, &embedder(&server), &stop).await?;
        std::fs::write(state.path().join(ARCHIVE), "a file stands in the way").expect("written");
        assert!(merge_alike(&ledger.store, "small", state.path(), &stop).await.is_err());
        let count = async || {
            ledger.store.read(Recall::of(Query::parse("car automobile cake"))).await.map(|hits| hits.len())
        };
        assert_eq!(count().await?, 3, "what cannot be archived stays");
        std::fs::remove_file(state.path().join(ARCHIVE)).expect("removed");
        merge_alike(&ledger.store, "small", state.path(), &stop).await?;
        assert_eq!(count().await?, 2);
        let file = state.path().join("archive/memory-2026-01.jsonl");
        let kept = std::fs::read_to_string(file).expect("the archive is there");
        assert!(kept.contains("the automobile is sluggish") && !kept.contains("cake"), "{kept}");
        Ok(())
    }

    on_every_backend_with_vectors!(
        a_model_is_asked_for_what_is_new_alone,
        what_is_alike_is_merged_once_it_is_archived
    );
}
