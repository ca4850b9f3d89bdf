//! What is killed while a goal is worked at, and when: drawn from the seed.
//!
//! Here lives the choice alone. A plan is asked for four times at most, and what is killed at it counts, so there are no more
//! blows at one than it can bear. Whom a blow hits at a specialist depends on who is at work.

use super::script::{Goal, Script, Step};
use crate::arena::Backend;
use crate::seed::Chance;
use quorate_model::goal::PLAN_ATTEMPTS;
use std::collections::VecDeque;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// The child of the agent that is at work.
    Child,
    /// The node, or the command, that supervises it.
    Node,
    /// Every node.
    Everyone,
    /// The database server.
    Server,
}

/// When, where a model was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// While it thinks.
    Thinking,
    /// Just after it has answered.
    Answered,
}

/// One blow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blow {
    /// How far the goal is.
    pub step: Step,
    /// When.
    pub moment: Moment,
    /// Who.
    pub whom: Whom,
    /// How long after the step has begun.
    pub pause: Duration,
    /// How long after the answer.
    pub after: Duration,
}

/// Draws the blows at a goal that nodes work at, in the order of the steps. One attempt at the first plan is lost to a planner
/// that is late.
pub fn at_nodes(chance: &mut Chance, backend: Backend, script: Script) -> VecDeque<Blow> {
    let goal = Goal::Detached;
    let mut blows = VecDeque::new();
    let last = script.plans(goal);
    for number in 1..=last {
        let lost = if number == 1 { 1 + u64::from(script.begins_badly(goal)) } else { 0 };
        let bearable = PLAN_ATTEMPTS as u64 - 1 - lost;
        let count = chance.between(1, bearable.min(2));
        blows.extend(several(chance, Step::Plan(number), count, backend));
        let count = if number == 1 { chance.between(2, 5) } else { chance.between(0, 2) };
        blows.extend(several(chance, Step::Work(number), count, backend));
    }
    let count = chance.between(1, 3);
    blows.extend(several(chance, Step::Report, count, backend));
    blows
}

/// Draws the blows at a goal that a command works at: the command itself, twice or thrice, at least once behind the first plan.
pub fn at_command(chance: &mut Chance, script: Script) -> VecDeque<Blow> {
    let last = script.plans(Goal::Foreground);
    let early = [Step::Plan(1), Step::Work(1)];
    let late = [Step::Plan(2), Step::Work(last), Step::Report];
    let mut steps: Vec<Step> = chance.one_of(&early).copied().into_iter().collect();
    let first = chance.between(0, 2) as usize;
    steps.extend(
        late.iter().enumerate().filter(|(at, _)| *at == first || chance.percent(40)).map(|(_, step)| *step),
    );
    steps.sort_by_key(|step| step.place());
    steps.into_iter().map(|step| blow(chance, step, Whom::Node)).collect()
}

fn several(chance: &mut Chance, step: Step, count: u64, backend: Backend) -> Vec<Blow> {
    let mut one = || {
        let whom = whom(chance, backend);
        blow(chance, step, whom)
    };
    (0..count).map(|_| one()).collect()
}

fn blow(chance: &mut Chance, step: Step, whom: Whom) -> Blow {
    let moment = if chance.percent(50) { Moment::Thinking } else { Moment::Answered };
    let pause = Duration::from_millis(chance.between(20, 400));
    let after = Duration::from_millis(chance.between(0, 150));
    Blow { step, moment, whom, pause, after }
}

fn whom(chance: &mut Chance, backend: Backend) -> Whom {
    match chance.between(1, 100) {
        1..=45 => Whom::Child,
        46..=75 => Whom::Node,
        76..=88 => Whom::Everyone,
        _ if backend == Backend::Pg => Whom::Server,
        _ => Whom::Child,
    }
}

/// What was killed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Children of planners, of specialists, of those who report.
    pub children: [usize; 3],
    /// Nodes, while planned, while worked, while reported.
    pub nodes: [usize; 3],
    /// Commands.
    pub commands: usize,
    /// Restarts of the server.
    pub restarts: usize,
    /// Planners that answered when another had their task.
    pub late: usize,
    /// Blows that found nobody.
    pub missed: usize,
}

impl Tally {
    /// Notes that somebody was killed at a step.
    pub fn note(&mut self, step: Step, whom: Whom) {
        let at = match step {
            Step::Plan(_) => 0,
            Step::Work(_) => 1,
            Step::Report => 2,
        };
        match whom {
            Whom::Child => self.children[at] += 1,
            Whom::Node | Whom::Everyone => self.nodes[at] += 1,
            Whom::Server => self.restarts += 1,
        }
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ([planners, specialists, writers], [planning, working, reporting]) = (self.children, self.nodes);
        write!(
            f,
            "killed {planners} planners, {specialists} specialists, {writers} writers, {planning}+{working}+{reporting} nodes, \
             {} commands; {} server restarts, {} late plans, {} blows missed",
            self.commands, self.restarts, self.late, self.missed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_bears_all_blows_at_it() {
        for seed in 1..200 {
            let script = Script::new(seed);
            let blows = at_nodes(&mut Chance::new(seed), Backend::Pg, script);
            for number in 1..=script.plans(Goal::Detached) {
                let hurt = blows.iter().filter(|blow| blow.step == Step::Plan(number)).count() as i64;
                let lost = if number == 1 { 1 + i64::from(script.begins_badly(Goal::Detached)) } else { 0 };
                assert!((1..PLAN_ATTEMPTS).contains(&(hurt + lost)), "seed {seed}, plan {number}");
            }
            assert!(blows.iter().any(|blow| blow.step == Step::Report));
        }
    }

    #[test]
    fn blows_come_in_the_order_of_the_steps() {
        for seed in 1..50 {
            let script = Script::new(seed);
            let mut chance = Chance::new(seed);
            for blows in [at_nodes(&mut chance, Backend::Lite, script), at_command(&mut chance, script)] {
                let places: Vec<usize> = blows.iter().map(|blow| blow.step.place()).collect();
                assert!(places.is_sorted() && places.len() > 1, "{places:?}");
                assert!(blows.iter().all(|blow| blow.whom != Whom::Server), "it has no server");
            }
        }
    }

    #[test]
    fn everyone_is_hit_by_some_seed() {
        let drawn: Vec<Blow> = (1..60)
            .flat_map(|seed| at_nodes(&mut Chance::new(seed), Backend::Pg, Script::new(seed)))
            .collect();
        for whom in [Whom::Child, Whom::Node, Whom::Everyone, Whom::Server] {
            for step in [Step::Plan(1), Step::Work(1), Step::Plan(2), Step::Report] {
                assert!(
                    drawn.iter().any(|blow| (blow.whom, blow.step) == (whom, step)),
                    "{whom:?} at {step:?}"
                );
            }
        }
    }
}
