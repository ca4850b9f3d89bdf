//! What must hold for any input, one module for each fuzz target.
//!
//! Here live the properties, each as `check(bytes)`, which panics where one is broken. The same modules are compiled
//! into the ordinary tests of the crates they judge, which replay `corpus-seed` and `fixtures` (the inputs that
//! once failed). The targets in `fuzz_targets` only pass bytes on.
//!
//! A child's output is read by private modules of `quorate-process`, what models' services send by those of
//! `quorate-drivers`, Claude Code's files by one of `quorate`; they are compiled in here by their paths, so that nothing
//! has to be public for the sake of fuzzing.

pub mod answer;
#[allow(dead_code, reason = "only what the targets reach is used")]
pub mod api;
#[allow(dead_code, reason = "only what the targets reach is used")]
pub mod claude;
pub mod config;
mod finding;
pub mod json;
pub mod output;
pub mod plan;
#[cfg(test)]
mod replay;
pub mod resource;
pub mod stream;

#[allow(dead_code, reason = "only what the targets reach is used")]
#[path = "../../crates/process/src/keep.rs"]
mod keep;
#[allow(dead_code, reason = "only what the targets reach is used")]
#[path = "../../crates/process/src/lines.rs"]
mod lines;
#[allow(dead_code, reason = "only what the targets reach is used")]
#[path = "../../crates/process/src/log.rs"]
mod log;
#[allow(dead_code, reason = "only what the targets reach is used")]
#[path = "../../crates/process/src/mask.rs"]
mod mask;
#[allow(dead_code, reason = "only what the targets reach is used")]
#[path = "../../crates/process/src/message.rs"]
mod message;
#[allow(dead_code, reason = "only what the targets reach is used")]
#[path = "../../crates/process/src/tail.rs"]
mod tail;

/// As in `quorate-drivers`, whose modules name it.
mod settings {
    pub use quorate_drivers::Settings;
}
#[allow(dead_code, reason = "only what the targets reach is used")]
#[path = "../../crates/drivers/src/usage.rs"]
mod usage;
