//! Whatever is sent, at most one node answers: ill-formed packets, options that ask for an answer,
//! fragments whose first one never comes. Each packet has a source of its own, so that every frame
//! that comes back says what it answers.

use crate::fragments::{expect_reassembly_to_empty, shared, three};
use crate::packets::{Recipe, any_recipe};
use crate::raw::Sender;
use crate::sharing::*;
use clusterip::model::hash::HashMode;
use lab::{Error, Lab, Mac, Result, Wire};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Packets to a VIP in a mode.
const PACKETS: u16 = 1_500;

/// What a frame of a node says, and to whom; neighbour discovery and ARP are everybody's to say.
fn answer(frame: &[u8]) -> Option<String> {
    let packet = frame.get(14..)?;
    match frame[12..14] {
        [0x08, 0x00] => {
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(to).to_string())
        }
        [0x86, 0xdd] => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let discovers = packet[6] == 58 && [135, 136].contains(packet.get(40)?);
            (!discovers).then(|| Ipv6Addr::from(to).to_string())
        }
        _ => None,
    }
}

/// Who answered whom, until `stop` is set and nothing comes any more.
fn listen(
    wire: &Wire,
    names: &BTreeMap<Mac, &str>,
    stop: &AtomicBool,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut answers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let last = stop.load(Ordering::Relaxed);
        let Some(length) = wire.receive(&mut buffer, Duration::from_millis(200))? else {
            match last {
                true => return Ok(answers),
                false => continue,
            }
        };
        let frame = &buffer[..length];
        let from = frame.get(6..12).and_then(|mac| mac.try_into().ok());
        let node = from.and_then(|mac: [u8; 6]| names.get(&Mac(mac)));
        // The nodes have more to say than answers.
        let to = answer(frame).filter(|to| to.starts_with("10.78.") || to.starts_with("fd78:"));
        if let (Some(node), Some(to)) = (node, to) {
            answers.entry(to).or_default().insert((*node).to_owned());
        }
    }
}

/// The packet that came from there, for people.
fn source_of(to: &str, all: &BTreeMap<u16, (Recipe, Vec<u8>)>) -> String {
    let source = match to.parse() {
        Ok(IpAddr::V4(to)) => u16::from_be_bytes([to.octets()[2], to.octets()[3]]),
        Ok(IpAddr::V6(to)) => to.segments()[7],
        Err(_) => 0,
    };
    match all.get(&source) {
        Some((recipe, packet)) => format!("{recipe:?}: {packet:02x?}"),
        None => format!("something from {to}"),
    }
}

#[test]
fn no_packet_whatsoever_is_answered_by_two_nodes() -> Result<()> {
    let lab = Lab::new("one-answer")?;
    let (nodes, client) = three(&lab)?;
    let mut names = BTreeMap::new();
    for node in &nodes {
        names.insert(node.mac(), node.name());
        // No message is subject to any limit, neither a peer's nor that of all.
        node.sysctl("net.ipv4.icmp_ratemask", 0)?;
        node.sysctl("net.ipv6.icmp.ratemask", "")?;
        // What never becomes whole is given up, and complained of, soon.
        node.sysctl("net.ipv4.ipfrag_time", 1)?;
        node.sysctl("net.ipv6.ip6frag_time", 1)?;
    }
    let mut runner = TestRunner::default();
    for mode in [HashMode::SourceIp, HashMode::SourceIpSourcePort] {
        shared(&nodes, mode)?;
        for (vip, mac) in vips().into_iter().zip([MAC4, MAC6]) {
            let wire = lab.switch_tap(client.name())?;
            let sender = Sender::new(&client, mac)?;
            let stop = AtomicBool::new(false);
            let mut all = BTreeMap::new();
            let answers = std::thread::scope(|scope| {
                let listening = scope.spawn(|| listen(&wire, &names, &stop));
                let sent = (1..=PACKETS).try_for_each(|source| {
                    let recipe = any_recipe().new_tree(&mut runner);
                    let recipe = recipe.map_err(|why| Error::new(why.to_string()))?;
                    let recipe = recipe.current();
                    let packet = recipe.packet_from(source, vip);
                    sender.send(&packet)?;
                    all.insert(source, (recipe, packet));
                    Ok(())
                });
                let emptied = expect_reassembly_to_empty(&lab, &nodes);
                stop.store(true, Ordering::Relaxed);
                let answers = listening.join().expect("the listener did not panic");
                sent.and(emptied).and(answers)
            })?;
            let what = format!("{mode}, {vip}");
            for (to, by) in &answers {
                let source = source_of(to, &all);
                assert!(by.len() == 1, "{what}: {by:?} answered {source}");
            }
            assert!(answers.len() > 50, "{what}: {} answers", answers.len());
            lab.progress().say(format!(
                "{what}: {} of {PACKETS} packets were answered, each by one node",
                answers.len()
            ));
        }
    }
    Ok(())
}
