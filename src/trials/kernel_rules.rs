//! A model of what the kernel does with a packet by our rules (`nft_do_chain()` in
//! `net/netfilter/nf_tables_core.c`, and each expression's own file). The tests that stand on it tell
//! without root, and in a second, which rule is broken; scenarios hold the rules against the kernel itself.

use crate::model::hash::jhash;
use crate::model::mac::Mac;
use crate::model::phase::Phases;
use crate::model::protocol::{FRAGMENT_HEADER, TCP};
use crate::model::ruleset::{
    Comparison, Expr, Family, Found, Header, Learn, Lifetime, MetaKey, Reg, Rule, Ruleset, Table,
    Target, Verdict,
};
use crate::model::vip::Vip;
use crate::rules::dataplane::ruleset;
use crate::rules::names::register_text;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A packet as a hook sees it.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    ethertype: u16,
    /// The Ethernet header as loads see it, with a tag that the kernel has taken out.
    link: Vec<u8>,
    /// What makes the interface by which it comes in; a card has nothing of the kind.
    pub(super) in_kind: Option<&'static str>,
    /// From the network header on.
    pub(super) bytes: Vec<u8>,
    protocol: Option<u8>,
    transport: Option<usize>,
    /// The interface by which it came in.
    pub(super) came_by: &'static str,
    /// The interface by which it leaves.
    out: &'static str,
    /// PACKET_MULTICAST (2), PACKET_OTHERHOST (3), or what a rule has made of it.
    pub(super) kind: u8,
}

impl Packet {
    /// A packet with this protocol, and where it stands in its datagram: in units of eight bytes, and
    /// whether more follow.
    pub(super) fn ip(
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        (offset, more, id): (u16, bool, u16),
        payload: &[u8],
    ) -> Self {
        let whole = offset == 0 && !more;
        let mut bytes = Vec::new();
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                bytes.extend([0x45, 0]);
                bytes.extend((20 + payload.len() as u16).to_be_bytes());
                bytes.extend(id.to_be_bytes());
                bytes.extend((offset | u16::from(more) << 13).to_be_bytes());
                bytes.extend([64, protocol, 0, 0]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let fragment = if whole { 0 } else { 8 };
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend((fragment + payload.len() as u16).to_be_bytes());
                bytes.extend([if whole { protocol } else { FRAGMENT_HEADER }, 64]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                if !whole {
                    bytes.extend([protocol, 0]);
                    bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    bytes.extend(u32::from(id).to_be_bytes());
                }
            }
            _ => panic!("{from} and {to} are of two families"),
        }
        let transport = (offset == 0).then_some(bytes.len());
        bytes.extend(payload);
        let ethertype = if from.is_ipv4() { 0x0800 } else { 0x86dd };
        Packet {
            ethertype,
            link: [&[2; 12][..], &ethertype.to_be_bytes()].concat(),
            in_kind: None,
            bytes,
            protocol: Some(protocol),
            transport,
            came_by: "eth0",
            out: "",
            kind: 2,
        }
    }

    /// A whole segment of TCP, with neither options nor data.
    pub(super) fn tcp(
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        flags: u8,
        numbers: (u32, u32),
    ) -> Self {
        Packet::segment(from, to, flags, numbers, &[], &[])
    }

    /// The same with options, in whole words, and with data.
    pub(super) fn segment(
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        flags: u8,
        (sequence, acknowledged): (u32, u32),
        options: &[u8],
        data: &[u8],
    ) -> Self {
        let mut header = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        header.extend(sequence.to_be_bytes());
        header.extend(acknowledged.to_be_bytes());
        let words = 5 + options.len() as u8 / 4;
        header.extend([words << 4, flags, 0, 0, 0, 0, 0, 0]);
        header.extend([options, data].concat());
        Packet::ip(from.0, to.0, TCP, (0, false, 0), &header)
    }

    /// The same in a frame for this MAC, which is no interface's own.
    pub(super) fn for_mac(mut self, mac: Mac) -> Self {
        self.link[..6].copy_from_slice(&mac.0);
        self.kind = if mac.is_multicast() { 2 } else { 3 };
        self
    }

    /// The same in a frame with a tag, if there is one: its kind, and its priority and VLAN.
    pub(super) fn tagged(mut self, tag: Option<(u16, u16)>) -> Self {
        if let Some((kind, tag)) = tag {
            let tag = [kind.to_be_bytes(), tag.to_be_bytes()].concat();
            self.link.splice(12..12, tag);
        }
        self
    }

    /// The Ethernet header.
    pub(super) fn link(&self) -> &[u8] {
        &self.link
    }

    /// A frame, leaving by this interface.
    pub(super) fn framed(frame: &[u8], out: &'static str) -> Self {
        let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
        let is_ip6 = ethertype == 0x86dd;
        Packet {
            ethertype,
            link: frame[..14].to_vec(),
            in_kind: None,
            bytes: frame[14..].to_vec(),
            protocol: is_ip6.then(|| frame[20]),
            transport: is_ip6.then_some(40),
            came_by: "",
            out,
            kind: 2,
        }
    }

