//! The handler: what it says it can, and who answers which request.
//!
//! What is answered lives in the file of its noun.

use crate::content::typed;
use crate::rounds::Answers;
use crate::seal::Seal;
use crate::talk::{is_before_2026, say};
use crate::{prompts, resources, tools};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, ErrorData,
    GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ServerConfig, ServerNotification, SetLevelRequestMethod,
    SubscriptionFilter, Tool,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Changes of lists that a slow follower may be behind.
const BEHIND_MAX: usize = 16;

/// The handler of all requests.
#[derive(Clone)]
pub struct Fixture {
    /// Protects what a client carries from one round to the next.
    pub seal: Arc<Seal>,
    /// Tells who listens that a list has changed.
    pub changed: broadcast::Sender<ServerNotification>,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture { seal: Arc::new(Seal::fresh()), changed: broadcast::channel(BEHIND_MAX).0 }
    }
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = typed(json!({
            "tools": { "listChanged": true }, "prompts": { "listChanged": true },
            "resources": {}, "completions": {}, "logging": {},
        }));
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("quorate-conformance", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::list()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::list().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        tools::call(self, &request, &context).await
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::list()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let answers = Answers::new(request.input_responses.as_ref(), request.request_state.as_deref());
        prompts::get(&request.name, &request.arguments.unwrap_or_default(), &answers, &context)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        prompts::complete(&request.argument.value)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(resources::list()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&request.uri)
    }

    /// Takes any level: everything is said in any case, so that no request has to remember another one's.
    #[expect(deprecated, reason = "2026-07-28 has no such request, but 2025-11-25 is judged as well")]
    async fn set_level(
        &self,
        _: rmcp::model::SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if is_before_2026(&context) {
            Ok(())
        } else {
            Err(ErrorData::method_not_found::<SetLevelRequestMethod>())
        }
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changed.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => {
                    let Ok(change) = change else { return Ok(()) };
                    say(&context, change).await;
                }
            }
        }
    }
}
