//! Random descriptions and phases in a real kernel, observed back; random packets, malformed ones among them,
//! judged by the kernel as the mirror (`clusterip::model::packet`) foretells.

use crate::packets::{Recipe, any_recipe};
use crate::product::*;
use clusterip::host::features::missing;
use clusterip::model::bucket::BucketSet;
use clusterip::model::change::Change;
use clusterip::model::hash::{Flow, HashMode, Hasher, Layout};
use clusterip::model::mac::Mac;
use clusterip::model::packet::{Segment, Taker, do_kernels_differ, judge};
use clusterip::model::phase::{Phase, Phases};
use clusterip::model::ruleset::{Element, Family, Target};
use clusterip::model::vip::Vip;
use clusterip::plan::diff::changes;
use clusterip::reading::installed::{counts, foreign, installed};
use clusterip::rules::dataplane;
use clusterip::rules::features::features;
use clusterip::rules::leaving::{flow_bytes, flow_of_bytes, flows_spec};
use clusterip::rules::names::flows_set;
use clusterip::sys::nft::{NftError, NftSocket};
use lab::{Client, Context, Error, Lab, Node, Result, wait_until};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The sender by which the node's own rules know what was injected.
const SENDER: Mac = Mac([0x02, 0x66, 0, 0, 0, 1]);
/// What comes through our rules is counted, and goes no further.
const COUNT: &str = "table netdev judged {
    counter passed {}
    chain ingress {
        type filter hook ingress device eth0 priority 0;
        ether saddr 02:66:00:00:00:01 counter name passed drop
    }
}";

/// A VIP, its buckets' phases, and the flows that stay.
#[derive(Debug, Clone)]
struct Shared {
    vip: Vip,
    phases: Phases,
    flows: BTreeSet<Flow>,
}

/// How long phases last that end by themselves: longer than they are looked at.
const LASTING_MS: u64 = 60_000;

/// Phases by the bits of a number: about as many buckets in each of the five.
fn any_phases(buckets: u16, coin: u64) -> Phases {
    let mut phases = Phases::default();
    for bucket in 0..buckets {
        let owned = phases.owned.union(&BucketSet::one(bucket));
        match coin.rotate_right(u32::from(bucket % 61)) % 5 {
            1 => phases.owned = owned,
            2 => {
                phases.owned = owned;
                phases.adopting.insert(bucket, LASTING_MS);
            }
            3 => drop(phases.closing.insert(bucket, LASTING_MS)),
            4 => drop(phases.draining.insert(bucket, LASTING_MS)),
            _ => {}
        }
    }
    phases
}

/// Up to three VIPs of different addresses, as anybody could have described them.
fn any_vips() -> impl Strategy<Value = Vec<Shared>> {
    let hasher = (0usize..3, 0usize..2, any::<u32>()).prop_map(|(mode, layout, seed)| Hasher {
        mode: HashMode::ALL[mode],
        layout: Layout::ALL[layout],
        seed,
    });
    let buckets = prop_oneof![1u16..=1, 2u16..=16, 17u16..=1024];
    let one = (any::<bool>(), hasher, buckets, any::<u64>(), any::<bool>());
    prop::collection::vec(one, 1..=3).prop_map(|all| {
        let all = all.into_iter().enumerate();
        all.map(|(n, (is_ip4, hasher, buckets, coin, moves))| {
            let address: IpAddr = match is_ip4 {
                true => [10, 77, 0, 90 + n as u8].into(),
                false => [0xfd77, 0, 0, 0, 0, 0, 0, 0x90 + n as u16].into(),
            };
            let vip = described(address, hasher, buckets);
            let owned = (0..buckets).filter(|bucket| (coin >> (bucket % 64)) & 1 == 1);
            let phases = match moves {
                true => any_phases(buckets, coin),
                false => Phases::owning(owned.collect()),
            };
            let flows = BTreeSet::new();
            Shared { vip, phases, flows }
        })
        .collect()
    })
}

