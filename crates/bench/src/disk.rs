//! What a durable write costs on this disk, at this moment.
//!
//! Here lives the probe: one thread overwrites 4 KiB and waits for `fdatasync`, again and again. A virtual disk
//! may change by a factor of forty within the hour, so no number of a ledger means anything without this one.

use crate::samples::Samples;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What one write changes, in bytes.
const BLOCK: usize = 4096;
/// Blocks of the file that is overwritten.
const BLOCKS: usize = 1024;

/// Overwrites blocks of a file in `folder` for a while.
pub(crate) fn probe(folder: &Path, lasting: Duration) -> io::Result<Samples> {
    let file = tempfile::tempfile_in(folder)?;
    file.write_all_at(&vec![0; BLOCK * BLOCKS], 0)?;
    file.sync_all()?;
    let began = Instant::now();
    let mut nanos = Vec::new();
    while began.elapsed() < lasting {
        nanos.push(overwrite(&file, nanos.len() % BLOCKS)?);
    }
    Ok(Samples::new(nanos, began.elapsed()))
}

fn overwrite(file: &File, block: usize) -> io::Result<u64> {
    let at = Instant::now();
    file.write_all_at(&[block as u8; BLOCK], (block * BLOCK) as u64)?;
    file.sync_data()?;
    Ok(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
