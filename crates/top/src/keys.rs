//! What a key means, which depends on what is shown.
//!
//! Here lives the way from a key to an [`Action`], pure. What an action does, the state decides.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What is shown, as far as it matters for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The lists.
    Lists,
    /// One task.
    Task,
    /// The filter is being typed.
    Filter,
    /// A question that wants yes or no.
    Question,
    /// The help.
    Help,
}

/// What a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// One row, or line, up.
    Up,
    /// One down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    First,
    /// To the last.
    Last,
    /// To the next list.
    NextPane,
    /// To the list before.
    PaneBefore,
    /// To the attempt before.
    AttemptBefore,
    /// To the next attempt.
    NextAttempt,
    /// Look at what is chosen.
    Open,
    /// Back to the lists; in them, without the filter.
    Back,
    /// Begin to type a filter.
    Filter,
    /// Add a letter to it.
    Type(char),
    /// Take its last letter away.
    Erase,
    /// Keep it.
    Accept,
    /// Sort by the next column.
    Sort,
    /// Pause the agent, or let it go on.
    Pause,
    /// Try the task anew.
    Retry,
    /// Call the task off.
    Cancel,
    /// Let the parked task go on.
    Unpark,
    /// Yes, do it.
    Yes,
    /// No, leave it.
    No,
    /// Show, or hide, what the keys do.
    Help,
    /// Draw everything anew.
    Redraw,
    /// Give the terminal back to the shell until it calls again.
    Suspend,
    /// End.
    Quit,
    /// End at once, as Ctrl-C does.
    Interrupt,
}

/// Reads a key.
pub fn action(mode: Mode, key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return control(key.code);
    }
    match mode {
        Mode::Lists => moving(key.code).or_else(|| in_lists(key.code)),
        Mode::Task => moving(key.code).or_else(|| in_task(key.code)),
        Mode::Filter => typing(key.code),
        Mode::Question => Some(answer(key.code)),
        Mode::Help => Some(in_help(key.code)),
    }
}

fn control(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char('c') => Some(Action::Interrupt),
        KeyCode::Char('z') => Some(Action::Suspend),
        KeyCode::Char('l') => Some(Action::Redraw),
        KeyCode::Char('u') => Some(Action::PageUp),
        KeyCode::Char('d') => Some(Action::PageDown),
        _ => None,
    }
}

fn moving(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Up | KeyCode::Char('k') => Some(Action::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Action::Down),
        KeyCode::PageUp => Some(Action::PageUp),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Action::PageDown),
        KeyCode::Home | KeyCode::Char('g') => Some(Action::First),
        KeyCode::End | KeyCode::Char('G') => Some(Action::Last),
        KeyCode::Char('r') => Some(Action::Retry),
        KeyCode::Char('c') => Some(Action::Cancel),
        KeyCode::Char('u') => Some(Action::Unpark),
        KeyCode::Char('p') => Some(Action::Pause),
        KeyCode::Char('?' | 'h') => Some(Action::Help),
        KeyCode::Esc => Some(Action::Back),
        _ => None,
    }
}

fn in_lists(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Tab | KeyCode::Right => Some(Action::NextPane),
        KeyCode::BackTab | KeyCode::Left => Some(Action::PaneBefore),
        KeyCode::Enter => Some(Action::Open),
        KeyCode::Char('/') => Some(Action::Filter),
        KeyCode::Char('s') => Some(Action::Sort),
        KeyCode::Char('q') => Some(Action::Quit),
        _ => None,
    }
}

fn in_task(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Left | KeyCode::Char('[') => Some(Action::AttemptBefore),
        KeyCode::Right | KeyCode::Char(']') => Some(Action::NextAttempt),
        KeyCode::Char('f') => Some(Action::Last),
        KeyCode::Char('q') | KeyCode::Backspace => Some(Action::Back),
        _ => None,
    }
}

fn typing(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char(c) => Some(Action::Type(c)),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter | KeyCode::Tab => Some(Action::Accept),
        KeyCode::Esc => Some(Action::Back),
        KeyCode::Up => Some(Action::Up),
        KeyCode::Down => Some(Action::Down),
        _ => None,
    }
}

/// Anything but a clear yes is a no.
fn answer(code: KeyCode) -> Action {
    match code {
        KeyCode::Char('y' | 'Y') => Action::Yes,
        _ => Action::No,
    }
}

/// Any key leaves the help.
fn in_help(code: KeyCode) -> Action {
    match code {
        KeyCode::Char('q') => Action::Quit,
        _ => Action::Help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyEvent {
        let (text, modifiers) = match text.strip_prefix("ctrl-") {
            Some(text) => (text, KeyModifiers::CONTROL),
            None => (text, KeyModifiers::NONE),
        };
        let code = match text {
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "tab" => KeyCode::Tab,
            "backtab" => KeyCode::BackTab,
            "back" => KeyCode::Backspace,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "pgup" => KeyCode::PageUp,
            "pgdn" => KeyCode::PageDown,
            "f1" => KeyCode::F(1),
            "space" => KeyCode::Char(' '),
            letter => KeyCode::Char(letter.chars().next().expect("a letter")),
        };
        KeyEvent::new(code, modifiers)
    }

    #[test]
    fn keys_mean_what_the_table_says() {
        let table = "
            lists    up up | k up | down down | j down | pgdn pagedown | space pagedown | pgup pageup
            lists    g first | home first | G last | end last | tab nextpane | right nextpane | backtab panebefore
            lists    enter open | / filter | s sort | p pause | r retry | c cancel | u unpark | ? help | h help
            lists    q quit | esc back | ctrl-c interrupt | ctrl-z suspend | ctrl-l redraw | ctrl-d pagedown
            lists    y - | n - | f1 - | x - | ctrl-x - | [ -
            task     up up | G last | f last | [ attemptbefore | left attemptbefore | ] nextattempt | q back | esc back
            task     r retry | c cancel | u unpark | p pause | / - | s - | enter - | tab - | ctrl-c interrupt
            filter   a type | q type | / type | space type | back erase | enter accept | esc back | up up | pgup -
            filter   ctrl-c interrupt | f1 -
            question y yes | Y yes | n no | esc no | enter no | space no | q no | ctrl-c interrupt
            help     esc help | ? help | x help | q quit | ctrl-c interrupt";
        let mut checked = 0;
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (mode, pairs) = line.split_once(' ').expect("a mode and its keys");
            let mode = match mode {
                "lists" => Mode::Lists,
                "task" => Mode::Task,
                "filter" => Mode::Filter,
                "question" => Mode::Question,
                _ => Mode::Help,
            };
            for pair in pairs.split('|') {
                let (pressed, expected) = pair.trim().split_once(' ').expect("a key and its meaning");
                let found = action(mode, key(pressed)).map_or("-".into(), |action| {
                    let name = format!("{action:?}").to_lowercase();
                    name.split('(').next().unwrap_or_default().to_owned()
                });
                assert_eq!(found, expected.trim(), "{mode:?} {pressed}");
                checked += 1;
            }
        }
        assert!(checked > 60, "{checked}");
    }

    #[test]
    fn a_key_that_is_let_go_means_nothing() {
        let up = KeyEvent { kind: KeyEventKind::Release, ..key("q") };
        assert_eq!(action(Mode::Lists, up), None);
    }
}
