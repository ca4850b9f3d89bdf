//! What an agent has used of each model so far.
//!
//! Here lives the count. The parts of a request's input do not overlap here: what came from a cache, what was written
//! to one, and the rest, whatever a provider calls them.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Models that are counted apart; those beyond are counted as one.
const MODELS_MAX: usize = 32;
/// The name of those beyond.
const OTHERS: &str = "others";

/// What was used of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// The model's name.
    pub model: String,
    /// Input that was read anew.
    pub input_tokens: i64,
    /// Output, with what was thought.
    pub output_tokens: i64,
    /// Input that came from a cache.
    pub cache_read_tokens: i64,
    /// Input that was written to a cache.
    pub cache_write_tokens: i64,
    /// What it cost, where the agent knows.
    pub usd: Option<f64>,
    /// How much the agent's context holds now.
    pub context_tokens: Option<i64>,
    /// How much it can hold.
    pub context_window: Option<i64>,
}

impl Usage {
    pub(crate) fn add(&mut self, more: &Usage) {
        let counts = [
            (&mut self.input_tokens, more.input_tokens),
            (&mut self.output_tokens, more.output_tokens),
            (&mut self.cache_read_tokens, more.cache_read_tokens),
            (&mut self.cache_write_tokens, more.cache_write_tokens),
        ];
        for (count, more) in counts {
            *count = count.saturating_add(more);
        }
        self.usd = more.usd.or(self.usd);
        self.context_tokens = more.context_tokens.or(self.context_tokens);
        self.context_window = more.context_window.or(self.context_window);
    }

    /// Returns how much input there was, from wherever, and what came of it: what the next request begins with.
    pub(crate) fn context(&self) -> i64 {
        [self.output_tokens, self.cache_read_tokens, self.cache_write_tokens]
            .iter()
            .fold(self.input_tokens, |sum, more| sum.saturating_add(*more))
    }

    pub(crate) fn line(&self) -> String {
        let mut line = json!({
            "quorate": "usage",
            "model": self.model,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
        });
        if let Some(usd) = self.usd {
            line["usd"] = usd.into();
        }
        if let Some(tokens) = self.context_tokens {
            line["context_tokens"] = tokens.into();
        }
        if let Some(window) = self.context_window {
            line["context_window"] = window.into();
        }
        line.to_string()
    }
}

/// Returns a count in a stream; what is no number, or below zero, is none.
pub(crate) fn count(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or(0).max(0)
}

/// The sums of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    models: BTreeMap<String, Usage>,
}

impl Meter {
    /// Adds what one request used; answers with the model's sum.
    pub(crate) fn add(&mut self, more: &Usage) -> Usage {
        let sum = self.sum(&more.model);
        sum.add(more);
        sum.clone()
    }

    /// Sets a model's sum, as the agent itself tells it in the end; keeps what that does not say.
    pub(crate) fn set(&mut self, told: Usage) -> Usage {
        let sum = self.sum(&told.model);
        *sum = Usage {
            usd: told.usd.or(sum.usd),
            context_tokens: told.context_tokens.or(sum.context_tokens),
            context_window: told.context_window.or(sum.context_window),
            ..told
        };
        sum.clone()
    }

    /// Sets the sums of all models, as the agent itself tells them in the end; answers with them. What it does not name there
    /// it has counted under another name. Nothing told changes nothing.
    pub(crate) fn settle(&mut self, told: Vec<Usage>) -> Vec<Usage> {
        let mut sums = Vec::new();
        let is_named = |model: &str| told.iter().any(|usage| usage.model == model);
        if !told.is_empty() {
            for (model, sum) in self.models.iter_mut().filter(|(model, _)| !is_named(model)) {
                let Usage { context_tokens, context_window, .. } = *sum;
                *sum = Usage { model: model.clone(), context_tokens, context_window, ..Usage::default() };
                sums.push(sum.clone());
            }
        }
        sums.extend(told.into_iter().map(|usage| self.set(usage)));
        sums
    }

    /// Returns all tokens of all models.
    pub(crate) fn tokens(&self) -> i64 {
        self.models.values().fold(0, |sum, usage| sum.saturating_add(usage.context()))
    }

    fn sum(&mut self, model: &str) -> &mut Usage {
        let is_known = self.models.contains_key(model) || self.models.len() < MODELS_MAX;
        let name = if is_known { model } else { OTHERS };
        self.models
            .entry(name.to_owned())
            .or_insert_with(|| Usage { model: name.to_owned(), ..Usage::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(model: &str, input_tokens: i64) -> Usage {
        Usage { model: model.into(), input_tokens, ..Usage::default() }
    }

    #[test]
    fn requests_add_up_by_model() {
        let mut meter = Meter::default();
        meter.add(&used("a", 1));
        meter.add(&used("b", 10));
        assert_eq!(meter.add(&used("a", 2)).input_tokens, 3);
        assert_eq!(meter.tokens(), 13);
    }

    #[test]
    fn what_the_agent_tells_in_the_end_counts() {
        let mut meter = Meter::default();
        meter.add(&Usage { context_tokens: Some(9), ..used("a", 1) });
        let told = meter.set(Usage { usd: Some(0.5), ..used("a", 4) });
        assert_eq!((told.input_tokens, told.usd, told.context_tokens), (4, Some(0.5), Some(9)));
    }

    #[test]
    fn models_beyond_the_limit_are_counted_as_one() {
        let mut meter = Meter::default();
        for n in 0..MODELS_MAX {
            assert_eq!(meter.add(&used(&n.to_string(), 1)).model, n.to_string());
        }
        assert_eq!(meter.add(&used("one more", 1)).model, OTHERS);
        assert_eq!(meter.add(&used("and more", 1)).input_tokens, 2);
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let line = used("m", 3).line();
        assert_eq!(
            line,
            r#"{"cache_read_tokens":0,"cache_write_tokens":0,"input_tokens":3,"model":"m","output_tokens":0,"quorate":"usage"}"#
        );
        let all = Usage { usd: Some(1.5), context_tokens: Some(2), context_window: Some(3), ..used("m", 3) };
        let value: Value = serde_json::from_str(&all.line()).unwrap();
        assert_eq!(
            (&value["usd"], &value["context_tokens"], &value["context_window"]),
            (&json!(1.5), &json!(2), &json!(3))
        );
    }

    #[test]
    fn a_count_is_a_number_that_is_not_below_zero() {
        let value = json!({ "a": 3, "b": -1, "c": "7" });
        assert_eq!(["a", "b", "c", "d"].map(|key| count(&value, key)), [3, 0, 0, 0]);
    }
}
