//! Exit codes, and why an action ended as it did.

use crate::model::untrusted::in_one_line;
use std::fmt;

/// The exit codes of OCF 1.1 that this agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// OCF_SUCCESS.
    Success = 0,
    /// OCF_ERR_GENERIC: Pacemaker recovers.
    Generic = 1,
    /// OCF_ERR_UNIMPLEMENTED.
    Unimplemented = 3,
    /// OCF_ERR_PERM: not on this node.
    Permission = 4,
    /// OCF_ERR_INSTALLED: not on this node.
    Installed = 5,
    /// OCF_ERR_CONFIGURED: not anywhere.
    Configured = 6,
    /// OCF_NOT_RUNNING.
    NotRunning = 7,
}

/// An action that did not succeed: its code and the sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What went wrong and what to do, in one line; Pacemaker shows it as the exit reason. Empty where there is
    /// nothing to say (a probe that finds nothing).
    pub reason: String,
    /// May it succeed a moment later, with nothing else done?
    pub passes: bool,
}

/// What Pacemaker keeps of an exit reason, in bytes; `crm_mon` shows no more.
const KEPT: usize = 128;

impl Failure {
    /// A failure with its reason.
    pub fn new(code: Code, reason: impl fmt::Display) -> Self {
        Failure {
            code,
            reason: in_one_line(&reason.to_string()),
            passes: false,
        }
    }

    /// The same, and whether it may succeed a moment later.
    pub fn passing(self, passes: bool) -> Self {
        Failure { passes, ..self }
    }

    /// The reason as Pacemaker shows it: cut after a word, with an ellipsis, if it is too long.
    pub fn exit_reason(&self) -> String {
        const ELLIPSIS: &str = " ...";
        let whole = &self.reason;
        if whole.len() <= KEPT {
            return whole.clone();
        }
        let mut short = String::new();
        for word in whole.split_inclusive(' ') {
            if short.len() + word.trim_end().len() + ELLIPSIS.len() > KEPT {
                break;
            }
            short += word;
        }
        short.trim_end().to_owned() + ELLIPSIS
    }

    /// The instance does not run here, which nobody needs to be told.
    pub fn not_running() -> Self {
        Failure::new(Code::NotRunning, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_after_a_word() {
        let short = Failure::new(Code::Generic, "the cable is out");
        assert_eq!(short.exit_reason(), "the cable is out");
        let long = Failure::new(Code::Generic, "word ".repeat(50));
        let shown = long.exit_reason();
        assert!(
            shown.len() <= KEPT && shown.ends_with("word ..."),
            "{shown}"
        );
        let nasty = Failure::new(Code::Generic, "a\nb\u{1b}[31m\u{202e}");
        assert_eq!(nasty.exit_reason(), r"a\nb\u{1b}[31m\u{202e}");
        let endless = Failure::new(Code::Generic, "x".repeat(500));
        assert_eq!(endless.exit_reason(), " ...");
    }
}
