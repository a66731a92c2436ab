//! The resources of a configuration as crm shell shows it, each from the words of its line. Pure.

use super::super::ipaddr2::is_named;
use super::found::{Address, Operation, Pairs, add, add_operations};
use crate::model::untrusted::Untrusted;
use std::cmp::Reverse;
use std::collections::BTreeMap;

const PARAMETERS: &str = "params";
const META: &str = "meta";
const UTILIZATION: &str = "utilization";

/// What a resource, group or clone has of its own.
#[derive(Debug, Default, Clone)]
pub(super) struct Attributes {
    description: Option<Untrusted>,
    sets: Vec<Set>,
    operations: Vec<Operation>,
    /// What of it can be said in no other way than it is: a sentence for each.
    pub(super) unclear: Vec<String>,
}

/// A set of parameters, meta attributes or utilization.
#[derive(Debug, Default, Clone)]
struct Set {
    /// The word that begins it.
    section: &'static str,
    score: i32,
    pairs: Pairs,
}

impl Attributes {
    /// From the words behind its name and what it is of.
    fn of(words: &[String]) -> Self {
        let mut all = Attributes::default();
        let mut section: &str = "";
        let mut in_rule = false;
        let mut rest = words.iter().peekable();
        while let Some(word) = rest.next() {
            let begins = [
                PARAMETERS,
                META,
                UTILIZATION,
                "operations",
                "op",
                "op_params",
                "op_meta",
            ];
            in_rule &= !begins.contains(&word.as_str());
            match word.as_str() {
                PARAMETERS => section = all.begin(PARAMETERS),
                META => section = all.begin(META),
                UTILIZATION => section = all.begin(UTILIZATION),
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
                    None if all.score(section, word).is_some() => {}
                    None => all.unclear(&format!(
                        "'{}' in it is not understood",
                        Untrusted::from(word.as_str())
                    )),
                },
            }
        }
        all
    }

    /// Begins a set.
    fn begin(&mut self, section: &'static str) -> &'static str {
        self.sets.push(Set {
            section,
            ..Set::default()
        });
        section
    }

    /// The score of the set that has just begun, if the word is one.
    fn score(&mut self, section: &str, word: &str) -> Option<()> {
        let score = score(word.strip_suffix(':')?)?;
        let last = self.sets.last_mut();
        let begun = last.filter(|set| set.section == section && set.pairs.is_empty());
        begun.map(|set| set.score = score)
    }

    /// Its parameters.
    pub(super) fn parameters(&self) -> Pairs {
        pairs(&[self], PARAMETERS)
    }

    /// Its meta attributes.
    pub(super) fn meta(&self) -> Pairs {
        pairs(&[self], META)
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
            (PARAMETERS | META | UTILIZATION, _) => {
                let set = self.sets.last_mut();
                set.into_iter()
                    .for_each(|set| add(&mut set.pairs, pair.clone()));
            }
            ("op", Some(op)) if name == "OCF_CHECK_LEVEL" => add(&mut op.parameters, pair),
            ("op", Some(op)) => add(&mut op.attributes, pair),
            ("op_params", Some(op)) => add(&mut op.parameters, pair),
            _ => {}
        }
    }
}

/// The score of a set, as crm shell shows it.
fn score(text: &str) -> Option<i32> {
    match text.trim_start_matches('+').to_ascii_lowercase().as_str() {
        "inf" | "infinity" => Some(i32::MAX),
        "-inf" | "-infinity" => Some(i32::MIN),
        number => number.parse().ok(),
    }
}

/// The pairs of such sets, a template's before those of the resource. Who has the higher score counts, and of several the
/// last one (`pcmk__unpack_nvpair_blocks()`).
fn pairs(places: &[&Attributes], section: &str) -> Pairs {
    let sets = places.iter().flat_map(|place| &place.sets);
    let mut sets: Vec<&Set> = sets.filter(|set| set.section == section).collect();
    sets.reverse();
    sets.sort_by_key(|set| Reverse(set.score));
    let mut all = Pairs::new();
    for set in sets {
        add(&mut all, set.pairs.clone());
    }
    all
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
            id: self.id.as_str().into(),
            template: template.map(|template| template.id.as_str().into()),
            missing: missing.map(Into::into),
            description: self.attributes.description.clone(),
            ..Address::default()
        };
        let of_template = template.map(|template| &template.attributes);
        let places: Vec<&Attributes> = of_template.into_iter().chain([&self.attributes]).collect();
        found.parameters = pairs(&places, PARAMETERS);
        found.meta = pairs(&places, META);
        found.utilization = pairs(&places, UTILIZATION);
        for place in places.into_iter().rev() {
            add_operations(&mut found.operations, place.operations.clone());
            found.unclear.extend(place.unclear.clone());
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
