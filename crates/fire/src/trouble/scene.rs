//! A node, a single agent, a follower of the log and a clerk at work, while trouble is made for their database.
//!
//! Here lives what every case has in common: the beginning, the demand that work goes on by itself after the trouble,
//! and the end with everything that must hold. What the trouble is lives in the cases.

use crate::Outcome;
use crate::arena::{Arena, Backend, LEASE_MS};
use crate::check;
use crate::clock::now_ms;
use crate::follower::Follower;
use crate::history::{History, read_lines};
use crate::ledger::Ledger;
use crate::party::Party;
use crate::procfs::{children_of, end_orphans};
use crate::seed::Chance;
use crate::trouble::clerk::{Book, Clerk};
use quorate_testkit::server::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often something is looked at that is waited for.
const TICK: Duration = Duration::from_millis(50);
/// How long the first tasks may take.
const BEGINNING: Duration = Duration::from_secs(40);
/// How long it may take after the trouble until work goes on.
const RESUME_MAX: Duration = Duration::from_secs(90);
/// How long all may take to end.
const DEADLINE: Duration = Duration::from_secs(90);
/// How long the rest (claims, orphans, the follower) may take to come to rest.
const REST: Duration = Duration::from_secs(20);
/// How long the follower may take to come to the log's end: an answer on a silent connection is waited for 60 s.
const FOLLOWED: Duration = Duration::from_secs(80);
/// Tasks that must be completed before there is trouble, and after it.
const ENOUGH: i64 = 5;

/// What every case needs to know.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The program.
    pub program: PathBuf,
    /// The seed of the plan.
    pub seed: u64,
    /// The tasks of the plan.
    pub tasks: usize,
}

/// A case under way.
#[derive(Debug)]
pub struct Scene {
    /// Where it takes place.
    pub arena: Arena,
    /// What anyone can read.
    pub ledger: Ledger,
    party: Party,
    follower: Follower,
    clerk: Clerk,
    seen: Vec<String>,
    findings: Vec<String>,
    begun: Instant,
}

/// What may be missing afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    OfNothing,
    /// What was acknowledged last: the standby that took over had not heard of it.
    OfTheLast,
}

/// What became of a case.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub seen: String,
    /// How the clerk was refused, and how often.
    pub refusals: BTreeMap<String, usize>,
    /// What was wrong.
    pub findings: Vec<(&'static str, Vec<String>)>,
    /// The folder, where something was wrong.
    pub kept: Option<PathBuf>,
}

impl Scene {
    /// Begins on a server of PostgreSQL that the scene keeps.
    pub fn on_server(setting: &Setting, server: Server) -> Outcome<Scene> {
        let url = server.url().to_owned();
        Scene::begin(setting, Backend::Pg, Some(url), Some(server))
    }

    /// Begins on the ledger at an address; without one on a file.
    pub fn at(setting: &Setting, url: Option<String>) -> Outcome<Scene> {
        let backend = if url.as_ref().is_some_and(|url| url.starts_with("postgres")) {
            Backend::Pg
        } else {
            Backend::Lite
        };
        Scene::begin(setting, backend, url, None)
    }

    fn begin(
        setting: &Setting,
        backend: Backend,
        url: Option<String>,
        server: Option<Server>,
    ) -> Outcome<Scene> {
        let mut chance = Chance::new(setting.seed);
        let mut arena = Arena::at(url, &setting.program, &mut chance, setting.tasks)?;
        arena.server = server;
        arena.run(&["run", "plan.toml", "--detach"])?;
        let mut ledger = arena.ledger()?;
        ledger.add_witness()?;
        let mut follower = Follower::default();
        follower.start(&arena)?;
        let mut party = Party::of(backend);
        party.members.retain(|member| ["node-1", "solo-1"].contains(&member.name.as_str()));
        for at in 0..party.members.len() {
            party.start(at, &arena)?;
        }
        let clerk = Clerk::start(&arena)?;
        let (seen, findings, begun) = (Vec::new(), Vec::new(), Instant::now());
        let mut scene = Scene { arena, ledger, party, follower, clerk, seen, findings, begun };
        match scene.goes_on(BEGINNING) {
            Some(_) => Ok(scene),
            None => Err(format!("work did not begin within {} s", BEGINNING.as_secs())),
        }
    }

