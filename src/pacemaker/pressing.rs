//! Is anything in the cluster more pressing than the connections that a gate waits for? Pure.
//!
//! Pacemaker's controller begins a new transition only when every action of the old one has ended
//! (`pcmk_graph_consumer.c`, `pcmk__execute_graph()`: complete when nothing is pending). A gate that
//! waits is such an action: until it has ended nobody is fenced, nothing is recovered, and a standby
//! that was taken back stays.
//!
//! Some things press as soon as they are new. Others were there when the gate was called, and may be
//! what it was called for; what shows that they are not taken care of is that buckets stay dark.

use super::cluster::{ClusterError, nodes, shared};
use crate::model::bucket::BucketSet;
use crate::model::untrusted::Untrusted;
use crate::model::vip::Manager;
use roxmltree::{Document, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// So long may a bucket run nowhere: all stops of a transition come before its starts.
const DARK: Duration = Duration::from_secs(10);

/// A bucket of a shared address, by who manages that.
pub type Bucket = (Manager, u16);

/// What has happened since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pressing {
    /// This node is no longer to be on standby; then its service goes on.
    TakenBack,
    /// A node is to be fenced, or has vanished.
    Lost(Untrusted),
    /// An operation failed.
    Failed {
        /// It, such as `web_monitor_20000`.
        operation: Untrusted,
        /// Where.
        node: Untrusted,
    },
    /// Nobody serves these buckets.
    Dark(Manager, BucketSet),
}

impl fmt::Display for Pressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pressing::TakenBack => f.write_str("the standby was taken back"),
            Pressing::Lost(node) => write!(f, "{node} is lost"),
            Pressing::Failed { operation, node } => write!(f, "{operation} failed on {node}"),
            Pressing::Dark(manager, buckets) => write!(
                f,
                "nobody serves buckets {buckets} of {manager} for {} s",
                DARK.as_secs()
            ),
        }
    }
}

/// What presses at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    standby: BTreeSet<Untrusted>,
    lost: BTreeSet<Untrusted>,
    /// Operation, node, and which failure it is.
    failures: BTreeSet<(Untrusted, Untrusted, [Untrusted; 2])>,
    /// Buckets that run on a node that is not lost.
    served: BTreeSet<Bucket>,
    /// Those that run on lost nodes alone.
    stranded: BTreeSet<Bucket>,
    /// Those that run nowhere.
    stopped: BTreeSet<Bucket>,
}

impl Moment {
    /// From the answer to [`Query::Placement`](super::query::Query).
    ///
    /// # Errors
    /// [`ClusterError`] for what is no XML.
    pub fn read(placement: &str) -> Result<Self, ClusterError> {
        let document = Document::parse(placement)?;
        let named = |which: fn(Node<'_, '_>) -> bool| {
            let nodes = nodes(&document).filter(|node| which(*node));
            nodes.map(|node| text(node, "name")).collect()
        };
        let failures = document.descendants();
        let failures =
            failures.filter(|node| node.has_tag_name("failure") && node.has_attribute("op_key"));
        let failures = failures.map(|failure| {
            let which = ["call", "last-rc-change"].map(|name| text(failure, name));
            (text(failure, "op_key"), text(failure, "node"), which)
        });
        let mut moment = Moment {
            standby: named(|node| is(node, "standby")),
            lost: named(is_lost),
            failures: failures.collect(),
            ..Moment::default()
        };
        for shared in shared(&document, &BTreeMap::new()) {
            let manager = Manager::pacemaker(shared.resource.raw());
            for (bucket, nodes) in shared.instances {
                let among = match () {
                    () if nodes.is_empty() => &mut moment.stopped,
                    () if nodes.is_subset(&moment.lost) => &mut moment.stranded,
                    () => &mut moment.served,
                };
                among.insert((manager.clone(), bucket));
            }
        }
        Ok(moment)
    }
}

/// What a gate has seen since it began to wait.
#[derive(Debug, Default)]
pub struct Watch {
    first: Option<Moment>,
    /// Since when buckets are dark.
    dark: BTreeMap<Bucket, Instant>,
}

