//! What must hold over the length of a soak.
//!
//! Here live pure functions of series: times in seconds, and what was measured then. Each answers with a verdict in
//! words, and has tests that show it a bad series.

use std::fmt::{self, Display, Formatter};

/// A process settles in the beginning, when everything happens for the first time: so long is not looked at.
pub const WARM_UP_S: f64 = 300.0;
/// So much may the memory of a process grow in an hour, in MiB, once it has settled …
pub const MEMORY_MIB_HOURLY: f64 = 2.0;
/// … and so much until then: pools, caches and the allocator's arenas grow to the most that was ever needed at once, and
/// on a busy machine more is needed at once, and later. Seen: 3.3 MiB, in the first 25 minutes beside builds and storms.
pub const SETTLING_MIB: f64 = 6.0;
/// So many times as large may what retention bounds be at the end, and so many MiB or hundred rows more.
pub const SIZE_FACTOR: f64 = 1.25;
/// So many times as long may starting take at the end as at the start: its median …
pub const P50_FACTOR: f64 = 1.25;
/// … and the time that one in a hundred exceeds, which swings more.
pub const P99_FACTOR: f64 = 2.0;
/// The clock of the log, and a timer's turn: a median may differ by so many milliseconds.
const TICK_MS: f64 = 1.0;
/// The start and the end of latencies: so long each, if the run is long enough.
const WINDOW_S: f64 = 600.0;
/// Fewer samples say nothing about a trend.
const SAMPLES_LEAST: usize = 8;
/// Fewer starts say nothing about one in a hundred.
const STARTS_LEAST: usize = 200;

/// Values over time: seconds since the beginning, and what was measured.
pub type Series = [(f64, f64)];

/// What is said of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What was looked at.
    pub what: String,
    /// Whether it held; `None` if the run was too short to say.
    pub held: Option<bool>,
    /// The numbers.
    pub told: String,
}

impl Display for Judgement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = match self.held {
            Some(true) => "pass",
            Some(false) => "RED",
            None => "too short",
        };
        write!(f, "{word:9}  {:34}  {}", self.what, self.told)
    }
}

/// Memory, in MiB, settles: in the second half it does not grow, by its slope and from its first to its last quarter;
/// until then it grows by no more than what pools and caches hold.
///
/// What leaks grows as fast in the second half as in the first. There a slope is a leak; in the first half it may be a
/// cache that fills.
pub fn memory(what: &str, series: &Series) -> Judgement {
    let half = series.last().map_or(0.0, |(at, _)| at / 2.0);
    let (Some((start, ..)), Some((first, last, rest))) =
        (quarters(series, WARM_UP_S), quarters(series, half.max(WARM_UP_S)))
    else {
        return too_short(what, series);
    };
    let (start, before, after) = (median(start), median(first), median(last));
    let hours = (rest[rest.len() - 1].0 - rest[0].0) / 3600.0;
    let (allowed, hourly) = (MEMORY_MIB_HOURLY * hours, slope(rest) * 3600.0);
    let held =
        after - before <= allowed && hourly <= MEMORY_MIB_HOURLY && after - start <= SETTLING_MIB + allowed;
    let told = format!(
        "{start:.2} MiB once warm, {before:.2} in the middle, {after:.2} at the end; slope of the second half {hourly:+.2} MiB \
         an hour (allowed: {MEMORY_MIB_HOURLY} an hour then, {SETTLING_MIB} until then)"
    );
    Judgement { what: what.into(), held: Some(held), told }
}

/// Open files do not become more: the fewest of the last quarter are not above the fewest of the first.
///
/// The fewest, because each child that runs at the moment of a sample has pipes.
pub fn handles(what: &str, series: &Series) -> Judgement {
    let Some((first, last, _)) = quarters(series, WARM_UP_S) else { return too_short(what, series) };
    let (before, after) = (least(first), least(last));
    let told = format!("{before} in the first quarter, {after} in the last");
    Judgement { what: what.into(), held: Some(after <= before), told }
}

/// Sockets are never more than `allowed`. A pool opens a connection when work waits for one and keeps it, so that their
/// number may rise by a step at any time, up to the sizes of the pools.
pub fn sockets(what: &str, series: &Series, allowed: f64) -> Judgement {
    let top = most(series);
    Judgement {
        what: what.into(),
        held: Some(top <= allowed),
        told: format!("at most {top} (allowed: {allowed})"),
    }
}

