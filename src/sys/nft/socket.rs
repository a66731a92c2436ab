//! The conversation with the kernel: questions and transactions.

#![allow(unsafe_code)]

use super::encode;
use super::heard::{End, Heard, acknowledgements};
use super::wire::Writer;
use crate::model::change::Change;
use crate::model::ruleset::Lifetime;
use crate::sys::errno::{io_words, passes, uninterrupted, words};
use crate::sys::process::close_elsewhere;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use tracing::debug;

/// What can go wrong between us and nf_tables.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no socket to be had.
    #[error("no nf_tables: {}. The kernel needs CONFIG_NF_TABLES", io_words(.0))]
    Open(#[source] io::Error),
    /// Sending or receiving failed.
    #[error("the conversation with nf_tables broke off while {what}: {}", io_words(.error))]
    Broken {
        /// What was being done.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
    /// The kernel refused to do something.
    #[error("the kernel refused to {what}: {}", words(*.errno))]
    Refused {
        /// What it was to do.
        what: String,
        /// Its error number.
        errno: i32,
    },
    /// Another transaction came between; nothing was changed. Read again and retry.
    #[error("the ruleset was changed by somebody else at the same time")]
    Outdated,
    /// The ruleset changed each time that it was read.
    #[error("the ruleset changes too fast to be read: {0} attempts")]
    Restless(u32),
    /// The kernel did not acknowledge all of a transaction.
    #[error(
        "the kernel left {0} of the changes without an answer; look at them with 'nft list ruleset'"
    )]
    Unanswered(usize),
}

impl NftError {
    /// Is it that the kernel lacks something that we need?
    pub fn is_missing_feature(&self) -> bool {
        match self {
            error if error.is_absent() => true,
            NftError::Refused { errno, .. } => [libc::ENOENT, libc::EOPNOTSUPP].contains(errno),
            _ => false,
        }
    }

