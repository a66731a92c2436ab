//! Who still drains a bucket, told by the history of operations in the CIB's status section. Pure.
//!
//! A node drains the connections of an instance that it has stopped, until `drain_timeout` is over. It
//! does so while its kernel runs: as a member of the cluster, or after its cluster stack was stopped
//! in order (then it is `expected="down"`). A node that was fenced has no history any more; one that
//! vanished is still expected to be there. Clone notifications cannot tell these apart.
//!
//! When a stack comes back, or somebody refreshes the resource, Pacemaker forgets what the node did
//! and probes it anew. So a probe that finds a bucket that drains says until when, in its exit reason.
//! Until a living node was probed nothing is known of it.
//!
//! The times are whole seconds of the clock of the node that stopped; nodes of a cluster keep the
//! same time.

use roxmltree::{Document, Node};

/// What a probe says of a bucket that drains.
pub fn drains_until(until_s: u64) -> String {
    format!("{DRAINS_UNTIL}{until_s}{SINCE_1970}")
}

const DRAINS_UNTIL: &str = "not running, but its connections stay until ";
const SINCE_1970: &str = " (seconds since 1970)";

/// When that is.
fn said_until(reason: &str) -> Option<u64> {
    let text = reason.strip_prefix(DRAINS_UNTIL)?;
    text.strip_suffix(SINCE_1970)?.parse().ok()
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The instance, such as `resIP:3`.
    pub instance: &'a str,
    /// The node that asks: what it drained itself it has.
    pub node: &'a str,
    /// For how many seconds connections may stay.
    pub drain_s: u32,
    /// The time, in seconds since 1970.
    pub now_s: u64,
}

/// The history cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("Pacemaker's status cannot be read: {0}")]
pub struct HistoryError(#[from] roxmltree::Error);

/// Who drains the instance's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drained {
    /// No other node.
    ByNobody,
    /// Perhaps one: it is a member, but Pacemaker has still to ask it.
    NotYetKnown,
    /// One does, for so many seconds at most.
    For(u32),
}

/// Whether some other node drains the instance's bucket.
///
/// # Errors
/// [`HistoryError`] for what is no XML.
pub fn drained(status: &str, question: Question<'_>) -> Result<Drained, HistoryError> {
    let document = Document::parse(status)?;
    let nodes = document
        .descendants()
        .filter(|node| node.has_tag_name("node_state"))
        .filter(|node| node.attribute("uname") != Some(question.node));
    let told = nodes.filter_map(|node| by(node, question));
    Ok(told.max().unwrap_or(Drained::ByNobody))
}

/// What is known of a node; `None` if its kernel does not run, as far as the cluster knows.
fn by(state: Node<'_, '_>, question: Question<'_>) -> Option<Drained> {
    let is = |name, value: &str| state.attribute(name) == Some(value);
    // From Pacemaker 2.1.7 on both can be a time, of which 0 means no.
    let crmd = state.attribute("crmd").unwrap_or_default();
    let online = crmd == "online" || crmd.parse::<u64>().is_ok_and(|since| since > 0);
    // Pacemaker Remote has neither.
    let remote = is("remote_node", "true") && is("in_ccm", "true");
    let member = online || remote;
    if !member && !is("expected", "down") {
        return None;
    }
    let mut resources = state
        .descendants()
        .filter(|node| node.has_tag_name("lrm_resource"));
    let found = resources.find(|node| node.attribute("id") == Some(question.instance));
    match found.and_then(last_operation) {
        Some(operation) if !is_pending(operation) => Some(told_by(operation, question)),
        _ if member => Some(Drained::NotYetKnown),
        _ => None,
    }
}

/// Of all but recurring operations the last one is kept; what came after a stop undoes it.
fn last_operation<'a, 'input>(resource: Node<'a, 'input>) -> Option<Node<'a, 'input>> {
    resource
        .children()
        .filter(|node| node.has_tag_name("lrm_rsc_op"))
        .filter(|node| number(*node, "interval").unwrap_or_default() == 0)
        .filter(|node| {
            let id = node.attribute("id").unwrap_or_default();
            !id.contains("_last_failure_")
        })
        .max_by_key(|node| number(*node, "call-id"))
}

fn number(node: Node<'_, '_>, name: &str) -> Option<u64> {
    node.attribute(name)?.parse().ok()
}

/// Is it under way?
fn is_pending(operation: Node<'_, '_>) -> bool {
    operation.attribute("op-status") == Some("-1")
}

/// What the last operation of a node tells.
fn told_by(operation: Node<'_, '_>, question: Question<'_>) -> Drained {
    let code = operation.attribute("rc-code");
    let until = match (operation.attribute("operation"), code) {
        (Some("stop"), Some("0")) => {
            let stopped = number(operation, "last-rc-change");
            // A clock that is ahead is no reason to wait longer.
            stopped.map(|at| at.min(question.now_s) + u64::from(question.drain_s))
        }
        (Some("monitor"), Some("7")) => operation.attribute("exit-reason").and_then(said_until),
        _ => None,
    };
    let left = until.map(|until| until.saturating_sub(question.now_s));
    match left.and_then(|left| u32::try_from(left).ok()) {
        None | Some(0) => Drained::ByNobody,
        Some(left) => Drained::For(left.min(question.drain_s)),
    }
}

#[cfg(test)]
mod tests {
    use super::Drained::*;
    use super::*;

    const NOW: u64 = 1_000_000;

