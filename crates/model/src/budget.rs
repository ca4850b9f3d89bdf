//! How much may be used, and whether it is.
//!
//! Here live a budget, what is counted against it, and the words for one that is reached. Where the sums come from and what
//! follows is the business of `service`. Reaching a budget is an ordinary state, not an error.

use crate::diagnostic::quote;
use crate::error::{Error, Result};
use crate::usage::{MICROS, Tokens, Used};

/// The largest budget, in dollars.
pub const BUDGET_MAX: f64 = 1_000_000_000.0;

/// How much may be used; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Millionths of a US dollar.
    pub usd_micros: Option<i64>,
    /// Tokens.
    pub tokens: Option<i64>,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Millionths of a US dollar, as far as prices are known.
    pub usd_micros: i64,
    /// Tokens that count; see [`Tokens::counted`].
    pub tokens: i64,
}

impl Budget {
    /// Returns whether there is any limit.
    pub fn is_set(self) -> bool {
        self.usd_micros.is_some() || self.tokens.is_some()
    }

    /// Says how `spent` reaches the budget; `None` while it does not.
    ///
    /// ```
    /// use quorate_model::budget::{Budget, Spent};
    /// let budget = Budget { usd_micros: Some(20_000_000), tokens: None };
    /// assert_eq!(budget.reached(Spent { usd_micros: 19_999_999, tokens: 9 }), None);
    /// let over = Spent { usd_micros: 20_020_000, tokens: 9 };
    /// assert_eq!(budget.reached(over).as_deref(), Some("$20.02 of $20.00"));
    /// ```
    pub fn reached(self, spent: Spent) -> Option<String> {
        let usd = self.usd_micros.filter(|most| spent.usd_micros >= *most);
        let tokens = self.tokens.filter(|most| spent.tokens >= *most);
        match (usd, tokens) {
            (Some(most), _) => Some(format!("{} of {}", dollars(spent.usd_micros), dollars(most))),
            (None, Some(most)) => Some(format!("{} of {} tokens", grouped(spent.tokens), grouped(most))),
            (None, None) => None,
        }
    }

    /// Returns the budget in words: `$20.00 and 5,000,000 tokens`; `None` if there is no limit.
    pub fn words(self) -> Option<String> {
        let usd = self.usd_micros.map(dollars);
        let tokens = self.tokens.map(|tokens| format!("{} tokens", grouped(tokens)));
        let parts: Vec<String> = usd.into_iter().chain(tokens).collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }
}

impl Spent {
    /// Adds up what was used of several models.
    pub fn of<'a>(used: impl IntoIterator<Item = &'a Used>) -> Spent {
        used.into_iter().fold(Spent::default(), |sum, used| sum.plus(used.usd_micros, used.tokens))
    }

    /// Adds up what was used by several.
    pub fn sum(all: impl IntoIterator<Item = Spent>) -> Spent {
        all.into_iter().fold(Spent::default(), |sum, one| Spent {
            usd_micros: sum.usd_micros.saturating_add(one.usd_micros),
            tokens: sum.tokens.saturating_add(one.tokens),
        })
    }

    /// Returns whether anything was used.
    pub fn is_any(self) -> bool {
        self != Spent::default()
    }

    fn plus(self, usd_micros: Option<i64>, tokens: Tokens) -> Spent {
        Spent {
            usd_micros: self.usd_micros.saturating_add(usd_micros.unwrap_or(0)),
            tokens: self.tokens.saturating_add(tokens.counted()),
        }
    }

    /// Returns what is more than `other`, never below nothing.
    #[must_use]
    pub fn since(self, other: Spent) -> Spent {
        Spent {
            usd_micros: self.usd_micros.saturating_sub(other.usd_micros).max(0),
            tokens: self.tokens.saturating_sub(other.tokens).max(0),
        }
    }
}

/// Returns dollars in millionths, rounded.
///
/// # Errors
/// `Invalid` below 0 and above [`BUDGET_MAX`], and for what is no number.
pub fn micros(usd: f64) -> Result<i64> {
    if !(0.0..=BUDGET_MAX).contains(&usd) {
        return Err(Error::invalid(format!("{usd} is not from 0 to {BUDGET_MAX:.0} dollars")));
    }
    Ok((usd * MICROS).round() as i64)
}

