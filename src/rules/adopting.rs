//! The rules for buckets that are adopted, and only while some are: where another node still drains
//! connections of a bucket, this one must not reset them. Pure.
//!
//! Nothing is done to what comes in. What the stack would say of connections that it does not know,
//! a bare RST, is dropped on its way out, behind all address translation, so that it is also seen of
//! services behind NAT on this node. The set `adopting-…` ends by itself, and the rules with it.
//!
//! What is left here of connections that this node had would speak too, and with an ACK: a socket in
//! TIME-WAIT answers every segment of the connection that its client has begun since, from the same port
//! and with another node. So what is left is in the set `stale-…` before the bucket is served, and segments
//! to it are dropped, until a SYN begins anew.
//!
//! **The safety net.** It may be that nobody drains them after all. So if a client's data tell that some
//! seconds after others it has still heard nothing, its flow is an orphan, and orphans get their RST. What
//! is sent again tells that, but so do probes of a closed window, which are answered, and come again for as
//! long as it is closed: `Sign` says how the two are told apart. An orphan is a flow together with the number
//! that its client acknowledges; its RST carries that number. So a new connection from the same port is no
//! orphan. How long that is, is weighed: Linux sends a segment again after about 0.2, 0.6, 1.4, 3 and 6 s.
//! Less would take the connections of a client whose way back is jammed for a moment; more would let the
//! clients of a dead node wait longer.

use super::connection_words::{
    Sign, flow_and_number, flow_and_number_key, flow_key, flow_words_of_host,
};
use super::names::*;
use super::sentence::{Ports, REG0, Sentence, Way};
use crate::model::phase::Phases;
use crate::model::ruleset::{
    Chain, Data, Element, Family, Hook, Learn, Lifetime, Ruleset, Set, SetSpec, Target,
};
use crate::model::vip::Vip;
use std::net::IpAddr;

/// For how long a segment may come again unanswered, from its first sighting on.
const FRESH_MS: u64 = 4_000;
/// How long a sighting is remembered. A pause between two of them is longer only for clients that have
/// been sending the same for half a minute.
const SIGHTED_MS: u64 = 16_000;
/// How long an orphan is one: until it has got its RST. If that is lost, it comes to be one again.
const ORPHAN_MS: u64 = 10_000;
/// The most segments with data that are remembered, some 100 bytes each; what comes beyond that waits
/// until the bucket is owned.
const MOST_SIGHTED: u32 = 262_144;
const MOST_ORPHANS: u32 = 65_536;
/// The most connections of which something is left, some 100 bytes each. Beyond that TIME-WAIT may say its
/// ACK, to a client that has used its port again within a minute; it does no more than that.
const MOST_STALE: u32 = 65_536;
/// How long one is remembered that was put into the set without a time of its own; none is.
const STALE_MS: u64 = 86_400_000;
/// Before connection tracking (−200) and address translation; and behind them (100, 300).
const PRIORITY_BEFORE: i32 = -290;
const PRIORITY_AFTER: i32 = 310;

const ORPHAN: &str = "seen again after seconds, unanswered: nobody has this connection";
const SEEN: &str = "seen";
const FRESH: &str = "seen for the first time, or again a moment later";
const DATA: &str = "data in buckets that are adopted";
const ANEW: &str = "who begins anew speaks to this node";
const STALE: &str = "left of a connection that this node had: another one may have its successor";
const SILENT: &str = "another node may have this connection";

/// The family of the VIP's table for this.
pub fn family(vip: IpAddr) -> Family {
    match vip {
        IpAddr::V4(_) => Family::Ip4,
        IpAddr::V6(_) => Family::Ip6,
    }
}

/// Adds the rules of all VIPs that adopt.
pub(crate) fn add(rules: &mut Ruleset, vips: &[(Vip, Phases)]) {
    let mut adopt: Vec<_> = vips
        .iter()
        .filter(|(_, phases)| phases.needs_adopting_rules())
        .collect();
    adopt.sort_by_key(|(vip, _)| vip.address.to_string());
    for (vip, phases) in adopt {
        let table = rules.entry(family(vip.address)).or_default();
        let chains = &mut table.chains;
        let before = chains.entry(BEFORE.to_owned());
        let before = before.or_insert_with(|| Chain::hooked(Hook::Before, PRIORITY_BEFORE));
        let incoming = [anew(vip), stale(vip), data(vip)];
        before
            .rules
            .extend(incoming.into_iter().map(Sentence::rule));
        let after = chains.entry(AFTER.to_owned());
        let after = after.or_insert_with(|| Chain::hooked(Hook::After, PRIORITY_AFTER));
        after.rules.push(silence(vip).rule());
        chains.insert(sightings_chain(vip.address), sightings(vip.address));
        table.sets.extend(sets(vip, phases));
    }
}

