//! `nodectl mac`: under which MAC an address is shared, as it follows from the address alone.

use super::cli::MacOf;
use super::context::Context;
use super::failure::{DATA, Failure};
use super::json::{SCHEMA, json};
use crate::model::vip::{L2Mode, check_address};
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
}

/// `nodectl mac`.
pub(super) fn mac(args: &MacOf, context: &Context<'_>) -> Result<String, Failure> {
    let vip = args.vip;
    check_address(vip).map_err(|error| Failure::new(DATA, error))?;
    let modes = L2Mode::ALL.into_iter();
    let asked = modes.filter(|mode| args.mode.is_none_or(|asked| asked == *mode));
    let of = |mode: L2Mode| {
        let mac = mode.mac(vip);
        OfMode {
            mode: mode.name(),
            mac: mac.to_string(),
            group: mode.group(vip, mac).map(|group| group.to_string()),
        }
    };
    let macs: Vec<OfMode> = asked.map(of).collect();
    if context.json {
        return json(&Answer {
            schema: SCHEMA,
            vip: vip.to_string(),
            macs,
        });
    }
    if let ([only], Some(_)) = (macs.as_slice(), args.mode) {
        return Ok(format!("{}\n", only.mac));
    }
    let mut text = String::new();
    for OfMode { mode, mac, group } in macs {
        let group = group.map_or(String::new(), |group| format!("  group {group}"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mode:<9}  {mac}{group}");
    }
    Ok(text)
}
