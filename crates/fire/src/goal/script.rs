//! What the models say, and what their plans are: drawn from the seed.
//!
//! Here lives the script. It is strict: who is asked without what he must be told (the team, what became of the last plan,
//! the results that a task needs) refuses. Each answer says by which attempt and under which term it was given, and so does each
//! task of a plan, so that afterwards it can be told whose word was taken.

use super::asked::{Asked, between};
use super::team::{COUNT, MEASUREMENT, Role, SEATS};
use crate::history::Line;
use crate::seed::Chance;
use quorate_model::goal::{PLAN_KEY, REPLANS_MAX, REPORT_KEY};
use quorate_testkit::model::Say;
use serde_json::{Value, json};

/// The tool by which an agent tells how far it is.
const PROGRESS: &str = "quorate_progress";
/// What stands before what became of an earlier plan.
const HAPPENED: &str = "What happened:\n";
/// In the reason for which a plan went back.
const UNUSABLE: &str = "the plan cannot be used";
/// How often a task is tried that cannot be done.
const DOOMED_ATTEMPTS: i64 = 2;

/// A goal that is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// It is stored, and nodes work at it.
    Detached,
    /// A command works at it.
    Foreground,
    /// A command works at it, and every plan holds a task that cannot be done.
    Hopeless,
}

impl Goal {
    /// All of them.
    pub const ALL: [Goal; 3] = [Goal::Detached, Goal::Foreground, Goal::Hopeless];

    /// Returns the goal in words.
    pub fn words(self) -> &'static str {
        match self {
            Goal::Detached => "find out whether a goal is reached while nodes die",
            Goal::Foreground => "find out whether a goal is reached when its command dies",
            Goal::Hopeless => "find out whether what cannot be done comes to an end",
        }
    }

    /// With what the keys of its tasks begin.
    fn letter(self) -> char {
        match self {
            Goal::Detached => 'd',
            Goal::Foreground => 'f',
            Goal::Hopeless => 'h',
        }
    }

    fn of_letter(letter: char) -> Option<Goal> {
        Goal::ALL.into_iter().find(|goal| goal.letter() == letter)
    }
}

/// How far a goal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So manieth plan is made.
    Plan(usize),
    /// The tasks of a plan are done.
    Work(usize),
    /// The report is written.
    Report,
}

impl Step {
    /// Returns its place in the order of steps.
    pub fn place(self) -> usize {
        match self {
            Step::Plan(number) => 2 * number,
            Step::Work(number) => 2 * number + 1,
            Step::Report => usize::MAX,
        }
    }
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    goal: Goal,
    number: usize,
    /// Its tasks.
    pub pieces: Vec<Piece>,
}

/// A task of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its key.
    pub key: String,
    capability: &'static str,
    needs: Vec<usize>,
    claims: Option<String>,
    tells: bool,
    is_doomed: bool,
}

impl Draft {
    /// Returns every task that it leads to, the planning and the report with them, and how each must end.
    pub fn outcomes(&self) -> Vec<(String, &'static str)> {
        let mut states: Vec<&str> = Vec::new();
        for piece in &self.pieces {
            let is_blocked = piece.needs.iter().any(|need| states[*need] != "completed");
            states.push(match (piece.is_doomed, is_blocked) {
                (_, true) => "cancelled",
                (true, false) => "failed",
                (false, false) => "completed",
            });
        }
        let is_reached = states.iter().all(|state| *state == "completed");
        let report = if is_reached { "completed" } else { "cancelled" };
        let keys = self.pieces.iter().map(|piece| piece.key.clone());
        let numbered = |key: &str| match self.number {
            1 => key.to_owned(),
            number => format!("{key}-{number}"),
        };
        let mut outcomes = vec![(numbered(PLAN_KEY), "completed")];
        outcomes.extend(keys.zip(states));
        outcomes.push((numbered(REPORT_KEY), report));
        outcomes
    }

