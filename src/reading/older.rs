//! What older versions have written, which runs on when the agent is replaced by a newer one: 0.1.0 the same
//! judgement in other words, and all of them until lately without a look at the tags of VLANs, at who manages
//! a VIP, and at who asks for predecessors. It is no drift; a start rewrites the rules, and a set is what it was made for as long as it is there. Pure.

use super::installed::described;
use crate::model::agreement::OF_NONE;
use crate::model::host::Observed;
use crate::model::ruleset::{Chain, Expr, Family, Header, Reg, Rule, Ruleset, Verdict};
use crate::rules::guard;
use crate::rules::names::{
    INPUT, MANAGERS, MANAGERS_IP6, PORTS, PORTS_IP6, SIGHTINGS, STALE, TAGGED, TO_HOST,
    about_chain, vip_chain, vip_of_chain,
};
use crate::rules::sentence::REG0;

/// Leaves descriptions as they are written where they say the same: the comment of a chain cannot be
/// changed without the chain.
pub(crate) fn keep_comments(wanted: &mut Ruleset, observed: &Observed) {
    let (Some(wanted), Some(found)) = (
        wanted.get_mut(&Family::Netdev),
        observed.rules.get(&Family::Netdev),
    ) else {
        return;
    };
    let vips: Vec<_> = wanted
        .chains
        .keys()
        .filter_map(|name| vip_of_chain(name))
        .collect();
    for vip in vips {
        let same =
            described(wanted, vip).is_some_and(|vip| described(found, vip.address) == Some(vip));
        if !same {
            continue;
        }
        for name in [vip_chain(vip), about_chain(vip)] {
            let comment = found.chains.get(&name).map(|chain| chain.comment.clone());
            match (comment, wanted.chains.get_mut(&name)) {
                (Some(comment), Some(chain)) => chain.comment = comment,
                (None, _) => {
                    wanted.chains.remove(&name);
                }
                (Some(comment), None) => {
                    let mut chain = Chain::of([]);
                    chain.comment = comment;
                    wanted.chains.insert(name, chain);
                }
            }
        }
    }
}

/// The rules as they were found, but those of older versions in the words of today.
pub(crate) fn in_todays_words(found: &Ruleset, today: &Ruleset) -> Ruleset {
    let mut rules = found.clone();
    silent_to_predecessors(&mut rules, today);
    // No older version had this chain, and who writes rules writes all of them.
    let netdev = found.get(&Family::Netdev);
    if netdev.is_some_and(|table| table.chains.contains_key(TAGGED)) {
        return rules;
    }
    for (family, table) in &mut rules {
        let Some(today) = today.get(family) else {
            continue;
        };
        let mut is_older = false;
        for (name, chain) in &mut table.chains {
            let Some(words) = today.chains.get(name) else {
                continue;
            };
            let before = before(name, words);
            if chain.rules == words.rules
                || (chain.rules != before && chain.rules != older(name, &before))
            {
                continue;
            }
            chain.rules = words.rules.clone();
            is_older = true;
            for (name, set) in today.sets.iter().filter(|(name, _)| is_new(name)) {
                let named = [name.clone()];
                if words.rules.iter().any(|rule| rule.uses(&named)) {
                    let [name] = named;
                    table.sets.entry(name).or_insert_with(|| set.clone());
                }
            }
        }
        if let Some(tags) = today.chains.get(TAGGED).filter(|_| is_older) {
            table.chains.insert(TAGGED.to_owned(), tags.clone());
        }
    }
    rules
}

/// Who wrote nothing for questions to predecessors answers them, which is no drift.
fn silent_to_predecessors(rules: &mut Ruleset, today: &Ruleset) {
    let input = |rules: &Ruleset| rules.get(&Family::Arp)?.chains.get(INPUT).cloned();
    let (Some(found), Some(today)) = (input(rules), input(today)) else {
        return;
    };
    let (last, before) = match today.rules.split_last() {
        Some((last, before)) if is_for_predecessors(last) => (last, before),
        _ => return,
    };
    if found.rules == before {
        let table = rules.get_mut(&Family::Arp);
        let chain = table.and_then(|table| table.chains.get_mut(INPUT));
        chain
            .into_iter()
            .for_each(|chain| chain.rules.push(last.clone()));
    }
}

/// Is it the rule for questions to predecessors?
fn is_for_predecessors(rule: &Rule) -> bool {
    let asks = |expr: &Expr| matches!(expr, Expr::Compare { value, .. } if value[..] == OF_NONE);
    rule.exprs.iter().any(asks)
}

