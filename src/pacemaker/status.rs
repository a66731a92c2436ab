//! The status section of the CIB: the nodes in it, and what they have done. Pure.

use roxmltree::{Document, Node};

/// What is known of each node.
pub(super) fn states<'a, 'input>(
    status: &'a Document<'input>,
) -> impl Iterator<Item = Node<'a, 'input>> {
    let states = status.descendants();
    states.filter(|node| node.has_tag_name("node_state"))
}

/// Is it an operation that was done once? One that recurs, and a failure that is remembered beside it, are of long
/// ago.
pub(super) fn was_done_once(node: &Node<'_, '_>) -> bool {
    let is_failure = || {
        node.attribute("id")
            .is_some_and(|id| id.contains("_last_failure_"))
    };
    let recurs = || number(*node, "interval").is_some_and(|interval| interval != 0);
    node.has_tag_name("lrm_rsc_op") && !recurs() && !is_failure()
}

pub(super) fn number(node: Node<'_, '_>, name: &str) -> Option<u64> {
    node.attribute(name)?.parse().ok()
}