    fn find(&self, key: &str) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.key == key)
    }

    /// Writes it as a planner does, with words around it.
    fn text(&self, by: Line) -> String {
        let tasks: Vec<Value> = self.pieces.iter().map(|piece| self.task(piece, by)).collect();
        let plan = json!({ "goal": format!("plan {}, {}", self.number, by.words()), "tasks": tasks });
        format!("Here is the plan:\n```json\n{plan}\n```\nGood luck!")
    }

    fn task(&self, piece: &Piece, by: Line) -> Value {
        let mut task = json!({
            "key": piece.key, "title": format!("Do {}, planned {}", piece.key, by.words()), "prompt": self.wish(piece),
            "capability": piece.capability,
            "needs": piece.needs.iter().map(|need| &self.pieces[*need].key).collect::<Vec<_>>(),
        });
        if let Some(claim) = &piece.claims {
            task["claims"] = json!([claim]);
        }
        if piece.is_doomed {
            task["attempts"] = DOOMED_ATTEMPTS.into();
        }
        task
    }

    fn wish(&self, piece: &Piece) -> String {
        let tells = if piece.tells { " Tell your progress first." } else { "" };
        let doomed = if piece.is_doomed { " It cannot be done." } else { "" };
        format!("Work on {}.{tells}{doomed}", piece.key)
    }
}

/// What a model says to one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its words and calls.
    pub says: Vec<Say>,
    /// The goal.
    pub goal: Goal,
    /// How far it is.
    pub step: Step,
    /// Whether the attempt fails by it.
    pub fails: bool,
}

/// The script of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    seed: u64,
}

impl Script {
    /// Makes it.
    pub fn new(seed: u64) -> Script {
        Script { seed }
    }

    fn chance(self, goal: Goal, number: usize) -> Chance {
        Chance::new(self.seed.wrapping_mul(1_000) + goal as u64 * 100 + number as u64)
    }

    /// Returns how many plans it takes; all but the last hold a task that cannot be done.
    pub fn plans(self, goal: Goal) -> usize {
        match goal {
            Goal::Detached | Goal::Foreground => 2 + usize::from(self.chance(goal, 0).percent(40)),
            Goal::Hopeless => 1 + REPLANS_MAX as usize,
        }
    }

    /// Returns whether a goal is reached in the end.
    pub fn is_reached(self, goal: Goal) -> bool {
        goal != Goal::Hopeless
    }

    /// Returns whether the first plan that is made cannot be used.
    pub fn begins_badly(self, goal: Goal) -> bool {
        goal != Goal::Hopeless && self.chance(goal, 99).percent(50)
    }

    /// Draws a plan.
    pub fn draft(self, goal: Goal, number: usize) -> Draft {
        let mut chance = self.chance(goal, number);
        let name = |what: &str| format!("{}{number}-{what}", goal.letter());
        let count = if goal == Goal::Hopeless { 1 } else { chance.between(3, 5) as usize };
        let mut pieces: Vec<Piece> =
            (0..count).map(|at| piece(&mut chance, name(&at.to_string()), at)).collect();
        if number < self.plans(goal) || !self.is_reached(goal) {
            let capability = chance.one_of(&["research", "analysis"]).copied().unwrap_or("research");
            let needs = if chance.percent(30) { vec![0] } else { Vec::new() };
            let after = pieces.len();
            let doomed =
                Piece { key: name("doomed"), capability, needs, is_doomed: true, ..Piece::nothing() };
            pieces.push(doomed);
            pieces.push(Piece { key: name("after"), capability, needs: vec![after], ..Piece::nothing() });
        }
        Draft { goal, number, pieces }
    }

    /// Says what a model answers.
    ///
    /// # Errors
    /// In words, what it was not told, or asked in vain.
    pub fn answer(self, asked: &Asked) -> Result<Answer, String> {
        let told = match asked.seat.role {
            Role::Planner => self.plan(asked),
            Role::Specialist => self.work(asked),
            Role::Writer => self.report(asked),
        };
        told.map_err(|why| format!("task {}, attempt {}: {why}", asked.task, asked.attempt))
    }

