//! VIPs come and go among each other, among other managers' addresses and the node's own, and among
//! others' routes. Property tests of `addressing` and `going`, on the model of `kernel_addresses`.

use super::world::{By, Way, World, leaves, many_vips, many_vips6, takes, way};
use crate::model::bucket::BucketSet;
use crate::model::host::Held;
use crate::model::host::tests::an_address;
use crate::model::vip::tests::a_vip;
use crate::model::vip::{Vip, longest_prefix};
use crate::plan::step::Intent;
use crate::reading::addressing::{is_cut_off, is_sound};
use crate::reading::health::{drift, is_only_a_route};
use crate::reading::installed::{Installed, find, installed};
use proptest::prelude::*;
use std::net::IpAddr;

fn come_or_go(vip: &Vip, world: &World) -> Intent {
    match find(&world.host.rules, vip.address) {
        None => takes(vip, 3),
        Some(_) => leaves(vip.address),
    }
}

/// Addresses of the node's and of other managers, some in the VIPs' network, some with other prefixes.
fn others() -> Vec<Held> {
    vec![
        an_address("192.0.2.50", 24),
        an_address("192.0.2.51", 24),
        an_address("192.0.2.52", 24),
        an_address("192.0.2.53", 32),
        an_address("192.0.2.54", 16),
        an_address("192.0.2.5", 24),
        an_address("10.77.0.1", 16),
    ]
}

fn others6() -> Vec<Held> {
    let noprefixroute = true;
    vec![
        an_address("fd77::1", 64),
        an_address("fd77::2", 128),
        Held {
            noprefixroute,
            ..an_address("fd77::3", 64)
        },
        Held {
            noprefixroute,
            valid_s: Some(3600),
            ..an_address("fd77::4", 64)
        },
        an_address("fd77::50", 64),
    ]
}

/// Routes to the VIPs' networks that are there in some way of the many.
fn any_way() -> impl Strategy<Value = Way> {
    let networks = prop_oneof![
        Just("192.0.2.0/24"),
        Just("192.0.2.0/25"),
        Just("fd77::/64")
    ];
    let metrics = prop_oneof![Just(100u32), Just(256), Just(1024)];
    let by = prop_oneof![Just(By::Advertisement), Just(By::Person)];
    (networks, metrics, by, any::<bool>()).prop_map(|(network, metric, by, ends)| Way {
        ends: ends && network.contains(':'),
        ..way(network, metric, by)
    })
}

/// What somebody does: a VIP comes or goes, another address does, a VIP is to end, or all that are do.
type Event = (usize, usize, bool);

/// Plays it, and holds what has to be so after each of it.
fn play(events: &[Event]) -> Result<(), TestCaseError> {
    let mut world = World::bare();
    world.ways.push(way("198.51.100.0/24", 5, By::Person));
    world.tell();
    let mut is_alone = false;
    for &(kind, n, promote) in events {
        let there: Vec<Held> = others()
            .into_iter()
            .filter(|held| world.has(held))
            .collect();
        let (vip, other) = (&many_vips()[n], &others()[n % others().len()]);
        match kind {
            0 => {
                world
                    .go(&come_or_go(vip, &world), 99)
                    .map_err(TestCaseError::fail)?;
                for held in there {
                    prop_assert!(
                        world.has(&held),
                        "{} went with {}",
                        held.address,
                        vip.address
                    );
                }
            }
            1 => {
                let done = match world.has(other) {
                    true => world.delete(other.address, other.prefix, promote),
                    false => world.add(other.clone()),
                };
                done.map_err(TestCaseError::fail)?;
            }
            // A VIP that only drains gets a lifetime.
            2 => {
                let state = world.nic();
                let held = state.held(vip.address).cloned();
                if let Some(held) = held.filter(|held| state.can_end(held)) {
                    let is_it = |other: &&mut Held| **other == held;
                    let mut addresses = state.addresses.iter_mut();
                    addresses.find(is_it).expect("itself").valid_s = Some(1);
                }
            }
            // All lifetimes are over, before anybody has tidied up.
            _ => {
                let state = &world.host.nics["eth0"];
                let over: Vec<Held> = state
                    .addresses
                    .iter()
                    .filter(|held| held.valid_s.is_some())
                    .cloned()
                    .collect();
                for held in over {
                    world
                        .delete(held.address, held.prefix, promote)
                        .map_err(TestCaseError::fail)?;
                    let vip = many_vips()
                        .into_iter()
                        .find(|vip| vip.address == held.address);
                    let vip = vip.expect("only VIPs end");
                    let leave = leaves(vip.address);
                    world.go(&leave, 99).map_err(TestCaseError::fail)?;
                }
                for held in there {
                    prop_assert!(world.has(&held), "{} ended too", held.address);
                }
            }
        }
        // Where somebody else takes his last address away while a VIP is to end, nothing can be kept.
        let state = &world.host.nics["eth0"];
        let ends = state.addresses.iter().any(|held| held.valid_s.is_some());
        let stays = state.addresses.iter().any(|held| held.valid_s.is_none());
        is_alone |= kind == 1 && (!stays || ends);
        prop_assert!(is_alone || world.has_way("198.51.100.0/24"));
        // The monitor puts back a way that went with a wider one.
        for Installed { vip, .. } in installed(&world.host.rules) {
            if is_only_a_route(&drift(&world.host, &vip, true)) {
                let nothing = Intent::Take {
                    vip,
                    buckets: BucketSet::default(),
                    adopt_ms: None,
                };
                world.go(&nothing, 99).map_err(TestCaseError::fail)?;
            }
        }
        let state = &world.host.nics["eth0"];
        for Installed { vip, .. } in installed(&world.host.rules) {
            prop_assert!(
                state
                    .held(vip.address)
                    .is_some_and(|held| is_sound(state, held, &vip))
            );
            prop_assert!(!is_cut_off(&world.host, &vip));
        }
        let addresses: Vec<IpAddr> = many_vips().iter().map(|vip| vip.address).collect();
        for to in ["192.0.2.7", "10.77.0.7"] {
            let source = world.source(to.parse().expect("an address"));
            prop_assert!(
                source.is_none_or(|source| !addresses.contains(&source)),
                "{source:?}"
            );
        }
    }
    for Installed { vip, .. } in installed(&world.host.rules) {
        prop_assert_eq!(drift(&world.host, &vip, true), vec![]);
    }
    Ok(())
}