fn ports(vip: &Vip) -> Ports {
    match vip.hasher.mode.has_ports() {
        true => Ports::At(0),
        false => Ports::None,
    }
}

/// Only by the VIP's interface: what comes in by another one was never in a bucket.
fn incoming(vip: &Vip, why: &'static str) -> Sentence {
    Sentence::because(why)
        .came_by(&vip.nic)
        .for_vip(vip.address)
        .tcp(vip.address)
}

fn anew(vip: &Vip) -> Sentence {
    let set = stale_set(vip.address);
    incoming(vip, ANEW)
        .syn()
        .learn_flow(&set, Learn::Forget, vip.address)
}

fn stale(vip: &Vip) -> Sentence {
    incoming(vip, STALE)
        .no_syn()
        .flow_in(&stale_set(vip.address), vip.address)
        .bucket(vip, ports(vip), Way::In)
        .in_set(&adopting_set(vip.address), REG0)
        .counter_drop()
}

fn data(vip: &Vip) -> Sentence {
    Sentence::because(DATA)
        .for_vip(vip.address)
        .tcp(vip.address)
        .data()
        .bucket(vip, ports(vip), Way::In)
        .in_set(&adopting_set(vip.address), REG0)
        .goto(&sightings_chain(vip.address))
}

fn silence(vip: &Vip) -> Sentence {
    Sentence::because(SILENT)
        .of_vip(vip.address)
        .tcp(vip.address)
        .bare_rst()
        .bucket(vip, ports(vip), Way::Out)
        .in_set(&adopting_set(vip.address), REG0)
        .answers_orphan_not_in(&orphans_set(vip.address), vip.address)
        .counter_drop()
}

fn sightings(vip: IpAddr) -> Chain {
    let (sighted, fresh) = (sighted_set(vip), fresh_set(vip));
    let of = |sign| {
        let because = |why| Sentence::because(why).can_tell(sign, vip);
        [
            because(ORPHAN)
                .told_in(&sighted, sign, vip)
                .told_not_in(&fresh, sign, vip)
                .learn_orphan(&orphans_set(vip), vip)
                .accept(),
            because(FRESH).note_told(&fresh, sign, vip),
            // Where the first set is full, what comes again would be taken for an orphan at once.
            because(SEEN)
                .told_in(&fresh, sign, vip)
                .note_told(&sighted, sign, vip),
        ]
    };
    let rules = [Sign::Stamped, Sign::Plain].into_iter().flat_map(of);
    Chain::of(rules.map(Sentence::rule))
}

pub(super) fn sets(vip: &Vip, phases: &Phases) -> Vec<(String, Set)> {
    let address = vip.address;
    let learnt = |key, lifetime, most| {
        Set::new(SetSpec {
            lifetime: Lifetime::Learnt(lifetime),
            ..SetSpec::new(key, Data::None, most).worded(flow_and_number(address))
        })
    };
    let buckets = vip.buckets.get();
    let mut adopting = Set::new(SetSpec::of_ending_numbers(buckets, Data::None));
    for (bucket, left_ms) in &phases.adopting {
        let element = Element::new(Target::None).ending(*left_ms);
        adopting.elements.insert(bucket_key(*bucket), element);
    }
    let segments = |lifetime| learnt(flow_and_number_key(address), lifetime, MOST_SIGHTED);
    vec![
        (adopting_set(address), adopting),
        (stale_set(address), Set::new(stale_spec(address))),
        (
            orphans_set(address),
            learnt(flow_and_number_key(address), ORPHAN_MS, MOST_ORPHANS),
        ),
        (fresh_set(address), segments(FRESH_MS)),
        (sighted_set(address), segments(SIGHTED_MS)),
    ]
}

/// What the set of what is left is made for.
pub(crate) fn stale_spec(vip: IpAddr) -> SetSpec {
    SetSpec {
        lifetime: Lifetime::Learnt(STALE_MS),
        ..SetSpec::new(flow_key(vip), Data::None, MOST_STALE).worded(flow_words_of_host(vip))
    }
}

/// Takes the VIP's rules for this out of the ruleset, and tables that only had them.
pub(crate) fn remove(rules: &mut Ruleset, vip: IpAddr) {
    let Some(table) = rules.get_mut(&family(vip)) else {
        return;
    };
    let ours = sets_of(vip);
    table.chains.remove(&sightings_chain(vip));
    for name in [BEFORE, AFTER] {
        if let Some(chain) = table.chains.get_mut(name) {
            chain.rules.retain(|rule| !rule.uses(&ours));
        }
    }
    table.sets.retain(|name, _| !ours.contains(name));
    let idle = |chain: &Chain| chain.base.is_some() && chain.rules.is_empty();
    table
        .chains
        .retain(|name, chain| ![BEFORE, AFTER].contains(&name.as_str()) || !idle(chain));
    if table.chains.is_empty() && table.sets.is_empty() {
        rules.remove(&family(vip));
    }
}
