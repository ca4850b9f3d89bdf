//! What the MCP conformance suite asks for, behind the product's own door.
//!
//! The suite wants tools, prompts and resources that Quorate does not have. Here they are, at `/mcp` of ordinary doors with an
//! empty ledger: connections, guard, limits and the way over HTTP are those of the product, so they are what is judged.
//! `cargo xtask judge` runs this. It prints where it listens, and ends when its input does.

mod content;
mod fixture;
mod prompts;
mod resources;
mod rounds;
mod seal;
mod talk;
mod tools;

use fixture::Fixture;
use quorate_model::config::Config;
use quorate_server::{Desk, Server, ServerOptions};
use quorate_testkit::ledger::{Backend, TestLedger};
use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ledger = TestLedger::new(Backend::Lite).await;
    let desk = Desk::new(ledger.store.clone(), Arc::new(Config::default()), std::env::temp_dir());
    let options = ServerOptions {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        is_set: true,
        socket: None,
        token: None,
    };
    let server = Server::begin_with(desk, Fixture::new(), options).await?;
    writeln!(std::io::stdout(), "listening at {}", server.url())?;
    // Who started this holds the other end: when he is gone, so is this.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    server.end().await;
    Ok(())
}
