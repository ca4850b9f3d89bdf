//! Somebody who follows the log all along, and begins again where it was when it dies.
//!
//! Here lives the process `quorate events --follow --json` and the reading of what it prints. A line that was cut off
//! by its death counts as not read: the next one is asked for it.

use crate::Outcome;
use crate::arena::Arena;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A follower and what it has seen.
#[derive(Debug, Default)]
pub struct Follower {
    running: Option<(Child, JoinHandle<()>)>,
    seen: Arc<Mutex<Vec<i64>>>,
}

impl Follower {
    /// Starts it, behind the last event that was seen.
    pub fn start(&mut self, arena: &Arena) -> Outcome {
        let last = self.seen().last().map(i64::to_string);
        let mut words = vec!["events", "--follow", "--json"];
        words.extend(last.as_deref().map(|last| ["--after", last]).into_iter().flatten());
        let log = arena.path().join("logs/follower.log");
        let log = std::fs::File::options().create(true).append(true).open(log).map_err(|e| e.to_string())?;
        let mut child = arena
            .command(&words)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| arena.unrunnable(&e))?;
        let (stdout, seen) = (child.stdout.take(), self.seen.clone());
        let reader = std::thread::spawn(move || stdout.into_iter().for_each(|out| read(out, &seen)));
        self.running = Some((child, reader));
        Ok(())
    }

    /// Ends it with KILL and waits until all that it had said was read.
    pub fn kill(&mut self) {
        let Some((mut child, reader)) = self.running.take() else { return };
        // It may have ended by itself; that is what is wanted.
        let _ = child.kill();
        let _ = child.wait();
        let _ = reader.join();
    }

    /// Starts it again if it has ended by itself; answers whether it had.
    pub fn revive(&mut self, arena: &Arena) -> Outcome<bool> {
        let has_ended = match &mut self.running {
            Some((child, _)) => child.try_wait().is_ok_and(|status| status.is_some()),
            None => true,
        };
        if has_ended {
            self.kill();
            self.start(arena)?;
        }
        Ok(has_ended)
    }

    /// Returns the places in the log that were seen, in the order in which they came.
    pub fn seen(&self) -> Vec<i64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(out: impl Read, seen: &Mutex<Vec<i64>>) {
    let mut out = BufReader::new(out);
    let mut line = String::new();
    while out.read_line(&mut line).is_ok_and(|length| length > 0) {
        let seq = line.ends_with('\n').then(|| place(&line)).flatten();
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(seq);
        line.clear();
    }
}

fn place(line: &str) -> Option<i64> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let seq = event.get("seq")?;
    seq.as_i64().or_else(|| seq.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_not_seen() {
        let seen = Mutex::default();
        read(&b"{\"seq\":1,\"kind\":\"a\"}\n{\"seq\":2,\"kind\":\"b\"}\n{\"seq\":3}"[..], &seen);
        assert_eq!(*seen.lock().expect("it is ours"), [1, 2]);
    }
}
