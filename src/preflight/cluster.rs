//! What all nodes must have in common, and what others must not know.

use super::finding::{Finding, Found, Unseen};
use super::predecessor;
use super::surroundings::{Surroundings, Wish};
use crate::model::answer::Answer;
use crate::model::belief::{Belief, shared_otherwise};
use crate::model::predecessor::{Compat, Predecessor};
use crate::model::seed::derived_seed;

/// A seed that anybody can compute.
pub(super) fn seed(_: &Surroundings, wish: &Wish) -> Found {
    let Some((vip, seed)) = wish.vip.zip(wish.seed) else {
        return Err(Unseen::NotAsked);
    };
    if let Some(predecessor) = wish.its_seed {
        return Ok(vec![seed_of(predecessor, wish)]);
    }
    if seed != derived_seed(vip) {
        return Ok(Vec::new());
    }
    let what = format!("the seed follows from {vip}");
    let whom = if wish.by_hand { "it" } else { "the resource" };
    let why = format!(
        "anybody can compute it, and aim all of his traffic at one node: give {whom} a random one, such as {}, the same on all \
         nodes. A change of it cuts the connections there are",
        random_seed(wish)
    );
    Ok(vec![Finding::warning(what, why)])
}

/// How a random seed is said to who manages the VIP.
fn random_seed(wish: &Wish) -> &'static str {
    match wish.by_hand {
        true => "--seed 0x$(openssl rand -hex 4) with 'nodectl up'",
        false => "hash_seed=\"0x$(openssl rand -hex 4)\"",
    }
}

/// A seed that a predecessor had as well, as `compat` has it unless another is given.
fn seed_of(predecessor: Predecessor, wish: &Wish) -> Finding {
    let what = match predecessor {
        Predecessor::ClusterIp => {
            "the seed is 0, as CLUSTERIP's is if no other is given".to_owned()
        }
        Predecessor::Ipaddr2 => format!(
            "the seed follows from {} and its network, as the newest IPaddr2's does if no other is given",
            wish.vip_words()
        ),
    };
    let (stop, compat, start, keeps) = match wish.by_hand {
        true => (
            "take it down everywhere",
            "--compat",
            "bring it up again",
            "--mac ",
        ),
        false => ("stop the clone", "compat", "start it", "mac="),
    };
    let mac = match wish.by_hand {
        true => wish.mac_words(),
        false => format!("\"{}\"", wish.mac_words()),
    };
    let why = format!(
        "anybody can compute it, and aim all of his traffic at one node. While a node of IPaddr2 shares the address it must be \
         so; once none does, {stop}, put {} in the place of {compat}, the same on all nodes, and {start}: clients change \
         their buckets, once, and the cluster MAC changes unless {keeps}{mac} keeps it",
        random_seed(wish)
    );
    Finding::warning(what, why)
}

/// Clocks that differ.
pub(super) fn clocks(here: &Surroundings, _: &Wish) -> Found {
    let apart = here.clocks.as_ref().map_err(Clone::clone)?;
    let found = apart.iter().map(|(node, ahead_s)| {
        let by = ahead_s.unsigned_abs();
        let which = if *ahead_s < 0 { "behind" } else { "ahead of" };
        let what = format!("the clock of {node} is {by} s {which} this node's");
        let why = "who still drains a bucket is told by clocks, so that connections may be cut when buckets move: have all nodes \
                   follow the same time ('timedatectl', 'chronyc tracking')";
        Finding::warning(what, why)
    });
    Ok(found.collect())
}