    /// Returns the server.
    pub fn server(&self) -> Outcome<&Server> {
        self.arena.server.as_ref().ok_or_else(|| "this case has no server".to_owned())
    }

    /// Makes trouble, which must be over when `make` returns, and demands that work goes on by itself then.
    pub fn trouble(&mut self, name: &str, make: impl FnOnce(&mut Scene) -> Outcome) -> Outcome {
        let from_ms = now_ms();
        let refused = self.clerk.book().counts().1;
        make(self)?;
        let resumed = self.goes_on(RESUME_MAX);
        self.party.note_outage(from_ms);
        let refused = self.clerk.book().counts().1 - refused;
        match resumed {
            Some(took) => {
                self.say(format!("{name}: on after {:.1} s, {refused} words refused", took.as_secs_f64()))
            }
            None => {
                self.findings.push(format!("{name}: work did not go on within {} s", RESUME_MAX.as_secs()))
            }
        }
        self.look_for_deserters();
        Ok(())
    }

    /// Returns how many words of the clerk were refused so far.
    pub fn refused(&self) -> usize {
        self.clerk.book().counts().1
    }

    /// Notes what was seen.
    pub fn say(&mut self, words: impl Into<String>) {
        let words = words.into();
        println!("  {words}");
        self.seen.push(words);
    }

    /// Notes what is wrong.
    pub fn wrong(&mut self, words: impl Into<String>) {
        self.findings.push(words.into());
    }

    /// Waits until nodes have completed a few tasks from now on, and the clerk was told something good; answers with how
    /// long it took.
    fn goes_on(&mut self, limit: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let mut first = None;
        let told = self.clerk.book().counts().0;
        while begun.elapsed() < limit {
            if let Ok(completed) = self.ledger.number(include_str!("../../sql/trouble/completed.sql")) {
                let enough = *first.get_or_insert(completed) + ENOUGH;
                if completed >= enough && self.clerk.book().counts().0 > told {
                    return Some(begun.elapsed());
                }
            }
            sleep(TICK);
        }
        None
    }

    fn look_for_deserters(&mut self) {
        self.findings.extend(self.party.deserters().into_iter().map(|(_, _, words)| words));
        match self.follower.revive(&self.arena) {
            Ok(false) => {}
            Ok(true) => self.findings.push("the follower of the log ended by itself".into()),
            Err(why) => self.findings.push(why),
        }
    }

    /// Lets everything come to its end and judges.
    pub fn finish(self) -> Outcome<Report> {
        self.finish_with(Loss::OfNothing)
    }

    /// The same where something may be lost.
    pub fn finish_with(mut self, loss: Loss) -> Outcome<Report> {
        let book = self.clerk.stop();
        self.wait(DEADLINE, |scene| scene.ledger.number(include_str!("../../sql/open.sql")) == Ok(0));
        self.wait(REST, |scene| scene.ledger.number(include_str!("../../sql/claimed.sql")) == Ok(0));
        self.look_for_deserters();
        self.findings.extend(self.party.dismiss());
        let head = include_str!("../../sql/head.sql");
        self.wait(FOLLOWED, |scene| {
            let last = scene.ledger.number(head).unwrap_or(-1);
            scene.follower.seen().last() == Some(&last)
        });
        self.look_for_deserters();
        self.follower.kill();
        let mut history = self.history()?;
        if loss == Loss::OfTheLast {
            forget_the_lost(&mut history);
        }
        Ok(self.judge(&book, &history, loss))
    }

