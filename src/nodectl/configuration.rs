//! `nodectl crm` and `nodectl pcs`: a complete configuration, printed for whoever loads it.

use super::cli::{Configuration, Describe};
use super::context::Context;
use super::describe::described_at;
use super::failure::{DATA, Failure, REFUSED, USAGE};
use super::json::{SCHEMA, json};
use crate::host::place::Place;
use crate::model::bucket::BucketCount;
use crate::model::hash::Layout;
use crate::model::vip::{Vip, longest_prefix};
use crate::pacemaker::wish::{Netns, Wish};
use crate::pacemaker::{crm, pcs};
use serde::Serialize;
use std::fs::File;
use std::io::Read;

/// Where randomness comes from (random(4)).
const RANDOM: &str = "/dev/urandom";

/// A configuration, for programs.
#[derive(Serialize)]
struct Printed {
    schema: u32,
    vip: String,
    nic: String,
    network_namespace: Option<String>,
    mac: String,
    hash: &'static str,
    seed: u32,
    buckets: u16,
    /// Who reads the text.
    reader: &'static str,
    configuration: String,
}

/// `nodectl crm`.
pub(super) fn crm(args: &Configuration, context: &Context<'_>) -> Result<String, Failure> {
    print(args, context, "crm", crm::words)
}

/// `nodectl pcs`.
pub(super) fn pcs(args: &Configuration, context: &Context<'_>) -> Result<String, Failure> {
    print(args, context, "sh", pcs::words)
}

fn print(
    args: &Configuration,
    context: &Context<'_>,
    reader: &'static str,
    words: fn(&Wish) -> String,
) -> Result<String, Failure> {
    let (wish, vip) = wished(args, context.netns)?;
    let text = words(&wish);
    if !context.json {
        return Ok(text);
    }
    json(&Printed {
        schema: SCHEMA,
        vip: wish.ip.to_string(),
        nic: wish.nic.to_string(),
        network_namespace: wish.netns.as_ref().map(|netns| netns.as_str().to_owned()),
        mac: vip.mac.to_string(),
        hash: wish.hash.name(),
        seed: wish.seed,
        buckets: wish.buckets(),
        reader,
        configuration: text,
    })
}

/// What is asked for, and the VIP that follows from it, which must be one that can be shared at all.
fn wished(args: &Configuration, netns: Option<&str>) -> Result<(Wish, Vip), Failure> {
    let netns = netns.map(str::parse::<Netns>).transpose();
    let netns = netns.map_err(|error| Failure::new(USAGE, error))?;
    let address = args.vip.address;
    let seed = match args.seed {
        Some(seed) => seed,
        None => random()?,
    };
    let wish = Wish {
        ip: address,
        prefix: args.vip.prefix,
        nic: args.nic.clone(),
        netns,
        nodes: args.nodes,
        buckets: args.buckets,
        hash: args.hash,
        seed,
        mac: args.mac,
        drain_s: args.drain_s,
        service: args.service.clone(),
    };
    let buckets = BucketCount::new(wish.buckets().into());
    let describe = Describe {
        nic: None,
        buckets: buckets.map_err(|error| Failure::new(DATA, error))?,
        hash: args.hash,
        layout: Layout::default(),
        seed: Some(seed),
        mac: args.mac,
        drain_s: Some(args.drain_s),
        without_second_lock: false,
    };
    let place = Place {
        nic: args.nic.clone(),
        prefix: args.vip.prefix.unwrap_or_else(|| longest_prefix(address)),
    };
    let vip = described_at(address, place, &describe)?;
    Ok((wish, vip))
}

fn random() -> Result<u32, Failure> {
    let mut bytes = [0; 4];
    let read = File::open(RANDOM).and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => Ok(u32::from_ne_bytes(bytes)),
        Err(error) => Err(Failure::new(
            REFUSED,
            format!("no random seed from {RANDOM}: {error}; give one with --seed"),
        )),
    }
}
