//! What news and actions do to the state.

use super::*;
use crate::sample;
use quorate_model::TaskId;
use quorate_service::top::Looked;

fn state() -> State {
    let mut state = sample::state(sample::three());
    state.hear(News::Events(sample::events()));
    state
}

fn act(state: &mut State, actions: &[Action]) -> Option<Order> {
    actions.iter().fold(None, |_, action| state.act(*action))
}

fn chosen(state: &State) -> Option<Key> {
    state.lists.chosen()
}

fn agent(name: &str) -> Option<Key> {
    Some(Key::Agent(name.into()))
}

fn task(id: i64) -> Option<Key> {
    Some(Key::Task(TaskId(id)))
}

#[test]
fn one_moves_within_a_list_and_between_lists() {
    let mut state = state();
    assert_eq!(chosen(&state), agent("alpha"));
    act(&mut state, &[Action::Down, Action::Down, Action::Down]);
    assert_eq!(chosen(&state), agent("gamma"), "the last is the last");
    act(&mut state, &[Action::PageUp]);
    assert_eq!(chosen(&state), agent("alpha"));
    act(&mut state, &[Action::NextPane]);
    assert_eq!(chosen(&state), task(12));
    act(&mut state, &[Action::Last]);
    assert_eq!(chosen(&state), task(13));
    act(&mut state, &[Action::NextPane, Action::NextPane, Action::NextPane]);
    assert_eq!(state.lists.focus, Pane::Agents, "around");
    act(&mut state, &[Action::PaneBefore]);
    assert_eq!(state.lists.focus, Pane::Events);
}

#[test]
fn a_list_without_rows_is_passed_over() {
    let mut state = sample::state(Looked { parked: sample::listed(vec![]), ..sample::thousand() });
    act(&mut state, &[Action::NextPane, Action::NextPane]);
    assert_eq!(state.lists.focus, Pane::Agents, "nothing wants a look, nothing has happened");
}

#[test]
fn a_choice_stays_with_what_it_is() {
    let mut state = state();
    act(&mut state, &[Action::Down]);
    assert_eq!(chosen(&state), agent("beta"));
    let mut looked = sample::three();
    looked.agents.rows.insert(0, sample::agent("aaron", AgentState::Ready, None));
    state.hear(News::Looked(Box::new(looked.clone())));
    assert_eq!((chosen(&state), state.lists.cursor(Pane::Agents)), (agent("beta"), 2));
    looked.agents.rows.retain(|view| view.agent.name != "beta");
    state.hear(News::Looked(Box::new(looked)));
    assert_eq!(chosen(&state), agent("gamma"), "it passes to the one in its place");
    state.hear(News::Looked(Box::new(sample::nothing())));
    assert_eq!(chosen(&state), None);
}

#[test]
fn the_newest_event_is_followed_until_one_goes_back() {
    let mut state = state();
    act(&mut state, &[Action::PaneBefore]);
    let newest = |state: &State| Some(Key::Event(state.events.back().expect("some").seq));
    assert_eq!(chosen(&state), newest(&state));
    state.hear(News::Events(vec![sample::event(90, "log.line", "more")]));
    assert_eq!(chosen(&state), newest(&state));
    act(&mut state, &[Action::Up]);
    let kept = chosen(&state);
    state.hear(News::Events(vec![sample::event(91, "log.line", "still more")]));
    assert_eq!(chosen(&state), kept, "what one looks at stays");
    act(&mut state, &[Action::Last]);
    state.hear(News::Events(vec![sample::event(92, "log.line", "and more")]));
    assert_eq!(chosen(&state), newest(&state));
}

#[test]
fn no_more_events_are_kept_than_fit() {
    let mut state = State::default();
    let most = i64::try_from(EVENTS_MAX).expect("few");
    state.hear(News::Events((0..most).map(|seq| sample::event(seq, "log.line", "x")).collect()));
    assert_eq!(state.events.front().map(|event| event.seq.0), Some(0));
    state.hear(News::Events(vec![sample::event(most, "log.line", "x")]));
    assert_eq!((state.events.len(), state.events.front().map(|event| event.seq.0)), (EVENTS_MAX, Some(1)));
}

