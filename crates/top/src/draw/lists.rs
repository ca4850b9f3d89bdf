//! The four lists.
//!
//! Here live how they share the screen and what stands in which column. On a wide screen the team has the left half.

use super::Manner;
use crate::columns::{Column, GAP, share, split};
use crate::paint::{Brush, Tone, bar, length};
use crate::state::{Concern, Pane, Reach, State, Who};
use quorate_model::TaskState;
use quorate_model::text::{self, one_line};
use quorate_service::event::Logged;
use quorate_service::top::{Line, Looked, Use};
use quorate_service::view::{AgentView, is_unattended};
use ratatui_core::layout::Rect;

/// From this width and height on, there are two columns of lists.
const WIDE: (u16, u16) = (130, 16);
/// A list has its title and so many rows at least, or it is not shown.
const LIST_LEAST: u16 = 3;

pub(super) fn draw(state: &State, manner: &Manner, brush: &mut Brush<'_>, area: Rect) {
    let Some(looked) = &state.looked else {
        return nothing(state, brush, area);
    };
    if area.width >= WIDE.0 && area.height >= WIDE.1 {
        let left = Rect { width: area.width * 9 / 20, ..area };
        let right = Rect { x: left.right() + 1, width: area.width - left.width - 1, ..area };
        one(Pane::Agents, state, looked, manner, brush, left);
        return stack(&Pane::ALL[1..], state, looked, manner, brush, right);
    }
    stack(&Pane::ALL, state, looked, manner, brush, area);
}

fn nothing(state: &State, brush: &mut Brush<'_>, area: Rect) {
    if let Reach::Missing(_) = &state.reach {
        let y = area.y + 1;
        brush.put(
            area.x,
            y,
            area.width,
            "`quorate up`, `quorate run PLAN` or `quorate task add` makes it",
            Tone::Dim,
        );
    }
}

/// Draws lists one above the other; the chosen one is there whatever the height.
fn stack(panes: &[Pane], state: &State, looked: &Looked, manner: &Manner, brush: &mut Brush<'_>, area: Rect) {
    let mut shown: Vec<Pane> = panes.iter().copied().filter(|pane| wants(state, *pane) > 0).collect();
    let fits = usize::from(area.height / LIST_LEAST).max(1);
    while shown.len() > fits {
        let last = shown.iter().rposition(|pane| *pane != state.lists.focus).unwrap_or(0);
        shown.remove(last);
    }
    let wants: Vec<u16> = shown.iter().map(|pane| wants(state, *pane)).collect();
    let mut y = area.y;
    for (pane, height) in shown.into_iter().zip(split(area.height, &wants, LIST_LEAST)) {
        one(pane, state, looked, manner, brush, Rect { y, height, ..area });
        y += height;
    }
}

/// Lines that a list would like to have, its title with it; without rows, what wants a look is not shown.
fn wants(state: &State, pane: Pane) -> u16 {
    let rows = u16::try_from(state.lists.len(pane)).unwrap_or(u16::MAX);
    match (pane, rows) {
        (Pane::Concerns, 0) => 0,
        (_, 0) => 2,
        (_, rows) => rows.saturating_add(1),
    }
}

fn one(pane: Pane, state: &State, looked: &Looked, manner: &Manner, brush: &mut Brush<'_>, area: Rect) {
    if area.height == 0 {
        return;
    }
    let columns = columns(pane, looked);
    let widths = share(area.width.saturating_sub(1), &columns);
    let sheet = Sheet { state, looked, manner, columns, widths };
    title(&sheet, pane, brush, area);
    let rows = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let count = state.lists.len(pane);
    if count == 0 {
        brush.put(rows.x + 1, rows.y, rows.width.saturating_sub(1), none(pane, state), Tone::Dim);
        return;
    }
    let cursor = state.lists.cursor(pane);
    let first = first_shown(cursor, count, usize::from(rows.height));
    for (y, at) in (rows.y..rows.bottom()).zip(first..count) {
        brush.rows += 1;
        sheet.row(pane, at, brush, Rect { y, height: 1, ..rows });
        if at == cursor && pane == state.lists.focus {
            brush.choose(rows, y);
        }
    }
}

/// Which row is the first that is shown: the chosen one stays in the middle as far as the ends let it.
fn first_shown(cursor: usize, count: usize, height: usize) -> usize {
    cursor.saturating_sub(height / 2).min(count.saturating_sub(height))
}

fn none(pane: Pane, state: &State) -> &'static str {
    match pane {
        _ if !state.lists.filter.is_empty() => "nothing has this word in it",
        Pane::Agents => "no agents yet: `quorate up` starts some",
        Pane::Running if unattended(state) => {
            "nobody is there to do what is ready: `quorate up` starts a node"
        }
        Pane::Running => "nothing is running",
        Pane::Concerns => "nothing wants a look",
        Pane::Events => "nothing has happened yet",
    }
}

/// Tells whether tasks are ready and no node and no agent is there: nothing goes on by itself.
fn unattended(state: &State) -> bool {
    let ready =
        state.counts.iter().filter(|(name, _)| name == TaskState::Ready.as_str()).map(|(_, n)| n).sum();
    state.looked.as_ref().is_some_and(|looked| is_unattended(looked.agents.rows.iter(), ready))
}

