//! What `clusteripd` knows of the whole cluster: `nodectl status --cluster`, `nodectl buckets VIP --cluster`, and what was
//! counted: `nodectl metrics`. The kernel is not looked at, so whoever may read the daemon's socket can ask.

use super::context::Context;
use super::failure::{DATA, Failure};
use super::json::{SCHEMA, json};
use super::screen::Screen;
use crate::host::daemon;
use crate::model::bucket::BucketSet;
use crate::model::untrusted::Untrusted;
use crate::talk::view::{Alarm, Holding, Member, Node, OfVip, View};
use serde::Serialize;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

/// For so long it is waited for the daemon.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster, for programs.
#[derive(Serialize)]
pub(super) struct Told {
    schema: u32,
    here: NodeTold,
    daemon: Untrusted,
    quorum: Option<bool>,
    members: Vec<MemberTold>,
    shared: Vec<VipTold>,
}

/// A node.
#[derive(Serialize)]
pub(super) struct NodeTold {
    id: u32,
    node: Option<Untrusted>,
}

/// A node whose daemon hears this one's.
#[derive(Serialize)]
pub(super) struct MemberTold {
    #[serde(flatten)]
    node: NodeTold,
    daemon: Option<Untrusted>,
    heard: bool,
}

#[derive(Serialize)]
struct VipTold {
    vip: IpAddr,
    buckets: Option<u16>,
    nodes: Vec<HoldingTold>,
    alarms: Vec<AlarmTold>,
}

#[derive(Serialize)]
struct HoldingTold {
    #[serde(flatten)]
    node: NodeTold,
    digest: Untrusted,
    owned: BucketSet,
    offered: BucketSet,
    adopting: BucketSet,
    draining: BucketSet,
}

/// Something that is wrong.
#[derive(Serialize)]
pub(super) struct AlarmTold {
    alarm: &'static str,
    buckets: BucketSet,
    nodes: Vec<NodeTold>,
    sentence: String,
}

/// What was counted, for programs.
#[derive(Serialize)]
struct Metrics {
    schema: u32,
    metrics: String,
}

/// The buckets of a VIP in the cluster, for programs.
#[derive(Serialize)]
struct Buckets {
    schema: u32,
    vip: IpAddr,
    cluster: Vec<Bucket>,
}

#[derive(Serialize)]
struct Bucket {
    bucket: u16,
    nodes: Vec<PhaseTold>,
}

#[derive(Serialize)]
struct PhaseTold {
    #[serde(flatten)]
    node: NodeTold,
    phase: &'static str,
}

impl From<&Node> for NodeTold {
    fn from(node: &Node) -> Self {
        NodeTold {
            id: node.id,
            node: node.name.clone(),
        }
    }
}

impl From<&Member> for MemberTold {
    fn from(member: &Member) -> Self {
        MemberTold {
            node: (&member.node).into(),
            daemon: member.version.clone(),
            heard: member.heard,
        }
    }
}

impl From<&Alarm> for AlarmTold {
    fn from(alarm: &Alarm) -> Self {
        let (buckets, nodes) = match alarm {
            Alarm::Twice { buckets, nodes } => (buckets.clone(), nodes.iter().collect()),
            Alarm::Nowhere { buckets } => (buckets.clone(), Vec::new()),
            Alarm::Unlike { node, .. } => (BucketSet::default(), vec![node]),
            Alarm::Unknown => (BucketSet::default(), Vec::new()),
        };
        AlarmTold {
            alarm: word(alarm).0,
            buckets,
            nodes: nodes.into_iter().map(NodeTold::from).collect(),
            sentence: alarm.to_string(),
        }
    }
}

impl From<&Holding> for HoldingTold {
    fn from(holding: &Holding) -> Self {
        HoldingTold {
            node: (&holding.node).into(),
            digest: holding.description.clone(),
            owned: holding.owned.clone(),
            offered: holding.offered.clone(),
            adopting: holding.adopting.clone(),
            draining: holding.draining.clone(),
        }
    }
}

impl From<&OfVip> for VipTold {
    fn from(of: &OfVip) -> Self {
        VipTold {
            vip: of.vip,
            buckets: of.buckets,
            nodes: of.nodes.iter().map(HoldingTold::from).collect(),
            alarms: of.alarms.iter().map(AlarmTold::from).collect(),
        }
    }
}

