//! `nodectl status`: every VIP of this node, as a person and as a program reads it.

use super::cli::Show;
use super::style::Style;
use super::{Failure, SCHEMA, connections_left, json, look};
use crate::model::bucket::BucketSet;
use crate::model::host::Observed;
use crate::model::phase::Phase;
use crate::plan::health::{Drift, drift};
use crate::plan::installed::{Installed, addresses, foreign, installed, is_unreadable};
use serde::Serialize;
use std::fmt::Write;
use tracing::warn;

#[derive(Serialize)]
struct Status {
    schema: u32,
    vips: Vec<VipStatus>,
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
    buckets: u16,
    owned: Vec<u16>,
    draining: Vec<u16>,
    adopting: Vec<u16>,
    /// TCP connections that are left in draining buckets.
    connections: Option<usize>,
    /// In how many seconds the last of those has left.
    deadline_s: Option<u64>,
    foreign_packets: u64,
    manager: String,
    healthy: bool,
    drift: Vec<Drift>,
    digest: String,
}

/// `nodectl status`.
pub fn status(args: &Show) -> Result<String, Failure> {
    let (mut kernel, observed) = look()?;
    let vips = installed(&observed.rules);
    let staying: Vec<Option<usize>> = vips
        .iter()
        .map(|found| {
            let left = connections_left(&mut kernel, &observed, found)?;
            Ok((!left.is_empty()).then(|| left.into_values().sum()))
        })
        .collect::<Result<_, Failure>>()?;
    for address in addresses(&observed.rules) {
        if is_unreadable(&observed.rules, address) {
            warn!(
                "the description of {address} cannot be read; 'nodectl down {address}' removes it"
            );
        }
    }
    if args.json {
        return json(&Status {
            schema: SCHEMA,
            vips: vips
                .iter()
                .zip(staying)
                .map(|(vip, staying)| describe(&observed, vip, staying))
                .collect(),
        });
    }
    if vips.is_empty() {
        return Ok("no VIP is installed here\n".to_owned());
    }
    let style = Style::of_stdout();
    let screens: Vec<String> = vips
        .iter()
        .zip(staying)
        .map(|(vip, staying)| screen(&observed, vip, staying, style))
        .collect();
    Ok(screens.join("\n"))
}

/// The longest that any of these phases lasts.
fn seconds(left_ms: Option<u64>) -> Option<u64> {
    left_ms.map(|left_ms| left_ms.div_ceil(1000))
}

fn describe(
    observed: &Observed,
    Installed { vip, phases }: &Installed,
    staying: Option<usize>,
) -> VipStatus {
    let drift = drift(observed, vip, true);
    VipStatus {
        vip: vip.address.to_string(),
        nic: vip.nic.to_string(),
        mac: vip.mac.to_string(),
        mode: vip.mode.name(),
        hash: vip.hasher.mode.name(),
        layout: vip.hasher.layout.name(),
        seed: vip.hasher.seed,
        buckets: vip.buckets.get(),
        owned: phases.owned.iter().collect(),
        draining: phases.leaving().iter().collect(),
        adopting: phases.adopting.keys().copied().collect(),
        connections: staying,
        deadline_s: seconds(phases.leaving_ms()),
        foreign_packets: foreign(&observed.rules, vip.address).packets,
        manager: vip.manager.to_string(),
        healthy: drift.is_empty(),
        drift,
        digest: vip.digest(),
    }
}

fn screen(observed: &Observed, found: &Installed, staying: Option<usize>, style: Style) -> String {
    let Installed { vip, phases } = found;
    let owned = &phases.owned;
    let drift = drift(observed, vip, true);
    let health = match drift.is_empty() {
        true => style.good("healthy"),
        false => style.bad("DRIFTED"),
    };
    let strip: String = vip
        .buckets
        .all()
        .map(|bucket| match phases.of(bucket) {
            Phase::Owned => '#',
            Phase::Adopting => 'a',
            Phase::Closing | Phase::Draining => 'd',
            Phase::Foreign => '.',
        })
        .collect();
    let hasher = &vip.hasher;
    let mut text = String::new();
    let address = style.name(&format!("{}/{}", vip.address, vip.prefix));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{address} on {}: {health}", vip.nic);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    line("mac", format!("{} ({})", vip.mac, vip.mode.name()));
    line(
        "hash",
        format!(
            "{}, layout {}, seed {:#010x}",
            hasher.mode, hasher.layout, hasher.seed
        ),
    );
    line(
        "owned",
        format!("{} of {} buckets: {owned}", owned.len(), vip.buckets),
    );
    for (n, row) in strip.as_bytes().chunks(64).enumerate() {
        let row = String::from_utf8_lossy(row);
        line(if n == 0 { "buckets" } else { "" }, format!("[{row}]"));
    }
    if let (Some(count), Some(left)) = (staying, seconds(phases.leaving_ms())) {
        let leaving = phases.leaving();
        let connections = if count == 1 {
            "connection"
        } else {
            "connections"
        };
        line(
            "draining",
            format!("{leaving}: {count} {connections} left, {left} s at most"),
        );
    }
    let adopting: BucketSet = phases.adopting.keys().copied().collect();
    if let Some(left) = seconds(phases.adopting.values().copied().max()) {
        line("adopting", format!("{adopting}: {left} s at most"));
    }
    let dropped = foreign(&observed.rules, vip.address);
    line("foreign", format!("{} packets dropped", dropped.packets));
    line("manager", vip.manager.to_string());
    line("digest", format!("{} (equal on all nodes)", vip.digest()));
    for piece in &drift {
        line(
            &style.bad("drift"),
            format!(
                "{}: expected {}, found {}",
                piece.piece, piece.expected, piece.found
            ),
        );
    }
    text
}
