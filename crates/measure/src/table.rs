//! What is printed: one line per measurement, with the raw limit of the same minute beside it.
//!
//! Here live the lines, the targets' verdicts and the JSON of both. Nothing is measured here.

use crate::operation::Operation;
use crate::samples::Samples;
use serde_json::{Value, json};

/// Above this median of `fdatasync`, in milliseconds, a disk is slow and targets count against the raw limit.
const FAST_DISK_MS: f64 = 0.5;
/// On a slow disk a 99th percentile may be so many times the raw one.
const SLOW_DISK_FACTOR: f64 = 1.5;
/// The share of the raw throughput that is asked for, with any number of callers.
const THROUGHPUT_MIN: f64 = 0.6;
/// The share that is asked for with the callers that each database is tuned for.
const SHARE_MIN: f64 = 0.8;
/// The longest that a call may take on SQLite, where all wait for one writer; where the database alone had a longer one, the
/// disk stood still, and that is the limit.
const LONGEST_MS: f64 = 100.0;
/// Callers at which latencies have targets.
const TARGET_CALLERS: i64 = 8;

/// An operation measured between two runs of the raw limit.
#[derive(Debug, Clone)]
pub struct Line {
    /// Which database.
    pub database: &'static str,
    /// What was called.
    pub operation: Operation,
    /// By how many at once.
    pub callers: i64,
    /// Through the ledger.
    pub ours: Samples,
    /// The database alone, before and after.
    pub raw: [Samples; 2],
    /// The disk, just before and just after.
    pub disk: [Samples; 2],
}

/// Whether a target was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Pass,
    /// It was not.
    Miss,
    /// There is none.
    None,
}

impl Verdict {
    /// Returns the verdict on a condition.
    pub fn on(met: bool) -> Verdict {
        if met { Verdict::Pass } else { Verdict::Miss }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Miss => "MISS",
            Verdict::None => "",
        }
    }
}

impl Line {
    /// Returns what was measured in a few words.
    pub fn called(&self) -> String {
        format!("{} {} at {}", self.database, self.operation.name(), self.callers)
    }

    fn both_raw(&self) -> Samples {
        self.raw[0].with(&self.raw[1])
    }

    /// Returns the worse of the disk's two medians, in milliseconds: it may have changed in between.
    fn disk_ms(&self) -> f64 {
        self.disk[0].p50_ms().max(self.disk[1].p50_ms())
    }

    /// Returns the calls per second through the ledger, divided by those of the database alone.
    pub fn ratio(&self) -> f64 {
        let raw = self.both_raw().per_second();
        if raw > 0.0 { self.ours.per_second() / raw } else { 0.0 }
    }

    /// How far the two raw runs differ; above 0.25 the ratio says little.
    fn spread(&self) -> f64 {
        let [one, two] = [self.raw[0].per_second(), self.raw[1].per_second()];
        (one - two).abs() / one.max(two).max(1.0)
    }

    /// Returns the verdict and the condition in words.
    pub fn verdict(&self) -> (Verdict, String) {
        if self.operation == Operation::Cycle {
            return self.share();
        }
        let Some(target) = self.operation.target().filter(|_| self.callers == TARGET_CALLERS) else {
            return (Verdict::None, String::new());
        };
        if self.disk_ms() < FAST_DISK_MS {
            let met = self.ours.p50_ms() <= target.p50 && self.ours.p99_ms() < target.p99;
            return (Verdict::on(met), format!("p50 <= {}, p99 < {}", target.p50, target.p99));
        }
        let most = self.both_raw().p99_ms() * SLOW_DISK_FACTOR;
        (Verdict::on(self.ours.p99_ms() <= most), format!("slow disk: p99 <= {most:.1}"))
    }

    /// Judges claim and complete by its share of the raw throughput.
    fn share(&self) -> (Verdict, String) {
        let (least, longest) = match (self.database, self.callers) {
            ("postgres", 8) => (SHARE_MIN, None),
            ("sqlite", 50) => (SHARE_MIN, Some(LONGEST_MS.max(self.both_raw().max_ms()))),
            _ => (THROUGHPUT_MIN, None),
        };
        let met = self.ratio() >= least && longest.is_none_or(|most| self.ours.max_ms() < most);
        let within = longest.map_or(String::new(), |most| format!(", max < {most:.0} ms"));
        (Verdict::on(met), format!("at least {:.0} % of raw{within}", least * 100.0))
    }

    /// Returns the line as text, below [`HEAD`].
    pub fn text(&self) -> String {
        let (verdict, asked) = self.verdict();
        let doubt = if self.spread() > 0.25 { '~' } else { ' ' };
        let (ours, raw) = (columns(&self.ours), columns(&self.both_raw()));
        let (name, disk) = (self.operation.name(), self.disk_ms());
        let (database, callers, ratio) = (self.database, self.callers, self.ratio());
        let line = format!(
            "{database:<9}{name:<15}{callers:>4} |{ours}  |{raw}  |{doubt}{ratio:>5.2}  {disk:>9.3}  {word:<4}  {asked}",
            word = verdict.word(),
        );
        line.trim_end().to_owned()
    }

