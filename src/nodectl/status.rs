//! `nodectl status`: every VIP of this node, as a person and as a program reads it.

use super::cli::Show;
use super::style::Style;
use super::{Failure, SCHEMA, json, look};
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
    foreign_packets: u64,
    manager: String,
    healthy: bool,
    drift: Vec<Drift>,
    digest: String,
}

/// `nodectl status`.
pub fn status(args: &Show) -> Result<String, Failure> {
    let (_, observed) = look()?;
    let vips = installed(&observed.rules);
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
            vips: vips.iter().map(|vip| describe(&observed, vip)).collect(),
        });
    }
    if vips.is_empty() {
        return Ok("no VIP is installed here\n".to_owned());
    }
    let style = Style::of_stdout();
    let screens: Vec<String> = vips
        .iter()
        .map(|vip| screen(&observed, vip, style))
        .collect();
    Ok(screens.join("\n"))
}

fn describe(observed: &Observed, Installed { vip, phases }: &Installed) -> VipStatus {
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
        foreign_packets: foreign(&observed.rules, vip.address).packets,
        manager: vip.manager.to_string(),
        healthy: drift.is_empty(),
        drift,
        digest: vip.digest(),
    }
}

fn screen(observed: &Observed, found: &Installed, style: Style) -> String {
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
