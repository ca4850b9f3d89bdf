//! Packages of npm, in a folder of the cache.
//!
//! Nothing is installed into the system. A newer Node than distributions have is a package, too: the programs of a folder are
//! run with the folder's own.

use crate::cluster::cache_folder;
use crate::setup::has;
use crate::{Outcome, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Node that all folders have.
pub const NODE: &str = "node@24.21.0";
/// Is written once everything is there.
const MARK: &str = "installed";

/// Finds packages or installs them, once they pass; `Err` within says why that cannot be done here.
pub fn install(
    name: &str,
    packages: &[&str],
    size: &str,
    passes: impl FnOnce(&Path) -> Result<(), String>,
) -> Outcome<Result<PathBuf, String>> {
    let cache = cache_folder().ok_or("no folder for a cache: set HOME or XDG_CACHE_HOME")?;
    let folder = cache.with_file_name(name);
    let mark = folder.join(MARK);
    let packages = packages.join(" ");
    if fs::read_to_string(&mark).is_ok_and(|text| text == packages) {
        say(&format!("{name}: found in {}", folder.display()));
        return Ok(Ok(folder));
    }
    if !has("npm") {
        return Ok(Err("npm was not found: on Debian and Ubuntu: apt-get install npm".to_string()));
    }
    say(&format!("installing {packages} into {} (about {size})", folder.display()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    if let Err(why) = npm(&folder, &packages).and_then(|()| passes(&folder)) {
        return Ok(Err(why));
    }
    fs::write(&mark, packages).map_err(|e| format!("cannot write {}: {e}", mark.display()))?;
    Ok(Ok(folder))
}

fn npm(folder: &Path, packages: &str) -> Result<(), String> {
    let mut command = Command::new("npm");
    command
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"])
        .arg(folder);
    command.args(packages.split(' ')).current_dir(folder).stdin(Stdio::null());
    let status = command.status().map_err(|e| format!("npm could not be run: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("npm could not install {packages} ({status})")) }
}

/// A program of such a folder, with its own Node first: an older one on the PATH may not run it.
pub fn program(folder: &Path, name: &str) -> Command {
    let modules = folder.join("node_modules");
    let path =
        format!("{}:{}", modules.join("node/bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(modules.join(".bin").join(name));
    command.env("PATH", path);
    command
}
