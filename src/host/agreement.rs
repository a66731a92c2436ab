//! Before a node takes its first bucket of a VIP: does anybody on the link share it under another
//! description, or does another resource? Two nodes that hash differently would answer the same packet, as would
//! two to which two resources give the same bucket; and a node that holds no bucket cannot see from its own
//! kernel what the others hold.

use crate::model::agreement::Question;
use crate::model::answer::Answer;
use crate::model::belief::{Answers, Belief, Holders, shared_otherwise};
use crate::model::host::NicState;
use crate::model::mac::Mac;
use crate::model::predecessor::Predecessor;
use crate::model::untrusted::Untrusted;
use crate::model::vip::{Manager, Vip};
use crate::plan::step::When;
use crate::sys::packet::{PacketError, PacketSocket};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long an answer may take. The kernel answers at once; a local network takes far less than a
/// millisecond.
const PATIENCE: Duration = Duration::from_millis(15);

/// How long it takes before an IPv6 VIP is asked for again where somebody is said to share it otherwise: longer than
/// 'nodectl check' asks, which may do so on any host, and whose answers all hear.
const PAUSE: Duration = Duration::from_millis(300);

/// How many frames are read after that, at most: a socket's usual room has a few hundred.
const MOST_WAITING: u32 = 1024;

/// More than Ethernet's usual 1500 bytes of a frame. A node's answer has less than 100.
const LONGEST: usize = 2048;

/// Somebody shares the VIP under another description, or it cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Disagreement {
    /// Somebody answers.
    #[error("{}", shared_otherwise(.address, .nic, .mac))]
    Answered {
        /// The VIP.
        address: IpAddr,
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
        address: IpAddr,
        /// The interface on which the answer came.
        nic: String,
        /// Who answered.
        mac: Mac,
        /// Who is to manage it here.
        own: Manager,
        /// Who manages it there, if that is known.
        other: Option<Untrusted>,
    },
    /// Somebody shares it who is none of ours, under this very MAC.
    #[error(
        "{mac} on {nic} shares {address} as a predecessor did: under {says}, without a description. Set compat, if it is \
         IPaddr2's: \"clusterip\" where the kernel's target CLUSTERIP shares it, \"ipaddr2\" where its newest rules do \
         (nodectl: --compat); or stop it there first. (agent: conflict_detection=\"false\", nodectl: --force; \
         they are for those who know better)"
    )]
    Predecessor {
        /// The VIP.
        address: std::net::IpAddr,
        /// The interface on which the answer came.
        nic: String,
        /// Who answered.
        mac: Mac,
        /// The cluster MAC that it has there.
        says: Mac,
    },
    /// A predecessor shares it, under another MAC than is to be here.
    #[error(
        "{mac} on {nic} shares {address} under {says}, and here it would be under {own}, so they would not get the same \
         packets. Set mac=\"{says}\" (nodectl: --mac), or find out why {predecessor} derives another one there: \
         ip, cidr_netmask and broadcast decide, and the broadcast address of the node's own address"
    )]
    OtherMac {
        /// The VIP.
        address: std::net::IpAddr,
        /// The interface on which the answer came.
        nic: String,
        /// Who answered.
        mac: Mac,
        /// The cluster MAC that it has there.
        says: Mac,
        /// The cluster MAC that it is to have here.
        own: Mac,
        /// Whom it is.
        predecessor: Predecessor,
    },
    /// It cannot be asked.
    #[error(transparent)]
    Packet(#[from] PacketError),
}

/// Who has an address: asked of a VIP with its description, or of one that nobody has described here (then all who share it
/// answer). `None` where the interface has no MAC to ask with.
pub fn holders(
    address: IpAddr,
    vip: Option<&Vip>,
    index: u32,
    nic_mac: Option<[u8; 6]>,
) -> Result<Option<Holders>, PacketError> {
    let Some(nic_mac) = nic_mac.map(Mac) else {
        return Ok(None);
    };
    let question = match vip {
        Some(vip) => Question::of(vip, nic_mac),
        None => Question {
            vip: address,
            digest: [0; 6],
            manager: None,
            nic_mac,
        },
    };
    let answers = ask(&question, index)?;
    told_apart(&question, answers, Duration::ZERO, |question| {
        ask(question, index)
    })
    .map(Some)
}

/// Who answered, with predecessors told from others by asking once more, if anybody shares the VIP.
fn told_apart(
    question: &Question,
    answers: Answers,
    pause: Duration,
    ask: impl Fn(&Question) -> Result<Answers, PacketError>,
) -> Result<Holders, PacketError> {
    let answers = confirmed(question, answers, pause, &ask)?;
    let without_rules = match answers.belief() {
        Belief::Shared(Answer { says, .. }) => {
            match Question::to_predecessors(question.vip, question.nic_mac) {
                Some(question) => confirmed(&question, ask(&question)?, pause, &ask)?.who_say(says),
                None => BTreeSet::new(),
            }
        }
        _ => BTreeSet::new(),
    };
    Ok(answers.holders(&without_rules))
}

