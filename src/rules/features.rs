//! What our rules need of a kernel, feature by feature: each a transaction that a kernel with it
//! accepts, and one without refuses. They are only ever checked, never kept. Pure.

use super::sentence::REG0;
use crate::model::change::Change;
use crate::model::ruleset::{
    BaseChain, Chain, Data, Element, Expr, Family, Found, Header, Hook, KeyPart, Learn, Lifetime,
    MetaKey, Rule, SetSpec, Target, Verdict,
};
use std::collections::BTreeMap;

/// Something that a kernel has or lacks.
#[derive(Debug, Clone)]
pub struct Feature {
    /// What it is, as a part of a sentence.
    pub what: &'static str,
    /// The kernel's configuration option, and the module where it is one.
    pub option: &'static str,
    /// The transaction that needs it.
    pub changes: Vec<Change>,
}

/// The chain and the set of these transactions.
const PROBE: &str = "probe";
/// What old kernels lacked, all from 5.10 on have with nf_tables itself.
const IN_CORE: &str = "CONFIG_NF_TABLES of Linux 5.10 or later";
/// A device that every network namespace has.
const DEVICE: &str = "lo";

/// Everything, the more basic first, and last what VIPs of one address family alone need.
pub fn features() -> Vec<Feature> {
    let base = |family, hook, priority| {
        let base = Some(BaseChain { hook, priority });
        let chain = Chain {
            base,
            ..Chain::default()
        };
        vec![
            Change::AddTable(family),
            Change::AddChain(family, PROBE.to_owned(), chain),
        ]
    };
    let feature = |what, option, changes| Feature {
        what,
        option,
        changes,
    };
    vec![
        feature(
            "nf_tables chains at ingress of an interface",
            "CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS",
            base(Family::Netdev, Hook::Ingress(DEVICE.to_owned()), -300),
        ),
        feature(
            "jhash in nf_tables",
            "CONFIG_NFT_HASH, module nft_hash",
            rule([
                ip4_source(),
                Expr::ToHostOrder {
                    from: REG0,
                    to: REG0,
                },
                Expr::Hash {
                    from: REG0,
                    len: 4,
                    to: REG0,
                    modulus: 12,
                    seed: 1,
                },
            ]),
        ),
        feature(
            "limits in nf_tables",
            "CONFIG_NFT_LIMIT, module nft_limit",
            rule([Expr::AtMostASecond { packets: 1 }]),
        ),
        feature(
            "counters on the elements of nf_tables maps",
            IN_CORE,
            counting_map(),
        ),
        feature(
            "nf_tables sets that packets fill and empty",
            IN_CORE,
            learning(),
        ),
        feature(
            "elements of nf_tables maps that end by themselves",
            IN_CORE,
            ending_map(),
        ),
        feature(
            "IPv6 extension headers in nf_tables",
            IN_CORE,
            rule([Expr::FragmentHeader {
                offset: 2,
                len: 2,
                to: REG0,
            }]),
        ),
        feature(
            "setting the packet type at ingress",
            IN_CORE,
            rule([
                Expr::Load {
                    to: REG0,
                    value: vec![0],
                },
                Expr::SetMeta {
                    key: MetaKey::PacketType,
                    from: REG0,
                },
            ]),
        ),
        feature(
            "changing packets with their checksums in nf_tables",
            IN_CORE,
            rule([
                ip4_source(),
                Expr::Write {
                    header: Header::Transport,
                    offset: 26,
                    len: 6,
                    from: REG0,
                    checksum: Some(2),
                },
            ]),
        ),
        feature(
            "nf_tables chains for ARP",
            "CONFIG_NF_TABLES_ARP",
            base(Family::Arp, Hook::ArpOutput, 0),
        ),
        feature(
            "nf_tables chains for IPv4",
            "CONFIG_NF_TABLES_IPV4",
            base(Family::Ip4, Hook::After, 0),
        ),
        feature(
            "nf_tables chains for IPv6",
            "CONFIG_NF_TABLES_IPV6",
            base(Family::Ip6, Hook::Ip6Output, 0),
        ),
    ]
}

fn ip4_source() -> Expr {
    Expr::Payload {
        header: Header::Network,
        offset: 12,
        len: 4,
        to: REG0,
    }
}

/// A chain with one rule.
fn rule(exprs: impl IntoIterator<Item = Expr>) -> Vec<Change> {
    let rule = Rule {
        exprs: exprs.into_iter().collect(),
        text: PROBE.to_owned(),
        ..Rule::default()
    };
    vec![
        Change::AddTable(Family::Netdev),
        Change::AddChain(Family::Netdev, PROBE.to_owned(), Chain::default()),
        Change::AddRule(Family::Netdev, PROBE.to_owned(), rule),
    ]
}

fn counting_map() -> Vec<Change> {
    let spec = SetSpec {
        counters: true,
        ..SetSpec::of_numbers(12, Data::Verdict, 12)
    };
    verdict_map(spec, Element::new(Target::Verdict(Verdict::Drop)))
}

fn ending_map() -> Vec<Change> {
    let spec = SetSpec {
        lifetime: Lifetime::Each,
        ..SetSpec::of_numbers(12, Data::Verdict, 12)
    };
    let drop = Element::new(Target::Verdict(Verdict::Drop));
    verdict_map(spec, drop.ending(1000))
}

/// A map with one element, and a rule that looks it up.
fn verdict_map(spec: SetSpec, element: Element) -> Vec<Change> {
    let lookup = Expr::Lookup {
        set: PROBE.to_owned(),
        from: REG0,
        found: Found::Verdict,
    };
    let mut changes = with_set(spec.clone(), [ip4_source(), lookup]);
    let elements = BTreeMap::from([(vec![0; 4], element)]);
    changes.push(Change::AddElements(
        Family::Netdev,
        PROBE.to_owned(),
        spec,
        elements,
    ));
    changes
}

fn learning() -> Vec<Change> {
    let spec = SetSpec {
        lifetime: Lifetime::Learnt(1000),
        ..SetSpec::new(vec![KeyPart::Ip4], Data::None, 16)
    };
    let learn = |what| Expr::Learn {
        set: PROBE.to_owned(),
        from: REG0,
        what,
    };
    with_set(
        spec,
        [ip4_source(), learn(Learn::Forget), learn(Learn::Keep)],
    )
}

fn with_set(spec: SetSpec, exprs: impl IntoIterator<Item = Expr>) -> Vec<Change> {
    let mut changes = rule(exprs);
    let set = Change::AddSet(Family::Netdev, PROBE.to_owned(), spec);
    changes.insert(1, set);
    changes
}
