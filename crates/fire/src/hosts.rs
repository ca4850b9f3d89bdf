//! Several hosts: three nodes and a database, each with an address of its own, and what may happen between them.
//!
//! Here lives the order of the acts. The network lives in `net`, with the server in `site`, what acts share in
//! `crate::stage`, the work in `plan`, what must hold in `check` and, as after a storm, in `crate::check`.

mod check;
pub mod net;
pub mod plan;
mod site;

use crate::clock::now_ms;
use crate::history::History;
use crate::seed::Chance;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::{Outcome, beside_us, draw};
use check::{Absence, Beat};
use net::Cut;
use plan::{BEATING, HELD, LATE, Work};
use quorate_testkit::proxy::{Proxy, Still, Target};
use site::{DATABASE, NODES, Scene, Site};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

/// The lease where nodes are cut off, in milliseconds.
const LEASE_MS: i64 = 3_000;
/// The lease of the slow way: a third of it must do for two questions and a stall.
const SLOW_LEASE_MS: i64 = 6_000;
/// The delay of the slow way, in each direction.
const DELAY: Duration = Duration::from_millis(200);
/// How long the slow way stands still without that anyone may lose a lease.
const STALL: Duration = Duration::from_millis(800);
/// The share of packets that get lost.
const LOSS: &str = "0.2";
/// How long a node stays cut off in the full form: long enough for the kernel to try again but rarely.
const LONG_CUT: Duration = Duration::from_secs(25);

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
struct Options {
    seed: u64,
    is_short: bool,
    act: Option<String>,
    program: PathBuf,
}

/// An act, and whether the short form has it.
type Act = (&'static str, bool, fn(&Site, &Options) -> Outcome<Verdict>);

const ACTS: [Act; 5] = [
    ("silence", true, |site, options| cut_off(site, options, Way::Net(Cut::Silence))),
    ("link", false, |site, options| cut_off(site, options, Way::Net(Cut::LinkDown))),
    ("stall", false, stall),
    ("slow", true, slow),
    ("loss", true, loss),
];

/// How a node is cut off.
#[derive(Debug)]
enum Way {
    /// By the network.
    Net(Cut),
    /// What is between it and the server no longer passes anything on, but keeps its connections.
    Detour(Proxy),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Way::Net(Cut::Silence) => "silence",
            Way::Net(Cut::LinkDown) => "link",
            Way::Detour(_) => "stall",
        }
    }

    fn cut(&self, site: &Site) -> Outcome {
        match self {
            Way::Net(how) => site.net.cut(NODES[0], DATABASE, *how),
            Way::Detour(proxy) => {
                proxy.stand(Still::All);
                Ok(())
            }
        }
    }

    fn heal(&self, site: &Site) -> Outcome {
        match self {
            Way::Net(_) => site.net.heal(NODES[0], DATABASE),
            Way::Detour(proxy) => {
                proxy.stand(Still::Nothing);
                Ok(())
            }
        }
    }
}

/// Plays the acts that `words` ask for; answers whether all were clean, or `None` for words that make no sense.
pub fn run(words: &[&str]) -> Option<Outcome<bool>> {
    read(words).map(|options| options.and_then(|options| play(&options)))
}

fn read(words: &[&str]) -> Option<Outcome<Options>> {
    let (mut seed, mut is_short, mut act, mut program) = (None, false, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seed" => seed = Some(words.next()?.parse().ok()?),
            "--quorate" => program = Some(PathBuf::from(words.next()?)),
            "--short" => is_short = true,
            name => act = Some(ACTS.iter().find(|act| act.0 == name)?.0.to_owned()),
        }
    }
    let program = match program {
        Some(program) => std::path::absolute(program).map_err(|e| e.to_string()),
        None => beside_us(),
    };
    Some(program.map(|program| Options { seed: seed.unwrap_or_else(draw), is_short, act, program }))
}

fn play(options: &Options) -> Outcome<bool> {
    println!("seed {}: three nodes and a database, each on a host of its own", options.seed);
    let site = Site::make()?;
    let mut all_clean = true;
    for (name, is_in_short, act) in ACTS {
        let is_wanted = match &options.act {
            Some(wanted) => wanted == name,
            None => is_in_short || !options.is_short,
        };
        if is_wanted {
            let verdict = act(&site, options)?;
            print!("{verdict}");
            all_clean &= verdict.is_clean();
        }
    }
    Ok(all_clean)
}

impl Options {
    fn work(&self, has_set_piece: bool) -> Work {
        let others = if self.is_short { 25 } else { 80 };
        // Long ones outlast two leases, so that only renewed ones can end.
        let long_ms = LEASE_MS as u64 * 2 + 500;
        Work { has_set_piece, others, long_ms, claiming: 20 }
    }
}

