//! The whole cluster beside what the kernel of this node does, where Pacemaker runs here.

use super::screen::Screen;
use crate::model::bucket::BucketSet;
use crate::model::untrusted::{NOT_QUOTED, Untrusted};
use crate::pacemaker::cluster::{CloneOf, Cluster, MemberState, Shared};
use crate::pacemaker::history::History;
use crate::pacemaker::query::{Query, ask_at};
use crate::preflight::{Seen, Unseen};
use crate::sys::netns::Home;
use serde::Serialize;
use tracing::warn;

/// A VIP in the cluster, for programs.
#[derive(Debug, Serialize)]
pub(super) struct OfVip {
    /// Pacemaker's name of the primitive.
    resource: Untrusted,
    /// Has this node's partition quorum?
    quorum: bool,
    nodes: Vec<OfNode>,
    /// Buckets that run on no node.
    nowhere: BucketSet,
    /// Buckets that run on more than one.
    twice: BucketSet,
    /// Other resources with the same address.
    twins: Vec<Untrusted>,
    /// The clone's, if it is set.
    clone_max: Option<u16>,
    #[serde(skip)]
    clone: Option<CloneOf>,
    /// How many buckets the kernel has, or so many as there are instances where it has none.
    #[serde(skip)]
    buckets: u16,
    #[serde(skip)]
    instances: usize,
}

#[derive(Debug, Serialize)]
struct OfNode {
    node: Untrusted,
    state: MemberState,
    /// Is it the node that tells this?
    here: bool,
    buckets: BucketSet,
}

/// What Pacemaker says; `None` where it does not run, or cannot be asked.
pub(super) fn view(home: Option<&Home>) -> Option<Cluster> {
    let ask = |query| ask_at(home, query);
    // Where one cannot be asked the other need not be.
    let answers =
        ask(Query::Placement).and_then(|placement| Ok((placement, ask(Query::Resources)?)));
    let read = match answers {
        Ok((placement, resources)) => {
            Cluster::read(&placement, &resources).map_err(|error| error.to_string())
        }
        Err(error) if error.is_absent() => return None,
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|error| warn!("{error}; the cluster is not shown"))
        .ok()
}

/// The nodes whose clocks are not this one's, as Pacemaker's history of operations tells; not asked where it does not run.
pub(super) fn clocks_apart(home: Option<&Home>) -> Seen<Vec<(Untrusted, i64)>> {
    let ask = |query| match ask_at(home, query) {
        Err(error) if error.is_absent() => Err(Unseen::NotAsked),
        asked => asked.map_err(Unseen::because),
    };
    let (placement, resources) = (ask(Query::Placement)?, ask(Query::Resources)?);
    let cluster = Cluster::read(&placement, &resources).map_err(Unseen::because)?;
    let unknown = || Unseen::because("no node of the cluster has this host's name");
    let own = own_name(&cluster).ok_or_else(unknown)?;
    let status = ask(Query::Status)?;
    let history = History::read(&status).map_err(Unseen::because)?;
    let clocks = history.clocks(own.raw());
    let apart = clocks.apart();
    Ok(apart
        .map(|(node, ahead_s)| (node.into(), ahead_s))
        .collect())
}

/// The name of this node, if it is a member under its host name.
fn own_name(cluster: &Cluster) -> Option<Untrusted> {
    let host = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let short = host.split('.').next().unwrap_or_default();
    let is_own = |name: &&Untrusted| name.raw() == host || name.raw() == short;
    cluster.members.keys().find(is_own).cloned()
}

pub(super) fn of_vip(cluster: &Cluster, shared: &Shared, buckets: u16) -> OfVip {
    let own = own_name(cluster);
    let nodes = cluster.members.iter();
    OfVip {
        resource: shared.resource.clone(),
        quorum: cluster.quorum,
        nodes: nodes
            .map(|(name, state)| OfNode {
                node: name.clone(),
                state: *state,
                here: own.as_ref() == Some(name),
                buckets: shared.on(name),
            })
            .collect(),
        nowhere: shared.nowhere(buckets),
        twice: shared.twice(),
        twins: cluster.twins(shared).cloned().collect(),
        clone_max: shared.clone.as_ref().and_then(|clone| clone.max),
        clone: shared.clone.clone(),
        buckets,
        instances: shared.instances.len(),
    }
}

