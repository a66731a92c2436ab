//! A call: a frame for the cluster MAC with the VIP inside, which every node hears that the network delivers it to, and
//! which nobody answers. And what else a listener on the link wants to hear: the question of nodes, and who asks for
//! groups. Pure.
//!
//! A call is an echo *reply* that nobody has asked for (RFC 792, RFC 4443 §4.2), which every stack drops in silence, so
//! that it may come to nodes with the VIP and without. What tells it from others is a word in its data; behind that
//! stand a number for the round, which frame of it this is, how many there are, and, of a node that shares the VIP, six bytes of
//! its description's digest: where a network silences the question of nodes, their descriptions can be compared by it.

use super::frame::{NEIGHBOUR_SOLICITATION, NONCE_OPTION, checksum, ethernet, internet_checksum};
use super::mac::Mac;
use super::protocol::{ETHERTYPE_ARP, ETHERTYPE_IP4, ETHERTYPE_IP6, ICMP, ICMP6};
use super::written::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const WORD: [u8; 16] = *b"clusterip--check";
/// No router passes it on.
const TTL: u8 = 1;
const ECHO_REPLY: u8 = 0;
const ECHO_REPLY_IP6: u8 = 129;
const IGMP: u8 = 2;
const IGMP_QUERY: u8 = 0x11;
const HOP_BY_HOP: u8 = 0;
const MLD_QUERY: u8 = 130;
/// More callers and queriers than this are not remembered.
const MOST: usize = 1024;

/// What stands in the digest's place where a caller asks as nodes do: any host may ask for an address from nowhere
/// (RFC 5227 §2.1.1), and only who calls is missed.
pub const CALLED: Digest = *b"called";

/// One frame of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The VIP inside.
    pub vip: IpAddr,
    /// The cluster MAC.
    pub to: Mac,
    /// The own MAC of the interface that calls.
    pub nic_mac: Mac,
    /// An address of the caller, of the VIP's family.
    pub from: IpAddr,
    /// Which round it is of.
    pub round: u64,
    /// Which frame of that, from 0.
    pub number: u32,
    /// How many the round has.
    pub of: u32,
    /// By which description the caller shares the VIP, if he does.
    pub digest: Option<Digest>,
}

/// In the digest's place where the caller does not share the VIP. No description has it, but by one chance in 2^48.
const NONE: Digest = [0; 6];

impl Call {
    /// The whole Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut data = vec![0; 8];
        data.extend(WORD);
        data.extend(self.round.to_be_bytes());
        data.extend(self.number.to_be_bytes());
        data.extend(self.of.to_be_bytes());
        data.extend(self.digest.unwrap_or(NONE));
        let (to, nic_mac) = (self.to.0, self.nic_mac.0);
        match (self.vip, self.from) {
            (IpAddr::V6(vip), from) => {
                let from = match from {
                    IpAddr::V6(from) => from,
                    IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
                };
                data[0] = ECHO_REPLY_IP6;
                let sum = checksum(from, vip, &data);
                data[2..4].copy_from_slice(&sum.to_be_bytes());
                let mut frame = ethernet(to, nic_mac, ETHERTYPE_IP6);
                frame.extend([0x60, 0, 0, 0]);
                frame.extend((data.len() as u16).to_be_bytes());
                frame.extend([ICMP6, TTL]);
                frame.extend(from.octets());
                frame.extend(vip.octets());
                frame.extend(data);
                frame
            }
            (IpAddr::V4(vip), from) => {
                let from = match from {
                    IpAddr::V4(from) => from,
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                };
                data[0] = ECHO_REPLY;
                let sum = internet_checksum(&data);
                data[2..4].copy_from_slice(&sum.to_be_bytes());
                let mut header = vec![0x45, 0];
                header.extend((20 + data.len() as u16).to_be_bytes());
                // No identification; not to be fragmented.
                header.extend([0, 0, 0x40, 0, TTL, ICMP, 0, 0]);
                header.extend(from.octets());
                header.extend(vip.octets());
                let sum = internet_checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                let mut frame = ethernet(to, nic_mac, ETHERTYPE_IP4);
                frame.extend(header);
                frame.extend(data);
                frame
            }
        }
    }
}

