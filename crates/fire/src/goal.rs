//! A goal in words, while who plans it, works at it and holds it together is killed: it is reached all the same.
//!
//! Here lives the order of a story: a planner whose answer comes too late, blows at every step of a goal that nodes work at, the
//! same for one that a command works at and goes on with, and one that cannot be reached. Agents ask models, which are a server of
//! this process (`model`) that says what a script says (`script`). What is killed is drawn in `blows`, what must hold is in `check`.

mod asked;
mod blows;
mod check;
mod model;
mod record;
mod script;
mod team;

use crate::arena::{Arena, Backend, LEASE_MS};
use crate::chaos;
use crate::clock::now_ms;
use crate::disk::Disk;
use crate::follower::Follower;
use crate::history::{History, read_lines};
use crate::ledger::Ledger;
use crate::party::{Member, Party, Setting, signal};
use crate::procfs::{Marked, children_of, end_orphans};
use crate::seed::Chance;
use crate::verdict::{Reds, Verdict};
use crate::{Outcome, Request};
use blows::{Blow, Moment, Tally, Whom};
use model::{Call, Model};
use nix::sys::signal::Signal;
use record::{Record, Said};
use script::{Goal, Script, Step};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[cfg(test)]
pub use check::OWN as CHECKS;

/// How often a story looks.
const TICK: Duration = Duration::from_millis(20);
/// How long a goal may take to be reached, or to be given up.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long the first plan may take to be asked for: a disk that is busy keeps nodes from beginning.
const FIRST_ASKED: Duration = Duration::from_secs(60);
/// How long a model may take to be asked again before the blows at a step are given up.
const ASKED_AGAIN: Duration = Duration::from_secs(20);
/// How long another may take to have a late planner's task.
const LATE_WAIT: Duration = Duration::from_millis(LEASE_MS * 5);
/// How long an answer that was let go may take to be given.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long an agent may take to pass a late answer on: to the pipe that nobody reads.
const PASSED_ON: Duration = Duration::from_millis(300);
/// A process that ends while it starts is no finding when the database was away so shortly before.
const START_GRACE_MS: i64 = 20_000;
/// After the end: how long claims, orphans, the follower and reports may take to come to rest.
const REST: Duration = Duration::from_secs(15);

/// The nodes, the command that begins a goal, the one that goes on with it, and the one that begins what cannot be done.
const NODES: [usize; 2] = [0, 1];
const COMMAND: usize = 2;
const RESUME: usize = 3;
const HOPELESS: usize = 4;

/// What a story is asked to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Which database.
    pub backend: Backend,
    /// The program.
    pub program: PathBuf,
}

/// Plays the stories that were asked for, of each seed one on every database, side by side; answers whether all were clean.
pub fn stories(request: &Request, program: &Path) -> Outcome<bool> {
    let first = request.seed.unwrap_or_else(crate::draw);
    let mut reds = Reds::default();
    for seed in first..first.saturating_add(request.seeds) {
        for backend in &request.backends {
            println!("seed {seed} {}: a goal, and who works at it is killed", backend.name());
        }
        let told: Vec<Outcome<Verdict>> = std::thread::scope(|scope| {
            let options = request.backends.iter().map(|backend| Options {
                seed,
                backend: *backend,
                program: program.to_owned(),
            });
            let played: Vec<_> = options.map(|options| scope.spawn(move || story(&options))).collect();
            played
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|_| Err("a story panicked".into())))
                .collect()
        });
        for (backend, verdict) in request.backends.iter().zip(told) {
            let verdict = verdict.map_err(|why| format!("seed {seed} {}: {why}", backend.name()))?;
            reds.tell(seed, *backend, &verdict);
        }
    }
    Ok(reds.end())
}

/// Plays one and judges it.
pub fn story(options: &Options) -> Outcome<Verdict> {
    let begun = Instant::now();
    let mut story = Story::begin(options)?;
    story.be_late()?;
    story.reach_with_nodes()?;
    story.reach_with_commands()?;
    story.fail_in_vain()?;
    let record = story.end()?;
    let findings = check::run(&record);
    let line = line(options, &record, begun.elapsed(), findings.is_empty());
    let mut kept = None;
    if !findings.is_empty() {
        let folder = story.arena.keep();
        record.write(&folder).map_err(|e| format!("cannot write into {}: {e}", folder.display()))?;
        kept = Some(folder);
    }
    Ok(Verdict::of(line, findings, kept))
}

