//! VXLAN between hypervisors, and macvtap below a guest: their rows of the table of switches in docs/network.md, and the
//! lines that nodectl prints for them.

use crate::kernel_support::{in_user_namespace, ip_lines, kernel_has, tell_skipped};
use crate::product::*;
use crate::raw;
use crate::switch_support::*;
use clusterip::model::vip::L2Mode;
use lab::{Context, Error, Lab, Node, Result};
use std::io::Read;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Each node has a hypervisor of its own; the client is a guest of the first.
const HYPERVISORS: [(&str, &[&str]); 3] =
    [("h11", &["n1", "c1"]), ("h12", &["n2"]), ("h13", &["n3"])];

const PATIENCE: Duration = Duration::from_secs(20);

struct Overlay {
    modes: Modes,
    hypervisors: Vec<Node>,
}

impl Overlay {
    /// Every hypervisor knows where each guest is, as a controller would tell it, and learns nothing.
    fn new() -> Result<Self> {
        let modes = Modes::new("vxlan")?;
        modes.pin()?;
        let names = HYPERVISORS.map(|(name, _)| name);
        let hypervisors: Vec<Node> = names
            .iter()
            .map(|name| modes.lab.node(name))
            .collect::<Result<_>>()?;
        for (hypervisor, (_, guests)) in hypervisors.iter().zip(HYPERVISORS) {
            let own = hypervisor.v4();
            let mut lines = format!(
                "link add br1 type bridge stp_state 0 mcast_snooping 0\nlink set br1 up\n\
                 link add vx0 type vxlan id 42 dstport 4789 local {own} nolearning\nlink set vx0 master br1 up\n"
            );
            let pid = hypervisor.holder()?.to_string();
            for guest in guests {
                modes
                    .lab
                    .switch(&["ip", "link", "set", guest, "netns", &pid])?;
                lines += &format!("link set {guest} master br1 up\n");
            }
            ip_lines(hypervisor, &lines)?;
        }
        let overlay = Overlay { modes, hypervisors };
        for (name, guests) in HYPERVISORS {
            for guest in guests {
                let mac = overlay.modes.lab.mac_of(guest)?;
                overlay.on_others(
                    name,
                    &format!("bridge fdb append {mac} dev vx0 dst <HYPERVISOR>"),
                )?;
            }
        }
        Ok(overlay)
    }

    fn address_of(&self, name: &str) -> Result<String> {
        let found = self
            .hypervisors
            .iter()
            .find(|hypervisor| hypervisor.name() == name);
        Ok(found.context(name.to_owned())?.v4().to_string())
    }

    /// A line on all hypervisors but one, of which it is told.
    fn on_others(&self, of: &str, line: &str) -> Result<()> {
        let line = line.replace("<HYPERVISOR>", &self.address_of(of)?);
        let others = self
            .hypervisors
            .iter()
            .filter(|hypervisor| hypervisor.name() != of);
        others
            .into_iter()
            .try_for_each(|hypervisor| run(hypervisor, &line).map(drop))
    }

    /// The lines for the hypervisors, on each of them, once for each other one.
    fn everywhere(&self, lines: &[String]) -> Result<()> {
        let names = HYPERVISORS.iter().map(|(name, _)| name);
        names
            .flat_map(|name| lines.iter().map(move |line| (name, line)))
            .try_for_each(|(name, line)| self.on_others(name, line))
    }
}

