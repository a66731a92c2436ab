//! What is to be said of a clone that is migrated: what changes, and what is worth a look. Pure.

use super::super::ipaddr2::ITS_SEED;
use super::super::ipaddr2::is_true;
use super::found::{Configuration, Rule, value};
use super::judged::{Renewed, Shared};
use crate::model::predecessor::Predecessor;
use crate::model::untrusted::{Untrusted, shown};
use std::net::IpAddr;

/// What changes.
pub fn changes(shared: &Shared) -> Vec<String> {
    let mut all: Vec<String> = shared.addresses.iter().flat_map(changes_of).collect();
    all.extend([
        "TCP connections stay with their node when a bucket moves, until they end, for 300 s at most (drain_timeout)"
            .to_owned(),
        "the address has 32 or 128 bits, an IPv4 one scope host: scripts that look for it with its old prefix do not find it"
            .to_owned(),
        "drop_unicast_in_l2_multicast is set to 1 on the interface: with the rules flushed no node answers what it should \
         not"
            .to_owned(),
    ]);
    if shared.sets_clone_max {
        all.push(format!(
            "clone-max is set, to the number of nodes as it is now, {}: left out it changes with every node, and the hash \
             with it",
            shared.buckets
        ));
    }
    all
}

/// Does the new configuration say the seed?
fn has_seed(renewed: &Renewed) -> bool {
    value(&renewed.parameters, "hash_seed").is_some()
}

fn changes_of(renewed: &Renewed) -> Vec<String> {
    let Renewed {
        found, ip, compat, ..
    } = renewed;
    let id = &found.id;
    let mut all = vec![match compat {
        Some(compat) => format!(
            "{id}: the agent, to ocf:rust:ClusterIP. compat=\"{}\" keeps hash, seed and cluster MAC as {} derives them \
             from the same parameters: clients stay with their buckets, static ARP entries hold",
            compat.name(),
            compat.called()
        ),
        None => format!(
            "{id}: the agent, to ocf:rust:ClusterIP, and the hash: clients change their buckets, once"
        ),
    }];
    if found.parameter(ITS_SEED).is_some() && has_seed(renewed) {
        all.push(format!("{id}: clusterip_hash_seed is called hash_seed"));
    }
    if compat.is_none() && found.parameter("mac").is_none() {
        all.push(format!(
            "{id}: the cluster MAC, to that of 'nodectl mac {ip}': static ARP entries must follow ('nodectl arp {ip}')"
        ));
    }
    let newest = *compat == Some(Predecessor::Ipaddr2);
    if newest && !found.is_set("clusterip_mac_mangle") {
        let what = match ip {
            IpAddr::V4(_) => "ARP",
            IpAddr::V6(_) => "neighbour discovery",
        };
        all.push(format!(
            "{id}: what {what} says. With the newest IPaddr2 each node told its own MAC, so that a client's packets reached \
             one node alone and others' clients timed out; from now on all say the cluster MAC, and the switch must flood it \
             ('nodectl arp {ip}')"
        ));
    }
    let classic = *compat == Some(Predecessor::ClusterIp);
    if classic && found.parameter("check_link_status").is_none() {
        all.push(format!(
            "{id}: an interface without a carrier is a failure (check_link_status=\"false\" if it is not to be)"
        ));
    }
    if let Some(template) = &found.template {
        all.push(format!(
            "{id}: it stands for itself, with what it had of the template {template}, which names the predecessor"
        ));
    }
    all
}

