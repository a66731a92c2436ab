//! Reading our tables, whole and as they were at one moment.
//!
//! The kernel gives a list in parts of up to 32 KiB, and goes on where it was by counting. It counts what a transaction
//! prepares, too, which nobody is shown: one that is only checked, is undone or takes a while shifts the place, so that
//! what comes next has been listed before or is left out. No generation and no flag tells of it (nf_tables_api.c:
//! `__nf_tables_dump_rules()`, `nf_tables_dump_chains()`, and so on). One part is of one moment. So rules are asked for
//! chain by chain, and a list that comes in parts is read until it comes the same twice.

use super::decode;
use super::numbers::*;
use super::socket::{GENERATION, NftError, NftSocket};
use super::wire::Writer;
use crate::model::ruleset::{Family, Lifetime, Ruleset, Set, TABLE, Table};

/// What our tables were, all at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Our tables.
    pub rules: Ruleset,
    /// The generation of the kernel's whole ruleset, for [`NftSocket::apply`].
    pub generation: u32,
}

/// How often is read what other transactions keep changing.
const ATTEMPTS: u32 = 50;

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
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            let rules = match self.read_all() {
                Ok(rules) => rules,
                // It was interrupted, or what a list named was gone when it was asked for.
                Err(NftError::Outdated) => continue,
                Err(NftError::Refused { errno, .. }) if errno == libc::ENOENT => {
                    if self.generation()? == before {
                        return Err(NftError::Restless(1));
                    }
                    continue;
                }
                Err(other) => return Err(other),
            };
            if self.generation()? == before {
                return Ok(Snapshot {
                    rules,
                    generation: before,
                });
            }
        }
        Err(NftError::Restless(ATTEMPTS))
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
            if let Some(flags) = self.table(of)? {
                rules.insert(of, self.read_table(of, flags)?);
            }
        }
        Ok(rules)
    }

    /// The flags of our table, if it is there.
    fn table(&mut self, of: Family) -> Result<Option<u32>, NftError> {
        let request = |seq| {
            Writer::message(GET_TABLE, family(of), libc::NLM_F_REQUEST as u16, seq)
                .text(TABLE_NAME, TABLE)
        };
        let mut found = None;
        let answer = self.ask("asking for our table", request, |kind, body| {
            if kind == NEW_TABLE {
                found = Some(decode::table_flags(body));
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

    fn read_table(&mut self, of: Family, flags: u32) -> Result<Table, NftError> {
        let chains = List {
            what: "reading chains",
            kinds: (GET_CHAIN, NEW_CHAIN),
            of,
            names: &[],
        };
        let chains = self.read(chains, |body| decode::chain(of, body))?;
        let mut table = Table {
            flags,
            chains: chains.into_iter().collect(),
            ..Table::default()
        };
        for (name, chain) in &mut table.chains {
            let rules = List {
                what: "reading rules",
                kinds: (GET_RULE, NEW_RULE),
                of,
                names: &[(RULE_TABLE, TABLE), (RULE_CHAIN, name)],
            };
            chain.rules = self.read(rules, decode::rule)?;
        }
        let sets = List {
            what: "reading sets",
            kinds: (GET_SET, NEW_SET),
            of,
            names: &[(SET_TABLE, TABLE)],
        };
        for (name, spec) in self.read(sets, decode::set)? {
            let mut set = Set::new(spec);
            if !matches!(set.spec.lifetime, Lifetime::Learnt(_)) {
                let names = [(ELEMENTS_TABLE, TABLE), (ELEMENTS_SET, name.as_str())];
                let elements =
                    self.read(elements(of, &names), |body| Some(decode::elements(body)))?;
                set.elements.extend(elements.into_iter().flatten());
            }
            table.sets.insert(name, set);
        }
        Ok(table)
    }

    /// The keys of a set of ours; none if it is not there. Where packets change the set meanwhile, what they add and
    /// take out may be missing, and little else.
    pub fn keys(&mut self, of: Family, set: &str) -> Result<Vec<Vec<u8>>, NftError> {
        let names = [(ELEMENTS_TABLE, TABLE), (ELEMENTS_SET, set)];
        for _ in 0..ATTEMPTS {
            let mut keys = Vec::new();
            let asked = self.dump(elements(of, &names), |body| {
                keys.extend(decode::elements(body).into_iter().map(|(key, _)| key));
            });
            match asked {
                Ok(_) => return Ok(keys),
                Err(NftError::Outdated) => {}
                Err(NftError::Refused { errno, .. }) if errno == libc::ENOENT => {
                    return Ok(Vec::new());
                }
                Err(other) => return Err(other),
            }
        }
        Err(NftError::Restless(ATTEMPTS))
    }

    /// What of a list is ours.
    fn read<T: PartialEq>(
        &mut self,
        list: List<'_>,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NftError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            let parts = self.dump(list, |body| all.extend(decode(body)))?;
            if parts <= 1 || last.as_ref() == Some(&all) {
                return Ok(all);
            }
            last = Some(all);
        }
        Err(NftError::Restless(ATTEMPTS))
    }

    /// Hands everything in a list to `each`; says in how many parts it came.
    fn dump(&mut self, list: List<'_>, mut each: impl FnMut(&[u8])) -> Result<usize, NftError> {
        let (ask, answer) = list.kinds;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let request = |seq| {
            let message = Writer::message(ask, family(list.of), flags, seq);
            let names = list.names.iter();
            names.fold(message, |message, (name, value)| message.text(*name, value))
        };
        self.ask(list.what, request, |kind, body| {
            if kind == answer {
                each(body);
            }
        })
    }
}

fn elements<'a>(of: Family, names: &'a [(u16, &'a str)]) -> List<'a> {
    List {
        what: "reading elements",
        kinds: (GET_SETELEM, NEW_SETELEM),
        of,
        names,
    }
}
