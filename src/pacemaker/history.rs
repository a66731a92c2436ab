//! Who still drains a bucket, told by the history of operations in the CIB's status section. Pure.
//!
//! A node drains the connections of an instance that it has stopped, until `drain_timeout` is over. It
//! does so while its kernel runs: as a member of the cluster, or after its cluster stack was stopped
//! in order (then it is `expected="down"`). A node that was fenced has no history any more; one that
//! vanished is still expected to be there. Clone notifications cannot tell these apart.
//!
//! The times are whole seconds of the clock of the node that stopped; nodes of a cluster keep the
//! same time.

use roxmltree::{Document, Node};

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

/// For how many seconds some other node may go on draining the instance's bucket; `None` if nobody
/// does.
///
/// # Errors
/// [`HistoryError`] for what is no XML.
pub fn drained_for(status: &str, question: Question<'_>) -> Result<Option<u32>, HistoryError> {
    let document = Document::parse(status)?;
    let nodes = document
        .descendants()
        .filter(|node| node.has_tag_name("node_state"))
        .filter(|node| node.attribute("uname") != Some(question.node))
        .filter(|node| lives(*node));
    let resources = nodes
        .flat_map(|node| node.descendants())
        .filter(|node| node.has_tag_name("lrm_resource"))
        .filter(|node| node.attribute("id") == Some(question.instance));
    Ok(resources
        .filter_map(|resource| left(resource, question))
        .max())
}

/// Does the node's kernel run, as far as the cluster knows?
fn lives(state: Node<'_, '_>) -> bool {
    let is = |name, value: &str| state.attribute(name) == Some(value);
    // From Pacemaker 2.1.7 on both can be a time, of which 0 means no.
    let crmd = state.attribute("crmd").unwrap_or_default();
    let online = crmd == "online" || crmd.parse::<u64>().is_ok_and(|since| since > 0);
    // Pacemaker Remote has neither.
    let remote = is("remote_node", "true") && is("in_ccm", "true");
    online || remote || is("expected", "down")
}

/// For how long the node that did these operations drains, if it does.
fn left(resource: Node<'_, '_>, question: Question<'_>) -> Option<u32> {
    let number = |node: Node<'_, '_>, name| node.attribute(name)?.parse::<u64>().ok();
    // Of all but recurring operations the last one is kept; what came after a stop undoes it.
    let last = resource
        .children()
        .filter(|node| node.has_tag_name("lrm_rsc_op"))
        .filter(|node| number(*node, "interval").unwrap_or_default() == 0)
        .filter(|node| {
            !node
                .attribute("id")
                .unwrap_or_default()
                .contains("_last_failure_")
        })
        .max_by_key(|node| number(*node, "call-id"))?;
    let stopped =
        last.attribute("operation") == Some("stop") && last.attribute("rc-code") == Some("0");
    let age = question
        .now_s
        .saturating_sub(number(last, "last-rc-change")?);
    let age = u32::try_from(age).ok()?;
    (stopped && age < question.drain_s).then(|| question.drain_s - age)
}

#[cfg(test)]
mod tests {
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

    fn asked(status: &str) -> Option<u32> {
        let question = Question {
            instance: "resIP:3",
            node: "n1",
            drain_s: 300,
            now_s: NOW,
        };
        drained_for(status, question).expect("XML")
    }

    #[test]
    fn a_remote_node_drains_as_well() {
        let stop = operation("stop", 7, 0, 20);
        for (state, expected) in [
            ("remote_node=\"true\" in_ccm=\"true\"", Some(280)),
            ("remote_node=\"true\" in_ccm=\"false\"", None),
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
        for (state, expected) in [(ONLINE, Some(280)), (LEFT, Some(280)), (VANISHED, None)] {
            assert_eq!(asked(&status(&[("n2", state, &stop)])), expected, "{state}");
        }
        // Pacemaker 2.1.7 and later say since when.
        let since = "crmd=\"1700000000\" in_ccm=\"1700000000\" expected=\"member\"";
        assert_eq!(asked(&status(&[("n2", since, &stop)])), Some(280));
        let never = "crmd=\"0\" in_ccm=\"0\" expected=\"member\"";
        assert_eq!(asked(&status(&[("n2", never, &stop)])), None);
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
                None,
                "{operations}"
            );
        }
        // Another instance's.
        let other = status(&[("n2", ONLINE, &operation("stop", 7, 0, 20))]);
        assert_eq!(asked(&other.replace("resIP:3", "resIP:33")), None);
    }

    #[test]
    fn of_several_the_last_to_end_counts() {
        let stops = [operation("stop", 7, 0, 200), operation("stop", 3, 0, 50)];
        let two = status(&[("n2", ONLINE, &stops[0]), ("n3", LEFT, &stops[1])]);
        assert_eq!(asked(&two), Some(250));
    }

    #[test]
    fn a_clock_that_is_ahead_is_no_reason_to_wait_longer() {
        let ahead = operation("stop", 7, 0, 0).replace(&NOW.to_string(), &(NOW + 50).to_string());
        assert_eq!(asked(&status(&[("n2", ONLINE, &ahead)])), Some(300));
        assert!(
            drained_for(
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