impl From<&View> for Told {
    fn from(view: &View) -> Self {
        Told {
            schema: SCHEMA,
            here: (&view.here).into(),
            daemon: view.version.clone(),
            quorum: view.quorate,
            members: view.members.iter().map(MemberTold::from).collect(),
            shared: view.vips.iter().map(VipTold::from).collect(),
        }
    }
}

/// An alarm in a word, for programs and for people.
fn word(alarm: &Alarm) -> (&'static str, &'static str) {
    match alarm {
        Alarm::Twice { .. } => ("twice", "TWICE"),
        Alarm::Nowhere { .. } => ("nowhere", "DARK"),
        Alarm::Unlike { .. } => ("unlike", "UNLIKE"),
        Alarm::Unknown => ("unknown", "ALARM"),
    }
}

/// `nodectl status --cluster`.
pub(super) fn status(context: &Context<'_>) -> Result<String, Failure> {
    let view = daemon::view(PATIENCE)?;
    match context.json {
        true => json(&Told::from(&view)),
        false => Ok(screens(&view, Screen::of_stdout())),
    }
}

/// `nodectl buckets VIP --cluster`.
pub(super) fn buckets(vip: IpAddr, context: &Context<'_>) -> Result<String, Failure> {
    let view = daemon::view(PATIENCE)?;
    let known = view.vips.iter().find(|of| of.vip == vip).ok_or_else(|| {
        let what = format!(
            "no node has anything of {vip}; 'nodectl status --cluster' shows what there is"
        );
        Failure::new(DATA, what)
    })?;
    let cluster = rows(known);
    match context.json {
        true => json(&Buckets {
            schema: SCHEMA,
            vip,
            cluster,
        }),
        false => Ok(table(&cluster, Screen::of_stdout())),
    }
}

/// `nodectl metrics`.
pub(super) fn metrics(context: &Context<'_>) -> Result<String, Failure> {
    let (schema, metrics) = (SCHEMA, daemon::metrics(PATIENCE)?);
    match context.json {
        true => json(&Metrics { schema, metrics }),
        false => Ok(metrics),
    }
}

/// The daemon and those that it hears, and then VIP by VIP.
pub(super) fn screens(view: &View, screen: Screen) -> String {
    let mut screens = vec![of_daemons(view, screen)];
    screens.extend(view.vips.iter().map(|of| of_vip(of, screen)));
    screens.join("\n")
}

fn of_daemons(view: &View, screen: Screen) -> String {
    let quorum = match view.quorate {
        Some(true) => screen.good("quorum"),
        Some(false) => screen.bad("NO QUORUM"),
        None => screen.bad("Corosync does not answer"),
    };
    let name = screen.name(&format!("clusteripd on {}", view.here));
    let mut text = format!("{name}: version {}, {quorum}\n", view.version);
    let names = view.members.iter().map(|member| &member.node);
    let longest = longest(names);
    for member in &view.members {
        let version = member
            .version
            .as_ref()
            .map(|version| format!("version {version}"));
        let version = version.unwrap_or_default();
        let state = match member.heard {
            true => version,
            false => format!("{}  {version}", screen.bad("SILENT")),
        };
        let here = match member.node.id == view.here.id {
            true => "  <- this node",
            false => "",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<longest$}  {state}{here}", member.node);
    }
    text
}

fn of_vip(of: &OfVip, screen: Screen) -> String {
    let buckets = match of.buckets {
        Some(buckets) => format!("{buckets} buckets"),
        None => "not on this node".to_owned(),
    };
    let mut text = format!("{}: {buckets}\n", screen.name(&of.vip.to_string()));
    let longest = longest(of.nodes.iter().map(|holding| &holding.node));
    for holding in &of.nodes {
        let mut what = match holding.owned.len() {
            0 => "owns no bucket".to_owned(),
            count => format!("owns {count}: {}", holding.owned),
        };
        let phases = [
            ("offers", &holding.offered),
            ("adopts", &holding.adopting),
            ("drains", &holding.draining),
        ];
        for (does, set) in phases.into_iter().filter(|(_, set)| !set.is_empty()) {
            what += &format!("; {does} {set}");
        }
        text += &screen.fill(&format!("  {:<longest$}  ", holding.node), &what);
    }
    for alarm in &of.alarms {
        text += &screen.shout(word(alarm).1, &alarm.to_string());
    }
    text
}

/// How long the longest of these names is.
fn longest<'a>(nodes: impl Iterator<Item = &'a Node>) -> usize {
    let lengths = nodes.map(|node| node.to_string().chars().count());
    lengths.max().unwrap_or_default()
}

