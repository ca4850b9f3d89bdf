//! `[memory.embedding]`: the model by whose vectors memories are found by their meaning.
//!
//! Without the table nothing is asked and nothing is stored. The key is never here, only the name of its variable.

use super::api::check_base_url;
use super::{check_variable, read_word};
use crate::document::Source;
use crate::table::Table;
use crate::usage::MODEL_NAME_MAX;

/// A memory is found by its meaning from this likeness on, in per cent, unless said otherwise.
pub const LIKENESS: i64 = 30;

/// The most numbers that a vector has.
pub const DIMENSIONS_MAX: usize = 8_192;

/// `[memory.embedding]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingConfig {
    /// Where it is asked: the address before `/embeddings`.
    pub base_url: String,
    /// The model's name.
    pub model: String,
    /// The variable that holds the key; a server of one's own may want none.
    pub key_env: Option<String>,
    /// From which likeness on a memory is found by its meaning, in per cent: models differ in how alike they find
    /// things.
    pub likeness: i64,
}

pub(super) fn read_embedding(source: &Source<'_>, mut table: Table<'_, '_>) -> Option<EmbeddingConfig> {
    let is_whole = ["base_url", "model"].iter().all(|key| table.find(key).is_some());
    let model_span = table.find("model").map(|entry| entry.value.span.clone());
    let base_url = table.parsed("base_url", check_base_url);
    let model = read_word(source, &mut table, "model");
    let key_env = table.parsed("key_env", |name| check_variable(name).map(|()| name.to_owned()));
    let likeness = table.integer("likeness", 0..=100).map_or(LIKENESS, |percent| percent.value);
    if !is_whole {
        source.refuse_with(table.span(), "`[memory.embedding]` needs `base_url` and `model`", || {
            Some(
                "as in `base_url = \"http://127.0.0.1:11434/v1\"` and `model = \"nomic-embed-text\"`"
                    .to_owned(),
            )
        });
    }
    table.finish();
    let model = model?;
    if model.len() > MODEL_NAME_MAX {
        let what = format!("the name of a model has 1 to {MODEL_NAME_MAX} bytes");
        source.refuse(model_span.unwrap_or_default(), what);
    }
    Some(EmbeddingConfig { base_url: base_url?, model, key_env, likeness })
}
