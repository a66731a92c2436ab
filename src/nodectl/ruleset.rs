//! `nodectl ruleset`: the rules in nft's syntax, for a person to read.
//!
//! nft itself lists the same rules, but has no words for some of what they do (the byte order of
//! the address, the checksum that follows a change); here each rule is worded by its author.

use super::change::{described, within};
use super::cli::{Describe, Ruleset as Arguments};
use super::{Failure, look};
use crate::model::host::Observed;
use crate::model::phase::Phases;
use crate::model::ruleset::{
    Chain, Data, Element, Hook, KeyPart, Lifetime, Rule, Ruleset, Set, TABLE, Target, Verdict,
};
use crate::plan::before::remember_before;
use crate::plan::dataplane;
use crate::plan::health::known_rule;
use crate::plan::installed::installed;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// `nodectl ruleset`.
pub fn ruleset(args: &Arguments) -> Result<String, Failure> {
    let (mut kernel, observed) = look()?;
    let (Some(vip), Some(buckets)) = (args.vip, args.buckets) else {
        let known = installed(&observed.rules).into_iter();
        let vips: Vec<_> = known.map(|known| (known.vip, known.phases)).collect();
        let words = dataplane::ruleset(&vips);
        return Ok(render(&observed.rules, &words));
    };
    let describe = Describe {
        nic: args.nic.clone(),
        buckets,
        hash: args.hash,
        layout: args.layout,
        seed: args.seed,
        mac: args.mac,
        drain_s: 0,
    };
    let vip = described(&mut kernel, vip.address, vip.prefix, &describe)?;
    let own = args.own.clone().unwrap_or_default();
    within(&own, &vip)?;
    let mut rules = dataplane::ruleset(&[(vip, Phases::owning(own))]);
    remember_before(&mut rules, &Observed::default());
    Ok(render(&rules, &rules))
}

/// The ruleset as text. Rules that are in `words` too are worded as there.
pub fn render(rules: &Ruleset, words: &Ruleset) -> String {
    let mut text = String::new();
    for (family, table) in rules {
        let words = words.get(family);
        let _ = writeln!(text, "table {} {TABLE} {{", family.name());
        for (name, set) in &table.sets {
            render_set(&mut text, name, set);
        }
        for (name, chain) in &table.chains {
            let words = words.and_then(|table| table.chains.get(name));
            render_chain(&mut text, name, chain, words);
        }
        let _ = writeln!(text, "}}");
    }
    text
}

fn render_set(text: &mut String, name: &str, set: &Set) {
    let kind = if set.spec.data == Data::None {
        "set"
    } else {
        "map"
    };
    let key: Vec<&str> = set.spec.key.iter().map(|part| type_name(*part)).collect();
    let data = match set.spec.data {
        Data::None => "",
        Data::Verdict => " : verdict",
        Data::Mac => " : ether_addr",
        Data::Other(_) => " : unknown",
    };
    let _ = writeln!(text, "\t{kind} {name} {{");
    let _ = writeln!(text, "\t\ttype {}{data}", key.join(" . "));
    let _ = writeln!(text, "\t\tsize {}", set.spec.size);
    match set.spec.lifetime {
        Lifetime::Endless => {}
        Lifetime::Each => {
            let _ = writeln!(text, "\t\tflags timeout");
        }
        Lifetime::Learnt(lifetime) => {
            let _ = writeln!(text, "\t\tflags dynamic,timeout");
            let _ = writeln!(text, "\t\ttimeout {lifetime}ms");
        }
    }
    if let Some(interval) = set.spec.collected_ms {
        let _ = writeln!(text, "\t\tgc-interval {interval}ms");
    }
    if set.spec.counters {
        let _ = writeln!(text, "\t\tcounter");
    }
    let elements: Vec<String> = set
        .elements
        .iter()
        .map(|(key, element)| element_text(&set.spec.key, key, element))
        .collect();
    if !elements.is_empty() {
        // One a line where they say more than a word.
        let between = match set.spec.data {
            Data::None => ", ",
            _ => ",\n\t\t\t     ",
        };
        let _ = writeln!(text, "\t\telements = {{ {} }}", elements.join(between));
    }
    let _ = writeln!(text, "\t}}\n");
}

