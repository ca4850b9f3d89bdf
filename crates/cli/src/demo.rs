//! `quorate demo`: the promises, shown live, without a key or a network.
//!
//! Here lives the director: it starts four agents as processes of their own, kills one of them, and says in plain
//! words what the log says. The agents' children are the fake agent, the ledger is a real one, and nothing is staged
//! but the tasks: every line on the screen is an event that anyone can read afterwards.

use crate::args;
use crate::place::{CONFIG_FILE, STATE_FOLDER};
use crate::print;
use crate::print::style::{Colour, paint_if};
use crate::signals::Signals;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_model::config::Config;
use quorate_model::plan::Plan;
use quorate_model::{Error, Kind, Result, RunId, Seq, TaskId, Term};
use quorate_server::{Desk, Server, ServerOptions};
use quorate_service::SCHEMA;
use quorate_service::event::{After, Filter, Logged, PAGE_MAX};
use quorate_service::run::{Settle, Start};
use quorate_service::task::{Done, NewTask};
use quorate_service::view::{RunShow, RunStory};
use quorate_store::{Options, Store, Url};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The demo gives up after so long; it takes about a quarter of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Names that are tried for the demo's folder.
const NAMES_MAX: usize = 100;
/// The agents of the demo.
const AGENTS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// At this much progress the agent that trains is killed.
const KILL_AT: i64 = 40;

const PLAN: &str = include_str!("demo/plan.toml");
const CONFIG: &str = include_str!("demo/quorate.toml");

/// Where the words of a line begin: behind time and name.
const INDENT: usize = 16;

/// Shows the promises.
pub(crate) async fn demo(args: &args::Demo, json: bool) -> Result<u8> {
    let folder = make_folder(args.keep.as_deref())?;
    // Before any agent is there: whatever ends the demo is to end them, too.
    let mut signals = Signals::new()?;
    let store = open(&folder).await?;
    let run = start(&store).await?;
    let mut stage = Stage::open(store, folder, run, json)?;
    stage.introduce();
    let server = stage.open_doors().await;
    let played = tokio::select! {
        played = tokio::time::timeout(PATIENCE, stage.play()) => Some(played),
        _ = signals.next() => None,
    };
    stage.end_agents();
    if let Some(server) = server {
        server.end().await;
    }
    let Some(played) = played else {
        return Err(Error::new(Kind::Interrupted, "the demo was interrupted; its agents have ended"));
    };
    played.map_err(|_| Error::failed(format!("the demo did not end within {} s", PATIENCE.as_secs())))??;
    stage.conclude().await
}

fn make_folder(keep: Option<&Path>) -> Result<PathBuf> {
    let folder = match keep {
        Some(folder) => folder.to_owned(),
        None => new_folder(&std::env::temp_dir())?,
    };
    let cannot = |e: std::io::Error| {
        Error::failed(format!("cannot make the demo's folder {}: {e}", folder.display()))
            .hint("name another with --keep DIR")
    };
    let has = |what: &str| {
        Error::new(Kind::Conflict, format!("{} has {what} already", folder.display()))
            .hint("name a new folder with --keep DIR")
    };
    let config_file = folder.join(CONFIG_FILE);
    if folder.join(STATE_FOLDER).exists() {
        return Err(has("a ledger"));
    }
    if config_file.symlink_metadata().is_ok() {
        return Err(has("a quorate.toml"));
    }
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    let program = std::env::current_exe().map_err(cannot)?;
    let config = CONFIG.replace("PROGRAM", &program.display().to_string());
    // Not even one that came this moment is written over.
    let file = OpenOptions::new().write(true).create_new(true).open(config_file);
    file.and_then(|mut file| file.write_all(config.as_bytes())).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => has("a quorate.toml"),
        _ => cannot(e),
    })?;
    folder.canonicalize().map_err(cannot)
}

