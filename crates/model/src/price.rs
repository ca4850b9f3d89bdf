//! What tokens cost.
//!
//! Here live the prices that the program knows, how a model's name finds its price, and the sum. What an agent itself says
//! that it has cost comes first, then `[prices."MODEL"]` of `quorate.toml`, then this table. Prices change without notice: a sum is an
//! estimate, and a model that is not here has no price rather than a wrong one.

use crate::usage::{Tokens, Used};
use std::collections::BTreeMap;

/// When the table was last compared with the providers' price lists.
pub const AS_OF: &str = "2026-07-24";

/// Dollars for a million tokens, in millionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Read anew.
    pub input: i64,
    /// Written by the model.
    pub output: i64,
    /// Read from the provider's cache.
    pub cache_read: i64,
    /// Written into the provider's cache.
    pub cache_write: i64,
}

impl Price {
    /// Returns what so many tokens cost, in millionths of a dollar, rounded up.
    ///
    /// ```
    /// use quorate_model::price::Price;
    /// use quorate_model::usage::Tokens;
    /// let price = Price { input: 3_000_000, output: 15_000_000, cache_read: 300_000, cache_write: 3_750_000 };
    /// let tokens = Tokens { input: 10_000, output: 2_000, cache_read: 100_000, cache_write: 0 };
    /// assert_eq!(price.of(tokens), 90_000);
    /// ```
    pub fn of(self, tokens: Tokens) -> i64 {
        let pairs = [
            (self.input, tokens.input),
            (self.output, tokens.output),
            (self.cache_read, tokens.cache_read),
            (self.cache_write, tokens.cache_write),
        ];
        let sum: i128 = pairs.iter().map(|(price, count)| i128::from(*price) * i128::from(*count)).sum();
        i64::try_from((sum + 999_999).div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }
}

const fn price(input: i64, output: i64, cache_read: i64, cache_write: i64) -> Price {
    // In thousandths of a dollar in the table below, where nothing is finer.
    Price {
        input: input * 1_000,
        output: output * 1_000,
        cache_read: cache_read * 1_000,
        cache_write: cache_write * 1_000,
    }
}

/// Input, output, read from and written to the cache, in thousandths of a dollar for a million tokens.
///
/// Sources: the price lists of Anthropic, OpenAI and Google for their own APIs, standard tier, as of [`AS_OF`]. A provider
/// that takes nothing extra for writing to its cache counts such tokens as input. Surcharges for long contexts, for
/// regions and for a cache of an hour are left out, as are rebates for batches.
const KNOWN: [(&str, Price); 36] = [
    ("claude-haiku-4-5", price(1_000, 5_000, 100, 1_250)),
    ("claude-opus-4-1", price(15_000, 75_000, 1_500, 18_750)),
    ("claude-opus-4-5", price(5_000, 25_000, 500, 6_250)),
    ("claude-opus-4-6", price(5_000, 25_000, 500, 6_250)),
    ("claude-opus-4-7", price(5_000, 25_000, 500, 6_250)),
    ("claude-opus-4-8", price(5_000, 25_000, 500, 6_250)),
    ("claude-opus-5", price(5_000, 25_000, 500, 6_250)),
    ("claude-sonnet-4", price(3_000, 15_000, 300, 3_750)),
    ("claude-sonnet-4-5", price(3_000, 15_000, 300, 3_750)),
    ("claude-sonnet-4-6", price(3_000, 15_000, 300, 3_750)),
    ("claude-sonnet-5", price(2_000, 10_000, 200, 2_500)),
    ("gemini-2.5-flash", price(300, 2_500, 30, 300)),
    ("gemini-2.5-flash-lite", price(100, 400, 10, 100)),
    ("gemini-2.5-pro", price(1_250, 10_000, 125, 1_250)),
    ("gemini-3-flash", price(500, 3_000, 50, 500)),
    ("gemini-3-pro", price(2_000, 12_000, 200, 2_000)),
    ("gemini-3.1-pro", price(2_000, 12_000, 200, 2_000)),
    ("gemini-3.5-flash", price(1_500, 9_000, 150, 1_500)),
    ("gpt-4.1", price(2_000, 8_000, 500, 2_000)),
    ("gpt-4.1-mini", price(400, 1_600, 100, 400)),
    ("gpt-4o", price(2_500, 10_000, 1_250, 2_500)),
    ("gpt-4o-mini", price(150, 600, 75, 150)),
    ("gpt-5", price(1_250, 10_000, 125, 1_250)),
    ("gpt-5-codex", price(1_250, 10_000, 125, 1_250)),
    ("gpt-5-mini", price(250, 2_000, 25, 250)),
    ("gpt-5-nano", price(50, 400, 5, 50)),
    ("gpt-5.1", price(1_250, 10_000, 125, 1_250)),
    ("gpt-5.1-codex", price(1_250, 10_000, 125, 1_250)),
    ("gpt-5.1-codex-mini", price(250, 2_000, 25, 250)),
    ("gpt-5.2", price(1_750, 14_000, 175, 1_750)),
    ("gpt-5.2-codex", price(1_750, 14_000, 175, 1_750)),
    ("gpt-5.4", price(2_500, 15_000, 250, 2_500)),
    ("gpt-5.4-mini", price(750, 4_500, 75, 750)),
    ("gpt-5.5", price(5_000, 30_000, 500, 5_000)),
    ("o3", price(2_000, 8_000, 500, 2_000)),
    ("o4-mini", price(1_100, 4_400, 275, 1_100)),
];

/// Prices that `quorate.toml` gives, by the model's name.
pub type Prices = BTreeMap<String, Price>;

/// Finds the price of a model, given what the configuration says.
///
/// A name may be longer than the known one by a date or a mark of a version: `claude-sonnet-4-5-20250929` costs what
/// `claude-sonnet-4-5` does. Any other ending makes another model: `gpt-5-mini` is no `gpt-5`.
pub fn find(own: &Prices, model: &str) -> Option<Price> {
    if let Some(price) = own.get(model) {
        return Some(*price);
    }
    let model = model.rsplit_once('/').map_or(model, |(_, name)| name);
    let plain = without_version(model);
    let known = |name: &str| KNOWN.iter().find(|(known, _)| *known == name).map(|(_, price)| *price);
    own.get(model).or_else(|| own.get(plain)).copied().or_else(|| known(model)).or_else(|| known(plain))
}

/// Adds the price where who used it does not know it.
pub fn priced(own: &Prices, used: Used) -> Used {
    let price = || find(own, &used.model).map(|price| price.of(used.tokens));
    Used { usd_micros: used.usd_micros.or_else(price), ..used }
}

/// Cuts off what marks a version: a date, `-latest`, `-preview`, and what stands behind `@`, `:` or `[`.
fn without_version(model: &str) -> &str {
    let model = model.split(['@', ':', '[']).next().unwrap_or(model);
    let model = model.strip_suffix("-latest").unwrap_or(model);
    let name = undated(model);
    name.strip_suffix("-preview").unwrap_or(name)
}

/// Cuts off `-20250929` or `-2025-08-07`.
fn undated(model: &str) -> &str {
    let is_date = |part: &str| {
        part.bytes().filter(u8::is_ascii_digit).count() == 8
            && part.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    };
    [9, 11]
        .into_iter()
        .filter_map(|length| model.split_at_checked(model.len().checked_sub(length)?))
        .find(|(_, end)| end.starts_with('-') && is_date(&end[1..]))
        .map_or(model, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_a_model_costs_what_the_model_does() {
        let check = |model: &str, input: Option<i64>| {
            assert_eq!(find(&Prices::new(), model).map(|price| price.input), input, "{model}");
        };
        check("claude-sonnet-4-5", Some(3_000_000));
        check("claude-sonnet-4-5-20250929", Some(3_000_000));
        check("claude-sonnet-4-20250514", Some(3_000_000));
        check("claude-opus-4-5-20251101", Some(5_000_000));
        check("claude-opus-4-6[1m]", Some(5_000_000));
        check("anthropic/claude-opus-4-5@20251101", Some(5_000_000));
        check("gpt-5-2025-08-07", Some(1_250_000));
        check("gpt-5-mini-2025-08-07", Some(250_000));
        check("gemini-3-pro-preview", Some(2_000_000));
        check("gpt-5-pro", None);
        check("gpt-5.9", None);
        check("claude-opus-4", None);
        check("llama3", None);
        check("20250929", None);
        check("", None);
        check("-2025-08-07", None);
        check("é-20250929", None);
    }

    #[test]
    fn a_configured_price_comes_first_and_counts_for_versions_too() {
        let own = Prices::from([
            ("gpt-5".to_owned(), price(7, 7, 7, 7)),
            ("local".to_owned(), price(0, 0, 0, 0)),
            ("vendor/llama-3".to_owned(), price(9, 9, 9, 9)),
        ]);
        assert_eq!(find(&own, "vendor/llama-3").map(|price| price.input), Some(9_000), "as doctor says it");
        assert_eq!(find(&own, "elsewhere/llama-3"), None);
        assert_eq!(find(&own, "gpt-5").map(|price| price.input), Some(7_000));
        assert_eq!(find(&own, "gpt-5-2025-08-07").map(|price| price.input), Some(7_000));
        assert_eq!(find(&own, "local").map(|price| price.output), Some(0));
    }

    #[test]
    fn names_in_the_table_stand_once_and_in_order() {
        assert!(KNOWN.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(KNOWN.iter().all(|(name, _)| without_version(name) == *name));
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        use crate::usage::TOKENS_MAX;
        let most =
            Tokens { input: TOKENS_MAX, output: TOKENS_MAX, cache_read: TOKENS_MAX, cache_write: TOKENS_MAX };
        let dear = Price { input: i64::MAX, output: i64::MAX, cache_read: i64::MAX, cache_write: i64::MAX };
        assert_eq!(dear.of(most), i64::MAX);
        assert_eq!(dear.of(Tokens::default()), 0);
        assert_eq!(price(0, 0, 0, 1).of(Tokens { cache_write: 1, ..Tokens::default() }), 1, "rounded up");
    }
}
