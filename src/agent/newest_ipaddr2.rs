//! The newest IPaddr2 (its main branch since 4.18) shares an address by another hash than the one before it:
//! who takes over its configuration by changing one word is told. Pure.
//!
//! Its hash is the source address alone, in network byte order, with a seed of its own: `clusterip_hash_seed`,
//! or else the first 8 hex digits of the MD5 of "IP NETMASK BROADCAST" (`ip_init()` in heartbeat/IPaddr2; the
//! broadcast is the parameter of this name, or that of the node's own address in the network, if it has one: `findif()` in
//! heartbeat/findif.sh). `clusterip_hash` it does not know any more.

use super::environment::Environment;
use super::parameters::Parameters;
use crate::model::hash::{HashMode, Layout};
use crate::model::seed::parse_seed;

/// The parameters that the IPaddr2 before it did not have.
const ITS_OWN: [&str; 5] = [
    "clusterip_firewall",
    "clusterip_hash_seed",
    "clusterip_table",
    "clusterip_chain",
    "clusterip_mac_mangle",
];

/// What is to be said where the configuration was the newest IPaddr2's, and clients are in other buckets here.
pub fn other_hash(env: &Environment, parameters: &Parameters) -> Option<String> {
    let mut its_own = ITS_OWN.into_iter();
    let name = its_own.find(|name| env.parameter(name).is_some())?;
    let hasher = parameters.hasher;
    let its_seed = env.parameter("clusterip_hash_seed");
    let read = its_seed.as_ref().and_then(|seed| parse_seed(seed.raw()));
    let same_seed = match read {
        Some(seed) => hasher.seed == seed,
        // What its seed was is not known here; somebody has thought of it.
        None => parameters.seed_given,
    };
    let same_key = hasher.mode == HashMode::SourceIp
        && (parameters.ip.is_ipv6() || hasher.layout == Layout::Network);
    if same_key && same_seed {
        return None;
    }
    let seed = match (read, its_seed) {
        (Some(_), Some(seed)) => format!("hash_seed=\"{seed}\""),
        // It is not to be copied, for hash_seed would not take it.
        (None, Some(seed)) => {
            format!("hash_seed (the number that clusterip_hash_seed, '{seed}', stands for)")
        }
        (_, None) => "hash_seed (0x and the first 8 digits of 'echo IP NETMASK BROADCAST | md5sum'; BROADCAST is what 'ip address' \
                  shows behind brd for the node's own address, or nothing)"
            .to_owned(),
    };
    Some(format!(
        "{name} is the newest IPaddr2's, which hashes otherwise: most clients are in other buckets here. For its \
         hash set, with the clone stopped, clusterip_hash=\"sourceip\" hash_layout=\"network\" and {seed}; \
         for its multicast MAC, mac"
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
            assert_eq!(
                said.is_some_and(|said| said.contains("0x516175ce")),
                tells && words.contains(seed),
                "{words}"
            );
        }
        // The layouts of IPv6 are the same.
        let ip6 = "clusterip_table=raw clusterip_hash=sourceip hash_seed=7";
        assert_eq!(said("2001:db8::99", ip6), None);
    }
}