    /// Is it that the kernel has no nf_tables at all? Then nothing of ours was ever there.
    pub fn is_absent(&self) -> bool {
        match self {
            NftError::Open(error) => matches!(
                error.raw_os_error(),
                Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)
            ),
            // nfnetlink answers so for a subsystem that it does not have.
            NftError::Refused { what, errno } => {
                what == &GENERATION.replace("ing ", " ") && *errno == libc::EINVAL
            }
            _ => false,
        }
    }

    /// Is it that something was lacking at that moment, or that others were faster?
    pub fn passes(&self) -> bool {
        match self {
            NftError::Open(error) | NftError::Broken { error, .. } => passes(error.raw_os_error()),
            NftError::Refused { errno, .. } => passes(Some(*errno)),
            NftError::Outdated | NftError::Restless(_) | NftError::Unanswered(_) => true,
        }
    }

    /// Is it that something still refers to what was to be deleted?
    pub fn is_busy(&self) -> bool {
        matches!(self, NftError::Refused { errno, .. } if *errno == libc::EBUSY)
    }

    /// Is it that this process must not do this?
    pub fn is_permission(&self) -> bool {
        match self {
            NftError::Refused { errno, .. } => [libc::EPERM, libc::EACCES].contains(errno),
            NftError::Open(error) | NftError::Broken { error, .. } => {
                error.kind() == io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }
}

/// A netlink socket for nf_tables of the network namespace in which it was opened.
pub struct NftSocket {
    socket: mnl::Socket,
    buffer: Vec<u8>,
    seq: u32,
}

/// The first question of every conversation.
pub(super) const GENERATION: &str = "asking for the generation";
/// Room for one answer of the kernel; it never sends more than 32 KiB at once in a dump.
const BUFFER: usize = 64 * 1024;
/// Room for a transaction and for its acknowledgements; the largest has some thousand messages.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// No answer comes later than at once; this only keeps a bug from blocking for ever.
const PATIENCE_S: i64 = 10;

/// Does the change do nothing where what it adds is there already, unseen?
fn is_perhaps_nothing(change: &Change) -> bool {
    matches!(change, Change::AddElements(_, _, spec, _) if matches!(spec.lifetime, Lifetime::Learnt(_)))
}

impl NftSocket {
    /// Opens the socket; opening needs no privilege, using it does.
    pub fn open() -> Result<Self, NftError> {
        let socket = mnl::Socket::new(mnl::Bus::Netfilter).map_err(NftError::Open)?;
        // SAFETY: `socket` lives longer than the borrow, which ends in this function.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let options = setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_S))
            .and_then(|()| {
                // The forced variants need CAP_NET_ADMIN in the first user namespace.
                setsockopt(&fd, sockopt::SndBufForce, &SOCKET_BUFFER)
                    .or_else(|_| setsockopt(&fd, sockopt::SndBuf, &SOCKET_BUFFER))
            })
            .and_then(|()| {
                setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER)
                    .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER))
            });
        options.map_err(|errno| NftError::Open(errno.into()))?;
        Ok(NftSocket {
            socket,
            buffer: vec![0; BUFFER],
            seq: 0,
        })
    }

    /// Has the socket closed by somebody else. After something was deleted, closing a socket of
    /// nf_tables waits until no CPU can see the deleted any more (an RCU grace period, some 16 ms;
    /// `nft_rcv_nl_event()`), although the packets are long treated by the new rules.
    pub fn close_elsewhere(self) {
        if let Err(error) = close_elsewhere(&self.socket) {
            debug!("closing the socket here: {error}");
        }
    }

    /// Makes all of the changes or none. `generation` is that of the snapshot they were made for;
    /// on success the generation after the transaction is returned.
    pub fn apply(&mut self, changes: &[Change], generation: u32) -> Result<u32, NftError> {
        self.send(&encode::transaction(changes, Some(generation)))?;
        let next = generation.wrapping_add(1);
        // What packets change too may be there already, and a transaction of nothing raises nothing.
        if !changes.iter().all(is_perhaps_nothing) {
            return Ok(next);
        }
        match self.generation()? {
            now if now == next || now == generation => Ok(now),
            _ => Err(NftError::Outdated),
        }
    }

    /// Makes all of the changes or none, whatever the rules are by now. [`NftError::Outdated`] where elements to be deleted
    /// are there no more.
    pub fn tell(&mut self, changes: &[Change]) -> Result<(), NftError> {
        self.send(&encode::transaction(changes, None))
    }

    /// Has the kernel check the changes, and keeps none of them: a batch without its end is undone.
    pub fn check(&mut self, changes: &[Change], generation: u32) -> Result<(), NftError> {
        self.send(&encode::transaction(changes, Some(generation)).without_end())
    }

    /// Deletes elements, whatever the rules are by now: those that are there. Each is a transaction of its own, for
    /// the kernel refuses one with anything that is not.
    pub fn delete_unseen(&mut self, deletions: &[Change]) -> Result<(), NftError> {
        deleted(deletions, |deletion| {
            self.send(&encode::transaction(std::slice::from_ref(deletion), None))
        })
    }

    /// Adds elements, whatever the rules are by now, for as long as the set has room.
    pub fn add_unseen(&mut self, additions: impl Iterator<Item = Change>) -> Result<(), NftError> {
        for addition in additions {
            match self.send(&encode::transaction(&[addition], None)) {
                Err(NftError::Refused { errno, .. }) if errno == libc::ENFILE => break,
                sent => sent?,
            }
        }
        Ok(())
    }

    fn send(&mut self, transaction: &encode::Transaction) -> Result<(), NftError> {
        let sent = uninterrupted(|| self.socket.send(&transaction.bytes));
        sent.map_err(|error| NftError::Broken {
            what: "changing rules",
            error,
        })?;
        // The kernel works on a batch inside the send: all answers are there by now.
        let mut open: BTreeSet<u32> = transaction.what.keys().copied().collect();
        let mut failed = None;
        loop {
            let fd = self.socket.as_raw_fd();
            let len = match recv(fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(NftError::Broken {
                        what: "waiting for the answer to a change",
                        error: errno.into(),
                    });
                }
            };
            for (seq, errno) in acknowledgements(&self.buffer[..len]) {
                open.remove(&seq);
                if errno != 0 && failed.is_none() {
                    failed = Some((seq, errno));
                }
            }
        }
        match failed {
            None if open.is_empty() => Ok(()),
            None => Err(NftError::Unanswered(open.len())),
            Some((_, libc::ERESTART)) => Err(NftError::Outdated),
            // It has ended by itself meanwhile, or a packet has taken it out.
            Some((seq, libc::ENOENT)) if transaction.fleeting.contains(&seq) => {
                Err(NftError::Outdated)
            }
            Some((seq, errno)) => {
                let what = transaction.what.get(&seq).cloned();
                let whole = match seq == transaction.begin {
                    true => "begin a transaction",
                    false => "commit the changes",
                };
                Err(NftError::Refused {
                    what: what.unwrap_or_else(|| whole.to_owned()),
                    errno,
                })
            }
        }
    }

    /// Sends a request and hands each answer to `each`, until the answer is complete. Says how many bytes its first
    /// part had.
    pub(super) fn ask(
        &mut self,
        what: &'static str,
        request: impl Fn(u32) -> Writer,
        mut each: impl FnMut(u8, &[u8]),
    ) -> Result<usize, NftError> {
        let broken = |error| NftError::Broken { what, error };
        self.seq = self.seq.wrapping_add(1).max(1);
        let seq = self.seq;
        let request = request(seq).finish();
        let sent = uninterrupted(|| self.socket.send(&request));
        sent.map_err(broken)?;
        let mut heard = Heard::of(seq);
        loop {
            let fd = self.socket.as_raw_fd();
            let len = match recv(fd, &mut self.buffer, MsgFlags::empty()) {
                Ok(len) => len,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(broken(errno.into())),
            };
            match heard.part(&self.buffer[..len], &mut each) {
                None => {}
                Some(End::Whole) => return Ok(heard.first),
                Some(End::Interrupted) => return Err(NftError::Outdated),
                Some(End::Refused(errno)) => {
                    let what = what.replace("ing ", " ");
                    return Err(NftError::Refused { what, errno });
                }
            }
        }
    }
}

/// Does each deletion; that there is nothing to delete any more ends none of the others.
fn deleted(
    deletions: &[Change],
    mut send: impl FnMut(&Change) -> Result<(), NftError>,
) -> Result<(), NftError> {
    for deletion in deletions {
        match send(deletion) {
            Err(NftError::Refused { errno, .. }) if errno == libc::ENOENT => {}
            Err(NftError::Outdated) => {}
            deleted => deleted?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ruleset::Family;

    #[test]
    fn what_is_not_there_any_more_ends_no_other_deletion() {
        let refused = |errno| NftError::Refused {
            what: "delete elements".to_owned(),
            errno,
        };
        let all = ["buckets", "leaving", "adopting"];
        let deletions = all.map(|name| Change::DeleteSet(Family::Netdev, name.to_owned()));
        let sent = |error: &dyn Fn() -> NftError| {
            let mut sent = 0;
            let ended = deleted(&deletions, |_| {
                sent += 1;
                Err(error())
            });
            (sent, ended.is_ok())
        };
        assert_eq!(sent(&|| refused(libc::ENOENT)), (3, true));
        assert_eq!(sent(&|| NftError::Outdated), (3, true));
        assert_eq!(sent(&|| refused(libc::EPERM)), (1, false));
    }
}
