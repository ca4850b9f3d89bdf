//! Somebody who adds tasks and does tasks of his own by the command line all along, and keeps a list of what he was told.
//!
//! Here live the loop, the list, and what it must mean: what was acknowledged is there afterwards, what was not was
//! refused in words that help, and no word takes for ever.

use crate::Outcome;
use crate::arena::Arena;
use crate::history::{History, Task};
use crate::trouble::scene::Loss;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one word may take at most, whatever happens to the database.
pub const LONGEST: Duration = Duration::from_secs(75);
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(100);
/// A result is told again so often, when the answer was that the ledger is away.
const TELLINGS_MAX: usize = 40;
/// How the clerk is called.
const NAME: &str = "clerk";
/// Who has the one task that keeps the clerk's run open until the end.
const DOORMAN: &str = "doorman";
/// The clerk's own run, in which nobody else takes a task.
const PLAN: &str = "goal = \"the clerk's own work\"\n[[task]]\nkey = \"door\"\nprompt = \"keep it open\"\n\
                    agent = \"doorman\"\n";

/// What the clerk was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// A task was added.
    Added(i64),
    /// The clerk's result of a task was accepted.
    Done(i64),
    /// Something was refused.
    Refused(Refusal),
}

/// How something was refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Refusal {
    /// What was asked for.
    pub asked: String,
    /// The exit code; `None` where it had to be killed.
    pub code: Option<i32>,
    /// The kind of error.
    pub kind: String,
    /// The words.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What was said, and how long the longest word took.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// In order.
    pub words: Vec<Word>,
    /// The longest.
    pub longest: Duration,
}

/// The clerk at work.
#[derive(Debug)]
pub struct Clerk {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    book: Mutex<Book>,
}

impl Clerk {
    /// Begins.
    pub fn start(arena: &Arena) -> Outcome<Clerk> {
        std::fs::write(arena.path().join("clerk.toml"), PLAN).map_err(|e| e.to_string())?;
        arena.run(&["agent", "add", NAME])?;
        arena.run(&["agent", "add", DOORMAN])?;
        let run = arena.run(&["run", "clerk.toml", "--detach", "--json"])?;
        let run: Value = serde_json::from_str(&run).map_err(|e| format!("the clerk's run: {e}"))?;
        let shared = Arc::new(Shared::default());
        let desk = Desk {
            command: arena.command(&[]).into(),
            out: arena.path().join("out"),
            run: run["id"].to_string(),
            shared: Arc::clone(&shared),
        };
        Ok(Clerk { shared, thread: Some(std::thread::spawn(move || desk.serve())) })
    }