fn title(sheet: &Sheet<'_>, pane: Pane, brush: &mut Brush<'_>, area: Rect) {
    let (state, looked) = (sheet.state, sheet.looked);
    let tasks = [&looked.parked, &looked.blocked, &looked.failed];
    let (name, is_cut) = match pane {
        Pane::Agents => ("Agents", looked.agents.is_cut),
        Pane::Running => ("Running", looked.running.is_cut),
        Pane::Concerns => ("Needs a look", tasks.iter().any(|list| list.is_cut)),
        Pane::Events => ("Events", false),
    };
    let count = state.lists.len(pane);
    let is_chosen = pane == state.lists.focus;
    let mut words = match (pane, is_cut) {
        (Pane::Events, _) => format!(" {name} "),
        (_, true) => format!(" {name} {count}+ "),
        (_, false) => format!(" {name} {count} "),
    };
    if is_chosen && count > 1 && pane != Pane::Events {
        words.push_str(&format!("{} ", state.lists.order(pane).as_str()));
    }
    brush.put(area.x, area.y, area.width, &"─".repeat(usize::from(area.width)), Tone::Dim);
    let tone = if is_chosen { Tone::Bold } else { Tone::Plain };
    let mark = if is_chosen { "▸" } else { "─" };
    let at = brush.line(area.x, area.y, area.width, &[(tone, mark), (tone, &words)]);
    if count > 0 {
        labels(sheet, brush, area, at);
    }
}

/// Names the columns whose numbers do not tell what they are, in the line above them, as far as they are to the right
/// of what stands there.
fn labels(sheet: &Sheet<'_>, brush: &mut Brush<'_>, area: Rect, from: u16) {
    let mut end = area.x + 1;
    for (&width, column) in sheet.widths.iter().zip(&sheet.columns) {
        end = end.saturating_add(width);
        let wide = u16::try_from(column.label.len()).unwrap_or(0);
        if width >= wide && wide > 0 && end.saturating_sub(wide) > from {
            brush.put(end - wide - 1, area.y, wide + 1, &format!(" {}", column.label), Tone::Dim);
        }
        end = if width > 0 { end.saturating_add(GAP) } else { end };
    }
}

/// What a row is made of.
struct Sheet<'a> {
    state: &'a State,
    looked: &'a Looked,
    manner: &'a Manner,
    columns: Vec<Column>,
    widths: Vec<u16>,
}

/// A cell: its words, its tone, and how it fills its column.
struct Cell {
    words: String,
    tone: Tone,
    fill: Fill,
}

enum Fill {
    Left,
    Right,
    /// A bar for a share of a hundred, as long as the column is wide.
    Bar(i64),
}

fn cell(words: impl Into<String>, tone: Tone) -> Cell {
    Cell { words: words.into(), tone, fill: Fill::Left }
}

fn right(words: impl Into<String>, tone: Tone) -> Cell {
    Cell { words: words.into(), tone, fill: Fill::Right }
}

fn share_of(percent: Option<i64>, tone: Tone) -> Cell {
    Cell { words: String::new(), tone, fill: percent.map_or(Fill::Left, Fill::Bar) }
}

fn column(least: u16, wish: u16, stretch: u16, goes: u16) -> Column {
    Column { least, wish, stretch, goes, label: "" }
}

fn labelled(label: &'static str, least: u16, wish: u16, goes: u16) -> Column {
    Column { label, ..column(least, wish, 0, goes) }
}