fn rows(of: &OfVip) -> Vec<Bucket> {
    let sets = of
        .nodes
        .iter()
        .flat_map(|holding| [&holding.owned, &holding.draining]);
    // Where nobody here knows how many there are, as many as anybody has.
    let known = sets
        .flat_map(BucketSet::iter)
        .max()
        .map_or(0, |last| last + 1);
    (0..of.buckets.unwrap_or(known))
        .map(|bucket| Bucket {
            bucket,
            nodes: of
                .nodes
                .iter()
                .filter_map(|holding| phase(holding, bucket))
                .collect(),
        })
        .collect()
}

/// What a bucket is to a node, if it is anything.
fn phase(holding: &Holding, bucket: u16) -> Option<PhaseTold> {
    let phases = [
        ("offered", &holding.offered),
        ("adopting", &holding.adopting),
        ("owned", &holding.owned),
        ("draining", &holding.draining),
    ];
    let found = phases.into_iter().find(|(_, set)| set.contains(bucket))?;
    Some(PhaseTold {
        node: (&holding.node).into(),
        phase: found.0,
    })
}

fn table(rows: &[Bucket], screen: Screen) -> String {
    let mut text = format!("{:>6}  nodes\n", "bucket");
    for row in rows {
        let named = |told: &PhaseTold| {
            let NodeTold { id, node } = &told.node;
            let (id, name) = (*id, node.clone());
            format!("{} ({})", Node { id, name }, told.phase)
        };
        let nodes: Vec<String> = row.nodes.iter().map(named).collect();
        let answers = row.nodes.iter().filter(|told| told.phase != "draining");
        let nodes = match answers.count() {
            0 => [screen.bad("NOBODY")].into_iter().chain(nodes).collect(),
            1 => nodes,
            _ => nodes
                .iter()
                .map(|node| screen.bad(node))
                .collect::<Vec<_>>(),
        };
        let _ = writeln!(text, "{:>6}  {}", row.bucket, nodes.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::untrusted::tests::{NASTY, forbidden_in};
    use crate::talk::reply::tests::a_view;

    const SCREEN: Screen = Screen::plain(60);

    #[test]
    fn a_person_reads_who_is_here_and_what_each_has() {
        assert_eq!(
            screens(&a_view(), SCREEN),
            "clusteripd on n1: version 0.1.0, quorum\n  \
               n1      version 0.1.0  <- this node\n  \
               node 9  SILENT  \n\
             \n\
             10.0.0.99: 12 buckets\n  \
               n1      owns 6: 0-5\n  \
               node 9  owns 5: 6-10; offers 1,3; drains 1,3\n  \
               DARK      bucket 11: nobody answers its clients\n"
        );
    }

    #[test]
    fn a_program_reads_the_same() {
        let document = json(&Told::from(&a_view())).expect("JSON");
        let told: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(told["members"][1]["heard"], false);
        assert_eq!(told["here"]["node"], "n1");
        let shared = &told["shared"][0];
        assert_eq!(shared["nodes"][0]["owned"][5], 5);
        assert_eq!(shared["nodes"][1]["node"], serde_json::Value::Null);
        assert_eq!(shared["alarms"][0]["alarm"], "nowhere");
        assert_eq!(shared["alarms"][0]["buckets"][0], 11);
    }

    #[test]
    fn each_bucket_has_its_nodes() {
        let mut view = a_view();
        view.vips[0].nodes[1].owned = "5-10".parse().expect("a set");
        let rows = rows(&view.vips[0]);
        let text = table(&rows, SCREEN);
        let line = |n: usize| text.lines().nth(n + 1).expect("a line");
        assert_eq!(text.lines().count(), 13);
        assert_eq!(line(0), "     0  n1 (owned)");
        assert_eq!(line(3), "     3  n1 (owned), node 9 (offered)");
        assert_eq!(line(5), "     5  n1 (owned), node 9 (owned)");
        assert_eq!(line(11), "    11  NOBODY");
    }

    #[test]
    fn names_of_others_write_no_lines() {
        let mut view = a_view();
        let lines = screens(&view, SCREEN).lines().count();
        view.here.name = Some(NASTY.into());
        view.version = NASTY.into();
        view.members[0].node.name = Some(NASTY.into());
        view.members[0].version = Some(NASTY.into());
        view.vips[0].nodes[0].node.name = Some(NASTY.into());
        let text = screens(&view, Screen::plain(300));
        assert_eq!(text.lines().count(), lines);
        assert_eq!(forbidden_in(&text.replace('\n', "")), None, "{text:?}");
    }
}
