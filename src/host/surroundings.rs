//! Looking at what the checks of `preflight` judge. Whatever cannot be looked at is said to be so, and ends nothing.

use super::agreement::holders;
use super::lock::lock;
use super::observe::{Kernel, beside, silence_of};
use super::place::{PlaceError, installed_place, place};
use super::second_lock;
use crate::model::link::Link;
use crate::model::network::Network;
use crate::model::untrusted::Untrusted;
use crate::model::vip::{Nic, NicName, Vip};
use crate::plan::is_own;
use crate::plan::step::Refusal;
use crate::preflight::{
    InCharge, Legacy, OvsPort, Seen, Settings, Side, Surroundings, Unseen, Wish, is_flushing,
    is_network_managers, keeps, networkd_files, ovs_ports, ovs_question,
};
use crate::reading::installed::{find, is_unreadable};
use crate::reading::left_over::is_left_over;
use crate::sys::bpf;
use crate::sys::netns;
use crate::sys::route::{Family, RouteSocket};
use crate::sys::sysctl::{self, Key, SysctlError, SysctlPath};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Where distributions have the file that nftables.service loads, and what enables it.
const NFTABLES: [&str; 2] = ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"];
const ENABLED: [&str; 2] = [
    "/etc/systemd/system/sysinit.target.wants/nftables.service",
    "/etc/systemd/system/multi-user.target.wants/nftables.service",
];
const NETWORKD: &str = "/run/systemd/netif/links";
const NETWORK_MANAGER: &str = "/run/NetworkManager/devices";
const OPEN_VSWITCH: &str = "/run/openvswitch/db.sock";
/// Both of the network namespace in which this thread is.
const LEGACY: [(Legacy, &str); 3] = [
    (Legacy::Ip4, "/proc/thread-self/net/ip_tables_names"),
    (Legacy::Ip6, "/proc/thread-self/net/ip6_tables_names"),
    (Legacy::Arp, "/proc/thread-self/net/arp_tables_names"),
];
const CLUSTERIP: &str = "/proc/thread-self/net/ipt_CLUSTERIP";
const COROSYNC: &str = "/etc/corosync/corosync.conf";
/// How long Open vSwitch's database may take, which answers at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long actions on this host's VIPs are waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// No file or answer that is read here is that long.
const LONGEST: u64 = 16 << 20;

/// All that can be looked at on this host, the files of other programs too.
pub fn all(kernel: &mut Kernel, wish: &Wish) -> Surroundings {
    let of_the_kernel = of_the_kernel(kernel, wish);
    let index = of_the_kernel.links.as_ref().ok().and_then(|links| {
        let nic = links.iter().find(|link| link.name == wish.nic)?;
        Some(nic.index)
    });
    // Services look after the namespace that they are in.
    let at_home = netns::is_first().map_err(Unseen::because);
    let of_services = |look: &dyn Fn() -> Seen<Option<String>>| match &at_home {
        Ok(false) => Ok(None),
        Ok(true) => look(),
        Err(unseen) => Err(unseen.clone()),
    };
    Surroundings {
        legacy: legacy(),
        flusher: of_services(&flusher),
        in_charge: match (&at_home, index) {
            (Ok(true), Some(index)) => manager(index),
            (Err(unseen), _) => Err(unseen.clone()),
            _ => Ok(None),
        },
        open_vswitch: match &at_home {
            Ok(true) => open_vswitch(),
            Ok(false) => Ok(Vec::new()),
            // Where it does not run the namespace does not matter.
            Err(_) if !Path::new(OPEN_VSWITCH).exists() => Ok(Vec::new()),
            Err(unseen) => Err(unseen.clone()),
        },
        corosync: text_of(COROSYNC),
        ..of_the_kernel
    }
}

