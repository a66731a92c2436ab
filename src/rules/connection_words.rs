//! The vocabulary's words about TCP connections: flags, the key of a flow, and the sets that know
//! flows. Pure.

use super::fragment_words::network;
use super::names::register_text;
use super::sentence::{REG0, Sentence, Way};
use crate::model::protocol::TCP;
use crate::model::ruleset::{Comparison, Header, KeyPart, Learn, MetaKey, Reg, Word};
use crate::model::vip::Nic;
use std::net::IpAddr;

/// TCP's flags (RFC 9293 §3.1).
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Where TCP has its sequence number, and the number of what it acknowledges.
const SEQUENCE: u32 = 4;
const ACKNOWLEDGED: u32 = 8;
/// How long its header is without options, and with timestamps alone; where they stand then, behind two
/// paddings, with what is repeated of the peer's (RFC 7323, appendix A).
const PLAIN: u8 = 20;
const STAMPED: u8 = 32;
const STAMPS: [u8; 4] = [1, 1, 8, 10];
const REPEATED: u32 = 28;

/// By what a segment tells that its client has heard nothing since it sent another one.
#[derive(Clone, Copy)]
pub(crate) enum Sign {
    /// By its timestamps: it repeats the newest one of its peer (RFC 7323 §4.3), and whoever lives and answers
    /// has given it a newer one. Where what was heard has gaps, it may repeat an old one, but says so by options.
    Stamped,
    /// By its number: it is the same segment. So is the probe of a closed window, and a question whether
    /// anybody is there; but these have a byte at most (RFC 9293 §3.8.4, §3.8.6.1).
    Plain,
}

impl Sentence {
    /// Only TCP; for IPv6 behind whatever extension headers.
    pub(crate) fn tcp(self, vip: IpAddr) -> Self {
        self.transport_protocol(vip).equals(TCP, "tcp")
    }

    fn flags(self, mask: u8, wanted: u8, words: &str) -> Self {
        self.payload(Header::Transport, 13, 1, REG0)
            .and(REG0, &[mask])
            .equal(REG0, &[wanted])
            .say(words)
    }

    /// A segment that begins no connection. Where the flags are beyond a fragment, the rule ends.
    pub(crate) fn no_syn(self) -> Self {
        self.flags(SYN, 0, "tcp flags & syn == 0")
    }

    /// One that does.
    pub(crate) fn syn(self) -> Self {
        self.flags(SYN, SYN, "tcp flags & syn == syn")
    }

    /// A reset of the stack for a segment that it knows no connection of: without ACK, unlike those
    /// that refuse or abort a connection (RFC 9293 §3.5.2).
    pub(crate) fn bare_rst(self) -> Self {
        self.flags(RST | ACK, RST, "tcp flags & (rst | ack) == rst")
    }

    /// A segment with data that waits for an answer, in the midst of a connection.
    pub(crate) fn data(self) -> Self {
        self.flags(SYN | RST | PSH, PSH, "tcp flags & (syn | rst | psh) == psh")
    }

    /// What tells a connection to this VIP from others: the client's address and both ports.
    fn flow(self, vip: IpAddr, way: Way) -> (Self, u8) {
        let (sentence, ports) = self.client(vip, way);
        let [client, service] = match way {
            Way::In => [0, 2],
            Way::Out => [2, 0],
        };
        let loaded = sentence
            .payload(Header::Transport, client, 2, Reg(ports))
            .payload(Header::Transport, service, 2, Reg(ports + 1));
        (loaded, ports + 2)
    }

    fn client(self, vip: IpAddr, way: Way) -> (Self, u8) {
        match vip {
            IpAddr::V4(_) => (self.payload(Header::Network, way.ip4_client(), 4, REG0), 1),
            IpAddr::V6(_) => (self.payload(Header::Network, way.ip6_client(), 16, REG0), 4),
        }
    }

