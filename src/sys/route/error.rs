//! What can go wrong between us and rtnetlink, as sentences.

use std::io;

use thiserror::Error;

use crate::model::untrusted::in_one_line;
use crate::sys::errno;

/// An rtnetlink operation that failed. Every variant carries in `what` the
/// operation and the thing it was about (`add 10.77.0.99/24 to interface
/// index 2`), so that the sentence can be shown as it is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The netlink socket could not be made ready.
    #[error("cannot open an rtnetlink socket: {}", errno::io_words(.source))]
    Open {
        /// The system call's error.
        source: io::Error,
    },
    /// The kernel answered with an error number.
    #[error("the kernel refused to {what}: {}{}", errno::words(*.errno), remark(.kernel_says))]
    Refused {
        /// The operation and its object.
        what: String,
        /// The error number, positive.
        errno: i32,
        /// The kernel's own sentence (extended acknowledgement), where it
        /// gave one.
        kernel_says: Option<String>,
    },
    /// Sending or receiving failed in this process or socket.
    #[error("talking to the kernel failed while trying to {what}: {}", errno::io_words(.source))]
    Io {
        /// The operation and its object.
        what: String,
        /// The system call's error.
        source: io::Error,
    },
    /// No answer within [`ANSWER_TIMEOUT_S`](super::ANSWER_TIMEOUT_S).
    #[error("the kernel did not answer within {seconds} s when asked to {what}")]
    Timeout {
        /// The operation and its object.
        what: String,
        /// How long was waited, in seconds.
        seconds: i64,
    },
    /// The kernel's answer was not what rtnetlink(7) promises.
    #[error("the kernel's answer to the request to {what} is malformed: {detail}")]
    Malformed {
        /// The operation and its object.
        what: String,
        /// What was wrong with the bytes.
        detail: String,
    },
    /// The list changed under every one of a bounded number of readings.
    #[error("asked the kernel {tries} times to {what}, and each time the list changed meanwhile")]
    Interrupted {
        /// The operation and its object.
        what: String,
        /// The number of attempts.
        tries: u32,
    },
    /// The request contradicts itself, so the kernel was not asked.
    #[error("cannot {what}: {why}")]
    Invalid {
        /// The operation and its object.
        what: String,
        /// The reason.
        why: String,
    },
}

impl RouteError {
    /// The kernel's error number (positive), where there was one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Open { source } | Self::Io { source, .. } => source.raw_os_error(),
            Self::Timeout { .. } => Some(libc::ETIMEDOUT),
            Self::Malformed { .. } | Self::Interrupted { .. } | Self::Invalid { .. } => None,
        }
    }

    /// Is it that something was lacking at that moment, or that others were faster?
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Interrupted { .. }) || errno::passes(self.errno())
    }
}

fn remark(kernel_says: &Option<String>) -> String {
    match kernel_says {
        Some(text) => format!("; it says: {}", in_one_line(text)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_sentence() {
        let mut error = RouteError::Refused {
            what: "add 10.77.0.99/24 to interface index 2".into(),
            errno: libc::EPERM,
            kernel_says: None,
        };
        assert_eq!(
            error.to_string(),
            "the kernel refused to add 10.77.0.99/24 to interface index 2: operation not permitted (EPERM)"
        );
        assert_eq!(error.errno(), Some(libc::EPERM));
        if let RouteError::Refused { kernel_says, .. } = &mut error {
            *kernel_says = Some("ipv4: Invalid prefix".into());
        }
        assert!(
            error
                .to_string()
                .ends_with("(EPERM); it says: ipv4: Invalid prefix")
        );
    }
}
