//! What tests of several rooms share.

pub mod bouncer;
pub mod cluster;
pub mod embeddings;
pub mod handler;
pub mod ledger;
pub mod model;
pub mod oracle;
pub mod plot;
pub mod postgres;
pub mod proxy;
pub mod server;
pub mod tls;
pub mod verbs;
