//! `nodectl crm` and `nodectl pcs`: a complete configuration, printed for whoever loads it.

use super::cli::Configuration;
use super::{DATA, Failure, REFUSED};
use crate::model::bucket::BucketCount;
use crate::model::hash::{Hasher, Layout};
use crate::model::mac::Mac;
use crate::model::vip::{L2Mode, Manager, Vip, longest_prefix};
use crate::pacemaker::configuration::{self, Wish};
use std::fs::File;
use std::io::Read;

/// Where randomness comes from (random(4)).
const RANDOM: &str = "/dev/urandom";

/// `nodectl crm`.
pub fn crm(args: &Configuration) -> Result<String, Failure> {
    Ok(configuration::crm(&wish(args)?))
}

/// `nodectl pcs`.
pub fn pcs(args: &Configuration) -> Result<String, Failure> {
    Ok(configuration::pcs(&wish(args)?))
}

/// What is asked for, if the address, its network and its MAC can be shared at all.
fn wish(args: &Configuration) -> Result<Wish, Failure> {
    let address = args.vip.address;
    let seed = match args.seed {
        Some(seed) => seed,
        None => random()?,
    };
    let wish = Wish {
        ip: address,
        prefix: args.vip.prefix,
        nic: args.nic.clone(),
        nodes: args.nodes,
        buckets: args.buckets,
        hash: args.hash,
        seed,
        mac: args.mac,
        drain_s: args.drain_s,
        service: args.service.clone(),
    };
    let buckets = BucketCount::new(wish.buckets().into());
    let vip = Vip {
        address,
        prefix: wish.prefix.unwrap_or_else(|| longest_prefix(address)),
        nic: wish.nic.clone(),
        mac: wish.mac.unwrap_or_else(|| Mac::of_group(address)),
        mode: L2Mode::default(),
        hasher: Hasher {
            mode: wish.hash,
            layout: Layout::default(),
            seed,
        },
        buckets: buckets.map_err(|error| Failure::new(DATA, error))?,
        label: None,
        noprefixroute: false,
        lock: true,
        drain_s: wish.drain_s,
        manager: Manager::Manual,
    };
    match vip.validate() {
        Ok(()) => Ok(wish),
        Err(error) => Err(Failure::new(DATA, error)),
    }
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