/// The answers when it is asked again, where somebody is said to share the VIP. No answer repeats the digest that it is for:
/// those to a question that 'nodectl check' has asked meanwhile, calling from this host or, IPv6, from any, look like those to
/// this one. Who calls asks once a second, and what is asked here twice takes far less; who looks once has done so after the
/// pause; who disagrees answers again.
fn confirmed(
    question: &Question,
    answers: Answers,
    pause: Duration,
    ask: impl Fn(&Question) -> Result<Answers, PacketError>,
) -> Result<Answers, PacketError> {
    match answers.belief() {
        Belief::Shared(_) => {
            std::thread::sleep(pause);
            ask(question)
        }
        _ => Ok(answers),
    }
}

/// Asks once whether all who share the VIP agree with its description and have it from the same manager; those who share
/// it as the predecessor did that it is to be `beside` are told from them.
/// Takes some 30 ms, or 90 where answers are doubted, and up to four times that where somebody does not agree, or with IPv6
/// the pause more.
pub fn agree(
    vip: &Vip,
    state: &NicState,
    when: When,
    beside: Option<Predecessor>,
) -> Result<(), Disagreement> {
    let Some(nic_mac) = state.mac else {
        return Ok(());
    };
    let inquiry = Inquiry {
        vip,
        when,
        beside,
        pause: match vip.address {
            IpAddr::V4(_) => Duration::ZERO,
            IpAddr::V6(_) => PAUSE,
        },
        ask: |question: &Question| ask(question, state.index),
    };
    let question = Question::of(vip, nic_mac);
    match (inquiry.ask)(&question) {
        // Who cannot be heard cannot answer packets beside others.
        Err(error) if error.errno() == Some(libc::ENETDOWN) => Ok(()),
        answers => inquiry.judge(&question, answers?),
    }
}

/// Who was asked about a VIP, and how to ask further.
struct Inquiry<'a, Ask> {
    vip: &'a Vip,
    when: When,
    beside: Option<Predecessor>,
    /// Before he is asked again who does not agree.
    pause: Duration,
    ask: Ask,
}

impl<Ask: Fn(&Question) -> Result<Answers, PacketError>> Inquiry<'_, Ask> {
    /// What is believed decides whether the VIP may come up.
    fn judge(&self, question: &Question, answers: Answers) -> Result<(), Disagreement> {
        let holders = told_apart(question, answers, self.pause, &self.ask)?;
        if let Belief::Shared(Answer { from, .. }) = holders.belief {
            return Err(self.disagreement(question, from)?);
        }
        if let Some(predecessor) = holders.predecessor {
            self.beside(predecessor)?;
        }
        warn_of(self.vip, self.when, holders.belief);
        Ok(())
    }

    /// A predecessor shares it, who may be the one that is expected.
    fn beside(&self, Answer { from: mac, says }: Answer) -> Result<(), Disagreement> {
        let vip = self.vip;
        let (address, nic) = (vip.address, vip.nic.to_string());
        match self.beside {
            None => Err(Disagreement::Predecessor {
                address,
                nic,
                mac,
                says,
            }),
            Some(predecessor) if says != vip.mac => Err(Disagreement::OtherMac {
                address,
                nic,
                mac,
                says,
                own: vip.mac,
                predecessor,
            }),
            Some(predecessor) => {
                info!("{mac} on {nic} shares {address} as {predecessor} did, under {says} too");
                Ok(())
            }
        }
    }

    /// A node of ours does not agree: with the description, or with who manages it.
    fn disagreement(&self, question: &Question, mac: Mac) -> Result<Disagreement, PacketError> {
        let of_description = Question {
            manager: None,
            ..*question
        };
        let (address, nic) = (self.vip.address, self.vip.nic.to_string());
        Ok(match (self.ask)(&of_description)?.belief() {
            Belief::Free | Belief::Taken(_) => Disagreement::OtherManager {
                address,
                nic,
                mac,
                own: self.vip.manager.clone(),
                other: None,
            },
            _ => Disagreement::Answered { address, nic, mac },
        })
    }
}

