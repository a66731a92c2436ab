//! What a configuration as crm shell shows it has of IPaddr2. Pure.
//!
//! Read is as much as is needed: lines that go on after a backslash, words, and what stands in quotes. Resources,
//! groups, clones and rules are understood; what else there is (properties, defaults, nodes' attributes) is passed
//! over.

use super::found::{Address, CloneFound, Configuration, Operation, Pairs, Rule, add};
use super::unread::ReadError;
use crate::model::untrusted::Untrusted;
use std::collections::BTreeMap;

/// The agent, as crm shell may write it.
const AGENTS: [&str; 2] = ["ocf:heartbeat:IPaddr2", "IPaddr2"];
/// What else a line may begin with.
const PASSED_OVER: [&str; 12] = [
    "property",
    "rsc_defaults",
    "op_defaults",
    "monitor",
    "fencing_topology",
    "fencing-topology",
    "acl_target",
    "acl_group",
    "role",
    "user",
    "tag",
    "alert",
];

/// Reads it.
pub(super) fn read(text: &str) -> Result<Configuration, ReadError> {
    let mut nodes = 0;
    let mut primitives: Vec<Parts> = Vec::new();
    let mut templates: BTreeMap<String, Parts> = BTreeMap::new();
    let mut groups: Vec<Around> = Vec::new();
    let mut clones: Vec<Around> = Vec::new();
    let mut rules = Vec::new();
    for Line { number, text } in lines(text) {
        let words = words(&text).ok_or(ReadError::Open(number))?;
        let Some((first, rest)) = words.split_first() else {
            continue;
        };
        match first.as_str() {
            "node" => nodes += 1,
            "primitive" => primitives.extend(Parts::of(rest)),
            "rsc_template" => {
                templates.extend(Parts::of(rest).map(|parts| (parts.id.clone(), parts)));
            }
            "group" => groups.extend(Around::of(rest, false)),
            "clone" => clones.extend(Around::of(rest, false)),
            "ms" | "master" => clones.extend(Around::of(rest, true)),
            "order" => rules.extend(rule("order", rest)),
            "colocation" | "collocation" => rules.extend(rule("colocation", rest)),
            "location" => rules.extend(rule("location", rest)),
            "rsc_ticket" => rules.extend(rule("ticket", rest)),
            "xml" => {
                // What crm shell itself cannot say. Only if IPaddr2 is in it does it matter.
                if text.contains("IPaddr2") {
                    let word = "xml".to_owned();
                    return Err(ReadError::OtherText { line: number, word });
                }
            }
            word if PASSED_OVER.contains(&word) => {}
            word => {
                let word = word.to_owned();
                return Err(ReadError::OtherText { line: number, word });
            }
        }
    }
    let addresses = primitives.into_iter().filter_map(|parts| {
        let mut found = parts.address(&templates)?;
        let inside = groups.iter().find(|group| group.has(&found.id));
        found.group = inside.map(|group| group.id.as_str().into());
        let whole = found.group.clone().unwrap_or_else(|| found.id.clone());
        let clone = clones.iter().find(|clone| clone.has(&whole));
        for around in [inside, clone].into_iter().flatten() {
            add(&mut found.around, around.attributes.parameters.clone());
            found.unclear.extend(around.attributes.unclear.clone());
        }
        found.clone = clone.map(|clone| CloneFound {
            id: clone.id.as_str().into(),
            promotable: clone.promotable,
            meta: clone.attributes.meta.clone(),
            others: inside.map_or(Vec::new(), |group| {
                let others = group.members.iter().map(|it| it.as_str().into());
                others.filter(|id| *id != found.id).collect()
            }),
        });
        Some(found)
    });
    Ok(Configuration {
        addresses: addresses.collect(),
        nodes: (nodes > 0).then_some(nodes),
        rules,
    })
}

/// A line with those in which it goes on.
struct Line {
    number: usize,
    text: String,
}

fn lines(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut goes_on = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if !goes_on && line.starts_with('#') {
            continue;
        }
        let (part, more) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => {
                last.text.push(' ');
                last.text += part;
            }
            None => lines.push(Line {
                number: at + 1,
                text: part.to_owned(),
            }),
        }
        goes_on = more;
    }
    lines
}