/// What the kernel did with packets: those that came through, and for each VIP those that were
/// dropped and those that found each owned bucket.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Tally {
    passed: u64,
    vips: BTreeMap<IpAddr, (u64, BTreeMap<u16, u64>)>,
}

impl Tally {
    fn all(&self) -> u64 {
        self.passed + self.vips.values().map(|(dropped, _)| dropped).sum::<u64>()
    }

    /// What is new since an earlier one.
    fn since(&self, earlier: &Tally) -> Tally {
        let vips = self.vips.iter().map(|(address, (dropped, buckets))| {
            let (dropped_then, then) = earlier.vips.get(address).cloned().unwrap_or_default();
            let buckets = buckets.iter().map(|(bucket, count)| {
                (
                    *bucket,
                    count - then.get(bucket).copied().unwrap_or_default(),
                )
            });
            let buckets = buckets.filter(|(_, count)| *count > 0).collect();
            (*address, (dropped - dropped_then, buckets))
        });
        Tally {
            passed: self.passed - earlier.passed,
            vips: vips.collect(),
        }
    }
}

/// What the mirror foretells of a sequence of packets.
fn foretold(vips: &[Shared], packets: &[Vec<u8>]) -> Tally {
    let mut tally = Tally::default();
    for shared in vips {
        tally.vips.insert(shared.vip.address, Default::default());
    }
    let mut flows: BTreeMap<IpAddr, BTreeSet<Flow>> = vips
        .iter()
        .map(|shared| (shared.vip.address, shared.flows.clone()))
        .collect();
    let (mut begun, mut foreign) = (BTreeSet::new(), BTreeSet::new());
    for packet in packets {
        let judged = vips
            .iter()
            .find_map(|Shared { vip, phases, .. }| Some((vip, phases, judge(vip, packet)?)));
        let Some((vip, phases, judgement)) = judged else {
            tally.passed += 1;
            continue;
        };
        let owned = &phases.owned;
        let flows = flows.entry(vip.address).or_default();
        let (dropped, buckets) = tally.vips.entry(vip.address).or_default();
        let key = judgement.datagram.map(|datagram| (vip.address, datagram));
        let (passes, bucket) = match judgement.taker {
            Taker::Bucket(bucket) if owned.contains(bucket) => (true, Some(bucket)),
            Taker::Bucket(bucket) => {
                let phase = phases.of(bucket);
                let segment = judgement.segment;
                let taken = segment.is_some_and(|segment| segment.is_taken(phase, flows));
                // Who begins anew has done with the old connection.
                if let (
                    Phase::Draining,
                    Some(Segment {
                        syn: Some(true),
                        flow: Some(flow),
                        ..
                    }),
                ) = (phase, segment)
                {
                    flows.remove(&flow);
                }
                (taken, None)
            }
            // By source address the bucket is asked for first, and counts.
            Taker::Everyone if vip.hasher.mode == HashMode::SourceIp => {
                let flow = Flow {
                    source: source(packet),
                    source_port: 0,
                    destination_port: 0,
                };
                let bucket = vip.hasher.bucket(&flow, vip.buckets.get());
                (true, Some(bucket).filter(|bucket| owned.contains(*bucket)))
            }
            Taker::Everyone => (true, None),
            Taker::FollowsFirst { may_wait } => {
                let waits = may_wait || key.is_some_and(|key| begun.contains(&key));
                let is_foreign = key.is_some_and(|key| foreign.contains(&key));
                (waits && !is_foreign, None)
            }
            Taker::Nobody => (false, None),
        };
        match passes {
            true => tally.passed += 1,
            false => *dropped += 1,
        }
        if let Some(bucket) = bucket.filter(|_| passes) {
            *buckets.entry(bucket).or_default() += 1;
        }
        let follows = matches!(judgement.taker, Taker::FollowsFirst { .. });
        if let Some(key) = key.filter(|_| !follows) {
            begun.insert(key);
            match passes {
                true => foreign.remove(&key),
                false => foreign.insert(key),
            };
        }
    }
    tally
}

