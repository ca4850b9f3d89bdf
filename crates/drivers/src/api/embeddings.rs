//! An embedding model: texts go in, vectors come out, by the API that OpenAI has and many other servers speak, too.
//!
//! Here live the request, the strict reading of its answer, and the rest that is taken after a failure, so that a
//! service that is away is not asked again and again. What becomes of vectors, and who asks when, is others'
//! business.

use super::http::{self, Ask};
use super::said;
use super::talk::bearer;
use crate::say::{ERROR_MAX, short};
use hyper::body::Bytes;
use quorate_model::config::{DIMENSIONS_MAX, EmbeddingConfig};
use quorate_model::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Texts of one request at most.
pub const BATCH_MAX: usize = 32;
/// How much of a text a model is given, in characters: models see no more than some hundred words.
const TEXT_MAX: usize = 2_000;
/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 16 << 20;
/// How long a service that has failed is left alone; doubles with each failure, up to the longest.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(600);

/// An embedding model and how it is asked.
pub struct Embedder {
    config: EmbeddingConfig,
    key: Option<String>,
    rest: Mutex<Option<Rest>>,
}

impl std::fmt::Debug for Embedder {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// That a service has failed.
#[derive(Debug, Clone)]
struct Rest {
    until: Instant,
    length: Duration,
    why: String,
}

impl Embedder {
    /// Makes it from its configuration; `look` finds the variable with its key.
    pub fn new(config: &EmbeddingConfig, look: impl Fn(&str) -> Option<String>) -> Embedder {
        let key = config.key_env.as_deref().and_then(look);
        Embedder { config: config.clone(), key, rest: Mutex::default() }
    }

    /// Returns the model's name.
    pub fn model(&self) -> &str {
        &self.config.model
    }

    /// Returns from which likeness on something is found, in per cent.
    pub fn likeness(&self) -> i64 {
        self.config.likeness
    }

    /// Asks for the vectors of at most [`BATCH_MAX`] texts.
    ///
    /// # Errors
    /// `Invalid` when the service refuses the texts, any other kind when it cannot be asked; then it is left alone
    /// for a while.
    pub async fn embed(&self, texts: &[&str], patience: Duration) -> Result<Vec<Vec<f32>>> {
        self.check_rest()?;
        let asked = tokio::time::timeout(patience, self.ask(texts)).await;
        let answer = asked.unwrap_or_else(|_| {
            Err(Error::unavailable(format!(
                "the embedding model did not answer within {:.1} s",
                patience.as_secs_f64()
            )))
        });
        match &answer {
            Err(error) if error.kind != Kind::Invalid => self.take_rest(&error.message),
            _ => *self.lock() = None,
        }
        answer
    }

    /// The same, but a text that the service refuses costs only its own vector.
    ///
    /// # Errors
    /// When the service cannot be asked, or refuses all of them: then it is not about a text.
    pub async fn embed_each(&self, texts: &[&str], patience: Duration) -> Result<Vec<Option<Vec<f32>>>> {
        let mut vectors = vec![None; texts.len()];
        let (whole, mut refused) = (0..texts.len(), None);
        let mut parts = Vec::from([whole]);
        while let Some(part) = parts.pop() {
            match self.embed(&texts[part.clone()], patience).await {
                Ok(found) => {
                    let places = vectors[part].iter_mut();
                    places.zip(found).for_each(|(place, vector)| *place = Some(vector));
                }
                Err(error) if error.kind != Kind::Invalid => return Err(error),
                Err(error) => {
                    refused = Some(error);
                    parts.extend(halves(part));
                }
            }
        }
        match refused {
            Some(error) if vectors.iter().all(Option::is_none) => {
                self.take_rest(&error.message);
                Err(error)
            }
            _ => Ok(vectors),
        }
    }

