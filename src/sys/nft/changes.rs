//! That somebody has changed rules, and who: nf_tables tells every transaction when it is done
//! (`nf_tables_gen_notify()`), with the process that asked for it.

use super::numbers::{GEN_ID, NEW_GEN};
use super::socket::NftError;
use super::wire::{Attributes, SUBSYSTEM};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// NFNLGRP_NFTABLES.
const GROUP: u32 = 7;
/// NFTA_GEN_PROC_PID and NFTA_GEN_PROC_NAME.
const GEN_PROCESS: u16 = 2;
const GEN_NAME: u16 = 3;
/// Room for what a large transaction tells before it says that it is done.
const ROOM: usize = 4 * 1024 * 1024;

/// Who has changed the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedBy {
    /// The process, as the kernel's first namespace of them numbers it.
    pub process: u32,
    /// Its name, of which the kernel has 15 bytes.
    pub name: String,
    /// The generation of the rules then.
    pub generation: u32,
}

/// Changes of the rules of the network namespace in which this was opened.
pub struct Changes(Socket);

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or does not tell this process.
    pub fn listen() -> Result<Self, NftError> {
        let opened = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.set_rx_buf_sz(i32::try_from(ROOM).unwrap_or(i32::MAX))?;
            socket.add_membership(GROUP)?;
            socket.set_non_blocking(true)?;
            Ok(Changes(socket))
        };
        opened().map_err(NftError::Open)
    }

    /// What was changed since, if anything; does not wait. `None` is somebody: so much was changed at once that the kernel
    /// has not told all of it.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn take(&mut self) -> Result<Vec<Option<ChangedBy>>, NftError> {
        let mut all = Vec::new();
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, from)) if is_kernel(&from) => all.extend(read(&bytes).map(Some)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => all.push(None),
                Err(error) => {
                    let what = "hearing of changes";
                    return Err(NftError::Broken { what, error });
                }
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

fn is_kernel(from: &SocketAddr) -> bool {
    from.port_number() == 0
}

/// The ends of transactions among these messages.
fn read(mut bytes: &[u8]) -> impl Iterator<Item = ChangedBy> {
    const HEADERS: usize = 20;
    let kind = (u16::from(SUBSYSTEM) << 8) | u16::from(NEW_GEN);
    let mut all = Vec::new();
    while let Some(length) = bytes.get(..4) {
        let length = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = bytes
            .get(..length)
            .filter(|message| message.len() >= HEADERS)
        else {
            break;
        };
        if u16::from_ne_bytes([message[4], message[5]]) == kind {
            let attributes = Attributes::read(&message[HEADERS..]);
            all.push(ChangedBy {
                process: attributes.u32(GEN_PROCESS).unwrap_or_default(),
                name: attributes.text(GEN_NAME).unwrap_or_default(),
                generation: attributes.u32(GEN_ID).unwrap_or_default(),
            });
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::super::wire::Writer;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_a_transaction_names_who_asked_for_it() {
        let end = Writer::message(NEW_GEN, 0, 0, 7)
            .u32(GEN_ID, 9)
            .u32(GEN_PROCESS, 42)
            .text(GEN_NAME, "nft")
            .finish();
        let other = Writer::message(NEW_GEN - 1, 0, 0, 7)
            .u32(GEN_ID, 8)
            .finish();
        let all: Vec<ChangedBy> = read(&[other, end].concat()).collect();
        let nft = ChangedBy {
            process: 42,
            name: "nft".into(),
            generation: 9,
        };
        assert_eq!(all, [nft]);
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_says_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes).count();
        }
    }
}
