//! What is seen. Screens are kept as text in `screens/`; `QUORATE_SCREENS=write` writes them anew, to be read before
//! they are kept.

use super::*;
use crate::keys::Action;
use crate::sample;
use crate::screen::Screen;
use crate::state::{Lines, News};
use quorate_service::task::{NewTask, Progress};
use quorate_service::view::TaskStory;
use quorate_testkit::ledger::{Backend, TestLedger, run};
use quorate_testkit::verbs::claiming;
use ratatui_core::style::{Color, Modifier};
use std::path::Path;

fn manner() -> Manner {
    Manner { is_coloured: true, zone: TimeZone::UTC }
}

fn drawn(state: &State, width: u16, height: u16) -> (Buffer, usize) {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let rows = draw(state, &manner(), &mut buffer);
    (buffer, rows)
}

fn text(buffer: &Buffer) -> String {
    let line = |y: u16| {
        let mut line = String::new();
        let mut x = buffer.area.left();
        while x < buffer.area.right() {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(text::width(symbol)).unwrap_or(1).max(1);
        }
        format!("{}\n", line.trim_end())
    };
    (buffer.area.top()..buffer.area.bottom()).map(line).collect()
}

fn check(name: &str, state: &State, width: u16, height: u16) {
    let found = text(&drawn(state, width, height).0);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("screens/{name}-{width}x{height}.txt"));
    if std::env::var_os("QUORATE_SCREENS").is_some() {
        std::fs::write(&file, &found).expect("the screen is written");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, expected, "{name} at {width}x{height} is\n{found}");
}

fn busy(looked: quorate_service::top::Looked) -> State {
    let mut state = sample::state(looked);
    state.hear(News::Events(sample::events()));
    state
}

#[test]
fn an_empty_ledger() {
    let state = sample::state(sample::nothing());
    check("empty", &state, 80, 24);
    check("empty", &state, 40, 12);
}

#[test]
fn a_team_of_three() {
    let state = busy(sample::three());
    check("three", &state, 80, 24);
    check("three", &state, 40, 12);
    check("three", &state, 160, 30);
}

#[test]
fn what_is_used_is_shown_once_it_is_known() {
    let state = busy(sample::three_with_usage());
    check("usage", &state, 80, 24);
}

#[test]
fn a_team_that_was_left_alone() {
    let state = busy(sample::left_alone());
    check("alone", &state, 80, 24);
    check("alone", &state, 40, 12);
}

#[test]
fn a_team_of_a_thousand() {
    let mut state = busy(sample::thousand());
    (0..499).for_each(|_| drop(state.act(Action::Down)));
    check("thousand", &state, 80, 24);
    check("thousand", &state, 40, 12);
}

/// A task with a failed attempt behind it and one under way, as a ledger tells it.
async fn story(ledger: &TestLedger) -> TaskStory {
    let wanted =
        NewTask { verify: Some("test -s report".into()), ..claiming("Make the report", &["report"]) };
    let (_, ids) = ledger.start(vec![NewTask { key: Some("report".into()), ..wanted }]).await.expect("a run");
    let first = ledger.must_take("alpha").await.expect("taken");
    ledger.advance(95_000).await;
    ledger.fail(&first, "exit code 1: no such\nfile").await.expect("failed");
    ledger.advance(5_000).await;
    ledger.check().await.expect("checked");
    let second = ledger.must_take("beta").await.expect("taken");
    ledger.advance(12_000).await;
    let said = Some("half of it".to_owned());
    let report = Progress { id: second.task.id, term: second.task.term, percent: Some(50), message: said };
    ledger.store.write(report).await.expect("told");
    ledger.story(ids[0]).await.expect("it is there")
}

#[test]
fn a_task_that_is_opened() {
    run(Backend::Lite, |ledger| async move {
        let story = story(&ledger).await;
        let mut state = sample::state(quorate_service::top::Looked {
            running: sample::listed(vec![sample::running(1, "report", "beta", 50, "half of it")]),
            now: story.now,
            ..sample::nothing()
        });
        state.act(Action::NextPane);
        state.act(Action::Open);
        check("opening", &state, 80, 24);
        let lines: Vec<String> = (1..=40).map(|n| format!("line {n} of what it printed")).collect();
        let task = story.task.id;
        state.hear(News::Story(Box::new(story)));
        check("silent", &state, 80, 24);
        let note = Some("only its end is shown".to_owned());
        state.hear(News::Output(Lines { task, attempt: 2, anew: true, lines, note }));
        check("task", &state, 80, 24);
        check("task", &state, 40, 12);
        state.act(Action::PageUp);
        check("back", &state, 80, 24);
        state.act(Action::AttemptBefore);
        check("first", &state, 80, 24);
        for width in [20, 21, 33, 79, 200] {
            for height in [4, 5, 6, 7, 8, 9, 14, 60] {
                drawn(&state, width, height);
            }
        }
        Ok(())
    });
}

