//! A model-based test of the order of steps: hosts that do what the plan says, are interrupted
//! anywhere, and go on later. Whatever happens, nothing foreign can be answered, and what is asked
//! for in the end is reached, without a trace of what came between.

use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::{Connection, Held, NicState, Observed, Route};
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::ruleset::{Expr, Family, Verdict};
use crate::model::vip::tests::a_vip;
use crate::model::vip::{Vip, longest_prefix};
use crate::plan::diff::tests::apply as apply_changes;
use crate::plan::step::{Intent, Refusal, Step};
use crate::plan::steps;
use crate::reading::health::drift;
use crate::reading::installed::{find, installed, phases_of};
use crate::rules::names::{dispatch_map, ingress_chain, vip_chain};
use proptest::prelude::*;
use std::net::IpAddr;

/// A host with one interface and an address of its own.
pub(super) fn fresh_host() -> Observed {
    let own = |address: &str, prefix| Held {
        address: address.parse().expect("an address"),
        prefix,
        label: None,
        noprefixroute: false,
        secondary: false,
        no_source: false,
        unusable: false,
        valid_s: None,
    };
    let eth0 = NicState {
        index: 2,
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        admin_up: true,
        carrier: true,
        addresses: vec![own("10.77.0.1", 24), own("fd77::1", 64)],
        routes: [own("10.77.0.1", 24), own("fd77::1", 64)]
            .map(|held| Route {
                network: Network::of(held.address, held.prefix),
                ours: false,
            })
            .to_vec(),
        lock_ip4: Some(false),
        lock_ip6: Some(false),
        ..NicState::default()
    };
    let mut host = Observed::default();
    host.nics.insert("eth0".to_owned(), eth0);
    host
}

/// VIPs that get in each other's way: equal last octets, so an equal MAC; both families.
pub(super) fn vips() -> [Vip; 4] {
    let mut other_seed = a_vip("10.77.0.98");
    other_seed.hasher.seed = 7;
    let mut ip6 = a_vip("fd77::99");
    ip6.prefix = 64;
    let mut twin = a_vip("10.78.0.99");
    twin.mac = a_vip("10.77.0.99").mac;
    [a_vip("10.77.0.99"), twin, other_seed, ip6]
}

/// What the kernel does at a step.
pub(super) fn apply(host: &mut Observed, step: &Step) -> Result<(), String> {
    let nic_of = |nic: &str| nic.to_owned();
    match step {
        Step::Rules(changes) => return apply_changes(&mut host.rules, changes),
        Step::Agree(..)
        | Step::Announce(_)
        | Step::Look(..)
        | Step::Abort(..)
        | Step::Silence(..) => {}
        Step::Lock { nic, family, on } => {
            let state = host.nics.get_mut(&nic_of(nic.as_str())).ok_or("nic")?;
            match family {
                IpAddr::V4(_) => state.lock_ip4 = Some(*on),
                IpAddr::V6(_) => state.lock_ip6 = Some(*on),
            }
        }
        Step::Join { nic, mac } => {
            let state = host.nics.get_mut(&nic_of(nic.as_str())).ok_or("nic")?;
            state.memberships.insert(*mac);
        }
        Step::LeaveMac { nic, mac } => {
            let state = host.nics.get_mut(&nic_of(nic.as_str())).ok_or("nic")?;
            state.memberships.remove(mac);
        }
        Step::SetUp(nic) => {
            host.nics.get_mut(nic.as_str()).ok_or("nic")?.admin_up = true;
        }
        Step::AddRoute { nic, network } => {
            let state = host.nics.get_mut(nic.as_str()).ok_or("nic")?;
            if state.has_route_of_ours(network) {
                return Err(format!("a route to {network} is there already"));
            }
            state.routes.push(Route {
                network: *network,
                ours: true,
            });
        }
        Step::DeleteRoute { nic, network } => {
            let state = host.nics.get_mut(nic.as_str()).ok_or("nic")?;
            let is_it = |route: &Route| route.ours && route.network == *network;
            state.routes.retain(|route| !is_it(route));
        }
        Step::AddAddress(vip) => {
            let state = host.nics.get_mut(vip.nic.as_str()).ok_or("nic")?;
            if state.held(vip.address).is_some() {
                return Err(format!("{} is there already", vip.address));
            }
            state.addresses.push(Held {
                address: vip.address,
                prefix: longest_prefix(vip.address),
                label: vip.label.clone(),
                noprefixroute: vip.address.is_ipv6(),
                secondary: false,
                no_source: true,
                unusable: false,
                valid_s: None,
            });
        }
        Step::Lifetime {
            nic,
            address,
            valid_s,
            ..
        } => {
            let state = host.nics.get_mut(nic.as_str()).ok_or("nic")?;
            let mut held = state.addresses.iter_mut();
            let held = held.find(|held| held.address == *address);
            held.ok_or("no address to limit")?.valid_s = *valid_s;
        }
        Step::DeleteAddress {
            nic,
            address,
            prefix,
        } => {
            let state = host.nics.get_mut(&nic_of(nic.as_str())).ok_or("nic")?;
            let is_it = |held: &Held| held.address == *address && held.prefix == *prefix;
            state.addresses.retain(|held| !is_it(held));
        }
    }
    Ok(())
}

