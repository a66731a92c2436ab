//! The shared addresses as the CIB has them: each primitive's parameters, wherever they stand, and the clone around
//! it. Pure. What of them runs where is `cluster`'s to say.

use crate::model::untrusted::Untrusted;
use roxmltree::{Document, Node};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is to be known of a primitive's parameters.
pub(super) struct Configured {
    pub(super) ip: Option<IpAddr>,
    pub(super) netns: Option<Untrusted>,
    pub(super) clone: Option<CloneOf>,
}

/// A clone as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneOf {
    /// Its name.
    pub id: Untrusted,
    /// Its `clone-max`; left out, it is the number of nodes, whatever that is.
    pub max: Option<u16>,
}

/// The parameters of each primitive of ours: its own, those of its template, and those of the clone or group
/// around it, in the order in which Pacemaker looks (`get_rsc_attributes()`). Rules in them are not judged.
pub(super) fn configured(resources: &Document<'_>) -> BTreeMap<String, Configured> {
    let primitives = resources.descendants();
    let primitives = primitives.filter(|node| node.has_tag_name("primitive"));
    primitives
        .filter_map(|primitive| {
            let template = primitive.attribute("template");
            let template = template.and_then(|id| with_id(resources, "template", id));
            // The agent stands in the template then.
            let agent = template.unwrap_or(primitive);
            let is = |name, value| agent.attribute(name) == Some(value);
            if !is("type", "ClusterIP") || !is("provider", "rust") {
                return None;
            }
            let around = primitive.ancestors().skip(1);
            let places: Vec<_> = [primitive]
                .into_iter()
                .chain(template)
                .chain(around)
                .collect();
            let parameter = |name| {
                let set = "instance_attributes";
                let places = places.iter();
                let mut found = places.filter_map(|place| value(resources, *place, set, name));
                // What is empty counts as not set, as for the agent.
                found
                    .next()
                    .map(str::trim)
                    .filter(|value| !value.is_empty())
            };
            let known = Configured {
                ip: parameter("ip").and_then(|ip| ip.parse().ok()),
                netns: parameter("network_namespace").map(Untrusted::from),
                clone: clone_around(resources, primitive),
            };
            Some((primitive.attribute("id")?.to_owned(), known))
        })
        .collect()
}

fn clone_around<'a, 'input>(
    all: &'a Document<'input>,
    primitive: Node<'a, 'input>,
) -> Option<CloneOf> {
    let mut around = primitive.ancestors().skip(1);
    let clone = around.find(|node| node.has_tag_name("clone") || node.has_tag_name("master"))?;
    let max = value(all, clone, "meta_attributes", "clone-max");
    Some(CloneOf {
        id: clone.attribute("id")?.into(),
        max: max.and_then(|max| max.trim().parse().ok()),
    })
}

/// What stands under a name in such a set of this resource or template.
fn value<'a, 'input>(
    all: &'a Document<'input>,
    place: Node<'a, 'input>,
    set: &str,
    name: &str,
) -> Option<&'a str> {
    let sets = sets(all, &[place], set).into_iter();
    let pairs = sets.flat_map(|set| set.children());
    let mut pairs = pairs.filter(|node| node.has_tag_name("nvpair"));
    let pair = pairs.find(|pair| pair.attribute("name") == Some(name))?;
    referred(all, pair).attribute("value")
}

/// Such sets of these places, in the order in which the first one that has a value counts: by their scores, and the last
/// one first (`pcmk__unpack_nvpair_blocks()`).
pub(super) fn sets<'a, 'input>(
    all: &'a Document<'input>,
    places: &[Node<'a, 'input>],
    name: &str,
) -> Vec<Node<'a, 'input>> {
    let sets = places.iter().flat_map(|place| place.children());
    let sets = sets.filter(|node| node.has_tag_name(name));
    let mut sets: Vec<_> = sets.map(|set| referred(all, set)).collect();
    sets.reverse();
    sets.sort_by_key(|set| Reverse(score(set.attribute("score").unwrap_or_default())));
    sets
}

