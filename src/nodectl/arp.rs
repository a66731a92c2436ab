//! `nodectl arp`: what the routers and switches around the cluster are to be told.

use super::cli::Arp;
use super::context::{Context, look};
use super::failure::{DATA, Failure, USAGE};
use super::json::{SCHEMA, json};
use super::screen::Screen;
use crate::guidance::{Confirmed, Fact, Guide, Line, Site, VENDORS, Vendor, everywhere};
use crate::model::mac::Mac;
use crate::model::untrusted::shown;
use crate::model::vip::{L2Mode, VipError, check_address};
use crate::reading::installed::find;
use serde::Serialize;
use std::fmt::Write;
use std::net::IpAddr;

/// The word that means every vendor.
const ALL: &str = "all";

#[derive(Serialize)]
struct Listed {
    schema: u32,
    vendors: Vec<Name>,
}

#[derive(Serialize)]
struct Name {
    vendor: &'static str,
    title: &'static str,
}

#[derive(Serialize)]
struct Advice {
    schema: u32,
    vip: String,
    mode: &'static str,
    mac: String,
    mac_from: MacFrom,
    group: Option<String>,
    everywhere: Vec<Fact>,
    guides: Vec<OfVendor>,
}

/// Why it is this MAC.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum MacFrom {
    /// It was asked for.
    Given,
    /// The VIP is installed here, with this MAC.
    Installed,
    /// It follows from the address; the VIP may have another.
    Address,
}

#[derive(Serialize)]
struct OfVendor {
    #[serde(flatten)]
    name: Name,
    #[serde(flatten)]
    guide: Guide,
}

/// `nodectl arp`.
pub(super) fn arp(args: &Arp, context: &Context<'_>) -> Result<String, Failure> {
    let Some(vip) = args.vip else {
        return list(context.json);
    };
    let vendors = chosen(&args.vendor)?;
    let (mode, mac, from) = mac_of(vip, args.mode, args.mac);
    check_address(vip)
        .and_then(|()| mode.check(vip, mac).map_err(VipError::from))
        .map_err(|error| Failure::new(DATA, error))?;
    let site = Site {
        vip,
        mode,
        mac,
        vlan: args.vlan,
        ports: args.ports.clone(),
        interface: args.interface.clone(),
    };
    if context.json {
        let guides = vendors.iter().map(|vendor| OfVendor {
            name: name(vendor),
            guide: vendor.guide(&site),
        });
        return json(&Advice {
            schema: SCHEMA,
            vip: vip.to_string(),
            mode: site.mode.name(),
            mac: site.mac.to_string(),
            mac_from: from,
            group: site.group().map(|group| group.to_string()),
            everywhere: everywhere(&site),
            guides: guides.collect(),
        });
    }
    let screen = Screen::of_stdout();
    let mut text = common(&site, from, screen);
    for vendor in &vendors {
        text += "\n";
        text += &of_vendor(vendor, &site, screen);
    }
    if vendors.is_empty() {
        let hint = "'nodectl arp --list' names the systems that more is known of; then add \
                    '--vendor NAME'.";
        text += "\n";
        text += &screen.fill("", hint);
    }
    Ok(text)
}

fn name(vendor: &Vendor) -> Name {
    Name {
        vendor: vendor.name,
        title: vendor.title,
    }
}

fn list(as_json: bool) -> Result<String, Failure> {
    if as_json {
        return json(&Listed {
            schema: SCHEMA,
            vendors: VENDORS.iter().map(name).collect(),
        });
    }
    let mut text = String::new();
    for vendor in &VENDORS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<16} {}", vendor.name, vendor.title);
    }
    Ok(text)
}

