//! `quorate-ratio`: whether claim and completion keep their share of what the database alone does.
//!
//! Here live the command line and what is printed; the measurement is `quorate_measure::ratio`. Started by
//! `cargo xtask bench --ratio`, which builds it and brings a PostgreSQL.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use quorate_measure::database::Database;
use quorate_measure::table::{Figure, Verdict};
use quorate_measure::{load_average, ratio};
use quorate_model::{Error, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
usage: quorate-ratio [--json] [--only sqlite|postgres] [--dir DIR] [--postgres URL]

  --json            one JSON document on standard output instead of lines
  --only WHAT       one database
  --dir DIR         where ledgers are made (a real disk; else the temporary folder)
  --postgres URL    a durable server of your own making; its schemas bench_ours and bench_raw are dropped

Ends with 1 when claim+complete has less than 60 % of what the database alone does.
";

#[derive(Debug, Default)]
struct Options {
    json: bool,
    only: Option<String>,
    folder: Option<PathBuf>,
    postgres: Option<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = read(&words) else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().build().map_err(|e| Error::failed(format!("cannot start: {e}")));
    match runtime.and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quorate-ratio: {}", error.message);
            ExitCode::FAILURE
        }
    }
}

fn read(words: &[String]) -> Option<Options> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--only" => {
                options.only = Some(
                    words.next().filter(|what| ["sqlite", "postgres"].contains(&what.as_str()))?.clone(),
                );
            }
            "--dir" => options.folder = Some(words.next()?.into()),
            "--postgres" => options.postgres = Some(words.next()?.clone()),
            _ => return None,
        }
    }
    Some(options)
}

/// Measures and prints; answers whether every share is large enough.
async fn measure(options: &Options) -> Result<bool> {
    let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let mut databases = vec![Database::Lite { folder }];
    if let Some(url) = &options.postgres {
        databases.push(Database::postgres(url).await?);
    }
    let wanted = |database: &&Database| options.only.as_deref().is_none_or(|only| only == database.name());
    let mut figures = Vec::new();
    for database in databases.iter().filter(wanted) {
        let measured = ratio::measure(database).await?;
        if !options.json {
            measured.iter().for_each(|figure| println!("{}", figure.text()));
        }
        figures.extend(measured);
    }
    if options.json {
        let lines: Vec<Value> = figures.iter().map(Figure::json).collect();
        println!("{}", json!({ "figures": lines }));
    }
    let missed = figures.iter().filter(|figure| figure.verdict() == Verdict::Miss).count();
    eprintln!("{missed} of {} shares are too small; load average now {}", figures.len(), load_average());
    Ok(missed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_not_know_is_not_run() {
        let read = |line: &str| read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read("--only sqlite --json").and_then(|options| options.only).as_deref(), Some("sqlite"));
        for line in ["--only process", "--only", "--scale", "--dir"] {
            assert!(read(line).is_none(), "{line}");
        }
    }
}
