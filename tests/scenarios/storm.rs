//! A program that changes nf_tables all the time: between any two questions to the kernel something is other than
//! before, so nobody ever reads a state that is at rest.

use crate::product::*;
use lab::{Context, Lab, Node, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`, and nf_tables' messages for chains.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const NEW_CHAIN: u16 = 0x0a03;
const DELETE_CHAIN: u16 = 0x0a05;
const REQUEST: u16 = 1;
const CREATE: u16 = 0x400;
/// So many transactions, and it has begun.
const BEGUN: usize = 100;
/// What Pacemaker gives an action.
const TIMEOUT_MS: &str = "8000";

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = 20 + attributes.len() as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// A transaction that changes the chain `c` of the table `ip storm`.
fn transaction(kind: u16, flags: u16) -> Vec<u8> {
    let attribute = |kind: u16, text: &[u8]| {
        let mut bytes = (4 + text.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(text);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    // NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME.
    let names = [attribute(1, b"storm\0"), attribute(3, b"c\0")].concat();
    [
        message(BEGIN, REQUEST, 0, 10, &[]),
        message(kind, REQUEST | flags, AddressFamily::Inet as u8, 0, &names),
        message(END, REQUEST, 0, 10, &[]),
    ]
    .concat()
}

/// Changes the node's nf_tables until it is told to end; how often is counted.
fn rage(
    node: &Node,
    pause: Option<Duration>,
    ends: &AtomicBool,
    times: &AtomicUsize,
) -> Result<()> {
    let (add, delete) = (transaction(NEW_CHAIN, CREATE), transaction(DELETE_CHAIN, 0));
    node.within(|| {
        let (raw, none) = (SockType::Raw, SockFlag::empty());
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, raw, none, protocol)?;
        while !ends.load(Ordering::Relaxed) {
            for change in [&add, &delete] {
                send(socket.as_raw_fd(), change, MsgFlags::empty())?;
                times.fetch_add(1, Ordering::Relaxed);
            }
            // Without a pause it is the scheduler that makes one, for milliseconds; with one there is never more rest.
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
        }
        Ok::<(), nix::Error>(())
    })?
    .context("the storm")
}

#[test]
fn a_stop_in_a_storm_of_transactions_stops() -> Result<()> {
    let lab = Lab::new("storm")?;
    let node = &serving(&lab, &["n1"])?[0];
    let paced = Some(Duration::from_micros(20));
    for (drain_timeout, pause) in [("0", None), ("60", None), ("0", paced), ("60", paced)] {
        node.run(&["nft", "add", "table", "ip", "storm"])?;
        let agent = Agent::new(V4, 4)
            .with("drain_timeout", drain_timeout)
            .variable("OCF_RESKEY_CRM_meta_timeout", TIMEOUT_MS);
        for instance in [0, 1] {
            agent.start(node, instance)?;
        }
        let (ends, times) = (AtomicBool::new(false), AtomicUsize::new(0));
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let storm = scope.spawn(|| rage(node, pause, &ends, &times));
            let stops = || -> Result<()> {
                lab.wait_until("a storm", Duration::from_secs(20), || {
                    match times.load(Ordering::Relaxed) {
                        some if some > BEGUN => Ok(()),
                        some => Err(lab::Error::new(some.to_string())),
                    }
                })?;
                for instance in [0, 1] {
                    agent.call(node, "stop", instance)?.expect(0);
                }
                Ok(())
            };
            let stopped = stops();
            ends.store(true, Ordering::Relaxed);
            storm.join().expect("no panic")?;
            stopped
        })?;
        let (times, elapsed) = (times.into_inner(), begin.elapsed());
        let rate = (times as f64 / elapsed.as_secs_f64()) as usize;
        lab.progress().say(format!(
            "{rate} transactions a second for {:.1} s",
            elapsed.as_secs_f64()
        ));
        node.run(&["nft", "delete", "table", "ip", "storm"])?;
        wait_until_gone(&lab, node, V4)?;
    }
    Ok(())
}
