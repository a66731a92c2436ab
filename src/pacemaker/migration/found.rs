//! What a configuration has of IPaddr2, as values. Pure.

use super::super::ipaddr2::{FIREWALL, ITS_OWN, is_true};
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
    /// The bundles to whose replicas Pacemaker gives addresses.
    pub bundles: Vec<Bundle>,
    /// The meta attributes that hold wherever nothing else is set.
    pub defaults: Pairs,
    /// Do other defaults hold by a rule that names the agent, so that they hold for the new one no more?
    pub ruled_by_agent: bool,
}

/// A bundle with addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its name.
    pub id: Untrusted,
    /// The first of its addresses.
    pub from: Untrusted,
}

/// A resource of IPaddr2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// Its name.
    pub id: Untrusted,
    /// What somebody has written of it.
    pub description: Option<Untrusted>,
    /// Its parameters, with those of its template.
    pub parameters: Pairs,
    /// Those of the group and the clone around it, which hold for it too where it has none of its own
    /// (`get_rsc_attributes()`), and stay where they are.
    pub around: Pairs,
    /// Its operations.
    pub operations: Vec<Operation>,
    /// Its meta attributes.
    pub meta: Pairs,
    /// Those of the group and the clone around it, and the defaults, which hold for it where it has none of its own.
    pub meta_around: Pairs,
    /// What of a node it uses.
    pub utilization: Pairs,
    /// Its template, if it has one.
    pub template: Option<Untrusted>,
    /// The template that it names and that is nowhere, so that nobody can tell whether it is IPaddr2's at all.
    pub missing: Option<Untrusted>,
    /// The bundle that it is in.
    pub bundle: Option<Untrusted>,
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
    /// Its meta attributes, with the defaults. Those of what is in it are not chosen.
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
    /// The resources that it names, by their tags too.
    pub of: Vec<Untrusted>,
    /// The regular expression of the names of resources that it is about, if it names none.
    pub pattern: Option<Untrusted>,
}

/// A word for several resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The word.
    pub id: Untrusted,
    /// The resources.
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
        self.parameter(FIREWALL) == Some("iptables")
    }

    /// Those of the group and the clone around it that hold for it.
    pub fn inherited(&self) -> impl Iterator<Item = &(Untrusted, Untrusted)> {
        let is_own = |name: &Untrusted| self.parameters.iter().any(|(own, _)| own == name);
        self.around.iter().filter(move |(name, _)| !is_own(name))
    }

    /// The defaults hold for it, and for its clone.
    pub(super) fn add_defaults(&mut self, defaults: &Pairs) {
        add(&mut self.meta_around, defaults.clone());
        if let Some(clone) = &mut self.clone {
            add(&mut clone.meta, defaults.clone());
        }
    }

    /// A meta attribute, wherever it stands.
    pub fn meta(&self, name: &str) -> Option<&str> {
        value(&self.meta, name).or_else(|| value(&self.meta_around, name))
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

    /// By what Pacemaker tells two of them apart where a template has some too (`template_op_key()`): not by the
    /// interval. What is of a resource that runs, or is not promoted, is of any.
    fn key(&self) -> (&str, &str) {
        let of_any = ["started", "slave", "unpromoted"];
        let role = value(&self.attributes, "role").unwrap_or_default();
        let is_of_any = of_any.iter().any(|any| role.eq_ignore_ascii_case(any));
        let name = value(&self.attributes, "name").unwrap_or_default();
        (name, if is_of_any { "" } else { role })
    }
}

/// Adds those of the template that the resource has not itself.
pub(super) fn add_operations(own: &mut Vec<Operation>, of_template: Vec<Operation>) {
    let its = own.len();
    for operation in of_template {
        if !own[..its].iter().any(|own| own.key() == operation.key()) {
            own.push(operation);
        }
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

    /// What it names by a tag it names.
    pub(super) fn tagged(mut self, tags: &[Tag]) -> Self {
        let named = tags.iter().filter(|tag| self.of.contains(&tag.id));
        let more: Vec<Untrusted> = named.flat_map(|tag| tag.of.clone()).collect();
        self.of.extend(more);
        self
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
