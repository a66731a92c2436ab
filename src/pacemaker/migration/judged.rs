//! What becomes of an address that IPaddr2 shares: its parameters from now on, what cannot be kept, and why one cannot be
//! migrated at all, or not node by node. Pure.

use super::super::ipaddr2::ITS_SEED;
use super::found::{Address, CloneFound, Configuration, Pairs, Rule};
use super::obstacles::{Obstacle, can_be_written, obstacles};
use super::renewed::{Lost, parameters};
use crate::model::predecessor::{Compat, Predecessor};
use crate::model::untrusted::Untrusted;
use std::net::IpAddr;

/// What whoever asks knows better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Which IPaddr2 it is, if he says so.
    pub compat: Option<Compat>,
    /// A seed of one's own, for an address that does not keep its hash.
    pub seed: u32,
}

/// A clone with its addresses.
#[derive(Debug, PartialEq, Eq)]
pub struct Shared {
    /// The clone.
    pub clone: Untrusted,
    /// How many buckets there are, which is how many instances it has.
    pub buckets: u16,
    /// Is that only the number of nodes, so that it must be set?
    pub sets_clone_max: bool,
    /// How many of them a node may have; left out it is one.
    pub node_max: u16,
    /// Its addresses.
    pub addresses: Vec<Renewed>,
    /// What cannot be kept.
    pub lost: Vec<Lost>,
    /// The clone as it was, and stays.
    pub found: CloneFound,
    /// The rules that name it, or what of its addresses is in it; and those that go by a pattern, which may mean it.
    pub rules: Vec<Rule>,
    /// Do defaults hold for its resources now that name the predecessor?
    pub inherits_ruled: bool,
    /// Why it cannot be taken over node by node, if so.
    pub not_rolling: Vec<String>,
}

/// An address with its new parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct Renewed {
    /// As it was.
    pub found: Address,
    /// The address.
    pub ip: IpAddr,
    /// Which IPaddr2 it is, where that can be told.
    pub before: Option<Predecessor>,
    /// What is kept of it.
    pub compat: Option<Predecessor>,
    /// Its parameters from now on.
    pub parameters: Pairs,
}

/// A resource that stays as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// The resource.
    pub resource: Untrusted,
    /// The clone that it is in.
    pub clone: Option<Untrusted>,
    /// Why it cannot be migrated, and what to do.
    pub obstacles: Vec<Obstacle>,
}

/// What becomes of all of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What is migrated, clone by clone.
    pub shared: Vec<Shared>,
    /// What is not.
    pub left: Vec<Left>,
}

/// Judges the clones of this name, or all there are.
pub fn judge(all: &Configuration, chosen: Chosen, only: Option<&str>) -> Judgement {
    let mut judgement = Judgement::default();
    let mut clones: Vec<Option<&Untrusted>> = Vec::new();
    for found in &all.addresses {
        let clone = found.clone.as_ref().map(|clone| &clone.id);
        let is_asked = only.is_none_or(|only| clone.is_some_and(|id| id.raw() == only));
        if is_asked && !clones.contains(&clone) {
            clones.push(clone);
        }
    }
    for clone in clones {
        let of_clone = |found: &&Address| found.clone.as_ref().map(|it| &it.id) == clone;
        let found: Vec<&Address> = all.addresses.iter().filter(of_clone).collect();
        match shared(all, &found, chosen) {
            Ok(shared) => judgement.shared.push(shared),
            Err(left) => judgement.left.extend(left),
        }
    }
    // They are in no clone.
    let bundles = all.bundles.iter().filter(|_| only.is_none());
    judgement.left.extend(bundles.map(|bundle| Left {
        resource: bundle.id.clone(),
        clone: None,
        obstacles: vec![Obstacle::of_a_bundle(bundle)],
    }));
    judgement
}

/// The addresses of one clone, or why they stay.
fn shared(all: &Configuration, found: &[&Address], chosen: Chosen) -> Result<Shared, Vec<Left>> {
    let told: Vec<Vec<Obstacle>> = found
        .iter()
        .map(|found| obstacles(found, all.nodes, chosen.compat))
        .collect();
    let clone = found.iter().find_map(|found| found.clone.as_ref());
    let (Some(clone), true) = (clone, told.iter().all(Vec::is_empty)) else {
        let left = found.iter().zip(told).map(|(found, obstacles)| Left {
            resource: found.id.clone(),
            clone: found.clone.as_ref().map(|clone| clone.id.clone()),
            obstacles: match obstacles.is_empty() {
                true => vec![Obstacle::of_the_others()],
                false => obstacles,
            },
        });
        return Err(left.collect());
    };
    let buckets = clone.instances(all.nodes).unwrap_or(1);
    let groups = found.iter().filter_map(|found| found.group.as_ref());
    let within: Vec<&Untrusted> = groups.chain(found.iter().map(|found| &found.id)).collect();
    let mut shared = Shared {
        clone: clone.id.clone(),
        buckets,
        sets_clone_max: clone.meta("clone-max").is_none(),
        node_max: clone.node_max(),
        addresses: Vec::new(),
        lost: Vec::new(),
        found: clone.clone(),
        rules: all
            .rules
            .iter()
            .filter(|rule| {
                let names_it = rule.names(&clone.id) || within.iter().any(|id| rule.names(id));
                names_it || rule.pattern.is_some()
            })
            .cloned()
            .collect(),
        inherits_ruled: all.ruled_by_agent,
        not_rolling: Vec::new(),
    };
    for found in found {
        shared.add(found, chosen);
    }
    Ok(shared)
}

