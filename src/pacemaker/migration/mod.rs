//! From a configuration with addresses that IPaddr2 shares to one with ours, and the way between the two. Pure:
//! nothing is asked here, and nothing is changed.
//!
//! | module | what lives there |
//! |---|---|
//! | `found` | what a configuration has of IPaddr2, as values |
//! | `cib`, `crm_text` | the same read from a CIB, and from what crm shell shows |
//! | `crm_parts` | resources, groups and clones in the latter |
//! | `unread` | why a text is neither |
//! | `judged` | what is migrated, what is not, and what not node by node |
//! | `renewed` | the new parameters, and what cannot be kept |
//! | `obstacles` | why one cannot, and the way out |
//! | `sentences` | what is to be said of it |
//! | `words` | the new resources, in the words of crm shell and as XML |
//! | `takeover` | the script by which one node takes an address over from the predecessor |
//! | `old_rules` | what of the predecessor's rules it has to know |
//! | `taken_over` | tests: the script, run by a shell |
//! | `procedure` | the way, step by step, with the check after each |

mod cib;
mod crm_parts;
mod crm_text;
pub mod found;
pub mod judged;
pub mod obstacles;
mod old_rules;
pub mod procedure;
pub mod renewed;
pub mod sentences;
#[cfg(test)]
mod taken_over;
pub mod takeover;
mod unread;
pub mod words;

use found::Configuration;
pub use unread::ReadError;

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