/// The source address of a packet that was judged.
fn source(packet: &[u8]) -> IpAddr {
    match packet[0] >> 4 {
        6 => <[u8; 16]>::try_from(&packet[8..24])
            .expect("16 bytes")
            .into(),
        _ => <[u8; 4]>::try_from(&packet[12..16])
            .expect("4 bytes")
            .into(),
    }
}

/// The rules of these VIPs, and nothing else; what is read back is what was written.
fn install(node: &Node, vips: &[Shared]) -> Result<()> {
    let of = |shared: &Shared| (shared.vip.clone(), shared.phases.clone());
    let wanted = dataplane::ruleset(&vips.iter().map(of).collect::<Vec<_>>());
    let observed = node.within(|| {
        let mut socket = NftSocket::open()?;
        // The sets that packets fill are empty only if they are new.
        let found = socket.snapshot()?;
        socket.apply(
            &changes(&found.rules, &Default::default()),
            found.generation,
        )?;
        let found = socket.snapshot()?;
        let mut generation = socket.apply(&changes(&found.rules, &wanted), found.generation)?;
        let mut flows = BTreeMap::new();
        for shared in vips.iter().filter(|shared| !shared.flows.is_empty()) {
            generation = socket.apply(&[staying(shared)], generation)?;
            let keys = socket.keys(Family::Netdev, &flows_set(shared.vip.address))?;
            let found: BTreeSet<Flow> = keys.iter().filter_map(|key| flow_of_bytes(key)).collect();
            flows.insert(shared.vip.address, found);
        }
        Ok::<_, NftError>((socket.snapshot()?, flows))
    })?;
    let (observed, flows) = observed.map_err(|error| Error::new(error.to_string()))?;
    if observed.rules != wanted {
        let left = changes(&observed.rules, &wanted);
        return Err(Error::new(format!(
            "read back, these would be changed: {left:?}"
        )));
    }
    let back: BTreeMap<IpAddr, _> = installed(&observed.rules)
        .into_iter()
        .map(|known| (known.vip.address, known))
        .collect();
    for Shared {
        vip,
        phases,
        flows: asked,
    } in vips
    {
        let wrong = |what: String| Err(Error::new(format!("read back of {vip:?}: {what}")));
        let Some(known) = back.get(&vip.address).filter(|known| known.vip == *vip) else {
            return wrong(format!("{back:?}"));
        };
        let found = flows.get(&vip.address).cloned().unwrap_or_default();
        if found != *asked {
            return wrong(format!("flows {found:?} instead of {asked:?}"));
        }
        for bucket in 0..vip.buckets.get() {
            let (found, asked) = (known.phases.of(bucket), phases.of(bucket));
            let lasts = known.phases.left_ms(bucket);
            if found != asked || lasts.is_some_and(|left| left > LASTING_MS) {
                return wrong(format!(
                    "bucket {bucket} is {found}, not {asked}: {lasts:?}"
                ));
            }
        }
    }
    Ok(())
}

/// The change that lets a VIP's flows stay.
fn staying(Shared { vip, flows, .. }: &Shared) -> Change {
    let element = Element::new(Target::None).ending(LASTING_MS);
    let elements = flows.iter().map(|flow| (flow_bytes(flow), element.clone()));
    let (name, spec) = (flows_set(vip.address), flows_spec(vip.address));
    Change::AddElements(Family::Netdev, name, spec, elements.collect())
}

/// Every other flow of these packets stays, where its bucket drains.
fn choose_flows(vips: &mut [Shared], packets: &[Vec<u8>]) {
    for shared in vips
        .iter_mut()
        .filter(|shared| !shared.phases.draining.is_empty())
    {
        let segments = packets
            .iter()
            .filter_map(|packet| judge(&shared.vip, packet)?.segment?.flow);
        let chosen = segments.filter(|flow| (flow.source_port ^ flow.destination_port) & 1 == 0);
        shared.flows = chosen.collect();
    }
}

