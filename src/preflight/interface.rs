//! The interface itself: what it is, and what it cannot receive.

use super::finding::{Finding, Found};
use super::surroundings::{Side, Surroundings, Wish};
use crate::model::l2_mode::L2Mode;
use crate::model::link::{Link, Parent};
use crate::model::untrusted::quoted;

/// Can a VIP be on it at all?
pub(super) fn fit(here: &Surroundings, wish: &Wish) -> Found {
    let link = here.nic(wish)?;
    let name = &link.name;
    let on = |what: &str| format!("{name} is {what}");
    if !link.ethernet {
        let why = "nodes share an address under a MAC, which only Ethernet has: take an interface with a MAC";
        return Ok(vec![Finding::fatal(on("no Ethernet interface"), why)]);
    }
    if link.kind.as_deref() == Some("vrf") {
        let why = "nothing comes in by a VRF itself: take the interface in it that is in the nodes' network";
        return Ok(vec![Finding::fatal(on("a VRF"), why)]);
    }
    let master = here.master(link);
    if link.master.is_some() && !is_vrf(master) {
        let (kind, by) = master.map_or(("something", "another interface".to_owned()), |master| {
            let kind = master.kind.as_deref().unwrap_or("something");
            (kind, master.name.to_string())
        });
        let what = format!("{name} is a port or slave of {by} ({kind})");
        let why = format!("{by} takes its frames, so the VIP must be on {by}: nic=\"{by}\"");
        return Ok(vec![Finding::fatal(what, why)]);
    }
    let mut found = Vec::new();
    if link.noarp && wish.may_be_ip4() {
        let what = format!("{name} resolves no neighbours (NOARP)");
        let cure = quoted(name.raw()).map(|name| format!("ip link set dev {name} arp on"));
        let why = "the kernel answers no ARP there, so that nobody finds the address";
        found.push(Finding::fatal(what, why).mended_by(cure));
    }
    if !link.multicast && wish.mode() != L2Mode::Stealth {
        let what = format!("{name} has no flag MULTICAST");
        let cure = quoted(name.raw()).map(|name| format!("ip link set dev {name} multicast on"));
        let why = "drivers need not let frames for a multicast MAC in then; mode=\"stealth\" does without one";
        found.push(Finding::warning(what, why).mended_by(cure));
    }
    Ok(found)
}

/// A bridge of the node's own, whose table has the MAC of the mode `stealth` as its own.
pub(super) fn own_bridge(here: &Surroundings, wish: &Wish) -> Found {
    let link = here.nic(wish)?;
    if link.bridge.is_none() || wish.mode() != L2Mode::Stealth {
        return Ok(Vec::new());
    }
    let ports = here.links()?.iter();
    let ports = ports.filter(|port| port.master == Some(link.index));
    let ports: Vec<String> = ports.map(|port| port.name.to_string()).collect();
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let name = &link.name;
    let what = format!(
        "{name} is a bridge of this node's own, with the port(s) {}",
        ports.join(", ")
    );
    let why = format!(
        "{} is an entry of its table, so that frames for it that come in by a port stop here: guests on that bridge reach only \
         the buckets of this node, and another node behind it gets nothing; clients elsewhere reach all. mode=\"multicast\" has \
         no such limit",
        wish.mac_words()
    );
    Ok(vec![Finding::warning(what, why)])
}

/// Can a guest be behind this interface: is it a bridge's port, or a macvtap? Where that cannot be told it may.
pub fn is_port(here: &Surroundings, wish: &Wish) -> bool {
    let Ok(link) = here.nic(wish) else {
        return true;
    };
    let master = here.master(link).and_then(|master| master.kind.as_deref());
    let is_in_ovs = here.open_vswitch.as_ref().map_or(true, |ports| {
        let mut all = ports.iter().flat_map(|port| &port.interfaces);
        all.any(|name| *name == link.name)
    });
    let is_macvtap = link.kind.as_deref() == Some("macvtap");
    is_macvtap || matches!(master, Some("bridge" | "openvswitch")) || is_in_ovs
}