/// Somebody on the link who has the address otherwise.
pub(super) fn stranger(here: &Surroundings, wish: &Wish) -> Found {
    let holders = here.holders.as_ref().map_err(Clone::clone)?;
    let vip = wish.vip_words();
    let digests = "compare the digests that 'nodectl status' shows on all nodes";
    let mut found: Vec<Finding> = holders
        .predecessor
        .map(|answer| as_predecessor(wish, answer))
        .into_iter()
        .collect();
    found.extend(match holders.belief {
        Belief::Free => Vec::new(),
        // Nothing but the MAC is known of a VIP that is not here.
        Belief::Shared(answer) if wish.digest.is_none() => vec![shared(wish, answer)],
        Belief::Shared(answer) => {
            let what = format!(
                "{} shares {vip} under another description, or for another resource",
                answer.from
            );
            let why = format!("packets are answered twice, or by nobody: {digests}");
            vec![Finding::warning(what, why)]
        }
        Belief::Taken(answer) => {
            let what = format!("{} says that {vip} is at {}", answer.from, answer.says);
            let is_beside = wish.compat == Some(Compat(Some(Predecessor::Ipaddr2)));
            let or = match is_beside || predecessor::is_here(here, wish) {
                true => ", or the newest IPaddr2 shares it there without clusterip_mac_mangle",
                false => "",
            };
            let why = format!(
                "a stranger has the address for himself, or a node's rules were flushed{or}: who asks gets one of two \
                 answers, and part of the packets goes there. Find that MAC; 'nodectl status' on all nodes tells whose \
                 rules are gone"
            );
            vec![Finding::warning(what, why)]
        }
        Belief::Forged(answer) => {
            let what = format!(
                "answers for {vip} contradict each other, such as that of {}",
                answer.from
            );
            let why = format!("somebody on the link forges them: {digests}");
            vec![Finding::warning(what, why)]
        }
        Belief::Drowned => {
            let what = format!("more answers for {vip} come than can be read");
            let why = format!("somebody on the link forges them: {digests}");
            vec![Finding::warning(what, why)]
        }
    });
    Ok(found)
}

/// A node of ours that shares a VIP of which no description is known here.
fn shared(wish: &Wish, Answer { from, says }: Answer) -> Finding {
    let is_other = wish.cluster_mac().is_some_and(|mac| mac != says);
    match (wish.vip, is_other) {
        (Some(vip), true) => {
            let there = match wish.modes_of(says) {
                None => "a MAC of its own (mac, --mac)".to_owned(),
                Some(modes) => format!("the MAC of {modes}"),
            };
            Finding::fatal(
                shared_otherwise(&vip, &wish.nic, &from),
                format!(
                    "a start here ends with that: there it is under {says}, {there}, and in the mode {} it would be under {} \
                     here",
                    wish.mode().name(),
                    wish.mac_words()
                ),
            )
        }
        _ => Finding::note(
            format!("{from} shares {} under {says}", wish.vip_words()),
            "a start here must have the same mode, hash, seed and number of buckets, which 'nodectl status' shows there",
        ),
    }
}

