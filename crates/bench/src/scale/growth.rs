//! Taking beside a long history and out of a long queue: it must cost what it costs in a small ledger.

use super::Size;
use quorate_measure::database::Database;
use quorate_measure::operation::{Operation, Rows};
use quorate_measure::table::{Figure, Limit};
use quorate_model::Result;

/// How often each is measured; the median counts.
const TIMES: usize = 5;
/// Ready tasks beside a history: enough for what is taken while it is measured.
const READY: i64 = 60_000;
/// A long queue.
const LONG: i64 = 1_000_000;

/// Takes with one caller in ledgers of growing size.
pub(super) async fn measure(database: &Database, size: Size) -> Result<Vec<Figure>> {
    let mut histories = vec![1_000, 100_000];
    if !size.quick {
        histories.push(1_000_000);
    }
    if size.huge {
        histories.push(10_000_000);
    }
    let mut figures = Vec::new();
    let mut smallest = None;
    for done in histories {
        let what = format!("claim beside {done} completed tasks");
        figures.extend(one(database, size, Rows::History { done, ready: READY }, what, &mut smallest).await?);
    }
    let ready = size.of(LONG);
    let what = format!("claim out of {ready} ready tasks");
    figures.extend(one(database, size, Rows::Ready(ready), what, &mut smallest).await?);
    Ok(figures)
}

async fn one(
    database: &Database,
    size: Size,
    rows: Rows,
    what: String,
    smallest: &mut Option<f64>,
) -> Result<Vec<Figure>> {
    let filled = database.fill(rows).await?;
    let mut medians = Vec::new();
    for _ in 0..TIMES {
        medians.push(database.ours_in(&filled, Operation::Claim, 1, size.timing).await?.p50_ms());
    }
    medians.sort_by(f64::total_cmp);
    let median = medians[TIMES / 2];
    let ratio = median / *smallest.get_or_insert(median);
    let name = database.name();
    Ok(vec![
        Figure::new(name, format!("{what}, p50"), median, "ms").note(format!(
            "of {TIMES}: {:.3} to {:.3}",
            medians[0],
            medians[TIMES - 1]
        )),
        Figure::new(name, format!("{what}, beside the smallest"), ratio, "x").limit(Limit::AtMost(1.3)),
    ])
}
