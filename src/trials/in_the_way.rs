//! Trials of what is in the way of VIPs that come and go: another description, a node's own address, a VIP beside them
//! that nobody can read, what the kernel still holds. Some of it refuses, with a reason; some must keep nobody.

use super::world::{World, leaves, takes};
use crate::model::bucket::BucketSet;
use crate::model::change::Change;
use crate::model::hash::Flow;
use crate::model::host::{Beneath, Observed};
use crate::model::mac::Mac;
use crate::model::ruleset::Family;
use crate::model::vip::tests::a_vip;
use crate::model::vip::{L2Mode, Vip};
use crate::plan::step::{Intent, Refusal, Step};
use crate::plan::steps;
use crate::reading::health::drift;
use crate::reading::installed::phases_of;
use crate::rules::names::vip_chain;

#[test]
fn another_description_is_refused_while_buckets_are_held() {
    let mut world = World::fresh();
    let vip = a_vip("10.77.0.99");
    let take = |vip: &Vip| takes(vip, 1);
    assert!(world.go(&take(&vip), 99).expect("works") > 0);
    let before = world.host.clone();
    let changes: [fn(&mut Vip); 4] = [
        |vip| vip.hasher.seed = 9,
        |vip| vip.mac = Mac([3, 0, 0, 0, 0, 3]),
        |vip| vip.prefix = 25,
        |vip| vip.buckets = crate::model::bucket::BucketCount::new(6).expect("in range"),
    ];
    for change in changes {
        let mut other = vip.clone();
        change(&mut other);
        let refused = steps(&world.host, &take(&other)).expect_err("refused");
        assert!(
            matches!(refused, Refusal::OtherDescription { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("stop the clone first"));
        assert_eq!(world.host, before);
    }
    // With no bucket held the old description makes way, and leaves nothing behind.
    let release = Intent::Release {
        address: vip.address,
        buckets: BucketSet::one(1),
        drain_ms: 0,
    };
    world.go(&release, 99).expect("works");
    let mut other = vip.clone();
    other.mac = Mac([3, 0, 0, 0, 0, 3]);
    world.go(&take(&other), 99).expect("works");
    assert_eq!(world.host.nics["eth0"].memberships.len(), 1);
    assert_eq!(drift(&world.host, &other, true), vec![]);
}

#[test]
fn a_nodes_own_address_is_never_taken_over() {
    let world = World::fresh();
    for own in ["10.77.0.1", "fd77::1"] {
        let vip = a_vip(own);
        let take = takes(&vip, 1);
        let refused = steps(&world.host, &take).expect_err("refused");
        assert!(matches!(refused, Refusal::OwnAddress { .. }), "{refused}");
        // Nor is it deleted by the stop that follows a failed start.
        let leave = Intent::Leave {
            address: vip.address,
            buckets: Some(BucketSet::one(1)),
            drain_ms: 0,
            place: Some((vip.nic, vip.mac)),
        };
        assert_eq!(steps(&world.host, &leave), Ok(vec![]));
    }
}

#[test]
fn an_own_address_is_not_taken_for_a_vip_because_another_vip_has_its_mac() {
    let mut world = World::fresh();
    // Equal last octets: an equal cluster MAC.
    let twin = a_vip("10.78.0.1");
    let take = |vip: &Vip| takes(vip, 1);
    world.go(&take(&twin), 99).expect("taken");
    let own = a_vip("10.77.0.1");
    assert_eq!(own.mac, twin.mac);
    let refused = steps(&world.host, &take(&own)).expect_err("refused");
    assert!(matches!(refused, Refusal::OwnAddress { .. }), "{refused}");
    let leave = Intent::Leave {
        address: own.address,
        buckets: None,
        drain_ms: 0,
        place: Some((own.nic, own.mac)),
    };
    assert_eq!(steps(&world.host, &leave), Ok(vec![]));
}

/// A VIP with bucket 1, and another one whose description nobody can read.
fn beside_a_broken_one() -> (World, Vip) {
    let mut world = World::fresh();
    let (vip, other) = (a_vip("10.77.0.99"), a_vip("10.77.0.98"));
    for vip in [&vip, &other] {
        let intent = Intent::Take {
            vip: vip.clone(),
            buckets: BucketSet::one(1),
            adopt_ms: Some(1000),
        };
        world.go(&intent, 99).expect("taken");
    }
    let table = world.host.rules.get_mut(&Family::Netdev).expect("a table");
    let chain = table.chains.get_mut(&vip_chain(other.address));
    chain.expect("a chain").comment = Some("of another version".to_owned());
    (world, vip)
}

fn expect_settled(world: &mut World, vip: &Vip, intent: &Intent, gone: &str) {
    world.go(intent, 99).expect("done");
    let sets = world
        .host
        .rules
        .values()
        .flat_map(|table| table.sets.keys());
    let left: Vec<_> = sets.filter(|name| name.starts_with(gone)).collect();
    let own = |name: &&&String| name.ends_with(&vip.address.to_string());
    assert_eq!(left.iter().find(own), None);
    assert_eq!(drift(&world.host, vip, true), vec![]);
}

#[test]
fn a_broken_vip_beside_it_keeps_no_vip_from_being_adopted_and_settled() {
    let (mut world, vip) = beside_a_broken_one();
    let (address, buckets) = (vip.address, BucketSet::one(1));
    let adopted = Intent::Adopted { address, buckets };
    expect_settled(&mut world, &vip, &adopted, "adopting-");

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
    world.go(&release, 1).expect("closed");
    world.sockets.entry(address).or_default().insert(flow);
    world.go(&release, 99).expect("released");
    assert!(
        phases_of(&world.host.rules, address)
            .draining
            .contains_key(&1)
    );
    world.sockets.clear();
    expect_settled(&mut world, &vip, &Intent::Settle { address }, "leaving-");
}

#[test]
fn a_vip_that_nobody_can_read_keeps_the_second_lock_and_the_membership() {
    let (mut world, vip) = beside_a_broken_one();
    let leave = leaves(vip.address);
    world.go(&leave, 99).expect("left");
    let state = &world.host.nics["eth0"];
    assert!(state.held(vip.address).is_none());
    assert_eq!(state.lock_ip4, Some(true));
    assert!(state.memberships.contains(&vip.mac));
}

#[test]
fn of_two_vips_with_one_mac_the_first_that_goes_leaves_it_to_the_other_and_that_one_leaves_nothing()
{
    for mode in L2Mode::ALL {
        let mac = mode.mac([10, 77, 1, 99].into());
        let twins = ["10.77.1.99", "10.78.1.99"].map(|address| Vip {
            mode,
            mac,
            ..a_vip(address)
        });
        let mut world = World::fresh();
        let before = world.host.clone();
        for vip in &twins {
            let intent = takes(vip, 1);
            world.go(&intent, 99).expect("taken");
        }
        let mut leave = |vip: &Vip| {
            let intent = leaves(vip.address);
            world.go(&intent, 99).expect("left");
            world.host.clone()
        };
        let [first, second] = &twins;
        let host = leave(first);
        assert_eq!(drift(&host, second, true), vec![], "{mode}");
        let state = &leave(second).nics["eth0"];
        assert!(state.memberships.is_empty(), "{mode}: {state:?}");
        assert_eq!(state.addresses, before.nics["eth0"].addresses, "{mode}");
    }
}

/// Its rules are flushed, and it was never asked where to put the VIP.
#[test]
fn a_stop_that_knows_the_address_alone_finds_the_mac_of_its_mode() {
    for address in ["10.77.1.99", "fd77::1:99"] {
        for mode in L2Mode::ALL {
            let vip = a_vip(address);
            let mode = mode.of_family(vip.address);
            let mac = mode.mac(vip.address);
            let vip = Vip { mode, mac, ..vip };
            let mut world = World::fresh();
            let before = world.host.clone();
            let take = takes(&vip, 1);
            world.go(&take, 99).expect("taken");
            world.host.rules.clear();
            let leave = leaves(vip.address);
            world.go(&leave, 99).expect("left");
            let (state, was) = (&world.host.nics["eth0"], &before.nics["eth0"]);
            assert_eq!(state.addresses, was.addresses, "{mode} {address}");
            assert_eq!(state.memberships, was.memberships, "{mode} {address}");
        }
    }
}

#[test]
fn an_interface_on_one_that_would_answer_too_is_refused_but_in_stealth() {
    let mut world = World::fresh();
    let mut refused = |lock, mode: L2Mode| {
        let nic = world.host.nics.get_mut("eth0").expect("eth0");
        nic.beneath = Some(Beneath {
            name: "eth9".into(),
            lock_ip4: Some(lock),
            lock_ip6: None,
        });
        let vip = a_vip("10.77.0.99");
        let mac = mode.mac(vip.address);
        let take = Intent::Take {
            vip: Vip { mode, mac, ..vip },
            buckets: BucketSet::one(1),
            adopt_ms: None,
        };
        match steps(&world.host, &take) {
            Ok(_) => false,
            Err(refusal) => matches!(refusal, Refusal::Beneath { .. }),
        }
    };
    for mode in L2Mode::ALL {
        // What comes to a MAC that is no interface's own is taken by none of both.
        assert_eq!(refused(false, mode), mode != L2Mode::Stealth, "{mode}");
        assert!(!refused(true, mode), "{mode}");
    }
}

#[test]
fn what_the_kernel_still_holds_keeps_nobody_from_coming_and_going() {
    let mut world = World::fresh();
    let vip = a_vip("10.77.0.99");
    let address = vip.address;
    let take = |bucket| takes(&vip, bucket);
    world.go(&take(1), 99).expect("taken");
    let close = Intent::Release {
        address,
        buckets: BucketSet::one(1),
        drain_ms: 1000,
    };
    // Closed, with nothing listed yet; then its time is over.
    world.go(&close, 1).expect("closed");
    let leaving = format!("leaving-{address}");
    let table = world.host.rules.get_mut(&Family::Netdev).expect("a table");
    table
        .sets
        .get_mut(&leaving)
        .expect("a map")
        .elements
        .clear();
    world.host.ending = true;
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
        assert!(!deletes(&world.host, &intent), "{intent:?}");
    }
    world.go(&leave, 99).expect("left");
    assert!(world.host.nics["eth0"].held(address).is_none());
    // Another description has to wait, and says so.
    let mut other = vip.clone();
    other.hasher.seed += 1;
    let other = Intent::Take {
        vip: other,
        buckets: BucketSet::one(1),
        adopt_ms: None,
    };
    assert_eq!(steps(&world.host, &other), Err(Refusal::Ending(address)));
    world.host.ending = false;
    world.go(&leaves(address), 99).expect("gone");
    assert!(world.host.rules.is_empty(), "{:?}", world.host.rules.keys());
}
