//! The screen as it is drawn: a function of the state, the size and the manner, and of nothing else.
//!
//! ```text
//! head      what, how many, how fast
//! lists     the team · what runs · what wants a look · the log      or one task, or the help
//! foot      what the keys do, a question, or a remark
//! ```
//!
//! Only rows that are seen are put into words.

mod help;
mod lists;
mod task;

use crate::keys::Mode;
use crate::pace::STRETCHES;
use crate::paint::{Brush, Tone, sparkline};
use crate::state::{Reach, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use quorate_model::text::{self, one_line};
use quorate_service::view::AgentView;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

/// The smallest screen on which something can be told.
const LEAST: (u16, u16) = (20, 4);
/// From this height on, the head has its third line.
const TALL: u16 = 14;
/// States of tasks, in the order of their life.
const TASK_STATES: [&str; 8] =
    ["running", "verifying", "ready", "waiting", "parked", "failed", "cancelled", "completed"];
/// States of agents, those at work first.
const AGENT_STATES: [&str; 9] =
    ["working", "ready", "idle", "paused", "parked", "blocked", "stuck", "stale", "failed"];

/// In which manner a screen is drawn.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Whether it has colours.
    pub is_coloured: bool,
    /// In which time zone times are told.
    pub zone: TimeZone,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { is_coloured: false, zone: TimeZone::UTC }
    }
}

impl Manner {
    /// Tells the time of day.
    fn time(&self, at: i64) -> String {
        let at = Timestamp::from_millisecond(at).unwrap_or_default();
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }
}

/// Draws the whole screen; answers with how many rows were put into words.
pub fn draw(state: &State, manner: &Manner, buffer: &mut Buffer) -> usize {
    let area = buffer.area;
    let mut brush = Brush { buffer, is_coloured: manner.is_coloured, rows: 0 };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        brush.put(area.x, area.y, area.width, "too small", Tone::Plain);
        return 0;
    }
    let head = if area.height >= TALL { 3 } else { 2 };
    title(state, manner, &mut brush, Rect { height: 1, ..area });
    tasks(state, &mut brush, Rect { y: area.y + 1, height: 1, ..area });
    if head == 3 {
        speed(state, &mut brush, Rect { y: area.y + 2, height: 1, ..area });
    }
    let body = Rect { y: area.y + head, height: area.height - head - 1, ..area };
    match state.mode() {
        Mode::Help => help::draw(&mut brush, body),
        _ if state.opened.is_some() => task::draw(state, manner, &mut brush, body),
        _ => lists::draw(state, manner, &mut brush, body),
    }
    foot(state, &mut brush, Rect { y: area.bottom() - 1, height: 1, ..area });
    brush.rows
}

/// The first line: what this is, the newest run, and how the ledger is.
fn title(state: &State, manner: &Manner, brush: &mut Brush<'_>, area: Rect) {
    let time = if state.now > 0 { manner.time(state.now) } else { String::new() };
    let (tone, said) = match &state.reach {
        Reach::Away(_) => (Tone::Bad, "the ledger does not answer  "),
        Reach::Opening => (Tone::Dim, "opening the ledger  "),
        Reach::Missing(_) => (Tone::Warn, "no ledger yet  "),
        Reach::Here => (Tone::Plain, ""),
    };
    let aside = text::width(said) + time.len() + 1;
    let at = brush.line(area.x, area.y, area.width, &[(Tone::Bold, "quorate")]);
    let room = area.right().saturating_sub(at).saturating_sub(u16::try_from(aside).unwrap_or(0));
    if let Some((id, goal)) = state.looked.as_ref().and_then(|looked| looked.run.as_ref()) {
        let runs = state.looked.as_ref().map_or(0, |looked| looked.runs);
        let more = if runs > 1 { format!(" (+{} more)", runs - 1) } else { String::new() };
        let words = format!("  run {id}{more}  {}", one_line(goal));
        brush.put(at, area.y, room, &words, Tone::Plain);
    }
    brush.right(at, area.right(), area.y, &[(tone, said), (Tone::Dim, &time)]);
}

/// The second line: tasks by state; while the ledger does not answer, why not.
fn tasks(state: &State, brush: &mut Brush<'_>, area: Rect) {
    match &state.reach {
        Reach::Away(why) => {
            brush.line(area.x, area.y, area.width, &[(Tone::Bad, why), (Tone::Dim, "; trying again")]);
            return;
        }
        Reach::Missing(place) => {
            let words = [(Tone::Plain, "waiting for one at "), (Tone::Plain, place.as_str())];
            brush.line(area.x, area.y, area.width, &words);
            return;
        }
        Reach::Opening => return,
        Reach::Here => {}
    }
    let counts = TASK_STATES.iter().filter_map(|wanted| {
        let (_, count) = state.counts.iter().find(|(name, count)| name == wanted && *count > 0)?;
        Some((*wanted, *count))
    });
    counted(brush, area, "tasks", counts.collect());
}

