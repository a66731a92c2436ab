//! What comes of a check: what was found, how bad that is, why it matters here, and the command that mends it.

use serde::Serialize;
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing bites: it is said so that nobody takes it for something else.
    Note,
    /// It works until something else happens, or not for all.
    Warning,
    /// It will not work.
    Fatal,
}

/// Something that will bite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// Why it matters here.
    pub why: String,
    /// The command that mends it; none where no single one does, and then `why` says what does.
    pub cure: Option<String>,
}

impl fmt::Display for Finding {
    /// One sentence for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        match &self.cure {
            Some(cure) => write!(f, ". This mends it: {cure}"),
            None => Ok(()),
        }
    }
}

impl Finding {
    /// What is as it is meant to be.
    pub(super) fn note(what: impl Into<String>, why: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Note,
            ..Finding::warning(what, why)
        }
    }

    /// What works for now, or not for all.
    pub(super) fn warning(what: impl Into<String>, why: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Warning,
            what: what.into(),
            why: why.into(),
            cure: None,
        }
    }

    /// What will not work.
    pub(super) fn fatal(what: impl Into<String>, why: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Fatal,
            ..Finding::warning(what, why)
        }
    }

    /// The same with the command that mends it, if it can be written.
    pub(super) fn mended_by(self, cure: impl Into<Option<String>>) -> Self {
        Finding {
            cure: cure.into(),
            ..self
        }
    }
}

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// It was not to be looked at.
    NotAsked,
    /// It could not be looked at, for this reason.
    Because(String),
}

impl Unseen {
    /// It could not be looked at.
    pub fn because(why: impl fmt::Display) -> Self {
        Unseen::Because(why.to_string())
    }
}

/// What was looked at, or why it was not.
pub type Seen<T> = Result<T, Unseen>;

/// What a check has found; nothing where all is well.
pub(super) type Found = Seen<Vec<Finding>>;

/// How a check has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was found.
    Fine,
    /// It could not be looked at.
    Unknown,
    /// The worst that was found is a warning.
    Warning,
    /// It will not work.
    Fatal,
}

impl Outcome {
    /// By the worst that was found.
    pub fn of(worst: Option<Severity>) -> Self {
        match worst {
            None | Some(Severity::Note) => Outcome::Fine,
            Some(Severity::Warning) => Outcome::Warning,
            Some(Severity::Fatal) => Outcome::Fatal,
        }
    }
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Its name, for programs.
    pub check: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// How it has ended.
    pub outcome: Outcome,
    /// Why it is not known, if it is not.
    pub unknown: Option<String>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// What is said besides, and bites nobody.
    pub notes: Vec<String>,
}

impl Checked {
    /// What a check has found; `None` if it was not asked.
    pub(super) fn of(check: &'static str, question: &'static str, found: Found) -> Option<Self> {
        let (unknown, found) = match found {
            Err(Unseen::NotAsked) => return None,
            Err(Unseen::Because(why)) => (Some(why), Vec::new()),
            Ok(found) => (None, found),
        };
        let outcome = match unknown {
            Some(_) => Outcome::Unknown,
            None => Outcome::of(found.iter().map(|finding| finding.severity).max()),
        };
        let (notes, mut findings): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|finding| finding.severity == Severity::Note);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Some(Checked {
            check,
            question,
            outcome,
            unknown,
            findings,
            notes: notes.iter().map(Finding::to_string).collect(),
        })
    }
}
