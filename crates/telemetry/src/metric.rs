//! What attempts add up to, as metrics.
//!
//! Here live the sums between two exports. Each export tells what came since the last one ("delta"), so a node that starts anew
//! has nothing to remember.

use crate::names;
use crate::proto::{Buckets, DELTA, Data, Histogram, KeyValue, Metric, Number, Sum, attribute};
use crate::span::{Attempt, nanos};
use std::collections::BTreeMap;

/// The conventions' bounds for numbers of tokens.
const TOKEN_BOUNDS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// The conventions' bounds for seconds, and longer ones: agents work for minutes.
const SECOND_BOUNDS: [f64; 16] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 600.0, 3600.0];
/// Different sets of attributes between two exports; what is more is left out.
const SERIES_MAX: usize = 2_000;

/// What tells one series from another, in the order of the names.
type Key = Vec<(&'static str, String)>;

/// Sums since the last export.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    tokens: BTreeMap<Key, Values>,
    seconds: BTreeMap<Key, Values>,
    cost: BTreeMap<Key, f64>,
    attempts: BTreeMap<Key, f64>,
    /// The first and the last moment that is in them.
    from: Option<i64>,
    until: i64,
}

/// How often which bucket was met, and the sum.
#[derive(Debug)]
struct Values {
    counts: Vec<u64>,
    sum: f64,
}

impl Values {
    fn add(&mut self, bounds: &[f64], value: f64) {
        self.counts.resize(bounds.len() + 1, 0);
        self.counts[bounds.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }
}

impl Sums {
    /// Adds an attempt that has ended.
    pub(crate) fn add(&mut self, attempt: &Attempt) {
        self.from = Some(self.from.map_or(attempt.ended_at, |from| from.min(attempt.ended_at)));
        self.until = self.until.max(attempt.ended_at);
        let agent = || (names::AGENT, attempt.agent.clone());
        let operation = || (names::OPERATION, names::INVOKE_AGENT.to_owned());
        count(&mut self.attempts, vec![agent(), (names::OUTCOME, attempt.outcome.to_owned())], 1.0);
        let took = attempt.ended_at.saturating_sub(attempt.started_at).max(0) as f64 / 1000.0;
        let mut of_attempt = vec![agent(), operation()];
        if let Some(main) = attempt.used.iter().max_by_key(|used| used.output) {
            of_attempt.extend(of_model(&main.model));
        }
        measure(&mut self.seconds, of_attempt, &SECOND_BOUNDS, took);
        for used in &attempt.used {
            for (kind, tokens) in [("input", used.all_input()), ("output", used.output)] {
                let mut key = vec![agent(), operation(), (names::TOKEN_TYPE, kind.to_owned())];
                key.extend(of_model(&used.model));
                measure(&mut self.tokens, key, &TOKEN_BOUNDS, tokens as f64);
            }
            if let Some(usd) = used.usd {
                let mut key = vec![agent()];
                key.extend(of_model(&used.model));
                count(&mut self.cost, key, usd);
            }
        }
    }

