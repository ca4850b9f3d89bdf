//! Random schedules of nodes and agents under a simulated clock, compared with the oracle after every operation.
//!
//! Each schedule ends in a calm in which everything that was begun must come to its end. A short form runs with the
//! other tests. `QUORATE_SECONDS=600` goes on with schedules never seen before; `QUORATE_SEED` replays one.

mod play;
mod world;

use play::look::{self, Look, Story};
use play::{Tally, count, number, perform};
use quorate_service::SCHEMA;
use quorate_store::{Boxed, Clock, Options, Store, Tx, Url, Write};
use quorate_testkit::ledger::START_MS;
use quorate_testkit::oracle::{Op, Oracle, Picture};
use std::time::{Duration, Instant, SystemTime};
use world::{TEAM, World};

/// Schedules of the short form.
const SCHEDULES: u64 = 60;
/// The whole state is compared after so many operations.
const LOOK_EVERY: usize = 10;
/// Replays that are spent on making a failing schedule short.
const REPLAYS_MAX: usize = 1_500;

/// Empties a ledger, so that the next schedule need not make one.
#[derive(Debug)]
struct Empty;

impl Write for Empty {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            for sql in [
                "delete from tasks",
                "delete from task_needs",
                "delete from attempts",
                "delete from runs",
                "delete from agents",
                "delete from nodes",
                "delete from leaders",
                "delete from claims",
                "delete from claim_waits",
                "delete from events",
                "delete from sqlite_sequence",
            ] {
                tx.later(sql, &[]);
            }
            Ok(())
        })
    }
}

/// A ledger in memory that many schedules use one after the other.
struct Arena {
    store: Store,
    clock: Clock,
    now: i64,
    _folder: tempfile::TempDir,
}

impl Arena {
    async fn new() -> Arena {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let clock = Clock::sim(START_MS);
        let options = Options { clock: clock.clone(), ..Options::new(&SCHEMA) };
        let url = Url::Lite(folder.path().join("quorate.db"));
        let store = Store::open(&url, options).await.expect("the ledger opens");
        Arena { store, clock, now: START_MS, _folder: folder }
    }

    async fn bout(&mut self) -> Bout<'_> {
        self.store.write(Empty).await.expect("the ledger can be emptied");
        let oracle = Oracle::new(self.now, TEAM);
        Bout { arena: self, oracle, played: Vec::new(), seen: Picture::default() }
    }
}

/// One schedule: the operations so far, on the ledger and on the oracle.
struct Bout<'a> {
    arena: &'a mut Arena,
    oracle: Oracle,
    played: Vec<(Op, String)>,
    seen: Picture,
}

impl Bout<'_> {
    /// Plays one operation; an error tells how ledger and rules differ.
    async fn play(&mut self, op: Op) -> std::result::Result<String, String> {
        let expected = self.oracle.apply(&op);
        match &op {
            Op::Advance(ms) => self.arena.clock.advance(*ms),
            Op::StepClock(ms) => self.arena.clock.step_wall(*ms),
            _ => {}
        }
        let answer = perform(&self.arena.store, TEAM, self.arena.now, &op).await;
        self.arena.now = self.oracle.now();
        self.played.push((op, expected.clone()));
        if answer != expected {
            return Err(format!("the ledger says `{answer}`, the rules say `{expected}`"));
        }
        if self.played.len().is_multiple_of(LOOK_EVERY) {
            self.look().await?;
        }
        Ok(expected)
    }

    async fn look(&mut self) -> std::result::Result<(), String> {
        let seen = self.arena.store.read(Look).await.map_err(|e| play::said(&e))?;
        if let Some(why) = look::broken(&self.seen, &seen) {
            return Err(why);
        }
        if let Some(differs) = seen.difference(&self.oracle.picture()) {
            return Err(format!("the states differ\n{differs}"));
        }
        self.seen = seen;
        Ok(())
    }

    async fn end(&mut self) -> std::result::Result<(), String> {
        self.look().await?;
        let story = self.arena.store.read(Story).await.map_err(|e| play::said(&e))?;
        look::untrue(&story).map_or(Ok(()), Err)
    }
}

/// What went wrong, after which operations.
struct Failure {
    why: String,
    played: Vec<(Op, String)>,
}

/// Plays the schedule of a seed: chaos, then calm.
async fn schedule(arena: &mut Arena, seed: u64, tally: &mut Tally) -> std::result::Result<usize, Failure> {
    let mut bout = arena.bout().await;
    let mut world = World::new(seed);
    let outcome = live(&mut bout, &mut world).await;
    for (op, answer) in &bout.played {
        count(tally, op, answer);
    }
    match outcome {
        Ok(()) => Ok(bout.played.len()),
        Err(why) => Err(Failure { why, played: bout.played }),
    }
}