/// Reads a number of dollars above nothing, in millionths: `0.5`, `$20`.
///
/// # Errors
/// `Invalid`, with an example.
pub fn parse_usd(text: &str) -> Result<i64> {
    let number = text.strip_prefix('$').unwrap_or(text).parse::<f64>().ok();
    let usd_micros = number.and_then(|usd| micros(usd).ok()).filter(|usd_micros| *usd_micros > 0);
    usd_micros.ok_or_else(|| {
        Error::invalid(format!("{} is no number of dollars above 0", quote(text)))
            .hint("write dollars, as in `0.5` or `20`")
    })
}

/// Writes millionths of a dollar as people do: `$0.43`, and `$0.0004` for what would look like nothing.
///
/// ```
/// use quorate_model::budget::dollars;
/// assert_eq!(dollars(1_234_567_890), "$1,234.57");
/// assert_eq!(dollars(430), "$0.0004");
/// assert_eq!(dollars(0), "$0.00");
/// ```
pub fn dollars(usd_micros: i64) -> String {
    if (1..10_000).contains(&usd_micros) {
        return format!("${:.4}", usd_micros as f64 / MICROS);
    }
    let cents = (i128::from(usd_micros) + 5_000).div_euclid(10_000);
    let whole = i64::try_from(cents / 100).unwrap_or(i64::MAX);
    format!("${}.{:02}", grouped(whole), (cents % 100).abs())
}

/// Writes a number with a comma after every third digit: `5,000,000`.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Budget = Budget { usd_micros: Some(1_000_000), tokens: Some(5_000_000) };

    #[test]
    fn a_budget_is_reached_at_its_very_number() {
        let check = |usd_micros, tokens, expected: Option<&str>| {
            assert_eq!(BOTH.reached(Spent { usd_micros, tokens }).as_deref(), expected);
        };
        check(999_999, 4_999_999, None);
        check(1_000_000, 0, Some("$1.00 of $1.00"));
        check(0, 5_000_000, Some("5,000,000 of 5,000,000 tokens"));
        check(2_000_000, 6_000_000, Some("$2.00 of $1.00"));
    }

    #[test]
    fn no_limit_is_never_reached_and_a_limit_of_nothing_always_is() {
        let most = Spent { usd_micros: i64::MAX, tokens: i64::MAX };
        assert_eq!(Budget::default().reached(most), None);
        assert!(!Budget::default().is_set() && Budget::default().words().is_none());
        let nothing = Budget { usd_micros: Some(0), tokens: None };
        assert_eq!(nothing.reached(Spent::default()).as_deref(), Some("$0.00 of $0.00"));
        assert_eq!(BOTH.words().as_deref(), Some("$1.00 and 5,000,000 tokens"));
    }

    #[test]
    fn dollars_are_read_up_to_a_thousand_millions() {
        for (text, expected) in [("0.5", 500_000), ("$20", 20_000_000), ("1000000000", 1_000_000_000_000_000)]
        {
            assert_eq!(parse_usd(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "0.0000001", "-1", "1000000001", "nan", "inf", "a"] {
            assert!(parse_usd(text).is_err(), "{text}");
        }
        assert_eq!(micros(0.0), Ok(0));
        assert!(micros(f64::NAN).is_err());
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(dollars(9_999), "$0.0100");
        assert_eq!(dollars(10_000), "$0.01");
        assert_eq!(dollars(i64::MAX), "$9,223,372,036,854.78");
    }

    #[test]
    fn what_is_used_is_added_up_and_an_unknown_price_adds_nothing() {
        let tokens = Tokens { input: 3, output: 4, cache_read: 100, cache_write: 0 };
        let priced = Used { tokens, usd_micros: Some(9), ..Used::default() };
        let unpriced = Used { tokens, ..Used::default() };
        let sum = Spent::of([&priced, &unpriced]);
        assert_eq!(sum, Spent { usd_micros: 9, tokens: 14 });
        assert_eq!(sum.since(Spent { usd_micros: 10, tokens: 4 }), Spent { usd_micros: 0, tokens: 10 });
    }
}