/// Makes a folder of our own where everybody may make some: one that is there already may be somebody's trap.
fn new_folder(within: &Path) -> Result<PathBuf> {
    let names = (0..NAMES_MAX).map(|n| within.join(format!("quorate-demo-{}-{n}", std::process::id())));
    for folder in names {
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => {
                let message = format!("cannot make the demo's folder {}: {e}", folder.display());
                return Err(Error::failed(message).hint("name another with --keep DIR"));
            }
        }
    }
    let message = format!("{} holds too many folders of demos", within.display());
    Err(Error::failed(message).hint("name another with --keep DIR"))
}

async fn open(folder: &Path) -> Result<Store> {
    let url = Url::Lite(folder.join(".quorate/quorate.db"));
    Store::open(&url, Options::new(&SCHEMA)).await
}

async fn start(store: &Store) -> Result<RunId> {
    let plan = Plan::parse("demo.toml", PLAN.as_bytes())?;
    let tasks = plan.tasks.iter().map(|task| NewTask::planned(task, &Config::default())).collect();
    let start = Start { goal: plan.goal.clone(), source: None, detached: true, tasks };
    Ok(store.write(start).await?.0)
}

/// Is one of the demo's agents: reads the task on standard input and does what its prompt says.
pub(crate) fn fake_agent() -> Result<u8> {
    let document = std::io::read_to_string(std::io::stdin())
        .map_err(|e| Error::invalid(format!("cannot read the task on standard input: {e}")))?;
    quorate_drivers::fake::run(&document, &mut std::io::stdout())
}

/// Everything the director needs.
struct Stage {
    store: Store,
    folder: PathBuf,
    run: RunId,
    agents: Vec<(String, Child)>,
    json: bool,
    seen: Option<Seq>,
    shown: Vec<Logged>,
    began: Instant,
    /// The agent that was killed, with the term under which it had its task.
    killed: Option<(String, TaskId, Term)>,
    late_write: bool,
}

impl Stage {
    fn open(store: Store, folder: PathBuf, run: RunId, json: bool) -> Result<Stage> {
        let mut stage = Stage {
            store,
            folder,
            run,
            agents: Vec::new(),
            json,
            seen: None,
            shown: Vec::new(),
            began: Instant::now(),
            killed: None,
            late_write: false,
        };
        for name in AGENTS {
            let child = start_agent(&stage.folder, name)?;
            stage.agents.push((name.to_owned(), child));
        }
        Ok(stage)
    }

    fn introduce(&self) {
        self.say("Four agents, each a process of its own, share one ledger and eight small tasks.");
        self.say("The agents are fakes without a model; ledger, leases, processes and signals are real.");
    }

    /// Opens the doors while the demo lasts, as a node does. It goes on without them.
    async fn open_doors(&self) -> Option<Server> {
        let options = ServerOptions {
            listen: Config::default().server.listen,
            is_set: false,
            socket: Some(self.folder.join(".quorate/socket")),
            token: None,
        };
        let desk = Desk::new(self.store.clone(), Arc::new(Config::default()), self.folder.clone());
        match Server::begin(desk, options).await {
            Ok(server) => {
                self.say(&format!("Meanwhile it is served at {}/api/v1/status.\n", server.url()));
                Some(server)
            }
            Err(error) => {
                self.say(&format!("It is not served meanwhile: {error}\n"));
                None
            }
        }
    }

    fn say(&self, text: &str) {
        if !self.json {
            print::text(&print::folded(text, 0));
        }
    }

    /// Shows what happens, and does the two things a demo needs: kill an agent, and speak up late in its name.
    async fn play(&mut self) -> Result<()> {
        let mut changes = self.store.changes();
        loop {
            for event in self.news().await? {
                self.tell(&event);
                self.direct(&event)?;
                self.shown.push(event);
            }
            self.speak_up_late().await?;
            if self.store.write(Settle { id: self.run }).await?.is_over() {
                let last = self.news().await?;
                last.iter().for_each(|event| self.tell(event));
                self.shown.extend(last);
                return Ok(());
            }
            changes.wait(Duration::from_millis(100)).await;
        }
    }

