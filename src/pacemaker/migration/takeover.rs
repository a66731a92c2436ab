//! The script by which one node takes its buckets over from the predecessor, while Pacemaker looks away. Pure.
//!
//! It calls the new agent as Pacemaker would, for every bucket that the predecessor's rules serve on this node, and only then
//! takes the predecessor's rules away. Between the two both stand, one behind the other: with the same hash and the same
//! buckets a packet that one lets in the other does too, and what one has by mistake the other drops. Dark are this node's
//! buckets only while the new agent comes up and has none yet, so all are started at once. The old address and its membership are told by signs to be a VIP's and not the node's own
//! (`model::host`), which the predecessor does not give in all cases; so the script does.

use super::found::{Address, Pairs};
use super::judged::{Renewed, Shared};
use crate::model::predecessor::Predecessor;
use crate::model::untrusted::quoted;
use std::fmt::Write;
use std::net::IpAddr;

const BEGIN: &str = r#"#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
what=${1:-take}
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }
"#;

/// The script of a clone's addresses, which have a predecessor each.
pub fn script(shared: &Shared) -> String {
    let mut text = BEGIN.to_owned();
    for renewed in &shared.addresses {
        if let Some(before) = renewed.compat {
            text += &one(shared, renewed, before);
        }
    }
    text
}

/// What the script does for an address.
fn one(shared: &Shared, renewed: &Renewed, before: Predecessor) -> String {
    let (ip, id) = (renewed.ip, &renewed.found.id);
    let rules = OldRules::of(renewed, before);
    let same = same_mac(renewed, before).unwrap_or_default();
    let mut text = format!("\n# {id}: {ip}\n");
    text += &agent(shared, renewed);
    let OldRules { served, sign, gone } = rules;
    let netns = namespace(&renewed.found).map_or(String::new(), |name| format!(" --netns {name}"));
    let down = format!("nodectl down {ip} --force{netns}");
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"served() {{ {served} | numbers; }}
buckets=$(served | paste -sd, -)
echo "{ip}: the predecessor's rules serve here: ${{buckets:-nothing}}"
{same}if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ]; then
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
{gone}    set -e
    {down}
    echo "{ip}: given back: dark here until the predecessor runs"
elif [ -n "$buckets" ]; then
{sign}    pids= failed=
    for bucket in $(served); do agent start "$bucket" & pids="$pids $bucket:$!"; done
    for pid in $pids; do wait "${{pid#*:}}" || failed="$failed ${{pid%%:*}}"; done
    for bucket in $(served); do agent monitor "$bucket" || failed="$failed $bucket"; done
    if [ -n "$failed" ]; then
        echo "{ip}: dark here, for they do not run:$failed; mend what is said above and run this again, or run it with" \
            "the word 'back'" >&2
        exit 1
    fi
{gone}    echo "{ip}: taken over: $buckets"
fi
"#
    );
    text
}

/// What stops the script where the new agent derives another MAC than the old one has: then its seed, which is of the same
/// digest, may be another as well, and two hashes one behind the other leave most clients dark.
fn same_mac(renewed: &Renewed, before: Predecessor) -> Option<String> {
    let pairs = with_around(renewed);
    let of = |name: &str| {
        let mut all = pairs.iter();
        all.find(|(named, _)| named.raw() == name)
            .map(|(_, value)| value.raw())
    };
    if of("mac").is_some() {
        return None;
    }
    let mut vip = renewed.ip.to_string();
    if let Some(prefix) = of("cidr_netmask").or_else(|| of("netmask")) {
        vip += &format!("/{}", prefix.parse::<u8>().ok()?);
    }
    let mut words = format!("nodectl mac {vip} --compat {before}");
    for (option, name) in [
        ("nic", "nic"),
        ("broadcast", "broadcast"),
        ("netns", "network_namespace"),
    ] {
        if let Some(value) = of(name) {
            words += &format!(" --{option} {}", quoted(value)?);
        }
    }
    let (ip, within) = (renewed.ip, within(&renewed.found));
    Some(format!(
        "[ \"$what\" = back ] || mac=$({words})\n\
         if [ \"$what\" != back ] && [ -n \"$buckets\" ] && ! {within}ip maddress show | grep -q \"$mac\"; then\n    \
             echo \"{ip}: here it would be shared under $mac, which no interface has joined: the predecessor derived another\" \\\n        \
             \"MAC; set mac to that one ('ip maddress show'), and its seed\" >&2\n    exit 1\nfi\n"
    ))
}

