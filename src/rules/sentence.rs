//! The vocabulary in which rules are written: a rule is a sentence, and says in nft's words what its
//! expressions do. Pure.

use super::names::{EVERYWHERE_IP4, EVERYWHERE_IP6, TO_HOST, buckets_map};
use crate::model::hash::{Hasher, Layout};
use crate::model::protocol::{ETHERTYPE_IP4, ETHERTYPE_IP6, ICMP, ICMP6};
use crate::model::ruleset::{Comparison, Expr, Found, Header, Learn, MetaKey, Reg, Rule, Verdict};
use crate::model::vip::Vip;
use std::net::IpAddr;

pub(crate) const REG0: Reg = Reg(0);

/// Which ports enter the hash.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ports {
    /// None: the mode has no ports.
    None,
    /// What stands so many bytes behind the network header.
    At(u32),
    /// Zeros: the packet has no ports.
    Zero,
}

/// Which way a packet goes: from the client to the VIP, or back.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    In,
    Out,
}

impl Way {
    /// Where in the IPv4 header the client's address stands.
    pub(crate) fn ip4_client(self) -> u32 {
        match self {
            Way::In => 12,
            Way::Out => 16,
        }
    }

    /// The same for IPv6.
    pub(crate) fn ip6_client(self) -> u32 {
        match self {
            Way::In => 8,
            Way::Out => 24,
        }
    }

    /// Which of the two ports is the client's (0) or the service's (1).
    fn port(self, whose: u8) -> u32 {
        match self {
            Way::In => u32::from(whose),
            Way::Out => 1 - u32::from(whose),
        }
    }
}

/// A rule that is being written: its expressions and its words.
#[derive(Clone)]
pub(crate) struct Sentence {
    exprs: Vec<Expr>,
    words: Vec<String>,
    comment: &'static str,
}

impl Sentence {
    pub(crate) fn new() -> Self {
        Sentence {
            exprs: Vec::new(),
            words: Vec::new(),
            comment: "",
        }
    }

    /// A sentence that says why the rule is there.
    pub(crate) fn because(comment: &'static str) -> Self {
        Sentence {
            comment,
            ..Sentence::new()
        }
    }

    pub(crate) fn rule(self) -> Rule {
        Rule {
            exprs: self.exprs,
            text: self.words.join(" "),
            comment: self.comment,
            count: None,
        }
    }

    pub(crate) fn say(mut self, words: impl Into<String>) -> Self {
        self.words.push(words.into());
        self
    }

    pub(crate) fn expr(mut self, expr: Expr) -> Self {
        self.exprs.push(expr);
        self
    }

    pub(crate) fn payload(self, header: Header, offset: u32, len: u32, to: Reg) -> Self {
        self.expr(Expr::Payload {
            header,
            offset,
            len,
            to,
        })
    }

    pub(crate) fn equal(self, from: Reg, value: &[u8]) -> Self {
        self.compare(from, Comparison::Equal, value)
    }

    pub(crate) fn not_equal(self, from: Reg, value: &[u8]) -> Self {
        self.compare(from, Comparison::NotEqual, value)
    }

    pub(crate) fn compare(self, from: Reg, how: Comparison, value: &[u8]) -> Self {
        self.expr(Expr::Compare {
            from,
            how,
            value: value.to_vec(),
        })
    }

    pub(crate) fn and(self, reg: Reg, mask: &[u8]) -> Self {
        self.expr(Expr::And {
            from: reg,
            to: reg,
            mask: mask.to_vec(),
        })
    }

    pub(crate) fn meta(self, key: MetaKey) -> Self {
        self.expr(Expr::Meta { key, to: REG0 })
    }

    /// What stands behind the two addresses of an Ethernet frame, also where the kernel has taken a tag out.
    pub(crate) fn ethertype(self) -> Self {
        self.payload(Header::Link, 12, 2, REG0).say("ether type")
    }

    pub(crate) fn protocol(self, ethertype: u16) -> Self {
        self.meta(MetaKey::Protocol)
            .equal(REG0, &ethertype.to_be_bytes())
    }

