//! `nodectl buckets`: every bucket of a VIP, and what the kernel has counted for it.

use super::cli::OfVip;
use super::context::{Context, connections_left, known, look};
use super::failure::Failure;
use super::json::{SCHEMA, json};
use super::screen::Screen;
use crate::model::host::Observed;
use crate::model::phase::Phase;
use crate::reading::installed::{Installed, counts};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Serialize)]
struct Buckets {
    schema: u32,
    vip: String,
    buckets: Vec<Bucket>,
}

#[derive(Serialize)]
struct Bucket {
    bucket: u16,
    phase: Phase,
    packets: u64,
    bytes: u64,
    /// TCP connections that are left, of a bucket that leaves.
    connections: Option<usize>,
    /// In how many seconds the phase ends by itself.
    deadline_s: Option<u64>,
}

/// The phase of a bucket on this node.
pub(super) fn phase(found: &Installed, bucket: u16) -> Phase {
    found.phases.of(bucket)
}

/// `nodectl buckets`.
pub(super) fn buckets(args: &OfVip, context: &Context<'_>) -> Result<String, Failure> {
    let (mut kernel, observed) = look()?;
    let found = known(&observed, args.vip)?;
    let left = connections_left(&mut kernel, &observed, &found)?;
    let buckets = rows(&observed, &found, &left);
    if context.json {
        return json(&Buckets {
            schema: SCHEMA,
            vip: args.vip.to_string(),
            buckets,
        });
    }
    Ok(table(&buckets, Screen::of_stdout()))
}

fn rows(observed: &Observed, found: &Installed, left: &BTreeMap<u16, usize>) -> Vec<Bucket> {
    let counts = counts(&observed.rules, found.vip.address);
    let all = found.vip.buckets.all();
    all.map(|bucket| {
        let count = counts.get(&bucket).copied().unwrap_or_default();
        Bucket {
            bucket,
            phase: phase(found, bucket),
            packets: count.packets,
            bytes: count.bytes,
            connections: left.get(&bucket).copied(),
            deadline_s: found.phases.left_ms(bucket).map(|left| left.div_ceil(1000)),
        }
    })
    .collect()
}

fn table(rows: &[Bucket], screen: Screen) -> String {
    let mut text = format!(
        "{:>6}  {:<8} {:>14} {:>16} {:>12} {:>8}\n",
        "bucket", "phase", "packets", "bytes", "connections", "ends in"
    );
    for row in rows {
        let phase = format!("{:<8}", row.phase);
        let phase = match row.phase {
            Phase::Owned | Phase::Adopting => screen.good(&phase),
            Phase::Closing | Phase::Draining | Phase::Offered => screen.warn(&phase),
            Phase::Foreign => phase,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>6}  {phase} {:>14} {:>16} {:>12} {:>8}",
            row.bucket,
            row.packets,
            row.bytes,
            row.connections
                .map_or(String::new(), |left| left.to_string()),
            row.deadline_s
                .map_or(String::new(), |left| format!("{left} s"))
        );
    }
    text
}
