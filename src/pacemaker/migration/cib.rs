//! What a CIB has of IPaddr2. Pure.

use super::super::configured::{referred, sets, with_id};
use super::super::ipaddr2::is_named;
use super::found::{
    Address, Bundle, CloneFound, Configuration, Operation, Pairs, Rule, Tag, add, add_operations,
};
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
    let mut all = Configuration {
        bundles: tagged("bundle").filter_map(bundle).collect(),
        nodes: nodes(&document),
        ..Configuration::default()
    };
    for section in ["rsc_defaults", "op_defaults"] {
        for defaults in tagged(section) {
            add_defaults(&mut all, &document, defaults);
        }
    }
    let addresses = tagged("primitive").filter_map(|primitive| address(&document, primitive));
    all.addresses = addresses.collect();
    for found in &mut all.addresses {
        found.add_defaults(&all.defaults);
    }
    let tags: Vec<Tag> = tagged("tag").filter_map(tag).collect();
    let rules = tagged("constraints").flat_map(|all| all.children());
    let rules = rules.filter_map(rule);
    all.rules = rules.map(|rule| rule.tagged(&tags)).collect();
    Ok(all)
}

/// How many nodes there are, as far as they all are of the cluster itself: whom Pacemaker counts besides, where there
/// are remote ones and guests, goes by more than stands there.
fn nodes(document: &Document<'_>) -> Option<u16> {
    let is_guest = |it: Node<'_, '_>| {
        it.has_tag_name("bundle")
            || it.attribute("name") == Some("remote-node")
            || (it.attribute("provider"), it.attribute("type"))
                == (Some("pacemaker"), Some("remote"))
    };
    if document.descendants().any(is_guest) {
        return None;
    }
    let mut sections = document.descendants().filter(|it| it.has_tag_name("nodes"));
    let nodes = sections.next()?.children();
    let nodes = nodes.filter(|it| it.has_tag_name("node") && it.attribute("type") != Some("ping"));
    let nodes = u16::try_from(nodes.count()).unwrap_or(u16::MAX);
    (nodes > 0).then_some(nodes)
}

/// A bundle whose replicas have addresses.
fn bundle(node: Node<'_, '_>) -> Option<Bundle> {
    let mut networks = node.children().filter(|it| it.has_tag_name("network"));
    Some(Bundle {
        id: node.attribute("id")?.into(),
        from: networks
            .find_map(|it| it.attribute("ip-range-start"))?
            .into(),
    })
}

/// What holds for resources or operations where nothing else is set. What goes by a rule is not judged.
fn add_defaults(all: &mut Configuration, document: &Document<'_>, section: Node<'_, '_>) {
    all.ruled_by_agent |= section.descendants().any(|it| is_rule_for_it(it));
    if section.has_tag_name("rsc_defaults") {
        let plain = sets(document, &[section], "meta_attributes");
        for set in plain.into_iter().filter(|set| !is_ruled(*set)) {
            add(&mut all.defaults, pairs_of(document, set));
        }
    }
}

/// Does it hold for IPaddr2 and not for its successor?
fn is_rule_for_it(node: Node<'_, '_>) -> bool {
    let is = |name, own| node.attribute(name).is_none_or(|asked| asked == own);
    let names_one = ["provider", "type"]
        .iter()
        .any(|name| node.has_attribute(*name));
    node.has_tag_name("rsc_expression")
        && names_one
        && is("class", "ocf")
        && is("provider", "heartbeat")
        && is("type", "IPaddr2")
}

/// What crm shell shows of it as it is, for it has no words for it.
pub(super) fn read_part(all: &mut Configuration, text: &str) {
    let Ok(document) = Document::parse(text) else {
        return;
    };
    all.bundles.extend(bundle(document.root_element()));
    all.rules.extend(rule(document.root_element()));
    all.ruled_by_agent |= document.descendants().any(|it| is_rule_for_it(it));
}