/// An address may only be there while everything stands that drops what is foreign.
pub(super) fn check_fails_closed(host: &Observed, vips: &[Vip]) -> Result<(), String> {
    for vip in vips {
        let state = &host.nics["eth0"];
        if state.held(vip.address).is_none() {
            continue;
        }
        let table = host.rules.get(&Family::Netdev).ok_or("no table")?;
        let base = table
            .chains
            .get(&ingress_chain(&vip.nic))
            .ok_or("no base")?;
        let map = dispatch_map(&vip.nic, vip.address);
        let asks = |expr: &Expr| matches!(expr, Expr::Lookup { set, .. } if *set == map);
        let asked = base.rules.iter().any(|rule| rule.exprs.iter().any(asks));
        let goes = table.sets.get(&map).is_some_and(|set| {
            let goto = Verdict::Goto(vip_chain(vip.address));
            let mut elements = set.elements.values();
            elements.any(|element| {
                element.target == crate::model::ruleset::Target::Verdict(goto.clone())
            })
        });
        let chain = table
            .chains
            .get(&vip_chain(vip.address))
            .ok_or("no chain")?;
        let drops = |exprs: &[Expr]| exprs.last() == Some(&Expr::Verdict(Verdict::Drop));
        let dropped = chain.rules.last().is_some_and(|rule| drops(&rule.exprs));
        let locked = state.lock(vip.address) == Some(true);
        if !(asked && goes && dropped && locked) {
            return Err(format!("{} could answer anything", vip.address));
        }
    }
    Ok(())
}

/// Does what is asked for, but stops after so many steps. The number of steps left is returned.
pub(super) fn go(host: &mut Observed, intent: &Intent, mut budget: usize) -> Result<usize, String> {
    let mut found_none = false;
    for _ in 0..10 {
        let told = host.connections.clone();
        if found_none {
            host.connections = Some(Vec::new());
        }
        let todo = steps(host, intent);
        host.connections = told;
        let todo = match todo {
            Ok(todo) => todo,
            Err(Refusal::Unknown(_)) => return Ok(budget),
            Err(refusal) => return Err(refusal.to_string()),
        };
        if todo.is_empty() {
            return Ok(budget);
        }
        for step in todo {
            if budget == 0 {
                return Ok(0);
            }
            budget -= 1;
            apply(host, &step)?;
            check_fails_closed(host, &vips())?;
            // Who comes finds no connections here; who goes is told of them by the test.
            if matches!(step, Step::Look(..)) && matches!(intent, Intent::Take { .. }) {
                found_none = true;
                break;
            }
        }
    }
    Err(format!("{intent:?} is never done"))
}

/// An action on one of the VIPs, and after how many steps it is interrupted.
#[derive(Debug, Clone)]
struct Action {
    vip: usize,
    bucket: u16,
    kind: u8,
    budget: usize,
}

fn any_action() -> impl Strategy<Value = Action> {
    (
        0usize..4,
        0u16..12,
        0u8..4,
        prop_oneof![0usize..9, Just(99)],
    )
        .prop_map(|(vip, bucket, kind, budget)| Action {
            vip,
            bucket,
            kind,
            budget,
        })
}

