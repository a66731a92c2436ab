//! Fragments while buckets move between nodes by hand.

use crate::fragments::*;
use crate::middlebox::Middlebox;
use crate::product::*;
use crate::sharing::*;
use clusterip::model::hash::{HashMode, Hasher};
use lab::frame::{ACK, SYN, What};
use lab::{Client, Context, Error, FlowResult, Lab, Node, Pace, Report, Result, Witnessed};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Buckets that move from their owner to the next node, and back.
const MOVING: [u16; 3] = [0, 4, 8];
const TIMES: usize = 4;

fn bucket(hasher: &Hasher, src: IpAddr, sport: u16) -> u16 {
    let flow = flow_from(src, sport);
    hasher.bucket(&flow, BUCKETS)
}

/// Who owns a bucket: the one that has it by default, or the next.
fn owner(bucket: u16, moved: bool) -> &'static str {
    let moved = moved && MOVING.contains(&bucket);
    NODES[(usize::from(bucket) + usize::from(moved)) % NODES.len()]
}

fn move_buckets(nodes: &[Node], there: bool) -> Result<()> {
    let node = |name: &str| {
        let found = nodes.iter().find(|node| node.name() == name);
        found.context(name.to_owned())
    };
    for vip in [V4, V6] {
        for bucket in MOVING {
            let bucket_text = bucket.to_string();
            let (from, to) = (owner(bucket, !there), owner(bucket, there));
            nodectl(node(from)?, &["release", vip, &bucket_text])?;
            nodectl(node(to)?, &["take", vip, &bucket_text])?;
        }
    }
    Ok(())
}

type Send = fn(&Client, SocketAddr, Vec<(IpAddr, u16)>, Pace) -> Result<Report>;

