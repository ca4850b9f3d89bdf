//! Full samples of a measurement, and what is read from them.
//!
//! Here live percentiles and rates. Nothing is estimated: every call after the warm-up is kept.

use std::time::Duration;

/// The durations of all calls of one measurement, and how long it lasted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    nanos: Vec<u64>,
    lasted: Duration,
}

impl Samples {
    /// Makes samples of calls that were counted during `lasted`.
    pub fn new(mut nanos: Vec<u64>, lasted: Duration) -> Samples {
        nanos.sort_unstable();
        Samples { nanos, lasted }
    }

    /// Returns both measurements as one.
    pub fn with(&self, other: &Samples) -> Samples {
        let nanos = self.nanos.iter().chain(&other.nanos).copied().collect();
        Samples::new(nanos, self.lasted + other.lasted)
    }

    /// Returns the duration that a share of all calls did not exceed, in milliseconds; 0 without calls.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let place = (self.nanos.len() as f64 * share) as usize;
        let last = self.nanos.len().saturating_sub(1);
        self.nanos.get(place.min(last)).map_or(0.0, |nanos| *nanos as f64 / 1e6)
    }

    /// Returns the median in milliseconds.
    pub fn p50_ms(&self) -> f64 {
        self.percentile_ms(0.5)
    }

    /// Returns the 99th percentile in milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.percentile_ms(0.99)
    }

    /// Returns the longest call in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.percentile_ms(1.0)
    }

    /// Returns calls per second.
    pub fn per_second(&self) -> f64 {
        if self.lasted.is_zero() { 0.0 } else { self.nanos.len() as f64 / self.lasted.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_calls() {
        let nanos = (1..=1_000).rev().map(|ms| ms * 1_000_000).collect();
        let samples = Samples::new(nanos, Duration::from_secs(2));
        assert_eq!((samples.p50_ms(), samples.p99_ms(), samples.max_ms()), (501.0, 991.0, 1000.0));
        assert_eq!(samples.per_second(), 500.0);
    }

    #[test]
    fn nothing_measured_is_zero() {
        let none = Samples::default();
        assert_eq!((none.p50_ms(), none.max_ms(), none.per_second()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn two_measurements_are_merged() {
        let one = Samples::new(vec![1_000_000], Duration::from_secs(1));
        let both = one.with(&Samples::new(vec![3_000_000, 2_000_000], Duration::from_secs(1)));
        assert_eq!((both.p50_ms(), both.per_second()), (2.0, 1.5));
    }
}