fn intent(action: &Action) -> Intent {
    let vip = vips()[action.vip].clone();
    let buckets = BucketSet::one(action.bucket);
    match action.kind {
        0 | 1 => Intent::Take {
            vip,
            buckets,
            adopt_ms: None,
        },
        2 => Intent::Release {
            address: vip.address,
            buckets,
            drain_ms: 0,
        },
        _ => Intent::Leave {
            address: vip.address,
            buckets: Some(buckets),
            drain_ms: 0,
            place: Some((vip.nic, vip.mac)),
        },
    }
}

proptest! {
    #[test]
    fn whoever_is_interrupted_leaves_nothing_open(
        actions in prop::collection::vec(any_action(), 1..25),
    ) {
        let mut host = fresh_host();
        let mut owned = std::collections::BTreeSet::new();
        for action in &actions {
            let left = go(&mut host, &intent(action), action.budget);
            let left = left.map_err(TestCaseError::fail)?;
            let key = (action.vip, action.bucket);
            match (action.kind, left) {
                (0 | 1, 1..) => { owned.insert(key); }
                (2 | 3, 1..) => { owned.remove(&key); }
                // Interrupted: the bucket is owned or it is not.
                (_, 0) => {
                    let found = find(&host.rules, vips()[action.vip].address);
                    match found.is_some_and(|found| found.phases.owned.contains(action.bucket)) {
                        true => owned.insert(key),
                        false => owned.remove(&key),
                    };
                }
                _ => {}
            }
            // Nothing but what was taken is owned, and all that was taken is.
            for (n, vip) in vips().iter().enumerate() {
                let found = find(&host.rules, vip.address).map(|found| found.phases.owned);
                let found: Vec<_> = found.iter().flat_map(BucketSet::iter).map(|b| (n, b)).collect();
                let wanted: Vec<_> = owned.iter().filter(|(vip, _)| *vip == n).copied().collect();
                prop_assert_eq!(found, wanted);
            }
        }
        // Taking repairs whatever the interruptions left.
        for vip in vips() {
            let intent = Intent::Take { vip: vip.clone(), buckets: BucketSet::one(0), adopt_ms: None };
            prop_assert!(go(&mut host, &intent, 99).map_err(TestCaseError::fail)? > 0);
            prop_assert_eq!(drift(&host, &vip, true), vec![]);
        }
        prop_assert_eq!(installed(&host.rules).len(), 4);
        // And leaving leaves no trace.
        for vip in vips() {
            let intent = Intent::Leave { address: vip.address, buckets: None, drain_ms: 0, place: None };
            prop_assert!(go(&mut host, &intent, 99).map_err(TestCaseError::fail)? > 0);
        }
        prop_assert_eq!(host, fresh_host());
    }

    #[test]
    fn buckets_that_move_between_nodes_have_one_owner_at_most(
        moves in prop::collection::vec((0usize..3, 0u16..6, 0usize..9), 1..40),
    ) {
        let vip = Vip { buckets: crate::model::bucket::BucketCount::new(6).expect("in range"), ..a_vip("10.77.0.99") };
        let mut nodes = [fresh_host(), fresh_host(), fresh_host()];
        let owners = |nodes: &[Observed; 3], bucket| {
            let owns = |host: &&Observed| {
                find(&host.rules, vip.address).is_some_and(|found| found.phases.owned.contains(bucket))
            };
            nodes.iter().filter(owns).count()
        };
        for (to, bucket, budget) in moves {
            // As Pacemaker does: all stops end before the start begins; a stop that fails is fenced.
            for (_, node) in nodes.iter_mut().enumerate().filter(|(n, _)| *n != to) {
                let leave = Intent::Leave {
                    address: vip.address,
                    buckets: Some(BucketSet::one(bucket)),
                    drain_ms: 0,
                    place: None,
                };
                if go(node, &leave, budget + 1).map_err(TestCaseError::fail)? == 0 {
                    *node = fresh_host();
                }
            }
            let take = Intent::Take { vip: vip.clone(), buckets: BucketSet::one(bucket), adopt_ms: None };
            go(&mut nodes[to], &take, budget).map_err(TestCaseError::fail)?;
            for bucket in 0..6 {
                prop_assert!(owners(&nodes, bucket) <= 1);
            }
        }
    }
}

