//! The only room that knows a database.
//!
//! Here live the connection ([`Store`]), the transaction that runs one text of SQL on either database ([`Tx`]),
//! the log's place-giving, the clock that leases count, migrations and wake-ups. No noun but *event* and *lease*
//! is known here: what a task is lives in `service`.
//!
//! The seam is the statement, not the operation. An operation is a value that implements [`Write`] or [`Read`];
//! the store begins a transaction, calls `apply`, writes the buffered events and commits. An operation that
//! returns an error changes nothing.

mod arg;
mod asked;
mod changes;
mod clock;
mod copy;
mod lane;
mod line;
mod lite;
mod migrate;
mod pg;
mod pooler;
mod row;
mod slots;
mod store;
mod tls;
mod tx;
mod url;
mod vector;

pub use arg::Arg;
pub use changes::Changes;
pub use clock::Clock;
pub use lane::{Merge, Together};
pub use lite::private_folder;
pub use migrate::{Migration, Schema};
pub use row::Row;
pub use store::{Boxed, Options, Read, Store, Write};
pub use tx::{Dialect, Sql, Tx};
pub use url::Url;