#[test]
fn no_event_is_shown_twice() {
    let mut state = state();
    state.hear(News::Events(sample::events()));
    assert_eq!(state.events.len(), sample::events().len());
    assert_eq!(state.pace.per_minute(sample::NOW), 2);
}

#[test]
fn a_filter_holds_for_all_lists() {
    let mut state = state();
    let typed = |state: &mut State, word: &str| {
        act(state, &[Action::Filter]);
        word.chars().for_each(|c| drop(state.act(Action::Type(c))));
    };
    typed(&mut state, "LINT");
    let counts = |state: &State| Pane::ALL.map(|pane| state.lists.len(pane));
    assert_eq!(counts(&state), [1, 1, 0, 1], "alpha has it, it runs, and it was taken");
    act(&mut state, &[Action::Erase, Action::Erase, Action::Erase, Action::Erase]);
    assert_eq!(counts(&state), [3, 2, 4, 7]);
    typed(&mut state, "12");
    assert_eq!(state.lists.running.len(), 1, "by its number");
    assert_eq!(state.mode(), Mode::Filter);
    act(&mut state, &[Action::Accept]);
    assert_eq!((state.mode(), state.lists.filter.as_str()), (Mode::Lists, "12"));
    act(&mut state, &[Action::Back]);
    assert_eq!((counts(&state), state.lists.filter.as_str()), ([3, 2, 4, 7], ""));
    typed(&mut state, &"x".repeat(FILTER_MAX + 1));
    assert_eq!(state.lists.filter.len(), FILTER_MAX);
}

#[test]
fn lists_are_sorted_by_one_thing_after_the_other() {
    let mut looked = sample::three();
    looked.agents.rows.push(sample::agent("agent-10", AgentState::Failed, None));
    looked.agents.rows.push(sample::agent("agent-9", AgentState::Idle, None));
    looked.agents.rows[0].agent.heartbeat_at = Some(1);
    let mut state = sample::state(looked);
    let names = |state: &State| -> Vec<String> {
        let rows = &state.looked.as_ref().expect("looked").agents.rows;
        state.lists.agents.iter().map(|at| rows[*at].agent.name.clone()).collect()
    };
    assert_eq!(names(&state), ["agent-9", "agent-10", "alpha", "beta", "gamma"], "numbers count");
    act(&mut state, &[Action::Sort]);
    assert_eq!(names(&state), ["agent-10", "beta", "alpha", "gamma", "agent-9"], "the worst first");
    act(&mut state, &[Action::Sort]);
    assert_eq!(names(&state)[..2], ["alpha", "beta"], "by task");
    act(&mut state, &[Action::Sort]);
    assert_eq!(names(&state)[0], "alpha", "the longest silent");
    act(&mut state, &[Action::Sort]);
    assert_eq!(state.lists.order(Pane::Agents).as_str(), "by name");
    act(&mut state, &[Action::NextPane, Action::Sort]);
    let ids = |state: &State| -> Vec<i64> {
        let rows = &state.looked.as_ref().expect("looked").running.rows;
        state.lists.running.iter().map(|at| rows[*at].id.0).collect()
    };
    assert_eq!(ids(&state), [12, 13], "the farthest first");
    act(&mut state, &[Action::Sort]);
    assert_eq!(ids(&state), [13, 12], "the oldest first");
}

#[test]
fn what_wants_a_look_is_told_with_its_reason() {
    let mut looked = sample::three();
    let mut broken = sample::agent("delta", AgentState::Failed, None);
    broken.agent.reason = Some("cannot be started\nat all".into());
    looked.agents.rows.extend([broken, sample::agent("epsilon", AgentState::Stale, None)]);
    let state = sample::state(looked);
    let told: Vec<(&str, String)> =
        state.lists.concerns.iter().map(|concern| (concern.state, concern.why.clone())).collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(state, why)| (*state, why.as_str())).collect();
    assert_eq!(
        told,
        [
            ("failed", "cannot be started at all"),
            ("stale", "no sign of life: its lease has lapsed"),
            ("stuck", "no sign of life of beta's work"),
            ("failed", "exit code 101 after 3 attempts"),
            ("blocked", "waits for src/** (alpha holds it for task 12)"),
            ("parked", "rate limit of the provider"),
        ]
    );
}