/// The network namespace that it is in, for a shell.
fn namespace(found: &Address) -> Option<String> {
    found.parameter("network_namespace").and_then(quoted)
}

/// What runs the rest of the line there.
fn within(found: &Address) -> String {
    namespace(found).map_or(String::new(), |name| format!("ip netns exec {name} "))
}

/// The agent, called as Pacemaker would.
fn agent(shared: &Shared, renewed: &Renewed) -> String {
    let id = renewed.found.id.raw();
    let around = with_around(renewed);
    let buckets = shared.buckets;
    let node_max = shared.node_max;
    let mut text = format!(
        r#"agent() {{
    env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE="{id}:$2" OCF_RESOURCE_TYPE=ClusterIP \
        OCF_RESOURCE_PROVIDER=rust OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 \
        OCF_RESKEY_CRM_meta_clone="$2" OCF_RESKEY_CRM_meta_clone_max={buckets} \
        OCF_RESKEY_CRM_meta_clone_node_max={node_max} OCF_RESKEY_CRM_meta_globally_unique=true \
        OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_on_node="$(crm_node --name)" \
"#
    );
    for parameter in parameters(&around) {
        let _ = writeln!(text, "        {parameter} \\");
    }
    text + "        /usr/lib/ocf/resource.d/rust/ClusterIP \"$1\"\n}\n"
}

/// Its parameters, and those of the group and the clone around it.
fn with_around(renewed: &Renewed) -> Pairs {
    let mut all = renewed.parameters.clone();
    super::found::add(&mut all, renewed.found.around.clone());
    all
}

/// The parameters as the agent's environment. What has no quoted form, or a name that is no word, is an obstacle before.
fn parameters(pairs: &Pairs) -> impl Iterator<Item = String> + '_ {
    pairs.iter().filter_map(|(name, value)| {
        let value = quoted(value.raw())?;
        let is_word = quoted(name.raw()).is_some_and(|word| word == name.raw());
        is_word.then(|| format!("OCF_RESKEY_{}={value}", name.raw()))
    })
}

/// What of the predecessor's rules the script has to know.
struct OldRules {
    /// What prints the numbers of its instances here, from 1.
    served: String,
    /// What makes the old address one that is known as a VIP's.
    sign: String,
    /// What takes the rules away.
    gone: String,
}

impl OldRules {
    fn of(renewed: &Renewed, before: Predecessor) -> Self {
        let found = &renewed.found;
        let within = within(found);
        match before {
            Predecessor::ClusterIp => OldRules::by_clusterip(renewed.ip, &within),
            Predecessor::Ipaddr2 => {
                let mut rules = match found.is_by_iptables() {
                    true => OldRules::by_iptables(renewed, &within),
                    false => OldRules::by_nft(renewed.ip, &within),
                };
                if renewed.ip.is_ipv6() {
                    rules.sign = deprecated(renewed.ip, &within);
                }
                rules
            }
        }
    }

    /// The kernel counts what CLUSTERIP itself has joined apart, so that the membership has to be told once more.
    fn by_clusterip(ip: IpAddr, within: &str) -> Self {
        let pattern = ip.to_string().replace('.', r"\.");
        let rule = format!("/-d {pattern}\\/32 .*-j CLUSTERIP/");
        let program = "$(command -v iptables-legacy || command -v iptables)";
        let list = format!("{within}{program} -S INPUT");
        OldRules {
            served: format!(
                "{within}cat /proc/net/ipt_CLUSTERIP/{ip} 2>/dev/null | tr , '\\n' | grep ."
            ),
            sign: format!(
                "    mac=$({list} | sed -n '{rule}s/.*--clustermac \\([^ ]*\\).*/\\1/p')\n    \
                     nic=$({list} | sed -n '{rule}s/.* -i \\([^ ]*\\) .*/\\1/p')\n    \
                     {within}ip maddr add \"$mac\" dev \"$nic\"\n"
            ),
            gone: format!(
                "    {list} | sed -n '{rule}s/^-A/-D/p' | while read -r rule; do\n        \
                     {within}{program} $rule\n    \
                     done\n"
            ),
        }
    }

