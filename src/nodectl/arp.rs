//! `nodectl arp`: what the routers and switches around the cluster are to be told.

use super::cli::Arp;
use super::screen::Screen;
use super::{Failure, SCHEMA, USAGE, json, look};
use crate::guidance::{Confirmed, Guide, Line, Site, VENDORS, Vendor};
use crate::model::mac::Mac;
use crate::plan::installed::find;
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
    mac: String,
    group: Option<String>,
    guides: Vec<OfVendor>,
}

#[derive(Serialize)]
struct OfVendor {
    #[serde(flatten)]
    name: Name,
    #[serde(flatten)]
    guide: Guide,
}

/// `nodectl arp`.
pub fn arp(args: &Arp) -> Result<String, Failure> {
    let Some(vip) = args.vip else {
        return list(args.json);
    };
    let vendors = chosen(&args.vendor)?;
    let site = Site {
        vip,
        mac: args.mac.unwrap_or_else(|| mac_of(vip)),
        vlan: args.vlan,
        ports: args.ports.clone(),
        interface: args.interface.clone(),
    };
    if args.json {
        let guides = vendors.iter().map(|vendor| OfVendor {
            name: name(vendor),
            guide: vendor.guide(&site),
        });
        return json(&Advice {
            schema: SCHEMA,
            vip: vip.to_string(),
            mac: site.mac.to_string(),
            group: site.group().map(|group| group.to_string()),
            guides: guides.collect(),
        });
    }
    let screen = Screen::of_stdout();
    let mut text = common(&site, screen);
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
                format!("nothing is known of a vendor '{word}'; 'nodectl arp --list' names them"),
            )
        })
    };
    words.iter().map(of_word).collect()
}

/// The VIP's MAC as it is installed here, or else as it follows from the address: routers are configured
/// from anywhere, also without being root.
fn mac_of(vip: IpAddr) -> Mac {
    let here = look().ok();
    let found = here.and_then(|(_, observed)| find(&observed.rules, vip));
    found.map_or_else(|| Mac::of_group(vip), |found| found.vip.mac)
}

/// What holds for every network.
fn common(site: &Site, screen: Screen) -> String {
    let Site { vip, mac, .. } = site;
    let mut text = format!("{} is at {}\n", screen.name(&vip.to_string()), mac);
    let question = match vip {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    };
    let joins = match vip {
        IpAddr::V4(_) => {
            "The nodes send no IGMP joins: where snooping drops what nobody joined, make a static \
             entry."
        }
        IpAddr::V6(_) => "The nodes report the group by MLD, as for every IPv6 address.",
    };
    let group = match site.group() {
        Some(group) => format!(" (the MAC of the group {group})"),
        None => String::new(),
    };
    for (about, what) in [
        (
            "router",
            format!(
                "has to send the packets for {vip} to {mac}. One that believes {question} learns \
                 that by itself; RFC 1812, 3.3.2, forbids to believe a multicast MAC, and who keeps \
                 to it needs a static entry."
            ),
        ),
        (
            "switch",
            format!(
                "has to send the frames for {mac}{group} to the ports of all nodes. One without an \
                 entry floods them, which is all that is needed. {joins}"
            ),
        ),
        (
            "VLAN",
            "should be one of its own for the nodes and the router: everybody in it sees the \
             traffic. Storm control, limits of multicast and dynamic ARP inspection need \
             exceptions."
                .to_owned(),
        ),
        (
            "check",
            format!(
                "on every node 'tcpdump -ni NIC -e host {vip}' must show the packets of one client."
            ),
        ),
    ] {
        text += &screen.fill(&format!("  {about:<8}"), &what);
    }
    text
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
        let how = match (fact.confirmed, fact.source) {
            (_, Some(source)) => format!(" [documented: {source}]"),
            (Confirmed::Unconfirmed, _) => " [unconfirmed]".to_owned(),
            _ => " [tried]".to_owned(),
        };
        text += &screen.fill("  note: ", &(fact.text.clone() + &how));
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
            Confirmed::Documented => screen.good("documented"),
            Confirmed::Unconfirmed => screen.warn("unconfirmed syntax"),
        };
        let _ = writeln!(text, "    {:<longest$}  <- {how}", line.text);
    }
    text
}
