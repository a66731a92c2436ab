//! Who still drains a bucket, told by the history of operations in the CIB's status section. Pure.
//!
//! A node drains the connections of an instance that it has stopped, until `drain_timeout` is over. It
//! does so while its kernel runs: as a member of the cluster, or after its cluster stack was stopped
//! in order (then it is `expected="down"`). A node that was fenced has no history any more; one that
//! vanished is still expected to be there. Clone notifications cannot tell these apart.
//!
//! When a stack comes back, or somebody refreshes the resource, Pacemaker forgets what the node did
//! and probes it anew. A probe cannot say that its kernel drains (of what was expected Pacemaker keeps
//! no exit reason), so a probe that came after this node had the bucket counts like a stop: whoever
//! drained it then may do so still. Until a living node was probed nothing is known of it.
//!
//! Every node has its own copy of the CIB, and may hear late of what others did, or have lost it all when
//! its CIB manager is a new one. Changes reach all copies in the same order, and what a node was told to
//! start has been stopped elsewhere before: so a copy that shows this node's own start, be it under way,
//! shows that stop too, and any other copy tells nothing. Nor does one in which the instance still runs on
//! another node as well.
//!
//! The times are whole seconds of the clock of the node that stopped. Nodes of a cluster should keep the same
//! time; where they do not, `clocks` tells by how much one that is behind stopped later than it says.

use super::clocks::Clocks;
use super::status::{number, states, was_done_once};
use crate::model::untrusted::shown;
use roxmltree::{Document, Node};

/// Is it drained elsewhere? What is asked about an instance.
#[derive(Debug, Clone, Copy)]
pub struct DrainedElsewhere<'a> {
    /// The instance, such as `resIP:3`.
    pub instance: &'a str,
    /// The node that asks: what it drained itself it has.
    pub node: &'a str,
    /// For how many seconds connections may stay.
    pub drain_s: u32,
    /// The time, in seconds since 1970.
    pub now_s: u64,
    /// Since when this node has the bucket, likewise; rather too early than too late.
    pub since_s: u64,
    /// What is known of the other nodes' clocks.
    pub clocks: &'a Clocks,
}

/// The history cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("Pacemaker's status cannot be read: {}", shown(&.0.to_string()))]
pub struct HistoryError(#[from] roxmltree::Error);

/// Who drains the instance's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drained {
    /// No other node.
    ByNobody,
    /// The answer is older than this node's start, and may be older than the stop elsewhere too.
    Outdated,
    /// Perhaps one: Pacemaker has still to ask it, or says that it has the bucket.
    NotYetKnown,
    /// One does, for so many seconds at most.
    For(u32),
}

/// What the nodes have done.
pub struct History<'a>(Document<'a>);

impl<'a> History<'a> {
    /// From the answer to [`Query::Status`](super::query::Query).
    ///
    /// # Errors
    /// [`HistoryError`] for what is no XML.
    pub fn read(status: &'a str) -> Result<Self, HistoryError> {
        Ok(History(Document::parse(status)?))
    }

    /// What is known of the clocks of the other nodes.
    pub fn clocks(&self, own: &str) -> Clocks {
        Clocks::told(&self.0, own)
    }

    /// Whether some other node drains the instance's bucket.
    pub fn drained(&self, about: DrainedElsewhere<'_>) -> Drained {
        let (own, others): (Vec<_>, Vec<_>) =
            states(&self.0).partition(|node| node.attribute("uname") == Some(about.node));
        let own = own.first().and_then(|own| operation(*own, about));
        if !own.is_some_and(has_it) {
            return Drained::Outdated;
        }
        let told = others.into_iter().filter_map(|node| by(node, about));
        told.max().unwrap_or(Drained::ByNobody)
    }
}

/// Has a node the instance after its last operation, or will it soon? A probe that found it there counts; a
/// reload is recorded as a start (`pcmk__create_history_xml()`).
fn has_it(last: Node<'_, '_>) -> bool {
    let done = last.attribute("rc-code") == Some("0");
    match last.attribute("operation") {
        Some("start") => done || is_pending(last),
        Some("monitor") => done,
        _ => false,
    }
}