/// A primitive of IPaddr2's, with what is around it; or one of which nobody can tell.
fn address(all: &Document<'_>, primitive: Node<'_, '_>) -> Option<Address> {
    let named = primitive.attribute("template");
    let template = named.and_then(|id| with_id(all, "template", id));
    let missing = named.filter(|_| template.is_none());
    let agent = template.unwrap_or(primitive);
    let [class, provider, its_type] =
        ["class", "provider", "type"].map(|name| agent.attribute(name).unwrap_or_default());
    let name = format!("{class}:{provider}:{its_type}");
    if missing.is_none() && (class.is_empty() || !is_named(&name)) {
        return None;
    }
    let mut found = Address {
        id: primitive.attribute("id")?.into(),
        template: template.and_then(|it| it.attribute("id")).map(Into::into),
        missing: missing.map(Into::into),
        description: primitive.attribute("description").map(Into::into),
        ..Address::default()
    };
    // A template's sets are before those of the resource (`unpack_template()`).
    let places: Vec<_> = template.into_iter().chain([primitive]).collect();
    let unclear = &mut found.unclear;
    found.parameters = pairs(all, &places, "instance_attributes", unclear);
    found.meta = pairs(all, &places, "meta_attributes", unclear);
    found.utilization = pairs(all, &places, "utilization", unclear);
    for place in places.into_iter().rev() {
        let operations = operations(all, place, &mut found.unclear);
        add_operations(&mut found.operations, operations);
    }
    for around in primitive.ancestors().skip(1) {
        let unclear = &mut found.unclear;
        let id = around.attribute("id").map(Into::into);
        let mut told = Vec::new();
        let meta = pairs(all, &[around], "meta_attributes", &mut told);
        match around.tag_name().name() {
            "group" => found.group = id,
            "bundle" => found.bundle = id,
            "clone" | "master" => {
                unclear.extend(told);
                let others = around.descendants();
                let others = others.filter(|it| it.has_tag_name("primitive") && *it != primitive);
                found.clone = Some(CloneFound {
                    id: id?,
                    promotable: around.has_tag_name("master"),
                    meta: meta.clone(),
                    others: others
                        .filter_map(|it| it.attribute("id").map(Into::into))
                        .collect(),
                });
            }
            _ => continue,
        }
        let more = pairs(all, &[around], "instance_attributes", unclear);
        add(&mut found.around, more);
        add(&mut found.meta_around, meta);
    }
    Some(found)
}

/// The pairs of such sets of this resource.
fn pairs(
    all: &Document<'_>,
    places: &[Node<'_, '_>],
    name: &'static str,
    unclear: &mut Vec<String>,
) -> Pairs {
    let mut pairs = Pairs::new();
    for set in sets(all, places, name) {
        if is_ruled(set) {
            unclear.push(format!(
                "some of its {name} hold by a rule, so what it is depends on when and where"
            ));
        }
        add(&mut pairs, pairs_of(all, set));
    }
    pairs
}

fn is_ruled(set: Node<'_, '_>) -> bool {
    set.children().any(|it| it.has_tag_name("rule"))
}

fn pairs_of(all: &Document<'_>, set: Node<'_, '_>) -> Pairs {
    let found = set.children().filter(|it| it.has_tag_name("nvpair"));
    let found = found.map(|pair| referred(all, pair));
    let pair = |pair: Node<'_, '_>| {
        let (name, value) = (pair.attribute("name")?, pair.attribute("value")?);
        Some((name.into(), value.into()))
    };
    found.filter_map(pair).collect()
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
        let parameters = pairs(all, &[op], "instance_attributes", unclear);
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
        pattern: node.attribute("rsc-pattern").map(Into::into),
    })
}

