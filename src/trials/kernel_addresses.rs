//! What the kernel of the trials' world does with the addresses and connected routes of its one interface: every trial
//! on `World` stands on it. Sources: `net/ipv4/devinet.c` (`inet_insert_ifa()`,
//! `__inet_del_ifa()`, `inet_select_addr()`), `net/ipv4/fib_frontend.c`, `net/ipv6/addrconf.c`
//! (`check_cleanup_prefix_route()`, `cleanup_prefix_route()`).

use super::world::{By, Way, World, way};
use crate::model::host::tests::an_address;
use crate::model::host::{Held, NicState, Route};
use crate::model::network::Network;
use crate::model::vip::longest_prefix;
use crate::plan::step::Step;
use crate::rules::addressing::ROUTE_METRIC;
use std::net::IpAddr;

impl World {
    pub fn nic(&mut self) -> &mut NicState {
        self.host.nics.get_mut("eth0").expect("an interface")
    }

    pub fn has(&self, held: &Held) -> bool {
        let mut forms = self.host.nics["eth0"].forms(held.address);
        forms.any(|form| form.prefix == held.prefix)
    }

    pub fn add(&mut self, mut new: Held) -> Result<(), String> {
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

    pub fn delete(&mut self, address: IpAddr, prefix: u8, promote: bool) -> Result<(), String> {
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

    pub fn has_way(&self, network: &str) -> bool {
        self.ways.contains(&way(network, 5, By::Person))
    }

    pub fn tell(&mut self) {
        let routes = self.ways.iter().map(|way| Route {
            network: way.network,
            ours: way.by == By::Us,
        });
        self.nic().routes = routes.collect();
    }

    /// What the kernel does at a step that is about addresses or routes, and `host::apply` around it.
    pub fn apply_to_addresses(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::AddAddress(vip) => self.add(Held {
                label: vip.label.clone(),
                noprefixroute: vip.address.is_ipv6(),
                no_source: true,
                ..an_address(&vip.address.to_string(), longest_prefix(vip.address))
            }),
            Step::JoinGroup { group, .. } => self.add(Held {
                no_source: true,
                ..an_address(&group.to_string(), 32)
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
            Step::AddRoute { nic, network } => {
                if self.host.nics[nic.as_str()].has_route_of_ours(network) {
                    return Err(format!("a route to {network} is there already"));
                }
                self.ways.push(Way {
                    network: *network,
                    metric: ROUTE_METRIC,
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
            other => Err(format!("{other} is nothing of addresses")),
        }
    }

    /// The source that the kernel takes for a connection to this IPv4 address.
    pub fn source(&self, to: IpAddr) -> Option<IpAddr> {
        let ways = self.ways.iter().filter(|way| way.network.contains(to));
        let way = ways.max_by_key(|way| (way.network.prefix(), std::cmp::Reverse(way.metric)))?;
        let first = || {
            let mut addresses = self.host.nics["eth0"].addresses.iter();
            addresses.find(|held| held.address.is_ipv4() && !held.secondary && !held.no_source)
        };
        way.source.or_else(|| first().map(|held| held.address))
    }
}
