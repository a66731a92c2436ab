//! Before a node takes its first bucket of a VIP: does anybody on the link share it under another
//! description, or does another resource? Two nodes that hash differently would answer the same packet, as would
//! two to which two resources give the same bucket; and a node that holds no bucket cannot see from its own
//! kernel what the others hold.

use crate::model::agreement::Question;
use crate::model::answer::Answer;
use crate::model::belief::{Answers, Belief};
use crate::model::host::NicState;
use crate::model::mac::Mac;
use crate::model::untrusted::Untrusted;
use crate::model::vip::{Manager, Vip};
use crate::plan::step::When;
use crate::sys::packet::{PacketError, PacketSocket};
use std::time::{Duration, Instant};
use tracing::warn;

/// How long an answer may take. The kernel answers at once; a local network takes far less than a
/// millisecond.
const PATIENCE: Duration = Duration::from_millis(15);

/// How many frames are read after that, at most: a socket's usual room has a few hundred.
const MOST_WAITING: u32 = 1024;

/// More than Ethernet's usual 1500 bytes of a frame. A node's answer has less than 100.
const LONGEST: usize = 2048;

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
    /// Somebody answers whose VIP another one manages.
    #[error(
        "{address} is {} already, and cannot be {}'s too: {mac} on {nic} shares it. Give one of them another ip. \
         If the other has gone, no node may drain a bucket of before: 'nodectl wait-drained {address}', or \
         'nodectl down {address}', with --force if Pacemaker has put it there. (agent: \
         conflict_detection=\"false\", nodectl: --force; they are for those who know better)",
        whose(.other.as_ref()),
        .own.name()
    )]
    OtherManager {
        /// The VIP.
        address: std::net::IpAddr,
        /// The interface on which the answer came.
        nic: String,
        /// Who answered.
        mac: Mac,
        /// Who is to manage it here.
        own: Manager,
        /// Who manages it there, if that is known.
        other: Option<Untrusted>,
    },
    /// It cannot be asked.
    #[error(transparent)]
    Packet(#[from] PacketError),
}

/// Asks once whether all who share the VIP agree with its description and have it from the same manager.
/// Takes some 30 ms, or 90 where answers are doubted, and as long again where somebody does not agree.
pub fn agree(vip: &Vip, state: &NicState, when: When) -> Result<(), Disagreement> {
    let Some(nic_mac) = state.mac else {
        return Ok(());
    };
    let believed = match ask(&Question::of(vip, nic_mac), state.index) {
        // Who cannot be heard cannot answer packets beside others.
        Err(error) if error.errno() == Some(libc::ENETDOWN) => Belief::Free,
        believed => believed?,
    };
    judge(vip, believed, when, || {
        let of_description = Question {
            manager: None,
            ..Question::of(vip, nic_mac)
        };
        ask(&of_description, state.index)
    })
}

/// What is believed decides whether the VIP may come up; `of_description` asks about the description alone.
fn judge(
    vip: &Vip,
    believed: Belief,
    when: When,
    of_description: impl FnOnce() -> Result<Belief, PacketError>,
) -> Result<(), Disagreement> {
    let (address, nic) = (vip.address, &vip.nic);
    match believed {
        Belief::Free => {}
        Belief::Shared(Answer { from: mac, .. }) => {
            let nic = nic.to_string();
            return Err(match of_description()? {
                Belief::Free | Belief::Taken(_) => Disagreement::OtherManager {
                    address,
                    nic,
                    mac,
                    own: vip.manager.clone(),
                    other: None,
                },
                _ => Disagreement::Answered { address, nic, mac },
            });
        }
        // He was warned of when it was asked the first time.
        Belief::Taken(_) if when == When::BeforeItServes => {}
        // A node that has lost its rules must not keep others from recovering.
        Belief::Taken(answer) => warn!(
            "{} on {nic} says that {address} is at {}: a node whose rules were flushed, or a stranger who \
             has the address for himself",
            answer.from, answer.says
        ),
        Belief::Forged(answer) => warn!(
            "not believed: that {address} is shared under another description. Answers on {nic} contradict \
             each other or come in floods, as no node's do, such as that {} has it at {}: somebody forges \
             them. Compare the digests that 'nodectl status' shows on all nodes",
            answer.from, answer.says
        ),
        Belief::Drowned => warn!(
            "not known: whether {address} is shared under another description. More answers come on {nic} \
             than can be read: somebody forges them. Compare the digests that 'nodectl status' shows on \
             all nodes"
        ),
    }
    Ok(())
}