    /// Goes on only if the set has the flow.
    pub(crate) fn flow_in(self, set: &str, vip: IpAddr) -> Self {
        let (sentence, _) = self.flow(vip, Way::In);
        sentence.say(flow_words(vip, Way::In)).in_set(set, REG0)
    }

    /// Takes the flow out of the set, or puts it in.
    pub(crate) fn learn_flow(self, set: &str, what: Learn, vip: IpAddr) -> Self {
        let (sentence, _) = self.flow(vip, Way::In);
        sentence.learn(set, what, flow_words(vip, Way::In))
    }

    /// A segment with data by which this can be told.
    pub(crate) fn can_tell(self, sign: Sign, vip: IpAddr) -> Self {
        match sign {
            Sign::Stamped => self
                .longer_than(STAMPED, 0, vip)
                .payload(Header::Transport, PLAIN.into(), 4, REG0)
                .equal(REG0, &STAMPS)
                .say("@th,160,32 0x0101080a"),
            Sign::Plain => self.longer_than(PLAIN, 1, vip),
        }
    }

    /// The TCP header is so long, and more than so many bytes of data follow. Only where it stands right behind
    /// an IP header without options.
    fn longer_than(self, header: u8, data: u8, vip: IpAddr) -> Self {
        let tcp = header + data;
        let sentence = match vip {
            IpAddr::V4(_) => self
                .payload(Header::Network, 0, 1, REG0)
                .and(REG0, &[0x0f])
                .equal(REG0, &[5])
                .payload(Header::Network, 2, 2, REG0)
                .compare(REG0, Comparison::MoreThan, &[0, 20 + tcp])
                .say(format!("ip hdrlength 5 ip length > {}", 20 + tcp)),
            IpAddr::V6(_) => self
                .ip6_nexthdr(REG0)
                .equals(TCP, "tcp")
                .payload(Header::Network, 4, 2, REG0)
                .compare(REG0, Comparison::MoreThan, &[0, tcp])
                .say(format!("ip6 length > {tcp}")),
        };
        let words = header / 4;
        sentence
            .payload(Header::Transport, 12, 1, REG0)
            .and(REG0, &[0xf0])
            .equal(REG0, &[words << 4])
            .say(format!("tcp doff {words}"))
    }

    /// Goes on only if the set has what this segment tells.
    pub(crate) fn told_in(self, set: &str, sign: Sign, vip: IpAddr) -> Self {
        self.told(sign, vip)
            .say(told_words(sign, vip))
            .in_set(set, REG0)
    }

    /// Goes on only if the set does not have it.
    pub(crate) fn told_not_in(self, set: &str, sign: Sign, vip: IpAddr) -> Self {
        self.told(sign, vip)
            .say(told_words(sign, vip))
            .not_in_set(set, REG0)
    }

    /// Puts it into the set, unless it is there already.
    pub(crate) fn note_told(self, set: &str, sign: Sign, vip: IpAddr) -> Self {
        self.told(sign, vip)
            .learn(set, Learn::Note, &told_words(sign, vip))
    }

    /// Puts the flow into the set, and what its client acknowledges.
    pub(crate) fn learn_orphan(self, set: &str, vip: IpAddr) -> Self {
        let words = format!("{} . tcp ackseq", flow_words(vip, Way::In));
        self.flow_and_number(vip, Way::In, ACKNOWLEDGED)
            .learn(set, Learn::Keep, &words)
    }

    /// Goes on only if the set does not have the flow that a reset answers, and the number that the reset
    /// has from what it answers: what its client acknowledged.
    pub(crate) fn answers_orphan_not_in(self, set: &str, vip: IpAddr) -> Self {
        self.flow_and_number(vip, Way::Out, SEQUENCE)
            .say(format!("{} . tcp sequence", flow_words(vip, Way::Out)))
            .not_in_set(set, REG0)
    }

    /// The flow, and the number that tells it.
    fn told(self, sign: Sign, vip: IpAddr) -> Self {
        let number = match sign {
            Sign::Stamped => REPEATED,
            Sign::Plain => SEQUENCE,
        };
        self.flow_and_number(vip, Way::In, number)
    }

