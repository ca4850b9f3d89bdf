//! Tokens and dollars in words.
//!
//! Here lives how what was used is shown to people. What it was is in `service::usage`.

use quorate_model::budget::{Budget, Spent, dollars, grouped};
use quorate_service::usage::{Entry, Sum};

/// Writes what was used: `$0.43, 12,000 tokens`; nothing for nothing.
pub(crate) fn spent(spent: Spent) -> String {
    if !spent.is_any() {
        return String::new();
    }
    format!("{}, {} tokens", dollars(spent.usd_micros), grouped(spent.tokens))
}

/// The same for a narrow column: dollars, or tokens where no price is known.
pub(crate) fn short(spent: Spent) -> String {
    match (spent.usd_micros, spent.tokens) {
        (0, 0) => String::new(),
        (0, tokens) => format!("{} tok", grouped(tokens)),
        (usd, _) => dollars(usd),
    }
}

/// Writes what was used, of how much: `$0.43, 12,000 tokens of $1.00`.
pub(crate) fn of_budget(used: Spent, budget: Budget) -> String {
    match (spent(used), budget.words()) {
        (used, None) => used,
        (used, Some(most)) if used.is_empty() => format!("nothing of {most}"),
        (used, Some(most)) => format!("{used} of {most}"),
    }
}

/// Writes a line for each model: its tokens by their kind, and what they cost.
pub(crate) fn by_model(entries: &[Entry]) -> Vec<String> {
    let sums = Sum::by(entries, |entry| entry.used.model.as_str());
    sums.into_iter().map(|(model, sum)| format!("{model}: {}", sum_words(&sum))).collect()
}

fn sum_words(sum: &Sum) -> String {
    let tokens = sum.tokens;
    let kinds = [
        (tokens.input, "in"),
        (tokens.output, "out"),
        (tokens.cache_read, "from cache"),
        (tokens.cache_write, "to cache"),
    ];
    let mut parts: Vec<String> = kinds
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{} {kind}", grouped(count)))
        .collect();
    parts.push(sum.usd_micros.map_or_else(|| "no price is known".to_owned(), dollars));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_told_with_its_budget() {
        let budget = Budget { usd_micros: Some(1_000_000), tokens: None };
        let used = Spent { usd_micros: 430_000, tokens: 12_000 };
        assert_eq!(of_budget(used, budget), "$0.43, 12,000 tokens of $1.00");
        assert_eq!(of_budget(used, Budget::default()), "$0.43, 12,000 tokens");
        assert_eq!(of_budget(Spent::default(), budget), "nothing of $1.00");
        assert_eq!(of_budget(Spent::default(), Budget::default()), "");
    }

    #[test]
    fn a_narrow_column_shows_dollars_or_else_tokens() {
        assert_eq!(short(Spent { usd_micros: 430_000, tokens: 12_000 }), "$0.43");
        assert_eq!(short(Spent { usd_micros: 0, tokens: 12_000 }), "12,000 tok");
        assert_eq!(short(Spent::default()), "");
    }
}