    fn plan(self, asked: &Asked) -> Result<Answer, String> {
        let words = between(&asked.text, "\nGoal:\n", "\n\nThe team:\n").ok_or("no goal is told")?;
        let goal = Goal::ALL.into_iter().find(|goal| goal.words() == words).ok_or("it is another goal")?;
        let names = SEATS.iter().map(|seat| seat.name).chain(["measure"]);
        let missing = names.flat_map(|name| (1..=COUNT).map(move |n| format!("\n- {name}-{n}: ")));
        if let Some(mate) = missing.into_iter().find(|mate| !asked.text.contains(mate.as_str())) {
            return Err(format!("it is not told of {}", mate.trim()));
        }
        let number = self.number_of_plan(goal, asked)?;
        let by = line(asked);
        let step = Step::Plan(number);
        let is_bad = number == 1 && self.begins_badly(goal) && !asked.text.contains(UNUSABLE);
        let says = if is_bad { circle(by) } else { self.draft(goal, number).text(by) };
        Ok(Answer { says: vec![Say::Text(says)], goal, step, fails: is_bad })
    }

    /// Finds out how manieth plan is asked for, by what happened to the last.
    fn number_of_plan(self, goal: Goal, asked: &Asked) -> Result<usize, String> {
        let Some((_, happened)) = asked.text.split_once(HAPPENED) else { return Ok(1) };
        let begins = |number: usize| happened.contains(&format!("- {}{number}-", goal.letter()));
        let last = (1..=self.plans(goal)).rev().find(|number| begins(*number)).ok_or("no plan was tried")?;
        if last == self.plans(goal) {
            return Err(format!("plan {} is asked for, more than there are", last + 1));
        }
        for (key, state) in self.draft(goal, last).outcomes().iter().skip(1) {
            if !happened.contains(&format!("- {key}: {state}")) {
                return Err(format!("it is not told that {key} is {state}: {happened}"));
            }
        }
        Ok(last + 1)
    }

    fn work(self, asked: &Asked) -> Result<Answer, String> {
        let key = between(&asked.text, "Work on ", ".").ok_or("no work is told")?;
        let (goal, number) = plan_of(key).ok_or("it is of no plan")?;
        let draft = self.draft(goal, number);
        let piece = draft.find(key).ok_or_else(|| format!("there is no {key}"))?;
        if piece.capability != asked.seat.capability {
            return Err(format!("{key} is not for {}", asked.seat.name));
        }
        let needs: Vec<&str> = piece.needs.iter().map(|need| draft.pieces[*need].key.as_str()).collect();
        has_results(&asked.text, &needs)?;
        let by = line(asked);
        let tells = piece.tells && asked.results == 0 && asked.tools.iter().any(|tool| tool == PROGRESS);
        let says = match (tells, piece.is_doomed) {
            (true, _) => {
                let said =
                    json!({ "id": asked.task, "term": by.term, "message": format!("term {}", by.term) });
                Say::Call(PROGRESS.to_owned(), said)
            }
            (false, true) => Say::Text(format!("I tried, {}.\nFAILED: there is no way", by.words())),
            (false, false) => Say::Text(format!("{key} is done, {}", by.words())),
        };
        let fails = piece.is_doomed && !tells;
        Ok(Answer { says: vec![says], goal, step: Step::Work(number), fails })
    }

    fn report(self, asked: &Asked) -> Result<Answer, String> {
        let words = between(&asked.text, "\n\nGoal:\n", "\n\n# ").ok_or("no goal is told")?;
        let goal = Goal::ALL.into_iter().find(|goal| goal.words() == words).ok_or("it is another goal")?;
        let draft = self.draft(goal, self.plans(goal));
        let keys: Vec<&str> = draft.pieces.iter().map(|piece| piece.key.as_str()).collect();
        has_results(&asked.text, &keys)?;
        let by = line(asked);
        let says = format!("# Report\n\nAll of {} is done. Reported {}", keys.join(", "), by.words());
        Ok(Answer { says: vec![Say::Text(says)], goal, step: Step::Report, fails: false })
    }
}

