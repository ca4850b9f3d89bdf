//! PostgreSQL for tests: every test gets a schema of its own.
//!
//! Here lives [`Schema`], which is made on a server of our own and dropped with the value. The server comes from
//! `cargo xtask test` (`QUORATE_TEST_PG`); without it, this process starts one, shares it between its tests and ends
//! it when it exits, so that a plain `cargo test` tests the same things. How that works lives in `cluster`.
//!
//! A test never passes for want of a database: where PostgreSQL is not installed, it fails and says what to run.

use crate::cluster::{Cluster, Durability, Installation, Until, random_hex};
use std::sync::OnceLock;

/// The environment variable with the URL of the server that the test run brought along.
pub const SERVER_VARIABLE: &str = "QUORATE_TEST_PG";

/// A fresh, empty schema on a real server, dropped with everything in it at the end of the test.
#[derive(Debug)]
pub struct Schema {
    name: String,
    url: String,
    server: &'static Server,
}

impl Schema {
    /// Makes a schema of its own for one test.
    ///
    /// # Panics
    /// When no server can be had or the server refuses: the test fails, with what to do about it.
    pub fn create() -> Schema {
        Schema::on(server())
    }

    /// Makes one whose database has the extension pgvector, in another schema. `None` where no PostgreSQL with
    /// pgvector can be found: not every distribution has it.
    ///
    /// # Panics
    /// When the server does not start or refuses.
    pub fn create_with_vectors() -> Option<Schema> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(|| Some(start_with_vectors(&Installation::find_with_vectors()?)));
        server.as_ref().map(Schema::on)
    }

    fn on(server: &'static Server) -> Schema {
        let name = format!("t_{}_{}", std::process::id(), random_hex());
        if let Err(why) = server.run(&format!("create schema {name}")) {
            panic!("cannot make schema {name}: {why}");
        }
        let url = format!("{}&options=-csearch_path%3D{name}", server.url);
        Schema { name, url, server }
    }

    /// Returns the URL whose connections see this schema and no other (`search_path` is set by the URL).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the name of the schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `sql` in this schema by way of `psql`, as a person would, and returns what it prints.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        self.server.installation.psql(&self.url, sql)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A connection that the test left in mid-transaction holds locks: the schema then goes with the server.
        let sql = format!("set lock_timeout = '2s'; drop schema if exists {} cascade", self.name);
        let _ = self.server.run(&sql);
    }
}

/// Returns the URL of the shared test server's database, outside any test's schema.
///
/// # Panics
/// When no server can be had.
pub fn server_url() -> &'static str {
    &server().url
}

#[derive(Debug)]
struct Server {
    url: String,
    installation: Installation,
    /// Held for its pipe: a static is never dropped, and the end of the process closes the pipe.
    _cluster: Option<Cluster>,
}

impl Server {
    fn run(&self, sql: &str) -> Result<String, String> {
        self.installation.psql(&self.url, sql)
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match find_or_start() {
        Ok(server) => server,
        Err(why) => {
            panic!("no PostgreSQL for this test: {why}\nrun `cargo xtask test`, which brings its own")
        }
    })
}

fn start_with_vectors(installation: &Installation) -> Server {
    let cluster = Cluster::start(installation, Durability::None, Until::ProcessEnds, None)
        .unwrap_or_else(|why| panic!("PostgreSQL with pgvector does not start: {why}"));
    let server =
        Server { url: cluster.url().to_owned(), installation: installation.clone(), _cluster: Some(cluster) };
    server.run("create extension vector schema public").unwrap_or_else(|why| panic!("pgvector: {why}"));
    server
}

fn find_or_start() -> Result<Server, String> {
    let installation = Installation::find().ok_or("its server programs were not found")?;
    if let Ok(url) = std::env::var(SERVER_VARIABLE) {
        return Ok(Server { url, installation, _cluster: None });
    }
    let cluster = Cluster::start(&installation, Durability::None, Until::ProcessEnds, None)?;
    Ok(Server { url: cluster.url().to_string(), installation, _cluster: Some(cluster) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_do_not_see_each_other() {
        let (one, two) = (Schema::create(), Schema::create());
        one.psql("create table things (id bigint)").expect("creates");
        assert_eq!(one.psql("select count(*) from things"), Ok("0".to_string()));
        let unseen = two.psql("select count(*) from things").expect_err("sees nothing");
        assert!(unseen.contains("does not exist"), "{unseen}");
    }

    #[test]
    fn schema_is_dropped_at_the_end() {
        let schema = Schema::create();
        let name = schema.name().to_string();
        schema.psql("create table things (id bigint)").expect("creates");
        drop(schema);
        let left = format!("select count(*) from pg_namespace where nspname = '{name}'");
        assert_eq!(server().run(&left), Ok("0".to_string()));
    }
}
