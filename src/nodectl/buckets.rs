//! `nodectl buckets`: every bucket of a VIP, and what the kernel has counted for it.

use super::cli::OfVip;
use super::style::Style;
use super::{Failure, SCHEMA, json, known, look};
use crate::model::bucket::Phase;
use crate::model::host::Observed;
use crate::plan::installed::{Installed, counts};
use serde::Serialize;
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
}

/// The phase of a bucket on this node.
pub(super) fn phase(found: &Installed, bucket: u16) -> Phase {
    match found.owned.contains(bucket) {
        true => Phase::Owned,
        false => Phase::Foreign,
    }
}

/// `nodectl buckets`.
pub fn buckets(args: &OfVip) -> Result<String, Failure> {
    let (_, observed) = look()?;
    let found = known(&observed, args.vip)?;
    let buckets = rows(&observed, &found);
    if args.json {
        return json(&Buckets {
            schema: SCHEMA,
            vip: args.vip.to_string(),
            buckets,
        });
    }
    Ok(table(&buckets, Style::of_stdout()))
}

fn rows(observed: &Observed, found: &Installed) -> Vec<Bucket> {
    let counts = counts(&observed.rules, found.vip.address);
    let all = found.vip.buckets.all();
    all.map(|bucket| {
        let count = counts.get(&bucket).copied().unwrap_or_default();
        Bucket {
            bucket,
            phase: phase(found, bucket),
            packets: count.packets,
            bytes: count.bytes,
        }
    })
    .collect()
}

fn table(rows: &[Bucket], style: Style) -> String {
    let mut text = format!(
        "{:>6}  {:<8} {:>14} {:>16}\n",
        "bucket", "phase", "packets", "bytes"
    );
    for row in rows {
        let phase = format!("{:<8}", row.phase);
        let phase = match row.phase {
            Phase::Owned => style.good(&phase),
            Phase::Foreign => phase,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>6}  {phase} {:>14} {:>16}",
            row.bucket, row.packets, row.bytes
        );
    }
    text
}