/// What is wrong with the number of the clone's instances, and the command that mends it, if one does. Left out, it is
/// the number of nodes: if one is removed for good a bucket has no instance any more, or the last node with the VIP
/// asks for fewer buckets than there are.
fn miscounted(view: &OfVip) -> Option<(String, Option<String>)> {
    let CloneOf { id, max } = view.clone.as_ref()?;
    let (buckets, instances) = (view.buckets, view.instances);
    let is = match max {
        Some(_) => "was changed while instances ran",
        None => "is left out, so it is the number of nodes",
    };
    if usize::from(buckets) != instances {
        let what = format!(
            "{is}: {instances} instances for {buckets} buckets. Stop {id}, set its clone-max=\"{buckets}\", start it"
        );
        return Some((what, None));
    }
    if max.is_some() {
        return None;
    }
    let dark = format!("{is}: a node removed for good leaves buckets dark");
    Some(match id.quoted() {
        Some(id) => (
            format!("{dark}. This sets it, and changes nothing now:"),
            Some(format!(
                "crm_resource -r {id} -m -p clone-max -v {instances}"
            )),
        ),
        None => {
            let what = format!(
                "{dark}. Set that of {id} to {instances}, which changes nothing now ({NOT_QUOTED})"
            );
            (what, None)
        }
    })
}

