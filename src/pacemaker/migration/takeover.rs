//! The script by which one node takes its buckets over from the predecessor, while Pacemaker looks away. Pure.
//!
//! It calls the new agent as Pacemaker would, for every bucket that the predecessor's rules serve on this node, and only then
//! takes the predecessor's rules away. Between the two both stand, one behind the other: with the same hash and the same
//! buckets a packet that one lets in the other does too, and what one has by mistake the other drops. Dark are this node's
//! buckets only while the new agent comes up and has none yet, so all are started at once. The old address and its membership are told by signs to be a VIP's and not the node's own
//! (`model::host`), which the predecessor does not give in all cases; so the script does.

use super::super::ipaddr2::BROADCAST;
use super::found::{Address, Pairs, value};
use super::judged::{Renewed, Shared};
use super::old_rules::{OldRules, Told, What};
use crate::model::hash::HashMode;
use crate::model::predecessor::Predecessor;
use crate::model::seed::parse_seed;
use crate::model::untrusted::quoted;
use crate::model::vip::parse_prefix;
use std::fmt::Write;
use std::net::IpAddr;

const BEGIN: &str = r#"#!/bin/sh
# Takes over on this node what ocf:heartbeat:IPaddr2 serves here, by ocf:rust:ClusterIP; with the word 'look' it only
# looks, with 'back' it gives back. To be run on one node after the other, while the clone is in maintenance. It may be
# run again.
set -eu
case ${1:-take} in
# What does not fit is known of all addresses before anything is done to one.
take) words="fit take" ;;
look | back) words=$1 ;;
*)
    echo "'$1' is not known here: give no word, or look, or back" >&2
    exit 64
    ;;
esac
numbers() { sort -nu | while read -r number; do echo $((number - 1)); done; }
# What the predecessor's rules say behind a word; the numbers of the bits of masks; seeds in one form; what all say.
behind() { sed -n "s/.* $1 \([^ ]*\).*/\1/p"; }
bits() {
    while read -r mask; do
        number=1 mask=$((mask))
        while [ "$mask" -gt 0 ]; do
            [ $((mask & 1)) = 0 ] || echo "$number"
            number=$((number + 1)) mask=$((mask >> 1))
        done
    done
}
seeds() { while read -r seed; do printf '0x%08x\n' "$seed"; done; }
once() { sort -u | paste -sd, -; }
# Stops where the predecessor's rules do not do what the new configuration says.
same() {
    if [ "$3" != "$4" ]; then
        echo "$1: the $2 is ${3:-not told} by the predecessor's rules here and $4 by the new configuration; with both most clients" \
            "would be dark. Set it to what runs (a parameter that changes restarts the clone, and cuts; choose the hour), and have" \
            "this written again; or go with the clone stopped, by --compat none" >&2
        exit 1
    fi
}
"#;

/// The script of a clone's addresses, which have a predecessor each.
pub fn script(shared: &Shared) -> String {
    let mut text = BEGIN.to_owned() + "for what in $words; do\n";
    for renewed in &shared.addresses {
        if let Some(before) = renewed.compat {
            text += &one(shared, renewed, before);
        }
    }
    text + "done\n"
}