fn run(host: &lab::Host, line: &str) -> Result<String> {
    host.run(&line.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn a_vxlan_carries_each_mode_as_the_table_says_and_the_lines_for_it_help() -> Result<()> {
    let made_by = "link add vx0 type vxlan id 42 dstport 4789 nolearning\n";
    if !kernel_has("VXLAN", &["vxlan"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let overlay = Overlay::new()?;
    let modes = &overlay.modes;
    let blanks = [("<VXLAN>", "vx0")];
    let first = &overlay.hypervisors[0];
    let (h12, h13) = (overlay.address_of("h12")?, overlay.address_of("h13")?);
    let one: &[&str] = &["n1"];
    modes.expect("VXLAN nolearning, no entries of all zeros", [one; 5])?;
    let [multicast4, multicast6, igmp, stealth4, _] = VIPS;
    let mut guides = Vec::new();
    for vip in [multicast4, multicast6, igmp] {
        let (guide, mac) = (modes.guide("vxlan", vip)?, mac_of(vip));
        let lines = guide.lines(&mac, &blanks)?;
        overlay.everywhere(&lines)?;
        // Another word would not do.
        for word in ["add", "replace"] {
            let line = lines[0]
                .replace("append", word)
                .replace("<HYPERVISOR>", &h13);
            assert!(run(first, &line).is_err(), "{line}");
        }
        guides.push(guide);
    }
    modes.expect(
        "… each hypervisor told of the MAC (append)",
        [ALL, ALL, ALL, one, one],
    )?;
    // A unicast MAC has one destination, and nothing tells.
    for to in [&h12, &h13] {
        run(
            first,
            &format!("bridge fdb append {} dev vx0 dst {to}", mac_of(stealth4)),
        )?;
    }
    let shown = run(first, "bridge fdb show dev vx0")?;
    assert!(
        shown
            .lines()
            .filter(|line| line.contains(&mac_of(stealth4)))
            .count()
            == 1,
        "{shown}"
    );
    modes.expect(
        "… two appended for a stealth MAC",
        [ALL, ALL, ALL, &["n1", "n2"], one],
    )?;
    run(
        first,
        &format!("bridge fdb del {} dev vx0 dst {h12}", mac_of(stealth4)),
    )?;
    for vip in [multicast4, multicast6, igmp] {
        let undo = format!("bridge fdb del {} dev vx0 dst <HYPERVISOR>", mac_of(vip));
        overlay.everywhere(&[undo])?;
    }
    modes.expect("… told of nothing", [one; 5])?;
    let stealth = modes.guide("vxlan", stealth4)?;
    let zeros = stealth.lines("00:00:00:00:00:00", &blanks)?;
    overlay.everywhere(&zeros)?;
    modes.expect("VXLAN with entries of all zeros", ARRIVE)?;
    for hypervisor in &overlay.hypervisors {
        ip_lines(hypervisor, "link set vx0 type vxlan learning\n")?;
    }
    modes.unpin()?;
    modes.expect("… which learns", ARRIVE)?;
    for hypervisor in &overlay.hypervisors {
        let own = hypervisor.v4();
        let lines = format!(
            "link del vx0\nlink add vx0 type vxlan id 42 dstport 4789 local {own} group 239.1.1.1 dev eth0\n\
             link set vx0 master br1 up\n"
        );
        ip_lines(hypervisor, &lines)?;
    }
    modes.expect("VXLAN by a multicast group", ARRIVE)?;
    for guide in &guides {
        // It is the same line.
        assert_eq!(guide.lines("00:00:00:00:00:00", &blanks)?, zeros);
        guide.expect_all_taken(&[])?;
        for line in guide.checks(&blanks) {
            run(first, &line)?;
        }
    }
    stealth.expect_all_taken(&[])
}

/// Reads what a macvtap hands to its guest; its file is made where nobody else sees it.
const GUEST: &str = "mount -t sysfs sysfs /sys\n\
    mount -t tmpfs tmpfs /mnt\n\
    mknod /mnt/tap c $(tr : ' ' < $(echo /sys/class/net/mv0/tap*/dev))\n\
    exec 3< /mnt/tap\n\
    echo reads\n\
    exec cat <&3\n";

#[test]
fn a_macvtap_hands_the_frames_to_its_guest_with_the_line_for_it() -> Result<()> {
    if in_user_namespace()? {
        tell_skipped("the file of a macvtap wants the machine's own root");
        return Ok(());
    }
    let made_by = "link add link eth0 name mv0 type macvtap mode bridge\n";
    if !kernel_has("macvtap", &["macvtap"], |node| ip_lines(node, made_by))? {
        return Ok(());
    }
    let lab = Lab::new("macvtap")?;
    let (client, host) = (lab.client("c1")?, lab.node("n1")?);
    ip_lines(&host, &format!("{made_by}link set mv0 up\n"))?;
    let mut guest = host.spawn(&["unshare", "--mount", "sh", "-euc", GUEST])?;
    guest.wait_for_line("reads")?;
    let mut output = guest.child().stdout.take().context("its output")?;
    let read = Arc::new(Mutex::new(String::new()));
    let reading = read.clone();
    std::thread::spawn(move || {
        let mut part = [0; 65536];
        while let Ok(length @ 1..) = output.read(&mut part) {
            let text = String::from_utf8_lossy(&part[..length]);
            *reading.lock().unwrap_or_else(PoisonError::into_inner) += &text;
        }
    });
    let vips: Vec<IpAddr> = (1..=8)
        .flat_map(|n| [format!("10.77.{n}.99"), format!("fd77::{n}:99")])
        .map(|text| ip(&text))
        .collect();
    let wire = client.wire("eth0")?;
    let send = |to: lab::Mac, vip: IpAddr, text: &str| {
        let from = client.address_like(vip);
        let datagram = raw::udp(from, vip, [9, 9], text.as_bytes());
        let (kind, packet) = match (from, vip) {
            (IpAddr::V4(from), IpAddr::V4(vip)) => (
                0x0800_u16,
                raw::ip4([from, vip], (1, 0), raw::UDP, &[], &datagram),
            ),
            (IpAddr::V6(from), IpAddr::V6(vip)) => {
                (0x86dd, raw::ip6([from, vip], raw::UDP, &datagram))
            }
            _ => return Err(Error::new("of two families")),
        };
        wire.send(&[&to.0[..], &client.mac().0, &kind.to_be_bytes(), &packet].concat())
    };
    let text = || read.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let send_all = |round: &str| {
        let mut all = vips.iter();
        all.try_for_each(|vip| {
            let mac = L2Mode::Multicast.mac(*vip);
            send(lab::Mac(mac.0), *vip, &format!("<{round} {vip}>"))
        })
    };
    let arrived = |round: &str| {
        let text = text();
        let all = vips.iter();
        all.filter(|vip| text.contains(&format!("<{round} {vip}>")))
            .count()
    };
    // What is for everybody comes through it as well, behind what was sent before.
    send_all("first")?;
    lab.wait_until("a frame for everybody", PATIENCE, || {
        send(lab::Mac([0xff; 6]), vips[0], "<over>")?;
        match text().contains("<over>") {
            true => Ok(()),
            false => Err(Error::new("nothing came")),
        }
    })?;
    // Its filter has 256 places, in which few MACs meet one of its own groups.
    let before = arrived("first");
    assert!(before <= vips.len() / 4, "{before} of {}", vips.len());
    let guide = Guide::of(&host, "libvirt", L2Mode::Multicast, V4)?;
    for line in guide.lines("allmulticast", &[("<MACVTAP>", "mv0")])? {
        run(&host, &line)?;
    }
    lab.wait_until("all frames", PATIENCE, || {
        send_all("second")?;
        match arrived("second") {
            all if all == vips.len() => Ok(()),
            some => Err(Error::new(format!("{some} of {}", vips.len()))),
        }
    })?;
    for line in guide.checks(&[("<MACVTAP>", "mv0")]) {
        assert!(run(&host, &line)?.contains("ALLMULTI"), "{line}");
    }
    lab.progress().say(format!(
        "macvtap: {before} of {} MACs arrive, with allmulticast all",
        vips.len()
    ));
    guide.expect_all_taken(&[])
}