fn line(options: &Options, record: &Record, took: Duration, is_clean: bool) -> String {
    format!(
        "seed {} {}: {} plans, {} tasks, {} attempts, {} answers; {}; {} takeovers, {} refused writes, {:.1} s: {}",
        options.seed,
        options.backend.name(),
        record.parts.iter().filter(|part| part.is_plan).count(),
        record.parts.len(),
        record.history.attempts.len(),
        record.seen.answered.len(),
        record.tally,
        record.history.count("task.lease_expired"),
        record.history.count("write.refused"),
        took.as_secs_f64(),
        if is_clean { "clean" } else { "RED" }
    )
}

/// How far a goal's run is, as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    At(Step),
    Over,
}

impl Phase {
    /// Reads it from numbers: whether it is over, plans that were made, plans, tasks and reports that are open.
    fn of(numbers: [i64; 5]) -> Option<Phase> {
        let [over, made, plans, tasks, reports] = numbers;
        let made = usize::try_from(made).ok()?;
        match (over > 0, plans > 0, tasks > 0, reports > 0) {
            (true, ..) => Some(Phase::Over),
            (_, true, ..) => Some(Phase::At(Step::Plan(made + 1))),
            (_, _, true, _) => Some(Phase::At(Step::Work(made))),
            (.., true) => Some(Phase::At(Step::Report)),
            // All tasks have ended, and the run has not yet: it ends, or plans anew.
            _ => None,
        }
    }
}

struct Story {
    options: Options,
    arena: Arena,
    disk: Disk,
    ledger: Ledger,
    chance: Chance,
    script: Script,
    model: Model,
    party: Party,
    follower: Follower,
    /// Who is started when.
    due: Vec<(Instant, usize)>,
    tally: Tally,
    desertions: Vec<String>,
    killed: BTreeSet<(i64, i64)>,
    said: BTreeMap<Goal, Said>,
    /// The last call that a blow was for.
    struck: u64,
    /// The run that a command works at.
    resumed: i64,
}

impl Story {
    fn begin(options: &Options) -> Outcome<Story> {
        let mut chance = Chance::new(options.seed);
        let script = Script::new(options.seed);
        let model = Model::start(script, Chance::new(chance.between(1, u64::MAX - 1)));
        let files = [("quorate.toml", team::config(model.url())), ("measure.sh", team::MEASURE.to_owned())];
        let arena = Arena::with(options.backend, &options.program, &files)?;
        let disk = Disk::watch(arena.path(), LEASE_MS as i64 / 4)?;
        arena.run(&["run", Goal::Detached.words(), "--detach"])?;
        let mut ledger = arena.ledger()?;
        ledger.add_witness()?;
        let mut follower = Follower::default();
        follower.start(&arena)?;
        Ok(Story {
            options: options.clone(),
            disk,
            ledger,
            chance,
            script,
            model,
            party: Party::made_of(members(), options.backend == Backend::Lite),
            follower,
            arena,
            due: Vec::new(),
            tally: Tally::default(),
            desertions: Vec::new(),
            killed: BTreeSet::new(),
            said: BTreeMap::new(),
            struck: 0,
            resumed: 0,
        })
    }

    /// A planner's node stands still until another has the plan to make; woken up, it says what its planner has answered since.
    fn be_late(&mut self) -> Outcome {
        let (goal, step) = (Goal::Detached, Step::Plan(1));
        self.model.hold(goal, step);
        NODES.into_iter().try_for_each(|at| self.party.start(at, &self.arena))?;
        let Some(first) = self.wait_until_asked(goal, step, 0, FIRST_ASKED) else {
            let said: Vec<String> = self.party.members.iter().map(Member::said).collect();
            return Err(format!(
                "no plan was asked for within {} s: {:?}; the nodes said: {}",
                FIRST_ASKED.as_secs(),
                self.model.seen().wrong,
                said.join(" / ")
            ));
        };
        self.struck = first.id;
        let Some((at, _)) = self.child_of(&first) else { return Ok(()) };
        let Some(pid) = self.party.stop(at) else { return Ok(()) };
        let second = self.wait_until_asked(goal, step, first.id, LATE_WAIT);
        self.let_answer(first.id);
        sleep(PASSED_ON);
        self.party.go_on(at, pid);
        if second.is_some() {
            let late = include_str!("../sql/late_refused.sql");
            self.rest_for(LATE_WAIT, |story| story.ledger.number(late).is_ok_and(|late| late > 0));
            self.tally.late += usize::from(self.ledger.number(late).is_ok_and(|late| late > 0));
        }
        Ok(())
    }

