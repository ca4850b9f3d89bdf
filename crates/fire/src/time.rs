//! The wall clock of a node jumps, and a node sleeps past its leases.
//!
//! Here live the acts: one node of two on PostgreSQL; one of two that share a file, which is more than one host can do
//! to itself; and both of them, which is a host whose clock is set. libfaketime makes the jumps; the monotonic clock is
//! left alone, and so are the children and PostgreSQL's own host.

use crate::arena::{Arena, Backend};
use crate::check::given_up;
use crate::history::{Attempt, History};
use crate::hosts::plan::{WORK, Work, config, plan};
use crate::ledger::{Ledger, Row};
use crate::party::{Member, Setting};
use crate::seed::Chance;
use crate::stage::{Parts, Stage};
use crate::verdict::Verdict;
use crate::{Outcome, beside_us, draw};
use quorate_testkit::server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The lease, in milliseconds.
const LEASE_MS: i64 = 2_000;
/// After so long, work that has begun is under way, and not yet over.
const IN_MID_WORK: Duration = Duration::from_millis(400);
/// How far the clock jumps, in seconds.
const HOUR: &str = "3600";
/// How often it jumps after one another, within less than a lease each.
const HOPS: usize = 6;
/// Jumps that are seen at least, of those that stay for a while.
const STEPS_MIN: usize = 3;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
struct Options {
    seed: u64,
    is_short: bool,
    act: Option<String>,
    program: PathBuf,
    library: PathBuf,
}

/// An act: its name, its database, how many of the two nodes have a clock that jumps, and whether the short form has it.
type Act = (&'static str, Backend, usize, bool);

const ACTS: [Act; 3] =
    [("postgres", Backend::Pg, 1, true), ("one", Backend::Lite, 1, false), ("host", Backend::Lite, 2, true)];

/// Plays the acts that `words` ask for; answers whether all were clean, or `None` for words that make no sense.
pub fn run(words: &[&str]) -> Option<Outcome<bool>> {
    read(words).map(|options| options.and_then(|options| play(&options)))
}

fn read(words: &[&str]) -> Option<Outcome<Options>> {
    let (mut seed, mut is_short, mut act, mut program, mut library) = (None, false, None, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seed" => seed = Some(words.next()?.parse().ok()?),
            "--quorate" => program = Some(PathBuf::from(words.next()?)),
            "--faketime" => library = Some(PathBuf::from(words.next()?)),
            "--short" => is_short = true,
            name => act = Some(ACTS.iter().find(|act| act.0 == name)?.0.to_owned()),
        }
    }
    let library = library?;
    let program = match program {
        Some(program) => std::path::absolute(program).map_err(|e| e.to_string()),
        None => beside_us(),
    };
    let seed = seed.unwrap_or_else(draw);
    Some(program.map(|program| Options { seed, is_short, act, program, library }))
}

fn play(options: &Options) -> Outcome<bool> {
    println!("seed {}: a node's wall clock jumps by an hour, and a node sleeps", options.seed);
    let mut all_clean = true;
    for act in ACTS {
        let is_wanted = match &options.act {
            Some(wanted) => wanted == act.0,
            None => act.3 || !options.is_short,
        };
        if is_wanted {
            let verdict = jump(options, act)?;
            print!("{verdict}");
            all_clean &= verdict.is_clean();
        }
    }
    Ok(all_clean)
}

/// The clock of some nodes.
#[derive(Debug)]
struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn new(folder: &Path, library: &Path) -> Outcome<Clock> {
        let clock = Clock { file: folder.join("clock"), library: library.to_owned() };
        clock.set(HOUR)?;
        clock.is_seen()?;
        clock.set("0")?;
        Ok(clock)
    }

    /// Sets it so many seconds off; whoever reads it meanwhile sees the old or the new one.
    fn set(&self, seconds: &str) -> Outcome {
        let (sign, new) = (if seconds.starts_with('-') { "" } else { "+" }, self.file.with_extension("new"));
        std::fs::write(&new, format!("{sign}{seconds}\n"))
            .and_then(|()| std::fs::rename(&new, &self.file))
            .map_err(|e| format!("cannot set the clock: {e}"))
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// A clock that does not jump would let everything pass.
    fn is_seen(&self) -> Outcome {
        let output = Command::new("date").arg("+%s").envs(self.env()).output().map_err(|e| e.to_string())?;
        let seen: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
        let ahead = seen - crate::clock::now_ms() / 1_000;
        if (3_590..=3_610).contains(&ahead) {
            Ok(())
        } else {
            Err("libfaketime does not move the clock".into())
        }
    }
}

