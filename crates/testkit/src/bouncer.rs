//! A PgBouncer of one test's own, in front of a server of its own.
//!
//! Here live its configuration, start and end. It listens on a socket in a folder of its own and nowhere else, and ends
//! with the value, or with the thread that started it.

use crate::cluster::is_root;
use crate::server::Server;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take until it listens.
const START_WAIT: Duration = Duration::from_secs(10);
/// Its socket's name.
const SOCKET_NAME: &str = ".s.PGSQL.6432";

/// A running PgBouncer.
#[derive(Debug)]
pub struct Bouncer {
    folder: tempfile::TempDir,
    child: Child,
}

impl Bouncer {
    /// Finds the program; tests without it say so and go on, because it is no part of PostgreSQL.
    pub fn find() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
    }

    /// Starts it in front of `server` for these roles, with further lines for its configuration.
    ///
    /// # Errors
    /// What could not be made, or the end of its log.
    pub fn start(program: &Path, server: &Server, roles: &[&str], lines: &str) -> Result<Bouncer, String> {
        let folder = tempfile::Builder::new()
            .prefix("quorate-pooler-")
            .tempdir_in("/tmp")
            .map_err(|e| e.to_string())?;
        let users: String = roles.iter().map(|role| format!("\"{role}\" \"\"\n")).collect();
        let data = server.data();
        let socket = data.parent().unwrap_or(&data).display().to_string();
        let here = folder.path().display();
        let config = format!(
            "[databases]\n* = host={socket} port=5432\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
             unix_socket_dir = {here}\nauth_type = trust\nauth_file = {here}/users.txt\nlogfile = {here}/log\n{lines}\n"
        );
        write(folder.path(), &data, &[("users.txt", &users), ("pgbouncer.ini", &config)])
            .map_err(|e| format!("{here}: {e}"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.arg(program).arg("-q").arg(folder.path().join("pgbouncer.ini")).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("cannot run setpriv: {e}"))?;
        let bouncer = Bouncer { folder, child };
        bouncer.wait_until_it_listens()?;
        Ok(bouncer)
    }

    /// Returns its address for a role and a database.
    pub fn url_for(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@/{database}?host={}&port=6432", self.folder.path().display())
    }

    fn wait_until_it_listens(&self) -> Result<(), String> {
        let begun = Instant::now();
        while !self.folder.path().join(SOCKET_NAME).exists() {
            if begun.elapsed() > START_WAIT {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!("PgBouncer does not listen: {log}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Writes files into a folder that only the owner of the server's data can enter, and gives all to him.
fn write(folder: &Path, data: &Path, files: &[(&str, &str)]) -> std::io::Result<()> {
    let owner = data.metadata()?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for (name, text) in files {
        std::fs::write(folder.join(name), text)?;
        chown(folder.join(name), Some(owner.uid()), Some(owner.gid()))?;
    }
    chown(folder, Some(owner.uid()), Some(owner.gid()))
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
