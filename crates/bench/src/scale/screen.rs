//! The live screen: what a look takes, and what a frame takes, with many agents.

use quorate_measure::database::Database;
use quorate_measure::operation::Rows;
use quorate_measure::samples::Samples;
use quorate_measure::table::{Figure, Limit};
use quorate_model::{Error, Result};
use quorate_service::event::{Newest, PAGE_MAX};
use quorate_service::top::{Look, ROWS_MAX, Tally};
use quorate_top::{Action, Manner, News, Screen, State, draw};
use std::time::{Duration, Instant};

/// Tasks in the ledger.
const TASKS: i64 = 100_000;
/// How often each is measured.
const TIMES: usize = 20;
const FRAMES: usize = 200;
/// The size of a large terminal.
const SIZE: (u16, u16) = (160, 50);

/// Looks at ten thousand agents and a hundred thousand tasks; draws a thousand agents.
pub(super) async fn measure(database: &Database) -> Result<Vec<Figure>> {
    let name = database.name();
    let filled = database.fill(Rows::LargeCrowd(TASKS)).await?;
    let (mut looks, mut counts) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let at = Instant::now();
        filled.store.read(Look { most: ROWS_MAX }).await?;
        looks.push(nanos(at));
        let at = Instant::now();
        filled.store.read(Tally).await?;
        counts.push(nanos(at));
    }
    filled.end().await;
    let filled = database.fill(Rows::Crowd).await?;
    let looked = filled.store.read(Look { most: ROWS_MAX }).await?;
    let mut state = State::default();
    let mut now = looked.now;
    state.hear(News::Looked(Box::new(looked)));
    state.hear(News::Tally(filled.store.read(Tally).await?));
    state.hear(News::Events(filled.store.read(Newest { limit: PAGE_MAX }).await?.events));
    filled.end().await;
    let (mut screen, manner) = (Screen::new(), Manner { is_coloured: true, ..Manner::default() });
    let (mut frames, mut bytes) = (Vec::new(), 0);
    for _ in 0..FRAMES {
        // A second later, and one row farther: every age and half of the rows have changed.
        now += 1_000;
        let at = Instant::now();
        state.tick(now);
        state.act(Action::Down);
        let frame = screen.frame(SIZE, |buffer| {
            draw(&state, &manner, buffer);
        });
        bytes += frame.map_err(|e| Error::failed(format!("a frame was not drawn: {e}")))?.len();
        frames.push(nanos(at));
    }
    let of = |nanos| Samples::new(nanos, Duration::from_secs(1));
    let (looks, counts, frames) = (of(looks), of(counts), of(frames));
    Ok(vec![
        Figure::new(name, "a frame of quorate top, 1,000 agents, 160 x 50", frames.p50_ms(), "ms")
            .limit(Limit::Below(20.0))
            .note(format!("max {:.1}, {} bytes", frames.max_ms(), bytes / FRAMES)),
        Figure::new(name, "its look at 10,000 agents and 100,000 tasks", looks.p50_ms(), "ms")
            .note(format!("max {:.1}, {ROWS_MAX} rows of each list at most", looks.max_ms())),
        Figure::new(name, "its count of 100,000 tasks by state", counts.p50_ms(), "ms")
            .note(format!("max {:.1}", counts.max_ms())),
    ])
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
