//! One task: its state and why, its attempts, and the output of one of them.

use super::Manner;
use crate::paint::{Brush, Tone, bar, length};
use crate::state::{Opened, State};
use quorate_model::TaskState;
use quorate_model::text::one_line;
use quorate_service::view::{Attempt, TaskStory};
use quorate_service::why::why;
use ratatui_core::layout::Rect;

/// Attempts that are listed at most, the one that is shown among them.
const ATTEMPTS: usize = 4;
/// What the output has at least, with its title.
const OUTPUT_LEAST: u16 = 4;
/// Columns of the words before a fact.
const WORD: u16 = 12;

pub(super) fn draw(state: &State, manner: &Manner, brush: &mut Brush<'_>, area: Rect) {
    let Some(opened) = &state.opened else { return };
    let Some(story) = &opened.story else {
        brush.put(area.x, area.y, area.width, &format!("reading task {} …", opened.shown.id), Tone::Dim);
        return;
    };
    let top = heading(story, brush, area);
    let most = area.height.saturating_sub(1).saturating_sub(OUTPUT_LEAST);
    // What is asked first comes first; on a small screen the rest gives way.
    let mut rows = state_of(story, state.now);
    rows.extend(attempts(story, opened, state.now, manner));
    rows.extend(work_of(story));
    rows.truncate(usize::from(most));
    let mut y = top;
    for row in &rows {
        brush.rows += 1;
        brush.put(area.x + 1, y, WORD - 1, &row.word, Tone::Dim);
        brush.put(area.x + WORD, y, area.width.saturating_sub(WORD), &row.fact, row.tone);
        if row.is_shown {
            brush.put(area.x, y, 1, "▸", Tone::Bold);
        }
        y += 1;
    }
    output(opened, story, brush, Rect { y, height: area.bottom().saturating_sub(y), ..area });
}

/// One fact in a line.
struct Row {
    word: String,
    tone: Tone,
    fact: String,
    /// Whether it is the attempt whose output is shown.
    is_shown: bool,
}

/// Makes a row of a fact, if there is one.
fn row(word: &str, tone: Tone, fact: Option<String>) -> Option<Row> {
    let fact = one_line(&fact.filter(|fact| !fact.is_empty())?);
    Some(Row { word: word.to_owned(), tone, fact, is_shown: false })
}

fn heading(story: &TaskStory, brush: &mut Brush<'_>, area: Rect) -> u16 {
    let task = &story.task;
    let rule = "─".repeat(usize::from(area.width));
    brush.put(area.x, area.y, area.width, &rule, Tone::Dim);
    let name = task.key.as_ref().map_or_else(String::new, |key| format!("{key}: "));
    let state = task.state.as_str();
    let words = [
        (Tone::Bold, format!("─ Task {} ", task.id)),
        (Tone::of_state(state), state.to_owned()),
        (Tone::Bold, format!("  {name}{} ", one_line(&task.title))),
    ];
    let words: Vec<(Tone, &str)> = words.iter().map(|(tone, words)| (*tone, words.as_str())).collect();
    brush.line(area.x, area.y, area.width, &words);
    area.y + 1
}

/// Where it is, and why.
fn state_of(story: &TaskStory, now: i64) -> Vec<Row> {
    let task = &story.task;
    let tone = Tone::of_state(if task.stuck { "stuck" } else { task.state.as_str() });
    let has = matches!(task.state, TaskState::Running | TaskState::Verifying);
    let said = task.message.as_deref().unwrap_or_default();
    let progress =
        (has || task.progress > 0).then(|| format!("{} {}%  {said}", bar(task.progress, 20), task.progress));
    let needs: Vec<String> =
        story.needs.iter().map(|(need, state)| format!("{} ({state})", need.key)).collect();
    let holds: Vec<&str> = story.claims.iter().map(|claim| claim.resource.as_str()).collect();
    let rows = [
        row("why", tone, why(story)),
        row("progress", Tone::Plain, progress),
        row(if has { "owner" } else { "last had" }, Tone::Plain, owner(story, now)),
        row("result", Tone::Good, task.result.clone()),
        row("needs", Tone::Plain, Some(needs.join(", "))),
        row("holds", Tone::Plain, Some(holds.join(", "))),
    ];
    rows.into_iter().flatten().collect()
}

