//! The base chains of everybody's tables: where they are hooked, and whether they drop what no rule accepts. What their
//! rules say is not read.

use super::numbers::*;
use super::socket::{NftError, NftSocket};
use super::wire::{Attributes, Writer};
use crate::model::ruleset::TABLE;

/// A base chain of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// The family of its table, as nft has it.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is hooked, as nft has it.
    pub hook: &'static str,
    /// The devices that it is for; none where it is for all.
    pub devices: Vec<String>,
    /// Is its policy to drop?
    pub drops: bool,
}

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
/// NF_DROP.
const DROP: u32 = 0;
/// How often a list is read that others change meanwhile.
const ATTEMPTS: u32 = 50;

impl NftSocket {
    /// The base chains of all tables but ours.
    ///
    /// # Errors
    /// As every reading here.
    pub fn foreign_chains(&mut self) -> Result<Vec<ForeignChain>, NftError> {
        let mut all = Vec::new();
        for family in FAMILIES {
            all.extend(self.chains_of(family)?);
        }
        Ok(all)
    }

    fn chains_of(
        &mut self,
        family: (i32, &'static str, &'static [&'static str]),
    ) -> Result<Vec<ForeignChain>, NftError> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let mut attempts = 0;
        loop {
            let mut found: Vec<ForeignChain> = Vec::new();
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
fn foreign(
    family: &'static str,
    hooks: &'static [&'static str],
    body: &[u8],
) -> Option<ForeignChain> {
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
    Some(ForeignChain {
        family,
        table,
        name: attributes.text(CHAIN_NAME)?,
        hook: hooks.get(number).copied().unwrap_or("unknown"),
        devices: hook.text(HOOK_DEVICE).into_iter().chain(several).collect(),
        drops: attributes.u32(CHAIN_POLICY) == Some(DROP),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(body in prop::collection::vec(any::<u8>(), 0..96)) {
            let _ = foreign("inet", &IP_HOOKS, &body);
        }
    }
}
