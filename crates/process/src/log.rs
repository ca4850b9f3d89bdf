//! The file in which a child's output is kept.
//!
//! Here live its creation and its writing. What is written, and how much, is decided in [`crate::keep`]; who waits for it
//! in `pen`.
//!
//! A log is private (0600, in a folder made 0700), plain text, and at most [`MAX_LOG`] bytes: first everything from the
//! beginning, then, if that did not fit, a note and the last lines. If it cannot be written (a full disk, or one that
//! does not answer), the child goes on and the reason is told at its end.

use quorate_model::{Error, Result};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The largest log, in bytes.
pub const MAX_LOG: usize = 10 << 20;

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    /// Bytes that were written.
    pub bytes: u64,
    /// Why nothing more is written.
    pub error: Option<String>,
}

impl Log {
    /// Opens a log to add to, made with its folder if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Log> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let opened = make_folder(folder)
            .and_then(|()| OpenOptions::new().append(true).create(true).mode(0o600).open(path));
        let file = opened.map_err(|e| {
            Error::failed(format!("cannot write the log {}: {e}", path.display()))
                .hint(format!("make {} a folder that this user may write to", folder.display()))
        })?;
        Ok(Log { file, bytes: 0, error: None })
    }

    /// Adds text. After the first failure nothing more is written.
    pub(crate) fn write(&mut self, text: &str) {
        if self.error.is_some() {
            return;
        }
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => self.bytes += text.len() as u64,
            Err(e) => self.error = Some(e.to_string()),
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
