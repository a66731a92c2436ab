//! Answers to the question whether others share the VIP, written by hand: as a node with another
//! description would send them to n1, and like those but for one thing.

use crate::product::*;
use lab::frame::checksum;
use std::net::{IpAddr, Ipv6Addr};

pub const N1: [u8; 6] = [2, 0x77, 0, 0, 0, 1];
pub const FORGER: [u8; 6] = [2, 0x66, 0, 0, 0, 1];
const ALL_NODES: &str = "ff02::1";
const EVERYBODY: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const OVERRIDE: u8 = 0x20;
const SOLICITED: u8 = 0x40;

/// A neighbour advertisement, as a node with another description would send it but for what is changed.
#[derive(Clone)]
pub struct Advertisement {
    pub mac: [u8; 6],
    pub to_mac: [u8; 6],
    pub from: Ipv6Addr,
    pub to: Ipv6Addr,
    pub hops: u8,
    pub code: u8,
    pub flags: u8,
    pub options: Vec<u8>,
    pub checksum: Option<u16>,
}

fn link_layer_address(mac: [u8; 6]) -> Vec<u8> {
    [&[2, 1], &mac[..]].concat()
}

fn cluster_mac6() -> [u8; 6] {
    [0x33, 0x33, 0xff, 0, 0, 0x99]
}

pub fn six(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

impl Default for Advertisement {
    fn default() -> Self {
        Advertisement {
            mac: FORGER,
            to_mac: EVERYBODY,
            from: six(V6),
            to: six(ALL_NODES),
            hops: 255,
            code: 0,
            flags: OVERRIDE,
            options: link_layer_address(cluster_mac6()),
            checksum: None,
        }
    }
}

impl Advertisement {
    pub fn frame(&self) -> Vec<u8> {
        let mut message = vec![136, self.code, 0, 0, self.flags, 0, 0, 0];
        message.extend(six(V6).octets());
        message.extend(&self.options);
        let mut summed = self.from.octets().to_vec();
        summed.extend(self.to.octets());
        summed.extend((message.len() as u32).to_be_bytes());
        summed.extend([0, 0, 0, 58]);
        summed.extend(&message);
        let sum = self.checksum.unwrap_or_else(|| checksum(&summed));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [self.to_mac, self.mac].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((message.len() as u16).to_be_bytes());
        frame.extend([58, self.hops]);
        frame.extend(self.from.octets());
        frame.extend(self.to.octets());
        frame.extend(message);
        frame
    }
}

/// An ARP reply, as a node with another description would send it but for what is changed.
#[derive(Clone)]
pub struct Reply {
    mac: [u8; 6],
    to_mac: [u8; 6],
    /// Hardware and protocol, their addresses' lengths, operation.
    kind: [u8; 8],
    says: [u8; 6],
    target_mac: [u8; 6],
    target: [u8; 4],
}

fn cluster_mac4() -> [u8; 6] {
    [1, 0, 0x5e, 0x7f, 0, 0x63]
}

impl Default for Reply {
    fn default() -> Self {
        Reply {
            mac: FORGER,
            to_mac: N1,
            kind: [0, 1, 8, 0, 6, 4, 0, 2],
            says: cluster_mac4(),
            target_mac: N1,
            target: [0; 4],
        }
    }
}

impl Reply {
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [self.to_mac, self.mac].concat();
        frame.extend([8, 6]);
        frame.extend(self.kind);
        frame.extend(self.says);
        frame.extend([10, 77, 0, 99]);
        frame.extend(self.target_mac);
        frame.extend(self.target);
        frame.resize(60, 0);
        frame
    }
}

/// What somebody says who forges the answer of `mac`, which says that the VIP is at the cluster MAC
/// with this for its last octet.
pub fn forged(vip: &str, mac: [u8; 6], last: u8) -> Vec<u8> {
    let with_last = |mut mac: [u8; 6]| {
        mac[5] = last;
        mac
    };
    match ip(vip) {
        IpAddr::V4(_) => Reply {
            mac,
            says: with_last(cluster_mac4()),
            ..Reply::default()
        }
        .frame(),
        IpAddr::V6(_) => Advertisement {
            mac,
            options: link_layer_address(with_last(cluster_mac6())),
            ..Advertisement::default()
        }
        .frame(),
    }
}

