//! `nodectl status`: every VIP of this node, and who has what in the cluster, as a person and as a
//! program reads it.

use super::cli::Status as Arguments;
use super::cluster::{self, OfVip};
use super::context::{Context, connections_left, look};
use super::failure::Failure;
use super::json::{SCHEMA, json};
use super::screen::Screen;
use crate::host::cautions::cautions;
use crate::model::bucket::BucketSet;
use crate::model::host::Observed;
use crate::model::phase::{Phase, Phases};
use crate::model::untrusted::{NOT_QUOTED, Untrusted};
use crate::model::vip::{Manager, Vip};
use crate::pacemaker::cluster::{Cluster, Shared};
use crate::reading::health::{Drift, drift};
use crate::reading::installed::{Installed, addresses, counts, foreign, installed, is_unreadable};
use crate::reading::left_over::is_left_over;
use crate::reading::loaded::is_loaded;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::warn;

/// The widest rows of the bucket strip that fit are taken.
const ROWS: [usize; 4] = [128, 64, 32, 16];
/// What stands before a row, and behind it.
const BESIDE_ROW: usize = 14;

#[derive(Serialize)]
struct Status {
    schema: u32,
    vips: Vec<VipStatus>,
    /// Shared addresses of the cluster that are not installed here.
    elsewhere: Vec<Elsewhere>,
}

#[derive(Serialize)]
struct Elsewhere {
    vip: Option<String>,
    /// Where the cluster has it on its nodes; null is the host's.
    network_namespace: Option<Untrusted>,
    cluster: OfVip,
}

#[derive(Serialize)]
struct VipStatus {
    vip: String,
    nic: String,
    mac: String,
    mode: &'static str,
    hash: &'static str,
    layout: &'static str,
    seed: u32,
    drain_timeout_s: u32,
    buckets: u16,
    owned: BucketSet,
    draining: BucketSet,
    adopting: Vec<u16>,
    /// TCP connections that are left in draining buckets.
    connections: Option<usize>,
    /// In how many seconds the last of those has left.
    deadline_s: Option<u64>,
    foreign_packets: u64,
    owned_packets_per_s: Option<f64>,
    foreign_packets_per_s: Option<f64>,
    manager: String,
    healthy: bool,
    drift: Vec<Drift>,
    /// What is not wrong, and should be known.
    cautions: Vec<String>,
    digest: String,
    cluster: Option<OfVip>,
}

/// A VIP of this node with all that is known of it.
struct Known<'a> {
    vip: Vip,
    phases: Phases,
    drift: Vec<Drift>,
    cautions: Vec<String>,
    staying: Option<usize>,
    foreign_packets: u64,
    traffic: Option<Traffic>,
    shared: Option<&'a Shared>,
    cluster: Option<OfVip>,
}

/// Packets a second: those of owned buckets, and those that were dropped.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    owned: f64,
    foreign: f64,
}

