//! Linux bridges on the way to the VIP: one that it stands on, one behind the other end of a veth, or the one whose port
//! is asked about, on the host of a guest that is a node. What a switch behind a cable does nobody sees from here.
//!
//! A bridge that snoops looks the *address inside* up, which is a unicast one and so no group's. Once a querier is heard
//! it sends such frames to routers' ports alone (`br_multicast_ipv4_rcv()`, `br_handle_frame_finish()` in
//! `net/bridge`), whatever entry there is for the MAC.

use super::finding::{Finding, Found, Seen, Unseen};
use super::surroundings::{Side, Surroundings, Wish};
use crate::model::l2_mode::L2Mode;
use crate::model::link::{Bridge, Link, Parent, Port};
use crate::model::untrusted::{Untrusted, quoted};
use std::net::IpAddr;

/// The buses at which a hypervisor has the interfaces of its guests: those of KVM and others, Xen, Hyper-V.
const OF_GUESTS: [&str; 3] = ["virtio", "xen", "vmbus"];
/// Interfaces stand on each other in no deeper piles than this (`MAX_NEST_DEV`).
const DEEPEST: usize = 8;

/// A bridge on the way.
struct Way<'a> {
    name: &'a Untrusted,
    bridge: Bridge,
    /// The port to the node; without one the node is the bridge itself.
    port: Option<(&'a Untrusted, Port)>,
    /// The addresses for which that has a permanent entry.
    groups: Vec<IpAddr>,
}

/// The bridge through which the node's frames come, if one is here.
fn way<'a>(here: &'a Surroundings, wish: &Wish) -> Seen<Option<Way<'a>>> {
    let mut link = here.nic(wish)?;
    if wish.side == Side::Port {
        return Ok(through(here, link));
    }
    for _ in 0..DEEPEST {
        if let Some(bridge) = link.bridge {
            return Ok(Some(Way {
                name: &link.name,
                bridge,
                port: None,
                // For itself it takes none: "Flags are not allowed for host groups".
                groups: Vec::new(),
            }));
        }
        let kind = link.kind.as_deref();
        let next = match (kind, link.parent) {
            (Some("veth" | "vlan" | "macvlan" | "macvtap" | "ipvlan"), Parent::Elsewhere) => {
                let kind = kind.unwrap_or_default();
                let there = match kind {
                    "veth" => "the other end of",
                    _ => "what is below",
                };
                return Err(Unseen::because(format!(
                    "{there} {} ({kind}) is in another network namespace: look there, with --port and its name",
                    link.name
                )));
            }
            (Some("veth" | "vlan" | "macvlan" | "macvtap" | "ipvlan"), Parent::Here(index)) => {
                here.at(index)
            }
            _ => None,
        };
        match next {
            // What comes to a veth is what goes into its other end, which may be a bridge's port.
            Some(peer) if kind == Some("veth") => return Ok(through(here, peer)),
            Some(below) => link = below,
            None => break,
        }
    }
    match link.bus.as_deref().filter(|bus| OF_GUESTS.contains(bus)) {
        None => Ok(None),
        Some(bus) => Err(Unseen::because(format!(
            "this is a virtual machine, and {} ({bus}) ends on its host: look there, with --port and the name of the other \
             end, or whether frames arrive, with --listen here and --send elsewhere",
            link.name
        ))),
    }
}

/// The bridge that this one is a port of.
fn through<'a>(here: &'a Surroundings, link: &'a Link) -> Option<Way<'a>> {
    let master = here.master(link)?;
    Some(Way {
        name: &master.name,
        bridge: master.bridge?,
        port: Some((&link.name, link.port?)),
        groups: groups(master, link),
    })
}

/// What a bridge's group table has for a port for good.
fn groups(bridge: &Link, port: &Link) -> Vec<IpAddr> {
    let all = bridge.permanent_groups.iter();
    let at_port = all.filter(|(index, _)| *index == port.index);
    at_port.map(|(_, address)| *address).collect()
}

