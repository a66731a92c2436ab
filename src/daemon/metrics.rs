//! What was counted, in Prometheus' text format (its documentation: "Text-based exposition format", 0.0.4).

use super::counts::Counts;
use super::kernel::Kernel;
use crate::cluster::bucket::Op;
use crate::cluster::order::{Dropped, Order};
use crate::model::bucket::BucketSet;
use crate::model::phase::Phase;
use crate::reading::installed::{counts, foreign};
use crate::talk::view::{Alarm, View};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// How often buckets were offered, taken and so on, by this daemon.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<(&'static str, bool), u64>);

impl Moves {
    /// The kernel was told; so much of it is so.
    pub(super) fn count(&mut self, order: &Order, done: &BucketSet) {
        let kind = match order.op {
            Op::Take => "take",
            Op::Offer => "offer",
            Op::Keep => "keep",
            Op::Give => "give",
            Op::Drain => "drain",
            Op::Adopted => "adopted",
        };
        let failed = order.buckets.without(done).len();
        *self.0.entry((kind, true)).or_default() += done.len() as u64;
        *self.0.entry((kind, false)).or_default() += failed as u64;
    }
}

/// The text of a family of metrics after the other.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(&value.to_string())))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// All of it.
pub(super) fn text(
    view: &View,
    kernel: &Kernel,
    moves: &Moves,
    dropped: Dropped,
    served: &Counts,
) -> String {
    let mut text = Text(String::new());
    of_daemon(&mut text, view);
    of_vips(&mut text, view, kernel);
    let name = "clusterip_moves_total";
    text.family(
        name,
        "counter",
        "Buckets that the daemon has moved, by what it told the kernel.",
    );
    for ((kind, done), count) in &moves.0 {
        let outcome = if *done { "done" } else { "failed" };
        text.value(name, &[("kind", kind), ("outcome", &outcome)], count);
    }
    let name = "clusterip_messages_dropped_total";
    text.family(
        name,
        "counter",
        "Messages of other daemons that were dropped.",
    );
    for (why, count) in [
        ("garbled", dropped.garbled),
        ("other_major", dropped.other_major),
        ("stale", dropped.stale),
        ("replayed", dropped.replayed),
    ] {
        text.value(name, &[("why", &why)], count);
    }
    let name = "clusterip_requests_total";
    text.family(
        name,
        "counter",
        "Connections to the daemon's socket, and what was wrong with them.",
    );
    for (what, count) in [
        ("connected", &served.connections),
        ("crowded", &served.crowded),
        ("garbled", &served.garbled),
        ("version", &served.version),
        ("denied", &served.denied),
        ("idle", &served.idle),
        ("slow", &served.slow),
        ("gone", &served.gone),
    ] {
        text.value(name, &[("what", &what)], count.get());
    }
    text.0
}

fn of_daemon(text: &mut Text, view: &View) {
    let name = "clusterip_build_info";
    text.family(name, "gauge", "The daemon that tells this.");
    text.value(name, &[("version", &view.version), ("node", &view.here)], 1);
    let name = "clusterip_members";
    text.family(name, "gauge", "Daemons that hear each other, this one too.");
    text.value(name, &[], view.members.len());
    if let Some(quorate) = view.quorate {
        let name = "clusterip_quorate";
        text.family(name, "gauge", "Has this node's partition quorum?");
        text.value(name, &[], u8::from(quorate));
    }
    let name = "clusterip_alarms";
    text.family(
        name,
        "gauge",
        "What is wrong with a VIP in the cluster, by kind.",
    );
    for of in &view.vips {
        for kind in ["twice", "nowhere", "unlike"] {
            let count = of
                .alarms
                .iter()
                .filter(|alarm| called(alarm) == kind)
                .count();
            text.value(name, &[("vip", &of.vip), ("kind", &kind)], count);
        }
    }
}

fn called(alarm: &Alarm) -> &'static str {
    match alarm {
        Alarm::Twice { .. } => "twice",
        Alarm::Nowhere { .. } => "nowhere",
        Alarm::Unlike { .. } => "unlike",
        Alarm::Unknown => "unknown",
    }
}

fn of_vips(text: &mut Text, view: &View, kernel: &Kernel) {
    let name = "clusterip_buckets";
    text.family(name, "gauge", "Buckets of a VIP on this node, by phase.");
    for known in kernel.vips() {
        for phase in Phase::ALL {
            let all = known.vip.buckets.all();
            let count = all
                .filter(|bucket| known.phases.of(*bucket) == phase)
                .count();
            text.value(
                name,
                &[("vip", &known.vip.address), ("phase", &phase)],
                count,
            );
        }
    }
    let name = "clusterip_cluster_buckets";
    text.family(name, "gauge", "Buckets of a VIP that a node answers.");
    for of in &view.vips {
        for holding in &of.nodes {
            text.value(
                name,
                &[("vip", &of.vip), ("node", &holding.node)],
                holding.owned.len(),
            );
        }
    }
    for (name, help, bytes) in [
        (
            "clusterip_packets_total",
            "Packets of a bucket since it came to this node.",
            false,
        ),
        (
            "clusterip_bytes_total",
            "Bytes of a bucket since it came to this node.",
            true,
        ),
    ] {
        text.family(name, "counter", help);
        for known in kernel.vips() {
            let vip = known.vip.address;
            for (bucket, count) in counts(kernel.rules(), vip) {
                let value = if bytes { count.bytes } else { count.packets };
                text.value(name, &[("vip", &vip), ("bucket", &bucket)], value);
            }
        }
    }
    let name = "clusterip_foreign_packets_total";
    text.family(
        name,
        "counter",
        "Packets for other nodes that this node has dropped.",
    );
    for known in kernel.vips() {
        let vip = known.vip.address;
        text.value(name, &[("vip", &vip)], foreign(kernel.rules(), vip).packets);
    }
}
