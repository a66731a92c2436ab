//! Is a VIP as it should be? What is and what should be are both written down piece by piece, in
//! the same words; where the two texts differ there is drift, and the piece has a name. Pure.

use super::addressing::{is_sound, reaches};
use super::installed::{installed, phases_of};
use super::loaded::is_loaded;
use super::older::in_todays_words;
use super::wanted::with_vip;
use crate::model::host::{Held, NicState, Observed};
use crate::model::network::Network;
use crate::model::ruleset::{
    Chain, Data, Element, Family, KeyPart, Rule, Ruleset, Set, Target, Verdict,
};
use crate::model::seed::without_seeds;
use crate::model::set::hex;
use crate::model::untrusted::in_one_line;
use crate::model::vip::Vip;
use crate::rules::addressing::{is_in_group, needed_route, needs_membership};
use crate::rules::dataplane;
use crate::rules::names::{bucket_of_key, buckets_map};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A piece of a VIP that is not as it should be. It is words for people, each in one line; names and comments that
/// somebody else gave are shown in them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Drift {
    /// Which piece: `address eth0`, `chain netdev vip-10.77.0.99`, …
    pub piece: String,
    /// What should be there.
    pub expected: String,
    /// What is there; `missing` if nothing is.
    pub found: String,
}

impl Drift {
    /// Which rules of a chain differ, for logs: without the seed.
    pub fn difference(&self) -> String {
        let rules = |text: &str| -> Vec<String> {
            let told = without_seeds(text);
            told.split(BETWEEN).map(str::to_owned).collect()
        };
        let (mut lacks, mut has) = (rules(&self.expected), rules(&self.found));
        lacks.retain(|rule| {
            let at = has.iter().position(|other| other == rule);
            at.map(|at| has.remove(at)).is_none()
        });
        let quoted = |rules: Vec<String>| format!("'{}'", rules.join("', '"));
        match (lacks.is_empty(), has.is_empty()) {
            (true, true) => "differs in the order of its rules or in the seed".to_owned(),
            (true, false) => format!("has {} besides", quoted(has)),
            (false, true) => format!("lacks {}", quoted(lacks)),
            (false, false) => format!("has {} in place of {}", quoted(has), quoted(lacks)),
        }
    }
}

/// What a piece says where there is nothing.
pub const MISSING: &str = "missing";
const THERE: &str = "there";
const ROUTE: &str = "route ";
/// What stands between the rules of a chain.
const BETWEEN: &str = "; ";

/// Is it nothing but the way to its network? That goes when somebody sets the interface down and up, or with
/// another one that was as good; nothing is wrong with the VIP, and it can be put back.
pub fn is_only_a_route(drift: &[Drift]) -> bool {
    !drift.is_empty() && drift.iter().all(|drift| drift.piece.starts_with(ROUTE))
}

/// A VIP's canonical description: its pieces by name, each in words.
type Pieces = BTreeMap<String, String>;

/// What is wrong with the VIP; nothing if it is healthy.
///
/// `strict_link` says that an interface without a carrier is a fault.
pub fn drift(observed: &Observed, vip: &Vip, strict_link: bool) -> Vec<Drift> {
    // Every piece would differ, and none would say why.
    if is_loaded(&observed.rules) {
        return vec![Drift {
            piece: "rules".to_owned(),
            expected: "as the agent writes them".to_owned(),
            found: "loaded by nft from a file".to_owned(),
        }];
    }
    let expected = expected(observed, vip);
    let found = found(observed, vip, strict_link);
    if digest(&expected) == digest(&found) {
        return Vec::new();
    }
    let mut names: Vec<&String> = expected.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    let text = |pieces: &Pieces, name: &String| {
        let text = pieces.get(name).map(|text| in_one_line(text));
        text.unwrap_or_else(|| MISSING.to_owned())
    };
    names
        .into_iter()
        .filter(|name| expected.get(*name) != found.get(*name))
        .map(|name| Drift {
            piece: in_one_line(name),
            expected: text(&expected, name),
            found: text(&found, name),
        })
        .collect()
}

