//! `quorate drive`: one attempt of a real agent, as a child of a node.
//!
//! Here lives the way from standard input to the driver. It opens no ledger and reads no configuration: what it needs
//! comes with the task and in its settings.

use crate::args;
use quorate_drivers::agent::Program;
use quorate_drivers::drive::{Job, drive as drive_program};
use quorate_drivers::{Settings, api};
use quorate_model::config::Driver;
use quorate_model::{Error, Result};
use std::io::Read;

/// The largest task document that is read, in bytes: results of what it needs are in it.
const DOCUMENT_MAX: u64 = 256 << 20;

/// Runs the attempt. What ends it early is one line: the last line is what the ledger keeps as the reason.
pub(crate) async fn drive(args: &args::Drive) -> Result<u8> {
    attempt(args).await.map_err(|error| match &error.hint {
        Some(hint) => Error { message: format!("{}; {hint}", error.message), hint: None, ..error },
        None => error,
    })
}

async fn attempt(args: &args::Drive) -> Result<u8> {
    let settings = args.settings.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let mut document = String::new();
    std::io::stdin()
        .take(DOCUMENT_MAX)
        .read_to_string(&mut document)
        .map_err(|e| Error::invalid(format!("cannot read the task on standard input: {e}")))?;
    let dir = std::env::current_dir()
        .map_err(|e| Error::failed(format!("the working folder cannot be read: {e}")))?;
    let job = Job::new(&document, settings, dir, mcp())?;
    match Program::of(args.driver.as_str()) {
        Some(program) => drive_program(program, &job, std::io::stdout()).await,
        None if args.driver == Driver::Model => api::drive(&job, std::io::stdout()).await,
        None => Err(Error::invalid(format!("the driver `{}` runs no agent", args.driver))
            .hint("drivers of real agents are: claude, codex, gemini, model")),
    }
}

/// The MCP server that an agent is given: this program itself.
fn mcp() -> Vec<String> {
    let program = std::env::current_exe().ok().and_then(|program| program.to_str().map(str::to_owned));
    program.map_or_else(Vec::new, |program| vec![program, "mcp".to_owned()])
}
