//! What is known and what is chosen: everything that the screen is drawn from.
//!
//! Here live the state of the screen, what [`News`] from the ledger change in it, and what a person's [`Action`]s do.
//! Pure: nothing is read, written or drawn here. What is to be done outside comes back as an [`Order`].

mod lists;
mod opened;

pub(crate) use lists::{Concern, Key, Pane, Who};
pub(crate) use opened::Opened;
pub use opened::Shown;

use crate::INTERRUPTED;
use crate::keys::{Action, Mode};
use crate::pace::Pace;
use lists::Lists;
use quorate_model::text::one_line;
use quorate_model::{AgentState, TaskId, TaskState};
use quorate_service::event::Logged;
use quorate_service::top::Looked;
use quorate_service::view::TaskStory;
use std::collections::VecDeque;

/// Events that are kept to be shown.
pub(crate) const EVENTS_MAX: usize = 500;
/// The longest filter, in characters.
const FILTER_MAX: usize = 40;
/// How long a remark is shown, in milliseconds.
const REMARK_MS: i64 = 6_000;
/// Rows of a page.
const PAGE: usize = 10;

/// What is new in the ledger.
#[derive(Debug)]
pub enum News {
    /// There is no ledger yet; where one is expected.
    Missing(String),
    /// The ledger does not answer; why.
    Away(String),
    /// What changes by the second.
    Looked(Box<Looked>),
    /// All tasks, counted by state.
    Tally(Vec<(String, i64)>),
    /// What came into the log, in order.
    Events(Vec<Logged>),
    /// The task that is shown.
    Story(Box<TaskStory>),
    /// The task that is to be shown cannot be; why.
    NoStory(TaskId, String),
    /// Lines of an attempt's output.
    Output(Lines),
    /// How something that was asked for went: the words, and whether it went well.
    Done(String, bool),
}

/// Lines of an attempt's output.
#[derive(Debug)]
pub struct Lines {
    /// The task.
    pub task: TaskId,
    /// The attempt's number.
    pub attempt: i64,
    /// Whether they replace what is shown.
    pub anew: bool,
    /// The lines.
    pub lines: Vec<String>,
    /// What is to be said about them.
    pub note: Option<String>,
}

/// What is to be done outside of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Read this task, or no more.
    Show(Option<Shown>),
    /// Do this in the ledger.
    Do(Deed),
    /// Draw everything anew.
    Redraw,
    /// Give the terminal back for a while.
    Suspend,
    /// End, with this exit code.
    Quit(u8),
}

/// A person's wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The agent is to take nothing more.
    Pause(String),
    /// The agent may take work again.
    Resume(String),
    /// The task is to be tried anew.
    Retry(TaskId),
    /// The task is to be called off.
    Cancel(TaskId),
    /// The parked task may go on.
    Unpark(TaskId),
}

/// Whether the ledger can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    /// Nothing has been heard of it yet.
    #[default]
    Opening,
    /// There is none yet; where one is expected.
    Missing(String),
    /// It answers.
    Here,
    /// It does not answer; why.
    Away(String),
}

/// A remark at the foot of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) words: String,
    pub(crate) is_good: bool,
    until: i64,
}

/// Everything that the screen is drawn from.
#[derive(Debug, Default)]
pub struct State {
    /// The ledger's time.
    pub(crate) now: i64,
    pub(crate) reach: Reach,
    pub(crate) looked: Option<Box<Looked>>,
    pub(crate) counts: Vec<(String, i64)>,
    pub(crate) events: VecDeque<Logged>,
    pub(crate) pace: Pace,
    pub(crate) lists: Lists,
    pub(crate) opened: Option<Opened>,
    /// What is asked, and what a yes does.
    pub(crate) question: Option<(String, Deed)>,
    pub(crate) remark: Option<Remark>,
    pub(crate) is_typing: bool,
    pub(crate) shows_help: bool,
}

impl State {
    /// Returns what keys are about now.
    pub fn mode(&self) -> Mode {
        match self {
            State { question: Some(_), .. } => Mode::Question,
            State { shows_help: true, .. } => Mode::Help,
            State { is_typing: true, .. } => Mode::Filter,
            State { opened: Some(_), .. } => Mode::Task,
            _ => Mode::Lists,
        }
    }