/// Multicast snooping.
pub(super) fn snooping(here: &Surroundings, wish: &Wish) -> Found {
    if wish.mode() == L2Mode::Stealth {
        return Ok(Vec::new());
    }
    let Some(Way {
        name,
        bridge,
        port,
        groups,
    }) = way(here, wish)?.filter(|way| way.bridge.snooping)
    else {
        return Ok(Vec::new());
    };
    if bridge.by_vlan {
        let what = format!("the bridge {name} snoops for each VLAN by itself");
        let to = port.map_or(name, |(port, _)| port);
        let why = format!(
            "with a querier it sends the VIP's frames to nobody but to routers' ports of that VLAN, and 'bridge link' sets \
             none there: 'bridge vlan set dev {to} vid N mcast_router 2' does, or mode=\"stealth\". Whether that is set \
             is not looked at"
        );
        let cure = line(name, |name| {
            format!("ip link set {name} type bridge mcast_snooping 0")
        });
        return Ok(vec![Finding::warning(what, why).mended_by(cure)]);
    }
    let is_router = port.map_or(bridge.router, |(_, port)| port.router);
    if is_router {
        return Ok(Vec::new());
    }
    let is_asked = match wish.vip {
        Some(IpAddr::V4(_)) => bridge.querier_ip4,
        Some(IpAddr::V6(_)) => bridge.querier_ip6,
        None => bridge.querier_ip4 || bridge.querier_ip6,
    };
    let (vip, mac) = (wish.vip_words(), wish.mac_words());
    let inside = format!(
        "it looks the address inside a frame up, and {vip} is no group that anybody is in, so it sends what comes for \
         {mac} to nobody"
    );
    let of_port = wish.vip.filter(IpAddr::is_ipv6).zip(port);
    let entry = of_port.map(|(vip, (port, _))| {
        let entry =
            format!("a permanent entry of {vip} itself for {port} ('bridge mdb show dev {name}')");
        (groups.contains(&vip), entry)
    });
    if let Some((true, entry)) = &entry {
        let why = format!("what comes for {vip} gets there all the same, by {entry}");
        let what = format!("the bridge {name} snoops");
        return Ok(vec![Finding::note(what, why)]);
    }
    let without = match entry {
        Some((_, entry)) => format!("{inside}, and there is not {entry}"),
        None => inside,
    };
    let finding = match is_asked {
        true => Finding::fatal(
            format!("the bridge {name} snoops and hears a querier"),
            format!("{without}; mode=\"stealth\" does without"),
        ),
        false => Finding::warning(
            format!("the bridge {name} snoops, and hears no querier now"),
            format!(
                "once anybody asks, in any VLAN of it, {without}, for four minutes after each query; mode=\"stealth\" \
                 does without"
            ),
        ),
    };
    let cure = match port {
        Some((port, _)) => line(port, |port| {
            format!("bridge link set dev {port} mcast_router 2")
        }),
        None => line(name, |name| {
            format!("ip link set {name} type bridge mcast_router 2")
        }),
    };
    Ok(vec![finding.mended_by(cure)])
}

/// Ports to which the bridge does not flood.
pub(super) fn flooding(here: &Surroundings, wish: &Wish) -> Found {
    let Some(Way {
        name,
        bridge,
        port: Some((port, lets)),
        groups,
    }) = way(here, wish)?
    else {
        return Ok(Vec::new());
    };
    let mac = wish.mac_words();
    let (is_shut, setting, else_use) = match wish.mode() {
        L2Mode::Stealth => (!lets.flood, "flood", "multicast"),
        L2Mode::Multicast | L2Mode::Igmp => {
            let asked = bridge.querier_ip4 || bridge.querier_ip6;
            let has_entry = wish.vip.is_some_and(|vip| groups.contains(&vip));
            // Routers' ports get everything then, and those with an entry what it is for.
            let gets_it = lets.router && asked || has_entry && bridge.querier_ip6;
            let is_let_in = bridge.snooping && !bridge.by_vlan && gets_it;
            (!lets.mcast_flood && !is_let_in, "mcast_flood", "stealth")
        }
    };
    if !is_shut {
        return Ok(Vec::new());
    }
    let finding = Finding::fatal(
        format!("the port {port} of the bridge {name} has {setting} off"),
        format!(
            "{mac} is in no table of the bridge, so that nothing for it passes that port; mode=\"{else_use}\" does \
             without that setting"
        ),
    );
    let cure = line(port, |port| {
        format!("bridge link set dev {port} {setting} on")
    });
    Ok(vec![finding.mended_by(cure)])
}