fn chosen(words: &[String]) -> Result<Vec<Vendor>, Failure> {
    if words.iter().any(|word| word == ALL) {
        return Ok(VENDORS.to_vec());
    }
    let of_word = |word: &String| {
        let found = VENDORS.into_iter().find(|vendor| vendor.name == *word);
        found.ok_or_else(|| {
            Failure::new(
                USAGE,
                format!(
                    "nothing is known of a vendor '{}'; 'nodectl arp --list' names them",
                    shown(word)
                ),
            )
        })
    };
    words.iter().map(of_word).collect()
}

/// The mode and the MAC that were given, or the VIP's as it is installed here, or else as they follow from the
/// address: routers are configured from anywhere, also without being root.
fn mac_of(vip: IpAddr, mode: Option<L2Mode>, mac: Option<Mac>) -> (L2Mode, Mac, MacFrom) {
    if let Some(mac) = mac {
        let as_it_looks = match mac.is_unlearnt() {
            true => L2Mode::Stealth,
            false => L2Mode::Multicast,
        };
        return (mode.unwrap_or(as_it_looks), mac, MacFrom::Given);
    }
    let here = look().ok();
    let found = here.and_then(|(_, observed)| find(&observed.rules, vip));
    match found.filter(|found| mode.is_none_or(|mode| mode == found.vip.mode)) {
        Some(found) => (found.vip.mode, found.vip.mac, MacFrom::Installed),
        None => {
            let mode = mode.unwrap_or_default();
            (mode, mode.mac(vip), MacFrom::Address)
        }
    }
}

/// What holds for every network.
fn common(site: &Site, from: MacFrom, screen: Screen) -> String {
    let mut text = format!(
        "{} is at {}\n",
        screen.name(&site.vip.to_string()),
        site.mac
    );
    if from == MacFrom::Address {
        let why = "as it follows from the address, for no such VIP is to be seen here. One with a parameter \
                   mac has that: say it with --mac, or ask on a node, as root.";
        text += &screen.fill("  MAC     ", why);
    }
    let mut before = "";
    for Fact { about, line } in everywhere(site) {
        let shown = if about == before { "" } else { about };
        text += &screen.fill(&format!("  {shown:<8}"), &told(&line));
        before = about;
    }
    text
}

/// A fact with how far it is confirmed.
fn told(fact: &Line) -> String {
    let how = match (fact.confirmed, fact.source) {
        (_, Some(source)) => format!(" [documented: {source}]"),
        (Confirmed::Unconfirmed, _) => " [unconfirmed]".to_owned(),
        (Confirmed::ByHand, _) => " [tried by hand]".to_owned(),
        _ => " [tried]".to_owned(),
    };
    fact.text.clone() + &how
}

fn of_vendor(vendor: &Vendor, site: &Site, screen: Screen) -> String {
    let guide = vendor.guide(site);
    let mut text = format!("{} ({})\n", screen.name(vendor.title), vendor.name);
    for step in &guide.steps {
        let source = step.lines.first().and_then(|line| line.source);
        let source = source.map_or(String::new(), |source| format!(" ({source})"));
        let _ = writeln!(text, "  {}{}", step.purpose, screen.dim(&source));
        text += &typed(&step.lines, screen);
    }
    if !guide.check.is_empty() {
        let _ = writeln!(text, "  whether it took");
        text += &typed(&guide.check, screen);
    }
    for fact in &guide.beware {
        text += &screen.fill("  note: ", &told(fact));
    }
    text
}

/// Lines to type, each with how far it is confirmed behind it. They are not broken.
fn typed(lines: &[Line], screen: Screen) -> String {
    let longest = lines.iter().map(|line| line.text.chars().count()).max();
    let longest = longest.unwrap_or_default().min(60);
    let mut text = String::new();
    for line in lines {
        let how = match line.confirmed {
            Confirmed::Tried => screen.good("tried"),
            Confirmed::ByHand => screen.good("tried by hand"),
            Confirmed::Documented => screen.good("documented"),
            Confirmed::Unconfirmed => screen.warn("unconfirmed syntax"),
        };
        let _ = writeln!(text, "    {:<longest$}  <- {how}", line.text);
    }
    text
}
