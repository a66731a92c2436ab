//! `nodectl ruleset`: the rules in nft's syntax, for a person to read.
//!
//! nft itself lists the same rules, but has no words for some of what they do (the byte order of
//! the address, the checksum that follows a change); here each rule is worded by its author.

use super::change::within;
use super::cli::{AddressWithPrefix, Describe, Ruleset as Arguments};
use super::context::{Context, look};
use super::describe::described;
use super::failure::Failure;
use super::json::{SCHEMA, json};
use crate::host::observe::Kernel;
use crate::model::bucket::BucketCount;
use crate::model::host::Observed;
use crate::model::phase::Phases;
use crate::model::ruleset::{
    Chain, Data, Element, Family, Hook, KeyPart, Lifetime, Rule, Ruleset, Set, TABLE, Table,
    Target, Verdict,
};
use crate::model::set::hex;
use crate::model::untrusted::in_one_line;
use crate::reading::before::remember_before;
use crate::reading::health::known_rule;
use crate::reading::installed::installed;
use crate::rules::dataplane;
use serde::Serialize;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The rules, for programs.
#[derive(Serialize)]
struct Rules {
    schema: u32,
    tables: Vec<TableShown>,
}

#[derive(Serialize)]
struct TableShown {
    family: &'static str,
    table: &'static str,
    sets: Vec<SetShown>,
    chains: Vec<ChainShown>,
}

/// A set or a map, in nft's words.
#[derive(Serialize)]
struct SetShown {
    set: String,
    kind: &'static str,
    #[serde(rename = "type")]
    of: String,
    /// Its size, flags and times: a line each.
    options: Vec<String>,
    elements: Vec<String>,
    #[serde(skip)]
    between: &'static str,
}

#[derive(Serialize)]
struct ChainShown {
    chain: String,
    comment: Option<String>,
    /// Where the kernel calls it, if not a rule does.
    hook: Option<String>,
    rules: Vec<RuleShown>,
}

#[derive(Serialize)]
struct RuleShown {
    /// The rule in nft's words, with its counter; of a rule that is none of ours what is known of it.
    rule: String,
    /// Why it is there; null of a rule that is none of ours.
    comment: Option<&'static str>,
}

/// `nodectl ruleset`.
pub(super) fn ruleset(args: &Arguments, context: &Context<'_>) -> Result<String, Failure> {
    let (mut kernel, observed) = look()?;
    let (rules, words) = match (args.vip, args.buckets) {
        (Some(vip), Some(buckets)) => (would_be(&mut kernel, args, vip, buckets)?, None),
        _ => {
            let known = installed(&observed.rules).into_iter();
            let vips: Vec<_> = known.map(|known| (known.vip, known.phases)).collect();
            (observed.rules, Some(dataplane::ruleset(&vips)))
        }
    };
    let tables = tables(&rules, words.as_ref().unwrap_or(&rules));
    match context.json {
        true => json(&Rules {
            schema: SCHEMA,
            tables,
        }),
        false => Ok(tables.iter().map(table_text).collect()),
    }
}

/// What `up` would install.
fn would_be(
    kernel: &mut Kernel,
    args: &Arguments,
    vip: AddressWithPrefix,
    buckets: BucketCount,
) -> Result<Ruleset, Failure> {
    let describe = Describe {
        nic: args.nic.clone(),
        buckets,
        hash: args.hash,
        layout: args.layout,
        seed: args.seed,
        mode: args.mode,
        mac: args.mac,
        compat: args.compat,
        broadcast: None,
        drain_s: None,
        without_second_lock: false,
    };
    let vip = described(kernel, vip.address, vip.prefix, &describe)?;
    let own = args.own.clone().unwrap_or_default();
    within(&own, &vip)?;
    let mut rules = dataplane::ruleset(&[(vip, Phases::owning(own))]);
    remember_before(&mut rules, &Observed::default());
    Ok(rules)
}

/// The rules in words; those that are in `words` too are worded as there.
fn tables(rules: &Ruleset, words: &Ruleset) -> Vec<TableShown> {
    let of_table = |(family, table): (&Family, &Table)| {
        let words = words.get(family);
        let chains = table.chains.iter();
        TableShown {
            family: family.name(),
            table: TABLE,
            sets: table
                .sets
                .iter()
                .map(|(name, set)| of_set(name, set))
                .collect(),
            chains: chains
                .map(|(name, chain)| {
                    let words = words.and_then(|table| table.chains.get(name));
                    of_chain(name, chain, words)
                })
                .collect(),
        }
    };
    rules.iter().map(of_table).collect()
}

fn table_text(table: &TableShown) -> String {
    let mut text = format!("table {} {} {{\n", table.family, table.table);
    // Writing to a String cannot fail.
    for set in &table.sets {
        let name = word(&set.set);
        let _ = writeln!(text, "\t{} {name} {{\n\t\ttype {}", set.kind, set.of);
        for line in &set.options {
            let _ = writeln!(text, "\t\t{line}");
        }
        if !set.elements.is_empty() {
            let elements = set.elements.join(set.between);
            let _ = writeln!(text, "\t\telements = {{ {elements} }}");
        }
        let _ = writeln!(text, "\t}}\n");
    }
    for chain in &table.chains {
        let _ = writeln!(text, "\tchain {} {{", word(&chain.chain));
        if let Some(comment) = &chain.comment {
            let _ = writeln!(text, "\t\tcomment {}", in_quotes(comment));
        }
        if let Some(hook) = &chain.hook {
            let _ = writeln!(text, "\t\t{hook}");
        }
        for RuleShown { rule, comment } in &chain.rules {
            let _ = match comment {
                Some(comment) => writeln!(text, "\t\t{rule} comment \"{comment}\""),
                None => writeln!(text, "\t\t# not ours: {rule}"),
            };
        }
        let _ = writeln!(text, "\t}}\n");
    }
    text + "}\n"
}

