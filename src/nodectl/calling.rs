//! `nodectl check --send` and `--listen`: calling every node on the link, and saying who was heard.

use super::cli::Check;
use super::context::Context;
use super::failure::{DATA, Failure, NOT_PERMITTED, REFUSED, USAGE};
use super::json::{SCHEMA, json};
use super::screen::Screen;
use super::told::Told;
use crate::host::calling::{self, LONGEST_S, Post, call, frames_in, own_address};
use crate::host::observe::{Kernel, ObserveError};
use crate::model::mac::Mac;
use crate::model::untrusted::Untrusted;
use crate::model::written::in_digits;
use crate::preflight::{Checked, Wish, judged_by_ear};
use crate::sys::packet::PacketError;
use crate::sys::route::Family;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What was sent.
#[derive(Serialize)]
struct Sent {
    schema: u32,
    vip: String,
    nic: Untrusted,
    mode: &'static str,
    mac: String,
    /// How many frames for that MAC.
    frames: u32,
    /// Whose questions and frames these are, for those who listen.
    from: String,
}

/// Whom a listener has heard.
#[derive(Serialize)]
pub(super) struct Ear {
    seconds: u64,
    senders: Vec<Sender>,
    /// Who sent for other MACs with the VIP inside.
    elsewhere: Vec<Elsewhere>,
    /// The MACs of those who sent and asked for the VIP as nodes do before they share it.
    questions: Vec<String>,
    queriers_ip4: Vec<String>,
    queriers_ip6: Vec<String>,
}

#[derive(Serialize)]
struct Sender {
    mac: String,
    address: String,
    heard: u32,
    sent: u32,
    /// The first twelve digits of the digest that 'nodectl status' shows there, of one that shares the VIP.
    digest: Option<String>,
}

#[derive(Serialize)]
struct Elsewhere {
    mac: String,
    address: String,
    /// For which MAC.
    to: String,
}

/// Where it is sent and listened, and the interface's own MAC.
fn post(kernel: &mut Kernel, wish: &Wish) -> Result<(Post, Mac), Failure> {
    let link = kernel.route.link(wish.nic.raw());
    let link = link.map_err(ObserveError::from)?;
    let on = link.and_then(|link| Some((link.index, Mac(link.mac?))));
    let (Some((index, nic_mac)), Some(vip)) = (on, wish.vip) else {
        let why = format!("{} has no MAC to send from", wish.nic);
        return Err(Failure::new(DATA, why));
    };
    let mode = wish.mode.of_family(vip);
    let post = Post {
        vip,
        cluster_mac: wish.mac.unwrap_or_else(|| mode.mac(vip)),
        index,
        digest: wish.digest,
    };
    Ok((post, nic_mac))
}

/// What a packet socket cannot do.
fn failed(error: PacketError) -> Failure {
    match error.errno() {
        Some(libc::EPERM | libc::EACCES) => Failure::hinting(NOT_PERMITTED, error),
        _ => Failure::new(REFUSED, error),
    }
}

/// Sends a round.
pub(super) fn send(
    kernel: &mut Kernel,
    args: &Check,
    wish: &Wish,
    vips: &[IpAddr],
    context: &Context<'_>,
) -> Result<Told, Failure> {
    const SECONDS: u32 = 10;
    let seconds = args.seconds.unwrap_or(SECONDS);
    if seconds > LONGEST_S {
        let why = format!(
            "--for {seconds} is too long with --send, which takes 1 to {LONGEST_S} seconds"
        );
        return Err(Failure::new(USAGE, why));
    }
    let (post, nic_mac) = post(kernel, wish)?;
    let family = Family::of(&post.vip);
    let own = kernel.route.addresses(Some(post.index), Some(family));
    let own = own.map_err(ObserveError::from)?;
    let nobody = match post.vip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = own_address(post.vip, &own, vips).unwrap_or(nobody);
    let frames = frames_in(seconds);
    call(post, nic_mac, from, frames).map_err(failed)?;
    let sent = Sent {
        schema: SCHEMA,
        vip: post.vip.to_string(),
        nic: wish.nic.clone(),
        mode: wish.mode.name(),
        mac: post.cluster_mac.to_string(),
        frames,
        from: nic_mac.to_string(),
    };
    let text = match context.json {
        true => json(&sent)?,
        false => format!(
            "sent {frames} frames for {} with {} inside by {}, from {nic_mac} ({from}); what came of it those say who listen: \
             'nodectl check {} --mode {} --listen'\n",
            sent.mac, sent.vip, wish.nic, sent.vip, sent.mode
        ),
    };
    Ok(text.into())
}