/// What stays as it is, and is worth a look.
pub fn look(shared: &Shared) -> Vec<String> {
    let Shared {
        clone: id,
        found: clone,
        rules,
        ..
    } = shared;
    let mut all = Vec::new();
    let (by_pattern, named): (Vec<&Rule>, Vec<&Rule>) =
        rules.iter().partition(|rule| rule.pattern.is_some());
    let named: Vec<String> = named
        .iter()
        .map(|rule| format!("{} {}", rule.kind, rule.id))
        .collect();
    if !named.is_empty() {
        let named = named.join(", ");
        all.push(format!(
            "rules about {id} or what is in it: {named}. Nothing is to be done, for names stay"
        ));
    }
    let by_pattern: Vec<String> = by_pattern
        .iter()
        .filter_map(|rule| Some((rule, rule.pattern.as_ref()?)))
        .map(|(rule, pattern)| format!("{} {} (/{pattern}/)", rule.kind, rule.id))
        .collect();
    if !by_pattern.is_empty() {
        all.push(format!(
            "rules about all names that match a pattern, and so perhaps about {id} or what is in it: {}. Nothing is to be done, \
             for names stay",
            by_pattern.join(", ")
        ));
    }
    if rules.iter().any(|rule| rule.kind == "colocation") {
        all.push(format!(
            "a colocation of {id} with a clone of another size makes crm_verify say \"Cannot interleave\"; a rule by a node \
             attribute does the same without (docs/agent.md, A service in front)"
        ));
    }
    let is_migrated = |id: &Untrusted| shared.addresses.iter().any(|it| it.found.id == *id);
    let others = clone.others.iter().filter(|other| !is_migrated(other));
    let others: Vec<String> = others.map(ToString::to_string).collect();
    if !others.is_empty() {
        all.push(format!(
            "{} in the same clone: what is done to {id} is done to it too",
            others.join(", ")
        ));
    }
    if !clone.meta("interleave").is_some_and(is_true) {
        all.push(format!(
            "interleave is not set: with an order before {id}, a node that comes back stops every bucket on every node. \
             Better: crm_resource -r {id} -m -p interleave -v true"
        ));
    }
    let (each, buckets) = (shared.node_max, shared.buckets);
    if each < buckets {
        all.push(format!(
            "clone-node-max is {each}, fewer than the {buckets} buckets: with few nodes left the rest is dark. Better: \
             crm_resource -r {id} -m -p clone-node-max -v {buckets}"
        ));
    }
    if shared.inherits_ruled {
        all.push(
            "rsc_defaults or op_defaults hold for ocf:heartbeat:IPaddr2 by a rule, and not for ocf:rust:ClusterIP: let the \
             rule name that too, or set with the resource what they set"
                .to_owned(),
        );
    }
    if clone.meta("maintenance").is_some_and(is_true) && shared.is_rolling() {
        all.push(format!(
            "maintenance is set for {id} as it is: the last step but one takes that away from {id} alone; see that it ends"
        ));
    }
    let stays = around(shared);
    if !stays.is_empty() {
        all.push(format!(
            "set on the group or the clone, and staying there, where Pacemaker gives them to the new agent too: {}. What is \
             not kept or has another name can be deleted there once all is done",
            stays.join(", ")
        ));
    }
    all.extend(shared.addresses.iter().flat_map(look_at));
    all
}

/// Whom a seed that was given does not change, and why.
pub fn without_that_seed(shared: &Shared) -> Vec<String> {
    let others = shared.addresses.iter().filter(|it| !it.has_new_seed());
    let told = others.map(|Renewed { found, compat, .. }| {
        let why = match compat {
            Some(compat) => format!(
                "compat=\"{}\" keeps the hash; with --compat none it counts",
                compat.name()
            ),
            None => {
                format!("{ITS_SEED} is set, and stays the seed; it counts where that is left out")
            }
        };
        format!(
            "{}: the seed that --seed says is passed over, for {why}",
            found.id
        )
    });
    told.collect()
}

