//! Kernel error numbers in words, the same words everywhere.
//!
//! Here lives only the wording, and which errors pass by themselves; what an
//! error means for an operation is said by the error type of the module that
//! met it.

use std::io;

use nix::errno::Errno;

/// The words for a kernel error number (positive, as in `errno.h`), followed
/// by its name: `operation not permitted (EPERM)`. A number that no header
/// names becomes `unknown error 4095`.
#[must_use]
pub fn words(errno: i32) -> String {
    let known = Errno::from_raw(errno);
    if known == Errno::UnknownErrno {
        return format!("unknown error {errno}");
    }
    let text = known.desc();
    let mut letters = text.chars();
    // "Operation not permitted" is to stand inside a sentence; "RFS specific
    // error" and its like keep their capitals.
    let second_is_lower = text.chars().nth(1).is_some_and(char::is_lowercase);
    let text = match letters.next() {
        Some(first) if second_is_lower => format!("{}{}", first.to_lowercase(), letters.as_str()),
        _ => text.to_owned(),
    };
    format!("{text} ({known:?})")
}

/// The same for an I/O error: its error number in words, or its own text where
/// it has none (an error that Rust's library made up).
#[must_use]
pub fn io_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => words(errno),
        None => error.to_string(),
    }
}

/// Does this error number say that something was lacking at that moment, so that
/// the same may succeed a moment later?
#[must_use]
pub fn passes(errno: Option<i32>) -> bool {
    const LACKING: [i32; 9] = [
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EMFILE,
        libc::ENFILE,
        libc::EAGAIN,
        libc::EINTR,
        libc::EBUSY,
        libc::ETIMEDOUT,
        libc::ENOSPC,
    ];
    errno.is_some_and(|errno| LACKING.contains(&errno))
}

/// Makes a system call again that a signal has interrupted: nothing was done.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_words_with_their_name() {
        assert_eq!(words(libc::EPERM), "operation not permitted (EPERM)");
        assert_eq!(words(libc::ENODEV), "no such device (ENODEV)");
        assert_eq!(words(4095), "unknown error 4095");
        assert_eq!(words(-1), "unknown error -1");
    }

    #[test]
    fn io_errors_too() {
        let kernel = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(io_words(&kernel), "permission denied (EACCES)");
        assert_eq!(io_words(&io::Error::other("short write")), "short write");
    }

    #[test]
    fn what_lacks_for_a_moment_passes_and_what_is_wrong_does_not() {
        for errno in [
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EMFILE,
            libc::ENFILE,
            libc::EAGAIN,
            libc::EINTR,
            libc::EBUSY,
            libc::ETIMEDOUT,
            libc::ENOSPC,
        ] {
            assert!(passes(Some(errno)), "{}", words(errno));
        }
        for errno in [libc::EPERM, libc::ENOENT, libc::EINVAL, libc::EOPNOTSUPP] {
            assert!(!passes(Some(errno)), "{}", words(errno));
        }
        assert!(!passes(None));
    }

    #[test]
    fn an_interrupted_call_is_made_again_and_no_other() {
        let called = |errors: &[i32]| {
            let mut times = 0;
            let ended = uninterrupted(|| {
                times += 1;
                match errors.get(times - 1) {
                    Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
                    None => Ok(()),
                }
            });
            (times, ended.is_ok())
        };
        assert_eq!(called(&[libc::EINTR, libc::EINTR]), (3, true));
        assert_eq!(called(&[libc::EINTR, libc::EAGAIN]), (2, false));
    }
}