#[test]
fn an_agent_is_paused_and_resumed_by_one_key() {
    let mut state = state();
    assert_eq!(act(&mut state, &[Action::Pause]), Some(Order::Do(Deed::Pause("alpha".into()))));
    let mut looked = sample::three();
    looked.agents.rows[0].agent.paused = true;
    looked.agents.rows[1].state = AgentState::Failed;
    state.hear(News::Looked(Box::new(looked)));
    assert_eq!(act(&mut state, &[Action::Pause]), Some(Order::Do(Deed::Resume("alpha".into()))));
    let brake = act(&mut state, &[Action::Down, Action::Pause]);
    assert_eq!(brake, Some(Order::Do(Deed::Resume("beta".into()))), "which lifts its brake");
    let owner = act(&mut state, &[Action::NextPane, Action::Pause]);
    assert_eq!(owner, Some(Order::Do(Deed::Resume("alpha".into()))), "a task stands for who has it");
    let mut nobody = State::default();
    assert_eq!(act(&mut nobody, &[Action::Pause]), None);
    assert!(nobody.remark.is_some());
}

#[test]
fn a_task_is_cancelled_only_after_a_yes() {
    let mut state = state();
    assert_eq!(act(&mut state, &[Action::Cancel]), None);
    assert_eq!(state.mode(), Mode::Question);
    assert_eq!(state.question.as_ref().map(|(words, _)| words.as_str()), Some("cancel task 12 (lint)?"));
    assert_eq!(act(&mut state, &[Action::No]), None);
    assert_eq!(state.mode(), Mode::Lists);
    let yes = act(&mut state, &[Action::Cancel, Action::Yes]);
    assert_eq!(yes, Some(Order::Do(Deed::Cancel(TaskId(12)))));
    assert_eq!(state.mode(), Mode::Lists);
}

#[test]
fn what_a_task_is_decides_what_can_be_wished() {
    let mut state = state();
    act(&mut state, &[Action::NextPane, Action::NextPane]);
    let check = |state: &mut State, id: i64, action: Action, expected: Option<Deed>| {
        act(state, &[Action::First]);
        while chosen(state) != task(id) {
            act(state, &[Action::Down]);
        }
        state.remark = None;
        assert_eq!(act(state, &[action]), expected.clone().map(Order::Do), "{id} {action:?}");
        let asked = state.question.take().is_some();
        assert_eq!(state.remark.is_some(), expected.is_none() && !asked, "{id} {action:?}");
    };
    check(&mut state, 9, Action::Retry, Some(Deed::Retry(TaskId(9))));
    check(&mut state, 9, Action::Cancel, None);
    check(&mut state, 9, Action::Unpark, None);
    check(&mut state, 14, Action::Unpark, Some(Deed::Unpark(TaskId(14))));
    check(&mut state, 14, Action::Retry, None);
    check(&mut state, 13, Action::Retry, None);
    check(&mut state, 13, Action::Cancel, None);
    let words = act(&mut state, &[Action::Retry]);
    assert_eq!(words, None);
    assert_eq!(
        state.remark.as_ref().map(|remark| remark.words.as_str()),
        Some("cannot retry task 13 (deploy-notes): it is running")
    );
}

#[test]
fn a_remark_goes_by_itself() {
    let mut state = state();
    state.hear(News::Done("alpha is paused".into(), true));
    state.tick(sample::NOW + REMARK_MS - 1);
    assert!(state.remark.is_some());
    state.tick(sample::NOW + REMARK_MS);
    assert_eq!(state.remark, None);
}

