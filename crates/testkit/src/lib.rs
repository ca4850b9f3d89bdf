//! What tests of several rooms share.

pub mod cluster;
pub mod handler;
pub mod ledger;
pub mod oracle;
pub mod postgres;
pub mod server;
pub mod verbs;