#[test]
fn another_description_is_refused_while_buckets_are_held() {
    let mut host = fresh_host();
    let vip = a_vip("10.77.0.99");
    let take = |vip: &Vip| Intent::Take {
        vip: vip.clone(),
        buckets: BucketSet::one(1),
        adopt_ms: None,
    };
    assert!(go(&mut host, &take(&vip), 99).expect("works") > 0);
    let before = host.clone();
    let changes: [fn(&mut Vip); 4] = [
        |vip| vip.hasher.seed = 9,
        |vip| vip.mac = Mac([3, 0, 0, 0, 0, 3]),
        |vip| vip.prefix = 25,
        |vip| vip.buckets = crate::model::bucket::BucketCount::new(6).expect("in range"),
    ];
    for change in changes {
        let mut other = vip.clone();
        change(&mut other);
        let refused = steps(&host, &take(&other)).expect_err("refused");
        assert!(
            matches!(refused, Refusal::OtherDescription { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("stop the clone first"));
        assert_eq!(host, before);
    }
    // With no bucket held the old description makes way, and leaves nothing behind.
    let release = Intent::Release {
        address: vip.address,
        buckets: BucketSet::one(1),
        drain_ms: 0,
    };
    go(&mut host, &release, 99).expect("works");
    let mut other = vip.clone();
    other.mac = Mac([3, 0, 0, 0, 0, 3]);
    go(&mut host, &take(&other), 99).expect("works");
    assert_eq!(host.nics["eth0"].memberships.len(), 1);
    assert_eq!(drift(&host, &other, true), vec![]);
}

#[test]
fn a_nodes_own_address_is_never_taken_over() {
    let host = fresh_host();
    for own in ["10.77.0.1", "fd77::1"] {
        let vip = a_vip(own);
        let take = Intent::Take {
            vip: vip.clone(),
            buckets: BucketSet::one(1),
            adopt_ms: None,
        };
        let refused = steps(&host, &take).expect_err("refused");
        assert!(matches!(refused, Refusal::OwnAddress { .. }), "{refused}");
        // Nor is it deleted by the stop that follows a failed start.
        let leave = Intent::Leave {
            address: vip.address,
            buckets: Some(BucketSet::one(1)),
            drain_ms: 0,
            place: Some((vip.nic, vip.mac)),
        };
        assert_eq!(steps(&host, &leave), Ok(vec![]));
    }
}

#[test]
fn an_own_address_is_not_taken_for_a_vip_because_another_vip_has_its_mac() {
    let mut host = fresh_host();
    // Equal last octets: an equal cluster MAC.
    let twin = a_vip("10.78.0.1");
    let take = |vip: &Vip| Intent::Take {
        vip: vip.clone(),
        buckets: BucketSet::one(1),
        adopt_ms: None,
    };
    go(&mut host, &take(&twin), 99).expect("taken");
    let own = a_vip("10.77.0.1");
    assert_eq!(own.mac, twin.mac);
    let refused = steps(&host, &take(&own)).expect_err("refused");
    assert!(matches!(refused, Refusal::OwnAddress { .. }), "{refused}");
    let leave = Intent::Leave {
        address: own.address,
        buckets: None,
        drain_ms: 0,
        place: Some((own.nic, own.mac)),
    };
    assert_eq!(steps(&host, &leave), Ok(vec![]));
}

/// A VIP with bucket 1, and another one whose description nobody can read.
pub(super) fn beside_a_broken_one() -> (Observed, Vip) {
    let mut host = fresh_host();
    let (vip, other) = (a_vip("10.77.0.99"), a_vip("10.77.0.98"));
    for vip in [&vip, &other] {
        let intent = Intent::Take {
            vip: vip.clone(),
            buckets: BucketSet::one(1),
            adopt_ms: Some(1000),
        };
        go(&mut host, &intent, 99).expect("taken");
    }
    let table = host.rules.get_mut(&Family::Netdev).expect("a table");
    let chain = table.chains.get_mut(&vip_chain(other.address));
    chain.expect("a chain").comment = Some("of another version".to_owned());
    (host, vip)
}

fn expect_settled(host: &mut Observed, vip: &Vip, intent: &Intent, gone: &str) {
    go(host, intent, 99).expect("done");
    let sets = host.rules.values().flat_map(|table| table.sets.keys());
    let left: Vec<_> = sets.filter(|name| name.starts_with(gone)).collect();
    let own = |name: &&&String| name.ends_with(&vip.address.to_string());
    assert_eq!(left.iter().find(own), None);
    assert_eq!(drift(host, vip, true), vec![]);
}

#[test]
fn a_broken_vip_beside_it_keeps_no_vip_from_being_adopted_and_settled() {
    let (mut host, vip) = beside_a_broken_one();
    let (address, buckets) = (vip.address, BucketSet::one(1));
    let adopted = Intent::Adopted { address, buckets };
    expect_settled(&mut host, &vip, &adopted, "adopting-");

    let mut ports = 0..u16::MAX;
    let flow = ports.find_map(|source_port| {
        let flow = Flow {
            source: [10, 77, 0, 7].into(),
            source_port,
            destination_port: 80,
        };
        (vip.bucket(&flow) == 1).then_some(flow)
    });
    let flow = flow.expect("a flow of bucket 1");
    let release = Intent::Release {
        address,
        buckets: BucketSet::one(1),
        drain_ms: 1000,
    };
    go(&mut host, &release, 1).expect("closed");
    host.connections = Some(vec![Connection { flow, alive: true }]);
    host.flows = Some([flow].into());
    go(&mut host, &release, 99).expect("released");
    assert!(phases_of(&host.rules, address).draining.contains_key(&1));
    host.connections = Some(Vec::new());
    expect_settled(&mut host, &vip, &Intent::Settle { address }, "leaving-");
}

#[test]
fn what_the_kernel_still_holds_keeps_nobody_from_coming_and_going() {
    let mut host = fresh_host();
    let vip = a_vip("10.77.0.99");
    let address = vip.address;
    let take = |bucket| Intent::Take {
        vip: vip.clone(),
        buckets: BucketSet::one(bucket),
        adopt_ms: None,
    };
    go(&mut host, &take(1), 99).expect("taken");
    let close = Intent::Release {
        address,
        buckets: BucketSet::one(1),
        drain_ms: 1000,
    };
    // Closed, with nothing listed yet; then its time is over.
    go(&mut host, &close, 1).expect("closed");
    let leaving = format!("leaving-{address}");
    let table = host.rules.get_mut(&Family::Netdev).expect("a table");
    table
        .sets
        .get_mut(&leaving)
        .expect("a map")
        .elements
        .clear();
    host.ending = true;
    let deletes = |host: &Observed, intent: &Intent| {
        let steps = steps(host, intent).expect("steps");
        steps.into_iter().any(|step| match step {
            Step::Rules(changes) => changes
                .iter()
                .any(|change| matches!(change, Change::DeleteChain(..) | Change::DeleteSet(..))),
            _ => false,
        })
    };
    let leave = Intent::Leave {
        address,
        buckets: Some(BucketSet::one(1)),
        drain_ms: 1000,
        place: None,
    };
    for intent in [take(2), leave.clone(), Intent::Settle { address }] {
        assert!(!deletes(&host, &intent), "{intent:?}");
    }
    go(&mut host, &leave, 99).expect("left");
    assert!(host.nics["eth0"].held(address).is_none());
    // Another description has to wait, and says so.
    let mut other = vip.clone();
    other.hasher.seed += 1;
    let other = Intent::Take {
        vip: other,
        buckets: BucketSet::one(1),
        adopt_ms: None,
    };
    assert_eq!(steps(&host, &other), Err(Refusal::Ending(address)));
    host.ending = false;
    go(
        &mut host,
        &Intent::Leave {
            address,
            buckets: None,
            drain_ms: 0,
            place: None,
        },
        99,
    )
    .expect("gone");
    assert!(host.rules.is_empty(), "{:?}", host.rules.keys());
}
