//! The whole cluster as Pacemaker sees it: which node runs which instances of which shared address.
//! Pure; `query` has the programs that answer.
//!
//! Pacemaker knows what it started, not what a kernel does: a node's own `nodectl status` says that.

pub use super::configured::CloneOf;
use super::configured::{Configured, configured};
use crate::model::bucket::BucketSet;
use crate::model::untrusted::{Untrusted, shown};
use crate::model::vip::Manager;
use roxmltree::{Document, Node};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// The agent as Pacemaker writes it.
const AGENT: &str = "ocf:rust:ClusterIP";

/// What a member can do, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Nobody knows what it does; it is to be fenced.
    Unclean,
    /// It is not there.
    Offline,
    /// It is coming.
    Pending,
    /// Pacemaker leaves alone what runs there.
    Maintenance,
    /// Nothing is to run there.
    Standby,
    /// It is there.
    Online,
}

impl MemberState {
    fn of(node: Node<'_, '_>) -> Self {
        let is = |name| node.attribute(name) == Some("true");
        // Where Pacemaker was stopped and Corosync runs on it is said to be online, pending and standby; so it
        // is where Pacemaker has just been started, until it has joined.
        let stopped = is("pending") && node.attribute("expected_up") == Some("false");
        match () {
            () if is("unclean") => MemberState::Unclean,
            () if stopped => MemberState::Offline,
            () if is("pending") => MemberState::Pending,
            () if !is("online") => MemberState::Offline,
            () if is("maintenance") => MemberState::Maintenance,
            () if is("standby") || is("standby_onfail") => MemberState::Standby,
            () => MemberState::Online,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            MemberState::Unclean => "UNCLEAN",
            MemberState::Offline => "offline",
            MemberState::Pending => "pending",
            MemberState::Maintenance => "maintenance",
            MemberState::Standby => "standby",
            MemberState::Online => "online",
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A shared address as Pacemaker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The primitive, without the number of an instance.
    pub resource: Untrusted,
    /// The parameter `ip`, if it can be told.
    pub ip: Option<IpAddr>,
    /// The parameter `network_namespace`: where on its nodes the address is, if not in the host's.
    pub netns: Option<Untrusted>,
    /// For each instance the nodes on which it runs.
    pub instances: BTreeMap<u16, BTreeSet<Untrusted>>,
    /// The clone around the primitive, if there is one.
    pub clone: Option<CloneOf>,
}

impl Shared {
    /// The buckets that Pacemaker runs on this node.
    pub fn on(&self, node: &Untrusted) -> BucketSet {
        let here = self.instances.iter();
        here.filter(|(_, nodes)| nodes.contains(node))
            .map(|(bucket, _)| *bucket)
            .collect()
    }

    /// The nodes on which Pacemaker runs this bucket.
    pub fn owners(&self, bucket: u16) -> Vec<&Untrusted> {
        self.instances.get(&bucket).into_iter().flatten().collect()
    }

    /// Of so many buckets those that run nowhere.
    pub fn nowhere(&self, buckets: u16) -> BucketSet {
        let dark = |bucket: &u16| self.instances.get(bucket).is_none_or(BTreeSet::is_empty);
        (0..buckets).filter(dark).collect()
    }

    /// Those that run on more than one node.
    pub fn twice(&self) -> BucketSet {
        let all = self.instances.iter();
        all.filter(|(_, nodes)| nodes.len() > 1)
            .map(|(bucket, _)| *bucket)
            .collect()
    }
}

/// The cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its nodes by name.
    pub members: BTreeMap<Untrusted, MemberState>,
    /// Its shared addresses.
    pub shared: Vec<Shared>,
    /// Has this partition quorum?
    pub quorum: bool,
}

/// An answer cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("Pacemaker's answer cannot be read: {}", shown(&.0.to_string()))]
pub struct ClusterError(#[from] roxmltree::Error);

impl Cluster {
    /// From the answers to [`Query::Placement`](super::query::Query) and `Query::Resources`.
    ///
    /// # Errors
    /// [`ClusterError`] for what is no XML.
    pub fn read(placement: &str, resources: &str) -> Result<Self, ClusterError> {
        let placement = Document::parse(placement)?;
        let configured = configured(&Document::parse(resources)?);
        let quorum = placement.descendants();
        let quorum = quorum
            .filter(|node| node.has_tag_name("current_dc"))
            .any(|dc| dc.attribute("with_quorum") == Some("true"));
        Ok(Cluster {
            members: members(&placement),
            shared: shared(&placement, &configured),
            quorum,
        })
    }

    /// The shared address with this VIP of this network namespace; `manager` is what the VIP itself says of
    /// who put it there.
    pub fn of_vip(&self, vip: IpAddr, manager: &Manager, netns: Option<&str>) -> Option<&Shared> {
        let named = |shared: &&Shared| *manager == Manager::pacemaker(shared.resource.raw());
        let by_name = self.shared.iter().find(named);
        let same = |shared: &&Shared| {
            shared.ip == Some(vip) && shared.netns.as_ref().map(Untrusted::raw) == netns
        };
        by_name.or_else(|| self.shared.iter().find(same))
    }

    /// Other resources with its address in its network namespace: of them only one can serve.
    pub fn twins(&self, shared: &Shared) -> impl Iterator<Item = &Untrusted> {
        let place = |shared: &Shared| Some((shared.ip?, shared.netns.clone()));
        let (own, name) = (place(shared), shared.resource.clone());
        let others = self.shared.iter();
        let others = others.filter(move |other| own.is_some() && place(other) == own);
        others
            .map(|other| &other.resource)
            .filter(move |other| **other != name)
    }
}

/// The cluster's nodes, in `crm_mon`'s words.
pub(super) fn nodes<'a, 'input>(
    placement: &'a Document<'input>,
) -> impl Iterator<Item = Node<'a, 'input>> {
    let all = placement.descendants();
    all.filter(|node| node.has_tag_name("node") && node.has_attribute("online"))
}

fn members(placement: &Document<'_>) -> BTreeMap<Untrusted, MemberState> {
    nodes(placement)
        .filter_map(|node| Some((node.attribute("name")?.into(), MemberState::of(node))))
        .collect()
}

/// The shared addresses; which is which is known as far as `configured` says.
pub(super) fn shared(
    placement: &Document<'_>,
    configured: &BTreeMap<String, Configured>,
) -> Vec<Shared> {
    let mut found: BTreeMap<String, Shared> = BTreeMap::new();
    let resources = placement.descendants();
    let ours = resources.filter(|node| {
        node.has_tag_name("resource") && node.attribute("resource_agent") == Some(AGENT)
    });
    for node in ours {
        let Some((resource, bucket)) = node.attribute("id").and_then(instance) else {
            continue;
        };
        let entry = found.entry(resource.to_owned()).or_insert_with(|| Shared {
            resource: resource.into(),
            ip: configured.get(resource).and_then(|known| known.ip),
            netns: configured
                .get(resource)
                .and_then(|known| known.netns.clone()),
            instances: BTreeMap::new(),
            clone: configured
                .get(resource)
                .and_then(|known| known.clone.clone()),
        });
        let runs = entry.instances.entry(bucket).or_default();
        // What is orphaned (removed, from Pacemaker 3.0.3 on) or has failed may still answer.
        let nodes = node.children().filter(|child| child.has_tag_name("node"));
        runs.extend(nodes.filter_map(|node| node.attribute("name").map(Untrusted::from)));
    }
    found.into_values().collect()
}

/// `resIP:3` is bucket 3 of `resIP`; a primitive that is no clone has bucket 0 alone.
fn instance(id: &str) -> Option<(&str, u16)> {
    match id.rsplit_once(':') {
        Some((resource, number)) => Some((resource, number.parse().ok()?)),
        None => Some((id, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCES: &str = r#"<resources><clone id="cloneIP">
        <primitive id="resIP" class="ocf" provider="rust" type="ClusterIP">
        <instance_attributes id="a"><nvpair id="b" name="ip" value="10.0.0.99"/>
        <nvpair id="e" name="network_namespace" value="web"/></instance_attributes>
        <meta_attributes id="c"><nvpair id="d" name="ip" value="wrong"/></meta_attributes>
        </primitive></clone>
        <primitive id="other" class="ocf" provider="heartbeat" type="IPaddr2"/></resources>"#;

    fn placement(instances: &str) -> String {
        format!(
            r#"<pacemaker-result api-version="2.28" request="crm_mon">
            <summary><current_dc present="true" name="n1" with_quorum="true"/></summary>
            <nodes>
            <node name="n1" online="true" standby="false" unclean="false" pending="false"/>
            <node name="n2" online="true" standby="true" unclean="false" pending="false"/>
            <node name="n3" online="false" standby="false" unclean="true" pending="false"/>
            </nodes><resources><clone id="cloneIP" unique="true">{instances}</clone>
            <resource id="other" resource_agent="ocf:heartbeat:IPaddr2" role="Started">
            <node name="n1"/></resource></resources></pacemaker-result>"#
        )
    }

    fn runs(bucket: u16, nodes: &[&str]) -> String {
        let nodes = nodes.iter().map(|node| format!("<node name=\"{node}\"/>"));
        format!(
            "<resource id=\"resIP:{bucket}\" resource_agent=\"{AGENT}\" role=\"Started\">{}</resource>",
            nodes.collect::<String>()
        )
    }

    #[test]
    fn who_runs_what_is_read() {
        let instances = runs(0, &["n1"]) + &runs(1, &["n1", "n2"]) + &runs(2, &[]);
        let cluster = Cluster::read(&placement(&instances), RESOURCES).expect("XML");
        assert!(cluster.quorum);
        let states: Vec<_> = cluster.members.values().copied().collect();
        use MemberState::*;
        assert_eq!(states, [Online, Standby, Unclean]);
        let [shared] = cluster.shared.as_slice() else {
            panic!("{:?}", cluster.shared);
        };
        assert_eq!(shared.ip, Some("10.0.0.99".parse().expect("an address")));
        assert_eq!(shared.netns, Some("web".into()));
        assert_eq!(shared.on(&"n1".into()).to_string(), "0-1");
        assert_eq!(shared.owners(1), [&"n1".into(), &"n2".into()]);
        assert_eq!(shared.twice().to_string(), "1");
        assert_eq!(shared.nowhere(4).to_string(), "2-3");
        let clone = |max| {
            let id = "cloneIP".into();
            Some(CloneOf { id, max })
        };
        assert_eq!(shared.clone, clone(None));
        let meta = r#"<clone id="cloneIP"><meta_attributes id="m">
            <nvpair id="n" name="clone-max" value="12"/></meta_attributes>"#;
        let resources = RESOURCES.replace(r#"<clone id="cloneIP">"#, meta);
        let cluster = Cluster::read(&placement(&instances), &resources).expect("XML");
        assert_eq!(cluster.shared[0].clone, clone(Some(12)));
    }

    #[test]
    fn a_vip_is_found_by_its_resource_or_its_address() {
        let cluster = Cluster::read(&placement(&runs(0, &["n1"])), RESOURCES).expect("XML");
        let vip = "10.0.0.99".parse().expect("an address");
        let other = "10.0.0.98".parse().expect("an address");
        let manager = Manager::pacemaker("resIP");
        assert!(cluster.of_vip(other, &manager, None).is_some());
        assert!(cluster.of_vip(vip, &Manager::Manual, Some("web")).is_some());
        // The same address in another network is another one.
        assert!(cluster.of_vip(vip, &Manager::Manual, None).is_none());
        assert!(
            cluster
                .of_vip(other, &Manager::Manual, Some("web"))
                .is_none()
        );
    }

    #[test]
    fn resources_with_one_address_are_twins() {
        let shared = |resource: &str, ip: Option<&str>, netns: Option<&str>| Shared {
            resource: resource.into(),
            ip: ip.and_then(|ip| ip.parse().ok()),
            netns: netns.map(Untrusted::from),
            instances: BTreeMap::new(),
            clone: None,
        };
        let ip = Some("10.0.0.99");
        let cluster = Cluster {
            shared: vec![
                shared("resA", ip, None),
                shared("resB", ip, None),
                shared("elsewhere", ip, Some("web")),
                shared("other", Some("10.0.0.98"), None),
                shared("unknown", None, None),
                shared("unknown too", None, None),
            ],
            ..Cluster::default()
        };
        let twins: Vec<String> = cluster
            .shared
            .iter()
            .map(|shared| Vec::from_iter(cluster.twins(shared).map(Untrusted::to_string)).join(","))
            .collect();
        assert_eq!(twins, ["resB", "resA", "", "", "", ""]);
    }

    #[test]
    fn what_a_member_can_do_is_told_by_the_gravest_word() {
        use MemberState::*;
        for (words, state) in [
            ("online standby maintenance unclean", Unclean),
            ("standby maintenance", Offline),
            ("online pending standby", Pending),
            ("online maintenance standby", Maintenance),
            ("online standby", Standby),
            ("online standby_onfail", Standby),
            ("online", Online),
        ] {
            let words = words.split(' ').map(|word| format!("{word}=\"true\" "));
            let online = if words.clone().any(|word| word.starts_with("online")) {
                ""
            } else {
                "online=\"false\""
            };
            let text = format!(
                "<a><node name=\"n1\" {online} {}/></a>",
                words.collect::<String>()
            );
            let cluster = Cluster::read(&text, RESOURCES).expect("XML");
            assert_eq!(cluster.members["n1"], state, "{text}");
            assert!(!cluster.quorum);
        }
        let without = placement("").replace("with_quorum=\"true\"", "with_quorum=\"false\"");
        assert!(!Cluster::read(&without, RESOURCES).expect("XML").quorum);
    }

    /// What `crm_mon -1 --output-as xml` of these versions said, but for the history of operations.
    const ORPHANS_3_0_0: &str = include_str!("recorded/3.0.0-orphans.xml");
    const REMOVED_3_0_3: &str = include_str!("recorded/3.0.3-removed.xml");
    const STOPPED_3_0_0: &str = include_str!("recorded/3.0.0-stopped.xml");

    fn recorded(text: &str) -> Cluster {
        let resources = RESOURCES.replace("10.0.0.99", "10.77.0.99");
        Cluster::read(text, &resources).expect("XML")
    }

    #[test]
    fn instances_that_are_no_longer_configured_still_have_their_buckets() {
        for text in [ORPHANS_3_0_0, REMOVED_3_0_3] {
            let cluster = recorded(text);
            assert!(cluster.quorum);
            let [shared] = cluster.shared.as_slice() else {
                panic!("{:?}", cluster.shared);
            };
            let of = |node: &str| shared.on(&node.into()).to_string();
            assert_eq!(["n1", "n2", "n3"].map(of), ["2,5", "0,3", "1,4"]);
            assert!(shared.nowhere(6).is_empty() && shared.twice().is_empty());
        }
    }

    #[test]
    fn a_node_whose_pacemaker_was_stopped_is_offline() {
        use MemberState::*;
        let states = |text: &str| Vec::from_iter(recorded(text).members.into_values());
        assert_eq!(states(STOPPED_3_0_0), [Online, Online, Offline]);
        // One that is expected is coming.
        let expected = STOPPED_3_0_0.replace("expected_up=\"false\"", "expected_up=\"true\"");
        assert_eq!(states(&expected), [Online, Online, Pending]);
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        assert!(Cluster::read("", RESOURCES).is_err());
        assert!(Cluster::read("<a/>", "x").is_err());
        assert_eq!(
            Cluster::read("<a/>", "<b/>").expect("XML"),
            Cluster::default()
        );
    }
}
