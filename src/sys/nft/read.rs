//! Reading our tables, whole and as they were at one moment.
//!
//! The kernel gives a list in parts of up to 32 KiB, and goes on where it was by counting. It also counts what a
//! transaction prepares, which it shows to nobody: of rules and of elements always, of other chains while it looks for
//! the place. So one that is only checked, or that comes to its end after the reading, shifts the place, and what comes
//! next has been listed before or is left out. Neither the generation nor a flag tells (nf_tables_api.c:
//! `__nf_tables_dump_rules()`, `nf_tables_dump_chains()`; nft_set_hash.c: `nft_rhash_walk()`). It also goes on after a
//! part that had everything, to see that there is nothing more (an element that matches everything comes then). So
//! chains and sets are counted; rules are asked for chain by chain, which most often is one part; after a first part
//! that had room left, others only repeat; what is longer is read until it comes the same twice. Rules say which one
//! they follow, and each counts once.
//!
//! What is left: `nf_tables_commit()` raises the generation some instructions before the rules change, and who reads
//! both in between has the old rules by the new number.

use super::decode::{self, ListedRule};
use super::numbers::*;
use super::socket::{GENERATION, NftError, NftSocket};
use super::wire::Writer;
use crate::model::ruleset::{Family, Lifetime, Rule, Ruleset, Set, SetSpec, TABLE, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

/// What our tables were, all at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Our tables.
    pub rules: Ruleset,
    /// The generation of the kernel's whole ruleset, for [`NftSocket::apply`].
    pub generation: u32,
}

/// How often at least is read what other transactions keep changing.
const ATTEMPTS: u32 = 50;
/// How long at least all is read that they keep changing: somebody's large firewall is a second or two.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE_MS: u32 = 20;
/// How often a set is read to which packets add all the time.
const MOST_READINGS: u32 = 8;
/// A first part that is shorter is the whole list: even where memory is short, a part has room for about 3.7 KB
/// (NLMSG_GOODSIZE), and nothing of ours needs half of that.
const ONE_PART: usize = 2048;

/// A list that the kernel is asked for.
#[derive(Clone, Copy)]
struct List<'a> {
    what: &'static str,
    /// The message that asks, and the one that answers.
    kinds: (u8, u8),
    of: Family,
    names: &'a [(u16, &'a str)],
}

impl NftSocket {
    /// Reads all of our tables, again and again until no transaction came between.
    pub fn snapshot(&mut self) -> Result<Snapshot, NftError> {
        let begin = Instant::now();
        let mut attempts = 0;
        loop {
            let generation = self.generation()?;
            match self.read_all() {
                Ok(rules) if self.generation()? == generation => {
                    return Ok(Snapshot { rules, generation });
                }
                Ok(_) | Err(NftError::Outdated) => {}
                // What a list named was gone when it was asked for.
                Err(NftError::Refused { errno, .. }) if errno == libc::ENOENT => {}
                Err(other) => return Err(other),
            }
            attempts += 1;
            if attempts >= ATTEMPTS && begin.elapsed() > PATIENCE {
                return Err(NftError::Restless(attempts));
            }
            // Whoever prepares much takes a while.
            let pause_ms = attempts.min(LONGEST_PAUSE_MS);
            thread::sleep(Duration::from_millis(pause_ms.into()));
        }
    }