fn tally(node: &Node, vips: &[Shared]) -> Result<Tally> {
    let rules = node.within(|| NftSocket::open()?.snapshot())?;
    let rules = rules.map_err(|error| Error::new(error.to_string()))?.rules;
    let listed = node.run(&["nft", "list", "counter", "netdev", "judged", "passed"])?;
    let mut words = listed
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    let passed = words.nth(1).and_then(|word| word.parse().ok());
    let vips = vips.iter().map(|Shared { vip, .. }| {
        let buckets = counts(&rules, vip.address).into_iter();
        let buckets = buckets.map(|(bucket, count)| (bucket, count.packets));
        let buckets = buckets.filter(|(_, count)| *count > 0).collect();
        (vip.address, (foreign(&rules, vip.address).packets, buckets))
    });
    Ok(Tally {
        passed: passed.context("nft says how many packets passed")?,
        vips: vips.collect(),
    })
}

/// Sends the packets, one behind the other on one CPU, so that they arrive in this order.
fn inject(client: &Client, packets: &[(Mac, Vec<u8>)]) -> Result<()> {
    let wire = client.wire("eth0")?;
    client.within(|| {
        lab::pin_to_last_cpu()?;
        for (to, packet) in packets {
            let ethertype: [u8; 2] = match packet.first().map(|byte| byte >> 4) {
                Some(6) => [0x86, 0xdd],
                _ => [0x08, 0x00],
            };
            wire.send(&[&to.0[..], &SENDER.0, &ethertype, packet].concat())?;
        }
        Ok(())
    })?
}

/// What the kernel does with these packets.
fn judged(
    client: &Client,
    node: &Node,
    vips: &[Shared],
    packets: &[(Mac, Vec<u8>)],
) -> Result<Tally> {
    let before = tally(node, vips)?;
    inject(client, packets)?;
    wait_until("all packets to arrive", Duration::from_secs(10), || {
        let now = tally(node, vips)?.since(&before);
        match now.all() >= packets.len() as u64 {
            true => Ok(now),
            false => Err(Error::new(format!("{now:?}"))),
        }
    })
}