/// One node is cut off while it has work, long enough for others to do it, and healed.
fn cut_off(site: &Site, options: &Options, way: Way) -> Outcome<Verdict> {
    let mut chance = Chance::new(options.seed);
    let plan = plan::plan(&mut chance, options.work(true));
    let (name, program) = (way.name(), &*options.program);
    let has_detour = matches!(way, Way::Detour(_));
    let scene = Scene { name, program, plan: &plan, lease_ms: LEASE_MS, agents: ["6", "3", "3"], has_detour };
    let mut stage = site.begin(&scene)?;
    begin_set_piece(&mut stage)?;
    let node = stage.node_id(0)?;
    sleep(Duration::from_millis(chance.between(0, LEASE_MS as u64)));

    let from_ms = now_ms();
    way.cut(site)?;
    let mut absence = see_it_lost(&mut stage, Absence { node, from_ms, ..Absence::default() })?;
    if !options.is_short {
        sleep(LONG_CUT);
    }
    way.heal(site)?;
    absence.until_ms = now_ms();
    stage.note(0, from_ms);
    let (told, again) = see_it_healed(&mut stage, node)?;
    let history = stage.end()?;
    read_traces(&stage, &mut absence);
    let line = format!(
        "seed {} cut off by {name} for {:.1} s: children gone {} before their leases ended; healed: late results \
         refused after {:.1} s, new work begun after {:.1} s",
        options.seed,
        (absence.until_ms - from_ms) as f64 / 1_000.0,
        least_margin(&absence),
        told.as_secs_f64(),
        again.as_secs_f64(),
    );
    let mut own = judge(&absence, &history);
    own.push(("it_is_back_soon", check::it_is_back_soon(again)));
    stage.judge(&line, &history, own)
}

/// The same by something in between that stands still, as a hung proxy does: to the kernel all is well.
fn stall(site: &Site, options: &Options) -> Outcome<Verdict> {
    let proxy = detour(site)?;
    proxy.delay(Duration::from_millis(50));
    cut_off(site, options, Way::Detour(proxy))
}

fn detour(site: &Site) -> Outcome<Proxy> {
    let (from, to) = (site.detour()?, site.server()?);
    site.net.switch().within(|| Proxy::start(from, Target::Tcp(to)))?
}

fn judge(absence: &Absence, history: &History) -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("children_stop_before_their_leases_end", check::children_stop_before_their_leases_end(absence)),
        ("others_do_its_work_meanwhile", check::others_do_its_work_meanwhile(absence, history)),
        ("late_results_are_refused_and_said", check::late_results_are_refused_and_said(absence, history)),
        ("it_works_again", check::it_works_again(absence, history)),
    ]
}

/// Returns how long before the end of its lease the last child was gone.
fn least_margin(absence: &Absence) -> String {
    let margins = absence.beats.iter().filter_map(|beat| Some(beat.lease_until_ms - beat.last_ms?));
    margins.min().map_or_else(|| "not seen".into(), |ms| format!("{ms} ms"))
}

/// Lets the first node have all of the set piece before the others begin.
fn begin_set_piece(stage: &mut Stage) -> Outcome {
    stage.start(0)?;
    let noted = include_str!("../sql/noted.sql");
    stage.wait_for("the first node has its tasks", noted, HELD as i64)?;
    let beats = stage.arena.path().join("beats");
    stage.wait("its children go on", |_| Ok(BEATING.iter().all(|key| beats.join(key).exists())))?;
    (1..NODES.len()).try_for_each(|at| stage.start(at))?;
    stage.wait_until_all_work()
}

/// Lets the late children end, notes when the leases of the cut node end, and waits until others have done what it had.
fn see_it_lost(stage: &mut Stage, absence: Absence) -> Outcome<Absence> {
    std::fs::write(stage.arena.path().join("cut"), "").map_err(|e| e.to_string())?;
    let mut leases: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    stage.wait("what the cut node had is done by others", |stage| {
        let rows = stage.ledger.rows(include_str!("../sql/set_piece.sql"))?;
        let mut done = 0;
        for row in &rows {
            let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            if let (Ok(id), Ok(1), Ok(until)) = (text(1).parse(), text(2).parse::<i64>(), text(3).parse()) {
                leases.insert(text(0), (id, until));
            }
            done += usize::from(text(4) == "completed");
        }
        Ok(done == HELD)
    })?;
    let beat = |key: &&str| Beat {
        key: (*key).to_owned(),
        lease_until_ms: leases.get(*key).map_or(0, |lease| lease.1),
        last_ms: None,
    };
    let late = LATE.iter().filter_map(|key| leases.get(*key).map(|lease| lease.0)).collect();
    Ok(Absence { beats: BEATING.iter().map(beat).collect(), late, ..absence })
}

/// Reads what the node and its children have left, when all is over.
fn read_traces(stage: &Stage, absence: &mut Absence) {
    for beat in &mut absence.beats {
        let text = std::fs::read_to_string(stage.arena.path().join("beats").join(&beat.key));
        beat.last_ms = text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).max();
    }
    absence.said = stage.party.members[0].said();
}

