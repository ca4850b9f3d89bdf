//! The MCP door: twelve tools for agents, over standard input and output, and over HTTP at `/mcp`.
//!
//! Here live the list of tools, who calls, and what keeps a client patient during a long wait. A tool stands in the file of
//! its noun below, the way over HTTP in `door`. State lives in the ledger, never in a session. The wire format
//! (specifications 2025-11-25 and 2026-07-28) is the library's business, `rmcp`; `cargo xtask judge` has both judged.

mod claim;
pub(crate) mod door;
mod memory;
mod message;
mod status;
mod task;
mod tool;

use crate::caller::Caller;
use crate::desk::Desk;
use axum::http::request::Parts;
use quorate_model::{Error, Result};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ServerHandler, ServiceExt};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tool::{Entry, Turn};

/// A client that waits hears something this often.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest name that is made of a client's, in characters.
const NAME_MAX: usize = 40;

/// What a model is told of the tools as a whole.
const INSTRUCTIONS: &str = "Quorate coordinates a team of agents through one ledger. To work: call `next_task`; do what it says; \
call `progress` now and then (it renews your lease on the task and lets others see how far you are, and what you found); end with \
`finish`, with a `result` or with an `error`. Give back the `id` and `term` of the task each time: if a call says that the term is over, stop, the \
task has moved on. Before you change a file that your task has not claimed, `claim` it. `recall` what the team knows before \
you find it out again. After a break or a cleared context, `next_task` gives you the task that you already have, and `context` the rest.";

/// The tools, in the order in which an agent meets them.
static TOOLS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    vec![
        Entry::of::<task::NextTask>(),
        Entry::of::<task::Progress>(),
        Entry::of::<task::Finish>(),
        Entry::of::<task::AddTasks>(),
        Entry::of::<claim::Claim>(),
        Entry::of::<claim::Release>(),
        Entry::of::<message::Send>(),
        Entry::of::<message::Inbox>(),
        Entry::of::<memory::Remember>(),
        Entry::of::<memory::Recall>(),
        Entry::of::<memory::Context>(),
        Entry::of::<status::Status>(),
    ]
});

/// The tools of one ledger.
#[derive(Clone)]
pub struct Mcp {
    desk: Desk,
    /// Who calls, if the transport does not say it with each request.
    caller: Option<Caller>,
    namer: Option<Namer>,
}

/// Finds the name of a caller who does not say it, at each call: it may be known only later.
pub type Namer = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync>;

impl Mcp {
    /// Makes the tools for one caller: an agent, or a person, whose name is found so or is that of his program.
    pub fn new(desk: Desk, caller: Caller, namer: Option<Namer>) -> Mcp {
        Mcp { desk, caller: Some(caller), namer }
    }

    /// Makes the tools for everybody who comes over the network: the guard says with each request who calls.
    pub(crate) fn for_all(desk: Desk) -> Mcp {
        Mcp { desk, caller: None, namer: None }
    }

    /// Serves one client on standard input and output, until it closes them.
    ///
    /// # Errors
    /// `Failed` when what comes is not MCP.
    pub async fn serve(self) -> Result<()> {
        let lost = |e: String| Error::failed(format!("the client does not speak MCP: {e}"));
        let service = self.serve_with_transport().await.map_err(lost)?;
        service.waiting().await.map_err(|e| Error::failed(format!("the MCP server ended badly: {e}")))?;
        Ok(())
    }

    async fn serve_with_transport(self) -> Result<rmcp::service::RunningService<RoleServer, Mcp>, String> {
        ServiceExt::serve(self, rmcp::transport::io::stdio()).await.map_err(|e| e.to_string())
    }

    async fn turn(&self, context: &RequestContext<RoleServer>) -> Result<Turn, ErrorData> {
        let shown = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Caller>());
        let program = || context.client_info().and_then(|client| name_of_program(&client.name));
        let found = match &self.namer {
            Some(namer) => namer().await,
            None => None,
        };
        let caller = shown.or(self.caller.as_ref());
        let caller = caller.ok_or_else(|| ErrorData::internal_error("nobody knows who calls", None))?;
        Ok(Turn {
            desk: self.desk.clone(),
            caller: caller.clone(),
            name: found.or_else(program),
            cancelled: context.ct.clone(),
        })
    }
}

/// Makes an agent's name of a client's: `Claude Code` is `claude-code`.
fn name_of_program(program: &str) -> Option<String> {
    let letters =
        program.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let name: String = letters.take(NAME_MAX).collect();
    let name = name.trim_matches('-').to_owned();
    quorate_model::name::check_name("agent", &name).ok().map(|()| name)
}

impl ServerHandler for Mcp {
    fn get_info(&self) -> ServerConfig {
        let server = Implementation::new("quorate", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(server)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(TOOLS.iter().map(|entry| entry.tool.clone()).collect()))
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        find(name).map(|entry| entry.tool.clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(entry) = find(&request.name) else {
            return Err(ErrorData::invalid_params(format!("there is no tool `{}`", request.name), None));
        };
        let turn = self.turn(&context).await?;
        let calling = entry.call(&turn, request.arguments.unwrap_or_default());
        let answer = patiently(&context, calling).await;
        Ok(match answer {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(error) => CallToolResult::error(vec![ContentBlock::text(told(&error))]),
        }
        .into())
    }
}

fn find(name: &str) -> Option<&'static Entry> {
    TOOLS.iter().find(|entry| entry.tool.name == name)
}

fn told(error: &Error) -> String {
    match &error.hint {
        Some(hint) => format!("{}: {} ({hint})", error.kind.as_str(), error.message),
        None => format!("{}: {}", error.kind.as_str(), error.message),
    }
}

/// Waits for an answer, and tells a client that asked for it that there is none yet: else it would give up.
async fn patiently<T>(context: &RequestContext<RoleServer>, calling: impl Future<Output = T>) -> T {
    let Some(token) = context.meta.get_progress_token() else { return calling.await };
    let mut calling = std::pin::pin!(calling);
    let mut waited = Duration::ZERO;
    loop {
        tokio::select! {
            answer = &mut calling => return answer,
            () = tokio::time::sleep(PATIENCE) => {
                waited += PATIENCE;
                let progress = ProgressNotificationParam::new(token.clone(), waited.as_secs_f64())
                    .with_message(format!("waiting for {} s", waited.as_secs()));
                // Who hears nothing any more has hung up; the call ends by its own token.
                let _ = context.peer.notify_progress(progress).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_as_short_as_clients_want_them() {
        assert!(INSTRUCTIONS.len() <= tool::ABOUT_MAX);
        for entry in TOOLS.iter() {
            let about = entry.tool.description.as_deref().unwrap_or_default();
            assert!((40..=tool::ABOUT_MAX).contains(&about.len()), "{}: {}", entry.tool.name, about.len());
            let schema = serde_json::to_string(&entry.tool.input_schema).expect("it is JSON");
            assert!(schema.len() <= 2_048, "{}: {} bytes of schema", entry.tool.name, schema.len());
            assert!(!schema.contains("$schema"), "{schema}");
        }
    }

    #[test]
    fn a_program_has_a_name_that_an_agent_may_have() {
        for (program, name) in [
            ("claude-code", Some("claude-code")),
            ("Claude Code", Some("claude-code")),
            ("codex_mcp_client/1.0", Some("codex-mcp-client-1-0")),
            ("  ", None),
            ("日本", None),
        ] {
            assert_eq!(name_of_program(program).as_deref(), name, "{program}");
        }
    }
}