    fn reach_with_nodes(&mut self) -> Outcome {
        let blows = blows::at_nodes(&mut self.chance, self.options.backend, self.script);
        self.go_through(Goal::Detached, blows)?;
        self.start_all_nodes()?;
        let report = include_str!("../sql/goal/report.sql").replace("$goal", Goal::Detached.words());
        self.rest(|story| story.ledger.number(&report) == Ok(1) && story.nodes_at_work());
        self.attend()?;
        self.desertions.extend(self.party.dismiss());
        Ok(())
    }

    fn reach_with_commands(&mut self) -> Outcome {
        let blows = blows::at_command(&mut self.chance, self.script);
        self.party.start(COMMAND, &self.arena)?;
        let sql = include_str!("../sql/goal/run_id.sql").replace("$goal", Goal::Foreground.words());
        self.rest(|story| story.ledger.number(&sql).is_ok_and(|id| id > 0));
        self.resumed = self.ledger.number(&sql)?;
        self.party.members[RESUME].add_word(self.resumed.to_string());
        self.go_through(Goal::Foreground, blows)?;
        self.wait_for_command(Goal::Foreground);
        Ok(())
    }

    fn fail_in_vain(&mut self) -> Outcome {
        self.party.start(HOPELESS, &self.arena)?;
        self.go_through(Goal::Hopeless, VecDeque::new())?;
        self.wait_for_command(Goal::Hopeless);
        Ok(())
    }

    /// Lets the blows fall that are due at each step, until the goal is over.
    fn go_through(&mut self, goal: Goal, mut blows: VecDeque<Blow>) -> Outcome {
        for blow in &blows {
            self.model.hold(goal, blow.step);
        }
        let until = Instant::now() + DEADLINE;
        let mut since = Instant::now();
        while Instant::now() < until {
            self.attend()?;
            sleep(TICK);
            let step = match self.phase(goal) {
                // A command that has ended by itself has nothing more to do, or never will.
                _ if self.said.contains_key(&goal) => break,
                Some(Phase::Over) => break,
                Some(Phase::At(step)) => step,
                None => continue,
            };
            while blows
                .front()
                .is_some_and(|blow| blow.step.place() < step.place() || is_tired(blow, step, since))
            {
                self.tally.missed += 1;
                blows.pop_front();
            }
            let target =
                blows.front().filter(|blow| blow.step == step).copied().and_then(|blow| self.aim(goal, blow));
            if let Some((blow, call)) = target {
                blows.pop_front();
                self.strike(goal, blow, call)?;
                since = Instant::now();
            } else if blows.front().is_none_or(|blow| blow.step != step) {
                since = Instant::now();
            }
            if !blows.iter().any(|blow| blow.step == step) {
                self.model.let_go(goal, step);
            }
        }
        self.tally.missed += blows.len();
        if Instant::now() >= until {
            println!("  {} s are over, and `{}` is not", DEADLINE.as_secs(), goal.words());
        }
        Ok(())
    }

    fn phase(&mut self, goal: Goal) -> Option<Phase> {
        let sql = include_str!("../sql/goal/phase.sql").replace("$goal", goal.words());
        let rows = self.ledger.rows(&sql).ok()?;
        let cells = rows.first()?.iter().map(|cell| cell.as_ref()?.parse().ok());
        let numbers: Vec<i64> = cells.collect::<Option<_>>()?;
        Phase::of(numbers.try_into().ok()?)
    }

    /// Finds the call that a blow is for; none is needed for one that is to fall while tasks are done.
    fn aim(&self, goal: Goal, blow: Blow) -> Option<(Blow, Option<Call>)> {
        let is_work = matches!(blow.step, Step::Work(_));
        let call = self.model.waiting(goal, blow.step, if is_work { 0 } else { self.struck });
        match (call, is_work) {
            (Some(call), _) => Some((blow, Some(call))),
            (None, true) => (!self.children().is_empty()).then_some((blow, None)),
            (None, false) => None,
        }
    }

    fn strike(&mut self, goal: Goal, blow: Blow, call: Option<Call>) -> Outcome {
        sleep(blow.pause);
        let call = match blow.step {
            // Whoever is asked now: other calls may have been answered meanwhile.
            Step::Work(_) => self.model.waiting(goal, blow.step, 0).or(call),
            Step::Plan(_) | Step::Report => call,
        };
        if let Some(call) = call.filter(|_| blow.moment == Moment::Answered) {
            self.let_answer(call.id);
            sleep(blow.after);
        }
        let victim = call.and_then(|call| self.child_of(&call));
        match blow.whom {
            Whom::Child => match victim.or_else(|| self.any_child()) {
                Some((_, child)) => self.kill_child(blow.step, &child),
                // It has ended: its word is on the way.
                None => self.kill_nodes(blow.step, Vec::new()),
            },
            Whom::Node => self.kill_nodes(blow.step, victim.map(|(at, _)| at).into_iter().collect()),
            Whom::Everyone => self.kill_nodes(blow.step, NODES.to_vec()),
            Whom::Server => self.restart(blow.step)?,
        }
        // A server that was away has taken nobody's call away.
        if let Some(call) = call.filter(|_| blow.whom != Whom::Server || blow.moment == Moment::Answered) {
            self.struck = self.struck.max(call.id);
        }
        Ok(())
    }

