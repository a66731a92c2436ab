//! Is anything in the cluster more pressing than the connections that a gate waits for? Pure.
//!
//! Pacemaker's controller begins a new transition only when every action of the old one has ended
//! (`pcmk_graph_consumer.c`, `pcmk__execute_graph()`: complete when nothing is pending). A gate that
//! waits is such an action: until it has ended nobody is fenced, nothing is recovered, and a standby
//! that was taken back stays.

use super::cluster::ClusterError;
use roxmltree::{Document, Node};
use std::collections::BTreeSet;
use std::fmt;

/// What has happened since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pressing {
    /// This node is no longer to be on standby; then its service goes on.
    TakenBack,
    /// A node is to be fenced, or has vanished.
    Lost(String),
    /// An operation failed.
    Failed {
        /// It, such as `web_monitor_20000`.
        operation: String,
        /// Where.
        node: String,
    },
}

impl fmt::Display for Pressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pressing::TakenBack => f.write_str("the standby was taken back"),
            Pressing::Lost(node) => write!(f, "{node} is lost"),
            Pressing::Failed { operation, node } => write!(f, "{operation} failed on {node}"),
        }
    }
}

/// What presses at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    standby: BTreeSet<String>,
    lost: BTreeSet<String>,
    /// Operation, node, and which failure it is.
    failures: BTreeSet<(String, String, [String; 2])>,
}

impl Moment {
    /// From the answer to [`Query::Placement`](super::query::Query).
    ///
    /// # Errors
    /// [`ClusterError`] for what is no XML.
    pub fn read(placement: &str) -> Result<Self, ClusterError> {
        let document = Document::parse(placement)?;
        let with = |tag: &'static str, attribute: &'static str| {
            let all = document.descendants();
            all.filter(move |node| node.has_tag_name(tag) && node.has_attribute(attribute))
        };
        let named = |which: fn(Node<'_, '_>) -> bool| {
            let nodes = with("node", "online").filter(|node| which(*node));
            nodes.map(|node| text(node, "name")).collect()
        };
        let failures = with("failure", "op_key").map(|failure| {
            let which = ["call", "last-rc-change"].map(|name| text(failure, name));
            (text(failure, "op_key"), text(failure, "node"), which)
        });
        Ok(Moment {
            standby: named(|node| is(node, "standby")),
            lost: named(is_lost),
            failures: failures.collect(),
        })
    }

    /// What has become pressing since `before`, for the gate of the node `own`.
    pub fn pressing(&self, before: &Moment, own: &str) -> Option<Pressing> {
        if before.standby.contains(own) && !self.standby.contains(own) && !self.lost.contains(own) {
            return Some(Pressing::TakenBack);
        }
        if let Some(node) = self.lost.difference(&before.lost).next() {
            return Some(Pressing::Lost(node.clone()));
        }
        let mut failures = self.failures.difference(&before.failures);
        let (operation, node, _) = failures.next()?.clone();
        Some(Pressing::Failed { operation, node })
    }
}

fn text(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.attribute(name) == Some("true")
}

/// A node that left in order is expected to be away, and nothing of it waits to be recovered.
fn is_lost(node: Node<'_, '_>) -> bool {
    is(node, "unclean") || (!is(node, "online") && is(node, "expected_up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, online: bool, others: &str) -> String {
        format!("<node name=\"{name}\" online=\"{online}\" {others}/>")
    }

    const UP: &str = "expected_up=\"true\"";
    const FAILURE: &str = "<failure op_key=\"web_monitor_20000\" node=\"n2\" call=\"30\" \
                           last-rc-change=\"2026-01-01 10:00:00\"/>";

    fn moment(n1: &str, n2: &str, failures: &str) -> Moment {
        let text = format!("<a><nodes>{n1}{n2}</nodes><failures>{failures}</failures></a>");
        Moment::read(&text).expect("XML")
    }

    fn on_standby() -> String {
        node("n1", true, "expected_up=\"true\" standby=\"true\"")
    }

    #[test]
    fn nothing_presses_when_nothing_happens_or_a_node_leaves_in_order() {
        let before = moment(&on_standby(), &node("n2", true, UP), FAILURE);
        assert_eq!(before.pressing(&before, "n1"), None);
        let left = node("n2", false, "expected_up=\"false\" unclean=\"false\"");
        let now = moment(&on_standby(), &left, FAILURE);
        assert_eq!(now.pressing(&before, "n1"), None);
        // It went on standby too.
        let both = node("n2", true, "standby=\"true\"");
        assert_eq!(
            moment(&on_standby(), &both, "").pressing(&before, "n1"),
            None
        );
        // And was taken back, which is not this gate's affair.
        let now = moment(&on_standby(), &node("n2", true, UP), "");
        assert_eq!(now.pressing(&moment(&on_standby(), &both, ""), "n1"), None);
    }

    #[test]
    fn a_node_that_is_lost_presses_whether_there_is_fencing_or_not() {
        let before = moment(&on_standby(), &node("n2", true, UP), "");
        for lost in [
            node("n2", false, UP),
            node("n2", false, "unclean=\"true\""),
            // A stop failed.
            node("n2", true, "unclean=\"true\""),
        ] {
            let now = moment(&on_standby(), &lost, "");
            let pressing = Some(Pressing::Lost("n2".to_owned()));
            assert_eq!(now.pressing(&before, "n1"), pressing, "{lost}");
            // Known before: the transition in which the gate waits has it recovered.
            assert_eq!(now.pressing(&now, "n1"), None);
        }
    }

    #[test]
    fn a_standby_that_is_taken_back_and_a_failure_that_is_new_press() {
        let other = node("n2", true, UP);
        let before = moment(&on_standby(), &other, FAILURE);
        let back = moment(&node("n1", true, UP), &other, FAILURE);
        assert_eq!(back.pressing(&before, "n1"), Some(Pressing::TakenBack));
        let again = FAILURE.replace("30", "31");
        let now = moment(&on_standby(), &other, &(FAILURE.to_owned() + &again));
        let pressing = now.pressing(&before, "n1").map(|it| it.to_string());
        assert_eq!(pressing.as_deref(), Some("web_monitor_20000 failed on n2"));
        // Somebody cleaned up.
        assert_eq!(
            moment(&on_standby(), &other, "").pressing(&before, "n1"),
            None
        );
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        assert!(Moment::read("").is_err());
        assert_eq!(Moment::read("<a/>").expect("XML"), Moment::default());
    }
}
