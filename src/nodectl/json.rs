//! The one writer of JSON: what programs read stands in a terminal, too.
//!
//! JSON asks for no more than the escape of C0's control characters. Here everything is escaped that is not
//! visible, as `\u202e`: the values are the same, and the document is a line that no terminal obeys.

use super::failure::{Failure, REFUSED};
use crate::model::untrusted::is_visible;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// The version of everything that `--json` prints. It changes only when something is taken away or
/// means something else.
pub const SCHEMA: u32 = 1;

/// One JSON document, for programs.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let mut document = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut document, Visible));
    written.map_err(|error| Failure::new(REFUSED, error))?;
    document.push(b'\n');
    String::from_utf8(document).map_err(|error| Failure::new(REFUSED, error))
}

/// Compact, and of visible characters alone.
struct Visible;

impl Formatter for Visible {
    /// A part of a string without what JSON itself wants escaped.
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        to: &mut W,
        part: &str,
    ) -> io::Result<()> {
        let mut rest = part;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, c)| !is_visible(*c)) {
            to.write_all(&rest.as_bytes()[..at])?;
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
            rest = &rest[at + hidden.len_utf8()..];
        }
        to.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::untrusted::tests::{NASTY, forbidden_in};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn documents_are_one_visible_line_and_say_the_same(
            texts in prop::collection::vec(any::<String>(), 0..4), hidden in any::<char>()
        ) {
            let texts = [texts, vec![NASTY.to_owned(), format!("a{hidden}\u{10ffff}\u{e0001}b\u{7f}")]];
            let texts = texts.concat();
            let document = json(&texts).expect("JSON");
            let line = document.strip_suffix('\n').expect("a line");
            prop_assert_eq!(forbidden_in(line), None, "{:?}", line);
            let read: Vec<String> = serde_json::from_str(line).expect("JSON");
            prop_assert_eq!(read, texts);
        }
    }

    #[test]
    fn what_is_visible_is_written_as_ever() {
        let value = (1, Some("Bücher \"节點\" \\ /"), None::<u8>, 0.5, [true]);
        let usual = serde_json::to_string(&value).expect("JSON");
        assert_eq!(json(&value).expect("JSON"), usual + "\n");
        assert_eq!(
            json(&"\u{202e}\u{1f4a9}\u{e0001}").expect("JSON"),
            "\"\\u202e💩\\udb40\\udc01\"\n"
        );
    }
}