    fn history(&mut self) -> Outcome<History> {
        self.wait(REST, |scene| children_of(scene.arena.url()).is_empty());
        let orphans = children_of(self.arena.url());
        let mut history = History::read(&mut self.ledger)?;
        // The clerk's tasks have no key; their files are called like their titles.
        let titles = self.ledger.rows(include_str!("../../sql/trouble/titles.sql"))?;
        for row in titles {
            let [Some(id), Some(title)] = row.as_slice() else { continue };
            let task = history.tasks.iter_mut().find(|task| task.id.to_string() == *id);
            task.into_iter().for_each(|task| task.key.clone_from(title));
        }
        let orphans = end_orphans(&orphans);
        Ok(History {
            lines: read_lines(&self.arena.path().join("out"))?,
            followed: self.follower.seen(),
            orphans,
            desertions: Vec::new(),
            disturbances: self.party.record.clone(),
            lease_ms: LEASE_MS as i64,
            ..history
        })
    }

    fn judge(mut self, book: &Book, history: &History, loss: Loss) -> Report {
        let mut findings = check::run(history);
        let own = [
            ("what_was_acknowledged_is_there", book.check(history, loss)),
            ("a_term_is_given_once", a_term_is_given_once(history)),
            ("everything_goes_on_by_itself", std::mem::take(&mut self.findings)),
        ];
        findings.extend(own);
        findings.retain(|(_, list)| !list.is_empty());
        let (told, refused) = book.counts();
        let seen = format!(
            "{} tasks, {} attempts, {} takeovers; {told} acknowledged, {refused} refused, longest word {:.1} s; {}; {:.0} s in all",
            history.tasks.len(),
            history.attempts.len(),
            history.count("task.lease_expired"),
            book.longest.as_secs_f64(),
            self.seen.join("; "),
            self.begun.elapsed().as_secs_f64()
        );
        let kept = (!findings.is_empty()).then(|| {
            let folder = self.arena.keep();
            // A folder that cannot be written is told by what is missing in it.
            let _ = history.write(&folder);
            let _ = std::fs::write(folder.join("book.txt"), format!("{:#?}\n", book.words));
            folder
        });
        Report { seen, refusals: book.refusals(), findings, kept }
    }

    /// Waits for something at most for so long.
    pub fn wait(&mut self, limit: Duration, mut is_so: impl FnMut(&mut Scene) -> bool) -> bool {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if is_so(self) {
                return true;
            }
            sleep(TICK);
        }
        false
    }
}

/// Takes what was lost out of what the follower saw. Everything that is in the log must have been seen all the same.
fn forget_the_lost(history: &mut History) {
    let known: BTreeSet<i64> = history.events.iter().map(|event| event.seq).collect();
    history.followed.retain(|seq| known.contains(seq));
}

/// No two attempts at a task were begun under the same term, also where one of them is no longer known.
///
/// Each child has written down its term before it did anything.
fn a_term_is_given_once(history: &History) -> Vec<String> {
    let mut findings = Vec::new();
    for (key, lines) in &history.lines {
        let mut terms: Vec<i64> = lines.iter().map(|line| line.term).collect();
        terms.sort_unstable();
        let twice = terms.windows(2).filter(|pair| pair[0] == pair[1]);
        findings.extend(twice.map(|pair| format!("task {key}: term {} was given twice", pair[0])));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Line;

    #[test]
    fn a_term_that_was_given_twice_is_found() {
        let lines = |terms: &[i64]| {
            let lines = (1..).zip(terms).map(|(attempt, term)| Line { attempt, term: *term }).collect();
            History { lines: [("t1".to_owned(), lines)].into(), ..History::default() }
        };
        assert_eq!(a_term_is_given_once(&lines(&[1, 3, 5])), Vec::<String>::new());
        assert_eq!(a_term_is_given_once(&lines(&[1, 3, 1])), ["task t1: term 1 was given twice"]);
    }

    #[test]
    fn what_was_lost_need_not_be_in_the_log_but_what_is_in_it_must_have_been_seen() {
        let event = |seq| crate::history::Event { seq, ..Default::default() };
        let mut history =
            History { events: vec![event(1), event(9)], followed: vec![1, 2, 3], ..History::default() };
        forget_the_lost(&mut history);
        assert_eq!(history.followed, [1]);
        let findings = check::run(&history);
        assert!(findings.iter().any(|(name, _)| *name == "the_follower_saw_the_log"), "{findings:?}");
    }
}
