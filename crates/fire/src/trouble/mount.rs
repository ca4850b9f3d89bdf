//! A small disk that can be filled.
//!
//! Here lives a tmpfs in a mount namespace of this process's own: nobody else sees it, and it is gone with the last
//! process that does, however that ends.

use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What fills a disk is written in pieces of so many bytes.
const PIECE: usize = 64 << 10;

/// A mounted disk; it goes with the value.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of so many megabytes; says why that is not possible here.
    pub fn mount(megabytes: usize) -> Result<Disk, String> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("no mount namespace of our own: {e}"))?;
        run(Command::new("mount").args(["--make-rprivate", "/"]))?;
        let path =
            tempfile::Builder::new().prefix("quorate-disk-").tempdir().map_err(|e| e.to_string())?.keep();
        let disk = Disk { path };
        let options = format!("size={megabytes}m,mode=0755");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "quorate-disk"]).arg(&disk.path))?;
        Ok(disk)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it to the last byte; answers with how many bytes that took.
    pub fn fill(&self) -> Result<usize, String> {
        let mut file = File::create(self.filler()).map_err(|e| format!("cannot fill the disk: {e}"))?;
        let (mut written, mut piece) = (0, PIECE);
        while piece > 0 {
            match file.write(&vec![0; piece]) {
                Ok(length) if length > 0 => written += length,
                _ => piece /= 2,
            }
        }
        Ok(written)
    }

    /// Makes room again.
    pub fn free(&self) -> Result<(), String> {
        std::fs::remove_file(self.filler()).map_err(|e| format!("cannot free the disk: {e}"))
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what still has a file open there keeps it until it ends.
        let _ = run(Command::new("umount").arg("-l").arg(&self.path));
        let _ = std::fs::remove_dir(&self.path);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot run {shown}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{shown}: {said}")) }
}
