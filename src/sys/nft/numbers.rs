//! The numbers of `include/uapi/linux/netfilter/nf_tables.h` that encoding and decoding share.

use crate::model::ruleset::{
    Comparison, Data, Family, Header, Hook, KeyPart, MetaKey, Reg, Verdict,
};

pub(super) const NEW_TABLE: u8 = 0;
pub(super) const NEW_CHAIN: u8 = 3;
pub(super) const GET_TABLE: u8 = 1;
pub(super) const GET_CHAIN: u8 = 4;
pub(super) const DEL_CHAIN: u8 = 5;
pub(super) const NEW_RULE: u8 = 6;
pub(super) const GET_RULE: u8 = 7;
pub(super) const DEL_RULE: u8 = 8;
pub(super) const NEW_SET: u8 = 9;
pub(super) const GET_SET: u8 = 10;
pub(super) const DEL_SET: u8 = 11;
pub(super) const NEW_SETELEM: u8 = 12;
pub(super) const GET_SETELEM: u8 = 13;
pub(super) const DEL_SETELEM: u8 = 14;
pub(super) const NEW_OBJECT: u8 = 18;
pub(super) const GET_OBJECT: u8 = 19;

pub(super) const NEW_FLOWTABLE: u8 = 22;
pub(super) const GET_FLOWTABLE: u8 = 23;

pub(super) const NEW_GEN: u8 = 15;
pub(super) const GET_GEN: u8 = 16;

pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_USE: u16 = 3;
/// The table of an object and of a flowtable.
pub(super) const OTHERS_TABLE: u16 = 1;

pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const CHAIN_USERDATA: u16 = 12;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;
pub(super) const HOOK_DEVICE: u16 = 3;
pub(super) const HOOK_DEVICES: u16 = 4;
pub(super) const DEVICE_NAME: u16 = 1;

pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_HANDLE: u16 = 3;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_POSITION: u16 = 6;
pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;

pub(super) const SET_TABLE: u16 = 1;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LEN: u16 = 5;
pub(super) const SET_DATA_TYPE: u16 = 6;
pub(super) const SET_DATA_LEN: u16 = 7;
pub(super) const SET_DESC: u16 = 9;
pub(super) const SET_ID: u16 = 10;
pub(super) const SET_TIMEOUT: u16 = 11;
pub(super) const SET_GC_INTERVAL: u16 = 12;
pub(super) const SET_USERDATA: u16 = 13;
pub(super) const SET_EXPR: u16 = 17;
pub(super) const DESC_SIZE: u16 = 1;
pub(super) const FLAG_MAP: u32 = 8;
/// NFT_SET_TIMEOUT: elements end by themselves; with NFT_SET_EVAL, packets put them in.
pub(super) const FLAG_TIMEOUT: u32 = 0x10;
pub(super) const LEARNING: u32 = FLAG_TIMEOUT | 0x20;

pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS_LIST: u16 = 3;
pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_DATA: u16 = 2;
pub(super) const ELEMENT_TIMEOUT: u16 = 4;
pub(super) const ELEMENT_EXPIRATION: u16 = 5;
pub(super) const ELEMENT_EXPR: u16 = 7;
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;

/// NFT_LOOKUP_F_INV, NFT_LIMIT_PKTS.
pub(super) const LOOKUP_INVERTED: u32 = 1;
pub(super) const LIMIT_PACKETS: u32 = 0;
/// NFT_DYNSET_OP_ADD, NFT_DYNSET_OP_UPDATE, NFT_DYNSET_OP_DELETE.
pub(super) const DYNSET_ADD: u32 = 0;
pub(super) const DYNSET_UPDATE: u32 = 1;
pub(super) const DYNSET_DELETE: u32 = 2;
/// The IPv6 fragment header (`include/net/ipv6.h`).
pub(super) const NEXTHDR_FRAGMENT: u8 = 44;

pub(super) const GEN_ID: u16 = 1;

pub(super) const COUNTER_BYTES: u16 = 1;
pub(super) const COUNTER_PACKETS: u16 = 2;