impl Watch {
    /// What presses `now`, which is `at`, for the gate of the node `own` from which these buckets leave.
    pub fn look(
        &mut self,
        now: Moment,
        at: Instant,
        own: &str,
        leaving: &BTreeSet<Bucket>,
    ) -> Option<Pressing> {
        let first = self.first.get_or_insert_with(|| now.clone());
        if first.standby.contains(own) && !now.standby.contains(own) && !now.lost.contains(own) {
            return Some(Pressing::TakenBack);
        }
        if let Some(node) = now.lost.difference(&first.lost).next() {
            return Some(Pressing::Lost(node.clone()));
        }
        if let Some((operation, node, _)) = now.failures.difference(&first.failures).next() {
            let (operation, node) = (operation.clone(), node.clone());
            return Some(Pressing::Failed { operation, node });
        }
        // What has recovered can be lost again.
        first.lost = now.lost;
        first.failures = now.failures;
        first.served.extend(now.served);
        // Others were dark before, and may be so for good.
        let ours = |bucket: &Bucket| leaving.contains(bucket) || first.served.contains(bucket);
        let stopped = now.stopped.into_iter().filter(ours);
        let dark: BTreeSet<Bucket> = now.stranded.into_iter().chain(stopped).collect();
        self.dark.retain(|bucket, _| dark.contains(bucket));
        for bucket in dark {
            self.dark.entry(bucket).or_insert(at);
        }
        let too_long = |since: &Instant| at.saturating_duration_since(*since) >= DARK;
        let mut late = self.dark.iter().filter(|(_, since)| too_long(since));
        let ((manager, bucket), _) = late.next()?;
        let others = late.filter(|((other, _), _)| other == manager);
        let others = others.map(|((_, bucket), _)| *bucket);
        let buckets = others.chain([*bucket]).collect();
        Some(Pressing::Dark(manager.clone(), buckets))
    }
}