    /// Returns what was said so far.
    pub fn book(&self) -> Book {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends, when the present round is over.
    pub fn stop(&mut self) -> Book {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // What a panic left undone is missing in the book, and found there.
            let _ = thread.join();
        }
        self.book()
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Book {
    /// Returns how many words were acknowledged, and how many refused.
    pub fn counts(&self) -> (usize, usize) {
        let refused = self.words.iter().filter(|word| matches!(word, Word::Refused(_))).count();
        (self.words.len() - refused, refused)
    }

    /// Returns the different refusals and how often each was said.
    pub fn refusals(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for word in &self.words {
            if let Word::Refused(refusal) = word {
                *counts.entry(format!("{} ({})", refusal.message, refusal.hint)).or_default() += 1;
            }
        }
        counts
    }

    /// Everything acknowledged is there, everything else was refused in words that help, and nothing took for ever.
    /// Where a loss is to be expected, only the last holds.
    pub fn check(&self, history: &History, loss: Loss) -> Vec<String> {
        let known: BTreeSet<i64> = history.tasks.iter().map(|task| task.id).collect();
        let done = |task: &&Task| task.state == "completed";
        let completed: BTreeSet<i64> = history.tasks.iter().filter(done).map(|task| task.id).collect();
        let mut findings = Vec::new();
        let judged = if loss == Loss::OfNothing { self.words.as_slice() } else { &[] };
        for word in judged {
            match word {
                Word::Added(id) if !known.contains(id) => {
                    findings.push(format!("task {id} was acknowledged and is not there"));
                }
                Word::Done(id) if !completed.contains(id) => {
                    findings.push(format!("the result of task {id} was accepted, and it is not completed"));
                }
                Word::Refused(refusal) if !refusal.helps() => {
                    findings.push(format!("a refusal that helps nobody: {refusal:?}"));
                }
                _ => {}
            }
        }
        if self.longest > LONGEST {
            findings.push(format!("a word took {:.1} s", self.longest.as_secs_f64()));
        }
        findings
    }
}

impl Refusal {
    fn helps(&self) -> bool {
        self.code == Some(1) && self.kind == "unavailable" && !self.hint.is_empty()
    }
}

/// What is needed to make the program's command anew.
struct Maker {
    program: std::ffi::OsString,
    folder: Option<PathBuf>,
    variables: Vec<(std::ffi::OsString, std::ffi::OsString)>,
}

impl From<Command> for Maker {
    fn from(command: Command) -> Maker {
        let variables =
            command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        Maker {
            variables: variables.collect(),
            program: command.get_program().to_owned(),
            folder: command.get_current_dir().map(PathBuf::from),
        }
    }
}

impl Maker {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env_clear().envs(self.variables.iter().cloned()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

struct Desk {
    command: Maker,
    out: PathBuf,
    /// His own run.
    run: String,
    shared: Arc<Shared>,
}

impl Desk {
    fn serve(&self) {
        for round in 0.. {
            if self.shared.is_over.load(Ordering::SeqCst) {
                break;
            }
            // One for the nodes, one for himself.
            let key = format!("c{round:04}");
            let run = format!("sh work.sh {key} 0.01");
            self.add(&[&key, "--run", &run]);
            let own = format!("d{round:04}");
            self.add(&[&own, "--key", &own, "--in", &self.run, "--prompt", "as you like", "--agent", NAME]);
            self.do_one(NAME);
            std::thread::sleep(PAUSE);
        }
        // One whose adding was refused may be there all the same: nobody knew.
        while self.do_one(NAME) {}
        self.do_one(DOORMAN);
    }

    fn add(&self, words: &[&str]) {
        let words = [&["task", "add"], words, &["--attempts", "60", "--json"]].concat();
        if let Some(id) = self.ask(&words).and_then(|answer| answer["id"].as_i64()) {
            self.note(Word::Added(id));
        }
    }

    /// Takes a task and tells its result, again where the ledger is away; answers whether there was one.
    fn do_one(&self, name: &str) -> bool {
        let Some(task) = self.ask(&["task", "next", "--agent", name, "--in", &self.run, "--json"]) else {
            return false;
        };
        let number = |name: &str| task[name].as_i64();
        let (Some(id), Some(term), Some(attempt)) = (number("id"), number("term"), number("attempt")) else {
            return false;
        };
        let key = task["key"].as_str().unwrap_or_default();
        self.leave_line(key, attempt, term);
        let result = format!("{{\"attempt\":{attempt},\"term\":{term}}}");
        let (id_text, term) = (id.to_string(), term.to_string());
        for _ in 0..TELLINGS_MAX {
            let words = ["task", "done", &id_text, "--term", &term, "--result", &result, "--json"];
            if self.ask(&words).is_some() {
                self.note(Word::Done(id));
                return true;
            }
            if !self.was_away() {
                return true;
            }
            std::thread::sleep(PAUSE * 5);
        }
        false
    }

    /// Writes down what a child would. A holder who asks again is given what he has: that is the same line.
    fn leave_line(&self, key: &str, attempt: i64, term: i64) {
        let (file, line) = (self.out.join(key), format!("{key} {attempt} {term} 0"));
        if std::fs::read_to_string(&file).is_ok_and(|text| text.lines().any(|known| known == line)) {
            return;
        }
        // A line that could not be written shows as a finding.
        let _ = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file)
            .and_then(|mut file| writeln!(file, "{line}"));
    }

    /// Returns whether the last word was refused because the ledger could not be reached: then it may be said again.
    fn was_away(&self) -> bool {
        let book = self.shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(book.words.last(), Some(Word::Refused(refusal)) if refusal.helps())
    }

    fn note(&self, word: Word) {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner).words.push(word);
    }

    /// Says one thing; answers with what was printed, or notes the refusal.
    fn ask(&self, words: &[&str]) -> Option<Value> {
        let begun = Instant::now();
        let said = run(&mut self.command.command(words));
        let mut book = self.shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.longest = book.longest.max(begun.elapsed());
        match said {
            Ok((Some(0), out, _)) => serde_json::from_str(&out).ok(),
            // Nothing to do is an answer: what he added himself he may have done already.
            Ok((Some(7), ..)) => None,
            Ok((code, _, err)) => {
                book.words.push(Word::Refused(refusal(&words.join(" "), code, &err)));
                None
            }
            Err(why) => {
                book.words.push(Word::Refused(Refusal {
                    asked: words.join(" "),
                    message: why,
                    ..Refusal::default()
                }));
                None
            }
        }
    }
}

fn refusal(asked: &str, code: Option<i32>, err: &str) -> Refusal {
    let value: Value = serde_json::from_str(err.trim()).unwrap_or_default();
    let text = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
    let message = if value.is_null() { err.trim().to_owned() } else { text("message") };
    Refusal { asked: asked.to_owned(), code, kind: text("kind"), message, hint: text("hint") }
}

/// Runs it to its end; one that takes too long is killed, and has no exit code.
fn run(command: &mut Command) -> Outcome<(Option<i32>, String, String)> {
    let mut child = command.spawn().map_err(|e| format!("cannot run it: {e}"))?;
    let watched = wait(&mut child);
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((watched.then(|| output.status.code()).flatten(), text(&output.stdout), text(&output.stderr)))
}

/// Waits until it has ended; what it prints is short and fits into its pipes.
fn wait(child: &mut Child) -> bool {
    let until = Instant::now() + LONGEST + Duration::from_secs(5);
    while Instant::now() < until {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            _ => return true,
        }
    }
    let _ = child.kill();
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: i64, state: &str) -> Task {
        Task { id, state: state.into(), ..Task::default() }
    }