    fn status(nodes: &[(&str, &str, &str)]) -> String {
        let states = nodes.iter().map(|(name, state, operations)| {
            format!(
                "<node_state id=\"1\" uname=\"{name}\" {state}><lrm id=\"1\"><lrm_resources>\
                 <lrm_resource id=\"resIP:3\" class=\"ocf\">{operations}</lrm_resource>\
                 </lrm_resources></lrm></node_state>"
            )
        });
        format!("<status>{}</status>", states.collect::<String>())
    }

    fn operation(what: &str, call: u32, rc: u32, age: u64) -> String {
        format!(
            "<lrm_rsc_op id=\"resIP:3_last_0\" operation=\"{what}\" call-id=\"{call}\" \
             rc-code=\"{rc}\" interval=\"0\" last-rc-change=\"{}\"/>",
            NOW - age
        )
    }

    fn asked(status: &str) -> Drained {
        let question = Question {
            instance: "resIP:3",
            node: "n1",
            drain_s: 300,
            now_s: NOW,
        };
        drained(status, question).expect("XML")
    }

    #[test]
    fn a_remote_node_drains_as_well() {
        let stop = operation("stop", 7, 0, 20);
        for (state, expected) in [
            ("remote_node=\"true\" in_ccm=\"true\"", For(280)),
            ("remote_node=\"true\" in_ccm=\"false\"", ByNobody),
        ] {
            assert_eq!(asked(&status(&[("n2", state, &stop)])), expected, "{state}");
        }
    }

    const ONLINE: &str = "crmd=\"online\" in_ccm=\"true\" expected=\"member\"";
    const LEFT: &str = "crmd=\"offline\" in_ccm=\"false\" expected=\"down\"";
    const VANISHED: &str = "crmd=\"offline\" in_ccm=\"false\" expected=\"member\"";

    #[test]
    fn who_stopped_it_lately_and_lives_drains_it() {
        let stop = operation("stop", 7, 0, 20);
        for (state, expected) in [(ONLINE, For(280)), (LEFT, For(280)), (VANISHED, ByNobody)] {
            assert_eq!(asked(&status(&[("n2", state, &stop)])), expected, "{state}");
        }
        // Pacemaker 2.1.7 and later say since when.
        let since = "crmd=\"1700000000\" in_ccm=\"1700000000\" expected=\"member\"";
        assert_eq!(asked(&status(&[("n2", since, &stop)])), For(280));
        let never = "crmd=\"0\" in_ccm=\"0\" expected=\"member\"";
        assert_eq!(asked(&status(&[("n2", never, &stop)])), ByNobody);
    }

    #[test]
    fn what_is_over_or_undone_or_ones_own_is_nobodys() {
        let none = [
            ("n2", operation("stop", 7, 0, 300)),
            ("n2", operation("stop", 7, 1, 20)),
            ("n2", operation("start", 7, 0, 20)),
            (
                "n2",
                operation("stop", 7, 0, 20) + &operation("start", 8, 0, 10),
            ),
            ("n2", operation("monitor", 7, 7, 20)),
            ("n1", operation("stop", 7, 0, 20)),
        ];
        for (node, operations) in none {
            assert_eq!(
                asked(&status(&[(node, ONLINE, &operations)])),
                ByNobody,
                "{operations}"
            );
        }
    }

    #[test]
    fn of_a_member_that_was_not_asked_yet_nothing_is_known() {
        let other = operation("stop", 7, 0, 20);
        let of_another = |state| status(&[("n2", state, &other)]).replace("resIP:3", "resIP:33");
        assert_eq!(asked(&of_another(ONLINE)), NotYetKnown);
        assert_eq!(asked(&of_another(LEFT)), ByNobody);
        assert_eq!(asked(&of_another(VANISHED)), ByNobody);
        let pending = "<lrm_rsc_op id=\"resIP:3_last_0\" operation=\"monitor\" call-id=\"-1\" \
                       rc-code=\"193\" op-status=\"-1\" interval=\"0\"/>";
        assert_eq!(asked(&status(&[("n2", ONLINE, pending)])), NotYetKnown);
        // Whoever drains for certain counts more.
        let two = status(&[("n2", ONLINE, pending), ("n3", ONLINE, &other)]);
        assert_eq!(asked(&two), For(280));
    }

    #[test]
    fn a_probe_says_until_when_a_bucket_drains() {
        let probe = |until| {
            let reason = format!("exit-reason=\"{}\" rc-code=", drains_until(until));
            let probe = operation("monitor", 9, 7, 5).replace("rc-code=", &reason);
            asked(&status(&[("n2", ONLINE, &probe)]))
        };
        assert_eq!(probe(NOW + 100), For(100));
        assert_eq!(probe(NOW + 1000), For(300));
        assert_eq!(probe(NOW), ByNobody);
        // Pacemaker keeps 128 bytes.
        assert!(drains_until(u64::MAX).len() <= 128);
    }

    #[test]
    fn of_several_the_last_to_end_counts() {
        let stops = [operation("stop", 7, 0, 200), operation("stop", 3, 0, 50)];
        let two = status(&[("n2", ONLINE, &stops[0]), ("n3", LEFT, &stops[1])]);
        assert_eq!(asked(&two), For(250));
    }

    #[test]
    fn a_clock_that_is_ahead_is_no_reason_to_wait_longer() {
        let ahead = operation("stop", 7, 0, 0).replace(&NOW.to_string(), &(NOW + 50).to_string());
        assert_eq!(asked(&status(&[("n2", ONLINE, &ahead)])), For(300));
        assert!(
            drained(
                "no XML",
                Question {
                    instance: "",
                    node: "",
                    drain_s: 1,
                    now_s: 1
                }
            )
            .is_err()
        );
    }
}