    async fn ask(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        if let (Some(name), None) = (&self.config.key_env, &self.key) {
            let what = format!("the embedding model wants its key in the variable {name}, which is not set");
            return Err(Error::unavailable(what)
                .hint(format!("export {name}=…, or write it into .env beside quorate.toml")));
        }
        let input: Vec<String> = texts.iter().map(|text| text.chars().take(TEXT_MAX).collect()).collect();
        let body = json!({ "model": self.config.model, "input": input, "encoding_format": "float" });
        let url = format!("{}/embeddings", self.config.base_url);
        let ask = Ask { url, headers: bearer(self.key.as_deref()), body };
        let mut answer = http::ask(&ask).await?;
        let mut bytes = Vec::new();
        while let Some(part) = answer.next().await? {
            append(&mut bytes, &part)?;
        }
        match answer.status {
            200 => read(&bytes, texts.len()),
            status => Err(refusal(status, &bytes)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Rest>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_rest(&self) -> Result<()> {
        let rest = self.lock().clone();
        let left =
            rest.as_ref().map_or(Duration::ZERO, |rest| rest.until.saturating_duration_since(Instant::now()));
        match rest {
            Some(Rest { why, .. }) if !left.is_zero() => Err(Error::unavailable(format!(
                "the embedding model is left alone for {} s more: {why}",
                left.as_secs() + 1
            ))),
            _ => Ok(()),
        }
    }

    fn take_rest(&self, why: &str) {
        let mut rest = self.lock();
        let length = rest.as_ref().map_or(REST_FIRST, |rest| (rest.length * 2).min(REST_MAX));
        *rest = Some(Rest { until: Instant::now() + length, length, why: why.to_owned() });
    }
}

/// The parts of a range that are asked for again; a single one is not.
fn halves(part: Range<usize>) -> Vec<Range<usize>> {
    let middle = part.start + part.len() / 2;
    if part.len() < 2 { Vec::new() } else { vec![part.start..middle, middle..part.end] }
}

fn append(bytes: &mut Vec<u8>, part: &Bytes) -> Result<()> {
    bytes.extend_from_slice(part);
    match bytes.len() <= ANSWER_MAX {
        true => Ok(()),
        false => Err(wrong(format!("more than {ANSWER_MAX} bytes"))),
    }
}

fn wrong(why: impl std::fmt::Display) -> Error {
    Error::failed(format!("the embedding model's answer cannot be used: {why}"))
        .hint("`base_url` of [memory.embedding] is the address before /embeddings")
}

/// A refusal of the texts themselves is `Invalid`.
fn refusal(status: u16, body: &[u8]) -> Error {
    let body = String::from_utf8_lossy(body);
    let told =
        serde_json::from_str::<Value>(&body).map_or_else(|_| body.to_string(), |value| said(&value, &body));
    let message = format!("the embedding model refused it with {status}: {}", short(&told, ERROR_MAX));
    match status {
        400 | 413 | 422 => Error::invalid(message),
        _ => Error::unavailable(message),
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// Reads the vectors of so many texts, in the order of the texts.
fn read(bytes: &[u8], count: usize) -> Result<Vec<Vec<f32>>> {
    let Answer { data } = serde_json::from_slice(bytes).map_err(wrong)?;
    if data.len() != count {
        return Err(wrong(format!("{} vectors for {count} texts", data.len())));
    }
    let length = data.first().map_or(0, |one| one.embedding.len());
    let mut vectors = vec![Vec::new(); count];
    for (place, One { index, embedding }) in data.into_iter().enumerate() {
        let is_good = embedding.iter().all(|number| number.is_finite())
            && embedding.iter().any(|number| *number != 0.0);
        if embedding.len() != length || length > DIMENSIONS_MAX || !is_good {
            return Err(wrong(format!("vector {place} has {} numbers, or no direction", embedding.len())));
        }
        match vectors.get_mut(index.unwrap_or(place)) {
            Some(vector) if vector.is_empty() => *vector = embedding,
            _ => return Err(wrong(format!("vector {place} says that it is number {index:?}"))),
        }
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_testkit::embeddings::{Embeddings, WORDS};

    const SOON: Duration = Duration::from_secs(20);

    fn embedder(base_url: String) -> Embedder {
        let config = EmbeddingConfig { base_url, model: "small".into(), key_env: None, likeness: 30 };
        Embedder::new(&config, |_| None)
    }

    #[tokio::test]
    async fn each_text_has_its_vector_in_the_order_of_the_texts() {
        let server = Embeddings::start();
        let embedder = embedder(server.base_url());
        let vectors = embedder.embed(&["a car", "an automobile", "a cake"], SOON).await.unwrap();
        assert_eq!(vectors.len(), 3);
        let likeness = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        assert!(
            likeness(&vectors[0], &vectors[1]) > 0.9 && likeness(&vectors[0], &vectors[2]) < 0.5,
            "{WORDS:?}"
        );
        let long = "x".repeat(TEXT_MAX + 1);
        embedder.embed(&[&long], SOON).await.unwrap();
        let asked = server.end();
        assert_eq!(asked[0].path, "/v1/embeddings");
        assert_eq!(asked[0].body["model"], "small");
        assert_eq!(asked[1].body["input"][0].as_str().map(str::len), Some(TEXT_MAX));
        assert!(!asked[0].headers.contains_key("authorization"));
    }

    #[tokio::test]
    async fn a_key_is_sent_and_one_that_is_missing_costs_no_call() {
        let server = Embeddings::start();
        let config =
            EmbeddingConfig { key_env: Some("KEY".into()), ..embedder(server.base_url()).config.clone() };
        assert!(!format!("{:?}", Embedder::new(&config, |_| Some("secret".into()))).contains("secret"));
        let error = Embedder::new(&config, |_| None).embed(&["x"], SOON).await.unwrap_err();
        assert!(error.message.contains("KEY") && error.hint.unwrap().contains(".env"));
        Embedder::new(&config, |_| Some("secret".into())).embed(&["x"], SOON).await.unwrap();
        let asked = server.end();
        assert_eq!((asked.len(), asked[0].headers["authorization"].to_str().unwrap()), (1, "Bearer secret"));
    }

    #[tokio::test]
    async fn a_text_that_is_refused_costs_only_its_own_vector() {
        let server = Embeddings::start();
        server.refuse("poison");
        let embedder = embedder(server.base_url());
        let vectors = embedder.embed_each(&["a", "b", "poison", "c", "d"], SOON).await.unwrap();
        let has: Vec<bool> = vectors.iter().map(Option::is_some).collect();
        assert_eq!(has, [true, true, false, true, true]);
        let error = embedder.embed_each(&["poison", "more poison"], SOON).await.unwrap_err();
        assert!(error.message.contains("refused it with 400"), "{error}");
        let rests = embedder.embed(&["a"], SOON).await.unwrap_err();
        assert!(rests.message.contains("left alone for 1 s more"), "{rests}");
    }

    #[tokio::test]
    async fn a_service_that_is_away_is_left_alone_for_longer_and_longer() {
        let server = Embeddings::start();
        let embedder = embedder(server.base_url());
        server.fail(Some(503));
        let error = embedder.embed(&["a"], SOON).await.unwrap_err();
        assert!(error.kind == Kind::Unavailable && error.message.contains("503: told to fail"), "{error}");
        server.fail(None);
        let error = embedder.embed(&["a"], SOON).await.unwrap_err();
        assert!(error.message.contains("left alone") && error.message.contains("503"), "{error}");
        assert_eq!(server.count(), 1, "it was not asked again");
        let mut lengths = vec![embedder.lock().clone().unwrap().length];
        for _ in 0..12 {
            embedder.take_rest("x");
            lengths.push(embedder.lock().clone().unwrap().length);
        }
        assert!(lengths.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(REST_MAX)), "{lengths:?}");
        embedder.lock().as_mut().unwrap().until = Instant::now();
        embedder.embed(&["a"], SOON).await.unwrap();
        assert!(embedder.lock().is_none(), "it is well again");
    }

    #[tokio::test]
    async fn silence_is_not_waited_for() {
        let server = Embeddings::start();
        server.fall_silent();
        let asked = embedder(server.base_url()).embed(&["a"], Duration::from_millis(50)).await;
        assert!(asked.unwrap_err().message.contains("did not answer within 0.1 s"));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_refused() {
        let check = |body: Value, count: usize, expected: Option<&str>| match (
            read(body.to_string().as_bytes(), count),
            expected,
        ) {
            (Ok(vectors), None) => assert_eq!(vectors.len(), count),
            (Err(error), Some(why)) => assert!(error.message.contains(why), "{error}"),
            (answer, _) => panic!("{body}: {answer:?}"),
        };
        let one = |index: usize, numbers: &[f32]| json!({ "index": index, "embedding": numbers });
        check(json!({ "data": [one(1, &[1.0, 2.0]), one(0, &[3.0, 4.0])] }), 2, None);
        check(json!({ "data": [{ "embedding": [1.0] }] }), 1, None);
        check(json!({ "data": [one(0, &[1.0])] }), 2, Some("1 vectors for 2 texts"));
        check(json!({ "data": [one(0, &[1.0]), one(0, &[2.0])] }), 2, Some("says that it is number"));
        check(json!({ "data": [one(0, &[1.0]), one(9, &[2.0])] }), 2, Some("says that it is number"));
        check(json!({ "data": [one(0, &[1.0]), one(1, &[2.0, 3.0])] }), 2, Some("has 2 numbers"));
        check(json!({ "data": [one(0, &[])] }), 1, Some("no direction"));
        check(json!({ "data": [one(0, &[0.0, 0.0])] }), 1, Some("no direction"));
        check(json!({ "data": [{ "embedding": [1e39] }] }), 1, Some("cannot be used"));
        check(json!({ "embeddings": [[1.0]] }), 1, Some("cannot be used"));
        let read =
            read(b"{\"data\":[{\"index\":1,\"embedding\":[1]},{\"index\":0,\"embedding\":[2]}]}", 2).unwrap();
        assert_eq!(read, [[2.0], [1.0]]);
    }
}
