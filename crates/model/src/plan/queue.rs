//! Plans as Markdown checklists: `- [ ] item`.
//!
//! Here lives the reading of a queue. Items run in the order of the file, each after the one before for the same
//! agent; items that are ticked (`- [x]`) are done and left out. What is indented under an item belongs to its
//! prompt, nested boxes included. `agent: NAME` on a line of its own, or a heading `## NAME` of one word, says whose
//! the items below are; any other heading of that level goes back to the agent named before the first heading.

use super::{Draft, PlanTask, TASKS_MAX, made_up_title, printable};
use crate::diagnostic::quote;
use crate::document::Source;
use crate::name::check_name;
use std::collections::HashMap;
use std::ops::Range;

/// Reads a queue: the goal (its first `#` heading) and the open items.
pub(super) fn read(source: &Source<'_>) -> (Option<String>, Vec<Draft>) {
    let mut reader = Reader::new(source);
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        reader.line(start, line.trim_end_matches(['\n', '\r']));
        start += line.len();
    }
    reader.end_item();
    reader.check_count();
    (reader.goal, reader.drafts)
}

struct Reader<'s, 'a> {
    source: &'s Source<'a>,
    goal: Option<String>,
    /// The agent named before any heading.
    front_agent: Option<String>,
    agent: Option<String>,
    in_section: bool,
    /// The fence that opened a block of code outside any item.
    fence: Option<&'static str>,
    item: Option<Item>,
    drafts: Vec<Draft>,
    /// The last open item of each agent.
    last: HashMap<Option<String>, usize>,
    done: usize,
    open: usize,
}

/// The item being read.
struct Item {
    span: Range<usize>,
    done: bool,
    /// The lines so far; what is indented has lost the indent of the item's text.
    lines: Vec<String>,
}

/// A line that begins an item.
struct Checkbox<'t> {
    mark: &'t str,
    text: &'t str,
}

impl<'s, 'a> Reader<'s, 'a> {
    fn new(source: &'s Source<'a>) -> Reader<'s, 'a> {
        Reader {
            source,
            goal: None,
            front_agent: None,
            agent: None,
            in_section: false,
            fence: None,
            item: None,
            drafts: Vec::new(),
            last: HashMap::new(),
            done: 0,
            open: 0,
        }
    }

    fn line(&mut self, start: usize, line: &str) {
        if self.item.is_some() && (line.trim().is_empty() || line.starts_with([' ', '\t'])) {
            return self.continue_item(line);
        }
        if self.inside_fence(line) {
            return;
        }
        if let Some(checkbox) = checkbox(line) {
            self.end_item();
            return self.begin_item(start..start + line.len(), &checkbox);
        }
        if self.heading(start, line) || self.agent_line(start, line) {
            return;
        }
        self.plain(line);
    }

    /// A line that is none of the others goes on with the item's paragraph, or ends it if it begins a list.
    fn plain(&mut self, line: &str) {
        let goes_on = self.item.as_ref().is_some_and(|item| item.lines.last().is_some_and(|l| !l.is_empty()));
        if goes_on && bullet(line).is_none() {
            self.continue_item(line);
        } else {
            self.end_item();
        }
    }

