//! `nodectl mac`: under which MAC an address is shared, as it follows from the address alone, or as a predecessor on this
//! node would derive it.

use super::cli::MacOf;
use super::context::Context;
use super::describe::placed;
use super::failure::{DATA, Failure};
use super::json::{SCHEMA, json};
use crate::host::observe::ObserveError;
use crate::host::place::{like, place};
use crate::model::predecessor::Predecessor;
use crate::model::vip::{L2Mode, check_address};
use crate::sys::route::RouteSocket;
use serde::Serialize;
use std::fmt::Write;

#[derive(Serialize)]
struct Answer {
    schema: u32,
    vip: String,
    macs: Vec<OfMode>,
}

/// The MAC of a mode, and the group that nodes join for it.
#[derive(Serialize)]
struct OfMode {
    mode: &'static str,
    mac: String,
    group: Option<String>,
    /// The predecessor that derives it so.
    compat: Option<&'static str>,
    /// The seed that it derives with it.
    seed: Option<u32>,
}

/// `nodectl mac`.
pub(super) fn mac(args: &MacOf, context: &Context<'_>) -> Result<String, Failure> {
    let vip = args.vip.address;
    check_address(vip).map_err(|error| Failure::new(DATA, error))?;
    let modes = L2Mode::ALL.into_iter();
    let asked = modes.filter(|mode| args.mode.is_none_or(|asked| asked == *mode));
    let of = |mode: L2Mode| {
        let mac = mode.mac(vip);
        OfMode {
            mode: mode.name(),
            mac: mac.to_string(),
            group: mode.group(vip, mac).map(|group| group.to_string()),
            compat: None,
            seed: None,
        }
    };
    let macs: Vec<OfMode> = match args.compat.0 {
        None => asked.map(of).collect(),
        Some(predecessor) => vec![of_old(args, predecessor)?],
    };
    if context.json {
        return json(&Answer {
            schema: SCHEMA,
            vip: vip.to_string(),
            macs,
        });
    }
    let is_one = args.mode.is_some() || args.compat.0.is_some();
    let mut text = String::new();
    for OfMode {
        mode, mac, group, ..
    } in macs
    {
        let group = group.map_or(String::new(), |group| format!("  group {group}"));
        // Writing to a String cannot fail.
        let _ = match is_one {
            true => writeln!(text, "{mac}{group}"),
            false => writeln!(text, "{mode:<9}  {mac}{group}"),
        };
    }
    Ok(text)
}

/// The MAC that a predecessor derives here.
fn of_old(args: &MacOf, predecessor: Predecessor) -> Result<OfMode, Failure> {
    let address = args.vip.address;
    predecessor
        .knows(address)
        .map_err(|error| Failure::new(DATA, error))?;
    let mut route = RouteSocket::open().map_err(ObserveError::from)?;
    let place = placed(place(
        &mut route,
        address,
        args.nic.as_ref(),
        args.vip.prefix,
        None,
    ))?;
    let told = args.broadcast.as_deref();
    let like = like(&mut route, predecessor, told, address, &place);
    let like = like.map_err(ObserveError::from)?;
    let made = like.derived(address, place.prefix);
    Ok(OfMode {
        mode: L2Mode::Multicast.name(),
        mac: made.mac.to_string(),
        group: None,
        compat: Some(predecessor.name()),
        seed: Some(made.seed),
    })
}
