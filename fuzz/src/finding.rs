//! What must hold for everything that is told about a file.

use quorate_model::Error;
use quorate_model::diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS};

/// The longest report, in bytes: findings are bounded, and so is each of them.
const REPORT_MAX: usize = 1 << 20;

/// Checks that findings are some, bounded, in order, and each has its place in the file.
pub fn check(found: &Diagnostics, file: &str, bytes: &[u8]) {
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!((1..=MAX_DIAGNOSTICS).contains(&found.list.len()), "{} findings", found.list.len());
    assert!(found.hidden == 0 || found.list.len() == MAX_DIAGNOSTICS);
    found.list.iter().for_each(|finding| check_one(finding, file, lines));
    let report = found.to_string();
    assert!(report.len() <= REPORT_MAX, "a report of {} bytes", report.len());
    assert!(!Error::from(found.clone()).message.is_empty());
}

fn check_one(finding: &Diagnostic, file: &str, lines: usize) {
    assert_eq!(finding.file, file);
    assert!((1..=lines).contains(&finding.line), "line {} of {lines}: {finding}", finding.line);
    assert!(finding.column >= 1 && !finding.message.is_empty(), "{finding:?}");
    assert!(finding.caret.start < finding.caret.end, "{finding:?}");
    assert!(finding.caret.end <= finding.source_line.chars().count() + 1, "{finding:?}");
    for text in [&finding.source_line, &finding.message].into_iter().chain(&finding.help) {
        assert!(
            !text.chars().any(char::is_control),
            "control characters would reach the terminal: {finding:?}"
        );
    }
}
