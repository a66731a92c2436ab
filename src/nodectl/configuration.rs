//! `nodectl crm` and `nodectl pcs`: a complete configuration, printed for whoever loads it.

use super::cli::Configuration;
use super::context::Context;
use super::failure::{DATA, Failure, REFUSED, USAGE};
use super::json::{SCHEMA, json};
use crate::model::bucket::BucketCount;
use crate::model::draft::Draft;
use crate::model::vip::{Manager, Vip, longest_prefix};
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
    mode: &'static str,
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
    let wish = wished(args, context.netns)?;
    let vip = described(&wish)?;
    let text = words(&wish);
    if !context.json {
        return Ok(text);
    }
    json(&Printed {
        schema: SCHEMA,
        vip: wish.ip.to_string(),
        nic: wish.nic.to_string(),
        network_namespace: wish.netns.as_ref().map(|netns| netns.as_str().to_owned()),
        mode: vip.mode.name(),
        mac: vip.mac.to_string(),
        hash: wish.hash.name(),
        seed: wish.seed,
        buckets: wish.buckets(),
        reader,
        configuration: text,
    })
}

/// What is asked for.
fn wished(args: &Configuration, netns: Option<&str>) -> Result<Wish, Failure> {
    let netns = netns.map(str::parse::<Netns>).transpose();
    let netns = netns.map_err(|error| Failure::new(USAGE, error))?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => random()?,
    };
    Ok(Wish {
        ip: args.vip.address,
        prefix: args.vip.prefix,
        nic: args.nic.clone(),
        netns,
        nodes: args.nodes,
        buckets: args.buckets,
        hash: args.hash,
        seed,
        mode: args.mode,
        mac: args.mac,
        drain_s: args.drain_s,
        service: args.service.clone(),
    })
}

/// The VIP that follows from it, which must be one that can be shared at all.
fn described(wish: &Wish) -> Result<Vip, Failure> {
    let buckets = BucketCount::new(wish.buckets().into());
    let draft = Draft {
        address: wish.ip,
        prefix: wish.prefix.unwrap_or_else(|| longest_prefix(wish.ip)),
        label: None,
        nic: wish.nic.clone(),
        mac: wish.mac,
        mode: wish.mode,
        like: None,
        hash: Some(wish.hash),
        layout: None,
        seed: Some(wish.seed),
        buckets: buckets.map_err(|error| Failure::new(DATA, error))?,
        noprefixroute: false,
        lock: true,
        drain_s: wish.drain_s,
        manager: Manager::Manual,
    };
    draft.complete().map_err(|error| Failure::new(DATA, error))
}

/// A seed that nobody knows.
pub(super) fn random() -> Result<u32, Failure> {
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
