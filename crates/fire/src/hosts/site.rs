//! A network with a database host and three hosts for nodes.
//!
//! Here lives what all acts share: the server, which listens at the address of its host and nowhere else. Each act has
//! a database of its own there.

use super::net::Net;
use super::plan::{WORK, config};
use crate::Outcome;
use crate::arena::Arena;
use crate::ledger::Ledger;
use crate::party::{Member, Setting};
use crate::stage::{Parts, Stage};
use quorate_testkit::server::Server;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// The host of the database.
pub const DATABASE: &str = "db";
/// The hosts of the nodes.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Where the server listens.
const PORT: u16 = 5_432;
/// Where the switch's own address leads to the server by a detour.
const DETOUR_PORT: u16 = 5_433;

/// The network and its one server.
#[derive(Debug)]
pub struct Site {
    /// Ends before its host does.
    server: Server,
    /// The network.
    pub net: Net,
}

/// What an act begins with.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Its name, which is that of its database.
    pub name: &'a str,
    /// The program.
    pub program: &'a Path,
    /// The plan.
    pub plan: &'a str,
    /// The lease, in milliseconds.
    pub lease_ms: i64,
    /// How many agents each node has.
    pub agents: [&'static str; 3],
    /// Whether the first node reaches the server by the detour.
    pub has_detour: bool,
}

impl Site {
    /// Makes the network and starts the server.
    pub fn make() -> Outcome<Site> {
        let net = Net::make(&[&[DATABASE][..], &NODES].concat())?;
        let server = Server::start()?;
        let address = net.address(DATABASE);
        server.psql(&format!("alter system set listen_addresses = '{address}'"))?;
        let rules = server.data().join("pg_hba.conf");
        let rules = std::fs::File::options().append(true).open(rules);
        rules
            .and_then(|mut file| writeln!(file, "host all all {address}/24 trust"))
            .map_err(|e| format!("pg_hba.conf: {e}"))?;
        server.pg_ctl(&["-m", "fast", "stop"])?;
        net.home(DATABASE).within(|| server.pg_ctl(&["start"]))??;
        Ok(Site { server, net })
    }

    /// Returns where the server listens.
    pub fn server(&self) -> Outcome<SocketAddr> {
        self.place(DATABASE, PORT)
    }

    /// Returns where a detour to it is to listen.
    pub fn detour(&self) -> Outcome<SocketAddr> {
        self.place("", DETOUR_PORT)
    }

    fn place(&self, host: &str, port: u16) -> Outcome<SocketAddr> {
        format!("{}:{port}", self.net.address(host)).parse().map_err(|e| format!("{host}: {e}"))
    }

    /// Makes a ledger with the plan, and the nodes, which are not started yet.
    pub fn begin(&self, scene: &Scene<'_>) -> Outcome<Stage> {
        let name = scene.name;
        self.server.psql(&format!("create database {name}"))?;
        // The test itself goes by the socket, which no cut can reach.
        let socket_url = self.server.url().replacen("/postgres?", &format!("/{name}?"), 1);
        let files =
            [("quorate.toml", &*config(scene.lease_ms)), ("work.sh", WORK), ("plan.toml", scene.plan)];
        let arena = Arena::around(Some(&socket_url), scene.program, &files)?;
        std::fs::create_dir(arena.path().join("beats")).map_err(|e| format!("beats: {e}"))?;
        let (direct, detour) = (self.server()?, self.detour()?);
        let mut urls = Vec::new();
        let mut members = Vec::new();
        for (at, host) in NODES.into_iter().enumerate() {
            let address = if at == 0 && scene.has_detour { detour } else { direct };
            let url = format!("postgres://postgres@{address}/{name}");
            let setting =
                Setting { home: Some(self.net.home(host)), env: vec![("QUORATE_STORE", url.clone())] };
            members.push(Member::node_in(setting, host, vec!["up", "--agents", scene.agents[at]]));
            urls.push(url);
        }
        let ledger = Ledger::pg(&socket_url)?;
        Stage::begin(Parts { arena, ledger, members, urls, lease_ms: scene.lease_ms, shares_a_file: false })
    }
}
