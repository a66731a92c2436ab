//! A predecessor's rules for the VIP on this very node.

use super::finding::{Finding, Found};
use super::surroundings::{Surroundings, Wish};
use crate::model::foreign::{BaseChain, SharedBy};
use crate::model::predecessor::Compat;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How the newest IPaddr2 calls its tables; the address stands behind it, with other signs between its numbers.
const TABLE: &str = "IPaddr2_";

/// Rules that are here.
pub(super) fn here(here: &Surroundings, wish: &Wish) -> Found {
    let chains = here.chains.as_ref().map_err(Clone::clone)?;
    let has_target = *here.clusterip.as_ref().map_err(Clone::clone)?;
    let Some(vip) = wish.vip else {
        return Ok(Vec::new());
    };
    let mut tables: Vec<String> = Vec::new();
    let mut rules = Vec::new();
    if has_target {
        rules.push(format!(
            "a rule of the target CLUSTERIP (/proc/net/ipt_CLUSTERIP/{vip})"
        ));
    }
    for chain in chains {
        if its_address(chain) == Some(vip) {
            let family = chain.family;
            // What the table is called follows from the address, so the name is known.
            let table = chain.table.quoted().unwrap_or_default();
            let table = format!("table {family} {table}");
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        for (by, _) in chain.shares.iter().filter(|(_, address)| *address == vip) {
            let by = match by {
                SharedBy::XtCluster => "xt_cluster",
                SharedBy::ClusterIp => "the target CLUSTERIP",
            };
            let BaseChain {
                family,
                table,
                name,
                ..
            } = chain;
            let rule = format!("a rule of {by} in the chain {name} of table {family} {table}");
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    if tables.is_empty() && rules.is_empty() {
        return Ok(Vec::new());
    }
    let whose = match tables.is_empty() {
        true => "a predecessor's",
        false => "IPaddr2's",
    };
    let mut commands: Vec<String> = tables
        .iter()
        .map(|table| format!("nft delete {table}"))
        .collect();
    if !rules.is_empty() {
        commands.push("iptables -D of the rule that 'iptables-save' shows".to_owned());
    }
    let all = [tables, rules].concat().join(", ");
    let what = format!("{whose} own rules for {vip} are still installed here: {all}");
    if matches!(wish.compat, Some(Compat(Some(_)))) {
        let why = format!(
            "with compat that is expected while IPaddr2's nodes are replaced: they hash alike, and let in what IPaddr2 has on \
             this node. Once it is stopped here they should be gone, and what is left of them goes by: {}",
            commands.join("; ")
        );
        return Ok(vec![Finding::note(what, why)]);
    }
    let why = format!(
        "they drop what is for the VIP but for the buckets that IPaddr2 has on this node, so that it does not work here beside \
         them. While IPaddr2 shares it from this node they are as they should be; once it is stopped here they should be \
         gone, and what is left of them goes by: {}",
        commands.join("; ")
    );
    Ok(vec![Finding::warning(what, why)])
}

/// Are there any?
pub(super) fn is_here(surroundings: &Surroundings, wish: &Wish) -> bool {
    here(surroundings, wish).is_ok_and(|found| !found.is_empty())
}

/// The address that a table of the newest IPaddr2 is for.
fn its_address(chain: &BaseChain) -> Option<IpAddr> {
    let address = chain.table.raw().strip_prefix(TABLE)?;
    match chain.family {
        "ip" | "arp" => address
            .replace('_', ".")
            .parse::<Ipv4Addr>()
            .ok()
            .map(Into::into),
        "ip6" => address
            .replace('_', ":")
            .parse::<Ipv6Addr>()
            .ok()
            .map(Into::into),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::tests::{a_chain, a_host, a_wish};
    use super::*;
    use crate::model::l2_mode::L2Mode;
    use crate::model::predecessor::Predecessor;

    fn told(family: &'static str, table: &str, shares: Option<&str>, vip: &str) -> Option<String> {
        let address = shares.map(|address| address.parse().expect("an address"));
        let chain = BaseChain {
            family,
            table: table.into(),
            shares: address
                .map(|address| (SharedBy::XtCluster, address))
                .into_iter()
                .collect(),
            ..a_chain()
        };
        let with = Surroundings {
            chains: Ok(vec![chain.clone(), chain]),
            ..a_host()
        };
        let found = here(&with, &a_wish(vip, L2Mode::Multicast)).expect("seen");
        found.first().map(ToString::to_string)
    }

    #[test]
    fn tables_and_rules_are_told_that_are_for_the_vip() {
        let (v4, v6) = ("10.77.0.99", "fd77::99");
        for (family, table, shares, vip, words) in [
            (
                "ip",
                "IPaddr2_10_77_0_99",
                None,
                v4,
                Some("nft delete table ip IPaddr2_10_77_0_99"),
            ),
            (
                "arp",
                "IPaddr2_10_77_0_99",
                None,
                v4,
                Some("here: table arp IPaddr2_10_77_0_99: "),
            ),
            ("ip", "IPaddr2_10_77_0_98", None, v4, None),
            ("inet", "IPaddr2_10_77_0_99", None, v4, None),
            // However its configuration writes the address.
            (
                "ip6",
                "IPaddr2_fd77_0_0_0_0_0_0_99",
                None,
                v6,
                Some("IPaddr2's own"),
            ),
            ("ip6", "IPaddr2_fd77__99", None, v6, Some("IPaddr2's own")),
            ("ip", "mangle", Some(v4), v4, Some("a rule of xt_cluster")),
            ("ip", "mangle", Some("10.77.0.98"), v4, None),
        ] {
            let told = told(family, table, shares, vip);
            let is_right = match words {
                Some(words) => told.as_ref().is_some_and(|told| told.contains(words)),
                None => told.is_none(),
            };
            assert!(is_right, "{family} {table}: {told:?}");
        }
    }

    #[test]
    fn who_is_to_be_beside_it_is_not_warned() {
        let with = Surroundings {
            clusterip: Ok(true),
            ..a_host()
        };
        let severity = |compat| {
            let wish = Wish {
                compat,
                ..a_wish("10.77.0.99", L2Mode::Multicast)
            };
            here(&with, &wish).expect("seen")[0].severity
        };
        for compat in [None, Some(Compat(None))] {
            assert_eq!(severity(compat), Severity::Warning);
        }
        let expected = Some(Compat(Some(Predecessor::ClusterIp)));
        assert_eq!(severity(expected), Severity::Note);
    }

    #[test]
    fn the_target_is_told_by_its_file() {
        let with = Surroundings {
            clusterip: Ok(true),
            ..a_host()
        };
        let found = here(&with, &a_wish("10.77.0.99", L2Mode::Multicast)).expect("seen");
        assert!(found[0].what.starts_with("a predecessor's own rules"));
    }
}