fn type_name(part: KeyPart) -> &'static str {
    match part {
        KeyPart::Number | KeyPart::Bits => "integer",
        KeyPart::Ip4 => "ipv4_addr",
        KeyPart::Ip6 => "ipv6_addr",
        KeyPart::Protocol => "inet_proto",
        KeyPart::IcmpType => "icmp_type",
        KeyPart::Icmp6Type => "icmpv6_type",
        KeyPart::Mac => "ether_addr",
        KeyPart::IfName => "ifname",
        KeyPart::Short | KeyPart::Long => "integer",
        KeyPart::Other(_) => "unknown",
    }
}

fn element_text(parts: &[KeyPart], key: &[u8], element: &Element) -> String {
    let mut rest = key;
    let words: Vec<String> = parts
        .iter()
        .map(|part| {
            let len = part.width().min(rest.len());
            let (this, after) = rest.split_at(len);
            rest = after
                .get(len.next_multiple_of(4) - len..)
                .unwrap_or_default();
            key_text(*part, this)
        })
        .collect();
    let mut text = words.join(" . ");
    if let Some(count) = element.count {
        let _ = write!(
            text,
            " counter packets {} bytes {}",
            count.packets, count.bytes
        );
    }
    match &element.target {
        Target::None => {}
        Target::Verdict(verdict) => {
            let _ = write!(text, " : {}", verdict_text(verdict));
        }
        Target::Value(value) => {
            let hex: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = write!(text, " : {}", hex.join(":"));
        }
    }
    text
}

fn key_text(part: KeyPart, bytes: &[u8]) -> String {
    let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match part {
        KeyPart::Number => <[u8; 4]>::try_from(bytes)
            .map_or_else(|_| hex(), |bytes| u32::from_ne_bytes(bytes).to_string()),
        KeyPart::Bits | KeyPart::Long => <[u8; 4]>::try_from(bytes)
            .map_or_else(|_| hex(), |bytes| u32::from_be_bytes(bytes).to_string()),
        KeyPart::Ip4 => <[u8; 4]>::try_from(bytes)
            .map_or_else(|_| hex(), |bytes| Ipv4Addr::from(bytes).to_string()),
        KeyPart::Ip6 => <[u8; 16]>::try_from(bytes)
            .map_or_else(|_| hex(), |bytes| Ipv6Addr::from(bytes).to_string()),
        KeyPart::Protocol | KeyPart::IcmpType | KeyPart::Icmp6Type => match bytes {
            [number] => number.to_string(),
            _ => hex(),
        },
        KeyPart::IfName => {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            format!("\"{}\"", String::from_utf8_lossy(&bytes[..end]))
        }
        KeyPart::Mac => <[u8; 6]>::try_from(bytes)
            .map_or_else(|_| hex(), |bytes| crate::model::mac::Mac(bytes).to_string()),
        KeyPart::Short => <[u8; 2]>::try_from(bytes)
            .map_or_else(|_| hex(), |bytes| u16::from_be_bytes(bytes).to_string()),
        KeyPart::Other(_) => hex(),
    }
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Other(code) => format!("verdict {code}"),
    }
}

fn render_chain(text: &mut String, name: &str, chain: &Chain, words: Option<&Chain>) {
    let _ = writeln!(text, "\tchain {name} {{");
    if let Some(comment) = &chain.comment {
        let _ = writeln!(text, "\t\tcomment \"{comment}\"");
    }
    if let Some(base) = &chain.base {
        let hook = match &base.hook {
            Hook::Ingress(device) => format!("ingress device \"{device}\""),
            Hook::ArpInput => "input".to_owned(),
            Hook::ArpOutput | Hook::Ip6Output => "output".to_owned(),
            Hook::Before => "prerouting".to_owned(),
            Hook::After => "postrouting".to_owned(),
            Hook::Other(what) => what.clone(),
        };
        let _ = writeln!(
            text,
            "\t\ttype filter hook {hook} priority {}; policy accept;",
            base.priority
        );
    }
    for rule in &chain.rules {
        let _ = writeln!(text, "\t\t{}", rule_text(rule, words));
    }
    let _ = writeln!(text, "\t}}\n");
}

fn rule_text(rule: &Rule, words: Option<&Chain>) -> String {
    let Some(known) = known_rule(rule, words) else {
        return format!("# not ours: {:?}", rule.exprs);
    };
    let text = match rule.count {
        None => known.text.clone(),
        Some(count) => known.text.replacen(
            "counter",
            &format!("counter packets {} bytes {}", count.packets, count.bytes),
            1,
        ),
    };
    format!("{text} comment \"{}\"", known.comment)
}