/// Writes counts by state, as far as there is room for whole ones.
fn counted(brush: &mut Brush<'_>, area: Rect, what: &str, counts: Vec<(&'static str, i64)>) -> u16 {
    let all: i64 = counts.iter().map(|(_, count)| count).sum();
    let what = if all == 1 { what.trim_end_matches('s') } else { what };
    let mut at = brush.put(area.x, area.y, area.width, &format!("{all} {what}"), Tone::Bold);
    for (name, count) in counts {
        let words = format!("  {count} {name}");
        let wide = u16::try_from(text::width(&words)).unwrap_or(u16::MAX);
        if at.saturating_add(wide) > area.right() {
            return brush.put(at, area.y, area.right().saturating_sub(at), " …", Tone::Dim);
        }
        at = brush.put(at, area.y, wide, &words, Tone::of_state(name));
    }
    at
}

/// The third line: agents by state, and how many tasks are completed by the minute.
fn speed(state: &State, brush: &mut Brush<'_>, area: Rect) {
    let Some(agents) = state.looked.as_ref().map(|looked| &looked.agents) else { return };
    let rate = format!("{} done/min ", state.pace.per_minute(state.now));
    let rate_wide = u16::try_from(text::width(&rate)).unwrap_or(0);
    let bars = area
        .width
        .saturating_sub(rate_wide + 30)
        .min(u16::try_from(STRETCHES).unwrap_or(60))
        .min(area.width / 3);
    let left = area.width.saturating_sub(rate_wide + bars + 1);
    let what = if agents.is_cut { "agents or more" } else { "agents" };
    let at = counted(brush, Rect { width: left, ..area }, what, by_state(&agents.rows));
    let line = sparkline(&state.pace.last(state.now, usize::from(bars)));
    brush.right(at, area.right(), area.y, &[(Tone::Plain, &rate), (Tone::Good, &line)]);
}

fn by_state(agents: &[AgentView]) -> Vec<(&'static str, i64)> {
    let count = |name: &str| agents.iter().filter(|view| view.state.as_str() == name).count();
    let counts = AGENT_STATES.into_iter().map(|name| (name, i64::try_from(count(name)).unwrap_or(i64::MAX)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The last line.
fn foot(state: &State, brush: &mut Brush<'_>, area: Rect) {
    if let Some((question, _)) = &state.question {
        let words = [
            (Tone::Warn, question.as_str()),
            (Tone::Bold, "  y"),
            (Tone::Plain, " yes  "),
            (Tone::Bold, "n"),
            (Tone::Plain, " no"),
        ];
        brush.line(area.x, area.y, area.width, &words);
    } else if state.is_typing {
        let filter = state.lists.filter.as_str();
        let words = [
            (Tone::Bold, "/"),
            (Tone::Plain, filter),
            (Tone::Bold, "▏"),
            (Tone::Dim, "  Enter keeps it, Esc drops it"),
        ];
        brush.line(area.x, area.y, area.width, &words);
    } else if let Some(remark) = &state.remark {
        let tone = if remark.is_good { Tone::Good } else { Tone::Warn };
        brush.put(area.x, area.y, area.width, &remark.words, tone);
    } else {
        keys(state, brush, area);
    }
}

/// The keys that matter most, as far as there is room.
fn keys(state: &State, brush: &mut Brush<'_>, area: Rect) {
    let filtered = !state.lists.filter.is_empty();
    let shown: &[(&str, &str)] = match state.mode() {
        Mode::Help => &[("any key", "back")],
        Mode::Task => &[
            ("Esc", "back"),
            ("?", "help"),
            ("↑↓", "output"),
            ("←→", "attempt"),
            ("c", "cancel"),
            ("r", "retry"),
            ("u", "unpark"),
            ("p", "pause"),
        ],
        _ if filtered => &[
            ("q", "quit"),
            ("?", "help"),
            ("Esc", "all again"),
            ("Enter", "open"),
            ("Tab", "list"),
            ("s", "sort"),
        ],
        _ => &[
            ("q", "quit"),
            ("?", "help"),
            ("Enter", "open"),
            ("Tab", "list"),
            ("/", "filter"),
            ("s", "sort"),
            ("p", "pause"),
            ("c", "cancel"),
            ("r", "retry"),
        ],
    };
    let mut at = area.x;
    for (key, what) in shown {
        let wide = u16::try_from(text::width(key) + text::width(what) + 3).unwrap_or(u16::MAX);
        if at.saturating_add(wide) > area.right() {
            break;
        }
        brush.line(at, area.y, wide, &[(Tone::Bold, key), (Tone::Plain, " "), (Tone::Dim, what)]);
        at += wide;
    }
    if filtered && !matches!(state.mode(), Mode::Task | Mode::Help) {
        brush.right(at, area.right(), area.y, &[(Tone::Warn, "/"), (Tone::Warn, &state.lists.filter)]);
    }
}

#[cfg(test)]
mod tests;