fn piece(chance: &mut Chance, key: String, at: usize) -> Piece {
    let abilities = ["research", "analysis", MEASUREMENT];
    let capability = chance.one_of(&abilities).copied().unwrap_or(MEASUREMENT);
    let needs = (0..at).filter(|_| chance.percent(30)).collect();
    let zone = chance.between(1, 2);
    let claims = [format!("zone{zone}/**"), format!("zone{zone}/file")];
    let claims = if chance.percent(40) { chance.one_of(&claims).cloned() } else { None };
    let tells = capability != MEASUREMENT && chance.percent(50);
    Piece { key, capability, needs, claims, tells, is_doomed: false }
}

impl Piece {
    fn nothing() -> Piece {
        Piece {
            key: String::new(),
            capability: MEASUREMENT,
            needs: Vec::new(),
            claims: None,
            tells: false,
            is_doomed: false,
        }
    }
}

fn line(asked: &Asked) -> Line {
    Line { attempt: asked.attempt, term: asked.term }
}

/// Two tasks that need each other.
fn circle(by: Line) -> String {
    let task = |key: &str, need: &str| json!({ "key": key, "prompt": "Wait.", "needs": [need] });
    json!({ "goal": by.words(), "tasks": [task("a", "b"), task("b", "a")] }).to_string()
}

/// Reads the plan of a key: `d2-0` is of the second plan of the detached goal.
pub fn plan_of(key: &str) -> Option<(Goal, usize)> {
    let (plan, _) = key.split_once('-')?;
    let mut letters = plan.chars();
    let goal = Goal::of_letter(letters.next()?)?;
    Some((goal, letters.as_str().parse().ok()?))
}