impl Sheet<'_> {
    fn row(&self, pane: Pane, at: usize, brush: &mut Brush<'_>, area: Rect) {
        let lists = &self.state.lists;
        match pane {
            Pane::Agents => self.agent(&self.looked.agents.rows[lists.agents[at]], brush, area),
            Pane::Running => self.running(&self.looked.running.rows[lists.running[at]], brush, area),
            Pane::Concerns => self.concern(&lists.concerns[at], brush, area),
            Pane::Events => self.event(&self.state.events[lists.events[at]], brush, area),
        }
    }

    fn cells(&self, brush: &mut Brush<'_>, area: Rect, cells: &[Cell]) {
        let mut x = area.x + 1;
        for (&width, cell) in self.widths.iter().zip(cells) {
            if width == 0 {
                continue;
            }
            let room = width.min(area.right().saturating_sub(x));
            match cell.fill {
                Fill::Left => drop(brush.put(x, area.y, room, &cell.words, cell.tone)),
                Fill::Bar(percent) => drop(brush.put(x, area.y, room, &bar(percent, room), cell.tone)),
                Fill::Right => {
                    let wide = u16::try_from(text::width(&cell.words)).unwrap_or(u16::MAX);
                    let indent = room.saturating_sub(wide);
                    brush.put(x + indent, area.y, room - indent, &cell.words, cell.tone);
                }
            }
            x = x.saturating_add(width + GAP);
        }
    }

    fn agent(&self, view: &AgentView, brush: &mut Brush<'_>, area: Rect) {
        let usage = &self.looked.usage;
        let line = view.task.and_then(|id| self.state.lists.running_line(self.looked, id));
        let state = view.state.as_str();
        let task = match (view.task, line) {
            (Some(id), Some(line)) => {
                format!("{id} {}", one_line(line.key.as_deref().unwrap_or(&line.title)))
            }
            (Some(id), None) => id.to_string(),
            (None, _) => String::new(),
        };
        let seen = view.agent.heartbeat_at.map_or_else(String::new, |at| length(self.state.now - at));
        let used = usage.get(&view.agent.name);
        let share = used.and_then(|of| of.context_percent).map_or_else(String::new, |p| format!("{p}%"));
        let usd = used.and_then(|of| of.usd).map_or_else(String::new, |usd| format!("${usd:.2}"));
        let cells = [
            cell(&view.agent.name, Tone::Plain),
            cell(state, Tone::of_state(state)),
            cell(task, Tone::Plain),
            share_of(line.map(|line| line.progress), Tone::Busy),
            right(seen, Tone::Dim),
            right(share, Tone::Plain),
            right(usd, Tone::Plain),
        ];
        self.cells(brush, area, &cells);
    }

    fn running(&self, line: &Line, brush: &mut Brush<'_>, area: Rect) {
        let said = match (line.state, &line.message) {
            (TaskState::Verifying, _) => "being checked".to_owned(),
            (_, Some(message)) => one_line(message),
            (_, None) if line.attempt > 1 => format!("attempt {}", line.attempt),
            (_, None) => String::new(),
        };
        let tone = if line.stuck { Tone::Warn } else { Tone::Busy };
        let age = line.started_at.map_or_else(String::new, |at| length(self.state.now - at));
        let cells = [
            right(line.id.to_string(), Tone::Dim),
            cell(one_line(line.key.as_deref().unwrap_or(&line.title)), Tone::Plain),
            cell(line.owner.clone().unwrap_or_default(), Tone::Plain),
            share_of(Some(line.progress), tone),
            right(format!("{}%", line.progress.clamp(0, 100)), Tone::Plain),
            cell(said, Tone::Dim),
            right(age, Tone::Dim),
        ];
        self.cells(brush, area, &cells);
    }

    fn concern(&self, concern: &Concern, brush: &mut Brush<'_>, area: Rect) {
        let who = match &concern.who {
            Who::Agent(name) => name.clone(),
            Who::Task(id, name) => format!("{id} {name}"),
        };
        let when = match (concern.until, concern.since) {
            (Some(until), _) => format!("in {}", length(until - self.state.now)),
            (None, Some(since)) => length(self.state.now - since),
            (None, None) => String::new(),
        };
        let cells = [
            cell(concern.state, Tone::of_state(concern.state)),
            cell(who, Tone::Plain),
            cell(&concern.why, Tone::Plain),
            right(when, Tone::Dim),
        ];
        self.cells(brush, area, &cells);
    }

    fn event(&self, event: &Logged, brush: &mut Brush<'_>, area: Rect) {
        let cells = [
            cell(self.manner.time(event.at), Tone::Dim),
            cell(&event.kind, Tone::of_event(&event.kind)),
            cell(one_line(&event.message), Tone::Plain),
        ];
        self.cells(brush, area, &cells);
    }
}

/// The columns of a list.
fn columns(pane: Pane, looked: &Looked) -> Vec<Column> {
    match pane {
        Pane::Agents => agent_columns(looked),
        Pane::Running => vec![
            column(4, 6, 0, 0),
            column(8, 18, 1, 0),
            column(6, 12, 0, 5),
            column(6, 10, 0, 4),
            column(4, 4, 0, 0),
            column(8, 8, 2, 6),
            labelled("for", 5, 6, 3),
        ],
        Pane::Concerns => {
            vec![column(7, 7, 0, 0), column(8, 18, 0, 0), column(8, 20, 1, 2), labelled("for", 6, 6, 1)]
        }
        Pane::Events => vec![column(8, 8, 0, 2), column(8, 19, 0, 1), column(8, 20, 1, 0)],
    }
}

/// What agents use has columns only where some of it is known.
fn agent_columns(looked: &Looked) -> Vec<Column> {
    let usage = &looked.usage;
    let knows = |what: fn(&Use) -> bool| usage.values().any(what);
    let context = if knows(|of| of.context_percent.is_some()) { 4 } else { 0 };
    let cost = if knows(|of| of.usd.is_some()) { 8 } else { 0 };
    vec![
        column(8, 16, 0, 0),
        column(7, 7, 0, 0),
        column(10, 12, 1, 4),
        column(8, 8, 0, 5),
        labelled("seen", 4, 4, 2),
        labelled("ctx", context, context, 3),
        labelled("cost", cost, cost, 1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_row_is_always_shown() {
        for (count, height) in [(1, 1), (5, 10), (10, 5), (1_000, 4), (3, 3)] {
            for cursor in 0..count {
                let first = first_shown(cursor, count, height);
                assert!(first <= cursor && cursor < first + height, "{cursor} of {count} in {height}");
                assert!(first == 0 || first + height <= count, "no room is wasted");
            }
        }
    }
}