/// A name as nft reads it; one that it has no word for stands in quotes.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain) {
        true => name.to_owned(),
        false => in_quotes(name),
    }
}

/// What somebody else may have written, between quotes. nft has no escape for one, so none of its own is in it.
fn in_quotes(text: &str) -> String {
    format!("\"{}\"", in_one_line(text).replace('"', "\\u{22}"))
}

fn of_set(name: &str, set: &Set) -> SetShown {
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
    let mut options = vec![format!("size {}", set.spec.size)];
    match set.spec.lifetime {
        Lifetime::Endless => {}
        Lifetime::Each => options.push("flags timeout".to_owned()),
        Lifetime::Learnt(lifetime) => options.extend([
            "flags dynamic,timeout".to_owned(),
            format!("timeout {lifetime}ms"),
        ]),
    }
    let collected = set.spec.collected_ms;
    options.extend(collected.map(|interval| format!("gc-interval {interval}ms")));
    options.extend(set.spec.counters.then(|| "counter".to_owned()));
    let elements = set.elements.iter();
    SetShown {
        set: name.to_owned(),
        kind,
        of: key.join(" . ") + data,
        options,
        elements: elements
            .map(|(key, element)| element_text(&set.spec.key, key, element))
            .collect(),
        // One a line where they say more than a word.
        between: match set.spec.data {
            Data::None => ", ",
            _ => ",\n\t\t\t     ",
        },
    }
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
            let _ = write!(text, " : {}", hex(value, ":"));
        }
    }
    text
}

fn key_text(part: KeyPart, bytes: &[u8]) -> String {
    let hex = || hex(bytes, "");
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
            in_quotes(&String::from_utf8_lossy(&bytes[..end]))
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
        Verdict::Goto(chain) => format!("goto {}", word(chain)),
        Verdict::Jump(chain) => format!("jump {}", word(chain)),
        Verdict::Return => "return".to_owned(),
        Verdict::Other(code) => format!("verdict {code}"),
    }
}

fn of_chain(name: &str, chain: &Chain, words: Option<&Chain>) -> ChainShown {
    let hook = chain.base.as_ref().map(|base| {
        let hook = match &base.hook {
            Hook::Ingress(device) => format!("ingress device {}", in_quotes(device)),
            Hook::ArpInput => "input".to_owned(),
            Hook::ArpOutput | Hook::Ip6Output => "output".to_owned(),
            Hook::Before => "prerouting".to_owned(),
            Hook::After => "postrouting".to_owned(),
            Hook::Other(what) => what.clone(),
        };
        let priority = base.priority;
        format!("type filter hook {hook} priority {priority}; policy accept;")
    });
    ChainShown {
        chain: name.to_owned(),
        comment: chain.comment.clone(),
        hook,
        rules: chain
            .rules
            .iter()
            .map(|rule| of_rule(rule, words))
            .collect(),
    }
}

fn of_rule(rule: &Rule, words: Option<&Chain>) -> RuleShown {
    let Some(known) = known_rule(rule, words) else {
        return RuleShown {
            rule: format!("{:?}", rule.exprs),
            comment: None,
        };
    };
    let text = match rule.count {
        None => known.text.clone(),
        Some(count) => known.text.replacen(
            "counter",
            &format!("counter packets {} bytes {}", count.packets, count.bytes),
            1,
        ),
    };
    RuleShown {
        rule: text,
        comment: Some(known.comment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::untrusted::tests::{NASTY, forbidden_in};

    #[test]
    fn what_others_wrote_beside_the_rules_stays_in_its_quotes() {
        let named = |name: &str| (name.to_owned(), Chain::default());
        let mut chains = [named("vip-10.0.0.99"), named(NASTY)];
        chains[0].1.comment = Some(NASTY.to_owned());
        let table = Table {
            chains: chains.into(),
            ..Table::default()
        };
        let rules = Ruleset::from([(Family::Netdev, table)]);
        let tables = tables(&rules, &rules);
        let text: String = tables.iter().map(table_text).collect();
        assert_eq!(
            forbidden_in(&text.replace(['\n', '\t'], "")),
            None,
            "{text:?}"
        );
        let nasty = r"web'\n\u{9b}31m\u{1b}[2J\u{202e}\u{22}; reboot\u{200b}";
        let expected = format!(
            "table netdev clusterip {{\n\tchain vip-10.0.0.99 {{\n\t\tcomment \"{nasty}\"\n\t}}\n\n\
             \tchain \"{nasty}\" {{\n\t}}\n\n}}\n"
        );
        assert_eq!(text, expected);
        let goto = Verdict::Goto(NASTY.to_owned());
        assert_eq!(verdict_text(&goto), format!("goto \"{nasty}\""));
    }
}
