//! Whole packets that a middlebox cuts into pieces on their way, TCP too, with and without manners.

use crate::fragments::*;
use crate::middlebox::{Manner, Middlebox};
use crate::product::*;
use crate::sharing::*;
use clusterip::model::hash::HashMode;
use lab::{Client, Context, Lab, Node, Pace, Report, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The longest packet that the middlebox lets pass in one piece.
const LIMIT: usize = 600;

fn pace(size: usize, patience: Duration) -> Pace {
    Pace {
        size,
        concurrency: if size > 20_000 { 2 } else { 8 },
        timeout: patience,
        abort: true,
    }
}

type Reports = Vec<(String, Report)>;

/// Requests of these protocols, of so many bytes each.
fn exchange(
    client: &Client,
    vip: IpAddr,
    requests: &[(Kind, usize)],
    patience: Duration,
) -> Result<Reports> {
    let target = SocketAddr::new(vip, PORT);
    let ask = |(kind, size): &(Kind, usize)| {
        let pace = pace(*size, patience);
        let flows = client.sources_for(vip, if *size > 20_000 { 12 } else { 24 });
        let report = match kind {
            Udp => client.udp(target, flows, pace)?,
            Tcp => client.tcp(target, flows, pace)?,
        };
        Ok((format!("{kind:?}, {vip}, {size} bytes"), report))
    };
    requests.iter().map(ask).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Udp,
    Tcp,
}
use Kind::{Tcp, Udp};

#[test]
fn what_a_middlebox_cuts_is_answered_whole_by_the_owner() -> Result<()> {
    let lab = Lab::new("cut")?;
    let (nodes, client) = three(&lab)?;
    let middlebox = Middlebox::new(&lab, &client, LIMIT)?;
    let mut answered = 0;
    for manner in [Manner::InOrder, Manner::Swapped] {
        middlebox.set(manner);
        for mode in HashMode::ALL {
            let hasher = shared(&nodes, mode)?;
            for vip in vips() {
                let witness = client.witness(&[vip])?;
                let mut requests = vec![(Udp, 1_000), (Tcp, 1_000), (Udp, 8_000), (Tcp, 8_000)];
                requests.push((Udp, 60_000));
                // Swapped, each segment has a piece that overtakes its first: that is too much.
                if manner == Manner::InOrder {
                    requests.push((Tcp, 60_000));
                }
                let reports = exchange(&client, vip, &requests, LONG)?;
                for (what, report) in reports {
                    let what = format!("{manner:?}, {mode}, {what}");
                    report.expect_all_answered().context(&what)?;
                    expect_foretold(&hasher, &report).context(&what)?;
                    answered += report.flows.len();
                }
                judge_by(&hasher, &witness.finish()?)?;
            }
        }
    }
    let cut = middlebox.finish()?;
    assert!(cut > answered, "{cut} packets");
    expect_no_reassembly_failed(&nodes)?;
    lab.progress().say(format!(
        "{answered} requests, {cut} packets were cut, none lost"
    ));
    Ok(())
}

/// Pieces do not wait long for others here.
fn hurry(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        node.sysctl("net.ipv4.ipfrag_time", 1)?;
        node.sysctl("net.ipv6.ip6frag_time", 1)?;
    }
    Ok(())
}

