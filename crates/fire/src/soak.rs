//! `fire soak`: a node works for an hour at short tasks, and everything that might grow is measured.
//!
//! Here live the words it is asked with and the order of the databases, which run at the same time. What happens on one
//! lives in `course`, what must hold in `judge` and `check`, what is kept of it in `record`.

mod check;
mod course;
mod feed;
mod judge;
mod record;
mod sample;
mod watch;

use crate::Outcome;
use crate::arena::Backend;
use course::Options;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use record::Record;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What can be asked for.
pub const HELP: &str = "\
fire soak [--minutes 60] [--backend sqlite|postgres|both] [--agents 8] [--rate 4] [--out DIR] [--quorate PATH]

soak: a node works at short tasks, and memory, open files, sizes and latencies are measured all along
  --minutes N       how long tasks are added; of fewer than 15 only the work is judged, not what grows
  --backend WHAT    one database, or both at the same time
  --agents N        agents of the node
  --rate N          tasks added in a second, on each database
  --out DIR         where samples (CSV), pictures (SVG) and the table go (else a new temporary folder)
  --quorate PATH    the program (else the one beside this program)
";

/// The time between two samples, unless the run is short.
const SAMPLE_S: f64 = 10.0;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    minutes: f64,
    backends: Vec<Backend>,
    agents: usize,
    rate: f64,
    out: Option<PathBuf>,
    program: Option<PathBuf>,
}

impl Default for Request {
    fn default() -> Request {
        let backends = vec![Backend::Lite, Backend::Pg];
        Request { minutes: 60.0, backends, agents: 8, rate: 4.0, out: None, program: None }
    }
}

impl Request {
    fn read(words: &[&str]) -> Option<Request> {
        let mut request = Request::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next()?;
            match *word {
                "--minutes" => request.minutes = positive(value)?,
                "--rate" => request.rate = positive(value).filter(|rate| *rate <= 100.0)?,
                "--agents" => {
                    request.agents = value.parse().ok().filter(|agents| (1..=100).contains(agents))?
                }
                "--backend" => request.backends = crate::backends(value)?,
                "--out" => request.out = Some(value.into()),
                "--quorate" => request.program = Some(value.into()),
                _ => return None,
            }
        }
        Some(request)
    }

    fn options(&self, backend: Backend, program: &Path, out: &Path) -> Options {
        let length_s = self.minutes * 60.0;
        Options {
            backend,
            program: program.to_owned(),
            length: Duration::from_secs_f64(length_s),
            agents: self.agents,
            rate: self.rate,
            // An hour is twelve times as long as history is kept.
            retention: Duration::from_secs_f64((length_s / 12.0).clamp(10.0, 300.0)),
            sample: Duration::from_secs_f64((length_s / 60.0).clamp(1.0, SAMPLE_S)),
            out: out.to_owned(),
        }
    }
}

fn positive(word: &str) -> Option<f64> {
    word.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

/// Reads the words and runs the soak; answers whether nothing was red, or nothing if the words are wrong.
pub fn run(words: &[&str]) -> Option<Outcome<bool>> {
    Request::read(words).map(|request| soak(&request))
}

fn soak(request: &Request) -> Outcome<bool> {
    let program = match &request.program {
        Some(program) => std::path::absolute(program).map_err(|e| e.to_string())?,
        None => crate::beside_us()?,
    };
    let out = folder(request.out.as_deref())?;
    note_signals()?;
    println!(
        "process {}: {:.0} min, {} agents, {} tasks a second on each database; results go to {}; \
         Ctrl-C or TERM ends it in good order",
        std::process::id(),
        request.minutes,
        request.agents,
        request.rate,
        out.display()
    );
    let courses: Vec<_> = request
        .backends
        .iter()
        .map(|backend| {
            let options = request.options(*backend, &program, &out);
            (*backend, std::thread::spawn(move || course::run(&options, &STOP)))
        })
        .collect();
    let mut records = Vec::new();
    let mut failures = Vec::new();
    for (backend, course) in courses {
        match course.join() {
            Ok(Ok(record)) => records.push(record),
            Ok(Err(why)) => failures.push(format!("{}: {why}", backend.name())),
            Err(_) => failures.push(format!("{}: the soak panicked", backend.name())),
        }
    }
    if !records.is_empty() {
        tell(&records, &out)?;
    }
    if failures.is_empty() { Ok(records.iter().all(Record::is_clean)) } else { Err(failures.join("; ")) }
}

fn tell(records: &[Record], out: &Path) -> Outcome {
    let tables: String = records.iter().map(Record::table).collect();
    print!("{tables}");
    record::draw(records, out)?;
    std::fs::write(out.join("results.txt"), tables).map_err(|e| format!("cannot write the table: {e}"))
}

fn folder(out: Option<&Path>) -> Outcome<PathBuf> {
    let failed = |e: std::io::Error| format!("cannot make the folder of the results: {e}");
    match out {
        Some(out) => {
            std::fs::create_dir_all(out).map_err(failed)?;
            std::path::absolute(out).map_err(failed)
        }
        None => Ok(tempfile::Builder::new().prefix("quorate-soak-").tempdir().map_err(failed)?.keep()),
    }
}

/// Set when this process was told to end.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: nix::libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Lets the first word to end be noted; the second has its usual effect. Signals are not kept back with a mask: children
/// would inherit that, and never hear of their own end.
fn note_signals() -> Outcome {
    let flags = SaFlags::SA_RESTART | SaFlags::SA_RESETHAND;
    let action = SigAction::new(SigHandler::Handler(note), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores into an atomic, which may be done at any moment.
        unsafe { sigaction(signal, &action) }.map_err(|e| format!("cannot listen to {signal}: {e}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_into_a_request() {
        let words = ["--minutes", "2", "--backend", "sqlite", "--agents", "3", "--rate", "1.5", "--out", "x"];
        let request = Request::read(&words).expect("is read");
        assert_eq!((request.minutes, request.agents, request.rate), (2.0, 3, 1.5));
        assert_eq!((request.backends, request.out), (vec![Backend::Lite], Some("x".into())));
        assert_eq!(Request::read(&[]), Some(Request::default()));
        for wrong in
            [&["--minutes"][..], &["--minutes", "0"], &["--agents", "0"], &["--rate", "nan"], &["--x", "1"]]
        {
            assert_eq!(Request::read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_hour_keeps_history_for_five_minutes_and_less_for_less() {
        let of = |minutes| {
            let request = Request { minutes, ..Request::default() };
            let options = request.options(Backend::Lite, Path::new("q"), Path::new("o"));
            (options.retention.as_secs(), options.sample.as_secs())
        };
        assert_eq!((of(60.0), of(600.0), of(2.0), of(12.0)), ((300, 10), (300, 10), (10, 2), (60, 10)));
    }
}
