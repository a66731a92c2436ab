//! What is said of packets is pinned to the revision of the rules: two versions of one revision that judge a packet
//! differently could both answer it.

use super::kernel_rules::Packet;
use crate::model::hash::HashMode;
use crate::model::packet::{Taker, judge};
use crate::model::vip::tests::a_vip;
use crate::model::vip::{RULES, Vip};
use std::net::IpAddr;

/// The digest of what revision 1 says.
const SAID_BY_1: (u16, &str) = (1, "831ac951ba8bdbd5");

/// Every protocol, whole and in pieces, with beginnings that ICMP tells apart, to both families, in every mode.
fn said() -> String {
    let mut hasher = blake3::Hasher::new();
    for (vip, client) in [("10.77.0.99", "192.0.2.7"), ("fd77::99", "2001:db8::7")] {
        let client: IpAddr = client.parse().expect("an address");
        for mode in HashMode::ALL {
            let mut vip = a_vip(vip);
            vip.hasher.mode = mode;
            for packet in packets(&vip, client) {
                let said = match judge(&vip, &packet.bytes).map(|judgement| judgement.taker) {
                    None => "not for the VIP".to_owned(),
                    Some(Taker::Bucket(bucket)) => format!("bucket {bucket}"),
                    Some(Taker::Everyone) => "everyone".to_owned(),
                    Some(Taker::FollowsFirst { may_wait }) => format!("follows, waits {may_wait}"),
                    Some(Taker::Nobody) => "nobody".to_owned(),
                };
                hasher.update(said.as_bytes());
            }
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

fn packets(vip: &Vip, client: IpAddr) -> impl Iterator<Item = Packet> {
    let pieces = [(0, false), (0, true), (5, true), (5, false)];
    let types = [0u8, 3, 4, 8, 11, 12, 128, 135, 136, 137];
    let address = vip.address;
    (0..=u8::MAX).flat_map(move |protocol| {
        pieces.into_iter().flat_map(move |(offset, more)| {
            types.into_iter().map(move |first| {
                let mut payload = [first; 24];
                payload[2..4].copy_from_slice(&[0x1b, 0x58]);
                Packet::ip(client, address, protocol, (offset, more, 7), &payload)
            })
        })
    })
}

#[test]
fn whoever_changes_what_is_said_of_packets_raises_the_revision() {
    assert_eq!(
        (RULES, said().as_str()),
        SAID_BY_1,
        "raise model::vip::RULES, and pin what is said by then here"
    );
}
