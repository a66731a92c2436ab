//! `nodectl explain`: why a client lands where it does, step by step, checked against the kernel.

use super::cli::{Client, Owner};
use super::cluster;
use super::context::{Context, known, look};
use super::failure::{DATA, Failure, REFUSED, USAGE};
use super::json::{SCHEMA, json};
use super::screen::Screen;
use crate::host::oracle;
use crate::model::hash::{Flow, HashMode, Layout};
use crate::model::phase::Phase;
use crate::model::set::hex;
use crate::model::untrusted::Untrusted;
use crate::model::vip::Vip;
use crate::reading::explain::{Explanation, explain as explanation};
use crate::reading::health::{Drift, drift};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

/// So many pieces that are not as they should be are named; 'nodectl status' names all.
const MOST_PIECES: usize = 3;

#[derive(Serialize)]
struct Explained {
    schema: u32,
    vip: String,
    client: String,
    client_port: u16,
    destination_port: u16,
    /// The bytes that are hashed, in hex.
    key: String,
    hash: u32,
    buckets: u16,
    bucket: u16,
    phase: Phase,
    chain: String,
    rule: Option<String>,
    set: Option<String>,
    element: Option<String>,
    /// The bucket that this machine's kernel found; null where it could not be asked.
    kernel: Option<u16>,
    /// The nodes that run the bucket according to Pacemaker; null where it does not run.
    owners: Option<Vec<Untrusted>>,
    /// Is the VIP here as it should be? If not, what is said of the bucket may not come true.
    healthy: bool,
}

/// The flow that is asked about, for `owner` too.
pub(super) fn flow(
    vip: &Vip,
    client: Client,
    destination_port: Option<u16>,
) -> Result<Flow, Failure> {
    if client.address.is_ipv4() != vip.address.is_ipv4() {
        return Err(Failure::new(
            DATA,
            format!(
                "{} cannot talk to {}: one is IPv4, the other IPv6; give a client of the VIP's family",
                client.address, vip.address
            ),
        ));
    }
    let needs_port = vip.hasher.mode == HashMode::SourceIpSourcePortDestPort;
    if needs_port && destination_port.is_none() {
        return Err(Failure::new(
            USAGE,
            format!(
                "{} hashes the destination port too; add --dport PORT",
                vip.address
            ),
        ));
    }
    Ok(Flow {
        source: client.address,
        source_port: client.port,
        destination_port: destination_port.unwrap_or(0),
    })
}

/// `nodectl explain`.
pub(super) fn explain(args: &Owner, context: &Context<'_>) -> Result<String, Failure> {
    let (mut kernel, observed) = look()?;
    let found = known(&observed, args.vip)?;
    let flow = flow(&found.vip, args.client, args.dport)?;
    let staying = match found.phases.leaving().is_empty() {
        true => BTreeSet::new(),
        false => kernel.flows(args.vip)?,
    };
    // Without a port to talk to: any connection that stays.
    let same = |other: &&Flow| {
        args.dport.is_none() && (other.source, other.source_port) == (flow.source, flow.source_port)
    };
    let flow = staying.iter().find(same).copied().unwrap_or(flow);
    let explained = explanation(&observed.rules, &found, &flow, &staying);
    let drift = drift(&observed, &found.vip, true);
    let asked = oracle::bucket(&found.vip, &flow);
    let pacemaker = cluster::view(context.home.as_ref());
    let owners = pacemaker.as_ref().and_then(|cluster| {
        let shared = cluster.of_vip(args.vip, &found.vip.manager, context.netns)?;
        let owners = shared.owners(explained.bucket).into_iter();
        Some(owners.cloned().collect::<Vec<_>>())
    });
    let other = asked
        .as_ref()
        .ok()
        .filter(|bucket| **bucket != explained.bucket);
    if let Some(bucket) = other {
        return Err(Failure::new(
            REFUSED,
            format!(
                "the kernel puts {} into bucket {bucket}, and nodectl into {}: do not trust either, \
                 and report it with the output of 'nodectl status' and 'uname -r'",
                args.client.address, explained.bucket
            ),
        ));
    }
    if context.json {
        return json(&Explained {
            schema: SCHEMA,
            vip: args.vip.to_string(),
            client: flow.source.to_string(),
            client_port: flow.source_port,
            destination_port: flow.destination_port,
            key: hex(&explained.key, ""),
            hash: explained.hash,
            buckets: found.vip.buckets.get(),
            bucket: explained.bucket,
            phase: explained.phase,
            chain: explained.chain,
            rule: explained.rule.map(|(words, _)| words),
            set: explained.element.as_ref().map(|(set, _)| set.clone()),
            element: explained.element.map(|(_, key)| key),
            kernel: asked.ok(),
            owners,
            healthy: drift.is_empty(),
        });
    }
    let screen = Screen::of_stdout();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} -> {}",
        screen.name(&with_port(flow.source, flow.source_port)),
        screen.name(&with_port(args.vip, flow.destination_port))
    );
    let mut line = |about: &str, what: &str| {
        text += &screen.about(about, what);
    };
    for (n, part) in key(&found.vip, &explained.key).iter().enumerate() {
        line(if n == 0 { "key" } else { "" }, part);
    }
    let hasher = &found.vip.hasher;
    line(
        "hash",
        &format!(
            "{:#010x} = jhash(key, seed {:#010x})",
            explained.hash, hasher.seed
        ),
    );
    let buckets = found.vip.buckets;
    line(
        "bucket",
        &format!("{} of {buckets} = hash * {buckets} >> 32", explained.bucket),
    );
    let checked = match asked {
        Ok(bucket) => format!("agrees: it put such a packet into bucket {bucket}"),
        Err(error) => format!("could not be asked: {error}"),
    };
    line("kernel", &checked);
    line("here", &here(&explained));
    if let Some(drifted) = drifted(args.vip, &drift) {
        line("but", &drifted);
    }
    line("decided", &decided(&explained));
    if let Some(owners) = owners {
        let what = match owners.as_slice() {
            [] => "nobody: Pacemaker runs it on no node".to_owned(),
            [one] => format!("{one}, according to Pacemaker"),
            more => {
                let more: Vec<String> = more.iter().map(ToString::to_string).collect();
                format!("{}: more than one, both answer", more.join(" and "))
            }
        };
        line("owner", &what);
    }
    Ok(text)
}

