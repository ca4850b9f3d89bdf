//! What the keys do.

use crate::paint::{Brush, Tone};
use ratatui_core::layout::Rect;

const KEYS: [(&str, &str); 15] = [
    ("↑ ↓  j k", "move; in a task: through its output"),
    ("PgUp PgDn", "by pages; Home and End to the ends (End follows)"),
    ("Tab  ← →", "to the next list; in a task: to another attempt"),
    ("Enter", "open the task: why it waits, its attempts, its output"),
    ("Esc", "back; in the lists: without the filter"),
    ("/", "show only what has this word in it"),
    ("s", "sort the list by something else"),
    ("p", "pause the agent, or let it work again"),
    ("c", "cancel the task (asks first)"),
    ("r", "retry a task that failed or was cancelled"),
    ("u", "let a parked task go on"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "to the shell, until `fg`"),
    ("?", "this"),
    ("q", "quit; nothing that runs is touched"),
];

pub(super) fn draw(brush: &mut Brush<'_>, area: Rect) {
    for (y, (keys, what)) in (area.y..area.bottom()).zip(KEYS) {
        brush.rows += 1;
        brush.put(area.x + 1, y, area.width.saturating_sub(1), keys, Tone::Bold);
        let at = area.x + 12;
        brush.put(at, y, area.right().saturating_sub(at), what, Tone::Plain);
    }
}