/// The type of a nested comment in the user data of chains (`NFTNL_UDATA_CHAIN_COMMENT`).
pub(super) const UDATA_CHAIN_COMMENT: u8 = 0;
/// The byte order of a set's keys, for nft to show them (`NFTNL_UDATA_SET_KEYBYTEORDER`).
pub(super) const UDATA_SET_KEYBYTEORDER: u8 = 0;
/// Ours, which nft neither knows nor saves: the types of key and data where nft words them as others.
pub(super) const UDATA_SET_KEY: u8 = 0xc0;
pub(super) const UDATA_SET_DATA: u8 = 0xc1;

/// NFT_DATA_VERDICT.
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;

pub(super) fn family(family: Family) -> u8 {
    match family {
        Family::Ip4 => 2,
        Family::Arp => 3,
        Family::Netdev => 5,
        Family::Ip6 => 10,
    }
}

/// Registers are numbered by 16 bytes where they can be, else by 4 (`nft_dump_register()`).
pub(super) fn register(Reg(word): Reg) -> u32 {
    match word % 4 {
        0 => 1 + u32::from(word) / 4,
        _ => 8 + u32::from(word),
    }
}

pub(super) fn register_of(number: u32) -> Reg {
    match number {
        1..=4 => Reg((number as u8 - 1) * 4),
        _ => Reg(number.wrapping_sub(8) as u8),
    }
}

pub(super) fn header(header: Header) -> u32 {
    match header {
        Header::Link => 0,
        Header::Network => 1,
        Header::Transport => 2,
        Header::Other(number) => number,
    }
}

pub(super) fn header_of(number: u32) -> Header {
    match number {
        0 => Header::Link,
        1 => Header::Network,
        2 => Header::Transport,
        other => Header::Other(other),
    }
}

/// NFT_CMP_EQ, NFT_CMP_NEQ, NFT_CMP_LTE, NFT_CMP_GT.
const COMPARISONS: [(u32, Comparison); 4] = [
    (0, Comparison::Equal),
    (1, Comparison::NotEqual),
    (3, Comparison::AtMost),
    (4, Comparison::MoreThan),
];

pub(super) fn comparison(how: Comparison) -> u32 {
    let known = COMPARISONS.iter().find(|(_, known)| *known == how);
    known.map_or(u32::MAX, |(number, _)| *number)
}

pub(super) fn comparison_of(number: u32) -> Option<Comparison> {
    let known = COMPARISONS.iter().find(|(known, _)| *known == number);
    known.map(|(_, how)| *how)
}

const META_KEYS: [(u32, MetaKey); 6] = [
    (1, MetaKey::Protocol),
    (6, MetaKey::InIfName),
    (7, MetaKey::OutIfName),
    (16, MetaKey::L4Protocol),
    (19, MetaKey::PacketType),
    (26, MetaKey::InIfKind),
];

pub(super) fn meta_key(key: MetaKey) -> u32 {
    let known = META_KEYS.iter().find(|(_, known)| *known == key);
    match (known, key) {
        (Some((number, _)), _) => *number,
        (None, MetaKey::Other(number)) => number,
        (None, _) => u32::MAX,
    }
}

pub(super) fn meta_key_of(number: u32) -> MetaKey {
    let known = META_KEYS.iter().find(|(known, _)| *known == number);
    known.map_or(MetaKey::Other(number), |(_, key)| *key)
}

/// nft's data type `integer`. In which byte order it stands only the set's user data say, for
/// which see `decode`.
pub(super) const INTEGER: u32 = 4;

pub(super) const PORT: u32 = 13;
pub(super) const ADDRESS_IP4: u32 = 7;
pub(super) const ADDRESS_IP6: u32 = 8;
pub(super) const IF_NAME: u32 = 41;

const KEY_PARTS: [(u32, KeyPart); 11] = [
    (INTEGER, KeyPart::Bits),
    (INTEGER, KeyPart::Number),
    (ADDRESS_IP4, KeyPart::Ip4),
    (ADDRESS_IP6, KeyPart::Ip6),
    (9, KeyPart::Mac),
    (12, KeyPart::Protocol),
    (PORT, KeyPart::Short),
    (14, KeyPart::IcmpType),
    (19, KeyPart::Long),
    (29, KeyPart::Icmp6Type),
    (IF_NAME, KeyPart::IfName),
];

