//! What is kept of a soak: every sample in a file at once, and at the end a table and pictures.
//!
//! Here lives their form. A soak that is broken off has its samples up to that moment.

use super::course::{LATENCIES, Options, Sample};
use super::judge::{Judgement, quantile};
use crate::Outcome;
use crate::arena::Backend;
use quorate_testkit::plot::{Axis, Plot};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What was measured and judged on one database.
#[derive(Debug)]
pub struct Record {
    /// Which database.
    pub backend: Backend,
    /// All samples.
    pub samples: Vec<Sample>,
    /// How many tasks were added one by one.
    pub added: usize,
    /// How long they were added, in seconds.
    pub length_s: f64,
    /// What is said of it.
    pub judgements: Vec<Judgement>,
    /// Where the ledger is, if something was red.
    pub kept: Option<PathBuf>,
    samples_file: File,
    starts_file: File,
    books_file: Option<File>,
}

impl Record {
    /// Begins a record in the folder of the results.
    pub fn create(options: &Options) -> Outcome<Record> {
        let name = options.backend.name();
        let file = |what: &str| {
            let path = options.out.join(format!("{name}-{what}.csv"));
            File::create(&path).map_err(|e| format!("cannot write {}: {e}", path.display()))
        };
        let mut record = Record {
            backend: options.backend,
            samples: Vec::new(),
            added: 0,
            length_s: 0.0,
            judgements: Vec::new(),
            kept: None,
            samples_file: file("samples")?,
            starts_file: file("tasks")?,
            books_file: (options.backend == Backend::Pg).then(|| file("tables")).transpose()?,
        };
        write(&mut record.starts_file, "seconds,measured,ms\n")?;
        if let Some(books) = &mut record.books_file {
            write(books, "seconds,table,live_rows,dead_rows,mib\n")?;
        }
        Ok(record)
    }

    /// Adds a sample.
    pub fn add(&mut self, sample: Sample) -> Outcome {
        let cells = sample.cells();
        let line =
            |of: &dyn Fn(&(String, f64)) -> String| cells.iter().map(of).collect::<Vec<_>>().join(",") + "\n";
        if self.samples.is_empty() {
            write(&mut self.samples_file, &line(&|(name, _)| name.clone()))?;
        }
        write(&mut self.samples_file, &line(&|(_, value)| decimal(*value)))?;
        let mut text = String::new();
        for (name, (_, of)) in ["start", "take", "complete"].into_iter().zip(LATENCIES) {
            for ms in of(&sample.window) {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{:.0},{name},{}", sample.at_s, decimal(*ms));
            }
        }
        write(&mut self.starts_file, &text)?;
        if let Some(books) = &mut self.books_file {
            let mut text = String::new();
            for (table, live, dead, mib) in &sample.size.books {
                let _ = writeln!(text, "{:.0},{table},{live},{dead},{}", sample.at_s, decimal(*mib));
            }
            write(books, &text)?;
        }
        self.samples.push(sample);
        Ok(())
    }

    /// Returns one value over time, while tasks were added.
    pub fn series(&self, of: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
        let while_fed =
            self.samples.iter().filter(|sample| self.length_s == 0.0 || sample.at_s <= self.length_s);
        while_fed.map(|sample| (sample.at_s, of(sample))).collect()
    }

    /// Says how it goes, in one line.
    pub fn say(&self, backend: Backend) {
        let Some(last) = self.samples.last() else { return };
        let minute = self.samples.iter().rev().take_while(|sample| sample.at_s > last.at_s - 60.0);
        let starts: Vec<f64> = minute.flat_map(|sample| sample.window.start.iter().copied()).collect();
        println!(
            "{:3.0} min {:8}: {} added, {} completed; node {:.1} MiB, {} files; database {:.1} MiB, {} tasks, {} events; \
             start p50 {:.1} p99 {:.1} ms; machine {:.0} % busy",
            last.at_s / 60.0,
            backend.name(),
            last.added,
            last.completed,
            last.node.memory_mib,
            last.node.handles,
            last.database_mib(),
            last.size.rows[0],
            last.size.rows[2],
            quantile(&starts, 0.5),
            quantile(&starts, 0.99),
            last.busy_percent
        );
    }

