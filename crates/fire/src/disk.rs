//! A disk that stands still, as a machine's disk may at any time: nobody can write to a ledger meanwhile.
//!
//! Here lives someone who writes 4 KiB now and then beside a storm. What took him long is an outage of the database that
//! the storm has not made, and leases that lapse for it lapse rightly.

use crate::Outcome;
use crate::clock::now_ms;
use crate::history::Disturbance;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often he writes.
const PAUSE: Duration = Duration::from_millis(50);
const BLOCK: [u8; 4096] = [7; 4096];

/// The watch.
#[derive(Debug)]
pub struct Disk {
    over: Arc<AtomicBool>,
    watch: Option<JoinHandle<io::Result<Vec<Disturbance>>>>,
}

impl Disk {
    /// Begins to write in a folder; from `least_ms` on the disk counts as standing still.
    pub fn watch(folder: &Path, least_ms: i64) -> Outcome<Disk> {
        let cannot = |e| format!("cannot write into {}: {e}", folder.display());
        let file = tempfile::tempfile_in(folder).map_err(cannot)?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let watch = std::thread::spawn(move || write(&file, least_ms, &told));
        Ok(Disk { over, watch: Some(watch) })
    }

    /// Ends; answers with the times when it stood still.
    pub fn end(&mut self) -> Outcome<Vec<Disturbance>> {
        self.over.store(true, Ordering::Relaxed);
        let Some(watch) = self.watch.take() else { return Ok(Vec::new()) };
        let seen = watch.join().map_err(|_| "the watch of the disk panicked".to_owned())?;
        seen.map_err(|e| format!("the disk could not be watched: {e}"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn write(file: &File, least_ms: i64, over: &AtomicBool) -> io::Result<Vec<Disturbance>> {
    let mut stood = Vec::new();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(PAUSE);
        let from_ms = now_ms();
        file.write_all_at(&BLOCK, 0)?;
        file.sync_data()?;
        let until_ms = now_ms();
        if until_ms - from_ms >= least_ms {
            stood.push(Disturbance { pid: None, from_ms, until_ms });
        }
    }
    Ok(stood)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_seen_and_what_does_not_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        for (least_ms, expected) in [(0, true), (i64::MAX, false)] {
            let mut disk = Disk::watch(folder.path(), least_ms).expect("begins");
            std::thread::sleep(PAUSE * 10);
            let stood = disk.end().expect("ends");
            assert_eq!(!stood.is_empty(), expected, "{stood:?}");
            assert!(stood.iter().all(|stood| stood.pid.is_none() && stood.until_ms >= stood.from_ms));
        }
    }
}