fn jump(options: &Options, (name, backend, jumping, _): Act) -> Outcome<Verdict> {
    let begun = Instant::now();
    let mut chance = Chance::new(options.seed);
    let server = (backend == Backend::Pg).then(Server::start).transpose()?;
    let work = Work {
        has_set_piece: false,
        others: if options.is_short { 90 } else { 240 },
        long_ms: LEASE_MS as u64 * 3,
        claiming: 15,
    };
    let plan = plan(&mut chance, work);
    let files = [("quorate.toml", &*config(LEASE_MS)), ("work.sh", WORK), ("plan.toml", &plan)];
    let arena = Arena::around(server.as_ref().map(Server::url), &options.program, &files)?;
    let clock = Clock::new(arena.path(), &options.library)?;
    let mut stage = begin(arena, &server, &clock, jumping)?;
    (0..stage.party.members.len()).try_for_each(|at| stage.start(at))?;
    stage.wait_until_all_work()?;
    let lost = let_it_jump(&mut stage, &clock, &mut chance, options.is_short)?;
    let open = stage.ledger.number(include_str!("../sql/open.sql"))?;
    sleep_past_the_leases(&mut stage, &clock, jumping == 1)?;
    let history = stage.end()?;
    let spans = stage.ledger.rows(include_str!("../sql/spans.sql"))?;
    // Whoever is first says it: another whose turn it is to look, or the sleeper itself when it wakes.
    let slept = history.count("task.lease_expired") + given_up(&history).count();
    let steps = history.count("clock.stepped");
    let own = vec![
        ("no_lease_ends_for_a_jump", (lost > 0).then(|| format!("{lost} did")).into_iter().collect()),
        ("all_took_as_long_as_it_took", odd_spans(&spans, begun.elapsed().as_millis() as i64)),
        ("the_jumps_were_seen", unseen(backend, steps)),
        ("the_sleeper_lost_its_leases", if slept == 0 { vec!["it lost none".into()] } else { Vec::new() }),
    ];
    let line = format!(
        "seed {} {name}: {jumping} of 2 nodes jumped {} times ({steps} steps in the log), {open} tasks were open after the last",
        options.seed,
        HOPS + 4,
    );
    let history = History { attempts: timeless(history.attempts.clone(), backend), ..history };
    stage.judge(&line, &history, own)
}

fn begin(arena: Arena, server: &Option<Server>, clock: &Clock, jumping: usize) -> Outcome<Stage> {
    let ledger = match server {
        Some(server) => Ledger::pg(server.url())?,
        None => Ledger::lite(arena.path().join("ledger.db")),
    };
    let member = |at: usize| {
        let env = if at < jumping { clock.env() } else { Vec::new() };
        let name = ["node-1", "node-2"][at];
        Member::node_in(Setting { home: None, env }, name, vec!["up", "--agents", "4"])
    };
    let (members, urls) = ((0..2).map(member).collect(), vec![arena.url().to_owned()]);
    let shares_a_file = server.is_none();
    Stage::begin(Parts { arena, ledger, members, urls, lease_ms: LEASE_MS, shares_a_file })
}

/// Forward, back, back beyond the start, and to and fro; answers with how many leases have ended.
fn let_it_jump(stage: &mut Stage, clock: &Clock, chance: &mut Chance, is_short: bool) -> Outcome<i64> {
    let stay = Duration::from_millis(if is_short { 1_500 } else { LEASE_MS as u64 * 2 });
    let back = format!("-{HOUR}");
    for to in [HOUR, "0", &back] {
        sleep(stay);
        clock.set(to)?;
    }
    sleep(stay);
    for _ in 0..HOPS {
        clock.set(chance.one_of(&[HOUR, "0", &back]).copied().unwrap_or("0"))?;
        sleep(Duration::from_millis(chance.between(100, LEASE_MS as u64 / 2)));
    }
    clock.set("0")?;
    sleep(stay);
    stage.ledger.number(include_str!("../sql/expired.sql"))
}