    /// Returns whether nothing was red.
    pub fn is_clean(&self) -> bool {
        self.judgements.iter().all(|judgement| judgement.held != Some(false))
    }

    /// Returns what is said of it, line by line.
    pub fn table(&self) -> String {
        let busy: Vec<f64> = self.samples.iter().map(|sample| sample.busy_percent).collect();
        let completed = self.samples.last().map_or(0, |sample| sample.completed);
        let mut text = format!(
            "{}: {:.1} min, {} tasks added, {completed} completed (with those of plans); machine {:.0} % busy (median)\n",
            self.backend.name(),
            self.length_s / 60.0,
            self.added,
            quantile(&busy, 0.5),
        );
        for judgement in &self.judgements {
            let line = judgement.to_string();
            text.push_str(&format!("  {}\n", line.trim_end()));
        }
        if let Some(kept) = &self.kept {
            text.push_str(&format!("  kept: {}\n", kept.display()));
        }
        text
    }

    /// Returns a part of all latencies, minute by minute.
    fn starts_by_minute(&self, part: f64) -> Vec<(f64, f64)> {
        let mut minutes: Vec<Vec<f64>> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.at_s <= self.length_s) {
            let minute = ((sample.at_s - 0.001).max(0.0) / 60.0) as usize;
            minutes.resize(minutes.len().max(minute + 1), Vec::new());
            minutes[minute].extend(&sample.window.start);
        }
        let middles = (0..).map(|minute| f64::from(minute) + 0.5);
        middles.zip(&minutes).map(|(at, starts)| (at, quantile(starts, part))).collect()
    }
}

/// What is drawn for each database, and its name.
type Lines<'a> = &'a [(&'a str, fn(&Sample) -> f64)];

/// Writes the pictures: each shows all databases.
pub fn draw(records: &[Record], out: &Path) -> Outcome {
    let minutes = || Axis::linear("minutes");
    let pictures: [(&str, &str, Axis, Lines<'_>); 4] = [
        (
            "soak-memory.svg",
            "Resident memory",
            Axis::linear("MiB"),
            &[("node", |s| s.node.memory_mib), ("follower", |s| s.follower.memory_mib)],
        ),
        (
            "soak-handles.svg",
            "Open files",
            Axis::linear("files"),
            &[("node", |s| s.node.handles), ("follower", |s| s.follower.handles)],
        ),
        ("soak-size.svg", "Size of the database", Axis::linear("MiB"), &[("size", Sample::database_mib)]),
        (
            "soak-rows.svg",
            "Rows kept",
            Axis::linear("rows"),
            &[("events", |s| s.size.rows[2]), ("tasks", |s| s.size.rows[0])],
        ),
    ];
    for (file, title, y, lines) in pictures {
        let mut plot = Plot::new(title, minutes(), y);
        for record in records {
            for (nth, (what, of)) in lines.iter().enumerate() {
                let points = record.series(*of).into_iter().map(|(at, value)| (at / 60.0, value)).collect();
                let name = format!("{}: {what}", record.backend.name());
                plot = if nth == 0 { plot.line(&name, points) } else { plot.dashed(&name, points) };
            }
        }
        save(&out.join(file), &plot)?;
    }
    let mut plot = Plot::new("From adding a task to its first output", minutes(), Axis::log("ms"));
    for record in records {
        let name = |what: &str| format!("{}: {what}", record.backend.name());
        plot = plot
            .line(&name("p50"), record.starts_by_minute(0.5))
            .dashed(&name("p99"), record.starts_by_minute(0.99));
    }
    save(&out.join("soak-latency.svg"), &plot)
}

fn save(path: &Path, plot: &Plot) -> Outcome {
    std::fs::write(path, plot.svg()).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn write(file: &mut File, text: &str) -> Outcome {
    file.write_all(text.as_bytes()).map_err(|e| format!("cannot write the results: {e}"))
}

/// Writes a number of a table; what is none is left empty.
fn decimal(value: f64) -> String {
    if !value.is_finite() {
        return String::new();
    }
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_short_and_none_is_empty() {
        assert_eq!([12.0, 0.5, 100.0, f64::NAN].map(decimal), ["12", "0.5", "100", ""]);
    }
}