/// What a start on a node would refuse before it asks or changes anything, beyond what other checks find: an address that is
/// the node's own, and an interface in none of its networks.
pub fn refusals(kernel: &mut Kernel, wish: &Wish, prefix: Option<u8>) -> Seen<Vec<String>> {
    let (Some(address), Some(mac), Side::Node) = (wish.vip, wish.cluster_mac(), wish.side) else {
        return Err(Unseen::NotAsked);
    };
    let nic: Nic = wish.nic.raw().parse().map_err(Unseen::because)?;
    let mut refused = Vec::new();
    if prefix.is_none() {
        let name = NicName::from(nic.clone());
        let known = installed_place(&mut kernel.nft, address, Some(&name), None);
        let known = known.map_err(Unseen::because)?;
        match place(
            &mut kernel.route,
            address,
            Some(&name),
            None,
            known.as_ref(),
        ) {
            Ok(_) => {}
            Err(error @ PlaceError::NotOnNic { .. }) => refused.push(error.to_string()),
            Err(error) => return Err(Unseen::because(error)),
        }
    }
    let (observed, _) = kernel
        .observe(Some(&nic), Some(address))
        .map_err(Unseen::because)?;
    let rules = &observed.rules;
    let is_vip = find(rules, address).is_some()
        || is_unreadable(rules, address)
        || is_left_over(&observed, address);
    if !is_vip && is_own(&observed, address, &nic, mac) {
        refused.push(Refusal::OwnAddress { address, nic }.to_string());
    }
    Ok(refused)
}

/// Asks the link who has the VIP: of one that is described with its description. Nobody else on this host asks
/// meanwhile: an action would take answers to this question for answers to its own, and the VIP would not come up.
pub fn ask_the_link(
    kernel: &mut Kernel,
    wish: &Wish,
    vip: Option<&Vip>,
    here: Surroundings,
) -> Surroundings {
    let (Some(address), Side::Node) = (wish.vip, wish.side) else {
        return here;
    };
    let holders = match kernel.route.link(wish.nic.raw()) {
        Ok(Some(link)) if link.admin_up => lock(LOCK_PATIENCE)
            .map_err(Unseen::because)
            .and_then(|_lock| holders(address, vip, link.index, link.mac).map_err(Unseen::because))
            .and_then(|holders| holders.ok_or_else(|| Unseen::because("the interface has no MAC"))),
        Ok(_) => Err(Unseen::because(format!("{} is down", wish.nic))),
        Err(error) => Err(Unseen::because(error)),
    };
    Surroundings { holders, ..here }
}

/// The text of a file, if there is one.
fn text_of(path: &str) -> Seen<Option<String>> {
    let read = fs::File::open(path).and_then(|file| {
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    });
    match read {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unseen::because(format!("{path}: {error}"))),
    }
}

/// The tables that are not nf_tables': the kernel has their names.
fn legacy() -> Seen<Vec<(Legacy, Vec<Untrusted>)>> {
    let mut found = Vec::new();
    for (whose, path) in LEGACY {
        let names = text_of(path)?.unwrap_or_default();
        let names: Vec<Untrusted> = names.lines().map(Into::into).collect();
        if !names.is_empty() {
            found.push((whose, names));
        }
    }
    Ok(found)
}

/// Has the kernel a rule of the target CLUSTERIP for the VIP? It has a file for each.
fn clusterip(vip: Option<IpAddr>) -> Seen<bool> {
    let Some(vip) = vip else {
        return Ok(false);
    };
    let path = format!("{CLUSTERIP}/{vip}");
    let there = Path::new(&path).try_exists();
    there.map_err(|error| Unseen::because(format!("{path}: {error}")))
}

/// The file of an enabled service that flushes everything.
fn flusher() -> Seen<Option<String>> {
    // A link that leads nowhere is none that systemd would follow.
    if !ENABLED.iter().any(|link| Path::new(link).exists()) {
        return Ok(None);
    }
    for path in NFTABLES {
        if text_of(path)?.is_some_and(|text| is_flushing(&text)) {
            return Ok(Some(path.to_owned()));
        }
    }
    Ok(None)
}

/// Who configures an interface.
fn manager(index: u32) -> Seen<Option<InCharge>> {
    let state = text_of(&format!("{NETWORKD}/{index}"))?.unwrap_or_default();
    let files = networkd_files(&state);
    if let Some(file) = files.first() {
        let mut texts = Vec::new();
        for file in &files {
            texts.extend(text_of(file)?);
        }
        return Ok(Some(InCharge::Networkd {
            file: file.as_str().into(),
            keeps: keeps(texts.iter().map(String::as_str)),
        }));
    }
    let state = text_of(&format!("{NETWORK_MANAGER}/{index}"))?.unwrap_or_default();
    Ok(is_network_managers(&state).then_some(InCharge::NetworkManager))
}

