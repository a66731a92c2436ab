//! The unicast addresses beyond its own that an interface lets in: the NIC's filter, or a bridge's own entries in its
//! table. `bridge fdb … self permanent` shows and changes the same.
//!
//! The kernel finds out by itself what there is: where a device has no filter it becomes promiscuous
//! (`net/core/dev.c`, `__dev_set_rx_mode()`), VLANs and bonds hand the address on to what is below them, and a bridge
//! has its own entries (`net/bridge/br_fdb.c`). A device that cannot do without learning or forwarding by such an
//! address (a macvlan) refuses.
//!
//! An entry is of the interface, not of the process: it survives setting the interface down and up, and goes with it.

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tracing::debug;

use super::types::Deleted;
use super::{RouteError, RouteSocket, decode, decoded};
use crate::model::mac::Mac;

impl RouteSocket {
    /// The addresses in the filter of an interface; none where there is no such interface.
    ///
    /// # Errors
    /// As [`links`](Self::links).
    pub fn filter(&mut self, index: u32) -> Result<Vec<[u8; 6]>, RouteError> {
        let what = format!("list the filter of interface index {index}");
        let message = RouteNetlinkMessage::GetNeighbour(entry(index));
        let answers = match self.wire.dump(message, &what) {
            Err(error) if error.errno() == Some(libc::ENODEV) => return Ok(Vec::new()),
            other => other?,
        };
        decoded(&answers, &what, |answer| decode::filtered(answer, index))
    }

    /// Lets frames for a unicast address in. Idempotent.
    ///
    /// # Errors
    /// [`RouteError::Refused`] (EPERM without CAP_NET_ADMIN, ENODEV without the interface, EOPNOTSUPP where a device
    /// cannot, as a macvlan that is not passthru), [`RouteError::Io`], [`RouteError::Timeout`],
    /// [`RouteError::Malformed`].
    pub fn let_in(&mut self, index: u32, mac: [u8; 6]) -> Result<(), RouteError> {
        let what = format!("let frames for {} in by interface index {index}", Mac(mac));
        let message = RouteNetlinkMessage::NewNeighbour(entry_of(index, mac));
        // Without NLM_F_EXCL one that is there is no error.
        self.wire.change(message, NLM_F_CREATE, &what)?;
        debug!("{what}: done");
        Ok(())
    }

    /// Takes [`let_in`](Self::let_in) back.
    ///
    /// # Errors
    /// As there, without ENODEV.
    pub fn shut_out(&mut self, index: u32, mac: [u8; 6]) -> Result<Deleted, RouteError> {
        let what = format!(
            "let frames for {} in no more by interface index {index}",
            Mac(mac)
        );
        let message = RouteNetlinkMessage::DelNeighbour(entry_of(index, mac));
        match self.wire.change(message, 0, &what) {
            Ok(()) => {
                debug!("{what}: done");
                Ok(Deleted::Deleted)
            }
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => {
                Ok(Deleted::WasNotThere)
            }
            Err(error) => Err(error),
        }
    }
}

fn entry(index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message
}

fn entry_of(index: u32, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = entry(index);
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message
        .attributes
        .push(NeighbourAttribute::LinkLocalAddress(mac.to_vec()));
    message
}
