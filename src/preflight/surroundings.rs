//! What a check is told: what was found on this host, and for what. Plain values; `host::surroundings` fills them.

use super::finding::{Seen, Unseen};
use crate::model::belief::Holders;
use crate::model::call::Heard;
use crate::model::foreign::BaseChain;
use crate::model::l2_mode::L2Mode;
use crate::model::link::Link;
use crate::model::mac::Mac;
use crate::model::predecessor::{Compat, Predecessor, whose_seed};
use crate::model::untrusted::Untrusted;
use crate::model::vip::{Manager, Vip};
use crate::model::written::Digest;
use std::net::IpAddr;

/// For what it is looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The interface.
    pub nic: Untrusted,
    /// What the interface is to the VIP.
    pub side: Side,
    /// The VIP, if it is known.
    pub vip: Option<IpAddr>,
    /// How all nodes are to get its packets.
    pub mode: L2Mode,
    /// Its cluster MAC, if that is known.
    pub mac: Option<Mac>,
    /// Is the second lock wanted?
    pub lock: bool,
    /// The seed, if it is known.
    pub seed: Option<u32>,
    /// Whose seed it is, if a predecessor has it too and it can be computed.
    pub its_seed: Option<Predecessor>,
    /// What stands for the whole description, if it is here.
    pub digest: Option<Digest>,
    /// Beside which predecessor it is to be, if that is said.
    pub compat: Option<Compat>,
    /// Does nodectl manage it, and no resource?
    pub by_hand: bool,
}

/// What an interface is to a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The VIP is, or is to be, on it.
    Node,
    /// It is the switch's side of a cable, a node behind it: a bridge's port on the host of a guest, or its macvtap.
    Port,
}

impl Wish {
    /// For a VIP on a node, as it is described.
    pub fn of(vip: &Vip) -> Self {
        Wish {
            nic: vip.nic.as_str().into(),
            side: Side::Node,
            vip: Some(vip.address),
            mode: vip.mode,
            mac: Some(vip.mac),
            lock: vip.lock,
            seed: Some(vip.hasher.seed),
            its_seed: whose_seed(vip.address, vip.prefix, vip.mac, vip.hasher.seed),
            digest: Some(vip.probe_digest()),
            compat: None,
            by_hand: vip.manager == Manager::Manual,
        }
    }

    /// The mode as it is for the VIP's family.
    pub(super) fn mode(&self) -> L2Mode {
        match self.vip {
            Some(vip) => self.mode.of_family(vip),
            None => self.mode,
        }
    }

    /// May the VIP be of IPv4?
    pub(super) fn may_be_ip4(&self) -> bool {
        self.vip.is_none_or(|vip| vip.is_ipv4())
    }

    /// The VIP in a sentence.
    pub(super) fn vip_words(&self) -> String {
        self.vip.map_or("a VIP".to_owned(), |vip| vip.to_string())
    }

    /// Its MAC, as far as it is known.
    pub fn cluster_mac(&self) -> Option<Mac> {
        self.mac.or(self.vip.map(|vip| self.mode().mac(vip)))
    }

    /// The modes in which the VIP would be under this MAC, in a sentence, if there are any.
    pub(super) fn modes_of(&self, mac: Mac) -> Option<String> {
        let modes = L2Mode::ALL.into_iter();
        let modes = modes.filter(|mode| self.vip.is_some_and(|vip| mode.mac(vip) == mac));
        let names: Vec<&str> = modes.map(L2Mode::name).collect();
        (!names.is_empty()).then(|| format!("the mode {}", names.join(" or ")))
    }

    /// Its MAC in a sentence.
    pub(super) fn mac_words(&self) -> String {
        self.cluster_mac()
            .map_or("the cluster MAC".to_owned(), |mac| mac.to_string())
    }
}

