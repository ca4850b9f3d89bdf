//! The four lists: what is in them, in which order, and what is chosen.
//!
//! Here lives what is computed once for each look, not for each frame: which rows pass the filter, how they are sorted,
//! and where the choice has gone. A choice is kept by what it is, not by where it is: it stays when rows move.

use quorate_model::text::one_line;
use quorate_model::{AgentState, Seq, TaskId, TaskState};
use quorate_service::event::Logged;
use quorate_service::top::{Line, Looked};
use quorate_service::view::AgentView;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

/// Rows of agents and tasks that want a look, at most.
const CONCERNS_MAX: usize = 500;

/// A list on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pane {
    /// The team.
    #[default]
    Agents,
    /// What is being worked at.
    Running,
    /// What somebody should look at.
    Concerns,
    /// The log.
    Events,
}

impl Pane {
    pub(crate) const ALL: [Pane; 4] = [Pane::Agents, Pane::Running, Pane::Concerns, Pane::Events];

    /// Returns by what a list can be sorted, in the order of the key.
    fn orders(self) -> &'static [Order] {
        match self {
            Pane::Agents => &[Order::Name, Order::State, Order::Task, Order::Silence],
            Pane::Running => &[Order::Id, Order::Progress, Order::Age, Order::Name],
            Pane::Concerns => &[Order::State, Order::Age, Order::Name],
            Pane::Events => &[Order::Age],
        }
    }
}

/// By what a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Name,
    State,
    Task,
    Silence,
    Id,
    Progress,
    Age,
}

impl Order {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Order::Name => "by name",
            Order::State => "the worst first",
            Order::Task => "by task",
            Order::Silence => "the longest silent first",
            Order::Id => "by id",
            Order::Progress => "by progress",
            Order::Age => "the oldest first",
        }
    }
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Agent(String),
    Task(TaskId),
    Event(Seq),
}

/// Whom a concern is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Agent(String),
    /// A task, by its name for people.
    Task(TaskId, String),
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Concern {
    /// stale, stuck, failed, blocked or parked.
    pub(crate) state: &'static str,
    pub(crate) who: Who,
    /// Why, in words.
    pub(crate) why: String,
    /// Since when, if that is known.
    pub(crate) since: Option<i64>,
    /// Until when, if that is known.
    pub(crate) until: Option<i64>,
    rank: usize,
}

/// Where the choice is in a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    pub(crate) at: usize,
    key: Option<Key>,
}

impl Cursor {
    /// Finds the choice in rows that may have moved; one that is gone passes to the row in its place.
    fn settle(&mut self, count: usize, key: impl Fn(usize) -> Key) {
        let found = self.key.as_ref().and_then(|chosen| (0..count).find(|at| key(*at) == *chosen));
        self.at = found.unwrap_or(self.at).min(count.saturating_sub(1));
        // A choice is made by moving. Before, the first row is marked, whatever it is.
        self.key = self.key.take().and_then(|_| (count > 0).then(|| key(self.at)));
    }
}

/// The lists.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) filter: String,
    pub(crate) focus: Pane,
    /// Places in the team, of those that are shown.
    pub(crate) agents: Vec<usize>,
    /// Places among the running tasks.
    pub(crate) running: Vec<usize>,
    pub(crate) concerns: Vec<Concern>,
    /// Places among the kept events, the oldest first.
    pub(crate) events: Vec<usize>,
    /// Where a running task stands.
    by_id: HashMap<TaskId, usize>,
    keys: [Vec<Key>; 4],
    cursors: [Cursor; 4],
    orders: [usize; 4],
    /// Whether the last event is followed.
    is_past: bool,
}

impl Lists {
    /// Returns by what a list is sorted.
    pub(crate) fn order(&self, pane: Pane) -> Order {
        let orders = pane.orders();
        orders[self.orders[pane as usize] % orders.len()]
    }

    /// Returns where the choice is in a list.
    pub(crate) fn cursor(&self, pane: Pane) -> usize {
        match pane {
            // While nobody has gone back, the newest event is the one that is seen.
            Pane::Events if !self.is_past => self.events.len().saturating_sub(1),
            pane => self.cursors[pane as usize].at,
        }
    }

    /// Returns how many rows a list has.
    pub(crate) fn len(&self, pane: Pane) -> usize {
        match pane {
            Pane::Agents => self.agents.len(),
            Pane::Running => self.running.len(),
            Pane::Concerns => self.concerns.len(),
            Pane::Events => self.events.len(),
        }
    }