    fn by_nft(ip: IpAddr, within: &str) -> Self {
        let table = format!("IPaddr2_{}", ip.to_string().replace([':', '.'], "_"));
        let family = if ip.is_ipv4() { "ip" } else { "ip6" };
        let mut gone = format!("    {within}nft delete table {family} {table}\n");
        if ip.is_ipv4() {
            let _ = writeln!(
                gone,
                "    {within}nft delete table arp {table} 2>/dev/null || true"
            );
        }
        OldRules {
            served: format!(
                "{within}nft list table {family} {table} 2>/dev/null | sed -n 's/.*\"cip-node-\\([0-9]*\\)\".*/\\1/p'"
            ),
            sign: String::new(),
            gone,
        }
    }

    /// The rule that drops goes first, so that nothing is dark.
    fn by_iptables(renewed: &Renewed, within: &str) -> Self {
        let (found, ip) = (&renewed.found, renewed.ip);
        let own = |name, usual: &str| {
            let word = found.parameter(name).unwrap_or(usual);
            quoted(word).unwrap_or_else(|| usual.to_owned())
        };
        let table = own("clusterip_table", "mangle");
        let chain = own("clusterip_chain", "PREROUTING");
        let (program, bits) = match ip {
            IpAddr::V4(_) => ("iptables", 32),
            IpAddr::V6(_) => ("ip6tables", 128),
        };
        let pattern = format!("-d {}\\/{bits} ", ip.to_string().replace('.', r"\."));
        let list = format!("{within}{program} -t {table} -S {chain}");
        let delete = |rule: &str| {
            format!(
                "    {list} | sed -n '/{pattern}{rule}/s/^-A/-D/p' | while read -r rule; do\n        \
                     {within}{program} -t {table} $rule\n    done\n"
            )
        };
        let mut gone = delete(".*-j DROP") + &delete(".*-m cluster ");
        if ip.is_ipv6() {
            gone += &delete(".*neighbour-advertisement.*-j ACCEPT");
        }
        if found.is_set("clusterip_mac_mangle") {
            let _ = write!(
                gone,
                "    mac=$({within}arptables -L OUTPUT -n | sed -n 's/.*-s {ip} .*--mangle-mac-s \\([^ ]*\\).*/\\1/p')\n    \
                 {within}arptables --delete OUTPUT -s {ip} -j mangle --mangle-mac-s \"$mac\"\n"
            );
        }
        OldRules {
            served: format!(
                "{list} 2>/dev/null | sed -n 's/.*{pattern}.*--cluster-local-node \\([0-9]*\\).*/\\1/p'"
            ),
            sign: String::new(),
            gone,
        }
    }
}

