//! Colours.
//!
//! Here live the few that are used and which state has which; whether they are shown, the screen decides.

/// A colour, or a weight, of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Good, done.
    Green,
    /// Under way.
    Blue,
    /// Needs a look, waits.
    Yellow,
    /// Wrong.
    Red,
    /// A hint.
    Cyan,
    /// Of no matter now.
    Dim,
    /// A heading.
    Bold,
    /// As it is.
    Plain,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Colour::Green => "32",
            Colour::Blue => "34",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Cyan => "36",
            Colour::Dim => "2",
            Colour::Bold => "1",
            Colour::Plain => "",
        }
    }
}

/// Paints a text for standard output, if that is coloured.
pub(crate) fn paint(colour: Colour, text: &str) -> String {
    paint_if(super::is_coloured(), colour, text)
}

/// Paints a text on a condition.
pub(crate) fn paint_if(is_coloured: bool, colour: Colour, text: &str) -> String {
    match (is_coloured, colour) {
        (false, _) | (_, Colour::Plain) => text.to_owned(),
        (true, colour) => format!("\u{1b}[{}m{text}\u{1b}[0m", colour.code()),
    }
}

/// Returns the colour of a state of a task, an agent, a run or an attempt.
pub(crate) fn of_state(state: &str) -> Colour {
    match state {
        "completed" => Colour::Green,
        "running" | "working" | "verifying" => Colour::Blue,
        "ready" => Colour::Cyan,
        "parked" | "paused" | "stuck" | "blocked" => Colour::Yellow,
        "failed" | "stale" | "timed_out" | "verify_failed" | "lost" => Colour::Red,
        "waiting" | "cancelled" | "idle" | "released" => Colour::Dim,
        _ => Colour::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_coloured_screen_gets_colours() {
        assert_eq!(paint_if(false, Colour::Red, "x"), "x");
        assert_eq!(paint_if(true, Colour::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(paint_if(true, Colour::Plain, "x"), "x");
    }
}