/// Refuses a text that does not have the results of these tasks.
fn has_results(text: &str, keys: &[&str]) -> Result<(), String> {
    let has = |key: &str| {
        let rest = text.split_once(&format!("\n## {key}\n\n")).map(|(_, rest)| rest);
        rest.is_some_and(|rest| Line::told(rest.split("\n\n#").next().unwrap_or_default()).is_some())
    };
    match keys.iter().find(|key| !has(key)) {
        Some(key) => Err(format!("it is not told the result of {key}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::asked::sample::{self, configured, question};
    use quorate_model::goal::{self, Mate};

    const SEEDS: std::ops::Range<u64> = 1..30;

    fn said(answer: &Answer) -> &str {
        match &answer.says[0] {
            Say::Text(text) => text,
            Say::Call(..) => panic!("it is a call"),
        }
    }

    #[test]
    fn every_plan_is_one_that_the_product_takes() {
        let team = Mate::of(&configured());
        for (seed, goal) in SEEDS.flat_map(|seed| Goal::ALL.map(|goal| (seed, goal))) {
            let script = Script::new(seed);
            for number in 1..=script.plans(goal) {
                let draft = script.draft(goal, number);
                let answer = Value::from(draft.text(Line { attempt: 1, term: 1 })).to_string();
                let plan = goal::read(&answer, &team, false, None).expect("it can be used");
                assert_eq!(plan.tasks.len(), draft.pieces.len());
                let is_reached = draft.outcomes().iter().all(|(_, state)| *state == "completed");
                assert_eq!(is_reached, script.is_reached(goal) && number == script.plans(goal));
                assert!(plan.tasks.iter().all(|task| Line::told(&task.title).is_some()));
            }
        }
    }

    #[test]
    fn some_seeds_begin_badly_and_some_plan_three_times() {
        let of = |wanted: fn(Script) -> bool| SEEDS.filter(|seed| wanted(Script::new(*seed))).count();
        for count in [of(|s| s.begins_badly(Goal::Detached)), of(|s| s.plans(Goal::Detached) == 3)] {
            assert!((5..25).contains(&count), "{count}");
        }
        let bad = Value::from(circle(Line { attempt: 1, term: 1 })).to_string();
        let wrong = goal::read(&bad, &Mate::of(&configured()), false, None).expect_err("it cannot be used");
        assert!(wrong.message.contains(UNUSABLE), "{wrong}");
    }

    #[test]
    fn a_planner_answers_with_the_plan_that_is_due() {
        let script = Script::new(
            SEEDS.clone().find(|seed| Script::new(*seed).begins_badly(Goal::Detached)).expect("one"),
        );
        let first = question(Goal::Detached);
        let bad = script.answer(&sample::asked("planner", &first)).expect("it is answered");
        assert_eq!((bad.step, bad.fails), (Step::Plan(1), true));
        let again = sample::asked("planner", &format!("{first}\n{UNUSABLE}"));
        let good = script.answer(&again).expect("it is answered");
        assert!(!good.fails && said(&good).contains("by attempt 2 under term 3"), "{good:?}");
        let outcomes: Vec<goal::Outcome> = script
            .draft(Goal::Detached, 1)
            .outcomes()
            .into_iter()
            .skip(1)
            .map(|(name, state)| goal::Outcome { name, state: state.to_owned(), words: "so".into() })
            .collect();
        let anew = goal::question_again(&first, &outcomes);
        assert_eq!(script.answer(&sample::asked("planner", &anew)).map(|a| a.step), Ok(Step::Plan(2)));
        let untold = goal::question_again(&first, &outcomes[1..]);
        let wrong = script.answer(&sample::asked("planner", &untold)).expect_err("it is refused");
        assert!(wrong.contains("it is not told that d1-0"), "{wrong}");
    }

    #[test]
    fn who_is_not_told_what_he_needs_refuses() {
        let check = |name: &str, wish: &str, says: &str| {
            let wrong = Script::new(3).answer(&sample::asked(name, wish)).expect_err("it is refused");
            assert!(wrong.contains(says), "{wrong}");
        };
        check("planner", "\nGoal:\nanother\n\nThe team:\n", "another goal");
        let lonely = question(Goal::Detached).replace("- writer-2", "- nobody");
        check("planner", &lonely, "not told of - writer-2");
        check("research", "Work on x1-0.", "of no plan");
        check("research", "Work on d1-77.", "there is no d1-77");
        check("writer", &format!("Write.\n\nGoal:\n{}", Goal::Detached.words()), "not told the result of d");
    }

    #[test]
    fn a_specialist_tells_its_progress_where_it_may_and_then_answers() {
        let mut told = 0;
        for seed in SEEDS {
            let script = Script::new(seed);
            for piece in script.draft(Goal::Detached, 1).pieces.iter().filter(|piece| piece.needs.is_empty())
            {
                if piece.capability == MEASUREMENT {
                    continue;
                }
                let mut asked = sample::asked(piece.capability, &format!("Work on {}.", piece.key));
                let first = script.answer(&asked).expect("it is answered");
                asked.results = 1;
                let last = script.answer(&asked).expect("it is answered");
                assert_eq!(last.fails, piece.is_doomed);
                assert!(said(&last).contains("by attempt 2 under term 3"));
                told += usize::from(matches!(&first.says[0], Say::Call(name, input)
                    if name == PROGRESS && input["id"] == 7 && input["message"] == "term 3"));
            }
        }
        assert!(told > 5, "{told}");
    }

    #[test]
    fn keys_tell_their_plan() {
        assert_eq!(plan_of("f2-after"), Some((Goal::Foreground, 2)));
        for other in ["plan", "report-2", "x1-0", "d-0"] {
            assert_eq!(plan_of(other), None, "{other}");
        }
    }
}
