//! The readers of models' services, which are private modules of `quorate-drivers`.

pub mod model;

#[path = "../../crates/drivers/src/api/chat.rs"]
mod chat;
#[path = "../../crates/drivers/src/api/gemini.rs"]
mod gemini;
#[path = "../../crates/drivers/src/api/messages.rs"]
mod messages;
#[path = "../../crates/drivers/src/api/responses.rs"]
mod responses;
#[path = "../../crates/drivers/src/api/sse.rs"]
mod sse;
#[path = "../../crates/drivers/src/api/talk.rs"]
mod talk;