impl Renewed {
    /// Has it a seed that it did not have?
    pub fn has_new_seed(&self) -> bool {
        self.compat.is_none() && self.found.parameter(ITS_SEED).is_none()
    }
}

impl Shared {
    /// Can it be taken over node by node?
    pub fn is_rolling(&self) -> bool {
        self.not_rolling.is_empty()
    }

    fn add(&mut self, found: &Address, chosen: Chosen) {
        let Some(ip) = found.parameter("ip").and_then(|ip| ip.parse().ok()) else {
            return;
        };
        let before = match chosen.compat {
            Some(Compat(Some(before))) => Some(before),
            Some(Compat(None)) | None => found.predecessor(Some(self.buckets)),
        };
        let id = &found.id;
        let idle = before.and_then(|before| idle(found, ip, before, self.buckets));
        let compat = before.filter(|_| chosen.compat != Some(Compat(None)) && idle.is_none());
        match (idle, compat) {
            (Some(idle), _) => self.not_rolling.push(format!("{id}: {idle}")),
            (None, None) => self.not_rolling.push(format!(
                "{id}: it is to have another hash than before, and two hashes must never serve an address side by side"
            )),
            (None, Some(_)) => {}
        }
        let role = found.meta("target-role").unwrap_or_default();
        if role.eq_ignore_ascii_case("stopped") {
            self.not_rolling.push(format!(
                "{id}: target-role is Stopped, so nothing runs that could be taken over; the last step starts it"
            ));
        }
        let parameters = parameters(found, ip, compat, chosen.seed, &mut self.lost);
        let mut found = found.clone();
        let description = found.description.take_if(|text| !can_be_written(text));
        self.lost.extend(description.map(|value| Lost {
            resource: found.id.clone(),
            parameter: "description".into(),
            value,
            why: "it cannot be written in all languages".to_owned(),
        }));
        self.addresses.push(Renewed {
            parameters,
            found,
            ip,
            before,
            compat,
        });
    }
}

