//! What an attempt has used of a model, and until when an agent cannot go on.
//!
//! Here live the two values that travel from a child's output to the ledger, with their limits. What a token costs is in
//! [`crate::price`], what is enough in [`crate::budget`].
//!
//! Tokens are counted apart, each once: `input` are those that were read anew, not those that came from a cache.

use crate::said::{number, printable, text};
use serde_json::{Map, Value};

/// The most tokens of one kind that an attempt may say it has used.
pub const TOKENS_MAX: i64 = 1_000_000_000_000;
/// The most dollars that an attempt may say it has cost.
pub const USD_MAX: f64 = 1_000_000.0;
/// The longest name of a model, in bytes.
pub const MODEL_NAME_MAX: usize = 128;
/// Models that one attempt may use.
pub const MODELS_MAX: usize = 16;

/// Millionths of a dollar in a dollar: what is stored, so that sums are exact.
pub const MICROS: f64 = 1_000_000.0;

/// Tokens of one model by their kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read anew.
    pub input: i64,
    /// Written by the model.
    pub output: i64,
    /// Read from the provider's cache.
    pub cache_read: i64,
    /// Written into the provider's cache.
    pub cache_write: i64,
}

impl Tokens {
    /// Returns how many count against a budget: all but those from a cache, which are the same ones over and over.
    ///
    /// ```
    /// use quorate_model::usage::Tokens;
    /// assert_eq!(Tokens { input: 1, output: 2, cache_read: 1000, cache_write: 4 }.counted(), 7);
    /// ```
    pub fn counted(self) -> i64 {
        self.input.saturating_add(self.output).saturating_add(self.cache_write)
    }
}

/// What an attempt has used of one model so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// The model's name, as its provider calls it.
    pub model: String,
    /// How many tokens.
    pub tokens: Tokens,
    /// What it has cost, in millionths of a dollar, if that is known.
    pub usd_micros: Option<i64>,
    /// How many tokens are in the agent's context now …
    pub context_tokens: Option<i64>,
    /// … of how many that fit.
    pub context_window: Option<i64>,
}

impl Used {
    /// Reads it as programs say it: `{"model": "…", "input_tokens": 10, …}`. What is not said is nothing.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(fields: &Map<String, Value>) -> Result<Used, String> {
        let model = text(fields, "model")?.filter(|model| !model.trim().is_empty());
        let model = printable(model.ok_or("a usage without `model`")?.trim());
        if model.len() > MODEL_NAME_MAX {
            return Err(format!("the name of the model has more than {MODEL_NAME_MAX} bytes"));
        }
        let count = |key| number(fields, key, TOKENS_MAX);
        let tokens = Tokens {
            input: count("input_tokens")?.unwrap_or(0),
            output: count("output_tokens")?.unwrap_or(0),
            cache_read: count("cache_read_tokens")?.unwrap_or(0),
            cache_write: count("cache_write_tokens")?.unwrap_or(0),
        };
        let (context_tokens, context_window) = (count("context_tokens")?, count("context_window")?);
        Ok(Used { model, tokens, usd_micros: usd(fields)?, context_tokens, context_window })
    }

    /// Returns it with nothing less than what is counted already: tokens of each kind, and dollars. How full the context is may
    /// fall.
    ///
    /// ```
    /// use quorate_model::usage::{Tokens, Used};
    /// let counted = Used { tokens: Tokens { input: 5, ..Tokens::default() }, usd_micros: Some(7), ..Used::default() };
    /// let said = Used { tokens: Tokens { output: 1, ..Tokens::default() }, usd_micros: None, ..Used::default() };
    /// let both = said.at_least(&counted);
    /// assert_eq!((both.tokens.input, both.tokens.output, both.usd_micros), (5, 1, Some(7)));
    /// ```
    #[must_use]
    pub fn at_least(self, counted: &Used) -> Used {
        let (said, known) = (self.tokens, counted.tokens);
        Used {
            tokens: Tokens {
                input: said.input.max(known.input),
                output: said.output.max(known.output),
                cache_read: said.cache_read.max(known.cache_read),
                cache_write: said.cache_write.max(known.cache_write),
            },
            usd_micros: self.usd_micros.max(counted.usd_micros),
            ..self
        }
    }
}