    /// Takes the sums as metrics; nothing if nothing has come.
    pub(crate) fn take(&mut self) -> Vec<Metric> {
        let sums = std::mem::take(self);
        let Some(from) = sums.from else { return Vec::new() };
        let times = (nanos(from), nanos(sums.until));
        let all = [
            histogram(
                names::TOKEN_USAGE,
                "{token}",
                "Tokens used by an attempt",
                &TOKEN_BOUNDS,
                sums.tokens,
                times,
            ),
            histogram(
                names::OPERATION_DURATION,
                "s",
                "Time of an attempt",
                &SECOND_BOUNDS,
                sums.seconds,
                times,
            ),
            sum(
                names::COST,
                "{USD}",
                "Dollars used by attempts, as far as prices are known",
                sums.cost,
                times,
            ),
            sum(names::ATTEMPTS, "{attempt}", "Attempts that have ended", sums.attempts, times),
        ];
        all.into_iter().flatten().collect()
    }
}

fn of_model(model: &str) -> Vec<(&'static str, String)> {
    let provider = names::provider(model).map(|provider| (names::PROVIDER, provider.to_owned()));
    provider.into_iter().chain([(names::REQUEST_MODEL, model.to_owned())]).collect()
}

fn count(series: &mut BTreeMap<Key, f64>, key: Key, value: f64) {
    if series.len() < SERIES_MAX || series.contains_key(&key) {
        *series.entry(key).or_default() += value;
    }
}

fn measure(series: &mut BTreeMap<Key, Values>, key: Key, bounds: &[f64], value: f64) {
    if series.len() < SERIES_MAX || series.contains_key(&key) {
        series.entry(key).or_insert(Values { counts: Vec::new(), sum: 0.0 }).add(bounds, value);
    }
}

fn attributes(key: &Key) -> Vec<KeyValue> {
    key.iter().map(|(name, value)| attribute(name, value.as_str())).collect()
}

fn histogram(
    name: &str,
    unit: &str,
    description: &str,
    bounds: &[f64],
    series: BTreeMap<Key, Values>,
    (from, until): (u64, u64),
) -> Option<Metric> {
    let point = |(key, values): (Key, Values)| Buckets {
        start_time_unix_nano: from,
        time_unix_nano: until,
        count: values.counts.iter().sum(),
        sum: Some(values.sum),
        bucket_counts: values.counts,
        explicit_bounds: bounds.to_vec(),
        attributes: attributes(&key),
    };
    let data_points: Vec<Buckets> = series.into_iter().map(point).collect();
    let data = Data::Histogram(Histogram { data_points, aggregation_temporality: DELTA });
    metric(name, unit, description, data)
}

fn sum(
    name: &str,
    unit: &str,
    description: &str,
    series: BTreeMap<Key, f64>,
    (from, until): (u64, u64),
) -> Option<Metric> {
    let point = |(key, value): (Key, f64)| Number {
        start_time_unix_nano: from,
        time_unix_nano: until,
        as_double: value,
        attributes: attributes(&key),
    };
    let data_points: Vec<Number> = series.into_iter().map(point).collect();
    let data = Data::Sum(Sum { data_points, aggregation_temporality: DELTA, is_monotonic: true });
    metric(name, unit, description, data)
}

/// Makes a metric, unless it has no point.
fn metric(name: &str, unit: &str, description: &str, data: Data) -> Option<Metric> {
    let is_empty = match &data {
        Data::Sum(sum) => sum.data_points.is_empty(),
        Data::Histogram(histogram) => histogram.data_points.is_empty(),
    };
    let (name, description, unit) = (name.to_owned(), description.to_owned(), unit.to_owned());
    (!is_empty).then_some(Metric { name, description, unit, data: Some(data) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Used;
    use quorate_model::TaskId;

    fn attempt(agent: &str, output: i64) -> Attempt {
        let used = Used {
            model: "gpt-5".into(),
            input: 10,
            output,
            cache_read: 90,
            cache_write: 0,
            usd: Some(0.25),
        };
        Attempt {
            task: TaskId(1),
            run: None,
            number: 1,
            agent: agent.into(),
            started_at: 1_000,
            ended_at: 3_000,
            outcome: "completed",
            used: vec![used],
        }
    }

    #[test]
    fn attempts_are_added_up_until_they_are_taken() {
        let mut sums = Sums::default();
        assert!(sums.take().is_empty());
        sums.add(&attempt("ada", 4));
        sums.add(&attempt("ada", 5));
        let metrics = sums.take();
        let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, [names::TOKEN_USAGE, names::OPERATION_DURATION, names::COST, names::ATTEMPTS]);
        let Some(Data::Histogram(tokens)) = &metrics[0].data else { panic!("a histogram") };
        let output = tokens
            .data_points
            .iter()
            .find(|point| point.attributes.contains(&attribute(names::TOKEN_TYPE, "output")));
        let output = output.expect("it wrote");
        assert_eq!((output.count, output.sum), (2, Some(9.0)));
        assert_eq!(output.bucket_counts[..4], [0, 1, 1, 0], "4 is within 4, 5 is not");
        assert_eq!(output.bucket_counts.len(), output.explicit_bounds.len() + 1);
        let Some(Data::Sum(cost)) = &metrics[2].data else { panic!("a sum") };
        assert_eq!((cost.data_points[0].as_double, cost.is_monotonic), (0.5, true));
        assert!(sums.take().is_empty(), "they are told once");
    }

    #[test]
    fn two_thousand_series_are_told_apart_and_no_more() {
        let mut sums = Sums::default();
        for n in 0..=SERIES_MAX {
            sums.add(&attempt(&format!("agent-{n}"), 1));
        }
        sums.add(&attempt("agent-0", 1));
        assert_eq!(sums.attempts.len(), SERIES_MAX);
        assert_eq!(sums.attempts.values().sum::<f64>(), SERIES_MAX as f64 + 1.0);
    }
}