#[test]
fn a_filter_that_is_typed() {
    let mut state = busy(sample::three());
    state.act(Action::Filter);
    "lint".chars().for_each(|c| drop(state.act(Action::Type(c))));
    check("filter", &state, 80, 24);
}

#[test]
fn the_help() {
    let mut state = busy(sample::three());
    state.act(Action::Help);
    check("help", &state, 80, 24);
}

#[test]
fn a_ledger_that_does_not_answer() {
    let mut state = busy(sample::three());
    state.hear(News::Away("it has not answered for 5 s".into()));
    check("away", &state, 80, 24);
    check("away", &State::default(), 40, 12);
    let mut none = State::default();
    none.hear(News::Missing("sqlite:.quorate/quorate.db".into()));
    check("missing", &none, 80, 24);
}

#[test]
fn a_question_and_a_remark_stand_at_the_foot() {
    let mut state = busy(sample::three());
    state.act(Action::Cancel);
    let foot = |state: &State| text(&drawn(state, 80, 24).0).lines().last().map(str::to_owned);
    assert_eq!(foot(&state).as_deref(), Some("cancel task 12 (lint)?  y yes  n no"));
    state.act(Action::No);
    state.hear(News::Done("alpha is paused: it takes nothing more".into(), true));
    assert_eq!(foot(&state).as_deref(), Some("alpha is paused: it takes nothing more"));
}

#[test]
fn every_size_is_drawn() {
    let states = [State::default(), busy(sample::nothing()), busy(sample::three()), busy(sample::thousand())];
    for mut state in states {
        for focus in 0..4 {
            for width in [0, 1, 2, 10, 19, 20, 21, 33, 40, 79, 80, 129, 130, 131, 250] {
                for height in [0, 1, 3, 4, 5, 6, 7, 10, 12, 13, 14, 15, 16, 24, 60] {
                    let (_, rows) = drawn(&state, width, height);
                    assert!(rows <= 2 * usize::from(height), "{width}x{height}, list {focus}");
                }
            }
            state.act(Action::NextPane);
        }
    }
}

/// What a frame costs is bounded by the screen, not by the ledger.
#[test]
fn only_rows_that_are_seen_are_put_into_words() {
    let few = busy(sample::three());
    let many = busy(sample::thousand());
    let (_, rows) = drawn(&many, 80, 24);
    assert!(rows <= 24, "{rows}");
    let (_, rows) = drawn(&few, 80, 24);
    assert!(rows <= 24, "{rows}");
}

/// A frame after a second in which only ages have changed carries little over a slow line.
#[test]
fn a_second_later_little_is_written() {
    let mut state = busy(sample::thousand());
    let mut screen = Screen::new();
    let mut frame = |state: &State| {
        let bytes = screen.frame((80, 24), |buffer| {
            draw(state, &manner(), buffer);
        });
        bytes.expect("drawn").len()
    };
    let first = frame(&state);
    assert_eq!(frame(&state), 0, "nothing has changed");
    state.tick(sample::NOW + 1_000);
    let second = frame(&state);
    eprintln!("the first frame has {first} bytes, one a second later {second}");
    assert!(second > 0 && second * 4 < first, "{second} of {first} bytes");
}

/// Prints what a frame takes, for whoever asks with `--nocapture`. That it does not depend on how many agents there are
/// is held by the count of rows; a limit in time would depend on the machine.
#[test]
fn a_frame_is_measured() {
    const FRAMES: u32 = 50;
    let mut state = busy(sample::thousand());
    let mut screen = Screen::new();
    let mut rows = 0;
    let begun = std::time::Instant::now();
    for second in 0..FRAMES {
        state.tick(sample::NOW + i64::from(second) * 1_000);
        state.act(Action::Down);
        screen.frame((160, 50), |buffer| rows = draw(&state, &manner(), buffer)).expect("drawn");
        assert!(rows <= 100, "{rows}");
    }
    let each = begun.elapsed() / FRAMES;
    eprintln!("a frame of 160 x 50 with 1,000 agents takes {each:?}, {rows} rows of 2,000");
}

#[test]
fn without_colours_none_are_used() {
    let state = busy(sample::three());
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    draw(&state, &Manner { is_coloured: false, zone: TimeZone::UTC }, &mut buffer);
    assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let (coloured, _) = drawn(&state, 80, 24);
    assert!(coloured.content().iter().any(|cell| cell.fg != Color::Reset));
    assert!(coloured.content().iter().all(|cell| cell.bg == Color::Reset), "whatever the background is");
    assert_eq!(text(&coloured), text(&buffer), "the words are the same");
}

#[test]
fn the_chosen_row_stands_out() {
    let mut state = busy(sample::three());
    state.act(Action::Down);
    let (buffer, _) = drawn(&state, 80, 24);
    let turned = |y: u16| buffer[(1, y)].modifier.contains(Modifier::REVERSED);
    let rows: Vec<u16> = (0..24).filter(|y| turned(*y)).collect();
    assert_eq!(rows.len(), 1);
    assert!(text(&buffer).lines().nth(usize::from(rows[0])).expect("a line").contains("beta"));
}