#[test]
fn a_task_is_opened_from_every_list() {
    let opened = |id: i64| Some(Order::Show(Some(Shown { id: TaskId(id), attempt: None })));
    let mut state = state();
    assert_eq!(act(&mut state, &[Action::Open]), opened(12), "an agent's task");
    assert_eq!(state.mode(), Mode::Task);
    assert_eq!(act(&mut state, &[Action::Back]), Some(Order::Show(None)));
    assert_eq!(act(&mut state, &[Action::NextPane, Action::Down, Action::Open]), opened(13));
    act(&mut state, &[Action::Back, Action::NextPane]);
    assert_eq!(act(&mut state, &[Action::Last, Action::Open]), opened(14));
    act(&mut state, &[Action::Back, Action::NextPane, Action::First, Action::Down]);
    assert_eq!(act(&mut state, &[Action::Open]), opened(8), "the task of an event");
    act(&mut state, &[Action::Back, Action::NextPane, Action::Last]);
    assert_eq!(act(&mut state, &[Action::Open]), None, "gamma has none");
    assert_eq!(state.mode(), Mode::Lists);
}

#[test]
fn a_task_that_is_not_there_is_left_with_a_word() {
    let mut state = state();
    act(&mut state, &[Action::Open]);
    state.hear(News::NoStory(TaskId(99), "not this one".into()));
    assert_eq!(state.mode(), Mode::Task);
    state.hear(News::NoStory(TaskId(12), "no task 12".into()));
    assert_eq!(state.mode(), Mode::Lists);
    assert_eq!(state.remark.as_ref().map(|remark| remark.words.as_str()), Some("no task 12"));
}

fn output(lines: &[&str], anew: bool) -> News {
    let lines = lines.iter().map(ToString::to_string).collect();
    News::Output(Lines { task: TaskId(12), attempt: 1, anew, lines, note: None })
}

#[test]
fn output_is_followed_until_one_goes_back() {
    let mut state = state();
    act(&mut state, &[Action::Open]);
    state.hear(output(&["one", "two", "three"], true));
    let back = |state: &State| state.opened.as_ref().expect("opened").back;
    act(&mut state, &[Action::Up]);
    assert_eq!(back(&state), 1);
    state.hear(output(&["four"], false));
    assert_eq!(back(&state), 2, "what one looks at stays where it is");
    act(&mut state, &[Action::PageUp]);
    assert_eq!(back(&state), 3, "the first line is the last to be seen");
    act(&mut state, &[Action::Last]);
    state.hear(output(&["five"], false));
    assert_eq!(back(&state), 0);
    state.hear(output(&["begun anew"], true));
    assert_eq!(state.opened.as_ref().map(|opened| opened.lines.len()), Some(1));
}

#[test]
fn no_more_output_is_kept_than_fits() {
    let mut state = state();
    act(&mut state, &[Action::Open]);
    let lines = vec!["x"; opened::LINES_MAX];
    state.hear(output(&lines, true));
    act(&mut state, &[Action::First]);
    state.hear(output(&["last"], false));
    let opened = state.opened.as_ref().expect("opened");
    assert_eq!(opened.lines.len(), opened::LINES_MAX);
    assert_eq!(opened.lines.back().map(String::as_str), Some("last"));
    assert!(opened.back <= opened.lines.len());
}

#[test]
fn a_ledger_that_is_away_is_said_and_what_is_known_stays() {
    let mut state = state();
    state.hear(News::Away("connection refused\nby the server".into()));
    assert_eq!(state.reach, Reach::Away("connection refused by the server".into()));
    assert_eq!(state.lists.len(Pane::Agents), 3);
    state.hear(News::Looked(Box::new(sample::three())));
    assert_eq!(state.reach, Reach::Here);
}

#[test]
fn leaving_has_a_code() {
    let mut state = state();
    assert_eq!(act(&mut state, &[Action::Quit]), Some(Order::Quit(0)));
    assert_eq!(act(&mut state, &[Action::Interrupt]), Some(Order::Quit(130)));
    assert_eq!(act(&mut state, &[Action::Suspend]), Some(Order::Suspend));
    act(&mut state, &[Action::Help]);
    assert_eq!(state.mode(), Mode::Help);
    act(&mut state, &[Action::Help]);
    assert_eq!(state.mode(), Mode::Lists);
}