/// Sends again and again until it is told to stop; what became of everything.
fn steadily(
    (client, send): (&Client, Send),
    hasher: &Hasher,
    stop: &AtomicBool,
    rounds: &AtomicUsize,
) -> Result<Vec<FlowResult>> {
    let mut results = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for vip in vips() {
            let flows = client.sources_for(vip, 36).into_iter().zip(22_000..);
            let (moving, staying): (Vec<_>, Vec<_>) =
                flows.partition(|(src, sport)| MOVING.contains(&bucket(hasher, *src, *sport)));
            // What is lost in the dark is not worth a wait; what stays may wait for a busy machine.
            for (flows, patience) in [(staying, 10_000), (moving, 500)] {
                let pace = Pace {
                    size: 6_000,
                    concurrency: 12,
                    timeout: Duration::from_millis(patience),
                    abort: true,
                };
                results.extend(send(client, SocketAddr::new(vip, PORT), flows, pace)?.flows);
            }
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(results)
}

/// Flows that stay are answered by their owner always, the others by no third node.
fn judge_results(hasher: &Hasher, results: &[FlowResult]) -> Result<[usize; 3]> {
    let (mut staying, mut moving, mut dark) = (0, 0, 0);
    for result in results {
        let bucket = bucket(hasher, result.src, result.sport);
        match (&result.outcome, MOVING.contains(&bucket)) {
            (Ok(node), false) if node == owner(bucket, false) => staying += 1,
            (Ok(node), true)
                if [false, true]
                    .map(|moved| owner(bucket, moved))
                    .contains(&&node[..]) =>
            {
                moving += 1;
            }
            (Err(_), true) => dark += 1,
            _ => return Err(Error::new(format!("bucket {bucket}: {result:?}"))),
        }
    }
    Ok([staying, moving, dark])
}

/// Flows that stay hear of their owner alone, datagrams are answered once, connections accepted
/// once. (A connection whose bucket moves is reset by the new owner, which is as it should be.)
fn judge_frames(hasher: &Hasher, seen: &Witnessed) -> Result<()> {
    let mut accepted: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for witnessed in &seen.frames {
        let frame = &witnessed.frame;
        let flow = answered_flow(frame);
        let bucket = bucket(hasher, flow.source, flow.source_port);
        let sender = seen.name(frame.from);
        if !MOVING.contains(&bucket) && sender != owner(bucket, false) {
            return Err(Error::new(format!("{sender} sent {witnessed:?}")));
        }
        match &frame.what {
            // By what it acknowledges: an owner of before may repeat its answer to an earlier SYN.
            What::Tcp {
                flags,
                acknowledged,
                ..
            } if flags & (SYN | ACK) == SYN | ACK => {
                let connection = (frame.dst, frame.src, *acknowledged);
                accepted.entry(connection).or_default().insert(sender);
            }
            _ => {}
        }
    }
    if let Some(twice) = accepted.iter().find(|(_, nodes)| nodes.len() > 1) {
        return Err(Error::new(format!("accepted twice: {twice:?}")));
    }
    let doubles = seen.double_answers();
    match doubles
        .iter()
        .find(|double| !double.request.starts_with("TCP"))
    {
        Some(double) => Err(Error::new(format!("{double:?}"))),
        None => Ok(()),
    }
}

#[test]
fn fragments_follow_their_bucket_when_it_moves_and_no_others_are_lost() -> Result<()> {
    let lab = Lab::new("moving")?;
    let (nodes, narrow) = three(&lab)?;
    let [wide, asker] = [lab.client("c2")?, lab.client("c3")?];
    let middlebox = Middlebox::new(&lab, &narrow, 600)?;
    let hasher = shared(&nodes, HashMode::default())?;
    let witnesses = [&narrow, &wide].map(|client| client.witness(&vips()));
    let (stop, rounds) = (
        AtomicBool::new(false),
        [(); 2].map(|()| AtomicUsize::new(0)),
    );
    let (tcp, udp, moved) = std::thread::scope(|scope| {
        let drivers: [(&Client, Send); 2] = [
            (&narrow, |client, to, flows, pace| {
                client.tcp(to, flows, pace)
            }),
            (&wide, |client, to, flows, pace| client.udp(to, flows, pace)),
        ];
        let (stop, rounds, hasher) = (&stop, &rounds, &hasher);
        let [tcp, udp] = [0, 1].map(|n| {
            let driver = drivers[n];
            scope.spawn(move || steadily(driver, hasher, stop, &rounds[n]))
        });
        let moved = (0..2 * TIMES).try_for_each(|n| {
            let there = n % 2 == 0;
            let before = [0, 1].map(|n| rounds[n].load(Ordering::Relaxed));
            lab.wait_until("steady traffic", Duration::from_secs(60), || {
                (0..2).all(|n| rounds[n].load(Ordering::Relaxed) > before[n])
            })?;
            move_buckets(&nodes, there)?;
            expect_all_at_their_owners(&asker, hasher, there)
        });
        stop.store(true, Ordering::Relaxed);
        let ended = "the client did not panic";
        (tcp.join().expect(ended), udp.join().expect(ended), moved)
    });
    moved?;
    for (kind, results) in [("TCP", tcp?), ("UDP", udp?)] {
        let [staying, moving, dark] = judge_results(&hasher, &results).context(kind)?;
        lab.progress().say(format!(
            "{kind}: {staying} in buckets that stayed, none lost; {moving} in those that moved, \
             {dark} lost in the dark"
        ));
        assert!(staying > 0 && moving > dark, "{kind}");
    }
    for witness in witnesses {
        judge_frames(&hasher, &witness?.finish()?)?;
    }
    middlebox.finish()?;
    Ok(())
}

/// Every bucket is served, where it is now.
fn expect_all_at_their_owners(client: &Client, hasher: &Hasher, moved: bool) -> Result<()> {
    for vip in vips() {
        let pace = Pace {
            size: 6_000,
            concurrency: 8,
            timeout: Duration::from_secs(10),
            abort: false,
        };
        let flows = client.sources_for(vip, 60);
        let report = client.udp(SocketAddr::new(vip, PORT), flows, pace)?;
        report.expect_all_answered()?;
        for (flow, node) in report.answered() {
            let bucket = bucket(hasher, flow.src, flow.sport);
            assert_eq!(node, owner(bucket, moved), "bucket {bucket}");
        }
    }
    Ok(())
}