/// What keeps no VIP from coming up, and its operator should know.
fn warn_of(vip: &Vip, when: When, belief: Belief) {
    let (address, nic) = (vip.address, &vip.nic);
    match belief {
        Belief::Free | Belief::Shared(_) => {}
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
    let is_shared = |question| {
        Ok(matches!(
            ask(question, state.index)?.belief(),
            Belief::Shared(_)
        ))
    };
    Ok(!is_shared(&others)? && is_shared(&own)?)
}

fn whose(other: Option<&Untrusted>) -> String {
    other.map_or("another resource's".to_owned(), |other| {
        format!("{other}'s")
    })
}

/// Asks as often as it takes; the answers.
fn ask(question: &Question, index: u32) -> Result<Answers, PacketError> {
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
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::agreement::OF_NONE;
    use crate::model::vip::tests::a_vip;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 8]);

    fn says(from: Mac, says: Mac) -> Answer {
        Answer { from, says }
    }

    /// What is heard of these, to all questions.
    fn heard(vip: &Vip, all: &[Answer]) -> Answers {
        let mut answers = Answers::new(vip.address);
        while answers.want_a_question() {
            answers.asked();
            all.iter().for_each(|answer| answers.heard(*answer));
        }
        answers
    }

    /// What a VIP that is to be beside somebody meets, where these answer: whoever asks, a description alone, and
    /// predecessors.
    fn judged(
        beside: Option<Predecessor>,
        when: When,
        [all, of_description, without_rules]: [&[Answer]; 3],
    ) -> Result<(), Disagreement> {
        let vip = a_vip("10.77.0.99");
        let question = Question::of(&vip, Mac([2, 0, 0, 0, 0, 1]));
        let inquiry = Inquiry {
            vip: &vip,
            when,
            beside,
            pause: Duration::ZERO,
            ask: |asked: &Question| {
                let all = match asked {
                    asked if *asked == question => all,
                    asked if asked.digest == OF_NONE => without_rules,
                    _ => of_description,
                };
                Ok(heard(&vip, all))
            },
        };
        inquiry.judge(&question, heard(&vip, all))
    }

    #[test]
    fn an_answer_to_somebody_elses_question_is_not_believed_when_it_is_asked_again() {
        let vip = a_vip("10.77.0.99");
        let question = Question::of(&vip, Mac([2, 0, 0, 0, 0, 1]));
        let node = [says(OWN, vip.mac)];
        for (disagrees, beside) in [(false, None), (true, Some(Predecessor::Ipaddr2))] {
            // What nodes answer to the question of 'nodectl check' comes once, while each of ours is asked first.
            let strays = std::cell::RefCell::new(Vec::new());
            let inquiry = Inquiry {
                vip: &vip,
                when: When::BeforeItComes,
                beside,
                pause: Duration::ZERO,
                ask: |asked: &Question| {
                    let is_first = !strays.borrow().contains(asked);
                    strays.borrow_mut().push(*asked);
                    let answers = disagrees && asked.digest != OF_NONE;
                    let comes = answers || is_first;
                    Ok(heard(&vip, if comes { &node } else { &[] }))
                },
            };
            let judged = inquiry.judge(&question, (inquiry.ask)(&question).expect("asked"));
            match disagrees {
                false => assert!(judged.is_ok(), "{judged:?}"),
                // And nobody is taken for a predecessor by that.
                true => assert!(matches!(
                    judged,
                    Err(Disagreement::Answered { mac: OWN, .. })
                )),
            }
        }
    }

    #[test]
    fn only_another_description_or_manager_keeps_a_vip_from_coming_up() {
        let vip = a_vip("10.77.0.99");
        let (cluster, own) = (says(OWN, vip.mac), says(OWN, OWN));
        for when in [When::BeforeItComes, When::BeforeItServes] {
            for beside in [None, Some(Predecessor::ClusterIp)] {
                // Where the description is what differs they answer without the manager too.
                let by_description = judged(beside, when, [&[cluster], &[cluster], &[]]);
                assert!(matches!(
                    by_description,
                    Err(Disagreement::Answered { mac, .. }) if mac == cluster.from
                ));
                for silence in [&[][..], &[own]] {
                    let by_manager = judged(beside, when, [&[cluster], silence, &[]]);
                    assert!(matches!(
                        by_manager,
                        Err(Disagreement::OtherManager { mac, other: None, .. }) if mac == cluster.from
                    ));
                }
                let contradicting = [cluster, own];
                for heard in [&[][..], &[own], &contradicting] {
                    assert!(judged(beside, when, [heard, &[], &[]]).is_ok(), "{heard:?}");
                }
            }
        }
    }

    #[test]
    fn a_predecessor_is_told_from_a_node_of_another_description() {
        let vip = a_vip("10.77.0.99");
        let (old, ours) = (says(OWN, vip.mac), says(OTHER, vip.mac));
        let when = When::BeforeItComes;
        let beside = Some(Predecessor::Ipaddr2);
        let alone = [&[old][..], &[old], &[old]];
        assert!(judged(beside, when, alone).is_ok());
        assert!(matches!(
            judged(None, when, alone),
            Err(Disagreement::Predecessor { mac: OWN, says, .. }) if says == vip.mac
        ));
        // Among predecessors one of ours is found.
        let mixed = [old, ours];
        assert!(matches!(
            judged(beside, when, [&mixed, &mixed, &[old]]),
            Err(Disagreement::Answered { mac: OTHER, .. })
        ));
        let elsewhere = [says(OWN, Mac([3, 0, 0, 0, 0, 1]))];
        assert!(matches!(
            judged(beside, when, [&elsewhere; 3]),
            Err(Disagreement::OtherMac { mac: OWN, own, .. }) if own == vip.mac
        ));
    }
}
