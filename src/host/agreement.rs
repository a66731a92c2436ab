//! Before a node takes its first bucket of a VIP: does anybody on the link share it under another
//! description? Two nodes that hash differently would answer the same packet, and a node that holds
//! no bucket cannot see from its own kernel what the others hold.

use crate::model::agreement::{Answer, answer, ethertype, question};
use crate::model::host::NicState;
use crate::model::mac::Mac;
use crate::model::vip::Vip;
use crate::plan::steps::When;
use crate::sys::packet::{PacketError, PacketSocket};
use std::time::{Duration, Instant};
use tracing::warn;

/// How often it is asked, should a frame get lost, and how long an answer may take each time. The
/// kernel answers at once; a local network takes far less than a millisecond.
const QUESTIONS: u32 = 2;
const PATIENCE: Duration = Duration::from_millis(15);

/// Somebody shares the VIP under another description, or it cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Disagreement {
    /// Somebody answers.
    #[error(
        "stop the clone first: {mac} on {nic} shares {address} under another description. Compare the \
         digests that 'nodectl status' shows on all nodes. After a change of clone-max, hash, seed or mac \
         no node may own or drain a bucket of before when one starts: 'nodectl wait-drained {address}', or \
         'nodectl down {address}', with --force if Pacemaker has put it there. (agent: \
         conflict_detection=\"false\", nodectl: --force; they are for those who know better)"
    )]
    Answered {
        /// The VIP.
        address: std::net::IpAddr,
        /// The interface on which the answer came.
        nic: String,
        /// Who answered.
        mac: Mac,
    },
    /// It cannot be asked.
    #[error(transparent)]
    Packet(#[from] PacketError),
}

/// Asks once whether all who share the VIP agree with its description. Takes some 30 ms.
pub fn agree(vip: &Vip, state: &NicState, when: When) -> Result<(), Disagreement> {
    let Some(nic_mac) = state.mac else {
        return Ok(());
    };
    let answered = match ask(vip, state.index, nic_mac) {
        // Who cannot be heard cannot answer packets beside others.
        Err(error) if error.errno() == Some(libc::ENETDOWN) => None,
        answered => answered?,
    };
    match answered {
        None => Ok(()),
        Some(answer) if answer.says.is_multicast() => Err(Disagreement::Answered {
            address: vip.address,
            nic: vip.nic.to_string(),
            mac: answer.from,
        }),
        // He was warned of when it was asked the first time.
        Some(_) if when == When::BeforeItServes => Ok(()),
        // A node that has lost its rules must not keep others from recovering.
        Some(answer) => {
            warn!(
                "{} on {} says that {} is at {}: a node whose rules were flushed, or a stranger who \
                 has the address for himself",
                answer.from, vip.nic, vip.address, answer.says
            );
            Ok(())
        }
    }
}

/// The worst answer that comes.
fn ask(vip: &Vip, index: u32, nic_mac: Mac) -> Result<Option<Answer>, PacketError> {
    let mut worst = None;
    let socket = PacketSocket::open_receiving(index, ethertype(vip.address))?;
    let question = question(vip.address, vip.probe_digest(), nic_mac);
    let mut buffer = [0; 128];
    for _ in 0..QUESTIONS {
        socket.send(&question)?;
        let asked = Instant::now();
        while let Some(left) = PATIENCE.checked_sub(asked.elapsed()) {
            let frame = socket.receive(&mut buffer, left)?;
            let said = frame.and_then(|frame| answer(vip.address, vip.probe_digest(), frame));
            match said.filter(|answer| answer.from != nic_mac) {
                Some(answer) if answer.says.is_multicast() => return Ok(Some(answer)),
                other => worst = worst.or(other),
            }
        }
    }
    Ok(worst)
}
