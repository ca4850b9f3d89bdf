//! Debian's and Ubuntu's packages: installed as root, or unpacked by anyone.
//!
//! Here lives how `apt-get`, `apt-cache` and `dpkg` are called. Which packages are wanted, and why, lives in
//! `setup`. The one idea of [`Private`]: `apt-get` works for an unprivileged user when its lists and archives lie in
//! a folder of that user, and `dpkg -x` unpacks without installing.

use crate::Outcome;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packages of which an unpacked PostgreSQL needs nothing: the just-in-time compiler (100 MB) and what only
/// Debian's own cluster scripts use.
const NOT_NEEDED: [&str; 6] = ["libllvm", "postgresql-common", "ssl-cert", "perl", "libperl", "tzdata"];

/// Tells whether this system has apt.
pub fn is_here() -> bool {
    crate::setup::has("apt-get")
}

/// Brings the package lists up to date, as root.
pub fn update() -> Outcome {
    run(apt_get().arg("update"))
}

/// Installs packages without their recommendations, as root.
pub fn install(packages: &[&str]) -> Outcome {
    run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // Another apt may hold the lock on a machine that has just booted.
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

/// Runs a command whose output the developer sees only if it fails.
fn run(command: &mut Command) -> Outcome {
    answer(command).map(drop)
}

fn answer(command: &mut Command) -> Outcome<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot run {shown}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{shown}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// apt with lists and archives of its own, for an unprivileged user.
pub struct Private {
    folder: PathBuf,
}

impl Private {
    /// Prepares the folders of apt below `folder`.
    pub fn in_folder(folder: &Path) -> Outcome<Private> {
        for part in ["lists/partial", "archives/partial", "downloads"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        }
        Ok(Private { folder: folder.to_path_buf() })
    }

    /// Brings the private package lists up to date.
    pub fn update(&self) -> Outcome {
        run(self.command("apt-get").arg("update"))
    }

    /// Returns the package that `postgresql` stands for on this release, as in `postgresql-15`.
    pub fn server_package(&self) -> Outcome<String> {
        let text = answer(self.command("apt-cache").args(["depends", "postgresql"]))?;
        versioned_server(&text).ok_or_else(|| format!("no versioned server package in:\n{text}"))
    }

    /// Returns what apt would install with `package` and an unpacked server needs.
    pub fn missing_with(&self, package: &str) -> Outcome<Vec<String>> {
        let mut command = self.command("apt-get");
        let text = answer(command.args(["install", "--simulate", "--no-install-recommends", package]))?;
        Ok(to_be_installed(&text))
    }

    /// Downloads packages and returns their archives.
    pub fn download(&self, packages: &[String]) -> Outcome<Vec<PathBuf>> {
        let downloads = self.folder.join("downloads");
        run(self.command("apt-get").arg("download").args(packages).current_dir(&downloads))?;
        let entries =
            fs::read_dir(&downloads).map_err(|e| format!("cannot read {}: {e}", downloads.display()))?;
        let mut archives: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        archives.retain(|path| path.extension().is_some_and(|e| e == "deb"));
        Ok(archives)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        command.env("LC_ALL", "C").arg("-q");
        command.arg("-o").arg(format!("Dir::State::Lists={folder}/lists"));
        command.arg("-o").arg(format!("Dir::Cache={folder}"));
        command.args(["-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User="]);
        command
    }
}

/// Unpacks one archive below `root`.
pub fn unpack(archive: &Path, root: &Path) -> Outcome {
    run(Command::new("dpkg").arg("-x").arg(archive).arg(root))
}

/// Finds `postgresql-NN` in the answer of `apt-cache depends postgresql`.
fn versioned_server(depends: &str) -> Option<String> {
    let mut packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: postgresql-"));
    packages.find(|version| version.parse::<u32>().is_ok()).map(|version| format!("postgresql-{version}"))
}

/// Reads the `Inst` lines of a simulated installation, without what is not needed.
fn to_be_installed(simulation: &str) -> Vec<String> {
    let names = simulation.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    names.filter(|name| is_needed(name)).map(str::to_string).collect()
}

fn is_needed(package: &str) -> bool {
    let is_perl_module = package.starts_with("lib") && package.ends_with("-perl");
    let is_for_compiling = package.ends_with("-dev");
    !is_perl_module && !is_for_compiling && !NOT_NEEDED.iter().any(|start| package.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_package_is_the_versioned_one() {
        let depends = "postgresql\n  Depends: postgresql-15\n  Suggests: postgresql-doc\n";
        assert_eq!(versioned_server(depends).as_deref(), Some("postgresql-15"));
        assert_eq!(versioned_server("postgresql\n  Depends: postgresql-common\n"), None);
    }

    #[test]
    fn compiler_and_perl_are_not_downloaded() {
        let simulation = "Reading…\nInst libicu72 (72.1 Debian)\nInst libllvm14 (1:14 Debian)\n\
                          Inst libjson-perl (4 all)\nInst libpq-dev (15)\nInst postgresql-15 [15.1] (15.2 Debian)\nConf libicu72 (72.1)\n";
        assert_eq!(to_be_installed(simulation), ["libicu72", "postgresql-15"]);
    }
}