    /// Returns the line as JSON.
    pub fn json(&self) -> Value {
        let (verdict, asked) = self.verdict();
        json!({
            "database": self.database, "operation": self.operation.name(), "callers": self.callers,
            "ours": figures(&self.ours), "raw": figures(&self.both_raw()), "ratio": self.ratio(),
            "raw_spread": self.spread(), "fdatasync_p50_ms": self.disk_ms(),
            "target": asked, "verdict": verdict.word(),
        })
    }
}

/// The heading of the lines.
pub const HEAD: &str = concat!(
    "                             |       through the ledger, ms       |       the database alone, ms       |        fdatasync\n",
    "database operation   callers |   p50     p99      max    calls/s  |   p50     p99      max    calls/s  | ratio     p50 ms  target",
);

fn columns(samples: &Samples) -> String {
    let (p50, p99, max) = (samples.p50_ms(), samples.p99_ms(), samples.max_ms());
    format!("{p50:>6.2}{p99:>8.2}{max:>9.1}{:>11.0}", samples.per_second())
}

fn figures(samples: &Samples) -> Value {
    json!({ "p50_ms": samples.p50_ms(), "p99_ms": samples.p99_ms(), "max_ms": samples.max_ms(),
            "per_second": samples.per_second() })
}

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// It is to be below this.
    Below(f64),
    /// It is to be this or less.
    AtMost(f64),
    /// It is to be this or more.
    AtLeast(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Limit::Below(limit) => value < limit,
            Limit::AtMost(limit) => value <= limit,
            Limit::AtLeast(limit) => value >= limit,
        }
    }

    fn said(self) -> String {
        match self {
            Limit::Below(limit) => format!("< {limit}"),
            Limit::AtMost(limit) => format!("<= {limit}"),
            Limit::AtLeast(limit) => format!(">= {limit}"),
        }
    }
}

/// A single figure.
#[derive(Debug, Clone)]
pub struct Figure {
    database: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<Limit>,
    note: String,
}

impl Figure {
    /// Makes the figure of something measured on a database, or of the program (""), in a unit.
    pub fn new(database: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { database, name: name.into(), value, unit, limit: None, note: String::new() }
    }

    /// Says what is asked of it.
    pub fn limit(self, limit: Limit) -> Figure {
        Figure { limit: Some(limit), ..self }
    }

    /// Says what else is to be known.
    pub fn note(self, note: impl Into<String>) -> Figure {
        Figure { note: note.into(), ..self }
    }

    /// Returns of each figure the median of some rounds, each of which has the same figures, and says how far they differ.
    pub fn medians(rounds: Vec<Vec<Figure>>) -> Vec<Figure> {
        let mut columns: Vec<Vec<Figure>> = Vec::new();
        for (at, figure) in rounds.into_iter().flat_map(|round| round.into_iter().enumerate()) {
            match columns.get_mut(at) {
                Some(column) => column.push(figure),
                None => columns.push(vec![figure]),
            }
        }
        columns.into_iter().map(Figure::median).collect()
    }

    fn median(mut column: Vec<Figure>) -> Figure {
        column.sort_by(|a, b| a.value.total_cmp(&b.value));
        let (low, high, count) = (column[0].value, column[column.len() - 1].value, column.len());
        let median = column.swap_remove(count / 2);
        match count {
            1 => median,
            _ => {
                let spread = format!("{low:.2} to {high:.2} in {count} rounds");
                let notes = [median.note.clone(), spread].into_iter().filter(|note| !note.is_empty());
                let note = notes.collect::<Vec<_>>().join("; ");
                median.note(note)
            }
        }
    }

    /// Returns what was measured.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns what was measured in a few words.
    pub fn called(&self) -> String {
        format!("{} {}", self.database, self.name).trim_start().to_owned()
    }

    /// Returns the verdict on it.
    pub fn verdict(&self) -> Verdict {
        self.limit.map_or(Verdict::None, |limit| Verdict::on(limit.holds(self.value)))
    }

    /// Returns the figure as a line of text.
    pub fn text(&self) -> String {
        let asked = self.limit.map_or(String::new(), Limit::said);
        let (database, name, value) = (self.database, &self.name, self.value);
        let (unit, note, word) = (self.unit, &self.note, self.verdict().word());
        format!("{database:<9}{name:<58}{value:>11.2} {unit:<3} {asked:<9}{word:<5} {note}")
            .trim_end()
            .to_owned()
    }

