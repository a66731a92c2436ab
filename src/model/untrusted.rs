//! Text that somebody else wrote: Pacemaker's configuration, an environment, arguments, names in the kernel. It
//! is printed by what stands here, and by nothing else. Pure.
//!
//! *Shown*, it has no character that a terminal obeys or that nobody sees: those are written as `\n` or
//! `\u{202e}`. Letters of every script stay as they are. A backslash stays one, so that what is shown already can
//! be shown again; the form is for reading, and is never read back.
//!
//! *Quoted*, it is a word that a POSIX shell takes for exactly that text. What cannot be shown is not quoted
//! either: whoever copies a command must be able to see what it says, and `$'…'`, which could write it, is no word
//! of dash. Where there is no quoted form no command is printed, but why.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// Why no command is printed with a name in it that has no quoted form.
pub const NOT_QUOTED: &str = "its name cannot be shown as it is, so there is no command to copy";

/// As many characters of a text are shown. What is longer loses some of its middle: names of nodes differ at
/// their ends, and errors of a parser have the place there.
const LONGEST: usize = 64;
/// So many of them are the end.
const END: usize = 23;
/// What stands for the rest.
const ELLIPSIS: char = '…';
/// The longest name that a file has (`NAME_MAX`); no namespace, node or resource has a longer one that is to be
/// copied.
const LONGEST_WORD: usize = 255;

/// What the standard library's table takes for visible and nobody sees: fillers, variation selectors, an empty
/// Braille cell (Unicode's `Default_Ignorable_Code_Point`, as far as those are letters or marks).
const UNSEEN: [(char, char); 9] = [
    ('\u{34f}', '\u{34f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{e0100}', '\u{e01ef}'),
];

/// Text that somebody else wrote. Its `Display` is what is shown; whoever needs the text itself, to compare it or
/// to open a file, has to say so. Programs get the text itself, by a writer of JSON that escapes it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Untrusted(String);

impl Untrusted {
    /// The text itself, which is not to be printed.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Reads what it means.
    ///
    /// # Errors
    /// Those of the type.
    pub fn parse<T: FromStr>(&self) -> Result<T, T::Err> {
        self.0.parse()
    }

    /// As a word for a shell; `None` if it cannot be shown as it is.
    pub fn quoted(&self) -> Option<String> {
        quoted(&self.0)
    }
}

impl<T: Into<String>> From<T> for Untrusted {
    fn from(text: T) -> Self {
        Untrusted(text.into())
    }
}

impl Borrow<str> for Untrusted {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&shown(&self.0))
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl serde::Serialize for Untrusted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Untrusted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Untrusted)
    }
}

/// The text as it is shown, in no more than 64 characters.
pub fn shown(text: &str) -> String {
    let whole: usize = signs(text).take(LONGEST + 1).map(|sign| sign.len()).sum();
    if whole <= LONGEST {
        return signs(text).map(|sign| sign.to_string()).collect();
    }
    let up_to = |room: usize| {
        let mut used = 0;
        move |sign: &Sign| {
            used += sign.len();
            used <= room
        }
    };
    let begin = signs(text).take_while(up_to(LONGEST - END - 1));
    let mut shown: String = begin.map(|sign| sign.to_string()).collect();
    shown.push(ELLIPSIS);
    let end: Vec<Sign> = signs(text).rev().take_while(up_to(END)).collect();
    shown.extend(end.iter().rev().map(Sign::to_string));
    shown
}

/// A sentence with whatever is in it, shown, of any length: one line. The last net before a log.
pub fn in_one_line(text: &str) -> String {
    signs(text).map(|sign| sign.to_string()).collect()
}

/// Lines of which none has a character that a terminal obeys, but for the colours that begin with an escape and
/// such a code. The last net before a screen.
pub fn in_lines(text: &str, colours: &[&str]) -> String {
    let colour = |rest: &str| {
        let found = colours.iter().find(|code| rest.starts_with(**code));
        found.map_or(0, |code| code.len())
    };
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let whole = colour(rest).max(match c {
            '\n' | '\t' => 1,
            _ => 0,
        });
        match whole {
            0 if is_visible(c) => clean.push(c),
            0 => clean.extend(c.escape_default()),
            whole => clean += &rest[..whole],
        }
        rest = &rest[whole.max(c.len_utf8())..];
    }
    clean
}

