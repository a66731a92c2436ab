#!/bin/sh
# Does smoltcp, the IP stack of small devices and unikernels, believe an answer that names a multicast MAC?
#
# RFC 1812 forbids routers to believe such an ARP reply, and says nothing of hosts; Linux, lwIP and gVisor do. smoltcp is
# a host's stack. It drops ARP replies whose sender has a MAC that is no unicast one, and neighbour advertisements with
# such a target MAC: its client asks again and again, and sends nothing to who has a multicast MAC.
#
# Wants cargo with its registry. Builds in a temporary folder, needs no root and no network device: frames go by memory.
# Ends with 0 while smoltcp behaves so, with 1 if it does otherwise.
set -eu

VERSION=0.12.0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<CARGO
[package]
name = "asks"
version = "0.0.0"
edition = "2021"
[dependencies]
smoltcp = { version = "=$VERSION", default-features = false, features = ["std", "medium-ethernet", "proto-ipv4", "proto-ipv6", "socket-udp"] }
[workspace]
CARGO
cat > src/main.rs <<'MAIN'
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::*;
use std::collections::VecDeque;

#[derive(Default)]
struct Wire { to: VecDeque<Vec<u8>>, from: VecDeque<Vec<u8>> }
struct In(Vec<u8>);
struct Out<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R { f(&self.0) }
}
impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let done = f(&mut frame);
        self.0.push_back(frame);
        done
    }
}
impl Device for Wire {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;
    fn receive(&mut self, _: Instant) -> Option<(In, Out<'_>)> {
        self.to.pop_front().map(|frame| (In(frame), Out(&mut self.from)))
    }
    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> { Some(Out(&mut self.from)) }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = DeviceCapabilities::default();
        (all.medium, all.max_transmission_unit) = (Medium::Ethernet, 1514);
        all.checksum = ChecksumCapabilities::default();
        all.checksum.udp = Checksum::Both;
        all
    }
}

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 7];

fn answer(question: &[u8], vip: IpAddress, mac: [u8; 6]) -> Vec<u8> {
    // The frame itself comes from the node's own MAC, in each case.
    let node = [2u8, 0, 0, 0, 0, 1];
    match vip {
        IpAddress::Ipv4(vip) => {
            let repr = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(mac),
                source_protocol_addr: vip,
                target_hardware_addr: EthernetAddress(OWN),
                target_protocol_addr: Ipv4Address::new(10, 0, 0, 7),
            };
            let mut body = vec![0; repr.buffer_len()];
            repr.emit(&mut ArpPacket::new_unchecked(&mut body));
            [&OWN[..], &node, &[8, 6], &body].concat()
        }
        IpAddress::Ipv6(vip) => {
            let asker = Ipv6Packet::new_unchecked(&question[14..]).src_addr();
            let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
                target_addr: vip,
                lladdr: Some(EthernetAddress(mac).into()),
            });
            let ip = Ipv6Repr {
                src_addr: vip, dst_addr: asker, next_header: IpProtocol::Icmpv6,
                payload_len: advert.buffer_len(), hop_limit: 255,
            };
            let mut body = vec![0; 40 + advert.buffer_len()];
            ip.emit(&mut Ipv6Packet::new_unchecked(&mut body[..]));
            let all = ChecksumCapabilities::default();
            advert.emit(&vip, &asker, &mut Icmpv6Packet::new_unchecked(&mut body[40..]), &all);
            [&OWN[..], &node, &[0x86, 0xdd], &body].concat()
        }
    }
}

/// Whether its datagram goes to this MAC, after it was told that the address is there.
fn believes(vip: &str, mac: [u8; 6]) -> bool {
    let vip: IpAddress = vip.parse().unwrap();
    let mut wire = Wire::default();
    let mut now = Instant::from_secs(1);
    let mut iface = Interface::new(Config::new(EthernetAddress(OWN).into()), &mut wire, now);
    iface.update_ip_addrs(|all| {
        all.push("10.0.0.7/24".parse().unwrap()).unwrap();
        all.push("2001:db8::7/64".parse().unwrap()).unwrap();
    });
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 512]);
    let mut sockets = SocketSet::new(vec![]);
    let handle = sockets.add(udp::Socket::new(buffer(), buffer()));
    sockets.get_mut::<udp::Socket>(handle).bind(4000).unwrap();
    sockets.get_mut::<udp::Socket>(handle).send_slice(b"hello", (vip, 9)).unwrap();
    let mut asked = 0;
    for _ in 0..20 {
        iface.poll(now, &mut wire, &mut sockets);
        for frame in std::mem::take(&mut wire.from) {
            if frame.windows(5).any(|part| part == b"hello") {
                assert_eq!(frame[..6], mac);
                return true;
            }
            let is_arp = frame[12..14] == [8, 6] && frame[21] == 1;
            let is_solicitation = frame[12..14] == [0x86, 0xdd] && frame[54] == 135;
            if is_arp || is_solicitation {
                asked += 1;
                wire.to.push_back(answer(&frame, vip, mac));
            }
        }
        now += smoltcp::time::Duration::from_secs(1);
    }
    assert!(asked > 1, "it asks again");
    false
}

fn main() {
    let mut surprises = 0;
    for (what, vip, mac, expected) in [
        ("ARP, a unicast MAC", "10.0.0.99", [2, 0xbf, 10, 0, 0, 99], true),
        ("ARP, a multicast MAC", "10.0.0.99", [1, 0, 0x5e, 0x7f, 0, 99], false),
        ("advertisement, a unicast MAC", "2001:db8::99", [2, 0xbf, 0, 0, 0, 99], true),
        ("advertisement, a multicast MAC", "2001:db8::99", [0x33, 0x33, 0xff, 0, 0, 99], false),
    ] {
        let seen = believes(vip, mac);
        println!("{what}: {}", if seen { "believed" } else { "not believed" });
        if seen != expected {
            println!("  another behaviour: that is not what was expected");
            surprises = 1;
        }
    }
    std::process::exit(surprises);
}
MAIN
echo "smoltcp $VERSION"
cargo run --quiet
