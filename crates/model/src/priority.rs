//! How urgent a task is.
//!
//! Here live the three priorities and their stored numbers. In which order tasks are taken, the ledger decides.

use crate::diagnostic::quote;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How urgent a task is. The smaller is taken first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// The usual.
    #[default]
    Medium,
    /// When nothing else is ready.
    Low,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Medium, Priority::Low];

    /// Returns the stable name, as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Medium => "medium",
            Priority::Low => "low",
        }
    }

    /// Returns the stored number: 0, 1 or 2.
    pub fn number(self) -> i64 {
        match self {
            Priority::High => 0,
            Priority::Medium => 1,
            Priority::Low => 2,
        }
    }

    /// Returns the priority of a stored number.
    pub fn from_number(number: i64) -> Option<Priority> {
        Priority::ALL.into_iter().find(|p| p.number() == number)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Priority> {
        Priority::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| {
            Error::invalid(format!("unknown priority {}", quote(text))).hint("write high, medium or low")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse(), Ok(priority));
            assert_eq!(Priority::from_number(priority.number()), Some(priority));
        }
        assert!(Priority::High < Priority::Low);
        assert!("urgent".parse::<Priority>().is_err());
        assert_eq!(Priority::from_number(3), None);
    }
}
