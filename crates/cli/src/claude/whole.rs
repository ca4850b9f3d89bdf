//! Writing a file whole or not at all.
//!
//! Here lives writing beside the file and moving into place, for files that are somebody else's too: who reads meanwhile,
//! reads the old text or the new one.

use crate::init::cannot_write as cannot;
use quorate_model::Result;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes a file with the permissions that it had, or with these if it is new.
///
/// # Errors
/// `Failed`; the file is as it was.
pub(super) fn write(file: &Path, text: &str, mode_if_new: u32) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).map_err(|e| cannot(folder, &e))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let part = folder.join(format!(".{name}.{}.part", std::process::id()));
    let mode = fs::metadata(file).map_or(mode_if_new, |facts| facts.permissions().mode() & 0o7777);
    let done = write_part(&part, mode, text).and_then(|()| fs::rename(&part, file));
    done.map_err(|e| {
        let _ = fs::remove_file(&part);
        cannot(file, &e)
    })
}

fn write_part(part: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    File::sync_all(&file)
}