/// What a start here would end with.
pub(super) fn refused(here: &Surroundings, _: &Wish) -> Found {
    let refused = here.refused.as_ref().map_err(Clone::clone)?;
    let why = "a start here ends with that, and changes nothing";
    let refused = refused.iter();
    Ok(refused.map(|what| Finding::fatal(what, why)).collect())
}

fn is_vrf(link: Option<&Link>) -> bool {
    link.is_some_and(|link| link.kind.as_deref() == Some("vrf"))
}

/// Do frames for the cluster MAC get into it?
pub(super) fn filter(here: &Surroundings, wish: &Wish) -> Found {
    let link = here.nic(wish)?;
    let (name, mac) = (&link.name, wish.mac_words());
    let is_macvtap = link.kind.as_deref() == Some("macvtap");
    let is_macvlan = link.kind.as_deref() == Some("macvlan") || is_macvtap;
    if !is_macvlan || link.passthru {
        return Ok(Vec::new());
    }
    let kind = link.kind.as_deref().unwrap_or_default();
    Ok(match wish.mode() {
        L2Mode::Stealth => vec![Finding::fatal(
            format!("{name} is a {kind}, and not passthru"),
            format!(
                "it has one unicast MAC and takes no other, so that {mac} cannot be let in and the start fails; \
                 mode=\"multicast\" works on a macvlan, and on a macvtap with allmulticast"
            ),
        )],
        // A macvlan's own filter takes what was asked for; a macvtap's is the guest's, and libvirt's default trusts no guest.
        _ if is_macvtap && !link.allmulticast => {
            let cure =
                quoted(name.raw()).map(|name| format!("ip link set dev {name} allmulticast on"));
            vec![
                Finding::fatal(
                    format!("{name} is a macvtap without allmulticast"),
                    format!(
                        "a guest cannot tell its filter that it wants {mac}, so that nothing for it gets to the guest; \
                         with libvirt trustGuestRxFilters=\"yes\" is meant for that"
                    ),
                )
                .mended_by(cure),
            ]
        }
        _ => Vec::new(),
    })
}

/// Interfaces that share a parent and its MAC tell each other by their addresses.
pub(super) fn ipvlan(here: &Surroundings, wish: &Wish) -> Found {
    let link = here.nic(wish)?;
    if link.kind.as_deref() != Some("ipvlan") || wish.side == Side::Port {
        return Ok(Vec::new());
    }
    let beside = here.links()?.iter().filter(|other| {
        other.index != link.index
            && other.kind.as_deref() == Some("ipvlan")
            && matches!(link.parent, Parent::Here(_))
            && other.parent == link.parent
    });
    let beside: Vec<String> = beside.map(|other| other.name.to_string()).collect();
    let what = match beside.is_empty() {
        true => format!("{} is an ipvlan", link.name),
        false => format!(
            "{} is an ipvlan, and {} has the same parent",
            link.name,
            beside.join(", ")
        ),
    };
    let why = format!(
        "of all ipvlans of one parent, whatever namespaces they are in, only one can have {}: on each parent there can be \
         one node. A macvlan in mode bridge has no such limit",
        wish.vip_words()
    );
    Ok(vec![Finding::warning(what, why)])
}

