//! A model of what the kernel does with the addresses and connected routes of one interface, and the
//! property tests of `addressing` that stand on it. Sources: `net/ipv4/devinet.c` (`inet_insert_ifa()`,
//! `__inet_del_ifa()`, `inet_select_addr()`), `net/ipv4/fib_frontend.c`, `net/ipv6/addrconf.c`
//! (`check_cleanup_prefix_route()`, `cleanup_prefix_route()`).

use super::addressing::{is_cut_off, is_sound};
use super::health::{drift, is_only_a_route};
use super::installed::{Installed, find, installed};
use super::interruptions::{apply as apply_step, check_fails_closed};
use super::steps::{Intent, Step, steps};
use crate::model::bucket::BucketSet;
use crate::model::host::{Held, NicState, Observed, Route};
use crate::model::mac::Mac;
use crate::model::network::Network;
use crate::model::vip::tests::a_vip;
use crate::model::vip::{Vip, longest_prefix};
use proptest::prelude::*;
use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Kernel,
    Advertisement,
    Person,
    Us,
}

/// A route by the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    network: Network,
    metric: u32,
    by: By,
    /// IPv4: the source that it names.
    source: Option<IpAddr>,
    /// IPv6: does it end by itself?
    ends: bool,
}

/// An interface whose kernel keeps its addresses and routes as Linux does.
#[derive(Debug, Clone)]
struct World {
    host: Observed,
    ways: Vec<Way>,
}

fn address(text: &str, prefix: u8) -> Held {
    Held {
        address: text.parse().expect("an address"),
        prefix,
        label: None,
        noprefixroute: false,
        secondary: false,
        no_source: false,
        unusable: false,
        valid_s: None,
    }
}

impl World {
    fn new() -> Self {
        let mut host = Observed::default();
        let eth0 = NicState {
            index: 2,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            admin_up: true,
            carrier: true,
            lock_ip4: Some(false),
            lock_ip6: Some(false),
            ..NicState::default()
        };
        host.nics.insert("eth0".to_owned(), eth0);
        World {
            host,
            ways: Vec::new(),
        }
    }

    fn nic(&mut self) -> &mut NicState {
        self.host.nics.get_mut("eth0").expect("an interface")
    }

    fn has(&self, held: &Held) -> bool {
        let mut forms = self.host.nics["eth0"].forms(held.address);
        forms.any(|form| form.prefix == held.prefix)
    }

    fn add(&mut self, mut new: Held) -> Result<(), String> {
        let there = format!("{} is there already", new.address);
        let network = Network::of(new.address, new.prefix);
        let addresses = &mut self.nic().addresses;
        if new.address.is_ipv6() {
            if addresses.iter().any(|held| held.address == new.address) {
                return Err(there);
            }
            addresses.push(new.clone());
            if !new.noprefixroute {
                let same = |way: &&mut Way| way.network == network && way.metric == 256;
                match self.ways.iter_mut().find(same) {
                    // What was learnt loses its lifetime.
                    Some(way) => way.ends &= new.valid_s.is_some(),
                    None => self.ways.push(Way {
                        network,
                        metric: 256,
                        by: By::Kernel,
                        source: None,
                        ends: false,
                    }),
                }
            }
        } else {
            let mut place = 0;
            for (n, held) in addresses.iter().enumerate() {
                if held.address.is_ipv4() && !held.secondary && new.no_source <= held.no_source {
                    place = n + 1;
                }
                if held.prefix == new.prefix && network.contains(held.address) {
                    if held.address == new.address {
                        return Err(there);
                    }
                    if held.no_source != new.no_source {
                        return Err("scopes differ".to_owned());
                    }
                    new.secondary = true;
                }
            }
            let place = if new.secondary {
                addresses.len()
            } else {
                place
            };
            addresses.insert(place, new.clone());
            self.bring_way(&new);
        }
        self.tell();
        Ok(())
    }

    /// A primary IPv4 address brings the route to its network.
    fn bring_way(&mut self, held: &Held) {
        if !held.secondary && held.prefix < 32 && !held.noprefixroute {
            self.ways.push(Way {
                network: Network::of(held.address, held.prefix),
                metric: 0,
                by: By::Kernel,
                source: Some(held.address),
                ends: false,
            });
        }
    }

    fn delete(&mut self, address: IpAddr, prefix: u8, promote: bool) -> Result<(), String> {
        let addresses = &mut self.nic().addresses;
        let is_it = |held: &Held| held.address == address && held.prefix == prefix;
        let at = addresses.iter().position(is_it).ok_or("no such address")?;
        let gone = addresses.remove(at);
        let network = Network::of(address, prefix);
        if address.is_ipv6() {
            let needs = |held: &Held| held.prefix == prefix && network.contains(held.address);
            let needed = addresses.iter().any(needs);
            if !gone.noprefixroute && gone.valid_s.is_none() && !needed {
                // The first route to the network goes, whoever brought it.
                self.ways.sort_by_key(|way| way.metric);
                if let Some(at) = self.ways.iter().position(|way| way.network == network) {
                    self.ways.remove(at);
                }
            }
        } else {
            if !gone.secondary {
                let goes = |held: &Held| {
                    held.secondary && held.prefix == prefix && network.contains(held.address)
                };
                let mut next = None;
                if promote {
                    next = addresses.iter_mut().find(|held| goes(held));
                    if let Some(next) = &mut next {
                        next.secondary = false;
                    }
                }
                let next = next.cloned();
                if next.is_none() {
                    addresses.retain(|held| !goes(held));
                }
                let its = |way: &Way| way.by == By::Kernel && way.source == Some(address);
                self.ways
                    .retain(|way| !(its(way) && way.network == network));
                if let Some(next) = next {
                    self.bring_way(&next);
                }
            }
            if !self
                .nic()
                .addresses
                .iter()
                .any(|held| held.address.is_ipv4())
            {
                self.ways.retain(|way| way.network.address().is_ipv6());
            }
        }
        self.tell();
        Ok(())
    }