/// The blake3 digest of a canonical description.
fn digest(pieces: &Pieces) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in pieces {
        hasher.update(name.as_bytes());
        hasher.update(b"\0");
        hasher.update(text.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize()
}

/// What should be there of this VIP, given the others on the host.
fn expected(observed: &Observed, vip: &Vip) -> Pieces {
    let phases = phases_of(&observed.rules, vip.address);
    let rules = with_vip(observed, vip, &phases);

    let mut pieces = rule_pieces(&rules, &rules, vip);
    pieces.insert(nic_piece(vip), nic_text(true, true).to_owned());
    pieces.insert(address_piece(vip), address_text(vip));
    if needs_membership(vip) {
        pieces.insert(membership_piece(vip), "joined".to_owned());
    }
    let state = observed.nics.get(vip.nic.as_str());
    // An interface that is down has no routes, and is a piece of its own.
    let up = state.filter(|state| state.admin_up);
    if let Some(network) = up.and_then(|state| needed_route(state, vip)) {
        pieces.insert(route_piece(vip, &network), THERE.to_owned());
    }
    if let Some(group) = vip.group() {
        pieces.insert(group_piece(vip, group), "joined".to_owned());
    }
    if vip.needs_lock() && state.is_none_or(|state| state.lock(vip.address).is_some()) {
        pieces.insert(lock_piece(vip), "1".to_owned());
    }
    pieces
}

/// What is there of it.
fn found(observed: &Observed, vip: &Vip, strict_link: bool) -> Pieces {
    let known = installed(&observed.rules).into_iter();
    let mut all: Vec<_> = known.map(|known| (known.vip, known.phases)).collect();
    if !all.iter().any(|(known, _)| known.address == vip.address) {
        all.push((vip.clone(), phases_of(&observed.rules, vip.address)));
    }
    let wording = dataplane::ruleset(&all);
    let rules = in_todays_words(&observed.rules, &wording);
    let mut pieces = rule_pieces(&rules, &wording, vip);
    for (name, state) in &observed.nics {
        if name != vip.nic.as_str() && state.held(vip.address).is_some() {
            pieces.insert(
                format!("address {name} {}", vip.address),
                "there too".to_owned(),
            );
        }
    }
    let Some(state) = observed.nics.get(vip.nic.as_str()) else {
        return pieces;
    };
    let carrier = state.carrier || !strict_link;
    let text = match (&state.master, state.answers_beneath(vip.address, vip.mode)) {
        (Some(master), _) => format!("a port of the {} {}", master.kind, master.name),
        (None, Some(beneath)) => format!("on {beneath}, which answers too"),
        (None, None) => nic_text(state.admin_up || !strict_link, carrier).to_owned(),
    };
    pieces.insert(nic_piece(vip), text);
    if let Some(text) = held_text(state, vip) {
        pieces.insert(address_piece(vip), text);
    }
    let route = needed_route(state, vip).filter(|_| state.admin_up);
    if let Some(network) = route.filter(|network| reaches(state, network)) {
        pieces.insert(route_piece(vip, &network), THERE.to_owned());
    }
    if needs_membership(vip) && state.memberships.contains(&vip.mac) {
        pieces.insert(membership_piece(vip), "joined".to_owned());
    }
    if let Some(group) = vip.group().filter(|group| is_in_group(state, *group)) {
        pieces.insert(group_piece(vip, group), "joined".to_owned());
    }
    if let Some(on) = state.lock(vip.address).filter(|_| vip.needs_lock()) {
        pieces.insert(lock_piece(vip), if on { "1" } else { "0" }.to_owned());
    }
    pieces
}

fn nic_piece(vip: &Vip) -> String {
    format!("interface {}", vip.nic)
}

fn nic_text(up: bool, carrier: bool) -> &'static str {
    match (up, carrier) {
        (true, true) => "up",
        (true, false) => "up, but without a carrier",
        (false, _) => "down",
    }
}

fn address_piece(vip: &Vip) -> String {
    format!("address {} {}", vip.nic, vip.address)
}

fn address_text(vip: &Vip) -> String {
    let mut text = match vip.address {
        IpAddr::V4(_) => "no source (scope host)",
        IpAddr::V6(_) => "no source (deprecated)",
    }
    .to_owned();
    if let Some(label) = &vip.label {
        text += &format!(", label {label}");
    }
    text
}

fn held_text(state: &NicState, vip: &Vip) -> Option<String> {
    let forms: Vec<&Held> = state.forms(vip.address).collect();
    match forms.as_slice() {
        [] => None,
        [held] if is_sound(state, held, vip) => Some(address_text(vip)),
        forms => {
            let forms: Vec<String> = forms.iter().map(|held| form_text(held)).collect();
            Some(forms.join(" and "))
        }
    }
}

/// One address as it is, where it is not as it should be.
fn form_text(held: &Held) -> String {
    let mut text = format!("/{}", held.prefix);
    if let Some(label) = &held.label {
        text += &format!(", label {label}");
    }
    if !held.no_source {
        text += ", a source for the node's own connections";
    }
    if held.unusable {
        text += ", not usable (duplicate address detection)";
    }
    text
}

