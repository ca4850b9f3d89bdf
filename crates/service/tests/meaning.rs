//! Finding by meaning, on both databases: what says it in other words is found, too, words and meaning make one
//! ranking, and a vector goes with what it stands for.

use quorate_model::memory::{FoundBy, MemoryKind, Query};
use quorate_model::{MemoryId, Result, RunId};
use quorate_service::memory::{
    CatchUp, Embedded, Forget, Hit, KeepVectors, Limits, Meaning, Old, Prune, Recall, Remember, Unembedded,
};
use quorate_testkit::embeddings::vector;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::verbs::command;
use quorate_testkit::{on_every_backend, on_every_backend_with_vectors};

const MODEL: &str = "small";

async fn tell(ledger: &TestLedger, text: &str) -> Result<MemoryId> {
    tell_as(ledger, MemoryKind::Finding, text).await
}

async fn tell_as(ledger: &TestLedger, kind: MemoryKind, text: &str) -> Result<MemoryId> {
    let tell =
        Remember { agent: "alpha".into(), kind, text: text.into(), tags: vec![], task: None, ttl_ms: None };
    Ok(ledger.store.write(tell).await?.id)
}

async fn waiting(ledger: &TestLedger, model: &str) -> Result<Vec<(MemoryId, String)>> {
    Ok(ledger.store.read(Unembedded { model: model.into(), limit: 100 }).await?.texts)
}

/// Shows the model what it has not seen.
async fn embed(ledger: &TestLedger, model: &str) -> Result<usize> {
    let new = waiting(ledger, model).await?;
    let count = new.len();
    let one = |(id, text): (MemoryId, String)| Embedded { id, vector: Some(vector(&text)), text };
    ledger
        .store
        .write(KeepVectors { model: model.into(), vectors: new.into_iter().map(one).collect() })
        .await?;
    Ok(count)
}

fn meant(question: &str) -> Recall {
    let meaning = Meaning { model: MODEL.into(), vector: vector(question), likeness: 30 };
    Recall { meaning: Some(meaning), ..Recall::of(Query::parse(question)) }
}

async fn ask(ledger: &TestLedger, question: &str) -> Result<Vec<Hit>> {
    ledger.store.read(meant(question)).await
}

fn texts(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.memory.text.as_str()).collect()
}

async fn what_is_said_in_other_words_is_found(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "the automobile of the courier is sluggish").await?;
    tell(&ledger, "pastry is served at noon").await?;
    assert!(
        ledger.store.read(Recall::of(Query::parse("slow car"))).await?.is_empty(),
        "no word is in common"
    );
    assert!(ask(&ledger, "slow car").await?.is_empty(), "the model has not seen anything");
    assert_eq!(embed(&ledger, MODEL).await?, 2);
    let hits = ask(&ledger, "slow car").await?;
    assert_eq!(texts(&hits), ["the automobile of the courier is sluggish"]);
    assert_eq!((hits[0].by, hits[0].memory.source()), (FoundBy::Meaning, "memory:1".to_owned()));
    Ok(())
}

async fn words_and_meaning_make_one_ranking(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "the car is in the garage").await?;
    tell(&ledger, "the vehicle is outside").await?;
    tell(&ledger, "look into the garage for the spare key").await?;
    for n in 0..60 {
        tell(&ledger, &format!("garage number {n} is empty")).await?;
    }
    embed(&ledger, MODEL).await?;
    let hits = ask(&ledger, "car garage").await?;
    assert_eq!(hits.len(), 10);
    assert_eq!((hits[0].memory.text.as_str(), hits[0].by), ("the car is in the garage", FoundBy::Both));
    let vehicle = hits.iter().find(|hit| hit.memory.text == "the vehicle is outside").expect("it is found");
    assert_eq!(vehicle.by, FoundBy::Meaning);
    assert!(hits.iter().any(|hit| hit.by == FoundBy::Words));
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    Ok(())
}

async fn what_is_asked_for_narrows_both(ledger: TestLedger) -> Result<()> {
    let (run, ids) = ledger.start(vec![command("one")]).await?;
    let about = Remember {
        agent: "beta".into(),
        kind: MemoryKind::Decision,
        text: "we buy an automobile".into(),
        tags: vec![],
        task: Some(ids[0]),
        ttl_ms: Some(1_000),
    };
    ledger.store.write(about).await?;
    tell(&ledger, "a vehicle needs a driver").await?;
    embed(&ledger, MODEL).await?;
    let count = |recall: Recall| async { ledger.store.read(recall).await.map(|hits| hits.len()) };
    assert_eq!(count(meant("car")).await?, 2);
    assert_eq!(count(Recall { kinds: vec![MemoryKind::Decision], ..meant("car") }).await?, 1);
    assert_eq!(count(Recall { agent: Some("alpha".into()), ..meant("car") }).await?, 1);
    assert_eq!(count(Recall { run: Some(run), ..meant("car") }).await?, 1);
    assert_eq!(count(Recall { run: Some(RunId(99)), ..meant("car") }).await?, 0);
    assert_eq!(count(Recall { limit: 1, ..meant("car") }).await?, 1);
    ledger.advance(1_001).await;
    assert_eq!(count(meant("car")).await?, 1, "what has expired is not found");
    Ok(())
}

async fn only_what_is_alike_enough_is_found(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "car login").await?;
    embed(&ledger, MODEL).await?;
    let asked = |likeness| {
        let meaning = Meaning { model: MODEL.into(), vector: vector("automobile"), likeness };
        Recall { meaning: Some(meaning), ..Recall::of(Query::parse("automobile")) }
    };
    // One of two meanings: the cosine is the root of a half.
    assert_eq!(ledger.store.read(asked(70)).await?.len(), 1);
    assert_eq!(ledger.store.read(asked(71)).await?.len(), 0);
    Ok(())
}

