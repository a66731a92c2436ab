//! Other tables that drop or reject what is the VIP's, and who flushes them all. What the rules of others accept nobody can
//! tell without asking the kernel packet by packet, so what becomes of all the rest is told, and no more.

use super::finding::{Finding, Found, Unseen};
use super::surroundings::{Legacy, Surroundings, Wish};
use crate::model::foreign::{BaseChain, Rest};
use crate::model::untrusted::Untrusted;

/// Chains that drop or reject what is the VIP's, unless a rule in them says otherwise.
pub(super) fn drops(here: &Surroundings, wish: &Wish) -> Found {
    let chains = here.chains.as_ref().map_err(Clone::clone)?;
    let found = chains
        .iter()
        .filter(|chain| concerns(chain, wish))
        .map(|chain| {
            let BaseChain {
                family,
                table,
                name,
                hook,
                rest,
                ..
            } = chain;
            let does = match rest {
                Rest::Rejected => "rejects",
                Rest::Dropped | Rest::Passes => "drops",
            };
            let what = format!("the chain {name} ({hook}) of table {family} {table} {does} what no rule in it accepts");
            let vip = wish.vip_words();
            let why = match (*family, *hook) {
                ("arp", _) => format!("nobody learns where {vip} is unless it accepts ARP for it"),
                (_, "output") => {
                    format!("answers that leave from {vip} must be accepted there, as those of any address of this node")
                }
                _ => format!(
                    "to it {vip} is one more address of this node: the service must be accepted there for it, ICMP errors \
                     and with IPv6 neighbour discovery too"
                ),
            };
            Finding::warning(what, why)
        });
    Ok(found.collect())
}

/// Does the VIP's traffic come by here, and is it dropped unless a rule says otherwise?
fn concerns(chain: &BaseChain, wish: &Wish) -> bool {
    let of_family = match chain.family {
        "inet" | "netdev" => true,
        "ip" | "arp" => wish.may_be_ip4(),
        "ip6" => wish.vip.is_none_or(|vip| vip.is_ipv6()),
        _ => false,
    };
    let on_the_way = matches!(
        chain.hook,
        "prerouting" | "input" | "output" | "ingress" | "egress"
    );
    let of_nic = chain.devices.is_empty() || chain.devices.contains(&wish.nic);
    chain.rest != Rest::Passes && of_family && on_the_way && of_nic
}

/// Tables that are in use and not nf_tables'.
pub(super) fn legacy(here: &Surroundings, wish: &Wish) -> Found {
    let in_use = here.legacy.as_ref().map_err(Clone::clone)?;
    let mut commands = Vec::new();
    for (whose, tables) in in_use {
        let (program, concerned) = match whose {
            Legacy::Ip4 => ("iptables-legacy", wish.may_be_ip4()),
            Legacy::Arp => ("arptables-legacy", wish.may_be_ip4()),
            Legacy::Ip6 => ("ip6tables-legacy", wish.vip.is_none_or(|vip| vip.is_ipv6())),
        };
        let tables = tables.iter().filter(|_| concerned);
        let tables = tables.filter_map(Untrusted::quoted);
        commands.extend(tables.map(|table| match whose {
            Legacy::Arp => format!("{program} -t {table} -L -n"),
            _ => format!("{program} -t {table} -S"),
        }));
    }
    match commands.is_empty() {
        true => Ok(Vec::new()),
        false => Err(Unseen::because(format!(
            "tables of iptables-legacy are in use, and what they drop cannot be judged: look with '{}'",
            commands.join("', '")
        ))),
    }
}

/// A service that flushes the whole ruleset.
pub(super) fn flushes(here: &Surroundings, _: &Wish) -> Found {
    let Some(file) = here.flusher.as_ref().map_err(Clone::clone)? else {
        return Ok(Vec::new());
    };
    let what = format!("nftables.service is enabled, and {file} flushes the ruleset");
    let why = "each reload or restart of it (a stop as well, as Debian has the unit) takes the VIP's rules with it, and this \
               node answers nothing for the VIP until the monitor notices: let the file delete its own tables instead \
               ('table inet filter', 'delete table inet filter' in the place of 'flush ruleset'), and reload it rather \
               than restart it; or use firewalld, which leaves others' tables alone";
    Ok(vec![Finding::warning(what, why)])
}