/// Waits until the healed node has told what came too late, and does new work; answers with how long each took.
fn see_it_healed(stage: &mut Stage, node: i64) -> Outcome<(Duration, Duration)> {
    let sql = include_str!("../sql/agents_of.sql").replace("$node", &node.to_string());
    let agents = stage.ledger.rows(&sql)?;
    let mut text = String::from("goal = \"work for the healed node\"\n");
    for (at, agent) in agents.iter().filter_map(|row| row.first()?.as_deref()).enumerate() {
        let (key, run) = (format!("again{at}"), format!("sh work.sh again{at} 0.1"));
        text.push_str(&format!("[[task]]\nkey = {key:?}\nrun = {run:?}\nagent = {agent:?}\n"));
    }
    std::fs::write(stage.arena.path().join("again.toml"), text).map_err(|e| e.to_string())?;
    stage.arena.run(&["run", "again.toml", "--detach"])?;
    let refused = include_str!("../sql/late_refused.sql");
    let told = stage.wait_for("the healed node's late results are refused", refused, LATE.len() as i64)?;
    let again = include_str!("../sql/again.sql");
    let again = told + stage.wait_for("the healed node works again", again, 1)?;
    Ok((told, again))
}

/// One node's way to the database is slow from the first on, and stands still for moments: nobody loses a lease.
fn slow(site: &Site, options: &Options) -> Outcome<Verdict> {
    let mut chance = Chance::new(options.seed);
    let proxy = detour(site)?;
    proxy.delay(DELAY);
    // Nothing is claimed: taking such a task is a dozen questions, one after another, and its lease counts from the first.
    let work = Work { long_ms: SLOW_LEASE_MS as u64 + 2_000, claiming: 0, ..options.work(false) };
    let plan = plan::plan(&mut chance, work);
    let (program, agents) = (&*options.program, ["4", "2", "2"]);
    let scene =
        Scene { name: "slow", program, plan: &plan, lease_ms: SLOW_LEASE_MS, agents, has_detour: true };
    let mut stage = site.begin(&scene)?;
    start_one_before_the_others(&mut stage)?;
    let mut stalls = 0;
    let open = include_str!("../sql/open.sql");
    while stage.ledger.number(open)? > 0 && stalls < 20 {
        sleep(Duration::from_millis(chance.between(1_000, 3_000)));
        proxy.stand(Still::All);
        sleep(STALL);
        proxy.stand(Still::Nothing);
        stalls += 1;
    }
    let node = stage.node_id(0)?;
    // An orderly end asks much of the server, one thing after another; it is not what is tried here.
    proxy.delay(Duration::ZERO);
    let history = stage.end()?;
    let line = format!(
        "seed {} one node slow by {} ms each way, {stalls} stalls of {} ms: it completed {}",
        options.seed,
        DELAY.as_millis(),
        STALL.as_millis(),
        check::completed_by(node, &history),
    );
    stage.judge(
        &line,
        &history,
        vec![("it_does_some_of_the_work", check::it_does_some_of_the_work(node, &history))],
    )
}

/// A node that has it hard is slow to start, too: it is to have its share of the work.
fn start_one_before_the_others(stage: &mut Stage) -> Outcome {
    stage.start(0)?;
    stage.wait("the first node works", |stage| Ok(stage.party.members[0].is_at_work()))?;
    (1..NODES.len()).try_for_each(|at| stage.start(at))
}

/// A fifth of the packets to one node get lost, from the first on.
fn loss(site: &Site, options: &Options) -> Outcome<Verdict> {
    let mut chance = Chance::new(options.seed);
    let plan = plan::plan(&mut chance, options.work(false));
    let (program, agents) = (&*options.program, ["4", "4", "4"]);
    let scene = Scene { name: "loss", program, plan: &plan, lease_ms: LEASE_MS, agents, has_detour: false };
    let mut stage = site.begin(&scene)?;
    let from_ms = now_ms();
    site.net.lose(NODES[0], LOSS)?;
    start_one_before_the_others(&mut stage)?;
    let node = stage.node_id(0)?;
    let open = include_str!("../sql/open.sql");
    stage.wait("every task ended", |stage| Ok(stage.ledger.number(open)? == 0))?;
    // What is lost three times comes too late for a lease as short as this: then its node is no healthy one.
    stage.note(0, from_ms);
    site.net.heal(NODES[0], DATABASE)?;
    let history = stage.end()?;
    let line = format!(
        "seed {} with 20 % of the packets to one node lost: it completed {}",
        options.seed,
        check::completed_by(node, &history)
    );
    stage.judge(
        &line,
        &history,
        vec![("it_does_some_of_the_work", check::it_does_some_of_the_work(node, &history))],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_into_options() {
        let options = read(&["--seed", "7", "--short", "slow", "--quorate", "/bin/q"]).expect("is read");
        let expected =
            Options { seed: 7, is_short: true, act: Some("slow".into()), program: PathBuf::from("/bin/q") };
        assert_eq!(options, Ok(expected));
        for wrong in [&["--seed"][..], &["--seed", "x"], &["storm"], &["--full"]] {
            assert!(read(wrong).is_none(), "{wrong:?}");
        }
    }
}
