//! From a configuration with addresses that IPaddr2 shares to one with ours, and the way between the two. Pure:
//! nothing is asked here, and nothing is changed.
//!
//! | module | what lives there |
//! |---|---|
//! | `found` | what a configuration has of IPaddr2, as values |
//! | `cib`, `crm_text` | the same read from a CIB, and from what crm shell shows |
//! | `judged` | the new parameters, what cannot be kept, and what is not migrated |
//! | `obstacles` | why one cannot, and the way out |
//! | `sentences` | what is to be said of it |
//! | `words` | the new resources, in the words of crm shell and as XML |
//! | `takeover` | the script by which one node takes an address over from the old agent |
//! | `procedure` | the way, step by step, with the check after each |

mod cib;
mod crm_text;
pub mod found;
pub mod judged;
pub mod obstacles;
pub mod procedure;
pub mod sentences;
pub mod takeover;
pub mod words;

use crate::model::untrusted::shown;
use found::Configuration;

/// A text that is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no XML.
    #[error("the CIB cannot be read: {}; use what 'cibadmin --query' prints", shown(&.0.to_string()))]
    Xml(#[from] roxmltree::Error),
    /// It is XML of something else.
    #[error("'{}' is no part of a CIB; use what 'cibadmin --query' prints", shown(.0))]
    OtherXml(String),
    /// It is not what crm shell shows.
    #[error(
        "line {line} begins with '{}', which crm shell does not; use what 'crm configure show' or \
         'cibadmin --query' prints",
        shown(word)
    )]
    OtherText {
        /// Its line, from 1.
        line: usize,
        /// The word.
        word: String,
    },
    /// A quoted text without an end.
    #[error("line {0} has a quote that nothing closes; use what 'crm configure show' prints")]
    Open(usize),
    /// There is nothing in it.
    #[error("there is nothing in it; use what 'cibadmin --query' or 'crm configure show' prints")]
    Empty,
}

/// Reads a CIB, or what crm shell shows of it.
///
/// # Errors
/// [`ReadError`] for what is neither.
pub fn read(text: &str) -> Result<Configuration, ReadError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.chars().next() {
        None => Err(ReadError::Empty),
        Some('<') => cib::read(text),
        Some(_) => crm_text::read(text),
    }
}