/// The lines about the cluster: one a node, and what is wrong with the whole. `owned` is what the kernel of
/// this node owns, if that can be seen.
pub(super) fn lines(view: &OfVip, owned: Option<&BucketSet>, screen: Screen) -> String {
    let mut text = String::new();
    let name = |node: &OfNode| node.node.to_string().chars().count();
    let longest = view.nodes.iter().map(name).max().unwrap_or_default();
    for (n, node) in view.nodes.iter().enumerate() {
        let about = if n == 0 { "cluster" } else { "" };
        let state = format!("{:<11}", node.state);
        let painted = match node.state {
            MemberState::Online => screen.good(&state),
            MemberState::Unclean => screen.bad(&state),
            _ => screen.warn(&state),
        };
        let count = node.buckets.len();
        let here = if node.here { "  <- this node" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let line = |state: &str| {
            format!(
                "  {about:<9} {:<longest$}  {state} {count:>4} bucket{plural}",
                node.node
            )
        };
        text += &match count {
            0 => format!("{}{here}\n", line(&painted)),
            _ => {
                let first = |state: &str| line(state) + ": ";
                let what = format!("{}{here}", node.buckets);
                screen.fill_behind(&first(&state), &first(&painted), &what)
            }
        };
    }
    if !view.quorum {
        text += &screen.shout(
            "NO QUORUM",
            "Pacemaker does here what no-quorum-policy says: stops everything, by default",
        );
    }
    if !view.nowhere.is_empty() {
        let what = format!(
            "bucket{} on no node: nobody answers {} clients",
            named(&view.nowhere),
            if view.nowhere.len() == 1 {
                "its"
            } else {
                "their"
            }
        );
        text += &screen.shout("DARK", &what);
    }
    for bucket in view.twice.iter() {
        let owners = view
            .nodes
            .iter()
            .filter(|node| node.buckets.contains(bucket));
        let owners: Vec<String> = owners.map(|node| node.node.to_string()).collect();
        let what = format!("bucket {bucket} on {}: both answer", owners.join(" and "));
        text += &screen.shout("TWICE", &what);
    }
    for twin in &view.twins {
        let what = format!(
            "{twin} has the same ip: of the two only one comes up. Give one of them another ip, or remove it"
        );
        text += &screen.shout("TWINS", &what);
    }
    if let Some((what, command)) = miscounted(view) {
        text += &screen.shout("CLONE-MAX", &what);
        text += &command.map_or(String::new(), |command| screen.to_copy(&command));
    }
    let here = view.nodes.iter().find(|node| node.here);
    let both = here.zip(owned);
    if let Some((here, owned)) = both.filter(|(here, owned)| here.buckets != **owned) {
        let words = |set: &BucketSet| match set.is_empty() {
            true => "none".to_owned(),
            false => set.to_string(),
        };
        let what = format!(
            "Pacemaker runs {} here, the kernel owns {}",
            words(&here.buckets),
            words(owned)
        );
        text += &screen.shout("DIFFERS", &what);
    }
    text
}

/// The line of a VIP of Pacemaker's where that cannot be asked.
pub(super) fn unknown(screen: Screen) -> String {
    let what = "who has what in the cluster: Pacemaker does not answer here. Is it running? (A VIP in a \
                network namespace: 'nodectl --netns', started outside)";
    screen.shout("UNKNOWN", what)
}

/// ` 3`, or `s 3-5`.
fn named(buckets: &BucketSet) -> String {
    let plural = if buckets.len() == 1 { "" } else { "s" };
    format!("{plural} {buckets}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Screen = Screen::plain(80);

    fn node(name: &str, state: MemberState, here: bool, buckets: &str) -> OfNode {
        OfNode {
            node: name.into(),
            state,
            here,
            buckets: buckets.parse().unwrap_or_default(),
        }
    }

    fn view(nodes: Vec<OfNode>) -> OfVip {
        OfVip {
            resource: "resIP".into(),
            quorum: true,
            nodes,
            nowhere: BucketSet::default(),
            twice: BucketSet::default(),
            twins: Vec::new(),
            clone_max: None,
            clone: None,
            buckets: 2,
            instances: 2,
        }
    }

    #[test]
    fn a_number_of_instances_that_changes_with_the_nodes_is_shouted() {
        let told = |max, instances| {
            let id = "cloneIP".into();
            let clone = Some(CloneOf { id, max });
            let view = OfVip {
                instances,
                clone,
                buckets: 3,
                ..view(vec![])
            };
            lines(&view, None, Screen::plain(200))
        };
        assert_eq!(told(Some(3), 3), "");
        let left_out = told(None, 3);
        assert!(left_out.contains("CLONE-MAX is left out"), "{left_out}");
        let command = "\n            crm_resource -r cloneIP -m -p clone-max -v 3\n";
        assert!(left_out.ends_with(command), "{left_out}");
        for max in [None, Some(2)] {
            let too_few = told(max, 2);
            let said = "2 instances for 3 buckets. Stop cloneIP, set its clone-max=\"3\"";
            assert!(too_few.contains(said), "{too_few}");
        }
    }

    #[test]
    fn a_whole_cluster_is_shown_without_a_shout() {
        let view = view(vec![
            node("n1", MemberState::Online, true, "0-1"),
            node("node-2", MemberState::Standby, false, ""),
        ]);
        let owned = "0-1".parse().ok();
        assert_eq!(
            lines(&view, owned.as_ref(), SCREEN),
            "  cluster   n1      online         2 buckets: 0-1  <- this node\n            \
             node-2  standby        0 buckets\n"
        );
    }

    #[test]
    fn what_is_wrong_is_shouted_and_fits_the_screen() {
        let every_third: BucketSet = (0..200).filter(|bucket| bucket % 3 == 0).collect();
        let mut view = view(vec![
            node("n1", MemberState::Online, true, "0-1"),
            node("n2", MemberState::Unclean, false, "1"),
        ]);
        view.quorum = false;
        view.twice = BucketSet::one(1);
        view.twins = vec!["resB".into()];
        view.nowhere = every_third;
        let text = lines(&view, Some(&BucketSet::one(0)), SCREEN) + &unknown(SCREEN);
        for told in [
            "UNCLEAN",
            "NO QUORUM Pacemaker does here",
            "DARK      buckets 0,3,6,",
            "TWICE     bucket 1 on n1 and n2: both answer",
            "TWINS     resB has the same ip",
            "DIFFERS   Pacemaker runs 0-1 here, the kernel owns 0",
            "UNKNOWN   who has what",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        // Elsewhere it cannot be seen what the kernel owns.
        assert!(!lines(&view, None, SCREEN).contains("DIFFERS"));
    }
}
