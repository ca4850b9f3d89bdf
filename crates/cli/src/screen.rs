//! Watching a run: one bar per running task on a terminal, plain lines in a pipe.
//!
//! Here lives the showing of events as they come; it reads nothing itself. What is shown is what is in the log.

use crate::print;
use crate::print::table::cut;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use quorate_model::TaskId;
use quorate_service::event::Logged;
use quorate_service::task::Task;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// The widest name of a task that is shown whole.
const NAME_WIDTH: usize = 16;
/// The widest word of progress that is shown whole beside a bar.
const SAID_WIDTH: usize = 26;
/// Bars shown at once; further running tasks are only counted.
const BARS_MAX: usize = 16;

/// Where a run is shown.
pub(crate) struct Screen {
    names: HashMap<TaskId, String>,
    width: usize,
    over: usize,
    started: HashMap<TaskId, i64>,
    view: View,
}

enum View {
    /// A line an event, on standard error so that standard output carries only the report.
    Lines,
    Bars {
        all: MultiProgress,
        total: ProgressBar,
        bars: HashMap<TaskId, ProgressBar>,
    },
    /// Nothing: a machine reads the answer.
    Nothing,
}

impl Screen {
    /// Makes a screen for a run with these tasks.
    pub(crate) fn new(tasks: &[Task], json: bool) -> Screen {
        let names: HashMap<TaskId, String> = tasks.iter().map(|task| (task.id, short_name(task))).collect();
        let width = names.values().map(|name| name.chars().count()).max().unwrap_or(4);
        let over = tasks.iter().filter(|task| task.state.is_over()).count();
        let view = match (json, std::io::stderr().is_terminal()) {
            (true, _) => View::Nothing,
            (false, false) => View::Lines,
            (false, true) => bars(tasks.len(), over),
        };
        Screen { names, width, over, started: HashMap::new(), view }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Logged) {
        let Some(task) = event.task else { return };
        match event.kind.as_str() {
            "task.added" => self.added(task, event),
            "task.taken" => self.taken(task, event),
            "task.progress" => self.progress(task, event),
            "task.verifying" => self.verifying(task),
            "task.completed" => self.ended(task, event, "done"),
            "task.failed" => self.ended(task, event, "failed"),
            "task.cancelled" => self.ended(task, event, "cancelled"),
            "task.retried" | "task.released" => self.again(task, event),
            "task.stuck" | "task.parked" | "task.lease_expired" | "task.verify_failed" | "claim.refused" => {
                self.note(task, event);
            }
            _ => {}
        }
    }

    /// Says something that is not in the log.
    pub(crate) fn say(&self, text: &str) {
        match &self.view {
            View::Nothing => {}
            View::Lines => line(text),
            View::Bars { all, .. } => drop(all.println(text)),
        }
    }

    /// Takes the bars away.
    pub(crate) fn close(&mut self) {
        if let View::Bars { all, .. } = &self.view {
            // A terminal that is gone needs no clearing.
            let _ = all.clear();
        }
        self.view = match &self.view {
            View::Nothing => View::Nothing,
            _ => View::Lines,
        };
    }

    /// Shows a task that was not there when the run began: a planner's.
    fn added(&mut self, task: TaskId, event: &Logged) {
        if self.names.contains_key(&task) {
            return;
        }
        let name = cut(&print::one_line(added_name(&event.message)), NAME_WIDTH);
        self.width = self.width.max(name.chars().count());
        self.names.insert(task, name);
        if let View::Bars { total, .. } = &self.view {
            total.inc_length(1);
        }
        let title = after_colon(&event.message);
        self.say(&painted(&format!("  planned    {}  {title}", self.padded(task)), "note", &self.view));
    }

    fn taken(&mut self, task: TaskId, event: &Logged) {
        self.started.insert(task, event.at);
        let name = self.padded(task);
        let agent = event.agent.clone().unwrap_or_default();
        match &mut self.view {
            View::Bars { all, total, bars } if bars.len() < BARS_MAX => {
                let bar = all.insert_before(total, ProgressBar::new(100));
                bar.set_style(style("  {spinner:.cyan} {prefix} {bar:20.cyan/blue} {msg}  {elapsed:.dim}"));
                bar.enable_steady_tick(Duration::from_millis(120));
                bar.set_prefix(name);
                bar.set_message(agent);
                bars.insert(task, bar);
            }
            View::Bars { .. } | View::Nothing => {}
            View::Lines => line(&format!("  start      {name}  {agent}")),
        }
    }

