//! The property tests of the rules: what they do, as `kernel_rules` runs them, is what `model::packet` says,
//! in every phase of a bucket.

use super::kernel_rules::{Kernel, Packet};
use crate::model::agreement::{OF_NONE, Question};
use crate::model::announce;
use crate::model::bucket::BucketSet;
use crate::model::frame::neighbour_message;
use crate::model::hash::Flow;
use crate::model::mac::Mac;
use crate::model::packet::{Datagram, Judgement, Taker, is_in_vlan, judge};
use crate::model::phase::{Phase, Phases};
use crate::model::protocol::{AH, ESP, ICMP, ICMP6, TCP, UDP, VLAN, VLAN_OF_PROVIDER};
use crate::model::ruleset::Family;
use crate::model::vip::tests::{a_vip, any_vip};
use crate::model::vip::{L2Mode, Vip};
use crate::rules::leaving::flow_bytes;
use crate::rules::names::{flows_set, ingress_chain};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

/// What a client sends; from few clients, so that they meet again.
#[derive(Debug, Clone)]
struct Sent {
    client: u8,
    protocol: usize,
    ports: (u8, u8),
    /// TCP's flags, or the ICMP type.
    flags: u8,
    fragment: (u16, bool, u16),
    length: usize,
    /// Has the node listed its flow when its bucket left?
    listed: bool,
    /// The tag's kind, and its priority and VLAN.
    tag: Option<(u16, u16)>,
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let fragment = prop_oneof![
        4 => Just((0, false)),
        1 => Just((0, true)),
        2 => (1u16..0x1fff, any::<bool>()),
    ];
    let length = prop_oneof![4 => Just(24usize), 1 => 0usize..24];
    let vlan = prop_oneof![Just(0u16), 1u16..0x1000];
    let tag = (
        prop::sample::select(vec![VLAN, VLAN_OF_PROVIDER]),
        vlan,
        0u16..16,
    );
    let tag = tag.prop_map(|(kind, vlan, priority)| (kind, priority << 12 | vlan));
    let tag = prop::option::weighted(0.3, tag);
    let rest = (fragment, 0u16..3, length, any::<bool>(), tag);
    (0u8..4, 0usize..6, (0u8..3, 0u8..2), any::<u8>(), rest).prop_map(
        |(client, protocol, ports, flags, ((offset, more), id, length, listed, tag))| Sent {
            client,
            protocol,
            ports,
            flags,
            fragment: (offset, more, id),
            length,
            listed,
            tag,
        },
    )
}

fn client_of(vip: &Vip, number: u8) -> IpAddr {
    match vip.address {
        IpAddr::V4(_) => [192, 0, 2, number].into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

impl Sent {
    fn to(&self, vip: &Vip) -> Packet {
        let icmp = if vip.address.is_ipv4() { ICMP } else { ICMP6 };
        let protocol = [TCP, TCP, UDP, ESP, AH, icmp][self.protocol];
        let mut payload = vec![0, self.ports.0, 0, self.ports.1];
        payload.resize(24, self.ports.0);
        payload[13] = self.flags;
        if protocol == icmp {
            payload[0] = self.flags % 16;
        }
        payload.truncate(self.length);
        let client = client_of(vip, self.client);
        Packet::ip(client, vip.address, protocol, self.fragment, &payload)
            .for_mac(vip.mac)
            .tagged(self.tag)
    }
}

/// Every phase, by turns, from one of them on.
fn by_turns(vip: &Vip, first: u16) -> Phases {
    let nth = |turns: &[u16]| -> Vec<u16> {
        let all = 0..vip.buckets.get();
        all.filter(|bucket| turns.contains(&((bucket + first) % 6)))
            .collect()
    };
    let ending = |turn| nth(&[turn]).into_iter().map(|bucket| (bucket, 1_000));
    Phases {
        adopting: ending(1).collect(),
        closing: ending(2).collect(),
        draining: ending(3).collect(),
        offered: ending(4).collect(),
        ..Phases::owning(nth(&[0, 1]).into_iter().collect())
    }
}

/// A node as `model::packet` has it: the flows that stay, and which datagrams it has begun to take.
struct Mirror<'a> {
    vip: &'a Vip,
    phases: &'a Phases,
    flows: BTreeSet<Flow>,
    begun: BTreeMap<Datagram, bool>,
}

impl Mirror<'_> {
    fn takes(&mut self, judgement: Judgement) -> bool {
        let Judgement {
            taker,
            datagram,
            segment,
        } = judgement;
        let phase = match taker {
            Taker::Everyone => return true,
            Taker::FollowsFirst { may_wait } => {
                let first = datagram.and_then(|datagram| self.begun.get(&datagram));
                return first.copied().unwrap_or(may_wait);
            }
            Taker::Nobody => Phase::Foreign,
            Taker::Bucket(bucket) => self.phases.of(bucket),
        };
        let takes = match phase {
            Phase::Owned | Phase::Adopting | Phase::Offered => true,
            Phase::Foreign => false,
            leaving => segment.is_some_and(|segment| segment.is_taken(leaving, &self.flows)),
        };
        if let (Phase::Draining, Some(segment)) = (phase, segment) {
            if let (Some(true), Some(flow)) = (segment.syn, segment.flow) {
                self.flows.remove(&flow);
            }
        }
        if let Some(datagram) = datagram {
            self.begun.insert(datagram, takes);
        }
        takes
    }
}

