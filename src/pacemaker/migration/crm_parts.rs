//! The resources of a configuration as crm shell shows it, each from the words of its line. Pure.

use super::super::ipaddr2::is_named;
use super::found::{Address, Operation, Pairs, add, add_operations};
use crate::model::untrusted::Untrusted;
use std::collections::BTreeMap;
use std::mem::take;

/// What a resource, group or clone has of its own.
#[derive(Debug, Default, Clone)]
pub(super) struct Attributes {
    description: Option<Untrusted>,
    /// Its parameters.
    pub(super) parameters: Pairs,
    /// Its meta attributes.
    pub(super) meta: Pairs,
    utilization: Pairs,
    operations: Vec<Operation>,
    /// What of it can be said in no other way than it is: a sentence for each.
    pub(super) unclear: Vec<String>,
    /// Parameters, meta attributes and utilization of sets before the last one, which count where that has none.
    before: [Pairs; 3],
}

impl Attributes {
    /// From the words behind its name and what it is of.
    fn of(words: &[String]) -> Self {
        let mut all = Attributes::default();
        let mut section = "";
        let mut in_rule = false;
        let mut rest = words.iter().peekable();
        while let Some(word) = rest.next() {
            let begins = [
                "params",
                "meta",
                "utilization",
                "operations",
                "op",
                "op_params",
                "op_meta",
            ];
            in_rule &= !begins.contains(&word.as_str());
            match word.as_str() {
                "params" | "meta" | "utilization" => {
                    section = word;
                    all.begin(section);
                }
                "rule" => {
                    in_rule = true;
                    all.unclear(&format!(
                        "some of its {section} hold by a rule, so what it is depends on when and where"
                    ));
                }
                "operations" => section = word,
                "op_params" | "op_meta" => {
                    section = word;
                    if word == "op_meta" {
                        all.unclear("one of its operations has meta attributes of its own");
                    }
                }
                "op" => {
                    section = "op";
                    let name = rest.next().map_or("", String::as_str);
                    all.operations.push(Operation {
                        attributes: vec![("name".into(), name.into())],
                        parameters: Pairs::new(),
                    });
                }
                _ => match word.split_once('=') {
                    Some((name, _)) if name.starts_with("$id-ref") => {
                        all.unclear("something of it stands elsewhere ($id-ref)");
                    }
                    Some(("description", text)) if section.is_empty() => {
                        all.description = Some(text.into());
                    }
                    Some((name, _)) if name.starts_with('$') => {}
                    Some((name, value)) => all.add(section, name, value),
                    None if in_rule => {}
                    None => all.unclear(&format!(
                        "'{}' in it is not understood",
                        Untrusted::from(word.as_str())
                    )),
                },
            }
        }
        for section in ["params", "meta", "utilization"] {
            all.begin(section);
        }
        let [parameters, meta, utilization] = take(&mut all.before);
        Attributes {
            parameters,
            meta,
            utilization,
            ..all
        }
    }

    /// Begins a set: of several the last one counts.
    fn begin(&mut self, section: &str) {
        let (set, before) = match (section, &mut self.before) {
            ("params", [before, ..]) => (&mut self.parameters, before),
            ("meta", [_, before, _]) => (&mut self.meta, before),
            (_, [.., before]) => (&mut self.utilization, before),
        };
        let older = take(before);
        *before = take(set);
        add(before, older);
    }

    fn unclear(&mut self, why: &str) {
        if !self.unclear.iter().any(|known| known == why) {
            self.unclear.push(why.to_owned());
        }
    }

    fn add(&mut self, section: &str, name: &str, value: &str) {
        let pair = [(name.into(), value.into())];
        let last = self.operations.last_mut();
        match (section, last) {
            ("params", _) => add(&mut self.parameters, pair),
            ("meta", _) => add(&mut self.meta, pair),
            ("utilization", _) => add(&mut self.utilization, pair),
            ("op", Some(op)) if name == "OCF_CHECK_LEVEL" => add(&mut op.parameters, pair),
            ("op", Some(op)) => add(&mut op.attributes, pair),
            ("op_params", Some(op)) => add(&mut op.parameters, pair),
            _ => {}
        }
    }
}

/// A resource or a template.
pub(super) struct Parts {
    pub(super) id: String,
    /// Its agent, or `@` and its template.
    agent: String,
    attributes: Attributes,
}

impl Parts {
    /// From the words behind what it is.
    pub(super) fn of(words: &[String]) -> Option<Self> {
        let [id, agent, rest @ ..] = words else {
            return None;
        };
        Some(Parts {
            id: id.clone(),
            agent: agent.clone(),
            attributes: Attributes::of(rest),
        })
    }

    /// The resource, if it is IPaddr2's, or nobody can tell.
    pub(super) fn address(self, templates: &BTreeMap<String, Parts>) -> Option<Address> {
        let named = self.agent.strip_prefix('@');
        let template = named.and_then(|id| templates.get(id));
        let missing = named.filter(|_| template.is_none());
        let agent = template.map_or(&self.agent, |template| &template.agent);
        if missing.is_none() && !is_named(agent) {
            return None;
        }
        let mut found = Address {
            id: self.id.into(),
            template: template.map(|template| template.id.as_str().into()),
            missing: missing.map(Into::into),
            description: self.attributes.description.clone(),
            ..Address::default()
        };
        let of_template = template.map(|template| template.attributes.clone());
        for attributes in [Some(self.attributes), of_template].into_iter().flatten() {
            add(&mut found.parameters, attributes.parameters);
            add(&mut found.meta, attributes.meta);
            add(&mut found.utilization, attributes.utilization);
            add_operations(&mut found.operations, attributes.operations);
            found.unclear.extend(attributes.unclear);
        }
        Some(found)
    }
}

/// A group or a clone.
pub(super) struct Around {
    pub(super) id: String,
    pub(super) promotable: bool,
    pub(super) members: Vec<String>,
    pub(super) attributes: Attributes,
}

impl Around {
    /// From the words behind what it is.
    pub(super) fn of(words: &[String], promotable: bool) -> Option<Self> {
        let (id, rest) = words.split_first()?;
        let is_member =
            |word: &&String| !["params", "meta"].contains(&word.as_str()) && !word.contains('=');
        let members: Vec<String> = rest.iter().take_while(is_member).cloned().collect();
        Some(Around {
            id: id.clone(),
            promotable,
            attributes: Attributes::of(&rest[members.len()..]),
            members,
        })
    }

    /// Is this one in it?
    pub(super) fn has(&self, id: &Untrusted) -> bool {
        self.members.iter().any(|member| member == id.raw())
    }
}
