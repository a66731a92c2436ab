//! The base chains of everybody's tables: where they are hooked, whether they drop or reject what no rule accepts, and
//! whether rules in them share an address as predecessors did by iptables. What else their rules say is not read.

use super::numbers::*;
use super::socket::{NftError, NftSocket};
use super::wire::{Attributes, Writer};
use crate::model::foreign::{BaseChain, Rest, SharedBy};
use crate::model::ruleset::TABLE;
use std::net::IpAddr;

/// The families that may have something to do with a VIP, and the names of their hooks by number
/// (`include/uapi/linux/netfilter.h`).
const FAMILIES: [(i32, &str, &[&str]); 5] = [
    (libc::NFPROTO_INET, "inet", &IP_HOOKS),
    (libc::NFPROTO_IPV4, "ip", &IP_HOOKS),
    (libc::NFPROTO_IPV6, "ip6", &IP_HOOKS),
    (libc::NFPROTO_ARP, "arp", &["input", "output", "forward"]),
    (libc::NFPROTO_NETDEV, "netdev", &["ingress", "egress"]),
];
const IP_HOOKS: [&str; 6] = [
    "prerouting",
    "input",
    "forward",
    "output",
    "postrouting",
    "ingress",
];
/// NF_DROP, NF_ACCEPT, NFT_GOTO, NFT_RETURN.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const GOTO: u32 = -4i32 as u32;
const RETURN: u32 = -5i32 as u32;
// NFTA_IMMEDIATE_DATA, NFTA_CMP_DATA; NFTA_MATCH_NAME and NFTA_TARGET_NAME are one number.
const IMMEDIATE_DATA: u16 = 2;
const CMP_DATA: u16 = 3;
const XT_NAME: u16 = 1;
/// How often a list is read that others change meanwhile.
const ATTEMPTS: u32 = 50;

impl NftSocket {
    /// The base chains of all tables but ours.
    ///
    /// # Errors
    /// As every reading here.
    pub fn foreign_chains(&mut self) -> Result<Vec<BaseChain>, NftError> {
        let mut all = Vec::new();
        for family in FAMILIES {
            for mut chain in self.chains_of(family)? {
                self.read_rules(family.0 as u8, &mut chain)?;
                all.push(chain);
            }
        }
        Ok(all)
    }