/// What retention bounds stays as large as it was once the first of it had gone.
pub fn bounded(what: &str, series: &Series, settled_s: f64, slack: f64) -> Judgement {
    let Some((first, last, _)) = quarters(series, settled_s) else { return too_short(what, series) };
    let (before, after) = (most(first), most(last));
    let told = format!(
        "at most {before:.1} in the first quarter after {:.0} min, {after:.1} in the last (allowed: {SIZE_FACTOR} times and {slack})",
        settled_s / 60.0
    );
    Judgement { what: what.into(), held: Some(after <= before * SIZE_FACTOR + slack), told }
}

/// Latencies, in milliseconds, are at the end as at the start.
pub fn latency(what: &str, series: &Series, length_s: f64) -> Judgement {
    let window = WINDOW_S.min((length_s - WARM_UP_S) / 2.0);
    let of = |from: f64| -> Vec<f64> {
        let within = series.iter().filter(|(at, _)| (from..from + window).contains(at));
        within.map(|(_, ms)| *ms).collect()
    };
    let (first, last) = (of(WARM_UP_S), of(length_s - window));
    if first.len().min(last.len()) < STARTS_LEAST {
        return too_short(what, series);
    }
    let [p50, p99] = [0.5, 0.99].map(|part| (quantile(&first, part), quantile(&last, part)));
    let held = p50.1 <= p50.0 * P50_FACTOR + TICK_MS && p99.1 <= p99.0 * P99_FACTOR + TICK_MS;
    let told = format!(
        "p50 {:.1} ms in the first {:.0} min, {:.1} in the last (allowed: {P50_FACTOR} times); p99 {:.1}, {:.1} ({P99_FACTOR} times)",
        p50.0,
        window / 60.0,
        p50.1,
        p99.0,
        p99.1
    );
    Judgement { what: what.into(), held: Some(held), told }
}

/// What was planned was added, or the load was not the one that is told.
pub fn fed(planned: f64, added: usize) -> Judgement {
    let told = format!("{added} tasks added of {planned:.0} planned");
    Judgement { what: "the feeder kept its rate".into(), held: Some(added as f64 >= planned * 0.95), told }
}

/// Turns the findings of a check into a judgement.
pub fn check(what: &str, findings: &[String]) -> Judgement {
    let told = match findings {
        [] => String::new(),
        [first, rest @ ..] => format!("{first}{}", more(rest.len())),
    };
    Judgement { what: what.into(), held: Some(findings.is_empty()), told }
}

fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" (and {count} more)") }
}

fn too_short(what: &str, series: &Series) -> Judgement {
    let told = format!("{} measurements are too few to judge", series.len());
    Judgement { what: what.into(), held: None, told }
}

/// The first and the last quarter of what was measured since a moment, and all of that.
fn quarters(series: &Series, since_s: f64) -> Option<(&Series, &Series, &Series)> {
    let rest = &series[series.partition_point(|(at, _)| *at < since_s)..];
    let quarter = rest.len() / 4;
    (rest.len() >= SAMPLES_LEAST).then(|| (&rest[..quarter], &rest[rest.len() - quarter..], rest))
}

fn median(series: &Series) -> f64 {
    let values: Vec<f64> = series.iter().map(|(_, value)| *value).collect();
    quantile(&values, 0.5)
}

fn least(series: &Series) -> f64 {
    series.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min)
}

fn most(series: &Series) -> f64 {
    series.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max)
}