    /// Notes the ledger's time.
    pub fn tick(&mut self, now: i64) {
        self.now = now;
        if self.remark.as_ref().is_some_and(|remark| remark.until <= now) {
            self.remark = None;
        }
    }

    /// Takes in what is new.
    pub fn hear(&mut self, news: News) {
        match news {
            News::Missing(place) => self.reach = Reach::Missing(place),
            News::Away(why) => self.reach = Reach::Away(one_line(&why)),
            News::Looked(looked) => {
                self.reach = Reach::Here;
                self.now = looked.now;
                self.looked = Some(looked);
                self.arrange();
            }
            News::Tally(counts) => self.counts = counts,
            News::Events(events) => self.note_events(events),
            News::Story(story) => {
                if let Some(opened) = self.opened.as_mut().filter(|opened| opened.shown.id == story.task.id) {
                    opened.tell(*story);
                }
            }
            News::NoStory(id, why) => {
                if self.opened.take_if(|opened| opened.shown.id == id).is_some() {
                    self.remark(&why, false);
                }
            }
            News::Output(lines) => {
                if let Some(opened) = &mut self.opened {
                    opened.add(lines);
                }
            }
            News::Done(words, is_good) => self.remark(&words, is_good),
        }
    }

    fn note_events(&mut self, events: Vec<Logged>) {
        for event in events {
            // What is read anew after a gap may hold what is shown already.
            if self.events.back().is_some_and(|last| last.seq >= event.seq) {
                continue;
            }
            if event.kind == "task.completed" {
                self.pace.add(event.at);
            }
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
        self.lists.arrange_events(&self.events);
    }

    fn arrange(&mut self) {
        if let Some(looked) = &self.looked {
            self.lists.arrange(looked);
        }
        self.lists.arrange_events(&self.events);
    }

    fn remark(&mut self, words: &str, is_good: bool) {
        self.remark = Some(Remark { words: one_line(words), is_good, until: self.now + REMARK_MS });
    }

    /// Does what a person wants, as far as it is a matter of the screen; answers with the rest.
    pub fn act(&mut self, action: Action) -> Option<Order> {
        match action {
            Action::Interrupt => return Some(Order::Quit(INTERRUPTED)),
            Action::Quit => return Some(Order::Quit(0)),
            Action::Suspend => return Some(Order::Suspend),
            Action::Redraw => return Some(Order::Redraw),
            Action::Help => self.shows_help = !self.shows_help,
            Action::Yes => return self.question.take().map(|(_, deed)| Order::Do(deed)),
            Action::No => self.question = None,
            Action::Filter | Action::Type(_) | Action::Erase | Action::Accept => self.filter(action),
            Action::Back => return self.back(),
            Action::Open => return self.open(),
            Action::Pause => return self.pause(),
            Action::Retry | Action::Cancel | Action::Unpark => return self.wish(action),
            Action::AttemptBefore => return self.turn(-1),
            Action::NextAttempt => return self.turn(1),
            _ => self.go(action),
        }
        None
    }

    fn filter(&mut self, action: Action) {
        let filter = &mut self.lists.filter;
        match action {
            Action::Filter => self.is_typing = true,
            Action::Type(c) if filter.chars().count() < FILTER_MAX => filter.push(c),
            Action::Erase => drop(filter.pop()),
            Action::Accept => self.is_typing = false,
            _ => {}
        }
        self.arrange();
    }

    fn back(&mut self) -> Option<Order> {
        if self.opened.take().is_some() {
            return Some(Order::Show(None));
        }
        self.is_typing = false;
        self.lists.filter.clear();
        self.arrange();
        None
    }

    fn open(&mut self) -> Option<Order> {
        let Some(id) = self.chosen_task() else {
            self.remark("it has no task to look at", false);
            return None;
        };
        self.opened = Some(Opened::new(id));
        self.shown()
    }

    fn turn(&mut self, by: i64) -> Option<Order> {
        self.opened.as_mut()?.turn(by).then(|| self.shown()).flatten()
    }

    fn shown(&self) -> Option<Order> {
        self.opened.as_ref().map(|opened| Order::Show(Some(opened.shown)))
    }

    fn go(&mut self, action: Action) {
        if let Some(opened) = &mut self.opened {
            return opened.go(action);
        }
        match action {
            Action::NextPane => self.lists.next_pane(1),
            Action::PaneBefore => self.lists.next_pane(-1),
            Action::Sort => {
                self.lists.sort_on();
                self.arrange();
            }
            Action::Up => self.lists.step(-1),
            Action::Down => self.lists.step(1),
            Action::PageUp => self.lists.step(-(PAGE as isize)),
            Action::PageDown => self.lists.step(PAGE as isize),
            Action::First => self.lists.step(isize::MIN),
            Action::Last => self.lists.step(isize::MAX),
            _ => {}
        }
    }

    /// Returns the task that is shown or chosen; an agent stands for the one it has.
    fn chosen_task(&self) -> Option<TaskId> {
        if let Some(opened) = &self.opened {
            return Some(opened.shown.id);
        }
        match self.lists.chosen()? {
            Key::Task(id) => Some(id),
            Key::Agent(name) => self.lists.task_of(self.looked.as_ref()?, &name),
            Key::Event(seq) => self.events.iter().find(|event| event.seq == seq)?.task,
        }
    }

    fn chosen_agent(&self) -> Option<String> {
        if let Some(opened) = &self.opened {
            return opened.owner().map(str::to_owned);
        }
        match self.lists.chosen()? {
            Key::Agent(name) => Some(name),
            Key::Task(id) => {
                let running = &self.looked.as_ref()?.running.rows;
                running.iter().find(|line| line.id == id)?.owner.clone()
            }
            Key::Event(seq) => self.events.iter().find(|event| event.seq == seq)?.agent.clone(),
        }
    }

    fn pause(&mut self) -> Option<Order> {
        let found = self.chosen_agent().and_then(|name| {
            let agents = &self.looked.as_ref()?.agents.rows;
            let view = agents.iter().find(|view| view.agent.name == name)?;
            // Paused, or with its brake on: either way it is the same word that lets it work again.
            Some((name, view.agent.paused || view.state == AgentState::Failed))
        });
        match found {
            Some((name, true)) => Some(Order::Do(Deed::Resume(name))),
            Some((name, false)) => Some(Order::Do(Deed::Pause(name))),
            None => {
                self.remark("choose an agent to pause it (Tab goes to the next list)", false);
                None
            }
        }
    }

    /// Retries, cancels or unparks the chosen task, if its state, as far as it is known here, lets it.
    fn wish(&mut self, action: Action) -> Option<Order> {
        let Some(id) = self.chosen_task() else {
            self.remark("choose a task first", false);
            return None;
        };
        let state = self.state_of(id);
        let named = self.name_of(id);
        let over = matches!(state, Some(TaskState::Completed | TaskState::Failed | TaskState::Cancelled));
        let again = matches!(state, None | Some(TaskState::Failed | TaskState::Cancelled));
        let is_parked = matches!(state, None | Some(TaskState::Parked));
        match action {
            Action::Cancel if !over => {
                self.question = Some((format!("cancel task {named}?"), Deed::Cancel(id)));
                None
            }
            Action::Retry if again => Some(Order::Do(Deed::Retry(id))),
            Action::Unpark if is_parked => Some(Order::Do(Deed::Unpark(id))),
            _ => {
                let word = match action {
                    Action::Cancel => "cancel",
                    Action::Retry => "retry",
                    _ => "unpark",
                };
                let is = state.map_or("", TaskState::as_str);
                self.remark(&format!("cannot {word} task {named}: it is {is}"), false);
                None
            }
        }
    }

    fn state_of(&self, id: TaskId) -> Option<TaskState> {
        let story = self.opened.as_ref().and_then(|opened| opened.story.as_ref());
        if let Some(story) = story.filter(|story| story.task.id == id) {
            return Some(story.task.state);
        }
        self.lists.line(self.looked.as_ref()?, id).map(|line| line.state)
    }

    fn name_of(&self, id: TaskId) -> String {
        let key = self.looked.as_ref().and_then(|looked| self.lists.line(looked, id)?.key.clone());
        key.map_or_else(|| id.to_string(), |key| format!("{id} ({key})"))
    }
}

#[cfg(test)]
mod tests;
