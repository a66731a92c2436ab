//! What somebody has tampered with is named, piece by piece.

use super::world::World;
use crate::model::bucket::BucketSet;
use crate::model::host::{NicState, Observed};
use crate::model::ruleset::{Family, Table};
use crate::model::vip::Vip;
use crate::model::vip::tests::a_vip;
use crate::plan::step::Intent;
use crate::reading::health::{Drift, drift, is_only_a_route};
use crate::rules::names::{TO_HOST, dispatch_map, vip_chain};

/// A host with the VIP, and nothing wrong with it.
fn healthy(vip: &Vip) -> Observed {
    let mut world = World::fresh();
    let intent = Intent::Take {
        vip: vip.clone(),
        buckets: BucketSet::one(1),
        adopt_ms: None,
    };
    world.go(&intent, 99).expect("taken");
    world.host
}

fn eth0(host: &mut Observed) -> &mut NicState {
    host.nics.get_mut("eth0").expect("an interface")
}

fn table(host: &mut Observed, family: Family) -> &mut Table {
    host.rules.get_mut(&family).expect("a table")
}

/// What somebody does behind the agent's back, and the first words of the piece that differs then.
type Tampering = (&'static str, fn(&mut Observed, &Vip));

const TAMPERINGS: [Tampering; 13] = [
    ("address eth0", |host, vip| {
        eth0(host)
            .addresses
            .retain(|held| held.address != vip.address);
    }),
    ("address eth0", |host, vip| {
        let mut held = eth0(host).addresses.iter_mut();
        let held = held.find(|held| held.address == vip.address);
        held.expect("an address").no_source = false;
    }),
    ("address eth1", |host, vip| {
        let held = eth0(host).held(vip.address).expect("an address").clone();
        let other = NicState {
            addresses: vec![held],
            ..NicState::default()
        };
        host.nics.insert("eth1".to_owned(), other);
    }),
    ("interface eth0", |host, _| eth0(host).admin_up = false),
    ("interface eth0", |host, _| eth0(host).carrier = false),
    ("membership eth0", |host, _| eth0(host).memberships.clear()),
    ("route ", |host, _| eth0(host).routes.clear()),
    ("sysctl net.ipv4.conf.eth0", |host, _| {
        eth0(host).lock_ip4 = Some(false);
    }),
    ("chain netdev vip-", |host, vip| {
        let chain = table(host, Family::Netdev)
            .chains
            .get_mut(&vip_chain(vip.address));
        chain.expect("a chain").rules.pop();
    }),
    ("chain netdev to-host", |host, _| {
        let chain = table(host, Family::Netdev).chains.get_mut(TO_HOST);
        chain.expect("a chain").rules.pop();
    }),
    // Older versions did not have this rule either, but wrote none of today's.
    ("chain arp input", |host, _| {
        let chain = table(host, Family::Arp).chains.get_mut("input");
        chain.expect("a chain").rules.remove(0);
    }),
    ("element netdev ip4-eth0", |host, vip| {
        let map = dispatch_map(&vip.nic, vip.address);
        let map = table(host, Family::Netdev).sets.get_mut(&map);
        map.expect("a map").elements.clear();
    }),
    ("table arp", |host, _| {
        table(host, Family::Arp).flags = 1;
    }),
];

#[test]
fn what_somebody_has_tampered_with_is_named() {
    let vip = a_vip("10.77.0.99");
    let healthy = healthy(&vip);
    assert_eq!(drift(&healthy, &vip, true), vec![]);
    for (n, (piece, tamper)) in TAMPERINGS.into_iter().enumerate() {
        let mut host = healthy.clone();
        tamper(&mut host, &vip);
        let found = drift(&host, &vip, true);
        let named = |drift: &Drift| drift.piece.starts_with(piece);
        assert!(found.iter().any(named), "{n}, {piece}: {found:?}");
        assert_eq!(is_only_a_route(&found), piece == "route ", "{found:?}");
    }
}
