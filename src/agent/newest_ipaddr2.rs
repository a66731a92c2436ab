//! The newest IPaddr2 (its main branch since 4.18) shares an address by another hash than the one before it:
//! who takes over its configuration by changing one word is told. Pure.
//!
//! What it hashes, and with which seed, is in `model::predecessor`. `clusterip_hash` it does not know any more.

use super::environment::Environment;
use super::parameters::Parameters;
use crate::model::hash::{HashMode, Layout};
use crate::model::seed::parse_seed;
use crate::pacemaker::ipaddr2::{ITS_OWN, ITS_SEED};

/// What is to be said where the configuration was the newest IPaddr2's, and clients are in other buckets here.
pub fn other_hash(env: &Environment, parameters: &Parameters) -> Option<String> {
    let mut its_own = ITS_OWN.into_iter();
    let name = its_own.find(|name| env.parameter(name).is_some())?;
    if parameters.compat.0.is_some() {
        return None;
    }
    let its_seed = env.parameter(ITS_SEED);
    let read = its_seed.as_ref().and_then(|seed| parse_seed(seed.raw()));
    let same_seed = match read {
        Some(seed) => parameters.seed == Some(seed),
        // What its seed was is not known here; somebody has thought of it.
        None => parameters.seed.is_some(),
    };
    let same_key = parameters.hash == Some(HashMode::SourceIp)
        && (parameters.ip.is_ipv6() || parameters.layout == Some(Layout::Network));
    if same_key && same_seed {
        return None;
    }
    let but = match parameters.hash {
        None | Some(HashMode::SourceIp) => "",
        Some(_) => ", and leave clusterip_hash out, which it does not know",
    };
    Some(format!(
        "{name} is the newest IPaddr2's, which hashes otherwise: most clients are in other buckets here. For its \
         hash and its cluster MAC set, with the clone stopped, compat=\"ipaddr2\"{but}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ip: &str, words: &str) -> Option<String> {
        let pairs = words
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        let pairs = pairs.chain([("ip", ip)]);
        let pairs = pairs.map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.to_owned()));
        let env = Environment::new(pairs);
        let parameters = Parameters::read(&env).expect("parameters");
        other_hash(&env, &parameters)
    }

    #[test]
    fn only_what_was_the_newest_ones_is_told_of() {
        assert_eq!(
            said("10.0.0.99", "clusterip_hash=sourceip lvs_support=true"),
            None
        );
        for name in ITS_OWN {
            let said = said("10.0.0.99", &format!("{name}=1")).unwrap_or_default();
            assert!(said.starts_with(name), "{said}");
        }
    }

    #[test]
    fn who_has_set_its_hash_is_told_nothing() {
        let hash = "clusterip_firewall=nft clusterip_hash=sourceip hash_layout=network";
        let seed = "clusterip_hash_seed=0x516175ce";
        for (words, tells) in [
            (format!("{hash} hash_seed=0x516175ce"), false),
            (format!("{hash} {seed} hash_seed=1365341646"), false),
            (format!("{hash} {seed} hash_seed=7"), true),
            (hash.to_owned(), true),
            (format!("{hash} {seed}"), true),
            (seed.to_owned(), true),
            (
                format!("{seed} hash_seed=0x516175ce clusterip_hash=sourceip"),
                true,
            ),
        ] {
            let said = said("10.0.0.99", &words);
            assert_eq!(said.is_some(), tells, "{words}: {said:?}");
        }
        let other = said(
            "10.0.0.99",
            "clusterip_firewall=nft clusterip_hash=sourceip-sourceport",
        );
        assert!(other.is_some_and(|said| said.ends_with("does not know")));
        for whom in ["ipaddr2", "clusterip"] {
            let words = format!("{seed} compat={whom}");
            assert_eq!(said("10.0.0.99", &words), None);
        }
        // The layouts of IPv6 are the same.
        let ip6 = "clusterip_table=raw clusterip_hash=sourceip hash_seed=7";
        assert_eq!(said("2001:db8::99", ip6), None);
    }
}
