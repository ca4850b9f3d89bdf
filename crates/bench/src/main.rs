//! `quorate-bench`: what the ledger costs, beside what its database costs alone.
//!
//! Here live the command line and the order of the measurements. Each line is measured back to back: the disk, the
//! raw limit, the ledger, the raw limit again; so a disk that changes its mind within the hour changes both.
//! Started by `cargo xtask bench`, which builds everything and brings a PostgreSQL.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

mod bulk;
mod peers;
mod pictures;
mod process;
mod scale;

use crate::scale::{Here, Scenario, Size};
use quorate_measure::database::Database;
use quorate_measure::load::Timing;
use quorate_measure::operation::Operation;
use quorate_measure::table::{Figure, HEAD, Line, Verdict};
use quorate_measure::{disk, load_average};
use quorate_model::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const HELP: &str = "\
usage: quorate-bench [--quick] [--json] [--only sqlite|postgres|process] [--match WORD] [--dir DIR]
                     [--postgres URL] [--quorate FILE] [--plots DIR] [--scale [--huge] | --peers]

  --quick           0.5 s per measurement instead of 2.5 s
  --json            one JSON document on standard output instead of the table
  --only WHAT       one database, or the program's own figures
  --match WORD      only operations (with --scale: measurements, with --peers: peers) whose name has this word
  --scale           long queues and histories, many agents, followers and processes instead
  --peers           other queues and frameworks beside this one; installs them (see peers/README.md)
  --huge            with ten million tasks of history too: needs 20 GB and half an hour
  --dir DIR         where ledgers are made and the disk is probed (a real disk; else the temporary folder)
  --postgres URL    a durable server of your own making; its schemas bench_ours and bench_raw are dropped
  --plots DIR       also pictures (SVG) of what was measured with --scale and --peers, and the numbers (JSON)
  --quorate FILE    the binary that is measured (else the one beside this program)

Ends with 1 when a target was missed; the last line says which.
";

/// Callers whose latency is measured.
const CALLERS: [i64; 3] = [1, 8, 16];
/// Callers whose throughput is measured.
const CALLERS_THROUGHPUT: [i64; 4] = [1, 8, 16, 50];

#[derive(Debug, Default)]
struct Options {
    quick: bool,
    json: bool,
    scale: bool,
    peers: bool,
    huge: bool,
    only: Option<String>,
    matching: Option<String>,
    folder: Option<PathBuf>,
    postgres: Option<String>,
    quorate: Option<PathBuf>,
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, file, place, seconds] = words.as_slice()
        && word == "--share"
    {
        return one_of_many(Path::new(file), place, seconds);
    }
    let Some(options) = read(&words) else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let done = runtime().and_then(|runtime| runtime.block_on(measure(&options)));
    match done {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quorate-bench: {}", error.message);
            ExitCode::FAILURE
        }
    }
}

/// What this program does when it is started by itself, to be one of many processes.
fn one_of_many(file: &Path, place: &str, seconds: &str) -> ExitCode {
    let (place, seconds) = (place.parse().unwrap_or(0), seconds.parse().unwrap_or(1));
    match runtime().and_then(|runtime| runtime.block_on(scale::share_work(file, place, seconds))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-bench: {}", error.message);
            ExitCode::FAILURE
        }
    }
}

fn read(words: &[String]) -> Option<Options> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = true,
            "--scale" => options.scale = true,
            "--peers" => options.peers = true,
            "--huge" => options.huge = true,
            "--only" => options.only = Some(words.next().filter(|what| is_part(what))?.clone()),
            "--match" => options.matching = Some(words.next()?.clone()),
            "--dir" => options.folder = Some(words.next()?.into()),
            "--postgres" => options.postgres = Some(words.next()?.clone()),
            "--plots" => options.plots = Some(words.next()?.into()),
            "--quorate" => options.quorate = Some(words.next()?.into()),
            _ => return None,
        }
    }
    Some(options)
}

fn is_part(word: &str) -> bool {
    matches!(word, "sqlite" | "postgres" | "process")
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().map_err(|e| Error::failed(format!("cannot start: {e}")))
}

impl Options {
    fn timing(&self) -> Timing {
        let ms = Duration::from_millis;
        if self.quick {
            Timing { warm_up: ms(200), cell: ms(500), probe: ms(150) }
        } else {
            Timing { warm_up: ms(500), cell: ms(2_500), probe: ms(500) }
        }
    }

    /// Returns how often a share of the raw throughput is measured; the median counts.
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }

    fn wants_operation(&self, operation: Operation) -> bool {
        self.matching.as_deref().is_none_or(|word| operation.name().contains(word))
    }

    /// Returns the binary to measure, if it is the program and not a stub of it.
    fn binary(&self) -> Option<PathBuf> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("quorate"));
        let binary = self.quorate.clone().or_else(beside)?;
        let output = Command::new(&binary).arg("--version").output().ok()?;
        String::from_utf8_lossy(&output.stdout).starts_with("quorate ").then_some(binary)
    }
}

/// What was measured so far; in text mode it is printed as it comes.
#[derive(Default)]
struct Report {
    json: bool,
    plots: Option<PathBuf>,
    lines: Vec<Line>,
    figures: Vec<Figure>,
    /// The ledger beside its peers, as JSON.
    heats: Vec<Value>,
}