/// Returns the value below which this part of all lies; not a number if there are none.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// Returns how much a series grows in a second, by least squares.
pub fn slope(series: &Series) -> f64 {
    let count = series.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| series.iter().map(of).sum::<f64>() / count;
    let (at, value) = (mean(|point| point.0), mean(|point| point.1));
    let (mut shared, mut spread) = (0.0, 0.0);
    for point in series {
        shared += (point.0 - at) * (point.1 - value);
        spread += (point.0 - at).powi(2);
    }
    if spread > 0.0 { shared / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of samples, one every ten seconds.
    fn hour(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..360).map(|n| (f64::from(n) * 10.0, of(f64::from(n) * 10.0))).collect()
    }

    /// An hour of latencies, four a second.
    fn starts(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..14_400).map(|n| (f64::from(n) / 4.0, of(f64::from(n) / 4.0))).collect()
    }

    #[track_caller]
    fn check(judgement: &Judgement, held: Option<bool>) {
        assert_eq!(judgement.held, held, "{judgement}");
    }

    #[test]
    fn memory_that_is_level_after_the_warm_up_holds() {
        let settles = |at: f64| if at < 200.0 { 12.0 + at / 20.0 } else { 22.0 + (at / 10.0 % 5.0) / 10.0 };
        check(&memory("", &hour(settles)), Some(true));
    }

    /// What was seen on a machine that was busy with other things for 25 minutes and then was not.
    #[test]
    fn memory_that_settles_late_holds() {
        let settles = |at: f64| 26.6 + at.min(1500.0) * 3.3 / 1500.0 + (at / 10.0 % 5.0) / 10.0;
        check(&memory("", &hour(settles)), Some(true));
        check(&memory("", &hour(|at| 15.0 + at.min(1500.0) / 100.0)), Some(false));
    }

    #[test]
    fn memory_that_creeps_is_found() {
        check(&memory("", &hour(|at| 15.0 + at / 1000.0)), Some(false));
        check(&memory("", &hour(|at| 15.0 + at * 2.2 / 3600.0 + (at / 10.0 % 5.0) / 10.0)), Some(false));
        check(&memory("", &hour(|at| 15.0 + at * 1.8 / 3600.0 + (at / 10.0 % 5.0) / 10.0)), Some(true));
        check(&memory("", &hour(|at| if at < 3200.0 { 15.0 } else { 25.0 })), Some(false));
        let late = |at: f64| if at < 2400.0 { 15.0 } else { 15.0 + (at - 2400.0) / 200.0 };
        check(&memory("", &hour(late)), Some(false));
    }

    #[test]
    fn one_handle_that_stays_open_is_found() {
        let busy = |at: f64| 20.0 + (at / 10.0 % 4.0);
        check(&handles("", &hour(busy)), Some(true));
        check(&handles("", &hour(|at| busy(at) + if at > 2000.0 { 1.0 } else { 0.0 })), Some(false));
    }

    #[test]
    fn a_socket_more_than_the_pools_have_is_found() {
        check(&sockets("", &hour(|at| if at > 2000.0 { 17.0 } else { 9.0 }), 17.0), Some(true));
        check(&sockets("", &hour(|at| 9.0 + (at / 300.0).floor()), 17.0), Some(false));
    }

    #[test]
    fn a_saw_is_bounded_and_a_ramp_is_not() {
        check(&bounded("", &hour(|at| 20.0 + at % 60.0 / 10.0), 480.0, 1.0), Some(true));
        check(&bounded("", &hour(|at| at.min(300.0)), 480.0, 1.0), Some(true));
        check(&bounded("", &hour(|at| at / 10.0), 480.0, 1.0), Some(false));
    }

    #[test]
    fn latency_that_grows_is_found_in_the_median_and_at_the_edge() {
        let steady = |at: f64| 10.0 + at % 7.0;
        check(&latency("", &starts(steady), 3600.0), Some(true));
        check(&latency("", &starts(|at| steady(at) + at / 300.0), 3600.0), Some(false));
        let spikes = |at: f64| if at > 3000.0 && (at * 4.0) as i64 % 50 == 0 { 90.0 } else { steady(at) };
        check(&latency("", &starts(spikes), 3600.0), Some(false));
    }

    #[test]
    fn too_few_numbers_are_not_judged() {
        let short = [(0.0, 1.0), (10.0, 1.0), (20.0, 1.0)];
        for judgement in [
            memory("", &short),
            handles("", &short),
            bounded("", &short, 5.0, 1.0),
            latency("", &short, 20.0),
        ] {
            check(&judgement, None);
        }
    }

    #[test]
    fn a_feeder_that_fell_behind_is_found() {
        check(&fed(1000.0, 990), Some(true));
        check(&fed(1000.0, 900), Some(false));
    }

    #[test]
    fn the_slope_is_that_of_least_squares() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!((slope(&[(0.0, 0.0), (1.0, 3.0), (2.0, 0.0)])).abs() < 1e-9);
        assert!(slope(&[(1.0, 1.0)]).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            (quantile(&values, 0.5), quantile(&values, 0.99), quantile(&[7.0], 0.99)),
            (50.0, 99.0, 7.0)
        );
        assert!(quantile(&[], 0.5).is_nan());
    }
}
