//! What a person sees: how wide the screen is, and colour only where there is one.

use crate::model::untrusted::in_lines;
use std::io::IsTerminal;
use textwrap::core::Word;
use textwrap::{WordSeparator, WordSplitter};

/// The width where nobody says another, and the narrowest that is taken into account.
const USUAL_WIDTH: usize = 80;
const NARROWEST: usize = 40;

const GOOD: &str = "\x1b[32m";
const WARN: &str = "\x1b[33m";
const BAD: &str = "\x1b[31;1m";
const DIM: &str = "\x1b[2m";
const NAME: &str = "\x1b[1m";
const END: &str = "\x1b[0m";

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

    /// A screen without colour.
    #[cfg(test)]
    pub const fn plain(width: usize) -> Self {
        Screen {
            colour: false,
            width,
        }
    }

    /// Good news.
    pub fn good(self, text: &str) -> String {
        self.paint(GOOD, text)
    }

    /// What is on its way, or to be looked at.
    pub fn warn(self, text: &str) -> String {
        self.paint(WARN, text)
    }

    /// Bad news.
    pub fn bad(self, text: &str) -> String {
        self.paint(BAD, text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.paint(DIM, text)
    }

    /// A name.
    pub fn name(self, text: &str) -> String {
        self.paint(NAME, text)
    }

    /// All that is printed, as the last thing before it is: with these colours and without anything else that a
    /// terminal obeys, whoever wrote it.
    pub fn clean(self, text: &str) -> String {
        match self.colour {
            true => in_lines(text, &[GOOD, WARN, BAD, DIM, NAME, END]),
            false => in_lines(text, &[]),
        }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        match self.colour && !text.is_empty() {
            true => format!("{colour}{text}{END}"),
            false => text.to_owned(),
        }
    }

    /// What there is to say about something.
    pub fn about(self, name: &str, what: &str) -> String {
        self.fill(&label(name), what)
    }

    /// The same of bad news.
    pub fn shout(self, name: &str, what: &str) -> String {
        let plain = label(name);
        self.fill_behind(&plain, &plain.replacen(name, &self.bad(name), 1), what)
    }

    /// The same of what is to be looked at.
    pub fn warned(self, name: &str, what: &str) -> String {
        let plain = label(name);
        self.fill_behind(&plain, &plain.replacen(name, &self.warn(name), 1), what)
    }

    /// A command below what is said about something: it is copied as a whole, so it is not broken.
    pub fn to_copy(self, command: &str) -> String {
        format!("{}{command}\n", label(""))
    }

    /// The text in lines that are no longer than the screen is wide, the first after `first`, the
    /// others after as many blanks. `first` is not painted yet.
    pub fn fill(self, first: &str, text: &str) -> String {
        self.fill_behind(first, first, text)
    }

    /// The same behind something that is painted; `first` is how it looks without colour. Lists of buckets
    /// are broken behind a comma.
    pub fn fill_behind(self, first: &str, painted: &str, text: &str) -> String {
        let blanks = " ".repeat(first.chars().count());
        let options = textwrap::Options::new(self.width)
            .initial_indent(first)
            .subsequent_indent(&blanks)
            .word_separator(WordSeparator::Custom(words))
            .word_splitter(WordSplitter::NoHyphenation);
        let filled = textwrap::fill(text, options);
        let rest = filled.strip_prefix(first).unwrap_or(&filled);
        format!("{painted}{rest}\n")
    }
}

/// A name with room for what is said about it.
fn label(name: &str) -> String {
    format!("  {name:<9} ")
}

/// Words end with their blanks, or with a comma between numbers.
fn words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let bytes = line.as_bytes();
    let ends = (1..line.len()).filter(move |n| {
        let (before, here) = (bytes[n - 1], bytes[*n]);
        match before {
            b' ' => here != b' ',
            b',' => here.is_ascii_digit(),
            _ => false,
        }
    });
    let mut begin = 0;
    let pieces = ends.chain([line.len()]).map(move |end| {
        let piece = &line[begin..end];
        begin = end;
        Word::from(piece)
    });
    Box::new(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_buckets_are_broken_behind_a_comma() {
        let screen = Screen {
            colour: true,
            width: 16,
        };
        let filled = screen.fill_behind("  n1 ", "  N1 ", "3 of 9: 0,12-14,100");
        assert_eq!(filled, "  N1 3 of 9: 0,\n     12-14,100\n");
    }

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
        for colour in [colour, plain].map(screen) {
            let all = [colour.good("a"), colour.warn("b"), colour.bad("c")];
            let all = all.concat() + &colour.dim("d") + &colour.name("e") + "\n";
            assert_eq!(colour.clean(&all), all);
        }
        assert_eq!(screen(plain).clean("\x1b[1m"), r"\u{1b}[1m");
    }
}
