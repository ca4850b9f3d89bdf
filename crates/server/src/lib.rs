//! Doors over the network: HTTP, and the log as it grows.
//!
//! ```text
//! listen ── serve ── guard ── body ─┬─ http ── one file per noun ─┬─ desk ── service
//!                                   │   └─ openapi (made of the same operations)
//!                                   └─ mcp  ── one file per noun ─┘
//! ```
//!
//! A door reads a request once, gives it to the [`Desk`], and shows the answer. No rules live here, and no SQL.

mod ask;
mod body;
mod caller;
mod clock;
mod desk;
mod grammar;
mod guard;
mod http;
mod listen;
mod mcp;
mod metrics;
mod openapi;
mod peer;
mod problem;
mod serve;
mod tail;

pub use caller::Caller;
pub use desk::{
    CLAIM_MS, Consolidating, Desk, Doctor, ModelUsage, Pause, Recalled, Watch, claimable, resource, resources,
};
pub use listen::{Server, ServerOptions};
pub use mcp::{Mcp, Namer};
pub use tail::{Follower, Tail};

/// Returns the OpenAPI document of the HTTP door.
pub fn openapi() -> serde_json::Value {
    http::document()
}