    /// The generation of the kernel's ruleset: every transaction of anybody raises it.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let request = |seq| Writer::message(GET_GEN, 0, libc::NLM_F_REQUEST as u16, seq);
        let mut generation = None;
        self.ask(GENERATION, request, |kind, body| {
            if kind == NEW_GEN {
                generation = decode::generation(body);
            }
        })?;
        generation.ok_or(NftError::Restless(0))
    }

    fn read_all(&mut self) -> Result<Ruleset, NftError> {
        let mut rules = Ruleset::new();
        for of in Family::ALL {
            if let Some((flags, things)) = self.table(of)? {
                rules.insert(of, self.read_table(of, flags, things)?);
            }
        }
        Ok(rules)
    }

    /// The flags of our table, if it is there, and how many things are in it.
    fn table(&mut self, of: Family) -> Result<Option<(u32, usize)>, NftError> {
        let request = |seq| {
            Writer::message(GET_TABLE, family(of), libc::NLM_F_REQUEST as u16, seq)
                .text(TABLE_NAME, TABLE)
        };
        let mut found = None;
        let answer = self.ask("asking for our table", request, |kind, body| {
            if kind == NEW_TABLE {
                found = Some(decode::table(body));
            }
        });
        match answer {
            // A family without any table is EAFNOSUPPORT or ENOENT, as the kernel was built.
            Err(NftError::Refused { errno, .. })
                if [libc::ENOENT, libc::EAFNOSUPPORT, libc::EOPNOTSUPP].contains(&errno) =>
            {
                Ok(None)
            }
            Err(other) => Err(other),
            Ok(_) => Ok(found),
        }
    }

    fn read_table(&mut self, of: Family, flags: u32, things: usize) -> Result<Table, NftError> {
        let chains = List {
            what: "reading chains",
            kinds: (GET_CHAIN, NEW_CHAIN),
            of,
            names: &[],
        };
        let sets = List {
            what: "reading sets",
            kinds: (GET_SET, NEW_SET),
            of,
            names: &[(SET_TABLE, TABLE)],
        };
        let (chains, _) = self.read(chains, |body| decode::chain(of, body))?;
        let (sets, _) = self.read(sets, decode::set)?;
        let mut table = Table {
            flags,
            chains: chains.into_iter().collect(),
            ..Table::default()
        };
        let sets: BTreeMap<String, SetSpec> = sets.into_iter().collect();
        // The kernel knows how many there are: one that is left out is noticed.
        let found = table.chains.len() + sets.len();
        if found != things && found + self.other_things(of)? != things {
            return Err(NftError::Outdated);
        }
        for (name, chain) in &mut table.chains {
            let rules = List {
                what: "reading rules",
                kinds: (GET_RULE, NEW_RULE),
                of,
                names: &[(RULE_TABLE, TABLE), (RULE_CHAIN, name)],
            };
            chain.rules = self.read_surely(rules, decode::rule, in_order)?;
        }
        for (name, spec) in sets {
            let mut set = Set::new(spec);
            if !matches!(set.spec.lifetime, Lifetime::Learnt(_)) {
                let names = [(ELEMENTS_TABLE, TABLE), (ELEMENTS_SET, name.as_str())];
                let list = elements(of, &names);
                set.elements
                    .extend(self.read_surely(list, decode::elements, Some)?);
            }
            table.sets.insert(name, set);
        }
        Ok(table)
    }

    /// What else is in our table counts too: somebody's objects and flowtables.
    fn other_things(&mut self, of: Family) -> Result<usize, NftError> {
        let names = [(OTHERS_TABLE, TABLE)];
        let list = |what, kinds| List {
            what,
            kinds,
            of,
            names: &names,
        };
        let objects = list("reading objects", (GET_OBJECT, NEW_OBJECT));
        let flowtables = list("reading flowtables", (GET_FLOWTABLE, NEW_FLOWTABLE));
        let objects = self.read(objects, decode::other_thing)?.0.len();
        Ok(objects + self.read(flowtables, decode::other_thing)?.0.len())
    }

    /// The keys of a set of ours that packets may change meanwhile; none if it is not there. Its lists are put together
    /// until one brings nothing new: one too many does no harm, and one that is missing is a connection given up.
    pub fn keys(&mut self, of: Family, set: &str) -> Result<BTreeSet<Vec<u8>>, NftError> {
        let names = [(ELEMENTS_TABLE, TABLE), (ELEMENTS_SET, set)];
        let mut keys = BTreeSet::new();
        for attempt in 1..=ATTEMPTS {
            match self.read(elements(of, &names), decode::elements) {
                Ok((all, is_whole)) => {
                    let before = keys.len();
                    keys.extend(all.into_iter().map(|(key, _)| key));
                    let is_all = is_whole || keys.len() == before;
                    if is_all || attempt >= MOST_READINGS {
                        return Ok(keys);
                    }
                }
                Err(NftError::Outdated) => {}
                Err(NftError::Refused { errno, .. }) if errno == libc::ENOENT => return Ok(keys),
                Err(other) => return Err(other),
            }
        }
        Err(NftError::Restless(ATTEMPTS))
    }

    /// A list in which nothing is repeated or left out, once `joined` finds no fault with it.
    fn read_surely<L: IntoIterator<Item = T>, T: PartialEq, J: PartialEq>(
        &mut self,
        list: List<'_>,
        decode: impl Fn(&[u8]) -> L,
        joined: impl Fn(Vec<T>) -> Option<Vec<J>>,
    ) -> Result<Vec<J>, NftError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (all, is_whole) = self.read(list, &decode)?;
            let all = joined(all);
            match all {
                Some(all) if is_whole || last.as_ref() == Some(&all) => return Ok(all),
                all => last = all,
            }
        }
        Err(NftError::Outdated)
    }

    /// What of a list is ours, some of it perhaps twice, and whether it is surely all.
    fn read<L: IntoIterator<Item = T>, T>(
        &mut self,
        list: List<'_>,
        decode: impl Fn(&[u8]) -> L,
    ) -> Result<(Vec<T>, bool), NftError> {
        let (ask, answer) = list.kinds;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let request = |seq| {
            let message = Writer::message(ask, family(list.of), flags, seq);
            let names = list.names.iter();
            names.fold(message, |message, (name, value)| message.text(*name, value))
        };
        let mut all = Vec::new();
        let bytes = self.ask(list.what, request, |kind, body| {
            if kind == answer {
                all.extend(decode(body));
            }
        })?;
        Ok((all, bytes < ONE_PART))
    }
}

/// The rules of a chain, each once; `None` if one between them has been left out.
fn in_order(listed: Vec<ListedRule>) -> Option<Vec<Rule>> {
    let mut seen = BTreeSet::new();
    let mut last = None;
    let mut rules = Vec::new();
    for listed in listed {
        if !seen.insert(listed.handle) {
            continue;
        }
        if listed.before != last {
            return None;
        }
        last = Some(listed.handle);
        rules.push(listed.rule);
    }
    Some(rules)
}

fn elements<'a>(of: Family, names: &'a [(u16, &'a str)]) -> List<'a> {
    List {
        what: "reading elements",
        kinds: (GET_SETELEM, NEW_SETELEM),
        of,
        names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(handles: &[u64]) -> Vec<ListedRule> {
        let rule = |handle: &u64| ListedRule {
            handle: *handle,
            before: (*handle > 1).then(|| handle - 1),
            rule: Rule::default(),
        };
        handles.iter().map(rule).collect()
    }

    #[test]
    fn what_a_list_of_rules_repeats_counts_once_and_what_it_leaves_out_is_noticed() {
        for (handles, rules) in [
            (&[][..], Some(0)),
            (&[1, 2, 3], Some(3)),
            (&[1, 2, 3, 3, 2, 3], Some(3)),
            (&[1, 2, 1, 2, 3, 4], Some(4)),
            (&[1, 3], None),
            (&[2, 3], None),
            (&[1, 2, 1, 4], None),
        ] {
            let found = in_order(listed(handles)).map(|rules| rules.len());
            assert_eq!(found, rules, "{handles:?}");
        }
    }
}
