//! What is said about the command line itself: a word of welcome, and what is wrong with the words that were typed.
//!
//! Clap finds the mistakes; here they get the form that all errors have, as JSON where that was asked for.

use crate::print;
use clap::error::ErrorKind;
use quorate_model::{Error, Result};
use std::process::ExitCode;

/// Greets someone who typed nothing.
pub(crate) fn welcome() -> Result<u8> {
    let bold = |text| print::style::paint(print::style::Colour::Bold, text);
    let text = format!(
        "{name} coordinates a team of agents, commands and people through one ledger.

  {demo}        watch the promises hold, in a minute, offline
  {run}    do a plan's tasks side by side, safely
  {status}      one look at agents, tasks and runs

`quorate help` lists all commands, `quorate help COMMAND` shows examples.\n",
        name = bold(&format!("quorate {}", env!("CARGO_PKG_VERSION"))),
        demo = bold("quorate demo"),
        run = bold("quorate run PLAN"),
        status = bold("quorate status"),
    );
    print::text(&text);
    Ok(0)
}

/// Shows help, or what is wrong with the command line.
pub(crate) fn explain(error: &clap::Error, json: bool) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print::set_up(false, false);
            let text = error.render();
            print::text(&if print::is_coloured() { text.ansi().to_string() } else { text.to_string() });
            print::finish(Ok(0))
        }
        _ if json => {
            print::set_up(true, true);
            print::finish(Err(in_our_words(error.kind(), &error.render().to_string())))
        }
        // Clap's own form shows the usage of the command, which helps a person more than ours.
        _ => {
            let _ = error.print();
            ExitCode::from(2)
        }
    }
}

/// Takes clap's text apart: what is wrong, and the tip or the usage as the hint. Where a command is missing, the text is help.
fn in_our_words(kind: ErrorKind, text: &str) -> Error {
    let said = text.strip_prefix("error: ").unwrap_or(text);
    let blocks: Vec<&str> = said.split("\n\n").map(str::trim).filter(|block| !block.is_empty()).collect();
    let is_aside =
        |block: &&&str| ["tip:", "Usage:", "For more information"].iter().any(|mark| block.starts_with(mark));
    let message: Vec<String> =
        blocks.iter().filter(|block| !is_aside(block)).map(|block| print::one_line(block)).collect();
    let find = |mark: &str| blocks.iter().find_map(|block| block.strip_prefix(mark)).map(print::one_line);
    let usage = find("Usage:").map(|usage| format!("usage: {usage}"));
    let hint = find("tip:").or(usage).unwrap_or_else(|| "`quorate help` lists all commands".into());
    let is_help = kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    let wrong = message.into_iter().next().filter(|_| !is_help);
    Error::invalid(wrong.unwrap_or_else(|| "a command is missing".into())).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn all_commands(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
        visit(path, command);
        for sub in command.get_subcommands() {
            all_commands(sub, &format!("{path} {}", sub.get_name()), visit);
        }
    }

    #[test]
    fn the_command_tree_is_sound() {
        args::tree().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        all_commands(&args::tree(), "quorate", &mut |path, command| {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:\n"), "{path}");
            assert!(command.get_about().is_some(), "{path}");
        });
    }

    /// Help is broken into lines at the width of the terminal: a break of our own in a sentence would stand beside that.
    #[test]
    fn a_sentence_in_help_is_one_line() {
        all_commands(&args::tree(), "quorate", &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = help.lines().collect();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
            for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| is_prose(line))) {
                assert!(pair[0].ends_with('.'), "{path}: `{}` goes on in the next line", pair[0]);
            }
        });
    }

    #[test]
    fn examples_in_help_can_be_typed() {
        let mut typed = 0;
        all_commands(&args::tree(), "quorate", &mut |_, command| {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in examples.lines().filter_map(|line| line.strip_prefix("  quorate ")) {
                let words = shell_words(&format!("quorate {line}"));
                let words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
                if let Err(error) = args::read(&words) {
                    panic!("{line}: {error}");
                }
                typed += 1;
            }
        });
        assert!(typed > 60, "{typed}");
    }

    /// Splits as a shell does, up to the first pipe, redirection or remark.
    fn shell_words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
                (Some(q), c) if c == q => quote = None,
                (Some(_), c) => word.get_or_insert_default().push(c),
                (None, '"' | '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '|' | '>') => break,
                // Words behind a wide gap explain the example.
                (None, ' ') if chars.peek() == Some(&' ') => break,
                (None, ' ') => words.extend(word.take()),
                (None, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn a_mistake_is_told_with_what_mends_it() {
        let error = in_our_words(
            ErrorKind::InvalidSubcommand,
            "error: unrecognized subcommand 'statsu'\n\n  tip: a similar subcommand exists: 'status'\n\nUsage: quorate\n",
        );
        assert_eq!(error.message, "unrecognized subcommand 'statsu'");
        assert_eq!(error.hint.as_deref(), Some("a similar subcommand exists: 'status'"));
        assert_eq!(in_our_words(ErrorKind::MissingSubcommand, "").message, "a command is missing");
    }
}
