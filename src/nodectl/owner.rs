//! `nodectl owner`: whose packet is this? Answered by the mirror of the hash, without a packet.

use super::buckets::phase;
use super::cli::Owner;
use super::context::{Context, known, look};
use super::explain::flow;
use super::failure::Failure;
use super::json::{SCHEMA, json};
use crate::model::phase::Phase;
use serde::Serialize;

#[derive(Serialize)]
struct Answer {
    schema: u32,
    bucket: u16,
    phase: Phase,
}

/// `nodectl owner`.
pub(super) fn owner(args: &Owner, context: &Context<'_>) -> Result<String, Failure> {
    let (_, observed) = look()?;
    let found = known(&observed, args.vip)?;
    let bucket = found
        .vip
        .bucket(&flow(&found.vip, args.client, args.dport)?);
    let phase = phase(&found, bucket);
    if context.json {
        return json(&Answer {
            schema: SCHEMA,
            bucket,
            phase,
        });
    }
    Ok(format!(
        "bucket {bucket} of {}: {phase} here\n",
        found.vip.buckets
    ))
}
