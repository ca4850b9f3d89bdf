//! What some of the tests that break things need of a machine.
//!
//! Here lives the look for it, before anything is built, and the words on how to get it. What is installed is `setup`'s business.

use crate::setup::has;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where distributions put libfaketime: below one of these, or below a folder in one of these.
const LIBRARY_FOLDERS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// What of it comes in a package: what it is, the package, and whether it is here.
pub fn optional() -> [(&'static str, &'static str, bool); 3] {
    [
        ("ip", "iproute2", has("ip")),
        ("iptables", "iptables", has("iptables")),
        ("libfaketime", "libfaketime", library().is_some()),
    ]
}

/// Returns what the test has to be told of this machine, or why it cannot be run here.
pub fn of(words: &[&str]) -> Result<Option<PathBuf>, String> {
    match words.first() {
        Some(&"hosts") => hosts().map(|()| None),
        Some(&"time") => library().map(Some).ok_or_else(|| missing("libfaketime", "libfaketime")),
        _ => Ok(None),
    }
}

fn missing(what: &str, packages: &str) -> String {
    format!("{what} is missing; on Debian and Ubuntu: apt-get install {packages}")
}

/// Network namespaces with packet filters: tried out, since root in a container may not be allowed to make them.
fn hosts() -> Result<(), String> {
    for program in ["ip", "iptables"] {
        if !has(program) {
            return Err(missing(program, "iproute2 iptables"));
        }
    }
    let name = format!("quorate-xtask-{}", std::process::id());
    try_out(&["netns", "add", &name])?;
    let filter = ["iptables", "-A", "INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.2"];
    let done = try_out(
        &[&["-n", &name, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"][..]].concat(),
    )
    .and_then(|()| try_out(&["-n", &name, "link", "add", "probe2", "type", "bridge"]))
    .and_then(|()| try_out(&[&["netns", "exec", &name][..], &filter, &["-j", "DROP"]].concat()));
    // What cannot be removed now is empty, and gone with the next start of the machine.
    let _ = try_out(&["netns", "delete", &name]);
    done
}

fn try_out(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("cannot run ip: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let why = why.lines().next().unwrap_or_default().trim();
    Err(format!("needs root and network namespaces: `ip {}`: {why}", words.join(" ")))
}

fn library() -> Option<PathBuf> {
    let folders = LIBRARY_FOLDERS.iter().map(PathBuf::from).flat_map(|folder| {
        let below = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        std::iter::once(folder).chain(below)
    });
    folders.map(|folder| folder.join(LIBRARY)).find(|library| library.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_tests_need_more_than_the_others() {
        assert_eq!(of(&["storm", "--short"]), Ok(None));
        assert_eq!(of(&[]), Ok(None));
    }

    #[test]
    fn what_is_missing_is_told_with_the_command_that_brings_it() {
        assert!(missing("ip", "iproute2 iptables").ends_with("apt-get install iproute2 iptables"));
    }
}