/// What is known of a node; `None` if its kernel does not run, as far as the cluster knows.
fn by(state: Node<'_, '_>, about: DrainedElsewhere<'_>) -> Option<Drained> {
    let is = |name, value: &str| state.attribute(name) == Some(value);
    // From Pacemaker 2.1.7 on it can be a time, of which 0 means no.
    let since = |name| number(state, name).is_some_and(|since| since > 0);
    // Pacemaker Remote has no controller and is not expected.
    let remote = is("remote_node", "true") && (is("in_ccm", "true") || since("in_ccm"));
    let member = is("crmd", "online") || since("crmd") || remote;
    if !member && !is("expected", "down") {
        return None;
    }
    match operation(state, about) {
        // Both cannot have it: what became of it there has been lost, or is on its way.
        Some(operation) if has_it(operation) => Some(Drained::NotYetKnown),
        Some(operation) if !is_pending(operation) => {
            let name = state.attribute("uname").unwrap_or_default();
            let behind_s = about.clocks.of(name).behind_s;
            Some(told_by(operation, about, behind_s))
        }
        // The node of a bundle is never asked about what does not run in it.
        _ if remote && !knows_any(state, about) => None,
        _ if member => Some(Drained::NotYetKnown),
        _ => None,
    }
}

/// Has a node been asked about any instance of the resource?
fn knows_any(state: Node<'_, '_>, about: DrainedElsewhere<'_>) -> bool {
    let Some((resource, _)) = about.instance.rsplit_once(':') else {
        return true;
    };
    let mut resources = state
        .descendants()
        .filter(|node| node.has_tag_name("lrm_resource"))
        .filter_map(|node| node.attribute("id"));
    resources.any(|id| id.rsplit_once(':').is_some_and(|(of, _)| of == resource))
}

/// The last operation of the instance on a node. Of all but recurring operations the last one is kept;
/// what came after a stop undoes it.
fn operation<'a, 'input>(
    state: Node<'a, 'input>,
    about: DrainedElsewhere<'_>,
) -> Option<Node<'a, 'input>> {
    let mut resources = state
        .descendants()
        .filter(|node| node.has_tag_name("lrm_resource"));
    resources
        .find(|node| node.attribute("id") == Some(about.instance))?
        .children()
        .filter(was_done_once)
        .max_by_key(|node| number(*node, "call-id"))
}

/// Is it under way?
fn is_pending(operation: Node<'_, '_>) -> bool {
    operation.attribute("op-status") == Some("-1")
}