    /// Returns the figure as JSON.
    pub fn json(&self) -> Value {
        json!({ "database": self.database, "name": self.name, "value": self.value, "unit": self.unit,
                "asked": self.limit.map(Limit::said), "note": self.note, "verdict": self.verdict().word() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn samples(ms: f64, calls: usize) -> Samples {
        Samples::new(vec![(ms * 1e6) as u64; calls], Duration::from_secs(1))
    }

    fn check(operation: Operation, (ours, raw): (f64, f64), disk: f64, expected: Verdict) {
        let line = Line {
            database: "sqlite",
            operation,
            callers: 8,
            ours: samples(ours, 600),
            raw: [samples(raw, 1_000), samples(raw, 1_000)],
            disk: [samples(0.1, 10), samples(disk, 10)],
        };
        assert_eq!(line.verdict().0, expected, "{}", line.text());
    }

    #[test]
    fn a_fast_disk_has_fixed_targets_and_a_slow_one_the_raw_limit() {
        check(Operation::Claim, (1.9, 1.0), 0.1, Verdict::Pass);
        check(Operation::Claim, (2.1, 1.0), 0.1, Verdict::Miss);
        check(Operation::Claim, (12.0, 9.0), 4.0, Verdict::Pass);
        check(Operation::Claim, (14.0, 9.0), 4.0, Verdict::Miss);
        check(Operation::Enqueue, (900.0, 1.0), 0.1, Verdict::None);
    }

    #[test]
    fn throughput_is_judged_by_its_share_of_the_raw_one() {
        let judge = |database, callers, (calls, ms): (usize, f64), expected| {
            let raw = samples(1.0, 1_000);
            let line = Line {
                database,
                operation: Operation::Cycle,
                callers,
                ours: samples(ms, calls),
                raw: [raw.clone(), raw],
                disk: [samples(4.0, 10), samples(4.0, 10)],
            };
            assert_eq!(line.verdict().0, expected, "{}", line.text());
        };
        judge("sqlite", 8, (600, 1.0), Verdict::Pass);
        judge("sqlite", 8, (599, 1.0), Verdict::Miss);
        judge("postgres", 8, (800, 1.0), Verdict::Pass);
        judge("postgres", 8, (799, 1.0), Verdict::Miss);
        judge("sqlite", 50, (800, 99.0), Verdict::Pass);
        judge("sqlite", 50, (900, 100.0), Verdict::Miss);
    }

    #[test]
    fn a_disk_that_stands_still_excuses_a_call_as_long_as_its_own() {
        let judge = |longest: f64, expected| {
            let with = |ms: f64| {
                let nanos = [vec![1_000_000; 999], vec![(ms * 1e6) as u64]].concat();
                Samples::new(nanos, Duration::from_secs(1))
            };
            let line = Line {
                database: "sqlite",
                operation: Operation::Cycle,
                callers: 50,
                ours: with(longest),
                raw: [samples(1.0, 1_000), with(300.0)],
                disk: [samples(0.1, 10), samples(0.1, 10)],
            };
            assert_eq!(line.verdict().0, expected, "{}", line.text());
        };
        judge(299.0, Verdict::Pass);
        judge(301.0, Verdict::Miss);
    }

    #[test]
    fn of_several_rounds_the_median_counts() {
        let round = |start, size| {
            vec![Figure::new("", "start", start, "ms"), Figure::new("", "size", size, "MB").note("a file")]
        };
        let of = |rounds: Vec<Vec<Figure>>| -> Vec<(String, f64, String)> {
            Figure::medians(rounds).into_iter().map(|f| (f.name, f.value, f.note)).collect()
        };
        let three = of(vec![round(1.0, 7.0), round(9.0, 5.0), round(2.0, 6.0)]);
        assert_eq!(three[0], ("start".into(), 2.0, "1.00 to 9.00 in 3 rounds".into()));
        assert_eq!(three[1], ("size".into(), 6.0, "a file; 5.00 to 7.00 in 3 rounds".into()));
        assert_eq!(of(vec![round(3.0, 4.0)])[1], ("size".into(), 4.0, "a file".into()));
        assert_eq!(of(Vec::new()), []);
    }

    #[test]
    fn a_figure_is_held_against_its_limit() {
        let figure = Figure::new("sqlite", "start", 50.0, "ms");
        for (limit, expected) in [
            (Limit::Below(50.0), Verdict::Miss),
            (Limit::AtMost(50.0), Verdict::Pass),
            (Limit::AtLeast(50.0), Verdict::Pass),
            (Limit::AtLeast(50.1), Verdict::Miss),
        ] {
            assert_eq!(figure.clone().limit(limit).verdict(), expected, "{limit:?}");
        }
        assert_eq!(figure.verdict(), Verdict::None);
    }
}