/// Stops the first node while it has work; its clock may be another when it wakes.
fn sleep_past_the_leases(stage: &mut Stage, clock: &Clock, jumps_too: bool) -> Outcome {
    let mut text = String::from("goal = \"work for the sleeper\"\n");
    for key in (0..24).map(|number| format!("s{number:02}")) {
        text.push_str(&format!(
            "[[task]]\nkey = {key:?}\nrun = \"sh work.sh {key} 1.5\"\npriority = \"high\"\n"
        ));
    }
    std::fs::write(stage.arena.path().join("more.toml"), text).map_err(|e| e.to_string())?;
    stage.arena.run(&["run", "more.toml", "--detach"])?;
    let pid = stage.party.members[0].pid().ok_or("the first node has ended")?;
    let held = include_str!("../sql/held_by.sql").replace("$pid", &pid.to_string());
    stage.wait_for("the first node has work", &held, 2)?;
    // Not while it still writes that: a process that sleeps with the lock of a shared file keeps everyone else asleep.
    sleep(IN_MID_WORK);
    let Some(pid) = stage.party.stop(0) else { return Err("the first node cannot be stopped".into()) };
    if jumps_too {
        clock.set(HOUR)?;
    }
    sleep(Duration::from_millis(LEASE_MS as u64 * 2 + 500));
    stage.party.go_on(0, pid);
    sleep(Duration::from_millis(LEASE_MS as u64));
    clock.set("0")
}

/// Everything lasted between nothing and as long as the act.
fn odd_spans(spans: &[Row], longest_ms: i64) -> Vec<String> {
    let odd = |row: &Row| {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let took = text(3).parse::<i64>().ok()? - text(2).parse::<i64>().ok()?;
        let is_odd = took < 0 || took > longest_ms;
        is_odd.then(|| format!("{} {} took {took} ms", text(0), text(1)))
    };
    spans.iter().filter_map(odd).collect()
}

/// On SQLite the log tells of each jump; on PostgreSQL the server's clock counts, and no node ever tells of its own.
fn unseen(backend: Backend, steps: usize) -> Vec<String> {
    let is_wrong = match backend {
        Backend::Lite => steps < STEPS_MIN,
        Backend::Pg => steps > 0,
    };
    if is_wrong { vec![format!("the log tells of {steps} steps")] } else { Vec::new() }
}

/// Between clocks an hour apart, the times of two attempts cannot be compared: only the log's order is.
fn timeless(mut attempts: Vec<Attempt>, backend: Backend) -> Vec<Attempt> {
    if backend == Backend::Lite {
        for attempt in &mut attempts {
            attempt.started_ms = 0;
            attempt.ended_ms = attempt.ended_ms.map(|_| 0);
        }
    }
    attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_into_options() {
        let words = ["host", "--seed", "7", "--short", "--quorate", "/bin/q", "--faketime", "/lib/f.so"];
        let options = read(&words).expect("is read").expect("is sound");
        assert_eq!((options.seed, options.is_short, options.act.as_deref()), (7, true, Some("host")));
        assert!(read(&["--seed", "7"]).is_none(), "it must be told where the library is");
        assert!(read(&["--faketime", "/lib/f.so", "storm"]).is_none());
    }

    #[test]
    fn what_took_less_than_nothing_or_longer_than_all_is_found() {
        let row = |from: i64, to: i64| -> Row {
            ["task".into(), "7".into(), from.to_string(), to.to_string()].map(Some).to_vec()
        };
        assert_eq!(odd_spans(&[row(0, 0), row(5, 1_005)], 1_000), Vec::<String>::new());
        assert_eq!(odd_spans(&[row(3_600_000, 5)], 1_000), ["task 7 took -3599995 ms"]);
        assert_eq!(odd_spans(&[row(0, 1_001)], 1_000), ["task 7 took 1001 ms"]);
    }

    #[test]
    fn jumps_that_nobody_saw_are_found() {
        assert_eq!(unseen(Backend::Lite, 0).len(), 1);
        assert_eq!(unseen(Backend::Lite, STEPS_MIN), Vec::<String>::new());
        assert_eq!((unseen(Backend::Pg, 0).len(), unseen(Backend::Pg, 1).len()), (0, 1));
    }
}