/// What was found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// All interfaces of the network namespace.
    pub links: Seen<Vec<Link>>,
    /// The settings of the interface.
    pub settings: Seen<Settings>,
    /// The numbers of the interfaces by which IPv4's default routes lead.
    pub default_ways: Seen<Vec<u32>>,
    /// Is a program attached to the interface by tcx?
    pub tcx: Seen<bool>,
    /// The base chains of all tables but the product's.
    pub chains: Seen<Vec<BaseChain>>,
    /// The tables of `iptables-legacy` and its kin that are in use: whose they are, and their names.
    pub legacy: Seen<Vec<(Legacy, Vec<Untrusted>)>>,
    /// Is the VIP shared here by the kernel's target CLUSTERIP?
    pub clusterip: Seen<bool>,
    /// The file with which an enabled service flushes the ruleset, if one does.
    pub flusher: Seen<Option<String>>,
    /// Who else configures the interface.
    pub in_charge: Seen<Option<InCharge>>,
    /// The ports of Open vSwitch; none where it does not run.
    pub open_vswitch: Seen<Vec<OvsPort>>,
    /// What Corosync's configuration file says, if there is one.
    pub corosync: Seen<Option<String>>,
    /// The nodes whose clocks are not this one's, and by how many seconds they are ahead.
    pub clocks: Seen<Vec<(Untrusted, i64)>>,
    /// What a start here would end with before it changes anything: its own sentences.
    pub refused: Seen<Vec<String>>,
    /// Who has the VIP, by the answers to the question.
    pub holders: Seen<Holders>,
    /// What a listener has heard.
    pub heard: Seen<Heard>,
}

/// Programs whose tables nobody sees by nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Legacy {
    /// `iptables-legacy`.
    Ip4,
    /// `ip6tables-legacy`.
    Ip6,
    /// `arptables-legacy`.
    Arp,
}

/// Who is in charge of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InCharge {
    /// systemd-networkd, by this file, which keeps what others have configured or not.
    Networkd {
        /// The file.
        file: Untrusted,
        /// `KeepConfiguration=yes`.
        keeps: bool,
    },
    /// NetworkManager.
    NetworkManager,
}

/// A port of an Open vSwitch bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvsPort {
    /// The bridge.
    pub bridge: Untrusted,
    /// The port.
    pub name: Untrusted,
    /// The interfaces in it.
    pub interfaces: Vec<Untrusted>,
    /// Does the bridge snoop, and send what nobody joined to nobody?
    pub strict: bool,
    /// Does it send this port what is for groups all the same?
    pub floods: bool,
}

/// Nothing was looked at.
impl Default for Surroundings {
    fn default() -> Self {
        Surroundings {
            links: Err(Unseen::NotAsked),
            settings: Err(Unseen::NotAsked),
            default_ways: Err(Unseen::NotAsked),
            tcx: Err(Unseen::NotAsked),
            chains: Err(Unseen::NotAsked),
            legacy: Err(Unseen::NotAsked),
            clusterip: Err(Unseen::NotAsked),
            flusher: Err(Unseen::NotAsked),
            in_charge: Err(Unseen::NotAsked),
            open_vswitch: Err(Unseen::NotAsked),
            corosync: Err(Unseen::NotAsked),
            clocks: Err(Unseen::NotAsked),
            refused: Err(Unseen::NotAsked),
            holders: Err(Unseen::NotAsked),
            heard: Err(Unseen::NotAsked),
        }
    }
}

/// Settings of the interface, with those of `all` where the two are one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `rp_filter`, the greater one of both.
    pub rp_filter: i32,
    /// `arp_ignore`, the greater one of both.
    pub arp_ignore: i32,
    /// Does an address of the node's own share the VIP's network? For `arp_ignore`.
    pub has_neighbour: bool,
    /// Can `drop_unicast_in_l2_multicast` be set, or is it?
    pub lockable: bool,
    /// What the interface is made on, if that would answer for the VIP too.
    pub answers_beneath: Option<Untrusted>,
    /// Is IPv6 switched off on the interface?
    pub ip6_off: bool,
    /// Do sockets outside of a VRF get what comes in by it (`tcp_l3mdev_accept`)?
    pub l3mdev_accept: bool,
}

impl Surroundings {
    /// All interfaces.
    pub(super) fn links(&self) -> Seen<&Vec<Link>> {
        self.links.as_ref().map_err(Clone::clone)
    }

    /// The interface in question.
    pub(super) fn nic(&self, wish: &Wish) -> Seen<&Link> {
        let found = self.links()?.iter().find(|link| link.name == wish.nic);
        found.ok_or_else(|| Unseen::because(format!("there is no interface {}", wish.nic)))
    }

    /// The interface of a number.
    pub(super) fn at(&self, index: u32) -> Option<&Link> {
        let links = self.links.as_ref().ok()?;
        links.iter().find(|link| link.index == index)
    }

    /// The interface that this one is a port, slave or member of.
    pub(super) fn master(&self, link: &Link) -> Option<&Link> {
        self.at(link.master?)
    }

    /// The settings.
    pub(super) fn settings(&self) -> Seen<Settings> {
        self.settings.clone()
    }
}