fn score(text: &str) -> i32 {
    match text.trim_start_matches('+') {
        "INFINITY" => i32::MAX,
        "-INFINITY" => i32::MIN,
        number => number.parse().unwrap_or(0),
    }
}

/// What stands elsewhere under another name, or the element itself.
pub(super) fn referred<'a, 'input>(
    all: &'a Document<'input>,
    node: Node<'a, 'input>,
) -> Node<'a, 'input> {
    let other = node.attribute("id-ref");
    let other = other.and_then(|id| with_id(all, node.tag_name().name(), id));
    other.unwrap_or(node)
}

pub(super) fn with_id<'a, 'input>(
    all: &'a Document<'input>,
    tag: &str,
    id: &str,
) -> Option<Node<'a, 'input>> {
    let mut nodes = all.descendants().filter(|node| node.has_tag_name(tag));
    nodes.find(|node| node.attribute("id") == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of `resIP`, the only one that is ours.
    fn of_res_ip(resources: &str) -> Configured {
        let resources = Document::parse(resources).expect("XML");
        let mut all = configured(&resources);
        assert!(all.keys().eq(["resIP"]));
        all.remove("resIP").expect("it")
    }

    #[test]
    fn parameters_are_found_wherever_pacemaker_looks_for_them() {
        let template = r#"<template id="tmpl" class="ocf" provider="rust" type="ClusterIP">
            <instance_attributes id="a"><nvpair id="b" name="ip" value="10.0.0.99"/>
            <nvpair id="e" name="network_namespace" value="web"/></instance_attributes></template>"#;
        let alone = r#"<primitive id="resIP" template="tmpl"/>"#;
        let own = r#"<primitive id="resIP" template="tmpl"><instance_attributes id="f">
            <nvpair id="g" name="ip" value="10.0.0.98"/></instance_attributes></primitive>"#;
        let agent = r#"<primitive id="resIP" class="ocf" provider="rust" type="ClusterIP">"#;
        let refers = format!("{agent}<instance_attributes id-ref=\"a\"/></primitive>");
        // The last of several sets counts, unless one has a higher score.
        let several = format!(
            r#"{agent}<instance_attributes id="f"><nvpair id="g" name="ip" value="10.0.0.95"/></instance_attributes>
            <instance_attributes id="h" score="1"><nvpair id="i" name="network_namespace" value="scored"/></instance_attributes>
            <instance_attributes id="j"><nvpair id="k" name="ip" value="10.0.0.96"/>
            <nvpair id="l" name="network_namespace" value="last"/></instance_attributes></primitive>"#
        );
        let clone = format!(
            r#"<instance_attributes id="f"><nvpair id="g" name="ip" value="10.0.0.97"/>
            </instance_attributes>{agent}</primitive>"#
        );
        for (within, ip, netns) in [
            (alone, "10.0.0.99", Some("web")),
            (own, "10.0.0.98", Some("web")),
            (&refers, "10.0.0.99", Some("web")),
            (&several, "10.0.0.96", Some("scored")),
            (&clone, "10.0.0.97", None),
        ] {
            let resources =
                format!("<resources>{template}<clone id=\"cloneIP\">{within}</clone></resources>");
            let known = of_res_ip(&resources);
            assert_eq!(known.ip, ip.parse().ok(), "{within}");
            assert_eq!(known.netns, netns.map(Untrusted::from), "{within}");
        }
    }

    #[test]
    fn an_empty_parameter_is_not_set() {
        let resources = r#"<resources><primitive id="resIP" class="ocf" provider="rust" type="ClusterIP">
            <instance_attributes id="a"><nvpair id="b" name="ip" value="10.0.0.99"/>
            <nvpair id="e" name="network_namespace" value=" "/></instance_attributes></primitive></resources>"#;
        let known = of_res_ip(resources);
        assert_eq!((known.ip.is_some(), known.netns), (true, None));
    }
}