    async fn news(&mut self) -> Result<Vec<Logged>> {
        let page =
            self.store.read(After { seq: self.seen, filter: Filter::default(), limit: PAGE_MAX }).await?;
        self.seen = Some(page.seen);
        Ok(page.events)
    }

    /// Kills the agent that trains, in the middle of it.
    fn direct(&mut self, event: &Logged) -> Result<()> {
        let far =
            event.kind == "task.progress" && event.message.contains("(train)") && percent(event) >= KILL_AT;
        let (Some(agent), Some(task)) = (event.agent.clone(), event.task) else { return Ok(()) };
        if !far || self.killed.is_some() {
            return Ok(());
        }
        let Some((_, child)) = self.agents.iter().find(|(name, _)| *name == agent) else { return Ok(()) };
        let pid = i32::try_from(child.id()).map_err(|_| Error::failed("a process number is out of range"))?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .map_err(|e| Error::failed(format!("cannot kill {agent}: {e}")))?;
        self.killed = Some((agent.clone(), task, Term(1)));
        self.line("demo", &format!("kills the process of {agent} with SIGKILL, in the middle of its task"));
        Ok(())
    }

    /// Once another has the task, says "done" in the dead agent's name, as a late network packet would.
    async fn speak_up_late(&mut self) -> Result<()> {
        let Some((agent, task, term)) = self.killed.clone() else { return Ok(()) };
        let taken_over = self
            .shown
            .iter()
            .any(|e| e.kind == "task.taken" && e.task == Some(task) && e.agent.as_ref() != Some(&agent));
        if self.late_write || !taken_over {
            return Ok(());
        }
        self.late_write = true;
        self.line("demo", &format!("says \"done\" in {agent}'s name, too late, with the old term {term}"));
        match self.store.write(Done { id: task, term, result: None, tail: None }).await {
            Err(error) if error.kind == Kind::Stale => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(Error::failed("a write with an old term was accepted")),
        }
    }

    fn line(&self, who: &str, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        let words = print::folded(&format!("{at:>5.1} s  {who:<6} {}", print::one_line(what)), INDENT);
        // The name is coloured last: colours have no width.
        let painted = paint_if(print::is_coloured(), colour(who), &format!("{who:<6}"));
        if !self.json {
            print::text(&words.replacen(&format!("{who:<6}"), &painted, 1));
        }
    }

    fn tell(&self, event: &Logged) {
        let Some(words) = in_words(event) else { return };
        let who = match event.kind.as_str() {
            "write.refused" => "ledger",
            _ => event.agent.as_deref().unwrap_or("ledger"),
        };
        match promise(event) {
            Some(number) => self.line(who, &format!("{words}  <- promise {number}")),
            None => self.line(who, &words),
        }
    }