    fn at(&self, header: Header, offset: u32) -> Option<usize> {
        let begin = match header {
            Header::Network => 0,
            Header::Transport => self.transport?,
            Header::Link | Header::Other(_) => panic!("a rule writes to, or has, {header:?}"),
        };
        Some(begin + offset as usize)
    }

    fn load(&self, header: Header, offset: u32, len: u32) -> Option<&[u8]> {
        let (bytes, at) = match header {
            Header::Link => (&self.link, offset as usize),
            other => (&self.bytes, self.at(other, offset)?),
        };
        bytes.get(at..at + len as usize)
    }
}

/// A kernel with these rules, and what its sets have learnt.
pub(super) struct Kernel {
    rules: Ruleset,
    pub(super) now_ms: u64,
    learnt: Learnt,
}

/// Keys, and until when a set has them.
type Learnt = BTreeMap<String, BTreeMap<Vec<u8>, u64>>;

impl Kernel {
    pub(super) fn with(vips: &[(Vip, Phases)]) -> Self {
        Kernel {
            rules: ruleset(vips),
            now_ms: 0,
            learnt: Learnt::new(),
        }
    }

    /// Has the key put into a set that learns, for good.
    pub(super) fn knows(&mut self, set: String, key: Vec<u8>) {
        self.learnt.entry(set).or_default().insert(key, u64::MAX);
    }

    /// Is the packet let through by a base chain? All have the policy to accept.
    pub(super) fn accepts(&mut self, family: Family, chain: &str, packet: &mut Packet) -> bool {
        let now_ms = self.now_ms;
        for known in self.learnt.values_mut() {
            known.retain(|_, until| *until > now_ms);
        }
        let Some(table) = self.rules.get(&family) else {
            return true;
        };
        assert!(table.chains[chain].base.is_some(), "{chain}");
        let find = |chain: &str| {
            let chains = table.chains.get_key_value(chain);
            chains.expect("a chain that rules go to").0.as_str()
        };
        // The rule that comes next, and those behind jumps.
        let (mut chain, mut next, mut jumps) = (chain, 0, Vec::new());
        loop {
            let mut rules = table.chains[chain].rules.iter().enumerate().skip(next);
            let mut run = Run {
                table,
                now_ms,
                learnt: &mut self.learnt,
                packet,
            };
            let (at, verdict) = rules
                .find_map(|(at, rule)| Some((at, run.rule(rule)?)))
                .unwrap_or((0, Verdict::Return));
            (chain, next) = match verdict {
                Verdict::Goto(other) => (find(&other), 0),
                Verdict::Jump(other) => {
                    jumps.push((chain, at + 1));
                    (find(&other), 0)
                }
                Verdict::Return => match jumps.pop() {
                    Some(place) => place,
                    None => return true,
                },
                Verdict::Drop => return false,
                Verdict::Accept => return true,
                other => panic!("a verdict {other:?}"),
            };
        }
    }
}

/// A rule that looks at a packet.
struct Run<'a> {
    table: &'a Table,
    now_ms: u64,
    learnt: &'a mut Learnt,
    packet: &'a mut Packet,
}

/// What is loaded is padded with zeros to whole registers; the rest is what others left there.
struct Registers([u8; 128]);

impl Registers {
    fn get(&self, Reg(from): Reg, len: usize) -> &[u8] {
        &self.0[4 * usize::from(from)..][..len]
    }

    fn set(&mut self, Reg(to): Reg, value: &[u8]) {
        let whole = value.len().next_multiple_of(4);
        let place = &mut self.0[4 * usize::from(to)..][..whole];
        place.fill(0);
        place[..value.len()].copy_from_slice(value);
    }
}