fn route_piece(vip: &Vip, network: &Network) -> String {
    format!("{ROUTE}{network} by {}", vip.nic)
}

fn membership_piece(vip: &Vip) -> String {
    format!("membership {} {}", vip.nic, vip.mac)
}

fn group_piece(vip: &Vip, group: Ipv4Addr) -> String {
    format!("group {} {group}", vip.nic)
}

fn lock_piece(vip: &Vip) -> String {
    let family = match vip.address {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    format!(
        "sysctl net.{family}.conf.{}.drop_unicast_in_l2_multicast",
        vip.nic
    )
}

/// The pieces of a ruleset that the VIP needs. Known rules are worded as in `wording`.
fn rule_pieces(rules: &Ruleset, wording: &Ruleset, vip: &Vip) -> Pieces {
    let mut pieces = Pieces::new();
    let phases = phases_of(rules, vip.address);
    let alone = dataplane::ruleset(&[(vip.clone(), phases)]);
    for (family, alone) in &alone {
        let Some(table) = rules.get(family) else {
            continue;
        };
        pieces.insert(
            format!("table {}", family.name()),
            match table.flags {
                0 => "there".to_owned(),
                flags => format!("there with the flags {flags:#x} (1 is dormant)"),
            },
        );
        let words = wording.get(family);
        for (name, chain) in &table.chains {
            if *family == Family::Netdev && !alone.chains.contains_key(name) {
                continue;
            }
            let words = words.and_then(|table| table.chains.get(name));
            let piece = format!("chain {} {name}", family.name());
            pieces.insert(piece, chain_text(chain, words));
        }
        for (name, set) in &table.sets {
            let Some(alone) = alone.sets.get(name) else {
                continue;
            };
            let piece = format!("map {} {name}", family.name());
            pieces.insert(piece, format!("{:?}", set.spec));
            for (key, element) in elements_of(set, alone, *name == buckets_map(vip.address)) {
                let piece = format!(
                    "element {} {name} {}",
                    family.name(),
                    key_text(&set.spec.key, key)
                );
                pieces.insert(piece, element_text(element));
            }
        }
    }
    pieces
}

/// The elements that say something about this VIP: its own, in maps that VIPs share.
fn elements_of<'a>(
    set: &'a Set,
    alone: &'a Set,
    is_buckets: bool,
) -> impl Iterator<Item = (&'a Vec<u8>, &'a Element)> {
    let whole = is_buckets || alone.spec.data == Data::None;
    set.elements
        .iter()
        .filter(move |(key, _)| whole || alone.elements.contains_key(*key))
}

/// A key for people: its address, where it has one.
fn key_text(parts: &[KeyPart], key: &[u8]) -> String {
    let hex = |bytes: &[u8]| hex(bytes, ":");
    match (parts, key) {
        ([KeyPart::Number], key) => bucket_of_key(key).map_or_else(|| hex(key), |n| n.to_string()),
        ([.., KeyPart::Ip4], &[.., a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
        ([.., KeyPart::Ip6], key) => match key.last_chunk::<16>() {
            Some(bytes) => Ipv6Addr::from(*bytes).to_string(),
            None => hex(key),
        },
        _ => hex(key),
    }
}

fn element_text(element: &Element) -> String {
    match &element.target {
        Target::None => "there".to_owned(),
        Target::Verdict(Verdict::Goto(chain)) => format!("goto {chain}"),
        Target::Verdict(verdict) => format!("{verdict:?}").to_lowercase(),
        Target::Value(value) => hex(value, ":"),
    }
}

fn chain_text(chain: &Chain, words: Option<&Chain>) -> String {
    let mut lines = Vec::new();
    if let Some(base) = &chain.base {
        lines.push(format!("{:?} priority {}", base.hook, base.priority));
    }
    lines.extend(chain.comment.as_ref().map(|comment| format!("'{comment}'")));
    for rule in &chain.rules {
        lines.push(match known_rule(rule, words) {
            Some(known) => known.text.clone(),
            None => format!("{:?}", rule.exprs),
        });
    }
    lines.join(BETWEEN)
}

/// The rule with its author's words, if it is one of those that should be in the chain.
pub fn known_rule<'a>(rule: &Rule, words: Option<&'a Chain>) -> Option<&'a Rule> {
    let mut known = words.into_iter().flat_map(|chain| &chain.rules);
    known.find(|known| *known == rule)
}