/// Why the predecessor can never have served this address, if so.
fn idle(found: &Address, ip: IpAddr, before: Predecessor, buckets: u16) -> Option<String> {
    let most = before.most(found.is_by_iptables());
    match before {
        Predecessor::ClusterIp if ip.is_ipv6() => {
            Some("CLUSTERIP knows no IPv6, so nothing runs that could be taken over".to_owned())
        }
        _ if buckets > most => Some(format!(
            "{} shares an address among {most} instances at most, not among {buckets}, so nothing runs that could be taken over",
            before.called()
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    /// What becomes of a clone of four instances on three nodes, of an address with these parameters.
    fn judged(parameters: &str, compat: Option<Compat>) -> Judgement {
        let text = format!(
            "node 1: n1\nnode 2: n2\nnode 3: n3\nprimitive resIP IPaddr2 params {parameters} \
             op monitor interval=10s timeout=20s\nclone cloneIP resIP meta globally-unique=true clone-max=4 \
             clone-node-max=4 interleave=true"
        );
        let chosen = Chosen {
            compat,
            seed: 0x3f7a_91c4,
        };
        judge(&read(&text).expect("crm's words"), chosen, None)
    }

    fn parameters(judgement: &Judgement) -> String {
        let [shared] = judgement.shared.as_slice() else {
            panic!("{judgement:?}");
        };
        let pairs = &shared.addresses[0].parameters;
        let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_the_predecessor_derives_hash_and_mac_from_is_kept_and_nothing_else() {
        let classic = "ip=10.0.0.99 cidr_netmask=24 clusterip_hash=sourceip";
        let newest = "ip=10.0.0.99 cidr_netmask=24 clusterip_firewall=nft";
        let kept = "ip=10.0.0.99 cidr_netmask=24";
        for (given, new) in [
            (classic.to_owned(), format!("{classic} compat=clusterip")),
            (
                format!("{classic} broadcast=10.0.0.255 arp_bg=true"),
                format!("{classic} broadcast=10.0.0.255 compat=clusterip"),
            ),
            (
                format!("{classic} mac=01:00:5e:00:00:63 broadcast=10.0.0.255"),
                format!("{classic} mac=01:00:5e:00:00:63 compat=clusterip"),
            ),
            (newest.to_owned(), format!("{kept} compat=ipaddr2")),
            (
                format!("{newest} broadcast=10.0.0.255 clusterip_hash_seed=7"),
                format!("{kept} broadcast=10.0.0.255 hash_seed=7 compat=ipaddr2"),
            ),
            (
                format!(
                    "{newest} broadcast=10.0.0.255 clusterip_hash_seed=7 mac=01:00:5e:00:00:63"
                ),
                format!("{kept} hash_seed=7 mac=01:00:5e:00:00:63 compat=ipaddr2"),
            ),
            (
                format!("{newest} clusterip_hash=sourceip-sourceport"),
                format!("{kept} compat=ipaddr2"),
            ),
        ] {
            let judgement = judged(&given, None);
            assert_eq!(parameters(&judgement), new, "{given}");
            assert!(judgement.shared[0].is_rolling(), "{given}");
        }
    }

    #[test]
    fn what_is_not_taken_along_is_told() {
        let judgement = judged(
            "ip=10.0.0.99 clusterip_hash=sourceip arp_bg=true unknown=1 lvs_support=false",
            None,
        );
        let lost: Vec<&str> = judgement.shared[0]
            .lost
            .iter()
            .map(|lost| lost.parameter.raw())
            .collect();
        assert_eq!(lost, ["arp_bg", "unknown"]);
    }

    #[test]
    fn another_hash_wants_a_seed_and_the_clone_stopped() {
        let judgement = judged("ip=10.0.0.99 clusterip_hash=sourceip", Some(Compat(None)));
        let new = "ip=10.0.0.99 clusterip_hash=sourceip hash_seed=0x3f7a91c4";
        assert_eq!(parameters(&judgement), new);
        assert!(!judgement.shared[0].is_rolling());
        let never_ran = judged("ip=fd77::99 clusterip_hash=sourceip", None);
        assert_eq!(
            parameters(&never_ran),
            "ip=fd77::99 clusterip_hash=sourceip hash_seed=0x3f7a91c4"
        );
        assert!(never_ran.shared[0].not_rolling[0].contains("no IPv6"));
    }

    #[test]
    fn who_cannot_be_told_is_asked_about() {
        let asks = |judgement: &Judgement| {
            let [left] = judgement.left.as_slice() else {
                return false;
            };
            left.obstacles[0].instead.contains("--compat")
        };
        assert!(asks(&judged("ip=10.0.0.99", None)));
        for before in [Predecessor::ClusterIp, Predecessor::Ipaddr2] {
            let judgement = judged("ip=10.0.0.99", Some(Compat(Some(before))));
            let new = format!("ip=10.0.0.99 compat={}", before.name());
            assert_eq!(parameters(&judgement), new);
        }
        // CLUSTERIP never shared an IPv6 address.
        assert_eq!(
            parameters(&judged("ip=fd77::99", None)),
            "ip=fd77::99 compat=ipaddr2"
        );
    }

    #[test]
    fn what_cannot_be_migrated_is_told_with_the_way_out() {
        let newest = "clusterip_firewall=nft";
        for (parameters, why) in [
            (
                "ip=10.0.0.99 unique_clone_address=true",
                "unique_clone_address",
            ),
            ("ip=10.0.0.99 lvs_support=1", "lvs_support"),
            ("ip=10.0.0.99 mac=02:00:00:00:00:01", "unicast MAC"),
            ("ip=10.0.0.99 mac=hello", "no MAC address"),
            ("ip=fe80::99", "link-local"),
            ("ip=www.example.com", "is no address"),
            ("ip=10.0.0.99 nic=ib0", "InfiniBand"),
            ("ip=10.0.0.99 nic=lo", "nic=\"lo\""),
            ("ip=10.0.0.99 proto=kernel", "proto: "),
            ("ip=10.0.0.99 clusterip_hash_seed=0x123456789", "32 bits"),
            (
                "ip=10.0.0.99 cidr_netmask=255.0.255.0",
                "no length of a prefix",
            ),
            ("ip=fd77::99 netmask=129", "no length of a prefix"),
            ("ip=10.0.0.99 iflabel='a\"b'", "cannot be written"),
        ] {
            let judgement = judged(&format!("{parameters} {newest}"), None);
            let [left] = judgement.left.as_slice() else {
                panic!("{parameters}: {judgement:?}");
            };
            let [obstacle] = left.obstacles.as_slice() else {
                panic!("{parameters}: {left:?}");
            };
            assert!(obstacle.why.contains(why), "{parameters}: {obstacle:?}");
        }
        let hash = judged("ip=10.0.0.99 clusterip_hash=all", None);
        assert!(
            hash.left[0].obstacles[0].why.contains("three hashes"),
            "{hash:?}"
        );
    }

    #[test]
    fn only_ethernet_names_that_begin_like_infiniband_are_taken() {
        for nic in ["ibridge0", "ibm", "eth0", "lo0"] {
            let judgement = judged(
                &format!("ip=10.0.0.99 clusterip_firewall=nft nic={nic}"),
                None,
            );
            assert_eq!(judgement.left, [], "{nic}");
        }
    }

    #[test]
    fn what_is_no_shared_address_is_left_with_a_word() {
        let text = "node 1: n1\nprimitive lost @nowhere\nprimitive inner IPaddr2 params ip=10.0.0.8\nclone c lost\n\
                    bundle b docker image=x network ip-range-start=10.0.0.1 primitive inner\n\
                    bundle without docker image=x";
        let all = read(text).expect("crm's words");
        let told = |only| -> Vec<String> {
            let left = judge(&all, Chosen::default(), only).left;
            let told = left.iter().map(|it| {
                let [obstacle] = it.obstacles.as_slice() else {
                    panic!("{it:?}");
                };
                format!("{}: {}", it.resource, obstacle.why)
            });
            told.collect()
        };
        let [lost, inner, bundle] = &told(None)[..] else {
            panic!("{:?}", told(None));
        };
        assert!(
            lost.starts_with("lost: its template 'nowhere' is not in"),
            "{lost}"
        );
        assert!(inner.starts_with("inner: it is in the bundle b"), "{inner}");
        assert!(bundle.starts_with("b: it is a bundle"), "{bundle}");
        assert_eq!(told(Some("c")), std::slice::from_ref(lost));
    }

    #[test]
    fn what_is_stopped_keeps_its_hash_and_is_not_taken_over() {
        for meta in ["resIP", "cloneIP"].map(|on| {
            move |id| {
                if id == on {
                    " meta target-role=Stopped"
                } else {
                    ""
                }
            }
        }) {
            let text = format!(
                "primitive resIP IPaddr2 params ip=10.0.0.99 clusterip_hash=sourceip{}\n\
                 clone cloneIP resIP{} meta globally-unique=true clone-max=4",
                meta("resIP"),
                meta("cloneIP")
            );
            let judgement = judge(&read(&text).expect("crm's words"), Chosen::default(), None);
            assert_eq!(
                parameters(&judgement),
                "ip=10.0.0.99 clusterip_hash=sourceip compat=clusterip"
            );
            assert!(judgement.shared[0].not_rolling[0].contains("Stopped"));
        }
    }

    #[test]
    fn one_that_cannot_keeps_the_others_of_its_clone() {
        let text = "primitive a IPaddr2 params ip=10.0.0.98 clusterip_hash=sourceip\n\
                    primitive b IPaddr2 params ip=10.0.0.99 clusterip_hash=sourceip nic=lo\n\
                    primitive alone IPaddr2 params ip=10.0.0.97\n\
                    group g a b\nclone c g meta globally-unique=true clone-max=3";
        let all = read(text).expect("crm's words");
        let judgement = judge(&all, Chosen::default(), None);
        assert_eq!(judgement.shared, []);
        let left: Vec<&str> = judgement
            .left
            .iter()
            .map(|left| left.resource.raw())
            .collect();
        assert_eq!(left, ["a", "b", "alone"]);
        let only = judge(&all, Chosen::default(), Some("c"));
        assert_eq!(only.left.len(), 2);
        assert_eq!(
            judge(&all, Chosen::default(), Some("d")),
            Judgement::default()
        );
    }

    #[test]
    fn a_clone_must_have_instances_of_its_own() {
        for (meta, why) in [
            ("clone-max=4", "globally-unique is not set"),
            ("clone-max=4 globally-unique=false", "not globally unique"),
            ("globally-unique=true", "how many nodes"),
            ("globally-unique=true clone-max=x", "no number of instances"),
            ("globally-unique=true clone-max=1", "one instance"),
            (
                "globally-unique=true clone-max=1025",
                "1024 buckets at most",
            ),
            (
                "globally-unique=true clone-max=4 promotable=true",
                "promotable",
            ),
        ] {
            let text = format!(
                "primitive resIP IPaddr2 params ip=10.0.0.99 clusterip_firewall=nft\nclone c resIP meta {meta}"
            );
            let all = read(&text).expect("crm's words");
            let judgement = judge(&all, Chosen::default(), None);
            let told = judgement
                .left
                .first()
                .map(|left| left.obstacles[0].why.clone());
            assert!(
                told.is_some_and(|told| told.contains(why)),
                "{meta}: {judgement:?}"
            );
        }
    }
}