/// Frames that are like an answer but for one thing, or a few.
pub fn no_answers(vip: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = match ip(vip) {
        IpAddr::V4(_) => no_replies(),
        IpAddr::V6(_) => no_advertisements(),
    };
    let mut tagged = forged(vip, FORGER, 0x99);
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    all.push(("in a VLAN that is not here", tagged));
    all
}

fn no_replies() -> Vec<(&'static str, Vec<u8>)> {
    let as_is = Reply::default;
    let kind = |at: usize, octet: u8| {
        let mut reply = as_is();
        reply.kind[at] = octet;
        reply
    };
    let said = |says: [u8; 6]| Reply { says, ..as_is() };
    let target = [10, 77, 0, 1];
    let other = [2, 0x77, 0, 0, 0, 9];
    let all = [
        ("no Ethernet", kind(1, 6)),
        ("no IPv4", kind(2, 0x86)),
        ("a longer MAC", kind(4, 8)),
        ("a longer address", kind(5, 16)),
        ("a request", kind(7, 1)),
        ("a reverse reply", kind(7, 4)),
        ("at everybody's MAC", said([0xff; 6])),
        ("at nobody's MAC", said([0; 6])),
        ("to who has an address", Reply { target, ..as_is() }),
        (
            "of another question",
            Reply {
                target_mac: other,
                ..as_is()
            },
        ),
        (
            "in another's frame",
            Reply {
                to_mac: other,
                ..as_is()
            },
        ),
        (
            "from a group",
            Reply {
                mac: cluster_mac4(),
                ..as_is()
            },
        ),
        ("from this node", Reply { mac: N1, ..as_is() }),
    ];
    all.map(|(what, reply)| (what, reply.frame())).to_vec()
}

fn no_advertisements() -> Vec<(&'static str, Vec<u8>)> {
    let as_is = Advertisement::default;
    let to_n1 = |flags| Advertisement {
        to: six("fd77::1"),
        to_mac: N1,
        flags,
        ..as_is()
    };
    let options = |options: &[u8]| Advertisement {
        options: options.to_vec(),
        ..as_is()
    };
    let from = |text| Advertisement {
        from: six(text),
        ..as_is()
    };
    let endless = [
        &link_layer_address(cluster_mac6())[..],
        &[200, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let all = [
        (
            "the hop limit",
            Advertisement {
                hops: 63,
                ..as_is()
            },
        ),
        (
            "one hop",
            Advertisement {
                hops: 254,
                ..as_is()
            },
        ),
        (
            "no checksum",
            Advertisement {
                checksum: Some(0),
                ..as_is()
            },
        ),
        ("a code", Advertisement { code: 1, ..as_is() }),
        (
            "solicited, to all",
            Advertisement {
                flags: SOLICITED,
                ..as_is()
            },
        ),
        ("solicited", to_n1(SOLICITED)),
        ("to this node alone", to_n1(OVERRIDE)),
        ("from off the link", from("2001:db8::bad")),
        ("from another on the link", from("fd77::bad")),
        ("from nobody", from("::")),
        ("from a group", from("ff02::1")),
        ("an option without length", options(&endless)),
        (
            "an option cut off",
            options(&[2, 2, 0x33, 0x33, 0xff, 0, 0, 0x99]),
        ),
        (
            "a nonce for a MAC",
            options(&[14, 1, 0x33, 0x33, 0xff, 0, 0, 0x99]),
        ),
        (
            "at everybody's MAC",
            options(&link_layer_address([0xff; 6])),
        ),
        (
            "in a group's frame",
            Advertisement {
                mac: cluster_mac6(),
                ..as_is()
            },
        ),
        ("from this node", Advertisement { mac: N1, ..as_is() }),
        (
            "of all kinds",
            Advertisement {
                hops: 63,
                checksum: Some(0),
                ..from("2001:db8::bad")
            },
        ),
    ];
    all.map(|(what, advertisement)| (what, advertisement.frame()))
        .to_vec()
}