#[test]
fn random_packets_are_judged_by_the_kernel_as_by_the_mirror() -> Result<()> {
    let lab = Lab::new("judged")?;
    let (client, node) = (lab.client("c1")?, lab.node("n1")?);
    node.exec(&["nft", "-f", "-"]).stdin(COUNT).run()?;
    let for_nobody = (Mac([0xff; 6]), vec![0x45; 20]);
    wait_until("the switch to forward", Duration::from_secs(10), || {
        inject(&client, std::slice::from_ref(&for_nobody))?;
        match tally(&node, &[])?.passed {
            0 => Err(Error::new("nothing came")),
            _ => Ok(()),
        }
    })?;
    let recipes = prop::collection::vec(any_recipe(), 150);
    let cases = std::env::var("PROPTEST_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(40);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    });
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let seen_here = std::cell::RefCell::new(&mut seen);
    let outcome = runner.run(&(any_vips(), recipes), |(mut vips, recipes)| {
        let fail = |error: Error| TestCaseError::fail(error.to_string());
        let packets: Vec<(Mac, Vec<u8>)> = recipes
            .iter()
            .map(|recipe| written(recipe, &vips))
            .filter(|(_, packet)| !do_kernels_differ(packet))
            .collect();
        let bytes: Vec<Vec<u8>> = packets.iter().map(|(_, bytes)| bytes.clone()).collect();
        choose_flows(&mut vips, &bytes);
        for Shared { vip, phases, flows } in &vips {
            for judgement in bytes.iter().filter_map(|packet| judge(vip, packet)) {
                let mut seen = seen_here.borrow_mut();
                *seen.entry(kind(judgement.taker)).or_default() += 1;
                if let (Taker::Bucket(bucket), Some(segment)) = (judgement.taker, judgement.segment)
                {
                    let phase = phases.of(bucket);
                    if matches!(phase, Phase::Closing | Phase::Draining) {
                        let kind = match segment.is_taken(phase, flows) {
                            true => "stays",
                            false => "leaves",
                        };
                        *seen.entry(kind).or_default() += 1;
                    }
                }
            }
        }
        let agrees = |count: usize| -> Result<Option<(Tally, Tally)>> {
            install(&node, &vips)?;
            let found = judged(&client, &node, &vips, &packets[..count])?;
            let foretold = foretold(&vips, &bytes[..count]);
            Ok((found != foretold).then_some((found, foretold)))
        };
        if agrees(packets.len()).map_err(fail)?.is_none() {
            return Ok(());
        }
        // Which is the first that is judged otherwise?
        for count in 1..=packets.len() {
            if let Some((found, foretold)) = agrees(count).map_err(fail)? {
                let last = &bytes[count - 1];
                let judgements: Vec<_> = vips
                    .iter()
                    .map(|Shared { vip, .. }| judge(vip, last))
                    .collect();
                let of_last = |recipe: &&Recipe| written(recipe, &vips).1 == *last;
                let recipe = recipes.iter().find(of_last);
                return Err(TestCaseError::fail(format!(
                    "{vips:?}\npacket {count}: {recipe:?}\n{last:02x?}\n{judgements:?}\n\
                     foretold {foretold:?}\nfound    {found:?}"
                )));
            }
        }
        Err(TestCaseError::fail(
            "it was judged otherwise once, and then no more",
        ))
    });
    match outcome {
        Ok(()) => {}
        // The whole case would fill screens; the reason has what is to be known of it.
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(other) => panic!("{other}"),
    }
    println!("judged as foretold: {seen:?}");
    for kind in [
        "bucket",
        "everyone",
        "follows",
        "follows, or is dropped",
        "nobody",
        "stays",
        "leaves",
    ] {
        // The rarest comes some thirty times, give or take seven.
        assert!(
            seen.get(kind).is_some_and(|count| *count >= 5),
            "{kind}: {seen:?}"
        );
    }
    Ok(())
}

#[test]
fn this_kernel_has_all_that_is_needed_and_asking_leaves_nothing() -> Result<()> {
    let lab = Lab::new("features")?;
    let node = lab.node("n1")?;
    assert_eq!(node.within(missing)?, None);
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    // The question is not an empty one: without the table each is refused.
    let refused = node.within(|| -> std::result::Result<Vec<bool>, NftError> {
        let mut socket = NftSocket::open()?;
        let mut refused = Vec::new();
        for mut feature in features() {
            feature.changes.remove(0);
            let generation = socket.generation()?;
            refused.push(socket.check(&feature.changes, generation).is_err());
        }
        Ok(refused)
    })?;
    let refused = refused.map_err(|error| Error::new(error.to_string()))?;
    assert!(refused.iter().all(|refused| *refused), "{refused:?}");
    Ok(())
}

fn kind(taker: Taker) -> &'static str {
    match taker {
        Taker::Bucket(_) => "bucket",
        Taker::Everyone => "everyone",
        Taker::FollowsFirst { may_wait: true } => "follows",
        Taker::FollowsFirst { may_wait: false } => "follows, or is dropped",
        Taker::Nobody => "nobody",
    }
}

/// The packet of a recipe for one of the VIPs, and the link-layer address to which it is sent.
fn written(recipe: &Recipe, vips: &[Shared]) -> (Mac, Vec<u8>) {
    let Shared { vip, .. } = &vips[recipe.vip % vips.len()];
    (vip.mac, recipe.packet(vip.address))
}