/// What the script does for an address.
fn one(shared: &Shared, renewed: &Renewed, before: Predecessor) -> String {
    let (ip, id) = (renewed.ip, &renewed.found.id);
    let rules = OldRules::of(renewed, before, &within(&renewed.found));
    let same = as_before(shared, renewed, before, &rules.told);
    let mut text = format!("\n# {id}: {ip}\n");
    text += &agent(shared, renewed);
    let OldRules {
        rules,
        served,
        elsewhere,
        sign,
        gone,
        ..
    } = rules;
    let netns = namespace(&renewed.found).map_or(String::new(), |name| format!(" --netns {name}"));
    let down = format!("nodectl down {ip} --force{netns}");
    let is_here = format!("nodectl buckets {ip}{netns} > /dev/null 2>&1");
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"rules() {{ {rules}; }}
served() {{ {served} | numbers; }}
buckets=$(served | paste -sd, -)
[ "$what" = fit ] || echo "{ip}: the predecessor's rules serve here: ${{buckets:-nothing}}"
{elsewhere}{same}if [ "$what" = look ]; then
    agent validate-all 0
elif [ "$what" = back ] && ! {is_here}; then
    echo "{ip}: nothing of it is taken over here, so nothing is given back; the predecessor's rules are as they were"
elif [ "$what" = back ]; then
    # Without rules the address would be answered for all, so it goes first.
    {down}
    # The predecessor begins anew here; it must add nothing to rules that stand.
    set +e
{gone}    set -e
    echo "{ip}: given back: dark here until the predecessor runs"
elif [ "$what" = take ] && [ -n "$buckets" ]; then
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

/// What stops the script where the predecessor's rules do not do what the new configuration says: two hashes one behind the other
/// leave most clients dark, and so do two numbers of instances. Of the same digest as the seed is the MAC, unless they
/// are set.
fn as_before(shared: &Shared, renewed: &Renewed, before: Predecessor, told: &[Told]) -> String {
    let ip = renewed.ip;
    let pairs = with_around(renewed);
    let of = |name: &str| {
        let value = value(&pairs, name);
        value.filter(|value| !value.is_empty())
    };
    let derives_mac = of("mac").is_none();
    let seed = match (of("hash_seed"), before) {
        (Some(seed), _) => Some(parse_seed(seed).unwrap_or_default()),
        (None, Predecessor::ClusterIp) => Some(0),
        (None, Predecessor::Ipaddr2) => None,
    };
    let hash = match before.hash() {
        Some(hash) => hash.name(),
        None => of("clusterip_hash").unwrap_or(HashMode::default().name()),
    };
    let mut text = String::new();
    if derives_mac || seed.is_none() {
        let made = derived(ip, before, &of);
        text += &format!("[ \"$what\" = back ] || made=$({made})\n");
    }
    text += "if [ \"$what\" != back ] && [ -n \"$buckets\" ]; then\n";
    // Writing to a String cannot fail.
    if derives_mac {
        let within = within(&renewed.found);
        let _ = write!(
            text,
            r#"    mac=$(echo "$made" | sed -n 's/.*"mac":"\([^"]*\)".*/\1/p')
    if ! {within}ip maddress show | grep -q "$mac"; then
        echo "{ip}: here it would be shared under $mac, which no interface has joined: the predecessor derived another" \
            "MAC. Set mac to that one ('ip maddress show'), and its seed: that restarts the clone, and cuts; choose the hour, and" \
            "have this written again; or go with the clone stopped, by --compat none" >&2
        exit 1
    fi
"#
        );
    }
    if seed.is_none() {
        text += "    seed=$(echo \"$made\" | sed -n 's/.*\"seed\":\\([0-9]*\\).*/\\1/p' | seeds)\n";
    }
    let seed = seed.map_or("\"$seed\"".to_owned(), |seed| format!("{seed:#010x}"));
    for Told { what, how } in told {
        let (called, new) = match what {
            What::Instances => ("number of instances", shared.buckets.to_string()),
            What::Hash => ("hash", hash.to_owned()),
            What::Seed => ("seed", seed.clone()),
        };
        let _ = writeln!(
            text,
            "    same {ip} \"{called}\" \"$(rules | {how} | once)\" {new}"
        );
    }
    text + "fi\n"
}

/// What prints MAC and seed as the new agent derives them on this node. What has no quoted form is an obstacle before.
fn derived<'a>(ip: IpAddr, before: Predecessor, of: &dyn Fn(&str) -> Option<&'a str>) -> String {
    let mut vip = ip.to_string();
    let prefix = of("cidr_netmask").or_else(|| of("netmask"));
    if let Some(prefix) = prefix.and_then(|text| parse_prefix(text, ip)) {
        vip += &format!("/{prefix}");
    }
    let mut words = format!("nodectl mac {vip} --compat {before}");
    for (option, name) in [
        ("nic", "nic"),
        ("broadcast", BROADCAST),
        ("netns", "network_namespace"),
    ] {
        if let Some(value) = of(name).and_then(quoted) {
            words += &format!(" --{option} {value}");
        }
    }
    words + " --json"
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

#[cfg(test)]
mod tests {
    use super::super::taken_over::written;

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
            plain.contains("$(nodectl mac 10.0.0.99 --compat ipaddr2 --json)\n"),
            "{plain}"
        );
        let told = written(
            "ip=10.0.0.99 clusterip_hash=sourceip cidr_netmask=24 nic=eth0:1 broadcast=10.0.0.255 network_namespace=web",
        );
        let words = "nodectl mac 10.0.0.99/24 --compat clusterip --nic eth0:1 --broadcast 10.0.0.255 --netns web --json)";
        assert!(told.contains(words), "{told}");
        assert!(
            told.contains("ip netns exec web ip maddress show"),
            "{told}"
        );
        let dotted = written("ip=10.0.0.99 clusterip_firewall=nft cidr_netmask=255.255.255.0");
        assert!(
            dotted.contains("$(nodectl mac 10.0.0.99/24 --compat ipaddr2 --json)\n"),
            "{dotted}"
        );
        for script in [&plain, &told, &dotted] {
            let stops = script
                .find("so its seed")
                .or_else(|| script.find("and its seed"));
            let stops = stops.expect("a stop");
            assert!(stops < script.find("agent start").expect("a start"));
        }
        // Where nothing is derived nobody is chosen.
        let set = written(
            "ip=10.0.0.99 clusterip_firewall=nft mac=51:00:00:00:00:01 clusterip_hash_seed=7",
        );
        assert!(!set.contains("nodectl mac"), "{set}");
        let set = written("ip=10.0.0.99 clusterip_hash=sourceip mac=51:00:00:00:00:01");
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
