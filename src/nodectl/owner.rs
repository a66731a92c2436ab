//! `nodectl owner`: whose packet is this? Answered by the mirror of the hash, without a packet.

use super::buckets::phase;
use super::cli::Owner;
use super::{DATA, Failure, SCHEMA, USAGE, json, known, look};
use crate::model::hash::{Flow, HashMode};
use crate::model::phase::Phase;
use serde::Serialize;

#[derive(Serialize)]
struct Answer {
    schema: u32,
    bucket: u16,
    phase: Phase,
}

/// `nodectl owner`.
pub fn owner(args: &Owner) -> Result<String, Failure> {
    let (_, observed) = look()?;
    let found = known(&observed, args.vip)?;
    let client = args.client;
    if client.address.is_ipv4() != args.vip.is_ipv4() {
        return Err(Failure::new(
            DATA,
            format!(
                "{} cannot talk to {}: one is IPv4, the other IPv6",
                client.address, args.vip
            ),
        ));
    }
    let needs_dport = found.vip.hasher.mode == HashMode::SourceIpSourcePortDestPort;
    let destination_port = match (needs_dport, args.dport) {
        (true, None) => {
            return Err(Failure::new(
                USAGE,
                format!(
                    "{} hashes the destination port too; add --dport PORT",
                    args.vip
                ),
            ));
        }
        (_, port) => port.unwrap_or(0),
    };
    let flow = Flow {
        source: client.address,
        source_port: client.port,
        destination_port,
    };
    let bucket = found.vip.bucket(&flow);
    let phase = phase(&found, bucket);
    if args.json {
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