/// The predecessor's IPv6 address is a source like any other; ours never are.
fn deprecated(ip: IpAddr, within: &str) -> String {
    format!(
        "    old=$({within}ip -6 -o address show to {ip} | while read -r _ nic _ address _; do echo \"$address dev $nic\"; done)\n    \
             {within}ip -6 address change $old preferred_lft 0\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::judged::{Chosen, judge};
    use super::super::read;
    use super::*;
    use std::process::Command;

    fn written(parameters: &str) -> String {
        let text = format!(
            "primitive resIP IPaddr2 params {parameters}\nclone cloneIP resIP meta globally-unique=true clone-max=4"
        );
        let all = read(&text).expect("crm's words");
        let judgement = judge(&all, Chosen::default(), None);
        script(judgement.shared.first().expect("one that is migrated"))
    }

    /// What the function `served` of a script says, where the programs of this name answer so.
    fn served(script: &str, program: &str, answer: &str) -> String {
        let functions: Vec<&str> = script
            .lines()
            .filter(|line| line.starts_with("numbers()") || line.starts_with("served()"))
            .collect();
        let line = format!(
            "{program}() {{ printf '%s\\n' \"$ANSWER\"; }}\n{}\nserved | paste -sd, -",
            functions.join("\n")
        );
        let told = Command::new("sh")
            .args(["-euc", &line])
            .env("ANSWER", answer)
            .output()
            .expect("a shell");
        assert!(told.status.success(), "{told:?}");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    }

    #[test]
    fn buckets_are_the_numbers_of_the_old_rules_less_one() {
        let nft = written("ip=10.0.0.99 clusterip_firewall=nft");
        let listed = r#"table ip IPaddr2_10_0_0_99 {
            iif "eth0" ip daddr 10.0.0.99 jhash ip saddr mod 12 seed 0x1 offset 1 == 10 accept comment "cip-node-10"
            iif "eth0" ip daddr 10.0.0.99 jhash ip saddr mod 12 seed 0x1 offset 1 == 2 accept comment "cip-node-2"
            iif "eth0" ip daddr 10.0.0.99 drop"#;
        assert_eq!(served(&nft, "nft", listed), "1,9");
        assert_eq!(served(&nft, "nft", ""), "");
        let iptables = written("ip=10.0.0.99 clusterip_firewall=iptables");
        let cluster = "-m cluster --cluster-total-nodes 4 --cluster-local-node";
        let listed = format!(
            "-P PREROUTING ACCEPT\n-A PREROUTING -d 10.0.0.99/32 -i eth0 {cluster} 3 --cluster-hash-seed 0x1 -j ACCEPT\n\
             -A PREROUTING -d 10.0.0.98/32 -i eth0 {cluster} 1 --cluster-hash-seed 0x1 -j ACCEPT\n\
             -A PREROUTING -d 10.0.0.99/32 -i eth0 -j DROP"
        );
        assert_eq!(served(&iptables, "iptables", &listed), "2");
        let classic = written("ip=10.0.0.99 clusterip_hash=sourceip");
        assert_eq!(served(&classic, "cat", "1,3,4"), "0,2,3");
    }

    #[test]
    fn the_old_rules_go_last() {
        for parameters in [
            "ip=10.0.0.99 clusterip_firewall=nft",
            "ip=fd77::99 clusterip_firewall=nft",
            "ip=10.0.0.99 clusterip_firewall=iptables",
            "ip=10.0.0.99 clusterip_hash=sourceip network_namespace=web",
        ] {
            let script = written(parameters);
            let place = |words: &str| {
                script
                    .find(words)
                    .unwrap_or_else(|| panic!("{words}: {script}"))
            };
            let starts = place("agent start");
            let monitors = place("agent monitor");
            // They go in the way back as well, which stands before.
            let gone = script
                .rfind("nft delete")
                .or_else(|| script.rfind("s/^-A/-D/p"));
            let gone = gone.unwrap_or_else(|| panic!("{script}"));
            assert!(starts < monitors && monitors < gone, "{script}");
        }
    }

    #[test]
    fn an_address_is_told_to_be_a_vips_before_the_agent_sees_it() {
        let six = written("ip=fd77::99 clusterip_firewall=nft");
        let deprecated = six.find("preferred_lft 0").expect("deprecated");
        assert!(deprecated < six.find("agent start").expect("a start"));
        let classic = written("ip=10.0.0.99 clusterip_hash=sourceip");
        let joined = classic.find("ip maddr add").expect("joined");
        assert!(joined < classic.find("agent start").expect("a start"));
    }

    #[test]
    fn another_mac_than_the_old_one_stops_it_before_anything_is_done() {
        let plain = written("ip=10.0.0.99 clusterip_firewall=nft");
        assert!(
            plain.contains("$(nodectl mac 10.0.0.99 --compat ipaddr2)\n"),
            "{plain}"
        );
        let told = written(
            "ip=10.0.0.99 clusterip_hash=sourceip cidr_netmask=24 nic=eth0:1 broadcast=10.0.0.255 network_namespace=web",
        );
        let words = "nodectl mac 10.0.0.99/24 --compat clusterip --nic eth0:1 --broadcast 10.0.0.255 --netns web)";
        assert!(told.contains(words), "{told}");
        assert!(
            told.contains("ip netns exec web ip maddress show"),
            "{told}"
        );
        for script in [&plain, &told] {
            let stops = script
                .find("so its seed")
                .or_else(|| script.find("and its seed"));
            let stops = stops.expect("a stop");
            assert!(stops < script.find("agent start").expect("a start"));
        }
        let set = written("ip=10.0.0.99 clusterip_firewall=nft mac=51:00:00:00:00:01");
        assert!(!set.contains("nodectl mac"), "{set}");
    }

    #[test]
    fn parameters_reach_the_agent_as_they_are() {
        let script = written("ip=10.0.0.99 clusterip_firewall=nft iflabel=\"a b;c\"");
        assert!(
            script.contains("OCF_RESKEY_iflabel='a b;c' \\\n"),
            "{script}"
        );
        assert!(
            script.contains("OCF_RESOURCE_INSTANCE=\"resIP:$2\""),
            "{script}"
        );
        assert!(!script.contains("clusterip_firewall"), "{script}");
    }
}
