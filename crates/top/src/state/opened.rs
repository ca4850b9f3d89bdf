//! One task that is looked at: its story and the output of one of its attempts.
//!
//! Here lives which attempt is shown and which part of its output. Reading them is done elsewhere.

use super::Lines;
use crate::keys::Action;
use quorate_model::TaskId;
use quorate_service::view::TaskStory;
use std::collections::VecDeque;

/// Lines of output that are kept to be shown.
pub(crate) const LINES_MAX: usize = 2_000;
/// Lines of a page.
const PAGE: usize = 10;

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// The task.
    pub id: TaskId,
    /// The attempt; `None` is the latest.
    pub attempt: Option<i64>,
}

/// A task that is looked at.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) shown: Shown,
    pub(crate) story: Option<TaskStory>,
    pub(crate) lines: VecDeque<String>,
    /// What is to be said about the lines.
    pub(crate) note: Option<String>,
    /// Whose lines they are.
    pub(crate) of: Option<i64>,
    /// How many lines one has gone back from the end; at 0 the end is followed.
    pub(crate) back: usize,
}

impl Opened {
    pub(crate) fn new(id: TaskId) -> Opened {
        let shown = Shown { id, attempt: None };
        Opened { shown, story: None, lines: VecDeque::new(), note: None, of: None, back: 0 }
    }

    /// Returns who has the task, or had it last.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.story.as_ref()?.task.owner.as_deref()
    }

    pub(crate) fn tell(&mut self, story: TaskStory) {
        self.story = Some(story);
    }

    /// Takes in lines of the attempt that is shown.
    pub(crate) fn add(&mut self, lines: Lines) {
        let is_wanted = self.shown.attempt.is_none_or(|attempt| attempt == lines.attempt);
        if lines.task != self.shown.id || !is_wanted {
            return;
        }
        if lines.anew {
            self.lines.clear();
            self.note = None;
            self.back = 0;
        }
        self.of = Some(lines.attempt);
        self.note = lines.note.or(self.note.take());
        if self.back > 0 {
            // What is looked at stays where it is while lines come.
            self.back += lines.lines.len();
        }
        self.lines.extend(lines.lines);
        while self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
        self.back = self.back.min(self.lines.len());
    }

    /// Goes to another attempt; answers whether there is one.
    pub(crate) fn turn(&mut self, by: i64) -> bool {
        let Some(story) = &self.story else { return false };
        let numbers: Vec<i64> = story.attempts.iter().map(|attempt| attempt.number).collect();
        let here = self.shown.attempt.or(numbers.last().copied());
        let place = numbers.iter().position(|number| Some(*number) == here).unwrap_or(0);
        let Some(next) = isize::try_from(by).ok().and_then(|by| place.checked_add_signed(by)) else {
            return false;
        };
        let Some(number) = numbers.get(next) else { return false };
        // The latest stays the latest when another one begins.
        self.shown.attempt = (next + 1 < numbers.len()).then_some(*number);
        self.lines.clear();
        self.of = None;
        self.note = None;
        self.back = 0;
        true
    }

    /// Moves in the output.
    pub(crate) fn go(&mut self, action: Action) {
        let most = self.lines.len().saturating_sub(1);
        self.back = match action {
            Action::Up => self.back + 1,
            Action::Down => self.back.saturating_sub(1),
            Action::PageUp => self.back + PAGE,
            Action::PageDown => self.back.saturating_sub(PAGE),
            Action::First => most,
            Action::Last => 0,
            _ => self.back,
        }
        .min(most);
    }
}
