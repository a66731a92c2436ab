//! A model of what the kernel does with the changes of a transaction, and what it refuses: what is not there cannot be
//! changed, what is there cannot be added to a set, and a set takes so many. A transaction is done whole or not at all;
//! here whoever is refused has lost.

use crate::model::change::Change;
use crate::model::ruleset::{Lifetime, Ruleset, Set};

/// Does them, up to the first one that is refused.
pub(crate) fn apply(rules: &mut Ruleset, changes: &[Change]) -> Result<(), String> {
    for change in changes {
        let wrong = || format!("{change:?}");
        let family = match change {
            Change::AddTable(f) | Change::DeleteTable(f) => f,
            Change::AddChain(f, ..) | Change::FlushChain(f, ..) => f,
            Change::DeleteChain(f, ..) | Change::AddRule(f, ..) => f,
            Change::AddSet(f, ..) | Change::DeleteSet(f, ..) => f,
            Change::AddElements(f, ..) | Change::DeleteElements(f, ..) => f,
        };
        match change {
            Change::AddTable(_) => {
                rules.entry(*family).or_default();
                continue;
            }
            Change::DeleteTable(_) => {
                rules.remove(family).ok_or_else(wrong)?;
                continue;
            }
            _ => {}
        }
        let table = rules.get_mut(family).ok_or_else(wrong)?;
        match change {
            // What is in there is not read with the rest.
            Change::AddElements(_, name, spec, _) | Change::DeleteElements(_, name, spec, _)
                if matches!(spec.lifetime, Lifetime::Learnt(_)) =>
            {
                table.sets.get(name).ok_or_else(wrong)?;
            }
            Change::AddTable(_) | Change::DeleteTable(_) => {}
            Change::AddChain(_, name, chain) => {
                table.chains.insert(name.clone(), chain.clone());
            }
            Change::FlushChain(_, name) => {
                table.chains.get_mut(name).ok_or_else(wrong)?.rules.clear();
            }
            Change::DeleteChain(_, name) => {
                table.chains.remove(name).ok_or_else(wrong)?;
            }
            Change::AddRule(_, name, rule) => {
                let chain = table.chains.get_mut(name).ok_or_else(wrong)?;
                chain.rules.push(rule.clone());
            }
            Change::AddSet(_, name, spec) => {
                table.sets.insert(name.clone(), Set::new(spec.clone()));
            }
            Change::DeleteSet(_, name) => {
                table.sets.remove(name).ok_or_else(wrong)?;
            }
            Change::AddElements(_, name, _, new) => {
                let set = table.sets.get_mut(name).ok_or_else(wrong)?;
                for (key, element) in new {
                    if set.elements.insert(key.clone(), element.clone()).is_some() {
                        return Err(wrong());
                    }
                }
                if set.elements.len() > set.spec.size as usize {
                    return Err(wrong());
                }
            }
            Change::DeleteElements(_, name, _, gone) => {
                let set = table.sets.get_mut(name).ok_or_else(wrong)?;
                for key in gone.keys() {
                    set.elements.remove(key).ok_or_else(wrong)?;
                }
            }
        }
    }
    Ok(())
}