/// The type of a key as nft numbers it: six bits for each part of a concatenation.
pub(super) fn key_type(parts: &[KeyPart]) -> u32 {
    parts.iter().fold(0, |all, part| {
        let known = KEY_PARTS.iter().find(|(_, known)| known == part);
        (all << 6) | known.map_or(0, |(number, _)| *number)
    })
}

pub(super) fn key_parts(mut number: u32) -> Vec<KeyPart> {
    let mut parts = Vec::new();
    loop {
        let one = number & 0x3f;
        let known = KEY_PARTS.iter().find(|(known, _)| *known == one);
        parts.insert(0, known.map_or(KeyPart::Other(one), |(_, part)| *part));
        number >>= 6;
        if number == 0 {
            return parts;
        }
    }
}

/// The type and the length of what a map's elements are mapped to.
pub(super) fn data_type(data: Data) -> Option<(u32, u32)> {
    match data {
        Data::None => None,
        Data::Verdict => Some((DATA_TYPE_VERDICT, 0)),
        Data::Mac => Some((9, 6)),
        Data::Other(number) => Some((number, 0)),
    }
}

pub(super) fn data_of(number: Option<u32>) -> Data {
    match number {
        None => Data::None,
        Some(DATA_TYPE_VERDICT) => Data::Verdict,
        Some(9) => Data::Mac,
        Some(other) => Data::Other(other),
    }
}

/// NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO, NFT_RETURN.
pub(super) fn verdict_code(verdict: &Verdict) -> i32 {
    match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Jump(_) => -3,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
        Verdict::Other(code) => *code,
    }
}

pub(super) fn verdict_of(code: i32, chain: Option<String>) -> Verdict {
    match (code, chain) {
        (0, None) => Verdict::Drop,
        (1, None) => Verdict::Accept,
        (-3, Some(chain)) => Verdict::Jump(chain),
        (-4, Some(chain)) => Verdict::Goto(chain),
        (-5, None) => Verdict::Return,
        (other, _) => Verdict::Other(other),
    }
}

/// NF_ACCEPT, as a policy.
pub(super) const ACCEPT: u32 = 1;

const NETDEV_INGRESS: u32 = 0;
const ARP_IN: u32 = 0;
const ARP_OUT: u32 = 1;
const INET_PRE_ROUTING: u32 = 0;
const INET_LOCAL_OUT: u32 = 3;
const INET_POST_ROUTING: u32 = 4;

/// A hook's number: NF_NETDEV_INGRESS, NF_ARP_IN, NF_ARP_OUT, NF_INET_PRE_ROUTING, …
pub(super) fn hook_number(hook: &Hook) -> u32 {
    match hook {
        Hook::Ingress(_) => NETDEV_INGRESS,
        Hook::ArpInput => ARP_IN,
        Hook::ArpOutput => ARP_OUT,
        Hook::Ip6Output => INET_LOCAL_OUT,
        Hook::Before => INET_PRE_ROUTING,
        Hook::After => INET_POST_ROUTING,
        Hook::Other(_) => u32::MAX,
    }
}

pub(super) fn hook_of(of: Family, number: u32, device: Option<String>) -> Option<Hook> {
    match (of, number, device) {
        (Family::Netdev, NETDEV_INGRESS, Some(device)) => Some(Hook::Ingress(device)),
        (Family::Arp, ARP_IN, None) => Some(Hook::ArpInput),
        (Family::Arp, ARP_OUT, None) => Some(Hook::ArpOutput),
        (Family::Ip6, INET_LOCAL_OUT, None) => Some(Hook::Ip6Output),
        (Family::Ip4 | Family::Ip6, INET_PRE_ROUTING, None) => Some(Hook::Before),
        (Family::Ip4 | Family::Ip6, INET_POST_ROUTING, None) => Some(Hook::After),
        _ => None,
    }
}
