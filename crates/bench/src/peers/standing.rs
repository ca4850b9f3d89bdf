//! How everyone stands: medians of the rounds, as text and as JSON.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    /// Tasks worked off, in a second.
    Drain,
    /// Tasks added, in a second.
    Add,
    /// From the call to add until an idle worker began, in milliseconds.
    WakeP50,
    /// The same, the 99th percentile.
    WakeP99,
    /// All tasks of a run, in seconds.
    Wall,
}

impl Measure {
    /// Those of a queue.
    pub(super) const QUEUE: [Measure; 4] = [Measure::Drain, Measure::Add, Measure::WakeP50, Measure::WakeP99];
    /// Those of a run of a thousand.
    pub(super) const THOUSAND: [Measure; 1] = [Measure::Wall];

    /// Returns what `NAME` and `key=` of a program's line stand for.
    pub(super) fn of(what: &str, key: &str) -> Option<Measure> {
        match (what, key) {
            ("drain", "jobs_per_s") => Some(Measure::Drain),
            ("add", "jobs_per_s") => Some(Measure::Add),
            ("wake", "p50_ms") => Some(Measure::WakeP50),
            ("wake", "p99_ms") => Some(Measure::WakeP99),
            ("thousand", "wall_s") => Some(Measure::Wall),
            _ => None,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Measure::Drain => "drain_per_s",
            Measure::Add => "add_per_s",
            Measure::WakeP50 => "wake_p50_ms",
            Measure::WakeP99 => "wake_p99_ms",
            Measure::Wall => "wall_s",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Measure::Drain => "worked off /s",
            Measure::Add => "added /s",
            Measure::WakeP50 => "woken p50 ms",
            Measure::WakeP99 => "woken p99 ms",
            Measure::Wall => "all of it, s",
        }
    }

    fn said(self, value: f64) -> String {
        match self {
            Measure::Drain | Measure::Add => format!("{value:.0}"),
            Measure::WakeP50 | Measure::WakeP99 => format!("{value:.1}"),
            Measure::Wall => format!("{value:.2}"),
        }
    }
}

/// The numbers of one run.
pub(super) type Round = BTreeMap<Measure, f64>;

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// Who.
    pub who: String,
    /// How many tasks were worked off; 0 where that is no question.
    pub tasks: usize,
    /// What becomes of a task that is done.
    pub keeps: &'static str,
    /// The numbers of each round.
    pub rounds: Vec<Round>,
    /// Why there are no numbers, or not those of every round.
    pub failed: Option<String>,
}

impl Standing {
    /// Makes a line without numbers.
    pub(super) fn new(who: impl Into<String>, tasks: usize, keeps: &'static str) -> Standing {
        Standing { who: who.into(), tasks, keeps, rounds: Vec::new(), failed: None }
    }

    /// Returns the lowest, the median and the highest of what was measured.
    fn spread(&self, measure: Measure) -> Option<[f64; 3]> {
        let mut values: Vec<f64> =
            self.rounds.iter().filter_map(|round| round.get(&measure).copied()).collect();
        values.sort_by(f64::total_cmp);
        Some([*values.first()?, values[values.len() / 2], *values.last()?])
    }

    /// Returns the median of what was measured.
    pub(super) fn median(&self, measure: Measure) -> Option<f64> {
        self.spread(measure).map(|[_, median, _]| median)
    }

    /// Returns the line as text, below [`head`].
    pub(super) fn text(&self, measures: &[Measure]) -> String {
        let tasks = if self.tasks == 0 { String::new() } else { self.tasks.to_string() };
        let mut line = format!("{:<38}{tasks:>7}", self.who);
        if self.rounds.is_empty() {
            let why = self.failed.as_deref().unwrap_or("no round was measured");
            return format!("{line}  not run: {why}");
        }
        for measure in measures {
            line.push_str(&format!("  {:>24}", self.cell(*measure)));
        }
        line.push_str(&format!("  {}", self.keeps));
        if let Some(why) = &self.failed {
            line.push_str(&format!("; only {} rounds: {why}", self.rounds.len()));
        }
        line.trim_end().to_owned()
    }

    fn cell(&self, measure: Measure) -> String {
        let Some(spread) = self.spread(measure) else { return "-".to_owned() };
        let [low, median, high] = spread.map(|value| measure.said(value));
        if self.rounds.len() == 1 { median } else { format!("{median} ({low} to {high})") }
    }

    /// Returns the line as JSON.
    pub(super) fn json(&self, measures: &[Measure]) -> Value {
        let numbers = measures.iter().filter_map(|measure| {
            let [low, median, high] = self.spread(*measure)?;
            Some((measure.key().to_owned(), json!({ "median": median, "lowest": low, "highest": high })))
        });
        let numbers: Map<String, Value> = numbers.collect();
        json!({ "who": self.who, "tasks": self.tasks, "keeps": self.keeps, "rounds": self.rounds.len(),
                "not_run": self.failed, "numbers": numbers })
    }
}

/// Returns the heading of the lines.
pub(super) fn head(measures: &[Measure]) -> String {
    let mut line = format!("{:<38}{:>7}", "", "tasks");
    measures.iter().for_each(|measure| line.push_str(&format!("  {:>24}", measure.heading())));
    line.push_str("  done tasks are");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(values: &[f64]) -> Standing {
        let rounds = values.iter().map(|value| Round::from([(Measure::Wall, *value)])).collect();
        Standing { rounds, ..Standing::new("peer", 1_000, "kept") }
    }

    #[test]
    fn the_median_of_three_rounds_counts_and_the_others_are_shown() {
        let text = standing(&[3.0, 1.0, 2.0]).text(&Measure::THOUSAND);
        assert!(text.contains("2.00 (1.00 to 3.00)") && text.ends_with("kept"), "{text}");
        assert!(standing(&[3.0]).text(&Measure::QUEUE).contains(" - "), "what was not measured is a dash");
    }

    #[test]
    fn a_peer_without_numbers_is_shown_with_its_reason() {
        let failed = Some("pip: no network".to_owned());
        let text = Standing { failed: failed.clone(), ..standing(&[]) }.text(&Measure::QUEUE);
        assert!(text.ends_with("not run: pip: no network"), "{text}");
        let text = Standing { failed, ..standing(&[1.0]) }.text(&Measure::THOUSAND);
        assert!(text.ends_with("only 1 rounds: pip: no network"), "{text}");
    }
}