/// Why there is nothing of a clone that was asked for, and what can be asked for.
pub fn no_such_clone(all: &Configuration, asked: &str) -> String {
    let mut clones: Vec<(&Untrusted, String)> = Vec::new();
    for found in &all.addresses {
        let Some(clone) = &found.clone else {
            continue;
        };
        let is_its = |id: &&Untrusted| id.raw() == asked;
        let of = match (
            Some(&found.id).filter(is_its),
            found.group.as_ref().filter(is_its),
        ) {
            (Some(id), _) if clone.others.is_empty() => format!(" ({id} is the resource in it)"),
            (Some(id), _) => format!(" ({id} is a resource in it)"),
            (None, Some(group)) => format!(" ({group} is the group in it)"),
            (None, None) => String::new(),
        };
        match clones.iter_mut().find(|(id, _)| **id == clone.id) {
            Some((_, known)) if known.is_empty() => *known = of,
            Some(_) => {}
            None => clones.push((&clone.id, of)),
        }
    }
    let named: Vec<String> = clones.iter().map(|(id, of)| format!("{id}{of}")).collect();
    let there = match named.is_empty() {
        true => "there is none at all".to_owned(),
        false => format!("there are: {}", named.join(", ")),
    };
    format!(
        "there is no clone '{}' with an address of IPaddr2's in it; {there}",
        shown(asked)
    )
}

