//! What a configuration as crm shell shows it has of IPaddr2. Pure.
//!
//! Read is as much as is needed: lines that go on after a backslash, words, and what stands in quotes. Resources,
//! groups, clones and rules are understood; what else there is (properties, defaults, nodes' attributes) is passed
//! over.

use super::cib::read_part;
use super::crm_parts::{Around, Parts};
use super::found::{Bundle, CloneFound, Configuration, Pairs, Rule, Tag, add};
use super::unread::ReadError;
use crate::model::untrusted::Untrusted;
use std::collections::BTreeMap;

/// What else a line may begin with.
const PASSED_OVER: [&str; 10] = [
    "property",
    "op_defaults",
    "monitor",
    "fencing_topology",
    "fencing-topology",
    "acl_target",
    "acl_group",
    "role",
    "user",
    "alert",
];

/// Reads it.
pub(super) fn read(text: &str) -> Result<Configuration, ReadError> {
    let mut all = Configuration::default();
    let mut nodes = 0;
    let mut counts_others = false;
    let mut primitives: Vec<Parts> = Vec::new();
    let mut templates: BTreeMap<String, Parts> = BTreeMap::new();
    let mut groups: Vec<Around> = Vec::new();
    let mut clones: Vec<Around> = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    let mut tags = Vec::new();
    let mut bundled: BTreeMap<String, Untrusted> = BTreeMap::new();
    for Line { number, text } in lines(text) {
        let words = words(&text).ok_or(ReadError::Open(number))?;
        let Some((first, rest)) = words.split_first() else {
            continue;
        };
        match first.as_str() {
            "node" => {
                nodes += 1;
                counts_others |= rest.iter().any(|word| word.ends_with(":remote"));
            }
            "primitive" => {
                // Whom Pacemaker counts besides goes by more than stands there.
                let is_guest = |word: &String| {
                    word == "ocf:pacemaker:remote" || word.starts_with("remote-node=")
                };
                counts_others |= rest.iter().any(is_guest);
                primitives.extend(Parts::of(rest));
            }
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
            "tag" => tags.extend(tag(rest)),
            "bundle" => {
                counts_others = true;
                let with = bundle(rest, &mut bundled);
                all.bundles.extend(with);
            }
            "rsc_defaults" => {
                let plain = defaults(rest);
                add(&mut all.defaults, plain);
            }
            "xml" => {
                // What crm shell itself cannot say. Only if a resource of IPaddr2's is in it does it matter.
                let part = text.trim_start().strip_prefix("xml").unwrap_or_default();
                let is_default = part.trim_start().starts_with("<meta_attributes");
                let is_bundle = part.trim_start().starts_with("<bundle");
                if text.contains("IPaddr2") && !is_default {
                    let word = "xml".to_owned();
                    return Err(ReadError::OtherText { line: number, word });
                }
                counts_others |= is_bundle;
                read_part(&mut all, part);
            }
            word if PASSED_OVER.contains(&word) => {}
            word => {
                let word = word.to_owned();
                return Err(ReadError::OtherText { line: number, word });
            }
        }
    }
    let defaults = all.defaults.clone();
    let addresses = primitives.into_iter().filter_map(|parts| {
        let mut found = parts.address(&templates)?;
        found.bundle = bundled.get(found.id.raw()).cloned();
        let inside = groups.iter().find(|group| group.has(&found.id));
        found.group = inside.map(|group| group.id.as_str().into());
        let whole = found.group.clone().unwrap_or_else(|| found.id.clone());
        let clone = clones.iter().find(|clone| clone.has(&whole));
        for around in [inside, clone].into_iter().flatten() {
            add(&mut found.around, around.attributes.parameters());
            add(&mut found.meta_around, around.attributes.meta());
            found.unclear.extend(around.attributes.unclear.clone());
        }
        found.clone = clone.map(|clone| CloneFound {
            id: clone.id.as_str().into(),
            promotable: clone.promotable,
            meta: clone.attributes.meta(),
            others: inside.map_or(Vec::new(), |group| {
                let others = group.members.iter().map(|it| it.as_str().into());
                others.filter(|id| *id != found.id).collect()
            }),
        });
        found.add_defaults(&defaults);
        Some(found)
    });
    all.addresses = addresses.collect();
    all.nodes = (nodes > 0 && !counts_others).then_some(nodes);
    rules.append(&mut all.rules);
    all.rules = rules.into_iter().map(|rule| rule.tagged(&tags)).collect();
    Ok(all)
}