async fn vectors_of_another_model_are_not_compared_and_made_anew(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "an automobile").await?;
    let id = waiting(&ledger, MODEL).await?[0].0;
    let text = || "an automobile".to_owned();
    let keep = |model: &str, vector: Vec<f32>| KeepVectors {
        model: model.into(),
        vectors: vec![Embedded { id, text: text(), vector: Some(vector) }],
    };
    ledger.store.write(keep("other", vector("automobile"))).await?;
    assert!(ask(&ledger, "car").await?.is_empty());
    assert_eq!(waiting(&ledger, "other").await?.len(), 0);
    assert_eq!(embed(&ledger, MODEL).await?, 1);
    assert_eq!(ask(&ledger, "car").await?.len(), 1);
    assert_eq!(waiting(&ledger, "other").await?.len(), 1, "one memory has one vector");
    ledger.store.write(keep(MODEL, vec![1.0, 2.0])).await?;
    assert!(ask(&ledger, "car").await?.is_empty(), "a vector of another length is no error");
    Ok(())
}

async fn a_vector_goes_with_its_memory_and_its_text(ledger: TestLedger) -> Result<()> {
    let first = tell(&ledger, "an automobile").await?;
    tell(&ledger, "a vehicle").await?;
    embed(&ledger, MODEL).await?;
    ledger.store.write(Forget { id: first, by: None }).await?;
    assert_eq!(texts(&ask(&ledger, "car").await?), ["a vehicle"]);
    ledger.advance(2_000).await;
    let limits = Limits { ages_ms: vec![(MemoryKind::Finding, 1_000)], count_max: 100, bytes_max: 1_000_000 };
    let (read_at, old) = ledger.store.read(Old { limits }).await?;
    let said = old.iter().map(|memory| (memory.id, memory.count)).collect();
    ledger.store.write(Prune { said, read_at, archive: "archive".into() }).await?;
    assert!(ask(&ledger, "car").await?.is_empty());
    // The state of a run is brought up to date in its place, and means something else then.
    ledger.start(vec![command("sluggish car"), command("cake")]).await?;
    learn(&ledger).await?;
    embed(&ledger, MODEL).await?;
    assert_eq!(waiting(&ledger, MODEL).await?, []);
    let taken = ledger.must_take("alpha").await?;
    ledger.done(&taken).await?;
    learn(&ledger).await?;
    let new = waiting(&ledger, MODEL).await?;
    assert!(new.iter().any(|(_, text)| text.contains("sluggish car")), "{new:?}");
    Ok(())
}

async fn learn(ledger: &TestLedger) -> Result<()> {
    ledger.events().await;
    while ledger.store.write(CatchUp).await?.more {}
    Ok(())
}

async fn what_is_refused_or_changed_meanwhile_has_no_vector(ledger: TestLedger) -> Result<()> {
    let id = tell(&ledger, "an automobile").await?;
    let keep = |text: &str, vector: Option<Vec<f32>>| KeepVectors {
        model: MODEL.into(),
        vectors: vec![Embedded { id, text: text.into(), vector }],
    };
    ledger.store.write(keep("it said something else then", Some(vector("x")))).await?;
    assert_eq!(waiting(&ledger, MODEL).await?.len(), 1);
    ledger.store.write(keep("an automobile", None)).await?;
    assert_eq!(waiting(&ledger, MODEL).await?, [], "what the model refuses it is not asked again");
    assert!(ask(&ledger, "car").await?.is_empty());
    for wrong in [vec![], vec![0.0, 0.0], vec![f32::NAN], vec![1.0; 8_193]] {
        assert!(ledger.store.write(keep("an automobile", Some(wrong.clone()))).await.is_err(), "{wrong:?}");
    }
    Ok(())
}

async fn logged_lines_are_not_shown_to_the_model(ledger: TestLedger) -> Result<()> {
    let line = quorate_service::log::Line {
        agent: "alpha".into(),
        action: "note".into(),
        status: None,
        resource: None,
        progress: None,
        metadata: None,
        message: "the car is slow".into(),
        ttl_ms: 60_000,
    };
    ledger.store.write(line).await?;
    learn(&ledger).await?;
    assert_eq!(ledger.store.read(Recall::of(Query::parse("car"))).await?.len(), 1);
    assert_eq!(waiting(&ledger, MODEL).await?, []);
    Ok(())
}

on_every_backend_with_vectors!(
    what_is_said_in_other_words_is_found,
    words_and_meaning_make_one_ranking,
    what_is_asked_for_narrows_both,
    only_what_is_alike_enough_is_found,
    vectors_of_another_model_are_not_compared_and_made_anew,
    a_vector_goes_with_its_memory_and_its_text,
    what_is_refused_or_changed_meanwhile_has_no_vector,
    logged_lines_are_not_shown_to_the_model,
);

async fn without_pgvector_words_alone_are_looked_for(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "an automobile").await?;
    let waits = ledger.store.read(Unembedded { model: MODEL.into(), limit: 10 }).await?;
    // The database of most tests has no extension: what nobody could compare is not asked for.
    assert_eq!(waits.texts.len(), usize::from(waits.compares));
    assert_eq!(ask(&ledger, "automobile").await?.len(), 1);
    assert_eq!(ask(&ledger, "car").await?.len(), 0);
    Ok(())
}

on_every_backend!(without_pgvector_words_alone_are_looked_for);
