//! Small integers that must not be swapped.
//!
//! Here live the newtypes for ids, terms and places in the log. Nothing that makes them: the ledger does.

use std::fmt;

/// What was given for one of these is something else, such as a task's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANumber;

impl fmt::Display for NotANumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a whole number, as lists and events show it; names and keys are not taken here")
    }
}

impl std::error::Error for NotANumber {}

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
            type Err = NotANumber;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name).map_err(|_| NotANumber)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_told_in_words() {
        assert_eq!("12".parse(), Ok(TaskId(12)));
        for wrong in ["", "docs", "1.5", "9223372036854775808"] {
            let why = wrong.parse::<TaskId>().expect_err("no number").to_string();
            assert!(why.starts_with("expected a whole number"), "{why}");
        }
    }
}