fn text(node: Node<'_, '_>, name: &str) -> Untrusted {
    node.attribute(name).unwrap_or_default().into()
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

    fn moment(n1: &str, n2: &str, others: &str) -> Moment {
        let text = format!("<a><nodes>{n1}{n2}</nodes><others>{others}</others></a>");
        Moment::read(&text).expect("XML")
    }

    fn on_standby() -> String {
        node("n1", true, "expected_up=\"true\" standby=\"true\"")
    }

    /// What presses at the second of two moments.
    fn pressing(before: &Moment, now: &Moment) -> Option<Pressing> {
        let (mut watch, at) = (Watch::default(), Instant::now());
        let first = watch.look(before.clone(), at, "n1", &BTreeSet::new());
        assert_eq!(first, None);
        watch.look(now.clone(), at, "n1", &BTreeSet::new())
    }

    #[test]
    fn nothing_presses_when_nothing_happens_or_a_node_leaves_in_order() {
        let before = moment(&on_standby(), &node("n2", true, UP), FAILURE);
        assert_eq!(pressing(&before, &before), None);
        let left = node("n2", false, "expected_up=\"false\" unclean=\"false\"");
        let now = moment(&on_standby(), &left, FAILURE);
        assert_eq!(pressing(&before, &now), None);
        // It went on standby too, and was taken back, which is not this gate's affair.
        let both = node("n2", true, "standby=\"true\"");
        let both = moment(&on_standby(), &both, FAILURE);
        assert_eq!(pressing(&before, &both), None);
        assert_eq!(pressing(&both, &before), None);
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
            let expected = Some(Pressing::Lost("n2".into()));
            assert_eq!(pressing(&before, &now), expected, "{lost}");
            // Known before: the gate may wait in the transition that recovers it.
            assert_eq!(pressing(&now, &now), None);
            // It recovers, and is lost again.
            let (mut watch, at, none) = (Watch::default(), Instant::now(), BTreeSet::new());
            assert_eq!(watch.look(now.clone(), at, "n1", &none), None);
            assert_eq!(watch.look(before.clone(), at, "n1", &none), None);
            assert_eq!(watch.look(now, at, "n1", &none), expected);
        }
    }

    #[test]
    fn a_standby_that_is_taken_back_and_a_failure_that_is_new_press() {
        let other = node("n2", true, UP);
        let before = moment(&on_standby(), &other, FAILURE);
        let back = moment(&node("n1", true, UP), &other, FAILURE);
        assert_eq!(pressing(&before, &back), Some(Pressing::TakenBack));
        // Who is lost himself has not been taken back.
        let lost = moment(&node("n1", true, "unclean=\"true\""), &other, FAILURE);
        assert_eq!(pressing(&before, &lost), Some(Pressing::Lost("n1".into())));
        let again = FAILURE.replace("30", "31");
        let now = moment(&on_standby(), &other, &(FAILURE.to_owned() + &again));
        let told = pressing(&before, &now).map(|it| it.to_string());
        assert_eq!(told.as_deref(), Some("web_monitor_20000 failed on n2"));
        // Somebody cleaned up.
        assert_eq!(pressing(&before, &moment(&on_standby(), &other, "")), None);
    }

    /// Bucket 0 and 1 of one address, on these nodes.
    fn running(on: [&str; 2]) -> String {
        let instances = (0..).zip(on).map(|(bucket, node)| {
            let node = match node {
                "" => String::new(),
                node => format!("<node name=\"{node}\"/>"),
            };
            format!("<resource id=\"ip:{bucket}\" resource_agent=\"ocf:rust:ClusterIP\">{node}</resource>")
        });
        instances.collect()
    }

    #[test]
    fn buckets_that_stay_dark_press() {
        let (alive, lost) = (node("n2", true, UP), node("n2", false, UP));
        let dark = |moments: &[(&str, [&str; 2], u64)], leaving: &[u16]| {
            let (mut watch, begin) = (Watch::default(), Instant::now());
            let leaving = leaving.iter();
            let leaving = leaving
                .map(|bucket| (Manager::pacemaker("ip"), *bucket))
                .collect();
            let mut last = None;
            for (n2, on, s) in moments {
                assert_eq!(last, None);
                let now = moment(&on_standby(), n2, &running(*on));
                last = watch.look(now, begin + Duration::from_secs(*s), "n1", &leaving);
            }
            last.map(|it| it.to_string())
        };
        let told = |buckets| {
            Some(format!(
                "nobody serves buckets {buckets} of pacemaker:ip for 10 s"
            ))
        };
        // What leaves here goes nowhere: its service is recovered in its place.
        let stays = [(&*alive, ["", "n2"], 0), (&alive, ["", "n2"], 10)];
        assert_eq!(dark(&stays, &[0]), told("0"));
        // It does go, and later than the other.
        let goes = [
            (&*alive, ["", ""], 0),
            (&alive, ["n2", ""], 9),
            (&alive, ["n2", "n2"], 18),
        ];
        assert_eq!(dark(&goes, &[0]), None);
        // Each is dark for a while, but none for long.
        let turns = [
            (&*alive, ["", "n2"], 0),
            (&alive, ["n2", ""], 6),
            (&alive, ["n2", ""], 12),
        ];
        assert_eq!(dark(&turns, &[0, 1]), None);
        // Another's bucket that was dark before the gate began to wait.
        assert_eq!(dark(&stays, &[]), None);
        // And one that was not.
        let goes_dark = [
            (&*alive, ["n2", "n2"], 0),
            (&alive, ["n2", ""], 2),
            (&alive, ["n2", ""], 12),
        ];
        assert_eq!(dark(&goes_dark, &[]), told("1"));
        // A node was lost before it began, and is not fenced.
        let stranded = [(&*lost, ["n2", "n2"], 0), (&lost, ["n2", "n2"], 11)];
        assert_eq!(dark(&stranded, &[]), told("0-1"));
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        assert!(Moment::read("").is_err());
        assert_eq!(Moment::read("<a/>").expect("XML"), Moment::default());
    }
}