    fn kill_child(&mut self, step: Step, child: &Marked) {
        self.killed.insert((child.task, child.attempt));
        signal(child.pid, Signal::SIGKILL);
        self.tally.note(step, Whom::Child);
    }

    /// Kills members, or any that runs where none is given; they are started again, a command by the one that goes on.
    fn kill_nodes(&mut self, step: Step, mut places: Vec<usize>) {
        if places.is_empty() {
            let running: Vec<usize> =
                (0..HOPELESS).filter(|at| self.party.members[*at].pid().is_some()).collect();
            places.extend(self.chance.one_of(&running));
        }
        for at in places {
            if !self.party.kill(at) {
                continue;
            }
            let heir = if NODES.contains(&at) { at } else { RESUME };
            match heir {
                RESUME => self.tally.commands += 1,
                _ => self.tally.note(step, Whom::Node),
            }
            self.due.push((Instant::now() + chaos::death(&mut self.chance), heir));
        }
    }

    fn restart(&mut self, step: Step) -> Outcome {
        let Some(server) = &self.arena.server else { return Ok(()) };
        let from_ms = now_ms();
        server.restart()?;
        self.party.note_outage(from_ms);
        self.tally.note(step, Whom::Server);
        Ok(())
    }

    /// Starts who is due, and notes who has ended by himself.
    fn attend(&mut self) -> Outcome {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= now);
        self.due = later;
        let due: Vec<(Instant, usize)> = due;
        for (_, at) in due {
            match self.report_of_the_dead(at) {
                Some(text) => drop(self.said.insert(Goal::Foreground, Said { is_well: true, text })),
                None => self.party.start(at, &self.arena)?,
            }
        }
        for (at, goal) in
            [(COMMAND, Goal::Foreground), (RESUME, Goal::Foreground), (HOPELESS, Goal::Hopeless)]
        {
            if let Some((is_well, text)) = self.party.ended(at) {
                self.said.insert(goal, Said { is_well, text });
            }
        }
        for (at, was_at_work, words) in self.party.deserters() {
            if was_at_work || !self.was_away_lately() {
                self.desertions.push(words);
            }
            self.due.push((now + chaos::death(&mut self.chance), at));
        }
        if self.follower.revive(&self.arena)? && !self.was_away_lately() {
            self.desertions.push("the follower of the log ended by itself".into());
        }
        Ok(())
    }

    /// Returns what a command that was killed has left when it had written its report: there is nothing to go on with.
    fn report_of_the_dead(&mut self, at: usize) -> Option<String> {
        let report = include_str!("../sql/goal/report.sql").replace("$goal", Goal::Foreground.words());
        if at != RESUME || self.ledger.number(&report) != Ok(1) {
            return None;
        }
        let report = format!(".quorate/runs/{}/report.md", self.resumed);
        std::fs::read_to_string(self.arena.path().join(report)).ok()
    }

    fn was_away_lately(&self) -> bool {
        let outages = self.party.record.iter().filter(|disturbance| disturbance.pid.is_none());
        outages.map(|outage| outage.until_ms).max().is_some_and(|until| until > now_ms() - START_GRACE_MS)
    }

    fn start_all_nodes(&mut self) -> Outcome {
        self.due.clear();
        NODES.into_iter().try_for_each(|at| self.party.start(at, &self.arena))
    }

    fn nodes_at_work(&self) -> bool {
        NODES.into_iter().all(|at| self.party.members[at].is_at_work())
    }

    /// Waits until the command has ended that worked at a goal to its end.
    fn wait_for_command(&mut self, goal: Goal) {
        self.rest(|story| story.attend().is_ok() && story.said.contains_key(&goal) && story.due.is_empty());
    }

    fn wait_until_asked(&mut self, goal: Goal, step: Step, after: u64, limit: Duration) -> Option<Call> {
        self.rest_for(limit, |story| story.model.waiting(goal, step, after).is_some());
        self.model.waiting(goal, step, after)
    }

    /// Lets one answer go and waits until it was given, or its agent is gone.
    fn let_answer(&mut self, id: u64) {
        self.model.release(id);
        self.rest_for(ANSWER_WAIT, |story| story.model.is_over(id));
    }

    /// Returns the processes that members have started for tasks, and which member it was.
    fn children(&self) -> Vec<(usize, Marked)> {
        let supervisor =
            |child: &Marked| self.party.members.iter().position(|m| m.pid() == Some(child.parent));
        let children = children_of(self.arena.url()).into_iter();
        children.filter_map(|child| Some((supervisor(&child)?, child))).collect()
    }

    fn child_of(&self, call: &Call) -> Option<(usize, Marked)> {
        self.children()
            .into_iter()
            .find(|(_, child)| (child.task, child.attempt) == (call.task, call.by.attempt))
    }

    fn any_child(&mut self) -> Option<(usize, Marked)> {
        let children = self.children();
        self.chance.one_of(&children).cloned()
    }

    fn rest(&mut self, is_quiet: impl FnMut(&mut Story) -> bool) {
        self.rest_for(REST, is_quiet);
    }

    fn rest_for(&mut self, limit: Duration, mut is_quiet: impl FnMut(&mut Story) -> bool) {
        let until = Instant::now() + limit;
        while !is_quiet(self) && Instant::now() < until {
            sleep(TICK);
        }
    }

    /// Sends home whoever is left and reads what is there.
    fn end(&mut self) -> Outcome<Record> {
        let claims = include_str!("../sql/claimed.sql");
        self.rest(|story| story.ledger.number(claims) == Ok(0));
        self.desertions.extend(self.party.dismiss());
        let head = include_str!("../sql/head.sql");
        self.rest(|story| {
            let last = story.ledger.number(head).unwrap_or(-1);
            story.follower.seen().last() == Some(&last)
        });
        self.follower.kill();
        self.rest(|story| children_of(story.arena.url()).is_empty());
        let orphans = end_orphans(&children_of(self.arena.url()));
        let stood = self.disk.end()?;
        let history = History {
            lines: read_lines(&self.arena.path().join("out"))?,
            followed: self.follower.seen(),
            orphans,
            killed: std::mem::take(&mut self.killed),
            desertions: std::mem::take(&mut self.desertions),
            disturbances: [self.party.record.as_slice(), &stood].concat(),
            lease_ms: LEASE_MS as i64,
            ..History::read(&mut self.ledger)?
        };
        let record = Record::read(&mut self.ledger, self.arena.path(), history, self.script)?;
        let (said, tally) = (std::mem::take(&mut self.said), self.tally.clone());
        Ok(Record { seen: self.model.seen(), said, tally, ..record })
    }
}

