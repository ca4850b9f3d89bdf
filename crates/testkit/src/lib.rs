//! What tests of several rooms share.

pub mod cluster;
pub mod ledger;
pub mod postgres;
pub mod verbs;
