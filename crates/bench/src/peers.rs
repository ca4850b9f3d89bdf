//! Other queues and frameworks beside the ledger: the same contract, back to back, medians of three rounds.
//!
//! Here live the order of the rounds and the databases that peers are given. A round of a heat is: the disk, the
//! ledger with the database alone before and after, then each peer. Who they are lives in `list`, how their programs
//! are made and run in `program`, what is shown in `standing`. The programs themselves lie in `peers/`.

mod list;
mod program;
mod standing;

use crate::Report;
use crate::scale::{Here, Scenario, Size};
use list::{Contest, Peer, Place};
use quorate_measure::database::Database;
use quorate_measure::load::Timing;
use quorate_measure::table::{Figure, Limit};
use quorate_measure::{disk, seed};
use quorate_model::{Error, Result};
use serde_json::json;
use standing::{Measure, Round, Standing, head};
use std::path::Path;
use std::time::Duration;

/// Rounds; the median counts.
const ROUNDS: usize = 3;
/// Who work off a queue together.
const SLOTS: usize = 10;
/// Our own name in the table.
const OURS: &str = "quorate";
/// The peers' database on the server.
const DATABASE: &str = "quorate_peers";

/// What is measured, and where.
pub(crate) struct Wish<'a> {
    /// One round and a tenth of the tasks, to see that it works.
    pub quick: bool,
    /// Only peers whose names have this word.
    pub matching: Option<&'a str>,
    /// Our side.
    pub databases: &'a [&'a Database],
    /// The server, if there is one.
    pub server: Option<&'a str>,
    /// Where files are made.
    pub folder: &'a Path,
}

/// Measures everyone who is asked for.
pub(crate) async fn measure(wish: &Wish<'_>, report: &mut Report) -> Result<()> {
    for heat in list::heats(wish.matching) {
        let ours = wish.databases.iter().find(|database| database.name() == heat[0].place.name());
        if let Some(ours) = ours {
            run_heat(wish, ours, &heat, report).await?;
        }
    }
    Ok(())
}

async fn run_heat(wish: &Wish<'_>, database: &Database, heat: &[Peer], report: &mut Report) -> Result<()> {
    let contest = heat[0].contest;
    let mut ours = our_lines(contest, wish.quick);
    let mut peers: Vec<Standing> =
        heat.iter().map(|peer| Standing::new(peer.name, tasks(peer, wish.quick), peer.keeps)).collect();
    for (peer, standing) in heat.iter().zip(&mut peers) {
        eprintln!("making {}", peer.name);
        standing.failed = program::make(peer).err();
    }
    let mut disks = Vec::new();
    for _ in 0..if wish.quick { 1 } else { ROUNDS } {
        disks.push(probe(wish.folder)?);
        for (line, round) in ours.iter_mut().zip(measure_ours(database, contest, wish).await?) {
            line.rounds.push(round);
        }
        for (peer, standing) in heat.iter().zip(&mut peers).filter(|(_, standing)| standing.failed.is_none())
        {
            eprintln!("running {}", peer.name);
            match run_peer(wish, peer, standing.tasks).await? {
                Ok(round) => standing.rounds.push(round),
                Err(why) => standing.failed = Some(why),
            }
        }
    }
    disks.sort_by(f64::total_cmp);
    let measures = measures(contest);
    let lines: Vec<Standing> = ours.into_iter().chain(peers).collect();
    say(report, database, contest, measures, &lines, &disks);
    report.figures(verdicts(database.name(), contest, &lines));
    Ok(())
}

/// Returns the lines for what is measured of the ledger and its database, in the order of [`measure_ours`].
fn our_lines(contest: Contest, is_quick: bool) -> Vec<Standing> {
    let kept = "kept, with attempts and events";
    match (contest, if is_quick { 5_000 } else { 50_000 }) {
        (Contest::Queue, count) => vec![
            Standing::new("the database alone", 0, "kept, with attempts and events; one at a time"),
            Standing::new(format!("{OURS}, one by one"), count, kept),
            Standing::new(OURS, count, "kept, with attempts and events; batches of 100"),
        ],
        (Contest::Thousand, _) => vec![
            Standing::new(OURS, 1_001, kept),
            Standing::new(format!("{OURS}, and one that needs all"), 1_002, kept),
        ],
    }
}