    fn refused() -> Refusal {
        refusal("task add x", Some(1), r#"{"error":{"kind":"unavailable","message":"away","hint":"look"}}"#)
    }

    #[test]
    fn a_book_that_the_history_bears_out_has_no_findings() {
        let history = History { tasks: vec![task(1, "ready"), task(2, "completed")], ..History::default() };
        let words = vec![Word::Added(1), Word::Done(2), Word::Refused(refused())];
        assert_eq!(Book { words, longest: LONGEST }.check(&history, Loss::OfNothing), Vec::<String>::new());
    }

    #[test]
    fn what_was_acknowledged_and_is_lost_is_found() {
        let history = History { tasks: vec![task(2, "ready")], ..History::default() };
        let check = |word: Word, says: &str| {
            let findings = Book { words: vec![word], ..Book::default() }.check(&history, Loss::OfNothing);
            assert!(findings.len() == 1 && findings[0].contains(says), "{findings:?}");
        };
        check(Word::Added(1), "task 1 was acknowledged");
        check(Word::Done(2), "task 2 was accepted");
        check(Word::Refused(Refusal { hint: String::new(), ..refused() }), "helps nobody");
        check(Word::Refused(Refusal { code: None, ..refused() }), "helps nobody");
        check(Word::Refused(refusal("x", Some(101), "thread panicked")), "thread panicked");
    }

    #[test]
    fn a_word_that_took_for_ever_is_found() {
        let book = Book { longest: LONGEST * 2, ..Book::default() };
        assert_eq!(book.check(&History::default(), Loss::OfTheLast), ["a word took 150.0 s"]);
    }
}