/// `nodectl status`.
pub(super) fn status(args: &Arguments, context: &Context<'_>) -> Result<String, Failure> {
    let (mut kernel, mut observed) = look()?;
    let mut rates = BTreeMap::new();
    if args.rate.0 > Duration::ZERO && !installed(&observed.rules).is_empty() {
        let (before, begin) = (totals(&observed), Instant::now());
        std::thread::sleep(args.rate.0);
        (observed, _) = kernel.observe(None, None)?;
        rates = traffic(&before, &totals(&observed), begin.elapsed());
    }
    // Asked when the kernel is: what moved meanwhile is no difference.
    let cluster = match args.local {
        true => None,
        false => cluster::view(context.home.as_ref()),
    };
    for address in addresses(&observed.rules) {
        if is_unreadable(&observed.rules, address) {
            warn!(
                "the description of {address} cannot be read; 'nodectl down {address}' removes it"
            );
        }
    }
    if is_loaded(&observed.rules) {
        for found in installed(&observed.rules) {
            let vip = found.vip.address;
            // Where it is up a person has to say that Pacemaker's is meant.
            let force = match is_left_over(&observed, vip) || found.vip.manager == Manager::Manual {
                true => "",
                false => " --force",
            };
            warn!(
                "nft has loaded rules of {vip} from a file, so no bucket counts as owned here; a start makes \
                 them anew, 'nodectl down {vip}{force}' removes them"
            );
        }
    }
    let mut vips = Vec::new();
    for found in installed(&observed.rules) {
        let left = connections_left(&mut kernel, &observed, &found)?;
        let Installed { vip, phases } = found;
        let in_cluster = cluster.as_ref().and_then(|cluster| {
            let shared = cluster.of_vip(vip.address, &vip.manager, context.netns)?;
            Some((shared, cluster::of_vip(cluster, shared, vip.buckets.get())))
        });
        let (shared, in_cluster) = in_cluster.unzip();
        vips.push(Known {
            drift: drift(&observed, &vip, true),
            cautions: cautions(&mut kernel, &observed, &vip)?,
            staying: (!left.is_empty()).then(|| left.into_values().sum()),
            foreign_packets: foreign(&observed.rules, vip.address).packets,
            traffic: rates.get(&vip.address).copied(),
            shared,
            cluster: in_cluster,
            vip,
            phases,
        });
    }
    let elsewhere = elsewhere(cluster.as_ref(), &vips);
    if context.json {
        return json(&Status {
            schema: SCHEMA,
            vips: vips.into_iter().map(describe).collect(),
            elsewhere,
        });
    }
    let screen = Screen::of_stdout();
    let unasked = cluster.is_none() && !args.local;
    let shown = |known: &Known<'_>| {
        let text = of_vip(known, screen);
        match unasked && known.vip.manager != Manager::Manual {
            true => text + &cluster::unknown(screen),
            false => text,
        }
    };
    let mut screens: Vec<String> = vips.iter().map(shown).collect();
    if screens.is_empty() {
        screens.push("no VIP is installed here\n".to_owned());
    }
    let others = elsewhere.iter();
    screens.extend(others.map(|of| of_elsewhere(of, context.netns, screen)));
    Ok(screens.join("\n"))
}

/// One screen for an address of the cluster that is not installed here, which is the namespace `own`.
fn of_elsewhere(of: &Elsewhere, own: Option<&str>, screen: Screen) -> String {
    let vip = of.vip.as_deref().unwrap_or("an address of the cluster");
    let title = screen.name(vip);
    let netns = of.network_namespace.as_ref();
    // What the kernel does in another namespace cannot be seen from here.
    let (place, owned) = match (netns.map(Untrusted::raw) == own, netns) {
        (true, _) => ("not installed here".to_owned(), Some(BucketSet::default())),
        (false, Some(netns)) => (in_other_namespace(netns), None),
        (false, None) => ("not in this network namespace".to_owned(), None),
    };
    let lines = cluster::lines(&of.cluster, owned.as_ref(), screen);
    format!("{title}: {place}\n{lines}")
}

fn in_other_namespace(netns: &Untrusted) -> String {
    match netns.quoted() {
        Some(word) => {
            format!("in another network namespace: see nodectl --netns={word} status")
        }
        None => format!("in another network namespace, {netns} ({NOT_QUOTED})"),
    }
}