/// Did 0.1.0 not have this set? Its rules looked all protocols up in one.
fn is_new(set: &str) -> bool {
    set == PORTS_IP6 || is_lately(set)
}

/// Is it one of those by which managers are told, or what is left of connections?
fn is_lately(set: &str) -> bool {
    [MANAGERS, MANAGERS_IP6].contains(&set) || set.starts_with(STALE)
}

/// The rules of a chain as they were before tags, managers and what is left of connections were looked at.
fn before(name: &str, chain: &Chain) -> Vec<Rule> {
    if name.starts_with(SIGHTINGS) {
        return older_sightings(chain);
    }
    let lately = |expr: &Expr| match expr {
        Expr::Lookup { set, .. } | Expr::Learn { set, .. } => is_lately(set),
        Expr::Verdict(Verdict::Jump(chain)) => chain == TAGGED,
        _ => false,
    };
    let rules = chain.rules.iter();
    let rules = rules.filter(|rule| !rule.exprs.iter().any(lately) && !is_for_predecessors(rule));
    rules.cloned().collect()
}

/// The same as 0.1.0 wrote them.
fn older(name: &str, before: &[Rule]) -> Vec<Rule> {
    if name == TO_HOST {
        return older_to_host(before);
    }
    let in_its_words = |rule: &Rule| Rule {
        exprs: older_exprs(&rule.exprs),
        ..rule.clone()
    };
    before.iter().map(in_its_words).collect()
}

/// It had no guard, and accepted by itself.
fn older_to_host(rules: &[Rule]) -> Vec<Rule> {
    let guard = guard::rule();
    let accept = Expr::Verdict(Verdict::Accept);
    let mut rules: Vec<Rule> = rules
        .iter()
        .filter(|rule| **rule != guard)
        .cloned()
        .collect();
    let last = Rule {
        exprs: vec![accept.clone()],
        ..guard
    };
    for rule in &mut rules {
        rule.exprs.push(accept.clone());
    }
    rules.push(last);
    rules
}

/// It knew a segment by its number alone, whatever it carried.
fn older_sightings(chain: &Chain) -> Vec<Rule> {
    let is_client = |expr: &Expr| {
        matches!(
            expr,
            Expr::Payload {
                header: Header::Network,
                len: 4 | 16,
                ..
            }
        )
    };
    let by_number = &chain.rules[chain.rules.len() / 2..];
    let older = by_number.iter().map(|rule| {
        let exprs = rule.exprs.iter();
        let exprs = exprs.skip_while(|expr| !is_client(expr)).cloned().collect();
        Rule {
            exprs,
            ..rule.clone()
        }
    });
    older.collect()
}

fn older_exprs(exprs: &[Expr]) -> Vec<Expr> {
    let hashes = exprs.iter().any(|expr| matches!(expr, Expr::Hash { .. }));
    let mut rest = exprs;
    let mut all = Vec::new();
    while let [expr, behind @ ..] = rest {
        let two = behind.first().and_then(|other| match other {
            Expr::And { to, mask, .. } if hashes && is_zero(expr, *to, mask) => Some(Expr::Load {
                to: *to,
                value: vec![0; 4],
            }),
            other => joined(expr, other),
        });
        rest = match &two {
            Some(_) => &behind[1..],
            None => behind,
        };
        match two {
            Some(older) => all.push(older),
            None => all.extend(older_expr(expr)),
        }
    }
    all
}

/// Is it a zero for the hash?
fn is_zero(load: &Expr, to: Reg, mask: &[u8]) -> bool {
    let Expr::Payload {
        header: Header::Network,
        offset,
        len,
        ..
    } = load
    else {
        return false;
    };
    let zero = matches!((offset, len, mask), (6, 2, [0x1f, 0xff]) | (0, 1, [0x80]));
    zero && to != REG0
}

/// Two halves of an address were loaded at once.
fn joined(one: &Expr, other: &Expr) -> Option<Expr> {
    match (one, other) {
        (
            Expr::Payload {
                header,
                offset,
                len: 8,
                to: Reg(4),
            },
            Expr::Payload {
                len: 8, to: Reg(6), ..
            },
        ) => Some(payload(*header, *offset, 16, Reg(4))),
        _ => None,
    }
}