/// What comes in by a slave of a VRF is for sockets in that VRF alone, unless all are to have it.
pub(super) fn vrf(here: &Surroundings, wish: &Wish) -> Found {
    let link = here.nic(wish)?;
    let Some(vrf) = here.master(link).filter(|master| is_vrf(Some(master))) else {
        return Ok(Vec::new());
    };
    if here.settings()?.l3mdev_accept {
        return Ok(Vec::new());
    }
    let name = &vrf.name;
    let run = quoted(name.raw()).unwrap_or_else(|| "VRF".to_owned());
    let finding = Finding::warning(
        format!("{} is in the VRF {name}", link.name),
        format!(
            "services that were not started in it hear nothing of what comes in: start them by 'ip vrf exec {run} …', or \
             let TCP listeners of all VRFs have it"
        ),
    );
    Ok(vec![finding.mended_by(
        "sysctl -w net.ipv4.tcp_l3mdev_accept=1".to_owned(),
    )])
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::surroundings::OvsPort;
    use super::super::tests::{a_host, a_link, a_wish};
    use super::super::{Outcome, judged};
    use super::*;
    use crate::model::link::Bridge;

    /// What is found of eth0 if it is this, beside others: the checks that say something, and how they end.
    fn found(eth0: Link, others: &[Link], vip: &str, mode: L2Mode) -> Vec<(&'static str, Outcome)> {
        let here = Surroundings {
            links: Ok([&[eth0], others].concat()),
            ..a_host()
        };
        let checked = judged(&here, &a_wish(vip, mode)).into_iter();
        let told = checked.filter(|one| one.outcome != Outcome::Fine);
        told.map(|one| (one.check, one.outcome)).collect()
    }

    fn of_kind(kind: &str) -> Link {
        Link {
            kind: Some(kind.to_owned()),
            ..a_link(2, "eth0")
        }
    }

    const V4: &str = "10.77.0.99";
    const V6: &str = "fd77::99";
    const MULTICAST: L2Mode = L2Mode::Multicast;
    const STEALTH: L2Mode = L2Mode::Stealth;

    #[test]
    fn stealth_on_a_bridge_of_the_nodes_own_is_told_where_it_has_ports() {
        let bridge = Link {
            bridge: Some(Bridge::default()),
            ..a_link(4, "br0")
        };
        let port = Link {
            master: Some(4),
            ..a_link(3, "n1")
        };
        let here = Surroundings {
            links: Ok(vec![bridge, port]),
            ..a_host()
        };
        let on = |nic: &str, mode| {
            let wish = Wish {
                nic: nic.into(),
                ..a_wish(V4, mode)
            };
            own_bridge(&here, &wish).expect("seen")
        };
        assert_eq!(on("br0", L2Mode::Multicast), []);
        let told = on("br0", L2Mode::Stealth);
        assert_eq!(told[0].severity, Severity::Warning);
        assert!(told[0].why.contains("02:bf:0a:4d:00:63"), "{told:?}");
        let mut alone = here.clone();
        alone.links = alone.links.map(|links| {
            let links = links.into_iter();
            let links = links.map(|link| Link {
                master: None,
                ..link
            });
            links.collect()
        });
        let wish = Wish {
            nic: "br0".into(),
            ..a_wish(V4, L2Mode::Stealth)
        };
        assert_eq!(own_bridge(&alone, &wish).expect("seen"), []);
    }

    #[test]
    fn a_port_is_one_of_a_bridge_or_a_macvtap() {
        let link = |name: &str, kind: Option<&str>, master| Link {
            kind: kind.map(str::to_owned),
            master,
            ..a_link(9, name)
        };
        let bridge = |kind| link("br0", Some(kind), None);
        for (nic, master, ovs, expected) in [
            (link("vnet3", None, None), None, false, false),
            (link("vnet3", Some("veth"), None), None, false, false),
            (link("vnet3", Some("macvtap"), None), None, false, true),
            (
                link("vnet3", None, Some(4)),
                Some(bridge("bridge")),
                false,
                true,
            ),
            (
                link("vnet3", None, Some(4)),
                Some(bridge("openvswitch")),
                false,
                true,
            ),
            (
                link("vnet3", None, Some(4)),
                Some(bridge("bond")),
                false,
                false,
            ),
            // In user space it has no master.
            (link("vnet3", None, None), None, true, true),
        ] {
            let port = OvsPort {
                bridge: "ovs0".into(),
                name: "vnet3".into(),
                interfaces: vec!["vnet3".into()],
                strict: false,
                floods: false,
            };
            let master = master.map(|master| Link { index: 4, ..master });
            let here = Surroundings {
                links: Ok([nic].into_iter().chain(master).collect()),
                open_vswitch: Ok(if ovs { vec![port] } else { Vec::new() }),
                ..a_host()
            };
            let wish = Wish {
                nic: "vnet3".into(),
                side: Side::Port,
                ..a_wish(V4, L2Mode::Multicast)
            };
            assert_eq!(is_port(&here, &wish), expected, "{:?}", here.links);
        }
    }

    #[test]
    fn what_a_start_would_say_is_fatal() {
        let here = Surroundings {
            refused: Ok(vec!["use another ip".to_owned()]),
            ..a_host()
        };
        let found = refused(&here, &a_wish(V4, MULTICAST)).expect("seen");
        assert_eq!(found[0].severity, Severity::Fatal);
        assert_eq!(found[0].what, "use another ip");
    }

    #[test]
    fn interfaces_that_cannot_carry_a_vip_are_told() {
        let fatal = [("interface", Outcome::Fatal)];
        let no_ethernet = Link {
            ethernet: false,
            ..a_link(2, "eth0")
        };
        assert_eq!(found(no_ethernet, &[], V4, MULTICAST), fatal);
        assert_eq!(found(of_kind("vrf"), &[], V4, STEALTH), fatal);
        let deaf = Link {
            noarp: true,
            ..a_link(2, "eth0")
        };
        assert_eq!(found(deaf.clone(), &[], V4, STEALTH), fatal);
        assert_eq!(found(deaf, &[], V6, STEALTH), []);
        let slave = Link {
            master: Some(9),
            ..a_link(2, "eth0")
        };
        assert_eq!(found(slave.clone(), &[], V4, MULTICAST), fatal);
        let bond = Link {
            kind: Some("bond".to_owned()),
            ..a_link(9, "bond0")
        };
        assert_eq!(found(slave, &[bond], V4, MULTICAST), fatal);
    }

    #[test]
    fn without_multicast_the_mode_stealth_is_left() {
        let silent = Link {
            multicast: false,
            ..a_link(2, "eth0")
        };
        let warned = [("interface", Outcome::Warning)];
        assert_eq!(found(silent.clone(), &[], V4, MULTICAST), warned);
        assert_eq!(found(silent, &[], V4, STEALTH), []);
    }

    #[test]
    fn a_filter_that_takes_no_cluster_mac_is_told() {
        let fatal = [("mac-filter", Outcome::Fatal)];
        for (kind, mode, expected) in [
            ("macvlan", MULTICAST, &[][..]),
            ("macvlan", STEALTH, &fatal),
            ("macvtap", MULTICAST, &fatal),
            ("macvtap", STEALTH, &fatal),
        ] {
            assert_eq!(
                found(of_kind(kind), &[], V4, mode),
                expected,
                "{kind} {mode}"
            );
            let passthru = Link {
                passthru: true,
                ..of_kind(kind)
            };
            assert_eq!(found(passthru, &[], V4, mode), []);
        }
        let all = Link {
            allmulticast: true,
            ..of_kind("macvtap")
        };
        assert_eq!(found(all.clone(), &[], V4, MULTICAST), []);
        assert_eq!(found(all, &[], V4, STEALTH), fatal);
    }

    #[test]
    fn ipvlans_of_one_parent_are_named() {
        let on = |index, name| Link {
            parent: Parent::Here(7),
            kind: Some("ipvlan".to_owned()),
            ..a_link(index, name)
        };
        let here = Surroundings {
            links: Ok(vec![on(2, "eth0"), on(3, "web0"), a_link(7, "lan0")]),
            ..a_host()
        };
        let told = ipvlan(&here, &a_wish(V4, MULTICAST)).expect("seen");
        assert!(told[0].what.contains("web0 has the same parent"));
        assert_eq!(told[0].severity, Severity::Warning);
    }

    #[test]
    fn a_vrf_takes_what_comes_in_from_services_outside() {
        let slave = Link {
            master: Some(9),
            ..a_link(2, "eth0")
        };
        let vrf = Link {
            kind: Some("vrf".to_owned()),
            ..a_link(9, "red")
        };
        let warned = [("vrf", Outcome::Warning)];
        assert_eq!(
            found(slave.clone(), std::slice::from_ref(&vrf), V4, MULTICAST),
            warned
        );
        let mut here = a_host();
        here.links = Ok(vec![slave, vrf]);
        here.settings = here.settings.map(|settings| super::super::Settings {
            l3mdev_accept: true,
            ..settings
        });
        assert_eq!(super::vrf(&here, &a_wish(V4, MULTICAST)), Ok(Vec::new()));
    }
}
