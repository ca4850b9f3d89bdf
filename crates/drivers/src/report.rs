//! What the end of a child says about the attempt.
//!
//! Here lives the one reading of an exit: done, failed, timed out, died, or stopped by us.

use quorate_model::usage::Parked;
use quorate_process::{Exit, ExitKind};

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The child says it is done; with its result, a JSON text.
    Done {
        /// The last result it gave.
        result: Option<String>,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: String,
    },
    /// It cannot go on before some time.
    Parked(Parked),
    /// It was stopped at its timeout.
    TimedOut {
        /// In words.
        reason: String,
    },
    /// It was ended by a signal that was not ours.
    Died {
        /// In words.
        reason: String,
    },
    /// We stopped it.
    Stopped {
        /// Why we did.
        reason: String,
    },
}

/// Reads the end of an attempt's child.
pub fn report(exit: &Exit) -> Report {
    let reason = in_words(exit);
    if let (ExitKind::Exited(_), Some(parked)) = (&exit.kind, &exit.parked) {
        return Report::Parked(parked.clone());
    }
    match &exit.kind {
        // What was not read may have been its result: it is not done without it.
        ExitKind::Exited(0) if exit.read_error.is_none() => {
            Report::Done { result: exit.result.as_ref().map(ToString::to_string) }
        }
        ExitKind::Exited(_) => Report::Failed { reason },
        ExitKind::Signalled(_) => Report::Died { reason },
        ExitKind::TimedOut => Report::TimedOut { reason },
        ExitKind::Stopped(why) => Report::Stopped { reason: why.clone() },
    }
}

/// Reads the end of a check: `None` if it passed, else why not.
pub fn report_check(exit: &Exit) -> Option<String> {
    (!exit.is_success()).then(|| format!("the check {}", in_words(exit)))
}

fn in_words(exit: &Exit) -> String {
    let mut words = exit.kind.to_string();
    if exit.kind == ExitKind::TimedOut {
        words = format!("{words} after {} ms", exit.duration_ms);
    }
    if let (ExitKind::Exited(_), Some(last)) = (&exit.kind, last_words(&exit.tail)) {
        words = format!("{words}: {last}");
    }
    if exit.out_of_memory {
        words.push_str(", at its memory limit");
    }
    if exit.survivors > 0 {
        words = format!("{words}; {} processes could not be ended", exit.survivors);
    }
    if let Some(why) = &exit.read_error {
        words = format!("{words}; {why}");
    }
    // Whoever looks for more in the log is to know that it is not there.
    if let Some(why) = &exit.log_error {
        words = format!("{words}; its log is not whole: {why}");
    }
    words
}

/// The longest last line that is told as the reason, in characters.
const LAST_WORDS_MAX: usize = 160;

/// The last line of output: programs end with why they failed.
fn last_words(tail: &str) -> Option<String> {
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let cut: String = line.chars().take(LAST_WORDS_MAX).collect();
    Some(if cut.len() < line.len() { format!("{cut}…") } else { cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(kind: ExitKind) -> Exit {
        Exit {
            kind,
            tail: String::new(),
            result: Some(serde_json::json!({ "n": 1 })),
            used: Vec::new(),
            parked: None,
            leaked: 0,
            survivors: 0,
            duration_ms: 1_500,
            log_bytes: 0,
            dropped_bytes: 0,
            log_error: None,
            read_error: None,
            out_of_memory: false,
        }
    }

    #[test]
    fn each_end_has_its_report() {
        let check = |kind, expected| assert_eq!(report(&exit(kind)), expected);
        check(ExitKind::Exited(0), Report::Done { result: Some("{\"n\":1}".into()) });
        check(ExitKind::Exited(3), Report::Failed { reason: "exited with code 3".into() });
        check(ExitKind::Signalled(9), Report::Died { reason: "was ended by signal 9 (SIGKILL)".into() });
        check(
            ExitKind::TimedOut,
            Report::TimedOut { reason: "was stopped at its timeout after 1500 ms".into() },
        );
        check(ExitKind::Stopped("x".into()), Report::Stopped { reason: "x".into() });
    }

    #[test]
    fn whoever_says_that_he_cannot_go_on_is_parked_however_he_exits() {
        let parked = Parked { reason: "rate limit".into(), until_ms: Some(7), after_ms: None };
        let said = |kind| Exit { parked: Some(parked.clone()), ..exit(kind) };
        assert_eq!(report(&said(ExitKind::Exited(0))), Report::Parked(parked.clone()));
        assert_eq!(report(&said(ExitKind::Exited(1))), Report::Parked(parked.clone()));
        assert!(matches!(report(&said(ExitKind::TimedOut)), Report::TimedOut { .. }));
        assert!(matches!(report(&said(ExitKind::Signalled(9))), Report::Died { .. }));
    }

    #[test]
    fn the_last_line_of_output_tells_why_it_failed() {
        let failed = Exit { tail: "compiling\nerror: no such file\n\n".into(), ..exit(ExitKind::Exited(1)) };
        assert_eq!(
            report(&failed),
            Report::Failed { reason: "exited with code 1: error: no such file".into() }
        );
        let long = Exit { tail: "x".repeat(500), ..exit(ExitKind::Exited(1)) };
        let Report::Failed { reason } = report(&long) else { panic!("it failed") };
        assert!(reason.ends_with("x…") && reason.chars().count() < 200, "{reason}");
    }

    #[test]
    fn one_whose_output_was_not_read_is_not_done() {
        let unread =
            Exit { read_error: Some("its output could not be read".into()), ..exit(ExitKind::Exited(0)) };
        let reason = "exited with code 0; its output could not be read";
        assert_eq!(report(&unread), Report::Failed { reason: reason.into() });
        assert_eq!(report_check(&unread), Some(format!("the check {reason}")));
        assert!(!unread.is_success());
    }

    #[test]
    fn a_log_that_is_not_whole_is_told_where_it_is_needed() {
        let full = |kind| Exit { log_error: Some("No space left".into()), ..exit(kind) };
        let reason = "exited with code 1; its log is not whole: No space left";
        assert_eq!(report(&full(ExitKind::Exited(1))), Report::Failed { reason: reason.into() });
        assert!(matches!(report(&full(ExitKind::Exited(0))), Report::Done { .. }), "it has done its work");
    }

    #[test]
    fn a_check_passes_only_with_code_0() {
        assert_eq!(report_check(&exit(ExitKind::Exited(0))), None);
        assert_eq!(report_check(&exit(ExitKind::Exited(1))).as_deref(), Some("the check exited with code 1"));
        assert!(report_check(&exit(ExitKind::Signalled(11))).is_some());
    }
}
