//! Why a text is no configuration. Pure.

use crate::model::untrusted::shown;

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
