//! Traces and metrics for others' dashboards, over OTLP.
//!
//! Here lives the exporter: it follows the log and tells a collector what it read there, with the names of the GenAI
//! conventions of OpenTelemetry. Nothing else in the product knows of it: no code is instrumented, so nothing gets slower, and
//! what a trace shows is what the log holds. Off unless an endpoint is named.
//!
//! Of several nodes one exports, elected by lease like every duty.

mod export;
mod metric;
mod names;
mod post;
mod proto;
mod settings;
mod span;

pub use export::Exporter;
pub use settings::Settings;
