//! What a CIB has of IPaddr2. Pure.

use super::super::configured::{referred, with_id};
use super::found::{Address, CloneFound, Configuration, Operation, Pairs, Rule, add};
use super::unread::ReadError;
use roxmltree::{Document, Node};

/// What a CIB, or a part of it, begins with.
const BEGINNINGS: [&str; 3] = ["cib", "configuration", "resources"];

/// Reads it.
pub(super) fn read(text: &str) -> Result<Configuration, ReadError> {
    let document = Document::parse(text)?;
    let root = document.root_element().tag_name().name();
    if !BEGINNINGS.contains(&root) {
        return Err(ReadError::OtherXml(root.to_owned()));
    }
    let tagged = |tag| {
        document
            .descendants()
            .filter(move |it| it.has_tag_name(tag))
    };
    let addresses = tagged("primitive").filter_map(|primitive| address(&document, primitive));
    let nodes = tagged("nodes").next().map(|nodes| {
        let nodes = nodes.children().filter(|it| it.has_tag_name("node"));
        u16::try_from(nodes.count()).unwrap_or(u16::MAX)
    });
    let rules = tagged("constraints").flat_map(|all| all.children());
    Ok(Configuration {
        addresses: addresses.collect(),
        nodes: nodes.filter(|nodes| *nodes > 0),
        rules: rules.filter_map(rule).collect(),
    })
}

/// A primitive of IPaddr2's, with what is around it.
fn address(all: &Document<'_>, primitive: Node<'_, '_>) -> Option<Address> {
    let template = primitive.attribute("template");
    let template = template.and_then(|id| with_id(all, "template", id));
    let agent = template.unwrap_or(primitive);
    let is = |name, value| agent.attribute(name) == Some(value);
    if !is("class", "ocf") || !is("provider", "heartbeat") || !is("type", "IPaddr2") {
        return None;
    }
    let mut found = Address {
        id: primitive.attribute("id")?.into(),
        template: template.and_then(|it| it.attribute("id")).map(Into::into),
        ..Address::default()
    };
    for place in [Some(primitive), template].into_iter().flatten() {
        let Address {
            parameters,
            meta,
            utilization,
            unclear,
            ..
        } = &mut found;
        add(
            parameters,
            pairs(all, place, "instance_attributes", unclear),
        );
        add(meta, pairs(all, place, "meta_attributes", unclear));
        add(utilization, pairs(all, place, "utilization", unclear));
        if found.operations.is_empty() {
            found.operations = operations(all, place, &mut found.unclear);
        }
    }
    for around in primitive.ancestors().skip(1) {
        let unclear = &mut found.unclear;
        let id = around.attribute("id").map(Into::into);
        match around.tag_name().name() {
            "group" => found.group = id,
            "clone" | "master" => {
                let meta = pairs(all, around, "meta_attributes", unclear);
                let others = around.descendants();
                let others = others.filter(|it| it.has_tag_name("primitive") && *it != primitive);
                found.clone = Some(CloneFound {
                    id: id?,
                    promotable: around.has_tag_name("master"),
                    meta,
                    others: others
                        .filter_map(|it| it.attribute("id").map(Into::into))
                        .collect(),
                });
            }
            _ => continue,
        }
        add(
            &mut found.around,
            pairs(all, around, "instance_attributes", unclear),
        );
    }
    Some(found)
}

/// The pairs of such sets of this resource.
fn pairs(
    all: &Document<'_>,
    place: Node<'_, '_>,
    set: &'static str,
    unclear: &mut Vec<String>,
) -> Pairs {
    let mut pairs = Pairs::new();
    for set in place.children().filter(|it| it.has_tag_name(set)) {
        let set = referred(all, set);
        if set.children().any(|it| it.has_tag_name("rule")) {
            let what = set.tag_name().name();
            unclear.push(format!(
                "some of its {what} hold by a rule, so what it is depends on when and where"
            ));
        }
        let found = set.children().filter(|it| it.has_tag_name("nvpair"));
        let found = found.map(|pair| referred(all, pair));
        add(
            &mut pairs,
            found.filter_map(|pair| {
                let (name, value) = (pair.attribute("name")?, pair.attribute("value")?);
                Some((name.into(), value.into()))
            }),
        );
    }
    pairs
}