/// One who shares it as a predecessor did, by a cluster MAC and without a description.
fn as_predecessor(wish: &Wish, Answer { from, says }: Answer) -> Finding {
    let what = format!(
        "{from} shares {} as a predecessor did, under {says}",
        wish.vip_words()
    );
    let is_same = wish.mac.is_none_or(|mac| mac == says);
    match (wish.compat, wish.digest) {
        (Some(Compat(None)), _) => Finding::warning(
            what,
            "the start fails beside it: set compat, if it is IPaddr2's, \"clusterip\" where the kernel's target CLUSTERIP \
             shares it, \"ipaddr2\" where its newest rules do; or stop it there first",
        ),
        (None, None) => Finding::note(
            what,
            "a VIP can come up here beside it with compat=\"clusterip\" or compat=\"ipaddr2\", as that derives its MAC, \
             hash and seed; or when it is stopped there",
        ),
        _ if is_same => Finding::note(
            what,
            "that is the MAC here too, and expected while its nodes are replaced. Whether it has the same hash, seed and \
             number of buckets it cannot be asked: compare 'nft list ruleset' or 'iptables-save' there",
        ),
        _ => Finding::warning(
            what,
            format!(
                "here it is under {}, so that the two do not get the same packets: set mac=\"{says}\" (nodectl: --mac), or \
                 find out why that node derives another one: ip, cidr_netmask and broadcast decide, and the broadcast \
                 address of the node's own address",
                wish.mac_words()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::tests::{a_host, a_wish};
    use super::*;
    use crate::model::belief::Holders;
    use crate::model::l2_mode::L2Mode;
    use crate::model::mac::Mac;

    const V4: &str = "10.77.0.99";

    fn severities(found: Found) -> Vec<Severity> {
        let found = found.expect("seen");
        found.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn a_seed_that_follows_from_the_address_is_no_secret() {
        let wish = a_wish(V4, L2Mode::Multicast);
        let with = |seed| Wish {
            seed,
            ..wish.clone()
        };
        let derived = derived_seed(V4.parse().expect("an address"));
        let found = |seed| severities(super::seed(&a_host(), &with(seed)));
        assert_eq!(found(Some(derived)), [Severity::Warning]);
        assert_eq!(found(Some(derived ^ 1)), []);
        for (whose, words) in [
            (Predecessor::ClusterIp, "the seed is 0"),
            (Predecessor::Ipaddr2, "the newest IPaddr2's"),
        ] {
            let its = Wish {
                its_seed: Some(whose),
                ..with(Some(derived ^ 1))
            };
            let found = super::seed(&a_host(), &its).expect("seen");
            assert!(found[0].what.contains(words), "{found:?}");
        }
        // By hand it is said to nodectl.
        for its_seed in [None, Some(Predecessor::ClusterIp)] {
            let by_hand = Wish {
                its_seed,
                by_hand: true,
                ..with(Some(derived))
            };
            let found = super::seed(&a_host(), &by_hand).expect("seen");
            let why = &found[0].why;
            assert!(
                why.contains("--seed 0x") && !why.contains("hash_seed"),
                "{why}"
            );
        }
        let unknown = super::seed(&a_host(), &with(None));
        assert_eq!(unknown, Err(Unseen::NotAsked));
    }

    #[test]
    fn each_clock_that_differs_is_told() {
        let here = Surroundings {
            clocks: Ok(vec![("n2".into(), -300), ("n3".into(), 40)]),
            ..a_host()
        };
        let found = clocks(&here, &a_wish(V4, L2Mode::Multicast)).expect("seen");
        assert_eq!(found[0].what, "the clock of n2 is 300 s behind this node's");
        assert_eq!(
            found[1].what,
            "the clock of n3 is 40 s ahead of this node's"
        );
    }

    #[test]
    fn who_has_the_address_otherwise_is_told() {
        let answer = Answer {
            from: Mac([2, 0, 0, 0, 0, 7]),
            says: Mac([2, 0, 0, 0, 0, 7]),
        };
        let of_mode = |mode: L2Mode| Answer {
            says: mode.mac(V4.parse().expect("an address")),
            ..answer
        };
        let (shared, otherwise) = (of_mode(L2Mode::Multicast), of_mode(L2Mode::Stealth));
        for (belief, digest, expected) in [
            (Belief::Free, None, &[][..]),
            (Belief::Shared(shared), None, &[Severity::Note]),
            (Belief::Shared(otherwise), None, &[Severity::Fatal]),
            (Belief::Shared(answer), Some([7; 6]), &[Severity::Warning]),
            (Belief::Taken(answer), None, &[Severity::Warning]),
            (Belief::Forged(answer), None, &[Severity::Warning]),
            (Belief::Drowned, None, &[Severity::Warning]),
        ] {
            let here = Surroundings {
                holders: Ok(Holders {
                    belief,
                    predecessor: None,
                }),
                ..a_host()
            };
            let wish = Wish {
                digest,
                ..a_wish(V4, L2Mode::Multicast)
            };
            assert_eq!(severities(stranger(&here, &wish)), expected, "{belief:?}");
        }
    }

    #[test]
    fn a_predecessor_is_told_as_what_it_is_and_hides_nobody() {
        let mac = |last| Mac([0x51, 0, 0, 0, 0, last]);
        let beside = |whom: Option<Predecessor>| Some(Compat(whom));
        let ipaddr2 = Some(Predecessor::Ipaddr2);
        use Severity::{Note, Warning};
        for (compat, own, digest, expected) in [
            // Not said, and not here.
            (None, None, None, Note),
            // Here beside it.
            (None, Some(mac(1)), Some([7; 6]), Note),
            (None, Some(mac(2)), Some([7; 6]), Warning),
            // About to come, as it is said.
            (beside(ipaddr2), Some(mac(1)), Some([7; 6]), Note),
            (beside(ipaddr2), Some(mac(2)), Some([7; 6]), Warning),
            (beside(None), Some(mac(1)), Some([7; 6]), Warning),
        ] {
            let predecessor = Some(Answer {
                from: Mac([2, 0, 0, 0, 0, 7]),
                says: mac(1),
            });
            let stranger = Answer {
                from: Mac([2, 0, 0, 0, 0, 8]),
                says: Mac([2, 0, 0, 0, 0, 8]),
            };
            let wish = Wish {
                compat,
                mac: own,
                digest,
                ..a_wish(V4, L2Mode::Multicast)
            };
            for (belief, more) in [
                (Belief::Free, &[][..]),
                (Belief::Taken(stranger), &[Warning]),
            ] {
                let here = Surroundings {
                    holders: Ok(Holders {
                        belief,
                        predecessor,
                    }),
                    ..a_host()
                };
                let all = [&[expected], more].concat();
                assert_eq!(severities(super::stranger(&here, &wish)), all, "{wish:?}");
            }
        }
    }
}