    fn has_way(&self, network: &str) -> bool {
        self.ways.contains(&way(network, 5, By::Person))
    }

    fn tell(&mut self) {
        let routes = self.ways.iter().map(|way| Route {
            network: way.network,
            ours: way.by == By::Us,
        });
        self.nic().routes = routes.collect();
    }

    /// What the kernel does at a step, and `host::apply` around it.
    fn apply(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::AddAddress(vip) => self.add(Held {
                label: vip.label.clone(),
                noprefixroute: vip.address.is_ipv6(),
                no_source: true,
                ..address(&vip.address.to_string(), longest_prefix(vip.address))
            }),
            Step::DeleteAddress {
                address, prefix, ..
            } => {
                let kept: Vec<Way> = self.ways.clone();
                self.delete(*address, *prefix, true)?;
                // `restore()`
                for way in kept
                    .into_iter()
                    .filter(|way| way.network.address().is_ipv4())
                {
                    if way.by != By::Kernel && !self.ways.contains(&way) {
                        self.ways.push(way);
                    }
                }
                self.tell();
                Ok(())
            }
            Step::AddRoute { network, .. } => {
                self.ways.push(Way {
                    network: *network,
                    metric: super::addressing::ROUTE_METRIC,
                    by: By::Us,
                    source: None,
                    ends: false,
                });
                self.tell();
                Ok(())
            }
            Step::DeleteRoute { network, .. } => {
                let is_it = |way: &Way| way.by == By::Us && way.network == *network;
                self.ways.retain(|way| !is_it(way));
                self.tell();
                Ok(())
            }
            other => apply_step(&mut self.host, other),
        }
    }

    fn go(&mut self, intent: &Intent) -> Result<(), String> {
        for _ in 0..10 {
            let todo = steps(&self.host, intent).map_err(|refusal| refusal.to_string())?;
            if todo.is_empty() {
                return Ok(());
            }
            for step in todo {
                self.apply(&step)?;
                let vips: Vec<Vip> = vips().into_iter().chain(vips6()).collect();
                check_fails_closed(&self.host, &vips)?;
            }
        }
        Err(format!("{intent:?} is never done"))
    }

    /// The source that the kernel takes for a connection to this IPv4 address.
    fn source(&self, to: IpAddr) -> Option<IpAddr> {
        let ways = self.ways.iter().filter(|way| way.network.contains(to));
        let way = ways.max_by_key(|way| (way.network.prefix(), std::cmp::Reverse(way.metric)))?;
        let first = || {
            let mut addresses = self.host.nics["eth0"].addresses.iter();
            addresses.find(|held| held.address.is_ipv4() && !held.secondary && !held.no_source)
        };
        way.source.or_else(|| first().map(|held| held.address))
    }
}

fn vips() -> Vec<Vip> {
    let of = |n: u8| a_vip(&format!("192.0.2.{}", 80 + n));
    (0..16).map(of).collect()
}

fn vips6() -> Vec<Vip> {
    let of = |n: u8| Vip {
        prefix: 64,
        ..a_vip(&format!("fd77::{}", 80 + n))
    };
    (0..4).map(of).collect()
}

fn come_or_go(vip: &Vip, world: &World) -> Intent {
    match find(&world.host.rules, vip.address) {
        None => Intent::Take {
            vip: vip.clone(),
            buckets: BucketSet::one(3),
            adopt_ms: None,
        },
        Some(_) => Intent::Leave {
            address: vip.address,
            buckets: None,
            drain_ms: 0,
            place: None,
        },
    }
}

/// Addresses of the node's and of other managers, some in the VIPs' network, some with other prefixes.
fn others() -> Vec<Held> {
    vec![
        address("192.0.2.50", 24),
        address("192.0.2.51", 24),
        address("192.0.2.52", 24),
        address("192.0.2.53", 32),
        address("192.0.2.54", 16),
        address("192.0.2.5", 24),
        address("10.77.0.1", 16),
    ]
}

fn way(network: &str, metric: u32, by: By) -> Way {
    let (address, prefix) = network.split_once('/').expect("a prefix");
    Way {
        network: Network::of(
            address.parse().expect("an address"),
            prefix.parse().expect("a number"),
        ),
        metric,
        by,
        source: None,
        ends: false,
    }
}