/// The words of a line; `None` where a quote is open at its end.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            // crm shell writes a quote within quotes behind a backslash.
            (Some('"'), '\\') => {
                let next = rest.next()?;
                let word = word.get_or_insert_default();
                if next != '"' && next != '\\' {
                    word.push('\\');
                }
                word.push(next);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// What a resource, group or clone has of its own.
#[derive(Debug, Default, Clone)]
struct Attributes {
    parameters: Pairs,
    meta: Pairs,
    utilization: Pairs,
    operations: Vec<Operation>,
    unclear: Vec<String>,
}

impl Attributes {
    /// From the words behind its name and what it is of.
    fn of(words: &[String]) -> Self {
        let mut all = Attributes::default();
        let mut section = "";
        let mut rest = words.iter().peekable();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "params" | "meta" | "utilization" | "operations" => section = word,
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
                    Some(("description", _)) if section.is_empty() => {}
                    Some((name, _)) if name.starts_with('$') => {}
                    Some((name, value)) => all.add(section, name, value),
                    None => all.unclear(&format!(
                        "'{}' in it is not understood (a rule?)",
                        Untrusted::from(word.as_str())
                    )),
                },
            }
        }
        all
    }

    fn unclear(&mut self, why: &str) {
        self.unclear.push(why.to_owned());
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
struct Parts {
    id: String,
    /// Its agent, or `@` and its template.
    agent: String,
    attributes: Attributes,
}

impl Parts {
    fn of(words: &[String]) -> Option<Self> {
        let [id, agent, rest @ ..] = words else {
            return None;
        };
        Some(Parts {
            id: id.clone(),
            agent: agent.clone(),
            attributes: Attributes::of(rest),
        })
    }

    /// The resource, if it is IPaddr2's.
    fn address(self, templates: &BTreeMap<String, Parts>) -> Option<Address> {
        let template = self.agent.strip_prefix('@');
        let template = template.and_then(|id| templates.get(id));
        let agent = template.map_or(&self.agent, |template| &template.agent);
        if !AGENTS.contains(&agent.as_str()) {
            return None;
        }
        let mut found = Address {
            id: self.id.into(),
            template: template.map(|template| template.id.as_str().into()),
            ..Address::default()
        };
        let of_template = template.map(|template| template.attributes.clone());
        for attributes in [Some(self.attributes), of_template].into_iter().flatten() {
            add(&mut found.parameters, attributes.parameters);
            add(&mut found.meta, attributes.meta);
            add(&mut found.utilization, attributes.utilization);
            if found.operations.is_empty() {
                found.operations = attributes.operations;
            }
            found.unclear.extend(attributes.unclear);
        }
        Some(found)
    }
}

/// A group or a clone.
struct Around {
    id: String,
    promotable: bool,
    members: Vec<String>,
    attributes: Attributes,
}

impl Around {
    fn of(words: &[String], promotable: bool) -> Option<Self> {
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

    fn has(&self, id: &Untrusted) -> bool {
        self.members.iter().any(|member| member == id.raw())
    }
}

/// A rule: whatever it names, without roles, actions and brackets.
fn rule(kind: &'static str, words: &[String]) -> Option<Rule> {
    let (id, rest) = words.split_first()?;
    let names = rest.iter().filter(|word| !word.ends_with(':'));
    let names = names.map(|word| {
        let word = word.trim_matches(['(', ')', '[', ']', '{', '}']);
        word.split(':').next().unwrap_or(word)
    });
    Some(Rule {
        kind,
        id: id.as_str().into(),
        of: names
            .filter(|word| !word.is_empty())
            .map(Into::into)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHOWN: &str = r#"
# a comment
node 1: n1 \
	attributes standby=off
node 2: n2
rsc_template t IPaddr2 \
	params nic="eth0:1" ip=10.0.0.1 \
	op monitor interval=10s timeout=20s OCF_CHECK_LEVEL=10
primitive resIP @t \
	params ip="10.0.0.99" iflabel="a \"b\"" \
	operations $id="resIP-operations" \
	meta resource-stickiness=0
primitive web systemd:nginx
group g resIP web meta target-role=Started
clone cloneIP g \
	meta globally-unique=true clone-max=4 \
	params arp_count=3
colocation c inf: cloneIP:Started ( cloneWeb )
order o Mandatory: cloneWeb:start cloneIP
location l other 100: n1
property cib-bootstrap-options: \
	stonith-enabled=true
"#;

    #[test]
    fn a_resource_is_found_with_all_that_is_around_it() {
        let all = read(SHOWN).expect("crm's words");
        assert_eq!((all.nodes, all.addresses.len()), (Some(2), 1));
        let found = &all.addresses[0];
        let of = |name| found.parameter(name);
        assert_eq!(of("ip"), Some("10.0.0.99"));
        assert_eq!(of("iflabel"), Some("a \"b\""));
        assert_eq!((of("nic"), of("arp_count")), (Some("eth0:1"), Some("3")));
        assert_eq!(found.meta, [("resource-stickiness".into(), "0".into())]);
        let [operation] = found.operations.as_slice() else {
            panic!("{:?}", found.operations);
        };
        assert_eq!(operation.attributes[1], ("interval".into(), "10s".into()));
        assert_eq!(
            operation.parameters,
            [("OCF_CHECK_LEVEL".into(), "10".into())]
        );
        let clone = found.clone.as_ref().expect("a clone");
        assert_eq!(
            (clone.id.raw(), clone.meta("clone-max")),
            ("cloneIP", Some("4"))
        );
        assert_eq!(clone.others, ["web".into()]);
        let named: Vec<&str> = all
            .rules
            .iter()
            .filter(|rule| rule.names(&"cloneIP".into()))
            .map(|rule| rule.kind)
            .collect();
        assert_eq!(named, ["colocation", "order"]);
        assert_eq!(found.unclear, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_configuration_is_told_by_its_line() {
        let error = read("primitive a IPaddr2\nhello world").expect_err("a word");
        assert!(
            error.to_string().starts_with("line 2 begins with 'hello'"),
            "{error}"
        );
        let error = read("primitive a IPaddr2 params ip=\"1").expect_err("a quote");
        assert!(
            error.to_string().starts_with("line 1 has a quote"),
            "{error}"
        );
        let xml = read("xml <primitive type=\"IPaddr2\">").expect_err("XML");
        assert!(xml.to_string().contains("'xml'"), "{xml}");
    }

    #[test]
    fn rules_among_parameters_are_unclear() {
        let all = read("primitive a IPaddr2 params rule #uname eq n1 ip=10.0.0.9").expect("words");
        assert!(!all.addresses[0].unclear.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(primitive|clone|group|op|params|[ =\"'\\\\\n:@a-c])*") {
            let _ = read(&text);
        }
    }
}
