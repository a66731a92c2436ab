//! What nodectl and those who watch are told of the cluster: made of what the state machine knows and the kernel has.
//! Nothing is decided here.

use super::counts::Counts;
use super::kernel::Kernel;
use super::metrics::{self, Moves};
use super::watchers::Watchers;
use crate::cluster::gathering::{Gathering, NodeId};
use crate::cluster::machine::Machine;
use crate::cluster::message::{Message, MessageError, Said};
use crate::cluster::order::Order;
use crate::model::bucket::BucketSet;
use crate::model::untrusted::Untrusted;
use crate::reading::installed::Installed;
use crate::sys::corosync::Settings;
use crate::talk::event::{Event, Of, What};
use crate::talk::view::{Alarm, Holding, Member, Node, OfVip, View};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// How long a bucket may be nobody's in a move: longer than Pacemaker takes between the stops and the starts of one.
const NOWHERE: Duration = Duration::from_secs(20);
/// How often it is looked whether anything is wrong.
const LOOK: Duration = Duration::from_secs(1);

/// What is told, and what has to be remembered for it.
pub(super) struct Telling {
    watchers: Watchers,
    counts: Arc<Counts>,
    here: u32,
    names: BTreeMap<u32, Untrusted>,
    quorate: Option<bool>,
    moves: Moves,
    /// Since when a bucket is nobody's.
    nowhere: BTreeMap<(IpAddr, u16), Instant>,
    alarms: BTreeMap<IpAddr, Vec<Alarm>>,
    looked: Instant,
}

impl Telling {
    pub(super) fn new(watchers: Watchers, counts: Arc<Counts>) -> Self {
        Telling {
            watchers,
            counts,
            here: 0,
            names: BTreeMap::new(),
            quorate: None,
            moves: Moves::default(),
            nowhere: BTreeMap::new(),
            alarms: BTreeMap::new(),
            looked: Instant::now(),
        }
    }

    /// Corosync is reached.
    pub(super) fn joined(&mut self, here: u32, settings: &Settings) {
        self.here = here;
        self.names.clone_from(&settings.names);
    }

    /// The number of a node of this name.
    pub(super) fn number(&self, name: &Untrusted) -> Option<u32> {
        let mut names = self.names.iter();
        names.find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    /// Corosync is lost.
    pub(super) fn parted(&mut self) {
        self.quorate = None;
        self.event(What::Alone);
    }

    /// Others are here, or no longer.
    pub(super) fn gathered(&mut self, gathering: &Gathering) {
        let member = |node: &NodeId| Member {
            node: self.node(node.0),
            version: None,
            heard: false,
        };
        let members = gathering.members.keys().map(member).collect();
        let quorate = self.quorate;
        let what = What::Members { quorate, members };
        info!("{what}");
        self.event(what);
    }

    pub(super) fn quorate(&mut self, quorate: bool) {
        self.quorate = Some(quorate);
    }

    /// A message that was heard.
    pub(super) fn heard(&mut self, Message { from, said, .. }: Message) {
        let node = self.node(from.0);
        let of = |vip, buckets| Of { vip, buckets, node };
        let what = match said {
            Said::Offers { vip, buckets } => What::Offers(of(vip, buckets)),
            Said::Claims { vip, buckets, .. } => What::Claims(of(vip, buckets)),
            Said::Releases { vip, buckets, .. } => What::Releases(of(vip, buckets)),
            Said::Took { vip, buckets, .. } => What::Takes(of(vip, buckets)),
            Said::Drained { vip, buckets } => What::Drained(of(vip, buckets)),
            Said::Holds(_) | Said::Whole | Said::Unknown => return,
        };
        self.event(what);
    }

    /// A message that was not.
    pub(super) fn dropped(&mut self, from: u32, error: &MessageError) {
        warn!("{}: {error}", self.node(from));
    }

    /// The kernel was told.
    pub(super) fn done(&mut self, order: &Order, done: &BucketSet) {
        self.moves.count(order, done);
    }

    fn event(&self, what: What) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_ms = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        self.watchers.tell(Event { at_ms, what });
    }

    fn node(&self, id: u32) -> Node {
        Node {
            id,
            name: self.names.get(&id).cloned(),
        }
    }

    /// What the daemon knows of the cluster.
    pub(super) fn view(&self, machine: Option<&Machine>, kernel: &Kernel) -> View {
        let members = machine
            .into_iter()
            .flat_map(|machine| machine.view().members());
        let member = |(id, heard): (NodeId, bool)| Member {
            node: self.node(id.0),
            version: (id.0 == self.here).then(version),
            heard,
        };
        let own = kernel.vips().map(|known| known.vip.address);
        let known = machine
            .into_iter()
            .flat_map(|machine| machine.view().vips());
        let vips: BTreeSet<IpAddr> = own.chain(known).collect();
        View {
            here: self.node(self.here),
            version: version(),
            quorate: self.quorate,
            members: members.map(member).collect(),
            vips: vips
                .into_iter()
                .map(|vip| self.of_vip(vip, machine, kernel))
                .collect(),
        }
    }

