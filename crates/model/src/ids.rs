//! Small integers that must not be swapped.
//!
//! Here live the newtypes for ids, terms and places in the log. Nothing that makes them: the ledger does.

use std::fmt;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }
    )*};
}

id! {
    /// A task.
    TaskId,
    /// A run.
    RunId,
    /// A message.
    MessageId,
    /// A memory.
    MemoryId,
    /// A saved state.
    CheckpointId,
    /// Which holding of a lease it is. Grows at every change of owner and never goes back.
    Term,
    /// A place in the log; grows in the order in which facts became visible.
    Seq,
}