    /// Returns a running task.
    pub(crate) fn running_line<'a>(&self, looked: &'a Looked, id: TaskId) -> Option<&'a Line> {
        looked.running.rows.get(*self.by_id.get(&id)?)
    }

    /// Returns a task in one line, wherever it is listed.
    pub(crate) fn line<'a>(&self, looked: &'a Looked, id: TaskId) -> Option<&'a Line> {
        let others = [&looked.parked, &looked.blocked, &looked.failed];
        let mut others = others.into_iter().flat_map(|list| &list.rows);
        self.running_line(looked, id).or_else(|| others.find(|line| line.id == id))
    }

    /// Returns the task that an agent has.
    pub(crate) fn task_of(&self, looked: &Looked, name: &str) -> Option<TaskId> {
        looked.agents.rows.iter().find(|view| view.agent.name == name)?.task
    }

    /// Returns what is chosen.
    pub(crate) fn chosen(&self) -> Option<Key> {
        self.keys[self.focus as usize].get(self.cursor(self.focus)).cloned()
    }

    /// Goes to the next list that has rows, or to the one before.
    pub(crate) fn next_pane(&mut self, by: isize) {
        let here = self.focus as isize;
        let count = Pane::ALL.len() as isize;
        let around = (1..count).map(|n| Pane::ALL[(here + by * n).rem_euclid(count) as usize]);
        if let Some(pane) = around.into_iter().find(|pane| self.len(*pane) > 0) {
            self.focus = pane;
        }
    }

    /// Moves the choice by so many rows, as far as there are any.
    pub(crate) fn step(&mut self, by: isize) {
        let (pane, count) = (self.focus, self.len(self.focus));
        let last = count.saturating_sub(1);
        let at = self.cursor(pane).saturating_add_signed(by).min(last);
        if pane == Pane::Events {
            self.is_past = at < last;
        }
        let key = self.keys[pane as usize].get(at).cloned();
        self.cursors[pane as usize] = Cursor { at, key };
    }

    /// Sorts the list by the next column.
    pub(crate) fn sort_on(&mut self) {
        let place = &mut self.orders[self.focus as usize];
        *place = (*place + 1) % self.focus.orders().len();
    }

    /// Makes the lists of a look.
    pub(crate) fn arrange(&mut self, looked: &Looked) {
        self.by_id = looked.running.rows.iter().enumerate().map(|(at, line)| (line.id, at)).collect();
        let filter = Filter::new(&self.filter);
        self.agents = self.agents_of(looked, &filter);
        self.running = self.running_of(looked, &filter);
        self.concerns = concerns(looked, &filter, self.order(Pane::Concerns));
        let agents = self.agents.iter().map(|at| Key::Agent(looked.agents.rows[*at].agent.name.clone()));
        self.keys[Pane::Agents as usize] = agents.collect();
        let running = self.running.iter().map(|at| Key::Task(looked.running.rows[*at].id));
        self.keys[Pane::Running as usize] = running.collect();
        let concerns = self.concerns.iter().map(|concern| match &concern.who {
            Who::Agent(name) => Key::Agent(name.clone()),
            Who::Task(id, _) => Key::Task(*id),
        });
        self.keys[Pane::Concerns as usize] = concerns.collect();
        for pane in [Pane::Agents, Pane::Running, Pane::Concerns] {
            self.settle(pane);
        }
    }

    /// Makes the list of events.
    pub(crate) fn arrange_events(&mut self, events: &VecDeque<Logged>) {
        let filter = Filter::new(&self.filter);
        let wanted = |event: &Logged| {
            filter.matches(&event.kind) || filter.matches(&event.message) || filter.any(&event.agent)
        };
        self.events = (0..events.len()).filter(|at| wanted(&events[*at])).collect();
        self.keys[Pane::Events as usize] = self.events.iter().map(|at| Key::Event(events[*at].seq)).collect();
        self.settle(Pane::Events);
    }

    fn settle(&mut self, pane: Pane) {
        let keys = &self.keys[pane as usize];
        self.cursors[pane as usize].settle(keys.len(), |at| keys[at].clone());
    }

    fn agents_of(&self, looked: &Looked, filter: &Filter) -> Vec<usize> {
        let rows = &looked.agents.rows;
        let wanted = |view: &AgentView| {
            let task = view.task.and_then(|id| self.running_line(looked, id));
            filter.matches(&view.agent.name)
                || filter.matches(view.state.as_str())
                || filter.matches(&view.agent.driver)
                || task.is_some_and(|line| filter.takes(line))
        };
        let mut places: Vec<usize> = (0..rows.len()).filter(|at| wanted(&rows[*at])).collect();
        // By name first: whatever else they are sorted by, those that are equal in it stay so.
        places.sort_by(|a, b| natural(&rows[*a].agent.name).cmp(&natural(&rows[*b].agent.name)));
        match self.order(Pane::Agents) {
            Order::State => places.sort_by_key(|at| rank_of_agent(rows[*at].state)),
            Order::Task => places.sort_by_key(|at| rows[*at].task.map_or(i64::MAX, |id| id.0)),
            Order::Silence => places.sort_by_key(|at| rows[*at].agent.heartbeat_at.unwrap_or(i64::MAX)),
            _ => {}
        }
        places
    }

    fn running_of(&self, looked: &Looked, filter: &Filter) -> Vec<usize> {
        let rows = &looked.running.rows;
        let mut places: Vec<usize> = (0..rows.len()).filter(|at| filter.takes(&rows[*at])).collect();
        match self.order(Pane::Running) {
            Order::Progress => places.sort_by_key(|at| Reverse(rows[*at].progress)),
            Order::Age => places.sort_by_key(|at| rows[*at].started_at.unwrap_or(i64::MAX)),
            Order::Name => places.sort_by_cached_key(|at| named(&rows[*at]).to_lowercase()),
            _ => places.sort_by_key(|at| rows[*at].id.0),
        }
        places
    }
}