fn usd(fields: &Map<String, Value>) -> Result<Option<i64>, String> {
    match fields.get("usd") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(n)) => match n.as_f64().filter(|usd| (0.0..=USD_MAX).contains(usd)) {
            Some(usd) => Ok(Some((usd * MICROS).round() as i64)),
            None => Err(format!("`usd` is not from 0 to {USD_MAX}")),
        },
        Some(_) => Err("`usd` is not a number".to_owned()),
    }
}

/// That an agent cannot go on before some time: a rate limit, a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Why.
    pub reason: String,
    /// Until then, in milliseconds since 1970 (UTC) …
    pub until_ms: Option<i64>,
    /// … or for so long from now.
    pub after_ms: Option<i64>,
}

/// How often in a row a task may be parked by its agent's word; the next time it has failed.
pub const PARKS_MAX: i64 = 20;
/// The shortest and the longest time for which an agent's word parks a task.
pub const PARK_LEAST_MS: i64 = 1_000;
/// The longest.
pub const PARK_MOST_MS: i64 = 31 * 24 * 3_600_000;
/// Without a stated time it is a minute, which doubles each time …
const PARK_FIRST_MS: i64 = 60_000;
/// … up to an hour.
const PARK_UNKNOWN_MOST_MS: i64 = 3_600_000;

impl Parked {
    /// Returns for how long a task is parked that was parked `before` times in a row; `None` when that is enough.
    ///
    /// ```
    /// use quorate_model::usage::Parked;
    /// let limit = Parked { reason: "rate limit".into(), until_ms: Some(90_000), after_ms: None };
    /// assert_eq!(limit.for_ms(60_000, 0), Some(30_000));
    /// ```
    pub fn for_ms(&self, now_ms: i64, before: i64) -> Option<i64> {
        if before >= PARKS_MAX {
            return None;
        }
        let doublings = u32::try_from(before).unwrap_or(0).min(20);
        let unknown = || PARK_FIRST_MS.saturating_mul(1 << doublings).min(PARK_UNKNOWN_MOST_MS);
        let stated = self.until_ms.map(|until| until.saturating_sub(now_ms)).or(self.after_ms);
        Some(stated.unwrap_or_else(unknown).clamp(PARK_LEAST_MS, PARK_MOST_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(until_ms: Option<i64>, after_ms: Option<i64>) -> Parked {
        Parked { reason: "rate limit".into(), until_ms, after_ms }
    }

    #[test]
    fn a_stated_time_is_kept_within_its_limits() {
        let check =
            |until, after, expected| assert_eq!(parked(until, after).for_ms(1_000, 0), Some(expected));
        check(Some(6_000), None, 5_000);
        check(Some(6_000), Some(77_000), 5_000);
        check(None, Some(77_000), 77_000);
        check(Some(0), None, PARK_LEAST_MS);
        check(Some(i64::MIN), None, PARK_LEAST_MS);
        check(Some(i64::MAX), None, PARK_MOST_MS);
        check(None, Some(PARK_MOST_MS + 1), PARK_MOST_MS);
    }

    #[test]
    fn without_a_stated_time_each_pause_is_longer_up_to_an_hour() {
        let pauses: Vec<_> = (0..8).filter_map(|before| parked(None, None).for_ms(0, before)).collect();
        assert_eq!(pauses[..3], [60_000, 120_000, 240_000]);
        assert_eq!(pauses[6..], [3_600_000, 3_600_000]);
    }

    #[test]
    fn the_twenty_first_time_in_a_row_is_one_too_many() {
        assert!(parked(None, Some(5_000)).for_ms(0, PARKS_MAX - 1).is_some());
        assert_eq!(parked(None, Some(5_000)).for_ms(0, PARKS_MAX), None);
    }

    #[test]
    fn counted_tokens_never_overflow() {
        let most = Tokens { input: i64::MAX, output: i64::MAX, cache_read: 0, cache_write: 1 };
        assert_eq!(most.counted(), i64::MAX);
    }
}