fn older_expr(expr: &Expr) -> Vec<Expr> {
    let network = |offset, len, to| payload(Header::Network, offset, len, to);
    match expr {
        Expr::Payload {
            header: Header::Network,
            offset,
            len,
            to,
        } => match (offset, len) {
            (12, 8) => vec![network(12, 4, *to), network(16, 4, Reg(to.0 + 1))],
            (8, 32) => vec![network(8, 16, *to), network(24, 16, Reg(to.0 + 4))],
            (42, 2) => vec![Expr::FragmentHeader {
                offset: 2,
                len: 2,
                to: *to,
            }],
            _ => vec![expr.clone()],
        },
        Expr::Lookup { set, from, found } if set == PORTS_IP6 => vec![Expr::Lookup {
            set: PORTS.to_owned(),
            from: *from,
            found: *found,
        }],
        other => vec![other.clone()],
    }
}

fn payload(header: Header, offset: u32, len: u32, to: Reg) -> Expr {
    Expr::Payload {
        header,
        offset,
        len,
        to,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::phase::Phases;
    use crate::model::ruleset::Learn;
    use crate::model::vip::Vip;
    use crate::model::vip::tests::a_vip;
    use crate::rules::dataplane;
    use crate::rules::names::{fresh_set, sightings_chain};

    /// What was written before tags, managers and what is left of connections were looked at.
    pub(crate) fn of_before(vips: &[(Vip, Phases)]) -> Ruleset {
        let mut rules = dataplane::ruleset(vips);
        for table in rules.values_mut() {
            table.chains.remove(TAGGED);
            for (name, chain) in &mut table.chains {
                chain.rules = before(name, chain);
            }
            table.sets.retain(|name, _| !is_lately(name));
        }
        rules
    }

    /// What was written before predecessors were asked for.
    pub(crate) fn of_lately(vips: &[(Vip, Phases)]) -> Ruleset {
        let mut rules = dataplane::ruleset(vips);
        for table in rules.values_mut() {
            for chain in table.chains.values_mut() {
                chain.rules.retain(|rule| !is_for_predecessors(rule));
            }
        }
        rules
    }

    /// What 0.1.0 would have written.
    pub(crate) fn of_0_1_0(vips: &[(Vip, Phases)]) -> Ruleset {
        let mut rules = of_before(vips);
        for table in rules.values_mut() {
            for (name, chain) in &mut table.chains {
                chain.rules = older(name, &chain.rules);
            }
            table.sets.retain(|name, _| !is_new(name));
        }
        let netdev = rules.get_mut(&Family::Netdev).expect("a table");
        for (vip, _) in vips {
            let written = vip.written();
            let written = written.replace(" hash ", " mode multicast hash ");
            netdev.chains.remove(&about_chain(vip.address));
            let chain = netdev.chains.get_mut(&vip_chain(vip.address));
            chain.expect("a chain").comment = Some(written);
        }
        rules
    }

    pub(crate) fn moving(vip: Vip) -> (Vip, Phases) {
        let mut phases = Phases::owning([0].into_iter().collect());
        phases.take(vip.buckets.get() - 1, Some(1000));
        phases.close(0);
        phases.listed(0, true, 1000);
        (vip, phases)
    }

    #[test]
    fn a_segment_was_known_by_its_number_alone() {
        for (vip, client, ports) in [
            ("10.77.0.99", payload(Header::Network, 12, 4, REG0), 1),
            ("fd77::99", payload(Header::Network, 8, 16, REG0), 4),
        ] {
            let (vip, phases) = moving(a_vip(vip));
            let rules = dataplane::ruleset(&[(vip.clone(), phases)]);
            let name = sightings_chain(vip.address);
            let mut tables = rules.values();
            let chain = tables.find_map(|table| table.chains.get(&name));
            let found = before(&name, chain.expect("a chain"));
            let transport = |offset, len, to| payload(Header::Transport, offset, len, Reg(to));
            let segment = [
                client,
                transport(0, 2, ports),
                transport(2, 2, ports + 1),
                transport(4, 4, ports + 2),
            ];
            let noted = Expr::Learn {
                set: fresh_set(vip.address),
                from: REG0,
                what: Learn::Note,
            };
            assert_eq!(found.len(), 3);
            assert_eq!(found[1].exprs, [&segment[..], &[noted]].concat());
            assert_eq!(found[0].exprs[..4], segment);
            assert_eq!(found[2].exprs[..4], segment);
        }
    }
}