/// Takes the digits at the end of a name for a number: `agent-2` before `agent-10`.
fn natural(name: &str) -> (&str, u64) {
    let words = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (words, name[words.len()..].parse().unwrap_or(0))
}

/// What a person knows a task by.
pub(crate) fn named(line: &Line) -> &str {
    line.key.as_deref().unwrap_or(&line.title)
}

fn rank_of_agent(state: AgentState) -> usize {
    match state {
        AgentState::Failed => 0,
        AgentState::Stale => 1,
        AgentState::Stuck => 2,
        AgentState::Blocked => 3,
        AgentState::Parked => 4,
        AgentState::Paused => 5,
        AgentState::Working => 6,
        AgentState::Ready => 7,
        AgentState::Idle => 8,
    }
}

/// What is looked for; nothing is found in everything.
struct Filter {
    word: String,
}

impl Filter {
    fn new(word: &str) -> Filter {
        Filter { word: word.trim().to_lowercase() }
    }

    fn matches(&self, text: &str) -> bool {
        self.word.is_empty() || text.to_lowercase().contains(&self.word)
    }

    fn any(&self, text: &Option<String>) -> bool {
        text.as_ref().is_some_and(|text| self.matches(text))
    }

    fn takes(&self, line: &Line) -> bool {
        self.matches(&line.title)
            || self.matches(line.state.as_str())
            || line.id.to_string() == self.word
            || [&line.key, &line.owner, &line.message, &line.reason].into_iter().any(|text| self.any(text))
    }
}

/// Collects what somebody should look at.
fn concerns(looked: &Looked, filter: &Filter, order: Order) -> Vec<Concern> {
    let agents = looked.agents.rows.iter().filter_map(|view| concern_of_agent(view, looked.now));
    let lists = [&looked.running, &looked.blocked, &looked.parked, &looked.failed];
    let tasks = lists.into_iter().flat_map(|list| &list.rows).filter_map(concern_of_task);
    let wanted = |concern: &Concern| {
        let who = match &concern.who {
            Who::Agent(name) | Who::Task(_, name) => name,
        };
        filter.matches(concern.state) || filter.matches(who) || filter.matches(&concern.why)
    };
    let mut found: Vec<Concern> = agents.chain(tasks).filter(wanted).collect();
    match order {
        Order::Age => found.sort_by_key(|concern| concern.since.unwrap_or(i64::MAX)),
        Order::Name => found.sort_by_cached_key(|concern| format!("{:?}", concern.who)),
        _ => found.sort_by_key(|concern| concern.rank),
    }
    found.truncate(CONCERNS_MAX);
    found
}

fn concern_of_agent(view: &AgentView, now: i64) -> Option<Concern> {
    let agent = &view.agent;
    let (rank, why) = match view.state {
        AgentState::Failed => (0, agent.reason.clone().unwrap_or_else(|| "its respawns are used up".into())),
        AgentState::Stale => (1, "no sign of life: its lease has lapsed".to_owned()),
        AgentState::Blocked => (4, agent.reason.clone().unwrap_or_else(|| "waits for a resource".into())),
        _ => return None,
    };
    let since = agent.heartbeat_at.filter(|at| *at <= now);
    let who = Who::Agent(agent.name.clone());
    Some(Concern { state: view.state.as_str(), who, why: one_line(&why), since, until: None, rank })
}

fn concern_of_task(line: &Line) -> Option<Concern> {
    let reason = || line.reason.clone().unwrap_or_default();
    let (state, rank, why, since) = match line.state {
        TaskState::Running if line.stuck => {
            let owner = line.owner.as_deref().unwrap_or("its agent");
            ("stuck", 2, format!("no sign of life of {owner}'s work"), line.active_at)
        }
        TaskState::Failed => ("failed", 3, reason(), line.finished_at),
        TaskState::Ready => ("blocked", 4, reason(), line.blocked_since),
        TaskState::Parked => ("parked", 5, reason(), None),
        _ => return None,
    };
    let who = Who::Task(line.id, one_line(named(line)));
    Some(Concern { state, who, why: one_line(&why), since, until: line.due_at.filter(|_| rank == 5), rank })
}