proptest! {
    /// VIPs come and go among each other, among other managers' addresses and the node's own, in any
    /// order, whatever `promote_secondaries` says, and end by themselves.
    #[test]
    fn no_vip_hangs_on_another_address_and_none_on_a_vip(
        events in prop::collection::vec((0usize..4, 0usize..16, any::<bool>()), 1..30),
    ) {
        play(&events)?;
    }

    /// What routes were there stay as they were, lifetimes and all, and what came with VIPs goes.
    #[test]
    fn a_vip_leaves_the_routes_as_they_were(
        ways in prop::collection::btree_set(any_way(), 0..5),
        held in prop::collection::vec(any::<bool>(), 12),
        events in prop::collection::vec(0usize..20, 1..30),
    ) {
        let mut world = World::bare();
        let all: Vec<Held> = others().into_iter().chain(others6()).collect();
        for (other, _) in all.iter().zip(&held).filter(|(_, there)| **there) {
            world.add(other.clone()).map_err(TestCaseError::fail)?;
        }
        for way in ways {
            let taken = |other: &Way| other.network == way.network && other.metric == way.metric;
            if !world.ways.iter().any(taken) {
                world.ways.push(way);
            }
        }
        world.tell();
        let sorted = |world: &World| {
            let mut ways: Vec<Way> = world.ways.iter().copied().filter(|way| way.by != By::Us).collect();
            ways.sort();
            ways
        };
        let before = sorted(&world);
        let vips: Vec<Vip> = many_vips().into_iter().chain(many_vips6()).collect();
        for n in events {
            world.go(&come_or_go(&vips[n], &world), 99).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&sorted(&world), &before);
            for ours in world.ways.iter().filter(|way| way.by == By::Us) {
                let after = |other: &&Way| other.by != By::Us && other.metric >= ours.metric;
                let mut others = world.ways.iter().filter(after);
                prop_assert!(others.all(|other| other.network != ours.network), "{ours:?} comes first");
            }
        }
        for vip in installed(&world.host.rules) {
            world.go(&come_or_go(&vip.vip, &world), 99).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(&sorted(&world), &before);
        prop_assert!(!world.ways.iter().any(|way| way.by == By::Us));
    }
}

#[test]
fn what_version_0_1_0_left_is_put_right_by_the_next_start() {
    for (vip, own) in [
        (a_vip("10.77.0.99"), "10.77.0.1"),
        (many_vips6()[0].clone(), "fd77::1"),
    ] {
        let mut world = World::bare();
        world.add(an_address(own, vip.prefix)).expect("its own");
        world.go(&come_or_go(&vip, &world), 99).expect("taken");
        let network = vip.network().expect("a network");
        for form in [longest_prefix(vip.address), vip.prefix] {
            let found = world.host.nics["eth0"].forms(vip.address);
            if found.count() == 1 && form == longest_prefix(vip.address) {
                world.delete(vip.address, form, false).expect("deleted");
            }
        }
        world.ways.retain(|way| way.by != By::Us);
        let old = Held {
            no_source: vip.address.is_ipv6(),
            ..an_address(&vip.address.to_string(), vip.prefix)
        };
        world.add(old).expect("as it was");
        // It is well as it is, and a start makes it better.
        assert_eq!(drift(&world.host, &vip, true), vec![]);
        let take = takes(&vip, 4);
        world.go(&take, 99).expect("taken");
        let state = &world.host.nics["eth0"];
        let forms: Vec<u8> = state.forms(vip.address).map(|held| held.prefix).collect();
        assert_eq!(forms, [longest_prefix(vip.address)]);
        assert!(state.has_route_of_ours(&network));
        assert_eq!(drift(&world.host, &vip, true), vec![]);
    }
}

#[test]
fn a_vip_that_is_to_end_lasts_when_it_has_become_the_last() {
    // Two VIPs, the one drains, the other goes.
    play(&[
        (0, 6, false),
        (0, 12, false),
        (2, 6, false),
        (0, 12, false),
        (3, 0, false),
    ])
    .expect("the route to elsewhere stays");
}