fn owner(story: &TaskStory, now: i64) -> Option<String> {
    let task = &story.task;
    let lease = match task.lease_until {
        Some(until) if until >= now => format!(", lease ends in {}", length(until - now)),
        Some(until) => format!(", lease ended {} ago", length(now - until)),
        None => String::new(),
    };
    let owner = task.owner.as_ref()?;
    Some(format!("{owner}, attempt {} of {}, term {}{lease}", task.attempt, task.max_attempts, task.term))
}

/// What is to be done.
fn work_of(story: &TaskStory) -> Vec<Row> {
    let task = &story.task;
    let rows = [
        row("run", Tone::Dim, task.run.clone()),
        row("prompt", Tone::Dim, task.prompt.clone()),
        row("check", Tone::Dim, task.verify.clone()),
    ];
    rows.into_iter().flatten().collect()
}

/// Returns the attempts, the newest first, so many that the one whose output is shown is among them.
fn attempts(story: &TaskStory, opened: &Opened, now: i64, manner: &Manner) -> Vec<Row> {
    let shown = shown_attempt(story, opened);
    let place = story.attempts.iter().position(|attempt| Some(attempt.number) == shown).unwrap_or(0);
    let skipped = (story.attempts.len() - place).max(ATTEMPTS) - ATTEMPTS;
    let newest_first = story.attempts.iter().rev().skip(skipped).take(ATTEMPTS);
    newest_first
        .map(|attempt| {
            let outcome = attempt.outcome.as_deref().unwrap_or("running");
            Row {
                word: format!("attempt {}", attempt.number),
                tone: Tone::of_state(outcome),
                fact: attempt_line(attempt, now, manner),
                is_shown: Some(attempt.number) == shown,
            }
        })
        .collect()
}

fn shown_attempt(story: &TaskStory, opened: &Opened) -> Option<i64> {
    opened.shown.attempt.or(story.attempts.last().map(|attempt| attempt.number))
}

fn attempt_line(attempt: &Attempt, now: i64, manner: &Manner) -> String {
    let outcome = attempt.outcome.as_deref().unwrap_or("running");
    let took = match attempt.ended_at {
        Some(at) => format!("took {}", length(at - attempt.started_at)),
        None => format!("for {}", length(now - attempt.started_at)),
    };
    let evidence = attempt.evidence.as_ref().map_or_else(String::new, |said| format!(" ({said})"));
    let reason = attempt.reason.as_ref().map_or_else(String::new, |why| format!(": {}", one_line(why)));
    let began = manner.time(attempt.started_at);
    format!("{began}  {}  {outcome}{evidence}, {took}{reason}", attempt.agent)
}

fn output(opened: &Opened, story: &TaskStory, brush: &mut Brush<'_>, area: Rect) {
    if area.height == 0 {
        return;
    }
    let rule = "─".repeat(usize::from(area.width));
    brush.put(area.x, area.y, area.width, &rule, Tone::Dim);
    let of = opened.of.map_or_else(String::new, |number| format!(" of attempt {number}"));
    let at = brush.put(area.x, area.y, area.width, &format!("─ Output{of} "), Tone::Bold);
    let shown = shown_attempt(story, opened);
    let is_live = story.attempts.iter().any(|it| Some(it.number) == shown && it.ended_at.is_none());
    let place = match (opened.back, is_live) {
        (0, true) => " following ".to_owned(),
        (0, false) => String::new(),
        (back, _) => format!(" {back} lines back, End goes to the end "),
    };
    brush.right(at, area.right().saturating_sub(1), area.y, &[(Tone::Dim, &place)]);
    let mut rows = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if let Some(note) = opened.note.as_ref().filter(|_| rows.height > 1) {
        brush.put(rows.x + 1, rows.y, rows.width.saturating_sub(1), note, Tone::Warn);
        rows = Rect { y: rows.y + 1, height: rows.height - 1, ..rows };
    }
    if opened.lines.is_empty() {
        let words = match (story.attempts.is_empty(), opened.of) {
            (true, _) => "it was not tried yet",
            (false, None) => "reading it …",
            (false, Some(_)) => "nothing was printed yet",
        };
        brush.put(rows.x + 1, rows.y, rows.width.saturating_sub(1), words, Tone::Dim);
        return;
    }
    let end = opened.lines.len() - opened.back.min(opened.lines.len());
    let first = end.saturating_sub(usize::from(rows.height));
    let shown = opened.lines.range(first..opened.lines.len());
    for (y, line) in (rows.y..rows.bottom()).zip(shown) {
        brush.rows += 1;
        brush.put(rows.x, y, rows.width, line, Tone::Plain);
    }
}