    fn progress(&mut self, task: TaskId, event: &Logged) {
        let data = event.facts();
        let percent = data["percent"].as_u64().unwrap_or(0);
        let said = &print::one_line(data["message"].as_str().unwrap_or_default());
        match &self.view {
            View::Bars { bars, .. } => {
                if let Some(bar) = bars.get(&task) {
                    bar.set_position(percent);
                    bar.set_message(cut(said, SAID_WIDTH));
                }
            }
            View::Lines if !said.is_empty() => {
                line(&format!("  {percent:>3} %      {}  {said}", self.padded(task)))
            }
            View::Lines | View::Nothing => {}
        }
    }

    fn verifying(&mut self, task: TaskId) {
        if let View::Bars { bars, .. } = &self.view
            && let Some(bar) = bars.get(&task)
        {
            bar.set_message("checking");
        }
    }

    fn ended(&mut self, task: TaskId, event: &Logged, word: &str) {
        self.over += 1;
        let took = self.started.remove(&task).map(|at| format!("  {:.1} s", (event.at - at) as f64 / 1000.0));
        let why = if word == "done" { String::new() } else { format!("  {}", after_colon(&event.message)) };
        let agent = event.agent.as_deref().map(|agent| format!("  {agent}")).unwrap_or_default();
        let text = format!("  {word:<9}  {}{agent}{}{why}", self.padded(task), took.unwrap_or_default());
        self.drop_bar(task);
        self.say(&painted(&text, word, &self.view));
        if let View::Bars { total, .. } = &self.view {
            total.set_position(self.over as u64);
        }
    }

    fn again(&mut self, task: TaskId, event: &Logged) {
        self.started.remove(&task);
        self.drop_bar(task);
        self.say(&painted(
            &format!("  again      {}  {}", self.padded(task), after_colon(&event.message)),
            "again",
            &self.view,
        ));
    }

    fn note(&self, task: TaskId, event: &Logged) {
        let word = event.kind.split_once('.').map_or("", |(_, verb)| verb);
        let word = word.replace("lease_expired", "lapsed").replace("verify_failed", "unproven");
        // The moment at which a claim ends is in the log; here it would only push the words off the line.
        let said = print::one_line(event.message.split(" until 2").next().unwrap_or_default());
        self.say(&painted(&format!("  {word:<9}  {}  {said}", self.padded(task)), "note", &self.view));
    }

    fn drop_bar(&mut self, task: TaskId) {
        if let View::Bars { bars, .. } = &mut self.view
            && let Some(bar) = bars.remove(&task)
        {
            bar.finish_and_clear();
        }
    }

    fn padded(&self, task: TaskId) -> String {
        let name = self.names.get(&task).cloned().unwrap_or_else(|| task.to_string());
        format!("{name:<width$}", width = self.width)
    }
}

fn bars(total: usize, over: usize) -> View {
    let all = MultiProgress::new();
    let bar = all.add(ProgressBar::new(total as u64));
    bar.set_style(style("  {pos}/{len} tasks {bar:20.green/blue} {elapsed:.dim}"));
    bar.set_position(over as u64);
    bar.enable_steady_tick(Duration::from_millis(500));
    View::Bars { all, total: bar, bars: HashMap::new() }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

fn painted(text: &str, word: &str, view: &View) -> String {
    let colour = match (view, word) {
        (View::Bars { .. }, "done") => "32",
        (View::Bars { .. }, "failed" | "cancelled") => "31",
        (View::Bars { .. }, _) => "33",
        _ => return text.to_owned(),
    };
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return text.to_owned();
    }
    format!("\u{1b}[{colour}m{text}\u{1b}[0m")
}

fn line(text: &str) {
    // Standard error that is closed must not end a run.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The part of a message that says why, safe for a terminal: it may hold what a child has printed.
fn after_colon(message: &str) -> String {
    print::one_line(message.split_once(": ").map_or(message, |(_, rest)| rest))
}

/// The key of a task that was added, or its title: `task 3 (key) added: title`.
fn added_name(message: &str) -> &str {
    let (head, title) = message.split_once(": ").unwrap_or((message, message));
    let key = head.split_once(" (").and_then(|(_, rest)| rest.split_once(')')).map(|(key, _)| key);
    key.unwrap_or(title)
}

fn short_name(task: &Task) -> String {
    let name = task.key.clone().unwrap_or_else(|| task.title.clone());
    cut(&print::one_line(&name), NAME_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_comes_later_is_called_by_its_key_or_its_title() {
        assert_eq!(added_name("task 3 (count) added: Count (all) guides"), "count");
        assert_eq!(added_name("task 3 added: Count (all) guides: now"), "Count (all) guides: now");
        assert_eq!(added_name("something"), "something");
    }
}
