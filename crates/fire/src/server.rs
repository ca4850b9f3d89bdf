//! A PostgreSQL of the storm's own, which may be ended at any moment and started again.
//!
//! Here live its start and its restart with `-m immediate`: the server gets no chance to tidy up, as in a crash.

use crate::Outcome;
use quorate_testkit::cluster::{Cluster, Durability, Installation, Until, is_root};
use std::process::{Command, Stdio};

/// A private server; it ends with the value, and with this process.
#[derive(Debug)]
pub struct Server {
    installation: Installation,
    cluster: Cluster,
}

impl Server {
    /// Makes and starts one.
    pub fn start() -> Outcome<Server> {
        let installation = Installation::find().ok_or("PostgreSQL was not found: run `cargo xtask setup`")?;
        let cluster = Cluster::start(&installation, Durability::Full, Until::ProcessEnds, None)?;
        Ok(Server { installation, cluster })
    }

    /// Returns its address.
    pub fn url(&self) -> &str {
        self.cluster.url()
    }

    /// Ends the server without ceremony and starts it again; it recovers as after a crash.
    pub fn restart(&self) -> Outcome {
        self.pg_ctl(&["-m", "immediate", "stop"])?;
        self.pg_ctl(&["start"])
    }

    fn pg_ctl(&self, words: &[&str]) -> Outcome {
        let program = self.installation.bin().join("pg_ctl");
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        let folder = self.cluster.folder();
        command.arg("-D").arg(folder.join("data")).args(["-w", "-l"]).arg(folder.join("server.log"));
        command.args(words).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().map_err(|e| format!("cannot run pg_ctl: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("pg_ctl {words:?}: {status}")) }
    }
}