/// The text as a word for a POSIX shell, between quotes where it needs them; `None` if it cannot be shown as it is,
/// or is longer than any name.
pub fn quoted(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+:,./-".contains(c);
    match in_one_line(text) == text && text.len() <= LONGEST_WORD {
        false => None,
        true if !text.is_empty() && text.chars().all(plain) => Some(text.to_owned()),
        true => Some(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// Does everybody see this character, and does no terminal obey it? Not so control characters, those that turn the
/// direction of a line or join and part letters, separators but the blank, and what is private or not assigned.
pub fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The table behind `Debug` is the standard library's own. A mark counts as visible behind a letter.
    let behind_a_letter = String::from_iter(['x', c]);
    let unseen = UNSEEN.iter().any(|(from, to)| (*from..=*to).contains(&c));
    !unseen && behind_a_letter.escape_debug().nth(1) == Some(c)
}

/// A character as it is shown.
enum Sign {
    Itself(char),
    Escaped(char),
}

impl Sign {
    fn len(&self) -> usize {
        match self {
            Sign::Itself(_) => 1,
            Sign::Escaped(c) => c.escape_default().len(),
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::Itself(c) => write!(f, "{c}"),
            Sign::Escaped(c) => write!(f, "{}", c.escape_default()),
        }
    }
}

/// The characters of a text as they are shown. A mark with which it begins would change what stands before it.
fn signs(text: &str) -> impl DoubleEndedIterator<Item = Sign> {
    text.char_indices().map(|(at, c)| {
        let stands_alone = at > 0 || c.is_ascii() || c.escape_debug().next() == Some(c);
        match is_visible(c) && stands_alone {
            true => Sign::Itself(c),
            false => Sign::Escaped(c),
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// What must never come out, by Unicode's own ranges: controls, separators, directions, what has no width.
    const FORBIDDEN: [(char, char); 22] = [
        ('\u{0}', '\u{1f}'),
        ('\u{7f}', '\u{9f}'),
        ('\u{ad}', '\u{ad}'),
        ('\u{34f}', '\u{34f}'),
        ('\u{61c}', '\u{61c}'),
        ('\u{115f}', '\u{1160}'),
        ('\u{17b4}', '\u{17b5}'),
        ('\u{180b}', '\u{180f}'),
        ('\u{200b}', '\u{200f}'),
        ('\u{2028}', '\u{202e}'),
        ('\u{2060}', '\u{206f}'),
        ('\u{2800}', '\u{2800}'),
        ('\u{3164}', '\u{3164}'),
        ('\u{e000}', '\u{f8ff}'),
        ('\u{fdd0}', '\u{fdef}'),
        ('\u{fe00}', '\u{fe0f}'),
        ('\u{feff}', '\u{feff}'),
        ('\u{ffa0}', '\u{ffa0}'),
        ('\u{fff0}', '\u{fffb}'),
        ('\u{1d173}', '\u{1d17a}'),
        ('\u{e0000}', '\u{e0fff}'),
        ('\u{f0000}', '\u{10ffff}'),
    ];

    fn is_forbidden(c: char) -> bool {
        FORBIDDEN
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&c))
    }

    /// The first character that nobody may print.
    pub(crate) fn forbidden_in(text: &str) -> Option<char> {
        text.chars().find(|c| is_forbidden(*c))
    }

    /// A name that writes lines of its own, colours them, turns them round and ends quotes.
    pub(crate) const NASTY: &str = "web'\n\u{9b}31m\u{1b}[2J\u{202e}\"; reboot\u{200b}";

    fn any_text() -> impl Strategy<Value = String> {
        let bad = any::<prop::sample::Index>().prop_map(|n| {
            let all: Vec<char> = FORBIDDEN.iter().flat_map(|(a, b)| [*a, *b]).collect();
            all[n.index(all.len())]
        });
        let quote = prop::sample::select(vec!['\'', '"', '\\', '$', '`', ' ', '!', '-', '~']);
        let c = prop_oneof![any::<char>(), bad, quote, prop::char::range(' ', '~')];
        prop::collection::vec(c, 0..120).prop_map(String::from_iter)
    }

    /// What a shell makes of a word.
    fn by_a_shell(word: &str) -> String {
        let script = format!("printf %s {word}");
        let output = Command::new("/bin/sh").args(["-c", &script]).output();
        String::from_utf8(output.expect("a shell").stdout).expect("text")
    }

    proptest! {
        #[test]
        fn nothing_that_is_shown_is_obeyed_or_unseen(text in any_text()) {
            for out in [shown(&text), in_one_line(&text), Untrusted::from(&*text).to_string()] {
                prop_assert_eq!(forbidden_in(&out), None, "{:?}", out);
                prop_assert_eq!(&in_one_line(&out), &out, "shown twice");
            }
            let lines = in_lines(&text, &[]);
            let others = lines.replace(['\n', '\t'], "");
            prop_assert_eq!(forbidden_in(&others), None, "{:?}", lines);
            prop_assert!(shown(&text).chars().count() <= LONGEST);
        }

        #[test]
        fn what_is_quoted_is_one_word_and_the_same(text in any_text()) {
            match quoted(&text) {
                None => prop_assert!(in_one_line(&text) != text || text.len() > LONGEST_WORD),
                Some(word) => {
                    prop_assert_eq!(forbidden_in(&word), None);
                    prop_assert_eq!(by_a_shell(&word), text);
                }
            }
        }

        #[test]
        fn ordinary_names_are_shown_as_they_are(text in "[ -~]{0,64}") {
            prop_assert_eq!(shown(&text), text);
        }
    }

    #[test]
    fn every_forbidden_character_is_escaped() {
        let all = FORBIDDEN.iter().flat_map(|(from, to)| *from..=*to);
        let visible: Vec<char> = all.filter(|c| is_visible(*c)).collect();
        assert_eq!(visible, []);
    }

    #[test]
    fn letters_of_every_script_stay_and_what_a_terminal_obeys_does_not() {
        for text in [
            "Bücher",
            "узел-1",
            "節点",
            "नोड",
            "ノード1",
            "עלה",
            "e\u{301}",
            "a\\b",
            "🦀",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(
            shown(NASTY),
            r#"web'\n\u{9b}31m\u{1b}[2J\u{202e}"; reboot\u{200b}"#
        );
        // It would stand on the quote before it.
        assert_eq!(shown("\u{301}e"), r"\u{301}e");
        assert_eq!(format!("{:<6}|", Untrusted::from("n1")), "n1    |");
        assert_eq!(format!("{:?}", Untrusted::from("a\nb")), r#""a\nb""#);
    }

    #[test]
    fn what_is_too_long_loses_its_middle() {
        assert_eq!(shown(&"x".repeat(64)), "x".repeat(64));
        let long = shown(&("a".repeat(1000) + &"z".repeat(23)));
        assert_eq!(long, format!("{}…{}", "a".repeat(40), "z".repeat(23)));
        // No escape is cut in two.
        let turns = shown(&"\u{202e}".repeat(50));
        let (begin, end) = turns.split_once('…').expect("an ellipsis");
        for part in [begin, end] {
            assert_eq!(part.replace("\\u{202e}", ""), "");
        }
    }

    #[test]
    fn what_needs_no_quotes_has_none_and_what_cannot_be_seen_is_not_quoted() {
        for (text, word) in [
            ("web-1", Some("web-1")),
            ("", Some("''")),
            ("a b", Some("'a b'")),
            ("a;b$(c)", Some("'a;b$(c)'")),
            ("it's", Some(r"'it'\''s'")),
            ("~root", Some("'~root'")),
            ("узел", Some("'узел'")),
            (NASTY, None),
            ("a\u{202e}b", None),
            ("\u{301}a", None),
        ] {
            assert_eq!(quoted(text).as_deref(), word, "{text:?}");
        }
        assert_eq!(quoted(&"x".repeat(256)), None);
    }

    #[test]
    fn a_screen_has_its_own_colours_and_no_others() {
        let colours = ["\u{1b}[1m", "\u{1b}[0m"];
        let text = "\u{1b}[1mn1\u{1b}[0m\n\ta\u{1b}[2Jb\u{202e}\r";
        assert_eq!(
            in_lines(text, &colours),
            "\u{1b}[1mn1\u{1b}[0m\n\ta\\u{1b}[2Jb\\u{202e}\\r"
        );
    }
}