/// Listens; what was heard, and what that says.
pub(super) fn listen(
    kernel: &mut Kernel,
    args: &Check,
    wish: &Wish,
) -> Result<(Ear, Vec<Checked>), Failure> {
    const SECONDS: u32 = 130;
    let (post, _) = post(kernel, wish)?;
    let seconds = args.seconds.unwrap_or(SECONDS);
    let begun = || {
        let (vip, mac) = (post.vip, post.cluster_mac);
        // Nobody may be left to read it.
        let _ = writeln!(
            std::io::stderr(),
            "nodectl: listening on {} for {seconds} s: frames for {mac} with {vip} inside can be sent now, by \
             'nodectl check {vip} --mode {} --send' elsewhere",
            wish.nic,
            wish.mode.name()
        );
    };
    let heard = calling::listen(post, seconds.into(), begun).map_err(failed)?;
    let macs = |all: &BTreeSet<Mac>| all.iter().map(Mac::to_string).collect();
    let senders = heard.callers().map(|caller| Sender {
        mac: caller.mac.to_string(),
        address: caller.address.to_string(),
        heard: caller.heard,
        sent: caller.sent,
        digest: caller.digest.map(in_digits),
    });
    let elsewhere = heard.elsewhere().map(|call| Elsewhere {
        mac: call.mac.to_string(),
        address: call.address.to_string(),
        to: call.to.to_string(),
    });
    let ear = Ear {
        seconds: heard.seconds,
        senders: senders.collect(),
        elsewhere: elsewhere.collect(),
        questions: macs(&heard.questions),
        queriers_ip4: macs(&heard.queries_ip4),
        queriers_ip6: macs(&heard.queries_ip6),
    };
    Ok((ear, judged_by_ear(heard, wish)))
}

impl Ear {
    /// Not one for the cluster MAC?
    pub(super) fn has_heard_no_frame(&self) -> bool {
        self.senders.is_empty()
    }

    /// For people.
    pub(super) fn in_words(&self, screen: Screen) -> String {
        let mut lines = Vec::new();
        let asked = |mac: &String| match self.questions.contains(mac) {
            true => "its question too",
            false => "its question not",
        };
        for sender in &self.senders {
            let asked = asked(&sender.mac);
            lines.push(format!(
                "{} of {} frames of {} ({}), {asked}",
                sender.heard, sender.sent, sender.address, sender.mac
            ));
        }
        for call in &self.elsewhere {
            let (Elsewhere { mac, address, to }, asked) = (call, asked(&call.mac));
            lines.push(format!(
                "frames of {address} ({mac}) for another MAC, {to}, {asked}"
            ));
        }
        let known = |mac: &String| {
            let mut senders = self.senders.iter().map(|sender| &sender.mac);
            let mut elsewhere = self.elsewhere.iter().map(|call| &call.mac);
            senders.any(|known| known == mac) || elsewhere.any(|known| known == mac)
        };
        for mac in self.questions.iter().filter(|mac| !known(mac)) {
            lines.push(format!("the question of {mac}, and none of his frames"));
        }
        for (family, queriers) in [("IGMP", &self.queriers_ip4), ("MLD", &self.queriers_ip6)] {
            if !queriers.is_empty() {
                lines.push(format!("{family} queries of {}", queriers.join(", ")));
            }
        }
        let first = format!("in {} s:", self.seconds);
        let nothing = || "nothing".to_owned();
        let begin = lines.first().cloned().unwrap_or_else(nothing);
        let mut text = screen.about("heard", &format!("{first} {begin}"));
        for line in lines.iter().skip(1) {
            text += &screen.about("", line);
        }
        text
    }
}
