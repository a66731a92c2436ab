//! What somebody has tampered with is named, piece by piece.

use super::world::{World, takes};
use crate::model::host::{Beneath, NicState, Observed};
use crate::model::ruleset::{Family, Table};
use crate::model::vip::tests::a_vip;
use crate::model::vip::{L2Mode, Vip};
use crate::reading::health::{Drift, drift, is_only_a_route};
use crate::rules::names::{STEALTH, TO_HOST, dispatch_map, vip_chain};

/// A host with the VIP, and nothing wrong with it.
fn healthy(vip: &Vip) -> Observed {
    let mut world = World::fresh();
    let intent = takes(vip, 1);
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

const TAMPERINGS: [Tampering; 14] = [
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
    ("interface eth0", |host, _| {
        eth0(host).beneath = Some(Beneath {
            name: "eno1".into(),
            lock_ip4: Some(false),
            lock_ip6: Some(true),
        });
    }),
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
fn in_each_mode_what_it_needs_is_named_where_it_is_gone() {
    let of = |mode: L2Mode| {
        let vip = a_vip(match mode {
            L2Mode::Igmp => "10.79.0.99",
            _ => "10.77.0.97",
        });
        let mac = mode.mac(vip.address);
        Vip { mode, mac, ..vip }
    };
    let tamperings: [(L2Mode, Tampering); 5] = [
        (
            L2Mode::Igmp,
            ("group eth0 239.255.0.99", |host, vip| {
                let group = vip.group().expect("a group");
                eth0(host).addresses.retain(|held| held.address != group);
            }),
        ),
        (
            L2Mode::Stealth,
            ("membership eth0 02:bf:0a:4d:00:61", |host, _| {
                eth0(host).memberships.clear();
            }),
        ),
        (
            L2Mode::Stealth,
            ("element netdev stealth", |host, _| {
                let macs = table(host, Family::Netdev).sets.get_mut(STEALTH);
                macs.expect("a set").elements.clear();
            }),
        ),
        (
            L2Mode::Stealth,
            ("chain netdev to-host", |host, _| {
                let chain = table(host, Family::Netdev).chains.get_mut(TO_HOST);
                chain.expect("a chain").rules.pop();
            }),
        ),
        (
            L2Mode::Stealth,
            ("chain netdev ingress-eth0", |host, _| {
                let chain = table(host, Family::Netdev).chains.get_mut("ingress-eth0");
                chain.expect("a chain").rules.pop();
            }),
        ),
    ];
    for (mode, (piece, tamper)) in tamperings {
        let vip = of(mode);
        let mut host = healthy(&vip);
        assert_eq!(drift(&host, &vip, true), vec![]);
        tamper(&mut host, &vip);
        let found = drift(&host, &vip, true);
        let named = |drift: &Drift| drift.piece.starts_with(piece);
        assert!(found.iter().any(named), "{piece}: {found:?}");
    }
    // What another mode needs is of no matter.
    let vip = of(L2Mode::Stealth);
    let mut host = healthy(&vip);
    eth0(&mut host).lock_ip4 = Some(false);
    assert_eq!(drift(&host, &vip, true), vec![]);
}

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