/// Ports through which a node does not hear who asks whether it agrees.
pub(super) fn silenced(here: &Surroundings, wish: &Wish) -> Found {
    let Some(Way {
        name,
        port: Some((port, lets)),
        ..
    }) = way(here, wish)?
    else {
        return Ok(Vec::new());
    };
    let why = |silent: &str| {
        format!(
            "{silent}, so that a node with another seed or number of buckets can start, and clients get two answers or \
             none: compare the digests that 'nodectl status' shows on all nodes"
        )
    };
    let off = |setting: &str| {
        line(port, |port| {
            format!("bridge link set dev {port} {setting} off")
        })
    };
    let mut found = Vec::new();
    if lets.isolated {
        let what = format!("the port {port} of the bridge {name} is isolated");
        let why = why("a node behind it does not hear nodes behind other isolated ports");
        found.push(Finding::warning(what, why).mended_by(off("isolated")));
    }
    if lets.neigh_suppress {
        let what = format!("the port {port} of the bridge {name} has neigh_suppress on");
        let why = why("probes for an address, which is what nodes ask with, do not pass it");
        found.push(Finding::warning(what, why).mended_by(off("neigh_suppress")));
    }
    Ok(found)
}

/// A command with a name in it, if that can be written.
fn line(name: &Untrusted, command: impl Fn(&str) -> String) -> Option<String> {
    quoted(name.raw()).map(|name| command(&name))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::tests::{a_host, a_link, a_wish};
    use super::*;

    const V4: &str = "10.77.0.99";
    const V6: &str = "fd77::99";

    const SNOOPS: Bridge = Bridge {
        snooping: true,
        by_vlan: false,
        querier_ip4: false,
        querier_ip6: false,
        router: false,
    };
    const ASKED: Bridge = Bridge {
        querier_ip4: true,
        querier_ip6: true,
        ..SNOOPS
    };

    /// eth0 is a veth, whose other end is a port of a bridge.
    fn behind(bridge: Bridge, port: Port) -> Surroundings {
        let eth0 = Link {
            kind: Some("veth".to_owned()),
            parent: Parent::Here(3),
            ..a_link(2, "eth0")
        };
        let port = Link {
            kind: Some("veth".to_owned()),
            parent: Parent::Here(2),
            master: Some(4),
            port: Some(port),
            ..a_link(3, "n1")
        };
        let bridge = Link {
            kind: Some("bridge".to_owned()),
            bridge: Some(bridge),
            ..a_link(4, "br0")
        };
        Surroundings {
            links: Ok(vec![eth0, port, bridge]),
            ..a_host()
        }
    }

    fn severities(found: Found) -> Vec<Severity> {
        let found = found.expect("seen");
        found.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn what_is_on_the_host_of_a_guest_is_not_known_there() {
        for (bus, is_known) in [("virtio", false), ("vmbus", false), ("pci", true)] {
            let mut here = behind(ASKED, Port::default());
            here.links = Ok(vec![Link {
                bus: Some(bus.to_owned()),
                ..a_link(2, "eth0")
            }]);
            let found = snooping(&here, &a_wish(V4, L2Mode::Multicast));
            assert_eq!(found.is_ok(), is_known, "{bus}: {found:?}");
        }
    }

    #[test]
    fn a_bridge_that_snoops_and_is_asked_lets_no_multicast_mac_through() {
        let router = Port {
            router: true,
            ..Port::default()
        };
        use Severity::{Fatal, Warning};
        for (bridge, port, vip, mode, expected) in [
            (ASKED, Port::default(), V4, L2Mode::Multicast, &[Fatal][..]),
            (ASKED, Port::default(), V4, L2Mode::Igmp, &[Fatal]),
            (ASKED, Port::default(), V4, L2Mode::Stealth, &[]),
            (ASKED, Port::default(), V6, L2Mode::Multicast, &[Fatal]),
            (ASKED, router, V4, L2Mode::Multicast, &[]),
            (SNOOPS, Port::default(), V4, L2Mode::Multicast, &[Warning]),
            (SNOOPS, router, V4, L2Mode::Multicast, &[]),
            (
                Bridge {
                    by_vlan: true,
                    ..ASKED
                },
                router,
                V4,
                L2Mode::Multicast,
                &[Warning],
            ),
            (
                Bridge::default(),
                Port::default(),
                V4,
                L2Mode::Multicast,
                &[],
            ),
        ] {
            let here = behind(bridge, port);
            let of_node = severities(snooping(&here, &a_wish(vip, mode)));
            assert_eq!(of_node, expected, "{bridge:?} {port:?} {vip} {mode}");
            // The same asked from the switch's side.
            let of_port = Wish {
                nic: "n1".into(),
                side: Side::Port,
                ..a_wish(vip, mode)
            };
            assert_eq!(severities(snooping(&here, &of_port)), expected);
        }
    }

    #[test]
    fn a_permanent_entry_of_the_address_lets_ip6_through() {
        for (bridge, port, address, expected) in [
            (ASKED, 3, V6, Severity::Note),
            (SNOOPS, 3, V6, Severity::Note),
            // For another port, or of another address.
            (ASKED, 2, V6, Severity::Fatal),
            (ASKED, 3, "fd77::98", Severity::Fatal),
        ] {
            let mut here = behind(bridge, Port::default());
            if let Ok(links) = &mut here.links {
                let entry = (port, address.parse().expect("an address"));
                links[2].permanent_groups.push(entry);
            }
            let found = snooping(&here, &a_wish(V6, L2Mode::Multicast));
            let found = found.expect("seen");
            assert_eq!(found[0].severity, expected, "{port} {address}");
            // It does without flooding as long as somebody asks.
            if let Ok(links) = &mut here.links {
                links[1].port = Some(Port {
                    mcast_flood: false,
                    ..Port::default()
                });
            }
            let shut = flooding(&here, &a_wish(V6, L2Mode::Multicast)).expect("seen");
            let does_without = bridge == ASKED && expected == Severity::Note;
            assert_eq!(shut.is_empty(), does_without, "{port} {address}");
            assert!(
                found[0]
                    .why
                    .contains("a permanent entry of fd77::99 itself for n1")
            );
        }
    }

    #[test]
    fn on_its_own_bridge_the_bridge_is_the_port() {
        let mut here = behind(ASKED, Port::default());
        let wish = Wish {
            nic: "br0".into(),
            ..a_wish(V4, L2Mode::Multicast)
        };
        let found = snooping(&here, &wish).expect("seen");
        let cure = found[0].cure.as_deref();
        assert_eq!(cure, Some("ip link set br0 type bridge mcast_router 2"));
        // So is it for a VLAN on it.
        if let Ok(links) = &mut here.links {
            links.push(Link {
                kind: Some("vlan".to_owned()),
                parent: Parent::Here(4),
                ..a_link(5, "br0.10")
            });
        }
        let on_it = Wish {
            nic: "br0.10".into(),
            ..wish
        };
        assert_eq!(snooping(&here, &on_it).expect("seen"), found);
    }

    #[test]
    fn a_port_that_does_not_flood_is_shut_for_one_kind_of_mac() {
        let shut = |flood, mcast_flood, mode| {
            let port = Port {
                flood,
                mcast_flood,
                ..Port::default()
            };
            severities(flooding(
                &behind(Bridge::default(), port),
                &a_wish(V4, mode),
            ))
        };
        assert_eq!(shut(true, false, L2Mode::Multicast), [Severity::Fatal]);
        assert_eq!(shut(false, true, L2Mode::Multicast), []);
        assert_eq!(shut(false, true, L2Mode::Stealth), [Severity::Fatal]);
        assert_eq!(shut(true, false, L2Mode::Stealth), []);
    }

    #[test]
    fn what_keeps_nodes_from_hearing_each_other_is_told() {
        let port = Port {
            isolated: true,
            neigh_suppress: true,
            ..Port::default()
        };
        let here = behind(Bridge::default(), port);
        let found = silenced(&here, &a_wish(V4, L2Mode::Stealth)).expect("seen");
        let cures: Vec<_> = found.iter().filter_map(|one| one.cure.as_deref()).collect();
        assert_eq!(
            cures,
            [
                "bridge link set dev n1 isolated off",
                "bridge link set dev n1 neigh_suppress off"
            ]
        );
    }

    #[test]
    fn a_switch_in_another_namespace_is_not_known() {
        let mut here = behind(ASKED, Port::default());
        if let Ok(links) = &mut here.links {
            links[0].parent = Parent::Elsewhere;
        }
        let wish = a_wish(V4, L2Mode::Multicast);
        for judge in [snooping, flooding, silenced] {
            let unseen = judge(&here, &wish).expect_err("out of sight");
            assert!(matches!(&unseen, Unseen::Because(why) if why.contains("--port")));
        }
        // A pile of interfaces that stand on each other has an end.
        if let Ok(links) = &mut here.links {
            links[0] = Link {
                kind: Some("vlan".to_owned()),
                parent: Parent::Here(2),
                ..a_link(2, "eth0")
            };
        }
        assert_eq!(snooping(&here, &wish), Ok(Vec::new()));
    }
}