/// Does a file of nft's flush everything?
pub fn is_flushing(text: &str) -> bool {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let mut commands = lines.flat_map(|line| line.split(';'));
    commands.any(|command| {
        let mut words = command.split_whitespace();
        words.next() == Some("flush") && words.next() == Some("ruleset")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_chain, a_host, a_wish};
    use super::*;
    use crate::model::l2_mode::L2Mode;

    fn told(family: &'static str, hook: &'static str, devices: &[&str], vip: &str) -> bool {
        let chain = BaseChain {
            family,
            hook,
            devices: devices.iter().map(|name| (*name).into()).collect(),
            rest: Rest::Dropped,
            ..a_chain()
        };
        let found = |chain: BaseChain| {
            let here = Surroundings {
                chains: Ok(vec![chain]),
                ..a_host()
            };
            drops(&here, &a_wish(vip, L2Mode::Stealth))
                .expect("seen")
                .len()
                == 1
        };
        let ending = |rest| {
            found(BaseChain {
                rest,
                ..chain.clone()
            })
        };
        assert!(!ending(Rest::Passes));
        assert_eq!(ending(Rest::Rejected), ending(Rest::Dropped));
        ending(Rest::Dropped)
    }

    #[test]
    fn a_policy_that_drops_is_told_where_the_vip_comes_by() {
        let (v4, v6) = ("10.77.0.99", "fd77::99");
        for (family, hook, devices, vip, is_told) in [
            ("inet", "input", &[][..], v4, true),
            ("inet", "input", &[], v6, true),
            ("inet", "forward", &[], v4, false),
            ("ip", "input", &[], v4, true),
            ("ip", "input", &[], v6, false),
            ("ip6", "prerouting", &[], v6, true),
            ("ip6", "prerouting", &[], v4, false),
            ("arp", "output", &[], v4, true),
            ("arp", "output", &[], v6, false),
            ("netdev", "ingress", &["eth0"], v4, true),
            ("netdev", "ingress", &["eth1"], v4, false),
        ] {
            assert_eq!(
                told(family, hook, devices, vip),
                is_told,
                "{family} {hook} {vip}"
            );
        }
    }

    #[test]
    fn legacy_tables_cannot_be_judged_where_the_vip_comes_by() {
        let (v4, v6) = ("10.77.0.99", "fd77::99");
        for (whose, vip, command) in [
            (Legacy::Ip4, v4, Some("'iptables-legacy -t filter -S'")),
            (Legacy::Ip4, v6, None),
            (Legacy::Ip6, v6, Some("'ip6tables-legacy -t filter -S'")),
            (Legacy::Ip6, v4, None),
            (Legacy::Arp, v4, Some("'arptables-legacy -t filter -L -n'")),
            (Legacy::Arp, v6, None),
        ] {
            let here = Surroundings {
                legacy: Ok(vec![(whose, vec!["filter".into()])]),
                ..a_host()
            };
            let unseen = legacy(&here, &a_wish(vip, L2Mode::Multicast)).err();
            let is_right = match (&unseen, command) {
                (None, None) => true,
                (Some(Unseen::Because(why)), Some(command)) => why.contains(command),
                _ => false,
            };
            assert!(is_right, "{whose:?} {vip}: {unseen:?}");
        }
    }

    #[test]
    fn a_file_flushes_if_it_says_so_outside_of_a_comment() {
        for (text, is) in [
            (
                "#!/usr/sbin/nft -f\n\nflush ruleset\ntable inet filter {}\n",
                true,
            ),
            ("  flush   ruleset; table inet a {}", true),
            ("table inet a {}; flush ruleset", true),
            ("# flush ruleset\nflush table inet a\n", false),
            ("flush ruleset inet", true),
            ("", false),
        ] {
            assert_eq!(is_flushing(text), is, "{text}");
        }
    }
}