/// A tag of the section `tags`.
fn tag(node: Node<'_, '_>) -> Option<Tag> {
    let of = node.children().filter(|it| it.has_tag_name("obj_ref"));
    let of = of.filter_map(|it| it.attribute("id"));
    Some(Tag {
        id: node.attribute("id")?.into(),
        of: of.map(Into::into).collect(),
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

    /// The only resource, of this text, with these around it.
    fn only(resources: &str) -> Address {
        let text =
            format!("<cib><configuration><resources>{resources}</resources></configuration></cib>");
        let mut all = read(&text).expect("a CIB").addresses;
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn words(pairs: &Pairs) -> String {
        let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    /// As `crm_resource --query-xml` of Pacemaker 2.1.5 shows it: by name and role, whatever the interval.
    #[test]
    fn operations_of_the_template_stay_unless_the_resource_has_them() {
        let found = only(
            r#"<template id="t" class="ocf" provider="heartbeat" type="IPaddr2"><operations>
              <op id="t1" name="monitor" interval="10s"/><op id="t2" name="monitor" interval="60s" role="Master"/>
              <op id="t3" name="start" interval="0" timeout="99s"/><op id="t4" name="monitor" interval="77s" role="Started"/>
              </operations></template>
            <primitive id="p" template="t"><operations><op id="p1" name="monitor" interval="33s"/>
              <op id="p2" name="stop" interval="0"/></operations></primitive>"#,
        );
        let told: Vec<String> = found
            .operations
            .iter()
            .map(|op| words(&op.attributes))
            .collect();
        assert_eq!(
            told,
            [
                "name=monitor interval=33s",
                "name=stop interval=0",
                "name=monitor interval=60s role=Master",
                "name=start interval=0 timeout=99s",
            ]
        );
    }

    /// As `crm_resource --get-parameter` of Pacemaker 2.1.5 says.
    #[test]
    fn of_several_sets_the_one_counts_that_counts_for_pacemaker() {
        let found = only(
            r#"<template id="t" class="ocf" provider="heartbeat" type="IPaddr2">
              <instance_attributes id="a"><nvpair id="1" name="ip" value="of the template"/>
                <nvpair id="2" name="nic" value="of the template"/></instance_attributes>
              <instance_attributes id="b" score="INFINITY"><nvpair id="3" name="mac" value="of the template"/>
              </instance_attributes></template>
            <clone id="c"><instance_attributes id="g"><nvpair id="4" name="both" value="of the clone"/>
                <nvpair id="5" name="arp_count" value="of the clone"/></instance_attributes>
              <group id="g"><instance_attributes id="h"><nvpair id="6" name="both" value="of the group"/></instance_attributes>
              <primitive id="p" template="t">
              <instance_attributes id="d"><nvpair id="7" name="ip" value="first"/><nvpair id="8" name="mac" value="first"/>
                </instance_attributes>
              <instance_attributes id="e" score="1"><nvpair id="9" name="iflabel" value="scored"/></instance_attributes>
              <instance_attributes id="f"><nvpair id="10" name="ip" value="last"/><nvpair id="11" name="iflabel" value="last"/>
                </instance_attributes></primitive></group></clone>"#,
        );
        for (name, value) in [
            ("ip", "last"),
            ("nic", "of the template"),
            ("mac", "of the template"),
            ("iflabel", "scored"),
            ("both", "of the group"),
            ("arp_count", "of the clone"),
        ] {
            assert_eq!(found.parameter(name), Some(value), "{name}");
        }
    }

    #[test]
    fn a_template_that_is_nowhere_is_told() {
        let found = only(r#"<clone id="c"><primitive id="p" template="t"/></clone>"#);
        assert_eq!(found.missing, Some("t".into()));
        assert!(found.clone.is_some());
    }

    #[test]
    fn bundles_are_known_with_what_is_in_them() {
        let bundle = r#"<bundle id="b"><podman image="x" replicas="2"/><network ip-range-start="10.0.0.1"/>AGENT</bundle>
            <bundle id="without"><podman image="x"/></bundle>"#;
        let cib = |agent: &str| {
            let resources = bundle.replace("AGENT", agent);
            let text = format!(
                "<cib><nodes><node id=\"1\"/></nodes><resources>{resources}</resources></cib>"
            );
            read(&text).expect("a CIB")
        };
        let all = cib(r#"<primitive id="web" class="ocf" provider="heartbeat" type="apache"/>"#);
        let expected = Bundle {
            id: "b".into(),
            from: "10.0.0.1".into(),
        };
        assert_eq!(
            (&all.bundles[..], all.addresses.len()),
            (&[expected][..], 0)
        );
        // The nodes in its containers count too.
        assert_eq!(all.nodes, None);
        let all = cib(r#"<primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2"/>"#);
        assert_eq!(all.addresses[0].bundle, Some("b".into()));
    }

    #[test]
    fn nodes_are_counted_where_all_are_of_the_cluster_itself() {
        let nodes = |more: &str| {
            let text = format!(
                "<cib><nodes><node id=\"1\"/><node id=\"2\"/><node id=\"3\" type=\"ping\"/></nodes><resources>{more}</resources></cib>"
            );
            read(&text).expect("a CIB").nodes
        };
        assert_eq!(nodes(""), Some(2));
        for more in [
            r#"<primitive id="r" class="ocf" provider="pacemaker" type="remote"/>"#,
            r#"<primitive id="v"><meta_attributes id="m"><nvpair id="n" name="remote-node" value="g"/></meta_attributes></primitive>"#,
        ] {
            assert_eq!(nodes(more), None, "{more}");
        }
    }

    #[test]
    fn defaults_hold_where_the_clone_says_nothing() {
        let text = r#"<cib><resources><clone id="c"><meta_attributes id="m"><nvpair id="1" name="clone-max" value="4"/>
            </meta_attributes><primitive id="p" class="ocf" provider="heartbeat" type="IPaddr2"/></clone></resources>
            <rsc_defaults><meta_attributes id="d"><nvpair id="2" name="interleave" value="true"/>
              <nvpair id="3" name="clone-max" value="9"/></meta_attributes>
            <meta_attributes id="e"><rule id="r"><rsc_expression id="x" type="IPaddr2"/></rule>
              <nvpair id="4" name="priority" value="1"/></meta_attributes></rsc_defaults></cib>"#;
        let all = read(text).expect("a CIB");
        let clone = all.addresses[0].clone.as_ref().expect("a clone");
        let of = |name| clone.meta(name);
        assert_eq!(
            (of("interleave"), of("clone-max")),
            (Some("true"), Some("4"))
        );
        assert_eq!(of("priority"), None, "it holds by a rule");
        assert!(all.ruled_by_agent);
        let other = read(&text.replace("type=\"IPaddr2\"/></rule>", "type=\"apache\"/></rule>"));
        assert!(!other.expect("a CIB").ruled_by_agent);
    }

    #[test]
    fn the_agent_is_known_with_a_double_colon_too() {
        let of = |class: &str| {
            let text = format!(
                "<cib><resources><primitive id=\"p\" class=\"{class}\" provider=\"heartbeat\" type=\"IPaddr2\"/></resources></cib>"
            );
            read(&text).expect("a CIB").addresses.len()
        };
        assert_eq!([of("ocf"), of("ocf:"), of("lsb"), of("")], [1, 1, 0, 0]);
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