/// The ports of Open vSwitch, by its database; none where that does not run.
fn open_vswitch() -> Seen<Vec<OvsPort>> {
    let unseen = |error: io::Error| {
        Unseen::because(format!("Open vSwitch's database ({OPEN_VSWITCH}): {error}"))
    };
    match asked_database() {
        Ok(answer) => {
            let answer: serde_json::Value = answer;
            ovs_ports(&answer).ok_or_else(|| unseen(ErrorKind::InvalidData.into()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unseen(error)),
    }
}

/// One JSON-RPC answer (RFC 7047 §4.1): the first whole document that comes.
fn asked_database() -> io::Result<serde_json::Value> {
    let mut socket = UnixStream::connect(OPEN_VSWITCH)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(ovs_question().to_string().as_bytes())?;
    let mut answers = serde_json::Deserializer::from_reader(socket.take(LONGEST)).into_iter();
    match answers.next() {
        Some(answer) => Ok(answer?),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// What is looked at without asking anybody but the kernel: some milliseconds, unless other tables are large.
pub fn of_the_kernel(kernel: &mut Kernel, wish: &Wish) -> Surroundings {
    let route = &mut kernel.route;
    let links = route.ways().map_err(Unseen::because);
    let known = links.as_deref().unwrap_or_default();
    let nic = known.iter().find(|link| link.name == wish.nic);
    let has_neighbour = nic.is_some_and(|nic| has_neighbour(route, nic.index, wish.vip));
    let beneath = nic.and_then(|nic| beside(nic.kind.as_deref(), nic.parent));
    let beneath = beneath.and_then(|index| known.iter().find(|link| link.index == index));
    let settings = settings(wish, has_neighbour, beneath).map_err(Unseen::because);
    let tcx = nic.map_or(Err(Unseen::NotAsked), |nic| {
        bpf::has_tcx(nic.index).map_err(Unseen::because)
    });
    Surroundings {
        links,
        settings,
        default_ways: route.default_ways(Family::V4).map_err(Unseen::because),
        tcx,
        chains: kernel.nft.foreign_chains().map_err(Unseen::because),
        clusterip: clusterip(wish.vip),
        ..Surroundings::default()
    }
}

/// Has the interface an address in whose network the VIP is?
fn has_neighbour(route: &mut RouteSocket, index: u32, vip: Option<IpAddr>) -> bool {
    let Some(vip) = vip else {
        return true;
    };
    let held = route.addresses(Some(index), Some(Family::of(&vip)));
    held.unwrap_or_default().iter().any(|held| {
        let network = Network::of(held.addr, held.prefix);
        held.addr != vip && !network.is_trivial() && network.contains(vip)
    })
}

fn settings(
    wish: &Wish,
    has_neighbour: bool,
    beneath: Option<&Link>,
) -> Result<Settings, SysctlError> {
    let nic = wish.nic.raw();
    let beneath = beneath
        .map(|link| silence_of(link.name.raw()))
        .transpose()?;
    let anybodys = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let answers = beneath.filter(|it| it.answers(wish.vip.unwrap_or(anybodys)));
    let value = |family, nic: &str, key| sysctl::read(&SysctlPath::new(family, nic, key)?);
    let greater = |key| -> Result<i32, SysctlError> {
        let both = value(Family::V4, nic, key)?.max(value(Family::V4, "all", key)?);
        Ok(both.unwrap_or_default())
    };
    let family = wish.vip.as_ref().map_or(Family::V4, Family::of);
    let lock = second_lock::path(nic, family)?;
    let lockable = match sysctl::read(&lock)? {
        Some(0) => sysctl::check_writable(&lock, 1).is_ok(),
        _ => true,
    };
    Ok(Settings {
        rp_filter: greater(Key::RpFilter)?,
        arp_ignore: greater(Key::ArpIgnore)?,
        has_neighbour,
        lockable,
        answers_beneath: answers.map(|it| it.name),
        ip6_off: value(Family::V6, nic, Key::DisableIpv6)? != Some(0),
        l3mdev_accept: sysctl::tcp_l3mdev_accept()?,
    })
}