fn say(
    report: &mut Report,
    database: &Database,
    contest: Contest,
    measures: &[Measure],
    lines: &[Standing],
    disks: &[f64],
) {
    let name = database.name();
    let (what, disk) = (heading(contest), disks[disks.len() / 2]);
    report.say(&format!(
        "\n{name}: {what}\n{} round(s), medians (lowest to highest); fdatasync p50 {disk:.3} ms ({:.3} to {:.3})",
        disks.len(),
        disks[0],
        disks[disks.len() - 1],
    ));
    report.say(&head(measures));
    lines.iter().for_each(|line| report.say(&line.text(measures)));
    let standings: Vec<_> = lines.iter().map(|line| line.json(measures)).collect();
    report
        .heat(json!({ "database": name, "contest": what, "fdatasync_p50_ms": disk, "standings": standings }));
}

fn heading(contest: Contest) -> &'static str {
    match contest {
        Contest::Queue => {
            "no-op tasks, worked off by 10 slots, added 1,000 a call, an idle worker woken from call to start"
        }
        Contest::Thousand => "1,000 no-op tasks, 8 at once, functions in one process",
    }
}

fn measures(contest: Contest) -> &'static [Measure] {
    match contest {
        Contest::Queue => &Measure::QUEUE,
        Contest::Thousand => &Measure::THOUSAND,
    }
}

/// Returns what is asked of the ledger beside the peers, as far as they were measured: to be quicker than all that
/// keep what is done.
fn verdicts(database: &'static str, contest: Contest, lines: &[Standing]) -> Vec<Figure> {
    let is_peer = |line: &&Standing| !line.who.starts_with(OURS) && line.tasks > 0;
    let keeps = |line: &&Standing| line.keeps.starts_with("kept");
    let beside = |measure: Measure| {
        let ours = lines.iter().find(|line| line.who == OURS)?.median(measure)?;
        let others = lines.iter().filter(is_peer).filter(keeps).filter_map(|line| line.median(measure));
        Some((ours, others.collect::<Vec<_>>()))
    };
    let (measure, name, limit) = match contest {
        Contest::Queue => (Measure::Drain, "worked off, beside the quickest that keeps", Limit::AtLeast(1.0)),
        Contest::Thousand => (Measure::Wall, "a thousand tasks, beside the quickest peer", Limit::Below(1.0)),
    };
    let best = |values: Vec<f64>| match contest {
        Contest::Queue => values.into_iter().max_by(f64::total_cmp),
        Contest::Thousand => values.into_iter().min_by(f64::total_cmp),
    };
    let figure = beside(measure).and_then(|(ours, others)| Some(ours / best(others)?));
    figure.map(|ratio| Figure::new(database, name, ratio, "x").limit(limit)).into_iter().collect()
}

fn tasks(peer: &Peer, quick: bool) -> usize {
    if quick && peer.contest == Contest::Queue { peer.tasks / 10 } else { peer.tasks }
}

/// Measures the ledger and the database alone: a round for each of [`our_lines`].
async fn measure_ours(database: &Database, contest: Contest, wish: &Wish<'_>) -> Result<Vec<Round>> {
    let ms = Duration::from_millis;
    // Short raw runs: what counts is that they are near.
    let timing = Timing { warm_up: ms(200), cell: ms(500), probe: ms(150) };
    let size = Size { quick: wish.quick, huge: false, timing };
    let here = Here { folder: wish.folder, binary: None };
    let values = async |scenario: Scenario| -> Result<Vec<f64>> {
        eprintln!("running quorate, {}", scenario.name());
        Ok(scenario.measure(database, here, size).await?.iter().map(Figure::value).collect())
    };
    if contest == Contest::Thousand {
        let [out, and_in, ..] = values(Scenario::Thousand).await?[..] else { return Err(unread(contest)) };
        return Ok([out, and_in].map(|wall| Round::from([(Measure::Wall, wall)])).into());
    }
    let [single, share, batched, ..] = values(Scenario::Drain).await?[..] else {
        return Err(unread(contest));
    };
    let [added, ..] = values(Scenario::Bulk).await?[..] else { return Err(unread(contest)) };
    let [p50, p99, ..] = values(Scenario::Wake).await?[..] else { return Err(unread(contest)) };
    let ours =
        [(Measure::Drain, batched), (Measure::Add, added), (Measure::WakeP50, p50), (Measure::WakeP99, p99)];
    let drains = [100.0 * single / share, single].map(|rate| Round::from([(Measure::Drain, rate)]));
    Ok(drains.into_iter().chain([Round::from(ours)]).collect())
}