/// A step at which nobody asks any more has seen its last blow.
fn is_tired(blow: &Blow, step: Step, since: Instant) -> bool {
    blow.step == step && since.elapsed() > ASKED_AGAIN
}

/// Who takes part, in the order of the places above. Which run is gone on with is known once it has begun.
fn members() -> Vec<Member> {
    let member = |name: &str, words: Vec<&'static str>| {
        let env = vec![(team::KEY_VARIABLE, team::KEY.to_owned())];
        Member::node_in(Setting { home: None, env }, name, words)
    };
    vec![
        member("node-1", vec!["up"]),
        member("node-2", vec!["up"]),
        member("command", vec!["run", Goal::Foreground.words()]),
        member("resume", vec!["runs", "resume"]),
        member("hopeless", vec!["run", Goal::Hopeless.words()]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_read_from_what_is_open() {
        let check = |numbers, expected| assert_eq!(Phase::of(numbers), expected, "{numbers:?}");
        check([0, 0, 1, 0, 0], Some(Phase::At(Step::Plan(1))));
        check([0, 1, 0, 3, 1], Some(Phase::At(Step::Work(1))));
        check([0, 1, 1, 0, 0], Some(Phase::At(Step::Plan(2))));
        check([0, 2, 0, 0, 1], Some(Phase::At(Step::Report)));
        check([0, 1, 0, 0, 0], None);
        check([1, 2, 0, 0, 0], Some(Phase::Over));
    }

    #[test]
    fn the_places_of_the_members_are_theirs() {
        let names: Vec<String> = members().into_iter().map(|member| member.name).collect();
        assert_eq!([&names[NODES[0]], &names[NODES[1]]], ["node-1", "node-2"]);
        assert_eq!([&names[COMMAND], &names[RESUME], &names[HOPELESS]], ["command", "resume", "hopeless"]);
    }
}
