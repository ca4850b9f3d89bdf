//! A PostgreSQL of one test's own, which may be ended at any moment and started again.
//!
//! Here live its start, its words with `pg_ctl`, and its restart as after a crash. How a server is made lives in
//! `cluster`; one that many tests share lives in `postgres`.

use crate::cluster::{Cluster, Durability, Installation, SOCKET_NAME, Until, is_root};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A private server, with the durability of a real one; it ends with the value, and with this process.
#[derive(Debug)]
pub struct Server {
    installation: Installation,
    cluster: Cluster,
    data: PathBuf,
}

impl Server {
    /// Makes and starts one.
    ///
    /// # Errors
    /// What is missing, or what PostgreSQL said.
    pub fn start() -> Result<Server, String> {
        let installation = installed()?;
        let cluster = Cluster::start(&installation, Durability::Full, Until::ProcessEnds, None)?;
        let data = cluster.folder().join("data");
        Ok(Server { installation, cluster, data })
    }

    /// Makes and starts one whose files lie in a folder below `parent`.
    ///
    /// # Errors
    /// As [`start`](Server::start).
    pub fn start_in(parent: &Path) -> Result<Server, String> {
        let installation = installed()?;
        let cluster = Cluster::start(&installation, Durability::Full, Until::ProcessEnds, Some(parent))?;
        let name = cluster.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Server { installation, cluster, data: parent.join(format!("{name}-data")) })
    }

    /// Makes a standby, which follows the server at an address.
    ///
    /// # Errors
    /// As [`start`](Server::start).
    pub fn standby_of(primary: &str) -> Result<Server, String> {
        let installation = installed()?;
        let cluster = Cluster::start_standby(&installation, primary)?;
        let data = cluster.folder().join("data");
        Ok(Server { installation, cluster, data })
    }

    /// Returns its name, under which it follows another.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn name(&self) -> Result<String, String> {
        self.psql("show cluster_name")
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.cluster.folder().join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Returns its address.
    pub fn url(&self) -> &str {
        self.cluster.url()
    }

    /// Returns its address for a role and a database.
    pub fn url_for(&self, role: &str, database: &str) -> String {
        let (_, way) = self.url().split_once('?').unwrap_or_default();
        format!("postgres://{role}@/{database}?{way}")
    }

    /// Runs `sql` as a role in a database.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn psql_as(&self, role: &str, database: &str, sql: &str) -> Result<String, String> {
        self.installation.psql(&self.url_for(role, database), sql)
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.cluster.folder().join(SOCKET_NAME)
    }

    /// Returns the folder with its files.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// Runs `sql` by way of `psql` and returns what it prints.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        self.installation.psql(self.url(), sql)
    }

    /// Ends the server without ceremony and starts it again; it recovers as after a crash.
    ///
    /// # Errors
    /// As [`pg_ctl`](Server::pg_ctl).
    pub fn restart(&self) -> Result<(), String> {
        self.pg_ctl(&["-m", "immediate", "stop"])?;
        self.pg_ctl(&["start"])
    }

    /// Tells the server something with `pg_ctl`, and waits until it is done.
    ///
    /// # Errors
    /// That it did not end well.
    pub fn pg_ctl(&self, words: &[&str]) -> Result<(), String> {
        let program = self.installation.bin().join("pg_ctl");
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        let log = self.cluster.folder().join("server.log");
        command.arg("-D").arg(self.data()).args(["-w", "-l"]).arg(log);
        command.args(words).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().map_err(|e| format!("cannot run pg_ctl: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("pg_ctl {words:?}: {status}")) }
    }
}

fn installed() -> Result<Installation, String> {
    Installation::find().ok_or_else(|| "PostgreSQL was not found: run `cargo xtask setup`".to_owned())
}