/// What the last operation of a node tells.
fn told_by(operation: Node<'_, '_>, about: DrainedElsewhere<'_>, behind_s: u64) -> Drained {
    let at = number(operation, "last-rc-change").map(|at| at.saturating_add(behind_s));
    let drains_from = at.filter(|at| {
        let code = operation.attribute("rc-code");
        match operation.attribute("operation") {
            Some("stop") => code == Some("0"),
            Some("monitor") => code == Some("7") && *at >= about.since_s,
            _ => false,
        }
    });
    // A clock that is ahead is no reason to wait longer.
    let until = drains_from.map(|at| at.min(about.now_s) + u64::from(about.drain_s));
    let left = until.map(|until| until.saturating_sub(about.now_s));
    match left.and_then(|left| u32::try_from(left).ok()) {
        None | Some(0) => Drained::ByNobody,
        Some(left) => Drained::For(left),
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

    /// Asked by n1, which has just started the instance if the status says nothing of it.
    fn asked(status: &str) -> Drained {
        if status.contains("uname=\"n1\"") {
            return asked_since(status, 0);
        }
        let start = operation("start", 9, 0, 0);
        let own = self::status(&[("n1", ONLINE, &start)]).replace("<status>", "");
        asked_since(&status.replace("</status>", &own), 0)
    }

    /// Asked by n1, which has had it for so many seconds.
    fn asked_since(status: &str, age: u64) -> Drained {
        let history = History::read(status).expect("XML");
        let about = DrainedElsewhere {
            instance: "resIP:3",
            node: "n1",
            drain_s: 300,
            now_s: NOW,
            since_s: NOW - age,
            clocks: &history.clocks("n1"),
        };
        history.drained(about)
    }

    #[test]
    fn a_remote_node_drains_as_well() {
        let stop = operation("stop", 7, 0, 20);
        for (state, expected) in [
            ("remote_node=\"true\" in_ccm=\"true\"", For(280)),
            ("remote_node=\"true\" in_ccm=\"false\"", ByNobody),
            ("remote_node=\"true\" in_ccm=\"1700000000\"", For(280)),
            ("remote_node=\"true\" in_ccm=\"0\"", ByNobody),
        ] {
            assert_eq!(asked(&status(&[("n2", state, &stop)])), expected, "{state}");
        }
    }

    const ONLINE: &str = "crmd=\"online\" in_ccm=\"true\" expected=\"member\"";
    const LEFT: &str = "crmd=\"offline\" in_ccm=\"false\" expected=\"down\"";
    const VANISHED: &str = "crmd=\"offline\" in_ccm=\"false\" expected=\"member\"";

    #[test]
    fn the_node_of_a_bundle_is_not_waited_for() {
        let bundle = "remote_node=\"true\" in_ccm=\"true\"";
        let other = status(&[("httpd-0", bundle, "")]).replace("resIP:3", "httpd");
        assert_eq!(asked(&other), ByNobody);
        // A remote node that was asked about others of the clone will be about this one.
        let some = status(&[("r1", bundle, "")]).replace("resIP:3", "resIP:4");
        assert_eq!(asked(&some), NotYetKnown);
    }

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
            ("n2", operation("start", 7, 1, 20)),
            (
                "n2",
                operation("stop", 7, 0, 20) + &operation("start", 8, 1, 10),
            ),
            ("n2", operation("monitor", 7, 7, 20)),
            // Its own, from before it came back.
            (
                "n1",
                operation("stop", 7, 0, 20) + &operation("start", 8, 0, 10),
            ),
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
    fn an_answer_that_is_older_than_the_own_start_tells_nothing() {
        let pending =
            |what| operation(what, 9, 193, 0).replace("interval", "op-status=\"-1\" interval");
        let older = [
            "",
            &operation("stop", 5, 0, 30),
            &operation("monitor", 5, 7, 30),
            &operation("start", 5, 1, 30),
            &pending("stop"),
            &pending("monitor"),
        ];
        for own in older {
            // It is not known yet that the other stopped it, nor that it will drain.
            let other = operation("start", 7, 0, 20);
            let told = asked(&status(&[("n1", ONLINE, own), ("n2", ONLINE, &other)]));
            assert_eq!(told, Outdated, "{own}");
        }
        for own in [
            pending("start"),
            operation("start", 9, 0, 1),
            operation("monitor", 9, 0, 1),
        ] {
            let of =
                |other: String| asked(&status(&[("n1", ONLINE, &own), ("n2", ONLINE, &other)]));
            assert_eq!(of(operation("stop", 7, 0, 20)), For(280), "{own}");
            assert_eq!(of(operation("stop", 7, 0, 300)), ByNobody, "{own}");
        }
        // A CIB manager that has just come back.
        assert_eq!(asked_since("<status/>", 0), Outdated);
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
        // Two nodes that have it, according to this.
        let elsewhere = self::operation("start", 7, 0, 20);
        assert_eq!(asked(&status(&[("n2", ONLINE, &elsewhere)])), NotYetKnown);
        assert_eq!(asked(&status(&[("n2", VANISHED, &elsewhere)])), ByNobody);
        // Shut down in order, but not before somebody took the resource out of Pacemaker's hands.
        assert_eq!(asked(&status(&[("n2", LEFT, &elsewhere)])), NotYetKnown);
        // Whoever drains for certain counts more.
        let two = status(&[("n2", ONLINE, pending), ("n3", ONLINE, &other)]);
        assert_eq!(asked(&two), For(280));
    }

    #[test]
    fn a_probe_after_the_bucket_came_here_tells_of_a_history_that_was_forgotten() {
        let since = |age, own: &str, probed| {
            let probe = operation("monitor", 9, 7, probed);
            asked_since(&status(&[("n1", ONLINE, own), ("n2", ONLINE, &probe)]), age)
        };
        let started = operation("start", 5, 0, 100);
        // The stack of the other came back 40 s ago.
        assert_eq!(since(100, &started, 40), For(260));
        // It was probed before.
        assert_eq!(since(100, &started, 101), ByNobody);
        assert_eq!(since(100, &started, 200), ByNobody);
        // Somebody refreshed the resource on all nodes, or gave it other parameters since.
        assert_eq!(since(100, &operation("monitor", 5, 0, 40), 42), For(258));
        assert_eq!(since(100, &operation("start", 5, 0, 1), 40), For(260));
        // It is just starting here.
        let starting =
            operation("start", 5, 193, 0).replace("interval", "op-status=\"-1\" interval");
        assert_eq!(since(0, &starting, 39), ByNobody);
        assert_eq!(since(0, &operation("monitor", 5, 7, 40), 39), Outdated);
    }

    #[test]
    fn only_the_last_thing_that_was_done_once_counts() {
        let stop = operation("stop", 7, 0, 20);
        // A failure is remembered beside it, and a monitor that recurs, until somebody cleans up.
        let failure = operation("monitor", 8, 1, 10).replace("_last_0", "_last_failure_0");
        let recurring =
            operation("monitor", 8, 1, 10).replace("interval=\"0\"", "interval=\"10000\"");
        for other in [&failure, &recurring] {
            let both = stop.clone() + other;
            assert_eq!(
                asked(&status(&[("n2", ONLINE, &both)])),
                For(280),
                "{other}"
            );
            let own = operation("start", 5, 0, 15) + other;
            let both = status(&[("n1", ONLINE, &own), ("n2", ONLINE, &stop)]);
            assert_eq!(asked(&both), For(280), "{other}");
        }
    }

    #[test]
    fn of_several_the_last_to_end_counts() {
        let stops = [operation("stop", 7, 0, 200), operation("stop", 3, 0, 50)];
        let two = status(&[("n2", ONLINE, &stops[0]), ("n3", LEFT, &stops[1])]);
        assert_eq!(asked(&two), For(250));
    }

    #[test]
    fn who_stopped_it_by_a_clock_that_is_behind_drains_it_all_the_same() {
        let of = |operation: String, transition: &str| {
            let key = format!("transition-key=\"7:{transition}:0:8f6c\" interval");
            operation.replace("interval", &key)
        };
        let own = of(operation("start", 9, 0, 2), "12");
        // It stopped in the transition that started it here, or in the one before, by a clock 400 s behind.
        for (stop, other, expected) in [
            (
                of(operation("stop", 7, 0, 403), "12"),
                String::new(),
                For(298),
            ),
            (
                of(operation("stop", 7, 0, 403), "11"),
                String::new(),
                ByNobody,
            ),
            (
                of(operation("stop", 7, 0, 423), "11"),
                of(operation("stop", 8, 0, 404), "12"),
                For(279),
            ),
            // Where the clocks agree it is over.
            (
                of(operation("stop", 7, 0, 423), "11"),
                of(operation("stop", 8, 0, 3), "12"),
                ByNobody,
            ),
            // And it was probed since the bucket came here.
            (
                of(operation("monitor", 7, 7, 402), "12"),
                String::new(),
                For(298),
            ),
        ] {
            let another = other.replace("resIP:3", "resIP:4");
            let both = format!(
                "{stop}</lrm_resource><lrm_resource id=\"resIP:4\" class=\"ocf\">{another}"
            );
            let told = status(&[("n1", ONLINE, &own), ("n2", ONLINE, &both)]);
            assert_eq!(asked_since(&told, 3), expected, "{both}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_is_no_reason_to_wait_longer() {
        let ahead = operation("stop", 7, 0, 0).replace(&NOW.to_string(), &(NOW + 50).to_string());
        assert_eq!(asked(&status(&[("n2", ONLINE, &ahead)])), For(300));
        assert!(History::read("no XML").is_err());
    }
}