    fn inside_fence(&mut self, line: &str) -> bool {
        let mark = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark));
        match (self.fence, mark) {
            (Some(open), Some(mark)) if open == mark => self.fence = None,
            (None, Some(mark)) => {
                self.end_item();
                self.fence = Some(mark);
            }
            (fence, _) => return fence.is_some(),
        }
        true
    }

    fn heading(&mut self, start: usize, line: &str) -> bool {
        let level = line.bytes().take_while(|b| *b == b'#').count();
        let text = line[level..].trim().trim_end_matches('#').trim();
        if !(1..=6).contains(&level) || !line[level..].starts_with([' ', '\t']) || text.is_empty() {
            return false;
        }
        self.end_item();
        match level {
            1 if self.goal.is_none() => self.goal = Some(printable(text)).filter(|goal| !goal.is_empty()),
            2 => self.section(start, line, text),
            _ => {}
        }
        true
    }

    fn section(&mut self, start: usize, line: &str, text: &str) {
        self.in_section = true;
        if self.agent_line(start + line.len() - line.trim_start_matches('#').trim_start().len(), text) {
            return;
        }
        self.agent = match check_name("agent", text) {
            Ok(()) => Some(text.to_string()),
            Err(_) => self.front_agent.clone(),
        };
    }

    /// Reads `agent: NAME`.
    fn agent_line(&mut self, start: usize, line: &str) -> bool {
        let Some((word, name)) = line.split_once(':') else { return false };
        if !word.trim().eq_ignore_ascii_case("agent") {
            return false;
        }
        self.end_item();
        let name_start = start + line.len() - name.trim_start().len();
        let name = name.trim();
        match check_name("agent", name) {
            Ok(()) => self.agent = Some(name.to_string()),
            Err(error) => self.source.refuse_error(name_start..name_start + name.len().max(1), error),
        }
        if !self.in_section {
            self.front_agent = self.agent.clone();
        }
        true
    }

    fn begin_item(&mut self, span: Range<usize>, checkbox: &Checkbox<'_>) {
        let done = matches!(checkbox.mark, "x" | "X");
        if !done && checkbox.mark != " " {
            let message =
                format!("the box {} is neither open nor done", quote(&format!("[{}]", checkbox.mark)));
            self.source.refuse_with(span.clone(), message, || {
                Some("write `- [ ]` for an open item and `- [x]` for one that is done".to_string())
            });
        }
        if checkbox.text.is_empty() {
            self.source.refuse(span.clone(), "the item is empty; expected words after its box");
        }
        self.item = Some(Item { span, done, lines: vec![checkbox.text.to_string()] });
    }

    fn continue_item(&mut self, line: &str) {
        if let Some(item) = &mut self.item {
            let indent = line.len() - line.trim_start_matches(' ').len();
            item.lines.push(line[indent.min(2)..].trim_end().to_string());
        }
    }

    fn end_item(&mut self) {
        let Some(item) = self.item.take() else { return };
        if item.done {
            self.done += 1;
            return;
        }
        self.open += 1;
        if self.drafts.len() < TASKS_MAX {
            self.add(item);
        }
    }

    fn add(&mut self, item: Item) {
        let prompt = item.lines.join("\n").trim_end().to_string();
        if prompt.contains('\0') {
            self.source.refuse(item.span.clone(), "the item holds a NUL character");
        }
        let place = self.drafts.len();
        let after = self.last.insert(self.agent.clone(), place);
        let task = PlanTask {
            title: made_up_title(&prompt),
            agent: self.agent.clone(),
            prompt: Some(prompt),
            ..PlanTask::default()
        };
        self.drafts.push(Draft { span: item.span, key: None, needs: Vec::new(), after, task });
    }

    fn check_count(&self) {
        if !self.source.is_clean() {
            return;
        }
        match (self.open, self.done) {
            (0, 0) => self.source.refuse_with(0..0, "the plan has no task", || {
                Some("write each task as a line `- [ ] what is to be done`".to_string())
            }),
            (0, done) => self.source.refuse(0..0, format!("the plan has no open item: all {done} are done")),
            (open, _) if open > TASKS_MAX => {
                self.source
                    .refuse(0..0, format!("the plan has {open} tasks; at most {TASKS_MAX} are allowed"));
            }
            _ => {}
        }
    }
}

/// Reads `- [ ] text`, with any bullet or number. A link such as `- [text](url)` is none.
fn checkbox(line: &str) -> Option<Checkbox<'_>> {
    let (mark, rest) = bullet(line)?.trim_start().strip_prefix('[')?.split_once(']')?;
    let like_a_box = mark.chars().count() <= 1 && (rest.is_empty() || rest.starts_with([' ', '\t']));
    like_a_box.then(|| Checkbox { mark, text: rest.trim() })
}

/// Returns what follows a bullet (`-`, `*`, `+`) or a number (`1.`, `1)`).
fn bullet(line: &str) -> Option<&str> {
    let rest = match line.strip_prefix(['-', '*', '+']) {
        Some(rest) => rest,
        None => {
            let after = line.trim_start_matches(|c: char| c.is_ascii_digit());
            after.strip_prefix(['.', ')']).filter(|_| after.len() < line.len())?
        }
    };
    rest.starts_with([' ', '\t']).then_some(rest)
}