proptest! {
    #[test]
    fn the_rules_take_what_the_mirror_says_in_every_phase(
        vip in any_vip(), first in 0u16..6, all in prop::collection::vec(any_sent(), 1..40),
        in_kind in prop::sample::select(vec![None, Some("veth"), Some("vlan")]),
    ) {
        let phases = by_turns(&vip, first);
        let mut kernel = Kernel::with(&[(vip.clone(), phases.clone())]);
        let (vip, phases) = (&vip, &phases);
        let mut mirror = Mirror { vip, phases, flows: BTreeSet::new(), begun: BTreeMap::new() };
        for sent in all.iter().filter(|sent| sent.listed) {
            let segment = judge(vip, &sent.to(vip).bytes).and_then(|judgement| judgement.segment);
            if let Some(flow) = segment.and_then(|segment| segment.flow) {
                mirror.flows.insert(flow);
                kernel.knows(flows_set(vip.address), flow_bytes(&flow));
            }
        }
        for sent in &all {
            let mut packet = sent.to(vip);
            packet.in_kind = in_kind;
            let came = packet.kind;
            let judgement = judge(mirror.vip, &packet.bytes).expect("it is for the VIP");
            let is_others = is_in_vlan(packet.link()) && in_kind != Some("vlan");
            let accepted = kernel.accepts(Family::Netdev, &ingress_chain(&vip.nic), &mut packet);
            if is_others {
                prop_assert!(accepted && packet.kind == came, "{:?}", sent);
                continue;
            }
            prop_assert_eq!(accepted, mirror.takes(judgement), "{:?}: {:?}", sent, judgement);
            // What came to the cluster MAC is for this host then, or TCP is ignored.
            prop_assert_eq!(packet.kind == 0, accepted);
        }
    }

    #[test]
    fn what_is_for_no_vip_passes_as_it_is(vip in any_vip(), sent in any_sent()) {
        let mut kernel = Kernel::with(&[(vip.clone(), Phases::default())]);
        let other = Vip { address: client_of(&vip, 99), ..vip.clone() };
        let mut packet = sent.to(&other);
        let came = packet.kind;
        let accepted = kernel.accepts(Family::Netdev, &ingress_chain(&vip.nic), &mut packet);
        prop_assert!(accepted && packet.kind == came);
    }

    /// Where another node may have the connection, the stack does not say that there is none; it says all
    /// else.
    #[test]
    fn only_bare_resets_of_adopted_buckets_are_kept_back(
        vip in any_vip(), first in 0u16..6, client in 0u8..9, port: u16, flags in 0u8..64,
    ) {
        let phases = by_turns(&vip, first);
        let mut kernel = Kernel::with(&[(vip.clone(), phases.clone())]);
        let client = client_of(&vip, client);
        let flow = Flow { source: client, source_port: port, destination_port: 80 };
        let adopted = phases.adopting.contains_key(&vip.bucket(&flow));
        let family = if client.is_ipv4() { Family::Ip4 } else { Family::Ip6 };
        let mut says = |from, flags| {
            let mut packet = Packet::tcp((from, 80), (client, port), flags, (7, 0));
            !phases.needs_adopting_rules() || kernel.accepts(family, "adopting-out", &mut packet)
        };
        let bare = flags & 0x14 == 0x04;
        prop_assert_eq!(says(vip.address, flags), !(adopted && bare));
        prop_assert!(says(client_of(&vip, 100), 0x04), "the node's own address");
    }
}

/// A promiscuous node sees what comes to other nodes' own MACs too.
#[test]
fn what_comes_to_an_unlearnt_mac_is_this_hosts_and_what_comes_to_another_is_not() {
    for address in ["10.77.0.99", "fd77::99"] {
        let multicast = a_vip(address);
        let mode = L2Mode::Stealth;
        let mac = mode.mac(multicast.address);
        let vip = Vip {
            mode,
            mac,
            ..multicast
        };
        let all: BucketSet = (0..vip.buckets.get()).collect();
        let phases = Phases::owning(all);
        let mut kernel = Kernel::with(&[(vip.clone(), phases)]);
        let mut kind_of = |mut packet: Packet| {
            assert!(kernel.accepts(Family::Netdev, "ingress-eth0", &mut packet));
            packet.kind
        };
        let segment = Packet::tcp((client_of(&vip, 1), 4000), (vip.address, 80), 2, (0, 0));
        let other = Mac([2, 0, 0, 0, 0, 7]);
        assert_eq!(kind_of(segment.clone().for_mac(mac)), 0);
        assert_eq!(kind_of(segment.for_mac(other)), 3);
        let arp = announce::frame([10, 77, 0, 7].into(), other.0, mac.0, [0; 6]);
        let arp = Packet::framed(&arp, "");
        assert_eq!(kind_of(arp.clone().for_mac(mac)), 0);
        assert_eq!(kind_of(arp.for_mac(other)), 3);
    }
}