impl Report {
    fn say(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    fn line(&mut self, line: Line) {
        self.say(&line.text());
        self.lines.push(line);
    }

    fn figures(&mut self, figures: Vec<Figure>) {
        figures.iter().for_each(|figure| self.say(&figure.text()));
        self.figures.extend(figures);
    }

    fn heat(&mut self, heat: Value) {
        self.heats.push(heat);
    }

    /// Returns the names of what had this verdict.
    fn named(&self, wanted: Verdict) -> Vec<String> {
        let lines = self.lines.iter().map(|line| (line.verdict().0, line.called()));
        let all = lines.chain(self.figures.iter().map(|figure| (figure.verdict(), figure.called())));
        all.filter(|(verdict, _)| *verdict == wanted).map(|(_, name)| name).collect()
    }

    fn document(&self) -> Value {
        let lines: Vec<_> = self.lines.iter().map(Line::json).collect();
        let figures: Vec<_> = self.figures.iter().map(Figure::json).collect();
        json!({ "lines": lines, "figures": figures, "heats": self.heats })
    }

    /// Prints the end of everything and draws it; answers with the targets that were missed.
    fn finish(&self) -> Result<Vec<String>> {
        let document = self.document();
        if self.json {
            println!("{document}");
        }
        if let Some(folder) = &self.plots {
            let numbers = ("bench.json".to_owned(), format!("{document:#}\n"));
            for (name, text) in pictures::draw(&document).into_iter().chain([numbers]) {
                let file = folder.join(name);
                std::fs::create_dir_all(folder)
                    .and_then(|()| std::fs::write(&file, text))
                    .map_err(|e| Error::failed(format!("cannot write {}: {e}", file.display())))?;
                self.say(&format!("written: {}", file.display()));
            }
        }
        let (met, missed) = (self.named(Verdict::Pass), self.named(Verdict::Miss));
        let (met, count) = (met.len(), missed.len());
        self.say(&format!("\ntargets: {met} met, {count} missed; load average now {}", load_average()));
        if !missed.is_empty() {
            self.say(&format!("missed: {}", missed.join(", ")));
        }
        Ok(missed)
    }
}

/// Measures and prints everything that is asked for; answers with the targets that were missed.
async fn measure(options: &Options) -> Result<Vec<String>> {
    let mut report = Report { json: options.json, plots: options.plots.clone(), ..Report::default() };
    let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    report.say(&format!(
        "{processors} processors; load average {} before the first measurement",
        load_average()
    ));
    let mut databases = vec![Database::Lite { folder: folder.clone() }];
    if let Some(url) = &options.postgres {
        databases.push(Database::postgres(url).await?);
    }
    if options.scale {
        at_scale(options, &databases, &folder, &mut report).await?;
        return report.finish();
    }
    let wanted: Vec<&Database> = databases.iter().filter(|database| options.wants(database.name())).collect();
    if options.peers {
        let (matching, server) = (options.matching.as_deref(), options.postgres.as_deref());
        let wish =
            peers::Wish { quick: options.quick, matching, databases: &wanted, server, folder: &folder };
        peers::measure(&wish, &mut report).await?;
        return report.finish();
    }
    for database in databases.iter().filter(|database| options.wants(database.name())) {
        report.say(&format!("\n{HEAD}"));
        latencies(options, database, &folder, &mut report).await?;
        report.say("");
        if options.matching.is_none() {
            report.figures(bulk::measure(database).await?);
        }
    }
    if options.wants("process") && options.matching.is_none() {
        processes(options, &databases, &mut report).await?;
    }
    report.finish()
}

async fn at_scale(
    options: &Options,
    databases: &[Database],
    folder: &Path,
    report: &mut Report,
) -> Result<()> {
    let size = Size { quick: options.quick, huge: options.huge, timing: options.timing() };
    let binary = options.binary();
    let here = Here { folder, binary: binary.as_deref() };
    let wanted =
        |scenario: &Scenario| options.matching.as_deref().is_none_or(|word| scenario.name().contains(word));
    for scenario in Scenario::ALL.into_iter().filter(wanted) {
        for database in databases.iter().filter(|database| options.wants(database.name())) {
            report.figures(scenario.measure(database, here, size).await?);
        }
    }
    Ok(())
}

async fn latencies(options: &Options, database: &Database, folder: &Path, report: &mut Report) -> Result<()> {
    for operation in Operation::SINGLE.into_iter().filter(|operation| options.wants_operation(*operation)) {
        for callers in CALLERS {
            report.line(one(options.timing(), database, operation, callers, folder).await?);
        }
    }
    for callers in CALLERS_THROUGHPUT.into_iter().filter(|_| options.wants_operation(Operation::Cycle)) {
        let mut lines = Vec::new();
        for _ in 0..options.rounds() {
            lines.push(one(options.timing(), database, Operation::Cycle, callers, folder).await?);
        }
        lines.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
        report.line(lines.swap_remove(lines.len() / 2));
    }
    Ok(())
}

async fn one(
    timing: Timing,
    database: &Database,
    operation: Operation,
    callers: i64,
    folder: &Path,
) -> Result<Line> {
    let probe = || {
        let probed = disk::probe(folder, timing.probe);
        probed.map_err(|e| Error::failed(format!("cannot probe {}: {e}", folder.display())))
    };
    let disk_before = probe()?;
    let before = database.raw(operation, callers, timing).await?;
    let ours = database.ours(operation, callers, timing).await?;
    let after = database.raw(operation, callers, timing).await?;
    let disk = [disk_before, probe()?];
    Ok(Line { database: database.name(), operation, callers, ours, raw: [before, after], disk })
}

async fn processes(options: &Options, databases: &[Database], report: &mut Report) -> Result<()> {
    report.say("");
    let Some(binary) = options.binary() else {
        report.say("the program's own figures: later, there is no working `quorate` beside this program");
        return Ok(());
    };
    report.figures(process::size(&binary)?);
    for database in databases {
        match process::measure(database, &binary, !options.quick).await {
            Ok(figures) => report.figures(figures),
            Err(error) => report.say(&format!("{}: not measured: {}", database.name(), error.message)),
        }
    }
    Ok(())
}