#[test]
fn ill_cut_packets_are_answered_by_the_owner_or_not_at_all() -> Result<()> {
    let lab = Lab::new("ill-cut")?;
    let (nodes, client) = three(&lab)?;
    hurry(&nodes)?;
    let other = lab.client("c2")?;
    let middlebox = Middlebox::new(&lab, &client, LIMIT)?;
    let hasher = shared(&nodes, HashMode::default())?;
    for manner in [
        Manner::Doubled,
        Manner::Overlapping,
        Manner::Tiny,
        Manner::Incomplete,
    ] {
        middlebox.set(manner);
        for vip in vips() {
            let witnesses = [client.witness(&[vip])?, other.witness(&[vip])?];
            let (ill, well) = std::thread::scope(|scope| {
                let well = scope.spawn(|| exchange(&other, vip, &WELL, LONG));
                let hopeless = [Manner::Overlapping, Manner::Incomplete].contains(&manner);
                let patience = if hopeless {
                    Duration::from_secs(1)
                } else {
                    LONG
                };
                let ill =
                    exchange(&client, vip, &[(Udp, 400), (Tcp, 400)], LONG).and_then(|mut ill| {
                        ill.extend(exchange(
                            &client,
                            vip,
                            &[(Udp, 8_000), (Tcp, 8_000)],
                            patience,
                        )?);
                        Ok(ill)
                    });
                (ill, well.join().expect("the other client did not panic"))
            });
            for (what, report) in well? {
                report
                    .expect_all_answered()
                    .context(format!("beside {manner:?}: {what}"))?;
                expect_foretold(&hasher, &report)?;
            }
            for (what, report) in ill? {
                expect_foretold(&hasher, &report).context(&what)?;
                let answered = report.answered().len();
                let all = report.flows.len();
                lab.progress()
                    .say(format!("{manner:?}: {what}: {answered} of {all} answered"));
                // Linux puts duplicates aside and gives up what overlaps.
                let datagrams = what.starts_with("Udp");
                if manner == Manner::Doubled || manner == Manner::Tiny && datagrams {
                    report.expect_all_answered().context(&what)?;
                }
                if manner == Manner::Incomplete && !what.ends_with(" 400 bytes") {
                    assert_eq!(answered, 0, "{what}");
                }
                if what.ends_with(" 400 bytes") && manner != Manner::Tiny {
                    report.expect_all_answered().context(&what)?;
                }
            }
            for witness in witnesses {
                judge_by(&hasher, &witness.finish()?).context(format!("{manner:?}, {vip}"))?;
            }
        }
        expect_reassembly_to_empty(&lab, &nodes)?;
        for vip in vips() {
            for (what, report) in exchange(&other, vip, &WELL, LONG)? {
                let what = format!("after {manner:?}: {what}");
                report.expect_all_answered().context(what)?;
            }
        }
    }
    middlebox.finish()?;
    Ok(())
}

#[test]
fn a_sender_in_disorder_takes_nothing_from_others() -> Result<()> {
    let lab = Lab::new("disorder")?;
    let (nodes, client) = three(&lab)?;
    let other = lab.client("c2")?;
    let hasher = shared(&nodes, HashMode::default())?;
    let middlebox = Middlebox::new(&lab, &client, LIMIT)?;
    middlebox.set(Manner::Swapped);
    for vip in vips() {
        let target = SocketAddr::new(vip, PORT);
        let flood = || -> Result<()> {
            let pace = Pace {
                size: 60_000,
                concurrency: 24,
                timeout: Duration::from_secs(2),
                abort: true,
            };
            for _ in 0..5 {
                client.tcp(target, client.sources_for(vip, 24), pace)?;
            }
            Ok(())
        };
        let answered = std::thread::scope(|scope| -> Result<usize> {
            let flood = scope.spawn(flood);
            let mut answered = 0;
            while !flood.is_finished() {
                let requests = [(Udp, 8_000), (Tcp, 8_000), (Udp, 60_000)];
                for (what, report) in exchange(&other, vip, &requests, LONG)? {
                    report.expect_all_answered().context(&what)?;
                    expect_foretold(&hasher, &report).context(&what)?;
                    answered += report.flows.len();
                }
            }
            flood.join().expect("the sender did not panic")?;
            Ok(answered)
        })?;
        let early = match vip {
            IpAddr::V4(_) => "early-fragments-ip4",
            IpAddr::V6(_) => "early-fragments-ip6",
        };
        let early = nodes[0].run(&["nft", "list", "set", "netdev", "clusterip", early])?;
        let waiting = early.matches("expires").count();
        lab.progress().say(format!(
            "{answered} requests beside it over {vip}, none lost; {waiting} fragments wait"
        ));
        assert!(waiting >= 256, "the sender was too slow to prove anything");
    }
    let cut = middlebox.finish()?;
    assert!(cut > 1_000, "{cut} packets were cut");
    Ok(())
}

const LONG: Duration = Duration::from_secs(10);
/// What is sent beside what is ill cut.
const WELL: [(Kind, usize); 4] = [(Udp, 16), (Tcp, 16), (Udp, 8_000), (Tcp, 8_000)];
