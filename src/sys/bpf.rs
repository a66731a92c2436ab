//! Programs that others have attached to an interface by tcx, of which rtnetlink tells nothing: bpf(2) does. Nothing is
//! loaded or attached here.
#![allow(unsafe_code)]

use std::io;

use thiserror::Error;

use super::errno;

// include/uapi/linux/bpf.h
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// The kernel does not tell, in a user namespace for instance.
#[derive(Debug, Error)]
#[error("cannot ask for programs of tcx: {}", errno::io_words(.source))]
pub struct TcxError {
    /// The system call's error.
    source: io::Error,
}

/// What `BPF_PROG_QUERY` is asked and answers, of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Query {
    index: u32,
    place: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    unused: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// Is a program attached to an interface by tcx, for what comes in or what goes out? A kernel before Linux 6.6, or without
/// bpf(2), has none.
///
/// # Errors
/// [`TcxError`]: EPERM without CAP_NET_ADMIN in the first user namespace, ENODEV for an interface that is not there.
pub fn has_tcx(index: u32) -> Result<bool, TcxError> {
    Ok(count(index, BPF_TCX_INGRESS)? > 0 || count(index, BPF_TCX_EGRESS)? > 0)
}

/// How many there are.
fn count(index: u32, place: u32) -> Result<u32, TcxError> {
    let mut query = Query {
        index,
        place,
        ..Query::default()
    };
    let query_at = &raw mut query;
    // SAFETY: `query` lives throughout; the kernel reads and writes no more of it than the size that it is told, and
    // follows none of the addresses in it, which are null.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, query_at, size_of::<Query>()) };
    if done >= 0 {
        return Ok(query.count);
    }
    let source = io::Error::last_os_error();
    match source.raw_os_error() {
        // No such place, no such call, and the first Linux 6.6 where nothing was ever attached.
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOENT) => Ok(0),
        _ => Err(TcxError { source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_as_large_as_the_kernel_has_it() {
        assert_eq!(size_of::<Query>(), 64);
        assert_eq!(std::mem::offset_of!(Query, count), 24);
        assert_eq!(std::mem::offset_of!(Query, revision), 56);
    }

    /// Whoever is asked, and whatever the kernel is.
    #[test]
    fn the_loopback_interface_has_none_or_it_is_not_told() {
        assert!(!has_tcx(1).is_ok_and(|has| has));
    }
}
