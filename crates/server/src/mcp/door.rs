//! The door over HTTP: whatever speaks MCP can stand behind it.
//!
//! Here lives how a request is taken and answered on the wire. A request stands by itself, in both specifications: there is
//! no session, so nothing is asked of a client in the middle of a call, and any node answers any request. An answer is JSON;
//! one that has news before it (progress) is a stream. Who calls, `guard` has found out before; names of hosts and origins
//! are its business, too.

use crate::body::BODY_MAX;
use axum::Router;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::sync::Arc;

/// Where the door is.
const PATH: &str = "/mcp";

/// Returns the door of a handler.
pub(crate) fn routes(handler: impl ServerHandler + Clone) -> Router {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(BODY_MAX)
        .disable_allowed_hosts();
    let each = move || Ok(handler.clone());
    let service = StreamableHttpService::new(each, Arc::new(NeverSessionManager::default()), config);
    Router::new().route_service(PATH, service)
}
