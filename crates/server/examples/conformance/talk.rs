//! What is said before an answer: progress and log lines of a call, and changes of lists to who listens for them.
//!
//! Each is part of the answer to the request that asked for it; nobody keeps a session to say it in.

use crate::content::typed;
use rmcp::model::{ProgressNotificationParam, ProtocolVersion, ServerNotification};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use serde_json::{Value, json};
use std::time::Duration;

/// Between two words of a call.
const PAUSE: Duration = Duration::from_millis(20);
/// Where a request of 2026-07-28 says that it wants log lines.
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// Tells whether a request speaks a specification that knows sessions.
pub fn is_before_2026(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_none_or(|version| version.as_str() < ProtocolVersion::V_2026_07_28.as_str())
}

/// Says three times how far a call is, if the request wants to hear it.
pub async fn progress(context: &RequestContext<RoleServer>) {
    for percent in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, percent).with_total(100.0);
            // Who hears nothing any more has hung up.
            let _ = context.peer.notify_progress(progress).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes three log lines, if the request wants them: 2025-11-25 need not ask.
pub async fn log(context: &RequestContext<RoleServer>) {
    if !is_before_2026(context) && context.meta.get(LOG_LEVEL).is_none_or(Value::is_null) {
        return;
    }
    for line in ["the call begins", "the call goes on", "the call ends"] {
        let params = json!({ "level": "info", "logger": "fixture", "data": line });
        let line = typed(json!({ "method": "notifications/message", "params": params }));
        let _ = context.peer.send_notification(line).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tells a listener of a change; one that he did not ask for, the library keeps back.
pub async fn say(context: &SubscriptionContext, change: ServerNotification) {
    let _ = context.sink().send(change).await;
}