    pub(crate) fn ip4_daddr(self, to: Reg) -> Self {
        self.protocol(ETHERTYPE_IP4)
            .payload(Header::Network, 16, 4, to)
            .say("ip daddr")
    }

    pub(crate) fn ip6_daddr(self, to: Reg) -> Self {
        self.protocol(ETHERTYPE_IP6)
            .payload(Header::Network, 24, 16, to)
            .say("ip6 daddr")
    }

    /// The protocol behind the network header; for IPv6 behind all extension headers, and none if
    /// they are malformed (then the rule ends).
    pub(crate) fn transport_protocol(self, vip: IpAddr) -> Self {
        match vip {
            IpAddr::V4(_) => self.payload(Header::Network, 9, 1, REG0).say("ip protocol"),
            IpAddr::V6(_) => self
                .expr(Expr::Meta {
                    key: MetaKey::L4Protocol,
                    to: REG0,
                })
                .say("meta l4proto"),
        }
    }

    pub(crate) fn equals(self, number: u8, name: &str) -> Self {
        self.equal(REG0, &[number]).say(name)
    }

    pub(crate) fn differs_from(self, number: u8, name: &str) -> Self {
        self.not_equal(REG0, &[number]).say(format!("!= {name}"))
    }

    pub(crate) fn ip6_nexthdr(self, to: Reg) -> Self {
        self.payload(Header::Network, 6, 1, to).say("ip6 nexthdr")
    }

    /// More-fragments bit, fragment offset and protocol in one load; the TTL between is masked.
    pub(crate) fn fragment_and_protocol(self, to: Reg) -> Self {
        self.payload(Header::Network, 6, 4, to)
            .and(to, &[0x3f, 0xff, 0x00, 0xff])
            .say("@nh,48,32 & 0x3fff00ff")
    }

    /// Errors that are whole: what is fragmented is hashed, or it would wait on every node.
    pub(crate) fn icmp4_everywhere(self) -> Self {
        self.payload(Header::Network, 9, 1, REG0)
            .say("ip protocol")
            .equals(ICMP, "icmp")
            .fragment_bits4(0x3fff, REG0)
            .equal(REG0, &[0, 0])
            .say("ip frag-off & 0x3fff == 0")
            .payload(Header::Transport, 0, 1, REG0)
            .say("icmp type")
            .in_set(EVERYWHERE_IP4, REG0)
            .goto(TO_HOST)
    }

    /// Only what has no extension headers: options may want an answer, and so may a fragment.
    pub(crate) fn icmp6_everywhere(self) -> Self {
        self.ip6_nexthdr(REG0)
            .equals(ICMP6, "icmpv6")
            .payload(Header::Transport, 0, 1, REG0)
            .say("icmpv6 type")
            .in_set(EVERYWHERE_IP6, REG0)
            .goto(TO_HOST)
    }

    pub(crate) fn in_set(self, set: &str, from: Reg) -> Self {
        self.lookup(set, from, Found::GoOn).say(format!("@{set}"))
    }

    pub(crate) fn not_in_set(self, set: &str, from: Reg) -> Self {
        self.lookup(set, from, Found::Missing)
            .say(format!("!= @{set}"))
    }

    /// Puts what was loaded from the first register on into the set, or takes it out.
    pub(crate) fn learn(self, set: &str, what: Learn, words: &str) -> Self {
        let verb = match what {
            Learn::Keep => "update",
            Learn::Note => "add",
            Learn::Forget => "delete",
        };
        self.expr(Expr::Learn {
            set: set.to_owned(),
            from: REG0,
            what,
        })
        .say(format!("{verb} @{set} {{ {words} }}"))
    }

    pub(crate) fn vmap(self, map: &str, from: Reg) -> Self {
        self.lookup(map, from, Found::Verdict)
            .say(format!("vmap @{map}"))
    }

    pub(crate) fn value(self, map: &str, from: Reg, to: Reg) -> Self {
        self.lookup(map, from, Found::Value(to))
    }

