//! The real binary, driven as people and agents do: in a temporary folder, with a clean environment, on both
//! databases.
//!
//! Here live the tests of the door: words in, exit code and output out. What the operations do is tested in
//! `service`; a test here is about what one sees of it.

mod budgets;
mod claims;
mod claude;
mod claude_init;
mod consolidation;
mod demo;
mod doctor;
mod door;
mod drive;
mod events;
mod goals;
mod https;
mod many_machines;
mod mcp;
mod meaning;
mod memory;
mod messages;
mod outage;
mod private;
mod project;
mod runs;
mod serve;
mod tasks;
mod team;
mod telemetry;
mod tls;
mod tmux;
mod words;
mod work;
