//! The rules for buckets that leave, and only while some do: TCP connections stay with the node that
//! has them. Pure.
//!
//! A bucket that leaves is an element of the map `leaving-…`, which ends by itself. A packet of a
//! bucket that is not owned is looked up there too; if it is TCP it goes to one of two chains:
//!
//! | chain | bucket | takes |
//! |---|---|---|
//! | `vip-…-closing` | closing | what begins no connection, until the connections are listed |
//! | `vip-…-draining` | draining | what is of a flow in the set `flows-…` |
//!
//! A SYN takes its flow out of the set and is dropped: who begins anew has done with the old
//! connection, and its remains must not answer beside the new owner. What those chains do not take
//! goes the way of everything foreign.

use super::connection_words::{flow_at_ingress, flow_key};
use super::names::*;
use super::sentence::{Ports, REG0, Sentence, Way};
use crate::model::hash::Flow;
use crate::model::phase::Phases;
use crate::model::ruleset::{Chain, Data, Element, Learn, Lifetime, Set, SetSpec, Target, Verdict};
use crate::model::vip::Vip;
use std::net::IpAddr;

/// How long a flow is remembered that was put into the set without a time of its own; none is.
const FLOW_LIFETIME_MS: u64 = 86_400_000;

/// The most connections of a VIP that can stay, some 100 bytes each; the kernel makes room for a table
/// of 4 MiB. Without a number it would take 65,535 (`nft_dynset_init()`).
pub const MOST_FLOWS: u32 = 262_144;

/// How often the kernel looks for flows that have ended. Once a second it would walk through a hundred
/// thousand of them for the whole time that they stay.
const FLOWS_COLLECTED_MS: u32 = 10_000;

const LEAVING: &str = "TCP in buckets that leave";
const CONNECTION: &str = "a connection stays while its bucket leaves";
const LATER: &str = "TCP's later fragments have no flags and ports";
const ANEW: &str = "who begins anew has done with the old connection";
const FOREIGN: &str = "foreign: another node answers";
const FIRST_FOREIGN: &str = "foreign: so are the later ones";

/// The rule behind each rule that looks up what is owned; `None` while no bucket leaves.
pub(crate) fn rule(vip: &Vip, phases: &Phases, ports: Ports) -> Option<Sentence> {
    phases.needs_leaving_rules().then(|| {
        Sentence::because(LEAVING)
            .tcp(vip.address)
            .bucket(vip, ports, Way::In)
            .vmap(&leaving_map(vip.address), REG0)
    })
}

/// The chains for TCP in closing and draining buckets; none while no bucket leaves.
pub(crate) fn chains(vip: &Vip, phases: &Phases) -> Vec<(String, Chain)> {
    if !phases.needs_leaving_rules() {
        return Vec::new();
    }
    let address = vip.address;
    let closing = Sentence::because(CONNECTION).no_syn().goto(TO_HOST);
    let draining = [
        Sentence::because(ANEW)
            .syn()
            .learn_flow(&flows_set(address), Learn::Forget, address),
        Sentence::because(CONNECTION)
            .no_syn()
            .flow_in(&flows_set(address), address)
            .goto(TO_HOST),
    ];
    vec![
        (closing_chain(address), chain(vip, [closing])),
        (draining_chain(address), chain(vip, draining)),
    ]
}

/// What is special to the chain, between what both have in common.
fn chain(vip: &Vip, own: impl IntoIterator<Item = Sentence>) -> Chain {
    let address = vip.address;
    let mut rules = Vec::new();
    // With ports in the hash they never come as far as here.
    if !vip.hasher.mode.has_ports() {
        rules.push(
            Sentence::because(LATER)
                .later_fragment(address)
                .goto(TO_HOST),
        );
    }
    rules.extend(own);
    if vip.hasher.mode.has_ports() {
        rules.push(
            Sentence::because(FIRST_FOREIGN)
                .fragment(address)
                .datagram_in(fragment_sets(address).begun, address)
                .keep(fragment_sets(address).foreign, address)
                .counter_drop(),
        );
    }
    rules.push(Sentence::because(FOREIGN).counter_drop());
    Chain::of(rules.into_iter().map(Sentence::rule))
}

/// The map of buckets that leave and the set of flows; none while no bucket leaves.
pub(crate) fn sets(vip: &Vip, phases: &Phases) -> Vec<(String, Set)> {
    if !phases.needs_leaving_rules() {
        return Vec::new();
    }
    let address = vip.address;
    let buckets = vip.buckets.get();
    let mut leaving = Set::new(SetSpec::of_ending_numbers(buckets, Data::Verdict));
    let goes_to = |chain| Element::new(Target::Verdict(Verdict::Goto(chain)));
    let closing = phases.closing.iter().map(|of| (of, closing_chain(address)));
    let draining = phases
        .draining
        .iter()
        .map(|of| (of, draining_chain(address)));
    for ((bucket, left_ms), chain) in closing.chain(draining) {
        let element = goes_to(chain).ending(*left_ms);
        leaving.elements.insert(bucket_key(*bucket), element);
    }
    vec![
        (leaving_map(address), leaving),
        (flows_set(address), Set::new(flows_spec(address))),
    ]
}

/// What the set of flows is made for.
pub fn flows_spec(vip: IpAddr) -> SetSpec {
    SetSpec {
        lifetime: Lifetime::Learnt(FLOW_LIFETIME_MS),
        collected_ms: Some(FLOWS_COLLECTED_MS),
        ..SetSpec::new(flow_key(vip), Data::None, MOST_FLOWS).worded(flow_at_ingress(vip))
    }
}

/// The key of a flow in that set.
pub fn flow_bytes(flow: &Flow) -> Vec<u8> {
    let mut key = address_bytes(flow.source);
    for port in [flow.source_port, flow.destination_port] {
        key.extend(port.to_be_bytes());
        key.extend([0; 2]);
    }
    key
}

/// The flow that a key in that set stands for.
pub fn flow_of_bytes(key: &[u8]) -> Option<Flow> {
    let (address, ports) = key.split_at_checked(key.len().checked_sub(8)?)?;
    let source: IpAddr = match address.len() {
        4 => <[u8; 4]>::try_from(address).ok()?.into(),
        _ => <[u8; 16]>::try_from(address).ok()?.into(),
    };
    let port = |at: usize| Some(u16::from_be_bytes(ports.get(at..at + 2)?.try_into().ok()?));
    Some(Flow {
        source,
        source_port: port(0)?,
        destination_port: port(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn flows_survive_being_keys(address: [u8; 4], ports: (u16, u16)) {
            let (source, (source_port, destination_port)) = (address.into(), ports);
            let flow = Flow { source, source_port, destination_port };
            let key = flow_bytes(&flow);
            prop_assert_eq!(key.len(), flows_spec(source).key_len());
            prop_assert_eq!(flow_of_bytes(&key), Some(flow));
        }

        #[test]
        fn whatever_the_kernel_says_is_no_panic(key: Vec<u8>) {
            let _ = flow_of_bytes(&key);
        }
    }
}
