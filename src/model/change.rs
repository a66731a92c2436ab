//! Changes of rulesets as values: `plan::diff` finds them, `sys::nft` makes them.

use super::ruleset::{Chain, Element, Family, Rule, SetSpec};
use super::seed::without_seeds;
use std::collections::BTreeMap;
use std::fmt;

/// One change, in the order in which the kernel wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds our table to the family, unless it is there.
    AddTable(Family),
    /// Deletes our table with all that is in it.
    DeleteTable(Family),
    /// Adds a chain without rules.
    AddChain(Family, String, Chain),
    /// Takes all rules out of a chain.
    FlushChain(Family, String),
    /// Deletes a chain that nothing goes to any more.
    DeleteChain(Family, String),
    /// Appends a rule to a chain.
    AddRule(Family, String, Rule),
    /// Adds a set without elements.
    AddSet(Family, String, SetSpec),
    /// Deletes a set that no rule uses any more.
    DeleteSet(Family, String),
    /// Adds elements to a set.
    AddElements(Family, String, SetSpec, BTreeMap<Vec<u8>, Element>),
    /// Deletes elements of a set.
    DeleteElements(Family, String, SetSpec, BTreeMap<Vec<u8>, Element>),
}

impl fmt::Display for Change {
    /// For people: what an error or a log line says was being done, without the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = |family: &Family| format!("table {} {}", family.name(), super::ruleset::TABLE);
        match self {
            Change::AddTable(family) => write!(f, "add {}", table(family)),
            Change::DeleteTable(family) => write!(f, "delete {}", table(family)),
            Change::AddChain(family, name, _) => write!(f, "add chain {name} to {}", table(family)),
            Change::FlushChain(family, name) => {
                write!(f, "flush chain {name} of {}", table(family))
            }
            Change::DeleteChain(family, name) => {
                write!(f, "delete chain {name} of {}", table(family))
            }
            Change::AddRule(family, name, rule) => {
                write!(
                    f,
                    "add the rule '{}' to chain {name} of {}",
                    without_seeds(&rule.text),
                    table(family)
                )
            }
            Change::AddSet(family, name, _) => write!(f, "add set {name} to {}", table(family)),
            Change::DeleteSet(family, name) => write!(f, "delete set {name} of {}", table(family)),
            Change::AddElements(family, name, _, elements) => write!(
                f,
                "add {} elements to set {name} of {}",
                elements.len(),
                table(family)
            ),
            Change::DeleteElements(family, name, _, elements) => write!(
                f,
                "delete {} elements of set {name} of {}",
                elements.len(),
                table(family)
            ),
        }
    }
}