    /// What the rules of a chain add to what is known of it. A list may repeat some beside a transaction, which does no
    /// harm.
    fn read_rules(&mut self, family: u8, chain: &mut BaseChain) -> Result<(), NftError> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let mut attempts = 0;
        loop {
            let (mut end, mut shares) = (None, Vec::new());
            let request = |seq| {
                Writer::message(GET_RULE, family, flags, seq)
                    .text(RULE_TABLE, chain.table.raw())
                    .text(RULE_CHAIN, chain.name.raw())
            };
            let answer = self.ask("reading everybody's rules", request, |kind, body| {
                if kind == NEW_RULE {
                    let rule = Expressions::of(body);
                    end = end.or(rule.end());
                    shares.extend(rule.shares());
                }
            });
            attempts += 1;
            match answer {
                Ok(_) => {
                    chain.rest = end.flatten().unwrap_or(chain.rest);
                    chain.shares = shares;
                    return Ok(());
                }
                Err(NftError::Outdated) if attempts < ATTEMPTS => {}
                // It has gone meanwhile.
                Err(NftError::Refused { errno, .. }) if errno == libc::ENOENT => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn chains_of(
        &mut self,
        family: (i32, &'static str, &'static [&'static str]),
    ) -> Result<Vec<BaseChain>, NftError> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let mut attempts = 0;
        loop {
            let mut found: Vec<BaseChain> = Vec::new();
            let request = |seq| Writer::message(GET_CHAIN, family.0 as u8, flags, seq);
            let answer = self.ask("reading everybody's chains", request, |kind, body| {
                let chain = (kind == NEW_CHAIN).then(|| foreign(family.1, family.2, body));
                // A list may repeat some beside a transaction.
                let chain = chain.flatten().filter(|chain| !found.contains(chain));
                found.extend(chain);
            });
            attempts += 1;
            match answer {
                Ok(_) => return Ok(found),
                Err(NftError::Outdated) if attempts < ATTEMPTS => {}
                // A family without any table.
                Err(NftError::Refused { errno, .. })
                    if [libc::ENOENT, libc::EAFNOSUPPORT, libc::EOPNOTSUPP].contains(&errno) =>
                {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A base chain that is not ours.
fn foreign(family: &'static str, hooks: &'static [&'static str], body: &[u8]) -> Option<BaseChain> {
    let attributes = Attributes::read(body);
    let table = attributes
        .text(CHAIN_TABLE)
        .filter(|table| table != TABLE)?;
    let hook = attributes.nest(CHAIN_HOOK)?;
    let number = usize::try_from(hook.u32(HOOK_NUMBER)?).ok()?;
    let several = hook.nest(HOOK_DEVICES);
    let several = several.iter().flat_map(Attributes::all);
    let several = several.map(|(_, name)| {
        let end = name.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
    });
    Some(BaseChain {
        family,
        table: table.into(),
        name: attributes.text(CHAIN_NAME)?.into(),
        hook: hooks.get(number).copied().unwrap_or("unknown"),
        devices: hook
            .text(HOOK_DEVICE)
            .into_iter()
            .chain(several)
            .map(Into::into)
            .collect(),
        rest: match attributes.u32(CHAIN_POLICY) {
            Some(DROP) => Rest::Dropped,
            _ => Rest::Passes,
        },
        shares: Vec::new(),
    })
}

/// The expressions of a rule: the name of each, and what is in it.
struct Expressions<'a>(Vec<(String, Attributes<'a>)>);

impl<'a> Expressions<'a> {
    fn of(body: &'a [u8]) -> Self {
        let rule = Attributes::read(body);
        let all = rule.nest(RULE_EXPRESSIONS);
        let all = all.iter().flat_map(Attributes::all).filter_map(|(_, one)| {
            let one = Attributes::read(one);
            let data = one.nest(EXPR_DATA).unwrap_or(Attributes::read(&[]));
            Some((one.text(EXPR_NAME)?, data))
        });
        Expressions(all.collect())
    }

    /// Of a rule that is for everything and lets nothing come behind it, what it does; nothing within is: what the policy
    /// says. (So it is for what comes back to a base chain, and for what is at the end of a chain that was gone to.)
    fn end(&self) -> Option<Option<Rest>> {
        let mut all = self.0.iter();
        let last = all.find(|(name, _)| !matches!(name.as_str(), "counter" | "log"));
        let (name, data) = last?;
        match name.as_str() {
            "reject" => Some(Some(Rest::Rejected)),
            "target" if data.text(XT_NAME).as_deref() == Some("REJECT") => {
                Some(Some(Rest::Rejected))
            }
            "immediate" => {
                let verdict = data.nest(IMMEDIATE_DATA)?.nest(DATA_VERDICT)?;
                match verdict.u32(VERDICT_CODE)? {
                    DROP => Some(Some(Rest::Dropped)),
                    ACCEPT => Some(Some(Rest::Passes)),
                    GOTO | RETURN => Some(None),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The addresses that it shares: those that it compares something with.
    fn shares(&self) -> Vec<(SharedBy, IpAddr)> {
        let is = |kind: &str, named: &str| {
            let mut all = self.0.iter();
            all.any(|(name, data)| name == kind && data.text(XT_NAME).as_deref() == Some(named))
        };
        let by = match (is("match", "cluster"), is("target", "CLUSTERIP")) {
            (true, _) => SharedBy::XtCluster,
            (_, true) => SharedBy::ClusterIp,
            _ => return Vec::new(),
        };
        let compared = self.0.iter().filter(|(name, _)| name == "cmp");
        let addresses = compared.filter_map(|(_, data)| {
            let value = data.nest(CMP_DATA)?.get(DATA_VALUE)?;
            match value.len() {
                4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
                16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
                _ => None,
            }
        });
        addresses.map(|address| (by, address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(body in prop::collection::vec(any::<u8>(), 0..96)) {
            let _ = foreign("inet", &IP_HOOKS, &body);
            let rule = Expressions::of(&body);
            let _ = (rule.end(), rule.shares());
        }
    }
}
