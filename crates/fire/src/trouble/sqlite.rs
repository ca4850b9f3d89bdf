//! Trouble for a ledger in a file.
//!
//! Here live the cases of SQLite: a full disk, a file that cannot be written, a lock that another program holds.

use crate::Outcome;
use crate::trouble::End;
use crate::trouble::mount::Disk;
use crate::trouble::postgres::A_WHILE;
use crate::trouble::scene::{Scene, Setting};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;

/// The size of a disk that is filled, in megabytes.
const DISK_MB: usize = 24;
/// How long another program may wait for the file itself.
const BUSY: std::time::Duration = std::time::Duration::from_secs(10);

/// The disk with the file is full for a while.
pub(super) fn full(setting: &Setting) -> Outcome<End> {
    let disk = match Disk::mount(DISK_MB) {
        Ok(disk) => disk,
        Err(why) => return Ok(End::NotRun(why)),
    };
    let url = format!("sqlite:{}", disk.path().join("ledger.db").display());
    let mut scene = Scene::at(setting, Some(url))?;
    scene.trouble("full", |scene| {
        let bytes = disk.fill()?;
        sleep(A_WHILE);
        scene.say(format!("{} KiB filled the disk", bytes >> 10));
        disk.free()
    })?;
    if scene.refused() == 0 {
        scene.wrong("nothing was refused: the disk was not full");
    }
    scene.finish().map(End::Judged)
}

/// The file and its folder can be read only for a while; who has opened them before goes on.
pub(super) fn read_only(setting: &Setting) -> Outcome<End> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let program = without_privilege(folder.path(), &setting.program)?;
    let place = folder.path().join("ledger");
    std::fs::create_dir(&place).map_err(|e| e.to_string())?;
    let url = format!("sqlite:{}", place.join("ledger.db").display());
    let mut scene = Scene::at(&Setting { program, ..setting.clone() }, Some(url))?;
    scene.trouble("read-only", |_| {
        modes(&place, 0o555, 0o444)?;
        sleep(A_WHILE);
        modes(&place, 0o755, 0o644)
    })?;
    if scene.refused() == 0 {
        scene.wrong("nothing was refused: the file could be written");
    }
    scene.finish().map(End::Judged)
}

/// Makes a program that may do what permissions allow and no more, also where root starts it.
fn without_privilege(folder: &Path, program: &Path) -> Outcome<PathBuf> {
    let script = folder.join("quorate");
    let is_root = nix::unistd::geteuid().is_root();
    let lead = if is_root { "setpriv --bounding-set=-dac_override,-dac_read_search " } else { "" };
    let text = format!("#!/bin/sh\nexec {lead}'{}' \"$@\"\n", program.display());
    std::fs::write(&script, text).map_err(|e| e.to_string())?;
    mode(&script, 0o755)?;
    Ok(script)
}

fn modes(folder: &Path, of_folder: u32, of_files: u32) -> Outcome {
    for entry in std::fs::read_dir(folder).map_err(|e| e.to_string())?.flatten() {
        mode(&entry.path(), of_files)?;
    }
    mode(folder, of_folder)
}

fn mode(path: &Path, mode: u32) -> Outcome {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(|e| format!("{}: {e}", path.display()))
}

/// Another program keeps the file locked for a while.
pub(super) fn locks(setting: &Setting) -> Outcome<End> {
    let mut scene = Scene::at(setting, None)?;
    let path = scene.arena.path().join("ledger.db");
    scene.trouble("begin immediate", |_| {
        let said = |e: rusqlite::Error| format!("cannot lock the file: {e}");
        let other = Connection::open(&path).map_err(said)?;
        other.busy_timeout(BUSY).map_err(said)?;
        other.execute_batch("begin immediate").map_err(said)?;
        sleep(A_WHILE);
        other.execute_batch("rollback").map_err(said)
    })?;
    scene.finish().map(End::Judged)
}