/// A bundle whose replicas have addresses; what is in it is told.
fn bundle(words: &[String], within: &mut BTreeMap<String, Untrusted>) -> Option<Bundle> {
    let (id, rest) = words.split_first()?;
    let id = Untrusted::from(id.as_str());
    let mut pairs = rest.windows(2);
    let its = pairs.find(|pair| pair[0] == "primitive");
    within.extend(its.map(|pair| (pair[1].clone(), id.clone())));
    let mut words = rest.iter();
    let from = words.find_map(|word| word.strip_prefix("ip-range-start="))?;
    Some(Bundle {
        id,
        from: from.into(),
    })
}

/// What holds for resources where nothing else is set. What goes by a rule is not judged.
fn defaults(words: &[String]) -> Pairs {
    if words.iter().any(|word| word == "rule") {
        return Pairs::new();
    }
    let pairs = words.iter().filter_map(|word| word.split_once('='));
    let pairs = pairs.filter(|(name, _)| !name.starts_with('$'));
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
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

/// A tag, with what it stands for.
fn tag(words: &[String]) -> Option<Tag> {
    let (id, rest) = words.split_first()?;
    Some(Tag {
        id: id.trim_end_matches(':').into(),
        of: rest.iter().map(|word| word.as_str().into()).collect(),
    })
}

/// A rule: whatever it names, without roles, actions and brackets; or a location's pattern, which stands between slashes.
fn rule(kind: &'static str, words: &[String]) -> Option<Rule> {
    let (id, rest) = words.split_first()?;
    let pattern = rest.first().filter(|_| kind == "location");
    let pattern = pattern.and_then(|word| word.strip_prefix('/')?.strip_suffix('/'));
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
        pattern: pattern.map(Into::into),
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
    fn operations_of_the_template_stay_unless_the_resource_has_them() {
        let text = "rsc_template t ocf::heartbeat:IPaddr2 op monitor interval=10s op start interval=0 timeout=99s \
                    op monitor interval=60s role=Master\nprimitive p @t params ip=10.0.0.9 op monitor interval=33s";
        let all = read(text).expect("crm's words");
        let told = all.addresses[0].operations.iter().map(|op| {
            let pairs = op.attributes.iter().map(|(_, value)| value.raw());
            pairs.collect::<Vec<_>>().join(" ")
        });
        let told: Vec<String> = told.collect();
        assert_eq!(told, ["monitor 33s", "start 0 99s", "monitor 60s Master"]);
    }

    #[test]
    fn a_template_that_is_nowhere_is_told() {
        let all = read("primitive p @t params ip=10.0.0.9\nclone c p").expect("crm's words");
        let [found] = all.addresses.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(found.missing, Some("t".into()));
        assert!(found.clone.is_some());
    }

    #[test]
    fn the_last_of_several_sets_counts() {
        let text =
            "primitive p IPaddr2 params ip=10.0.0.8 nic=eth0 params ip=10.0.0.9 meta a=1 meta a=2";
        let all = read(text).expect("crm's words");
        let of = |name| all.addresses[0].parameter(name);
        assert_eq!((of("ip"), of("nic")), (Some("10.0.0.9"), Some("eth0")));
        assert_eq!(all.addresses[0].meta, [("a".into(), "2".into())]);
    }

    /// As `crm_resource --get-parameter` of Pacemaker 2.1.5 says of the CIB that crm shell makes of it.
    #[test]
    fn the_set_of_the_higher_score_counts_the_templates_too() {
        let text = "rsc_template t IPaddr2 params inf: nic=eth1\n\
                    primitive p @t params 5: ip=10.0.0.8 nic=eth2 params ip=10.0.0.9 iflabel=a meta -inf: a=1 meta a=2";
        let all = read(text).expect("crm's words");
        let [found] = all.addresses.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(found.unclear, Vec::<String>::new());
        let of = |name| found.parameter(name);
        assert_eq!((of("ip"), of("nic")), (Some("10.0.0.8"), Some("eth1")));
        assert_eq!((of("iflabel"), found.meta("a")), (Some("a"), Some("2")));
        let late = read("primitive p IPaddr2 params ip=10.0.0.9 5: nic=eth0").expect("words");
        assert_eq!(late.addresses[0].unclear, ["'5:' in it is not understood"]);
    }

    /// As crm shell 4.4.1 shows them: a bundle of docker's, and what it has no words for.
    #[test]
    fn bundles_and_defaults_are_understood() {
        let text = r#"
node 1: n1
node 2: n2
primitive inner IPaddr2 params ip=10.0.0.8
primitive p IPaddr2 params ip=10.0.0.9
clone c p
bundle httpd-bundle \
	docker image="pcmk:http" replicas=3 \
	network ip-range-start=192.168.122.131 host-interface=eth0 host-netmask=24 port-mapping id=httpd-port port=80 \
	primitive inner
location l /^p/ 5: n1
rsc_defaults rd: \
	resource-stickiness=100
xml <meta_attributes id="re"> \
  <rule id="rer" score="INFINITY"> \
    <rsc_expression id="ree" class="ocf" provider="heartbeat" type="IPaddr2"/> \
  </rule> \
  <nvpair id="re1" name="migration-threshold" value="3"/> \
</meta_attributes>
"#;
        let all = read(text).expect("crm's words");
        let first = Bundle {
            id: "httpd-bundle".into(),
            from: "192.168.122.131".into(),
        };
        assert_eq!(all.bundles, [first]);
        assert_eq!(all.addresses[0].bundle, Some("httpd-bundle".into()));
        let clone = all.addresses[1].clone.as_ref().expect("a clone");
        assert_eq!(clone.meta("resource-stickiness"), Some("100"));
        assert!(all.ruled_by_agent);
        // The nodes in its containers count too.
        assert_eq!(all.nodes, None);
        let xml = "primitive p IPaddr2 params ip=10.0.0.9\n\
                   xml <bundle id=\"b\"><podman image=\"x\"/><network ip-range-start=\"10.0.0.1\"/></bundle>";
        let all = read(xml).expect("crm's words");
        assert_eq!(all.bundles[0].id.raw(), "b");
        let ruled = read("rsc_defaults d: rule #uname eq n1 interleave=true").expect("crm's words");
        assert_eq!(ruled.defaults, []);
    }

    #[test]
    fn rules_among_parameters_are_unclear() {
        let unclear = |text: &str| {
            let text = format!("primitive a IPaddr2 params {text}");
            let mut all = read(&text).expect("words");
            all.addresses.remove(0).unclear
        };
        let by_rule = "some of its params hold by a rule, so what it is depends on when and where";
        // One reason, however many words the rule has, and however many rules there are.
        for text in [
            "rule #uname eq n1 ip=10.0.0.9",
            "ip=10.0.0.9 params rule #uname eq a nic=eth1 params rule date gt 2001-01-01 nic=eth2",
        ] {
            assert_eq!(unclear(text), [by_rule], "{text}");
        }
        let other = unclear("rule #uname eq n1 ip=10.0.0.9 op monitor interval=10s hello");
        assert_eq!(other, [by_rule, "'hello' in it is not understood"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(primitive|clone|group|op|params|bundle|xml|rsc_defaults|<|[ =\"'\\\\\n:@a-c])*") {
            let _ = read(&text);
        }
    }
}