    /// The flow and a number in TCP's header.
    fn flow_and_number(self, vip: IpAddr, way: Way, offset: u32) -> Self {
        let (sentence, next) = self.flow(vip, way);
        sentence.payload(Header::Transport, offset, 4, Reg(next))
    }

    /// It came in by this interface.
    pub(crate) fn came_by(self, nic: &Nic) -> Self {
        self.meta(MetaKey::InIfName)
            .equal(REG0, &register_text(nic.as_str()))
            .say(format!("iifname {nic}"))
    }

    /// The destination is this VIP.
    pub(crate) fn for_vip(self, vip: IpAddr) -> Self {
        self.address(vip, Way::In, "daddr")
    }

    /// The source is.
    pub(crate) fn of_vip(self, vip: IpAddr) -> Self {
        self.address(vip, Way::Out, "saddr")
    }

    fn address(self, vip: IpAddr, way: Way, word: &str) -> Self {
        // The VIP stands where the client of a packet the other way would.
        let other = match way {
            Way::In => Way::Out,
            Way::Out => Way::In,
        };
        let (sentence, _) = self.client(vip, other);
        match vip {
            IpAddr::V4(v4) => sentence
                .equal(REG0, &v4.octets())
                .say(format!("ip {word} {v4}")),
            IpAddr::V6(v6) => sentence
                .equal(REG0, &v6.octets())
                .say(format!("ip6 {word} {v6}")),
        }
    }
}

/// The parts of a flow's key.
pub(crate) fn flow_key(vip: IpAddr) -> Vec<KeyPart> {
    let address = match vip {
        IpAddr::V4(_) => KeyPart::Ip4,
        IpAddr::V6(_) => KeyPart::Ip6,
    };
    vec![address, KeyPart::Short, KeyPart::Short]
}

/// The parts of the key of a flow and a number: of what a segment tells, and of an orphan's.
pub(crate) fn flow_and_number_key(vip: IpAddr) -> Vec<KeyPart> {
    let mut key = flow_key(vip);
    key.push(KeyPart::Long);
    key
}

/// How nft words the key of a flow at netdev ingress, where it does not know the network header.
pub(crate) fn flow_at_ingress(vip: IpAddr) -> [Word; 3] {
    let address = match vip {
        IpAddr::V4(_) => network(12, 4),
        IpAddr::V6(_) => network(8, 16),
    };
    [address, Word::SourcePort, Word::DestinationPort]
}

/// How it words it in the tables `ip` and `ip6`.
pub(crate) fn flow_words_of_host(vip: IpAddr) -> [Word; 3] {
    let address = match vip {
        IpAddr::V4(_) => Word::Ip4Source,
        IpAddr::V6(_) => Word::Ip6Source,
    };
    [address, Word::SourcePort, Word::DestinationPort]
}

/// The same with a number behind it.
pub(crate) fn flow_and_number(vip: IpAddr) -> [Word; 4] {
    let [address, client, service] = flow_words_of_host(vip);
    let number = Word::Bytes {
        header: Header::Transport,
        offset: SEQUENCE,
        len: 4,
    };
    [address, client, service, number]
}

fn flow_words(vip: IpAddr, way: Way) -> &'static str {
    match (vip, way) {
        (IpAddr::V4(_), Way::In) => "ip saddr . tcp sport . tcp dport",
        (IpAddr::V4(_), Way::Out) => "ip daddr . tcp dport . tcp sport",
        (IpAddr::V6(_), Way::In) => "ip6 saddr . tcp sport . tcp dport",
        (IpAddr::V6(_), Way::Out) => "ip6 daddr . tcp dport . tcp sport",
    }
}

fn told_words(sign: Sign, vip: IpAddr) -> String {
    let number = match sign {
        Sign::Stamped => "@th,224,32",
        Sign::Plain => "tcp sequence",
    };
    format!("{} . {number}", flow_words(vip, Way::In))
}
