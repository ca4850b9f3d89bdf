//! What a durable write costs on this disk, at this moment.
//!
//! Here live the probe, one thread that overwrites 4 KiB and waits for `fdatasync`, again and again, and the same at the
//! pace of whoever measures something else: a disk that has idled answers otherwise than a busy one. A virtual disk
//! may change by a factor of forty within the hour, so no number of a ledger means anything without this one.

use crate::samples::Samples;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What one write changes, in bytes.
const BLOCK: usize = 4096;
/// Blocks of the file that is overwritten.
const BLOCKS: usize = 1024;

/// Overwrites blocks of a file in `folder` for a while.
pub fn probe(folder: &Path, lasting: Duration) -> io::Result<Samples> {
    let file = blocks(folder)?;
    let began = Instant::now();
    let mut nanos = Vec::new();
    while began.elapsed() < lasting {
        nanos.push(overwrite(&file, nanos.len() % BLOCKS)?);
    }
    Ok(Samples::new(nanos, began.elapsed()))
}

/// A file whose blocks are overwritten now and then.
pub struct Disk {
    file: File,
    writes: usize,
}

impl Disk {
    /// Makes the file in `folder`.
    pub fn open(folder: &Path) -> io::Result<Disk> {
        Ok(Disk { file: blocks(folder)?, writes: 0 })
    }

    /// Returns how many nanoseconds two writes took, one after the other: what two commits must wait for.
    pub fn twice(&mut self) -> io::Result<u64> {
        self.writes += 2;
        Ok(overwrite(&self.file, self.writes % BLOCKS)? + overwrite(&self.file, (self.writes + 1) % BLOCKS)?)
    }
}

/// Someone who writes now and then beside a measurement, to see how long the disk stands still meanwhile.
pub struct Beside {
    over: Arc<AtomicBool>,
    writer: JoinHandle<io::Result<Vec<u64>>>,
}

impl Beside {
    /// Begins to write in `folder`, twice after each pause.
    pub fn begin(folder: &Path, pause: Duration) -> io::Result<Beside> {
        let mut disk = Disk::open(folder)?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let writer = std::thread::spawn(move || {
            let mut nanos = Vec::new();
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(pause);
                nanos.push(disk.twice()?);
            }
            Ok(nanos)
        });
        Ok(Beside { over, writer })
    }

    /// Ends; answers with how long each pair of writes took.
    pub fn end(self) -> io::Result<Samples> {
        self.over.store(true, Ordering::Relaxed);
        let nanos = self.writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))?;
        Ok(Samples::new(nanos, Duration::from_secs(1)))
    }
}

fn blocks(folder: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(folder)?;
    file.write_all_at(&vec![0; BLOCK * BLOCKS], 0)?;
    file.sync_all()?;
    Ok(file)
}

fn overwrite(file: &File, block: usize) -> io::Result<u64> {
    let at = Instant::now();
    file.write_all_at(&[block as u8; BLOCK], (block * BLOCK) as u64)?;
    file.sync_data()?;
    Ok(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