async fn live(bout: &mut Bout<'_>, world: &mut World) -> std::result::Result<(), String> {
    while let Some(op) = world.next(&bout.oracle) {
        let answer = bout.play(op.clone()).await?;
        world.hear(&op, &answer, bout.oracle.now());
    }
    bout.end().await?;
    world.unfinished(&bout.seen).map_or(Ok(()), Err)
}

/// Plays operations again; answers with why it went wrong and after how many.
async fn replay(arena: &mut Arena, ops: &[Op]) -> Option<(usize, String)> {
    let mut bout = arena.bout().await;
    for op in ops {
        if let Err(why) = bout.play(op.clone()).await {
            return Some((bout.played.len(), why));
        }
        if let Err(why) = bout.look().await {
            return Some((bout.played.len(), why));
        }
    }
    bout.end().await.err().map(|why| (ops.len(), why))
}

/// Leaves out operations as long as it still goes wrong.
async fn shorten(arena: &mut Arena, failure: &Failure) -> Option<(Vec<Op>, String)> {
    let mut ops: Vec<Op> = failure.played.iter().map(|(op, _)| op.clone()).collect();
    let (length, mut why) = replay(arena, &ops).await?;
    ops.truncate(length);
    let (mut part, mut replays) = (ops.len() / 2, 0);
    while part > 0 {
        let (mut start, before) = (0, ops.len());
        while start < ops.len() && replays < REPLAYS_MAX {
            let end = (start + part).min(ops.len());
            let fewer: Vec<Op> = ops[..start].iter().chain(&ops[end..]).cloned().collect();
            replays += 1;
            match replay(arena, &fewer).await {
                Some((length, still)) => {
                    ops = fewer[..length].to_vec();
                    why = still;
                }
                None => start += part,
            }
        }
        part = if part > 1 || ops.len() == before { part / 2 } else { 1 };
    }
    Some((ops, why))
}

async fn tell(seed: u64, failure: &Failure) -> String {
    let whole = failure.played.iter().map(|(op, answer)| format!("{op:?} -> {answer}"));
    let whole = whole.collect::<Vec<_>>().join("\n");
    let short = match shorten(&mut Arena::new().await, failure).await {
        Some((ops, why)) => {
            let ops: Vec<String> = ops.iter().map(|op| format!("{op:?}")).collect();
            format!("the shortest way there: {why}\n{}", ops.join("\n"))
        }
        None => "only the whole schedule shows it".into(),
    };
    format!(
        "{whole}\n\n{}\n\n{short}\n\nQUORATE_SEED={seed} cargo test -p quorate-service --test simulation",
        failure.why
    )
}

/// Plays the schedules of some seeds until they or the time are over; answers with how many and their operations.
fn run(seeds: impl Iterator<Item = u64>, until: Option<Instant>, tally: &mut Tally) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut schedules, mut operations) = (0, 0);
    runtime.block_on(async {
        let mut arena = Arena::new().await;
        for seed in seeds {
            match schedule(&mut arena, seed, tally).await {
                Ok(steps) => operations += steps,
                Err(failure) => panic!("{}", tell(seed, &failure).await),
            }
            schedules += 1;
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
    });
    (schedules, operations)
}

/// Plays schedules never seen before, on every core.
fn run_on_all_cores(until: Option<Instant>, tally: &mut Tally) -> (usize, usize) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let first = fresh();
    std::thread::scope(|scope| {
        let work = |core: usize| {
            let mut tally = Tally::new();
            let seeds = (first + core as u64..).step_by(cores);
            (run(seeds, until, &mut tally), tally)
        };
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || work(core))).collect();
        threads.into_iter().fold((0, 0), |sum, thread| {
            let ((schedules, operations), part) = thread.join().expect("a schedule went wrong: see above");
            for (name, (done, refused)) in part {
                let counts = tally.entry(name).or_default();
                *counts = (counts.0 + done, counts.1 + refused);
            }
            (sum.0 + schedules, sum.1 + operations)
        })
    })
}

/// Seeds that no run before this one is likely to have had.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1_000_000
}

#[test]
fn what_nodes_and_agents_do_at_random_ends_as_the_rules_say() {
    let began = Instant::now();
    let mut tally = Tally::new();
    let seconds = number("QUORATE_SECONDS");
    let until = seconds.map(|seconds| began + Duration::from_secs(seconds));
    let (schedules, operations) = match (number("QUORATE_SEED"), seconds) {
        (Some(seed), _) => run(seed..=seed, None, &mut tally),
        (None, Some(_)) => run_on_all_cores(until, &mut tally),
        (None, None) => run(1..=number("QUORATE_SCHEDULES").unwrap_or(SCHEDULES), None, &mut tally),
    };
    let a_minute = schedules as f64 * 60.0 / began.elapsed().as_secs_f64();
    println!("{schedules} schedules, {operations} operations, {a_minute:.0} schedules a minute");
    println!("operations (done, refused): {tally:?}");
}