fn with_port(address: IpAddr, port: u16) -> String {
    match (address, port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(_), port) => format!("{address}:{port}"),
        (IpAddr::V6(_), port) => format!("[{address}]:{port}"),
    }
}

/// The key, part by part.
fn key(vip: &Vip, key: &[u8]) -> Vec<String> {
    let address = if vip.address.is_ipv4() { 4 } else { 16 };
    let (first, ports) = key.split_at(address.min(key.len()));
    let order = match (vip.address, vip.hasher.layout) {
        (IpAddr::V4(_), Layout::ClusterIp) => "source address, last octet first",
        _ => "source address",
    };
    let parts = ports.chunks(4).zip(["source port", "destination port"]);
    [(first, order)]
        .into_iter()
        .chain(parts)
        .map(|(bytes, name)| format!("{} ({name})", hex(bytes, " ")))
        .collect()
}

fn here(explained: &Explanation) -> String {
    let what = match (explained.phase, &explained.element) {
        (Phase::Owned, _) => "this node answers",
        (Phase::Adopting, _) => {
            "this node answers new connections; another one may still have some of before"
        }
        (Phase::Offered, _) => "this node answers until another one claims the bucket",
        (Phase::Closing, _) => "the bucket is on its way out: connections stay, none begins",
        (Phase::Draining, Some(_)) => "this connection stays here until it ends",
        (Phase::Draining, None) => {
            "it is no connection that stays: the bucket's new owner answers it"
        }
        (Phase::Foreign, _) => "dropped here: it is for the node that owns the bucket",
    };
    format!("{}: {what}", explained.phase)
}

/// What a phase promises the rules alone cannot keep.
fn drifted(vip: IpAddr, drift: &[Drift]) -> Option<String> {
    let named = drift
        .iter()
        .take(MOST_PIECES)
        .map(|drift| drift.piece.as_str());
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match drift.len().saturating_sub(MOST_PIECES) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!drift.is_empty())
        .then(|| format!("{vip} is DRIFTED here ({named}{more}): see 'nodectl status'"))
}

fn decided(explained: &Explanation) -> String {
    let Explanation { chain, .. } = explained;
    let Some((words, why)) = &explained.rule else {
        return format!(
            "nowhere: the rule that should decide is not in chain {chain}; 'nodectl status' names \
             what was changed"
        );
    };
    let what = match &explained.element {
        Some((set, key)) => format!("element {key} of {set}"),
        None => "no element".to_owned(),
    };
    format!("{what}, by the rule \"{why}\" in chain {chain} of table netdev clusterip: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_that_is_not_as_it_should_be_is_told_of_in_one_line() {
        let vip: IpAddr = "10.0.0.99".parse().expect("an address");
        let pieces = |count: usize| -> Vec<Drift> {
            let all = (0..count).map(|n| Drift {
                piece: format!("piece {n}"),
                expected: "joined".to_owned(),
                found: "missing".to_owned(),
            });
            all.collect()
        };
        assert_eq!(drifted(vip, &[]), None);
        for (count, named) in [(1, "piece 0"), (5, "piece 0, piece 1, piece 2, and 2 more")] {
            let told = drifted(vip, &pieces(count)).expect("drift");
            let expected = format!("10.0.0.99 is DRIFTED here ({named}): see 'nodectl status'");
            assert_eq!(told, expected);
        }
    }
}