    fn end_agents(&mut self) {
        for (_, child) in &mut self.agents {
            if let Ok(pid) = i32::try_from(child.id()) {
                // The killed one is gone already.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        for (_, child) in &mut self.agents {
            let _ = child.wait();
        }
    }

    async fn conclude(self) -> Result<u8> {
        let story = self.store.read(RunShow { id: self.run }).await?;
        let report = crate::report::write(&self.folder.join(".quorate"), &story)?;
        let proofs = promises(&self.shown, &story);
        let kept = proofs.iter().all(|proof| !proof.events.is_empty());
        let ledger = self.folder.join(".quorate/quorate.db");
        if self.json {
            let promises: Vec<Value> = proofs.iter().map(Proof::as_json).collect();
            print::document(&json!({
                "state": story.run.state, "seconds": self.began.elapsed().as_secs_f64(), "promises": promises,
                "report": report.join("report.md").display().to_string(), "ledger": ledger.display().to_string(),
            }));
        } else {
            self.print_end(&story, &proofs, &report, &ledger);
        }
        Ok(if kept && story.run.state == "completed" { 0 } else { 1 })
    }

    fn print_end(&self, story: &RunStory, proofs: &[Proof], report: &Path, ledger: &Path) {
        print::text(&format!("\n{}", crate::report::shown(story)));
        print::text("## The seven promises, and the events that prove them\n");
        for (number, proof) in proofs.iter().enumerate() {
            print::text(&print::folded(&proof.in_words(number + 1), 3));
        }
        let folder = self.folder.display();
        print::text(&format!(
            "\nWhere to look next:\n  quorate -C {folder} runs show {run}\n  quorate -C {folder} task show 2\n  \
             quorate -C {folder} events\n  {}\n\nThe ledger, to be read with `sqlite3` too:\n{}",
            report.join("report.md").display(),
            ledger.display(),
            run = self.run
        ));
    }
}

impl Drop for Stage {
    /// Whatever happened, no agent outlives its demo.
    fn drop(&mut self) {
        for (_, child) in &mut self.agents {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start_agent(folder: &Path, name: &str) -> Result<Child> {
    let program =
        std::env::current_exe().map_err(|e| Error::failed(format!("cannot find this program: {e}")))?;
    Command::new(program)
        .args(["agent", "run", name])
        .current_dir(folder)
        .env_remove("QUORATE_STORE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| Error::failed(format!("cannot start the agent {name}: {e}")))
}

fn percent(event: &Logged) -> i64 {
    event.facts()["percent"].as_i64().unwrap_or(0)
}

fn colour(who: &str) -> Colour {
    match who {
        "alpha" => Colour::Cyan,
        "beta" => Colour::Green,
        "gamma" => Colour::Yellow,
        "delta" => Colour::Blue,
        _ => Colour::Red,
    }
}

/// Returns the number of the promise that an event shows best.
fn promise(event: &Logged) -> Option<usize> {
    let attempt = event.facts()["attempt"].as_i64();
    match event.kind.as_str() {
        "claim.refused" | "task.lease_expired" | "write.refused" => Some(1),
        "task.taken" if attempt > Some(1) => Some(2),
        "task.completed" if event.message.contains("(quiet)") => Some(3),
        "task.verify_failed" => Some(4),
        "task.retried" if event.message.contains("timeout") => Some(5),
        _ => None,
    }
}

/// Says an event in plain words; `None` for what would only be noise here.
fn in_words(event: &Logged) -> Option<String> {
    let message = event.message.as_str();
    let name =
        message.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(name, _)| name);
    let facts = event.facts();
    Some(match event.kind.as_str() {
        "agent.started" => "is here and looks for work".into(),
        "task.taken" if facts["attempt"].as_i64() > Some(1) => {
            format!("takes `{name}` over, attempt {}, and is shown why the last one ended", facts["attempt"])
        }
        "task.taken" => format!("takes `{name}`"),
        "claim.taken" => format!("holds {}", event.resource.as_deref().unwrap_or("")),
        "claim.refused" => {
            format!("is refused {}; it looks for other work", message.split_once("refused ")?.1)
        }
        "task.progress" => match facts["message"].as_str() {
            Some(said) => format!("`{name}`: {said}"),
            None if name == "train" => format!("is at {} % of `{name}`", facts["percent"].as_i64()?),
            None => return None,
        },
        "task.lease_expired" => format!("gave no sign of life: its lease on `{name}` has ended by itself"),
        "task.verifying" => {
            format!("says `{name}` is done; its check is run, by the supervisor and not by the agent")
        }
        "task.verify_failed" => format!("`{name}` is not done: {}", message.split_once("failed: ")?.1),
        "task.retried" => format!("`{name}` will be tried again: {}", facts["reason"].as_str()?),
        "task.completed" => format!("completed `{name}` ({})", facts["evidence"].as_str()?),
        "task.failed" => format!("`{name}` failed: {message}"),
        "write.refused" => format!("REFUSED: {message}"),
        "run.finished" => format!("the run has ended: {}", message.split_once(": ")?.1),
        _ => return None,
    })
}

/// A promise with the events that prove it.
struct Proof {
    promise: &'static str,
    how: String,
    events: Vec<i64>,
}

impl Proof {
    fn in_words(&self, number: usize) -> String {
        let shown: Vec<String> = self.events.iter().take(8).map(ToString::to_string).collect();
        let more = if self.events.len() > 8 { ", …" } else { "" };
        let seqs = if shown.is_empty() {
            "NOT SHOWN".to_owned()
        } else {
            format!("events {}{more}", shown.join(", "))
        };
        format!("{number}. {} {}\n   {seqs}", self.promise, self.how)
    }

    fn as_json(&self) -> Value {
        json!({ "promise": self.promise, "how": self.how, "events": self.events })
    }
}

fn promises(log: &[Logged], story: &RunStory) -> Vec<Proof> {
    let of = |kinds: &[&str]| -> Vec<&Logged> {
        log.iter().filter(|e| kinds.contains(&e.kind.as_str())).collect()
    };
    let seqs = |events: Vec<&Logged>| events.iter().map(|event| event.seq.0).collect::<Vec<_>>();
    let named = |events: Vec<&Logged>, part: &str| {
        seqs(events.into_iter().filter(|e| e.message.contains(part)).collect())
    };
    let ended = story.tasks.iter().all(|task| task.state.is_over());
    let quiet: Vec<&Logged> =
        of(&["task.taken", "task.completed"]).into_iter().filter(|e| e.message.contains("(quiet)")).collect();
    let quiet_ms = quiet.last().zip(quiet.first()).map_or(0, |(last, first)| last.at - first.at);
    vec![
        Proof {
            promise: "One owner.",
            how: "A dead agent's lease ended by itself; its late \"done\" was refused; a held resource was refused too.".into(),
            events: seqs(of(&["task.lease_expired", "write.refused", "claim.refused"])),
        },
        Proof {
            promise: "Nothing is lost.",
            how: format!("Every task ended, and every one of the {} attempts is kept with its reason.", story.attempts.len()),
            events: if ended { seqs(of(&["task.retried", "run.finished"])) } else { Vec::new() },
        },
        Proof {
            promise: "Nothing healthy is killed.",
            how: format!("`quiet` was silent for {:.1} s, longer than its lease of 2 s, and was left alone.", quiet_ms as f64 / 1000.0),
            events: if quiet.len() == 2 && quiet_ms > 2_000 { seqs(quiet) } else { Vec::new() },
        },
        Proof {
            promise: "\"Done\" is proven.",
            how: "An agent said done, the check said no, and only the second attempt counted.".into(),
            events: seqs(of(&["task.verify_failed", "task.verifying"])),
        },
        Proof {
            promise: "It is bounded.",
            how: "An agent that hung was stopped at its timeout of 1.5 s.".into(),
            events: named(of(&["task.retried"]), "timeout"),
        },
        Proof {
            promise: "The coordinator spends no tokens.",
            how: "No model was called: agents are woken by the ledger, and an idle one does nothing.".into(),
            events: seqs(of(&["agent.started"])),
        },
        Proof {
            promise: "What you see is what is stored.",
            how: format!("Each line above is one of the {} events of the log; these are its first and last.", log.len()),
            events: log.first().into_iter().chain(log.last()).map(|event| event.seq.0).collect(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_that_is_there_already_is_not_used() {
        let within = tempfile::tempdir().unwrap();
        let first = new_folder(within.path()).unwrap();
        let second = new_folder(within.path()).unwrap();
        assert_ne!(first, second);
        assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        (2..NAMES_MAX).for_each(|_| drop(new_folder(within.path()).unwrap()));
        assert!(new_folder(within.path()).unwrap_err().to_string().contains("too many"));
    }
}
