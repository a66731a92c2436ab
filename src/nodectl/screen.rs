//! What a person sees: how wide the screen is, and colour only where there is one.

use std::io::IsTerminal;

/// The width where nobody says another, and the narrowest that is taken into account.
const USUAL_WIDTH: usize = 80;
const NARROWEST: usize = 40;

/// Paints words, or leaves them as they are, and knows how many columns there are.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    colour: bool,
    /// The number of columns.
    pub width: usize,
}

impl Screen {
    /// Colour on a terminal, unless `NO_COLOR` is set to something (<https://no-color.org>); as wide as
    /// `COLUMNS` says, or else the terminal, or else 80 columns.
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let told = std::env::var("COLUMNS").ok();
        let told = told.and_then(|columns| columns.parse().ok());
        let found = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Screen {
            colour: std::io::stdout().is_terminal() && !refused,
            width: told.or_else(found).unwrap_or(USUAL_WIDTH).max(NARROWEST),
        }
    }

    /// Good news.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What is on its way, or to be looked at.
    pub fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Bad news.
    pub fn bad(self, text: &str) -> String {
        self.paint("31;1", text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// A name.
    pub fn name(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.colour && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// The text in lines that are no longer than the screen is wide, the first after `first`, the
    /// others after as many blanks. `first` is not painted yet.
    pub fn fill(self, first: &str, text: &str) -> String {
        let blanks = " ".repeat(first.chars().count());
        let options = textwrap::Options::new(self.width)
            .initial_indent(first)
            .subsequent_indent(&blanks);
        textwrap::fill(text, options) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_filled_behind_what_it_is_about() {
        let screen = Screen {
            colour: false,
            width: 20,
        };
        let filled = screen.fill("  mac  ", "a b c d e f g h i");
        assert_eq!(filled, "  mac  a b c d e f g\n       h i\n");
    }

    #[test]
    fn nothing_is_painted_where_there_is_no_colour() {
        let (plain, colour) = (false, true);
        let screen = |colour| Screen { colour, width: 80 };
        assert_eq!(screen(plain).bad("x"), "x");
        assert_eq!(screen(colour).bad("x"), "\x1b[31;1mx\x1b[0m");
        assert_eq!(screen(colour).bad(""), "");
    }
}