/// What the group and the clone set for what is in them.
fn around(shared: &Shared) -> Vec<String> {
    let mut all = Vec::new();
    for (name, _) in shared.addresses.iter().flat_map(|it| it.found.inherited()) {
        let name = name.to_string();
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn look_at(renewed: &Renewed) -> Vec<String> {
    let found = &renewed.found;
    let id = &found.id;
    let mut all = Vec::new();
    if !found.operations.iter().any(|op| op.is("monitor")) {
        all.push(format!(
            "{id} has no monitor: what goes wrong is not noticed. Better: op monitor interval=10s timeout=20s"
        ));
    }
    let stickiness = found.meta("resource-stickiness").unwrap_or_default();
    if !["", "0"].contains(&stickiness) {
        all.push(format!(
            "{id}: resource-stickiness is {}, so buckets stay where they are when a node comes back. Better: crm_resource \
             -r {id} -m -p resource-stickiness -v 0",
            shown(stickiness)
        ));
    }
    if renewed.compat.is_some() && !has_seed(renewed) {
        all.push(format!(
            "{id}: the seed can be guessed by whoever knows the address, who can then aim his traffic at one node. Once no \
             node has the predecessor: stop the clone, put hash_seed in the place of compat, start it"
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::judged::{Chosen, judge};
    use super::super::read;
    use super::*;

    /// What changes, and what is worth a look, of such a clone.
    fn said(text: &str) -> (String, String) {
        let all = read(text).expect("crm's words");
        let judgement = judge(&all, Chosen::default(), None);
        let shared = judgement.shared.first().expect("one that is migrated");
        (changes(shared).join("\n"), look(shared).join("\n"))
    }

    #[test]
    fn what_changes_goes_by_what_there_was() {
        let clone = "\nclone c resIP meta globally-unique=true clone-max=3";
        for (parameters, word, is_said) in [
            ("clusterip_firewall=nft", "what ARP says", true),
            ("clusterip_mac_mangle=true", "what ARP says", false),
            ("clusterip_hash=sourceip", "what ARP says", false),
            ("clusterip_hash=sourceip", "carrier", true),
            ("clusterip_firewall=nft", "carrier", false),
            ("clusterip_hash_seed=7", "is called hash_seed", true),
        ] {
            let text = format!("primitive resIP IPaddr2 params ip=10.0.0.99 {parameters}{clone}");
            let (changes, _) = said(&text);
            assert_eq!(changes.contains(word), is_said, "{parameters}: {changes}");
        }
    }

    #[test]
    fn a_seed_that_changes_nothing_is_told_of() {
        let clone = "\nclone c resIP meta globally-unique=true clone-max=3";
        let none = "none".parse().ok();
        for (parameters, compat, word) in [
            (
                "clusterip_hash=sourceip",
                None,
                Some("compat=\"clusterip\" keeps"),
            ),
            (
                "clusterip_hash_seed=7",
                None,
                Some("compat=\"ipaddr2\" keeps"),
            ),
            (
                "clusterip_hash_seed=7",
                none,
                Some("clusterip_hash_seed is set"),
            ),
            ("clusterip_hash=sourceip", none, None),
        ] {
            let text = format!("primitive resIP IPaddr2 params ip=10.0.0.99 {parameters}{clone}");
            let all = read(&text).expect("crm's words");
            let judgement = judge(&all, Chosen { compat, seed: 7 }, None);
            let told = without_that_seed(&judgement.shared[0]);
            let told = told.first();
            assert_eq!(told.is_some(), word.is_some(), "{parameters}: {told:?}");
            let has = |word| told.is_some_and(|told| told.contains(word));
            assert!(word.is_none_or(has), "{parameters}: {told:?}");
        }
    }

    #[test]
    fn who_asks_for_a_clone_by_what_is_in_it_is_told_its_name() {
        let all = read(
            "primitive vip IPaddr2 params ip=10.0.0.99\nclone cl-vip vip\nprimitive a IPaddr2 params ip=10.0.0.98\n\
             primitive b IPaddr2 params ip=10.0.0.97\ngroup g a b\nclone c g\nprimitive alone IPaddr2 params ip=10.0.0.96",
        );
        let all = all.expect("crm's words");
        for (asked, there) in [
            ("vip", "there are: cl-vip (vip is the resource in it), c"),
            ("a", "there are: cl-vip, c (a is a resource in it)"),
            ("g", "there are: cl-vip, c (g is the group in it)"),
            ("alone", "there are: cl-vip, c"),
        ] {
            let told = no_such_clone(&all, asked);
            let expected =
                format!("there is no clone '{asked}' with an address of IPaddr2's in it; {there}");
            assert_eq!(told, expected);
        }
        let none = no_such_clone(&Configuration::default(), "x");
        assert!(none.ends_with("there is none at all"), "{none}");
    }

    #[test]
    fn what_is_as_it_should_be_is_not_told() {
        let plain = "primitive resIP IPaddr2 params ip=10.0.0.99 clusterip_hash_seed=7";
        let (_, look) = said(&format!(
            "{plain}\nclone c resIP meta globally-unique=true clone-max=3"
        ));
        for word in ["interleave", "clone-node-max", "no monitor"] {
            assert!(look.contains(word), "{look}");
        }
        let (_, look) = said(&format!(
            "{plain} op monitor interval=10s\nclone c resIP meta globally-unique=true clone-max=3 clone-node-max=3 interleave=true"
        ));
        assert_eq!(look, "");
        for (more, word) in [
            (
                "rsc_defaults d: resource-stickiness=100",
                "resource-stickiness is 100",
            ),
            (
                "xml <meta_attributes id=\"d\"><rule id=\"r\"><rsc_expression id=\"e\" type=\"IPaddr2\"/></rule></meta_attributes>",
                "not for ocf:rust:ClusterIP",
            ),
            ("rsc_defaults d: maintenance=true", "takes that away"),
            ("colocation x inf: resIP other", "colocation x"),
            ("location x /^c/ 5: n1", "location x (/^c/)"),
            (
                "xml <rsc_location id=\"x\" rsc-pattern=\"^c\" node=\"n1\" score=\"5\"/>",
                "location x (/^c/)",
            ),
            ("tag t: other c\norder x Mandatory: web t", "in it: order x"),
        ] {
            let (_, look) = said(&format!(
                "{plain} op monitor interval=10s\nclone c resIP meta globally-unique=true clone-max=3 clone-node-max=3 interleave=true\n{more}"
            ));
            assert!(look.contains(word), "{more}: {look}");
        }
        let (_, look) = said(&format!(
            "{plain} op monitor interval=10s\nclone c resIP meta globally-unique=true clone-max=3 clone-node-max=3 \
             interleave=true params nic=eth0 ip=10.0.0.98"
        ));
        assert!(look.starts_with("set on the group or the clone, and staying there, where Pacemaker gives them to the new agent too: nic"), "{look}");
        let (_, look) = said(&format!(
            "{plain} op monitor interval=10s\nprimitive web systemd:nginx\ngroup g resIP web\n\
             clone c g meta globally-unique=true clone-max=3 clone-node-max=3 interleave=true\ncolocation x inf: c other"
        ));
        for word in ["web in the same clone", "colocation x", "Cannot interleave"] {
            assert!(look.contains(word), "{look}");
        }
    }
}