fn others6() -> Vec<Held> {
    let noprefixroute = true;
    vec![
        address("fd77::1", 64),
        address("fd77::2", 128),
        Held {
            noprefixroute,
            ..address("fd77::3", 64)
        },
        Held {
            noprefixroute,
            valid_s: Some(3600),
            ..address("fd77::4", 64)
        },
        address("fd77::50", 64),
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

proptest! {
    /// VIPs come and go among each other, among other managers' addresses and the node's own, in any
    /// order, whatever `promote_secondaries` says, and end by themselves.
    #[test]
    fn no_vip_hangs_on_another_address_and_none_on_a_vip(
        events in prop::collection::vec((0usize..4, 0usize..16, any::<bool>()), 1..30),
    ) {
        let mut world = World::new();
        world.ways.push(way("198.51.100.0/24", 5, By::Person));
        world.tell();
        let mut is_alone = false;
        for (kind, n, promote) in events {
            let there: Vec<Held> = others().into_iter().filter(|held| world.has(held)).collect();
            let (vip, other) = (&vips()[n], &others()[n % others().len()]);
            match kind {
                0 => {
                    world.go(&come_or_go(vip, &world)).map_err(TestCaseError::fail)?;
                    for held in there {
                        prop_assert!(world.has(&held), "{} went with {}", held.address, vip.address);
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
                    let over: Vec<Held> =
                        state.addresses.iter().filter(|held| held.valid_s.is_some()).cloned().collect();
                    for held in over {
                        world.delete(held.address, held.prefix, promote).map_err(TestCaseError::fail)?;
                        let vip = vips().into_iter().find(|vip| vip.address == held.address);
                        let vip = vip.expect("only VIPs end");
                        let leave = Intent::Leave {
                            address: vip.address,
                            buckets: None,
                            drain_ms: 0,
                            place: None,
                        };
                        world.go(&leave).map_err(TestCaseError::fail)?;
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
                    let nothing = Intent::Take { vip, buckets: BucketSet::default(), adopt_ms: None };
                    world.go(&nothing).map_err(TestCaseError::fail)?;
                }
            }
            let state = &world.host.nics["eth0"];
            for Installed { vip, .. } in installed(&world.host.rules) {
                prop_assert!(state.held(vip.address).is_some_and(|held| is_sound(state, held, &vip)));
                prop_assert!(!is_cut_off(&world.host, &vip));
            }
            let addresses: Vec<IpAddr> = vips().iter().map(|vip| vip.address).collect();
            for to in ["192.0.2.7", "10.77.0.7"] {
                let source = world.source(to.parse().expect("an address"));
                prop_assert!(source.is_none_or(|source| !addresses.contains(&source)), "{source:?}");
            }
        }
        for Installed { vip, .. } in installed(&world.host.rules) {
            prop_assert_eq!(drift(&world.host, &vip, true), vec![]);
        }
    }

    /// What routes were there stay as they were, lifetimes and all, and what came with VIPs goes.
    #[test]
    fn a_vip_leaves_the_routes_as_they_were(
        ways in prop::collection::btree_set(any_way(), 0..5),
        held in prop::collection::vec(any::<bool>(), 12),
        events in prop::collection::vec(0usize..20, 1..30),
    ) {
        let mut world = World::new();
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
        let vips: Vec<Vip> = vips().into_iter().chain(vips6()).collect();
        for n in events {
            world.go(&come_or_go(&vips[n], &world)).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&sorted(&world), &before);
            for ours in world.ways.iter().filter(|way| way.by == By::Us) {
                let after = |other: &&Way| other.by != By::Us && other.metric >= ours.metric;
                let mut others = world.ways.iter().filter(after);
                prop_assert!(others.all(|other| other.network != ours.network), "{ours:?} comes first");
            }
        }
        for vip in installed(&world.host.rules) {
            world.go(&come_or_go(&vip.vip, &world)).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(&sorted(&world), &before);
        prop_assert!(!world.ways.iter().any(|way| way.by == By::Us));
    }
}

#[test]
fn what_version_0_1_0_left_is_put_right_by_the_next_start() {
    for (vip, own) in [
        (a_vip("10.77.0.99"), "10.77.0.1"),
        (vips6()[0].clone(), "fd77::1"),
    ] {
        let mut world = World::new();
        world.add(address(own, vip.prefix)).expect("its own");
        world.go(&come_or_go(&vip, &world)).expect("taken");
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
            ..address(&vip.address.to_string(), vip.prefix)
        };
        world.add(old).expect("as it was");
        // It is well as it is, and a start makes it better.
        assert_eq!(drift(&world.host, &vip, true), vec![]);
        let take = Intent::Take {
            vip: vip.clone(),
            buckets: BucketSet::one(4),
            adopt_ms: None,
        };
        world.go(&take).expect("taken");
        let state = &world.host.nics["eth0"];
        let forms: Vec<u8> = state.forms(vip.address).map(|held| held.prefix).collect();
        assert_eq!(forms, [longest_prefix(vip.address)]);
        assert!(state.has_route_of_ours(&network));
        assert_eq!(drift(&world.host, &vip, true), vec![]);
    }
}