/// The shared addresses of the cluster that are not installed on this node.
fn elsewhere(cluster: Option<&Cluster>, vips: &[Known<'_>]) -> Vec<Elsewhere> {
    let Some(cluster) = cluster else {
        return Vec::new();
    };
    let is_here = |shared: &&Shared| vips.iter().any(|known| known.shared == Some(*shared));
    let others = cluster.shared.iter().filter(|shared| !is_here(shared));
    others
        .map(|shared| {
            // As many buckets as Pacemaker knows of.
            let last = shared.instances.keys().next_back();
            Elsewhere {
                vip: shared.ip.map(|vip| vip.to_string()),
                network_namespace: shared.netns.clone(),
                cluster: cluster::of_vip(cluster, shared, last.map_or(0, |last| last + 1)),
            }
        })
        .collect()
}

/// What each VIP has counted: packets of owned buckets, and packets dropped.
fn totals(observed: &Observed) -> BTreeMap<IpAddr, (u64, u64)> {
    let all = installed(&observed.rules).into_iter();
    all.map(|found| {
        let vip = found.vip.address;
        let owned = counts(&observed.rules, vip);
        let owned = owned.values().map(|count| count.packets).sum();
        (vip, (owned, foreign(&observed.rules, vip).packets))
    })
    .collect()
}

/// A counter that begins anew, because its bucket has moved, counts as none.
fn traffic(
    before: &BTreeMap<IpAddr, (u64, u64)>,
    after: &BTreeMap<IpAddr, (u64, u64)>,
    within: Duration,
) -> BTreeMap<IpAddr, Traffic> {
    let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / within.as_secs_f64();
    let both = after.iter().filter_map(|(vip, after)| {
        let before = before.get(vip)?;
        let traffic = Traffic {
            owned: rate(before.0, after.0),
            foreign: rate(before.1, after.1),
        };
        Some((*vip, traffic))
    });
    both.collect()
}

/// The longest that any of these phases lasts.
fn seconds(left_ms: Option<u64>) -> Option<u64> {
    left_ms.map(|left_ms| left_ms.div_ceil(1000))
}

/// As a program has use for it.
fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

fn describe(known: Known<'_>) -> VipStatus {
    let Known { vip, phases, .. } = known;
    VipStatus {
        vip: vip.address.to_string(),
        nic: vip.nic.to_string(),
        mac: vip.mac.to_string(),
        mode: vip.mode.name(),
        hash: vip.hasher.mode.name(),
        layout: vip.hasher.layout.name(),
        seed: vip.hasher.seed,
        drain_timeout_s: vip.drain_s,
        buckets: vip.buckets.get(),
        draining: phases.leaving(),
        adopting: phases.adopting.keys().copied().collect(),
        deadline_s: seconds(phases.leaving_ms()),
        owned: phases.owned,
        connections: known.staying,
        foreign_packets: known.foreign_packets,
        owned_packets_per_s: known.traffic.map(|traffic| tenths(traffic.owned)),
        foreign_packets_per_s: known.traffic.map(|traffic| tenths(traffic.foreign)),
        manager: vip.manager.to_string(),
        healthy: known.drift.is_empty(),
        drift: known.drift,
        cautions: known.cautions,
        digest: vip.digest(),
        cluster: known.cluster,
    }
}

/// One screen for a VIP.
fn of_vip(known: &Known<'_>, screen: Screen) -> String {
    let Known { vip, phases, .. } = known;
    let owned = &phases.owned;
    let health = match known.drift.is_empty() {
        true => screen.good("healthy"),
        false => screen.bad("DRIFTED"),
    };
    let hasher = &vip.hasher;
    let address = screen.name(&format!("{}/{}", vip.address, vip.prefix));
    let mut text = format!("{address} on {}: {health}\n", vip.nic);
    let mut line = |name: &str, value: String| text += &screen.about(name, &value);
    line("mac", format!("{} ({})", vip.mac, vip.mode.name()));
    line(
        "hash",
        format!(
            "{}, layout {}, seed {:#010x}",
            hasher.mode, hasher.layout, hasher.seed
        ),
    );
    let moves = match vip.drain_s {
        0 => "connections are cut when their bucket leaves".to_owned(),
        drain_s => format!("TCP connections may stay {drain_s} s when their bucket leaves"),
    };
    line("moves", moves);
    line(
        Phase::Owned.name(),
        format!("{} of {} buckets: {owned}", owned.len(), vip.buckets),
    );
    for (n, row) in strip(vip, phases, screen).into_iter().enumerate() {
        line(if n == 0 { "buckets" } else { "" }, row);
    }
    if let Some(traffic) = known.traffic {
        line("traffic", share(traffic));
    }
    if let (Some(count), Some(left)) = (known.staying, seconds(phases.leaving_ms())) {
        let leaving = phases.leaving();
        let connections = if count == 1 {
            "connection"
        } else {
            "connections"
        };
        line(
            Phase::Draining.name(),
            format!("{leaving}: {count} {connections} left, {left} s at most"),
        );
    }
    let adopting: BucketSet = phases.adopting.keys().copied().collect();
    if let Some(left) = seconds(phases.adopting.values().copied().max()) {
        let name = Phase::Adopting.name();
        line(name, format!("{adopting}: {left} s at most"));
    }
    line(
        Phase::Foreign.name(),
        format!("{} packets dropped", known.foreign_packets),
    );
    line("manager", vip.manager.to_string());
    line(
        "digest",
        format!("{} (must be the same on all nodes)", vip.digest()),
    );
    if let Some(cluster) = &known.cluster {
        text += &cluster::lines(cluster, Some(owned), screen);
    }
    for piece in &known.drift {
        let what = format!(
            "{}: expected {}, found {}",
            piece.piece, piece.expected, piece.found
        );
        text += &screen.shout("drift", &what);
    }
    for caution in &known.cautions {
        text += &screen.about("note", caution);
    }
    text
}

/// Every node sees every packet, so that one node knows its share of them all.
fn share(Traffic { owned, foreign }: Traffic) -> String {
    let all = owned + foreign;
    let share = match all > 0.0 {
        true => format!(", {:.0} % of all", 100.0 * owned / all),
        false => String::new(),
    };
    format!("{owned:.0} packets/s for this node{share}; {foreign:.0} for others")
}

/// The buckets as a picture, in rows of a power of two.
fn strip(vip: &Vip, phases: &Phases, screen: Screen) -> Vec<String> {
    let room = screen.width.saturating_sub(BESIDE_ROW);
    let row = ROWS.into_iter().find(|row| *row <= room);
    let all: Vec<Phase> = vip.buckets.all().map(|bucket| phases.of(bucket)).collect();
    let rows = all.chunks(row.unwrap_or(ROWS[3])).map(|row| {
        let runs = row.chunk_by(|a, b| a == b).map(|run| {
            let run_of = |sign: &str| sign.repeat(run.len());
            match run[0] {
                Phase::Owned => screen.good(&run_of("#")),
                Phase::Adopting => screen.warn(&run_of("a")),
                Phase::Closing | Phase::Draining => screen.warn(&run_of("d")),
                Phase::Offered => screen.warn(&run_of("o")),
                Phase::Foreign => screen.dim(&run_of(".")),
            }
        });
        format!("[{}]", runs.collect::<String>())
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::untrusted::tests::{NASTY, forbidden_in};

    /// What `crm_mon -1 --output-as xml` of this version said.
    const RECORDED: &str = include_str!("../pacemaker/recorded/3.0.0-orphans.xml");

    /// The same of a cluster whose names are these, and what is said of its address.
    fn shown(node: &str, netns: &str) -> String {
        let in_xml = |text: &str| {
            let escaped = text.replace('&', "&amp;").replace('"', "&quot;");
            // XML 1.0 cannot say an escape character.
            escaped.replace('\u{1b}', "").replace('\n', "&#10;")
        };
        let placement = RECORDED.replace("\"n1\"", &format!("\"{}\"", in_xml(node)));
        let resources = format!(
            r#"<resources><clone id="cloneIP"><primitive id="resIP" provider="rust" type="ClusterIP">
            <instance_attributes id="a"><nvpair id="b" name="ip" value="10.77.0.99"/>
            <nvpair id="c" name="network_namespace" value="{}"/></instance_attributes></primitive></clone>
            </resources>"#,
            in_xml(netns)
        );
        let cluster = Cluster::read(&placement, &resources).expect("XML");
        let screen = Screen::plain(200);
        let others = elsewhere(Some(&cluster), &[]);
        let texts = others.iter().map(|of| of_elsewhere(of, None, screen));
        texts.collect()
    }

    #[test]
    fn names_in_the_cluster_write_no_lines_and_end_no_quotes() {
        let tame = shown("n1", "web");
        assert!(tame.contains("see nodectl --netns=web status\n"), "{tame}");
        let nasty = shown(NASTY, NASTY);
        assert_eq!(nasty.lines().count(), tame.lines().count(), "{nasty}");
        assert_eq!(forbidden_in(&nasty.replace('\n', "")), None, "{nasty:?}");
        let name = r#"web'\n\u{9b}31m[2J\u{202e}"; reboot\u{200b}"#;
        assert!(
            nasty.contains(&format!("            {name}  online")),
            "{nasty}"
        );
        assert!(!nasty.contains("--netns"), "{nasty}");
        let odd = shown("n1", "a'; reboot");
        assert!(
            odd.contains(r"nodectl --netns='a'\''; reboot' status"),
            "{odd}"
        );
    }
}