/// What frames a listener need not be given: pairs of an EtherType, and a byte at a place in the frame. What is wanted has
/// one of them.
pub const WANTED: [(u16, u32, u8); 5] = [
    // ARP requests.
    (ETHERTYPE_ARP, 21, 1),
    (ETHERTYPE_IP4, 23, ICMP),
    (ETHERTYPE_IP4, 23, IGMP),
    (ETHERTYPE_IP6, 20, ICMP6),
    (ETHERTYPE_IP6, 20, HOP_BY_HOP),
];

/// What was overheard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overheard {
    Call(Call),
    /// A caller asks for the VIP as nodes do before they share it.
    Question(Mac),
    /// Somebody asks who is in which group.
    Query(Mac, Family),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ip4,
    Ip6,
}

/// What a frame says to a listener, if it is of that kind.
fn overheard(frame: &[u8], vip: IpAddr) -> Option<Overheard> {
    let mac = |at: usize| Some(Mac(frame.get(at..at + 6)?.try_into().ok()?));
    let (to, from) = (mac(0)?, mac(6)?);
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let rest = frame.get(14..)?;
    match (kind, vip) {
        (ETHERTYPE_ARP, IpAddr::V4(vip)) => {
            let asks = rest.get(6..8)? == [0, 1]
                && rest.get(14..18)? == [0; 4]
                && rest.get(18..24)? == CALLED;
            let is_about_it = rest.get(24..28)? == vip.octets();
            (asks && is_about_it).then_some(Overheard::Question(from))
        }
        (ETHERTYPE_IP4, _) => {
            let body = rest.get(4 * usize::from(rest.first()? & 0x0f)..)?;
            let protocol = *rest.get(9)?;
            // A general query is for no group in particular (RFC 3376 §4.1.9).
            if protocol == IGMP {
                let is_general = *body.first()? == IGMP_QUERY && body.get(4..8)? == [0; 4];
                return is_general.then_some(Overheard::Query(from, Family::Ip4));
            }
            let address = |at: usize| -> Option<Ipv4Addr> {
                Some(<[u8; 4]>::try_from(rest.get(at..at + 4)?).ok()?.into())
            };
            let (source, target) = (address(12)?, address(16)?);
            let is_reply = protocol == ICMP && *body.first()? == ECHO_REPLY;
            match is_reply && IpAddr::V4(target) == vip {
                true => call(body, to, from, source.into(), vip),
                false => None,
            }
        }
        (ETHERTYPE_IP6, _) => {
            let address = |at: usize| -> Option<Ipv6Addr> {
                Some(<[u8; 16]>::try_from(rest.get(at..at + 16)?).ok()?.into())
            };
            let (source, target) = (address(8)?, address(24)?);
            let body = rest.get(40..)?;
            match *rest.get(6)? {
                // Queries of MLD are behind a router alert (RFC 3810 §5).
                HOP_BY_HOP => {
                    let length = 8 * (usize::from(*body.get(1)?) + 1);
                    let message = body.get(length..)?;
                    let is_general = *body.first()? == ICMP6
                        && *message.first()? == MLD_QUERY
                        && message.get(8..24)? == [0; 16];
                    is_general.then_some(Overheard::Query(from, Family::Ip6))
                }
                ICMP6 if *body.first()? == NEIGHBOUR_SOLICITATION => {
                    let is_about_it =
                        IpAddr::V6(<[u8; 16]>::try_from(body.get(8..24)?).ok()?.into()) == vip;
                    let is_a_callers =
                        body.get(24..26)? == [NONCE_OPTION, 1] && body.get(26..32)? == CALLED;
                    let asks = source.is_unspecified() && is_about_it && is_a_callers;
                    asks.then_some(Overheard::Question(from))
                }
                ICMP6 if *body.first()? == ECHO_REPLY_IP6 && IpAddr::V6(target) == vip => {
                    call(body, to, from, source.into(), vip)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn call(message: &[u8], to: Mac, nic_mac: Mac, from: IpAddr, vip: IpAddr) -> Option<Overheard> {
    let data = message.get(8..)?.strip_prefix(&WORD)?;
    let number = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let (number, of) = (number(8)?, number(12)?);
    let round = u64::from_be_bytes(data.get(..8)?.try_into().ok()?);
    let digest: Digest = data.get(16..22)?.try_into().ok()?;
    (number < of).then_some(Overheard::Call(Call {
        vip,
        to,
        nic_mac,
        from,
        round,
        number,
        of,
        digest: (digest != NONE).then_some(digest),
    }))
}

/// Who called, and what of it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The MAC of his interface.
    pub mac: Mac,
    /// An address of his.
    pub address: IpAddr,
    /// How many frames of his came, each counted once.
    pub heard: u32,
    /// How many he has sent, or is about to.
    pub sent: u32,
    /// By which description he shares the VIP, if he does.
    pub digest: Option<Digest>,
}

/// Who called for the VIP under another MAC than is listened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The MAC of his interface.
    pub mac: Mac,
    /// An address of his.
    pub address: IpAddr,
    /// Under which MAC.
    pub to: Mac,
    /// By which description he shares the VIP, if he does.
    pub digest: Option<Digest>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    rounds: BTreeMap<(Mac, u64), (Caller, BTreeSet<u32>)>,
    elsewhere: BTreeMap<(Mac, Mac), Elsewhere>,
    /// Which callers asked for the VIP as nodes do before they share it.
    pub questions: BTreeSet<Mac>,
    /// Who asked for IPv4 groups.
    pub queries_ip4: BTreeSet<Mac>,
    /// Who asked for IPv6 groups.
    pub queries_ip6: BTreeSet<Mac>,
    /// For how many seconds it was listened.
    pub seconds: u64,
    /// Were there more frames than could be read?
    pub has_lost: bool,
}

impl Heard {
    /// Nothing yet, of what comes in so many seconds.
    pub fn within(seconds: u64) -> Self {
        Heard {
            seconds,
            ..Heard::default()
        }
    }

    /// Takes a frame in, for this VIP and under this MAC.
    pub fn take(&mut self, frame: &[u8], vip: IpAddr, cluster_mac: Mac) {
        let note = |all: &mut BTreeSet<Mac>, mac| {
            if all.len() < MOST {
                all.insert(mac);
            }
        };
        match overheard(frame, vip) {
            Some(Overheard::Question(from)) => note(&mut self.questions, from),
            Some(Overheard::Query(from, Family::Ip4)) => note(&mut self.queries_ip4, from),
            Some(Overheard::Query(from, Family::Ip6)) => note(&mut self.queries_ip6, from),
            Some(Overheard::Call(call)) if call.to == cluster_mac => {
                let round = (call.nic_mac, call.round);
                if self.rounds.len() >= MOST && !self.rounds.contains_key(&round) {
                    return;
                }
                let (caller, numbers) = self.rounds.entry(round).or_insert_with(|| {
                    let caller = Caller {
                        mac: call.nic_mac,
                        address: call.from,
                        heard: 0,
                        sent: call.of,
                        digest: call.digest,
                    };
                    (caller, BTreeSet::new())
                });
                if call.of == caller.sent && numbers.len() < MOST && numbers.insert(call.number) {
                    caller.heard += 1;
                }
            }
            Some(Overheard::Call(call)) => {
                let way = (call.nic_mac, call.to);
                if self.elsewhere.len() < MOST || self.elsewhere.contains_key(&way) {
                    let elsewhere = Elsewhere {
                        mac: call.nic_mac,
                        address: call.from,
                        to: call.to,
                        digest: call.digest,
                    };
                    self.elsewhere.insert(way, elsewhere);
                }
            }
            None => {}
        }
    }

    /// Who called for the VIP under other MACs.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Elsewhere> {
        self.elsewhere.values()
    }

    /// Who called.
    pub fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.rounds.values().map(|(caller, _)| caller)
    }
}

/// The longest round: as many frames as are remembered.
pub const LONGEST_ROUND: u32 = MOST as u32;

#[cfg(test)]
mod tests {
    use super::super::agreement::Question;
    use super::*;
    use proptest::prelude::*;

    const CLUSTER: Mac = Mac([1, 0, 0x5e, 0x7f, 0, 0x63]);
    const NIC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn a_call(vip: &str, from: &str) -> Call {
        Call {
            vip: vip.parse().expect("an address"),
            to: CLUSTER,
            nic_mac: NIC,
            from: from.parse().expect("an address"),
            round: 0x0102_0304_0506_0708,
            number: 3,
            of: 10,
            digest: Some([1, 2, 3, 4, 5, 6]),
        }
    }

    #[test]
    fn a_call_is_heard_as_it_was_made_once_and_under_its_mac() {
        for (vip, from) in [("10.77.0.99", "10.77.0.1"), ("fd77::99", "fd77::1")] {
            let call = a_call(vip, from);
            assert_eq!(
                overheard(&call.frame(), call.vip),
                Some(Overheard::Call(call))
            );
            let mut heard = Heard::default();
            for _ in 0..2 {
                heard.take(&call.frame(), call.vip, CLUSTER);
            }
            heard.take(&Call { number: 4, ..call }.frame(), call.vip, CLUSTER);
            heard.take(&Call { number: 5, ..call }.frame(), call.vip, NIC);
            let callers: Vec<_> = heard.callers().cloned().collect();
            let caller = Caller {
                mac: NIC,
                address: call.from,
                heard: 2,
                sent: 10,
                digest: call.digest,
            };
            let alone = Call {
                digest: None,
                ..call
            };
            assert_eq!(
                overheard(&alone.frame(), call.vip),
                Some(Overheard::Call(alone))
            );
            assert_eq!(callers, [caller]);
            let elsewhere: Vec<Mac> = heard.elsewhere().map(|call| call.to).collect();
            assert_eq!(elsewhere, [CLUSTER], "another MAC was listened for once");
            // Another VIP's is none.
            let other = match call.vip {
                IpAddr::V4(_) => IpAddr::from([10, 77, 0, 98]),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            assert_eq!(overheard(&call.frame(), other), None);
        }
    }

    #[test]
    fn only_a_callers_question_is_one() {
        for vip in ["10.77.0.99", "fd77::99"] {
            let question = |digest| Question {
                vip: vip.parse().expect("an address"),
                digest,
                manager: None,
                nic_mac: NIC,
            };
            let heard = |digest| overheard(&question(digest).frame(), question(digest).vip);
            assert_eq!(heard(CALLED), Some(Overheard::Question(NIC)));
            // That of a host that is about to use the address, and that of a node.
            assert_eq!((heard([0; 6]), heard([7; 6])), (None, None));
        }
    }

    #[test]
    fn receivers_take_its_checksums_for_right() {
        let frame = a_call("10.77.0.99", "10.77.0.1").frame();
        assert_eq!(internet_checksum(&frame[14..34]), 0);
        assert_eq!(internet_checksum(&frame[34..]), 0);
        let frame = a_call("fd77::99", "fd77::1").frame();
        let (from, to) = ("fd77::1", "fd77::99");
        let address = |text: &str| text.parse().expect("an address");
        assert_eq!(checksum(address(from), address(to), &frame[54..]), 0);
    }

    #[test]
    fn what_is_wanted_passes_the_filter() {
        let frames = [
            a_call("10.77.0.99", "10.77.0.1").frame(),
            a_call("fd77::99", "fd77::1").frame(),
        ];
        for frame in frames {
            let kind = u16::from_be_bytes([frame[12], frame[13]]);
            let passes =
                |(of, at, value): &(u16, u32, u8)| *of == kind && frame[*at as usize] == *value;
            assert!(WANTED.iter().any(passes));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_no_panic_and_bounded(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..20),
            kind in prop::sample::select(vec![[8u8, 6], [8, 0], [0x86, 0xdd]]),
        ) {
            let mut heard = Heard::default();
            for mut frame in frames {
                if frame.len() > 14 {
                    frame[12..14].copy_from_slice(&kind);
                }
                heard.take(&frame, IpAddr::from([10, 77, 0, 99]), CLUSTER);
                heard.take(&frame, Ipv6Addr::LOCALHOST.into(), CLUSTER);
            }
            prop_assert!(heard.callers().count() <= MOST);
        }
    }
}