    pub(crate) fn lookup(self, set: &str, from: Reg, found: Found) -> Self {
        self.expr(Expr::Lookup {
            set: set.to_owned(),
            from,
            found,
        })
    }

    pub(crate) fn goto(self, chain: &str) -> Self {
        self.expr(Expr::Verdict(Verdict::Goto(chain.to_owned())))
            .say(format!("goto {chain}"))
    }

    /// On in another chain, and back behind this rule unless that decides.
    pub(crate) fn jump(self, chain: &str) -> Self {
        self.expr(Expr::Verdict(Verdict::Jump(chain.to_owned())))
            .say(format!("jump {chain}"))
    }

    /// Back to where this chain was jumped to from.
    pub(crate) fn back(self) -> Self {
        self.expr(Expr::Verdict(Verdict::Return)).say("return")
    }

    pub(crate) fn accept(self) -> Self {
        self.expr(Expr::Verdict(Verdict::Accept)).say("accept")
    }

    pub(crate) fn drop(self) -> Self {
        self.expr(Expr::Verdict(Verdict::Drop)).say("drop")
    }

    pub(crate) fn counter_drop(self) -> Self {
        self.expr(Expr::Counter)
            .expr(Expr::Verdict(Verdict::Drop))
            .say("counter drop")
    }

    /// It came in a multicast frame (PACKET_MULTICAST).
    pub(crate) fn pkttype_multicast(self) -> Self {
        self.expr(Expr::Meta {
            key: MetaKey::PacketType,
            to: REG0,
        })
        .equal(REG0, &[2])
        .say("meta pkttype multicast")
    }

    pub(crate) fn pkttype_host(self) -> Self {
        self.expr(Expr::Load {
            to: REG0,
            value: vec![0],
        })
        .expr(Expr::SetMeta {
            key: MetaKey::PacketType,
            from: REG0,
        })
        .say("meta pkttype set host")
    }

    /// Hash, and the verdict of the bucket's element.
    pub(crate) fn hash(self, vip: &Vip, ports: Ports) -> Self {
        self.bucket(vip, ports, Way::In)
            .vmap(&buckets_map(vip.address), REG0)
    }

    /// The bucket of a packet. The mirror of `Hasher::key`.
    pub(crate) fn bucket(mut self, vip: &Vip, ports: Ports, way: Way) -> Self {
        let Hasher { mode, layout, seed } = vip.hasher;
        let mut words = Vec::new();
        let client = match way {
            Way::In => "saddr",
            Way::Out => "daddr",
        };
        let address_words = match vip.address {
            IpAddr::V4(_) => {
                self = self.payload(Header::Network, way.ip4_client(), 4, REG0);
                if layout == Layout::ClusterIp {
                    self = self.expr(Expr::ToHostOrder {
                        from: REG0,
                        to: REG0,
                    });
                    words.push(format!("ntoh(ip {client})"));
                } else {
                    words.push(format!("ip {client}"));
                }
                1
            }
            IpAddr::V6(_) => {
                self = self.payload(Header::Network, way.ip6_client(), 16, REG0);
                words.push(format!("ip6 {client}"));
                4
            }
        };
        for port in 0..mode.ports() as u8 {
            let to = Reg(address_words + port);
            self = match ports {
                Ports::At(offset) => {
                    let port = way.port(port);
                    self.payload(Header::Transport, offset + 2 * port, 2, to)
                }
                Ports::Zero | Ports::None => self.zero(vip.address, to),
            };
            words.push(match (ports, way.port(port)) {
                (Ports::At(0), 0) => "th sport".to_owned(),
                (Ports::At(0), _) => "th dport".to_owned(),
                (Ports::At(offset), port) => format!("@th,{},16", 8 * offset + 16 * port),
                _ => "0".to_owned(),
            });
        }
        let len = 4 * (u32::from(address_words) + mode.ports() as u32);
        let modulus = u32::from(vip.buckets.get());
        self.expr(Expr::Hash {
            from: REG0,
            len,
            to: REG0,
            modulus,
            seed,
        })
        .say(format!(
            "jhash {} mod {modulus} seed {seed:#x}",
            words.join(" . ")
        ))
    }
}