impl Run<'_> {
    /// The rule's verdict; `None` if it ends without one.
    fn rule(&mut self, rule: &Rule) -> Option<Verdict> {
        let mut registers = Registers([0xaa; 128]);
        let mut verdict = None;
        for expr in &rule.exprs {
            verdict = self.goes_on(expr, &mut registers)?;
            if verdict.is_some() {
                break;
            }
        }
        verdict
    }

    /// `None` where the rule ends; otherwise a verdict, if there is one.
    fn goes_on(&mut self, expr: &Expr, registers: &mut Registers) -> Option<Option<Verdict>> {
        match expr {
            Expr::Payload {
                header,
                offset,
                len,
                to,
            } => {
                registers.set(*to, self.packet.load(*header, *offset, *len)?);
            }
            Expr::Write {
                header,
                offset,
                len,
                from,
                checksum,
            } => {
                let at = self.packet.at(*header, *offset)?;
                let checksum = checksum.and_then(|offset| self.packet.at(*header, offset));
                let new = registers.get(*from, *len as usize).to_vec();
                write(&mut self.packet.bytes, at, &new, checksum);
            }
            Expr::Meta { key, to } => match key {
                MetaKey::Protocol => registers.set(*to, &self.packet.ethertype.to_be_bytes()),
                MetaKey::L4Protocol => registers.set(*to, &[self.packet.protocol?]),
                MetaKey::PacketType => registers.set(*to, &[self.packet.kind]),
                MetaKey::InIfName => registers.set(*to, &register_text(self.packet.came_by)),
                MetaKey::OutIfName => registers.set(*to, &register_text(self.packet.out)),
                MetaKey::InIfKind => registers.set(*to, &register_text(self.packet.in_kind?)),
                MetaKey::Other(_) => panic!("{expr:?}"),
            },
            Expr::SetMeta { key, from } => {
                assert_eq!(*key, MetaKey::PacketType);
                self.packet.kind = registers.get(*from, 1)[0];
            }
            Expr::FragmentHeader { offset, len, to } => {
                let at = 40 + *offset as usize;
                let bytes = &self.packet.bytes;
                let is_there = bytes.get(6) == Some(&FRAGMENT_HEADER);
                registers.set(*to, bytes.get(at..at + *len as usize).filter(|_| is_there)?);
            }
            Expr::Compare { from, how, value } => {
                let found = registers.get(*from, value.len());
                let holds = match how {
                    Comparison::Equal => found == value,
                    Comparison::NotEqual => found != value,
                    Comparison::AtMost => found <= value.as_slice(),
                    Comparison::MoreThan => found > value.as_slice(),
                };
                return holds.then_some(None);
            }
            Expr::And { from, to, mask } => {
                let found = registers.get(*from, mask.len()).iter().zip(mask);
                let both: Vec<u8> = found.map(|(byte, mask)| byte & mask).collect();
                registers.set(*to, &both);
            }
            Expr::ToHostOrder { from, to } => {
                let mut word = registers.get(*from, 4).to_vec();
                word.reverse();
                registers.set(*to, &word);
            }
            Expr::FirstTwoToHostOrder { from, to } => {
                let mut word = registers.get(*from, 4).to_vec();
                word[..2].reverse();
                registers.set(*to, &word);
            }
            Expr::Hash {
                from,
                len,
                to,
                modulus,
                seed,
            } => {
                let hash = jhash(registers.get(*from, *len as usize), *seed);
                let scaled = (u64::from(hash) * u64::from(*modulus)) >> 32;
                registers.set(*to, &(scaled as u32).to_ne_bytes());
            }
            Expr::Lookup { set, from, found } => {
                return self.lookup(set, *from, *found, registers);
            }
            Expr::Learn { set, from, what } => {
                let spec = &self.table.sets[set].spec;
                let Lifetime::Learnt(ms) = spec.lifetime else {
                    panic!("{set} learns nothing");
                };
                let key = registers.get(*from, spec.key_len()).to_vec();
                let until = self.now_ms + ms;
                let known = self.learnt.entry(set.clone()).or_default();
                let is_full = known.len() >= spec.size as usize && !known.contains_key(&key);
                match what {
                    Learn::Forget => drop(known.remove(&key)),
                    _ if is_full => return None,
                    Learn::Keep => drop(known.insert(key, until)),
                    Learn::Note => drop(known.entry(key).or_insert(until)),
                }
            }
            Expr::Load { to, value } => registers.set(*to, value),
            Expr::Verdict(verdict) => return Some(Some(verdict.clone())),
            Expr::AtMostASecond { .. } | Expr::Counter => {}
            Expr::Other(_) => panic!("a rule has {expr:?}"),
        }
        Some(None)
    }

    fn lookup(
        &self,
        name: &str,
        from: Reg,
        found: Found,
        registers: &mut Registers,
    ) -> Option<Option<Verdict>> {
        let set = &self.table.sets[name];
        let key = registers.get(from, set.spec.key_len());
        let element = set.elements.get(key);
        let learnt = self.learnt.get(name);
        let is_there = element.is_some() || learnt.is_some_and(|known| known.contains_key(key));
        match (found, element.map(|element| &element.target)) {
            (Found::GoOn, _) => is_there.then_some(None),
            (Found::Missing, _) => (!is_there).then_some(None),
            (Found::Verdict, Some(Target::Verdict(verdict))) => Some(Some(verdict.clone())),
            (Found::Value(to), Some(Target::Value(value))) => {
                registers.set(to, value);
                Some(None)
            }
            (Found::Verdict | Found::Value(_), None) => None,
            (found, target) => panic!("{name}: {found:?} of {target:?}"),
        }
    }
}

/// Writes, and has a checksum follow (RFC 1624, equation 3).
fn write(bytes: &mut [u8], at: usize, new: &[u8], checksum: Option<usize>) {
    let word = |bytes: &[u8], at: usize| u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let sum = |bytes: &[u8], invert: u32| -> u32 {
        let words = (0..bytes.len()).step_by(2);
        words.map(|at| word(bytes, at) ^ invert).sum()
    };
    if let Some(place) = checksum {
        let old = &bytes[at..at + new.len()];
        let mut all = (word(bytes, place) ^ 0xffff) + sum(old, 0xffff) + sum(new, 0);
        while all > 0xffff {
            all = (all & 0xffff) + (all >> 16);
        }
        bytes[place..place + 2].copy_from_slice(&(!(all as u16)).to_be_bytes());
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}