    fn of_vip(&self, vip: IpAddr, machine: Option<&Machine>, kernel: &Kernel) -> OfVip {
        let here = kernel.vips().find(|known| known.vip.address == vip);
        let mut nodes: Vec<Holding> = here.map(|here| self.own(here)).into_iter().collect();
        let view = machine.map(Machine::view);
        for (id, _) in view.into_iter().flat_map(|view| view.members()) {
            let holding = view.and_then(|view| view.holding(id, vip));
            // Of this node the kernel says more.
            let Some(holding) = holding.filter(|_| id.0 != self.here) else {
                continue;
            };
            let held = holding.buckets.iter();
            let offered = held.clone().filter(|(_, hold)| hold.offered);
            nodes.push(Holding {
                node: self.node(id.0),
                description: holding.description.clone().into(),
                owned: held.map(|(bucket, _)| *bucket).collect(),
                offered: offered.map(|(bucket, _)| *bucket).collect(),
                adopting: BucketSet::default(),
                draining: holding.drains.iter().copied().collect(),
            });
        }
        nodes.sort_by_key(|holding| holding.node.id);
        OfVip {
            vip,
            buckets: here.map(|here| here.vip.buckets.get()),
            nodes,
            alarms: self.alarms.get(&vip).cloned().unwrap_or_default(),
        }
    }

    fn own(&self, Installed { vip, phases }: &Installed) -> Holding {
        let offered: BucketSet = phases.offered.keys().copied().collect();
        Holding {
            node: self.node(self.here),
            description: vip.digest().into(),
            owned: phases.owned.union(&offered),
            offered,
            adopting: phases.adopting.keys().copied().collect(),
            draining: phases.leaving(),
        }
    }

    /// For Prometheus.
    pub(super) fn metrics(&self, machine: Option<&Machine>, kernel: &Kernel) -> String {
        let view = self.view(machine, kernel);
        let dropped = machine.map(Machine::dropped).unwrap_or_default();
        metrics::text(&view, kernel, &self.moves, dropped, &self.counts)
    }

    /// Looks whether anything is wrong, and tells it.
    pub(super) fn tell(&mut self, machine: Option<&Machine>, kernel: &Kernel) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let Some(machine) = machine.filter(|machine| machine.view().is_whole()) else {
            return;
        };
        let view = self.view(Some(machine), kernel);
        let mut all = BTreeMap::new();
        for of in &view.vips {
            let alarms = self.wrong(of);
            if !alarms.is_empty() {
                all.insert(of.vip, alarms);
            }
        }
        let before = std::mem::replace(&mut self.alarms, all);
        for (vip, alarm) in new(&self.alarms, &before) {
            warn!("{vip}: {alarm}");
            self.event(What::Alarm { vip, alarm });
        }
        for (vip, alarm) in new(&before, &self.alarms) {
            self.event(What::Over { vip, alarm });
        }
    }

    /// What is wrong with a VIP.
    fn wrong(&mut self, of: &OfVip) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let mut owners: BTreeMap<u16, Vec<&Node>> = BTreeMap::new();
        for holding in &of.nodes {
            for bucket in holding.owned.iter() {
                owners.entry(bucket).or_default().push(&holding.node);
            }
        }
        let mut twice: BTreeMap<Vec<&Node>, BTreeSet<u16>> = BTreeMap::new();
        for (bucket, nodes) in owners.iter().filter(|(_, nodes)| nodes.len() > 1) {
            twice.entry(nodes.clone()).or_default().insert(*bucket);
        }
        alarms.extend(twice.into_iter().map(|(nodes, buckets)| Alarm::Twice {
            buckets: buckets.into_iter().collect(),
            nodes: nodes.into_iter().cloned().collect(),
        }));
        let nowhere = self.nowhere_for_long(of, &owners);
        if !nowhere.is_empty() {
            alarms.push(Alarm::Nowhere { buckets: nowhere });
        }
        let here = of.nodes.iter().find(|holding| holding.node.id == self.here);
        if let Some(here) = here {
            let others = of.nodes.iter().filter(|holding| {
                !holding.owned.is_empty() && holding.description != here.description
            });
            alarms.extend(others.map(|holding| Alarm::Unlike {
                node: holding.node.clone(),
                description: holding.description.clone(),
            }));
        }
        alarms
    }

    /// The buckets that nobody has had for longer than a move takes, where somebody has others.
    fn nowhere_for_long(&mut self, of: &OfVip, owners: &BTreeMap<u16, Vec<&Node>>) -> BucketSet {
        let all = 0..of
            .buckets
            .filter(|_| !owners.is_empty())
            .unwrap_or_default();
        let dark: BTreeSet<u16> = all.filter(|bucket| !owners.contains_key(bucket)).collect();
        self.nowhere
            .retain(|(vip, bucket), _| *vip != of.vip || dark.contains(bucket));
        let now = Instant::now();
        let mut long = |bucket: &u16| {
            let since = self.nowhere.entry((of.vip, *bucket)).or_insert(now);
            since.elapsed() > NOWHERE
        };
        dark.into_iter().filter(&mut long).collect()
    }
}

/// What stands in the one and not in the other.
fn new(
    these: &BTreeMap<IpAddr, Vec<Alarm>>,
    those: &BTreeMap<IpAddr, Vec<Alarm>>,
) -> Vec<(IpAddr, Alarm)> {
    let all = these.iter().flat_map(|(vip, alarms)| {
        let known = those.get(vip);
        let is_new = move |alarm: &&Alarm| !known.is_some_and(|known| known.contains(alarm));
        let alarms = alarms.iter().filter(is_new);
        alarms.map(move |alarm| (*vip, alarm.clone()))
    });
    all.collect()
}

fn version() -> Untrusted {
    env!("CARGO_PKG_VERSION").to_owned().into()
}
