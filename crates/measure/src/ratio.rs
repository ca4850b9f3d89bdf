//! A short check that the ledger keeps its share of what its database can do.
//!
//! Here lives the one idea: slices of one to three seconds, ours and the database's own in turn, and the median of the
//! ratios of neighbours. A machine that is busy slows both of a pair; a pair that was disturbed is outvoted. Too low a
//! median is looked at again with more pairs, and counts only where so many of them are too low that it is not chance:
//! a disk whose speed changes by the second gives ratios from a third to twice and tells nothing.

use crate::database::Database;
use crate::load::Timing;
use crate::operation::Operation;
use crate::table::{Figure, Limit};
use quorate_model::Result;
use std::time::Duration;

/// Callers at once: a few, and as many as share commits.
const CALLERS: [i64; 2] = [8, 50];
/// The share of the database alone that is asked for, in percent.
const SHARE_MIN: f64 = 60.0;
/// Pairs of slices that are measured first, and as many more while the median is too low.
const PAIRS: usize = 5;
/// Pairs of slices at most.
const PAIRS_MAX: usize = 25;
/// So many of all pairs below the share are no chance: with a true median at the share, each pair is below it with an
/// even chance, and 19 or more of 25 are in 0.7 % of all cases (the sign test).
const BELOW_MAX: usize = 18;

/// Measures a database.
pub async fn measure(database: &Database) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for callers in CALLERS {
        let mut ratios = Vec::new();
        while ratios.len() < PAIRS_MAX {
            for _ in 0..PAIRS {
                ratios.push(pair(database, callers, ratios.len() % 2 == 0).await?);
            }
            if median(&ratios) >= SHARE_MIN {
                break;
            }
        }
        figures.push(figure(database.name(), callers, &ratios));
    }
    Ok(figures)
}

/// Measures a slice of each and answers with our share in percent; which is first changes from pair to pair.
async fn pair(database: &Database, callers: i64, raw_first: bool) -> Result<f64> {
    let timing = timing(database);
    let operation = Operation::Cycle;
    let (ours, raw) = if raw_first {
        let raw = database.raw(operation, callers, timing).await?;
        (database.ours(operation, callers, timing).await?, raw)
    } else {
        let ours = database.ours(operation, callers, timing).await?;
        (ours, database.raw(operation, callers, timing).await?)
    };
    Ok(100.0 * ours.per_second() / raw.per_second().max(1.0))
}

fn timing(database: &Database) -> Timing {
    let (warm_up, cell) = match database {
        // Long enough for several moments at which the write-ahead log is moved into the file.
        Database::Lite { .. } => (500, 2_500),
        // Together one second: pgbench counts in whole ones.
        Database::Pg(_) => (200, 800),
    };
    Timing {
        warm_up: Duration::from_millis(warm_up),
        cell: Duration::from_millis(cell),
        probe: Duration::ZERO,
    }
}

fn median(ratios: &[f64]) -> f64 {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn figure(database: &'static str, callers: i64, ratios: &[f64]) -> Figure {
    let (low, high) = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), r| (low.min(*r), high.max(*r)));
    let name = format!("claim+complete by {callers}, share of the database alone");
    let (all, below) = (ratios.len(), ratios.iter().filter(|ratio| **ratio < SHARE_MIN).count());
    let figure = Figure::new(database, name, median(ratios), "%");
    let note = format!("median of {all} pairs, {low:.0} to {high:.0} %");
    if median(ratios) < SHARE_MIN && below <= BELOW_MAX {
        return figure.note(format!("{note}; {below} below {SHARE_MIN}: too uneven a machine to tell"));
    }
    figure.limit(Limit::AtLeast(SHARE_MIN)).note(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Verdict;

    /// The verdict on pairs of which so many had a share of 50 %, and the others one of 90.
    fn verdict(below: usize, all: usize) -> Verdict {
        let ratios: Vec<f64> = (0..all).map(|place| if place < below { 50.0 } else { 90.0 }).collect();
        figure("sqlite", 8, &ratios).verdict()
    }

    #[test]
    fn disturbed_pairs_are_outvoted_and_a_low_median_misses_when_it_is_no_chance() {
        assert_eq!(verdict(2, PAIRS), Verdict::Pass);
        assert_eq!(verdict(12, PAIRS_MAX), Verdict::Pass);
        assert_eq!(verdict(BELOW_MAX, PAIRS_MAX), Verdict::None);
        assert_eq!(verdict(BELOW_MAX + 1, PAIRS_MAX), Verdict::Miss);
        assert_eq!(verdict(PAIRS_MAX, PAIRS_MAX), Verdict::Miss);
    }
}
