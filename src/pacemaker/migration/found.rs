//! What a configuration has of IPaddr2, as values. Pure.

use super::super::ipaddr2::ITS_OWN;
use crate::model::predecessor::Predecessor;
use crate::model::untrusted::Untrusted;

/// Names with their values, in the order in which they were found.
pub type Pairs = Vec<(Untrusted, Untrusted)>;

/// A configuration, as far as a migration has to know it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The resources of IPaddr2, cloned or not.
    pub addresses: Vec<Address>,
    /// How many nodes there are, if it says so.
    pub nodes: Option<u16>,
    /// The rules about resources.
    pub rules: Vec<Rule>,
}

/// A resource of IPaddr2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// Its name.
    pub id: Untrusted,
    /// Its parameters, with those of its template.
    pub parameters: Pairs,
    /// Those of the group and the clone around it, which hold for it too.
    pub around: Pairs,
    /// Its operations.
    pub operations: Vec<Operation>,
    /// Its meta attributes.
    pub meta: Pairs,
    /// What of a node it uses.
    pub utilization: Pairs,
    /// Its template, if it has one.
    pub template: Option<Untrusted>,
    /// The group that it is in.
    pub group: Option<Untrusted>,
    /// The clone that it is in.
    pub clone: Option<CloneFound>,
    /// What of it can be said in no other way than it is: a sentence for each.
    pub unclear: Vec<String>,
}

/// One of its operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// Its name and its times.
    pub attributes: Pairs,
    /// Its parameters, such as `OCF_CHECK_LEVEL`.
    pub parameters: Pairs,
}

/// A clone as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloneFound {
    /// Its name.
    pub id: Untrusted,
    /// Are instances promoted?
    pub promotable: bool,
    /// Its meta attributes.
    pub meta: Pairs,
    /// Other resources that are in it.
    pub others: Vec<Untrusted>,
}

/// A rule about resources: an order, a colocation, a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is, in one word.
    pub kind: &'static str,
    /// Its name.
    pub id: Untrusted,
    /// The resources that it names.
    pub of: Vec<Untrusted>,
}

impl Address {
    /// A parameter's value, wherever it stands. What is empty counts as not set, as for the agents.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let all = self.parameters.iter().chain(&self.around);
        let mut found = all.filter(|(own, _)| own.raw() == name);
        let value = found.next().map(|(_, value)| value.raw().trim());
        value.filter(|value| !value.is_empty())
    }

    /// Is a parameter true?
    pub fn is_set(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(is_true)
    }

    /// Are the newest one's rules by iptables?
    pub fn is_by_iptables(&self) -> bool {
        self.parameter("clusterip_firewall") == Some("iptables")
    }

    /// Which IPaddr2 shares it among so many instances? Where nothing that is set tells, what only one of them can do
    /// does.
    pub fn predecessor(&self, instances: Option<u16>) -> Option<Predecessor> {
        let newest = ITS_OWN.iter().any(|name| self.parameter(name).is_some());
        let is_v6 = self.parameter("ip").is_some_and(|ip| ip.contains(':'));
        let most = Predecessor::ClusterIp.most(false);
        match () {
            () if newest => Some(Predecessor::Ipaddr2),
            () if self.parameter("clusterip_hash").is_some() => Some(Predecessor::ClusterIp),
            () if is_v6 || instances.is_some_and(|instances| instances > most) => {
                Some(Predecessor::Ipaddr2)
            }
            () => None,
        }
    }
}

impl Operation {
    /// Is it this one?
    pub fn is(&self, name: &str) -> bool {
        value(&self.attributes, "name") == Some(name)
    }
}

impl CloneFound {
    /// A meta attribute.
    pub fn meta(&self, name: &str) -> Option<&str> {
        value(&self.meta, name)
    }

    /// How many instances it has where there are so many nodes.
    pub fn instances(&self, nodes: Option<u16>) -> Option<u16> {
        match self.meta("clone-max") {
            Some(max) => max.parse().ok(),
            None => nodes,
        }
    }

    /// How many of them a node may have.
    pub fn node_max(&self) -> u16 {
        let max = self.meta("clone-node-max");
        max.and_then(|max| max.parse().ok()).unwrap_or(1)
    }
}

impl Rule {
    /// Does it name this resource?
    pub fn names(&self, id: &Untrusted) -> bool {
        self.of.contains(id)
    }
}

/// What stands under a name.
pub(super) fn value<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    let mut found = pairs.iter().filter(|(own, _)| own.raw() == name);
    found.next().map(|(_, value)| value.raw().trim())
}

/// Adds what is not there yet: who comes first counts.
pub(super) fn add(pairs: &mut Pairs, more: impl IntoIterator<Item = (Untrusted, Untrusted)>) {
    for (name, value) in more {
        if !pairs.iter().any(|(known, _)| *known == name) {
            pairs.push((name, value));
        }
    }
}

/// What `ocf_is_true` of the shell agents takes for true.
pub(super) fn is_true(word: &str) -> bool {
    ["yes", "true", "1", "ja", "on", "y"].contains(&word.to_ascii_lowercase().as_str())
}