#[test]
fn what_leaves_the_node_names_the_cluster_mac_and_by_its_interface_alone() {
    let own = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    let (vip4, vip6) = (a_vip("10.77.0.99"), a_vip("fd77::99"));
    let vips = [&vip4, &vip6].map(|vip| (vip.clone(), Phases::default()));
    let mut kernel = Kernel::with(&vips);

    let arp = |from: [u8; 4], mac: [u8; 6], reply: bool| {
        let mut frame = announce::frame(from.into(), mac, own, [0; 6]);
        frame[21] = if reply { 2 } else { 1 };
        frame
    };
    for (from, said, reply) in [
        ([10, 77, 0, 99], vip4.mac.0, true),
        ([10, 77, 0, 99], vip4.mac.0, false),
        ([10, 77, 0, 1], own, true),
    ] {
        let mut packet = Packet::framed(&arp(from, own, reply), "eth0");
        assert!(kernel.accepts(Family::Arp, "output", &mut packet));
        assert_eq!(packet.bytes, arp(from, said, reply)[14..], "{from:?}");
    }
    let mut elsewhere = Packet::framed(&arp([10, 77, 0, 99], own, true), "eth1");
    assert!(!kernel.accepts(Family::Arp, "output", &mut elsewhere));

    let IpAddr::V6(address) = vip6.address else {
        panic!("{vip6:?}");
    };
    let router = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
    let advertised = |target: Ipv6Addr, mac: [u8; 6]| {
        let body = [&[0x60, 0, 0, 0], &target.octets()[..], &[2, 1], &mac].concat();
        neighbour_message(136, &body, target, router, [2; 6], own)
    };
    let solicited = |from: Ipv6Addr, mac: [u8; 6]| {
        let body = [&[0; 4], &router.octets()[..], &[1, 1], &mac].concat();
        neighbour_message(135, &body, from, router, [2; 6], own)
    };
    for (found, said) in [
        (advertised(address, own), advertised(address, vip6.mac.0)),
        (solicited(address, own), solicited(address, vip6.mac.0)),
        (advertised(router, own), advertised(router, own)),
    ] {
        let mut packet = Packet::framed(&found, "eth0");
        assert!(kernel.accepts(Family::Ip6, "output", &mut packet));
        assert_eq!(packet.bytes, said[14..]);
    }
}

#[test]
fn only_who_asks_by_another_description_or_for_another_manager_gets_an_answer() {
    let vips = ["10.77.0.99", "fd77::99"].map(|vip| (a_vip(vip), Phases::default()));
    let mut kernel = Kernel::with(&vips);
    for (vip, _) in &vips {
        let mut hears = |digest, manager, cut, tag: Option<(u16, u16)>| {
            let nic_mac = Mac([2, 0, 0, 0, 0, 7]);
            let question = Question {
                vip: vip.address,
                digest,
                manager,
                nic_mac,
            };
            let mut frame = question.frame();
            frame.truncate(frame.len() - cut);
            let mut packet = Packet::framed(&frame, "").tagged(tag);
            match vip.address {
                IpAddr::V4(_) => kernel.accepts(Family::Arp, "input", &mut packet),
                IpAddr::V6(_) => kernel.accepts(Family::Netdev, "ingress-eth0", &mut packet),
            }
        };
        let (own, manager) = (vip.probe_digest(), vip.manager_digest());
        assert!(!hears(own, Some(manager), 0, None), "{vip:?}");
        // As versions ask that know of no managers, and where somebody has cut the padding off.
        assert!(!hears(own, None, 0, None), "{vip:?}");
        let padding = if vip.address.is_ipv4() { 18 } else { 0 };
        assert!(!hears(own, None, padding, None), "{vip:?}");
        for other in [None, Some(manager), Some([7; 6])] {
            assert!(hears([7; 6], other, 0, None), "{vip:?}");
        }
        assert!(hears(own, Some([7; 6]), 0, None), "{vip:?}");
        assert!(!hears(own, Some([7; 6]), padding.max(8), None), "{vip:?}");
        // Who asks for predecessors alone hears nothing of these, in the one family in which it is asked.
        let silent = vip.address.is_ipv4();
        assert_eq!(!hears(OF_NONE, None, 0, None), silent, "{vip:?}");
        // ARP comes to its hook by the VLAN's own interface, and is not asked for a tag.
        if vip.address.is_ipv6() {
            assert!(hears(own, Some(manager), 0, Some((VLAN, 10))), "{vip:?}");
            assert!(
                !hears(own, Some(manager), 0, Some((VLAN, 0xe000))),
                "{vip:?}"
            );
        }
    }
}