fn unread(contest: Contest) -> Error {
    Error::failed(format!("the ledger's own scenarios answered with fewer figures than {contest:?} reads"))
}

fn probe(folder: &Path) -> Result<f64> {
    let samples = disk::probe(folder, Duration::from_millis(500));
    samples
        .map(|samples| samples.p50_ms())
        .map_err(|e| Error::failed(format!("cannot probe {}: {e}", folder.display())))
}

/// Runs a peer once on a database that nobody has used.
async fn run_peer(
    wish: &Wish<'_>,
    peer: &Peer,
    tasks: usize,
) -> Result<std::result::Result<Round, program::Why>> {
    let peer = *peer;
    match peer.place {
        Place::Sqlite => {
            let made = tempfile::tempdir_in(wish.folder).map_err(|e| {
                Error::failed(format!("cannot make a folder in {}: {e}", wish.folder.display()))
            })?;
            let place = made.path().display().to_string();
            wait(move || program::run(&peer, tasks, ("PEERS_DIR", &place))).await
        }
        Place::Postgres => {
            let server = wish.server.ok_or_else(|| Error::failed("there is no PostgreSQL for the peers"))?;
            let client = seed::connect(server).await?;
            for text in
                ["drop database if exists quorate_peers with (force)", "create database quorate_peers"]
            {
                client.batch_execute(text).await.map_err(|e| seed::pg_failed(&e))?;
            }
            let url = with_database(server, DATABASE);
            wait(move || program::run(&peer, tasks, ("PEERS_URL", &url))).await
        }
    }
}

async fn wait<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::failed(format!("a peer: {e}")))
}

/// Returns a URL of another database of the same server, in a form that every peer's client reads: with a host, even
/// where `host=` names a folder with a socket.
fn with_database(server: &str, name: &str) -> String {
    let (address, settings) = server.split_once('?').unwrap_or((server, ""));
    let (left, _) = address.rsplit_once('/').unwrap_or((address, ""));
    let host = if left.ends_with('@') { "localhost" } else { "" };
    let settings = if settings.is_empty() { String::new() } else { format!("?{settings}") };
    format!("{left}{host}/{name}{settings}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_database_is_one_of_the_same_server() {
        let url = with_database("postgres://postgres@/postgres?host=/tmp/x", DATABASE);
        assert_eq!(url, "postgres://postgres@localhost/quorate_peers?host=/tmp/x");
        assert_eq!(with_database("postgres://u@h:5/d", DATABASE), "postgres://u@h:5/quorate_peers");
    }

    #[test]
    fn the_ledger_is_held_against_the_quickest_that_was_measured() {
        let line = |who: &str, wall: Option<f64>| {
            let rounds = wall.map(|wall| Round::from([(Measure::Wall, wall)])).into_iter().collect();
            Standing { rounds, ..Standing::new(who, 1, "kept") }
        };
        let mut lines =
            vec![line("quorate", Some(1.0)), line("a", Some(4.0)), line("b", Some(2.0)), line("c", None)];
        let figures = verdicts("sqlite", Contest::Thousand, &lines);
        assert_eq!(figures.iter().map(Figure::value).collect::<Vec<_>>(), [0.5]);
        lines.truncate(1);
        lines.push(line("quorate, and one that needs all", Some(0.5)));
        assert!(verdicts("sqlite", Contest::Thousand, &lines).is_empty(), "nobody to compare with");
    }

    #[test]
    fn the_quickest_queue_is_one_that_keeps_what_is_done() {
        let line = |who: &str, tasks: usize, keeps: &'static str, rate: f64| Standing {
            rounds: vec![Round::from([(Measure::Drain, rate)])],
            ..Standing::new(who, tasks, keeps)
        };
        let lines = [
            line("the database alone", 0, "kept", 900.0),
            line("quorate", 1, "kept", 400.0),
            line("quorate, one by one", 1, "kept", 700.0),
            line("a", 1, "deleted", 800.0),
            line("b", 1, "kept a while", 200.0),
            line("c", 1, "kept", 100.0),
        ];
        let figures = verdicts("postgres", Contest::Queue, &lines);
        assert_eq!(figures.iter().map(Figure::value).collect::<Vec<_>>(), [2.0]);
    }
}