/// Is it this one for whom others share the VIP? Then they keep silent for him, and answer for who is to
/// manage it here.
pub fn is_shared_for(other: Manager, vip: &Vip, state: &NicState) -> Result<bool, PacketError> {
    let Some(nic_mac) = state.mac else {
        return Ok(false);
    };
    let (own, vip) = (
        Question::of(vip, nic_mac),
        Vip {
            manager: other,
            ..vip.clone()
        },
    );
    let others = Question::of(&vip, nic_mac);
    let is_shared = |question| Ok(matches!(ask(question, state.index)?, Belief::Shared(_)));
    Ok(!is_shared(&others)? && is_shared(&own)?)
}

fn whose(other: Option<&Untrusted>) -> String {
    other.map_or("another resource's".to_owned(), |other| {
        format!("{other}'s")
    })
}

/// Asks, and says what is to be believed of the answers.
fn ask(question: &Question, index: u32) -> Result<Belief, PacketError> {
    let socket = PacketSocket::open_receiving(index, question.ethertype(), &question.marks())?;
    let mut answers = Answers::new(question.vip);
    let mut buffer = [0; LONGEST];
    while answers.want_a_question() {
        socket.send(&question.frame())?;
        answers.asked();
        let asked = Instant::now();
        // Whoever had no processor meanwhile still reads what came in time.
        let mut waiting = MOST_WAITING;
        while waiting > 0 {
            let left = PATIENCE.saturating_sub(asked.elapsed());
            if left.is_zero() {
                waiting -= 1;
            }
            match socket.receive(&mut buffer, left)? {
                Some(frame) => {
                    if let Some(answer) = question.answer(frame) {
                        answers.heard(answer);
                    }
                }
                None if left.is_zero() => break,
                None => {}
            }
        }
        if socket.has_lost()? {
            answers.lost();
        }
    }
    Ok(answers.belief())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::answer::Answer;
    use crate::model::vip::tests::a_vip;

    #[test]
    fn only_another_description_or_manager_keeps_a_vip_from_coming_up() {
        let vip = a_vip("10.77.0.99");
        let answer = |says| Answer {
            from: Mac([2, 0, 0, 0, 0, 7]),
            says,
        };
        let (cluster, own) = (answer(vip.mac), answer(Mac([2, 0, 0, 0, 0, 7])));
        for when in [When::BeforeItComes, When::BeforeItServes] {
            let judged = |believed| judge(&vip, believed, when, || panic!("nobody shares it"));
            // Where the description is what differs they answer without the manager too.
            let by_description = judge(&vip, Belief::Shared(cluster), when, || {
                Ok(Belief::Shared(cluster))
            });
            assert!(matches!(
                by_description,
                Err(Disagreement::Answered { mac, .. }) if mac == cluster.from
            ));
            for silence in [Belief::Free, Belief::Taken(own)] {
                let by_manager = judge(&vip, Belief::Shared(cluster), when, || Ok(silence));
                assert!(matches!(
                    by_manager,
                    Err(Disagreement::OtherManager { mac, other: None, .. }) if mac == cluster.from
                ));
            }
            for believed in [
                Belief::Free,
                Belief::Taken(own),
                Belief::Forged(cluster),
                Belief::Drowned,
            ] {
                assert!(judged(believed).is_ok(), "{believed:?}");
            }
        }
    }
}
