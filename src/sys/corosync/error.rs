//! What goes wrong with Corosync's libraries, in words. What follows from it is the caller's business.

use super::ffi;

/// Why Corosync did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorosyncError {
    /// Nobody answers.
    #[error("Corosync is not running on this node: start it (systemctl start corosync)")]
    NotRunning,
    /// It answers the user and the group root, and whom it was told of.
    #[error(
        "Corosync talks to user or group root only: run this as root, or name its user in /etc/corosync/uidgid.d and \
         call corosync-cfgtool -R"
    )]
    Access,
    /// It has ended, or has cut the connection: everything begins anew with joining again.
    #[error("the connection to Corosync is lost")]
    Lost,
    /// It cannot take anything just now, because a ring is forming or too much waits to be sent: the same may succeed
    /// a moment later.
    #[error("Corosync takes nothing at this moment ({0}): try again")]
    TryAgain(&'static str),
    /// A message that would be sent in pieces.
    #[error("a message of {length} bytes is not sent: Corosync takes {longest} in one piece")]
    TooLong {
        /// Its length.
        length: usize,
        /// The longest.
        longest: usize,
    },
    /// No name for a group.
    #[error("{0:?} is no name for a group: it has 1 to 128 bytes")]
    NoName(String),
    /// Something that is not expected.
    #[error(
        "Corosync's library refuses {call} with error {code} (corosync/corotypes.h says which)"
    )]
    Unexpected {
        /// The function.
        call: &'static str,
        /// A `cs_error_t`.
        code: u32,
    },
}

/// What came of a call that begins a connection. Who cannot reach Corosync is told that the library failed.
pub(super) fn begun(call: &'static str, code: ffi::Code) -> Result<(), CorosyncError> {
    match code {
        ffi::CS_ERR_LIBRARY | ffi::CS_ERR_NOT_EXIST => Err(CorosyncError::NotRunning),
        _ => done(call, code),
    }
}

/// What came of any other call.
pub(super) fn done(call: &'static str, code: ffi::Code) -> Result<(), CorosyncError> {
    match code {
        ffi::CS_OK => Ok(()),
        ffi::CS_ERR_LIBRARY | ffi::CS_ERR_BAD_HANDLE => Err(CorosyncError::Lost),
        ffi::CS_ERR_ACCESS | ffi::CS_ERR_SECURITY => Err(CorosyncError::Access),
        ffi::CS_ERR_TRY_AGAIN => Err(CorosyncError::TryAgain(call)),
        code => Err(CorosyncError::Unexpected { call, code }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_begin_finds_no_corosync_and_who_had_begun_has_lost_it() {
        assert_eq!(
            begun("cpg_model_initialize", 2),
            Err(CorosyncError::NotRunning)
        );
        assert_eq!(done("cpg_dispatch", 2), Err(CorosyncError::Lost));
        for how in [begun, done] {
            assert_eq!(how("it", 1), Ok(()));
            assert_eq!(how("it", 6), Err(CorosyncError::TryAgain("it")));
            assert_eq!(how("it", 11), Err(CorosyncError::Access));
        }
        let error = done("cpg_join", 13).expect_err("too long a name");
        assert!(
            error.to_string().contains("cpg_join with error 13"),
            "{error}"
        );
    }
}
