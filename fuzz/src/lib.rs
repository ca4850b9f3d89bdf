//! What must hold for any input, one module for each fuzz target.
//!
//! Here live the properties, each as `check(bytes)`, which panics where one is broken. The same modules are compiled
//! into the ordinary tests of the crates they judge, which replay `corpus-seed` and `fixtures` (the inputs that
//! once failed). The targets in `fuzz_targets` only pass bytes on.
//!
//! A child's output is read by private modules of `quorate-process`; they are compiled in here by their paths, so
//! that nothing has to be public for the sake of fuzzing.

pub mod config;
mod finding;
pub mod json;
pub mod output;
pub mod plan;
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