fn operations(
    all: &Document<'_>,
    place: Node<'_, '_>,
    unclear: &mut Vec<String>,
) -> Vec<Operation> {
    let sets = place.children().filter(|it| it.has_tag_name("operations"));
    let each = sets.flat_map(|set| referred(all, set).children());
    let each = each.filter(|it| it.has_tag_name("op"));
    let operation = |op: Node<'_, '_>| {
        let attributes = op.attributes().filter(|it| it.name() != "id");
        let mut attributes: Pairs = attributes
            .map(|it| (it.name().into(), it.value().into()))
            .collect();
        attributes.sort_by_key(|(name, _)| name.raw() != "name");
        if op.children().any(|it| it.has_tag_name("meta_attributes")) {
            unclear.push("one of its operations has meta attributes of its own".to_owned());
        }
        let parameters = pairs(all, op, "instance_attributes", unclear);
        Operation {
            attributes,
            parameters,
        }
    };
    each.map(operation).collect()
}

/// A rule of the section `constraints`.
fn rule(node: Node<'_, '_>) -> Option<Rule> {
    let kind = match node.tag_name().name() {
        "rsc_order" => "order",
        "rsc_colocation" => "colocation",
        "rsc_location" => "location",
        "rsc_ticket" => "ticket",
        _ => return None,
    };
    let names = ["rsc", "with-rsc", "first", "then"];
    let named = names.into_iter().filter_map(|name| node.attribute(name));
    let sets = node
        .descendants()
        .filter(|it| it.has_tag_name("resource_ref"));
    let in_sets = sets.filter_map(|it| it.attribute("id"));
    Some(Rule {
        kind,
        id: node.attribute("id")?.into(),
        of: named.chain(in_sets).map(Into::into).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"<cib><configuration>
      <nodes><node id="1" uname="n1"/><node id="2" uname="n2"/></nodes>
      <resources>
        <template id="t" class="ocf" provider="heartbeat" type="IPaddr2">
          <instance_attributes id="ta"><nvpair id="tn" name="nic" value="eth0"/>
            <nvpair id="ti" name="ip" value="10.0.0.1"/></instance_attributes>
          <operations><op id="to" name="monitor" interval="10s" timeout="20s"/></operations></template>
        <clone id="cloneIP">
          <meta_attributes id="cm"><nvpair id="c1" name="clone-max" value="4"/></meta_attributes>
          <instance_attributes id="ca"><nvpair id="c2" name="arp_count" value="3"/></instance_attributes>
          <group id="g"><primitive id="resIP" template="t">
            <instance_attributes id="pa"><nvpair id="pi" name="ip" value="10.0.0.99"/></instance_attributes>
            </primitive><primitive id="web" class="systemd" type="nginx"/></group></clone>
        <primitive id="other" class="ocf" provider="heartbeat" type="apache"/>
      </resources>
      <constraints><rsc_order id="o" first="web" then="cloneIP"/>
        <rsc_colocation id="c" score="INFINITY"><resource_set id="s"><resource_ref id="cloneIP"/></resource_set>
        </rsc_colocation></constraints></configuration></cib>"#;

    #[test]
    fn a_resource_is_found_with_all_that_is_around_it() {
        let all = read(WHOLE).expect("a CIB");
        assert_eq!((all.nodes, all.addresses.len()), (Some(2), 1));
        let found = &all.addresses[0];
        let of = |name| found.parameter(name);
        assert_eq!(of("ip"), Some("10.0.0.99"), "its own before its template's");
        assert_eq!((of("nic"), of("arp_count")), (Some("eth0"), Some("3")));
        assert!(
            !found
                .parameters
                .iter()
                .any(|(name, _)| name.raw() == "arp_count")
        );
        let operation = &found.operations[0].attributes;
        assert_eq!(operation[0], ("name".into(), "monitor".into()));
        let clone = found.clone.as_ref().expect("a clone");
        assert_eq!(
            (clone.id.raw(), clone.meta("clone-max")),
            ("cloneIP", Some("4"))
        );
        assert_eq!(clone.others, ["web".into()]);
        assert_eq!(found.group, Some("g".into()));
        assert_eq!(found.unclear, Vec::<String>::new());
        let clone = "cloneIP".into();
        assert!(all.rules.iter().all(|rule| rule.names(&clone)));
        assert_eq!(all.rules.len(), 2);
    }

    #[test]
    fn what_holds_by_a_rule_is_unclear() {
        let ruled = WHOLE.replace(r#"<nvpair id="pi""#, r#"<rule id="r"/><nvpair id="pi""#);
        let all = read(&ruled).expect("a CIB");
        assert!(all.addresses[0].unclear[0].contains("hold by a rule"));
    }

    #[test]
    fn other_xml_is_no_cib() {
        assert!(matches!(read("<html/>"), Err(ReadError::OtherXml(_))));
        assert!(matches!(read("<cib>"), Err(ReadError::Xml(_))));
        assert_eq!(read("<cib/>").expect("empty"), Configuration::default());
    }
}
